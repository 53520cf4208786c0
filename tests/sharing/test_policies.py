# SPDX-License-Identifier: Apache-2.0
"""Two vGPUs that draw on one CPU: what their device processes get of it.

The bounds are wide: other processes run on this node too, and a client that waits for its answers
does not always want its part. `./dev bench` is where shares are measured.
"""
import os
import time

from without_vgpud import no_guest_waits

WARM_UP_S, MEASURE_S, CLIENT_S = 1.0, 3.0, 12
TICKS = os.sysconf("SC_CLK_TCK")


def family(pid):
    """A process and all it has started."""
    found = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as f:
            for child in f.read().split():
                found += family(int(child))
    return found


def cpu_s(pid):
    total = 0
    for one in family(pid):
        with open(f"/proc/{one}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def measure(node, names, seconds=MEASURE_S):
    """CPU seconds a second of each one's device process."""
    pids = [node.vgpu(name)["pid"] for name in names]
    begin, before = time.monotonic(), [cpu_s(pid) for pid in pids]
    time.sleep(seconds)
    after, took = [cpu_s(pid) for pid in pids], time.monotonic() - begin
    return [(b - a) / took for a, b in zip(before, after)]


def begin(node, scene, policy, types):
    for name, type_name in types.items():
        node.create(name, type_name=type_name)
    if policy:
        node.ctl("gpu", "policy", "soft0", policy)
    clients = [scene(name, CLIENT_S) for name in types]
    time.sleep(WARM_UP_S)
    return clients


def test_equal_share_by_weight(node, scene):
    begin(node, scene, "equal-share", {"a": "heavy", "b": "light"})
    a, b = measure(node, "ab")
    assert 1.7 < a / b < 4.0, (a, b)
    # The same without a policy, or this test shows nothing.
    node.ctl("gpu", "policy", "soft0", "best-effort")
    a, b = measure(node, "ab")
    assert 0.6 < a / b < 1.6, (a, b)


def test_idle_time_is_given_on(node, scene):
    clients = begin(node, scene, "equal-share", {"a": "heavy", "b": "light"})
    (beside,) = measure(node, "b", 2)
    clients[0].kill()
    clients[0].wait(10)
    time.sleep(0.5)
    (alone,) = measure(node, "b")
    assert alone > 1.5 * beside, (alone, beside)


def test_fixed_share_gives_no_more(node, scene):
    begin(node, scene, "fixed-share", {"b": "light"})
    (b,) = measure(node, "b")
    assert 0.1 < b < 0.22, b


def test_a_successor_has_the_same_share(node, scene):
    """A device process that a keeper starts is limited before it runs."""
    begin(node, scene, "fixed-share", {"b": "light"})
    was = node.vgpu("b")["pid"]
    node.kill()
    os.kill(was, 9)
    time.sleep(3)  # compiling shaders again, within the share
    node.start()
    assert node.vgpu("b")["pid"] not in (None, was)
    (b,) = measure(node, "b")
    assert 0.1 < b < 0.22, b


def test_vgpud_killed_under_load(node, scene):
    """
    Shares and drawing go on, the same while vgpud is gone and when it is back. By accounts nobody
    is limited while it is gone, and so nobody stays stopped.
    """
    clients = begin(node, scene, "fixed-share", {"a": "heavy", "b": "light"})
    pids = [node.vgpu(name)["pid"] for name in "ab"]
    before = [cpu_s(pid) for pid in pids]
    node.kill()
    time.sleep(1.5)
    without = [(cpu_s(pid) - was) / 1.5 for pid, was in zip(pids, before)]
    node.start()
    assert [node.vgpu(name)["pid"] for name in "ab"] == pids
    with_it = measure(node, "ab")
    for a, b in (without, with_it) if node.by == "groups" else (with_it,):
        assert 0.1 < b < 0.25 and 1.3 < a / b < 4.0, (without, with_it)
    assert min(without) > 0.1, without
    assert all(client.poll() is None for client in clients)


def test_deleted_while_it_draws(node, scene):
    """The other one has what it left, and draws on."""
    clients = begin(node, scene, "equal-share", {"a": "heavy", "b": "light"})
    (beside,) = measure(node, "b", 2)
    node.ctl("delete", "a", "--force")
    clients[0].wait(20)
    (alone,) = measure(node, "b")
    assert alone > 1.5 * beside, (alone, beside)
    assert clients[1].poll() is None


def test_no_guest_waits_for_vgpud(node, scene):
    """vgpud is killed and restarted under load; a light neighbour asks all the time."""
    node.create("a", type_name="heavy")
    node.create("b", type_name="light")
    node.ctl("gpu", "policy", "soft0", "equal-share")
    scene("a", CLIENT_S)
    no_guest_waits(node, "b", "ping", 100)
