# SPDX-License-Identifier: Apache-2.0
"""Snapshot files: made under a client that goes on, looked into, damaged, refused."""
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import glstate
import image
import node as node_module
from crc32c import crc32c
from conftest import FEW, PAUSE_LIMIT_MS

OPTIONS = [*FEW, "--frames", 40, "--pace-ms", 20]
HEAD = struct.Struct("<8sHHI")
SECTION = struct.Struct("<IHHQQII")
SOURCE, END, CRITICAL, WITH_CRC = 1, 14, 1, 4
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "state" / "1.0-drawn.vgpustate"


@pytest.fixture(scope="module")
def snapshot(shared_node, references, tmp_path_factory):
    """A file made in the middle of a run."""
    path = tmp_path_factory.mktemp("snapshot") / "one.vgpu"
    shared_node.create("snapped")
    with glstate.Run(shared_node, "snapped", *OPTIONS) as run:
        run.wait_frames(20)
        answer = shared_node.json("snapshot", "snapped", path)
        assert answer["state_bytes"] > 0 and answer["pause_ms"] < PAUSE_LIMIT_MS and not answer["lossy"]
        glstate.compare(references.of(*OPTIONS), run.finish())
    return path


def inspect(node, path, *options):
    return node.ctl("inspect", path, *options, check=False)


def refused(done):
    """One line says why."""
    assert done.returncode == 1, (done.returncode, done.stdout[-300:], done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr.strip()


def sections(raw):
    """[(type, offset, end)] of a file that is whole."""
    at, found = HEAD.size, []
    while at < len(raw):
        kind, _, _, stored, *_ = SECTION.unpack_from(raw, at)
        end = at + SECTION.size + (stored + 7) // 8 * 8
        found.append((kind, at, end))
        at = end
    return found


def test_the_file_is_what_it_says(snapshot):
    raw = snapshot.read_bytes()
    assert HEAD.unpack_from(raw)[0] == b"VGPUSTAT"
    kinds = [kind for kind, _, _ in sections(raw)]
    assert kinds[0] == SOURCE and kinds[-1] == END and kinds.count(END) == 1
    assert oct(snapshot.stat().st_mode & 0o077) == oct(0), "others can read a guest's pixels"


def test_inspect_shows_what_is_in_it(shared_node, snapshot, tmp_path):
    assert inspect(shared_node, snapshot).stdout.strip()
    seen = shared_node.json("inspect", snapshot)
    assert len(seen["resources"]) > 10 and seen["contexts"]
    shared_node.ctl("inspect", snapshot, "--png", tmp_path)
    pictures = sorted(tmp_path.glob("*.png"))
    assert pictures
    assert any(not image.read_png(one).blank() for one in pictures)


def test_cut_off_anywhere_is_refused(shared_node, snapshot, tmp_path):
    raw, path = snapshot.read_bytes(), tmp_path / "cut.vgpu"
    ends = [end for _, _, end in sections(raw)]
    for size in sorted({0, 1, HEAD.size - 1, HEAD.size, HEAD.size + 5, len(raw) // 3, len(raw) - 1,
                        *ends[:3], ends[-2]}):
        path.write_bytes(raw[:size])
        refused(inspect(shared_node, path))


def test_any_flipped_bit_is_refused(shared_node, snapshot, tmp_path):
    raw, path = snapshot.read_bytes(), tmp_path / "flipped.vgpu"
    random = glstate.chance("bits")
    places = [random.randrange(len(raw)) for _ in range(25)]
    for _, at, end in sections(raw)[:4]:
        places += [at + random.randrange(SECTION.size), at + SECTION.size]
    padding = {place for _, at, end in sections(raw)
               for place in range(at + SECTION.size + SECTION.unpack_from(raw, at)[3], end)}
    for place in places:
        if place in padding or place < HEAD.size:
            continue
        damaged = bytearray(raw)
        damaged[place] ^= 1 << random.randrange(8)
        path.write_bytes(damaged)
        refused(inspect(shared_node, path))


def test_sections_out_of_order_are_refused(shared_node, snapshot, tmp_path):
    raw, path = snapshot.read_bytes(), tmp_path / "order.vgpu"
    parts = [raw[at:end] for _, at, end in sections(raw)]
    for order in ([*parts[1:-1], parts[0], parts[-1]], [parts[-1], *parts[:-1]], [*parts[:-1]],
                  [*parts[:2], *parts[3:]], [*parts, parts[-1]]):
        path.write_bytes(raw[:HEAD.size] + b"".join(order))
        refused(inspect(shared_node, path))


def section(kind, flags, payload, size=None, stored=None):
    """One with checksums that are right, whatever else is not."""
    head = struct.pack("<IHHQQI", kind, 1, flags, len(payload) if stored is None else stored,
                       len(payload) if size is None else size, crc32c(payload))
    return head + struct.pack("<I", crc32c(head)) + payload + bytes(-len(payload) % 8)


@pytest.mark.parametrize("what,flags,size,stored", [
    ("unknown and critical", CRITICAL | WITH_CRC, None, None),
    ("longer than the file", WITH_CRC, 1 << 40, 1 << 40),
    ("longer than can be", WITH_CRC, (1 << 64) - 1, (1 << 64) - 1),
    ("a bomb", WITH_CRC | 2, 1 << 60, None),
], ids=["critical", "long", "overflow", "bomb"])
def test_strange_sections_are_refused(shared_node, snapshot, tmp_path, what, flags, size, stored):
    raw, path = snapshot.read_bytes(), tmp_path / "strange.vgpu"
    at = sections(raw)[1][1]
    path.write_bytes(raw[:at] + section(999, flags, b"whatever", size, stored) + raw[at:])
    refused(inspect(shared_node, path))


def test_the_future_is_refused(shared_node, snapshot, tmp_path):
    raw, path = snapshot.read_bytes(), tmp_path / "future.vgpu"
    magic, major, minor, order = HEAD.unpack_from(raw)
    for head in ((magic, major + 1, minor, order), (b"VGPUSTAX", major, minor, order),
                 (magic, major, minor, 0x04030201), (magic, 0, minor, order)):
        path.write_bytes(HEAD.pack(*head) + raw[HEAD.size:])
        refused(inspect(shared_node, path))


def test_other_files_are_refused(shared_node, tmp_path):
    (tmp_path / "empty").touch()
    for path in (tmp_path / "empty", tmp_path / "absent", tmp_path, "/dev/null", "/dev/zero",
                 glstate.PROGRAM):
        refused(inspect(shared_node, path))


def test_restored_into_a_new_vgpu(shared_node, snapshot, vgpu):
    shared_node.ctl("restore", vgpu, snapshot)
    assert shared_node.vgpu(vgpu)["state"] in ("ready", "bound")


def test_a_file_of_an_earlier_version_is_loaded(shared_node, vgpu):
    done = shared_node.ctl("restore", vgpu, GOLDEN, check=False)
    # A driver that offers less than the one that drew it cannot, and says so.
    if done.returncode:
        assert "cannot do what the guest was promised" in refused(done)
        return
    assert shared_node.vgpu(vgpu)["state"] in ("ready", "bound")
    assert shared_node.vgpu(vgpu)["failure"] is None


def test_damaged_files_are_not_restored(shared_node, references, snapshot, vgpu, tmp_path):
    raw, path = snapshot.read_bytes(), tmp_path / "bad.vgpu"
    for damaged in (raw[:len(raw) // 2], raw[:100] + bytes([raw[100] ^ 1]) + raw[101:], b""):
        path.write_bytes(damaged)
        refused(shared_node.ctl("restore", vgpu, path, check=False))
    # And nothing is left of the attempts.
    with glstate.Run(shared_node, vgpu, *FEW) as run:
        glstate.compare(references.of(*FEW), run.finish())


def test_a_restore_under_a_client_is_refused(shared_node, references, snapshot, vgpu):
    with glstate.Run(shared_node, vgpu, *OPTIONS) as run:
        run.wait_frames(5)
        refused(shared_node.ctl("restore", vgpu, snapshot, check=False))
        glstate.compare(references.of(*OPTIONS), run.finish())


def test_a_vgpu_that_offers_less_refuses(programs, snapshot):
    """An emulated vGPU promises its guests less than a forwarded one did."""
    with node_module.Node() as node:
        node.create("a", method="emulate")
        why = refused(node.ctl("restore", "a", snapshot, check=False))
        assert "cannot do what the guest was promised" in why, why
        with glstate.Run(node, "a", "--only", "blend", "--frames", 2) as run:
            run.finish()


@pytest.fixture
def small_disk(tmp_path):
    """A command line before vgpuctl that gives it a disk of 64 KiB, and the path there."""
    place = tmp_path / "small"
    place.mkdir()
    space = ["unshare", "--mount"] + (["--map-root-user"] if os.geteuid() else [])
    script = f"mount -t tmpfs -o size=64k none {place} && exec \"$@\""
    if subprocess.run([*space, "sh", "-c", script, "sh", "true"], capture_output=True,
                      timeout=20).returncode:
        pytest.skip("no mount namespaces here, so no small disk")
    return [*space, "sh", "-c", script, "sh"], place


def test_a_full_disk_leaves_the_source_alone(programs, references, small_disk):
    before, place = small_disk
    with node_module.Node() as node:
        node.create("a")
        with glstate.Run(node, "a", *OPTIONS) as run:
            run.wait_frames(5)
            # The file is opened by vgpuctl: its disk is the small one.
            done = subprocess.run([*before, *node.command("snapshot", "a", place / "one.vgpu")],
                                  env=node.environment, capture_output=True, text=True, timeout=30)
            assert "space" in refused(done)
            glstate.compare(references.of(*OPTIONS), run.finish())


def test_a_place_that_cannot_be_written_is_refused(shared_node, references, vgpu, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "no" / "such", tmp_path / "file" / "below"):
        refused(shared_node.ctl("snapshot", vgpu, path, check=False))


def test_a_device_killed_while_it_saves(shared_node, references, vgpu, tmp_path):
    options = ["--fill-mib", 32, *OPTIONS]
    with glstate.Run(shared_node, vgpu, *options) as run:
        run.wait_frames(3)
        for turn in range(3):
            saving = shared_node.spawn_ctl("snapshot", vgpu, tmp_path / f"{turn}.vgpu")
            pid = glstate.kill_device(shared_node, vgpu)
            status = saving.wait(30)
            assert status in (0, 1)
            if status == 0:
                assert inspect(shared_node, tmp_path / f"{turn}.vgpu").returncode == 0
            else:
                # A file that is there is whole; half ones are not left.
                assert not (tmp_path / f"{turn}.vgpu").exists()
            glstate.wait_recovered(shared_node, vgpu, pid)
        glstate.compare(references.of(*options), run.finish())


def test_a_file_that_was_there_survives_a_failure(shared_node, snapshot, tmp_path):
    kept = tmp_path / "kept.vgpu"
    shutil.copy(snapshot, kept)
    refused(shared_node.ctl("snapshot", "nosuch", kept, check=False))
    assert kept.read_bytes() == snapshot.read_bytes()
