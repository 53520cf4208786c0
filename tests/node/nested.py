# SPDX-License-Identifier: Apache-2.0
"""A QEMU inside the node, which has one of its functions by vfio-pci: a VM's view of what was given
to it, without a guest. Its devices are asked by qtest, QEMU's own line protocol: the machine never
runs, and each command is one access of its processor."""
import re

SLOT = 4
WINDOW = 0xe0000000  # where a BAR is put; q35 has nothing there

SHELL = """
# nested NAME ADDRESS [OPTION...]: qtest commands on standard input; answers as "NAME: OK ...".
nested() {{
  name=$1 device=$2
  shift 2
  (cat; echo outl 0xf4 0) | timeout -s KILL 60 env {environment} {binary} {data} \\
    -M q35 -accel tcg -S -m 64 -nodefaults -vga none -display none -qtest stdio \\
    -device isa-debug-exit,iobase=0xf4,iosize=4 "$@" \\
    -device vfio-pci,host=$device,addr={slot},romfile= 2>&1 | sed "/^\\[/d; s/^/$name: /"
}}
"""


def shell(machine):
    """The shell function `nested`, for scripts that this HostNode runs."""
    qemu = machine.qemu
    library_path = qemu.environment().get("LD_LIBRARY_PATH")
    return SHELL.format(
        environment=f"LD_LIBRARY_PATH={library_path}" if qemu.prefix else "",
        binary=qemu.binary, data=" ".join(map(str, qemu.data_arguments())), slot=SLOT)


def config(register):
    """Its configuration space: the address; inl or outl of 0xcfc follows."""
    return f"outl 0xcf8 {0x80000000 | SLOT << 11 | register:#x}\n"


IDENTITY = config(0) + "inl 0xcfc\n" + config(8) + "inl 0xcfc\n"  # device and vendor; class
# BAR 0 at WINDOW, and decoding of memory.
MAP = config(0x10) + f"outl 0xcfc {WINDOW:#x}\n" + config(4) + "outl 0xcfc 0x2\n"


def write(offset, data):
    return f"write {WINDOW + offset:#x} {len(data)} 0x{data.hex()}\n"


def read(offset, size):
    return f"read {WINDOW + offset:#x} {size}\n"


def answers(lines, name):
    """What it answered where an answer has a value, as hex digits; RuntimeError: it complained."""
    mine = [line.removeprefix(name + ": ") for line in lines if line.startswith(name + ": ")]
    bad = [line for line in mine if not line.startswith("OK") and line]
    if bad or not mine:
        raise RuntimeError(f"the nested QEMU {name} says {bad}")
    return [found.group(1) for found in (re.match(r"OK 0x([0-9a-f]+)", x) for x in mine) if found]
