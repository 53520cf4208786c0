# SPDX-License-Identifier: Apache-2.0
"""Slices of hardware GPUs as vGPUs: one object whatever makes them, on constructed nodes with
kernels of their own. NVIDIA's and xe's have not been seen on hardware."""
import os
import shutil
import sys
import tempfile

import pytest

from control_node import ROOT, Node, until

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from fakekernel import FakeKernel  # noqa: E402
from fakeslices import Mdev, Nvidia, Vfs, Xe  # noqa: E402
from hosttree import HostTree  # noqa: E402

GPU, PF = "gpu-41:00.0", "0000:41:00.0"
VF1, VF2, VF3 = "0000:41:00.1", "0000:41:00.2", "0000:41:00.3"
MBOCHS = "mdev-mbochs"
BOOT = "11111111-2222-3333-4444-5555555555%02d\n"


class Host:
    def __init__(self, cdev=False):
        self.folder = tempfile.mkdtemp(prefix="vgh", dir="/tmp")
        self.tree = HostTree(self.folder)
        self.tree.vfio()
        self.tree.put("proc/sys/kernel/random/boot_id", BOOT % 1)
        os.makedirs(self.tree.path("dev/vfio"))
        self.kernel = FakeKernel(self.tree, {}, cdev)

    def pf(self, driver="amdgpu", vendor=0x1002):
        self.tree.pci(PF, vendor=vendor, driver=driver, group=7)

    def close(self):
        self.kernel.close()
        shutil.rmtree(self.folder)

    def node(self, config="", **kwargs):
        return Node("rescan_s = 1\n" + config, args=("--host-root", self.tree.root), **kwargs)

    def owners(self):
        """{group: uid} of the groups' files, and {"vfioN": uid} of devices' own."""
        folder = self.tree.path("dev/vfio")
        own = os.path.join(folder, "devices")
        found = {int(n): os.path.join(folder, n) for n in os.listdir(folder) if n.isdigit()}
        found.update({n: os.path.join(own, n) for n in (os.listdir(own) if os.path.isdir(own) else ())})
        return {key: os.stat(path).st_uid for key, path in found.items()}

    def hold(self, name, pid=4711):
        path = self.tree.path("dev/vfio", str(name))
        self.tree.put("proc/%d/comm" % pid, "qemu-system-x86\n")
        self.tree.put("proc/%d/cmdline" % pid, "qemu\0-name\0guest=web\0")
        self.tree.link(path, "proc/%d/fd/9" % pid)
        return pid, os.open(path, os.O_RDWR)

    def leave(self, held):
        self.tree.remove("proc/%d" % held[0])
        os.close(held[1])


@pytest.fixture
def host():
    made = Host()
    yield made
    made.close()


def slices(node, gpu):
    """{name: (vram_mib, max_instances, available_instances)} without the whole GPU."""
    return {t["name"][len(gpu) + 1:]: (t["vram_mib"], t["max_instances"], t["available_instances"])
            for t in node.json("type", "list", gpu) if not t["name"].endswith("-passthrough")}


def offered(node, gpu, want):
    until(lambda: slices(node, gpu) == want)


def make(node, name, gpu, kind, *more):
    node.good("create", name, "--gpu", gpu, "--type", "%s-%s" % (gpu, kind), *more)
    return node.json("show", name)


# --- mediated devices ---

@pytest.fixture
def mbochs(host):
    mdev = Mdev(host.kernel)
    with host.node("[gpu %s]\nmixed = no\n" % MBOCHS) as node:
        offered(node, MBOCHS, {"mbochs-small": (4, 64, 64), "mbochs-medium": (16, 16, 16),
                               "mbochs-large": (64, 4, 4)})
        yield mdev, node


def test_mediated_device_there_and_back(host, mbochs):
    mdev, node = mbochs
    shown = make(node, "a", MBOCHS, "mbochs-small", "--method", "mediate", "--owner", "1234")
    assert (shown["state"], shown["method"], shown["type"]) == \
        ("ready", "mediate", MBOCHS + "-mbochs-small")
    assert shown["device"] == shown["uuid"] and mdev.devices == {shown["uuid"]: "mbochs-small"}
    assert list(host.owners().values()) == [1234]
    assert node.good("qemu-args", "a").split() == [
        "-device", "vfio-pci,sysfsdev=/sys/bus/mdev/devices/" + shown["uuid"]]
    assert node.json("gpu", "list")[-1]["state"] == "mediated"
    # Of the pool, and by rule 2 no other type beside it.
    offered(node, MBOCHS, {"mbochs-small": (4, 64, 63), "mbochs-medium": (16, 16, 0),
                           "mbochs-large": (64, 4, 0)})
    said = node.refused("create", "b", "--gpu", MBOCHS, "--type", MBOCHS + "-mbochs-large")
    assert "rule 2" in said or "one type" in said
    node.good("delete", "a")
    assert mdev.devices == {} and host.owners() == {}
    offered(node, MBOCHS, {"mbochs-small": (4, 64, 64), "mbochs-medium": (16, 16, 16),
                           "mbochs-large": (64, 4, 4)})


def test_mediated_devices_until_there_is_no_room(mbochs):
    mdev, node = mbochs
    for number in range(4):
        make(node, "v%d" % number, MBOCHS, "mbochs-large")
        until(lambda: slices(node, MBOCHS)["mbochs-large"][2] == 3 - number)
    said = node.refused("create", "more", "--gpu", MBOCHS, "--type", MBOCHS + "-mbochs-large")
    assert "no room for another" in said and len(mdev.devices) == 4
    for number in range(4):
        node.good("delete", "v%d" % number)
    assert mdev.devices == {}


def test_a_pool_that_somebody_else_emptied(mbochs):
    mdev, node = mbochs
    mdev.pool = 0  # and vgpud does not know yet
    said = node.refused("create", "a", "--gpu", MBOCHS, "--type", MBOCHS + "-mbochs-large")
    assert "types may share one pool" in said
    assert node.json("list") == []


def test_a_device_made_by_hand_stays(mbochs):
    mdev, node = mbochs
    by_hand = "99999999-2222-4333-8444-555555555555"
    with mdev.kernel.lock:
        mdev.create("x/mbochs-large/create", by_hand)
    shown = make(node, "a", MBOCHS, "mbochs-large")
    node.good("delete", "a")
    assert mdev.devices == {by_hand: "mbochs-large"} and shown["uuid"] != by_hand
    assert by_hand in str(node.json("gpu", "show", MBOCHS))


def test_a_device_that_a_vm_has(host, mbochs):
    mdev, node = mbochs
    make(node, "a", MBOCHS, "mbochs-small")
    held = host.hold(list(host.owners())[0])
    until(lambda: node.state("a") == "bound")
    said = node.refused("delete", "a", "--force")
    assert "libvirt domain web" in said and len(mdev.devices) == 1
    host.leave(held)
    until(lambda: node.state("a") == "ready")
    node.good("delete", "a")


def test_a_mediated_device_of_a_vm_that_uses_iommufd():
    host = Host(cdev=True)
    mdev = Mdev(host.kernel)
    try:
        with host.node("[gpu %s]\nmixed = no\n" % MBOCHS) as node:
            offered(node, MBOCHS, {"mbochs-small": (4, 64, 64), "mbochs-medium": (16, 16, 16),
                                   "mbochs-large": (64, 4, 4)})
            make(node, "a", MBOCHS, "mbochs-small", "--owner", "1234")
            assert host.owners() == {41: 1234, "vfio0": 1234}
            held = host.hold("devices/vfio0")
            until(lambda: node.state("a") == "bound")
            assert "libvirt domain web" in node.refused("delete", "a")
            host.leave(held)
            until(lambda: node.state("a") == "ready")
            node.good("delete", "a")
            assert mdev.devices == {} and host.owners() == {}
    finally:
        host.close()


def test_removal_that_fails_is_tried_again(host, mbochs):
    mdev, node = mbochs
    make(node, "a", MBOCHS, "mbochs-small")
    host.kernel.fails["/remove"] = 11  # EAGAIN
    assert "it is in use" in node.refused("delete", "a")
    assert node.state("a") == "deleting"
    host.kernel.fails.clear()
    until(lambda: node.json("list") == [], 20)
    assert mdev.devices == {}


def test_another_start_of_the_node(host):
    mdev = Mdev(host.kernel)
    with host.node("[gpu %s]\nmixed = no\n" % MBOCHS) as node:
        offered(node, MBOCHS, {"mbochs-small": (4, 64, 64), "mbochs-medium": (16, 16, 16),
                               "mbochs-large": (64, 4, 4)})
        uuid = make(node, "a", MBOCHS, "mbochs-small")["uuid"]
        node.kill(15)
        with host.kernel.lock:
            mdev.remove("x/%s/remove" % uuid, "1")
        host.tree.put("proc/sys/kernel/random/boot_id", BOOT % 2)
        node.start()
        until(lambda: node.state("a") == "ready")
        assert mdev.devices == {uuid: "mbochs-small"}
        node.good("delete", "a")
    assert mdev.devices == {}


# --- virtual functions ---

def test_virtual_functions_are_shared(host):
    host.pf()
    pf = Vfs(host.kernel, PF)
    with host.node() as node:
        offered(node, GPU, {"vf": (0, 4, 4)})
        first = make(node, "a", GPU, "vf", "--owner", "1234")
        assert (first["device"], first["method"]) == (VF1, "mediate")
        assert (pf.count, pf.read("sriov_drivers_autoprobe")) == (4, "0")
        assert host.kernel.driver(VF1) == "vfio-pci" and host.owners() == {40: 1234}
        assert node.good("qemu-args", "a").split() == ["-device", "vfio-pci,host=" + VF1]
        offered(node, GPU, {"vf": (0, 4, 3)})
        # The only type of slices need not be named.
        node.good("create", "b", "--gpu", GPU, "--method", "mediate")
        assert node.json("show", "b")["device"] == VF2
        node.kill(15)
        node.start()
        until(lambda: node.state("a") == node.state("b") == "ready")
        node.good("delete", "a")
        assert pf.count == 4 and host.kernel.driver(VF1) is None
        assert host.kernel.driver(VF2) == "vfio-pci"
        node.good("create", "c", "--gpu", GPU, "--method", "mediate")
        assert node.json("show", "c")["device"] == VF1
        node.good("delete", "b")
        node.good("delete", "c")
        assert (pf.count, pf.read("sriov_drivers_autoprobe")) == (0, "1")
        assert node.json("gpu", "show", GPU)["state"] == "free"


def test_as_many_virtual_functions_as_configured(host):
    host.pf()
    pf = Vfs(host.kernel, PF)
    with host.node("[gpu %s]\nvfs = 2\n" % GPU) as node:
        offered(node, GPU, {"vf": (0, 2, 2)})
        for name in "ab":
            make(node, name, GPU, "vf")
            until(lambda: slices(node, GPU)["vf"][2] == 1 - "ab".index(name))
        assert pf.count == 2
        assert "no room" in node.refused("create", "c", "--gpu", GPU, "--method", "mediate")
        node.good("delete", "b")
        node.good("delete", "a")
        assert pf.count == 0


def test_virtual_functions_of_the_operator_stay(host):
    host.pf()
    pf = Vfs(host.kernel, PF, driver="amdgpu")
    pf.set_count("", "3")
    with host.node() as node:
        offered(node, GPU, {"vf": (0, 3, 3)})
        assert make(node, "a", GPU, "vf")["device"] == VF1
        host.kernel.natives[VF1] = "amdgpu"
        node.good("delete", "a")
    assert (pf.count, pf.read("sriov_drivers_autoprobe")) == (3, "1")
    assert [host.kernel.driver(vf) for vf in (VF1, VF2, VF3)] == ["amdgpu"] * 3


def test_virtual_functions_stay_while_somebody_has_one(host):
    host.pf()
    pf = Vfs(host.kernel, PF)
    with host.node() as node:
        offered(node, GPU, {"vf": (0, 4, 4)})
        make(node, "a", GPU, "vf")
        host.tree.bind(VF3, "vfio-pci")
        node.good("delete", "a")
        assert pf.count == 4
        said = [e["text"] for e in node.json("events")]
        assert any("VF %s has the driver vfio-pci" % VF3 in text for text in said)


def test_a_creation_that_fails_leaves_nothing(host):
    host.pf()
    pf = Vfs(host.kernel, PF)
    with host.node() as node:
        offered(node, GPU, {"vf": (0, 4, 4)})
        for end, code in (("sriov_numvfs", 12), ("drivers_probe", 22)):
            host.kernel.fails = {end: code}
            node.refused("create", "a", "--gpu", GPU, "--method", "mediate")
            host.kernel.fails = {}
            until(lambda: node.json("list") == [])
            assert (pf.count, pf.read("sriov_drivers_autoprobe")) == (0, "1")


# --- vendors ---

def test_nvidia(host):
    host.pf("nvidia", 0x10de)
    gpu = Nvidia(host.kernel, PF)
    with host.node("[gpu %s]\nvram_mib = 4096\n" % GPU) as node:
        offered(node, GPU, {"nvidia-1414": (1024, 4, 4), "nvidia-1428": (4096, 1, 1)})
        shown = make(node, "a", GPU, "nvidia-1414", "--owner", "1234")
        assert shown["device"] == VF1 and gpu.current[VF1] == 1414
        assert host.owners() == {40: 1234} and host.kernel.driver(VF1) == "nvidia"
        assert node.good("qemu-args", "a").split() == [
            "-device", "vfio-pci,sysfsdev=/sys/bus/pci/devices/" + VF1]
        for name in "bcd":
            until(lambda: slices(node, GPU)["nvidia-1414"][2] > 0)
            make(node, name, GPU, "nvidia-1414")
        offered(node, GPU, {"nvidia-1414": (0, 4, 0)})
        assert "no room" in node.refused("create", "e", "--gpu", GPU, "--type", GPU + "-nvidia-1414")
        for name in "abcd":
            node.good("delete", name)
        assert set(gpu.current.values()) == {0} and gpu.count == 4


def test_nvidia_whose_program_was_not_run(host):
    host.pf("nvidia", 0x10de)
    Vfs(host.kernel, PF, vendor=0x10de)
    with host.node() as node:
        said = node.refused("create", "a", "--gpu", GPU, "--method", "mediate")
        assert "several types of slices, or none" in said


def test_xe(host):
    host.pf("xe", 0x8086)
    gpu = Xe(host.kernel, PF)
    with host.node() as node:
        offered(node, GPU, {"vf": (0, 3, 3)})
        shown = make(node, "a", GPU, "vf")
        assert shown["device"] == VF1
        at = "sriov_admin/vf1/profile/"
        assert gpu.read(at + "exec_quantum_ms") == "13"
        assert gpu.read(at + "preempt_timeout_us") == "13000"
        offered(node, GPU, {"vf": (4096, 3, 2)})
        node.good("delete", "a")
        assert gpu.read(at + "exec_quantum_ms") == gpu.read(at + "preempt_timeout_us") == "0"
        assert gpu.count == 0
