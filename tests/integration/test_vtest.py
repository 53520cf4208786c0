# SPDX-License-Identifier: Apache-2.0
"""Processes on a vGPU through vtest: a real device process and stock Mesa clients."""
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import cache  # noqa: E402  (found through the path set above)
import device as device_module  # noqa: E402

GLHASH = cache.BUILD / "tests" / "clients" / "glhash"
PROGRAM = cache.BUILD / "bin" / "vgpu-device"
LIMIT_S = 120

SUBMIT_CMD, BUSY_WAIT, CREATE_RENDERER, PROTOCOL_VERSION = 6, 7, 8, 11


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("vgpu")


@pytest.fixture
def vgpu(folder):
    with device_module.Device(PROGRAM, folder, vram_mib=256) as running:
        yield running


def start(vgpu, *options):
    command, env = [str(GLHASH), *map(str, options)], device_module.client_environment()
    if vgpu:
        command, env = vgpu.command(command), vgpu.environment()
    return subprocess.Popen(command, env=env, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, limit_s=LIMIT_S):
    """(exit status, lines of output, errors)"""
    try:
        out, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out.splitlines(), err


def hashes(vgpu, *options):
    """The lines with hashes; the renderer must be the expected one."""
    expected = "virgl" if vgpu else "llvmpipe"
    status, lines, err = finish(start(vgpu, "--expect-renderer", expected, *options))
    assert status == 0, err
    found = [line for line in lines if " hash " in line]
    assert found
    return found


def expect_empty(vgpu, limit_s=10):
    """Everything the clients had is given back, soon after their end was reported."""
    until = time.monotonic() + limit_s
    while True:
        left = {name: value for name, value in vgpu.stats().items()
                if name in ("clients", "contexts", "resources", "vram_used_bytes") and value}
        if not left:
            return
        assert time.monotonic() < until, left
        time.sleep(0.05)


def greet(vgpu, version=2):
    """A raw connection that agreed on a version."""
    client = vgpu.connect()
    client.sendall(struct.pack("=II", 0, CREATE_RENDERER))
    client.sendall(struct.pack("=III", 1, PROTOCOL_VERSION, version))
    assert struct.unpack("=III", client.recv(12, socket.MSG_WAITALL)) == (
        1, PROTOCOL_VERSION, version)
    return client


@pytest.mark.parametrize("api", [[], ["--gles"]], ids=["gl", "gles"])
def test_every_pixel_equals_native(vgpu, api):
    assert hashes(vgpu, "--frames", 4, *api) == hashes(None, "--frames", 4, *api)
    assert vgpu.wait_closed() == [""]
    expect_empty(vgpu)
    assert vgpu.stats()["draws_total"] > 500
    assert vgpu.stats()["vram_peak_bytes"] > 0


def test_other_sizes(vgpu):
    for size in ("800x600", "33x57"):
        options = ["--size", size, "--scene", "flat,depth,blend,feedback,msaa", "--frames", 2]
        assert hashes(vgpu, *options) == hashes(None, *options)


def test_the_check_of_the_renderer_can_fail(vgpu):
    status, _, err = finish(start(vgpu, "--scene", "flat", "--expect-renderer", "llvmpipe-native"))
    assert status == 3
    assert "the renderer is" in err


def test_a_program_of_many_processes_and_contexts(vgpu):
    options = ["--scene", "texture,depth,feedback,query", "--frames", 3]
    one = hashes(None, *options)
    many = hashes(vgpu, *options, "--contexts", 3, "--fork", 4)
    assert sorted(many) == sorted(one * 12)
    assert vgpu.wait_closed(4) == [""] * 4


def test_over_quota_ends_one_program_and_no_other(folder):
    options = ["--scene", "feedback,upload,stream,xfb", "--frames", 60]
    with device_module.Device(PROGRAM, folder, vram_mib=64) as vgpu:
        neighbour = start(vgpu, *options)
        begin = time.monotonic()
        status, lines, _ = finish(start(vgpu, "--alloc-mib", 512))
        assert status != 0
        granted = sum(line.startswith("allocated") for line in lines) * 4
        assert 16 <= granted <= 64
        assert time.monotonic() - begin < 5
        status, lines, err = finish(neighbour)
        assert status == 0, err
        assert [line for line in lines if " hash " in line] == hashes(None, *options)
        assert vgpu.stats()["quota_refusals_total"] >= 1
        assert any("quota" in reason for reason in vgpu.wait_closed(2))
        # What the greedy one held is free again.
        expect_empty(vgpu)


def test_bad_bytes_end_one_connection_and_no_other(vgpu):
    options = ["--scene", "feedback", "--frames", 40]
    neighbour = start(vgpu, *options)
    bad = [
        struct.pack("=II", 0, 9999), struct.pack("=II", 77, BUSY_WAIT),
        struct.pack("=II", 0xffffffff, SUBMIT_CMD), b"\xff" * 4096,
        # A stream whose only command is longer than the buffer.
        struct.pack("=III", 1, SUBMIT_CMD, 0xffff0001),
    ]
    for message in bad:
        with greet(vgpu) as client:
            client.sendall(message)
            assert client.recv(1) == b""
    status, lines, err = finish(neighbour)
    assert status == 0, err
    assert [line for line in lines if " hash " in line] == hashes(None, *options)
    reasons = vgpu.wait_closed(len(bad) + 1)
    assert sum(bool(reason) for reason in reasons) == len(bad)


def test_a_client_that_stops_reading_holds_nobody_up(vgpu):
    with greet(vgpu) as client:
        client.settimeout(0.5)
        message = struct.pack("=IIII", 2, BUSY_WAIT, 0, 0) * 256
        try:
            for _ in range(100):
                client.sendall(message)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert hashes(vgpu, "--scene", "flat") == hashes(None, "--scene", "flat")
        assert any("does not read" in reason for reason in vgpu.wait_closed(2))


def test_programs_that_share_a_vgpu_do_not_see_each_other(vgpu):
    options = ["--scene", "texture,layers,upload,query", "--frames", 100]
    # A neighbour that makes and drops textures, framebuffers and programs all the time.
    neighbour = start(vgpu, "--scene", "formats,msaa,mrt", "--frames", 100000)
    assert hashes(vgpu, *options) == hashes(None, *options)
    assert neighbour.poll() is None, "the neighbour ended early"
    neighbour.kill()
    neighbour.communicate()


def test_a_killed_client_leaves_nothing(vgpu):
    process = start(vgpu, "--scene", "feedback", "--frames", 100000)
    for _ in range(5):
        assert process.stdout.readline()
    process.kill()
    process.communicate(timeout=10)
    vgpu.wait_closed()
    expect_empty(vgpu)


def test_first_client_is_answered_soon(folder):
    begin = time.monotonic()
    with device_module.Device(PROGRAM, folder) as vgpu, greet(vgpu):
        spent = time.monotonic() - begin
    # 0.2 s on a machine of its own; this one may be busy.
    assert spent < 2
