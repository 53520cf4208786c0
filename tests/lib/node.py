# SPDX-License-Identifier: Apache-2.0
"""A vgpud of one's own: started with fresh folders, driven through vgpuctl like a user would."""
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import cache
import image

PROGRAMS = Path(os.environ.get("VGPUD_PROGRAMS", cache.BUILD / "bin"))
START_LIMIT_S = 15
VTEST_CREATE_RENDERER, VTEST_PROTOCOL_VERSION = 8, 11


class NodeError(RuntimeError):
    pass


def missing_programs():
    """Names of programs that are not built, for tests to skip with a reason."""
    return [name for name in ("vgpud", "vgpuctl", "vgpu-keeper", "vgpu-device")
            if not (PROGRAMS / name).exists()]


class Node:
    def __init__(self, config=None, soft_gpus=None, environment=None):
        """environment: what vgpud gets besides this process' own."""
        self.dir = Path(tempfile.mkdtemp(prefix="vgpud-"))
        self.run_dir, self.log = self.dir / "run", self.dir / "vgpud.log"
        self.process = None
        self.config = None
        if config:
            self.config = self.dir / "vgpud.conf"
            self.config.write_text(config)
        self.soft_gpus = soft_gpus
        self.environment = dict(os.environ, VGPUD_SOCKET=str(self.run_dir / "vgpud.sock"))
        self.given = environment or {}

    def start(self):
        command = [PROGRAMS / "vgpud", "--state-dir", self.dir / "state", "--run-dir", self.run_dir]
        if self.config:
            command += ["--config", self.config]
        if self.soft_gpus:
            command += ["--soft-gpus", str(self.soft_gpus)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=dict(self.environment, **self.given))
        end = time.monotonic() + START_LIMIT_S
        while self.ctl("gpu", "list", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                raise NodeError(f"vgpud did not start: {self.errors()}")
            time.sleep(0.05)
        return self

    def errors(self):
        return self.log.read_text(errors="replace").strip()[-2000:] if self.log.exists() else ""

    def command(self, *arguments):
        return [str(PROGRAMS / "vgpuctl"), *map(str, arguments)]

    def ctl(self, *arguments, check=True, timeout=30):
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True,
                              timeout=timeout, env=self.environment, stdin=subprocess.DEVNULL)
        if check and done.returncode:
            raise NodeError(f"vgpuctl {' '.join(map(str, arguments))}: {done.stderr.strip()} "
                            f"[{done.returncode}]\n{self.errors()}")
        return done

    def json(self, *arguments):
        return json.loads(self.ctl("--json", *arguments).stdout)

    def type_for(self, count, gpu="soft0", mib=256):
        """Of the types of a GPU that fit `count` times, the one nearest to so much VRAM."""
        fitting = [one for one in self.json("type", "list", gpu)
                   if one["max_instances"] >= count]
        if not fitting:
            raise NodeError(f"no type of {gpu} fits {count} times")
        return min(fitting, key=lambda one: abs(one["vram_mib"] - mib))["name"]

    def create(self, name, gpu="soft0", type_name=None, method=None):
        self.ctl("create", name, "--gpu", gpu, "--type", type_name or self.type_for(1, gpu),
                 *(["--method", method] if method else []))
        return name

    def first_answer_s(self, name, type_name):
        """Seconds from `vgpuctl create` to the first answer of the new vGPU's vtest socket."""
        begin = time.monotonic()
        self.create(name, type_name=type_name)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(START_LIMIT_S)
            client.connect(str(self.run_dir / "vgpus" / name / "vtest.sock"))
            client.sendall(struct.pack("=II5s", 5, VTEST_CREATE_RENDERER, b"time\0") +
                           struct.pack("=III", 1, VTEST_PROTOCOL_VERSION, 2))
            answer = client.recv(12, socket.MSG_WAITALL)
        took = time.monotonic() - begin
        if answer[:8] != struct.pack("=II", 1, VTEST_PROTOCOL_VERSION):
            raise NodeError(f"{name}: answered {answer!r}")
        return took

    def vgpu(self, name):
        return next(one for one in self.json("list") if one["name"] == name)

    def qemu_arguments(self, name):
        """The words that `qemu-args` gives for a VM whose memory is shared already."""
        return self.json("qemu-args", name)["args"]

    def socket(self, name):
        """The vhost-user socket that `qemu-args` names."""
        fields = ",".join(self.qemu_arguments(name)).split(",")
        return next(field.removeprefix("path=") for field in fields if field.startswith("path="))

    def screenshot(self, name, path=None):
        path = path or self.dir / f"{name}.png"
        self.ctl("screenshot", name, path)
        return image.read_png(path)

    def spawn(self, name, command, **options):
        """A process on a vGPU, by `vgpuctl run`."""
        return subprocess.Popen(self.command("run", name, "--", *command), env=self.environment,
                                stdin=subprocess.DEVNULL, text=True, **options)

    def spawn_ctl(self, *arguments):
        """A verb that goes on meanwhile."""
        return subprocess.Popen(self.command(*arguments), env=self.environment, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def kill(self, number=signal.SIGKILL):
        """Ends vgpud alone: keepers and device processes stay."""
        self.process.send_signal(number)
        self.process.wait(20)

    def stop(self):
        """Deletes every vGPU and ends vgpud; safe to call twice."""
        if self.process is None:
            return
        try:
            if self.process.poll() is not None:
                self.start()
            for one in self.json("list"):
                self.ctl("delete", one["name"], "--force", check=False)
        except (NodeError, ValueError, subprocess.TimeoutExpired):
            pass
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()
