# SPDX-License-Identifier: Apache-2.0
"""The guest's first file system: busybox, the modules and one script, as a newc archive."""
from pathlib import Path

import cache

HERE = Path(__file__).resolve().parent


def _entry(name, mode, data=b"", inode=0):
    name = name.encode() + b"\0"
    fields = [inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def pack(files, folders):
    """files: {name: (mode, bytes)}."""
    out = [_entry(name, 0o040755, inode=i + 1) for i, name in enumerate(folders)]
    out += [_entry(name, 0o100000 | mode, data, 1000 + i)
            for i, (name, (mode, data)) in enumerate(files.items())]
    return b"".join(out) + _entry("TRAILER!!!", 0)


def busybox():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if Path(path).exists():
            return Path(path)
    raise RuntimeError("no busybox here: install busybox-static")


def prepare(kernel):
    """The path of the archive for the kernel folder of kernel.prepare()."""
    script = HERE / "guest" / "early.sh"

    def make(folder):
        files = {"init": (0o755, script.read_bytes()),
                 "bin/busybox": (0o755, busybox().read_bytes())}
        for module in sorted((kernel / "modules").iterdir()):
            files[f"modules/{module.name}"] = (0o644, module.read_bytes())
        folders = ["bin", "dev", "proc", "sys", "modules", "lower", "upper", "newroot"]
        (folder / "initrd").write_bytes(pack(files, folders))

    stamp = cache.digest(script.read_text(), busybox(), (kernel / "release").read_text(),
                         kernel / "vmlinux")
    return cache.build("initrd", stamp, make) / "initrd"
