# SPDX-License-Identifier: Apache-2.0
"""`vgpuctl advise` on nodes with and without GPUs, and what it measures here."""
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile

import pytest

from control_node import ROOT, Node, until

sys.path.insert(0, os.path.join(ROOT, "tests", "lib"))
import node as node_module  # noqa: E402
from hosttree import HostTree  # noqa: E402

METHODS = {"emulate", "forward", "mediate", "passthrough"}
CRITERIA = ["performance", "fidelity", "multiplexing", "interposition", "isolation"]
GPU, ADDRESS = "gpu-03:00.0", "0000:03:00.0"


@pytest.fixture
def tree():
    folder = tempfile.mkdtemp(prefix="vgh", dir="/tmp")
    one = HostTree(folder)
    one.pci(ADDRESS, driver="amdgpu", group=7)
    one.drm(ADDRESS, "renderD128")
    yield one
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def soft():
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node("[gpu soft0]\nvram_mib = 1024\n") as one:
        yield one


def answers(advice):
    assert [a["rank"] for a in advice["answers"]] == [1, 2, 3, 4]
    found = {a["method"]: a for a in advice["answers"]}
    assert set(found) == METHODS
    for one in found.values():
        assert [c["criterion"] for c in one["criteria"]] == CRITERIA
        assert one["suitable"] == (not one["against"])
    return found


def against(answer):
    return {one["condition"] for one in answer["against"]}


def test_a_node_without_a_gpu(soft):
    advice = soft.json("advise", "--need", "density", "--need", "no-hardware", "--vms", "3")
    assert advice["needs"] == ["density", "no-hardware"] and advice["vms"] == 3
    found = answers(advice)
    assert advice["answers"][0]["suitable"] and advice["answers"][0]["gpu"] == "soft0"
    assert found["forward"]["fits"] >= 3 and found["forward"]["type"] == "soft0-256"
    assert "software" in against(found["passthrough"])
    dense = answers(soft.json("advise", "--need", "density"))["forward"]
    assert dense["type"] == "soft0-64" and dense["fits"] == 16


def test_windows_without_a_gpu_is_told_so(soft):
    found = answers(soft.json("advise", "--need", "no-hardware", "--guest", "windows"))
    assert not any(one["suitable"] for one in found.values())
    assert "no-guest-driver" in against(found["forward"])
    refused = soft.ctl("advise", "--guest", "windows", "--apply", check=False)
    assert refused.returncode == 1 and "no method suits" in refused.stderr


def test_more_than_fit(soft):
    found = answers(soft.json("advise", "--vms", "1000"))
    assert "too-few" in against(found["forward"])


@pytest.mark.parametrize("words, says", [
    (("--need", "speed"), "no need speed"), (("--vms", "0"), "no number of VMs"),
    (("--vms", "-1"), "no number of VMs"), (("--vms", "9999999999"), "no number of VMs"),
    (("--guest", "beos"), "no guest"), (("--gpu", "soft9"), "no GPU of that name"),
    (("--need", "x" * 60), "no need xxx"), (("--need", "density&vms=3"), "no need density&vms=3")])
def test_questions_that_are_none(soft, words, says):
    refused = soft.ctl("advise", *words, check=False)
    assert refused.returncode == 1 and refused.stderr.startswith("vgpuctl: advise: ")
    assert says in refused.stderr


def test_what_apply_prints_can_be_done(soft):
    lines = soft.ctl("advise", "--vms", "2", "--need", "isolation", "--apply").stdout.splitlines()
    assert [line.split()[1] for line in lines] == [
        "gpu", "gpu", "create", "libvirt", "create", "libvirt"]
    assert soft.json("list") == []
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "vgpuctl"
        if words[0] != "libvirt":
            soft.ctl(*words)
    assert {one["name"] for one in soft.json("list")} == {"vgpu1", "vgpu2"}
    for name in ("vgpu1", "vgpu2"):
        soft.ctl("delete", name)
    soft.ctl("gpu", "mode", "soft0", "any")
    soft.ctl("gpu", "policy", "soft0", "best-effort")


def test_a_gpu_whose_node_cannot(tree):
    with Node(args=("--host-root", tree.root)) as node:
        found = answers(node.json("advise", "--need", "performance"))
        assert found["passthrough"]["gpu"] == GPU
        shown = next(m for m in node.json("gpu", "show", GPU)["methods"]
                     if m["method"] == "passthrough")["findings"][0]
        said = found["passthrough"]["against"][0]
        assert (said["condition"], said["text"], said["remedy"]) == (
            shown["condition"], shown["text"], shown["remedy"])
        assert found["passthrough"]["commands"] == []
        assert "no-slices" in against(found["mediate"])
        only = answers(node.json("advise", "--gpu", "soft0"))
        assert {one["gpu"] for one in only.values()} == {"soft0"}


def test_a_gpu_that_could_be_given_away(tree):
    tree.vfio()
    with Node(args=("--host-root", tree.root)) as node:
        advice = node.json("advise", "--need", "performance", "--guest", "windows")
        found = answers(advice)
        passthrough = found["passthrough"]
        assert passthrough["gpu"] == GPU and passthrough["possible"] and passthrough["fits"] == 1
        assert against(passthrough) <= {"not-offered"}
        assert "no-guest-driver" in against(found["forward"])
        for line in node.good("advise").splitlines():
            assert len(line) <= 80, line


def left(node):
    return [one["name"] for one in node.json("list") if one["name"].startswith("advise-")]


def test_figures_are_measured_here(soft):
    done = soft.ctl("--json", "advise", "--measure", timeout=120)
    found = answers(json.loads(done.stdout))
    for method in ("forward", "emulate"):
        measured = found[method]["measured"]
        assert measured["performance"]["by"] == "vgpu-probe"
        assert 0.05 < measured["performance"]["ratio"] < 3
        offered, native = measured["fidelity"]["offered"], measured["fidelity"]["native"]
        assert offered["renderer"].startswith("virgl") and "llvmpipe" in native["renderer"].lower()
        assert 50 < offered["gl_extensions"] <= native["gl_extensions"]
        assert measured["fidelity"]["same_picture"] is True
        verbs = measured["interposition"]
        assert {name: one["works"] for name, one in verbs.items()} == dict.fromkeys(
            ("check", "snapshot", "move", "hibernate", "client"), True), verbs
    assert "not_measured" in found["passthrough"]["measured"]
    assert left(soft) == []


def processes_of(name):
    """Those whose command line names that vGPU."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if name in words:
            found.append(int(pid))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_measuring_leaves_nothing(soft, number):
    measuring = soft.spawn_ctl("advise", "--measure")
    try:
        until(lambda: left(soft), 30)
        name = left(soft)[0]
        assert name == f"advise-{measuring.pid}"
        measuring.send_signal(number)
        said = measuring.communicate(timeout=30)[1]
    finally:
        if measuring.poll() is None:
            measuring.kill()
            measuring.wait(10)
    if number == signal.SIGKILL:
        again = soft.spawn_ctl("advise", "--measure")  # the next one clears up
        until(lambda: left(soft) not in ([], [name]), 30)
        again.send_signal(signal.SIGINT)
        said = again.communicate(timeout=30)[1]
    assert "interrupted" in said, (number, said)
    until(lambda: not left(soft), 10)
    until(lambda: not processes_of(name), 10)
