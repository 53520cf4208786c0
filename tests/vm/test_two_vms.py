# SPDX-License-Identifier: Apache-2.0
"""Two VMs at once on two vGPUs of one GPU: each screen shows its own guest's picture."""
import pytest

PAIR = {"left": "--variant cube --color 3fa7ff", "right": "--variant torus --color ff8020"}


@pytest.fixture(scope="module")
def machines(node, boot):
    type_name = node.type_for(2)
    for name in PAIR:
        node.create(name, type_name=type_name)
    return {name: boot(name) for name in PAIR}


def test_screens_are_their_own(machines, screens):
    shots = {name: screens.check_still(machines[name], name, PAIR[name]) for name in PAIR}
    assert shots["left"].differing(shots["right"]) > 0.2


def test_both_draw_at_the_same_time(machines, node, screens):
    jobs = {name: machines[name].spawn(f"exec scene --seconds 6 --expect-renderer virgl {PAIR[name]}")
            for name in PAIR}
    for name, job in jobs.items():
        job.wait_output("frames ", 30)
        assert node.vgpu(name)["state"] == "bound"
    shots = {name: node.screenshot(name) for name in PAIR}
    assert not any(shot.blank() for shot in shots.values())
    assert shots["left"].differing(shots["right"]) > 0.2
    for name, job in jobs.items():
        assert job.wait(40) == 0, job.output()


def test_one_ending_leaves_the_other(machines, screens):
    machines["left"].kill()
    screens.check_still(machines["right"], "right", PAIR["right"])
