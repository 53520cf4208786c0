# SPDX-License-Identifier: Apache-2.0
"""Rule 4 by a real kernel: KSM merges what it merges and nothing else, guest memory is locked on its
pages, huge pages are too, and who may not switch is told so."""
from pathlib import Path

import pytest
from hostnode import answers
from machines import Boot

PAGES = Path(__file__).resolve().parent / "memory_pages.py"

SCRIPT = f"""
export VGPUD_SOCKET=/mnt/r/vgpud.sock
printf '[node]\\nstandby = 0\\nrenderer = null\\nlockdown = off\\nmin_free_mib = 64\\nsoft_vram_mib = 256\\n' >/mnt/conf
vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s 2>/mnt/log &
for i in $(seq 200); do [ -S $VGPUD_SOCKET ] && break; sleep 0.05; done
node() {{ echo "$1 $(vgpuctl --json node show | tr -d '\\n')"; }}
said() {{ echo "$1 [\\"$(cat)\\"]"; }}
pages={PAGES}
vgpuctl create a --gpu soft0 --type soft0-64
node before
echo "open $($pages vm a memfd 64)"
vgpuctl node overcommit on | said said_on
node on
sleep 1000 | $pages merge shared 8 2 >/mnt/shared &
while [ ! -s /mnt/shared ]; do sleep 0.2; done
node shared
mkfifo /mnt/go
$pages merge private 8 30 </mnt/go >/mnt/private &
exec 8>/mnt/go
while [ ! -s /mnt/private ]; do sleep 0.2; done
node merged
vgpuctl node show >/mnt/table
echo "table [\\"$(grep -c 'never merged' /mnt/table)\\"]"
echo "locked $($pages vm a memfd 64)"
echo "none $($pages vm a huge 8)"
echo 8 >/proc/sys/vm/nr_hugepages
echo "huge $($pages vm a huge 8)"
mount -o remount,ro,bind /sys
vgpuctl node overcommit off 2>&1 | said readonly
mount -o remount,rw,bind /sys
vgpuctl node overcommit off | said said_off
node off
exec 8>&-
vgpuctl node overcommit on | said said_again
echo 0 >/sys/kernel/mm/ksm/run
node byhand
vgpuctl node overcommit off | said said_end
node end
mkdir /mnt/u && chown 65534:65534 /mnt/u
export HOME=/mnt/u VGPUD_SOCKET=/mnt/u/r/vgpud.sock
setpriv --reuid=65534 --regid=65534 --clear-groups vgpud --config /mnt/conf --run-dir /mnt/u/r \\
  --state-dir /mnt/u/s 2>/mnt/u/log &
for i in $(seq 200); do [ -S $VGPUD_SOCKET ] && break; sleep 0.05; done
setpriv --reuid=65534 --regid=65534 --clear-groups vgpuctl node overcommit on 2>&1 | said user
kill $(jobs -p) 2>/dev/null
"""

BOOTS = {"seen": lambda node: Boot(SCRIPT, limit_s=240)}


@pytest.fixture(scope="module")
def seen(printed):
    return answers(printed("seen"))


def test_only_private_memory_is_merged(seen):
    assert seen["before"]["overcommit"] == "off" and not seen["before"]["ksm"]["running"]
    assert "over-commit is on: KSM runs; 0 VMs" in seen["said_on"][0]
    assert seen["shared"]["ksm"]["running"] and seen["shared"]["ksm"]["pages_sharing"] == 0
    merged = seen["merged"]
    assert merged["ksm"]["pages_sharing"] >= 1024 and merged["merged_mib"] >= 4
    assert merged["ksm"]["pages_shared"] <= 64
    assert seen["table"] == ["1"]


def test_off_unmerges(seen):
    assert "KSM is stopped and unmerged" in seen["said_off"][0]
    off = seen["off"]
    assert off["overcommit"] == "off" and off["merged_mib"] == 0
    assert (off["ksm"]["run"], off["ksm"]["pages_shared"]) == (2, 0)


def test_memory_is_locked_on_its_pages(seen):
    assert seen["open"]["vm_memory_state"] == "free" and seen["open"]["resident_mib"] == 0
    locked = seen["locked"]
    assert locked["vm_memory_state"] == "locked" and locked["vm_memory_locked_mib"] == 64
    assert locked["resident_mib"] == 64 and locked["mlocked_mib"] >= 63
    assert locked["alive"]


def test_huge_pages(seen):
    assert "there are no huge pages for 8 of its 8 MiB" in seen["none"]["vm_refusal"]
    huge = seen["huge"]
    assert huge["vm_memory_state"] == "locked" and huge["resident_mib"] == 8 and huge["alive"]


def test_refusals(seen):
    assert "read-only" in seen["readonly"][0]
    assert "vgpud's user may not (run vgpud as root)" in seen["user"][0]


def test_by_hand(seen):
    assert seen["byhand"]["ksm"]["changed_by_hand"] and seen["byhand"]["overcommit"] == "on"
    assert "stopped by somebody else" in seen["said_end"][0]
    assert seen["end"]["overcommit"] == "off" and seen["end"]["ksm"]["run"] == 0
