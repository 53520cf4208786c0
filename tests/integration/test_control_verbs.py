# SPDX-License-Identifier: Apache-2.0
"""Every verb and every refusal, through vgpuctl as people use it."""
import os
import signal
import struct
import subprocess
import time
import zlib

import pytest

from control_node import BIN, LIMIT, ROOT, Node, alive, until


@pytest.fixture
def node():
    with Node() as n:
        yield n


def test_contract_fields(node):
    vgpu = node.create("a")
    assert {"name", "uuid", "gpu", "type", "method", "state", "pid", "renderer", "vram_used_mib",
            "vram_mib", "bound_to"} <= set(vgpu)
    assert vgpu["state"] == "ready" and vgpu["renderer"] == "fake virgl"
    assert vgpu["vram_mib"] == 128 and vgpu["bound_to"] is None
    os.kill(vgpu["pid"], 0)
    gpu = node.json("gpu", "list")[0]
    assert {"name", "kind", "driver", "pci_address", "state", "method", "type", "vram_mib",
            "policy"} <= set(gpu)
    assert (gpu["state"], gpu["method"], gpu["type"]) == ("shared", "forward", "soft0-128")
    shown = node.json("gpu", "show", "soft0")  # the same, and more
    assert {key: shown[key] for key in gpu} == gpu
    for t in node.json("type", "list"):
        assert {"name", "gpu", "vram_mib", "max_instances", "available_instances", "max_width",
                "max_height", "heads"} <= set(t)
    assert node.json("list") == [node.json("show", "a")]


def test_types_follow_rule_2(node):
    by_name = {t["name"]: t for t in node.json("type", "list", "soft0")}
    assert by_name["soft0-128"]["max_instances"] == by_name["soft0-128"]["available_instances"] == 8
    node.create("a")
    by_name = {t["name"]: t["available_instances"] for t in node.json("type", "list", "soft0")}
    assert by_name == {"soft0-64": 0, "soft0-128": 7, "soft0-256": 0, "soft0-512": 0, "soft0-1024": 0}
    line = node.refused("create", "b", "--gpu", "soft0", "--type", "soft0-64")
    assert "one type" in line and "soft0-128" in line


def test_without_a_type_it_is_what_the_gpu_carries(node):
    node.good("create", "a", "--gpu", "soft0")
    assert node.json("show", "a")["type"] == "soft0-256"
    node.good("delete", "a")
    node.create("b", "soft0-64")
    node.good("create", "c", "--gpu", "soft0")
    assert node.json("show", "c")["type"] == "soft0-64"
    assert node.ctl("create", "d").returncode == 2


def test_mixed_gpu_carries_several_types():
    with Node("[gpu soft0]\nmixed = yes\n") as node:
        node.create("a", "soft0-512")
        node.create("b", "soft0-256")
        available = {t["name"]: t["available_instances"] for t in node.json("type", "list")}
        assert available["soft0-256"] == 1 and available["soft0-512"] == 0
        line = node.refused("create", "c", "--gpu", "soft0", "--type", "soft0-512")
        assert "no room" in line


def test_a_type_that_does_not_fit(node):
    node.create("a", "soft0-512")
    node.create("b", "soft0-512")
    assert "no room" in node.refused("create", "c", "--gpu", "soft0", "--type", "soft0-512")
    node.good("delete", "a")
    node.create("c", "soft0-512")


@pytest.mark.parametrize("args, says", [
    (("create", "x", "--gpu", "gpu9", "--type", "soft0-128"), "GPU 'gpu9' does not exist"),
    (("create", "x", "--gpu", "gpu9"), "GPU 'gpu9' does not exist"),
    (("create", "x", "--gpu", "soft0", "--type", "huge"), "type 'huge' does not exist"),
    (("create", "x", "--gpu", "soft0", "--type", "soft0-128", "--method", "magic"), "does not exist"),
    (("create", "x", "--gpu", "soft0", "--type", "soft0-128", "--method", "mediate"), "slices"),
    (("create", "x", "--gpu", "soft0", "--type", "soft0-128", "--method", "passthrough"), "whole"),
    (("show", "nobody"), "no vGPU"), (("delete", "nobody"), "no vGPU"),
    (("qemu-args", "nobody"), "no vGPU"), (("run", "nobody", "--", "true"), "no vGPU"),
    (("screenshot", "nobody", "/dev/null"), "no vGPU"), (("stats", "nobody"), "no vGPU"),
    (("gpu", "show", "gpu9"), "no GPU"), (("type", "list", "gpu9"), "no GPU"),
])
def test_refusals(node, args, says):
    assert says in node.refused(*args)
    assert node.json("list") == []


@pytest.mark.parametrize("name", ["", ".x", "-x", "a/b", "a b", "../x", "a\n", "ä", "x" * 64, "a;b"])
def test_bad_names(node, name):
    done = node.ctl("create", "--gpu", "soft0", "--type", "soft0-128", "--", name)
    if done.returncode == 2:  # "--" ends options; a name is expected before it
        done = node.ctl("create", name, "--gpu", "soft0", "--type", "soft0-128")
    assert done.returncode == 1, done
    assert "name" in done.stderr
    assert node.json("list") == []


@pytest.mark.parametrize("args", [
    (), ("nonsense",), ("gpu",), ("gpu", "x"), ("create",), ("create", "a"), ("create", "a", "--gpu"),
    ("create", "a", "b", "--gpu", "soft0", "--type", "t"), ("show",), ("show", "a", "b"), ("delete",),
    ("run", "a"), ("run",), ("run", "a", "--"), ("screenshot", "a"), ("list", "--what"), ("--what",),
    ("screenshot", "a", "f", "--head", "x"), ("--socket",), ("list", "--json=1")])
def test_usage_is_status_2(node, args):
    done = node.ctl(*args)
    assert done.returncode == 2 and done.stderr


def test_a_verb_of_two_words_that_is_not_there(node):
    assert "vgpuctl: gpu: a second word is missing" in node.ctl("gpu").stderr
    assert "vgpuctl: gpu x: there is no such verb" in node.ctl("gpu", "x").stderr
    assert "vgpuctl: nonsense: there is no such verb" in node.ctl("nonsense", "x").stderr


def test_a_size_of_memory_is_one_value(node):
    node.create("a")
    for memory in ("1G&vga=1", "512M#", "1 G", "%31G"):
        assert "no size of memory" in node.refused("qemu-args", "a", "--memory", memory)


def test_help_and_version(node):
    assert "usage:" in node.good("--help") and "vgpuctl" in node.good("--version")
    for verb in ("gpu list", "gpu show", "type list", "create", "list", "show", "delete", "run",
                 "qemu-args", "screenshot", "stats", "events", "doctor"):
        assert "usage: vgpuctl" in node.good(*verb.split(), "--help")


def test_a_name_exists_once(node):
    node.create("a")
    assert "exists" in node.refused("create", "a", "--gpu", "soft0", "--type", "soft0-128")


def test_create_is_quick(node):
    began = time.monotonic()
    node.create("a")
    assert time.monotonic() - began < 3.0  # two programs and an interpreter start in it


def test_delete_leaves_nothing(node):
    vgpu = node.create("a")
    node.good("delete", "a")
    assert node.json("list") == [] and os.listdir(os.path.join(node.run_dir, "vgpus")) == []
    until(lambda: not alive(vgpu["pid"]) and not alive(vgpu["keeper_pid"]))


def test_run_gives_the_status_and_the_socket(node):
    node.create("a")
    code = ("import os,socket,sys\n"
            "assert os.environ['GALLIUM_DRIVER'] == 'virpipe'\n"
            "assert os.environ['LIBGL_ALWAYS_SOFTWARE'] == '1'\n"
            "for p in ('/tmp/.virgl_test', os.environ['VTEST_SOCKET_NAME']):\n"
            " s = socket.socket(socket.AF_UNIX); s.settimeout(9); s.connect(p)\n"
            " s.sendall(b'hello'); assert s.recv(9) == b'hello'\n"
            "sys.exit(7)\n")
    done = node.ctl("run", "a", "--", "/usr/bin/python3", "-c", code)
    assert done.returncode == 7, done.stderr
    assert node.ctl("run", "a", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9
    assert node.ctl("run", "a", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15
    assert node.ctl("run", "a", "--", "/nonexistent/program").returncode == 127
    assert node.ctl("run", "a", "true").returncode == 0
    # A socket of another vGPU or of nobody outside: the mount was private to the command.
    assert not any("virgl_test" in line for line in open("/proc/self/mountinfo"))


def test_run_binds_and_a_second_is_refused(node):
    node.create("a")
    holder = subprocess.Popen([os.path.join(BIN, "vgpuctl"), "run", "a", "--", "sleep", "60"], env=node.env)
    try:
        until(lambda: node.state("a") == "bound")
        shown = node.json("show", "a")
        assert shown["bound_to"].startswith("sleep[%d]" % holder.pid)
        assert "held by sleep" in node.refused("run", "a", "--", "true")
        assert "held by sleep" in node.refused("delete", "a")
        holder.send_signal(signal.SIGTERM)
        assert holder.wait(LIMIT) == 128 + 15
    finally:
        holder.kill()
        holder.wait(LIMIT)
    assert node.state("a") == "ready"  # at once, not a moment later
    node.good("delete", "a")


def test_delete_by_force(node):
    node.create("a")
    client = node.connect("a")
    until(lambda: node.state("a") == "bound")
    node.refused("delete", "a")
    node.good("delete", "a", "--force")
    assert client.recv(1) == b""
    client.close()


def test_one_holder_at_a_time(node):
    node.create("a")
    first, second = node.connect("a"), node.connect("a")
    for client in (first, second):  # one process may open several connections
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    until(lambda: node.json("show", "a")["connections"] == 2)
    vm = node.connect("a", "vhost-user.sock")
    assert vm.recv(1) == b""  # refused: closed at once
    vm.close()
    first.close()
    assert node.state("a") == "bound"
    second.close()
    until(lambda: node.state("a") == "ready")
    vm = node.connect("a", "vhost-user.sock")
    vm.sendall(b"x")
    assert vm.recv(1) == b"x"
    other = node.connect("a", "vhost-user.sock")
    assert other.recv(1) == b""
    process = node.connect("a")
    assert process.recv(1) == b""
    assert any("refused" in e["text"] and "held by" in e["text"] for e in node.json("events"))
    for s in (vm, other, process):
        s.close()
    until(lambda: node.state("a") == "ready")


def test_one_vgpu_per_vm(node):
    """Rule 1: the same guest memory behind a second vGPU is refused, and free again later."""
    memory = os.path.join(node.dir, "guest-memory")
    with open(memory, "wb") as f:
        f.truncate(4096)
    node.script("memory " + memory)
    node.create("a")
    node.create("b")
    first = node.connect("a", "vhost-user.sock")
    assert first.recv(6) == b"served"
    second = node.connect("b", "vhost-user.sock")
    assert second.recv(400).startswith(b"refused: this VM already holds another vGPU")
    second.close()
    first.close()
    until(lambda: node.state("a") == "ready" and node.state("b") == "ready")
    assert os.listdir(os.path.join(node.run_dir, "vms")) == []
    again = node.connect("b", "vhost-user.sock")
    assert again.recv(6) == b"served"
    again.close()


def test_qemu_args(node):
    vgpu = node.create("a")
    words = node.good("qemu-args", "a").split()
    assert "socket,id=vgpu-a,path=" + vgpu["vhost_user_socket"] in words
    assert any(w.startswith("vhost-user-gpu-pci,chardev=vgpu-a") for w in words)
    assert any(w.startswith("vhost-user-vga,") for w in node.good("qemu-args", "a", "--vga").split())
    words = node.good("qemu-args", "a", "--memory", "512M").split()
    assert "memory-backend-memfd,id=vgpu-memory,size=512M,share=on" in words
    node.refused("qemu-args", "a", "--memory", "1,x=y")
    assert isinstance(node.json("qemu-args", "a")["args"], list)


def png_pixels(data):
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, idat, head = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        head = struct.unpack(">IIBB", body[:10]) if kind == b"IHDR" else head
        idat += body if kind == b"IDAT" else b""
        at += 12 + size
    width, height, depth, color = head
    assert (depth, color) == (8, 2)
    raw = zlib.decompress(idat)
    row = 1 + 3 * width
    assert len(raw) == row * height
    return width, height, raw


def test_screenshot(node):
    node.script("screen 64x32")
    node.create("a")
    file = os.path.join(node.dir, "a.png")
    node.good("screenshot", "a", file)
    with open(file, "rb") as f:
        width, height, raw = png_pixels(f.read())
    assert (width, height) == (64, 32)
    # The first row, whatever its filter: left blue, so its first pixel is 00 00 ff.
    assert raw[1:4] == b"\x00\x00\xff"
    assert "no such head" in node.refused("screenshot", "a", file, "--head", "7")
    assert "nonexistent" in node.refused("screenshot", "a", "/nonexistent/f.png")


def test_screenshot_of_a_dark_screen(node):
    node.create("a")
    assert "shows nothing" in node.refused("screenshot", "a", os.path.join(node.dir, "a.png"))
    assert not os.path.exists(os.path.join(node.dir, "a.png"))


def test_stats(node):
    node.script("used 5")
    node.create("a")
    until(lambda: node.json("show", "a")["vram_used_mib"] == 5)
    stats = node.json("stats", "a")
    assert stats["vram_limit_bytes"] == 128 << 20 and stats["commands_total"] == 70
    (also,) = node.json("stats")
    for moving in ("gpu_time_ns_total", "cpu_time_ns_total", "cpu_delay_ns_total"):
        assert also.pop(moving) >= stats.pop(moving)
    assert also == stats
    assert "a" in node.good("stats")


def test_doctor(node):
    checks = {c["check"]: c for c in node.json("doctor")}
    assert {"soft-gpu", "kvm", "qemu", "namespaces", "libvirt", "memory", "vgpud"} <= set(checks)
    assert checks["soft-gpu"]["status"] == "ok"
    for c in checks.values():
        assert c["status"] in ("ok", "warn", "fail") and (c["status"] == "ok" or c["advice"])


def test_doctor_sees_a_broken_soft_gpu():
    with Node(device="/bin/false") as node:
        done = node.ctl("--json", "doctor")
        assert done.returncode == 1 and '"fail"' in done.stdout
        assert "doctor" in done.stderr


def test_without_vgpud():
    node = Node()
    try:
        assert "no vgpud answers" in node.refused("list")
        assert node.ctl("--socket", "/nonexistent/x", "list").returncode == 1
        assert node.ctl("doctor").returncode == 1
    finally:
        node.close()


def test_the_apis_documentation_is_current():
    said = subprocess.run([os.path.join(BIN, "vgpud"), "--print-api"], capture_output=True, text=True,
                          timeout=LIMIT).stdout
    with open(os.path.join(ROOT, "docs", "api.md")) as f:
        assert f.read() == said, "write it anew: vgpud --print-api > docs/api.md"


def test_what_a_real_device_says():
    """The real device process in place of the fake: created, drawn on, killed, drawn on again."""
    client = os.path.join(os.path.dirname(BIN), "tests", "clients", "glhash")
    if not os.path.exists(os.path.join(BIN, "vgpu-device")) or not os.path.exists(client):
        pytest.skip("this build has no vgpu-device or no client")
    with Node(device=os.path.join(BIN, "vgpu-device")) as node:
        vgpu = node.create("a")
        assert vgpu["renderer"].startswith("virgl")
        first = node.ctl("run", "a", "--", client)
        assert first.returncode == 0 and "renderer: virgl" in first.stdout, first
        assert node.json("stats", "a")["draws_total"] > 0
        # That was one binding: a fresh process has taken the place of the first.
        until(lambda: node.state("a") == "ready")
        os.kill(node.json("show", "a")["pid"], signal.SIGKILL)
        until(lambda: node.state("a") == "failed")
        second = node.ctl("run", "a", "--", client)
        assert second.returncode == 0 and second.stdout == first.stdout
        node.good("delete", "a")
