#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Everything `./dev lint` checks, from the root of the tree.

    run.py [--build DIR] [--jobs N] [--all] [--fix]

clang-format, clang-tidy and cppcheck are asked again only about files that changed since they last
passed: a file's key covers its text, the text of every header of this tree it includes, the tool's
version and its configuration. --all forgets that. --fix lets clang-format rewrite files.
Ends with exit status 1 when anything was found.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import layering  # noqa: E402
import tree  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
SUPPRESSIONS = "tests/lint/cppcheck.txt"
TIDY_SECONDS = 240  # for one file


class Texts:
    """Hashes of files, headers included."""

    def __init__(self):
        self.parts = {}

    def read(self, path):
        if path not in self.parts:
            with open(path, "rb") as file:
                data = file.read()
            names = INCLUDE.findall(data.decode("utf-8", "replace"))
            self.parts[path] = hashlib.sha256(data).hexdigest(), names
        return self.parts[path]

    def closure(self, path, seen):
        if path in seen:
            return
        seen.add(path)
        for name in self.read(path)[1]:
            for base in (os.path.dirname(path), "src", "."):
                target = os.path.normpath(os.path.join(base, name))
                if os.path.isfile(target):
                    self.closure(target, seen)
                    break

    def key(self, path, *more):
        seen = set()
        self.closure(path, seen)
        parts = [self.read(file)[0] for file in sorted(seen)] + list(more)
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()


class Cache:
    """(tool, file) -> key of the last pass."""

    def __init__(self, path, forget):
        self.path = path
        self.passed = {}
        if not forget and os.path.exists(path):
            try:
                with open(path, encoding="utf-8") as file:
                    self.passed = json.load(file)
            except ValueError:
                pass  # cut off by a kill: start anew

    def has(self, tool, file, key):
        return self.passed.get(f"{tool} {file}") == key

    def add(self, tool, file, key):
        self.passed[f"{tool} {file}"] = key

    def save(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        temporary = self.path + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self.passed, file)
        os.replace(temporary, self.path)


def run(command, cwd=None, timeout=600):
    """(ok, output); a tool that hangs is a finding too."""
    try:
        done = subprocess.run(command, cwd=cwd, timeout=timeout, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except subprocess.TimeoutExpired:
        return False, f"{command[0]} took more than {timeout} s on {command[-1]}"
    return done.returncode == 0, done.stdout.decode("utf-8", "replace")


def version(tool):
    return run([tool, "--version"])[1]


def file_text(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def compile_entries(build):
    """Source file -> its compile command, for files of this tree (not generated ones)."""
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    found = {}
    for entry in entries:
        path = os.path.relpath(os.path.join(entry["directory"], entry["file"]), ROOT)
        if not path.startswith("..") and not path.startswith(os.path.relpath(build, ROOT) + "/"):
            found[path] = entry.get("command", "")
    return found


def lint_format(files, texts, cache, fix):
    config = version("clang-format") + file_text(".clang-format")
    keys = {file: texts.key(file, config) for file in files}
    changed = [file for file in files if not cache.has("format", file, keys[file])]
    if not changed:
        return []
    if fix:
        run(["clang-format", "-i", *changed])
        return []
    ok, output = run(["clang-format", "--dry-run", "-Werror", *changed])
    if not ok:
        return [output, "clang-format: `./dev lint --fix` rewrites these"]
    for file in changed:
        cache.add("format", file, keys[file])
    return []


def without_counts(output):
    noise = re.compile(r"^\d+ warnings? (generated|treated)|^Suppressed |^Use -header-filter")
    return "\n".join(line for line in output.splitlines() if not noise.match(line))


def lint_tidy(build, texts, cache, jobs):
    config = version("clang-tidy") + file_text(".clang-tidy")
    work = []
    for file, command in sorted(compile_entries(build).items()):
        key = texts.key(file, config, command)
        if not cache.has("tidy", file, key):
            work.append((file, key))
    findings = []

    def one(item):
        file, key = item
        ok, output = run(["clang-tidy", "--quiet", "-p", build, file], timeout=TIDY_SECONDS)
        return file, key, ok, output

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for file, key, ok, output in pool.map(one, work):
            if ok:
                cache.add("tidy", file, key)
            else:
                findings.append(without_counts(output))
    return findings


def lint_cppcheck(build, texts, cache, jobs):
    config = version("cppcheck") + file_text(SUPPRESSIONS)
    entries = compile_entries(build)
    key = hashlib.sha256("\n".join(
        texts.key(file, command, config) for file, command in sorted(entries.items())
    ).encode()).hexdigest()
    if cache.has("cppcheck", "tree", key):
        return []
    folder = os.path.join(build, "lint", "cppcheck")  # the tool's own cache, by file
    os.makedirs(folder, exist_ok=True)
    ok, output = run([
        "cppcheck", f"--project={build}/compile_commands.json",
        "--enable=warning,performance,portability,style", "--inline-suppr",
        f"--suppressions-list={SUPPRESSIONS}", "--error-exitcode=1", "--quiet", f"-j{jobs}",
        f"--cppcheck-build-dir={folder}"])
    if ok:
        cache.add("cppcheck", "tree", key)
    return [] if ok else [output]


def lint_tree():
    findings = tree.self_test()
    for path in tree.tree_files():
        findings += tree.check_file(path)
    return findings


def steps(arguments, c_files):
    texts, jobs = Texts(), arguments.jobs
    build = os.path.join(ROOT, arguments.build)
    cache = Cache(os.path.join(build, "lint", "cache.json"), arguments.all)
    yield "layering", [], lambda: layering.self_test() + layering.check_tree(".")
    yield "tree", [], lint_tree
    yield "clang-format", ["clang-format"], lambda: lint_format(c_files, texts, cache,
                                                                arguments.fix)
    yield "clang-tidy", ["clang-tidy"], lambda: lint_tidy(build, texts, cache, jobs)
    yield "cppcheck", ["cppcheck"], lambda: lint_cppcheck(build, texts, cache, jobs)
    yield "cache", [], lambda: cache.save() or []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build", help="folder with compile_commands.json")
    parser.add_argument("--jobs", type=int, default=max(1, min(os.cpu_count() or 1, 8)))
    parser.add_argument("--all", action="store_true", help="check unchanged files too")
    parser.add_argument("--fix", action="store_true", help="let clang-format rewrite files")
    arguments = parser.parse_args()

    os.chdir(ROOT)
    if not os.path.exists(os.path.join(arguments.build, "compile_commands.json")):
        print(f"lint: no {arguments.build}/compile_commands.json (run ./dev build first)")
        return 1
    c_files = [path for path in tree.tree_files() if path.endswith((".c", ".h"))]
    failed = []
    for name, tools, step in steps(arguments, c_files):
        missing = [tool for tool in tools if not shutil.which(tool)]
        start = time.monotonic()
        findings = [f"{tool} is not installed (run ./dev setup)" for tool in missing] or step()
        for finding in findings:
            print(finding.rstrip())
        if findings:
            failed.append(name)
        if name != "cache":
            print(f"lint: {name}: {'FAILED' if findings else 'ok'} "
                  f"({time.monotonic() - start:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
