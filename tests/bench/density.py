# SPDX-License-Identifier: Apache-2.0
"""How many vGPUs a node carries: how soon one is there, what it holds, what it costs to do nothing.

    density.py [--rounds N] [--vgpus N] [--scenes NAME…] [--seconds N] [--only PART…] [--check]

Parts: create (from `vgpuctl create` to the first answer on the vtest socket, as users meet it), scene
(one vGPU for each scene of glmark2, all at once: the clients are stopped with everything they made,
and a moment later keeper, monitor and device process are weighed, less the vGPU's resources; images that
no process has mapped are told beside it), idle (the
same clients: who of the vGPU's processes was scheduled, and vgpud), many (so many vGPUs defined and
each used). PSS divides a page among those that have it, so libraries weigh less the more vGPUs there
are. --check fails when a target is missed. Results also go to build/bench/density.json.
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
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The library first: its modules may be named like these.
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE)]

import cache  # noqa: E402  (found through the path set above)
import forward  # noqa: E402
import glstate  # noqa: E402
import node as node_module  # noqa: E402
from state import Row, say  # noqa: E402

PARTS = ["create", "scene", "idle", "many"]
CREATE_MS, BEYOND_MIB, FAILURES = 50, 40, 0
SCENES = ["build", "texture", "shading", "effect2d", "desktop", "jellyfish", "shadow", "terrain"]
VRAM_MIB = 8192  # of each: promised, not used
GPUS = 4  # a GPU carries 64 vGPUs at most
SETTLE_S = 6  # a guest is idle after five seconds
IDLE_S = 10
CLIENT_MEMORY = "/memfd:vtest "
HASH = cache.BUILD / "tests" / "clients" / "glhash"
MIB = 1 << 20


def processes(node, name):
    """Pids of a vGPU's keeper, monitor and device process."""
    return glstate.children(node.vgpu(name)["keeper_pid"])


def pss_mib(pids):
    """What they weigh. Memory that a client shares counts whole, for its vGPU is charged the whole of
    it, and that is taken off again."""
    kib = 0
    for pid in pids:
        counted = "Pss:"
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if re.match("[0-9a-f]+-[0-9a-f]+ ", line):
                counted = "Rss:" if CLIENT_MEMORY in line else "Pss:"
            elif line.startswith(counted):
                kib += int(line.split()[1])
    return kib / 1024


def switches(pids):
    """How often any of their threads was scheduled, so far."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            text = (task / "status").read_text()
            total += sum(int(count) for count in re.findall(r"ctxt_switches:\s+(\d+)", text))
    return total


def available_mib():
    text = Path("/proc/meminfo").read_text()
    return int(re.search(r"^MemAvailable:\s+(\d+)", text, re.M).group(1)) / 1024


def part_create(node, options):
    type_name = node.type_for(1)
    node.first_answer_s("first", type_name)
    times = []
    for _ in range(options.rounds):
        times.append(node.first_answer_s("bench", type_name) * 1000)
        node.ctl("delete", "bench", "--force")
    gpu = node.json("gpu", "show", "soft0")
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    return [Row("create to first answer, median", statistics.median(times), "ms", CREATE_MS,
                f"{options.rounds} rounds at once; 10 % below {tenths[0]:.0f}, above "
                f"{tenths[-1]:.0f}; {gpu['standby_missing']} without a stand-by")]


@contextlib.contextmanager
def stopped_scenes(node, options):
    """A vGPU for each scene, whose client has drawn for a while and does nothing any more."""
    clients = {}
    type_name = node.type_for(len(options.scenes), mib=512)
    try:
        for scene in options.scenes:
            node.create(f"b-{scene}", type_name=type_name)
            argv = [forward.PROGRAM, "--off-screen", "-s", forward.SIZE, "-b",
                    f"{forward.SCENES[scene]}:duration=600"]
            clients[scene] = node.spawn(f"b-{scene}", argv, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
            time.sleep(options.seconds)
            if clients[scene].poll() is not None:
                raise forward.BenchError(f"{scene} does not run")
            for pid in glstate.children(clients[scene].pid):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(SETTLE_S)
        yield
    finally:
        for client in clients.values():
            for pid in reversed(glstate.children(client.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            client.wait(20)


def beyond(node, scene):
    """(MiB of PSS beyond its resources, MiB of resources)"""
    used = node.json("stats", f"b-{scene}")["vram_used_bytes"] / MIB
    return pss_mib(processes(node, f"b-{scene}")) - used, used


def image_mib(node, scene):
    """Of its image for a successor, which is in the keeper's custody and which nobody has mapped."""
    held = glstate.memfds(node.vgpu(f"b-{scene}")["keeper_pid"], ("/memfd:vgpu-image",))
    return sum(held.values()) / MIB


def part_scene(node, options):
    rows = []
    node.create("unused", type_name=node.type_for(len(options.scenes) + 1, mib=512))
    with stopped_scenes(node, options):
        for scene in options.scenes:
            value, used = beyond(node, scene)
            rows.append(Row(f"after {scene}, beyond its resources", value, "MiB", BEYOND_MIB,
                            f"resources {used:.1f} MiB; its image beside {image_mib(node, scene):.1f}"))
        rows.append(Row("a vGPU that nobody has used", pss_mib(processes(node, "unused")), "MiB"))
    return rows


def part_idle(node, options):
    with stopped_scenes(node, options):
        pids = [pid for scene in options.scenes for pid in processes(node, f"b-{scene}")]
        pids.append(node.process.pid)
        time.sleep(1)  # vgpud has answered that
        before = switches(pids)
        time.sleep(IDLE_S)
        after = switches(pids)
    return [Row(f"scheduled in {IDLE_S} s, {len(options.scenes)} idle vGPUs and vgpud",
                after - before, "times", 0)]


def use(node, name):
    done = subprocess.run(node.command("run", name, "--", HASH, "--scene", "blend", "--frames", 2,
                                       "--expect-renderer", "virgl"), env=node.environment,
                          capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        say(f"{name}: {done.stderr.strip()[-300:]}")
    return done.returncode == 0


def part_many(node, options):
    types = [node.type_for(-(-options.vgpus // GPUS), gpu=f"soft{i}", mib=64) for i in range(GPUS)]
    names = [f"m{number:03}" for number in range(options.vgpus)]
    before = available_mib()
    for number, name in enumerate(names):
        node.create(name, gpu=f"soft{number % GPUS}", type_name=types[number % GPUS])
    defined = available_mib()
    failed = sum(not use(node, name) for name in names)
    time.sleep(SETTLE_S)
    states = [one["state"] for one in node.json("list")]
    failed += sum(state != "ready" for state in states)
    return [Row(f"{options.vgpus} vGPUs defined and each used: failures", failed, "", FAILURES),
            Row("of the node's memory, defined, each", (before - defined) / options.vgpus, "MiB"),
            Row("of the node's memory, after use, each",
                (before - available_mib()) / options.vgpus, "MiB")]


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--vgpus", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=4, help="that long each scene is drawn")
    parser.add_argument("--scenes", nargs="+", default=SCENES, choices=list(forward.SCENES))
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument("--check", action="store_true", help="fail when a target is missed")
    return parser.parse_args()


def main():
    options = parse()
    (cache.BUILD / "bench").mkdir(parents=True, exist_ok=True)
    rows = []
    config = f"[node]\nsoft_vram_mib = {VRAM_MIB}\n"
    for part in options.only:
        # The node takes the environment as it is: with the screen.
        with forward.Screen(), node_module.Node(config, soft_gpus=GPUS) as node:
            for row in globals()[f"part_{part}"](node, options):
                print(row.text(), flush=True)
                rows.append(row)
    (cache.BUILD / "bench" / "density.json").write_text(json.dumps([vars(row) for row in rows],
                                                                   indent=1) + "\n")
    missed = [row.what for row in rows if row.missed]
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (forward.BenchError, node_module.NodeError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
