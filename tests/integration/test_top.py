# SPDX-License-Identifier: Apache-2.0
"""`vgpuctl stats` and `vgpuctl top`: in units for people, as lines, and on a terminal."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from accounting import STATS_MAGIC, STATS_VERSION, page_of
from control_node import BIN, LIMIT, Node, until


@pytest.fixture
def node():
    with Node() as n:
        yield n


def test_stats_for_people(node):
    node.script("used 5")
    node.create("a")
    until(lambda: node.json("stats", "a")["vram_used_bytes"])
    head, row = node.good("stats").splitlines()
    assert head.split()[:4] == ["NAME", "STATE", "GPU", "TIME"] and "LIMIT" in head
    assert row.startswith("a ") and "5 MiB" in row and "128 MiB" in row and " 700 " in row
    one = dict(line.split("  ", 1) for line in node.good("stats", "a").splitlines())
    assert one["draws"].strip() == "700" and one["VRAM now"].strip() == "5 MiB"
    # With frames there is a histogram, from the first bucket that has any to the last.
    page = page_of(node.json("show", "a")["pid"])
    values = [0] * 33
    values[13], values[19 + 4], values[19 + 6], values[33 - 1] = 101, 75, 25, int(2e9)
    os.pwrite(page, struct.pack("II33Q", STATS_MAGIC, STATS_VERSION, *values), 0)
    os.close(page)
    text = node.good("stats", "a")
    times = text.split("frame times, ")[1].splitlines()
    assert times[0] == "20.00 ms on average" and len(times) == 4, text
    assert times[1].split()[2:7] == ["17.500", "ms", "75", "75.0", "%"] and times[1].endswith("#" * 40)
    assert times[3].split()[2:7] == ["35.000", "ms", "25", "25.0", "%"]
    assert times[3].count("#") == 13 and "#" not in times[2]


@pytest.mark.parametrize("args", (("--sort", "size"), ("--sort",), ("--interval-ms", "0"), ("--interval-ms", "99"),
                                  ("--interval-ms", "60001"), ("--interval-ms", "x"), ("a",), ("--twice",)))
def test_usage_of_top(node, args):
    assert node.ctl("top", *args).returncode == 2


def test_top_without_vgpud():
    node = Node()
    try:
        assert "no vgpud answers" in node.refused("top", "--once")
    finally:
        node.close()


def test_top_as_lines(node):
    for name in ("a", "b", "c"):
        node.create(name)
    for sort, order in (("name", "abc"), ("vram", "bca")):
        for name, used in (("a", 1), ("b", 3), ("c", 2)):
            page = page_of(node.json("show", name)["pid"])
            os.pwrite(page, struct.pack("IIQQ", STATS_MAGIC, STATS_VERSION, 128 << 20, used << 20), 0)
            os.close(page)
        lines = node.good("top", "--once", "--sort", sort, "--interval-ms", "100").splitlines()
        assert len(lines) == 5 and all(len(line) <= 80 for line in lines)
        assert lines[0].startswith("vgpud ") and "3 vGPUs" in lines[0]
        assert lines[1].split() == ["NAME", "GPU", "STATE", "GPU%", "WAIT%", "DRAWS/s", "MB/s", "FPS",
                                    "P99ms", "VRAM", "MiB"]
        assert "".join(line[0] for line in lines[2:]) == order
    # Not a terminal: tables follow one another, and no byte is for a terminal.
    process = subprocess.Popen([os.path.join(BIN, "vgpuctl"), "top", "--interval-ms", "100"], env=node.env,
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    text = "".join(process.stdout.readline() for _ in range(12))
    assert text.count("NAME") >= 2 and "\x1b" not in text
    assert node.kill(signal.SIGTERM) == 0  # then top ends as well, and says why
    process.communicate(timeout=LIMIT)
    assert process.returncode == 1


def test_rates_of_top(node):
    node.create("a")
    page = page_of(node.json("show", "a")["pid"])
    ended = threading.Event()

    def draw():
        """1000 draws, 50 frames of up to 17.5 ms, half a second of waiting, 100 MB a second."""
        began, values = time.monotonic(), [0] * 33
        while not ended.is_set():
            t = time.monotonic() - began
            values[8], values[10], values[13] = int(1000 * t), int(1e8 * t), int(50 * t)
            values[17], values[19 + 4] = int(0.5e9 * t), int(50 * t)
            os.pwrite(page, struct.pack("II33Q", STATS_MAGIC, STATS_VERSION, *values), 0)
            time.sleep(0.01)
    thread = threading.Thread(target=draw)
    thread.start()
    time.sleep(0.1)
    row = node.good("top", "--once").splitlines()[2].split()
    ended.set()
    thread.join()
    os.close(page)
    wait, draws, moved, fps, p99 = row[4], row[5], row[6], row[7], row[8]
    assert 45 < float(wait) < 70  # and what the fake one waited for a CPU
    assert 900 < float(draws.replace("k", "")) * (1000 if "k" in draws else 1) < 1100
    assert 90 < float(moved) < 110 and 45 < float(fps) < 55 and p99 == "17.5"


class Terminal:
    """`vgpuctl top` on a terminal of its own."""

    def __init__(self, node, *args, size=(80, 24)):
        self.primary, self.replica = pty.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.replica)
        self.process = subprocess.Popen(
            [os.path.join(BIN, "vgpuctl"), "top", "--interval-ms", "100", *args], env=node.env,
            stdin=self.replica, stdout=self.replica, stderr=self.replica, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def resize(self, width, height):
        fcntl.ioctl(self.primary, termios.TIOCSWINSZ, struct.pack("4H", height, width, 0, 0))

    def read(self, seconds=0.4):
        end = time.monotonic() + seconds
        part = b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self.primary], [], [], left)[0]:
                part += os.read(self.primary, 65536)
        self.seen += part
        return part

    def screen(self, check=lambda lines: True):
        """The lines of a whole picture that is as `check` wants it."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            pictures = self.read().split(b"\x1b[H")[1:]
            for picture in pictures:
                if b"\x1b[J" not in picture:
                    continue
                text = re.sub(rb"\x1b\[[0-9?;]*[a-zA-Z]", b"", picture.split(b"\x1b[J")[0]).decode()
                lines = text.split("\r\n")
                if check(lines):
                    return lines
        raise AssertionError(self.seen[-4000:])

    def key(self, key):
        os.write(self.primary, key.encode())

    def end(self):
        """Its exit status, after which the terminal is as it was."""
        until(lambda: self.read(0.05) is not None and self.process.poll() is not None, LIMIT)
        self.read(0.1)
        assert self.seen.count(b"\x1b[?1049h") == self.seen.count(b"\x1b[?1049l") > 0
        assert self.seen.rfind(b"\x1b[?25h") > self.seen.rfind(b"\x1b[?25l")
        assert termios.tcgetattr(self.replica) == self.before
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.primary)
        os.close(self.replica)


def has_rows(n):
    return lambda lines: len(lines) == n + 2 and lines[1].startswith("NAME")


def test_top_on_a_terminal(node):
    for name in ("a", "b", "c"):
        node.create(name)
    with Terminal(node) as terminal:
        lines = terminal.screen(has_rows(3))
        assert all(len(line) <= 80 for line in lines) and "by GPU%" in lines[0]
        assert not termios.tcgetattr(terminal.replica)[3] & (termios.ICANON | termios.ECHO)
        terminal.key("n")
        assert [line[0] for line in terminal.screen(lambda l: "by NAME" in l[0])[2:]] == ["a", "b", "c"]
        terminal.key("n")
        assert [line[0] for line in terminal.screen(lambda l: "reversed" in l[0])[2:]] == ["c", "b", "a"]
        terminal.key("\x1bz0%")  # keys that are none
        terminal.key("v")
        terminal.screen(lambda l: "by VRAM" in l[0])
        node.good("delete", "b")
        terminal.screen(has_rows(2))
        terminal.key("q")
        assert terminal.end() == 0


@pytest.mark.parametrize("number, status", ((signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGHUP, 1)))
def test_top_gives_the_terminal_back(node, number, status):
    with Terminal(node) as terminal:
        terminal.screen()
        terminal.process.send_signal(number)
        assert terminal.end() == status


def test_top_when_vgpud_ends(node):
    with Terminal(node) as terminal:
        terminal.screen()
        node.kill()
        assert terminal.end() == 1
        assert terminal.seen.rfind(b"vgpuctl: top: ") > terminal.seen.rfind(b"\x1b[?1049l")


def test_top_is_stopped_and_goes_on(node):
    with Terminal(node) as terminal:
        terminal.screen()
        terminal.process.send_signal(signal.SIGTSTP)
        until(lambda: open("/proc/%d/stat" % terminal.process.pid).read().rpartition(")")[2].split()[0] == "T")
        assert termios.tcgetattr(terminal.replica) == terminal.before
        terminal.read(0.1)
        assert terminal.seen.count(b"\x1b[?1049l") == 1
        terminal.process.send_signal(signal.SIGCONT)
        terminal.screen()
        terminal.key("q")
        assert terminal.end() == 0


def test_top_on_terminals_of_any_size(node):
    for i in range(9):
        node.create("vgpu-of-some-length-%d" % i, "soft0-64")
    with Terminal(node) as terminal:
        terminal.screen(has_rows(9))
        for width, height in ((200, 50), (80, 8), (60, 24), (40, 24), (24, 4), (23, 24), (80, 3), (1, 1), (80, 24)):
            terminal.resize(width, height)
            if width < 24 or height < 4:
                lines = terminal.screen(lambda l: l == ["too small"[:width]])
                continue
            lines = terminal.screen(lambda l: len(l[1]) <= width and len(l) == min(height, 11))
            assert all(len(line) <= width for line in lines), lines
            if height < 11:
                assert lines[-1] == "... and %d more" % (9 - (height - 3))
            assert ("P99ms" in lines[1]) == (width >= 80) and "GPU%" in lines[1]
        terminal.key("q")
        assert terminal.end() == 0
