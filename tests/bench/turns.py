# SPDX-License-Identifier: Apache-2.0
"""Which of two device programs draws faster, to a few hundredths.

    turns.py [--turns N] [--window SECONDS] [--scenes NAME…] [--device NAME=PROGRAM[,OPTION…]…]
             [--against NAME]

For who changes something and wants to know what it is worth: runs of seconds, as forward.py
compares, differ by a tenth from one to the next on a machine whose speed drifts. Here the clients of
all sides run at once, all but one of them stopped (SIGSTOP), and go on in turns of a tenth of a
second in random order; what is compared is frames in each turn. Sides are `native`, `stock`, `vgpu`
(the program of this build) and those named by --device, another build's or with other options; all
are compared with --against (native). Where a scene's frames differ much, as in buffer, it takes more
turns than the usual ones. Frames are counted in the client (frames.c), between two that
ended.
"""
import argparse
import contextlib
import mmap
import os
import random
import signal
import statistics
import struct
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
import forward  # noqa: E402
import stats  # noqa: E402

COUNTER = cache.BUILD / "tests" / "bench" / "frames.so"
SCENES = ["texture", "build", "ideas", "buffer"]  # where most is lost
START_S, SETTLE_S = 20, 1.0
RESUME_S = 0.03  # a turn's first frames are not counted
PAUSE_S = 0.005


class Client:
    """A glmark2 on one side, stopped but for its turns."""

    def __init__(self, side, scene, folder):
        path = Path(folder) / f"{side.name}.{scene}"
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self.cell = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        argv = [forward.PROGRAM, "--off-screen", "-s", forward.SIZE, "-b",
                f"{forward.SCENES[scene]}:duration=100000"]
        environment = dict(side.environment(), LD_PRELOAD=str(COUNTER), FRAMES_FILE=str(path))
        self.output = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(side.command(argv), env=environment, stdout=self.output,
                                        stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                        start_new_session=True)
        try:
            self.begin(side, scene)
        except BaseException:
            self.end()
            raise

    def begin(self, side, scene):
        self.wait_frames(30, START_S)
        self.output.seek(0)
        if f"GL_RENDERER:    {side.renderer}" not in self.output.read():
            raise forward.BenchError(f"{scene} on {side.name} does not draw with {side.renderer}")
        time.sleep(SETTLE_S)
        self.signal(signal.SIGSTOP)

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def frames(self):
        return struct.unpack("Q", self.cell[:8])[0]

    def wait_frames(self, count, limit_s):
        """(frames, moment) once there are so many."""
        end = time.monotonic() + limit_s
        while self.frames() < count:
            if time.monotonic() > end:
                raise forward.BenchError(f"only {self.frames()} frames of {count}")
            time.sleep(0.0002)
        return self.frames(), time.monotonic()

    def turn(self, window):
        self.signal(signal.SIGCONT)
        time.sleep(RESUME_S)
        before, begin = self.wait_frames(self.frames() + 1, START_S)
        time.sleep(window)
        after, end = self.wait_frames(self.frames() + 1, START_S)
        self.signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        return (after - before) / (end - begin)

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self.process.wait(10)
        self.output.close()


def measure(sides, scene, folder, options):
    """{side: [rate by turn]}"""
    clients = {}
    rates = {side.name: [] for side in sides}
    chance = random.Random(scene)
    try:
        for side in sides:
            clients[side.name] = Client(side, scene, folder)
        for _ in range(options.turns):
            for name in chance.sample(sorted(clients), len(clients)):
                rates[name].append(clients[name].turn(options.window))
    finally:
        for client in clients.values():
            client.end()
    print(f"bench: {scene} done", file=sys.stderr, flush=True)
    return rates


def report(scene, rates, against):
    for name, own in rates.items():
        if name != against:
            value, low, high = stats.ratio(own, rates[against])
            theirs = statistics.median(rates[against])
            print(f"{scene:10} {name:>8}/{against} {value:5.3f} [{low:.3f}, {high:.3f}]   "
                  f"{statistics.median(own):.0f} of {theirs:.0f} frames/s")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=50, help="of each side (50)")
    parser.add_argument("--window", type=float, default=0.12, help="seconds of a turn (0.12)")
    parser.add_argument("--scenes", nargs="+", choices=forward.SCENES, default=SCENES)
    parser.add_argument("--device", nargs="+", default=[], metavar="NAME=PROGRAM[,OPTION…]")
    parser.add_argument("--against", default="native")
    options = parser.parse_args()
    if options.turns < 1 or options.window <= 0:
        parser.error("--turns and --window are positive")
    return options


def choose_sides(options):
    sides = [forward.Native(), forward.Stock(), forward.VgpuDevice()]
    for text in options.device:
        name, _, program = text.partition("=")
        if not program:
            raise forward.BenchError(f"--device {text}: not NAME=PROGRAM")
        program, *arguments = program.split(",")
        sides.append(forward.VgpuDevice(name, *arguments, program=program))
    if options.against not in [side.name for side in sides]:
        raise forward.BenchError(f"--against {options.against}: no such side")
    return sides


def main():
    options = parse()
    sides, started = choose_sides(options), []
    os.environ["MESA_SHADER_CACHE_DISABLE"] = "true"
    # Clients are stopped: nobody else would end them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    (cache.BUILD / "bench").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=cache.BUILD / "bench") as folder, \
            forward.Screen():
        try:
            for side in sides:
                side.start(folder)
                started.append(side)
            every = {scene: measure(sides, scene, folder, options) for scene in options.scenes}
        finally:
            for side in started:
                side.stop()
    for scene, rates in every.items():
        report(scene, rates, options.against)
    for side in sides:
        if side.name != options.against:
            value, low, high = stats.geomean_ratio(
                [(rates[side.name], rates[options.against]) for rates in every.values()])
            print(f"{'geomean':10} {side.name:>8}/{options.against} {value:5.3f} "
                  f"[{low:.3f}, {high:.3f}]")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (forward.BenchError, device_module.DeviceError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
