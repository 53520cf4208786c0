# SPDX-License-Identifier: Apache-2.0
"""The demonstration: two VMs and one process, each with its own vGPU on one software GPU.

    demo.py [--seconds N]

Starts a vgpud of its own, creates three vGPUs on soft0, boots two VMs at the same time and starts a
process, lets all three draw their own 3D scene, prints one table, and writes one picture of each
screen. Ends with an error when a renderer is not a virgl one or a picture is blank.
"""
import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(SOURCE / "tests" / "lib"))

import cache  # noqa: E402  (found through the path set above)
import guest as guest_module  # noqa: E402
import image  # noqa: E402
import node as node_module  # noqa: E402
import vm as vm_module  # noqa: E402

OUT = cache.BUILD / "demo"
GPU = "soft0"
# Each: vGPU, who draws on it, its scene.
VMS = [("demo-a", "VM a", "--variant cube --color 3fa7ff"),
       ("demo-b", "VM b", "--variant torus --color ff8020")]
PROCESS = ("demo-c", "process", "--variant torus --color 40d060 --offscreen")
SIZE = "--mode 640x480"
START_LIMIT_S = 60

begin = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - begin:5.1f} s] {text}", flush=True)


class Drawer:
    """Somebody who draws on a vGPU: knows what its scene printed so far."""

    def __init__(self, vgpu, who):
        self.vgpu, self.who = vgpu, who
        self.picture = OUT / f"{vgpu}.png"
        self.row = {}

    def text(self):
        raise NotImplementedError

    def running(self):
        raise NotImplementedError

    def fact(self, begin_of_line):
        """The rest of the last output line that begins so."""
        found = [line for line in self.text().splitlines() if line.startswith(begin_of_line)]
        return found[-1].removeprefix(begin_of_line).strip() if found else ""

    def rate(self):
        """(frames, frames a second): the summary's, else the latest second's."""
        words = (self.fact("summary ") or self.fact("frames ")).replace("frames ", "").split()
        return (int(words[0]), float(words[-1])) if words else (0, 0.0)


class VmDrawer(Drawer):
    def __init__(self, vgpu, who, machine):
        super().__init__(vgpu, who)
        self.machine, self.job, self.last = machine, None, ""

    def begin(self, options):
        self.machine.wait_ready(timeout=START_LIMIT_S)
        say(f"{self.who}: guest is up, starting its scene")
        self.job = self.machine.spawn(f"exec scene {SIZE} {options}")

    def text(self):
        return self.last or (self.job.output() if self.job else "")

    def running(self):
        return self.job is not None and not self.job.done()

    def take_picture(self, node):
        node.ctl("screenshot", self.vgpu, self.picture)

    def end(self):
        self.job.kill("TERM")
        self.last = self.job.output()


class ProcessDrawer(Drawer):
    def __init__(self, vgpu, who, node, options):
        super().__init__(vgpu, who)
        self.log = OUT / f"{vgpu}.log"
        scene = cache.BUILD / "tests" / "clients" / "scene"
        command = [str(scene), *SIZE.split(), *options.split(), "--png", str(self.picture)]
        self.process = node.spawn(vgpu, command, stdout=open(self.log, "w"),
                                  stderr=subprocess.STDOUT)

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def running(self):
        return self.process.poll() is None

    def take_picture(self, node):
        """The scene writes its last frame itself when it ends."""

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def table(drawers):
    head = ("who", "vGPU", "renderer", "frames", "frames/s", "VRAM used", "VRAM limit")
    rows = [head]
    for one in drawers:
        frames, rate = one.rate()
        rows.append((one.who, one.vgpu, one.fact("renderer: ") or "none", str(frames), f"{rate:.1f}",
                     f"{one.row.get('vram_used_mib', '?')} MiB", f"{one.row.get('vram_mib', '?')} MiB"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def faults(drawers):
    for one in drawers:
        if "virgl" not in one.fact("renderer: ").lower():
            yield f"{one.who}: the renderer is {one.fact('renderer: ') or 'unknown'}, not virgl"
        if one.rate()[0] == 0:
            yield f"{one.who}: drew no frame: {one.text()[-300:]}"
        if not one.picture.exists():
            yield f"{one.who}: no picture {one.picture}"
        elif image.read_png(one.picture).blank():
            yield f"{one.who}: the picture {one.picture} is blank"


def watch(drawers, seconds):
    """Waits until everybody draws, then for `seconds`, saying how it goes."""
    end, told, drawing = time.monotonic() + START_LIMIT_S, 0, False
    while time.monotonic() < end:
        if not drawing and all(one.rate()[0] for one in drawers):
            drawing, end = True, time.monotonic() + seconds
            say("all three draw")
        for one in drawers:
            if not one.running():
                say(f"{one.who}: its scene has ended: {one.text()[-300:]}")
                return
        if time.monotonic() - told >= 2:
            told = time.monotonic()
            say(", ".join(f"{one.who} {one.rate()[1]:.0f} frames/s" for one in drawers))
        time.sleep(0.1)


def draw(node, guest, machines, seconds):
    drawers = [VmDrawer(vgpu, who, machine) for (vgpu, who, _), machine in zip(VMS, machines)]
    with ThreadPoolExecutor(len(VMS)) as pool:
        list(pool.map(lambda pair: pair[0].begin(pair[1][2]), zip(drawers, VMS)))
    drawers.append(ProcessDrawer(PROCESS[0], PROCESS[1], node, PROCESS[2]))
    say("process: started by vgpuctl run")
    try:
        watch(drawers, seconds)
        for one in drawers:
            one.row = node.vgpu(one.vgpu)
            one.take_picture(node)
    finally:
        for one in drawers:
            one.end()
    say("done")
    return drawers


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8, help="how long all draw (8)")
    seconds = parser.parse_args().seconds
    missing = node_module.missing_programs()
    if missing:
        print(f"demo: not built: {', '.join(missing)} (run ./dev build)", file=sys.stderr)
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*"):
        old.unlink()
    say("preparing the guest")
    guest = guest_module.Guest(say)
    accelerator = vm_module.accelerator(guest)
    machines = []
    with node_module.Node() as node:
        type_name = node.type_for(3, GPU, mib=512)
        for name in [vgpu for vgpu, _, _ in VMS] + [PROCESS[0]]:
            node.create(name, GPU, type_name)
        say(f"vgpud runs; three vGPUs of type {type_name} on {GPU}")
        try:
            for vgpu, _, _ in VMS:
                machines.append(vm_module.VM(guest, node.qemu_arguments(vgpu), name=vgpu,
                                             accelerator=accelerator).start())
            say(f"two VMs boot at the same time ({accelerator.upper()})")
            drawers = draw(node, guest, machines, seconds)
        finally:
            for machine in machines:
                machine.stop()
    print()
    table(drawers)
    print()
    for one in drawers:
        print(f"{one.who}: {one.picture}")
    wrong = list(faults(drawers))
    for line in wrong:
        print(f"demo: {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (vm_module.VmError, node_module.NodeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
