# SPDX-License-Identifier: Apache-2.0
"""A guest that draws while its vGPU moves, its device process is killed, and it sleeps.

VGPU_STATE_VM_MOVES and VGPU_STATE_VM_KILLS are how many (6 and 4).
"""
import os
import time

import pytest

import glstate
import node as node_module

MOVES = int(os.environ.get("VGPU_STATE_VM_MOVES") or 6)
KILLS = int(os.environ.get("VGPU_STATE_VM_KILLS") or 4)
OPTIONS = "--expect-renderer virgl --frames 12"
RUN_LIMIT_S = 240


@pytest.fixture(scope="module")
def node():
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node(soft_gpus=2) as one:
        yield one


@pytest.fixture(scope="module")
def machine(boot, node):
    node.create("vm")
    return boot("vm", memory_mib=768)


@pytest.fixture(scope="module")
def reference(machine):
    """What the guest draws when nobody touches its vGPU."""
    job = machine.spawn(f"exec glstate {OPTIONS}")
    assert job.wait(RUN_LIMIT_S) == 0, job.output()[-800:]
    return job.lines()


def frames(job):
    return sum(line.startswith("frame ") for line in job.lines())


def begin(machine, pace_ms=200):
    job = machine.spawn(f"exec glstate {OPTIONS} --pace-ms {pace_ms}")
    job.wait_output("frame 0 ", RUN_LIMIT_S)
    return job


def check(job, reference):
    assert job.wait(RUN_LIMIT_S) == 0, job.output()[-800:]
    glstate.compare(reference, job.lines())


def test_two_runs_agree(machine, reference):
    check(begin(machine, 0), reference)


def test_moves_under_a_guest_that_draws(machine, node, reference):
    random, done = glstate.chance("moves"), 0
    while done < MOVES:
        job = begin(machine)
        while not job.done() and done < MOVES:
            answer = glstate.move(node, "vm", f"soft{random.randrange(2)}")
            assert not answer["lossy"], answer
            done += 1
            time.sleep(random.uniform(0, 1.0))
        check(job, reference)


def test_kills_under_a_guest_that_draws(machine, node, reference):
    random, done = glstate.chance("kills"), 0
    while done < KILLS:
        job = begin(machine)
        while not job.done() and done < KILLS:
            pid = glstate.kill_device(node, "vm")
            glstate.wait_recovered(node, "vm", pid)
            done += 1
            time.sleep(random.uniform(0, 1.5))
        check(job, reference)


def test_a_guest_sleeps_and_wakes(machine, node, reference):
    job = begin(machine, 1500)
    node.ctl("hibernate", "vm")
    check(job, reference)
    assert node.vgpu("vm")["wakes"] >= 1


def test_the_screen_survives_a_move(machine, node, screens):
    screens.check_still(machine, "vm", meanwhile=lambda: glstate.move(node, "vm", "soft1"))
    screens.check_still(machine, "vm")
