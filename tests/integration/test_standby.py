# SPDX-License-Identifier: Apache-2.0
"""Stand-bys: a vGPU starts from one, or without; none outlives its vgpud."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from control_node import BIN, FAKE, LIMIT, ROOT, Node, alive, until

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from hosttree import HostTree  # noqa: E402

PCI = "gpu-03:00.0"
DEVICE = os.path.join(BIN, "vgpu-device")


def gpu(node, name="soft0"):
    return node.json("gpu", "show", name)


def ready(node, count=1):
    until(lambda: gpu(node)["standby_ready"] == count)


def standbys(node):
    """Pids of keepers that wait, and of those that did, told by this node's state folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"vgpu-keeper") and b"--standby" in words and any(
                word.startswith(node.state_dir.encode()) for word in words):
            found.append(int(pid))
    return sorted(found)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(word) for word in f.read().split()]


def answers(node, name):
    with node.connect(name) as client:
        client.sendall(b"hello")
        return client.recv(16) == b"hello"


@pytest.fixture
def one():
    with Node(standby=1) as node:
        ready(node)
        yield node


def test_a_vgpu_starts_from_one_and_another_takes_its_place(one):
    waiting = standbys(one)
    show = one.create("a")
    assert [show["keeper_pid"]] == waiting
    assert [show["pid"]] == children(waiting[0])
    assert answers(one, "a")
    with open(one.path("a", "keeper.log")) as log:
        text = log.read()
    assert "is ready: fake" in text and "this stand-by is a from now on" in text, text
    ready(one)
    assert gpu(one)["standby_used"] == 1 and gpu(one)["standby_missing"] == 0
    assert len(standbys(one)) == 2
    one.good("delete", "a")
    assert not os.path.exists(os.path.dirname(one.path("a", "x")))
    until(lambda: not alive(waiting[0]))


def test_the_sockets_and_the_lock_are_as_those_of_others(one):
    one.create("a")
    for name, mode in (("vtest.sock", 0o660), ("vhost-user.sock", 0o660), ("keeper.sock", 0o600)):
        assert os.stat(one.path("a", name)).st_mode & 0o777 == mode
    one.kill()
    one.start()
    until(lambda: one.state("a") == "ready")  # found again, not started anew
    assert one.json("show", "a")["keeper_pid"] in standbys(one)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_those_that_wait_end_with_vgpud(one, how):
    one.create("a")
    kept = one.json("show", "a")["keeper_pid"]
    ready(one)
    waiting = [pid for pid in standbys(one) if pid != kept]
    processes = waiting + [pid for keeper in waiting for pid in children(keeper)]
    assert len(processes) == 2
    one.kill(how)
    until(lambda: not any(alive(pid) for pid in processes))
    assert alive(kept)
    one.start()
    ready(one)
    assert answers(one, "a") and len(standbys(one)) == 2


@pytest.mark.parametrize("who", ["keeper", "device"])
def test_one_that_dies_is_told_and_a_vgpu_starts_without(one, who):
    keeper = standbys(one)[0]
    os.kill(keeper if who == "keeper" else children(keeper)[0], signal.SIGKILL)
    until(lambda: gpu(one)["standby_ready"] == 0)
    until(lambda: not alive(keeper))
    one.create("a")
    assert answers(one, "a")
    assert gpu(one)["standby_missing"] == 1 and gpu(one)["standby_used"] == 0
    told = [event["text"] for event in one.json("events") if "no stand-by" in event["text"]]
    assert len(told) == 1 and "soft0" in told[0], told
    until(lambda: gpu(one)["standby_ready"] == 1, 20)  # it is tried again


def test_one_that_dies_when_it_is_given_a_vgpu(one):
    keeper = standbys(one)[0]
    os.kill(keeper, signal.SIGSTOP)
    done = []
    creation = threading.Thread(target=lambda: done.append(one.create("a")))
    creation.start()
    until(lambda: gpu(one)["standby_used"] == 1)
    os.kill(keeper, signal.SIGKILL)
    creation.join(20)
    assert done and done[0]["state"] == "ready" and done[0]["keeper_pid"] != keeper
    assert answers(one, "a")


def test_a_creation_whose_stand_by_died_still_ends(one):
    """Its patience is one, whichever keeper it waits for."""
    keeper = standbys(one)[0]
    os.kill(keeper, signal.SIGSTOP)
    done = []
    words = ("create", "a", "--gpu", "soft0", "--type", "soft0-128")
    creation = threading.Thread(target=lambda: done.append(one.ctl(*words)))
    creation.start()
    until(lambda: gpu(one)["standby_used"] == 1)
    one.script("late 3")
    os.kill(keeper, signal.SIGKILL)
    second = until(lambda: [pid for pid in one.processes() if pid != keeper and alive(pid)
                            and pid not in standbys(one)])[0]
    os.kill(second, signal.SIGSTOP)
    creation.join(27)
    assert done and done[0].returncode == 1, "nobody told it that nothing comes"
    assert "not ready in time" in done[0].stderr
    until(lambda: not alive(second), 15)
    assert one.json("list") == []


@pytest.fixture
def hardware():
    """A node with a GPU on PCI, and no stand-by of its software GPU in the way."""
    folder = tempfile.mkdtemp(prefix="vgh", dir="/tmp")
    tree = HostTree(folder)
    tree.pci("0000:03:00.0", driver="amdgpu", group=7)
    tree.drm("0000:03:00.0", "renderD128")
    config = "rescan_s = 1\n[gpu soft0]\nstandby = 0\n"
    with Node(config, args=("--host-root", tree.root), standby=1) as node:
        node.tree = tree
        yield node
    shutil.rmtree(folder)


def of_hardware(node, name):
    node.good("create", name, "--gpu", PCI, "--type", PCI + "-64")
    until(lambda: gpu(node, PCI)["standby_ready"] == 1)
    mine = [one["keeper_pid"] for one in node.json("list")]
    return next(pid for pid in standbys(node) if pid not in mine)


def test_none_holds_a_gpu_that_carries_nothing(hardware):
    """It would be in the way of whoever takes the GPU from its driver."""
    waiting = of_hardware(hardware, "a")
    hardware.good("create", "b", "--gpu", PCI, "--type", PCI + "-64")
    hardware.good("delete", "a")
    time.sleep(0.2)
    assert gpu(hardware, PCI)["standby_used"] >= 1
    until(lambda: gpu(hardware, PCI)["standby_ready"] == 1)
    waiting = standbys(hardware)
    hardware.good("delete", "b")
    until(lambda: not any(alive(pid) for pid in waiting))
    assert gpu(hardware, PCI)["standby_ready"] == 0
    hardware.good("gpu", "mode", PCI, "passthrough")
    time.sleep(0.3)
    assert not standbys(hardware)
    hardware.good("gpu", "mode", PCI, "any")
    of_hardware(hardware, "c")  # and with the next vGPU there is one again


def test_none_holds_a_gpu_that_is_gone(hardware):
    waiting = of_hardware(hardware, "a")
    hardware.tree.unplug("0000:03:00.0")
    until(lambda: not alive(waiting))


def test_a_limit_of_frames_can_be_told_late():
    """Types with max_fps start from one, too."""
    limited = "[gpu soft0]\nmixed = yes\n[type slow]\ngpu = soft0\nvram_mib = 128\nmax_fps = 20\n"
    with Node(limited, standby=1) as node:
        ready(node)
        node.create("a", "slow")
        assert gpu(node)["standby_used"] == 1 and gpu(node)["standby_missing"] == 0
        ready(node)
        node.create("b")
        assert gpu(node)["standby_used"] == 2
        with open(f"/proc/{node.json('show', 'a')['pid']}/cmdline", "rb") as f:
            assert b"--max-fps" in f.read().split(b"\0")


def test_one_that_is_still_starting_is_taken_too(one):
    one.script("late 2")
    first = one.create("a")["keeper_pid"]
    until(lambda: len(standbys(one)) == 2)
    second = next(pid for pid in standbys(one) if pid != first)
    assert gpu(one)["standby_ready"] == 0
    assert one.create("b")["keeper_pid"] == second  # waits for the rest of its start
    assert gpu(one)["standby_used"] == 2 and gpu(one)["standby_missing"] == 0
    assert answers(one, "b")


def test_so_many_as_configured():
    with Node("standby = 3\n[gpu soft0]\nstandby = 2\n", standby=0) as node:
        ready(node, 2)
        time.sleep(0.3)
        assert len(standbys(node)) == 2 and gpu(node)["standby"] == 2
        with open(node.config, "w") as f:
            f.write("[node]\nsoft_vram_mib = 1024\ngroup =\nstandby = 0\ndevice = %s\n" %
                    FAKE)
        node.kill(signal.SIGTERM)
        until(lambda: not standbys(node))
        node.start()
        time.sleep(0.3)
        assert not standbys(node) and gpu(node)["standby"] == 0


@pytest.mark.parametrize("wrong", ["standby = 17", "standby = -1", "standby = some",
                                   "min_free_mib = -1"])
def test_a_wrong_count_is_refused(wrong):
    node = Node(wrong + "\n")
    try:
        done = subprocess.run(node.command(), env=node.env, capture_output=True, text=True,
                              timeout=LIMIT)
        assert done.returncode == 1 and wrong in done.stderr and "vgpud.conf" in done.stderr
    finally:
        node.close()


def test_who_comes_last_is_refused_when_memory_is_short():
    with Node() as node:
        node.create("a")
        with open(node.config, "a") as f:
            f.write("[node]\nmin_free_mib = 16000000\nstandby = 1\n")
        node.kill()
        node.start()
        line = node.refused("create", "b", "--gpu", "soft0", "--type", "soft0-128")
        assert "MiB of memory left" in line and "min_free_mib" in line, line
        assert answers(node, "a")
        assert [one["name"] for one in node.json("list")] == ["a"]
        assert gpu(node)["standby_ready"] == 0


@pytest.mark.skipif(not os.path.exists(DEVICE), reason="this build has no vgpu-device")
def test_a_real_one_is_what_its_type_says():
    types = "[type two]\ngpu = soft0\nvram_mib = 96\nheads = 2\nmax_width = 800\nmax_height = 640\n"
    with Node("[gpu soft0]\nmixed = yes\n" + types, device=DEVICE, standby=1) as node:
        until(lambda: gpu(node)["standby_ready"] == 1, 30)
        node.create("a", "two")
        try:
            assert gpu(node)["standby_used"] == 1
            limit = until(lambda: node.json("stats", "a")["vram_limit_bytes"])
            assert limit == 96 << 20
            pid = node.json("show", "a")["pid"]
            os.kill(pid, signal.SIGKILL)  # the next one has it from its command line
            until(lambda: node.state("a") == "failed")
            node.connect("a").close()
            until(lambda: node.state("a") == "ready", 20)
            now = node.json("show", "a")["pid"]
            assert now != pid
            with open(f"/proc/{now}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
            assert words[words.index(b"--vram-mib") + 1] == b"96"
            assert words[words.index(b"--heads") + 1] == b"2" and b"--standby" not in words
        finally:
            node.good("delete", "a", "--force")
