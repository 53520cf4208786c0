# SPDX-License-Identifier: Apache-2.0
"""The driver's drawing threads have a CPU each while one vGPU draws, and all of them when two do.

In real device processes under lock-down, with clients that draw as fast as they can.
"""
import contextlib
import os
import subprocess
import time
from pathlib import Path

import pytest
from conftest import SCENE, cache
from device import Device
from glstate import children

PATIENCE_S, CLIENT_S = 45, 180
CLIENT = [SCENE, "--expect-renderer", "virgl", "--offscreen", "--variant", "torus", "--mode",
          "1024x768", "--seconds", CLIENT_S]


def cpus_of_rasterisers(device):
    """Which CPUs each of them may use."""
    found = []
    for pid in children(device.process.pid):
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().startswith("llvmpipe-"):
                found.append(os.sched_getaffinity(int(task.name)))
    return sorted(found, key=min)


def wait_for(expected, devices):
    """How long until all of them have it."""
    begin = time.monotonic()
    while any(cpus_of_rasterisers(device) != expected for device in devices):
        assert time.monotonic() < begin + PATIENCE_S, [cpus_of_rasterisers(d) for d in devices]
        time.sleep(0.01)
    return time.monotonic() - begin


@pytest.fixture
def devices(tmp_path):
    binary = cache.BUILD / "bin" / "vgpu-device"
    if not binary.is_file() or not SCENE.is_file():
        pytest.skip("not built: vgpu-device or scene")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Device(binary, tmp_path, name=f"v{i}")) for i in range(2)]


@contextlib.contextmanager
def drawing(device):
    with subprocess.Popen(device.command(CLIENT), env=device.environment(),
                          stdout=subprocess.DEVNULL) as client:
        try:
            yield client
        finally:
            assert client.poll() is None, "it ended by itself"
            client.kill()


def test_apart_while_alone(devices):
    mine = os.sched_getaffinity(0)
    if not 2 <= len(mine) <= 32:
        pytest.skip("the driver starts no thread for each of so many CPUs")
    apart, free = [{cpu} for cpu in sorted(mine)], [mine] * len(mine)
    assert all(cpus_of_rasterisers(device) == free for device in devices)
    with drawing(devices[0]):
        print(f"apart after {wait_for(apart, devices[:1]):.2f} s")
        assert cpus_of_rasterisers(devices[1]) == free
        with drawing(devices[1]):
            print(f"free after {wait_for(free, devices):.2f} s")
            time.sleep(1)
            seen = []
            for _ in range(50):
                seen += [cpus_of_rasterisers(device) == free for device in devices]
                time.sleep(0.02)
            assert sum(seen) >= 0.8 * len(seen), seen
        print(f"apart again after {wait_for(apart, devices[:1]):.2f} s")
