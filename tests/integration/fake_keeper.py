#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A keeper without a device process: it speaks protocol/keeper.h with vgpud and does what it is told.

What to do comes from the file that VGPU_FAKE_SCRIPT names, read anew for each message: words, one a
line.
  refuse CODE TEXT  every operation ends with -CODE and TEXT
  starting SECONDS  the first operation finds the device process starting, for so long
  slow SECONDS      an operation takes so long, and says how it goes on
  lossy TEXT        an operation ends well and lossy
  checked N TEXT    CHECKED with verdict N before the end
  idle SECONDS      idle for so long, whenever asked
  snapshot PATH     what a snapshot is made of
  crash             ends in the middle of an operation
  hangup            ends an operation and hangs up without a word of it
What it was asked goes to keeper.asked in its folder, a line each; what it was given to restore, to
keeper.restored.
"""
import os
import re
import select
import socket
import struct
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(HERE, "..", "..", "protocol", "keeper.h")
STATES = ("STARTING", "READY", "BOUND", "FAILED", "HIBERNATED", "RECOVERING", "MOVING")
OPERATIONS = ("MOVE", "SNAPSHOT", "RESTORE", "HIBERNATE", "WAKE", "CHECK")


def numbers():
    """Message numbers and the protocol's version, from the header itself."""
    with open(HEADER) as f:
        text = f.read()
    rows = text.split("#define KEEPER_CONTROL_MESSAGES(X)")[1].split("clang-format on")[0]
    names = re.findall(r"X\((\w+), \w+, \d\)", rows)
    version = int(re.search(r"KEEPER_PROTOCOL_VERSION (\d+)u", text)[1])
    return {name: i for i, name in enumerate(names)}, version


NUMBER, VERSION = numbers()
NAME = {number: name for name, number in NUMBER.items()}


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def script():
    try:
        with open(os.environ.get("VGPU_FAKE_SCRIPT", "/nonexistent")) as f:
            return dict((line.split(None, 1) + [""])[:2] for line in f.read().splitlines() if line)
    except OSError:
        return {}


class Keeper:
    def __init__(self):
        self.dir = option("--run-dir")
        self.state = "READY"
        self.moves = self.wakes = self.starts = 0
        self.pause_ns = 0
        self.ready_at = None  # STARTING until then
        self.operation = None  # (name, when it ends, fd)
        self.control = socket.socket(fileno=int(option("--control-fd")))
        path = os.path.join(self.dir, "keeper.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(path)
        self.listener.listen()

    def note(self, line):
        with open(os.path.join(self.dir, "keeper.asked"), "a") as f:
            f.write(line + "\n")

    def send(self, name, payload=b""):
        if self.control:
            try:
                self.control.send(struct.pack("II", NUMBER[name], len(payload)) + payload)
            except OSError:
                self.control = None

    def status(self):
        idle = float(script().get("idle", 0))
        self.send("STATUS", struct.pack(
            "4IQ7I4xQQQ40s64s256s256s256sQQQ4I6Q256s", VERSION, STATES.index(self.state), os.getpid(),
            0 if self.state == "HIBERNATED" else os.getpid(), 0, 0, 0, 0, self.starts, 0, self.moves,
            self.wakes, int(idle * 1e9), self.pause_ns, 0, option("--uuid").encode(),
            option("--name").encode(), b"fake keeper", b"", b"", 0, 0, 0, *[0] * 10, b""))

    def begin(self, name, payload, fds):
        todo = script()
        if name == "MOVE":
            count, exact, at_once, _ = struct.unpack_from("4I", payload)
            self.note("MOVE exact=%d at_once=%d %s" % (exact, at_once, " ".join(
                payload[16:].decode().split("\0")[:count])))
            self.state = "MOVING"
            self.status()
        elif name in ("SNAPSHOT", "HIBERNATE"):
            self.note("%s exact=%d" % (name, struct.unpack_from("I", payload)[0]))
        else:
            self.note(name)
        if "crash" in todo:
            sys.exit(5)
        if "starting" in todo and not self.ready_at:
            self.ready_at = time.monotonic() + float(todo["starting"])
            self.state = "STARTING"
            self.status()
            self.send("DONE", struct.pack("iI4Q256s", -11, 0, 0, 0, 0, 0, b"it is starting"))
            return
        self.operation = (name, time.monotonic() + float(todo.get("slow", 0)),
                          fds[0] if fds else -1)

    def finish(self):
        name, _, fd = self.operation
        self.operation = None
        todo = script()
        code, text, lossy = 0, "", 0
        if "refuse" in todo:
            code, text = todo["refuse"].split(None, 1)
            code = -int(code)
        elif "lossy" in todo:
            text, lossy = todo["lossy"], 1
        if "checked" in todo:
            verdict, reason = todo["checked"].split(None, 1)
            self.send("CHECKED", struct.pack("II256s", int(verdict), 0, reason.encode()))
        if name == "SNAPSHOT" and not code:
            with open(todo["snapshot"], "rb") as f:
                os.write(fd, f.read())
        if name == "RESTORE":
            with open(os.path.join(self.dir, "keeper.restored"), "wb") as f:
                f.write(os.pread(fd, 1 << 30, 0))
        if name == "HIBERNATE":
            os.write(fd, b"state")
        if not code:
            self.moves += name == "MOVE"
            self.wakes += name == "WAKE"
            self.starts += name in ("MOVE", "WAKE")
            self.state = "HIBERNATED" if name == "HIBERNATE" else "READY"
        elif name == "MOVE":
            self.state = "READY"
        self.pause_ns = 12345678
        if fd >= 0:
            os.close(fd)
        if "hangup" in todo:
            self.control.close()
            self.control = None
            return
        self.status()
        self.send("DONE", struct.pack("iI4Q256s", code, lossy, 48000000, self.pause_ns, 99000000,
                                      4096, text.encode()))

    def handle(self):
        message, fds, _, _ = socket.recv_fds(self.control, 4096, 4)
        if not message:
            self.control = None
            return
        name, payload = NAME[struct.unpack_from("I", message)[0]], message[8:]
        if name == "HELLO":
            self.status()
        elif name == "STOP":
            sys.exit(0)
        elif name in OPERATIONS:
            self.begin(name, payload, fds)
        elif name == "GET_SCREEN":
            self.send("RESULT", struct.pack("iI256s", -2, 0, b"that head shows nothing"))
        elif name not in ("HOLD", "MEMORY", "MEMORY_GRANT"):  # which have no answer
            self.send("RESULT", struct.pack("iI256s", -95, 0, b"the fake cannot"))

    def run(self):
        while True:
            ends = [self.listener] + ([self.control] if self.control else [])
            ready, _, _ = select.select(ends, [], [], 0.05 if self.operation or self.state == "STARTING" else None)
            if self.listener in ready:
                self.control = self.listener.accept()[0]
            elif self.control and self.control in ready:
                self.handle()
            if self.state == "STARTING" and time.monotonic() >= self.ready_at:
                self.state = "READY"
                self.status()
            if self.operation and time.monotonic() >= self.operation[1]:
                self.finish()
            elif self.operation:
                self.send("PROGRESS", struct.pack("QQ32s", 1000000, 2000000, b"copying"))


if __name__ == "__main__":
    sys.exit(Keeper().run())
