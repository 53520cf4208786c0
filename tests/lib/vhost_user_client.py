# SPDX-License-Identifier: Apache-2.0
"""As much of a vhost-user front end as it takes to give a vGPU a VM's memory."""
import os
import socket
import struct

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, ADD_MEM_REG = 15, 16, 37
CONFIGURE_MEM_SLOTS = 1 << 15
MIB = 1 << 20


def guest_memory(mib):
    fd = os.memfd_create("guest", os.MFD_CLOEXEC)
    os.ftruncate(fd, mib * MIB)
    return fd


def resident(fd):
    """MiB of a memfd that are allocated."""
    return os.fstat(fd).st_blocks * 512 / MIB


class FrontEnd:
    def __init__(self, path, limit=30):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(limit)
        self.socket.connect(path)
        self.gpa = 0
        self.send(SET_OWNER)

    def send(self, request, payload=b"", fds=()):
        header = struct.pack("III", request, 1, len(payload))
        socket.send_fds(self.socket, [header + payload], list(fds))

    def ask(self, request):
        self.send(request)
        header = self.socket.recv(12, socket.MSG_WAITALL)
        return struct.unpack("Q", self.socket.recv(struct.unpack("III", header)[2],
                                                   socket.MSG_WAITALL))[0]

    def region(self, fd):
        size = os.fstat(fd).st_size
        region = struct.pack("4Q", self.gpa, size, 0x7f0000000000 + self.gpa, 0)
        self.gpa += size
        return region

    def give(self, fd):
        """SET_MEM_TABLE with one file, whole."""
        self.send(SET_MEM_TABLE, struct.pack("II", 1, 0) + self.region(fd), [fd])

    def add(self, fd):
        self.ask(GET_FEATURES)
        self.send(SET_PROTOCOL_FEATURES, struct.pack("Q", CONFIGURE_MEM_SLOTS))
        self.send(ADD_MEM_REG, struct.pack("Q", 0) + self.region(fd), [fd])

    def alive(self):
        try:
            return self.ask(GET_FEATURES) != 0
        except (OSError, struct.error):
            return False

    def ended(self):
        """Waits for the other side to hang up."""
        try:
            while self.socket.recv(4096):
                pass
        except ConnectionResetError:
            pass
        return True

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
