# SPDX-License-Identifier: Apache-2.0
"""Runs of the client glstate on a vGPU, what they print, and what was done to the vGPU meanwhile."""
import collections
import functools
import os
import random
import signal
import subprocess
import tempfile
import time

import cache

PROGRAM = cache.BUILD / "tests" / "clients" / "glstate"
END = "done"


class Lost(AssertionError):
    """A hash is not what it is when nobody touches the vGPU."""


def chance(what):
    """A generator whose seed is told, so that a run that failed can be repeated."""
    seed = int(os.environ.get("VGPU_STATE_SEED") or time.time_ns() % 1000000)
    print(f"{what}: VGPU_STATE_SEED={seed}", flush=True)
    return random.Random(seed)


class Run:
    """glstate that draws on a vGPU, its lines as they come."""

    def __init__(self, node, name, *options, program=PROGRAM):
        self.out = tempfile.TemporaryFile("w+")
        self.err = tempfile.TemporaryFile("w+")
        self.begin = time.monotonic()
        self.process = node.spawn(
            name, [str(program), "--expect-renderer", "virgl", *map(str, options)],
            stdout=self.out, stderr=self.err)

    @staticmethod
    def _text(file):
        size = os.fstat(file.fileno()).st_size
        return os.pread(file.fileno(), size, 0).decode(errors="replace")

    def lines(self):
        return self._text(self.out).splitlines()

    def errors(self):
        return self._text(self.err).strip()[-1500:]

    def frames(self):
        """How many frames it has drawn whole, about."""
        last = [line for line in self.lines() if line.startswith("frame ")]
        return int(last[-1].split()[1]) if last else 0

    def running(self):
        return self.process.poll() is None

    def wait_frames(self, count, limit_s=60):
        end = time.monotonic() + limit_s
        while self.frames() < count:
            if not self.running() and self.frames() < count:
                raise AssertionError(f"ended with {self.process.returncode} after "
                                     f"{self.frames()} frames: {self.errors()}")
            if time.monotonic() > end:
                raise AssertionError(f"frame {count} did not come within {limit_s} s, "
                                     f"{self.frames()} did: {self.errors()}")
            time.sleep(0.01)

    def finish(self, limit_s=120):
        """Its lines, when it has ended well."""
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            frames = self.frames()
            self.kill()
            raise AssertionError(f"has not ended within {limit_s} s, at frame {frames}: "
                                 f"{self.errors()}") from None
        if status:
            raise AssertionError(f"ended with {status} after {self.frames()} frames: "
                                 f"{self.errors()}")
        return self.lines()

    def kill(self):
        if self.running():
            self.process.kill()
            self.process.wait(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


def differing(reference, lines):
    """{series: [frames whose hash differs]}; a line that lacks differs too."""
    seen = {tuple(line.split()[1:3]): line for line in lines if line.startswith("frame ")}
    wrong = collections.defaultdict(list)
    for line in reference:
        if line.startswith("frame "):
            frame, series = line.split()[1:3]
            if seen.get((frame, series)) != line:
                wrong[series].append(int(frame))
    return dict(wrong)


def compare(reference, lines, what=""):
    assert reference and reference[-1] == END, "the undisturbed run is not whole"
    wrong = differing(reference, lines)
    if wrong:
        text = "; ".join(f"{series}: {len(frames)} frames, first {frames[0]}"
                         for series, frames in sorted(wrong.items()))
        raise Lost(f"{what or 'the run'} lost state: {text}")
    assert lines[-1] == END, lines[-1]


class References:
    """Undisturbed runs, each made once: what the others are compared with."""

    def __init__(self, node):
        self.node = node
        self.created = False
        self.of = functools.lru_cache(None)(self._make)

    def _make(self, *options):
        if not self.created:
            self.node.create("reference")
            self.created = True
        # What only paces a run is no part of it.
        words = [str(word) for word in options]
        while "--pace-ms" in words:
            at = words.index("--pace-ms")
            del words[at:at + 2]
        with Run(self.node, "reference", *words) as run:
            return run.finish()


# ---- what can be done to a vGPU ----

def move(node, name, gpu, *options):
    """The answer of the move: state_bytes, pause_ms, total_ms, lossy."""
    return node.json("move", name, "--gpu", gpu, *options)


def wait_row(node, name, wanted, limit_s=20):
    """The first row of `vgpuctl list` that `wanted` likes."""
    end = time.monotonic() + limit_s
    while True:
        row = node.vgpu(name)
        if wanted(row):
            return row
        assert time.monotonic() < end, f"{name} after {limit_s} s: {row}\n{node.errors()}"
        time.sleep(0.01)


def kill_device(node, name):
    """SIGKILL to the device process; its pid, None when there was none just now."""
    pid = node.vgpu(name)["pid"]
    if not pid:
        return None
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return pid


def wait_recovered(node, name, old_pid, limit_s=20):
    return wait_row(node, name, lambda row: row["pid"] not in (None, 0, old_pid) and
                    row["state"] in ("bound", "ready"), limit_s)


def pss_kib(pid):
    """Memory of a process, shared pages by share, memfds not counted."""
    total, memfd = 0, False
    with open(f"/proc/{pid}/smaps") as maps:
        for line in maps:
            word = line.split()
            if "-" in word[0] and len(word) >= 5:
                memfd = len(word) > 5 and "memfd:" in word[5]
            elif word[0] == "Pss:" and not memfd:
                total += int(word[1])
    return total


def memfds(pid, links=("/memfd:", "/mesa_shader_cache")):
    """{inode: bytes that it takes} of the memfds and compiled shaders a process holds."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{fd}"
        try:
            if os.readlink(path).startswith(links):
                stat = os.stat(path)
                found[stat.st_ino] = stat.st_blocks * 512
        except OSError:
            continue
    return found


def mapped_inodes(pid):
    found = set()
    with open(f"/proc/{pid}/maps") as maps:
        for line in maps:
            word = line.split()
            if len(word) > 4 and word[4] != "0":
                found.add(int(word[4]))
    return found


def children(pid):
    """A process and all below it."""
    found = [pid]
    for one in found:
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as text:
                    found += [int(word) for word in text.read().split()]
        except OSError:
            continue
    return found


def held_bytes(keeper_pid, client_pid=None):
    """What a vGPU costs: its keeper, and memfds that no client has as well."""
    theirs = set()
    for pid in children(client_pid) if client_pid else []:
        theirs |= mapped_inodes(pid)
        theirs |= set(memfds(pid))
    own = sum(size for inode, size in memfds(keeper_pid).items() if inode not in theirs)
    return pss_kib(keeper_pid) * 1024 + own
