# SPDX-License-Identifier: Apache-2.0
"""A guest that libvirt starts: the QEMU driver inside virt-qemu-run, with folders of its own, so
that neither a running libvirtd nor the system's configuration is touched or needed.

libvirt finds vhost-user back ends by JSON files in fixed folders. An ordinary user's is private
anyway; root sees ours through a mount namespace of this one process.
"""
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import cache
from vm import VM, VmError

DESCRIPTION = "50-vgpud.json"
HELPER = "vgpu-libvirt-helper"
BACK_ENDS = Path("/etc/qemu/vhost-user")

XML = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>512</memory>
  {memory}
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=tty0 console=ttyS0 quiet panic=-1</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>{emulator}</emulator>
    <filesystem type='mount' accessmode='squash' multidevs='remap'>
      <source dir={root}/><target dir='root'/><readonly/>
    </filesystem>
    <filesystem type='mount' accessmode='squash' multidevs='remap'>
      <source dir={job}/><target dir='job'/>
    </filesystem>
    <serial type='file'><source path={console}/><target port='0'/></serial>
    <serial type='unix'><source mode='bind' path={agent}/><target port='1'/></serial>
    {video}
    <memballoon model='none'/>
  </devices>
</domain>
"""
SHARED_MEMORY = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
VIDEO = "<video><driver name='vhostuser'/><model type='virtio' heads='1'/></video>"

# For root: QEMU as root too, because the folders are a test's; nothing that needs systemd.
QEMU_CONF = """user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""


def missing():
    """Why no domain can be started here, or None."""
    if not shutil.which("virt-qemu-run"):
        return "virt-qemu-run is not installed (libvirt-daemon-driver-qemu)"
    return None


def _script(path, environment, command):
    lines = ["#!/bin/sh", *(f"export {key}='{value}'" for key, value in environment.items()),
             f'exec {command} "$@"']
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def _users(folder):
    """/etc/passwd and /etc/group for libvirt, which looks its user up before it reads which one to
    use instead: {ours: theirs}."""
    for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/:/bin/false"),
                       ("group", "libvirt-qemu:x:64055:")):
        text = Path("/etc", name).read_text()
        known = "libvirt-qemu:" in text
        (folder / name).write_text(text if known else f"{text}{line}\n")
    return {folder / "passwd": Path("/etc/passwd"), folder / "group": Path("/etc/group")}


def _describe_back_end(folder, program):
    folder.mkdir(parents=True)
    # What is installed, but for the program.
    described = json.loads((cache.BUILD / "data" / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**described, "binary": str(program)}))


class LibvirtVM(VM):
    """helper: the program that libvirt starts as back end; environment: what it needs set; plain:
    without what a vGPU needs, and not described to libvirt."""

    def __init__(self, guest, name, helper, environment, plain=False):
        super().__init__(guest, None, name=name)
        self.domain = name
        qemu = guest.qemu
        added = {key: value for key, value in qemu.environment().items()
                 if os.environ.get(key) != value}
        emulator = _script(self.dir / "emulator", added,
                           " ".join([str(qemu.binary), *qemu.data_arguments()]))
        self.helper_log = self.dir / "back-end.log"
        self.mounts = {}
        if not plain:
            self._own_libvirt(helper, environment)
        self.xml = self.dir / "domain.xml"
        self.xml.write_text(XML.format(
            name=escape(name), kernel=escape(str(guest.vmlinux)), initrd=escape(str(guest.initrd)),
            emulator=escape(str(emulator)), root=quoteattr(str(guest.root)),
            job=quoteattr(str(self.job_dir)), console=quoteattr(str(self.console_path)),
            agent=quoteattr(str(self.dir / "agent")), memory="" if plain else SHARED_MEMORY,
            video="" if plain else VIDEO))

    def _own_libvirt(self, helper, environment):
        # The helper looks for the domain's name in libvirt's state folder, which is ours here.
        environment = dict(environment, VGPU_LIBVIRT_STATE_DIR=str(self.dir / "libvirt/run/qemu"))
        folder = self.dir / "config/qemu/vhost-user"
        _describe_back_end(folder, _script(self.dir / "back-end", environment,
                                           f"{helper} 2>>'{self.helper_log}'"))
        etc = self.dir / "libvirt/etc"
        etc.mkdir(parents=True)
        (etc / "qemu.conf").write_text(QEMU_CONF)
        self.mounts = {folder: BACK_ENDS, **_users(self.dir)}

    def _command_line(self):
        run = ["virt-qemu-run", "-v", "--root", str(self.dir / "libvirt"), str(self.xml)]
        if os.geteuid():
            return run
        BACK_ENDS.mkdir(parents=True, exist_ok=True)
        mounts = [f"mount --bind '{ours}' '{theirs}'" for ours, theirs in self.mounts.items()]
        return ["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, 'exec "$@"']), "sh", *run]

    def errors(self):
        said = self._text(self.helper_log).strip()
        return f"{super().errors()}\n{said}" if said else super().errors()

    def start(self):
        environment = dict(os.environ, XDG_CONFIG_HOME=str(self.dir / "config"),
                           XDG_RUNTIME_DIR=str(self.dir), HOME=str(self.dir))
        with open(self.error_path, "wb") as errors:
            self.process = subprocess.Popen(self._command_line(), stdin=subprocess.DEVNULL,
                                            stdout=errors, stderr=errors, env=environment)
        end = time.monotonic() + 60
        while not (self.dir / "agent").exists():
            if self.process.poll() is not None or time.monotonic() > end:
                why = self.errors()
                self.stop()
                raise VmError(f"{self.name}: libvirt did not start the domain: {why}")
            time.sleep(0.05)
        self._open_agent()
        return self


LIBVIRTD_CONF = """auth_unix_rw = "none"
auth_unix_ro = "none"
"""


def daemon_missing():
    """Why no libvirtd can be run here, or None."""
    for program, package in (("libvirtd", "libvirt-daemon"), ("virsh", "libvirt-clients"),
                             ("nsenter", "util-linux")):
        if not shutil.which(program):
            return f"{program} is not installed ({package})"
    return "libvirtd in folders of its own needs root" if os.geteuid() else None


class Libvirtd:
    """A libvirtd with folders of its own, in a mount namespace; command() runs programs there."""

    def __init__(self, helper, environment):
        self.dir = Path(tempfile.mkdtemp(prefix="vgpu-libvirtd-"))
        self.log, self.helper_log = self.dir / "log.txt", self.dir / "back-end.log"
        folders = {self.dir / name: Path(place) for name, place in (
            ("etc", "/etc/libvirt"), ("run", "/run/libvirt"), ("lib", "/var/lib/libvirt"),
            ("log", "/var/log/libvirt"), ("cache", "/var/cache/libvirt"))}
        for ours in folders:
            ours.mkdir()
        (self.dir / "etc/qemu.conf").write_text(QEMU_CONF)
        (self.dir / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF)
        _describe_back_end(self.dir / "vhost-user", _script(
            self.dir / HELPER, environment, f"{helper} 2>>'{self.helper_log}'"))
        self.mounts = {**folders, self.dir / "vhost-user": BACK_ENDS, **_users(self.dir)}
        self.process = None

    def start(self):
        for place in self.mounts.values():
            if not place.exists():
                place.mkdir(parents=True)
        mounts = [f"mount --bind '{ours}' '{theirs}'" for ours, theirs in self.mounts.items()]
        command = ["unshare", "--mount", "sh", "-ec", "; ".join([*mounts, 'exec "$@"']), "sh",
                   "libvirtd", "--pid-file", str(self.dir / "pid")]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        end = time.monotonic() + 30
        while self.virsh("list", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                why = self.log.read_text(errors="replace")[-1500:]
                self.stop()
                raise VmError(f"libvirtd did not start: {why}")
            time.sleep(0.1)
        return self

    def command(self, *words):
        return ["nsenter", "--mount", "--target", str(self.process.pid), *map(str, words)]

    def run(self, *words, check=True, environment=None):
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=90,
                              stdin=subprocess.DEVNULL, env=dict(os.environ, **environment or {}))
        if check and done.returncode:
            raise VmError(f"{' '.join(map(str, words))}: {done.stderr}")
        return done

    def virsh(self, *words, check=True):
        return self.run("virsh", "-q", *words, check=check)

    def definition(self, domain):
        return self.virsh("dumpxml", "--inactive", "--security-info", domain).stdout

    def stop(self):
        """Ends its domains and itself; safe to call twice."""
        if self.process and self.process.poll() is None:
            for domain in self.virsh("list", "--name", check=False).stdout.split():
                self.virsh("destroy", domain, check=False)
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        shutil.rmtree(self.dir, ignore_errors=True)


class DefinedVM(LibvirtVM):
    """A domain that is defined in a libvirtd, without a vGPU yet; start() starts it there."""

    def __init__(self, guest, name, daemon):
        super().__init__(guest, name, None, None, plain=True)
        self.daemon = daemon
        daemon.virsh("define", self.xml)

    def alive(self):
        return self.daemon.virsh("domstate", self.domain, check=False).stdout.strip() == "running"

    def errors(self):
        return f"{super().errors()}\n{self._text(self.daemon.helper_log).strip()}"

    def start(self):
        (self.dir / "agent").unlink(missing_ok=True)
        done = self.daemon.virsh("start", self.domain, check=False)
        if done.returncode:
            raise VmError(f"{self.name}: libvirt did not start the domain: {done.stderr.strip()}\n"
                          f"{self.errors()}")
        self._open_agent()
        return self

    def kill(self):
        self.daemon.virsh("destroy", self.domain, check=False)

    def stop(self):
        self.kill()
        super().stop()
