# SPDX-License-Identifier: Apache-2.0
"""Which formats are exact is tried by the first emulated vGPU, and known to all after it."""
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import node as node_module  # noqa: E402  (found through the path set above)

pytestmark = pytest.mark.skipif(bool(node_module.missing_programs()),
                                reason="programs are not built")

LIMIT_S = 30
CREATE_RENDERER, GET_CAPS2 = 8, 9
TRYING = "is being tried"
# protocol/formats.h
HEADER = struct.Struct("=IIQQ")
EXACT, LOSSY = 1, 2
B8G8R8A8_UNORM = 1
SAMPLER_MASK = 4  # in the capset


@pytest.fixture
def node():
    with node_module.Node("[node]\nstandby = 0\n", soft_gpus=2) as one:
        yield one


def until(condition):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.02)


def capset(node, name):
    """What a client of that vGPU is offered. Afterwards another process serves the next client."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(LIMIT_S)
        client.connect(str(node.run_dir / "vgpus" / name / "vtest.sock"))
        client.sendall(struct.pack("=II5s", 5, CREATE_RENDERER, b"caps\0") +
                       struct.pack("=II", 0, GET_CAPS2))
        size, kind = struct.unpack("=II", client.recv(8, socket.MSG_WAITALL))
        assert kind == 2
        offered = client.recv(size - 1, socket.MSG_WAITALL)
        until(lambda: node.vgpu(name)["state"] == "bound")
        pid = node.vgpu(name)["pid"]
    until(lambda: node.vgpu(name)["state"] == "ready" and node.vgpu(name)["pid"] not in (0, pid))
    return offered


def create(node, name, **options):
    """Seconds it took."""
    begin = time.monotonic()
    node.create(name, method="emulate", **options)
    return time.monotonic() - begin


def tried(node):
    return node.ctl("events").stdout.count(TRYING)


def table(node):
    return node.dir / "state" / "formats" / "software"


def fnv(data):
    value = 0xcbf29ce484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001b3 % 2**64
    return value


def changed(data, number, was, finding):
    """The table with another finding for one-sample textures of one format."""
    magic, version, key, _ = HEADER.unpack_from(data)
    found = bytearray(data[HEADER.size:])
    assert found[number * 2] & 15 == was
    found[number * 2] = found[number * 2] & 0xf0 | finding
    return HEADER.pack(magic, version, key, fnv(found)) + found


def test_the_first_one_tries_and_the_others_know(node):
    first = create(node, "first")
    offered = capset(node, "first")
    assert tried(node) == 1
    second = create(node, "second")
    assert second < first / 3, (first, second)
    assert capset(node, "second") == offered
    found = table(node).read_bytes()
    assert table(node).stat().st_mode & 0o777 == 0o600

    node.kill(signal.SIGKILL)  # whoever comes after vgpud knows it too
    node.start()
    assert create(node, "third") < first / 3
    # Processes that a keeper starts: on another GPU, and in the place of one that died.
    node.ctl("move", "third", "--gpu", "soft1")
    pid = node.vgpu("third")["pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: node.vgpu("third")["state"] == "failed")
    assert capset(node, "third") == offered
    assert tried(node) == 0  # events are of this vgpud
    assert table(node).read_bytes() == found


def test_a_table_that_does_not_fit_is_tried_again(node):
    first = create(node, "first")
    offered, found = capset(node, "first"), table(node).read_bytes()
    magic, version, key, check = HEADER.unpack_from(found)
    rest = found[HEADER.size:]
    for number, other in enumerate([
            b"hello", found[:100] + bytes([found[100] ^ 1]) + found[101:],
            HEADER.pack(magic, version, key ^ 1, check) + rest]):
        table(node).write_bytes(other)
        node.ctl("delete", "first", "--force")
        create(node, "first")
        assert tried(node) == number + 2
        assert capset(node, "first") == offered
        assert table(node).read_bytes() == found
    assert create(node, "second") < first / 3
    log = (node.run_dir / "vgpus" / "first" / "keeper.log").read_text()
    assert log.count("of another driver, program or processor") == 1


def test_nothing_that_lies_there_is_in_the_way(node):
    table(node).symlink_to("/dev/zero")
    create(node, "first")
    offered = capset(node, "first")
    assert not table(node).is_symlink()
    table(node).unlink()
    os.mkfifo(table(node))
    create(node, "second")
    assert capset(node, "second") == offered and table(node).is_file()
    table(node).unlink()
    table(node).mkdir()  # cannot be replaced: each tries for itself
    create(node, "third")
    assert tried(node) == 3
    assert "tries all formats again" in \
        (node.run_dir / "vgpus" / "third" / "keeper.log").read_text()


def test_the_comparison_notices_one_format(node):
    create(node, "first")
    offered = capset(node, "first")
    table(node).write_bytes(changed(table(node).read_bytes(), B8G8R8A8_UNORM, EXACT, LOSSY))
    create(node, "second")
    lied = capset(node, "second")
    assert tried(node) == 1  # it is a table like any other
    assert lied != offered
    assert offered[SAMPLER_MASK] ^ lied[SAMPLER_MASK] == 1 << B8G8R8A8_UNORM
