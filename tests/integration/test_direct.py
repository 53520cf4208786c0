# SPDX-License-Identifier: Apache-2.0
"""vGPUs whose VM owns hardware, on a constructed node with a kernel of its own."""
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from control_node import BIN, ROOT, Node, until
from test_memory import DOMAIN, PCI, hook

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from fakekernel import FakeKernel, Refusal, gpu_files  # noqa: E402
from hosttree import HostTree  # noqa: E402

GPU, ADDRESS, SOUND = "gpu-03:00.0", "0000:03:00.0", "0000:03:00.1"
OTHER, OTHER_ADDRESS = "gpu-04:00.0", "0000:04:00.0"


class Host:
    """A tree with two GPUs, one of them with a sound function, and its kernel."""

    def __init__(self, cdev=False):
        self.folder = tempfile.mkdtemp(prefix="vgh", dir="/tmp")
        tree = self.tree = HostTree(self.folder)
        tree.vfio()
        tree.pci(ADDRESS, vendor=0x1234, device=0x1111, driver="bochs-drm", group=7)
        tree.drm(ADDRESS, "card0")
        tree.pci(SOUND, vendor=0x8086, device=0x2668, pci_class=0x040300, driver="snd_hda_intel",
                 group=7)
        tree.pci(OTHER_ADDRESS, vendor=0x1234, device=0x1111, driver="bochs-drm", group=8)
        for address in (ADDRESS, SOUND, OTHER_ADDRESS):
            gpu_files(tree, address)
        tree.put("proc/sys/kernel/random/boot_id", "11111111-2222-3333-4444-555555555555\n")
        self.kernel = FakeKernel(tree, {ADDRESS: "bochs-drm", SOUND: "snd_hda_intel",
                                        OTHER_ADDRESS: "bochs-drm"}, cdev)

    def close(self):
        self.kernel.close()
        shutil.rmtree(self.folder)

    def node(self, **kwargs):
        return Node("rescan_s = 1\n", args=("--host-root", self.tree.root), **kwargs)

    def drivers(self):
        return {a: self.kernel.driver(a) for a in (ADDRESS, SOUND, OTHER_ADDRESS)}

    def overrides(self):
        found = {}
        for address in (ADDRESS, SOUND, OTHER_ADDRESS):
            with open(self.tree.path(self.tree.BUS, address, "driver_override")) as f:
                found[address] = f.read().strip().replace("(null)", "")
        return found

    def files(self):
        """{group, or function for its own: (uid, mode)} of the VFIO files."""
        folder = self.tree.path("dev/vfio")
        names = os.listdir(folder) if os.path.isdir(folder) else []
        found = {int(n): "vfio/" + n for n in names if n.isdigit()}
        found.update({a: self.own_file(a) for a in (ADDRESS, SOUND, OTHER_ADDRESS)
                      if self.own_file(a)})
        stats = {key: os.stat(self.tree.path("dev", name)) for key, name in found.items()}
        return {key: (s.st_uid, s.st_mode & 0o7777) for key, s in stats.items()}

    def own_file(self, address):
        """Below /dev; None: that function has none."""
        folder = self.tree.path(self.tree.BUS, address, "vfio-dev")
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if os.path.exists(os.path.join(folder, name, "dev")):
                return "vfio/devices/" + name
        return None

    def state(self):
        return self.drivers(), self.overrides(), self.files()

    def pins(self, pid, **mib):
        """What its process says of its memory: VmLck, VmPin and VmRSS, in MiB."""
        self.tree.put("proc/%d/status" % pid, "Name:\tqemu\nPPid:\t1\n" + "".join(
            "%s:\t%8d kB\n" % (key, value << 10) for key, value in mib.items()))

    def hold_unseen(self, pid=4711, comm="qemu-system-x86", name="guest=web", file="vfio/7"):
        """A VM that has that device open by a node of its own, as in libvirt's private /dev: of the
        node's nothing is heard."""
        self.tree.put("proc/%d/comm" % pid, comm + "\n")
        self.tree.put("proc/%d/cmdline" % pid, "qemu\0-name\0%s,debug-threads=on\0" % name)
        self.tree.link(self.tree.path("dev", file), "proc/%d/fd/9" % pid)
        return pid, None

    def hold(self, *args, file="vfio/7", **kwargs):
        """A VM that has that file open."""
        pid, _ = self.hold_unseen(*args, file=file, **kwargs)
        return pid, os.open(self.tree.path("dev", file), os.O_RDWR)

    def leave(self, held):
        pid, fd = held
        self.tree.remove("proc/%d" % pid)
        if fd is not None:
            os.close(fd)

    def draw(self):
        with open(self.vram(), "r+b") as f:
            f.write(b"what the tenant drew")

    def is_empty(self):
        with open(self.vram(), "rb") as f:
            return f.read() == bytes(1 << 21)

    def vram(self, address=ADDRESS):
        return self.tree.path(self.tree.BUS, address, "resource0")


@pytest.fixture
def host():
    made = Host()
    yield made
    made.close()


@pytest.fixture
def newer():
    """On a kernel whose VFIO devices have files of their own."""
    made = Host(cdev=True)
    yield made
    made.close()


def make(node, name="a", gpu=GPU, *more):
    node.good("create", name, "--gpu", gpu, "--method", "passthrough", *more)
    return node.json("show", name)


def texts(node):
    return [e["text"] for e in node.json("events")]


def test_an_owner_by_name(host):
    with host.node() as node:
        assert make(node, "a", GPU, "--owner", "daemon")["owner_uid"] == pwd.getpwnam("daemon").pw_uid
        assert host.files() == {7: (pwd.getpwnam("daemon").pw_uid, 0o600)}
        for name in ("nobody-is-called-so", "x" * 1000, "0x10"):
            said = node.refused("create", "b", "--gpu", OTHER, "--method", "passthrough",
                                "--owner", name)
            assert "there is no user '%s' on this node" % name[:32] in said
        assert [v["name"] for v in node.json("list")] == ["a"]


def test_a_directory_of_users_that_does_not_answer(host):
    """vgpud goes on meanwhile. Its /etc/passwd is a pipe here that nobody writes to."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    pipe = host.tree.path("passwd")
    os.mkfifo(pipe)
    prefix = ["unshare", "-m", "sh", "-c", 'mount --bind %s /etc/passwd && exec "$@"' % pipe, "sh"]
    with host.node(prefix=prefix) as node:
        asking = subprocess.Popen(
            [os.path.join(BIN, "vgpuctl"), "create", "a", "--gpu", GPU, "--method", "passthrough",
             "--owner", "somebody"], env=node.env, stderr=subprocess.PIPE, text=True)
        other = asking
        try:
            for _ in range(20):
                began = time.monotonic()
                node.good("list")
                assert time.monotonic() - began < 5 and asking.poll() is None
                time.sleep(0.02)
            other = subprocess.Popen(asking.args, env=node.env, stderr=subprocess.DEVNULL)
            time.sleep(1)
            began = time.monotonic()  # more than two do not wait, and nothing else for them
            said = node.refused("create", "c", "--gpu", OTHER, "--method", "passthrough",
                                "--owner", "somebody")
            assert "no process to look up a user in" in said and time.monotonic() - began < 5
            assert make(node, "b", OTHER, "--owner", "1234")["owner_uid"] == 1234  # nobody is asked
            _, said = asking.communicate(timeout=30)
            assert "directory of users does not answer (give the user's number)" in said
        finally:
            for process in (asking, other):
                process.kill()
                process.wait()


def test_there_and_back(host):
    before = host.state()
    with host.node() as node:
        shown = make(node, "a", GPU, "--owner", "1234")
        assert (shown["state"], shown["method"], shown["type"]) == \
            ("ready", "passthrough", GPU + "-passthrough")
        assert (shown["device"], shown["renderer"], shown["owner_uid"]) == (ADDRESS, None, 1234)
        assert shown["vhost_user_socket"] is None and shown["scrub"] is None
        assert host.drivers() == {ADDRESS: "vfio-pci", SOUND: "vfio-pci", OTHER_ADDRESS: "bochs-drm"}
        assert host.files() == {7: (1234, 0o600)}
        assert node.good("qemu-args", "a").split() == [
            "-device", "vfio-pci,host=" + ADDRESS, "-device", "vfio-pci,host=" + SOUND]
        node.good("delete", "a")
        assert node.json("list") == []
    assert host.state() == before


def test_a_vm_comes_and_goes(host):
    with host.node() as node:
        make(node)
        held = host.hold()
        shown = until(lambda: node.state("a") == "bound" and node.json("show", "a"))
        assert (shown["bound_to"], shown["bound_pid"]) == ("libvirt domain web", 4711)
        assert shown["bound_domain"] == "web"
        for force in ([], ["--force"]):
            said = node.refused("delete", "a", *force)
            assert "libvirt domain web" in said and "shut that VM down" in said
        with open(host.vram(), "r+b") as f:
            f.write(b"what the tenant drew")
        host.leave(held)
        shown = until(lambda: node.state("a") == "ready" and node.json("show", "a"))
        assert shown["scrub"]["verdict"] == "clean" and shown["scrub"]["bytes"] == 1 << 21
        assert shown["bound_to"] is None
        with open(host.vram(), "rb") as f:
            assert f.read() == bytes(1 << 21)
        assert "bound to libvirt domain web" in texts(node) and "released" in texts(node)
        node.good("delete", "a")


def test_a_vm_that_nobody_saw(host):
    """In a mount namespace of its own, between two looks at who has it: after a VM that was seen and
    scrubbed, and alone. The deletion empties what it left."""
    before = host.state()
    with host.node() as node:
        for seen in (True, False):
            make(node)
            if seen:
                held = host.hold()
                until(lambda: node.state("a") == "bound")
                host.leave(held)
                until(lambda: node.state("a") == "ready" and node.json("show", "a")["scrub"])
                assert node.json("gpu", "list")[1]["left_by"] is None
            held = host.hold_unseen()
            host.draw()
            host.leave(held)
            assert node.state("a") == "ready"
            node.good("delete", "a")
            assert host.is_empty() and host.state() == before


def test_a_vm_of_which_only_libvirt_tells(host):
    """Its /dev is its own; the hook says that it came and went."""
    xml = DOMAIN % ("web", 1024, "", PCI)
    with host.node() as node:
        make(node)
        held = host.hold_unseen()
        host.draw()
        assert hook(node, "web", "started", xml).returncode == 0
        until(lambda: node.state("a") == "bound")
        assert "libvirt domain web" in node.refused("delete", "a")
        host.leave(held)
        assert hook(node, "web", "release", xml).returncode == 0
        until(lambda: node.state("a") == "ready" and node.json("show", "a")["scrub"])
        assert host.is_empty()


@pytest.mark.parametrize("function", [ADDRESS, SOUND])
def test_a_vm_that_uses_iommufd(newer, function):
    """It opens devices' own files and never the group's; all of them are its owner's."""
    before = newer.state()
    with newer.node() as node:
        make(node, "a", GPU, "--owner", "1234")
        assert newer.files() == {key: (1234, 0o600) for key in (7, ADDRESS, SOUND)}
        held = newer.hold(file=newer.own_file(function))
        shown = until(lambda: node.state("a") == "bound" and node.json("show", "a"))
        assert (shown["bound_to"], shown["bound_pid"]) == ("libvirt domain web", 4711)
        assert "libvirt domain web" in node.refused("delete", "a")
        with open(newer.vram(), "r+b") as f:
            f.write(b"what the tenant drew")
        newer.leave(held)
        shown = until(lambda: node.state("a") == "ready" and node.json("show", "a"))
        assert shown["scrub"]["verdict"] == "clean" and "released" in texts(node)
        node.good("delete", "a")
    assert newer.state() == before


def test_the_own_file_of_what_stays_with_vfio_is_not_given(newer):
    """Somebody could keep it open, and use the device between the next tenant's end and its scrub."""
    newer.tree.put(newer.tree.BUS + OTHER_ADDRESS + "/driver_override", "vfio-pci\n")
    newer.tree.bind(OTHER_ADDRESS, "vfio-pci")
    newer.kernel.vfio_files()
    os.chown(newer.tree.path("dev", newer.own_file(OTHER_ADDRESS)), 77, 77)
    before = newer.state()
    with newer.node() as node:
        own = newer.files()[OTHER_ADDRESS]
        make(node, "a", OTHER, "--owner", "1234")
        assert newer.files() == {8: (1234, 0o600), OTHER_ADDRESS: own}
        node.kill()
        node.start()
        until(lambda: node.state("a") == "ready")
        node.good("delete", "a")
    assert newer.state() == before


def touch(host):
    """vgpud hears of it, and looks who has it open."""
    os.close(os.open(host.tree.path("dev/vfio/7"), os.O_RDWR))


def test_whom_nobody_can_ask_may_be_its_vm(host):
    with host.node() as node:
        make(node)
        held = host.hold()
        until(lambda: node.state("a") == "bound")
        host.tree.put("proc/5000/fd", "no folder\n")
        host.tree.remove("proc/4711")
        touch(host)
        time.sleep(1)
        assert node.state("a") == "bound"
        host.tree.remove("proc/5000")
        os.close(held[1])
        touch(host)
        until(lambda: node.state("a") == "ready")
        host.tree.put("proc/5000/fd", "no folder\n")
        said = node.refused("gpu", "scrub", GPU)
        assert "not every process could be asked what it has open" in said


def node_memory(node):
    shown = node.json("node", "show")
    return shown["vgpu_vms"], shown["reserved_mib"]


def test_its_pinned_memory_is_reserved(host):
    with host.node() as node:
        make(node)
        assert node_memory(node) == ([], 0)
        host.pins(4711, VmLck=96, VmPin=0, VmRSS=400)
        held = host.hold()
        until(lambda: node_memory(node)[1] == 96)
        # It opens the file before all its memory is mapped; type1 counts what is locked twice.
        host.pins(4711, VmLck=1024, VmPin=0, VmRSS=512)
        until(lambda: node_memory(node)[1] == 512)
        (vm,), _ = node_memory(node)
        assert (vm["vm"], vm["vgpu"], vm["kind"]) == ("web", "a", "passthrough")
        assert (vm["memory_mib"], vm["locked_mib"], vm["state"]) == (512, 512, "pinned")
        host.leave(held)
        until(lambda: node_memory(node) == ([], 0))


@pytest.mark.parametrize("lck, pin, rss, locked, reserved", [
    (0, 0, 900, 0, 0),            # it has opened the file and mapped nothing
    (300, 0, 310, 300, 1024),     # on its way to all of it
    (2174, 0, 1150, 1024, 1150),  # type1 counts what <locked/> has locked a second time
    (1150, 1024, 1150, 1024, 1150),  # iommufd counts beside it
])
def test_a_domain_with_its_memory_locked(host, lck, pin, rss, locked, reserved):
    """<memoryBacking><locked/> under passthrough: QEMU locks its own memory too, which is not the
    VM's, and the node has not; libvirt's hook and the open file tell of one and the same VM."""
    host.tree.put("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n")
    xml = DOMAIN % ("web", 1024, "<memoryBacking><locked/></memoryBacking>", PCI)
    with host.node() as node:
        make(node)
        for operation in ("prepare", "started"):
            assert hook(node, "web", operation, xml).returncode == 0
        shown = node.json("node", "show")
        assert [(v["vm"], v["kind"], v["locked_mib"]) for v in shown["vms"]] == \
            [("web", "passthrough", 0)]
        host.pins(4711, VmLck=lck, VmPin=pin, VmRSS=rss)
        held = host.hold()
        until(lambda: node.state("a") == "bound")
        shown = until(lambda: (lambda s: s["reserved_mib"] == reserved and s)(
            node.json("node", "show")))
        (vm,) = shown["vgpu_vms"]
        assert (vm["vm"], vm["memory_mib"], vm["locked_mib"]) == ("web", 1024, locked)
        assert shown["vms"] == [] and shown["known_vms_mib"] == max(1024, reserved)
        host.leave(held)
        until(lambda: node.state("a") == "ready")
        assert hook(node, "web", "release", xml).returncode == 0
        assert node_memory(node) == ([], 0) and node.json("node", "show")["vms"] == []


@pytest.mark.parametrize("status", ["", "VmLck: -1 kB\n", "VmLck:\nVmRSS:\n", "VmLck",
                                    "VmLck: 99999999999999999999 kB\nVmRSS: 1 kB\n"])
def test_a_process_that_says_nothing_of_its_memory(host, status):
    with host.node() as node:
        make(node)
        host.tree.put("proc/4711/status", status)
        host.hold()
        until(lambda: node.state("a") == "bound")
        assert node_memory(node)[1] == 0


def test_deleted_while_it_is_scrubbed(host):
    gpu_files(host.tree, ADDRESS, 1 << 28)  # long enough to be seen
    before = host.state()
    with host.node() as node:
        make(node)
        held = host.hold()
        until(lambda: node.state("a") == "bound")
        host.leave(held)
        until(lambda: node.state("a") == "scrubbing")
        node.good("delete", "a")
        assert node.json("list") == [] and node.json("gpu", "list")[1]["left_by"] is None
    assert host.state() == before


def test_what_its_vm_owns_is_refused(host):
    with host.node() as node:
        make(node)
        for verb in (["move", "a", "--gpu", OTHER], ["hibernate", "a"], ["wake", "a"], ["check", "a"],
                     ["snapshot", "a", node.dir + "/x"], ["screenshot", "a", node.dir + "/x.png"],
                     ["run", "a", "--", "true"]):
            said = node.refused(*verb)
            assert "its VM owns the hardware" in said, said
        assert node.json("stats", "a")["name"] == "a"


def test_rule_3_and_two_on_one_gpu(host):
    with host.node() as node:
        make(node)
        said = node.refused("create", "b", "--gpu", GPU, "--method", "passthrough")
        assert GPU in said
        make(node, "b", OTHER)
        assert len(node.json("list")) == 2


def test_refused_by_the_findings(host):
    host.tree.pci("0000:05:00.0", pci_class=0x020000, driver="e1000e", group=8)
    host.tree.link(host.tree.path("dev/dri/card0"), "proc/77/fd/3")
    host.tree.put("proc/77/comm", "Xorg\n")
    before = host.state()
    with host.node() as node:
        said = node.refused("create", "a", "--gpu", OTHER, "--method", "passthrough")
        assert "group 8 is shared with 0000:05:00.0 (e1000e)" in said
        said = node.refused("create", "a", "--gpu", GPU, "--method", "passthrough")
        assert "PID 77 (Xorg) has /dev/dri/card0 open" in said
        assert node.json("list") == []
    assert host.state() == before


def test_a_failed_step_is_undone(host):
    before = host.state()
    with host.node() as node:
        for end in ("/driver_override", "/driver/unbind", "/drivers_probe"):
            host.kernel.fails = {SOUND + end if end != "/drivers_probe" else end: 5}
            assert node.refused("create", "a", "--gpu", GPU, "--method", "passthrough")
            host.kernel.fails = {}
            until(lambda: not node.json("list"), 20)  # what is stuck is tried again
            assert host.state() == before


def partial(host):
    """A GPU of which nothing tells how much memory it has."""
    gpu_files(host.tree, OTHER_ADDRESS, vendor=0x1002, device=0x73bf)
    host.tree.put(host.tree.BUS + OTHER_ADDRESS + "/vendor", "0x1002\n")
    host.tree.put(host.tree.BUS + OTHER_ADDRESS + "/device", "0x73bf\n")


def test_what_cannot_be_emptied_is_nobody_elses(host):
    partial(host)
    before = host.state()
    with host.node() as node:
        make(node, "a", OTHER)
        assert node.json("gpu", "list")[2]["left_by"]
        host.leave(host.hold(file="vfio/8"))
        shown = until(lambda: node.json("show", "a")["scrub"])
        assert shown["verdict"] == "partial", shown
        said = node.refused("delete", "a")
        assert "nothing tells how large its memory is" in said, said
        until(lambda: node.state("a") == "ready")  # it stays its owner's
        assert host.files()[8][0] == 0
        assert node.ctl("gpu", "release", OTHER).returncode == 2
        node.good("gpu", "release", OTHER, "--unscrubbed")
        assert "nothing to do" in node.refused("gpu", "release", OTHER, "--unscrubbed")
        node.good("delete", "a")
        assert node.json("list") == []
        assert any("by an administrator's word" in t for t in texts(node))
    assert host.state() == before


def test_scrub_by_hand(host):
    with host.node() as node:
        assert "in passthrough for nobody" in node.refused("gpu", "scrub", GPU)
        make(node)
        with open(host.vram(), "r+b") as f:
            f.write(b"something")
        node.good("gpu", "scrub", GPU)
        with open(host.vram(), "rb") as f:
            assert not any(f.read(64))
        held = host.hold()
        until(lambda: node.state("a") == "bound")
        assert "libvirt domain web" in node.refused("gpu", "scrub", GPU)
        host.leave(held)


def asleep(host, woken=None, put_back=None):
    """A GPU that is woken before it is emptied, and put to sleep behind that: what happens then."""
    control = host.tree.BUS + ADDRESS + "/power/control"
    host.tree.put(control, "auto\n")
    real, then = host.kernel.store, {"on": woken, "auto": put_back}

    def store(path, text):
        real(path, text)
        act = then.pop(text.strip(), None) if path.endswith("/power/control") else None
        if act:
            act()
    host.kernel.store = store


@pytest.mark.parametrize("own", [False, True])
def test_opened_and_closed_while_it_is_emptied(newer, own):
    """What was zeroed may be written to behind the zeroes, by somebody who is gone in the end."""
    host = newer
    asleep(host, lambda: os.close(os.open(host.tree.path(
        "dev", host.own_file(ADDRESS) if own else "vfio/7"), os.O_RDWR)))
    with host.node() as node:
        make(node)
        assert "opened it while" in node.refused("gpu", "scrub", GPU)
        until(lambda: node.json("gpu", "list")[1]["left_by"] is None)  # it is emptied once more
        assert any("not scrubbed: " in t for t in texts(node))
        node.good("delete", "a")


def test_opened_while_the_next_vgpud_empties_it(host):
    """vgpud is killed while it empties a GPU whose vGPU is being deleted; the next one goes on, and
    sees who opens the file behind its zeroes."""
    before = host.state()
    asked, go = threading.Event(), threading.Event()

    def wait():
        asked.set()
        go.wait(30)
    asleep(host, wait)
    with host.node() as node:
        make(node)
        deleting = threading.Thread(target=lambda: node.ctl("delete", "a"))
        deleting.start()
        assert asked.wait(20)
        node.kill()
        deleting.join(30)
        asleep(host, lambda: os.close(os.open(host.tree.path("dev/vfio/7"), os.O_RDWR)))
        go.set()
        node.start()
        until(lambda: any("opened it while" in t for t in texts(node)), 20)
        until(lambda: node.state("a") == "ready", 20)
        assert node.json("gpu", "list")[1]["left_by"]  # it is its owner's still, and not empty
        node.good("delete", "a")
        assert node.json("list") == [] and node.json("gpu", "list")[1]["left_by"] is None
    assert host.state() == before


def test_opened_between_its_emptying_and_the_way_back(host):
    before = host.state()

    def hold():
        host.tree.put("proc/4711/comm", "qemu\n")
        host.tree.link(host.tree.path("dev/vfio/7"), "proc/4711/fd/9")
    asleep(host, None, hold)
    with host.node() as node:
        make(node)
        assert "PID 4711 (qemu)" in node.refused("delete", "a")
        with open(host.vram(), "r+b") as f:
            f.write(b"what the tenant drew")
        host.tree.remove("proc/4711")
        until(lambda: node.json("list") == [], 20)
        with open(host.vram(), "rb") as f:
            assert f.read() == bytes(1 << 21)
    assert host.state() == before


def test_written_to_while_the_kernel_waits_for_its_holder(host):
    """Nobody saw him; what takes the GPU from vfio-pci is done when he leaves, behind the zeroes."""
    before = host.state()
    with host.node() as node:
        make(node)
        host.kernel.held.add(ADDRESS)
        assert "does not let go of it" in node.refused("delete", "a")
        # The next attempt waits in vain for that request to return, and gives nothing up.
        until(lambda: any(v["operation"] for v in node.json("list")), 20)
        until(lambda: not any(v["operation"] for v in node.json("list")), 20)
        assert node.state("a") == "deleting"
        host.draw()
        host.kernel.release(ADDRESS)
        until(lambda: node.json("list") == [], 40)
        assert host.is_empty() and node.json("gpu", "list")[1]["left_by"] is None
    assert host.state() == before


def test_another_start_of_the_node(host):
    """After it nothing of the plan stands; it is made and carried out anew."""
    with host.node() as node:
        make(node, "a", GPU, "--owner", "1234")
        node.kill()
        for address in (ADDRESS, SOUND):  # as the kernel begins
            host.tree.put(host.tree.BUS + address + "/driver_override", "(null)\n")
            host.tree.bind(address, host.kernel.natives[address])
        host.kernel.vfio_files()
        host.tree.put("proc/sys/kernel/random/boot_id", "22222222-2222-3333-4444-555555555555\n")
        node.start()
        until(lambda: node.state("a") == "ready")
        assert host.drivers()[SOUND] == "vfio-pci" and host.files() == {7: (1234, 0o600)}
        assert any("started anew" in t for t in texts(node))
        node.good("delete", "a")
        assert host.drivers()[ADDRESS] == "bochs-drm"


def test_killed_while_all_is_set_up_anew(host):
    """After a start of the node: what was planned and not carried out is nobody else's doing."""
    with host.node() as node:
        make(node, "a", GPU, "--owner", "1234")
        node.kill()
        for address in (ADDRESS, SOUND):
            host.tree.put(host.tree.BUS + address + "/driver_override", "(null)\n")
            host.tree.bind(address, host.kernel.natives[address])
        host.kernel.vfio_files()
        host.tree.put("proc/sys/kernel/random/boot_id", "22222222-2222-3333-4444-555555555555\n")
        real, asked = host.kernel.driver_override, threading.Event()

        def override(path, text):
            asked.set()
            raise Refusal(5)
        host.kernel.driver_override = override
        node.start()
        assert asked.wait(20)
        node.kill()
        host.kernel.driver_override = real
        node.start()
        until(lambda: node.state("a") == "ready", 20)
        assert host.files() == {7: (1234, 0o600)}
        node.kill()
        node.start()  # and that is noted
        until(lambda: node.state("a") == "ready", 20)
        node.good("delete", "a")
        assert host.drivers()[ADDRESS] == "bochs-drm" and host.overrides()[ADDRESS] == ""


def test_changed_by_hand_is_said_and_left(host):
    with host.node() as node:
        make(node)
        node.kill()
        host.tree.bind(SOUND, "pci-stub")
        node.start()
        until(lambda: node.state("a") == "failed")
        assert "the driver of %s is pci-stub, and should be vfio-pci" % SOUND in \
            node.json("show", "a")["failure"]
        assert host.drivers()[SOUND] == "pci-stub"
        node.good("delete", "a")
        assert host.drivers()[SOUND] == "pci-stub" and host.drivers()[ADDRESS] == "bochs-drm"
        assert any("left as it is" in t and "pci-stub" in t for t in texts(node))


def test_a_hand_made_binding_is_left(host):
    host.tree.put(host.tree.BUS + OTHER_ADDRESS + "/driver_override", "vfio-pci\n")
    host.tree.bind(OTHER_ADDRESS, "vfio-pci")
    host.kernel.vfio_files()
    before = host.state()
    with host.node() as node:
        assert node.json("gpu", "show", OTHER)["driver"] == "vfio-pci"
        assert host.state() == before
        make(node, "a", OTHER, "--owner", "1234")
        assert host.files() == {8: (1234, 0o600)}
        node.good("delete", "a")
    assert host.state() == before


def test_a_gpu_that_vanishes(host):
    with host.node() as node:
        make(node)
        host.tree.unplug(ADDRESS)
        host.kernel.vfio_files()
        until(lambda: node.state("a") == "failed", 20)
        assert GPU in node.json("show", "a")["failure"]
        node.good("delete", "a")
        assert host.drivers()[SOUND] == "snd_hda_intel"
        assert node.process.poll() is None


def test_a_gpu_that_vanishes_on_the_way(host):
    real = host.kernel.unbind

    def unbind(path, text):
        host.tree.unplug(ADDRESS)
        return real(path, text)
    host.kernel.unbind = unbind
    with host.node() as node:
        node.refused("create", "a", "--gpu", GPU, "--method", "passthrough")
        until(lambda: not node.json("list"), 20)
        assert node.process.poll() is None


def test_read_only_sysfs_and_no_root(host):
    before = host.state()
    with host.node() as node:
        for code, words in ((30, "sysfs is read-only"), (13, "run vgpud as root"), (1, "run vgpud as root")):
            host.kernel.fails = {"/driver_override": code}
            assert words in node.refused("create", "a", "--gpu", GPU, "--method", "passthrough")
        host.kernel.fails = {}
        until(lambda: not node.json("list"), 20)
    assert host.state() == before


def test_a_kernel_that_does_not_return_is_not_waited_for_forever(host):
    """A driver keeps the function: the request stands, and is undone when it is fulfilled."""
    before = host.state()
    host.kernel.held.add(SOUND)
    with host.node() as node:
        said = node.refused("create", "a", "--gpu", GPU, "--method", "passthrough")
        assert "does not let go of it" in said
        assert node.json("list")[0]["state"] == "stopping"
        node.good("gpu", "list")  # vgpud itself waits for nothing
        host.kernel.release(SOUND)
        until(lambda: not node.json("list"), 40)
    assert host.state() == before


def test_a_request_of_an_earlier_vgpud_is_no_vm(host):
    """It has the GPU's lock, beside the file."""
    with host.node() as node:
        make(node, "a")
        lock = os.path.join(node.run_dir, "gpus", GPU + ".lock")
        host.tree.link(lock, "proc/4711/fd/10")
        held = host.hold()
        time.sleep(1)
        host.leave(held)
        assert not any("bound to" in text for text in texts(node))
        held = host.hold()  # without it
        until(lambda: node.state("a") == "bound")
        host.leave(held)


def test_two_at_once_on_one_gpu(host):
    done = []
    with host.node() as node:
        threads = [threading.Thread(target=lambda n=n: done.append(
            node.ctl("create", n, "--gpu", GPU, "--method", "passthrough").returncode)) for n in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert sorted(done) == [0, 1, 1, 1]
        assert len(node.json("list")) == 1


def test_rows_that_no_vgpud_wrote(host):
    import sqlite3
    with host.node() as node:
        make(node)
        state = host.state()
        node.kill()
        db = sqlite3.connect(os.path.join(node.state_dir, "vgpud.db"))
        db.execute("UPDATE changes SET subject = '../../../tmp' WHERE number = 0")
        db.commit()
        db.close()
        node.start()
        assert node.state("a") == "failed"
        assert "no vgpud wrote" in node.refused("delete", "a")
        assert host.state() == state
        node.good("delete", "a", "--force")
        assert node.json("list") == [] and host.state() == state
