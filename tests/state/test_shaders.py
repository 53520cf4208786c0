# SPDX-License-Identifier: Apache-2.0
"""Compiled shaders come along to the process that follows within a binding."""
import os

import pytest

import glstate
from conftest import FEW

INDEX = "foz_cache_idx.foz"


def kept(monitor):
    """Bytes of the index of compiled shaders in the device process below `monitor`."""
    for pid in glstate.children(monitor):
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{fd}"
                if os.readlink(path).endswith(INDEX):
                    return os.stat(path).st_size
        except PermissionError:
            pytest.skip("only root may look into a device process")
    return 0


def test_they_come_along(shared_node, references, vgpu):
    options = [*FEW, "--frames", 40, "--pace-ms", 40]
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(4)
        before = kept(shared_node.vgpu(vgpu)["pid"])
        assert before > 64 * 20
        pid = glstate.kill_device(shared_node, vgpu)
        row = glstate.wait_recovered(shared_node, vgpu, pid)
        assert kept(row["pid"]) >= before
        answer = shared_node.json("move", vgpu, "--gpu", "soft1")
        assert kept(shared_node.vgpu(vgpu)["pid"]) >= before, answer
        glstate.compare(references.of(*options), run.finish())


def test_a_process_that_nobody_holds_has_none_of_them(shared_node, vgpu):
    fresh = kept(shared_node.vgpu(vgpu)["pid"])
    with glstate.Run(shared_node, vgpu, *FEW, "--frames", 4) as run:
        run.finish()
    glstate.wait_row(shared_node, vgpu, lambda row: row["state"] == "ready")
    assert kept(shared_node.vgpu(vgpu)["pid"]) <= fresh
