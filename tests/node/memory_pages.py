#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Inside the node: memory of several kinds, and what becomes of it.

  merge KIND MIB SECONDS    equal pages, private or shared, that ask to be merged; prints how many
                            KSM saved in the end
  vm NAME KIND MIB          gives a vGPU a VM's memory (memfd or huge); prints what it came to
"""
import json
import mmap
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from vhost_user_client import MIB, FrontEnd  # noqa: E402

HUGE_2_MIB = os.MFD_HUGETLB | 21 << 26


def number(path, key=""):
    with open(path) as f:
        for line in f:
            if line.startswith(key):
                return int(line[len(key):].split()[0])
    return None


def merge(kind, mib, seconds):
    if kind == "private":
        memory = mmap.mmap(-1, mib * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        fd = os.memfd_create("guest")
        os.ftruncate(fd, mib * MIB)
        memory = mmap.mmap(fd, mib * MIB, flags=mmap.MAP_SHARED)
    memory.madvise(mmap.MADV_MERGEABLE)
    for at in range(0, mib * MIB, 4096):
        memory[at:at + 8] = b"the same"
    end = time.monotonic() + seconds
    wanted = mib * MIB // 4096 // 2
    saved = 0
    while time.monotonic() < end and saved < wanted:
        time.sleep(0.1)
        saved = number("/sys/kernel/mm/ksm/pages_sharing")
    print(saved, flush=True)
    sys.stdin.readline()  # they stay until somebody says so
    # A write parts them again.
    memory[0:8] = b"another "
    assert memory[0:8] == b"another " and memory[4096:4104] == b"the same"


def ctl(*words):
    return json.loads(subprocess.run(["vgpuctl", "--json", *words], check=True,
                                     capture_output=True, text=True, timeout=60).stdout)


def vm(name, kind, mib):
    before = number("/proc/meminfo", "Mlocked:")
    fd = os.memfd_create("guest", os.MFD_CLOEXEC | (HUGE_2_MIB if kind == "huge" else 0))
    os.ftruncate(fd, mib * MIB)
    with FrontEnd(os.path.join("/mnt/r/vgpus", name, "vhost-user.sock")) as front_end:
        front_end.give(fd)
        end = time.monotonic() + 60
        shown = ctl("show", name)
        while shown["vm_memory_state"] not in ("locked", "free") and not shown["vm_refusal"]:
            assert time.monotonic() < end, shown
            time.sleep(0.1)
            shown = ctl("show", name)
        shown["mlocked_mib"] = (number("/proc/meminfo", "Mlocked:") - before) / 1024
        shown["resident_mib"] = os.fstat(fd).st_blocks * 512 / MIB
        shown["alive"] = not shown["vm_refusal"] and front_end.alive()
    end = time.monotonic() + 20
    while ctl("show", name)["vm_memory_state"] not in ("none",):
        assert time.monotonic() < end
        time.sleep(0.1)
    print(json.dumps(shown))


if __name__ == "__main__":
    if sys.argv[1] == "merge":
        merge(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        vm(sys.argv[2], sys.argv[3], int(sys.argv[4]))
