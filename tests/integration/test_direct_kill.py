# SPDX-License-Identifier: Apache-2.0
"""vgpud killed before, in and after each of its writes to the store and requests to the kernel, in
each operation on hardware: the next one finishes or undoes what was begun, and nothing else."""
import os
import sqlite3
import subprocess

import pytest

from control_node import LIMIT, until
from test_direct import ADDRESS, GPU, SOUND, Host

MOST = 400  # points of one operation; it has fewer
TRANSIENT = ("creating", "starting", "stopping", "deleting", "scrubbing")


def rows(node):
    """What the store has: {vGPU: phase}, and whose changes."""
    db = sqlite3.connect("file:%s/vgpud.db?mode=ro" % node.state_dir, uri=True)
    try:
        found = dict(db.execute("SELECT name, phase FROM vgpus"))
        return found, {r[0] for r in db.execute("SELECT DISTINCT vgpu FROM changes")}
    finally:
        db.close()


def settled(node):
    listed = node.json("list")
    return None if any(v["state"] in TRANSIENT for v in listed) else [listed]


def check(host, node, before):
    """Nothing lost, doubled or half-done: what is listed, stored and on the node agree."""
    listed = until(lambda: settled(node), 20)[0]
    stored, planned = rows(node)
    assert {v["name"]: 1 for v in listed} == stored and planned == set(stored), node.log()
    if not listed:
        assert host.state() == before, node.log()
        return False
    assert [v["state"] for v in listed] == ["ready"], (listed, node.log())
    drivers, _, files = host.state()
    assert (drivers[ADDRESS], drivers[SOUND]) == ("vfio-pci", "vfio-pci"), node.log()
    # The group's, and each function's own: a VM may come by either.
    assert files == {key: (1234, 0o600) for key in (7, ADDRESS, SOUND)}, node.log()
    assert drivers != before[0]
    return True


class Killed(Exception):
    pass


def do(node, *args):
    """A verb; Killed when vgpud ended under it."""
    done = node.ctl(*args)
    if done.returncode:
        try:
            node.process.wait(2)
        except subprocess.TimeoutExpired:
            raise AssertionError(done.stderr + node.log()) from None
        raise Killed()


def create(host, node):
    do(node, "create", "a", "--gpu", GPU, "--method", "passthrough", "--owner", "1234")


def use(host, node):
    """A VM comes and goes, and leaves something behind."""
    held = host.hold()
    try:
        watch(node, lambda: node.state("a") == "bound")
        with open(host.vram(), "r+b") as f:
            f.write(b"what the tenant drew")
    finally:
        host.leave(held)
    watch(node, lambda: node.state("a") == "ready")


def watch(node, condition):
    def said():
        if node.process.poll() is not None:
            raise Killed()
        done = node.ctl("list")
        if done.returncode:
            node.process.wait(LIMIT)
            raise Killed()
        try:
            return condition()
        except AssertionError:
            node.process.wait(LIMIT)
            raise Killed() from None
    until(said)


def delete(host, node):
    do(node, "delete", "a")


OPERATIONS = {"create": ([], create), "scrub": ([create], use), "delete": ([create], delete)}


def one_point(operation, at):
    """False: there is no such point any more."""
    first, act = OPERATIONS[operation]
    host = Host(cdev=True)
    node = host.node()
    try:
        before = host.state()
        if first:
            node.start()
            for step in first:
                step(host, node)
            node.kill()
        node.env["VGPUD_KILL_AT"] = str(at)
        try:
            try:
                node.start()
            except AssertionError:
                raise Killed() from None
            if first:
                watch(node, lambda: node.state("a") == "ready")
            act(host, node)
            reached = False
        except Killed:
            node.process.wait(LIMIT)
            reached = True
        del node.env["VGPUD_KILL_AT"]
        if not reached:
            node.kill()
        node.start()
        if check(host, node, before):
            node.good("delete", "a")
        assert check(host, node, before) is False
        if operation != "create":
            with open(host.vram(), "rb") as f:
                assert not any(f.read(64)), "what its VM left is still there"
        return reached
    finally:
        node.close()
        host.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_every_point(operation):
    points = 0
    for at in range(1, MOST):
        try:
            reached = one_point(operation, at)
        except BaseException as failed:
            raise AssertionError("%s, killed at point %d: %s" % (operation, at, failed)) from failed
        if not reached:
            break
        points += 1
    print("%s: killed at %d points" % (operation, points))
    assert points >= {"create": 36, "scrub": 6, "delete": 30}[operation], points
