# SPDX-License-Identifier: Apache-2.0
"""/v1/samples: one stream of what all vGPUs use, for readers that are quick, slow or gone."""
import json
import select
import signal
import time

import pytest

from accounting import Samples, get
from control_node import Node, until


@pytest.fixture
def node():
    with Node() as n:
        yield n


def test_samples_come_as_asked(node):
    node.create("a")
    with Samples(node) as samples:
        assert samples.status == 200
        first, began = samples.next(), time.monotonic()
        assert first["interval_ns"] is None and first["missed"] == 0
        assert [v["name"] for v in first["vgpus"]] == ["a"]
        assert {name for name in first["vgpus"][0]} == set(node.json("stats", "a"))
        node.create("b")
        rest = [samples.next() for _ in range(5)]
        assert time.monotonic() - began >= 0.4
        assert all(sample["interval_ns"] >= 50e6 for sample in rest)
        assert [v["name"] for v in until(samples.next)["vgpus"]] == ["a", "b"]
        assert abs(rest[-1]["time_ms"] / 1000 - time.time()) < 5


@pytest.mark.parametrize("query", ("?interval_ms=99", "?interval_ms=60001", "?interval_ms=x", "?interval_ms=",
                                   "?interval_ms=-5", "?interval_ms=18446744073709551616"))
def test_bad_intervals(node, query):
    status, _, body = get(node, "/v1/samples" + query)
    assert status == 400 and "interval_ms" in json.loads(body)["error"]["message"]


def test_too_many_readers_and_readers_that_go(node):
    readers = [Samples(node) for _ in range(16)]
    assert all(reader.status == 200 for reader in readers)
    with Samples(node) as late:
        assert late.status == 503
    for reader in readers:
        assert reader.next()
    for reader in readers[1:]:
        reader.close()

    def free():
        with Samples(node) as again:
            return again.status == 200
    until(free)  # who is gone is noticed when the next sample is due
    assert readers[0].next()
    readers[0].close()
    node.good("list")


def test_a_slow_reader_misses_samples_and_is_cut_off(node):
    for i in range(12):
        node.create("v%d" % i, "soft0-64")
    samples = Samples(node)
    assert samples.next()
    memory = lambda: int(open("/proc/%d/statm" % node.process.pid).read().split()[1])  # noqa: E731
    before = memory()
    time.sleep(4)
    with Samples(node) as other:  # nobody else is held up
        assert other.next() and other.next()
    assert memory() - before < 2000, "what is not read is kept"  # pages
    missed = 0
    for _ in range(60):
        missed += samples.next()["missed"]
        if missed:
            break
    assert missed
    # One that reads nothing for longer than HTTP_IDLE_S, once no more fits, is cut off.
    hung_up = select.poll()
    hung_up.register(samples.socket, 0)
    began = time.monotonic()
    assert hung_up.poll(60000) and time.monotonic() - began > 5
    while samples.next():  # what was sent before
        pass
    samples.close()


def test_streams_end_with_vgpud(node):
    with Samples(node, "?interval_ms=60000") as samples:
        assert samples.next()
        began = time.monotonic()
        assert node.kill(signal.SIGTERM) == 0
        assert samples.next() is None and time.monotonic() - began < 5


def test_an_idle_stream_is_not_cut_off(node):
    """HTTP_IDLE_S is for readers that do not read, not for those that have nothing to read."""
    with Samples(node, "?interval_ms=13000") as samples:
        assert samples.next()
        assert samples.next()["interval_ns"] >= 12.9e9
