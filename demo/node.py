# SPDX-License-Identifier: Apache-2.0
"""The demonstration of a node: vgpud in a machine that QEMU emulates, with an IOMMU, PCI GPUs of
several kinds and Debian's kernel. What it has, one GPU to a VM and back, a slice of another, what is
refused and why, and what would be advised.

    node.py [--keep FILE]

--keep also writes what is shown: docs/node-demo.txt is made so.
"""
import argparse
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(SOURCE / "tests" / "lib"), str(SOURCE / "tests" / "node")]

import cache  # noqa: E402  (found through the path set above)
import hostnode  # noqa: E402
import initrd  # noqa: E402
import mediated  # noqa: E402
import nested  # noqa: E402

BOCHS, CARD, ATI = "gpu-01:00.0", "gpu-02:00.0", "gpu-00:05.0"
ADDRESS = "0000:01:00.0"
SLICES = "mdev-mbochs"
LIMIT_S = 280

BEGIN = """
cd /mnt
export VGPUD_SOCKET=/mnt/r/vgpud.sock COLUMNS=100
printf '[node]\\nstandby = 0\\n[gpu {slices}]\\nmixed = no\\n' >/mnt/conf
{busybox} insmod {module}
vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s 2>/mnt/log &
for i in $(seq 200); do [ -S $VGPUD_SOCKET ] && break; sleep 0.05; done
title() {{ echo; echo "=== $*"; }}
run() {{ echo; echo "\\$ $*"; "$@" 2>&1; }}
driver() {{ basename $(readlink /sys/bus/pci/devices/$1/driver); }}
until_state() {{ for i in $(seq 100); do vgpuctl list | grep -q "$1" || return; sleep 0.1; done; }}
"""

STEPS = f"""
title "What the node has"
run vgpuctl gpu list
run vgpuctl gpu show {BOCHS}
run vgpuctl gpu show {ATI}

title "What is advised: the fastest for a Windows VM, two of them, and none of the hardware"
run vgpuctl advise --need performance --guest windows
run vgpuctl advise --need performance --guest windows --apply
run vgpuctl advise --need isolation --vms 2 --apply
run vgpuctl advise --need no-hardware --guest windows --apply

title "A GPU goes to a VM"
run driver {ADDRESS}
run vgpuctl create card --gpu {BOCHS} --method passthrough
run driver {ADDRESS}
run vgpuctl list
run vgpuctl qemu-args card
title "A QEMU inside the node has it: device and vendor, then its memory, written and read"
nested vm {ADDRESS} <<'END'
{nested.IDENTITY}{nested.MAP}{nested.write(0x1000, b"a secret")}{nested.read(0x1000, 8)}END

title "What is refused, and why (rules 1 to 3)"
run vgpuctl create second --gpu {BOCHS} --method passthrough
run vgpuctl create shared --gpu {BOCHS} --type {BOCHS}-8 --method forward
run vgpuctl create boot --gpu {ATI} --method passthrough
exec 9<>/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/{ADDRESS}/iommu_group))
run vgpuctl delete card
exec 9>&-

title "And back: its memory is emptied, its driver has it again"
run vgpuctl delete card
run driver {ADDRESS}
run vgpuctl gpu list

title "A slice: a mediated device of the kernel's own sample driver"
run vgpuctl gpu show {SLICES}
run vgpuctl type list {SLICES}
type=$(vgpuctl --json type list {SLICES} | sed -n 's/.*"name": "\\([^"]*\\)".*/\\1/p' | head -1)
run vgpuctl create slice --gpu {SLICES} --type $type --method mediate
run vgpuctl show slice
run vgpuctl qemu-args slice
run ls /sys/bus/mdev/devices
run vgpuctl delete slice
run ls /sys/bus/mdev/devices

title "What happened"
run vgpuctl events
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    machine = hostnode.HostNode()
    module = mediated.prepare(machine.kernel_release()) / "mbochs.ko"
    script = BEGIN.format(slices=SLICES, busybox=initrd.busybox(), module=module)
    lines = machine.run(script + nested.shell(machine) + STEPS, limit_s=LIMIT_S)
    text = "\n".join(lines).replace(str(cache.BUILD), "build").strip() + "\n"
    print(text, end="")
    if options.keep:
        options.keep.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
