# SPDX-License-Identifier: Apache-2.0
"""The client itself: two runs agree, and a run that lost something is seen to differ."""
import pytest

import glstate
from conftest import FEW


def test_two_runs_agree(shared_node, references, vgpu):
    with glstate.Run(shared_node, vgpu) as run:
        glstate.compare(references.of(), run.finish())


def test_every_frame_of_every_series_is_there(references):
    lines = references.of()
    series = {line.split()[2] for line in lines if line.startswith("frame ")}
    assert len(series) > 30
    assert sum(line.startswith("frame ") for line in lines) == 18 * len(series)


@pytest.mark.parametrize("contexts", [3, 7])
def test_other_numbers_of_contexts(shared_node, references, vgpu, contexts):
    options = [*FEW, "--contexts", contexts, "--frames", 6]
    with glstate.Run(shared_node, vgpu, *options) as run:
        glstate.compare(references.of(*options), run.finish())


def test_a_wrong_hash_is_noticed(references):
    lines = references.of()
    at = next(i for i, line in enumerate(lines) if line.startswith("frame 7 z24x8 "))
    for wrong in (lines[:at] + ["frame 7 z24x8 0000000000000000"] + lines[at + 1:],
                  lines[:at] + lines[at + 1:]):
        with pytest.raises(glstate.Lost, match="z24x8: 1 frames, first 7"):
            glstate.compare(lines, wrong)
