# SPDX-License-Identifier: Apache-2.0
"""A VM with two vGPUs is served by the first alone (rule 1); a device process that dies under a
guest is reported with its reason."""
import os
import signal
import time

import pytest

import vm as vm_module

PAIR = ("first", "second")


@pytest.fixture(scope="module")
def machine(guest, node, accelerator):
    for name in PAIR:
        node.create(name)
    words = [word for name in PAIR for word in node.qemu_arguments(name)]
    with vm_module.VM(guest, words, name="greedy", accelerator=accelerator) as one:
        # The guest's driver waits a while for each answer of the second card.
        yield one.wait_ready()


def test_second_vgpu_of_a_vm_is_refused(machine, node):
    rows = {name: node.vgpu(name) for name in PAIR}
    assert sorted(row["state"] for row in rows.values()) == ["bound", "ready"]
    refused = next(name for name in PAIR if rows[name]["state"] == "ready")
    events = [one for one in node.json("events") if one["vgpu"] == refused]
    assert any("one vGPU per VM" in one["text"] for one in events), events


def test_first_vgpu_still_draws(machine, node, screens):
    bound = next(name for name in PAIR if node.vgpu(name)["state"] == "bound")
    card = PAIR.index(bound)
    screens.check_still(machine, bound, f"--card /dev/dri/card{card}")


def test_dead_device_process_is_reported(machine, node):
    bound = next(name for name in PAIR if node.vgpu(name)["state"] == "bound")
    os.kill(node.vgpu(bound)["pid"], signal.SIGKILL)
    end = time.monotonic() + 10
    while node.vgpu(bound)["state"] != "failed":
        assert time.monotonic() < end, node.vgpu(bound)
        time.sleep(0.1)
    assert node.vgpu(bound)["failure"]
