# SPDX-License-Identifier: Apache-2.0
"""VRAM on a locked-down device process: what is charged against the pages it takes, what is deleted
goes back to the node, a hostile client stays within, and nothing of earlier contents shows."""
import mmap
import os
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

PROGRAM = cache.BUILD / "bin" / "vgpu-device"
VIDEOMEM = cache.BUILD / "tests" / "clients" / "videomem"
MIB = 1 << 20
RESOURCE_UNREF, SUBMIT_CMD, BUSY_WAIT, CREATE_RENDERER, PROTOCOL_VERSION = 3, 6, 7, 8, 11
RESOURCE_CREATE2, TRANSFER_GET2, TRANSFER_PUT2 = 12, 13, 14
PIPE_BUFFER, PIPE_TEXTURE_2D = 0, 2
B8G8R8A8_UNORM, R8_UNORM, Z24X8_UNORM = 1, 64, 21
BIND_DEPTH, BIND_SAMPLER, BIND_VERTEX, BIND_CUSTOM, BIND_STAGING = 1, 8, 16, 1 << 17, 1 << 19
CREATE_OBJECT, CREATE_SUB_CTX = 1, 29
OBJECT_SAMPLER_VIEW = 6
# What a process may have beside its VRAM: contexts and programs (src/device/quota.c), and what the
# driver and the allocator keep.
DRIVER_FREE_MIB, SPARE_MIB = 64, 24


@pytest.fixture
def small(tmp_path):
    # A journal is memory of its own, with a size of its own.
    with device_module.Device(PROGRAM, tmp_path, vram_mib=64, args=["--no-journal"]) as running:
        yield running


class Client:
    """A vtest connection that speaks the protocol itself."""

    def __init__(self, vgpu):
        self.vgpu = vgpu
        self.socket = vgpu.connect()
        self.memory = {}
        self.send(CREATE_RENDERER, b"raw\0", length=4)
        self.send(PROTOCOL_VERSION, struct.pack("=I", 2))
        self.socket.recv(12, socket.MSG_WAITALL)

    def send(self, command, payload, length=None):
        length = len(payload) // 4 if length is None else length
        self.socket.sendall(struct.pack("=II", length, command) + payload)

    def resource(self, handle, target, form, bind, width, height=1, size=0, levels=1, samples=0):
        self.send(RESOURCE_CREATE2, struct.pack("=11I", handle, target, form, bind, width, height,
                                                1, 1, levels - 1, samples, size))
        if size:
            _, fds, _, _ = socket.recv_fds(self.socket, 1, 1)
            if not fds:
                raise OSError("refused")
            with os.fdopen(fds[0], "r+b", buffering=0) as shared:
                self.memory[handle] = mmap.mmap(shared.fileno(), size)

    def transfer(self, command, handle, width, height):
        self.send(command, struct.pack("=10I", handle, 0, 0, 0, 0, width, height, 1, 0, 0))

    def unref(self, handle):
        if handle in self.memory:
            self.memory.pop(handle).close()
        self.send(RESOURCE_UNREF, struct.pack("=I", handle))

    def submit(self, *words):
        self.send(SUBMIT_CMD, struct.pack(f"={len(words)}I", *words))

    def answered(self):
        """Whether everything before was handled and the connection is still there."""
        try:
            self.send(BUSY_WAIT, struct.pack("=II", 0, 1))
            return len(self.socket.recv(12, socket.MSG_WAITALL)) == 12
        except OSError:
            return False

    def close(self):
        self.socket.close()


def serving(vgpu):
    """The process behind the monitor."""
    monitor = vgpu.process.pid
    children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
    return int(children[0]) if children else monitor


def resident(vgpu):
    """Bytes of pages that are the process's own or that it shares with clients."""
    fields = dict(line.split(":", 1) for line in
                  Path(f"/proc/{serving(vgpu)}/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem")) << 10


def used(vgpu):
    return vgpu.stats()["vram_used_bytes"]


def until(condition, limit_s=10):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def fill(client, first, count, value=b"\xa5"):
    """Textures of 1 MiB with as much shared memory, every byte of both written."""
    for handle in range(first, first + count):
        client.resource(handle, PIPE_TEXTURE_2D, B8G8R8A8_UNORM, BIND_SAMPLER, 512, 512, MIB)
        client.memory[handle][:] = value * MIB
        client.transfer(TRANSFER_PUT2, handle, 512, 512)
    assert client.answered()


def test_charged_for_what_it_takes_and_given_back(small):
    client = Client(small)
    fill(client, 1, 1)
    pages, charged = resident(small), used(small)
    fill(client, 100, 24)
    took = resident(small) - pages
    assert took >= 48 * MIB and (used(small) - charged) >= 0.9 * took
    for handle in range(100, 124):
        client.unref(handle)
    assert client.answered()
    assert used(small) == charged
    until(lambda: resident(small) <= pages + 2 * MIB)
    client.close()
    until(lambda: used(small) == 0)


def test_over_quota_ends_only_that_client(small):
    other, hostile = Client(small), Client(small)
    other.resource(1, PIPE_TEXTURE_2D, B8G8R8A8_UNORM, BIND_SAMPLER, 64, 64, 64 * 64 * 4)
    assert other.answered()
    before = used(small)
    for handle in range(1, 100):
        try:
            hostile.resource(handle, PIPE_TEXTURE_2D, B8G8R8A8_UNORM, BIND_SAMPLER, 1024, 1024)
        except OSError:
            break
        assert used(small) <= 64 * MIB
    assert not hostile.answered()
    assert "quota" in small.wait_closed()[0]
    assert small.stats()["quota_refusals_total"] > 0
    assert any("over quota" in notice for notice in small.notices)
    until(lambda: used(small) == before)
    assert other.answered()


def views(client, number):
    if number == 0:
        client.resource(1, PIPE_TEXTURE_2D, B8G8R8A8_UNORM, BIND_SAMPLER, 256, 256, levels=9)
    words = []
    for handle in range(1 + number * 500, 501 + number * 500):
        words += [CREATE_OBJECT | OBJECT_SAMPLER_VIEW << 8 | 6 << 16, handle, 1,
                  100 | PIPE_TEXTURE_2D << 24, 0, 8 << 8, 0 | 1 << 3 | 2 << 6 | 3 << 9]
    client.submit(*words)


def sub_contexts(client, number):
    client.submit(CREATE_SUB_CTX | 1 << 16, 1 + number)


def tiny_buffers(client, number):
    for handle in range(1 + number * 500, 501 + number * 500):
        client.resource(handle, PIPE_BUFFER, R8_UNORM, BIND_VERTEX, 1)


def shared_pages(client, number):
    handle = 1 + number
    client.resource(handle, PIPE_BUFFER, R8_UNORM, BIND_STAGING, 4 * MIB, size=4 * MIB)
    client.memory[handle][:] = b"\xa5" * (4 * MIB)


@pytest.mark.parametrize("attack", [views, sub_contexts, tiny_buffers, shared_pages])
def test_a_hostile_client_stays_within(small, attack):
    """Many connections at once, each until it is refused: together no more than one quota."""
    other = Client(small)
    pages = resident(small)
    hostile = [Client(small) for _ in range(4)]
    for client in hostile:
        for number in range(300):
            try:
                attack(client, number)
            except OSError:
                break
            if not client.answered():
                break
    assert small.stats()["quota_refusals_total"] > 0
    assert small.stats()["vram_peak_bytes"] <= 64 * MIB
    # What lost contexts had goes back to the node a moment later.
    until(lambda: resident(small) - pages <= (64 + DRIVER_FREE_MIB + SPARE_MIB) * MIB, 2)
    for client in hostile:
        client.close()
    until(lambda: used(small) < MIB)
    assert other.answered()
    until(lambda: resident(small) <= pages + SPARE_MIB * MIB)


KINDS = {
    "texture": (PIPE_TEXTURE_2D, B8G8R8A8_UNORM, BIND_SAMPLER, 512, 512),
    "depth": (PIPE_TEXTURE_2D, Z24X8_UNORM, BIND_DEPTH, 512, 512),
    "buffer": (PIPE_BUFFER, R8_UNORM, BIND_VERTEX, MIB, 1),
    "custom": (PIPE_BUFFER, R8_UNORM, BIND_CUSTOM, MIB, 1),
    "staging": (PIPE_BUFFER, R8_UNORM, BIND_STAGING, MIB, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_before_shows(small, kind):
    """One client fills, deletes and goes; what the next one is given reads as zeros."""
    client = Client(small)
    for _ in range(2):
        fill(client, 1, 8)
        for handle in range(1, 9):
            client.unref(handle)
    assert client.answered()
    reader = Client(small)
    for number, reading in enumerate((client, reader), start=1):
        reading.resource(90, *KINDS[kind], size=MIB)
        assert reading.memory[90][:] == bytes(MIB)
        reading.transfer(TRANSFER_GET2, 90, *KINDS[kind][3:])
        assert reading.answered(), small.closed
        assert reading.memory[90][:] == bytes(MIB), number


def test_small_shared_memory_is_cleared(small):
    """It is used again, within a connection."""
    client = Client(small)
    for handle in range(1, 40):
        client.resource(handle, PIPE_BUFFER, R8_UNORM, BIND_VERTEX, 2000, size=2000)
        assert client.memory[handle][:] == bytes(2000)
        client.memory[handle][:] = b"\xa5" * 2000
        client.transfer(TRANSFER_PUT2, handle, 2000, 1)
        client.unref(handle)
    assert client.answered()


def test_guests_are_told(small):
    """As their video memory, by a stock driver: all of it, and how much is left."""
    done = subprocess.run(small.command([str(VIDEOMEM)]), env=small.environment(), timeout=60,
                          stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert "virgl" in lines[0]
    before, after = ([int(word) for word in line.split()[1::2]] for line in lines[1:])
    assert before[0] == after[0] == 64 << 10
    assert 16 << 10 <= before[1] - after[1] <= 40 << 10
