# SPDX-License-Identifier: Apache-2.0
"""A node of real kernel interfaces: a q35 machine that QEMU emulates, with an IOMMU and PCI GPUs of
several kinds, run by Debian's kernel. Its root is this machine's, read-only, so the programs are
those that were built here; /mnt is its own. A script runs in it and what it prints comes back.

A line "@monitor COMMAND" that the script prints goes to the monitor of the machine's QEMU, which
then does to its hardware what only hardware could do: break a link, pull a card.

VGPU_NODE_LOG=FOLDER in the environment: what each machine prints, as it does, with the seconds."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import cache
import initrd
import kernel
import qemu

MODULES = ["virtio_pci", "9pnet_virtio", "9p", "virtio_gpu", "bochs", "aty128fb", "nvme",
           "snd_hda_intel", "vfio_pci", "vfio_iommu_type1", "mdev"]

INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod $module || echo "@node insmod $module failed"; done
options=ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose
mount -t 9p -o $options root /newroot || echo "@node has no root"
mount -t tmpfs tmpfs /newroot/mnt
while echo >/dev/ttyS1; do sleep 3; done &
for place in proc sys dev; do mount --bind /$place /newroot/$place; done
cp /script /newroot/mnt/script
echo "@node begins"
chroot /newroot /usr/bin/env -i PATH={programs}:/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt /bin/bash /mnt/script
echo "@node ends"
poweroff -f
"""

# Each behind a port of its own, so in a group of its own; two functions of one card are in one.
DEVICES = """
-device pcie-root-port,id=rp1,chassis=1,slot=1,addr=10 -device bochs-display,bus=rp1,id=gpu1
-device pcie-root-port,id=rp2,chassis=2,slot=2,addr=11
-device secondary-vga,bus=rp2,addr=0.0,multifunction=on -device intel-hda,bus=rp2,addr=0.1
-device pcie-root-port,id=rp3,chassis=3,slot=3,addr=12 -device virtio-gpu-pci,bus=rp3,id=gpu3
-device ati-vga,addr=5
""".split()

IOMMU = ["-device", "intel-iommu,intremap=on,caching-mode=on"]


# With it the firmware's tables, not the ports, plug cards; resets of a port's bus then fail.
ACPI_HOTPLUG = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support"


STILL_S = 60
STANDS_STILL = "it stands still"
# What QEMU's TCG and a busy machine do to a node now and then, whatever runs in it: it is run again.
# QEMU 10 and 11 trip over their own map of memory while devices appear; the kernel counts its first
# ticks and gives up; no processor of it wakes up any more, not even for its sign of life.
HICCUPS = ("iotlb_to_section: Assertion", "hw/pci/msix.c:",
           "timer doesn't work through", STANDS_STILL)


class NodeFailed(RuntimeError):
    pass


class _Monitor:
    """Of one QEMU, opened with the first command."""

    def __init__(self, path):
        self.path, self.socket = str(path), None

    def say(self, command):
        if not self.socket:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(10)
            self.socket.connect(self.path)
        self.socket.sendall(command.encode() + b"\n")

    def close(self):
        if self.socket:
            self.socket.close()


def _log_of(name):
    folder = os.environ.get("VGPU_NODE_LOG")
    return open(os.path.join(folder, name + ".log") if folder else os.devnull, "a", buffering=1)


def _watch(process, limit_s, signs, found):
    """Ends it when it takes too long, or gives no sign of life; appends why."""
    began = lived = time.monotonic()
    size = 0
    while process.poll() is None:
        now = time.monotonic()
        if signs.exists() and signs.stat().st_size != size:
            size, lived = signs.stat().st_size, now
        if now - began > limit_s:
            found.append(f"it did not end in {limit_s} s")
        elif now - lived > STILL_S:
            found.append(STANDS_STILL)
        if found:
            process.kill()
            return
        time.sleep(0.2)


def _converse(process, monitor, limit_s, log, signs):
    """What it prints until it ends, and why it had to be ended."""
    lines, why = [], []
    began = time.monotonic()
    watch = threading.Thread(target=_watch, args=(process, limit_s, signs, why), daemon=True)
    watch.start()
    try:
        for line in process.stdout:
            lines.append(line.decode(errors="replace").replace("\r", ""))
            log.write(f"{time.monotonic() - began:7.2f} {lines[-1]}")
            if lines[-1].startswith("@monitor "):
                monitor.say(lines[-1].removeprefix("@monitor ").strip())
        process.wait()
    finally:
        process.kill()
        process.wait()
        watch.join()
        process.stdout.close()
        monitor.close()
    return "".join(lines), why


class HostNode:
    """What machines are started from; run() starts one. Several threads may."""

    def __init__(self, say=print):
        self.qemu = qemu.prepare(say)
        self.kernel = kernel.prepare(say, MODULES, "node-kernel")
        self.lock = threading.Lock()
        self.running, self.stopped = set(), False

    def kernel_release(self):
        return (self.kernel / "release").read_text().strip()

    def archive(self, script):
        init = INIT.format(programs=f"{cache.BUILD}/bin:{cache.BUILD}/tests/node")
        files = {"init": (0o755, init.encode()), "script": (0o755, script.encode()),
                 "bin/busybox": (0o755, initrd.busybox().read_bytes())}
        for module in sorted((self.kernel / "modules").iterdir()):
            files["modules/" + module.name] = (0o644, module.read_bytes())
        return initrd.pack(files, ["bin", "dev", "proc", "sys", "modules", "newroot"])

    def run(self, script, *args, **kwargs):
        """What the script prints, as lines; as _run()."""
        for _ in range(2):
            try:
                return self._run(script, *args, **kwargs)
            except NodeFailed as failed:
                if not any(words in str(failed) for words in HICCUPS):
                    raise
        return self._run(script, *args, **kwargs)

    def stop(self):
        """Ends the machines that run: their run() fails, and so do later ones."""
        with self.lock:
            self.stopped = True
            for process in self.running:
                process.kill()

    def _start(self, command):
        with self.lock:
            if self.stopped:
                raise NodeFailed("no more machines are started")
            process = subprocess.Popen(
                command, env=self.qemu.environment(), stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            self.running.add(process)
        return process

    def _run(self, script, devices=IOMMU, append="intel_iommu=on", limit_s=120, gpus=DEVICES,
             acpi_hotplug=False, cpus=2, name="node"):
        """devices: the IOMMU, and others beside the gpus. cpus: 1 where buses are reset while others
        work, which is where that happens. name: for its log."""
        folder = Path(tempfile.mkdtemp(prefix="vgn"))
        try:
            (folder / "initrd").write_bytes(self.archive(script))
            command = [
                self.qemu.binary, *self.qemu.data_arguments(), "-accel", "tcg", "-cpu", "max",
                "-M", "q35", "-global", f"{ACPI_HOTPLUG}={'on' if acpi_hotplug else 'off'}",
                "-smp", str(cpus), "-m", "1536", "-nodefaults", "-vga", "none", "-no-reboot",
                "-display", "none", "-serial", "stdio", "-serial", f"file:{folder}/signs", "-monitor",
                f"unix:{folder}/monitor,server=on,wait=off", *devices,
                "-kernel", self.kernel / "vmlinux", "-initrd", folder / "initrd", "-append",
                "console=ttyS0 quiet loglevel=1 panic=-1 iommu=pt mitigations=off " + append,
                "-fsdev", "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap",
                "-device", "virtio-9p-pci,fsdev=root,mount_tag=root,addr=2", *gpus]
            process = self._start(command)
            try:
                with _log_of(name) as log:
                    text, why = _converse(process, _Monitor(folder / "monitor"), limit_s, log,
                                          folder / "signs")
            finally:
                with self.lock:
                    self.running.discard(process)
        finally:
            shutil.rmtree(folder)
        if why:
            raise NodeFailed(f"the node was ended: {why[0]}:\n{text[-3000:]}")
        before, begins, rest = text.partition("@node begins\n")
        inside, ends, _ = rest.partition("@node ends")
        if not begins or not ends or "@node" in before:
            raise NodeFailed(f"the node failed [{process.returncode}]:\n{text[-3000:]}")
        return inside.splitlines()


def answers(lines):
    """Of lines "NAME {json}" what they say, as {name: JSON}."""
    found = {}
    for line in lines:
        name, _, text = line.partition(" ")
        if text.startswith(("{", "[")):
            found[name] = json.loads(text)
    return found


def missing():
    """Why no node can be run here; None: it can."""
    for program in ("bin/vgpud", "tests/node/vfio_change", "tests/node/between",
                    "tests/node/vfio_client", "tests/node/change_run"):
        if not os.path.exists(cache.BUILD / program):
            return program + " is not built"
    return None
