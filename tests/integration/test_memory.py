# SPDX-License-Identifier: Apache-2.0
"""Rule 4 through vgpuctl: the switch, the ledger, admission, with real keepers and device processes
and real guest memory. KSM and the node's figures are a constructed tree's: the switch here is not to
touch this machine's."""
import glob
import http.client
import os
import shutil
import socket
import subprocess
import sys

import pytest

from control_node import BIN, Node, until

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vhost_user_client import FrontEnd, guest_memory, resident  # noqa: E402

KSM = {"run": 0, "pages_to_scan": 100, "sleep_millisecs": 20, "pages_shared": 0,
       "pages_sharing": 0, "pages_unshared": 3, "merge_across_nodes": 1}

DOMAIN = """<domain type='kvm'><name>%s</name><memory unit='MiB'>%d</memory>%s
<devices>%s</devices></domain>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
VIDEO = "<video><driver name='vhostuser'/><model type='virtio'/></video>"
MDEV = """<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source>
<address uuid='c2177883-f1bb-47f0-914d-32a22e3a8804'/></source></hostdev>"""
PCI = """<hostdev mode='subsystem' type='pci'><source>
<address domain='0' bus='3' slot='0' function='0'/></source></hostdev>"""


class MemoryNode(Node):
    """One whose memory and KSM are files."""

    def __init__(self, config="", total=8192, available=4096, **kwargs):
        super().__init__("renderer = null\nmin_free_mib = 256\n" + config,
                         device=os.path.join(BIN, "vgpu-device"), **kwargs)
        self.root = os.path.join(self.dir, "root")
        self.args += ["--host-root", self.root]
        os.makedirs(os.path.join(self.root, "sys/kernel/mm/ksm"))
        os.makedirs(os.path.join(self.root, "proc/sys/kernel/random"))
        os.makedirs(os.path.join(self.root, "dev"))
        self.memory(total, available)
        self.boot("one")
        for name, value in KSM.items():
            self.set_ksm(name, value)

    def memory(self, total, available):
        with open(os.path.join(self.root, "proc/meminfo"), "w") as f:
            f.write("MemTotal: %d kB\nMemAvailable: %d kB\n" % (total << 10, available << 10))

    def boot(self, name):
        with open(os.path.join(self.root, "proc/sys/kernel/random/boot_id"), "w") as f:
            f.write(name + "\n")

    def set_ksm(self, name, value):
        with open(os.path.join(self.root, "sys/kernel/mm/ksm", name), "w") as f:
            f.write("%d\n" % value)

    def ksm_run(self):
        with open(os.path.join(self.root, "sys/kernel/mm/ksm/run")) as f:
            return int(f.read())

    def show(self):
        return self.json("node", "show")

    def events(self):
        return [event["text"] for event in self.json("events")]

    def until_memory(self, name, state):
        return until(lambda: (lambda v: v["vm_memory_state"] == state and v)(
            self.json("show", name)), 20)


@pytest.fixture
def node():
    with MemoryNode() as n:
        yield n


def holders(node):
    """Its processes that hold memory, and what the kernel shows of their mappings."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as f:
                if f.read() != "vgpu-memory\n":
                    continue
            with open(os.path.dirname(path) + "/cmdline") as f:
                if node.run_dir not in f.read():
                    continue
            with open(os.path.dirname(path) + "/smaps") as f:
                found[int(path.split("/")[2])] = f.read()
        except OSError:
            pass
    return found


def locked_kib(smaps, name="/memfd:guest"):
    """Of that file: (size, resident, swapped), if every mapping of it is locked."""
    size, rss, swap, inside, flags = 0, 0, 0, False, []
    for line in smaps.splitlines():
        words = line.split()
        if "-" in words[0]:
            inside = name in line
        elif inside and words[0] in ("Size:", "Rss:", "Swap:"):
            size += int(words[1]) * (words[0] == "Size:")
            rss += int(words[1]) * (words[0] == "Rss:")
            swap += int(words[1]) * (words[0] == "Swap:")
        elif inside and words[0] == "VmFlags:":
            flags.append("lo" in words)
    return (size, rss, swap) if flags and all(flags) else None


def test_off_nothing_is_locked(node):
    node.create("a")
    with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
        memory = guest_memory(64)
        vm.give(memory)
        shown = node.until_memory("a", "free")
        assert shown["vm_memory_mib"] == 64 and shown["vm_memory_locked_mib"] == 0
        assert shown["vm_refusal"] is None
        show = node.show()
        assert show["overcommit"] == "off" and show["reserved_mib"] == 0
        assert show["known_vms_mib"] == 64 and show["memory_mib"] == 8192
        (one,) = show["vgpu_vms"]
        assert (one["vgpu"], one["memory_mib"], one["locked_mib"]) == ("a", 64, 0)
        assert "no VM's memory is locked" in node.good("node", "show")
        assert resident(memory) == 0 and vm.alive()
        os.close(memory)


def test_the_switch(node):
    assert "over-commit is on: KSM runs;" in node.good("node", "overcommit", "on")
    assert node.ksm_run() == 1
    show = node.show()
    assert show["overcommit"] == "on"
    assert show["ksm"]["switched_by_vgpud"] and show["ksm"]["run_before"] == 0
    assert any("never merged" in rule["text"] for rule in show["rules"])
    node.good("node", "overcommit", "on")  # again: nothing to do
    assert "memory over-commit is on" in node.events()
    assert "KSM is stopped and unmerged" in node.good("node", "overcommit", "off")
    assert node.ksm_run() == 2 and node.show()["overcommit"] == "off"
    assert "off" in node.good("node", "overcommit", "off")
    done = node.ctl("node", "overcommit", "perhaps")
    assert done.returncode == 2


def test_the_switch_survives(node):
    node.good("node", "overcommit", "on")
    node.kill()
    node.start()
    assert node.show()["overcommit"] == "on" and node.ksm_run() == 1
    # The node was started anew: the kernel has forgotten, vgpud has not.
    node.kill()
    node.boot("two")
    node.set_ksm("run", 0)
    node.start()
    until(lambda: node.show()["overcommit"] == "on")
    assert node.ksm_run() == 1


def test_changed_by_hand(node):
    node.good("node", "overcommit", "on")
    node.kill()
    node.set_ksm("run", 0)
    node.start()
    show = node.show()
    assert show["overcommit"] == "on" and show["ksm"]["changed_by_hand"]
    assert not show["ksm"]["running"] and node.ksm_run() == 0  # left as it is
    assert any("stopped by hand" in text for text in node.events())
    node.good("node", "overcommit", "on")
    assert node.ksm_run() == 1 and not node.show()["ksm"]["changed_by_hand"]
    # And when the switch is off: a ksmtuned runs.
    node.good("node", "overcommit", "off")
    node.kill()
    node.set_ksm("run", 1)
    node.start()
    assert node.show()["ksm"]["changed_by_hand"]
    assert any("vgpud did not start it" in text for text in node.events())


def test_what_others_started_stays(node):
    node.set_ksm("run", 1)
    assert "somebody else had started it" in node.good("node", "overcommit", "on")
    assert not node.show()["ksm"]["switched_by_vgpud"]
    assert "runs on" in node.good("node", "overcommit", "off")
    assert node.ksm_run() == 1


def test_unmerging_must_fit(node):
    node.good("node", "overcommit", "on")
    node.set_ksm("pages_sharing", 1 << 20)  # 4 GiB, and so much is available, but for 256 MiB
    line = node.refused("node", "overcommit", "off")
    assert "KSM saves 4096 MiB" in line and "4096 MiB available 256 shall stay free" in line
    assert node.ksm_run() == 1 and node.show()["overcommit"] == "on"
    assert node.show()["merged_mib"] == 4096
    node.memory(8192, 4352)
    node.good("node", "overcommit", "off")


def test_no_ksm_in_this_kernel(node):
    shutil.rmtree(os.path.join(node.root, "sys/kernel/mm/ksm"))
    line = node.refused("node", "overcommit", "on")
    assert "this kernel has no KSM" in line
    assert node.show()["overcommit"] == "off" and not node.show()["ksm"]["present"]
    assert "not in this kernel" in node.good("node", "show")


def test_a_vm_is_locked_before_it_is_served(node):
    node.good("node", "overcommit", "on")
    node.create("a")
    with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
        memory = guest_memory(96)
        vm.give(memory)
        shown = node.until_memory("a", "locked")
        assert shown["vm_memory_mib"] == shown["vm_memory_locked_mib"] == 96
        assert resident(memory) == 96
        assert [locked_kib(smaps) for smaps in holders(node).values()] == [(96 << 10, 96 << 10, 0)]
        show = node.show()
        assert show["reserved_mib"] == 96 and show["promised_mib"] == 0
        (one,) = show["vgpu_vms"]
        assert one["state"] == "locked" and one["verified_ms"] > 1.7e12
        # More memory is plugged in: locked as well.
        more = guest_memory(32)
        vm.add(more)
        until(lambda: node.json("show", "a")["vm_memory_locked_mib"] == 128)
        assert resident(more) == 32 and vm.alive()
        os.close(more)
        # vgpud ends and comes back: it stays locked, and the ledger knows.
        node.kill()
        assert len(holders(node)) == 1
        node.start()
        node.until_memory("a", "locked")
        assert node.show()["reserved_mib"] == 128 and vm.alive()
        os.close(memory)
    node.until_memory("a", "none")
    until(lambda: not holders(node))
    assert node.show()["reserved_mib"] == 0


def test_one_that_does_not_fit_is_refused(node):
    node.good("node", "overcommit", "on")
    node.create("a")
    node.memory(8192, 300)
    with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
        memory = guest_memory(64)
        vm.give(memory)
        assert vm.ended() and resident(memory) == 0
        os.close(memory)
    why = until(lambda: node.json("show", "a")["vm_refusal"])
    assert "over-commit is on" in why and "64 MiB of its 64 are not resident yet" in why
    assert "the node has 300 MiB available" in why
    assert any(text.startswith("refused: over-commit is on") for text in node.events())
    assert not holders(node)
    # Its vGPU is none the worse for it, and the next VM clears the reason.
    node.memory(8192, 4096)
    until(lambda: node.state("a") == "ready", 20)
    with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
        memory = guest_memory(8)
        vm.give(memory)
        assert node.until_memory("a", "locked")["vm_refusal"] is None
        os.close(memory)


def test_two_vms_share_what_there_is(node):
    """300 MiB fit beside 256 that stay free; two of 200 do not."""
    node.good("node", "overcommit", "on")
    node.create("a")
    node.create("b")
    node.memory(656, 656)
    with FrontEnd(node.path("a", "vhost-user.sock")) as one, \
            FrontEnd(node.path("b", "vhost-user.sock")) as two:
        first, second = guest_memory(200), guest_memory(201)
        one.give(first)
        node.until_memory("a", "locked")
        two.give(second)
        assert two.ended()
        why = until(lambda: node.json("show", "b")["vm_refusal"])
        assert "200 MiB reserved by others" in why and "more than the node's 656 MiB" in why
        assert one.alive()
        os.close(first)
        os.close(second)


def test_turned_on_under_a_vm(node):
    node.create("a")
    with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
        memory = guest_memory(64)
        vm.give(memory)
        node.until_memory("a", "free")
        # It cannot be locked: refused, named, and nothing is changed.
        node.memory(8192, 300)
        line = node.refused("node", "overcommit", "on")
        assert "(vGPU a)" in line and "64 MiB of its 64" in line
        assert node.ksm_run() == 0 and node.show()["overcommit"] == "off"
        node.until_memory("a", "free")
        assert vm.alive()
        # Now it can.
        node.memory(8192, 4096)
        assert "1 VM with a vGPU, 64 MiB of memory locked" in node.good("node", "overcommit", "on")
        assert resident(memory) == 64 and vm.alive()
        assert [locked_kib(smaps) for smaps in holders(node).values()] == [(64 << 10, 64 << 10, 0)]
        node.good("node", "overcommit", "off")
        node.until_memory("a", "free")
        until(lambda: not holders(node))
        assert vm.alive()
        os.close(memory)


def test_holes_are_filled(node):
    node.good("node", "overcommit", "on")
    node.create("a")
    with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
        memory = guest_memory(64)
        vm.give(memory)
        node.until_memory("a", "locked")
        # As a balloon does it.
        subprocess.run(["fallocate", "-p", "-o", "16MiB", "-l", "8MiB",
                        "/proc/%d/fd/%d" % (os.getpid(), memory)], check=True)
        assert resident(memory) == 56
        shown = until(lambda: (lambda v: v["memory_holes"] and v)(node.json("show", "a")), 20)
        assert shown["memory_holes"] == 1 and resident(memory) == 64
        (one,) = node.show()["vgpu_vms"]
        assert one["holes"] == 1 and one["repaired_mib"] == 8
        assert any("8192 KiB of its VM's reserved memory" in text for text in node.events())
        assert vm.alive()
        os.close(memory)


def test_the_limit_on_locked_memory():
    prefix = ["prlimit", "--memlock=65536:65536", "setpriv", "--bounding-set=-ipc_lock"]
    with MemoryNode(prefix=prefix) as node:
        node.good("node", "overcommit", "on")
        node.create("a")
        with FrontEnd(node.path("a", "vhost-user.sock")) as vm:
            memory = guest_memory(16)
            vm.give(memory)
            assert vm.ended()
            os.close(memory)
        why = until(lambda: node.json("show", "a")["vm_refusal"])
        assert "16 MiB are to be locked and vgpud may lock 64 KiB" in why
        assert "LimitMEMLOCK" in why


def test_qemu_gets_its_memory_at_once(node):
    """So that locking it does not take the time that a guest's driver waits for its first answer."""
    node.create("a")
    assert "prealloc" not in node.good("qemu-args", "a", "--memory", "1G")
    node.good("node", "overcommit", "on")
    assert "size=1G,share=on,prealloc=on" in node.good("qemu-args", "a", "--memory", "1G")


def settled(node):
    """What came of it in the end: the switch and KSM agree."""
    show = until(lambda: (lambda s: s["overcommit"] in ("on", "off") and s)(node.show()))
    assert node.ksm_run() == (1 if show["overcommit"] == "on" else node.ksm_run() & 2)
    return show["overcommit"]


@pytest.mark.parametrize("word", ["on", "off"])
def test_vgpud_is_killed_while_it_turns(word):
    """At each write to the store and each request to the kernel: the next one goes on with it."""
    with MemoryNode() as node:
        if word == "off":
            node.good("node", "overcommit", "on")
        node.kill()
        before = "off" if word == "on" else "on"
        for at in range(1, 40):
            node.env["VGPUD_KILL_AT"] = str(at)
            node.start()
            killed = node.ctl("node", "overcommit", word).returncode != 0
            node.kill()
            del node.env["VGPUD_KILL_AT"]
            node.start()
            now = settled(node)
            # Nothing was noted yet, or all of it was done.
            assert now == word or (killed and at == 1), at
            if not killed:
                assert at > 4
                break
            node.good("node", "overcommit", before)
            node.kill()
        else:
            raise AssertionError("it never got through")


# --- libvirt's hook ---


def hook(node, name, operation, xml, args=()):
    return subprocess.run([os.path.join(BIN, "vgpuctl"), "libvirt", "hook", "run", "--", name,
                           operation, "begin", "-", *args], input=xml, env=node.env,
                          capture_output=True, text=True, timeout=30)


def test_hook_is_installed_and_removed(node):
    folder = os.path.join(node.dir, "hooks")
    path = os.path.join(folder, "qemu.d", "vgpud")
    assert path in node.good("libvirt", "hook", "install", "--hooks-dir", folder)
    assert os.stat(path).st_mode & 0o111
    node.good("libvirt", "hook", "install", "--hooks-dir", folder)  # again
    xml = DOMAIN % ("plain", 512, "", "")
    done = subprocess.run([path, "plain", "prepare", "begin", "-"], input=xml, text=True,
                          capture_output=True, timeout=30, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [vm["vm"] for vm in node.show()["vms"]] == ["plain"]
    node.good("libvirt", "hook", "remove", "--hooks-dir", folder)
    assert not os.path.exists(path)
    assert "no hook" in node.good("libvirt", "hook", "remove", "--hooks-dir", folder)
    # What somebody else wrote is left alone.
    with open(path, "w") as f:
        f.write("#!/bin/sh\nexit 0\n")
    for verb in ("install", "remove"):
        assert "left alone" in node.refused("libvirt", "hook", verb, "--hooks-dir", folder)
    assert open(path).read() == "#!/bin/sh\nexit 0\n"
    assert node.ctl("libvirt", "hook", "perhaps").returncode == 2


def test_hook_tells_of_all_vms(node):
    for operation, state in (("prepare", "prepared"), ("start", "prepared"), ("started", "running")):
        assert hook(node, "plain", operation, DOMAIN % ("plain", 6000, "", "")).returncode == 0
        (vm,) = node.show()["vms"]
        assert (vm["vm"], vm["kind"], vm["memory_mib"], vm["state"]) == ("plain", "vm", 6000, state)
    assert hook(node, "other", "prepare", DOMAIN % ("other", 3000, "", PCI)).returncode == 0
    show = node.show()
    assert show["known_vms_mib"] == 9000 and show["overcommitted_mib"] == 808
    assert show["reserved_mib"] == 0  # nothing is while the switch is off
    # libvirt does not tell it twice, so vgpud keeps it.
    node.kill()
    node.start()
    assert [vm["vm"] for vm in node.show()["vms"]] == ["other", "plain"]
    for name in ("plain", "other"):
        assert hook(node, name, "release", DOMAIN % (name, 1, "", "")).returncode == 0
    assert node.show()["vms"] == []


@pytest.mark.parametrize("name, mib, backing, devices, words", [
    ("shared", 512, SHARED, VIDEO, None),
    ("private", 512, "", VIDEO, "needs shared memory that can be locked"),
    ("large", 5000, SHARED, VIDEO, "5000 MiB of its 5000 are not resident yet"),
    ("huge", 9000, SHARED, VIDEO, "more than the node's 8192 MiB"),
    ("mediated", 512, "", MDEV, "does not pin all of its memory"),
    ("locked", 512, "<memoryBacking><locked/></memoryBacking>", MDEV, None),
    ("pinned", 512, "", PCI, None),
    ("wide", 5000, "", PCI, "5000 MiB of its 5000"),
    ("plain", 100000, "", "", None),
])
def test_hook_while_over_committed(node, name, mib, backing, devices, words):
    xml = DOMAIN % (name, mib, backing, devices)
    assert hook(node, name, "prepare", xml).returncode == 0  # while it is off nobody is refused
    assert hook(node, name, "release", xml).returncode == 0
    node.good("node", "overcommit", "on")
    done = hook(node, name, "prepare", xml)
    if words:
        assert done.returncode == 1 and words in done.stderr, done.stderr
        assert done.stderr.startswith("vgpuctl: start %s: " % name)
        assert node.show()["vms"] == []
        assert any(text.startswith("refused: start " + name) for text in node.events())
    else:
        assert (done.returncode, done.stderr) == (0, "")
        reserved = 0 if name == "plain" else mib
        assert node.show()["reserved_mib"] == reserved


def test_hook_with_bad_input(node):
    good = DOMAIN % ("a", 1, "", "")
    for name, xml, words in (
            ("a", "", "it is no text"), ("a", "<domain", "it is no XML"),
            ("a", "<!DOCTYPE domain>" + good, "it has a document type"),
            ("b", good, "is of a, not of b"), ("a", good.replace("MiB", "moon"), "is no size"),
            ("a", good + " " * (600 << 10), "too long")):
        done = hook(node, name, "prepare", xml)
        assert done.returncode == 1 and words in done.stderr, (xml[:40], done.stderr)
    assert hook(node, "a", "somehow", good).returncode == 0  # of a newer libvirt
    assert node.show()["vms"] == []


def test_hook_without_vgpud_lets_vms_start(node):
    node.kill()
    done = hook(node, "a", "prepare", DOMAIN % ("a", 1, "", ""))
    assert done.returncode == 0 and "no vgpud answers" in done.stderr
    node.start()


def test_bad_requests(node):
    class Connection(http.client.HTTPConnection):
        def connect(self):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(30)
            self.sock.connect(node.socket)

    for body in ("", "[]", "{}", '{"on": 1}', '{"on": true, "off": true}', "{"):
        connection = Connection("vgpud")
        connection.request("POST", "/v1/node/overcommit", body)
        answer = connection.getresponse()
        assert answer.status == 400 and b"error" in answer.read(), body
    connection = Connection("vgpud")
    connection.request("POST", "/v1/node/vms", DOMAIN % ("a", 1, "", ""))
    assert connection.getresponse().status == 400
    assert node.show()["overcommit"] == "off"
