# SPDX-License-Identifier: Apache-2.0
"""vgpud killed before, in and after each of its writes to the store and requests to the kernel while
a slice is made or taken away: the next one finishes or undoes what was begun, and nothing else."""
import pytest

from control_node import LIMIT, until
from test_direct_kill import MOST, Killed, do, rows, settled, watch
from test_mediated import GPU, MBOCHS, PF, VF1, VF2, Host, Mdev, Xe


class OnMdev:
    gpu, kind = MBOCHS, "mbochs-small"
    config = "[gpu %s]\nmixed = no\n" % MBOCHS

    def __init__(self, host):
        self.host, self.mdev = host, Mdev(host.kernel)

    def state(self):
        return sorted(self.mdev.devices.values()), sorted(self.host.owners().values())

    def made(self, n):
        return ["mbochs-small"] * n, [1234] * 2 * n


class OnXe:
    """A PF with all that VFs can have; one of a second vGPU keeps them enabled."""

    gpu, kind, config = GPU, "vf", ""

    def __init__(self, host):
        host.pf("xe", 0x8086)
        self.host, self.xe = host, Xe(host.kernel, PF)

    def state(self):
        drivers = [self.host.kernel.driver(vf) for vf in (VF1, VF2)]
        quanta = [self.xe.read("sriov_admin/vf%d/profile/exec_quantum_ms" % n) for n in (1, 2)]
        return (self.xe.count, self.xe.read("sriov_drivers_autoprobe"), sorted(map(str, drivers)),
                sorted(quanta), sorted(self.host.owners().values()))

    def made(self, n):
        return (3 if n else 0, "0" if n else "1", ["None"] * (2 - n) + ["vfio-pci"] * n,
                ["0"] * (2 - n) + ["13"] * n, [1234] * 2 * n)


def create(thing, node, name="a"):
    watch(node, lambda: any(t["name"].endswith(thing.kind)
                            for t in node.json("type", "list", thing.gpu)))
    do(node, "create", name, "--gpu", thing.gpu, "--type", thing.gpu + "-" + thing.kind,
       "--owner", "1234")


def delete(thing, node):
    do(node, "delete", "a")


# What is there before, and what is done.
OPERATIONS = {"create": ((), create), "create-second": ("b", create),
              "delete": ("a", delete), "delete-first": ("ab", delete)}


def check(thing, node):
    listed = until(lambda: settled(node), 20)[0]
    stored, planned = rows(node)
    assert {v["name"]: 1 for v in listed} == stored and planned == set(stored), node.log()
    assert all(v["state"] == "ready" for v in listed), (listed, node.log())
    assert thing.state() == thing.made(len(listed)), node.log()
    return [v["name"] for v in listed]


def one_point(kind, operation, at):
    """False: there is no such point any more."""
    first, act = OPERATIONS[operation]
    host = Host(cdev=True)  # a VM may come by the group's file or the device's own
    thing = kind(host)
    node = host.node(kind.config)
    try:
        if first:
            node.start()
            for name in first:
                create(thing, node, name)
            node.kill()
        node.env["VGPUD_KILL_AT"] = str(at)
        try:
            try:
                node.start()
            except AssertionError:
                raise Killed() from None
            for name in first:
                watch(node, lambda: node.state(name) == "ready")
            act(thing, node)
            reached = False
        except Killed:
            node.process.wait(LIMIT)
            reached = True
        del node.env["VGPUD_KILL_AT"]
        if not reached:
            node.kill()
        node.start()
        for name in check(thing, node):
            node.good("delete", name)
        assert check(thing, node) == []
        return reached
    finally:
        node.close()
        host.close()


@pytest.mark.parametrize("kind, operation, least", [
    (OnMdev, "create", 12), (OnMdev, "delete", 12), (OnXe, "create", 24), (OnXe, "delete", 24),
    (OnXe, "create-second", 16), (OnXe, "delete-first", 16)])
def test_killed_at_every_point(kind, operation, least):
    points = 0
    for at in range(1, MOST):
        try:
            reached = one_point(kind, operation, at)
        except BaseException as failed:
            raise AssertionError("%s, killed at point %d: %s" % (operation, at, failed)) from failed
        if not reached:
            break
        points += 1
    print("%s: killed at %d points" % (operation, points))
    assert points >= least, points
