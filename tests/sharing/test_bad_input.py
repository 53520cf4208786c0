# SPDX-License-Identifier: Apache-2.0
"""What must not harm a neighbour that draws: a node without memory, policies that come and go."""
import resource
import time

import pytest

from conftest import CONFIG, ConfinedNode
from test_policies import begin, cpu_s, measure


@pytest.fixture
def node(cpus):
    """Nothing is started ahead: memory that is there already is not asked for."""
    with ConfinedNode(cpus[0], "auto\nstandby = 0") as one:
        yield one


@pytest.mark.parametrize("mib", [200, 100, 8])
def test_out_of_memory_is_the_new_ones_refusal(node, scene, mib):
    """
    What a new keeper and its device process may have is what vgpud may have from now on: too
    little to draw, to find a driver, to load a program.
    """
    client, = begin(node, scene, "equal-share", {"a": "heavy"})
    was = node.vgpu("a")["pid"]
    whole = resource.prlimit(node.process.pid, resource.RLIMIT_AS)
    resource.prlimit(node.process.pid, resource.RLIMIT_AS, (mib << 20, whole[1]))
    refused = node.ctl("create", "b", "--gpu", "soft0", "--type", "light", check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("vgpuctl: create b: ") and refused.stderr.count("\n") == 1
    assert [one["name"] for one in node.json("list")] == ["a"]
    (a,) = measure(node, "a", 1)
    assert a > 0.1 and client.poll() is None and node.vgpu("a")["pid"] == was
    resource.prlimit(node.process.pid, resource.RLIMIT_AS, whole)
    node.create("b", type_name="light")


def test_policies_come_and_go_under_load(node, scene):
    """Also with what enforces them: nobody ends, and the last one counts."""
    clients = begin(node, scene, "fixed-share", {"a": "heavy", "b": "light"})
    pids = [node.vgpu(name)["pid"] for name in "ab"]
    for by in ("accounts", "auto"):
        for policy in ("equal-share", "best-effort", "fixed-share") * 4:
            node.ctl("gpu", "policy", "soft0", policy, "--slice-ms", "1")
        node.kill()
        node.config.write_text(CONFIG % by)
        node.start()
    time.sleep(0.5)
    _, b = measure(node, "ab")
    assert 0.1 < b < 0.25, b
    node.ctl("gpu", "policy", "soft0", "best-effort")
    before = [cpu_s(pid) for pid in pids]
    time.sleep(1)
    assert all(cpu_s(pid) > was for pid, was in zip(pids, before))
    assert all(client.poll() is None for client in clients)
