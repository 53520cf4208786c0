# SPDX-License-Identifier: Apache-2.0
"""A vGPU whose guest does nothing for some seconds: it keeps what a successor needs in little memory.

What is kept then (a compressed image, a journal without room) must be as good as before: the device
process is killed, moved and put to sleep at rest, and at the moment at which the guest comes back.
"""
import time

import glstate
from conftest import FEW

# Longer than a vGPU needs to be quiet (2 s), and to have all of it compressed.
FRAMES = 3
OPTIONS = (*FEW, "--fill-mib", 48, "--frames", FRAMES, "--pace-ms", 5000)
KEPT_LIMIT = 12 << 20  # of 48 MiB that are alike, and what else was drawn


def kept(node, name):
    """Bytes of images and journals in its keeper's custody."""
    links = ("/memfd:vgpu-image", "/memfd:journal")
    return sum(glstate.memfds(node.vgpu(name)["keeper_pid"], links).values())


def wait_packed(node, name, limit_s=5):
    end = time.monotonic() + limit_s
    while kept(node, name) > KEPT_LIMIT:
        assert time.monotonic() < end, f"at rest {kept(node, name) >> 20} MiB are kept of it"
        time.sleep(0.05)


def test_at_rest_little_is_kept(shared_node, references, vgpu):
    with glstate.Run(shared_node, vgpu, *OPTIONS) as run:
        most = 0
        while most < 2 * KEPT_LIMIT:  # while it uploads, before it rests after its first frame
            assert run.running() and not run.frames(), f"{most >> 20} MiB were kept at most"
            most = max(most, kept(shared_node, vgpu))
        wait_packed(shared_node, vgpu)
        assert run.running() and run.frames() < FRAMES
        glstate.compare(references.of(*OPTIONS), run.finish())


def test_killed_at_rest(shared_node, references, vgpu):
    with glstate.Run(shared_node, vgpu, *OPTIONS) as run:
        for frame in range(1, FRAMES):
            run.wait_frames(frame)
            time.sleep(3.5)  # the second time little was kept before
            wait_packed(shared_node, vgpu, 1.5)
            pid = glstate.kill_device(shared_node, vgpu)
            glstate.wait_recovered(shared_node, vgpu, pid)
        glstate.compare(references.of(*OPTIONS), run.finish())
    assert shared_node.vgpu(vgpu)["recoveries"] == FRAMES - 1


def test_moved_and_asleep_at_rest(shared_node, references, vgpu):
    with glstate.Run(shared_node, vgpu, *OPTIONS) as run:
        run.wait_frames(1)
        wait_packed(shared_node, vgpu)
        shared_node.ctl("move", vgpu, "--gpu", "soft1")
        run.wait_frames(2)
        wait_packed(shared_node, vgpu)
        shared_node.ctl("hibernate", vgpu)
        glstate.compare(references.of(*OPTIONS), run.finish())
    assert shared_node.vgpu(vgpu)["gpu"] == "soft1"
