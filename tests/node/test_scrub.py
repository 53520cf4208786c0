# SPDX-License-Identifier: Apache-2.0
"""What happens to a GPU between two tenants, by a real kernel: its memory outlives a reset and not
a scrub; who has it open is not disturbed; errors of its link and requests to give it back arrive;
and a QEMU in the node sees what is given to it."""
import errno

import hostnode
import nested
import pytest
from hostnode import answers
from machines import Boot

BOCHS, VGA, VIRTIO, ATI = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:00:05.0"
SECRET = "what-A-drew"
WINDOW = 16 << 20
AER = [word.replace("virtio-gpu-pci,", "virtio-gpu-pci,aer=on,") for word in hostnode.DEVICES]

# `ask NAME PROGRAM...` prints "NAME {json}"; `held NAME ADDRESS SECONDS` leaves a holder behind,
# `ended NAME` waits for it; `until_event WORDS` for an event of vgpud.
PREAMBLE = """
cd /mnt
export VGPUD_SOCKET=/mnt/r/vgpud.sock
ask() { name=$1; shift; echo "$name $("$@" | grep '^{')"; }
held() {
  vfio_client $2 hold $3 >/mnt/$1 &
  holder=$!
  for i in $(seq 100); do grep -q holding /mnt/$1 && return; sleep 0.1; done
}
ended() { wait $holder; echo "$1 $(grep '^{' /mnt/$1)"; }
until_event() { for i in $(seq 100); do vgpuctl events | grep -q "$1" && return; sleep 0.1; done; }
""" + "".join(f"ask taken vfio_change take {a}\n" for a in (BOCHS, VGA, "0000:02:00.1", VIRTIO, ATI))

TENANTS = "".join(f"""
power=$(cat /sys/bus/pci/devices/{a}/power/control)
ask write-{a} vfio_client {a} write {SECRET}
ask reset-{a} between reset {a}
ask kept-{a} vfio_client {a} find {SECRET}
ask scrub-{a} between scrub {a}
ask find-{a} vfio_client {a} find {SECRET}
echo "power-{a} [\\"$power\\", \\"$(cat /sys/bus/pci/devices/{a}/power/control)\\"]"
""" for a in (BOCHS, VGA, ATI, VIRTIO)) + f"ask larger between scrub {BOCHS} 24\n"

# A tenant writes before and another reads after, both as VMs; and a function nobody has.
NESTED = f"""
nested a {BOCHS} <<'END'
{nested.IDENTITY}{nested.MAP}{nested.write(0x123456, b"drawn by a VM")}END
nested b {BOCHS} <<'END'
{nested.MAP}{nested.read(0x123456, 13)}END
ask scrubbed between scrub {BOCHS}
nested c {BOCHS} <<'END'
{nested.MAP}{nested.read(0x123456, 13)}END
echo 0000:00:05.0 > /sys/bus/pci/drivers/vfio-pci/unbind
ask nobodys between scrub {ATI}
ask nobodys-reset between reset {ATI}
ask given vfio_change give 0000:02:00.1
ask reset-held-other between reset {VGA}
"""

EVENTS = f"""
printf '[node]\\nstandby = 0\\n' >/mnt/conf
vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s 2>/mnt/log &
for i in $(seq 200); do [ -S $VGPUD_SOCKET ] && break; sleep 0.05; done
held fatal {VIRTIO} 3
ask reset-held between reset {VIRTIO}
ask scrub-held between scrub {VIRTIO}
echo "@monitor pcie_aer_inject_error gpu3 MALF_TLP"
ended fatal
until_event "recovered"
echo "@monitor pcie_aer_inject_error gpu3 POISON_TLP"
until_event "non-fatal"
ask aer between aer {VIRTIO}
held pulled {BOCHS} 20
echo "@monitor device_del gpu1"
ended pulled
until_event "gone from this node"
ask gone between scrub {BOCHS}
echo "events $(vgpuctl --json events | tr -d '\\n')"
"""

# With ACPI hot-plug the port's link stays down after a reset of its bus.
NO_RESET = f"""
echo bus > /sys/bus/pci/devices/{VIRTIO}/reset_method
ask bus between reset {VIRTIO}
echo flr > /sys/bus/pci/devices/{VIRTIO}/reset_method
ask flr between reset {VIRTIO}
"""

BOOTS = {
    "lines": lambda node: Boot(PREAMBLE + nested.shell(node) + TENANTS + NESTED + EVENTS, gpus=AER,
                               cpus=1),
    "no_reset": lambda node: Boot(PREAMBLE + NO_RESET, acpi_hotplug=True, cpus=1),
}


@pytest.fixture(scope="module")
def lines(printed):
    return printed("lines")


@pytest.fixture(scope="module")
def no_reset(printed):
    return answers(printed("no_reset"))


@pytest.fixture(scope="module")
def seen(lines):
    return answers(lines)


@pytest.mark.parametrize("address", [BOCHS, VGA, ATI])
def test_memory_outlives_a_reset_and_no_scrub(seen, address):
    assert seen["write-" + address]["written"] == WINDOW
    drawn = WINDOW // len(SECRET)
    assert seen["kept-" + address]["found"] == drawn  # else the test below would prove nothing
    scrub = seen["scrub-" + address]
    assert (scrub["code"], scrub["verdict"], scrub["text"]) == (0, "clean", "")
    assert scrub["scrubbed"] == scrub["window"] == WINDOW and scrub["bad"] == 0
    assert seen["find-" + address]["found"] == 0


@pytest.mark.parametrize("address", [BOCHS, VGA, ATI])
def test_it_sleeps_as_it_slept(seen, address):
    before, after = seen["power-" + address]
    assert before == after == "auto"


def test_one_without_memory_of_its_own(seen):
    scrub = seen["scrub-" + VIRTIO]
    assert (scrub["verdict"], scrub["bar"], scrub["scrubbed"]) == ("clean", -1, 0)


def test_memory_beyond_the_window(seen):
    larger = seen["larger"]
    assert (larger["verdict"], larger["scrubbed"], larger["unreached"]) == (
        "partial", WINDOW, 8 << 20)
    assert "8 MiB of its memory are not emptied" in larger["text"]


def test_resets(seen):
    assert (seen["reset-" + BOCHS]["code"], seen["reset-" + BOCHS]["methods"]) == (0, "bus")
    assert seen["reset-" + VIRTIO]["code"] == 0 and seen["reset-" + VIRTIO]["answers"]
    # Two functions of one card, of which neither can be reset alone.
    both = seen["reset-" + VGA]
    assert (both["code"], both["others"], both["touched"]) == (0, 1, True)
    assert seen["reset-held-other"]["together"] == -errno.EPERM
    assert "only together with 0000:02:00.1, and VFIO has not all of them" in (
        seen["reset-held-other"]["text"])
    # Alone on no bus, and without a way of its own.
    assert seen["reset-" + ATI]["code"] == -errno.ENOENT
    assert "no way to be reset" in seen["reset-" + ATI]["text"]


def test_a_vm_sees_what_is_given_to_it(seen, lines):
    identity = nested.answers(lines, "a")
    assert int(identity[0], 16) == 0x11111234 and int(identity[1], 16) >> 16 == 0x0380
    assert bytes.fromhex(nested.answers(lines, "b")[-1]) == b"drawn by a VM"
    assert seen["scrubbed"]["verdict"] == "clean"
    assert bytes.fromhex(nested.answers(lines, "c")[-1]) == bytes(13)


def test_one_that_no_driver_has(seen):
    assert (seen["nobodys"]["verdict"], seen["nobodys"]["scrubbed"]) == ("clean", WINDOW)
    assert seen["nobodys-reset"]["code"] == -errno.ENOENT


def test_refused_while_somebody_has_it_open(seen):
    for name in ("reset-held", "scrub-held"):
        assert seen[name]["code"] == -errno.EBUSY
        assert "(vfio_client) has /dev/vfio/" in seen[name]["text"]


def test_errors_of_the_link(seen):
    assert seen["fatal"]["err"] == 1 and seen["fatal"]["req"] == 0
    errors = [e["text"] for e in seen["events"] if "PCIe error" in e["text"]]
    assert errors[:2] == ["gpu-03:00.0: PCIe error: recovery begins: 1 fatal error (on its link)",
                          "gpu-03:00.0: PCIe error: recovered"]
    assert "gpu-03:00.0: PCIe error: recovery begins: 1 non-fatal error (TLP)" in errors
    assert "1 non-fatal error (TLP)" in seen["aer"]["text"]


def test_one_that_is_pulled(seen):
    assert seen["pulled"]["req"] == 1
    assert any("gpu-01:00.0: the GPU is gone" in e["text"] for e in seen["events"])
    assert seen["gone"]["code"] == -errno.ENODEV and "not on this node" in seen["gone"]["text"]


def test_a_reset_that_fails(no_reset):
    assert no_reset["bus"]["code"] == -errno.ENOTTY and no_reset["bus"]["took_ms"] >= 1000
    assert "it was reset (bus) and did not come back in time" in no_reset["bus"]["text"]
    assert no_reset["flr"]["code"] == 0 and no_reset["flr"]["answers"]
