#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the cases of JUnit files: prints "PASSED FAILED SKIPPED"; names failures on stderr.

Usage: junit_count.py SUITE FILE...   A missing file counts as one failure: its runner died.
"""

import os
import sys
import xml.etree.ElementTree as ElementTree


def reason(case, skip):
    """pytest says why in the element; of a C test it is the last line that the case printed."""
    said = skip.get("message") or skip.text or case.findtext("system-out") or ""
    lines = [line.lstrip("# ").strip() for line in said.splitlines()]
    return next((line for line in reversed(lines) if line and not line.startswith("ok ")),
                "it does not say why")


def count(suite, path):
    if not os.path.exists(path):
        print(f"{suite}: FAILED: no result file: its runner did not finish", file=sys.stderr)
        return 0, 1, 0
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).iter("testcase"):
        name = f"{suite}: {case.get('classname', '')} {case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            print(f"{name}: FAILED", file=sys.stderr)
        elif skip is not None:
            skipped += 1
            print(f"{name}: skipped: {reason(case, skip)}", file=sys.stderr)
        else:
            passed += 1
    if passed + failed + skipped == 0:
        print(f"{suite}: FAILED: it ran no test", file=sys.stderr)
        failed = 1
    return passed, failed, skipped


def main():
    totals = [0, 0, 0]
    for path in sys.argv[2:]:
        totals = [a + b for a, b in zip(totals, count(sys.argv[1], path))]
    print(*totals)


if __name__ == "__main__":
    main()
