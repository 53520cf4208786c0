#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A device process that draws nothing: it speaks protocol/keeper.h and does what a test tells it.

What to do comes from the file that VGPU_FAKE_SCRIPT names, read at start: words, one a line.
  fail TEXT     say FAILED TEXT and exit 3          die           exit 4 with a line on stderr
  late SECONDS  say READY so much later
  hang          never say READY                     garbage       send a message that breaks the table
  screen WxH    put a screen memfd into custody     used MIB      VRAM in use, in the stats page
  draws N       draws so far, in the stats page      fd            send a descriptor with READY
  stay          do not exit when told so             deaf SECONDS  read nothing for so long first
  memory PATH   on a vhost-user connection: put that file into custody as guest memory
Connections are answered: what a client sends comes back to it.
"""
import os
import select
import socket
import struct
import sys
import time

TEXT = 256
VERSION = 8
READY, CUSTODY, RELEASE, MEMORY_DONE, CLOSED, NOTICE, FAILED = range(7)
CONNECTION, VERDICT, DISCONNECT, QUIT = range(12, 16)
CUSTODY_MEMORY, CUSTODY_SCREEN = 0, 6


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def send(channel, kind, payload, fds=()):
    socket.send_fds(channel, [struct.pack("II", kind, len(payload)) + payload], list(fds))


def text(value):
    return value.encode()[:TEXT - 1].ljust(TEXT, b"\0")


def memfd(name, content, size):
    fd = os.memfd_create(name)
    os.ftruncate(fd, size)
    os.pwrite(fd, content, 0)
    return fd


def stats_page(limit_mib, used_mib, draws):
    values = [limit_mib << 20, used_mib << 20, used_mib << 20, 0, 0, 0, 7, 70, draws]
    return struct.pack("II", 0x53555056, 1) + struct.pack("%dQ" % len(values), *values)


def screen(width, height):
    header = struct.pack("IIIIQQ", 0x43535056, 1, width, height, 2, 1).ljust(4096, b"\0")
    # Blue left half, red right half, in B8G8R8X8.
    row = b"\xff\x00\x00\x00" * (width // 2) + b"\x00\x00\xff\x00" * (width - width // 2)
    return memfd("screen", header + row * height, 4096 + len(row) * height)


def script():
    try:
        with open(os.environ.get("VGPU_FAKE_SCRIPT", "/nonexistent")) as f:
            return [line.split(None, 1) for line in f if line.strip()]
    except OSError:
        return []


def main():
    if "--probe" in sys.argv:
        print('{"renderer": "fake", "ok": true}')
        return 0
    channel = socket.socket(fileno=int(option("--keeper-fd")))
    todo = {words[0]: (words[1].strip() if len(words) > 1 else "") for words in script()}
    if "fail" in todo:
        send(channel, FAILED, text(todo["fail"]))
        return 3
    if "die" in todo:
        print("the fake device was told to die", file=sys.stderr)
        return 4
    if "garbage" in todo:
        channel.send(struct.pack("II", 99, 4) + b"abcd")
        select.select([], [], [], 30)
    if "hang" in todo:
        select.select([], [], [], 60)
    time.sleep(float(todo.get("late", 0)))
    page = int(option("--stats-fd"))
    os.pwrite(page, stats_page(int(option("--vram-mib")), int(todo.get("used", 0)),
                               int(todo.get("draws", 700))), 0)
    if "fd" in todo:  # a page of its own choice, as READY once carried it
        channel.setblocking(True)
        send(channel, READY, struct.pack("II", VERSION, 0) + text("fake"), [page])
        select.select([], [], [], 30)
    send(channel, READY, struct.pack("II", VERSION, 0) + text("fake " + option("--renderer")))
    if "screen" in todo:
        width, height = map(int, todo["screen"].split("x"))
        send(channel, CUSTODY, struct.pack("IIQQQ", CUSTODY_SCREEN, 0, width, height, 0),
             [screen(width, height)])
    time.sleep(float(todo.get("deaf", 0)))
    return serve(channel, todo)


def serve(channel, todo):
    clients = {}
    serial_of = {}
    while True:
        ready, _, _ = select.select([channel] + list(clients.values()), [], [])
        for end in ready:
            if end.fileno() < 0:
                continue  # closed by a DISCONNECT of this very round
            if end is not channel:
                data = end.recv(4096)
                if data:
                    end.sendall(data)
                    continue
                number = next(i for i, c in clients.items() if c is end)
                send(channel, CLOSED, struct.pack("II", number, 0) + text(""))
                clients.pop(number).close()
                continue
            message, fds, _, _ = socket.recv_fds(channel, 4096, 4)
            if not message:
                return 0
            kind, _ = struct.unpack_from("II", message)
            if kind == QUIT and "stay" in todo:
                continue
            if kind == QUIT:
                return 0
            if kind == CONNECTION:
                number, what, _, _ = struct.unpack_from("IIII", message, 8)
                clients[number] = socket.socket(fileno=fds[0])
                if what == 0 and "memory" in todo:
                    fd = os.open(todo["memory"], os.O_RDWR)
                    send(channel, CUSTODY, struct.pack("IIQQQ", CUSTODY_MEMORY, 0, 0, 4096, 0), [fd])
                    os.close(fd)
                    serial_of[number] = number
                    send(channel, MEMORY_DONE, struct.pack("II", number, 0) + text(""))
            elif kind == VERDICT:
                number, ok = struct.unpack_from("II", message, 8)
                clients[number].sendall(b"served" if ok else b"refused: " + message[16:].rstrip(b"\0"))
            elif kind == DISCONNECT:
                number = struct.unpack_from("I", message, 8)[0]
                if number in clients:
                    clients.pop(number).close()


if __name__ == "__main__":
    sys.exit(main())
