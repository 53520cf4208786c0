# SPDX-License-Identifier: Apache-2.0
"""Things that die, fill up or lie: vgpud, keepers, device processes, disks, clients."""
import grp
import json
import os
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pytest

from control_node import BIN, LIMIT, Node, alive, until


@pytest.fixture
def node():
    with Node() as n:
        yield n


def test_vgpud_killed_finds_its_vgpus_again(node):
    before = [node.create("a"), node.create("b")]
    client = node.connect("a")
    until(lambda: node.state("a") == "bound")
    node.kill(signal.SIGKILL)
    client.sendall(b"alive")  # what draws goes on drawing
    assert client.recv(5) == b"alive"
    node.start()
    until(lambda: node.state("a") == "bound" and node.state("b") == "ready")
    after = node.json("list")
    for old, new in zip(before, after):
        assert all(old[k] == new[k] for k in ("name", "uuid", "gpu", "type", "pid", "keeper_pid"))
    client.sendall(b"still")
    assert client.recv(5) == b"still"
    client.close()
    until(lambda: node.state("a") == "ready")
    assert "one type" in node.refused("create", "c", "--gpu", "soft0", "--type", "soft0-64")


def test_vgpud_stopped_cleanly_leaves_keepers(node):
    pid = node.create("a")["pid"]
    assert node.kill(signal.SIGTERM) == 0
    os.kill(pid, 0)
    node.start()
    until(lambda: node.state("a") == "ready")
    assert node.json("show", "a")["pid"] == pid


def test_keeper_gone_while_vgpud_was(node):
    old = node.create("a")
    node.kill()
    os.kill(old["keeper_pid"], signal.SIGKILL)
    until(lambda: not alive(old["pid"]))  # the device process died with it
    node.start()
    until(lambda: node.state("a") == "ready")
    new = node.json("show", "a")
    assert new["uuid"] == old["uuid"] and new["pid"] != old["pid"]


def test_killed_at_any_moment_of_creating(node):
    """However far a creation came, the next vgpud has the vGPU whole or not at all."""
    for delay in (0.0, 0.004, 0.01, 0.02, 0.03, 0.05, 0.08):
        creating = subprocess.Popen([os.path.join(BIN, "vgpuctl"), "create", "k", "--gpu", "soft0",
                                     "--type", "soft0-128"], env=node.env, stderr=subprocess.DEVNULL,
                                    stdout=subprocess.DEVNULL)
        time.sleep(delay)
        node.kill()
        told = creating.wait(LIMIT) == 0
        node.start()
        until(lambda: all(v["state"] == "ready" for v in node.json("list")))
        names = [v["name"] for v in node.json("list")]
        assert names in ([], ["k"]) and (names or not told)
        if names:
            node.good("delete", "k")
        until(lambda: not node.processes())


def test_device_killed_says_why_and_comes_back(node):
    vgpu = node.create("a")
    client = node.connect("a")
    until(lambda: node.state("a") == "bound")
    os.kill(vgpu["pid"], signal.SIGSEGV)
    assert client.recv(1) == b""
    client.close()
    until(lambda: node.state("a") == "failed")
    shown = node.json("show", "a")
    assert "signal 11 (SIGSEGV)" in shown["failure"] and shown["pid"] is None
    assert any("SIGSEGV" in e["text"] for e in node.json("events"))
    client = node.connect("a")  # its next use starts a new device process
    client.sendall(b"x")
    assert client.recv(1) == b"x"
    shown = node.json("show", "a")
    assert shown["state"] == "bound" and shown["starts"] == 2
    client.close()


def test_each_binding_gets_a_process_that_has_seen_no_other(node):
    node.create("a")
    pids = []
    for _ in range(3):
        with node.connect("a") as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            with node.connect("a") as second:  # the same binding, the same process
                second.sendall(b"y")
                assert second.recv(1) == b"y"
            pids.append(node.json("show", "a")["pid"])
        until(lambda: node.json("show", "a")["starts"] == len(pids) + 1)
        until(lambda: node.state("a") == "ready")
    assert len(set(pids)) == 3, pids
    shown = node.json("show", "a")
    assert shown["failure"] is None and shown["starts"] == 4


def stats_page_of(pid):
    return os.stat("/proc/%d/fd/4" % pid).st_ino


def test_each_device_process_gets_a_page_of_counters_of_its_own(node):
    node.script("draws 41")
    node.create("a")
    first = node.json("show", "a")["pid"]
    assert node.json("stats", "a")["draws_total"] == 41
    old = os.open("/proc/%d/fd/4" % first, os.O_RDWR)  # as a tenant's process could keep it
    with node.connect("a") as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    until(lambda: node.json("show", "a")["starts"] == 2 and node.state("a") == "ready")
    second = node.json("show", "a")["pid"]
    assert stats_page_of(second) != os.fstat(old).st_ino
    os.pwrite(old, b"\xff" * 4096, 0)
    assert node.json("stats", "a")["draws_total"] == 41
    os.close(old)



def test_a_device_that_keeps_dying_is_left_alone(node):
    vgpu = node.create("a")
    node.script("die")
    os.kill(vgpu["pid"], signal.SIGKILL)
    until(lambda: node.state("a") == "failed")
    for _ in range(5):
        client = node.connect("a")
        assert client.recv(1) == b""
        client.close()
    shown = node.json("show", "a")
    assert shown["state"] == "failed" and shown["starts"] == 4  # one, and three more a minute
    assert "told to die" in shown["failure"]
    refused = node.refused("run", "a", "--", "true")
    assert "told to die" in refused
    assert any("3 times a minute at most" in e["text"] for e in node.json("events"))
    node.good("delete", "a")


def test_keeper_killed_is_reported_and_replaced(node):
    vgpu = node.create("a")
    os.kill(vgpu["keeper_pid"], signal.SIGKILL)
    until(lambda: node.state("a") == "failed")
    assert "keeper ended" in node.json("show", "a")["failure"]
    assert node.ctl("run", "a", "--", "true").returncode == 0
    assert node.json("show", "a")["pid"] != vgpu["pid"]


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        return sum(map(int, f.read().rpartition(")")[2].split()[11:13]))


def test_a_keeper_told_to_end_does_so_in_time(node):
    """Though its device process does not, and though it is told again and again."""
    node.script("stay")
    vgpu = node.create("a")
    node.kill()
    began = time.monotonic()
    used = 0
    while alive(vgpu["keeper_pid"]):
        assert time.monotonic() - began < 8
        try:
            used = cpu_ticks(vgpu["keeper_pid"])
            os.kill(vgpu["keeper_pid"], signal.SIGTERM)
        except OSError:
            break
        time.sleep(0.2)
    assert used < 0.5 * os.sysconf("SC_CLK_TCK"), "it spun"
    until(lambda: not alive(vgpu["pid"]))


def test_a_busy_device_is_not_killed(node):
    """Its channel fills up while it reads nothing; who comes then waits, and is served."""
    node.script("deaf 5")
    pid = node.create("a")["pid"]
    holder = node.connect("a")
    for _ in range(240):  # each leaves a CONNECTION and, when its time is over, a DISCONNECT
        node.connect("a").close()
        time.sleep(0.002)  # the backlog is short
    time.sleep(2.2)
    late = []
    for _ in range(60):
        late.append(node.connect("a"))
        time.sleep(0.002)
    for client in late + [holder]:
        client.sendall(b"x")
    for client in late + [holder]:
        assert client.recv(1) == b"x"
    assert node.json("show", "a")["pid"] == pid
    for client in late + [holder]:
        client.close()


@pytest.mark.parametrize("script, says", [
    ("fail no GL here", "no GL here"), ("die", "told to die"), ("garbage", "breaks the keeper protocol"),
    ("fd", "breaks the keeper protocol")])
def test_create_with_a_device_that_fails(node, script, says):
    node.script(script)
    assert says in node.refused("create", "a", "--gpu", "soft0", "--type", "soft0-128")
    assert node.json("list") == [] and not node.processes()
    node.script("")
    node.create("a")


def test_create_with_no_device_program():
    with Node(device="/nonexistent/vgpu-device") as node:
        assert "cannot run" in node.refused("create", "a", "--gpu", "soft0", "--type", "soft0-128")
        assert node.json("list") == []


def test_create_with_no_keeper_program():
    with Node("keeper = /nonexistent/vgpu-keeper\n") as node:
        assert "keeper" in node.refused("create", "a", "--gpu", "soft0", "--type", "soft0-128")
        assert node.json("list") == []


def test_second_vgpud_is_refused(node):
    done = subprocess.run(node.command(), env=node.env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1 and "another vgpud" in done.stderr
    node.good("list")


def test_unknown_keeper_is_reported_not_destroyed(node):
    vgpu = node.create("a")
    node.kill()
    shutil.rmtree(node.state_dir)  # the database is lost
    node.start()
    os.kill(vgpu["keeper_pid"], 0)
    os.kill(vgpu["pid"], 0)
    assert any("unknown keeper" in e["text"] for e in node.json("events"))
    assert "unknown keeper" in node.refused("create", "a", "--gpu", "soft0", "--type", "soft0-128")


IMPOSTOR = """
import fcntl, os, socket, sys, time
folder, speaks = sys.argv[1:]
lock = open(os.path.join(folder, "keeper.lock"), "w")
fcntl.flock(lock, fcntl.LOCK_EX)
path = os.path.join(folder, "keeper.sock")
if os.path.exists(path):
    os.unlink(path)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(path)
s.listen(64)
print("listening", flush=True)
while True:
    client = s.accept()[0]
    if speaks == "closes":
        client.recv(4096)
        client.close()
        print("asked", flush=True)
    else:
        time.sleep(60)
"""


@pytest.mark.parametrize("speaks", ["closes", "hangs"])
def test_a_keeper_that_does_not_speak_is_told_and_can_be_deleted(node, speaks):
    """One of another version closes each link; one that hangs takes them and says nothing."""
    keeper = node.create("a")["keeper_pid"]
    node.kill()
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not alive(keeper))
    impostor = subprocess.Popen(["/usr/bin/python3", "-c", IMPOSTOR, node.path("a", ""), speaks],
                                stdout=subprocess.PIPE, text=True)
    try:
        assert impostor.stdout.readline() == "listening\n"
        node.start()
        if speaks == "closes":
            until(lambda: node.state("a") == "failed")
            shown = node.json("show", "a")
            assert "another version" in shown["failure"] and str(impostor.pid) in shown["failure"]
            time.sleep(1.0)
            assert sum("another version" in e["text"] for e in node.json("events")) == 1
        node.good("delete", "a")  # ends it, however little it says
        assert impostor.wait(LIMIT) == -signal.SIGKILL
        if speaks == "closes":
            assert impostor.stdout.read().count("asked") < 20, "it is asked ever more rarely"
        assert node.json("list") == []
        node.create("a")
    finally:
        impostor.kill()
        impostor.wait(LIMIT)
        impostor.stdout.close()


def test_a_row_that_no_vgpud_wrote_is_told(node):
    node.create("a")
    node.kill()
    with sqlite3.connect(os.path.join(node.state_dir, "vgpud.db")) as db:
        db.execute("UPDATE vgpus SET phase = 99")
    db.close()
    node.start()
    assert node.json("list") == [] and "left out: 'a'" in node.log()


def test_a_vgpu_whose_folder_is_anothers_can_be_deleted(node):
    keeper = node.create("a")["keeper_pid"]
    node.kill()
    with sqlite3.connect(os.path.join(node.state_dir, "vgpud.db")) as db:
        db.execute("UPDATE vgpus SET uuid = '00000000-0000-4000-8000-000000000000'")
    db.close()
    node.start()
    until(lambda: node.state("a") == "failed")
    assert "unknown keeper" in node.json("show", "a")["failure"]
    node.good("delete", "a")
    assert node.json("list") == [] and alive(keeper)


def test_disk_full():
    """The database cannot grow: refused, nothing half-done, and fine again afterwards."""
    node = Node()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", node.dir],
                             capture_output=True).returncode == 0
    if not mounted:
        node.close()
        pytest.skip("a small tmpfs cannot be mounted here")
    try:
        with open(node.config, "w") as f:
            f.write("[node]\nsoft_vram_mib = 1024\ngroup =\ndevice = %s\n" % os.environ.get(
                "VGPU_FAKE", os.path.join(os.path.dirname(__file__), "fake_device.py")))
        node.start()
        node.create("a", "soft0-64")
        filler = os.path.join(node.dir, "filler")
        with open(filler, "wb", buffering=0) as f:
            try:
                while f.write(b"x" * 4096):
                    pass
            except OSError:
                pass
        refusals = 0
        for i in range(60):  # the journal has a little room of its own
            done = node.ctl("create", "f%d" % (i % 12), "--gpu", "soft0", "--type", "soft0-64")
            if done.returncode:
                assert done.returncode == 1 and done.stderr.startswith("vgpuctl: "), done
                refusals += "full" in done.stderr or "No space" in done.stderr
                break
        assert refusals, done.stderr
        names = {v["name"]: v["state"] for v in node.json("list")}
        assert names["a"] == "ready" and set(names.values()) == {"ready"}
        os.unlink(filler)
        node.create("z", "soft0-64")
        node.good("delete", "z")
        node.kill()
        node.start()
        until(lambda: {v["name"]: v["state"] for v in node.json("list")} == names)
    finally:
        directory = node.dir
        if node.process:
            node.kill()
        for pid in node.processes():
            os.kill(pid, signal.SIGKILL)
        until(lambda: subprocess.run(["umount", directory], capture_output=True).returncode == 0)
        node.close()


def test_config_errors_name_file_and_line():
    for text, says in (("[node]\nsoft_gpus = many\n", "line"), ("[what]\nx = 1\n", "section"),
                       ("[node]\nnonsense = 1\n", "unknown"), ("[type t]\nvram_mib = 5\n", "lacks gpu"),
                       ("rubbish\n", "line 1")):
        node = Node()
        try:
            with open(node.config, "w") as f:
                f.write(text)
            done = subprocess.run(node.command(), env=node.env, capture_output=True, text=True,
                                  timeout=LIMIT)
            assert done.returncode == 1 and says in done.stderr and node.config in done.stderr, done
        finally:
            node.close()


def test_types_of_the_config_and_soft_gpus():
    with Node("[type tiny]\ngpu = soft1\nvram_mib = 48\nmax_instances = 2\nheads = 1\n",
              args=["--soft-gpus", "2"]) as node:
        assert [g["name"] for g in node.json("gpu", "list")] == ["soft0", "soft1"]
        tiny = [t for t in node.json("type", "list", "soft1") if t["name"] == "tiny"][0]
        assert (tiny["vram_mib"], tiny["max_instances"], tiny["heads"]) == (48, 2, 1)
        assert "not of soft0" in node.refused("create", "x", "--gpu", "soft0", "--type", "tiny")
        node.create("x", "tiny", "soft1")
        node.create("y", "soft0-64")  # another GPU, another type


# --- the API as a hostile client sees it ---

def raw(node, data, seconds=LIMIT):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(seconds)
        s.connect(node.socket)
        s.sendall(data)
        answer = b""
        while b"\r\n\r\n" not in answer:
            part = s.recv(65536)
            if not part:
                break
            answer += part
        return answer


def request(node, method, path, body=b""):
    return raw(node, b"%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
        method.encode(), path.encode(), len(body), body))


@pytest.mark.parametrize("method, path, body, status", [
    ("POST", "/v1/vgpus", b"", 400), ("POST", "/v1/vgpus", b"{", 400), ("POST", "/v1/vgpus", b"[]", 400),
    ("POST", "/v1/vgpus", b'{"name":1,"gpu":"soft0"}', 400),
    ("POST", "/v1/vgpus", b'{"name":"a","gpu":"soft0","extra":1}', 400),
    ("POST", "/v1/vgpus", b'{"name":"a","name":"b","gpu":"soft0"}', 400),
    ("POST", "/v1/vgpus", b'{"name":"a\\u0000b","gpu":"soft0"}', 400),
    ("POST", "/v1/vgpus", b"\xff\xfe\x00", 400), ("POST", "/v1/vgpus", b"[" * 60000, 400),
    ("POST", "/v1/vgpus", b"x" * 70000, 413), ("PUT", "/v1/vgpus", b"{}", 405),
    ("DELETE", "/v1/gpus", b"", 405), ("GET", "/v2/vgpus", b"", 404), ("GET", "/", b"", 404),
    ("GET", "/v1/vgpus/", b"", 404), ("GET", "/v1/vgpus/a/b/c", b"", 404),
    ("GET", "/v1/vgpus/" + "x" * 3000, b"", 404), ("GET", "/v1/vgpus/%2e%2e%2fx", b"", 404),
    ("POST", "/v1/vgpus/a/bind", b'{"pid": 1.5}', 400), ("GET", "/v1/vgpus/a/screenshot?head=-1", b"", 400),
    ("GET", "/v1/vgpus/a/screenshot?head=99999999999999999999", b"", 400),
    ("GET", "/v1/events?after=abc", b"", 400), ("GET", "/v1/events?after=-1", b"", 400),
    ("GET", "/v1/events?after=99999999999999999999", b"", 400)])
def test_bad_requests(node, method, path, body, status):
    node.create("a")
    answer = request(node, method, path, body)
    assert answer.split()[1] == str(status).encode(), answer
    assert b'"error"' in answer and b'"message"' in answer
    assert len(node.json("list")) == 1


def test_not_http_at_all(node):
    for junk in (b"\x00\x01\x02 rubbish\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100, b"G" * 100000):
        try:
            raw(node, junk, seconds=0.3)
        except (socket.timeout, ConnectionError):
            pass  # it may wait for the rest, or close: both are fine
    node.good("list")


def test_slow_clients_hold_nobody_up(node):
    slow = []
    for _ in range(20):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(LIMIT)
        s.connect(node.socket)
        s.sendall(b"POST /v1/vgpus HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        slow.append(s)
    began = time.monotonic()
    node.create("a")
    assert time.monotonic() - began < 2.0
    for s in slow:  # and are cut off in the end
        assert ended(s)
        s.close()


def ended(client):
    """True when the other side closes within LIMIT; what it said before is taken in."""
    end = time.monotonic() + LIMIT
    try:
        while time.monotonic() < end:
            if not client.recv(65536):
                return True
    except ConnectionError:
        return True
    except socket.timeout:
        pass
    return False


def test_a_client_that_asks_and_does_not_read(node):
    node.create("a")
    asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(node.socket)
        s.settimeout(0.5)
        try:
            for _ in range(100000):
                s.sendall(asked)
            pytest.fail("everything was answered though nothing was read")
        except socket.timeout:
            pass  # both directions are full now
        began = time.monotonic()
        node.create("b")
        assert time.monotonic() - began < 2.0
        # Cut off for its idleness: nothing of ours is taken in any more.
        hung = select.poll()
        hung.register(s, 0)
        assert hung.poll(20000), "it may stay for ever"
        s.settimeout(LIMIT)
        assert ended(s)


def test_metrics(node):
    node.create("a")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT)
        s.connect(node.socket)
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        text = b""
        while part := s.recv(65536):
            text += part
    assert b'vgpud_commands_total{vgpu="a"} 70' in text
    assert b"# TYPE vgpud_vram_used_bytes gauge" in text


def test_events_wait(node):
    last = len(node.json("events"))
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT)
        s.connect(node.socket)
        s.sendall(b"GET /v1/events?wait=1&after=%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % last)
        s.settimeout(0.3)
        with pytest.raises(socket.timeout):
            s.recv(1)
        s.settimeout(LIMIT)
        node.create("a")
        assert s.recv(65536).startswith(b"HTTP/1.1 200")


def test_another_user_is_refused(node):
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    other = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    os.chmod(node.dir, 0o755)
    if subprocess.run(other + ["test", "-x", os.path.join(BIN, "vgpuctl")]).returncode:
        pytest.skip("another user cannot reach the build folder")
    assert "permission denied" in node.refused("list", prefix=other)
    os.chmod(node.run_dir, 0o755)
    os.chmod(node.socket, 0o666)
    assert "may not use vgpud" in node.refused("list", prefix=other)
    assert "may not use vgpud" in node.refused(
        "create", "x", "--gpu", "soft0", "--type", "soft0-128", prefix=other)


def test_another_users_process_cannot_be_bound():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    user = ["setpriv", "--reuid", "12346", "--regid", "12346", "--clear-groups"]
    with Node("group = daemon\n") as node:
        os.chmod(node.dir, 0o755)
        member = ["setpriv", "--reuid", "12346", "--regid", "12346", "--groups", "daemon"]
        if subprocess.run(user + ["test", "-x", os.path.join(BIN, "vgpuctl")]).returncode:
            pytest.skip("another user cannot reach the build folder")
        node.create("a")
        assert node.ctl("list", prefix=member).returncode == 0  # a member of the group is served
        assert node.ctl("list", prefix=user).returncode == 1
        code = ("import socket,sys\ns=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
                "b=b'{\"pid\": %d}'\n"
                "s.sendall(b'POST /v1/vgpus/a/bind HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: %%d\\r\\n\\r\\n%%s'"
                " %% (len(b), b))\nsys.stdout.write(s.recv(4096).decode())" % os.getpid())
        done = subprocess.run(member + ["/usr/bin/python3", "-c", code, node.socket],
                              capture_output=True, text=True, timeout=LIMIT)
        assert " 403 " in done.stdout and "not one of yours" in done.stdout


def test_a_tenant_is_the_users_who_named_it_first():
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    alice, bob = (["setpriv", "--reuid", uid, "--regid", uid, "--groups", "daemon"]
                  for uid in ("12346", "12347"))

    def create(name, prefix):
        return node.ctl("create", name, "--gpu", "soft0", "--type", "soft0-128", "--tenant", "acme",
                        prefix=prefix)

    with Node("group = daemon\n") as node:
        os.chmod(node.dir, 0o755)
        if subprocess.run(alice + ["test", "-x", os.path.join(BIN, "vgpuctl")]).returncode:
            pytest.skip("another user cannot reach the build folder")
        assert create("a", alice).returncode == 0
        assert create("c", ()).returncode == 0  # root may name any
        for restarted in range(2):
            said = create("b", bob)
            assert said.returncode == 1 and \
                "the tenant acme is another user's (uid 12346), who named it first (" in said.stderr
            if not restarted:
                node.kill()
                node.start()
        assert [v["name"] for v in node.json("list")] == ["a", "c"]
        node.good("delete", "a")
        assert create("b", bob).returncode == 1
        node.good("delete", "c")
        assert create("b", bob).returncode == 0  # it has nothing any more
        assert "(uid 12347)" in create("a", alice).stderr


@pytest.mark.parametrize("mask", ["022", "077"])
def test_the_group_keeps_its_access(mask):
    """Whatever vgpud's umask is, and whoever took the folders from the group meanwhile."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files to another group")
    gid = grp.getgrnam("daemon").gr_gid
    modes = {"": 0o750, "vgpus": 0o750, "vgpus/a": 0o750, "vgpud.sock": 0o660,
             "vgpus/a/vtest.sock": 0o660, "vgpus/a/vhost-user.sock": 0o660}

    def check():
        for name, mode in modes.items():
            is_ = os.lstat(os.path.join(node.run_dir, name))
            assert (is_.st_gid, is_.st_mode & 0o777) == (gid, mode), name

    with Node("group = daemon\n", prefix=["sh", "-c", 'umask %s; exec "$@"' % mask, "sh"]) as node:
        node.create("a")
        check()
        node.kill()
        for folder, _, files in os.walk(node.run_dir):
            for name in [folder] + [os.path.join(folder, f) for f in files]:
                os.chown(name, 0, 0)
        node.start()
        until(lambda: node.state("a") == "ready")
        check()


def test_unprivileged_vgpud():
    """The whole of it as an ordinary user: soft GPUs need no privilege."""
    if os.geteuid() != 0:
        pytest.skip("this is the case already")
    user = ["setpriv", "--reuid", "12347", "--regid", "12347", "--clear-groups"]
    if subprocess.run(user + ["test", "-x", os.path.join(BIN, "vgpud")]).returncode:
        pytest.skip("another user cannot reach the build folder")
    node = Node(prefix=user)
    try:
        os.chown(node.dir, 12347, 12347)
        node.start()
        done = node.ctl("create", "a", "--gpu", "soft0", "--type", "soft0-128", prefix=user)
        assert done.returncode == 0, done.stderr
        done = node.ctl("run", "a", "--", "/usr/bin/python3", "-c",
                        "import os,socket\ns=socket.socket(socket.AF_UNIX);s.connect('/tmp/.virgl_test')\n"
                        "assert os.getuid() == 12347", prefix=user)
        assert done.returncode == 0 or "namespace" in done.stderr, done.stderr
        # Its process is replaced by a fresh one when the binding is over.
        until(lambda: json.loads(node.ctl("--json", "list", prefix=user).stdout)[0]["state"]
              == "ready")
        assert node.ctl("delete", "a", prefix=user).returncode == 0
    finally:
        node.close()


# --- libvirt ---

def helper(node, fd, *args, pid_file=None):
    directory = os.path.join(node.dir, "libvirt")
    os.makedirs(directory, exist_ok=True)
    process = subprocess.Popen(
        [os.path.join(BIN, "vgpu-libvirt-helper"), "--fd=%d" % fd, "--virgl"] + list(args), pass_fds=[fd],
        env=dict(node.env, VGPU_LIBVIRT_STATE_DIR=directory), stderr=subprocess.PIPE, text=True)
    if pid_file:
        with open(os.path.join(directory, pid_file), "w") as f:
            f.write("%d\n" % process.pid)
    return process


def test_libvirt_helper_hands_over(node):
    ours, theirs = socket.socketpair()
    ours.settimeout(LIMIT)
    process = helper(node, theirs.fileno(), pid_file="3-guest-one-video0-vhost-user-gpu.pid")
    theirs.close()
    try:
        until(lambda: any(v["name"] == "guest-one" and v["state"] == "bound" for v in node.json("list")))
        vgpu = node.json("show", "guest-one")
        assert vgpu["bound_to"] == "libvirt domain guest-one" and vgpu["type"] == "soft0-256"
        ours.sendall(b"vhost")
        assert ours.recv(5) == b"vhost"
        assert process.poll() is None  # it lives as long as the connection
        # The same domain again, or anyone else, is refused with the reason.
        a, b = socket.socketpair()
        second = helper(node, b.fileno(), "--domain", "guest-one")
        _, err = second.communicate(timeout=LIMIT)
        assert second.returncode == 1 and "held by libvirt domain guest-one" in err
        a.close()
        b.close()
        ours.close()
        assert process.wait(LIMIT) == 0
        until(lambda: node.state("guest-one") == "ready")
    finally:
        process.kill()
        process.wait(LIMIT)
        process.stderr.close()


def test_libvirt_helper_refusals():
    with Node("[libvirt]\ncreate = no\n") as node:
        a, b = socket.socketpair()
        for args, says in ((("--domain", "nobody"), "no vGPU for this domain"),
                           (("--domain", ""), "no name"), ((), "no libvirt domain names")):
            process = helper(node, b.fileno(), *args)
            _, err = process.communicate(timeout=LIMIT)
            assert process.returncode == 1 and says in err, err
        node.kill()
        process = helper(node, b.fileno(), "--domain", "x")
        _, err = process.communicate(timeout=LIMIT)
        assert process.returncode == 1 and "no vgpud answers" in err
        a.close()
        b.close()


def test_libvirt_helper_capabilities():
    done = subprocess.run([os.path.join(BIN, "vgpu-libvirt-helper"), "--print-capabilities"],
                          capture_output=True, text=True, timeout=LIMIT)
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["type"] == "gpu" and "virgl" in said["features"]
    assert subprocess.run([os.path.join(BIN, "vgpu-libvirt-helper")], capture_output=True,
                          timeout=LIMIT).returncode == 2


def test_more_descriptors_than_expected_on_the_fd_socket(node):
    fds_of = "/proc/%d/fd" % node.process.pid
    before = len(os.listdir(fds_of))
    for count in (2, 16):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s, open("/dev/null", "rb") as null:
            s.settimeout(LIMIT)
            s.connect(os.path.join(node.run_dir, "fd.sock"))
            socket.send_fds(s, [b"\0\0\0\0\x08\x01\0\0" + b"a" * 264], [null.fileno()] * count)
            assert s.recv(1) == b""
    until(lambda: len(os.listdir(fds_of)) <= before)
    node.good("list")


def test_garbage_on_the_fd_socket(node):
    for message in (b"", b"x", b"\0" * 8, b"\xff" * 4096, b"\0\0\0\0\x08\x01\0\0" + b"a" * 264):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(LIMIT)
            s.connect(os.path.join(node.run_dir, "fd.sock"))
            if message:
                s.send(message)
                assert s.recv(1) == b""
    node.good("list")
