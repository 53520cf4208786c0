# SPDX-License-Identifier: Apache-2.0
"""vgpud killed at each point of each operation on a GPU in passthrough (kill_sweep.py)."""
import pytest

from kill_sweep import Case, sweep
from test_direct import ADDRESS, GPU, SOUND, Host


class Direct(Case):
    def __init__(self):
        host = Host(cdev=True)
        super().__init__(host, host.node())
        self.before = host.state()

    def create(self, name):
        self.do("create", name, "--gpu", GPU, "--method", "passthrough", "--owner", "1234")

    def right(self, names):
        drivers, _, files = now = self.host.state()
        if not names:
            assert now == self.before, self.node.log()
            return
        assert (drivers[ADDRESS], drivers[SOUND]) == ("vfio-pci", "vfio-pci"), self.node.log()
        # The group's, and each function's own: a VM may come by either.
        assert files == {key: (1234, 0o600) for key in (7, ADDRESS, SOUND)}, self.node.log()
        assert drivers != self.before[0]


class Create(Direct):
    def act(self):
        self.create("a")


class Delete(Direct):
    first = "a"

    def act(self):
        self.do("delete", "a")

    def afterwards(self):
        with open(self.host.vram(), "rb") as f:
            assert not any(f.read(64)), "what its VM left is still there"


class Scrub(Delete):
    def act(self):
        """A VM comes and goes, and leaves something behind."""
        held = self.host.hold()
        try:
            self.is_in("a", "bound")
            with open(self.host.vram(), "r+b") as f:
                f.write(b"what the tenant drew")
        finally:
            self.host.leave(held)
        self.is_in("a", "ready")


@pytest.mark.parametrize("operation, least", [(Create, 36), (Scrub, 6), (Delete, 30)])
def test_killed_at_every_point(operation, least):
    sweep(operation, operation.__name__, least)
