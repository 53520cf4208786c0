# SPDX-License-Identifier: Apache-2.0
"""A client that uploads much, under which journals and images follow each other quickly.

The journal before last becomes the next one. What is in it then must not come back, and what was
uploaded must, whenever the process is killed or moved: each upload differs from the one before.
"""
import array
import mmap
import os
import socket
import struct
import time

import pytest

import glstate
import vtest_client

CREATE2, GET2, PUT2 = 12, 13, 14
R8_UNORM, VERTEX_BUFFER = 64, 1 << 4
HANDLE, BYTES = 5, 4 << 20
JOURNAL_SOFT_MIB = 96  # uploads between two images
MANY = 5 * (JOURNAL_SOFT_MIB << 20) // BYTES


class Uploader:
    def __init__(self, path):
        self.client = vtest_client.connect(str(path))
        self.client.sendall(struct.pack("=13I", 11, CREATE2, HANDLE, 0, R8_UNORM, VERTEX_BUFFER,
                                        BYTES, 1, 1, 1, 0, 0, BYTES))
        _, rights, _, _ = self.client.recvmsg(1, socket.CMSG_SPACE(4))
        fds = array.array("i", rights[0][2])
        self.memory = mmap.mmap(fds[0], BYTES)
        os.close(fds[0])

    def transfer(self, command):
        self.client.sendall(struct.pack("=12I", 10, command, HANDLE, 0, 0, 0, 0, BYTES, 1, 1, 0, 0))

    @staticmethod
    def pattern(number):
        return struct.pack("=II", number, ~number & 0xffffffff) * (BYTES // 8)

    def put(self, number, wait=True):
        self.memory[:] = self.pattern(number)
        self.transfer(PUT2)
        if wait:
            self.settle()

    def settle(self):
        assert vtest_client.ask(self.client)

    def check(self, number):
        self.memory[:] = bytes(BYTES)
        self.transfer(GET2)
        self.settle()
        assert self.memory[:] == self.pattern(number), f"not what upload {number} was"


@pytest.fixture
def uploader(shared_node, vgpu):
    one = Uploader(shared_node.run_dir / "vgpus" / vgpu / "vtest.sock")
    yield one
    one.client.close()


def journals(node, name):
    """Inodes of the journals that the vGPU's device process has open."""
    found = set()
    for pid in glstate.children(node.vgpu(name)["pid"]):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            if os.readlink(path).startswith("/memfd:journal"):
                found.add(os.stat(path).st_ino)
    return found


def test_journals_are_used_again(shared_node, vgpu, uploader):
    seen, most = set(), 0
    for number in range(MANY):
        uploader.put(number)
        now = journals(shared_node, vgpu)
        seen |= now
        most = max(most, len(now))
    uploader.check(MANY - 1)
    # Five images' worth; the first one may have come early, with a journal hardly used.
    assert most == 2 and len(seen) <= 3, (most, seen)
    end = time.monotonic() + 20
    while len(journals(shared_node, vgpu)) > 1 and time.monotonic() < end:
        time.sleep(0.2)
    assert len(journals(shared_node, vgpu)) == 1, "a vGPU at rest holds a journal it does not need"


@pytest.mark.parametrize("asked", [True, False])
def test_killed_between_uploads(shared_node, vgpu, uploader, asked):
    """asked: the upload was answered for before the kill, or is on its way."""
    random = glstate.chance(f"uploads {asked}")
    number = 0
    for _ in range(6):
        for _ in range(random.randrange(10, 40)):
            number += 1
            uploader.put(number)
        number += 1
        uploader.put(number, wait=asked)
        pid = glstate.kill_device(shared_node, vgpu)
        uploader.settle()
        uploader.check(number)
        glstate.wait_recovered(shared_node, vgpu, pid)


def test_moved_between_uploads(shared_node, vgpu, uploader):
    number = 0
    for turn in range(6):
        for _ in range(30):
            number += 1
            uploader.put(number)
        shared_node.ctl("move", vgpu, "--gpu", f"soft{(turn + 1) % 2}")
        uploader.check(number)
        number += 1
        uploader.put(number)
        if turn % 2:
            pid = glstate.kill_device(shared_node, vgpu)
            uploader.check(number)
            glstate.wait_recovered(shared_node, vgpu, pid)
