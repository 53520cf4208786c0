# SPDX-License-Identifier: Apache-2.0
"""What vGPUs have used: counters, /metrics, samples. Fake device processes where only vgpud's side
matters, a real one where numbers have to be right."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from control_node import BIN, LIMIT, Node, until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import prometheus  # noqa: E402  (found through the path set above)
import vtest_client  # noqa: E402

STATS_MAGIC, STATS_VERSION = 0x53555056, 1


@pytest.fixture
def node():
    with Node() as n:
        yield n


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


# ---- /metrics ----


def test_the_strict_reader_is_strict():
    good = ('# HELP x_total a\n# TYPE x_total counter\nx_total{a="b"} 1\n'
            '# HELP h b\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\nh_count 2\n')
    assert set(prometheus.parse(good)) == {"x_total", "h"}
    for old, new in (('{a="b"}', "{a=b}"), ("# TYPE x_total counter\n", ""), ("x_total{", "y_total{"),
                     ('"b"} 1\n', '"b"} 1\nx_total{a="b"} 2\n'), ("} 1\n#", "} one\n#"),
                     ('le="1"} 1', 'le="1"} 3'), ("h_count 2", "h_count 3"), ('{a="b"}', '{a="\\q"}'),
                     ("h_sum 3\n", "h_sum 3"[:-1] + "\n"), ("x_total", "x_ms_total"),
                     ("counter", "gauge"), ("h_count 2\n", "h_count 2"), ('le="+Inf"', 'le="9"')):
        assert old in good
        with pytest.raises((prometheus.FormatError, KeyError)):
            prometheus.parse(good.replace(old, new))


def test_metrics_of_no_vgpu(node):
    families = metrics(node)
    assert families["vgpud_frame_time_seconds"].type == "histogram"
    assert not any(family.samples for family in families.values())


def test_metrics_are_what_stats_says(node):
    node.script("used 5")
    node.create("a")
    node.create("b")
    until(lambda: node.json("stats", "a")["vram_used_bytes"])
    families = metrics(node)
    info = families["vgpud_vgpu_info"].samples
    assert len(info) == 2 and all(value == 1 for value in info.values())
    said = node.json("stats", "b")
    for name, value in said.items():
        if isinstance(value, int) and "_ns_" not in name:
            assert prometheus.value(families, "vgpud_" + name, vgpu="b") == value
    assert prometheus.value(families, "vgpud_draws_total", vgpu="b") == 700
    for name in ("gpu_time", "wait_time", "cpu_time", "cpu_delay"):
        seconds = prometheus.value(families, "vgpud_%s_seconds_total" % name, vgpu="b")
        assert 0 <= seconds <= said[name + "_ns_total"] / 1e9
    bounds = [row["up_to_ms"] for row in said["frame_times"]]
    buckets = [dict(labels)["le"] for (name, labels) in families["vgpud_frame_time_seconds"].samples
               if name.endswith("_bucket") and dict(labels)["vgpu"] == "b"]
    assert [float(le) * 1000 for le in buckets[:-1]] == pytest.approx(bounds[:-1])
    assert buckets[-1] == "+Inf" and bounds[-1] is None


def free_port(family=socket.AF_INET, address="127.0.0.1"):
    with socket.socket(family) as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def fetch(url):
    with urllib.request.urlopen(url, timeout=LIMIT) as reply:
        return reply.read().decode()


def test_metrics_on_loopback():
    port = free_port()
    with Node("[metrics]\nlisten = 127.0.0.1:%d\n" % port) as node:
        node.create("a")
        base = "http://127.0.0.1:%d" % port
        families = prometheus.parse(fetch(base + "/metrics"))
        assert prometheus.value(families, "vgpud_commands_total", vgpu="a") == 70
        # Nothing else is there for whoever runs on this node.
        for path, method in (("/v1/vgpus", "GET"), ("/v1/vgpus/a", "DELETE"), ("/", "GET"),
                             ("/metrics", "POST"), ("/v1/samples", "GET")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(
                    urllib.request.Request(base + path, method=method), timeout=LIMIT)
            assert refused.value.code == 404
        assert node.state("a") == "ready"
        # Another vgpud cannot have the same address, and says so.
        other = Node("[metrics]\nlisten = 127.0.0.1:%d\n" % port)
        try:
            done = subprocess.run(other.command(), env=other.env, capture_output=True, text=True,
                                  timeout=LIMIT)
            assert done.returncode == 1 and "127.0.0.1:%d: Address already in use (" % port in done.stderr
        finally:
            other.close()


def test_metrics_on_loopback_v6():
    try:
        port = free_port(socket.AF_INET6, "::1")
    except OSError:
        pytest.skip("this node has no IPv6 loopback")
    with Node("[metrics]\nlisten = [::1]:%d\n" % port):
        prometheus.parse(fetch("http://[::1]:%d/metrics" % port))


@pytest.mark.parametrize("address", (
    "0.0.0.0:9470", "192.168.0.1:9470", "[::]:9470", "::1:9470", "[::ffff:127.0.0.1]:9470", "localhost:9470",
    "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:9470x", "127.0.0.1:-1", "9470",
    "[127.0.0.1]:9470", "[::1%lo]:9470", "127.1:9470", "[]:9470", ":9470", "1" * 60 + ":1"))
def test_other_addresses_are_refused(address):
    node = Node("[metrics]\nlisten = %s\n" % address)
    try:
        done = subprocess.run(node.command(), env=node.env, capture_output=True, text=True,
                              timeout=LIMIT)
        assert done.returncode == 1 and "loopback" in done.stderr and "line" in done.stderr, done
        assert not os.path.exists(node.socket)
    finally:
        node.close()


# ---- samples ----


def test_samples_come_as_asked(node):
    node.create("a")
    with Samples(node) as samples:
        assert samples.status == 200
        first, began = samples.next(), time.monotonic()
        assert first["interval_ns"] is None and first["missed"] == 0
        assert [v["name"] for v in first["vgpus"]] == ["a"]
        assert {name for name in first["vgpus"][0]} == set(node.json("stats", "a"))
        node.create("b")
        rest = [samples.next() for _ in range(5)]
        assert time.monotonic() - began >= 0.4
        assert all(sample["interval_ns"] >= 50e6 for sample in rest)
        assert [v["name"] for v in until(samples.next)["vgpus"]] == ["a", "b"]
        assert abs(rest[-1]["time_ms"] / 1000 - time.time()) < 5


@pytest.mark.parametrize("query", ("?interval_ms=99", "?interval_ms=60001", "?interval_ms=x", "?interval_ms=",
                                   "?interval_ms=-5", "?interval_ms=18446744073709551616"))
def test_bad_intervals(node, query):
    status, _, body = get(node, "/v1/samples" + query)
    assert status == 400 and "interval_ms" in json.loads(body)["error"]["message"]


def test_too_many_readers_and_readers_that_go(node):
    readers = [Samples(node) for _ in range(16)]
    assert all(reader.status == 200 for reader in readers)
    with Samples(node) as late:
        assert late.status == 503
    for reader in readers:
        assert reader.next()
    for reader in readers[1:]:
        reader.close()

    def free():
        with Samples(node) as again:
            return again.status == 200
    until(free)  # who is gone is noticed when the next sample is due
    assert readers[0].next()
    readers[0].close()
    node.good("list")


def test_a_slow_reader_misses_samples_and_is_cut_off(node):
    for i in range(12):
        node.create("v%d" % i, "soft0-64")
    samples = Samples(node)
    assert samples.next()
    memory = lambda: int(open("/proc/%d/statm" % node.process.pid).read().split()[1])  # noqa: E731
    before = memory()
    time.sleep(4)
    with Samples(node) as other:  # nobody else is held up
        assert other.next() and other.next()
    assert memory() - before < 2000, "what is not read is kept"  # pages
    missed = 0
    for _ in range(60):
        missed += samples.next()["missed"]
        if missed:
            break
    assert missed
    # One that reads nothing for longer than HTTP_IDLE_S is cut off.
    def ended():
        while samples.next():
            pass
        return True
    time.sleep(12)
    assert ended()
    samples.close()


def test_streams_end_with_vgpud(node):
    with Samples(node, "?interval_ms=60000") as samples:
        assert samples.next()
        began = time.monotonic()
        assert node.kill(signal.SIGTERM) == 0
        assert samples.next() is None and time.monotonic() - began < 5


def test_an_idle_stream_is_not_cut_off(node):
    """HTTP_IDLE_S is for readers that do not read, not for those that have nothing to read."""
    with Samples(node, "?interval_ms=13000") as samples:
        assert samples.next()
        assert samples.next()["interval_ns"] >= 12.9e9


# ---- hostile pages ----


def page_of(pid):
    return os.open("/proc/%d/fd/4" % pid, os.O_RDWR)


def test_a_hostile_page_harms_its_own_figures_alone(node):
    node.create("good")
    node.create("evil")
    good = node.json("stats", "good")
    page = page_of(node.json("show", "evil")["pid"])
    last = node.json("stats", "evil")
    for i in range(40):
        header = struct.pack("II", STATS_MAGIC, STATS_VERSION) if i % 4 else b""
        os.pwrite(page, (header + os.urandom(4096))[:4096] if i % 3 else header.ljust(4096, b"\0"), 0)
        text = node.good("stats")
        assert "good" in text and "\x1b" not in text
        now = node.json("stats", "evil")
        for name in now:
            if name.endswith("_total"):
                assert last[name] <= now[name] < 1 << 63, name
        last = now
        families = metrics(node)
        assert prometheus.value(families, "vgpud_draws_total", vgpu="good") == good["draws_total"]
        node.good("show", "evil")
        node.good("stats", "evil")
    os.close(page)
    assert node.json("stats", "good")["draws_total"] == good["draws_total"]


def test_a_page_of_another_version_counts_nothing(node):
    node.create("a")
    page = page_of(node.json("show", "a")["pid"])
    before = node.json("stats", "a")
    os.pwrite(page, struct.pack("II", STATS_MAGIC, STATS_VERSION + 1) + b"\x01" * 64, 0)
    now = node.json("stats", "a")
    assert now["draws_total"] == before["draws_total"] and now["vram_used_bytes"] == 0
    os.close(page)


def test_many_vgpus():
    with Node("[type tiny]\ngpu = soft0\nvram_mib = 1\nmax_instances = 64\n[gpu soft0]\nmixed = yes\n") as node:
        for i in range(40):
            node.create("v%02d" % i, "tiny")
        began = time.monotonic()
        families = metrics(node)
        assert time.monotonic() - began < 2
        assert len(families["vgpud_vgpu_info"].samples) == 40
        with Samples(node) as samples:
            assert len(samples.next()["vgpus"]) == 40
        text = node.good("top", "--once", "--interval-ms", "200")
        assert text.count("\nv") == 40


# ---- stats and top ----


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


# ---- a real device process ----


def real_node():
    if not os.path.exists(os.path.join(BIN, "vgpu-device")):
        pytest.skip("this build has no vgpu-device")
    return Node(device=os.path.join(BIN, "vgpu-device"))


def marks(node, name, n):
    """A client that submits n command buffers of two commands each and waits for them."""
    words = struct.pack("=II4s", vtest_client.SEND_STRING_MARKER | 2 << 16, 4, b"mark") * 2
    client = vtest_client.connect(node.path(name, "vtest.sock"))
    for _ in range(n):
        client.sendall(struct.pack("=II", len(words) // 4, vtest_client.SUBMIT_CMD) + words)
    assert vtest_client.ask(client)
    return client, n * len(words)


def test_counts_are_exact_and_go_on_over_processes():
    with real_node() as node:
        node.create("a")
        base = node.json("stats", "a")
        client, size = marks(node, "a", 50)
        now = node.json("stats", "a")
        assert now["submits_total"] - base["submits_total"] == 50
        assert now["commands_total"] - base["commands_total"] == 100
        assert now["stream_bytes_total"] - base["stream_bytes_total"] == size
        assert now["draws_total"] == base["draws_total"]
        assert now["clients"] == 1
        # Another process takes over: the counters of the vGPU go on, and what it cost stays.
        node.good("move", "a", "--gpu", "soft0")
        moved = node.json("stats", "a")
        assert moved["submits_total"] == now["submits_total"]
        assert moved["cpu_time_ns_total"] >= now["cpu_time_ns_total"]
        client.close()
        client, _ = marks(node, "a", 7)
        until(lambda: node.json("stats", "a")["submits_total"] - now["submits_total"] == 7)
        # One that is killed is counted to its end.
        before = node.json("stats", "a")
        os.kill(node.json("show", "a")["pid"], signal.SIGKILL)
        until(lambda: node.json("show", "a")["recoveries"] == 1)
        after = node.json("stats", "a")
        assert after["cpu_time_ns_total"] >= before["cpu_time_ns_total"]
        assert vtest_client.ask(client)
        until(lambda: node.json("stats", "a")["submits_total"] == before["submits_total"])
        client.close()


def device_cpu_s(node, name):
    """By another way than vgpud's: the ticks of the process and its child."""
    total = 0
    pid = node.json("show", name)["pid"]
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        children = f.read().split()
    for process in [pid] + children:
        with open("/proc/%s/stat" % process) as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def test_gpu_time_of_a_soft_gpu_is_cpu_time():
    glhash = os.path.join(os.path.dirname(BIN), "tests", "clients", "glhash")
    if not os.path.exists(glhash):
        pytest.skip("this build has no client")
    with real_node() as node:
        node.create("a")
        base, base_s = node.json("stats", "a"), device_cpu_s(node, "a")
        assert base["gpu_time_ns_total"] == base["cpu_time_ns_total"]
        client = subprocess.Popen(
            [os.path.join(BIN, "vgpuctl"), "run", "a", "--", glhash, "--frames", "60"], env=node.env,
            stdout=subprocess.DEVNULL)
        until(lambda: node.json("stats", "a")["draws_total"] > base["draws_total"] + 50, 30)
        client.send_signal(signal.SIGSTOP)  # it waits; the device process has nothing to do
        time.sleep(0.5)
        spent = (node.json("stats", "a")["gpu_time_ns_total"] - base["gpu_time_ns_total"]) / 1e9
        assert spent > 0.01
        assert abs(spent - (device_cpu_s(node, "a") - base_s)) < 0.1
        client.send_signal(signal.SIGCONT)
        assert client.wait(LIMIT * 4) == 0
        now = node.json("stats", "a")
        assert now["draws_total"] > base["draws_total"] and now["fence_time_ns_total"] == 0
        # Its binding is over, and with it that process. The keeper knows what it cost, and draws.
        until(lambda: node.json("show", "a")["starts"] == 2 and node.state("a") == "ready")
        node.kill()
        node.start()
        until(lambda: node.state("a") == "ready")
        later = until(lambda: node.json("stats", "a")["draws_total"] and node.json("stats", "a"))
        assert later["cpu_time_ns_total"] >= now["cpu_time_ns_total"]
        assert later["draws_total"] == now["draws_total"]


def frame(client, handle):
    """Ends a frame as Mesa does: makes a buffer of the shape its fences have, and waits for it."""
    r8, custom = 64, 1 << 17
    client.sendall(struct.pack("=13I", 11, 12, handle, 0, r8, custom, 8, 1, 1, 1, 0, 0, 8))
    _, fds, _, _ = socket.recv_fds(client, 1, 1)
    for fd in fds:
        os.close(fd)
    client.sendall(struct.pack("=4I", 2, vtest_client.BUSY_WAIT, handle, 1))
    assert len(client.recv(12, socket.MSG_WAITALL)) == 12


def test_frames_are_counted_and_timed():
    with real_node() as node:
        node.create("a")
        client = vtest_client.connect(node.path("a", "vtest.sock"))
        client.sendall(struct.pack("=II", 0, vtest_client.SUBMIT_CMD))
        for i in range(21):
            frame(client, i + 1)
            time.sleep(0.055)  # in the bucket up to 70 ms, or slower on a busy machine
        now = node.json("stats", "a")
        client.close()
        assert now["frames_total"] == 21
        by_time = {row["up_to_ms"]: row["frames"] for row in now["frame_times"]}
        assert sum(by_time.values()) == 20 and not any(n for ms, n in by_time.items() if ms and ms < 70)
        assert by_time[70.0] >= 5
        assert 20 * 0.055e9 <= now["frame_time_ns_total"] < 20 * 0.5e9
        families = metrics(node)
        assert prometheus.value(families, "vgpud_frame_time_seconds_count", vgpu="a") == 20


def test_who_waits_for_another_has_waited():
    """Two clients of one vGPU: while one's work runs, the other's waits. One alone does not."""
    def work(client, n):
        words = struct.pack("=II4s", vtest_client.SEND_STRING_MARKER | 2 << 16, 4, b"mark") * 16384
        message = struct.pack("=II", len(words) // 4, vtest_client.SUBMIT_CMD) + words
        for _ in range(n):
            client.sendall(message)
        assert vtest_client.ask(client)

    def waited(count):
        with real_node() as node:
            node.create("a")
            clients = [vtest_client.connect(node.path("a", "vtest.sock")) for _ in range(count)]
            base = node.json("stats", "a")
            threads = [threading.Thread(target=work, args=(c, 600 // count)) for c in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT * 2)
            now = node.json("stats", "a")
            for client in clients:
                client.close()
            busy = now["gpu_time_ns_total"] - base["gpu_time_ns_total"]
            return (now["wait_time_ns_total"] - base["wait_time_ns_total"]) / busy

    alone, together = waited(1), waited(4)
    assert together > 0.3 and alone < 0.15 and together > 4 * alone, (alone, together)
