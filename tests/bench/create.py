# SPDX-License-Identifier: Apache-2.0
"""How soon a new vGPU serves: from `vgpuctl create` to the first answer on its vtest socket.

    create.py [--rounds N] [--check]

Every round creates a vGPU on soft0 with the real vgpu-device, lock-down and all, asks it once, and
deletes it. --check fails when the median misses the target of 200 ms.
"""
import argparse
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "lib"), str(HERE)]

import node as node_module  # noqa: E402  (found through the path set above)

TARGET_MS = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--check", action="store_true", help="fail when the target is missed")
    arguments = parser.parse_args()

    times = []
    with node_module.Node() as node:
        type_name = node.type_for(1)
        for _ in range(max(arguments.rounds, 2)):
            times.append(node.first_answer_s("bench", type_name) * 1000)
            node.ctl("delete", "bench", "--force")
    median = statistics.median(times)
    tenths = statistics.quantiles(times, n=10, method="inclusive")
    print(f"create to first answer: median {median:.0f} ms [{tenths[0]:.0f}, {tenths[-1]:.0f}]")
    return 1 if arguments.check and median > TARGET_MS else 0


if __name__ == "__main__":
    sys.exit(main())
