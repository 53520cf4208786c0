# SPDX-License-Identifier: Apache-2.0
"""Whether vGPUs of a software GPU get their shares, against the targets.

    fair.py [--seconds N] [--rounds N] [--only PART…] [--counts N…] [--policies POLICY…]
            [--types KIND…] [--shares BY] [--demand CPUS] [--check]

Parts: shares (2, 4 and 8 vGPUs that draw all they can, in equal-share and in fixed-share, of equal
and of weighted types: how far each one's CPU time is from what it is entitled to), burner (the same
with one whose device process has threads that burn CPU time whatever its share is), victim (a small
frame every 33 ms beside seven heavy neighbours, p99 of its time against what it has alone at its
share), victim-burner (one of the seven burns), throughput (equal-share against best-effort), restart
(vgpud is killed and started under load: the longest wait of a guest).

What is measured is the CPU time of device processes, by their CPU clocks. They run, with vgpud and
the keepers, on one half of the CPUs; clients are confined to the other half, and what they used is
told. Fixed shares add up to four fifths: what a GPU's CPUs do beside drawing is nobody's share.

Nobody is entitled to more than it wants, and who waits for each of its frames does not want all of
a GPU. All heavy clients are alike, so what one of them uses that has the GPU alone, and no policy,
is measured first (or given by --demand): what all used is divided by weight among those who want so
much each, what one leaves going to the others. The row says where that made a difference.

--shares: groups, accounts or auto, as in vgpud(8), or slices: time slices, as on a render node.
--check fails when a target is missed. Results
also go to build/bench/fair.json.
"""
import argparse
import contextlib
import json
import os
import re
import signal
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
import node as node_module  # noqa: E402

CLIENT = HERE.parent / "lib" / "vtest_client.py"
SCENE = cache.BUILD / "tests" / "clients" / "scene"
BURNER = cache.BUILD / "tests" / "bench" / "burner.so"
PARTS = ["shares", "burner", "victim", "victim-burner", "throughput", "restart"]
COUNTS = [2, 4, 8]
POLICIES = ["equal-share", "fixed-share"]
TYPES = ["equal", "weighted"]
WARM_UP_S = 4.0
EVERY_MS = 33
SIZE, SMALL = "1024x768", "160x120"
RENDERER = "virgl"
# By number of vGPUs: weights, and percents of the GPU that add up to 80.
WEIGHTED = {
    2: [(300, 60), (100, 20)],
    4: [(400, 32), (300, 24), (200, 16), (100, 8)],
    8: [(400, 16), (400, 16), (300, 12), (300, 12), (200, 8), (200, 8), (100, 4), (100, 4)],
}


class BenchError(RuntimeError):
    pass


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


class Row:
    """One line of the table; target None: no target. `least`: the value must not be below it."""

    def __init__(self, what, value, unit, target=None, detail="", least=False):
        self.what, self.value, self.unit = what, value, unit
        self.target, self.detail, self.least = target, detail, least

    @property
    def missed(self):
        if self.target is None:
            return False
        return self.value < self.target if self.least else self.value > self.target

    def text(self):
        wanted = "" if self.target is None else f"{'≥' if self.least else '≤'} {self.target:g}"
        mark = "" if self.target is None else ("MISSED" if self.missed else "ok")
        return f"{self.what:46} {self.value:8.2f} {self.unit:3} {wanted:7} {mark:7} {self.detail}"


# ---- processes ----

def family(pid):
    """A process and all it has started."""
    found = [pid]
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as f:
                for child in f.read().split():
                    found += family(int(child))
    return found


def cpu_s(pid):
    """CPU time of a process and all it has started, by the kernel's CPU clock of each."""
    total = 0.0
    for one in family(pid):
        with contextlib.suppress(OSError):
            total += time.clock_gettime(~one << 3 | 2)
    return total


def halves():
    """(CPUs of the GPU, CPUs of clients)"""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise BenchError("device processes and clients need a CPU each, and there is one in all")
    return cpus[len(cpus) // 2:], cpus[:len(cpus) // 2]


class Client:
    """One that draws on a vGPU, on the clients' CPUs."""

    def __init__(self, node, name, *options, nice=0):
        command = ["taskset", "-c", ",".join(map(str, node.client_cpus)), "nice", "-n", str(nice),
                   str(SCENE), "--offscreen", "--expect-renderer", RENDERER, *map(str, options)]
        self.name = name
        self.out = tempfile.TemporaryFile("w+")
        self.process = node.spawn(name, command, stdout=self.out, stderr=self.out)

    def text(self):
        return os.pread(self.out.fileno(), os.fstat(self.out.fileno()).st_size, 0).decode()

    def check(self):
        if self.process.poll() is not None:
            raise BenchError(f"the client of {self.name} ended: {self.text()[-600:]}")
        renderer = re.search(r"^renderer: (.*)", self.text(), re.M)
        if not renderer or not renderer.group(1).startswith(RENDERER):
            raise BenchError(f"the client of {self.name} draws with {renderer and renderer.group(1)}")

    def frames(self, begin_ns, end_ns):
        """ms that each frame took that began in that time."""
        took = [line.split() for line in self.text().splitlines() if line.startswith("took ")]
        return [float(line[2]) for line in took
                if len(line) == 3 and begin_ns <= int(line[1]) < end_ns]

    def stop(self):
        for pid in family(self.process.pid)[::-1]:
            with contextlib.suppress(OSError):
                os.kill(pid, 15)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.out.close()


# ---- the node ----

def config(by, device):
    """Types: e2, e4, e8 for equal ones; w2-0, w2-1, … for weighted ones; v8 for a victim."""
    text = "[node]\nsoft_vram_mib = 4096\ngroup =\n"
    text += f"shares = {'auto' if by == 'slices' else by}\ndevice = {device}\n"
    text += f"[gpu soft0]\nmixed = yes\nsharing = {'slices' if by == 'slices' else 'cpu'}\n"
    types = {f"e{count}": (100, 80 // count) for count in COUNTS}
    types.update({f"w{count}-{i}": one for count in COUNTS for i, one in enumerate(WEIGHTED[count])})
    for name, (weight, percent) in types.items():
        text += (f"[type {name}]\ngpu = soft0\nvram_mib = 128\nweight = {weight}\n"
                 f"share_percent = {percent}\n")
    return text


class Node(node_module.Node):
    """vgpud, keepers and device processes on their half of the CPUs."""

    def __init__(self, by):
        super().__init__(config="[node]\n")
        self.cpus, self.client_cpus = halves()
        # Who is to burn has that in its name, which its keeper has on its command line.
        device = self.dir / "device"
        device.write_text(
            "#!/bin/sh\n"
            f"if grep -qa burner /proc/$PPID/cmdline; then export LD_PRELOAD={BURNER}; fi\n"
            f"exec {node_module.PROGRAMS / 'vgpu-device'} \"$@\"\n")
        device.chmod(0o755)
        self.config.write_text(config(by, device))
        self.clients = []

    def start(self):
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.cpus)
        try:
            return super().start()
        finally:
            os.sched_setaffinity(0, mine)

    def policy(self, policy):
        self.ctl("gpu", "policy", "soft0", policy)
        shown = self.json("gpu", "show", "soft0")
        if policy != "best-effort" and not shown["enforced_by"]:
            raise BenchError(f"{policy} is not enforced on this node (see `vgpuctl doctor`)")
        return shown["enforced_by"]

    def draw(self, name, type_name, *options, nice=0):
        self.create(name, type_name=type_name)
        self.clients.append(Client(self, name, *options, nice=nice))
        return self.clients[-1]

    def heavy(self, name, type_name):
        return self.draw(name, type_name, "--variant", "torus", "--mode", SIZE, nice=10)

    def light(self, name, type_name):
        return self.draw(name, type_name, "--variant", "cube", "--mode", SMALL, "--every", EVERY_MS)

    def clear(self):
        for client in self.clients:
            client.stop()
        self.clients = []
        for one in self.json("list"):
            self.ctl("delete", one["name"], "--force", check=False)

    def stop(self):
        for client in self.clients:
            client.stop()
        self.clients = []
        super().stop()


class Window:
    """What was used in a stretch of time, in which nobody ended."""

    def __init__(self, node, seconds):
        names = [client.name for client in node.clients]
        pids = [node.vgpu(name)["pid"] for name in names]
        clients = [client.process.pid for client in node.clients]
        draws = self._draws(node)
        self.begin_ns = time.monotonic_ns()
        before = [cpu_s(pid) for pid in pids], sum(map(cpu_s, clients)), cpu_s(node.process.pid)
        time.sleep(seconds)
        after = [cpu_s(pid) for pid in pids], sum(map(cpu_s, clients)), cpu_s(node.process.pid)
        self.end_ns = time.monotonic_ns()
        self.took = (self.end_ns - self.begin_ns) / 1e9
        self.draws = (self._draws(node) - draws) / self.took
        for client in node.clients:
            client.check()
        if [node.vgpu(name)["pid"] for name in names] != pids:
            raise BenchError("a device process was replaced meanwhile")
        self.cpu = {name: (b - a) / self.took for name, a, b in zip(names, before[0], after[0])}
        self.clients, self.vgpud = (after[1] - before[1]) / self.took, (after[2] - before[2]) / self.took

    @staticmethod
    def _draws(node):
        return sum(one["draws_total"] for one in node.json("stats"))

    def costs(self):
        return f"clients {self.clients:.2f}, vgpud {self.vgpud:.3f} CPUs"


# ---- parts ----

def divide(amount, weights, demand):
    """{name: its part}: by weight, to nobody more than it wants; what one leaves is the others'."""
    parts, open_names = {}, dict(weights)
    while open_names:
        share = (amount - sum(parts.values())) / sum(open_names.values())
        full = [name for name, weight in open_names.items() if weight * share > demand]
        if not full:
            return parts | {name: weight * share for name, weight in open_names.items()}
        for name in full:
            parts[name] = demand
            del open_names[name]
    return parts


def entitled(policy, types, window, cpus, demand):
    """CPUs that each is entitled to, by name; equal-share divides what was used."""
    if policy == "fixed-share":
        return {name: min(percent / 100 * cpus, demand) for name, (_, percent) in types.items()}
    return divide(sum(window.cpu.values()), {name: one[0] for name, one in types.items()}, demand)


def demand_alone(node, options):
    """CPUs that one heavy client's device process uses when nothing keeps it from it."""
    if not options.demand:
        try:
            node.policy("best-effort")
            node.heavy("alone", "e2")
            time.sleep(WARM_UP_S)
            options.demand = Window(node, min(options.seconds, 5)).cpu["alone"]
        finally:
            node.clear()
        print(f"one heavy client alone: {options.demand:.3f} CPUs", flush=True)
    return options.demand


def shares_of(count, weighted):
    """{type: (weight, percent)} in the order of the vGPUs."""
    if weighted:
        return [(f"w{count}-{i}", one) for i, one in enumerate(WEIGHTED[count])]
    return [(f"e{count}", (100, 80 // count))] * count


def measure_shares(node, options, policy, count, weighted, burner):
    """The row of one case: the worst deviation."""
    types, demand = {}, demand_alone(node, options)
    try:
        node.policy(policy)
        for i, (type_name, share) in enumerate(shares_of(count, weighted)):
            name = f"burner{i}" if burner and i == count - 1 else f"v{i}"
            types[name] = share
            node.heavy(name, type_name)
        time.sleep(WARM_UP_S)
        window = Window(node, options.seconds)
    finally:
        node.clear()
    due = entitled(policy, types, window, len(node.cpus), demand)
    plain = entitled(policy, types, window, len(node.cpus), float("inf"))
    off = {name: (window.cpu[name] / due[name] - 1) * 100 for name in types}
    worst = max(off.values(), key=abs)
    kind = "weighted" if weighted else "equal"
    less = "" if due == plain else ", entitled by demand"
    return Row(f"{policy}, {count} {kind}{', one burns' if burner else ''}: worst", abs(worst), "%",
               2, " ".join(f"{value:+.1f}" for value in off.values()) +
               f"; {sum(window.cpu.values()):.2f} CPUs{less}, {window.costs()}")


def part_shares(node, options, burner=False):
    for policy in options.policies:
        for kind in options.types:
            for count in options.counts:
                yield measure_shares(node, options, policy, count, kind == "weighted", burner)


def part_burner(node, options):
    yield from part_shares(node, options, burner=True)


def victim_p99(node, options, policy, neighbours, burner):
    """(p99 of the victim's frames in ms, how many there were, its CPUs, what else)"""
    try:
        node.policy(policy)
        victim = node.light("victim", "e8")
        for i in range(neighbours):
            node.heavy(f"burner{i}" if burner and i == 0 else f"v{i}", "e8")
        time.sleep(WARM_UP_S)
        window = Window(node, options.seconds)
        frames = victim.frames(window.begin_ns, window.end_ns)
    finally:
        node.clear()
    if not frames:
        raise BenchError("the victim has drawn nothing")
    return (quantile(frames, 0.99), statistics.median(frames), len(frames) / window.took,
            window.cpu["victim"])


def part_victim(node, options, burner=False):
    sides = {"alone": ("fixed-share", 0)} | {policy: (policy, 7) for policy in options.policies}
    seen = {side: [] for side in sides}
    for number in range(options.rounds):
        order = list(sides)
        turn = number % len(order)
        for side in order[turn:] + order[:turn]:
            policy, neighbours = sides[side]
            seen[side].append(victim_p99(node, options, policy, neighbours, burner))
            p99, median, rate, cpus = seen[side][-1]
            say(f"round {number + 1}, {side}: p99 {p99:.1f} ms, median {median:.1f}, "
                f"{rate:.1f} frames/s, {cpus:.3f} CPUs")
    mid = {side: [statistics.median(values) for values in zip(*seen[side])] for side in sides}
    for side in options.policies:
        p99, median, rate, cpus = mid[side]
        yield Row(f"{side}, beside 7 heavy{', one burns' if burner else ''}: p99",
                  p99 / mid["alone"][0], "×", 1.2,
                  f"p99 {p99:.1f} ms, median {median:.1f}, {rate:.1f} frames/s, {cpus:.3f} CPUs; alone "
                  f"{mid['alone'][0]:.1f}, {mid['alone'][1]:.1f}, {mid['alone'][2]:.1f} frames/s, "
                  f"{mid['alone'][3]:.3f} CPUs")


def part_victim_burner(node, options):
    yield from part_victim(node, options, burner=True)


def part_throughput(node, options):
    for count in options.counts:
        draws = {"best-effort": [], "equal-share": []}
        try:
            for i in range(count):
                node.heavy(f"v{i}", f"e{count}")
            for number in range(options.rounds):
                for policy in list(draws)[::-1] if number % 2 else draws:
                    node.policy(policy)
                    time.sleep(WARM_UP_S / 2)
                    draws[policy].append(Window(node, options.seconds).draws)
        finally:
            node.clear()
        equal, best = (statistics.median(draws[policy]) for policy in ("equal-share", "best-effort"))
        yield Row(f"equal-share of best-effort, {count} vGPUs: draws", equal / best * 100, "%", 95,
                  f"{equal:.0f} and {best:.0f} draws/s", least=True)


def part_restart(node, options):
    with tempfile.TemporaryFile("w+") as answers:
        try:
            node.policy("equal-share")
            for i in range(3):
                node.heavy(f"v{i}", "e4")
            node.create("asks", type_name="e4")
            socket = node.run_dir / "vgpus" / "asks" / "vtest.sock"
            asking = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, node.client_cpus)), sys.executable, CLIENT,
                 socket, "submit", "0.002"], stdout=answers)
            try:
                time.sleep(WARM_UP_S)
                times = []
                end = time.monotonic() + options.seconds
                while time.monotonic() < end or len(times) < 3:
                    begin = time.monotonic_ns()
                    node.kill()
                    time.sleep(0.2)
                    node.start()
                    time.sleep(0.3)
                    times.append((begin, time.monotonic_ns()))
                    time.sleep(0.5)
            finally:
                asking.kill()
                asking.wait(10)
        finally:
            node.clear()
        answers.seek(0)
        asked = [line.split() for line in answers.read().splitlines()]
    asked = [(int(line[0]), float(line[1])) for line in asked if len(line) == 2]
    during = [ms for at, ms in asked if any(begin <= at <= end for begin, end in times)]
    otherwise = [ms for at, ms in asked if not any(begin <= at <= end for begin, end in times)]
    if not during or not otherwise:
        raise BenchError("nobody asked while vgpud was killed")
    yield Row(f"vgpud killed {len(times)} times: longest wait", max(during), "ms", 50,
              f"{max(otherwise):.1f} at other times; {len(during)} and {len(otherwise)} questions")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="of each window (30)")
    parser.add_argument("--rounds", type=int, default=3, help="of victim and throughput (3)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=", ".join(PARTS))
    parser.add_argument("--counts", nargs="+", type=int, choices=COUNTS, default=COUNTS,
                        help="of vGPUs (2 4 8)")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES,
                        help="of shares, burner and victim (equal-share fixed-share)")
    parser.add_argument("--types", nargs="+", choices=TYPES, default=TYPES,
                        help="of shares and burner (equal weighted)")
    parser.add_argument("--demand", type=float, metavar="CPUS",
                        help="of one heavy client alone, as measured before")
    parser.add_argument("--shares", choices=["auto", "groups", "accounts", "slices"], default="auto")
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    return parser.parse_args()


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started ends with it
    missing = node_module.missing_programs() + [p.name for p in (SCENE, BURNER) if not p.exists()]
    if missing:
        raise BenchError(f"not built: {', '.join(missing)} (run ./dev build)")
    os.environ["MESA_SHADER_CACHE_DISABLE"] = "true"
    (cache.BUILD / "bench").mkdir(parents=True, exist_ok=True)
    rows = []
    with Node(options.shares) as node:
        by = node.policy("equal-share")
        print(f"shares by {by}; the GPU has CPUs {node.cpus}, clients {node.client_cpus}; windows of "
              f"{options.seconds:g} s", flush=True)
        for part in options.only:
            for row in globals()[f"part_{part.replace('-', '_')}"](node, options):
                print(row.text(), flush=True)
                rows.append(row)
    (cache.BUILD / "bench" / "fair.json").write_text(json.dumps(
        {"by": by, "seconds": options.seconds, "rounds": options.rounds,
         "rows": [dict(vars(row), missed=row.missed) for row in rows]}, indent=1) + "\n")
    missed = [row.what for row in rows if row.missed]
    for what in missed:
        say(f"missed: {what}")
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, node_module.NodeError, OSError, subprocess.TimeoutExpired) as error:
        say(error)
        sys.exit(1)
