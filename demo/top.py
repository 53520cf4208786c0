# SPDX-License-Identifier: Apache-2.0
"""The demonstration of `vgpuctl top`: three vGPUs at work on one software GPU, shown live.

    top.py [--picture FILE]

--picture writes what top shows after some seconds, and ends: docs/top.txt is made so.
"""
import argparse
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SOURCE / "tests" / "lib")]

import cache  # noqa: E402  (found through the path set above)
import node as node_module  # noqa: E402

CLIENTS = cache.BUILD / "tests" / "clients"
SETTLE_S = 4
JOBS = {
    "desk": [CLIENTS / "scene", "--offscreen", "--variant", "cube", "--seconds", "3600"],
    "game": [CLIENTS / "scene", "--offscreen", "--variant", "torus", "--seconds", "3600"],
    "train": [CLIENTS / "glhash", "--frames", "1000000"],
    "spare": None,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    with node_module.Node() as node:
        jobs = []
        try:
            type_name = node.type_for(len(JOBS))
            for name, command in JOBS.items():
                node.create(name, type_name=type_name)
                if command:
                    jobs.append(node.spawn(name, list(map(str, command)), stdout=subprocess.DEVNULL,
                                           stderr=subprocess.DEVNULL))
            if not options.picture:
                return subprocess.call(node.command("top"), env=node.environment)
            time.sleep(SETTLE_S)
            command = ("top", "--once", "--interval-ms", "3000")
            options.picture.write_text("$ vgpuctl top\n" + node.ctl(*command).stdout)
        finally:
            for job in jobs:
                job.kill()
                job.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
