# SPDX-License-Identifier: Apache-2.0
"""What vGPUs have used: counters and /metrics. Fake device processes where only vgpud's side
matters, a real one where numbers have to be right."""
import os
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from accounting import STATS_MAGIC, STATS_VERSION, Samples, metrics, page_of, prometheus
from control_node import BIN, LIMIT, Node, until

import vtest_client  # tests/lib, found through accounting


@pytest.fixture
def node():
    with Node() as n:
        yield n


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


# ---- hostile pages ----


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
