# SPDX-License-Identifier: Apache-2.0
"""What node tests share: the machine they run scripts in."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import hostnode  # noqa: E402  (found through the path set above)


@pytest.fixture(scope="session")
def machine():
    why = hostnode.missing()
    if why:
        pytest.skip(why)
    return hostnode.HostNode(lambda text: None)
