# SPDX-License-Identifier: Apache-2.0
"""Rule 4 with a stock QEMU and a stock guest: while the node's memory is over-committed the guest
boots and draws, and all of its memory is locked. KSM is a constructed tree's, so that this machine's
is left alone."""
import os
import signal
import time

import pytest

import node as node_module
import vm as vm_module

NAME = "locked"
MIB = 512


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    root = tmp_path_factory.mktemp("root")
    for folder in ("sys/kernel/mm/ksm", "proc", "dev"):
        (root / folder).mkdir(parents=True)
    for name in ("run", "pages_shared", "pages_sharing"):
        (root / "sys/kernel/mm/ksm" / name).write_text("0\n")
    with open("/proc/meminfo") as meminfo:
        (root / "proc/meminfo").write_text(meminfo.read())
    with node_module.Node(config=f"[node]\nhost_root = {root}\n") as one:
        one.root = root
        yield one


@pytest.fixture(scope="module")
def machine(node, boot):
    node.ctl("node", "overcommit", "on")
    assert (node.root / "sys/kernel/mm/ksm/run").read_text().strip() == "1"
    node.create(NAME)
    return boot(NAME, memory_mib=MIB)


def holder(node):
    """Of the process that holds the VM's memory: its /proc folder."""
    keeper = node.vgpu(NAME)["keeper_pid"]
    with open(f"/proc/{keeper}/task/{keeper}/children") as children:
        for pid in children.read().split():
            with open(f"/proc/{pid}/comm") as comm:
                if comm.read() == "vgpu-memory\n":
                    return f"/proc/{pid}"
    raise AssertionError("nobody holds it")


def locked_kib(node):
    with open(holder(node) + "/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmLck:"))


def resident_kib(node):
    """Of the guest's memory, in the process that locks it; every mapping of it must be locked."""
    kib, inside = 0, False
    with open(holder(node) + "/smaps") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0] and ":" not in words[0]:
                inside = "memfd:memory-backend-memfd" in line
            elif inside and words[0] == "Rss:":
                kib += int(words[1])
            elif inside and words[0] == "VmFlags:":
                assert "lo" in words, line
    return kib


def test_it_draws_and_is_locked(machine, node, screens):
    screens.check_still(machine, NAME)
    shown = node.vgpu(NAME)
    assert shown["vm_memory_state"] == "locked", shown
    assert shown["vm_memory_mib"] == shown["vm_memory_locked_mib"] == MIB
    assert locked_kib(node) >= MIB << 10 and resident_kib(node) == MIB << 10
    table = node.json("node", "show")
    assert table["overcommit"] == "on" and table["reserved_mib"] == MIB
    assert [one["vgpu"] for one in table["vgpu_vms"]] == [NAME]


def test_it_stays_locked_when_the_device_process_dies(machine, node, screens):
    before, held = node.vgpu(NAME), holder(node)
    os.kill(before["pid"], signal.SIGKILL)
    end = time.monotonic() + 20
    while node.vgpu(NAME)["recoveries"] == before["recoveries"]:
        assert time.monotonic() < end, node.vgpu(NAME)
        time.sleep(0.1)
    screens.check_still(machine, NAME)
    assert holder(node) == held and resident_kib(node) == MIB << 10


def test_turned_off_and_on_under_the_guest(machine, node, screens):
    node.ctl("node", "overcommit", "off")
    end = time.monotonic() + 20
    while node.vgpu(NAME)["vm_memory_state"] != "free":
        assert time.monotonic() < end, node.vgpu(NAME)
        time.sleep(0.1)
    assert "1 VM with a vGPU, 512 MiB" in node.ctl("node", "overcommit", "on").stdout
    assert resident_kib(node) == MIB << 10
    screens.check_still(machine, NAME)


def test_a_vm_that_does_not_fit_is_refused(node, guest, accelerator):
    """Its guest boots and has no vGPU; why is said."""
    node.create("refused", type_name=node.vgpu(NAME)["type"])
    meminfo = node.root / "proc/meminfo"
    was = meminfo.read_text()
    meminfo.write_text("MemTotal: 8388608 kB\nMemAvailable: 307200 kB\n")
    try:
        with vm_module.VM(guest, node.qemu_arguments("refused"), name="refused",
                          accelerator=accelerator) as one:
            one.wait_ready()
            end = time.monotonic() + 30
            while not node.vgpu("refused")["vm_refusal"]:
                assert time.monotonic() < end, node.vgpu("refused")
                time.sleep(0.2)
    finally:
        meminfo.write_text(was)
    why = node.vgpu("refused")["vm_refusal"]
    assert "over-commit is on" in why and "the node has 300 MiB available" in why
