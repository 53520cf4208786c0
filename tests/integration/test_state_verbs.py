# SPDX-License-Identifier: Apache-2.0
"""move, snapshot, restore, hibernate, wake, check and inspect: what vgpud and vgpuctl make of them.

The keeper is a fake that does what a test says, so each of its answers can be had.
"""
import json
import os
import signal
import sqlite3
import subprocess
import time
import zlib

import pytest

from control_node import HERE, LIMIT, ROOT, BIN, Node, until

KEEPER = os.path.join(HERE, "fake_keeper.py")
GOLDEN = os.path.join(ROOT, "tests", "golden", "state", "1.0.vgpustate")
CONFIG = "keeper = %s\n" % KEEPER


@pytest.fixture
def node():
    with Node(CONFIG, args=("--soft-gpus", "2")) as n:
        n.script("snapshot %s\n" % GOLDEN)
        yield n


def asked(node, name="a"):
    with open(os.path.join(node.run_dir, "vgpus", name, "keeper.asked")) as f:
        return f.read().splitlines()


def events(node):
    return [e["text"] for e in node.json("events")]


def begin(node, *args):
    return subprocess.Popen([os.path.join(BIN, "vgpuctl")] + list(args), env=node.env, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


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
    assert line.startswith("MOVE exact=0 --name a") and "--vram-mib 128" in line, line
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
    assert asked(node)[-1].startswith("MOVE exact=1")
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
        "DROP TABLE vgpus; CREATE TABLE vgpus (name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE,"
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


def test_snapshot_to_a_full_disk(node):
    node.create("a")
    done = node.ctl("snapshot", "a", "-", prefix=("sh", "-c", 'exec "$@" >/dev/full', "x"))
    assert done.returncode == 1 and "free some space" in done.stderr


def test_no_state_is_left_behind(node):
    node.create("a")
    node.good("snapshot", "a", os.path.join(node.dir, "f"))
    node.good("hibernate", "a")
    assert sorted(n for n in os.listdir(node.state_dir) if not n.startswith("vgpud.db")) == []


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
        else:
            time.sleep(2.5)
            assert node.state("a") == "ready"


def test_policy_that_is_refused_is_not_tried_all_the_time():
    with Node(CONFIG + "hibernate_idle_s = 5\n") as node:
        node.create("a")
        node.script("idle 10\nrefuse 16 not now")
        until(lambda: any("not hibernated" in e for e in events(node)))
        time.sleep(2.5)
        assert asked(node) == ["HIBERNATE"]


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


def test_help_names_every_verb():
    text = subprocess.run([os.path.join(BIN, "vgpuctl"), "--help"], capture_output=True, text=True,
                          timeout=LIMIT).stdout
    for verb in ("move", "snapshot", "restore", "inspect", "check", "hibernate", "wake"):
        assert "\n  %s " % verb in text
        one = subprocess.run([os.path.join(BIN, "vgpuctl"), verb, "--help"], capture_output=True,
                             text=True, timeout=LIMIT)
        assert one.returncode == 0 and one.stdout.startswith("usage: vgpuctl")
