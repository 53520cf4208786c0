#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the cases of JUnit files: prints "PASSED FAILED SKIPPED"; names failures on stderr.

Usage: junit_count.py SUITE FILE...   A missing file counts as one failure: its runner died.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def reason(output, case, skip):
    """pytest says why in the element; a C test on the line before the result (TAP)."""
    number = case.get("name", "").split(" ")[0]
    result = re.search(rf"^(.*)\n(?:not )?ok {re.escape(number)} # SKIP", output, re.M)
    said = skip.get("message") or skip.text or (result and result.group(1)) or ""
    return "it does not say why" if not said or re.match(r"(not )?ok ", said) else said.lstrip("# ")


def count(suite, path):
    if not os.path.exists(path):
        print(f"{suite}: FAILED: no result file: its runner did not finish", file=sys.stderr)
        return 0, 1, 0
    passed = failed = skipped = 0
    tree = ElementTree.parse(path)
    cases = [(group.findtext("system-out") or "", case)
             for group in tree.iter("testsuite") for case in group.iterfind("testcase")]
    for output, case in cases:
        name = f"{suite}: {case.get('classname', '')} {case.get('name')}"
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
            print(f"{name}: FAILED", file=sys.stderr)
        elif skip is not None:
            skipped += 1
            print(f"{name}: skipped: {reason(output, case, skip)}", file=sys.stderr)
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
