# SPDX-License-Identifier: Apache-2.0
"""How fast a process draws on a vGPU: native llvmpipe against our vtest and virgl_test_server.

    forward.py [--rounds N] [--scenes NAME…] [--seconds N] [--via device|node] [--peer-caches] [--check]

Every round runs each scene once on each side, one right after the other because the machine's speed
drifts; the order of the sides rotates from run to run. The renderer is asserted in every run. --via
says how our side is started: `device` is a vgpu-device that this program feeds as the keeper would,
`node` is vgpud and `vgpuctl run`. Every side starts cold: Mesa's shader cache on disk is off, and so is
what vgpud keeps for a vGPU's next binding, because a run of seconds would compare compiling with not
compiling; --peer-caches leaves both on (there is none via `device`). Results also go to build/bench/forward.json. --check fails when
the targets are missed.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The library first: its modules may be named like these.
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE)]

import cache  # noqa: E402  (found through the path set above)
import device as device_module  # noqa: E402
import node as node_module  # noqa: E402
import stats  # noqa: E402

# What each is bound by: draw calls (build, shading, bump, refract, shadow), fill (texture, effect2d,
# pulsar, desktop, terrain, conditionals), uploads (buffer, ideas, jellyfish).
SCENES = {
    "build": "build:use-vbo=true", "texture": "texture", "shading": "shading:shading=phong",
    "bump": "bump:bump-render=normals", "effect2d": "effect2d:kernel=0,1,0;1,-4,1;0,1,0;",
    "pulsar": "pulsar", "desktop": "desktop:windows=4", "buffer": "buffer:update-method=subdata",
    "buffer-map": "buffer:update-method=map:interleave=true", "ideas": "ideas",
    "jellyfish": "jellyfish", "shadow": "shadow", "terrain": "terrain", "refract": "refract",
    "conditionals": "conditionals",
}
DEFAULT = [name for name in SCENES if name not in ("buffer-map", "refract", "conditionals")]
SIZE = "800x600"
PROGRAM = "glmark2"
TARGET_NATIVE, TARGET_STOCK = 0.90, 1.15
FLOOR_NATIVE = 0.78  # of each scene


class BenchError(RuntimeError):
    pass


class Native:
    name, renderer = "native", "llvmpipe"

    def start(self, folder):
        pass

    def stop(self):
        pass

    def command(self, argv):
        return argv

    def environment(self):
        return device_module.client_environment()


class Stock:
    name, renderer = "stock", "virgl"

    def start(self, folder):
        self.server = device_module.StockServer(folder).start()
        self.command, self.environment = self.server.command, self.server.environment

    def stop(self):
        self.server.stop()


class VgpuDevice:
    """The program of this build, or another; with options of its own."""

    renderer = "virgl"

    def __init__(self, name="vgpu", *arguments, program=None):
        self.name, self.arguments = name, arguments
        self.program = Path(program or cache.BUILD / "bin" / "vgpu-device")

    def start(self, folder):
        self.server = device_module.Device(self.program, folder, name=self.name, vram_mib=2048,
                                           args=self.arguments).start()
        self.command, self.environment = self.server.command, self.server.environment

    def stop(self):
        self.server.stop()


class VgpuNode:
    name, renderer = "vgpu", "virgl"

    def __init__(self, caches):
        self.config = None if caches else "[node]\nshader_cache_mib = 0\n"

    def start(self, folder):
        self.node = node_module.Node(self.config).start()
        self.node.create("bench")

    def stop(self):
        self.node.stop()

    def command(self, argv):
        return self.node.command("run", "bench", "--", *argv)

    def environment(self):
        return self.node.environment


class Screen:
    """An Xvfb of our own: glmark2 asks for a display even when it draws off-screen."""

    def __enter__(self):
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1024x768x24", "-nolisten", "tcp"],
            pass_fds=[writer], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        os.close(writer)
        with os.fdopen(reader) as numbers:
            number = numbers.readline().strip()
        if not number:
            raise BenchError("Xvfb did not start")
        os.environ["DISPLAY"] = f":{number}"
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)


def run_once(side, scene, seconds):
    """Frames a second; raises when the scene did not run or not on the side's renderer."""
    argv = [PROGRAM, "--off-screen", "-s", SIZE, "-b", f"{SCENES[scene]}:duration={seconds}"]
    try:
        done = subprocess.run(side.command(argv), env=side.environment(), capture_output=True,
                              text=True, errors="replace", stdin=subprocess.DEVNULL,
                              timeout=60 + 5 * seconds)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{scene} on {side.name} took too long") from None
    renderer = re.search(r"GL_RENDERER:\s*(.*)", done.stdout)
    rate = re.search(r"FPS: (\d+) FrameTime: ([\d.]+) ms", done.stdout)
    if done.returncode or not rate or not renderer:
        raise BenchError(f"{scene} failed on {side.name} ({done.returncode}): "
                         f"{(done.stdout + done.stderr)[-600:]}")
    if not renderer.group(1).startswith(side.renderer):
        raise BenchError(f"{side.name} drew with {renderer.group(1)}, not {side.renderer}")
    # Whichever has more digits.
    frames = int(rate.group(1))
    return float(frames) if frames >= 100 else 1000.0 / float(rate.group(2))


def measure(sides, scenes, rounds, seconds):
    """{side: {scene: [by round]}}"""
    rates = {side.name: {scene: [] for scene in scenes} for side in sides}
    begin, count, total = time.monotonic(), 0, rounds * len(scenes)
    for number in range(rounds):
        for at, scene in enumerate(scenes):
            turn = (number + at) % len(sides)
            for side in sides[turn:] + sides[:turn]:
                rates[side.name][scene].append(run_once(side, scene, seconds))
            count += 1
            now = ", ".join(f"{side.name} {rates[side.name][scene][-1]:.0f}" for side in sides)
            spent = time.monotonic() - begin
            print(f"[{count}/{total}] round {number + 1} {scene}: {now} frames/s "
                  f"({spent:.0f} s, {spent / count * (total - count):.0f} s to go)",
                  file=sys.stderr, flush=True)
    return rates


def report(rates, scenes, peers):
    """Prints a line a scene, ratios first. Returns what goes into the JSON file."""
    table = {}
    for scene in scenes:
        row = {side: round(statistics.median(rates[side][scene]), 2) for side in rates}
        texts = []
        for peer in peers:
            value, low, high = stats.ratio(rates["vgpu"][scene], rates[peer][scene])
            row[f"vgpu/{peer}"] = [round(one, 3) for one in (value, low, high)]
            texts.append(f"vs {peer} {value:5.3f} [{low:.3f}, {high:.3f}]")
        medians = ", ".join(f"{side} {row[side]:.0f}" for side in rates)
        print(f"{scene:12} {'; '.join(texts)}   frames/s: {medians}")
        table[scene] = row
    return table


def missed(table, totals):
    """What is short of the targets, as sentences."""
    short = []
    for peer, target in (("native", TARGET_NATIVE), ("stock", TARGET_STOCK)):
        if peer in totals and totals[peer][0] < target:
            short.append(f"the geomean against {peer} is below {target}")
    for scene, row in table.items():
        if "vgpu/stock" in row and row["vgpu/stock"][0] < 1:
            short.append(f"{scene} is below stock")
        if "vgpu/native" in row and row["vgpu/native"][0] < FLOOR_NATIVE:
            short.append(f"{scene} is below {FLOOR_NATIVE} of native")
    return short


def have_node():
    return not node_module.missing_programs()


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4, help="of each scene (4)")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=DEFAULT)
    parser.add_argument("--peers", nargs="+", choices=["native", "stock"],
                        default=["native", "stock"])
    parser.add_argument("--via", choices=["device", "node"],
                        default="node" if have_node() else "device")
    parser.add_argument("--peer-caches", action="store_true",
                        help="leave all their shader caches")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    return parser.parse_args()


def main():
    options = parse()
    if not options.peer_caches:
        os.environ["MESA_SHADER_CACHE_DISABLE"] = "true"
    peers = [{"native": Native, "stock": Stock}[name]() for name in options.peers]
    ours = VgpuNode(options.peer_caches) if options.via == "node" else VgpuDevice()
    sides = [peers[0], ours, *peers[1:]]
    started = []
    # Not in /tmp: the stock server's clients get a place of their own there.
    (cache.BUILD / "bench").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache.BUILD / "bench") as folder, Screen():
        try:
            for side in sides:
                side.start(folder)
                started.append(side)
            rates = measure(sides, options.scenes, options.rounds, options.seconds)
        finally:
            for side in started:
                side.stop()
    table = report(rates, options.scenes, options.peers)
    totals = {}
    for peer in options.peers:
        scenes = [(rates["vgpu"][scene], rates[peer][scene]) for scene in options.scenes]
        totals[peer] = [round(one, 3) for one in stats.geomean_ratio(scenes)]
        print("vgpu/{}: {:.3f} [{:.3f}, {:.3f}]".format(peer, *totals[peer]))
    (cache.BUILD / "bench" / "forward.json").write_text(json.dumps({
        "via": options.via, "peer_caches": options.peer_caches, "rounds": options.rounds, "seconds_per_scene": options.seconds,
        "size": SIZE, "program": PROGRAM, "scenes": table,
        "geomean": {f"vgpu/{peer}": totals[peer] for peer in options.peers},
        "frames_per_second": rates}, indent=1) + "\n")
    short = missed(table, totals) if options.check else []
    for sentence in short:
        print(f"bench: {sentence}", file=sys.stderr)
    print("geomean " + " ".join(f"vgpu/{peer}={totals[peer][0]:.3f}" for peer in options.peers))
    return 1 if short else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, device_module.DeviceError, node_module.NodeError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
