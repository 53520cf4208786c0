# SPDX-License-Identifier: Apache-2.0
"""vgpud killed at each point while a slice is made or taken away (kill_sweep.py)."""
import pytest

from kill_sweep import Case, sweep
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


class Sliced(Case):
    """What is there before, and what is done: to a thing of that kind."""

    def __init__(self, kind, first, act):
        host = Host(cdev=True)  # a VM may come by the group's file or the device's own
        self.thing, self.first, self.act = kind(host), first, lambda: act(self)
        super().__init__(host, host.node(kind.config))

    def create(self, name="a"):
        thing, node = self.thing, self.node
        self.watch(lambda: any(t["name"].endswith(thing.kind)
                               for t in node.json("type", "list", thing.gpu)))
        self.do("create", name, "--gpu", thing.gpu, "--type", thing.gpu + "-" + thing.kind,
                "--owner", "1234")

    def delete(self):
        self.do("delete", "a")

    def right(self, names):
        assert self.thing.state() == self.thing.made(len(names)), self.node.log()


OPERATIONS = {"create": ((), Sliced.create), "create-second": ("b", Sliced.create),
              "delete": ("a", Sliced.delete), "delete-first": ("ab", Sliced.delete)}


@pytest.mark.parametrize("kind, operation, least", [
    (OnMdev, "create", 12), (OnMdev, "delete", 12), (OnXe, "create", 24), (OnXe, "delete", 24),
    (OnXe, "create-second", 16), (OnXe, "delete-first", 16)])
def test_killed_at_every_point(kind, operation, least):
    sweep(lambda: Sliced(kind, *OPERATIONS[operation]), operation, least)
