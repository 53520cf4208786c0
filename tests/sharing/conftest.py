# SPDX-License-Identifier: Apache-2.0
"""What tests of sharing need: a node whose device processes compete for one CPU."""
import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import cache  # noqa: E402  (found through the path set above)
import node as node_module  # noqa: E402

VTEST_CLIENT = Path(__file__).resolve().parents[1] / "lib" / "vtest_client.py"
SCENE = cache.BUILD / "tests" / "clients" / "scene"

CONFIG = """[node]
soft_vram_mib = 2048
group =
shares = %s
[gpu soft0]
mixed = yes
[type heavy]
gpu = soft0
vram_mib = 128
weight = 300
share_percent = 60
[type light]
gpu = soft0
vram_mib = 128
weight = 100
share_percent = 20
"""


class ConfinedNode(node_module.Node):
    """vgpud, keepers and device processes run on one CPU."""

    def __init__(self, cpu, by):
        super().__init__(config=CONFIG % by)
        self.cpu, self.by = cpu, by

    def start(self):
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self.cpu})
        try:
            return super().start()
        finally:
            os.sched_setaffinity(0, mine)


@pytest.fixture(scope="session")
def cpus():
    """(of device processes, of clients)"""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) < 2:
        pytest.skip("device processes and clients need a CPU each")
    return mine[-1], mine[0]


@pytest.fixture(scope="session")
def shares(cpus):
    """What doctor, which takes its time, says about them."""
    missing = node_module.missing_programs() + ([] if SCENE.is_file() else ["scene"])
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with ConfinedNode(cpus[0], "groups") as one:
        said = json.loads(one.ctl("--json", "doctor", check=False).stdout)
    return next(check for check in said if check["check"] == "cpu-shares")


@pytest.fixture(params=["groups", "accounts"])
def node(request, cpus, shares):
    """What enforces shares: the kernel's control groups, or vgpud, which stops who took too much."""
    if request.param == "groups" and shares["status"] != "ok":
        pytest.skip(shares["detail"])
    with ConfinedNode(cpus[0], request.param) as one:
        yield one


@pytest.fixture
def scene(node, cpus):
    """scene(NAME, SECONDS): a client that draws on that vGPU as fast as it can."""
    clients = []

    def start(name, seconds):
        command = ["taskset", "-c", str(cpus[1]), str(SCENE), "--offscreen", "--variant", "torus",
                   "--mode", "1024x768", "--seconds", str(seconds)]
        clients.append(node.spawn(name, command, stdout=-1))
        return clients[-1]

    yield start
    for client in clients:
        client.kill()
        client.communicate()
