# SPDX-License-Identifier: Apache-2.0
"""One guest in QEMU, with jobs run inside it, its console kept and its screen at hand.

A job is a shell script. Its output appears in a file as it is written, so progress can be watched;
its end is told over the second serial port. Every wait has a limit. Only the process started here
is ever killed.
"""
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import cache
from qmp import Qmp

BOOT_LIMIT_S = 90
PROBE_LIMIT_S = 8


class VmError(RuntimeError):
    pass


class Job:
    """A script that runs in the guest."""

    def __init__(self, vm, number):
        self.vm, self.number = vm, number

    def _file(self, kind):
        return self.vm.job_dir / f"{self.number}.{kind}"

    def output(self):
        try:
            return self._file("out").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def lines(self):
        return self.output().splitlines()

    @property
    def status(self):
        """Exit status, None while it runs."""
        return self.vm.finished.get(self.number) if self.vm.poll() else None

    def done(self):
        return self.status is not None

    def wait(self, timeout):
        """Its exit status; raises when it has not ended in time."""
        self.vm.until(self.done, timeout, f"job {self.number} to end")
        return self.status

    def wait_output(self, text, timeout):
        """Waits for text in the output; raises when the job ends or the time is up before."""
        def seen():
            return text in self.output() or self.done()
        self.vm.until(seen, timeout, f"{text!r} from job {self.number}")
        if text not in self.output():
            raise VmError(f"job {self.number} ended with {self.status} before {text!r}: "
                          f"{self.output()[-800:]}")

    def kill(self, signal="KILL"):
        """Ends the script and its children, and waits until they are gone."""
        self.vm.run(f"pid=$(cat /job/{self.number}.pid); "
                    f"kill -{signal} $(pgrep -P $pid) $pid 2>/dev/null", 20)
        self.wait(20)


class VM:
    """guest: guest.Guest. gpu: a vhost-user socket path, or a list of QEMU arguments, or None."""

    def __init__(self, guest, gpu=None, *, name="guest", memory_mib=512, device="vhost-user-gpu-pci",
                 device_options="", reconnect=False, extra=(), append="", kernel=True,
                 accelerator="tcg", reboots=False, environment=None, cpus=1):
        self.guest, self.name = guest, name
        self.dir = Path(tempfile.mkdtemp(prefix=f"vgpu-{name}-"))
        self.job_dir = self.dir / "job"
        self.job_dir.mkdir()
        self.console_path, self.error_path = self.dir / "console", self.dir / "qemu.err"
        self.process = self.agent = self.qmp = None
        self.finished, self.ready_count, self.number, self.pending = {}, 0, 0, b""
        self.environment = guest.qemu.environment()
        self.environment.update(environment or {})
        self.command = self._command(gpu, memory_mib, device, device_options, reconnect,
                                     list(extra), append, kernel, accelerator, reboots, cpus)

    def _command(self, gpu, memory_mib, device, device_options, reconnect, extra, append, kernel,
                 accelerator, reboots, cpus):
        cpu = "host" if accelerator == "kvm" else "max"
        command = [
            str(self.guest.qemu.binary), *self.guest.qemu.data_arguments(),
            "-nodefaults", "-no-user-config", "-accel", accelerator, "-cpu", cpu,
            "-smp", str(cpus), "-name", self.name, "-machine", "q35,memory-backend=mem",
            "-m", f"{memory_mib}M",
            "-object", f"memory-backend-memfd,id=mem,size={memory_mib}M,share=on",
            "-serial", f"file:{self.console_path}",
            "-chardev", f"socket,id=agent,path={self.dir}/agent,server=on,wait=off",
            "-serial", "chardev:agent",
            "-qmp", f"unix:{self.dir}/qmp,server=on,wait=off",
        ]
        if not reboots:
            command.append("-no-reboot")
        if kernel:
            words = f"console=tty0 console=ttyS0 quiet panic=-1 tsc=reliable {append}".strip()
            command += ["-kernel", str(self.guest.vmlinux), "-initrd", str(self.guest.initrd),
                        "-append", words]
            command += self._share("root", self.guest.root, "readonly=on,multidevs=remap")
            command += self._share("job", self.job_dir, "multidevs=remap")
        if isinstance(gpu, (str, Path)):
            again = ",reconnect-ms=500" if reconnect else ""
            options = f",{device_options}" if device_options else ""
            command += ["-chardev", f"socket,id=vgpu,path={gpu}{again}",
                        "-device", f"{device},chardev=vgpu{options}"]
        elif gpu:
            command += gpu
        if "-display" not in command + extra:
            command += ["-display", "none"]
        return command + extra

    @staticmethod
    def _share(tag, path, options):
        return ["-fsdev", f"local,id={tag},path={path},security_model=none,{options}",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]

    def start(self):
        with open(self.error_path, "wb") as errors:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                env=self.environment, cwd=self.dir)
        try:
            self.qmp = Qmp(self.dir / "qmp")
            self._open_agent()
        except OSError as error:
            why = self.errors()
            self.stop()
            raise VmError(f"{self.name}: QEMU did not start: {why or error}") from error
        return self

    def _open_agent(self):
        self.agent = socket.socket(socket.AF_UNIX)
        self.agent.connect(str(self.dir / "agent"))
        self.agent.setblocking(False)

    @property
    def pid(self):
        return self.process.pid

    def errors(self):
        return self._text(self.error_path).strip()[-1500:]

    def console(self):
        return self._text(self.console_path)

    @staticmethod
    def _text(path):
        try:
            return path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def poll(self):
        """Takes in what the agent said. Always true."""
        while True:
            try:
                data = self.agent.recv(4096)
            except (BlockingIOError, ConnectionError):
                return True
            if not data:
                return True
            *lines, self.pending = (self.pending + data).split(b"\n")
            for line in lines:
                word = line.decode(errors="replace").split()
                if word[:1] == ["ready"]:
                    self.ready_count += 1
                elif word[:1] == ["done"] and len(word) == 3:
                    self.finished[int(word[1])] = int(word[2])

    def until(self, condition, timeout, what):
        end = time.monotonic() + timeout
        while not condition():
            if not self.alive():
                raise VmError(f"{self.name}: QEMU ended while waiting for {what}: {self.errors()}\n"
                              f"{self.console()[-800:]}")
            if time.monotonic() > end:
                raise VmError(f"{self.name}: no {what} within {timeout} s; console:\n"
                              f"{self.console()[-800:]}")
            time.sleep(0.05)

    def wait_ready(self, count=1, timeout=BOOT_LIMIT_S):
        """Waits for the agent of the count-th boot."""
        self.until(lambda: self.poll() and self.ready_count >= count, timeout, f"boot {count}")
        return self

    def spawn(self, script):
        self.number += 1
        (self.job_dir / f"{self.number}.sh").write_text(script + "\n")
        self.agent.sendall(f"{self.number}\n".encode())
        return Job(self, self.number)

    def run(self, script, timeout=60):
        """(exit status, output) of a script."""
        job = self.spawn(script)
        status = job.wait(timeout)
        return status, job.output()

    def screendump(self, path, device=None):
        """What QEMU's console shows, as a PPM file."""
        arguments = {"filename": str(path)}
        if device:
            arguments["device"] = device
        self.qmp.call("screendump", **arguments)
        return Path(path)

    def reset(self):
        self.qmp.call("system_reset")

    def kill(self):
        """As a crash: no goodbye."""
        self.process.kill()
        self.process.wait(20)

    def stop(self):
        """Ends QEMU and removes this guest's folder; safe to call twice."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()
        for end in (self.qmp, self.agent):
            if end:
                end.close()
        self.qmp = self.agent = None
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


def probe_kvm(guest):
    """Whether an ordinary kernel really runs under KVM here: /dev/kvm may exist and still hang one."""
    if not Path("/dev/kvm").exists():
        return False
    vm = VM(guest, name="probe", memory_mib=256, accelerator="kvm", append="vgpu.probe")
    try:
        vm.start()
        end = time.monotonic() + PROBE_LIMIT_S
        while time.monotonic() < end and vm.alive():
            if "@guest probe alive" in vm.console():
                return True
            time.sleep(0.05)
        return "@guest probe alive" in vm.console()
    except (VmError, OSError):
        return False
    finally:
        vm.stop()


def accelerator(guest):
    """"kvm" or "tcg"; the probe's answer is kept for this boot of the host."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    stamp = cache.digest(boot, guest.vmlinux, "1")
    mark = cache.CACHE / "kvm-probe"
    with cache.lock("kvm-probe"):
        known = mark.read_text().split() if mark.exists() else []
        if known[:1] != [stamp]:
            known = [stamp, "kvm" if probe_kvm(guest) else "tcg"]
            mark.write_text(" ".join(known))
    return known[1]
