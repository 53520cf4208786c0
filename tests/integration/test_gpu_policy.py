# SPDX-License-Identifier: Apache-2.0
"""Policies of a GPU: what is chosen, kept, refused, and which control groups stand for it."""
import json
import os
import signal
import subprocess

import pytest

from control_node import LIMIT, Node, alive, until

HIDDEN = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"]
MIXED = """[node]
shares = groups
[gpu soft0]
mixed = yes
[type heavy]
gpu = soft0
vram_mib = 128
weight = 300
share_percent = 60
"""


def check(node, name):
    said = node.ctl("--json", "doctor").stdout  # its status tells whether any check failed
    return next(one for one in json.loads(said) if one["check"] == name)


def group(pid):
    """The control group of a process in the hierarchy that has the cpu controller."""
    with open("/proc/%d/cgroup" % pid) as f:
        lines = [line.rstrip("\n").split(":", 2) for line in f]
    first = [path for _, names, path in lines if "cpu" in names.split(",")]
    return (first or [path for _, names, path in lines if not names])[0]


def device(node, name):
    return group(node.json("show", name)["pid"])


@pytest.fixture(scope="module")
def shares():
    """What doctor, which takes its time, says about them."""
    with Node() as n:
        return check(n, "cpu-shares")


@pytest.fixture
def node(shares):
    if shares["status"] != "ok":
        pytest.skip(shares["detail"])
    with Node(MIXED) as n:
        yield n
        if not n.process:
            n.start()
        n.good("gpu", "policy", "soft0", "best-effort")
        # Or its groups would stay behind, empty, when its keepers are killed.
        until(lambda: not any(in_group(n, v["name"]) for v in n.json("list") if v["pid"]))
        n.good("list")


def in_group(node, name, gpu="soft0"):
    """Beside the GPU's group of all the others while it is light, or else in that."""
    return device(node, name).endswith(
        tuple("-%s%s/vgpu-%s" % (gpu, below, name) for below in ("", "/all")))


def test_a_policy_is_shown_and_kept(node):
    shown = node.json("gpu", "show", "soft0")
    assert (shown["policy"], shown["slice_ms"], shown["enforced_by"]) == ("best-effort", None, None)
    node.good("gpu", "policy", "soft0", "fixed-share", "--slice-ms", "5")
    shown = node.json("gpu", "list")[0]
    assert (shown["policy"], shown["slice_ms"]) == ("fixed-share", 5)
    assert shown["enforced_by"].startswith("cgroup-v")
    assert "fixed-share" in node.good("gpu", "list")
    node.kill()
    node.start()
    assert node.json("gpu", "show", "soft0")["policy"] == "fixed-share"
    node.good("gpu", "policy", "soft0", "equal-share")
    assert node.json("gpu", "show", "soft0")["slice_ms"] == 2
    heavy = next(t for t in node.json("type", "list") if t["name"] == "heavy")
    assert (heavy["weight"], heavy["share_percent"]) == (300, 60)


def test_device_processes_are_in_groups_and_keepers_are_not(node):
    before = node.create("early", "heavy")
    outside = group(before["pid"])
    node.good("gpu", "policy", "soft0", "equal-share")
    until(lambda: in_group(node, "early"))
    node.create("late")  # one whose first process is there from its beginning
    assert in_group(node, "late")
    for name in ("early", "late"):
        assert group(node.json("show", name)["keeper_pid"]) == outside
    node.good("gpu", "policy", "soft0", "best-effort")
    until(lambda: device(node, "early") == outside and device(node, "late") == outside)
    assert node.json("show", "early")["pid"] == before["pid"]


def test_who_uses_little_is_beside_the_group_of_all_others(node):
    def is_light(name):
        return in_group(node, name) and not device(node, name).endswith("/all/vgpu-" + name)

    node.create("alone", "heavy")
    node.good("gpu", "policy", "soft0", "equal-share")
    node.create("other")
    until(lambda: is_light("alone") and is_light("other"))
    # A vgpud that finds it there knows nothing of what it used, and begins anew.
    node.kill()
    node.start()
    until(lambda: in_group(node, "alone") and not is_light("alone"))
    until(lambda: is_light("alone") and is_light("other"))
    node.good("delete", "other")
    node.good("gpu", "policy", "soft0", "best-effort")
    until(lambda: not in_group(node, "alone"))


def test_a_successor_is_in_the_group_without_vgpud(node):
    """The keeper starts it, so nothing depends on whether vgpud is there."""
    node.create("a")
    node.good("gpu", "policy", "soft0", "equal-share")
    until(lambda: in_group(node, "a"))
    was = node.json("show", "a")
    node.kill()
    os.kill(was["pid"], signal.SIGKILL)
    until(lambda: not alive(was["pid"]))
    with node.connect("a"):  # which starts a new one
        node.start()
        until(lambda: node.json("show", "a")["pid"] not in (None, was["pid"]))
        assert in_group(node, "a")


def test_a_deleted_one_leaves_no_group(node):
    node.good("gpu", "policy", "soft0", "fixed-share")
    path = "/sys/fs/cgroup/cpu" + device(node, node.create("a")["name"])
    if not os.path.isdir(path):
        pytest.skip("this node has its cpu controller elsewhere")
    node.good("delete", "a")
    until(lambda: not os.path.exists(path))


def test_a_light_one_has_its_share_at_most(node):
    """It goes before all others, and nobody looks whether it still is light while vgpud is away."""
    for name in ("a", "b"):
        node.create(name)
    node.good("gpu", "policy", "soft0", "equal-share")
    until(lambda: in_group(node, "a"))
    gpu = "/sys/fs/cgroup/cpu" + device(node, "a").rsplit("/vgpu-a")[0].removesuffix("/all")
    if not os.path.isdir(gpu):
        pytest.skip("this node has its cpu controller elsewhere")

    def limit(below):
        numbers = []
        for name in ("quota", "period"):
            with open("%s%s/vgpu-a/cpu.cfs_%s_us" % (gpu, below, name)) as file:
                numbers.append(int(file.read()))
        return numbers[0] / numbers[1]
    assert limit("/all") < 0  # what others leave is its, too
    assert limit("") == pytest.approx(len(os.sched_getaffinity(0)) / 2, rel=0.01)


def test_all_others_give_way_in_fixed_share(node):
    """While somebody is light: they want the CPU only now and then there, and then their turn would
    be protected."""
    for name in ("a", "b"):
        node.create(name)
    node.good("gpu", "policy", "soft0", "fixed-share")
    until(lambda: in_group(node, "a"))
    gpu = "/sys/fs/cgroup/cpu" + device(node, "a").rsplit("/vgpu-a")[0].removesuffix("/all")
    if not os.path.exists(gpu + "/all/cpu.idle"):
        pytest.skip("this node has its cpu controller elsewhere, or a kernel before 5.15")
    if tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 15):
        pytest.skip("a kernel before 6.15")

    def read(file):
        with open(f"{gpu}/all/{file}") as text:
            return int(text.read())
    until(lambda: read("cpu.idle") == 1)
    node.create("c")  # while it gives way its weight cannot be set
    assert read("cpu.idle") == 1
    node.kill()
    node.start()
    until(lambda: read("cpu.idle") == 1)
    node.good("gpu", "policy", "soft0", "equal-share")
    until(lambda: read("cpu.idle") == 0)
    assert read("cpu.shares") == 1024
    node.good("gpu", "policy", "soft0", "fixed-share")
    until(lambda: read("cpu.idle") == 1)
    for name in ("b", "c"):
        node.good("delete", name)
    until(lambda: read("cpu.idle") == 0)  # nobody is left to give way to


@pytest.mark.parametrize("args, says", [
    (("soft0", "fair"), "'fair' does not exist"),
    (("soft0", "equal-share", "--slice-ms", "0"), "out of range"),
    (("soft0", "equal-share", "--slice-ms", "31"), "out of range"),
    (("soft0", "equal-share", "--slice-ms", "2147483647"), "out of range"),
    (("gpu9", "equal-share"), "no GPU"),
])
def test_refusals(node, args, says):
    assert says in node.refused("gpu", "policy", *args)
    assert node.json("gpu", "show", "soft0")["policy"] == "best-effort"


@pytest.mark.parametrize("args", [(), ("soft0",), ("soft0", "equal-share", "x"),
                                  ("soft0", "equal-share", "--slice-ms", "-1"),
                                  ("soft0", "equal-share", "--slice-ms", "2ms")])
def test_wrong_usage(node, args):
    assert node.ctl("gpu", "policy", *args).returncode == 2


@pytest.mark.parametrize("line", ["weight = 0", "weight = 10001", "share_percent = 0",
                                  "share_percent = 101"])
def test_weights_out_of_range(line):
    node = Node("[type t]\ngpu = soft0\nvram_mib = 64\n%s\n" % line)
    try:
        done = subprocess.run(node.command(), capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 1 and line in done.stderr and "range" in done.stderr
    finally:
        node.close()


def test_without_groups_there_are_accounts():
    if os.geteuid() != 0:
        pytest.skip("hiding the control groups of this node needs root")
    with Node(prefix=HIDDEN) as node:
        node.good("gpu", "policy", "soft0", "equal-share")
        assert node.json("gpu", "show", "soft0")["enforced_by"] == "accounts"
        said = check(node, "cpu-shares")
        assert said["status"] == "warn" and "accounts" in said["detail"]
        assert "Delegate=cpu" in said["advice"]


def test_without_the_groups_it_wants_only_best_effort_can_be_had():
    if os.geteuid() != 0:
        pytest.skip("hiding the control groups of this node needs root")
    with Node("[node]\nshares = groups\n", prefix=HIDDEN) as node:
        line = node.refused("gpu", "policy", "soft0", "equal-share")
        assert "cannot be enforced" in line and "Delegate=cpu" in line
        assert check(node, "cpu-shares")["status"] == "warn"
        node.good("gpu", "policy", "soft0", "best-effort")


def test_a_policy_that_cannot_be_enforced_any_more_is_told(node):
    if os.geteuid() != 0:
        pytest.skip("hiding the control groups of this node needs root")
    node.create("a")
    node.good("gpu", "policy", "soft0", "equal-share")
    node.kill()
    node.prefix = HIDDEN
    node.start()
    shown = node.json("gpu", "show", "soft0")
    assert (shown["policy"], shown["enforced_by"]) == ("equal-share", None)
    assert check(node, "policy")["status"] == "fail"
    assert "not as chosen" in node.log()
    node.kill()
    node.prefix = []
    node.start()
    until(lambda: node.json("gpu", "show", "soft0")["enforced_by"])
