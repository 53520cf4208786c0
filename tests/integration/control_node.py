# SPDX-License-Identifier: Apache-2.0
"""One vgpud with the fake device process, in folders of its own, ended whatever a test does."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BIN = os.path.join(os.environ.get("VGPU_BUILD", os.path.join(ROOT, "build")), "bin")
FAKE = os.path.join(HERE, "fake_device.py")
LIMIT = 30  # seconds; nothing here takes one


def until(condition, seconds=10.0):
    """Waits until condition() is true and returns what it said."""
    end = time.monotonic() + seconds
    while True:
        said = condition()
        if said:
            return said
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.02)


def alive(pid):
    """False for a zombie too: whether anyone has waited for it is init's business."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Node:
    def __init__(self, config="", device=FAKE, args=(), prefix=(), standby=0):
        self.dir = tempfile.mkdtemp(prefix="vg", dir="/tmp")
        self.run_dir = os.path.join(self.dir, "r")
        self.state_dir = os.path.join(self.dir, "s")
        self.socket = os.path.join(self.run_dir, "vgpud.sock")
        self.script_path = os.path.join(self.dir, "script")
        self.config = os.path.join(self.dir, "vgpud.conf")
        with open(self.config, "w") as f:
            f.write("[node]\nsoft_vram_mib = 1024\ngroup =\nstandby = %d\ndevice = %s\n%s" %
                    (standby, device, config))
        self.env = dict(os.environ, VGPUD_SOCKET=self.socket, VGPU_FAKE_SCRIPT=self.script_path,
                        PATH=BIN + ":" + os.environ["PATH"])
        self.args = list(args)
        self.prefix = list(prefix)
        self.process = None

    def script(self, text):
        with open(self.script_path, "w") as f:
            f.write(text)

    def command(self):
        return self.prefix + [os.path.join(BIN, "vgpud"), "--config", self.config, "--state-dir",
                              self.state_dir, "--run-dir", self.run_dir] + self.args

    def start(self):
        """Starts vgpud and waits for its READY=1, as systemd would."""
        path = os.path.join(self.dir, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            os.chmod(path, 0o777)
            notify.settimeout(0.1)
            end = time.monotonic() + LIMIT
            log = open(os.path.join(self.dir, "vgpud.log"), "a")
            self.process = subprocess.Popen(self.command(), stderr=log, stdout=log,
                                            env=dict(self.env, NOTIFY_SOCKET=path))
            log.close()
            try:
                said = b""
                while b"READY=1" not in said:
                    try:
                        said = notify.recv(4096)
                    except socket.timeout:
                        assert self.process.poll() is None and time.monotonic() < end, \
                            "vgpud did not start: " + self.log()
            finally:
                os.unlink(path)
        return self

    def log(self):
        with open(os.path.join(self.dir, "vgpud.log")) as f:
            return f.read()

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(number)
        status = self.process.wait(LIMIT)
        self.process = None
        return status

    def ctl(self, *args, env=None, prefix=()):
        return subprocess.run(list(prefix) + [os.path.join(BIN, "vgpuctl")] + list(args),
                              env=env or self.env, capture_output=True, text=True, timeout=LIMIT)

    def good(self, *args):
        done = self.ctl(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *args, **kwargs):
        """The one line of a refusal, checked for its shape: WHAT: WHY (WHAT TO DO)."""
        done = self.ctl(*args, **kwargs)
        assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
        lines = done.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("vgpuctl: "), done.stderr
        assert lines[0].count(": ") >= 2 and lines[0].endswith(")") and " (" in lines[0], lines[0]
        return lines[0]

    def json(self, *args):
        return json.loads(self.good("--json", *args))

    def create(self, name, type_name="soft0-128", gpu="soft0"):
        self.good("create", name, "--gpu", gpu, "--type", type_name)
        return self.json("show", name)

    def path(self, name, socket_name):
        return os.path.join(self.run_dir, "vgpus", name, socket_name)

    def connect(self, name, socket_name="vtest.sock"):
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LIMIT)
        client.connect(self.path(name, socket_name))
        return client

    def state(self, name):
        return self.json("show", name)["state"]

    def processes(self):
        """Our keepers and device processes, told by this node's folder in their arguments."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % pid, "rb") as f:
                    words = f.read().split(b"\0")
            except OSError:
                continue
            keeper = any(w.endswith((b"vgpu-keeper", b"fake_keeper.py")) for w in words[:2])
            ours = (self.run_dir.encode(), self.state_dir.encode())  # a stand-by knows the latter
            if keeper and any(w.startswith(ours) for w in words):
                found.append(int(pid))
        return found

    def close(self):
        if self.process:
            self.kill()
        for pid in self.processes():  # the device processes die with them
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()
