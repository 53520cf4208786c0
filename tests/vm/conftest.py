# SPDX-License-Identifier: Apache-2.0
"""What VM tests share: the guest they boot, a node with vGPUs, and comparing screens."""
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import guest as guest_module  # noqa: E402  (found through the path set above)
import image  # noqa: E402
import node as node_module  # noqa: E402
import vm as vm_module  # noqa: E402

SCREEN_LIMIT_S = 10


@pytest.fixture(scope="session")
def guest():
    return guest_module.Guest(lambda text: None)


@pytest.fixture(scope="module")
def node():
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node() as one:
        yield one


@pytest.fixture(scope="module")
def accelerator(guest):
    return vm_module.accelerator(guest)


@pytest.fixture(scope="module")
def boot(guest, node, accelerator):
    """boot(vgpu name, **options of VM): a guest that is ready, ended with the module."""
    started = []

    def start(name, **options):
        options.setdefault("accelerator", accelerator)
        one = vm_module.VM(guest, node.qemu_arguments(name), name=name, **options)
        started.append(one)
        return one.start().wait_ready()

    yield start
    for one in started:
        one.stop()


class Screens:
    """Compares what a vGPU shows with what a guest drew."""

    def __init__(self, node):
        self.node = node

    def until(self, name, wanted, what):
        """The first screenshot that `wanted` likes."""
        end = time.monotonic() + SCREEN_LIMIT_S
        while True:
            shot = self.node.screenshot(name)
            if wanted(shot):
                return shot
            assert time.monotonic() < end, f"{what}; the screen is {shot.size}, spread {shot.spread():.0f}"
            time.sleep(0.2)

    def check_still(self, machine, name, options="", meanwhile=None):
        """Draws the still picture in the guest; the vGPU must show exactly those pixels, also after
        `meanwhile` was called."""
        number = machine.number + 1
        job = machine.spawn(f"exec scene --still --expect-renderer virgl {options} "
                            f"--png /job/still{number}.png")
        job.wait_output("shown", 40)
        drawn = image.read_png(machine.job_dir / f"still{number}.png")
        said = job.output().split("crc32 ")[1].split()[0]
        assert f"{drawn.crc32():08x}" == said
        assert not drawn.blank()
        shot = self.until(name, lambda one: one.crc32() == drawn.crc32() and one.size == drawn.size,
                          f"the screen of {name} never showed what {machine.name} drew")
        if meanwhile:
            meanwhile()
            self.until(name, lambda one: one.crc32() == shot.crc32() and one.size == shot.size,
                       f"the screen of {name} is another one now")
        job.kill()
        return shot


@pytest.fixture(scope="module")
def screens(node):
    return Screens(node)
