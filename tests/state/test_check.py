# SPDX-License-Identifier: Apache-2.0
"""What `check` says beforehand, and method emulate, with which saving is never refused."""
import re
import subprocess

import pytest

import cache
import glstate
import node as node_module
from conftest import FEW

GLHASH = cache.BUILD / "tests" / "clients" / "glhash"
OPTIONS = [*FEW, "--frames", 40, "--pace-ms", 20]


@pytest.fixture(scope="module")
def emulating(programs):
    """A node of its own: the vGPUs of a GPU are of one method."""
    with node_module.Node(soft_gpus=2) as one:
        one.create("emulated", method="emulate")
        yield one


def run(node, name, *command):
    process = node.spawn(name, [str(word) for word in command], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT)
    try:
        text, _ = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            process.kill()
    return process.returncode, text


def test_a_vgpu_that_can_be_saved_is_said_to_be_fine(shared_node, vgpu):
    with glstate.Run(shared_node, vgpu, *OPTIONS) as client:
        client.wait_frames(5)
        assert shared_node.json("check", vgpu)["verdict"] == "fine"
        client.finish()


def test_emulate_shows_in_the_list(emulating):
    assert emulating.vgpu("emulated")["method"] == "emulate"


def test_emulate_offers_gl_43_and_es_31(emulating):
    # glstate asks for a 4.3 core context, glhash --gles for ES 3.0.
    status, text = run(emulating, "emulated", glstate.PROGRAM, "--only", "blend", "--frames", 1)
    assert status == 0, text
    status, text = run(emulating, "emulated", GLHASH, "--scene", "flat", "--frames", 1, "--gles")
    assert status == 0, text
    versions = run(emulating, "emulated", glstate.PROGRAM, "--versions")[1]
    gl = re.search(r"GL (\d+)\.(\d+)", versions)
    es = re.search(r"ES (\d+)\.(\d+)", versions)
    assert gl and tuple(map(int, gl.groups())) >= (4, 3), versions
    assert es and tuple(map(int, es.groups())) >= (3, 1), versions


def test_an_emulated_vgpu_can_always_be_saved(emulating, tmp_path):
    """Every use of GL there is in the clients, at several moments."""
    # What it draws may differ from what a forwarded one draws, so it is its own reference.
    with glstate.Run(emulating, "emulated", "--frames", 20) as client:
        reference = client.finish()
    with glstate.Run(emulating, "emulated", "--frames", 20, "--pace-ms", 80) as client:
        for turn, frame in enumerate((1, 6)):
            client.wait_frames(frame)
            seen = emulating.json("check", "emulated")
            assert seen["verdict"] == "fine" and not seen["reasons"], seen
            answer = emulating.json("snapshot", "emulated", tmp_path / "one.vgpu")
            assert not answer["lossy"]
            assert not glstate.move(emulating, "emulated", f"soft{1 - turn % 2}")["lossy"]
        glstate.compare(reference, client.finish())
