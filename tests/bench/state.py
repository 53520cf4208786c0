# SPDX-License-Identifier: Apache-2.0
"""What saving, moving and being able to recover cost, against the targets.

    state.py [--moves N] [--rounds N] [--seconds N] [--scenes NAME…] [--only PART…] [--check]

Parts: move (pause with 48 MiB of resources, with and without copying beforehand, as the client sees
it and as vgpud says), recover (pause after kill -9), snapshot (a 1080p desktop), sleep (waking, and
what a sleeping vGPU holds), journal (CPU time a command, and frames a second with and without it,
in turns). --check fails when a target is missed. Results also go to build/bench/state.json.
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
import forward  # noqa: E402
import glstate  # noqa: E402
import node as node_module  # noqa: E402
import stats  # noqa: E402

CLIENT = HERE.parent / "lib" / "vtest_client.py"
SERIES = "blend,z24x8,dxt5,ubo,xfb,query-open"
FILL_MIB = 48
PARTS = ["move", "recover", "snapshot", "sleep", "journal"]
SCENES = ["build", "texture", "effect2d", "desktop", "buffer", "ideas"]


class Row:
    """One line of the table; target None: no target."""

    def __init__(self, what, value, unit, target=None, detail=""):
        self.what, self.value, self.unit = what, value, unit
        self.target, self.detail = target, detail

    @property
    def missed(self):
        return self.target is not None and self.value > self.target

    def text(self):
        wanted = "" if self.target is None else f"≤ {self.target:g} {self.unit}"
        mark = "" if self.target is None else ("MISSED" if self.missed else "ok")
        return f"{self.what:52} {self.value:9.1f} {self.unit:7} {wanted:14} {mark:7} {self.detail}"


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class Scene:
    """A client that draws and one that asks all the time, on one vGPU."""

    def __init__(self, node, name, ask, *options):
        self.node, self.name = node, name
        self.answers = tempfile.TemporaryFile("w+")
        socket = node.run_dir / "vgpus" / name / "vtest.sock"
        draw = " ".join(map(str, [glstate.PROGRAM, "--expect-renderer", "virgl", *options]))
        # Whichever of the two ends, the other ends with it.
        script = (f"{draw} >&2 & drawing=$!; {sys.executable} {CLIENT} {socket} ping {ask} & "
                  "asking=$!; trap 'kill $drawing $asking' TERM; wait")
        self.drawn = tempfile.TemporaryFile("w+")
        self.process = node.spawn(name, ["sh", "-c", script], stdout=self.answers,
                                  stderr=self.drawn)

    def frames(self):
        size = os.fstat(self.drawn.fileno()).st_size
        text = os.pread(self.drawn.fileno(), size, 0).decode(errors="replace")
        return text.count(f" {SERIES.split(',', maxsplit=1)[0]} ")

    def wait_frames(self, count, limit_s=60):
        end = time.monotonic() + limit_s
        while self.frames() < count:
            if self.process.poll() is not None or time.monotonic() > end:
                raise forward.BenchError(f"{self.name}: {self.frames()} frames of {count}")
            time.sleep(0.02)

    def pauses(self):
        """[(moment it was asked in ns, ms until the answer)]"""
        size = os.fstat(self.answers.fileno()).st_size
        lines = os.pread(self.answers.fileno(), size, 0).decode().splitlines()
        return [(int(line.split()[0]), float(line.split()[1])) for line in lines
                if len(line.split()) == 2]

    def longest(self, begin_ns, end_ns):
        """The longest wait of a question that was open in that time."""
        open_then = [ms for asked, ms in self.pauses()
                     if asked < end_ns and asked + ms * 1e6 > begin_ns]
        return max(open_then, default=0.0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in glstate.children(self.process.pid)[::-1]:
            try:
                os.kill(pid, 15)
            except OSError:
                continue
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def drawing(node, ask="", pace_ms=10):
    scene = Scene(node, "bench", ask, "--only", SERIES, "--fill-mib", FILL_MIB, "--frames", 10**6,
                  "--pace-ms", pace_ms)
    return scene


# ---- parts: each returns rows ----

def bench_moves(node, count, *options):
    """(pauses the client saw, pauses told, totals, state MiB)"""
    seen, told, total, state = [], [], [], []
    with drawing(node) as scene:
        scene.wait_frames(20)  # what it compiled is stored a moment later
        for turn in range(count):
            begin = time.monotonic_ns()
            answer = glstate.move(node, "bench", f"soft{(turn + 1) % 2}", *options)
            scene.wait_frames(scene.frames() + 2)
            seen.append(scene.longest(begin, time.monotonic_ns()))
            told.append(answer["pause_ms"])
            total.append(answer["total_ms"])
            state.append(answer["state_bytes"] / 2**20)
            time.sleep(0.05)
    return seen, told, total, statistics.median(state)


def part_move(node, options):
    rows = []
    switch = "--no-precopy" in node.ctl("move", "--help").stdout
    for what, words, median_target, p99_target in (
            ("with precopy", [], 50, 120), ("without", ["--no-precopy"], 150, None)):
        if words and not switch:
            say("moves without precopy: vgpuctl has no switch for that, so not measured")
            continue
        say(f"{options.moves} moves {what}")
        seen, told, total, mib = bench_moves(node, options.moves, *words)
        detail = f"told {statistics.median(told):.0f} ms; move {statistics.median(total):.0f} ms"
        rows.append(Row(f"pause of a move of {mib:.0f} MiB, {what}: median",
                        statistics.median(seen), "ms", median_target, detail))
        rows.append(Row("  p99", quantile(seen, 0.99), "ms", p99_target,
                        f"told {quantile(told, 0.99):.0f} ms"))
    return rows


def part_recover(node, options):
    say(f"{options.moves // 2} kills")
    seen, told, beyond = [], [], []
    with drawing(node) as scene:
        scene.wait_frames(3)
        for _ in range(max(options.moves // 2, 3)):
            begin = time.monotonic_ns()
            pid = glstate.kill_device(node, "bench")
            row = glstate.wait_recovered(node, "bench", pid)
            scene.wait_frames(scene.frames() + 2)
            seen.append(scene.longest(begin, time.monotonic_ns()))
            told.append(row["last_pause_ms"])
            beyond.append(seen[-1] - 1.2 * row["last_replay_ms"])
            time.sleep(0.7)  # one that is killed again and again is delayed
    return [Row("pause after kill -9: median", statistics.median(seen), "ms", None,
                f"told {statistics.median(told):.0f} ms"),
            Row("  p99", quantile(seen, 0.99), "ms"),
            Row("  … less 1.2 × the drawing done again: median", statistics.median(beyond), "ms",
                300, f"worst {max(beyond):.0f} ms")]


def part_snapshot(node, options):
    say("snapshots of a 1080p desktop")
    times, sizes = [], []
    argv = [forward.PROGRAM, "--off-screen", "-s", "1920x1080", "-b",
            f"{forward.SCENES['desktop']}:duration=60"]
    with forward.Screen(), tempfile.TemporaryDirectory(dir=cache.BUILD / "bench") as folder:
        node.environment["DISPLAY"] = os.environ["DISPLAY"]
        client = node.spawn("bench", argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(5)
            if client.poll() is not None:
                raise forward.BenchError("glmark2 did not draw")
            for turn in range(max(options.rounds * 2, 5)):
                answer = node.json("snapshot", "bench", Path(folder) / f"{turn}.vgpu")
                times.append(answer["total_ms"])
                sizes.append((Path(folder) / f"{turn}.vgpu").stat().st_size)
        finally:
            for pid in glstate.children(client.pid)[::-1]:
                try:
                    os.kill(pid, 9)
                except OSError:
                    continue
            client.wait(10)
    return [Row("snapshot of a 1080p desktop: median", statistics.median(times), "ms", 300,
                f"file {statistics.median(sizes) / 2**20:.1f} MiB, pause told in it")]


def part_sleep(node, options):
    say("falling asleep and waking")
    waking, held = [], []
    with drawing(node, ask=1.5, pace_ms=60000) as scene:
        scene.wait_frames(1)
        for _ in range(max(options.rounds * 2, 5)):
            begin = time.monotonic_ns()
            node.ctl("hibernate", "bench")
            row = node.vgpu("bench")
            if row["state"] == "hibernated":
                held.append(glstate.held_bytes(row["keeper_pid"], scene.process.pid) / 2**20)
            glstate.wait_row(node, "bench", lambda row: row["state"] == "bound", 10)
            time.sleep(0.3)
            waking.append(scene.longest(begin, time.monotonic_ns()))
    return [Row("waking, from the byte to its answer: median", statistics.median(waking), "ms", 150,
                f"{FILL_MIB} MiB of resources; worst {max(waking):.0f} ms"),
            Row("a sleeping vGPU holds", max(held, default=0.0), "MiB", 5,
                f"{len(held)} looks")]


def stream_ns():
    """What the shadow and a record in the journal cost a command: the worst of the frames tried."""
    text = subprocess.run([cache.BUILD / "tests" / "bench" / "stream_speed"], capture_output=True,
                          text=True, check=True, timeout=120).stdout
    return max(float(one) for one in re.findall(r"median ([\d.]+) ns/command", text))


def part_journal(node, options):
    sides = [forward.VgpuDevice("journal"), forward.VgpuDevice("none", "--no-journal")]
    rounds, started = options.rounds, []
    with tempfile.TemporaryDirectory(dir=cache.BUILD / "bench") as folder, forward.Screen():
        try:
            for side in sides:
                side.start(folder)
                started.append(side)
            rates = forward.measure(sides, options.scenes, rounds, options.seconds)
        finally:
            for side in started:
                side.stop()
    pairs = [(rates["journal"][scene], rates["none"][scene]) for scene in options.scenes]
    ratio, low, high = stats.geomean_ratio(pairs)
    rows = [Row("shadow and journal: CPU a command", stream_ns(), "ns", 200),
            Row("throughput lost to the journal", (1 - ratio) * 100, "%", 5,
                f"[{(1 - high) * 100:.1f}, {(1 - low) * 100:.1f}] over {rounds} rounds")]
    for scene, (ours, theirs) in zip(options.scenes, pairs):
        value, *_ = stats.ratio(ours, theirs)
        rows.append(Row(f"  {scene}", (1 - value) * 100, "%", None,
                        f"{statistics.median(ours):.0f} and {statistics.median(theirs):.0f} "
                        "frames/s"))
    return rows


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each scene (2)")
    parser.add_argument("--scenes", nargs="+", choices=forward.SCENES, default=SCENES)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    return parser.parse_args()


def main():
    options = parse()
    os.environ["MESA_SHADER_CACHE_DISABLE"] = "true"
    (cache.BUILD / "bench").mkdir(parents=True, exist_ok=True)
    rows = []
    for part in options.only:
        with node_module.Node(soft_gpus=2) as node:
            if part != "journal":
                node.create("bench")
            for row in globals()[f"part_{part}"](node, options):
                print(row.text(), flush=True)
                rows.append(row)
    (cache.BUILD / "bench" / "state.json").write_text(json.dumps([vars(row) for row in rows],
                                                                 indent=1) + "\n")
    missed = [row.what for row in rows if row.missed]
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (forward.BenchError, device_module.DeviceError, node_module.NodeError, AssertionError,
            OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
