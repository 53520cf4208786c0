# SPDX-License-Identifier: Apache-2.0
"""Machines of hostnode that run beside each other and ahead of whoever asks what they print: as many
at a time as this machine has processors for, in the order in which they are ready to run."""
import os
import threading
import time

MOST = 4  # at a time, however many processors there are: each has 1.5 GiB


class Boot:
    """What one machine does. options: HostNode.run()'s. alone: it measures, so nothing runs beside it."""

    def __init__(self, script, alone=False, **options):
        self.script, self.alone, self.options = script, alone, options


class _Run:
    def __init__(self):
        self.ended = threading.Event()
        self.lines = self.failed = None
        self.took_s = 0.0


class Machines:
    def __init__(self, node, width=None):
        self.node = node
        self.width = self.free = width or min(MOST, len(os.sched_getaffinity(0)))
        self.turn = threading.Condition()
        self.waiting = []  # whose turn it is comes first: one that is to be alone does not starve
        self.closed = False
        self.runs, self.threads = {}, []

    def begin(self, key, make):
        """make(node) gives the Boot. Once for each key, a name, whoever begins it."""
        if key in self.runs:
            return
        self.runs[key] = run = _Run()
        thread = threading.Thread(target=self._work, args=(key, run, make), daemon=True)
        self.threads.append(thread)
        thread.start()

    def lines(self, key, make):
        """What the machine of that key printed; what it failed with is raised, each time."""
        self.begin(key, make)
        run = self.runs[key]
        run.ended.wait()
        if run.failed:
            raise run.failed
        return run.lines

    def took(self):
        """{key: seconds} of those that have ended."""
        return {key: run.took_s for key, run in self.runs.items() if run.ended.is_set()}

    def close(self):
        """Ends those that run; those that wait never begin."""
        with self.turn:
            self.closed = True
            self.turn.notify_all()
        self.node.stop()
        for thread in self.threads:
            thread.join(30)

    def _work(self, key, run, make):
        try:
            boot = make(self.node)
            places = self.width if boot.alone else 1
            self._enter(places)
            began = time.monotonic()
            try:
                run.lines = self.node.run(boot.script, name=key, **boot.options)
            finally:
                run.took_s = time.monotonic() - began
                self._leave(places)
        except BaseException as failed:  # raised where it is asked for
            run.failed = failed
        finally:
            run.ended.set()

    def _enter(self, places):
        ticket = object()
        with self.turn:
            self.waiting.append(ticket)
            self.turn.wait_for(lambda: self.closed or (
                self.waiting[0] is ticket and self.free >= places))
            self.waiting.remove(ticket)
            if self.closed:
                raise RuntimeError("the machines are closed")
            self.free -= places
            self.turn.notify_all()

    def _leave(self, places):
        with self.turn:
            self.free += places
            self.turn.notify_all()
