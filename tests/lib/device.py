# SPDX-License-Identifier: Apache-2.0
"""A vgpu-device without vgpud: this module plays the keeper (protocol/keeper.h).

    with Device(build / "bin/vgpu-device", folder) as device:
        subprocess.run(device.command(["glhash"]), env=device.environment())
        print(device.stats()["draws_total"], device.closed)
"""
import array
import contextlib
import os
import pathlib
import re
import select
import shlex
import signal
import socket
import struct
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STOCK_SOCKET = "/tmp/.virgl_test"  # the only place where Mesa before 24 looks
VERSION = 2
HEADER = struct.Struct("=II")
CONNECTION = struct.Struct("=IIII")
TEXT = 256
KIND_VHOST_USER, KIND_VTEST = range(2)
STATS_SIZE = 4096  # of protocol/stats.h


def table(header, name, count):
    """The names in the first column of an X-macro table, in order."""
    text = (ROOT / "protocol" / header).read_text()
    body = re.search(rf"#define {name}\(X\)[^\n]*\\\n(?:[^\n]*\\\n)*[^\n]*\n", text).group(0)
    rows = re.findall(r"\bX\((\w+),", body)
    if len(rows) < count:
        raise ValueError(f"{name} in {header} has only {len(rows)} rows")
    return rows


def text_of(raw):
    return raw.split(b"\0", 1)[0].decode(errors="replace")


def with_socket(path, argv):
    """The command line that runs argv where Mesa's fixed socket path leads to `path`.

    A mount namespace of its own does it, as root or with a user namespace. The place must exist to
    be mounted over, and an empty file there stays behind.
    """
    with contextlib.suppress(OSError):
        os.close(os.open(STOCK_SOCKET, os.O_CREAT | os.O_EXCL, 0o644))
    space = ["unshare", "--mount"]
    if os.geteuid():
        space += ["--map-root-user"]
    script = f"mount --bind {shlex.quote(str(path))} {STOCK_SOCKET} && exec \"$@\""
    return space + ["sh", "-c", script, "sh"] + [str(word) for word in argv]


def client_environment(path=None):
    """What makes Mesa draw on the vGPU behind the socket; without one, on llvmpipe."""
    env = dict(os.environ, LIBGL_ALWAYS_SOFTWARE="1", GALLIUM_DRIVER="llvmpipe")
    if path:
        env.update(GALLIUM_DRIVER="virpipe", VTEST_SOCKET_NAME=str(path))
    return env


def server_environment():
    """A server draws on its own renderer, whatever this process was told to draw on."""
    env = dict(os.environ)
    for name in ("GALLIUM_DRIVER", "LIBGL_ALWAYS_SOFTWARE", "VTEST_SOCKET_NAME", "DISPLAY"):
        env.pop(name, None)
    return env


class DeviceError(RuntimeError):
    pass


class Device:
    """Starts the device process, accepts vtest clients on `socket_path` and hands them over."""

    def __init__(self, binary, folder, *, name="test", vram_mib=1024, args=(), start_s=30):
        self.socket_path = pathlib.Path(folder) / f"{name}.vtest"
        self.command_line = [str(binary), "--name", name, "--vram-mib", str(vram_mib), *args]
        self.start_s = start_s
        self.messages = table("keeper.h", "KEEPER_DEVICE_MESSAGES", 11)
        self.process = None
        self.renderer = None
        self.failure = None
        self.notices = []
        self.closed = {}  # connection id: reason
        self.peers = {}  # connection id: pid
        self.memory = {}  # custody, kind and index: fd
        self._stats = None
        self._ids = 0
        self._changed = threading.Condition()
        self._threads = []

    # ---- life ----

    def start(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._stats = os.memfd_create("vgpu-stats")
        os.ftruncate(self._stats, STATS_SIZE)
        with theirs:
            given = [theirs.fileno(), self._stats]
            self.process = subprocess.Popen(
                self.command_line[:1] + ["--keeper-fd", str(given[0]), "--stats-fd",
                                         str(given[1])] + self.command_line[1:],
                pass_fds=given, env=server_environment(), stdin=subprocess.DEVNULL)
        self._channel = ours
        self._wake_r, self._wake_w = os.pipe()
        self.socket_path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(self.socket_path))
        self._listener.listen(64)
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        self._threads = [thread]
        with self._changed:
            self._changed.wait_for(lambda: self.renderer or self.failure, self.start_s)
        if not self.renderer:
            self.stop()
            raise DeviceError(self.failure or f"not ready within {self.start_s} s")
        return self

    def stop(self, limit_s=10):
        """Asks the process to finish; returns its exit status (negative: the signal)."""
        if not self.process:
            return None
        with contextlib.suppress(OSError):
            self._send("QUIT")
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        os.write(self._wake_w, b"x")
        for thread in self._threads:
            thread.join(5)
        self._listener.close()
        self._channel.close()
        for fd in [self._wake_r, self._wake_w, self._stats, *self.memory.values()]:
            if fd is not None:
                os.close(fd)
        self._stats, self.memory, self.process = None, {}, None
        self.socket_path.unlink(missing_ok=True)
        return status

    def kill(self):
        self.process.send_signal(signal.SIGKILL)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # ---- for tests ----

    def environment(self):
        return client_environment(self.socket_path)

    def command(self, argv):
        return with_socket(self.socket_path, argv)

    def connect(self):
        """A raw vtest connection, for tests that speak the protocol themselves."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(20)
        sock.connect(str(self.socket_path))
        return sock

    def hand_over(self, sock, kind=KIND_VTEST, pid=0, uid=0):
        """Gives a connected socket to the device and returns its connection id."""
        with self._changed:
            self._ids += 1
            self.peers[self._ids] = pid
            number = self._ids
        self._send("CONNECTION", CONNECTION.pack(number, kind, pid, uid), [sock.fileno()])
        return number

    def wait_closed(self, count=1, limit_s=20):
        """Waits until `count` connections in all have ended, and returns their reasons."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.closed) >= count, limit_s):
                raise DeviceError(f"{len(self.closed)} of {count} connections ended")
            return list(self.closed.values())

    def stats(self):
        """{name: value} of protocol/stats.h, now."""
        names = table("stats.h", "VGPU_STATS_VALUES", 10)
        values = struct.unpack_from(f"={len(names)}Q", os.pread(self._stats, 4096, 0), 8)
        return dict(zip(names, values))

    # ---- the keeper's side of the channel ----

    def _send(self, name, payload=b"", fds=()):
        packet = HEADER.pack(self.messages.index(name), len(payload)) + payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._channel.sendmsg([packet], rights)

    def _serve(self):
        poll = select.poll()
        for fd in (self._channel.fileno(), self._listener.fileno(), self._wake_r):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake_r in ready:
                return
            if self._channel.fileno() in ready and not self._receive():
                poll.unregister(self._channel.fileno())
            if self._listener.fileno() in ready:
                self._accept()

    def _accept(self):
        sock, _ = self._listener.accept()
        with sock:
            pid, uid, _ = struct.unpack(
                "iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            with contextlib.suppress(OSError):
                self.hand_over(sock, KIND_VTEST, pid, uid)

    def _receive(self):
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, 4096, 4)
        except OSError:
            packet, fds = b"", []
        with self._changed:
            if not packet:
                self.failure = self.failure or "the device process ended"
            else:
                self._handle(packet, fds)
            self._changed.notify_all()
        return bool(packet)

    def _handle(self, packet, fds):
        kind, size = HEADER.unpack_from(packet)
        name = self.messages[kind]
        payload = packet[HEADER.size:]
        if size != len(payload):
            raise DeviceError(f"{name} says {size} bytes and has {len(payload)}")
        if name == "READY":
            if struct.unpack_from("=I", payload)[0] != VERSION:
                self.failure = "another version of the keeper protocol"
            self.renderer = text_of(payload[8:])
        elif name == "CUSTODY":
            key = struct.unpack_from("=II", payload)
            if key in self.memory:
                os.close(self.memory[key])
            self.memory[key] = fds[0]
        elif name == "RELEASE":
            fd = self.memory.pop(struct.unpack_from("=II", payload), None)
            if fd is not None:
                os.close(fd)
        elif name == "MEMORY_DONE":
            serial = struct.unpack_from("=I", payload)[0]
            self._send("VERDICT", struct.pack(f"=II{TEXT}s", serial, 1, b""))
        elif name == "CLOSED":
            self.closed[struct.unpack_from("=I", payload)[0]] = text_of(payload[8:])
        elif name == "NOTICE":
            self.notices.append(text_of(payload))
        elif name == "FAILED":
            self.failure = text_of(payload)


class StockServer:
    """The stock virgl_test_server behind the same interface."""

    def __init__(self, folder, name="stock"):
        self.socket_path = pathlib.Path(folder) / f"{name}.vtest"
        self.process = None

    def start(self):
        self.socket_path.unlink(missing_ok=True)
        env = dict(server_environment(), LIBGL_ALWAYS_SOFTWARE="1", GALLIUM_DRIVER="llvmpipe")
        self.process = subprocess.Popen(
            ["virgl_test_server", "--use-egl-surfaceless", f"--socket-path={self.socket_path}"],
            env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while not self.socket_path.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise DeviceError("virgl_test_server did not start")
            time.sleep(0.02)
        return self

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        self.socket_path.unlink(missing_ok=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def environment(self):
        return client_environment(self.socket_path)

    def command(self, argv):
        return with_socket(self.socket_path, argv)
