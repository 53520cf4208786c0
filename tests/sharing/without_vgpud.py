# SPDX-License-Identifier: Apache-2.0
"""How long a client waits for its answers while vgpud is killed and started again."""
import subprocess
import sys
import time

from conftest import VTEST_CLIENT


def _go_and_come(node):
    """When it was away, each time: (begin, end) in ns."""
    time.sleep(1.5)
    away = []
    for _ in range(3):
        begin = time.monotonic_ns()
        node.kill()
        time.sleep(0.2)
        node.start()
        time.sleep(0.3)
        away.append((begin, time.monotonic_ns()))
        time.sleep(0.7)
    return away


def no_guest_waits(node, name, verb, least):
    """verb: what the client of that vGPU asks all the time; least: answers at each of both times."""
    socket = node.run_dir / "vgpus" / name / "vtest.sock"
    with subprocess.Popen([sys.executable, VTEST_CLIENT, socket, verb, "0.002"],
                          stdout=subprocess.PIPE, text=True) as client:
        try:
            away = _go_and_come(node)
        finally:
            client.terminate()
        lines = [line.split() for line in client.stdout.read().splitlines()]
    asked = [(int(line[0]), float(line[1])) for line in lines if len(line) == 2]
    during = [ms for at, ms in asked if any(begin <= at <= end for begin, end in away)]
    otherwise = [ms for at, ms in asked if not any(begin <= at <= end for begin, end in away)]
    assert len(during) > least and len(otherwise) > least
    print(f"longest answer: {max(during):.1f} ms without vgpud, {max(otherwise):.1f} ms with it")
    # Other processes of this node may make anybody wait, then at other times too.
    assert max(during) < max(50, 2 * max(otherwise)), (max(during), max(otherwise))
