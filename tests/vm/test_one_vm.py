# SPDX-License-Identifier: Apache-2.0
"""One VM on one vGPU: what it draws is what the vGPU shows, whatever happens around it. One boot
serves all tests up to the first that ends the guest; each leaves it as it found it."""
import time

import pytest

import vm as vm_module

NAME = "one"


@pytest.fixture(scope="module")
def machine(node, boot):
    node.create(NAME)
    return boot(NAME, reboots=True)


def frames(job):
    counts = [int(line.split()[1]) for line in job.lines() if line.startswith("frames ")]
    return counts[-1] if counts else 0


def wait_for_frames(job, more, limit=20):
    """Waits until the job has drawn at least that many frames more than now."""
    goal, end = frames(job) + more, time.monotonic() + limit
    while frames(job) < goal:
        assert not job.done(), f"the scene ended: {job.output()[-400:]}"
        assert time.monotonic() < end, f"no {more} frames in {limit} s: {job.output()[-400:]}"
        time.sleep(0.1)


def test_draws_with_virgl_and_shows_it(machine, screens):
    screens.check_still(machine, NAME)


def test_another_picture_is_another_screen(machine, screens):
    first = screens.check_still(machine, NAME, "--variant torus --color ff8020")
    second = screens.check_still(machine, NAME, "--variant cube --color 20ff80")
    assert first.differing(second) > 0.05


def test_wrong_renderer_is_noticed(machine):
    status, output = machine.run("scene --offscreen --frames 1 --expect-renderer no-such-gpu")
    assert status == 3, output


def test_the_guest_has_every_head_of_the_type(machine, node):
    status, output = machine.run("ls -d /sys/class/drm/card0-Virtual-*")
    assert status == 0 and len(output.split()) == node.vgpu(NAME)["heads"] >= 2, output


def test_mode_change(machine, screens):
    assert screens.check_still(machine, NAME, "--mode 800x600").size == (800, 600)
    assert screens.check_still(machine, NAME, "--mode 1024x768").size == (1024, 768)


def test_console_is_visible(machine, node, screens):
    """The kernel's own 2D console: no GL at all."""
    before = screens.until(NAME, lambda one: True, "no screen")
    status, output = machine.run("for i in $(seq 20); do echo 'vgpud console vgpud console'; done >/dev/tty1")
    assert status == 0, output
    screens.until(NAME, lambda one: not one.blank() and one.differing(before) > 0.001,
                  "the console's text is not on screen")


def test_listed_as_bound(machine, node):
    job = machine.spawn("exec scene --seconds 60 --expect-renderer virgl")
    wait_for_frames(job, 10)
    row = node.vgpu(NAME)
    job.kill()
    assert row["state"] == "bound"
    assert row["bound_to"]
    assert "virgl" in row["renderer"].lower() or "llvmpipe" in row["renderer"].lower()
    assert 0 < row["vram_used_mib"] <= row["vram_mib"]


def test_second_vm_on_a_bound_vgpu_is_refused(machine, guest, node, screens):
    other = vm_module.VM(guest, node.socket(NAME), name="intruder")
    try:
        with pytest.raises(vm_module.VmError):
            other.start().wait_ready(timeout=15)
    finally:
        other.stop()
    screens.check_still(machine, NAME)


def test_vgpud_killed_and_restarted_under_load(machine, node, screens):
    job = machine.spawn("exec scene --seconds 120 --expect-renderer virgl")
    wait_for_frames(job, 10)
    pid = node.vgpu(NAME)["pid"]
    node.kill()
    wait_for_frames(job, 30)
    node.start()
    row = node.vgpu(NAME)
    assert (row["state"], row["pid"]) == ("bound", pid)
    wait_for_frames(job, 30)
    job.kill()
    screens.check_still(machine, NAME)


def test_guest_reboots(machine, screens):
    for count, reboot in ((2, lambda: machine.spawn("reboot -f")), (3, machine.reset)):
        reboot()
        machine.wait_ready(count)
        screens.check_still(machine, NAME, "--variant torus")


def test_front_end_restarted(machine, node, boot, screens):
    """QEMU dies without a word while its guest draws; another starts on the same vGPU."""
    job = machine.spawn("exec scene --seconds 120 --expect-renderer virgl")
    wait_for_frames(job, 10)
    machine.kill()
    end = time.monotonic() + 10
    while node.vgpu(NAME)["state"] != "ready":
        assert time.monotonic() < end, f"still {node.vgpu(NAME)}"
        time.sleep(0.1)
    again = boot(NAME)
    screens.check_still(again, NAME, "--color ff3060")
