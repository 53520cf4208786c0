# SPDX-License-Identifier: Apache-2.0
"""A vtest client that draws nothing, to be run on a vGPU on its own.

    vtest_client.py SOCKET ping [EVERY_S]   asks again and again; prints for each answer the moment it
                                            was asked (ns of CLOCK_MONOTONIC) and the ms it took;
                                            without EVERY_S only those that took over 2 ms
    vtest_client.py SOCKET submit [EVERY_S] the same, each time behind a debug marker: commands that
                                            wait for the vGPU's time slice
    vtest_client.py SOCKET mark [AFTER_S]   submits a debug marker, at which tests let a device
                                            process crash, and prints "answered" or "closed"
    vtest_client.py SOCKET deaf [FOR_S]     asks for more answers than fit into its socket, prints
                                            "asked", reads them so much later, and prints "all"
"""
import socket
import struct
import sys
import time

SUBMIT_CMD, BUSY_WAIT, CREATE_RENDERER, PROTOCOL_VERSION = 6, 7, 8, 11
SEND_STRING_MARKER = 51
LIMIT_S = 120
NOTABLE_S = 0.002


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(LIMIT_S)
    client.connect(path)
    client.sendall(struct.pack("=II5s", 5, CREATE_RENDERER, b"test\0"))
    client.sendall(struct.pack("=III", 1, PROTOCOL_VERSION, 2))
    client.recv(12, socket.MSG_WAITALL)
    return client


def ask(client):
    """Whether an answer came."""
    client.sendall(struct.pack("=IIII", 2, BUSY_WAIT, 0, 0))
    return len(client.recv(12, socket.MSG_WAITALL)) == 12


def marker():
    """One command: its header, the length of the text, the text."""
    words = struct.pack("=II4s", SEND_STRING_MARKER | 2 << 16, 4, b"mark")
    return struct.pack("=II", len(words) // 4, SUBMIT_CMD) + words


def ping(client, every_s=0.0, before=b""):
    while True:
        begin = time.monotonic()
        if before:
            client.sendall(before)
        if not ask(client):
            return
        took = time.monotonic() - begin
        if every_s or took > NOTABLE_S:
            print(f"{int(begin * 1e9)} {took * 1000:.3f}", flush=True)
        # Other work of this machine matters more than asking at every moment.
        time.sleep(every_s or 0.0005)


def mark(client, after_s=0.0):
    time.sleep(after_s)
    client.sendall(marker())
    print("answered" if ask(client) else "closed", flush=True)


def submit(client, every_s=0.0):
    ping(client, every_s, marker())


def deaf(client, for_s=1.0):
    count, answered = 800, 0
    client.sendall(struct.pack("=IIII", 2, BUSY_WAIT, 0, 0) * count)
    time.sleep(0.5)
    print("asked", flush=True)
    time.sleep(for_s)
    while answered < 12 * count:
        more = client.recv(1 << 20)
        if not more:
            break
        answered += len(more)
    print("all" if answered == 12 * count else f"{answered} of {12 * count}", flush=True)


def main(path, verb, *numbers):
    {"ping": ping, "submit": submit, "mark": mark, "deaf": deaf}[verb](connect(path), *map(float, numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
