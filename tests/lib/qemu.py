# SPDX-License-Identifier: Apache-2.0
"""A QEMU that serves vhost-user-gpu without KVM (8.2 or newer).

The system's own when it is new enough and whole; else Debian's (on Debian 12 from backports),
unpacked into a private folder together with the libraries this machine lacks.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import apt
import cache

MINIMUM = (8, 2)
PEER = "qemu-system-gui"  # carries QEMU's own vhost-user-gpu
PACKAGES = ["qemu-system-x86", "qemu-system-modules-opengl", "qemu-system-common"]


class Qemu:
    """prefix is None for the system's."""

    def __init__(self, prefix):
        self.prefix = prefix
        root = Path(prefix or "/")
        self.binary = root / "usr/bin/qemu-system-x86_64"
        self.modules = root / "usr/lib/x86_64-linux-gnu/qemu"
        self.data = [root / "usr/share/qemu", root / "usr/share/seabios"]

    def environment(self):
        env = dict(os.environ)
        if self.prefix:
            libs = [self.prefix / "usr/lib/x86_64-linux-gnu", self.prefix / "lib/x86_64-linux-gnu"]
            env["LD_LIBRARY_PATH"] = ":".join(map(str, libs))
            env["QEMU_MODULE_DIR"] = str(self.modules)
        return env

    def version(self):
        text = subprocess.run([self.binary, "--version"], env=self.environment(), text=True,
                              capture_output=True, timeout=30).stdout
        found = re.search(r"version (\d+)\.(\d+)", text)
        return tuple(map(int, found.groups())) if found else (0, 0)

    def data_arguments(self):
        return [word for folder in self.data if self.prefix and folder.is_dir()
                for word in ("-L", str(folder))]


def _archive():
    name = apt.codename()
    archive = apt.Apt(backports=name == "bookworm")
    archive.update()
    return archive


def _system():
    qemu = Qemu(None)
    whole = qemu.binary.exists() and (qemu.modules / "hw-display-virtio-gpu-gl.so").exists()
    return qemu if whole and qemu.version() >= MINIMUM else None


def prepare(say=print):
    system = _system()
    if system:
        return system
    codename = apt.codename()

    def make(folder):
        say(f"fetching QEMU for {codename} (about 60 MB)")
        _archive().unpack_missing(PACKAGES, folder)
        for unused in ("usr/share/doc", "usr/share/man", "usr/share/locale"):
            shutil.rmtree(folder / unused, ignore_errors=True)

    qemu = Qemu(cache.build("qemu", cache.digest(codename, *PACKAGES), make))
    if qemu.version() < MINIMUM:
        raise RuntimeError(f"QEMU {qemu.version()} is older than {MINIMUM}: vhost-user-gpu needs KVM there")
    return qemu


def prepare_peer(say=print):
    """The path of QEMU's own vhost-user-gpu, which only the benchmark needs."""
    installed = Path("/usr/lib/qemu/vhost-user-gpu")
    if _system() and installed.exists():
        return installed

    def make(folder):
        say("fetching QEMU's vhost-user-gpu (about 1 MB)")
        _archive().unpack(PEER, folder / "raw")
        shutil.move(folder / "raw/usr/lib/qemu/vhost-user-gpu", folder)
        shutil.rmtree(folder / "raw")

    folder = cache.build("qemu-peer", cache.digest(apt.codename(), PEER), make)
    return folder / "vhost-user-gpu"
