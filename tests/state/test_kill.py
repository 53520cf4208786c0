# SPDX-License-Identifier: Apache-2.0
"""Device processes that are killed under a client that draws; vgpud with them.

VGPU_STATE_KILLS is how many at random moments (10); VGPU_STATE_SEED repeats a run's moments;
VGPU_STATE_THOROUGH=1 tries many more boundaries.
"""
import os
import signal
import statistics
import time

import pytest

import glstate
import node as node_module
from conftest import FEW, PAUSE_LIMIT_MS, number

KILLS = number("VGPU_STATE_KILLS", 10)
FRAMES = 60


def test_killed_at_random_moments(shared_node, references, vgpu):
    options = ["--frames", FRAMES, "--pace-ms", 20]
    reference = references.of(*options)
    random = glstate.chance("kills")
    pauses, beyond, kills = [], [], 0
    while kills < KILLS:
        with glstate.Run(shared_node, vgpu, *options) as run:
            while run.running() and kills < KILLS:
                time.sleep(random.uniform(0, 0.8))
                before = shared_node.vgpu(vgpu)
                pid = glstate.kill_device(shared_node, vgpu) if run.running() else None
                if not pid:
                    continue
                kills += 1
                row = glstate.wait_recovered(shared_node, vgpu, pid)
                if row["recoveries"] > before["recoveries"]:
                    pauses.append(row["last_pause_ms"])
                    beyond.append(pauses[-1] - 1.2 * row["last_replay_ms"])
            glstate.compare(reference, run.finish(), f"after {kills} kills")
    assert max(pauses) < PAUSE_LIMIT_MS, pauses
    print(f"{kills} kills, pause ms: median {statistics.median(pauses):.0f}, "
          f"worst {max(pauses):.0f}; less 1.2 times the drawing done again: "
          f"{statistics.median(beyond):.0f}, {max(beyond):.0f}")


def test_killed_again_while_it_recovers(shared_node, references, vgpu):
    options = [*FEW, "--frames", 60, "--pace-ms", 20]
    random = glstate.chance("kills in a row")
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(10)
        # Each successor is killed while it starts, loads or replays.
        for _ in range(3):
            glstate.kill_device(shared_node, vgpu)
            time.sleep(random.uniform(0.02, 0.3))
        glstate.compare(references.of(*options), run.finish())


def test_moves_and_kills_together(shared_node, references, vgpu):
    options = [*FEW, "--frames", 100, "--pace-ms", 20]
    random = glstate.chance("moves and kills")
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(2)
        for turn in range(6):
            if not run.running():
                break
            moving = shared_node.spawn_ctl("move", vgpu, "--gpu", f"soft{turn % 2}")
            time.sleep(random.uniform(0, 0.25))
            # The old process before the new one has taken over, or the new one after.
            glstate.kill_device(shared_node, vgpu)
            assert moving.wait(30) in (0, 1)
            glstate.wait_row(shared_node, vgpu, lambda row: row["state"] in ("bound", "ready"))
        glstate.compare(references.of(*options), run.finish())


# Where a kill hurts, and how often that place was passed before.
POINTS = {"received": (3, 200), "recorded": (1, 200), "executed": (3, 200),
          "answered": (3, 100), "image": (1,), "anchored": (2,)}
if os.environ.get("VGPU_STATE_THOROUGH"):
    POINTS = {point: range(1, 60) for point in POINTS}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_boundary(programs, references, point):
    options = ["--only", "blend,query-open,xfb-paused", "--frames", 20]
    for count in POINTS[point]:
        environment = {"VGPU_CRASH_AT": f"{point}:{count}"}
        with node_module.Node(environment=environment) as node:
            node.create("a")
            with glstate.Run(node, "a", *options) as run:
                if point in ("image", "anchored"):
                    # Images are made now and then; a move makes one for certain.
                    run.wait_frames(3)
                    node.ctl("snapshot", "a", node.dir / "one.vgpu", check=False)
                lines = run.finish()
                glstate.compare(references.of(*options), lines, f"a kill at {point}:{count}")
            crashed = node.vgpu("a")["recoveries"]
            assert crashed >= 1 or point in ("image", "anchored"), f"{point}:{count} never came"


def test_killed_when_it_has_loaded(node, references):
    """The successor dies at its last step, the next one takes over."""
    options = [*FEW, "--frames", 12, "--pace-ms", 20]
    node.given["VGPU_CRASH_AT"] = "loaded:1"
    node.kill()
    node.start()
    node.create("a")
    with glstate.Run(node, "a", *options) as run:
        run.wait_frames(3)
        glstate.kill_device(node, "a")
        glstate.compare(references.of(*options), run.finish())


def test_vgpud_restarted_meanwhile(node, references):
    options = [*FEW, "--frames", 80, "--pace-ms", 20]
    node.create("a")
    with glstate.Run(node, "a", *options) as run:
        run.wait_frames(10)
        pid = node.vgpu("a")["pid"]
        node.kill()
        os.kill(pid, signal.SIGKILL)
        run.wait_frames(20)  # the keeper needs nobody
        node.start()
        row = glstate.wait_recovered(node, "a", pid)
        assert row["recoveries"] == 1
        glstate.move(node, "a", "soft1")
        glstate.compare(references.of(*options), run.finish())


def test_killed_together_with_vgpud(node, references):
    """Both at once, and vgpud back only when the client is long through."""
    options = [*FEW, "--frames", 40, "--pace-ms", 20]
    node.create("a")
    with glstate.Run(node, "a", *options) as run:
        run.wait_frames(10)
        pid = node.vgpu("a")["pid"]
        for one in (node.process.pid, pid):
            os.kill(one, signal.SIGKILL)
        node.process.wait(10)
        glstate.compare(references.of(*options), run.finish())
    node.start()
    assert glstate.wait_recovered(node, "a", pid)["state"] in ("ready", "bound")
