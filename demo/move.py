# SPDX-License-Identifier: Apache-2.0
"""The demonstration of moving: a VM that draws goes from one software GPU to another and back.

    move.py [--moves N]

Starts a vgpud of its own with soft0 and soft1, boots a VM on a vGPU of soft0, lets its guest show a
still picture and then draw a moving one, moves the vGPU under it, and shows the same still picture
again. Prints how long the guest waited at each move and writes a picture of the screen before and
after. Ends with an error when the renderer is not a virgl one, a picture is blank or wrong, or the
guest stops drawing.
"""
import argparse
import statistics
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SOURCE / "tests" / "lib"), str(SOURCE / "demo")]

import cache  # noqa: E402  (found through the path set above)
import demo  # noqa: E402
import guest as guest_module  # noqa: E402
import image  # noqa: E402
import node as node_module  # noqa: E402
import vm as vm_module  # noqa: E402

OUT = cache.BUILD / "demo"
VGPU = "demo-move"
FRAME_LIMIT_S = 30


class DemoError(RuntimeError):
    pass


def until(condition, limit_s, what):
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise DemoError(f"{what} did not come within {limit_s} s")
        time.sleep(0.05)


def picture(node, name):
    path = OUT / f"move-{name}.png"
    node.ctl("screenshot", VGPU, path)
    return path, image.read_png(path)


def still(machine):
    """A guest's job that holds a still picture on the screen, and what it drew."""
    number = machine.number + 1
    job = machine.spawn(f"exec scene --still --expect-renderer virgl {demo.SIZE} "
                        f"--png /job/still{number}.png")
    job.wait_output("shown", demo.START_LIMIT_S)
    return job, image.read_png(machine.job_dir / f"still{number}.png")


def expect(shot, drawn, what):
    path, seen = shot
    if seen.blank():
        raise DemoError(f"{what}: the picture {path} is blank")
    if seen.size != drawn.size or seen.crc32() != drawn.crc32():
        raise DemoError(f"{what}: {seen.differing(drawn):.1%} of {path} is not what the guest drew")


def move(node, gpu):
    answer = node.json("move", VGPU, "--gpu", gpu)
    row = node.vgpu(VGPU)
    if row["gpu"] != gpu:
        raise DemoError(f"the vGPU is on {row['gpu']}, not on {gpu}")
    if "virgl" not in row["renderer"].lower():
        raise DemoError(f"the renderer is {row['renderer']}, not virgl")
    if answer["lossy"]:
        raise DemoError(f"the move to {gpu} lost something: {answer['lossy']}")
    return answer


def under_a_still_picture(machine, node):
    """The screen before and after a move, exact to the pixel; paths of both pictures."""
    job, drawn = still(machine)
    before = picture(node, "before")
    expect(before, drawn, "before the move")
    answer = move(node, "soft1")
    after = picture(node, "after")
    expect(after, drawn, "after the move")
    job.kill()
    demo.say(f"soft0 -> soft1 under a still picture: the guest waited {answer['pause_ms']:.0f} ms, "
             f"{answer['state_bytes'] / 2**20:.1f} MiB of state")
    # The new GPU draws the same picture anew.
    job, again = still(machine)
    if again.crc32() != drawn.crc32():
        raise DemoError("soft1 draws another picture than soft0")
    job.kill()
    return before[0], after[0]


def while_it_draws(machine, node, moves):
    """Pauses in ms."""
    drawer = demo.VmDrawer(VGPU, "VM", machine)
    drawer.begin("--variant torus --color ff8020")
    until(lambda: drawer.rate()[0] > 0, FRAME_LIMIT_S, "the first frame")
    renderer = drawer.fact("renderer: ")
    if "virgl" not in renderer.lower():
        raise DemoError(f"the guest draws with {renderer or 'nothing'}, not virgl")
    pauses = []
    try:
        for turn in range(moves):
            gpu = f"soft{turn % 2}"
            frames = drawer.rate()[0]
            answer = move(node, gpu)
            pauses.append(answer["pause_ms"])
            until(lambda: drawer.rate()[0] > frames or not drawer.running(), FRAME_LIMIT_S,
                  f"a frame after the move to {gpu}")
            if not drawer.running():
                raise DemoError(f"the guest's scene ended: {drawer.text()[-300:]}")
            demo.say(f"-> {gpu}: the guest waited {answer['pause_ms']:.0f} ms of "
                     f"{answer['total_ms']:.0f}, {drawer.rate()[1]:.0f} frames/s")
        path, seen = picture(node, "drawing")
        if seen.blank():
            raise DemoError(f"the picture {path} is blank")
    finally:
        drawer.end()
    return pauses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moves", type=int, default=6, help="while the guest draws (6)")
    moves = max(parser.parse_args().moves, 1)
    missing = node_module.missing_programs()
    if missing:
        print(f"demo: not built: {', '.join(missing)} (run ./dev build)", file=sys.stderr)
        return 1
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("move-*"):
        old.unlink()
    demo.say("preparing the guest")
    guest = guest_module.Guest(demo.say)
    accelerator = vm_module.accelerator(guest)
    with node_module.Node(soft_gpus=2) as node:
        node.create(VGPU, "soft0", node.type_for(1, "soft0", mib=512))
        demo.say("vgpud runs with soft0 and soft1; the VM boots on soft0")
        with vm_module.VM(guest, node.qemu_arguments(VGPU), name=VGPU,
                          accelerator=accelerator) as machine:
            machine.wait_ready(timeout=demo.START_LIMIT_S)
            demo.say(f"guest is up ({accelerator.upper()})")
            before, after = under_a_still_picture(machine, node)
            pauses = while_it_draws(machine, node, moves)
    print()
    print(f"{len(pauses)} moves while the guest drew: it waited {statistics.median(pauses):.0f} ms "
          f"(median), {max(pauses):.0f} ms at worst")
    print(f"before: {before}")
    print(f"after:  {after}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (DemoError, vm_module.VmError, node_module.NodeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)
