# SPDX-License-Identifier: Apache-2.0
"""Device processes that are stopped by force: who goes on, and when."""
import json
import time

import pytest

from conftest import CONFIG, ConfinedNode
from test_policies import begin, cpu_s, family, measure

LIMIT_S = 10


@pytest.fixture
def node(cpus):
    with ConfinedNode(cpus[0], "accounts") as one:
        yield one


def is_stopped(pid):
    """The process that draws: a device process' monitor has it as its only child."""
    with open(f"/proc/{family(pid)[-1]}/stat") as f:
        return f.read().rpartition(")")[2].split()[0] == "T"


def until(true):
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_what_is_shown(node):
    node.ctl("gpu", "policy", "soft0", "equal-share", "--slice-ms", "3")
    shown = node.json("gpu", "show", "soft0")
    assert (shown["policy"], shown["slice_ms"], shown["enforced_by"]) == (
        "equal-share", 3, "accounts")
    said = json.loads(node.ctl("--json", "doctor", check=False).stdout)
    check = next(one for one in said if one["check"] == "cpu-shares")
    assert check["status"] == "ok" and "accounts" in check["detail"]
    node.kill()
    node.start()
    assert node.json("gpu", "show", "soft0")["policy"] == "equal-share"


def test_nothing_stays_stopped_without_vgpud(node, scene):
    client, = begin(node, scene, "fixed-share", {"b": "light"})
    pid = node.vgpu("b")["pid"]
    until(lambda: is_stopped(pid))
    node.kill()
    until(lambda: not is_stopped(pid))
    time.sleep(0.2)
    before = cpu_s(pid)
    for _ in range(100):
        assert not is_stopped(pid)
        time.sleep(0.005)
    assert cpu_s(pid) - before > 0.1 and client.poll() is None
    node.start()
    until(lambda: is_stopped(pid))  # and it goes on where it was
    assert node.vgpu("b")["pid"] == pid


def test_what_it_was_held_is_counted(node, scene):
    begin(node, scene, "fixed-share", {"b": "light"})
    measure(node, "b", 2)
    held = [one for one in node.json("stats") if one["name"] == "b"][0]["held_time_ns_total"]
    assert 0.3e9 < held < 10e9  # a busy node leaves it less to be held for
    node.create("idle", type_name="light")
    held = [one for one in node.json("stats") if one["name"] == "idle"][0]["held_time_ns_total"]
    assert held == 0


def test_deleted_while_held(node, scene):
    client, = begin(node, scene, "fixed-share", {"b": "light"})
    pid = node.vgpu("b")["pid"]
    until(lambda: is_stopped(pid))
    begun = time.monotonic()
    node.ctl("delete", "b", "--force")
    assert time.monotonic() - begun < 5
    client.wait(20)
    assert node.json("list") == []


def test_moved_and_killed_while_held(node, scene):
    """Neither a successor after a move nor one after a crash is confused by holds."""
    client, = begin(node, scene, "fixed-share", {"b": "light"})
    for moves in (1, 2):
        was = node.vgpu("b")["pid"]
        until(lambda: is_stopped(node.vgpu("b")["pid"]))
        node.ctl("move", "b", "--gpu", "soft0")
        assert node.vgpu("b")["pid"] != was
    node.ctl("snapshot", "b", node.dir / "b.snapshot")
    (b,) = measure(node, "b")
    assert 0.1 < b < 0.22, b
    assert client.poll() is None


def test_best_effort_lets_it_go(node, scene):
    begin(node, scene, "fixed-share", {"b": "light"})
    pid = node.vgpu("b")["pid"]
    until(lambda: is_stopped(pid))
    node.ctl("gpu", "policy", "soft0", "best-effort")
    (b,) = measure(node, "b")
    assert b > 0.3, b


def test_from_groups_to_accounts(node, scene, cpus, shares):
    """Another config after a restart: nobody is left in a group that limits it."""
    if shares["status"] != "ok":
        pytest.skip(shares["detail"])
    node.kill()
    node.config.write_text(CONFIG % "groups")
    node.start()
    begin(node, scene, "fixed-share", {"b": "light"})
    node.kill()
    node.config.write_text(CONFIG % "accounts")
    node.start()
    assert node.json("gpu", "show", "soft0")["enforced_by"] == "accounts"
    node.ctl("gpu", "policy", "soft0", "best-effort")
    (b,) = measure(node, "b")
    assert b > 0.3, b
