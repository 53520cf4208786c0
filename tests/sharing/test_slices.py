# SPDX-License-Identifier: Apache-2.0
"""Time slices, on a software GPU that is declared to be shared as render nodes are.

One vGPU draws at a time here, so shares show in what its device process uses of its CPU. The bounds
are wide, as in test_policies.py: other processes run on this node too.
"""
import os
import subprocess
import time

import pytest
from conftest import SCENE, ConfinedNode, cache
from test_policies import cpu_s, measure
from without_vgpud import no_guest_waits

CLIENT_S, WARM_UP_S = 14, 1.5
ROGUE = cache.BUILD / "tests" / "sharing" / "vgpu-device-rogue"

CONFIG = """[node]
soft_vram_mib = 2048
group =
soft_gpus = 2
{node}
[gpu soft0]
mixed = yes
sharing = slices
[gpu soft1]
mixed = yes
sharing = slices
[type heavy]
gpu = soft0
vram_mib = 128
weight = 300
share_percent = 60
[type light]
gpu = soft0
vram_mib = 128
weight = 100
share_percent = 20
[type slow]
gpu = soft0
vram_mib = 128
max_fps = 30
[type soft1-128]
gpu = soft1
vram_mib = 128
max_fps = 20
"""


class SlicedNode(ConfinedNode):
    def __init__(self, cpu, node=""):
        super().__init__(cpu, "auto")
        self.config.write_text(CONFIG.format(node=node))


@pytest.fixture
def node(cpus):
    with SlicedNode(cpus[0]) as one:
        yield one


@pytest.fixture
def rogue_node(cpus):
    if not ROGUE.is_file():
        pytest.skip("not built: vgpu-device-rogue")
    with SlicedNode(cpus[0], f"device = {ROGUE}") as one:
        yield one


def draw(node, cpus, name, seconds=CLIENT_S, clients=2):
    """So many clients of one binding: while one thinks, the other has work for the device."""
    one = f"{SCENE} --offscreen --variant torus --mode 1024x768 --seconds {seconds} 2>/dev/null & "
    return node.spawn(name, ["taskset", "-c", str(cpus[1]), "sh", "-c", one * clients + "wait"],
                      stdout=subprocess.PIPE)


@pytest.fixture
def begin(cpus):
    clients = []

    def start(node, policy, types, **options):
        for name, type_name in types.items():
            node.create(name, type_name=type_name)
        if policy:
            node.ctl("gpu", "policy", "soft0", policy)
        clients.extend(draw(node, cpus, name, **options) for name in types)
        time.sleep(WARM_UP_S)
        return clients

    yield start
    for client in clients:
        client.terminate()
        client.wait(20)


def frames(node, name):
    stats = node.json("stats", name)
    return (stats[0] if isinstance(stats, list) else stats)["frames_total"]


def test_equal(node, begin):
    begin(node, "equal-share", {"a": "light", "b": "light"})
    assert node.json("gpu", "show", "soft0")["enforced_by"] == "slices"
    a, b = measure(node, "ab")
    assert 0.8 < a / b < 1.25, (a, b)


def test_by_weight(node, begin):
    begin(node, "equal-share", {"a": "heavy", "b": "light"})
    a, b = measure(node, "ab")
    assert 1.5 < a / b < 4.5, (a, b)
    node.ctl("gpu", "policy", "soft0", "best-effort")
    a, b = measure(node, "ab")
    assert 0.6 < a / b < 1.6, (a, b)


def test_fixed(node, begin):
    begin(node, "fixed-share", {"a": "heavy", "b": "light"})
    a, b = measure(node, "ab")
    assert b < 0.24 and 2 < a / b < 4.5, (a, b)


def test_idle_time_is_given_on(node, begin):
    clients = begin(node, "equal-share", {"a": "heavy", "b": "light"})
    (beside,) = measure(node, "b", 2)
    clients[0].terminate()
    clients[0].wait(20)
    time.sleep(0.5)
    (alone,) = measure(node, "b")
    assert alone > 1.5 * beside, (alone, beside)


def test_one_that_ignores_its_slices(rogue_node, begin):
    """It is stopped but for its own slices; with nobody who stops it, it has more than its part."""
    node = rogue_node
    begin(node, "equal-share", {"rogue": "light", "b": "light"})
    rogue, b = measure(node, ("rogue", "b"))
    assert rogue < 1.35 * b, (rogue, b)
    node.ctl("gpu", "policy", "soft0", "fixed-share")
    time.sleep(0.5)
    (rogue,) = measure(node, ("rogue",))
    assert rogue < 0.3, rogue


def test_deleted_in_its_slice(node, begin):
    clients = begin(node, "equal-share", {"a": "heavy", "b": "light"})
    (beside,) = measure(node, "b", 2)
    node.ctl("delete", "a", "--force")
    clients[0].wait(20)
    (alone,) = measure(node, "b")
    assert alone > 1.5 * beside, (alone, beside)
    assert clients[1].poll() is None


def test_a_successor_has_the_same_share(node, begin):
    """A new device process waits for its slices from the moment that it serves, without vgpud."""
    begin(node, "fixed-share", {"b": "light"})
    was = node.vgpu("b")["pid"]
    os.kill(was, 9)
    time.sleep(3)
    assert node.vgpu("b")["pid"] not in (None, was)
    (b,) = measure(node, "b")
    assert 0.05 < b < 0.24, b


def test_moved_under_slices(node, begin):
    """To another process and back again: its clients draw on, its share is the same."""
    clients = begin(node, "fixed-share", {"a": "heavy", "b": "light"})
    for _ in range(2):
        node.ctl("move", "b", "--gpu", "soft0")
    a, b = measure(node, "ab")
    assert b < 0.24 and 2 < a / b < 4.5, (a, b)
    assert all(client.poll() is None for client in clients)


def test_no_guest_waits_for_vgpud(node, begin):
    """vgpud is killed and restarted while one draws and another submits a little all the time."""
    node.create("b", type_name="light")
    begin(node, "equal-share", {"a": "light"})
    no_guest_waits(node, "b", "submit", 50)


def rate(node, name, seconds=3):
    """(frames, in so many seconds); a frame is counted before the client is told."""
    before, at = frames(node, name), time.monotonic()
    time.sleep(seconds)
    return frames(node, name) - before, time.monotonic() - at


def test_frame_limit_of_a_client(node, begin):
    node.create("s", type_name="slow")
    client = node.spawn("s", [SCENE, "--offscreen", "--seconds", "4"], stdout=subprocess.PIPE)
    said = client.communicate(timeout=60)[0].split("summary frames ")[1].split()
    drawn, took = int(said[0]), float(said[2])
    assert 20 * took < drawn <= 30 * took + 2, said


def test_frame_limit(node, begin):
    """The type's limit is one for all clients of the vGPU; it is the type's of the GPU it is on."""
    begin(node, None, {"s": "slow"})
    drawn, took = rate(node, "s")
    assert 20 * took < drawn <= 30 * took + 4, (drawn, took)
    assert next(one for one in node.json("type", "list") if one["name"] == "slow")["max_fps"] == 30
    node.ctl("move", "s", "--gpu", "soft1")
    drawn, took = rate(node, "s")
    assert 13 * took < drawn <= 20 * took + 4, (drawn, took)


def test_slices_are_asked_for(node):
    """Unknown ways of sharing are refused when the file is read; policies need no groups here."""
    said = node.ctl("gpu", "policy", "soft0", "equal-share", "--slice-ms", "31", check=False)
    assert said.returncode == 1 and "out of range" in said.stderr
    node.ctl("gpu", "policy", "soft0", "equal-share", "--slice-ms", "10")
    shown = node.json("gpu", "show", "soft0")
    assert (shown["policy"], shown["slice_ms"]) == ("equal-share", 10)
    node.config.write_text(CONFIG.format(node="").replace("= slices", "= turns"))
    node.kill()
    done = subprocess.run([*map(str, (cache.BUILD / "bin" / "vgpud", "--config", node.config,
                                      "--run-dir", node.run_dir, "--state-dir", node.dir / "state"))],
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 1 and "neither cpu nor slices" in done.stderr
    node.config.write_text(CONFIG.format(node=""))
