# SPDX-License-Identifier: Apache-2.0
"""What drivers that make slices show and do, for constructed trees: a parent of mediated devices, a
plain PF, NVIDIA's and xe's. Each adds itself to a FakeKernel. The first two do what was seen on a
real kernel (tests/node/test_mediate.py); the last two what the vendors' documents say, and have not
been seen on hardware."""
import errno
import os

from fakekernel import refuse

VFS = 40  # the IOMMU group of the first VF or mediated device


class Mdev:
    """One pool of memory, as mbochs has it."""

    TYPES = {"mbochs-small": 4, "mbochs-medium": 16, "mbochs-large": 64}

    def __init__(self, kernel, parent="mbochs", pool=256):
        self.kernel, self.tree, self.pool = kernel, kernel.tree, pool
        self.at = "sys/devices/virtual/%s/" % parent
        self.parent = parent
        self.devices = {}  # {uuid: type}
        self.tree.put("sys/bus/mdev/devices/.keep", "")
        self.tree.remove("sys/bus/mdev/devices/.keep")
        for name, size in self.TYPES.items():
            at = self.at + "mdev_supported_types/" + name + "/"
            self.tree.put(at + "name", name + "\n")
            self.tree.put(at + "description", "virtual display, %d MB video memory\n" % size)
            self.tree.put(at + "create", "")
            self.tree.put(at + "devices/.keep", "")
            self.tree.remove(at + "devices/.keep")
        self.tree.link("../../devices/virtual/" + parent, "sys/class/mdev_bus/" + parent)
        self.show()
        kernel.handlers.append(self.handler)

    def show(self):
        left = self.pool - sum(self.TYPES[name] for name in self.devices.values())
        for name, size in self.TYPES.items():
            self.tree.put(self.at + "mdev_supported_types/%s/available_instances" % name,
                          "%d\n" % (left // size))

    def handler(self, path):
        if path.startswith("sys/class/mdev_bus/" + self.parent) and path.endswith("/create"):
            return self.create
        if path.startswith("sys/bus/mdev/devices/") and path.endswith("/remove"):
            return self.remove
        return None

    def create(self, path, uuid):
        name = path.split("/")[-2]
        if name not in self.TYPES:
            refuse(errno.ENOENT)
        if uuid in self.devices:
            refuse(errno.EEXIST)
        if self.pool < self.TYPES[name] + sum(self.TYPES[t] for t in self.devices.values()):
            refuse(errno.ENOSPC)
        self.devices[uuid] = name
        group = str(VFS + len(self.devices))
        at = self.at + uuid
        self.tree.put(at + "/remove", "")
        self.tree.link("../mdev_supported_types/" + name, at + "/mdev_type")
        self.tree.link("../../../../bus/mdev/drivers/mbochs", at + "/driver")
        self.tree.link("../../../../kernel/iommu_groups/" + group, at + "/iommu_group")
        self.tree.link("../../../devices/virtual/%s/%s" % (self.parent, uuid),
                       "sys/bus/mdev/devices/" + uuid)
        self.tree.link("../../../" + uuid,
                       self.at + "mdev_supported_types/%s/devices/%s" % (name, uuid))
        vfio_file(self.tree, group)
        self.kernel.own_file(at, True)
        self.show()

    def remove(self, path, text):
        uuid = path.split("/")[-2]
        group = os.path.basename(os.readlink(self.tree.path(self.at, uuid, "iommu_group")))
        self.tree.remove("sys/bus/mdev/devices/" + uuid)
        self.tree.remove(self.at + "mdev_supported_types/%s/devices/%s" %
                         (self.devices.pop(uuid), uuid))
        self.tree.remove(self.at + uuid)
        os.unlink(self.tree.path("dev/vfio", group))
        self.kernel.own_files_swept()
        self.show()


class Vfs:
    """A PF whose driver makes virtual functions."""

    def __init__(self, kernel, pf, total=4, vendor=0x1002, driver=None):
        self.kernel, self.tree, self.pf, self.vendor = kernel, kernel.tree, pf, vendor
        self.driver = driver  # of a new VF, where that is let probe
        self.count = 0
        for name, value in (("totalvfs", total), ("numvfs", 0), ("drivers_autoprobe", 1),
                            ("offset", 1), ("stride", 1)):
            self.put("sriov_" + name, value)
        kernel.handlers.append(self.handler)

    def put(self, name, value):
        self.tree.put(self.tree.BUS + self.pf + "/" + name, "%s\n" % value)

    def read(self, name):
        with open(self.tree.path(self.tree.BUS, self.pf, name)) as f:
            return f.read().strip()

    def address(self, number):
        return "%s.%d" % (self.pf[:-2], number + 1)

    def handler(self, path):
        at = "sys/bus/pci/devices/%s/" % self.pf
        names = {at + "sriov_numvfs": self.set_count,
                 at + "sriov_drivers_autoprobe": lambda path, text: self.put(
                     "sriov_drivers_autoprobe", text)}
        return names.get(path)

    def set_count(self, path, text):
        if not self.kernel.driver(self.pf):
            refuse(errno.ENOENT)
        if int(text) > int(self.read("sriov_totalvfs")):
            refuse(errno.ERANGE)
        if int(text) and self.count:
            refuse(errno.EBUSY)
        for number in range(self.count):
            self.take_away(number)
        for number in range(int(text)):
            self.make(number)
        self.count = int(text)
        self.put("sriov_numvfs", self.count)

    def make(self, number):
        probes = self.read("sriov_drivers_autoprobe") == "1"
        address = self.tree.pci(self.address(number), vendor=self.vendor, group=VFS + number,
                                driver=self.driver if probes else None)
        self.tree.link("../" + address, self.tree.BUS + self.pf + "/virtfn%d" % number)
        self.tree.link("../" + self.pf, self.tree.BUS + address + "/physfn")

    def take_away(self, number):
        self.tree.remove(self.tree.BUS + self.pf + "/virtfn%d" % number)
        self.tree.unplug(self.address(number))
        self.tree.remove("sys/kernel/iommu_groups/%d" % (VFS + number))


class Nvidia(Vfs):
    """From kernel 6.8: VFs that NVIDIA's own program enabled, each with types of so many GiB."""

    TYPES = {1414: ("NVIDIA X-1Q", 1), 1428: ("NVIDIA X-4Q", 4)}

    def __init__(self, kernel, pf, total=4, memory=4):
        super().__init__(kernel, pf, total, vendor=0x10de, driver="nvidia")
        self.memory, self.current = memory, {}
        self.set_count("", str(total))
        self.show()

    def make(self, number):
        super().make(number)
        self.current[self.address(number)] = 0

    def show(self):
        left = self.memory - sum(self.TYPES[t][1] for t in self.current.values() if t)
        lines = ["ID    : vGPU Name\n"] + ["%d : %s\n" % (number, name) for number, (name, size)
                                           in self.TYPES.items() if size <= left]
        for address, number in self.current.items():
            at = self.tree.BUS + address + "/nvidia/"
            self.tree.put(at + "creatable_vgpu_types", "" if number else "".join(lines))
            self.tree.put(at + "current_vgpu_type", "%d\n" % number)

    def handler(self, path):
        parts = path.split("/")
        if parts[-1] == "current_vgpu_type" and parts[4] in self.current:
            return self.set_type
        return super().handler(path)

    def set_type(self, path, text):
        address, number = path.split("/")[4], int(text)
        if number and self.current[address]:
            refuse(errno.EEXIST)
        if number and str(number) not in self.creatable(address):
            refuse(errno.EINVAL)
        self.current[address] = number
        group = str(self.kernel.group(address))
        if number:
            vfio_file(self.tree, group)
        else:
            os.unlink(self.tree.path("dev/vfio", group))
        self.show()

    def creatable(self, address):
        with open(self.tree.path(self.tree.BUS, address, "nvidia/creatable_vgpu_types")) as f:
            return [line.split(" ")[0] for line in f]


class Xe(Vfs):
    """From kernel 6.19: a profile for each VF; memory is shared out when VFs are enabled."""

    def __init__(self, kernel, pf, total=3, memory=12 << 30):
        super().__init__(kernel, pf, total, vendor=0x8086)
        self.memory = memory
        for number in range(total + 1):
            at = "sriov_admin/%s/profile/" % ("vf%d" % number if number else "pf")
            self.put(at + "exec_quantum_ms", 0)
            self.put(at + "preempt_timeout_us", 0)
            self.put(at + "sched_priority", "[low] normal" + (" high" if not number else ""))
            if number:
                self.put(at + "vram_quota", 0)

    def handler(self, path):
        if path.startswith("sys/bus/pci/devices/%s/sriov_admin/" % self.pf):
            return lambda path, text: self.put(path.split(self.pf + "/")[1], text)
        return super().handler(path)

    def set_count(self, path, text):
        super().set_count(path, text)
        for number in range(int(self.read("sriov_totalvfs"))):
            share = self.memory // self.count if number < self.count else 0
            self.put("sriov_admin/vf%d/profile/vram_quota" % (number + 1), share)
            link = self.tree.BUS + self.pf + "/sriov_admin/vf%d/device" % (number + 1)
            if share:
                self.tree.link("../../../" + self.address(number), link)
            elif os.path.lexists(self.tree.path(link)):
                self.tree.remove(link)


def vfio_file(tree, group):
    folder = tree.path("dev/vfio")
    os.makedirs(folder, exist_ok=True)
    os.close(os.open(os.path.join(folder, group), os.O_CREAT | os.O_WRONLY, 0o600))
