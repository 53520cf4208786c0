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
import time
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import cache
from vm import VM, VmError

DESCRIPTION = "50-vgpud.json"
BACK_ENDS = Path("/etc/qemu/vhost-user")

XML = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>512</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
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
    <video><driver name='vhostuser'/><model type='virtio' heads='1'/></video>
    <memballoon model='none'/>
  </devices>
</domain>
"""

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


class LibvirtVM(VM):
    """helper: the program that libvirt starts as back end; environment: what it needs set."""

    def __init__(self, guest, name, helper, environment):
        super().__init__(guest, None, name=name)
        self.domain = name
        qemu = guest.qemu
        added = {key: value for key, value in qemu.environment().items()
                 if os.environ.get(key) != value}
        emulator = _script(self.dir / "emulator", added,
                           " ".join([str(qemu.binary), *qemu.data_arguments()]))
        # The helper looks for the domain's name in libvirt's state folder, which is ours here.
        environment = dict(environment, VGPU_LIBVIRT_STATE_DIR=str(self.dir / "libvirt/run/qemu"))
        self.helper_log = self.dir / "back-end.log"
        self._describe_back_end(_script(self.dir / "back-end", environment,
                                        f"{helper} 2>>'{self.helper_log}'"))
        self.xml = self.dir / "domain.xml"
        self.xml.write_text(XML.format(
            name=escape(name), kernel=escape(str(guest.vmlinux)), initrd=escape(str(guest.initrd)),
            emulator=escape(str(emulator)), root=quoteattr(str(guest.root)),
            job=quoteattr(str(self.job_dir)), console=quoteattr(str(self.console_path)),
            agent=quoteattr(str(self.dir / "agent"))))

    def _describe_back_end(self, program):
        folder = self.dir / "config/qemu/vhost-user"
        folder.mkdir(parents=True)
        # What is installed, but for the program.
        described = json.loads((cache.BUILD / "data" / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps({**described, "binary": str(program)}))
        etc = self.dir / "libvirt/etc"
        etc.mkdir(parents=True)
        (etc / "qemu.conf").write_text(QEMU_CONF)
        # Debian's libvirt looks its own user up before it reads which one to use instead.
        for name, line in (("passwd", "libvirt-qemu:x:64055:64055::/:/bin/false"),
                           ("group", "libvirt-qemu:x:64055:")):
            text = Path("/etc", name).read_text()
            known = "libvirt-qemu:" in text
            (self.dir / name).write_text(text if known else f"{text}{line}\n")
        self.mounts = {folder: BACK_ENDS, self.dir / "passwd": Path("/etc/passwd"),
                       self.dir / "group": Path("/etc/group")}

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
