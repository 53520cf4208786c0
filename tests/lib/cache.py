# SPDX-License-Identifier: Apache-2.0
"""Where prepared things live, and how they are rebuilt only when what they are made from changed.

A cached thing is a folder with a stamp beside it. The stamp is a hash of the inputs; it is written
last, so a build that was cut off is done again. One builder at a time, by a lock file.
"""
import contextlib
import fcntl
import hashlib
import os
import shutil
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("VGPUD_BUILD", SOURCE / "build")).resolve()
CACHE = Path(os.environ.get("VGPUD_CACHE", BUILD / "cache")).resolve()


def digest(*inputs):
    """A hash over texts and, for existing paths, their size and time."""
    total = hashlib.sha256()
    for one in inputs:
        if isinstance(one, Path) and one.exists():
            stat = one.stat()
            one = f"{one} {stat.st_size} {stat.st_mtime_ns}"
        total.update(str(one).encode() + b"\0")
    return total.hexdigest()


@contextlib.contextmanager
def lock(name):
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build(name, stamp, make):
    """The folder CACHE/name, made by make(folder) unless it was made for the same stamp already."""
    folder, mark = CACHE / name, CACHE / f"{name}.stamp"
    with lock(name):
        if folder.exists() and mark.exists() and mark.read_text() == stamp:
            return folder
        mark.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(folder)
        mark.write_text(stamp)
    return folder
