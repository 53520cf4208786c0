# SPDX-License-Identifier: Apache-2.0
"""What state tests share: a node with two software GPUs, and undisturbed runs to compare with."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import glstate  # noqa: E402  (found through the path set above)
import node as node_module  # noqa: E402

# Of any one move or recovery. Two quiet cores show 50 ms for a move and 1 s for a recovery, which
# compiles every shader of the client again; what is usual is the benchmark's matter.
PAUSE_LIMIT_MS = 3000

# A little of everything, for tests whose point is not what is drawn: after a start, a move, or a
# kill all shaders are compiled again, and with every series that takes 5 s.
FEW = ("--only", "blend,z24x8,msaa-color,dxt5,ssbo,xfb-paused,query-open,query-condition,shared")


def number(name, default):
    """How often, from the environment: CI uses the default, long runs more."""
    return int(os.environ.get(name) or default)


@pytest.fixture(scope="session")
def programs():
    missing = node_module.missing_programs()
    if not glstate.PROGRAM.exists():
        missing.append("glstate")
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")


@pytest.fixture(scope="session")
def shared_node(programs):
    with node_module.Node(soft_gpus=2) as one:
        yield one


@pytest.fixture(scope="session")
def references(shared_node):
    return glstate.References(shared_node)


@pytest.fixture
def node(programs):
    """A vgpud of the test's own, to be killed or given a strange environment."""
    with node_module.Node(soft_gpus=2) as one:
        yield one


@pytest.fixture
def vgpu(shared_node, request):
    """The name of a vGPU of the test's own on the shared node."""
    name = "t" + str(abs(hash(request.node.nodeid)) % 10**8)
    shared_node.create(name)
    yield name
    shared_node.ctl("delete", name, "--force", check=False)
