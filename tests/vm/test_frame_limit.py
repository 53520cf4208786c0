# SPDX-License-Identifier: Apache-2.0
"""A guest that flips its screen as fast as it can has the frames that its vGPU's type allows."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import node as node_module  # noqa: E402  (found through the path set above)

LIMIT, SLACK, SECONDS = 20, 2, 6
CONFIG = f"""[gpu soft0]
mixed = yes
[type slow]
gpu = soft0
vram_mib = 256
max_fps = {LIMIT}
"""


@pytest.fixture(scope="module")
def node():
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node(CONFIG) as one:
        yield one


def frames_a_second(machine):
    status, output = machine.run(
        f"scene --seconds {SECONDS} --mode 640x480 --expect-renderer virgl", SECONDS + 60)
    assert status == 0, output
    return float(output.split("summary frames ")[1].split()[4])


def test_a_guest_has_the_frames_of_its_type(node, boot):
    for name, type_name in (("free", "soft0-256"), ("slow", "slow")):
        node.create(name, type_name=type_name)
    free = boot("free")
    unlimited = frames_a_second(free)
    free.stop()
    if unlimited <= LIMIT + 2 * SLACK:
        pytest.skip(f"without a limit the guest has {unlimited} frames a second, no more")
    machine = boot("slow")
    assert abs(frames_a_second(machine) - LIMIT) <= SLACK
    # The same counts that `stats` has, and they are frames of a screen, not of a client.
    before = node.json("stats", "slow")
    frames_a_second(machine)
    after = node.json("stats", "slow")
    assert after["frames_total"] - before["frames_total"] <= (LIMIT + SLACK) * (SECONDS + 3)
