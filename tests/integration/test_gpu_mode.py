# SPDX-License-Identifier: Apache-2.0
"""Rules 1 to 3 through vgpud: which method a GPU is kept for, what it refuses then, and what is
said of it. The table itself is tests/unit/control/test_rules.c."""
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile

import pytest

from control_node import BIN, ROOT, Node, until

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
from hosttree import HostTree  # noqa: E402

GPU, TYPE, ADDRESS = "gpu-03:00.0", "gpu-03:00.0-128", "0000:03:00.0"
RULE_3 = "by rule 3 a GPU"


@pytest.fixture
def tree():
    folder = tempfile.mkdtemp(prefix="vgh", dir="/tmp")
    tree = HostTree(folder)
    tree.pci(ADDRESS, driver="amdgpu", group=7)
    tree.drm(ADDRESS, "renderD128")
    tree.vfio()
    yield tree
    shutil.rmtree(folder)


@pytest.fixture
def node(tree):
    with Node("rescan_s = 1\n", args=("--host-root", tree.root)) as n:
        yield n


def gpu(node, name="soft0"):
    return node.json("gpu", "show", name)


def create(node, name, *words, on=GPU, type_name=TYPE):
    return ("create", name, "--gpu", on, "--type", type_name) + words


def test_any_is_what_a_gpu_is_kept_for_at_first(node):
    for shown in (gpu(node), gpu(node, GPU)):
        assert (shown["mode"], shown["state"], shown["method"], shown["left_by"]) == (
            "any", "free", None, None)
    node.good(*create(node, "a"))
    shown = gpu(node, GPU)
    assert (shown["mode"], shown["state"], shown["method"], shown["type"]) == (
        "any", "shared", "forward", TYPE)
    assert "MODE" in node.good("gpu", "list")


def test_a_mode_is_shown_told_and_kept(node):
    node.good("gpu", "mode", GPU, "passthrough")
    node.good("gpu", "policy", "soft0", "fixed-share", "--slice-ms", "5")
    node.good("gpu", "mode", "soft0", "emulate")
    assert json.loads(node.good("--json", "gpu", "mode", GPU, "forward"))["mode"] == "forward"
    node.kill()
    node.start()
    assert gpu(node, GPU)["mode"] == "forward"
    shown = gpu(node)
    assert (shown["mode"], shown["policy"], shown["slice_ms"]) == ("emulate", "fixed-share", 5)
    node.good("gpu", "mode", "soft0", "any")
    node.good("gpu", "policy", "soft0", "best-effort")
    node.kill()
    node.start()
    assert gpu(node)["mode"] == "any"
    assert GPU in node.good("gpu", "list")


def test_a_gpu_that_comes_back_is_kept_for_the_same(node, tree):
    node.good("gpu", "mode", GPU, "passthrough")
    tree.unplug(ADDRESS)
    until(lambda: GPU not in [g["name"] for g in node.json("gpu", "list")])
    node.kill()
    node.start()  # which has never seen it
    tree.pci(ADDRESS, driver="amdgpu", group=7)
    tree.drm(ADDRESS, "renderD128")
    until(lambda: GPU in [g["name"] for g in node.json("gpu", "list")])
    assert gpu(node, GPU)["mode"] == "passthrough"


def test_what_it_is_kept_for_is_the_method_of_what_comes(node):
    node.good("gpu", "mode", "soft0", "emulate")
    assert node.create("a")["method"] == "emulate"
    assert "kept for emulate" in node.refused(
        *create(node, "b", "--method", "forward", on="soft0", type_name="soft0-128"))
    node.good("delete", "a")
    node.good("gpu", "mode", "soft0", "any")
    assert node.create("a")["method"] == "forward"


def test_rule_3_keeps_vgpus_from_a_gpu_kept_for_passthrough(node):
    node.good("gpu", "mode", GPU, "passthrough")
    line = node.refused(*create(node, "a", "--method", "forward"))
    assert RULE_3 in line and "kept for passthrough" in line
    assert "`vgpuctl gpu mode %s any`" % GPU in line
    node.create("a")  # elsewhere
    assert RULE_3 in node.refused("move", "a", "--gpu", GPU)
    node.good("gpu", "mode", GPU, "any")
    node.good("move", "a", "--gpu", GPU)
    assert gpu(node, GPU)["vgpus"] == 1


def test_what_gpu_show_says_is_what_happens(node):
    node.good("gpu", "mode", GPU, "passthrough")
    shown = {m["method"]: m for m in gpu(node, GPU)["methods"]}
    assert shown["passthrough"]["possible"] and not shown["forward"]["possible"]
    why = next(f for f in shown["forward"]["findings"] if f["condition"] == "kept-for-other")
    assert why["remedy"] == "vgpuctl gpu mode %s any" % GPU
    assert "kept for passthrough" in node.good("gpu", "show", GPU)


def test_rule_3_keeps_a_gpu_with_vgpus_from_passthrough(node):
    node.good("gpu", "mode", GPU, "forward")
    line = node.refused(*create(node, "p", "--method", "passthrough"))
    assert RULE_3 in line and "kept for vGPUs of method forward" in line
    node.good("gpu", "mode", GPU, "any")
    node.good(*create(node, "a"))
    node.good(*create(node, "b"))
    for words in (create(node, "p", "--method", "passthrough"), ("gpu", "mode", GPU, "passthrough")):
        line = node.refused(*words)
        assert RULE_3 in line and "carries a, b of method forward" in line and "delete them" in line
    node.good("delete", "a")
    node.good("delete", "b")
    node.good("gpu", "mode", GPU, "passthrough")
    assert gpu(node, GPU)["state"] == "free"


def test_a_mode_is_refused_while_others_are_there(node):
    node.create("a")
    line = node.refused("gpu", "mode", "soft0", "emulate")
    assert "by rule 2" in line and "carries a of method forward" in line
    node.good("gpu", "mode", "soft0", "forward")  # what it is in any case
    node.good("gpu", "mode", "soft0", "any")


def test_of_several_methods_those_in_the_way_are_named(tree):
    with Node("[gpu soft0]\nmixed = yes\n", args=("--host-root", tree.root)) as node:
        node.create("f")
        node.good(*create(node, "e", "--method", "emulate", on="soft0", type_name="soft0-64"))
        shown = gpu(node)
        assert (shown["state"], shown["method"], shown["type"]) == ("shared", None, None)
        line = node.refused("gpu", "mode", "soft0", "forward")
        assert "carries e of method emulate" in line and "carries f" not in line


@pytest.mark.parametrize("args, says", [
    (("gpu9", "any"), "no GPU"),
    (("soft0", "fast"), "mode 'fast' does not exist"),
    (("soft0", ""), "does not exist"),
    (("soft0", "passthrough"), "the whole of a device"),
    (("soft0", "mediate"), "no slices"),
    ((GPU, "emulate"), "draws in software"),
])
def test_refusals(node, args, says):
    assert says in node.refused("gpu", "mode", *args)
    assert gpu(node)["mode"] == "any" and gpu(node, GPU)["mode"] == "any"


@pytest.mark.parametrize("args", [(), ("soft0",), ("soft0", "any", "x")])
def test_wrong_usage(node, args):
    assert node.ctl("gpu", "mode", *args).returncode == 2


def test_help_says_the_modes(node):
    said = node.good("gpu", "mode", "--help")
    assert "any|emulate|forward|mediate|passthrough" in said
    assert "gpu mode" in node.good("--help")


def test_what_is_held_is_not_deleted(node):
    node.create("a")
    with node.connect("a", "vhost-user.sock"):
        until(lambda: node.state("a") == "bound")
        assert "held by" in node.refused("delete", "a")
        node.good("delete", "a", "--force")


def test_a_mode_that_no_vgpud_wrote(node):
    node.good("gpu", "mode", "soft0", "emulate")
    node.kill()
    with sqlite3.connect(os.path.join(node.state_dir, "vgpud.db")) as db:
        db.execute("UPDATE gpus SET mode = 'magic'")
    db.close()
    node.start()
    assert gpu(node)["mode"] == "any"
    assert "a mode for it that no vgpud wrote" in node.log()


def test_a_database_from_before_there_were_modes(node):
    node.good("gpu", "policy", "soft0", "equal-share")
    node.create("a")
    node.kill()
    with sqlite3.connect(os.path.join(node.state_dir, "vgpud.db")) as db:
        db.execute("ALTER TABLE gpus DROP COLUMN mode")
        db.execute("ALTER TABLE gpus DROP COLUMN left_by")
        db.execute("PRAGMA user_version = 4")
    db.close()
    node.start()
    shown = gpu(node)
    assert (shown["mode"], shown["policy"], shown["vgpus"]) == ("any", "equal-share", 1)
    node.good("gpu", "mode", "soft0", "forward")


def ask_as_libvirt(node, domain):
    """What the helper says, that libvirt starts for a domain's vhost-user device."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return subprocess.run(
            [os.path.join(BIN, "vgpu-libvirt-helper"), "--fd=%d" % theirs.fileno(), "--domain", domain],
            pass_fds=[theirs.fileno()], env=node.env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=30)


@pytest.mark.parametrize("mode", ["passthrough", "mediate"])
def test_a_libvirt_domain_is_never_given_hardware(tree, mode):
    """A new one's vGPU is made by the helper; it asked for a vhost-user device and for no GPU."""
    with Node("rescan_s = 1\n[libvirt]\ngpu = %s\n" % GPU, args=("--host-root", tree.root)) as node:
        node.good("gpu", "mode", GPU, mode)
        done = ask_as_libvirt(node, "web")
        assert done.returncode == 1 and "is kept for " + mode in done.stderr, done.stderr
        assert node.json("list") == [] and node.json("gpu", "show", GPU)["state"] == "free"
