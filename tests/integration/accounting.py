# SPDX-License-Identifier: Apache-2.0
"""What tests of accounting share: the API as bytes, pages of counters, a reader of samples."""
import json
import os
import socket
import sys
from pathlib import Path

from control_node import LIMIT

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import prometheus  # noqa: E402  (found through the path set above)

STATS_MAGIC, STATS_VERSION = 0x53555056, 1


def get(node, path):
    """(status, content type, body) from the API socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT)
        s.connect(node.socket)
        s.sendall(b"GET %s HTTP/1.0\r\nHost: x\r\n\r\n" % path.encode())
        reply = b""
        while part := s.recv(65536):
            reply += part
    head, body = reply.split(b"\r\n\r\n", 1)
    headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
    return int(head.split()[1]), headers.get("content-type"), body.decode()


def metrics(node):
    status, content_type, text = get(node, "/metrics")
    assert status == 200 and content_type.startswith("text/plain; version=0.0.4")
    return prometheus.parse(text)


def page_of(pid):
    return os.open("/proc/%d/fd/4" % pid, os.O_RDWR)


class Samples:
    """A reader of /v1/samples."""

    def __init__(self, node, query="?interval_ms=100"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(LIMIT)
        self.socket.connect(node.socket)
        self.socket.sendall(b"GET /v1/samples%s HTTP/1.0\r\nHost: x\r\n\r\n" % query.encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline().strip():
            pass

    def next(self):
        line = self.file.readline()
        return json.loads(line) if line else None

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
