# SPDX-License-Identifier: Apache-2.0
"""A vtest client that draws nothing: submits a debug marker, at which a test's device process dies.

    marker.py SOCKET [HOLD_S]      prints "answered" when it is answered after the marker
"""
import socket
import struct
import sys
import time

SUBMIT_CMD, BUSY_WAIT, CREATE_RENDERER, PROTOCOL_VERSION = 6, 7, 8, 11
SEND_STRING_MARKER = 51


def main(path, hold_s=0.0):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(path)
    client.sendall(struct.pack("=II5s", 5, CREATE_RENDERER, b"mark\0"))
    client.sendall(struct.pack("=III", 1, PROTOCOL_VERSION, 2))
    client.recv(12, socket.MSG_WAITALL)
    time.sleep(float(hold_s))
    # One command: its header, the length of the text, the text.
    words = struct.pack("=II4s", SEND_STRING_MARKER | 2 << 16, 4, b"mark")
    client.sendall(struct.pack("=II", len(words) // 4, SUBMIT_CMD) + words)
    client.sendall(struct.pack("=IIII", 2, BUSY_WAIT, 0, 0))
    answer = client.recv(12, socket.MSG_WAITALL)
    print("answered" if len(answer) == 12 else "closed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
