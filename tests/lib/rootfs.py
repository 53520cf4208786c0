# SPDX-License-Identifier: Apache-2.0
"""The guest's root: a small folder with busybox, our clients, glmark2 and Mesa's virtio-gpu driver,
copied with everything they are linked with from this machine's packages."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import cache
import initrd

HERE = Path(__file__).resolve().parent
LIBS = Path("/usr/lib/x86_64-linux-gnu")
CLIENTS = ["scene", "hog", "glhash", "glstate"]
PROGRAMS = ["/usr/bin/glmark2-es2-drm"]
# Opened at run time by name, so no link names them. Patterns; what a release lacks is passed over.
LOADED = ["libEGL_mesa.so.0", "libGLESv2.so.2", "libEGL.so.1", "libgbm.so.1", "libglapi.so.0",
          "libGL.so.1", "libGLX_mesa.so.0", "libOpenGL.so.0", "gbm/*.so", "libgallium-*.so",
          "dri/virtio_gpu_dri.so", "dri/swrast_dri.so", "dri/kms_swrast_dri.so",
          "dri/libdril_dri.so"]
DATA = ["/usr/share/glvnd/egl_vendor.d", "/usr/share/glmark2", "/usr/share/drirc.d",
        "/usr/share/libdrm"]


def clients():
    folder = cache.BUILD / "tests" / "clients"
    return [folder / name for name in CLIENTS if (folder / name).exists()]


def _linked(path):
    """Absolute paths of the libraries a file is linked with, its loader included."""
    text = subprocess.run(["ldd", str(path)], capture_output=True, text=True, timeout=30).stdout
    if "not found" in text:
        raise RuntimeError(f"{path} lacks a library on this machine: {text}")
    return re.findall(r"(/\S+) \(0x", text)


class _Tree:
    """Copies files under a folder, once each, keeping links to one inode one file."""

    def __init__(self, folder):
        self.folder, self.inodes, self.done = folder, {}, set()

    def put(self, source, at=None):
        source, target = Path(source), self.folder / str(at or source).lstrip("/")
        if target in self.done:
            return
        self.done.add(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        real = source.resolve()
        key = (real.stat().st_dev, real.stat().st_ino)
        if key in self.inodes:
            os.link(self.inodes[key], target)
            return
        shutil.copy2(real, target)
        self.inodes[key] = target

    def program(self, source, at=None):
        self.put(source, at)
        for library in _linked(source):
            self.put(library)


def _fill(folder):
    for name in ("bin", "sbin", "usr/bin", "etc", "dev", "proc", "sys", "tmp", "job", "run"):
        (folder / name).mkdir(parents=True)
    tree = _Tree(folder)
    tree.put(initrd.busybox(), "/bin/busybox")
    applets = subprocess.run([initrd.busybox(), "--list"], capture_output=True, text=True,
                             timeout=30, check=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (folder / "bin" / applet).symlink_to("busybox")
    tree.put(HERE / "guest" / "agent.sh", "/sbin/agent")
    (folder / "sbin/agent").chmod(0o755)
    for client in clients():
        tree.program(client, f"/usr/bin/{client.name}")
    for program in filter(os.path.exists, PROGRAMS):
        tree.program(program)
    for pattern in LOADED:
        for library in sorted(LIBS.glob(pattern)):
            tree.program(library)
    for data in filter(os.path.isdir, DATA):
        shutil.copytree(data, folder / data.lstrip("/"), dirs_exist_ok=True)
    (folder / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")


def size_mib(folder):
    seen = {}
    for path in folder.rglob("*"):
        stat = path.lstat()
        seen[stat.st_ino] = stat.st_size
    return sum(seen.values()) // (1 << 20)


def prepare():
    inputs = [HERE / "rootfs.py", HERE / "guest" / "agent.sh", initrd.busybox(), *clients(),
              *map(Path, PROGRAMS)]
    inputs += [path for pattern in LOADED for path in sorted(LIBS.glob(pattern))]
    return cache.build("root", cache.digest(*inputs), _fill)
