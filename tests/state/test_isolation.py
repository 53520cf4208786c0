# SPDX-License-Identifier: Apache-2.0
"""A client that crashes or hangs the driver twice loses its own context; the others of the same
vGPU go on and every pixel of theirs is right."""
import sys
from pathlib import Path

import glstate
import node as node_module
from conftest import FEW

CLIENT = Path(__file__).resolve().parents[1] / "lib" / "vtest_client.py"
OPTIONS = [*FEW, "--frames", 40, "--pace-ms", 20]


def beside(node, harm, limit_s=90):
    """Lines of a glstate that shares its vGPU with a client that does harm; and what that said."""
    said = node.dir / "harm"
    command = " ".join(map(str, [glstate.PROGRAM, *OPTIONS]))
    script = f"{harm} >{said} 2>&1 & {command}; status=$?; kill $! 2>/dev/null; exit $status"
    process = node.spawn("a", ["sh", "-c", script], stdout=open(node.dir / "out", "w"))
    try:
        # The first that recovers: the one before it ran the command a second time.
        row = glstate.wait_row(node, "a", lambda row: row["recoveries"], limit_s)
        assert row["starts"] == 3, row
        assert process.wait(limit_s) == 0, (node.dir / "out").read_text()[-300:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)
    return (node.dir / "out").read_text().splitlines(), said.read_text()


def test_a_command_that_crashes_every_time(programs, references):
    with node_module.Node(environment={"VGPU_CRASH_AT": "marker:1"}) as node:
        node.create("a")
        socket = node.run_dir / "vgpus" / "a" / "vtest.sock"
        lines, _ = beside(node, f"{sys.executable} {CLIENT} {socket} mark 1.0")
        glstate.compare(references.of(*OPTIONS), lines)
        row = node.vgpu("a")
        assert row["recoveries"] == 1 and row["state"] != "failed", row
        # Whoever runs a vGPU is told.
        assert any("crash" in one["text"] for one in node.json("events")), node.json("events")


def test_a_command_that_never_ends(programs, references):
    """Longer than the keeper lets a device process be at one thing."""
    with node_module.Node(environment={"VGPU_HANG_LIMIT_MS": "1500"}) as node:
        node.create("a")
        lines, _ = beside(node, f"{glstate.PROGRAM} --only ubo --frames 4 --hang-at 2")
        glstate.compare(references.of(*OPTIONS), lines)
        row = node.vgpu("a")
        assert row["recoveries"] == 1 and row["state"] != "failed", row
