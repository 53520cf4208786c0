# SPDX-License-Identifier: Apache-2.0
"""Debian packages into a private folder, leaving the system's sources, lists and packages alone.

The mirror is the one the system's apt is set up for. Works as root and as an ordinary user.
"""
import os
import re
import subprocess

import cache

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def codename():
    with open("/etc/os-release") as handle:
        found = re.search(r'^VERSION_CODENAME="?(\w+)', handle.read(), re.M)
    return found.group(1) if found else "bookworm"


def indexes():
    """(uri, suite) of every Debian index with the component main that the system's apt uses."""
    text = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages"], capture_output=True, text=True, timeout=60, check=True).stdout
    name = codename()
    rows = [line.split() for line in text.splitlines()]
    found = {(row[0], row[1]) for row in rows if len(row) == 3 and row[2] == "main" and
             row[1].startswith((name, "stable"))}
    if not found:
        raise RuntimeError(f"apt knows no archive of {name} (run `apt-get update`, see sources.list(5))")
    return sorted(found)


class Apt:
    """A private view of the archive: the system's suites plus, when asked, its backports."""

    def __init__(self, backports=False):
        self.codename = codename()
        self.folder = cache.CACHE / "apt" / (self.codename + ("-backports" if backports else ""))
        self.suites = indexes()
        self.target = ["-t", f"{self.codename}-backports"] if backports else []
        if backports:
            base = next((uri for uri, suite in self.suites if suite in (self.codename, "stable")),
                        self.suites[0][0])
            self.suites.append((base, f"{self.codename}-backports"))
        for sub in ("lists/partial", "archives/partial", "parts"):
            (self.folder / sub).mkdir(parents=True, exist_ok=True)
        signed = f" [signed-by={KEYRING}]" if os.path.exists(KEYRING) else ""
        (self.folder / "sources.list").write_text(
            "".join(f"deb{signed} {uri} {suite} main\n" for uri, suite in self.suites))

    def _run(self, *args, timeout=600, program="apt-get"):
        options = {
            "Dir::Etc::sourcelist": self.folder / "sources.list",
            "Dir::Etc::sourceparts": self.folder / "parts",
            "Dir::State::lists": self.folder / "lists",
            "Dir::Cache::archives": self.folder / "archives",
            "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
            "Debug::NoLocking": "1", "APT::Sandbox::User": "", "Acquire::Retries": "3",
            "Acquire::http::Timeout": "30",
        }
        command = [program]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        done = subprocess.run(command + list(args), capture_output=True, text=True,
                              timeout=timeout, cwd=self.folder / "archives")
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(args)} failed: {done.stderr.strip()[-600:]}")
        return done.stdout

    def update(self):
        self._run("update", "-q")

    def depends(self, package):
        text = self._run("depends", "--important", package, program="apt-cache")
        return re.findall(r"Depends: (\S+)", text)

    def _unpack(self, archives, into):
        for archive in archives:
            subprocess.run(["dpkg", "-x", str(archive), str(into)], check=True, timeout=300)
            archive.unlink()

    def unpack(self, package, into):
        """This package alone."""
        folder = self.folder / "archives"
        for old in folder.glob("*.deb"):
            old.unlink()
        self._run("download", "-q", *self.target, package)
        self._unpack(sorted(folder.glob("*.deb")), into)

    def unpack_missing(self, packages, into):
        """These packages and whatever of their dependencies this machine lacks."""
        folder = self.folder / "archives"
        for old in folder.glob("*.deb"):
            old.unlink()
        self._run("install", "-q", "-y", "--no-install-recommends", "--download-only",
                  "--reinstall", *self.target, *packages)
        self._unpack(sorted(folder.glob("*.deb")), into)
