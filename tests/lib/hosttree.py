# SPDX-License-Identifier: Apache-2.0
"""Constructed sysfs, procfs and /dev below a folder, for `vgpud --host-root`."""
import os
import shutil


class HostTree:
    BUS = "sys/devices/pci0000:00/"

    def __init__(self, root):
        self.root = str(root)
        for folder in ("sys/bus/pci/devices", "sys/bus/pci/drivers", "sys/class/drm", "proc",
                       "sys/kernel/iommu_groups", "dev/dri", "lib/modules"):
            os.makedirs(self.path(folder))
        self.put("proc/cmdline", "quiet\n")
        self.put("proc/sys/kernel/osrelease", "6.12.0-test\n")

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def put(self, path, text):
        path = self.path(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def link(self, target, path):
        path = self.path(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    def remove(self, path):
        path = self.path(path)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)

    def vfio(self):
        """What passthrough needs of the node."""
        self.put("sys/bus/pci/drivers/vfio-pci/bind", "")
        self.put("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n")
        self.put("sys/firmware/acpi/tables/DMAR", "")
        self.put("sys/class/iommu/dmar0/intel-iommu/ecap", "f050da\n")

    def pci(self, address, vendor=0x1002, device=0x73bf, pci_class=0x030000, driver=None, group=None,
            **files):
        at = self.BUS + address + "/"
        values = {"vendor": "0x%04x" % vendor, "device": "0x%04x" % device,
                  "class": "0x%06x" % pci_class, "subsystem_vendor": "0x1028",
                  "subsystem_device": "0x0001", "revision": "0xa1", "driver_override": "(null)",
                  "numa_node": "-1", "power_state": "D0", "boot_vga": "0", "reset_method": "flr bus",
                  "resource": "0x00000000e0000000 0x00000000efffffff 0x000000000014220c"}
        for name, text in dict(values, **files).items():
            self.put(at + name, text + "\n")
        self.link("../../../devices/pci0000:00/" + address, "sys/bus/pci/devices/" + address)
        self.link("../../../bus/pci", at + "subsystem")
        if driver:
            self.bind(address, driver)
        if group is not None:
            self.link("../../../kernel/iommu_groups/%d" % group, at + "iommu_group")
            self.link("../../../../devices/pci0000:00/" + address,
                      "sys/kernel/iommu_groups/%d/devices/%s" % (group, address))
        return address

    def bind(self, address, driver):
        os.makedirs(self.path("sys/bus/pci/drivers", driver), exist_ok=True)
        self.link("../../../bus/pci/drivers/" + driver, self.BUS + address + "/driver")

    def drm(self, address, name):
        at = self.BUS + address + "/drm/" + name
        self.put(at + "/dev", "226:128\n")
        self.link("../../../" + address, at + "/device")
        self.link("../../devices/pci0000:00/%s/drm/%s" % (address, name), "sys/class/drm/" + name)
        self.put("dev/dri/" + name, "")

    def no_drm(self, address, name):
        for path in (self.BUS + address + "/drm/" + name, "sys/class/drm/" + name,
                     "dev/dri/" + name):
            self.remove(path)

    def unplug(self, address):
        drm = self.path(self.BUS, address, "drm")
        for name in os.listdir(drm) if os.path.isdir(drm) else ():
            self.no_drm(address, name)
        self.remove("sys/bus/pci/devices/" + address)
        self.remove(self.BUS + address)
