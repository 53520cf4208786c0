# SPDX-License-Identifier: Apache-2.0
"""vGPUs that sleep: by hand and by themselves, woken by the guest's next byte or by hand."""
import subprocess
import sys
import time
from pathlib import Path

import glstate
import node as node_module
from conftest import FEW

CLIENT = Path(__file__).resolve().parents[1] / "lib" / "vtest_client.py"
HELD_LIMIT = 5 << 20
# A client that pauses longer than it takes to fall asleep.
SLOW = [*FEW, "--frames", 6, "--pace-ms", 800]


def test_asleep_in_the_middle(shared_node, references, vgpu):
    with glstate.Run(shared_node, vgpu, *SLOW) as run:
        naps = 0
        run.wait_frames(1)
        while run.running() and naps < 3:
            done = shared_node.ctl("--json", "hibernate", vgpu, check=False)
            if done.returncode == 0:
                naps += 1
            glstate.wait_row(shared_node, vgpu, lambda row: row["state"] == "bound" or
                             not run.running())
            time.sleep(0.3)
        lines = run.finish()
    glstate.compare(references.of(*SLOW), lines)
    assert naps >= 2
    assert shared_node.vgpu(vgpu)["wakes"] >= 2


def test_asleep_it_holds_little(shared_node, references, vgpu):
    options = [*FEW, "--fill-mib", 48, "--frames", 3, "--pace-ms", 2500]
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(1, 60)
        time.sleep(0.5)
        awake = shared_node.vgpu(vgpu)
        shared_node.ctl("hibernate", vgpu)
        row = shared_node.vgpu(vgpu)
        if row["state"] == "hibernated":  # the client may have gone on already
            assert not row["pid"]
            held = glstate.held_bytes(row["keeper_pid"], run.process.pid)
            print(f"hibernated: {held / 2**20:.2f} MiB held")
            assert held <= HELD_LIMIT, held
        assert awake["pid"]
        glstate.compare(references.of(*options), run.finish())
    assert row["state"] == "hibernated"


def test_not_while_its_guest_waits_for_it(shared_node, vgpu):
    """Answers that do not fit bring no byte that would wake anybody."""
    socket = shared_node.run_dir / "vgpus" / vgpu / "vtest.sock"
    client = shared_node.spawn(vgpu, [sys.executable, str(CLIENT), str(socket), "deaf", "4"],
                               stdout=subprocess.PIPE)
    try:
        assert client.stdout.readline() == "asked\n"
        done = shared_node.ctl("hibernate", vgpu, check=False)
        assert done.returncode == 1 and "at work just now" in done.stderr, done.stderr
        assert shared_node.vgpu(vgpu)["state"] == "bound"
        assert client.communicate(timeout=60)[0] == "all\n"
    finally:
        client.kill()
        client.wait()
    shared_node.ctl("hibernate", vgpu)


def test_woken_by_hand(shared_node, references, vgpu):
    shared_node.ctl("hibernate", vgpu)
    assert shared_node.vgpu(vgpu)["state"] == "hibernated"
    shared_node.ctl("wake", vgpu)
    assert shared_node.vgpu(vgpu)["state"] in ("ready", "bound")
    with glstate.Run(shared_node, vgpu, *FEW) as run:
        glstate.compare(references.of(*FEW), run.finish())


def test_killed_before_it_made_an_image(shared_node, references, vgpu):
    """The file it slept in is its image until then."""
    with glstate.Run(shared_node, vgpu, *SLOW) as run:
        run.wait_frames(2)
        shared_node.ctl("hibernate", vgpu)
        shared_node.ctl("wake", vgpu)
        pid = glstate.kill_device(shared_node, vgpu)
        assert glstate.wait_recovered(shared_node, vgpu, pid)["recoveries"] == 1
        glstate.compare(references.of(*SLOW), run.finish())


def test_a_new_client_wakes_it(shared_node, references, vgpu):
    shared_node.ctl("hibernate", vgpu)
    with glstate.Run(shared_node, vgpu, *FEW) as run:
        glstate.compare(references.of(*FEW), run.finish())


def test_it_sleeps_through_a_restart_of_vgpud(node, references):
    node.create("a")
    with glstate.Run(node, "a", *SLOW) as run:
        run.wait_frames(1)
        time.sleep(0.1)
        node.ctl("hibernate", "a")
        node.kill()
        run.wait_frames(3)
        node.start()
        glstate.wait_row(node, "a", lambda row: row["state"] == "bound")
        glstate.compare(references.of(*SLOW), run.finish())


def test_idle_it_falls_asleep_by_itself(programs, references):
    with node_module.Node("[node]\nhibernate_idle_s = 1\n") as node:
        node.create("a")
        options = [*FEW, "--frames", 3, "--pace-ms", 3000]
        with glstate.Run(node, "a", *options) as run:
            run.wait_frames(1)
            for nap in (1, 2):  # in each of its pauses
                glstate.wait_row(node, "a", lambda row: row["state"] == "hibernated", 8)
                glstate.wait_row(node, "a", lambda row: row["wakes"] >= nap, 8)
            glstate.compare(references.of(*options), run.finish())
        assert node.vgpu("a")["failure"] is None
