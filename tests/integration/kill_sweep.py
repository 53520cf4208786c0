# SPDX-License-Identifier: Apache-2.0
"""vgpud killed before, in and after each of its writes to the store and requests to the kernel while
it does something: the next one finishes or undoes what was begun, and nothing else."""
import sqlite3
import subprocess

from control_node import LIMIT, until

MOST = 400  # points of one operation; it has fewer
TRANSIENT = ("creating", "starting", "stopping", "deleting", "scrubbing")


class Killed(Exception):
    """vgpud was."""


class Case:
    """An operation on a node of its own. first: the vGPUs that are there before."""

    first = ()

    def __init__(self, host, node):
        self.host, self.node = host, node

    def create(self, name):
        raise NotImplementedError

    def act(self):
        """The operation."""
        raise NotImplementedError

    def right(self, names):
        """Whether the node has what these vGPUs need, and nothing else."""
        raise NotImplementedError

    def afterwards(self):
        """When all are deleted."""

    def close(self):
        self.node.close()
        self.host.close()

    def do(self, *args):
        """A verb; Killed when vgpud ended under it."""
        done = self.node.ctl(*args)
        if done.returncode:
            try:
                self.node.process.wait(2)
            except subprocess.TimeoutExpired:
                raise AssertionError(done.stderr + self.node.log()) from None
            raise Killed()

    def watch(self, condition):
        """Waits until it is true; Killed when vgpud ended meanwhile."""
        def said():
            if self.node.process.poll() is not None:
                raise Killed()
            if self.node.ctl("list").returncode:
                self.node.process.wait(LIMIT)
                raise Killed()
            try:
                return condition()
            except AssertionError:
                self.node.process.wait(LIMIT)
                raise Killed() from None
        until(said)

    def is_in(self, name, state):
        self.watch(lambda: self.node.state(name) == state)


def stored(node):
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


def check(case):
    """Nothing lost, doubled or half-done: what is listed, stored and on the node agree. Who is left."""
    node = case.node
    listed = until(lambda: settled(node), 20)[0]
    rows, planned = stored(node)
    assert {v["name"]: 1 for v in listed} == rows and planned == set(rows), node.log()
    assert all(v["state"] == "ready" for v in listed), (listed, node.log())
    names = [v["name"] for v in listed]
    case.right(names)
    return names


def one_point(case, at):
    """False: there is no such point any more."""
    node = case.node
    if case.first:
        node.start()
        for name in case.first:
            case.create(name)
        node.kill()
    node.env["VGPUD_KILL_AT"] = str(at)
    try:
        try:
            node.start()
        except AssertionError:
            raise Killed() from None
        for name in case.first:
            case.is_in(name, "ready")
        case.act()
        reached = False
    except Killed:
        node.process.wait(LIMIT)
        reached = True
    del node.env["VGPUD_KILL_AT"]
    if not reached:
        node.kill()
    node.start()
    for name in check(case):
        node.good("delete", name)
    assert check(case) == []
    case.afterwards()
    return reached


def sweep(make, what, least):
    """Kills vgpud at every point of make()'s operation; there are at least so many."""
    points = 0
    for at in range(1, MOST):
        case = make()
        try:
            reached = one_point(case, at)
        except BaseException as failed:
            raise AssertionError("%s, killed at point %d: %s" % (what, at, failed)) from failed
        finally:
            case.close()
        if not reached:
            break
        points += 1
    print("%s: killed at %d points" % (what, points))
    assert points >= least, points
