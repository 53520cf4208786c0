# SPDX-License-Identifier: Apache-2.0
"""Moves under a client that draws: to another GPU and to a new process on the same one.

VGPU_STATE_MOVES is how many (24); VGPU_STATE_SEED repeats a run's moments.
"""
import statistics
import time

import pytest

import glstate
import node as node_module
from conftest import FEW, PAUSE_LIMIT_MS, number

MOVES = number("VGPU_STATE_MOVES", 24)
FRAMES = 60


def check_answer(answer):
    assert answer["state_bytes"] > 0
    assert 0 < answer["pause_ms"] <= answer["total_ms"] + 1
    assert answer["pause_ms"] < PAUSE_LIMIT_MS, answer
    assert not answer["lossy"], answer


def test_many_moves_at_random_moments(shared_node, references, vgpu):
    options = ["--frames", FRAMES, "--pace-ms", 20]
    reference = references.of(*options)
    random = glstate.chance("moves")
    pauses, gpu = [], 0
    while len(pauses) < MOVES:
        with glstate.Run(shared_node, vgpu, *options) as run:
            while run.running() and len(pauses) < MOVES:
                time.sleep(random.uniform(0, 0.3))
                gpu = random.randrange(2)
                if not run.running():
                    break
                try:
                    answer = glstate.move(shared_node, vgpu, f"soft{gpu}")
                except node_module.NodeError as error:
                    if "its binding is over" not in str(error):
                        raise
                    break  # it ended while it was moved
                check_answer(answer)
                pauses.append(answer["pause_ms"])
                row = shared_node.vgpu(vgpu)
                assert row["gpu"] == f"soft{gpu}"
            glstate.compare(reference, run.finish(), f"after {len(pauses)} moves")
    print(f"{len(pauses)} moves, pause ms: median {statistics.median(pauses):.0f}, "
          f"worst {max(pauses):.0f}")


def test_moved_before_the_first_and_after_the_last_client(shared_node, references, vgpu):
    glstate.move(shared_node, vgpu, "soft1")
    with glstate.Run(shared_node, vgpu, *FEW) as run:
        glstate.compare(references.of(*FEW), run.finish())
    glstate.move(shared_node, vgpu, "soft0")
    with glstate.Run(shared_node, vgpu, *FEW) as run:
        glstate.compare(references.of(*FEW), run.finish())


def test_a_move_changes_the_process_and_no_connection(shared_node, references, vgpu):
    options = [*FEW, "--frames", 30, "--pace-ms", 20]
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(5)
        before = shared_node.vgpu(vgpu)
        glstate.move(shared_node, vgpu, "soft0")
        after = shared_node.vgpu(vgpu)
        assert before["pid"] != after["pid"]
        assert before["keeper_pid"] == after["keeper_pid"]
        assert before["connections"] == after["connections"]
        assert before["bound_to"] == after["bound_to"]
        glstate.compare(references.of(*options), run.finish())


def test_a_second_verb_during_a_move_is_refused(shared_node, references, vgpu, tmp_path):
    options = ["--fill-mib", 48, "--frames", 40, "--pace-ms", 20, *FEW]
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(2)
        refused = attempt = 0
        while refused < 2 and attempt < 10:
            moving = shared_node.spawn_ctl("move", vgpu, "--gpu", f"soft{attempt % 2}")
            done = shared_node.ctl("snapshot", vgpu, tmp_path / f"{attempt}.vgpu", check=False)
            moved = moving.wait(60)
            assert moved in (0, 1) and done.returncode in (0, 1)
            if done.returncode:
                assert len(done.stderr.strip().splitlines()) == 1
            # Whichever of the two came second.
            refused += moved + done.returncode
            attempt += 1
        assert refused, "no snapshot ever met a move"
        glstate.compare(references.of(*options), run.finish())


@pytest.mark.parametrize("words", [["nosuch"], ["soft7"], []], ids=["unknown", "absent", "none"])
def test_a_move_to_nowhere_is_refused(shared_node, references, vgpu, words):
    options = ["--only", "blend", "--frames", 24, "--pace-ms", 20]
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(3)
        done = shared_node.ctl("move", vgpu, *(["--gpu", *words] if words else []), check=False)
        assert done.returncode in (1, 2) and done.stderr.strip()
        glstate.compare(references.of(*options), run.finish())
