# SPDX-License-Identifier: Apache-2.0
"""move, snapshot, restore, hibernate, wake, check and inspect: what vgpud and vgpuctl make of them.

The keeper is a fake that does what a test says, so each of its answers can be had.
"""
import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

from crc32c import crc32c  # noqa: E402  (found through the path set above)
from control_node import HERE, LIMIT, ROOT, BIN, Node, until

KEEPER = os.path.join(HERE, "fake_keeper.py")
GOLDEN = os.path.join(ROOT, "tests", "golden", "state", "1.0.vgpustate")
DRAWN = os.path.join(ROOT, "tests", "golden", "state", "1.0-drawn")  # .vgpustate, .json
CONFIG = "keeper = %s\n" % KEEPER


@pytest.fixture
def node():
    with Node(CONFIG, args=("--soft-gpus", "2")) as n:
        n.script("snapshot %s\n" % GOLDEN)
        yield n


def asked(node, name="a"):
    with open(os.path.join(node.run_dir, "vgpus", name, "keeper.asked")) as f:
        return f.read().splitlines()


def asked_for(node, word):
    try:
        return any(line.startswith(word) for line in asked(node))
    except OSError:
        return False


def events(node):
    return [e["text"] for e in node.json("events")]


def begin(node, *args):
    """It ends by SIGINT, even where the tests were started in the background and ignore it."""
    return subprocess.Popen([os.path.join(BIN, "vgpuctl")] + list(args), env=node.env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


# ---- move ----


def test_move_and_what_it_says(node):
    node.create("a")
    out = node.json("move", "a", "--gpu", "soft1")
    assert out == {"name": "a", "gpu": "soft1", "state_bytes": 48000000, "pause_ms": 12.345,
                   "total_ms": 99.0, "held_bytes": 4096, "lossy": []}
    shown = node.json("show", "a")
    assert (shown["gpu"], shown["type"], shown["moves"], shown["last_pause_ms"], shown["state"]) == (
        "soft1", "soft1-128", 1, 12.345, "ready")
    assert node.json("gpu", "show", "soft0")["vgpus"] == 0
    assert node.json("gpu", "show", "soft1")["type"] == "soft1-128"
    assert any("moved to soft1" in e for e in events(node))
    # Its own GPU: the process is replaced.
    text = node.good("move", "a", "--gpu", "soft1")
    assert text.startswith("a is on soft1: 48.0 MB of state, the guest paused 12.3 ms, 99.0 ms")
    line = asked(node)[-1]
    assert line.startswith("MOVE exact=0 at_once=0 --name a") and "--vram-mib 128" in line, line
    node.kill()
    node.start()
    assert node.json("show", "a")["gpu"] == "soft1"


def test_move_checks_the_rules_first(node):
    node.create("a")
    node.create("b", "soft1-256", "soft1")
    assert "soft9" in node.refused("move", "a", "--gpu", "soft9")
    assert "of one type" in node.refused("move", "a", "--gpu", "soft1")
    assert "no vGPU of that name" in node.refused("move", "nobody", "--gpu", "soft1")
    assert not os.path.exists(os.path.join(node.run_dir, "vgpus", "a", "keeper.asked"))
    assert node.ctl("move", "a").returncode == 2


def test_move_to_a_gpu_that_is_full():
    with Node(CONFIG + "[gpu soft1]\nvram_mib = 128\n", args=("--soft-gpus", "2")) as node:
        node.create("a")
        node.create("b", "soft1-128", "soft1")
        assert "no room" in node.refused("move", "a", "--gpu", "soft1")
        node.create("c", "soft0-128")
        node.good("delete", "b")
        # Who is on his way counts already.
        node.script("slow 1")
        moving = begin(node, "move", "a", "--gpu", "soft1")
        until(lambda: node.state("a") == "moving")
        assert "no room" in node.refused("create", "d", "--gpu", "soft1", "--type", "soft1-128")
        assert "no room" in node.refused("move", "c", "--gpu", "soft1")
        assert moving.wait(LIMIT) == 0
        moving.communicate()
        # No type like it there.
        node.script("")
        node.good("delete", "a")
        node.create("e", "soft0-128")


def test_no_type_like_it():
    with Node(CONFIG + "[type odd]\ngpu = soft0\nvram_mib = 96\n",
              args=("--soft-gpus", "2")) as node:
        node.create("a", "odd")
        assert "no type like odd" in node.refused("move", "a", "--gpu", "soft1")


def test_a_refused_move_changes_nothing(node):
    node.create("a")
    node.script("refuse 95 the capset of soft1 does not cover what the guest was promised")
    line = node.refused("move", "a", "--gpu", "soft1")
    assert "move a: the capset of soft1" in line and line.endswith("(see `vgpuctl check`)")
    shown = node.json("show", "a")
    assert (shown["gpu"], shown["state"], shown["operation"]) == ("soft0", "ready", None)
    assert node.json("gpu", "show", "soft1")["vgpus"] == 0
    # Words that say what to do are left as they are.
    node.script("refuse 16 a resource is mapped (end the program that maps it)")
    assert node.refused("move", "a", "--gpu", "soft1").endswith("(end the program that maps it)")


def test_lossy_unless_exact(node):
    node.create("a")
    node.script("lossy one sample of four is kept")
    out = node.json("move", "a", "--gpu", "soft1", "--exact")
    assert out["lossy"] == ["one sample of four is kept"]
    assert asked(node)[-1].startswith("MOVE exact=1 at_once=0 ")
    node.good("move", "a", "--gpu", "soft1", "--no-precopy")
    assert asked(node)[-1].startswith("MOVE exact=0 at_once=1 ")
    assert "lossy: one sample of four is kept" in node.good("move", "a", "--gpu", "soft0")


def test_one_operation_at_a_time(node):
    node.create("a")
    node.script("slow 1.5\nsnapshot %s" % GOLDEN)
    moving = begin(node, "move", "a", "--gpu", "soft1", "--progress")
    until(lambda: node.json("show", "a")["operation"] == "move")
    target = os.path.join(node.dir, "f")
    line = node.refused("snapshot", "a", target)
    assert "snapshot a: a move of it is under way (wait for that)" in line
    assert not os.path.exists(target)
    assert "under way" in node.refused("hibernate", "a")
    out, err = moving.communicate(timeout=LIMIT)
    assert moving.returncode == 0, err
    assert "move: copying, 1.0 MB of 2.0 MB" in err.splitlines()
    assert "a is on soft1" in out


@pytest.mark.parametrize("works", [True, False])
def test_vgpud_killed_during_a_move(node, works):
    node.create("a")
    node.script("slow 1.5" + ("" if works else "\nrefuse 5 the new device process died"))
    moving = begin(node, "move", "a", "--gpu", "soft1")
    until(lambda: node.state("a") == "moving")
    node.kill()
    moving.communicate(timeout=LIMIT)
    assert moving.returncode == 1
    node.start()
    # Until the keeper says how it ended, it counts on both.
    assert node.json("gpu", "show", "soft1")["vgpus"] == 1
    until(lambda: node.state("a") == "ready")
    assert node.json("show", "a")["gpu"] == ("soft1" if works else "soft0")
    assert node.json("gpu", "show", "soft1")["vgpus"] == int(works)
    assert any("no vgpud watched" in e if works else "its move failed" in e for e in events(node))


@pytest.mark.parametrize("works", (True, False))
def test_the_link_breaks_during_a_move(node, works):
    """Whether it moved is what the keeper says afterwards."""
    node.create("a")
    node.script("hangup\n" + ("" if works else "refuse 5 it did not work\n"))
    assert "keeper is gone" in node.refused("move", "a", "--gpu", "soft1")
    node.script("")
    gpu = "soft1" if works else "soft0"
    words = "moved to soft1" if works else "its move failed"
    until(lambda: any(words in e for e in events(node)))
    assert node.json("show", "a")["gpu"] == gpu
    node.good("move", "a", "--gpu", gpu)


def test_keeper_ends_in_the_middle(node):
    node.create("a")
    node.script("crash")
    assert "keeper" in node.refused("move", "a", "--gpu", "soft1")
    until(lambda: node.state("a") == "failed")
    assert node.json("show", "a")["gpu"] == "soft0"
    node.script("")


def test_a_store_of_version_1_is_read(node):
    node.create("a")
    node.kill()
    db = sqlite3.connect(os.path.join(node.state_dir, "vgpud.db"))
    rows = db.execute("SELECT name, uuid, gpu, method, phase, type, vram_mib, max_width, max_height,"
                      " heads FROM vgpus").fetchall()
    db.executescript(
        "DROP TABLE IF EXISTS gpus; DROP TABLE vgpus; CREATE TABLE vgpus (name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE,"
        " gpu TEXT NOT NULL, method INTEGER NOT NULL, phase INTEGER NOT NULL, type TEXT NOT NULL,"
        " vram_mib INTEGER NOT NULL, max_width INTEGER NOT NULL, max_height INTEGER NOT NULL,"
        " heads INTEGER NOT NULL) STRICT, WITHOUT ROWID; PRAGMA user_version = 1;")
    db.executemany("INSERT INTO vgpus VALUES (?,?,?,?,?,?,?,?,?,?)", rows)
    db.commit()
    db.close()
    node.start()
    until(lambda: node.state("a") == "ready")
    node.good("move", "a", "--gpu", "soft1")
    node.kill()
    node.start()
    assert node.json("show", "a")["gpu"] == "soft1"


# ---- snapshot and restore ----


def test_snapshot_is_the_keepers_file(node):
    node.create("a")
    target = os.path.join(node.dir, "state")
    out = node.json("snapshot", "a", target)
    assert out["state_bytes"] == 48000000 and out["lossy"] == []
    with open(GOLDEN, "rb") as f, open(target, "rb") as g:
        assert f.read() == g.read()
    assert os.stat(target).st_mode & 0o077 == 0
    text = node.good("snapshot", "a", target, "--exact")
    assert text.startswith("a is saved in %s: 48.0 MB" % target)
    assert asked(node) == ["SNAPSHOT exact=0", "SNAPSHOT exact=1"]
    done = subprocess.run([os.path.join(BIN, "vgpuctl"), "snapshot", "a", "-"], env=node.env,
                          capture_output=True, timeout=LIMIT)
    with open(GOLDEN, "rb") as f:
        assert done.stdout == f.read()


def test_refused_snapshot_leaves_the_old_file(node):
    node.create("a")
    target = os.path.join(node.dir, "state")
    with open(target, "w") as f:
        f.write("older")
    node.script("refuse 28 the disk is full")
    assert "free some space" in node.refused("snapshot", "a", target)
    with open(target) as f:
        assert f.read() == "older"
    assert [n for n in os.listdir(node.dir) if n.startswith("state")] == ["state"]
    assert "choose another file" in node.refused("snapshot", "a", "/nonexistent/x")
    assert node.state("a") == "ready"


def test_an_interrupted_snapshot_leaves_nothing(node, tmp_path):
    node.create("a")
    node.script("slow 30\nsnapshot %s\n" % GOLDEN)
    saving = begin(node, "snapshot", "a", str(tmp_path / "f"))
    until(lambda: asked_for(node, "SNAPSHOT"))
    saving.send_signal(signal.SIGINT)
    saving.communicate(timeout=LIMIT)
    assert saving.returncode == -signal.SIGINT
    assert os.listdir(tmp_path) == []


def test_snapshot_to_a_full_disk(node):
    node.create("a")
    done = node.ctl("snapshot", "a", "-", prefix=("sh", "-c", 'exec "$@" >/dev/full', "x"))
    assert done.returncode == 1 and "free some space" in done.stderr


def test_no_state_is_left_behind(node):
    node.create("a")
    node.good("snapshot", "a", os.path.join(node.dir, "f"))
    node.good("hibernate", "a")
    left = [n for n in os.listdir(node.state_dir) if not n.startswith("vgpud.db")]
    assert sorted(left) == ["formats", "shaders"]
    assert os.listdir(os.path.join(node.state_dir, "formats")) == []
    assert [files for _, _, files in os.walk(os.path.join(node.state_dir, "shaders")) if files] == []


def test_restore_gives_the_keeper_the_file(node):
    node.create("a")
    big = os.path.join(node.dir, "big")
    with open(big, "wb") as f:
        f.write(os.urandom(1 << 20) * 9)
    out = node.json("restore", "a", big)
    assert out["pause_ms"] == 12.345
    with open(big, "rb") as f, open(os.path.join(node.run_dir, "vgpus/a/keeper.restored"), "rb") as g:
        assert zlib.crc32(f.read()) == zlib.crc32(g.read())
    assert node.good("restore", "a", GOLDEN).startswith("a is as in ")
    node.script("refuse 116 its guest has moved on since")
    assert "stop the guest" in node.refused("restore", "a", GOLDEN)
    node.script("refuse 74 section RESOURCE is damaged")
    assert "vgpuctl inspect" in node.refused("restore", "a", GOLDEN)
    assert "can be read" in node.refused("restore", "a", "/nonexistent")
    assert "no vGPU of that name" in node.refused("restore", "nobody", GOLDEN)


def test_upload_to_a_full_disk():
    limit = ("prlimit", "--fsize=%d" % (2 << 20))
    with Node(CONFIG, prefix=limit) as node:
        node.create("a")
        big = os.path.join(node.dir, "big")
        with open(big, "wb") as f:
            f.truncate(4 << 20)
        line = node.refused("restore", "a", big)
        assert "cannot be kept" in line or "too large" in line
        assert node.state("a") == "ready"


# ---- hibernate, wake, check ----


def test_hibernate_and_wake(node):
    node.create("a")
    assert node.good("hibernate", "a").startswith("a hibernates: ")
    assert asked(node) == ["HIBERNATE exact=0"]  # by hand a loss is said, not refused
    shown = node.json("show", "a")
    assert (shown["state"], shown["pid"]) == ("hibernated", None)
    node.kill()
    node.start()
    assert until(lambda: node.state("a")) == "hibernated"
    assert node.good("wake", "a").startswith("a is awake: ")
    assert node.json("show", "a")["wakes"] == 1
    assert any("woken" in e for e in events(node))
    node.good("hibernate", "a")
    node.good("delete", "a")


def test_check(node):
    node.create("a")
    assert node.json("check", "a") == {"name": "a", "verdict": "fine", "reasons": []}
    node.script("checked 1 one sample of four is kept")
    assert node.json("check", "a") == {"name": "a", "verdict": "lossy", "reasons": [
        {"verdict": "lossy", "text": "one sample of four is kept"}]}
    node.script("checked 2 a resource is shared with another process")
    assert node.good("check", "a").splitlines() == [
        "a: saving it now would be refused",
        "refused  a resource is shared with another process"]


def test_an_operation_waits_for_a_process_that_is_starting(node):
    node.create("a")
    node.script("starting 0.5")
    began = time.monotonic()
    assert node.json("check", "a")["verdict"] == "fine"
    assert time.monotonic() - began >= 0.4
    assert asked(node) == ["CHECK", "CHECK"]
    file = os.path.join(node.dir, "f")
    node.script("starting 0.5")
    node.create("b")
    with open(file, "wb") as f:
        f.write(b"x" * 1000)
    node.good("restore", "b", file)  # its file is given once more
    with open(os.path.join(node.run_dir, "vgpus/b/keeper.restored"), "rb") as g:
        assert g.read() == b"x" * 1000


def test_a_screenshot_of_one_that_sleeps(node):
    node.create("a")
    node.good("hibernate", "a")
    file = os.path.join(node.dir, "a.png")
    line = node.refused("screenshot", "a", file)
    assert line.endswith("a: it hibernates and shows nothing (wake it: vgpuctl wake a)"), line
    assert not os.path.exists(file)


@pytest.mark.parametrize("config, hibernates", [
    ("hibernate_idle_s = 5\n", True),
    ("hibernate_idle_s = 500\n", False),
    ("", False),
    ("hibernate_idle_s = 5\n[type soft0-128]\ngpu = soft0\nvram_mib = 128\nhibernate_idle_s = 0\n",
     False),
    ("[type soft0-128]\ngpu = soft0\nvram_mib = 128\nhibernate_idle_s = 5\n", True),
])
def test_policy(config, hibernates):
    with Node(CONFIG + config) as node:
        node.create("a")
        node.script("idle 10")
        if hibernates:
            until(lambda: node.state("a") == "hibernated")
            # Awake, and idle again.
            node.script("")
            node.good("wake", "a")
            node.script("idle 10")
            until(lambda: node.state("a") == "hibernated")
        else:
            time.sleep(2.5)
            assert node.state("a") == "ready"


def test_policy_that_is_refused_is_not_tried_all_the_time():
    with Node(CONFIG + "hibernate_idle_s = 5\n") as node:
        node.create("a")
        node.script("idle 10\nrefuse 16 not now")
        until(lambda: any("not hibernated" in e for e in events(node)))
        time.sleep(2.5)
        assert asked(node) == ["HIBERNATE exact=1"]


# ---- method emulate ----


def test_emulate_is_exact_without_being_asked(node):
    node.good("create", "a", "--gpu", "soft0", "--type", "soft0-128", "--method", "emulate")
    shown = node.json("show", "a")
    assert (shown["method"], shown["state"]) == ("emulate", "ready")
    node.good("move", "a", "--gpu", "soft1")
    line = asked(node)[-1]
    assert line.startswith("MOVE exact=1 ") and "--exact-only" in line
    node.good("snapshot", "a", os.path.join(node.dir, "f"))
    assert asked(node)[-1] == "SNAPSHOT exact=1"
    assert "of one method" in node.refused(
        "create", "b", "--gpu", "soft1", "--type", "soft1-128", "--method", "forward")


# ---- inspect ----


def inspect(*args):
    return subprocess.run([os.path.join(BIN, "vgpuctl"), "inspect"] + list(args),
                          capture_output=True, text=True, timeout=LIMIT)


def test_inspect_refuses_what_is_no_state(tmp_path):
    with open(GOLDEN, "rb") as f:
        whole = f.read()
    for name, content, why in (("cut", whole[:-1], "ends"), ("empty", b"", "no saved state"),
                               ("other", b"PNG" * 100, "no saved state"),
                               ("newer", whole[:8] + b"\x02" + whole[9:], "newer"),
                               ("flipped", whole[:70] + b"\xff" + whole[71:], "damaged")):
        path = tmp_path / name
        path.write_bytes(content)
        done = inspect(str(path))
        assert done.returncode == 1 and why in done.stderr, (name, done.stderr)
        assert len(done.stderr.splitlines()) == 1 and done.stderr.endswith(")\n")
    assert inspect("/nonexistent").returncode == 1
    assert inspect().returncode == 2


def test_inspect_counts_sections():
    done = inspect("--json", GOLDEN)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sections"]["CONTENT"] == 2


def without_new_fields(expected, seen):
    """`seen` with only the fields that `expected` has: fields are added, never renamed."""
    if isinstance(expected, dict):
        return {key: without_new_fields(expected[key], seen[key])
                for key in expected if key in seen}
    if isinstance(expected, list) and len(expected) == len(seen):
        return [without_new_fields(*pair) for pair in zip(expected, seen)]
    return seen


def test_inspect_says_of_an_old_file_what_it_said(tmp_path):
    done = inspect("--json", DRAWN + ".vgpustate", "--png", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with open(DRAWN + ".json") as f:
        expected = json.load(f)
    assert without_new_fields(expected, json.loads(done.stdout)) == expected
    assert len(list(tmp_path.glob("*.png"))) == 3  # its three 2D textures


def test_help_names_every_verb():
    text = subprocess.run([os.path.join(BIN, "vgpuctl"), "--help"], capture_output=True, text=True,
                          timeout=LIMIT).stdout
    for verb in ("move", "snapshot", "restore", "inspect", "check", "hibernate", "wake"):
        assert "\n  %s " % verb in text
        one = subprocess.run([os.path.join(BIN, "vgpuctl"), verb, "--help"], capture_output=True,
                             text=True, timeout=LIMIT)
        assert one.returncode == 0 and one.stdout.startswith("usage: vgpuctl")


class State:
    """Writes a state as a device process does (src/device/state.h); text is (length, bytes)."""

    def __init__(self):
        self.raw = struct.pack("<8sHHI", b"VGPUSTAT", 1, 0, 0x01020304)
        self.checked = self.raw
        self.sections = 0

    def section(self, kind, *parts):
        payload = b"".join(struct.pack("<I", p) if isinstance(p, int) else
                           struct.pack("<I", len(p)) + p.encode() if isinstance(p, str) else p
                           for p in parts)
        head = struct.pack("<IHHQQI", kind, 1, 5, len(payload), len(payload), crc32c(payload))
        crcs = head[-4:] + struct.pack("<I", crc32c(head))
        self.checked += crcs
        self.sections += 1
        self.raw += head + crcs[4:] + payload + bytes(-len(payload) % 8)
        return self

    def resource(self, number, target, fmt, width, height, layers, pixels):
        self.section(4, 1, number + 100, number, struct.pack("<Q", number),
                     *[target, fmt, 0, width, height, 1, layers, 0, 0, 0, 0], bytes(16))
        size = len(pixels) // layers
        for part in range(layers):
            self.section(5, number, part, 0, struct.pack("<QQ", number, size),
                         pixels[size * part:size * part + size])
        return self

    def write(self, path):
        self.section(14, struct.pack("<QI", self.sections, crc32c(self.checked)))
        path.write_bytes(self.raw)
        return str(path)


def png_pixels(path):
    """[(r, g, b, a), ...] of an RGBA picture with 8 bits a channel."""
    raw = path.read_bytes()
    width, height, depth, kind = struct.unpack_from(">IIBB", raw, 16)
    assert raw[:8] == b"\x89PNG\r\n\x1a\n" and (depth, kind) == (8, 6)
    at, data = 8, b""
    while at < len(raw):
        size, name = struct.unpack_from(">I4s", raw, at)
        data += raw[at + 8:at + 8 + size] if name == b"IDAT" else b""
        at += 12 + size
    rows, out, before = zlib.decompress(data), [], bytes(4 * width)
    for y in range(height):
        kind, *row = rows[y * (4 * width + 1):(y + 1) * (4 * width + 1)]
        line = []
        for i, value in enumerate(row):
            left, up = line[i - 4] if i >= 4 else 0, before[i]
            corner = before[i - 4] if i >= 4 else 0
            nearest = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
            line.append((value + (0, left, up, (left + up) // 2, nearest)[kind]) & 255)
        before = line
        out += [tuple(line[i:i + 4]) for i in range(0, 4 * width, 4)]
    return out


# Format, its bytes for one pixel, the picture's pixel.
PIXELS = [
    (1, b"\x10\x20\x30\x40", (0x30, 0x20, 0x10, 0x40)),                  # B8G8R8A8_UNORM
    (2, b"\x10\x20\x30\x40", (0x30, 0x20, 0x10, 255)),                   # B8G8R8X8_UNORM
    (67, b"\x10\x20\x30\x40", (0x10, 0x20, 0x30, 0x40)),                 # R8G8B8A8_UNORM
    (3, b"\x10\x20\x30\x40", (0x20, 0x30, 0x40, 0x10)),                  # A8R8G8B8_UNORM
    (7, struct.pack("<H", 31 << 11 | 0 << 5 | 0), (255, 0, 0, 255)),     # B5G6R5_UNORM
    (8, struct.pack("<I", 1023 | 3 << 30), (255, 0, 0, 255)),            # R10G10B10A2_UNORM
    (64, b"\x77", (0x77, 0x77, 0x77, 255)),                              # R8_UNORM
    (31, struct.pack("<4f", 1, 0.5, -3, 7), (255, 128, 0, 255)),         # R32G32B32A32_FLOAT
    (94, struct.pack("<4e", 1, 0.5, float("nan"), 1), (255, 128, 0, 255)),  # R16G16B16A16_FLOAT
    (21, struct.pack("<I", 0x800000), (128, 128, 128, 255)),             # Z24X8_UNORM
    (20, struct.pack("<I", 0x800000ff), (128, 128, 128, 255)),           # S8_UINT_Z24_UNORM
    (18, struct.pack("<f", 0.25), (64, 64, 64, 255)),                    # Z32_FLOAT
]


@pytest.mark.parametrize("fmt, pixel, expected", PIXELS)
def test_pictures_are_what_was_drawn(tmp_path, fmt, pixel, expected):
    black = bytes(len(pixel))
    path = State().resource(9, 2, fmt, 3, 2, 1, black + pixel + black * 4).write(tmp_path / "f")
    done = inspect(path, "--png", str(tmp_path / "png"))
    assert done.returncode == 0 and "1 pictures" in done.stdout, done.stderr
    assert png_pixels(tmp_path / "png" / "resource-9.png")[1] == expected


def test_inspect_of_everything(tmp_path):
    state = State()
    state.section(1, "llvmpipe \x1b[1m", "0.1", 1, 2, 1, 8, b"capability")
    head = [7, 0, 0, 640, 480, 1, 640, 480, 0, 0, 0, 0, 0, 0]
    state.section(2, struct.pack("<Q", 256 << 20), 1, 1920, 1200, 9, 3, 2,
                  struct.pack("<QQ", 5, 4096), *head)
    state.section(3, 1, "vtest 5")
    state.resource(7, 2, 1, 4, 4, 1, bytes(range(64)))
    state.resource(8, 4, 64, 2, 2, 6, bytes(24))
    state.section(5, 8, 0, 2, struct.pack("<QQ", 8, 4))  # NOT_HERE
    state.section(6, 1, 1, 1, 0, "glxgears", 2, 107, 7, 108, 8)
    shader = [4 << 8 | 1 | 5 << 16, 3, 1, 0, 0, 0]
    rest = [4 << 8 | 1 | 5 << 16, 3, 1, 0x80000004, 0, 0]
    state.section(7, 1, *[29 | 1 << 16, 1], *shader, *rest, *[1 << 8 | 1 | 1 << 16, 4])
    state.section(8, 1, 3, bytes(72))
    state.section(13, "one sample of four is kept")
    path = state.write(tmp_path / "f")
    seen = json.loads(inspect("--json", path).stdout)
    assert seen["renderer"] == "llvmpipe ?[1m" and seen["program_version"] == "0.1"
    assert seen["device"]["vram_mib"] == 256 and seen["device"]["screens"][0]["width"] == 640
    assert seen["clients"] == [{"id": 1, "name": "vtest 5"}]
    assert [(r["id"], r["handle"], r["format"], r["target"]) for r in seen["resources"]] == [
        (7, 107, "B8G8R8A8_UNORM", "2d"), (8, 108, "R8_UNORM", "cube")]
    assert seen["resources"][0]["content_bytes"] == 64
    assert seen["resources"][1]["content"] == "in the client's memory"
    context = seen["contexts"][0]
    assert context["name"] == "glxgears" and context["resources"] == 2 and context["queries"] == 3
    assert context["objects"] == {"SHADER": 1, "BLEND": 1} and context["sub_contexts"] == 1
    assert seen["lossy"] == ["one sample of four is kept"] and seen["malformed_sections"] == 0
    text = inspect(path, "--png", str(tmp_path)).stdout
    assert "SHADER 1" in text and "B8G8R8A8_UNORM" in text and "lossy: one sample" in text
    assert (tmp_path / "resource-8-layer-5.png").exists()


def test_inspect_of_too_much(tmp_path):
    """What packs well must not become a report of any size."""
    state = State()
    state.section(1, "a", "b", 200000, bytes(12 * 200000))
    state.section(2, bytes(8), 200000, 1, 1, bytes(12 + 16), bytes(56 * 200000))
    for _ in range(1500):
        state.section(13, "x")
    seen = json.loads(inspect("--json", state.write(tmp_path / "f")).stdout)
    assert len(seen["capsets"]) == 64 and len(seen["device"]["screens"]) == 16
    assert len(seen["lossy"]) == 1024
    assert seen["malformed_sections"] == 2 + 1500 - 1024


@pytest.mark.parametrize("bad", [
    (5, 7, 0, 0, struct.pack("<QQ", 7, 1 << 62)),          # longer than it is
    (4, 1, 1, 7),                                          # cut off
    (6, 1, 1, 1, 0, "x" * 1000, 0xffffffff),               # a count, and nothing counted
    (1, "a", "b", 0xffffffff, 1, 1, 0xffffffff),
    (2, struct.pack("<Q", 1), 0xffffffff, 1, 1),
    (7, 99, 1), (7, 1, 0xffff0001), (8,), (13, b"\xff\xff\xff\xff"),
])
def test_inspect_of_nonsense(tmp_path, bad):
    """Right checksums, wrong payloads: said as far as it can be, and nothing worse."""
    state = State().resource(7, 2, 1, 4, 4, 1, bytes(64)).section(6, 1, 1, 1, 0, "c", 0)
    path = state.section(*bad).write(tmp_path / "f")
    done = inspect("--json", path, "--png", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["malformed_sections"] == (bad[0] != 5 and bad[1:] != (99, 1))
