# SPDX-License-Identifier: Apache-2.0
"""The guest's kernel: Debian's own, as an uncompressed vmlinux (QEMU starts that directly by PVH,
which saves seconds under TCG), and the few modules a guest needs, in loading order."""
import bz2
import gzip
import lzma
import re
import shutil
import subprocess
import zlib

import apt
import cache

WANTED = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "virtio_gpu"]

# Magic, and how to undo it. Order does not matter: the first place that gives an ELF file wins.
PACKINGS = [
    (b"\x1f\x8b\x08", lambda data: zlib.decompressobj(31).decompress(data)),
    (b"\xfd7zXZ\x00", lambda data: lzma.LZMADecompressor().decompress(data)),
    (b"BZh", lambda data: bz2.BZ2Decompressor().decompress(data)),
    (b"\x28\xb5\x2f\xfd", lambda data: _zstd(data)),
    (b"\x5d\x00\x00", lambda data: lzma.LZMADecompressor(lzma.FORMAT_ALONE).decompress(data)),
    (b"\x02\x21\x4c\x18", lambda data: _lz4(data)),
]


def _zstd(data):
    # Trailing bytes after the frame make zstd fail at the end; what came out before is whole.
    return subprocess.run(["zstd", "-dcq"], input=data, capture_output=True, timeout=60).stdout


def _lz4(data):
    return subprocess.run(["lz4", "-dcq"], input=data, capture_output=True, timeout=60).stdout


def extract_vmlinux(image):
    for magic, unpack in PACKINGS:
        at = image.find(magic)
        while at >= 0:
            try:
                data = unpack(image[at:])
            except (zlib.error, lzma.LZMAError, OSError, FileNotFoundError, EOFError):
                data = b""
            if data.startswith(b"\x7fELF"):
                return data
            at = image.find(magic, at + 1)
    raise RuntimeError("no vmlinux found inside vmlinuz")


def _open_module(path):
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".zst":
        return _zstd(data)
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _pack_modules(tree, into, wanted):
    """Writes NN-name.ko in loading order; what is built in is simply not found as a file."""
    files = {}
    for path in tree.rglob("*.ko*"):
        files[path.name.split(".ko")[0].replace("-", "_")] = path
    order = []

    def visit(name):
        if name in order or name not in files:
            return
        data = _open_module(files[name])
        for needed in re.findall(rb"\0depends=([^\0]*)", data):
            for one in needed.decode().split(","):
                visit(one.replace("-", "_"))
        order.append(name)
        (into / f"{len(order):02}-{name}.ko").write_bytes(data)

    for name in wanted:
        visit(name)
    if "virtio_gpu" not in order:
        raise RuntimeError("this kernel has no virtio-gpu module")


def prepare(say=print, wanted=WANTED, name="kernel"):
    """A folder with vmlinux, release and modules/: those wanted, and what they need."""
    codename = apt.codename()

    def make(folder):
        archive = apt.Apt()
        archive.update()
        package = next(name for name in archive.depends("linux-image-amd64")
                       if name.startswith("linux-image-"))
        say(f"fetching {package} (about 70 MB)")
        raw = folder / "raw"
        archive.unpack(package, raw)
        image = next((raw / "boot").glob("vmlinuz-*"))
        (folder / "release").write_text(image.name.removeprefix("vmlinuz-"))
        (folder / "vmlinux").write_bytes(extract_vmlinux(image.read_bytes()))
        (folder / "modules").mkdir()
        tree = raw / "usr/lib/modules"
        _pack_modules(tree if tree.exists() else raw / "lib/modules", folder / "modules", wanted)
        shutil.rmtree(raw)

    return cache.build(name, cache.digest(codename, *wanted), make)
