# SPDX-License-Identifier: Apache-2.0
"""A new vGPU answers soon: real device processes, started by vgpud as everywhere."""
import statistics
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import node as node_module  # noqa: E402  (found through the path set above)

ROUNDS = 5
# A slip of any size, on any machine, beside other work. The target of 200 ms is the benchmark's to
# measure, on a quiet one: ./dev bench create --check
LIMIT_S = 1.0


@pytest.mark.skipif(bool(node_module.missing_programs()), reason="programs are not built")
def test_create_to_first_answer(capsys):
    with node_module.Node() as node:
        type_name = node.type_for(1)
        times = []
        for _ in range(ROUNDS):
            times.append(node.first_answer_s("a", type_name))
            node.ctl("delete", "a", "--force")
    median = statistics.median(times)
    with capsys.disabled():
        print(f"create to first answer: median {median * 1000:.0f} ms of {ROUNDS}")
    assert median < LIMIT_S, times
