# SPDX-License-Identifier: Apache-2.0
"""Everything a guest is started from: QEMU, kernel, initrd and root.

    guest.py build     prepare all of it under build/cache (or $VGPUD_CACHE); quick when done before
"""
import sys
import time

import initrd
import kernel
import qemu
import rootfs


class Guest:
    def __init__(self, say=print):
        self.qemu = qemu.prepare(say)
        self.kernel = kernel.prepare(say)
        self.vmlinux = self.kernel / "vmlinux"
        self.initrd = initrd.prepare(self.kernel)
        self.root = rootfs.prepare()


def main(arguments):
    if arguments != ["build"]:
        print(__doc__, file=sys.stderr)
        return 2
    start = time.monotonic()
    guest = Guest()
    version = ".".join(map(str, guest.qemu.version()))
    release = (guest.kernel / "release").read_text()
    names = " ".join(client.name for client in rootfs.clients()) or "none built"
    print(f"guest ready: QEMU {version} ({guest.qemu.binary}), Linux {release}, "
          f"root {rootfs.size_mib(guest.root)} MiB, clients: {names} "
          f"({time.monotonic() - start:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
