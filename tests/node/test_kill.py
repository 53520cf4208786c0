# SPDX-License-Identifier: Apache-2.0
"""vgpud is killed on the way of what it does to GPUs, by a real kernel: direct_kill.py has what is
checked after each. VGPU_NODE_THOROUGH=1: at all points of all operations, 250; else at 79."""
import os
import sys

import initrd
import mediated
import pytest
from hostnode import answers
from machines import Boot

SWEEPER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "direct_kill.py")
ONE = ("passthrough", "gpu-01:00.0", ["0000:01:00.0"])
TWO = ("passthrough", "gpu-02:00.0", ["0000:02:00.0", "0000:02:00.1"])
VIRTIO = ("passthrough", "gpu-03:00.0", ["0000:03:00.0"])
SLICE = ("mediate", "mdev-mbochs", [])

# Of what and how: every so many-th point, and how many there are then at least.
LIMIT_S = 300
SLICES = {"create-slice": (SLICE, "create", 1, 14), "delete-slice": (SLICE, "delete", 1, 12)}
SWEEPS = {"create-two": (TWO, "create", 2, 18), "delete-virtio": (VIRTIO, "delete", 1, 24), **SLICES}
if os.environ.get("VGPU_NODE_THOROUGH") == "1":
    LIMIT_S = 1800
    SWEEPS = {f"{operation}-{name}": (thing, operation, 1, least)
              for operation, least, things in (
                  ("create", 24, {"one": ONE, "two": TWO, "virtio": VIRTIO}),
                  ("delete", 24, {"one": ONE, "two": TWO, "virtio": VIRTIO}),
                  ("scrub", 10, {"one": ONE, "two": TWO}))
              for name, thing in things.items()} | SLICES

PREAMBLE = """
cd /mnt
printf '[node]\\nstandby = 0\\ngroup =\\n[gpu mdev-mbochs]\\nmixed = no\\n' > /mnt/conf
"""


def boot(thing, operation, stride, _):
    method, gpu, functions = thing

    def make(node):
        module = ""
        if thing is SLICE:
            folder = mediated.prepare(node.kernel_release(), print)
            module = f"{initrd.busybox()} insmod {folder}/mbochs.ko\n"
        sweeper = [sys.executable, SWEEPER, method, gpu, operation, str(stride), *functions]
        return Boot(PREAMBLE + module + " ".join(sweeper) + "\n", limit_s=LIMIT_S, cpus=1)
    return make


BOOTS = {name: boot(*sweep) for name, sweep in SWEEPS.items()}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_killed_on_the_way(printed, sweep):
    least = SWEEPS[sweep][-1]
    found = answers(printed(sweep))["sweep"]
    assert found["wrong"] == [], found
    print("%s: killed at %d points in %.0f s" % (sweep, len(found["points"]), found["took_s"]))
    assert len(found["points"]) >= least, found
