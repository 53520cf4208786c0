# SPDX-License-Identifier: Apache-2.0
"""Rule 1 across methods: a VM that has a device itself gets no vGPU of a keeper beside it, and the
other way round. This process stands for the VM."""
import os

import pytest

from control_node import until
from test_direct import GPU, Host, make, texts


@pytest.fixture
def host():
    one = Host()
    yield one
    one.close()


def is_refused(text, name, holds):
    return name in text and "by rule 1" in text and "holds %s " % holds in text


def test_one_with_a_device_is_put_out_by_its_keeper(host):
    with host.node() as node:
        make(node, "whole", GPU)
        node.create("share")
        held = host.hold(pid=os.getpid(), name="guest=web")
        until(lambda: node.state("whole") == "bound")
        with node.connect("share", "vhost-user.sock") as client:
            client.settimeout(10)
            assert client.recv(1) == b""  # put out
        until(lambda: node.state("share") == "ready")
        until(lambda: any(is_refused(text, "refused to", "whole") for text in texts(node)))
        host.leave(held)
        until(lambda: node.state("whole") == "ready")
        with node.connect("share", "vhost-user.sock"):
            until(lambda: node.state("share") == "bound")


def test_one_with_a_vgpu_is_told_that_it_took_a_device(host):
    """Nobody can keep a process from a file that it may open; it is said, and it ends neither."""
    with host.node() as node:
        make(node, "whole", GPU)
        node.create("share")
        with node.connect("share", "vhost-user.sock"):
            until(lambda: node.state("share") == "bound")
            held = host.hold(pid=os.getpid(), name="guest=web")
            until(lambda: any("by rule 1" in text for text in texts(node)) or
                  "by rule 1" in node.log())
            host.leave(held)
