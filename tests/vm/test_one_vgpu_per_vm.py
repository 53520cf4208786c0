# SPDX-License-Identifier: Apache-2.0
"""A VM with two vGPUs is served by the first alone (rule 1); a device process that dies under a
guest is replaced, and the reason is said."""
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


def test_a_dead_device_process_is_replaced(machine, node, screens):
    bound = next(name for name in PAIR if node.vgpu(name)["state"] == "bound")
    before = node.vgpu(bound)
    os.kill(before["pid"], signal.SIGKILL)
    end = time.monotonic() + 20
    while node.vgpu(bound)["recoveries"] == before["recoveries"]:
        assert time.monotonic() < end, node.vgpu(bound)
        time.sleep(0.1)
    after = node.vgpu(bound)
    assert after["state"] == "bound" and after["pid"] != before["pid"]
    assert any("SIGKILL" in one["text"] for one in node.json("events") if one["vgpu"] == bound)
    screens.check_still(machine, bound, f"--card /dev/dri/card{PAIR.index(bound)}")
