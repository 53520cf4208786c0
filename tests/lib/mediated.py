# SPDX-License-Identifier: Apache-2.0
"""The kernel's own samples of mediated devices (mbochs, mdpy, mtty), built for the node's kernel from
the distribution's source package, against its headers, in a private folder."""
import re
import shutil
import subprocess

import apt
import cache

SAMPLES = ["mbochs", "mdpy", "mtty"]


def _relocate(tree):
    """The headers' Makefiles name each other by where the packages would be installed."""
    for path in tree.glob("usr/src/linux-headers-*/*"):
        if path.is_file() and path.name in ("Makefile", ".kernelvariables"):
            text = path.read_text()
            path.write_text(re.sub(r"(?<![\w.])/usr/(src|lib)/linux-", rf"{tree}/usr/\1/linux-", text))


def _build(archive, release, raw):
    series = ".".join(release.split(".")[:2])
    package = f"linux-headers-{release}"
    common = next(name for name in archive.depends(package) if name.endswith("-common"))
    for name in (package, common, f"linux-kbuild-{series}", f"linux-source-{series}"):
        archive.unpack(name, raw)
    _relocate(raw)
    packed = next((raw / "usr/src").glob("linux-source-*.tar.xz"))
    inside = f"{packed.name.removesuffix('.tar.xz')}/samples/vfio-mdev"
    subprocess.run(["tar", "-xJf", packed, "-C", raw, inside], check=True, timeout=300)
    samples = raw / inside
    (samples / "Makefile").write_text(
        "".join(f"obj-m += {name}.o\n" for name in SAMPLES))
    done = subprocess.run(
        ["make", "-C", raw / "usr/src" / package, f"M={samples}", "modules",
         "CONFIG_DEBUG_INFO_BTF_MODULES="],  # it would take pahole, and nothing here reads it
        capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"the samples do not build: {(done.stdout + done.stderr)[-1500:]}")
    return samples


def prepare(release, say=print):
    """A folder with the modules, for the kernel of that release."""
    def make(folder):
        archive = apt.Apt()
        archive.update()
        say("fetching the kernel's source and headers (about 150 MB)")
        raw = folder / "raw"
        samples = _build(archive, release, raw)
        for name in SAMPLES:
            shutil.copy(samples / f"{name}.ko", folder)
        shutil.rmtree(raw)

    return cache.build("node-mediated", cache.digest(release, *SAMPLES), make)
