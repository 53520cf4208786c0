# SPDX-License-Identifier: Apache-2.0
"""What node tests share: the machines their scripts run in.

A module says in BOOTS what its machines do: {name: function of the HostNode that gives a Boot}. A
test or fixture gets what one printed by printed(name). Machines begin when the first test does, for
each test that will run: those whose names are among its fixtures and its parameters' values."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import hostnode  # noqa: E402  (found through the path set above)
from machines import Machines  # noqa: E402

TOOK = pytest.StashKey()


def key(module, name):
    return f"{module.__name__.rpartition('.')[2]}-{name}"


def wanted(item):
    values = [*item.fixturenames]
    if hasattr(item, "callspec"):
        values += item.callspec.params.values()
    return [name for name in getattr(item.module, "BOOTS", {}) if name in values]


@pytest.fixture(scope="session")
def machines(request):
    why = hostnode.missing()
    if why:
        pytest.skip(why)
    all_of_them = Machines(hostnode.HostNode(lambda text: None))
    try:
        for item in request.session.items:
            for name in wanted(item):
                all_of_them.begin(key(item.module, name), item.module.BOOTS[name])
        yield all_of_them
    finally:
        all_of_them.close()
        request.config.stash[TOOK] = all_of_them.took()


@pytest.fixture(scope="module")
def printed(request, machines):
    module = request.module
    return lambda name: machines.lines(key(module, name), module.BOOTS[name])


def pytest_terminal_summary(terminalreporter, config):
    took = config.stash.get(TOOK, {})
    for name, seconds in sorted(took.items(), key=lambda one: -one[1]):
        terminalreporter.write_line(f"{seconds:7.1f} s machine of {name}")
