# SPDX-License-Identifier: Apache-2.0
"""The GPUs of constructed nodes, through vgpud: listed, shown, coming, going, changing hands."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from control_node import ROOT, Node, alive, until

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from hosttree import HostTree  # noqa: E402

GPU, TYPE = "gpu-03:00.0", "gpu-03:00.0-128"
ADDRESS = "0000:03:00.0"


@pytest.fixture
def tree():
    folder = tempfile.mkdtemp(prefix="vgh", dir="/tmp")
    yield HostTree(folder)
    shutil.rmtree(folder)


def amd(tree):
    tree.pci(ADDRESS, driver="amdgpu", group=7)
    tree.drm(ADDRESS, "renderD128")
    tree.drm(ADDRESS, "card0")


def node_of(tree, config="rescan_s = 1\n", **kwargs):
    return Node(config, args=("--host-root", tree.root), **kwargs)


def methods(node, name):
    return {m["method"]: m for m in node.json("gpu", "show", name)["methods"]}


def conditions(node, name, method):
    return {f["condition"]: f for f in methods(node, name)[method]["findings"]}


def texts(node):
    return [e["text"] for e in node.json("events")]


def names(node):
    return [g["name"] for g in node.json("gpu", "list")]


def test_a_gpu_that_could_go_to_a_machine(tree):
    amd(tree)
    tree.vfio()
    with node_of(tree) as node:
        assert names(node) == ["soft0", GPU]
        shown = node.json("gpu", "show", GPU)
        assert (shown["kind"], shown["driver"], shown["vram_mib"]) == ("pci", "amdgpu", 256)
        assert shown["pci"]["device_id"] == "0x73bf" and shown["pci"]["reset_methods"] == ["flr", "bus"]
        assert shown["iommu"]["group"] == 7 and shown["sriov"] is None
        assert shown["device_nodes"] == ["/dev/dri/card0", "/dev/dri/renderD128"]
        answers = {name: (m["possible"], m["offered"]) for name, m in methods(node, GPU).items()}
        assert answers == {"emulate": (False, True), "forward": (True, True),
                           "mediate": (False, True), "passthrough": (True, True)}
        soft = node.json("gpu", "show", "soft0")
        assert soft["pci"] is None and soft["holders"] == []


def test_what_people_read_has_80_columns(tree):
    amd(tree)
    tree.pci("0000:03:00.1", pci_class=0x040300, driver="snd_hda_intel", group=7)
    tree.pci("0000:04:00.0", pci_class=0x020000, driver="e1000e", group=7)
    tree.put(tree.BUS + ADDRESS + "/power_state", "x" * 500)  # what it says is no power state
    tree.put("proc/812/comm", "Xorg\n")
    tree.link("/dev/dri/card0", "proc/812/fd/5")
    with node_of(tree) as node:
        for name in ("soft0", GPU):
            said = node.good("gpu", "show", name)
            assert all(len(line) <= 80 for line in said.splitlines()), said
            for method in ("emulate", "forward", "mediate", "passthrough"):
                assert "\n%-13s" % method in said
        assert "PID 812 (Xorg) has /dev/dri/card0" in said
        assert "0000:04:00.0 (e1000e)" in said and "-> " in said
        assert "unreadable" in said and "longer than any known driver" in said


def test_refused_where_nothing_can_draw(tree):
    tree.pci(ADDRESS, driver="vfio-pci", group=7)
    tree.pci("0000:04:00.0")
    with node_of(tree, "[gpu gpu-04:00.0]\nmixed = yes\n") as node:
        assert names(node) == ["soft0", GPU, "gpu-04:00.0"]
        assert [t["name"] for t in node.json("type", "list", GPU)] == [GPU + "-passthrough"]
        assert "vfio-pci" in node.refused("create", "a", "--gpu", GPU, "--type", TYPE)
        assert "no driver" in node.refused("create", "a", "--gpu", "gpu-04:00.0", "--type", TYPE)
        assert "set-aside" in conditions(node, GPU, "forward")
        node.create("a")
        assert "nothing can draw" in node.refused("move", "a", "--gpu", GPU)
        assert node.json("gpu", "show", "gpu-04:00.0")["mixed"] is True  # a name with colons


def test_virtual_functions_are_their_parents(tree):
    tree.pci("0000:41:00.0", vendor=0x10de, pci_class=0x030200, driver="nvidia", group=39,
             sriov_totalvfs="16", sriov_numvfs="2", sriov_drivers_autoprobe="1")
    for i in range(2):
        vf = tree.pci("0000:41:00.%d" % (i + 4), vendor=0x10de, pci_class=0x030200, driver="nvidia",
                      group=40 + i)
        tree.link("../0000:41:00.0", tree.BUS + vf + "/physfn")
        tree.link("../" + vf, tree.BUS + "0000:41:00.0/virtfn%d" % i)
        tree.put(tree.BUS + vf + "/nvidia/creatable_vgpu_types",
                 "ID    : vGPU Name\n1414  : NVIDIA H200X-1-18C\n")
        tree.put(tree.BUS + vf + "/nvidia/current_vgpu_type", "0\n")
    tree.vfio()
    with node_of(tree, "[gpu gpu-41:00.5]\nvram_mib = 128\n") as node:
        assert names(node) == ["soft0", "gpu-41:00.0", "gpu-41:00.5"]
        shown = node.json("gpu", "show", "gpu-41:00.0")
        assert [vf["address"] for vf in shown["sriov"]["vfs"]] == ["0000:41:00.4", "0000:41:00.5"]
        assert shown["vendor"]["types"] == [
            {"id": 1414, "name": "NVIDIA H200X-1-18C", "creatable_vfs": 2}]
        assert methods(node, "gpu-41:00.0")["mediate"]["possible"]
        assert "NVIDIA H200X-1-18C" in node.good("gpu", "show", "gpu-41:00.0")


def node_argument(pid):
    with open("/proc/%d/cmdline" % pid, "rb") as f:
        words = f.read().split(b"\0")
    return words[words.index(b"--render-node") + 1].decode()


def test_a_device_process_finds_its_gpu_wherever_its_node_is(tree):
    """A driver that takes its device again gives it another node, and its old one to another."""
    amd(tree)
    with node_of(tree) as node:
        first = node.create("a", TYPE, GPU)
        tree.no_drm(ADDRESS, "renderD128")
        tree.drm(ADDRESS, "renderD129")
        until(lambda: node.json("gpu", "show", GPU)["render_node"] .endswith("renderD129"))
        os.kill(first["pid"], signal.SIGKILL)  # its keeper was told of the first alone
        until(lambda: node.state("a") == "failed")
        node.connect("a").close()
        until(lambda: node.state("a") == "ready")
        again = node.json("show", "a")
        assert again["pid"] != first["pid"] and again["keeper_pid"] == first["keeper_pid"]
        assert node_argument(again["pid"]) == tree.root + "/pci:" + ADDRESS


def test_gpus_come_and_go(tree):
    with node_of(tree) as node:
        assert names(node) == ["soft0"]
        amd(tree)
        until(lambda: GPU in names(node))
        assert GPU + ": a GPU came, its driver is amdgpu" in texts(node)
        vgpu = node.create("a", TYPE, GPU)
        assert vgpu["state"] == "ready"
        tree.unplug(ADDRESS)
        until(lambda: GPU not in names(node))
        assert GPU + ": the GPU is gone from this node" in texts(node)
        assert "no GPU" in node.refused("gpu", "show", GPU)
        shown = node.json("show", "a")
        assert (shown["state"], shown["failure"]) == (
            "failed", "its GPU gpu-03:00.0 is not on this node")
        assert "failed: " + shown["failure"] in texts(node)
        assert alive(vgpu["keeper_pid"])  # nothing of it is ended
        node.kill()
        node.start()  # the next vgpud finds the keeper, and the GPU missing
        until(lambda: node.state("a") == "failed")
        amd(tree)
        until(lambda: node.state("a") == "ready")
        assert "its GPU gpu-03:00.0 can carry it again" in texts(node)
        assert node.json("show", "a")["keeper_pid"] == vgpu["keeper_pid"]


def test_a_vgpu_whose_gpu_is_missing_at_start(tree):
    amd(tree)
    with node_of(tree) as node:
        node.create("a", TYPE, GPU)
        keeper = node.json("show", "a")["keeper_pid"]
        node.kill()
        os.kill(keeper, 9)
        until(lambda: not alive(keeper))
        tree.unplug(ADDRESS)
        node.start()
        assert node.json("show", "a")["failure"] == "its GPU gpu-03:00.0 is not on this node"
        amd(tree)
        until(lambda: node.state("a") == "ready")


def test_another_driver_takes_it(tree):
    """Its vGPU fails, and is not started in software instead."""
    amd(tree)
    with node_of(tree) as node:
        node.create("a", TYPE, GPU)
        tree.no_drm(ADDRESS, "renderD128")
        tree.no_drm(ADDRESS, "card0")
        tree.bind(ADDRESS, "vfio-pci")
        until(lambda: node.state("a") == "failed")
        assert GPU + ": its driver is vfio-pci, was amdgpu" in texts(node)
        assert "vfio-pci" in node.json("show", "a")["failure"]
        keeper = node.json("show", "a")["keeper_pid"]
        node.kill()
        os.kill(keeper, 9)
        until(lambda: not alive(keeper))
        node.start()
        assert node.state("a") == "failed" and node.processes() == []
        assert "nothing can draw" in node.refused("move", "a", "--gpu", GPU)
        node.good("delete", "a")


def test_a_policy_outlives_the_absence_of_its_gpu(tree):
    amd(tree)
    with node_of(tree) as node:
        tree.unplug(ADDRESS)
        until(lambda: GPU not in names(node))
        amd(tree)
        until(lambda: GPU in names(node))
        assert GPU + ": the GPU is back, its driver is amdgpu" in texts(node)
        assert node.json("type", "list", GPU)
        assert names(node) == ["soft0", GPU]


def uevent(action="change"):
    """The kernel says that something happened to a PCI function, which is true of nothing here."""
    devices = "/sys/bus/pci/devices"
    try:
        with open("%s/%s/uevent" % (devices, sorted(os.listdir(devices))[0]), "w") as f:
            f.write(action)
    except (OSError, IndexError) as why:
        pytest.skip("no uevent can be made here: %s" % why)


def hotplug_check(node):
    done = node.ctl("--json", "doctor").stdout
    import json
    return next(c for c in json.loads(done) if c["check"] == "hotplug")


def test_the_kernel_says_so(tree):
    with node_of(tree, "rescan_s = 0\n") as node:
        check = hotplug_check(node)
        if check["status"] != "ok":
            pytest.skip("no uevents here: " + check["detail"])
        amd(tree)
        uevent()
        until(lambda: GPU in names(node))
        tree.unplug(ADDRESS)
        for _ in range(20):  # a burst is one reading
            uevent()
        until(lambda: GPU not in names(node))
        assert len([t for t in texts(node) if "is gone" in t]) == 1


def test_doctor_says_where_the_kernel_cannot(tree):
    amd(tree)
    prefix = ("unshare", "-U", "-r")
    if subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")
    with node_of(tree, "lockdown = off\n", prefix=prefix) as node:
        check = hotplug_check(node)
        assert check["status"] == "warn" and "user namespace" in check["detail"]
        assert "up to 10 s" in check["detail"] and check["advice"]


def test_a_tree_that_nobody_should_have(tree):
    amd(tree)
    for name, text in (("vendor", "\xff" * 40), ("class", "-1"), ("resource", "x" * 100000),
                       ("reset_method", "\0\0"), ("sriov_totalvfs", "999999999999")):
        tree.put(tree.BUS + ADDRESS + "/" + name, text)
    tree.link("..", tree.BUS + ADDRESS + "/iommu_group")
    os.mkfifo(tree.path("sys/class/vtconsole"))
    os.remove(tree.path("proc/cmdline"))
    os.mkfifo(tree.path("proc/cmdline"))
    with node_of(tree) as node:
        shown = node.json("gpu", "show", GPU)
        unreadable = {t["file"] for t in shown["unreadable"]}
        assert {"vendor", "class", "resource", "reset_method", "sriov_totalvfs"} <= unreadable
        assert all(t["why"] and t["remedy"] for t in shown["unreadable"])
        assert not methods(node, GPU)["mediate"]["possible"]
        node.good("gpu", "show", GPU)


def test_host_root_that_is_not_there():
    with Node(args=("--host-root", "/nowhere")) as node:
        assert names(node) == ["soft0"]
