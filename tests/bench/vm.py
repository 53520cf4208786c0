# SPDX-License-Identifier: Apache-2.0
"""How fast a guest draws: our vhost-user device against QEMU's two, same guest, same scenes.

    vm.py [--rounds N] [--scenes NAME…] [--seconds N] [--sides SIDE…]

Sides: vgpu (vgpu-device), qemu-vhost-user (QEMU's vhost-user-gpu, with a preload that lets it start
without a render node), qemu-in-process (virtio-gpu-gl in QEMU). A round boots each side once and
runs all scenes; the order of the sides rotates from round to round. The renderer is asserted in
every run. Results also go to build/bench/vm.json.
"""
import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The library first: its vm is not this program.
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE)]

import cache  # noqa: E402  (found through the path set above)
import guest as guest_module  # noqa: E402
import node as node_module  # noqa: E402
import qemu  # noqa: E402
import stats  # noqa: E402
import vm as vm_module  # noqa: E402

# Each: glmark2's options, and how many times longer it runs (a few frames a second need more).
SCENES = {
    "build": ("build:use-vbo=true", 1), "texture": ("texture", 1),
    "shading": ("shading:shading=phong", 1), "effect2d": ("effect2d:kernel=0,1,0;1,-4,1;0,1,0;", 1),
    "bump": ("bump:bump-render=normals", 1), "desktop": ("desktop:windows=4", 2.5),
    "jellyfish": ("jellyfish", 1.5), "pulsar": ("pulsar:quads=5", 1),
}
SIZE = "320x240"
RENDERER = "virgl"


class Vgpu:
    name = "vgpu"

    def open(self, guest):
        self.node = node_module.Node().start()
        self.node.create("bench")
        return {"gpu": self.node.socket("bench")}

    def close(self):
        self.node.stop()


class QemuVhostUser:
    name = "qemu-vhost-user"

    def __init__(self):
        self.program = qemu.prepare_peer()
        self.preload = cache.BUILD / "tests" / "bench" / "surfaceless.so"
        if not self.preload.exists():
            raise SystemExit(f"bench: {self.preload} is not built (run ./dev build)")

    def open(self, guest):
        self.dir = tempfile.TemporaryDirectory(prefix="vgpu-peer-")
        path = Path(self.dir.name) / "gpu.sock"
        env = dict(guest.qemu.environment(), LD_PRELOAD=str(self.preload))
        self.process = subprocess.Popen([self.program, "--socket-path", path, "--virgl"], env=env,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not path.exists():
            if self.process.poll() is not None or time.monotonic() > end:
                raise vm_module.VmError("QEMU's vhost-user-gpu did not start")
            time.sleep(0.02)
        return {"gpu": path}

    def close(self):
        self.process.kill()
        self.process.wait(10)
        self.dir.cleanup()


class QemuInProcess:
    name = "qemu-in-process"

    def open(self, guest):
        return {"gpu": ["-device", "virtio-gpu-gl-pci"],
                "extra": ["-display", "egl-headless,rendernode=/dev/null"]}

    def close(self):
        pass


SIDES = {side.name: side for side in (Vgpu, QemuVhostUser, QemuInProcess)}


def run_scenes(machine, scenes, seconds):
    """{scene: frames a second}; raises when a scene did not run or not on the right renderer."""
    result = {}
    for scene in scenes:
        what, times = SCENES[scene]
        status, output = machine.run(
            f"glmark2-es2-drm --off-screen -s {SIZE} -b '{what}:duration={seconds * times}' 2>&1",
            60 + 5 * seconds * times)
        renderer = re.search(r"GL_RENDERER:\s*(.*)", output)
        rate = re.search(r"FPS: (\d+) FrameTime: ([\d.]+) ms", output)
        if status or not rate or not renderer or not renderer.group(1).startswith(RENDERER):
            raise vm_module.VmError(f"{scene} failed on {machine.name} ({status}): {output[-600:]}")
        # The frame time has more digits than the rate.
        result[scene] = 1000.0 / float(rate.group(2))
    return result


def measure(side, guest, accelerator, scenes, seconds):
    try:
        options = side.open(guest)
        with vm_module.VM(guest, name=side.name, accelerator=accelerator, **options) as machine:
            machine.wait_ready()
            return run_scenes(machine, scenes, seconds)
    finally:
        side.close()


def report(rates, scenes, ours, peers):
    """rates: {side: {scene: [by round]}}. Returns what goes into the JSON file."""
    table = {}
    for scene in scenes:
        row = {side: round(statistics.median(rates[side][scene]), 2) for side in rates}
        texts = []
        for peer in peers:
            value, low, high = stats.ratio(rates[ours][scene], rates[peer][scene])
            row[f"{ours}/{peer}"] = [round(one, 3) for one in (value, low, high)]
            texts.append(f"vs {peer} {value:5.2f} [{low:.2f}, {high:.2f}]")
        medians = ", ".join(f"{side} {row[side]:.1f}" for side in rates)
        print(f"{scene:10} {'; '.join(texts)}   frames/s: {medians}")
        table[scene] = row
    return table


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2, help="of each scene (2)")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    return parser.parse_args()


def main():
    options = parse()
    guest = guest_module.Guest()
    accelerator = vm_module.accelerator(guest)
    sides = [SIDES[name]() for name in options.sides]
    rates = {side.name: {scene: [] for scene in options.scenes} for side in sides}
    begin = time.monotonic()
    for number in range(options.rounds):
        turn = number % len(sides)
        for side in sides[turn:] + sides[:turn]:
            for scene, rate in measure(side, guest, accelerator, options.scenes,
                                       options.seconds).items():
                rates[side.name][scene].append(rate)
        print(f"round {number + 1} of {options.rounds} ({time.monotonic() - begin:.0f} s)",
              file=sys.stderr, flush=True)
    ours, peers = options.sides[0], options.sides[1:]
    table = report(rates, options.scenes, ours, peers)
    totals = {}
    for peer in peers:
        scenes = [(rates[ours][scene], rates[peer][scene]) for scene in options.scenes]
        totals[peer] = [round(one, 3) for one in stats.geomean_ratio(scenes)]
    out = cache.BUILD / "bench" / "vm.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({
        "accelerator": accelerator, "rounds": options.rounds, "seconds_per_scene": options.seconds,
        "size": SIZE, "scenes": table, "geomean": {f"{ours}/{peer}": totals[peer] for peer in peers},
        "frames_per_second": rates}, indent=1) + "\n")
    for peer in peers:
        print(f"{ours}/{peer}: {totals[peer][0]:.3f} [{totals[peer][1]:.3f}, {totals[peer][2]:.3f}]")
    print("geomean " + " ".join(f"{ours}/{peer}={totals[peer][0]:.3f}" for peer in peers))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (vm_module.VmError, node_module.NodeError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
