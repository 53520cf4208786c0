# SPDX-License-Identifier: Apache-2.0
"""Negative controls: a part of the state that is not loaded is missed by the comparison.

VGPU_DROP_SECTION=NAME makes a device process that loads an image pass over such sections
(protocol/state.h has the names).
"""
import pytest

import glstate
import node as node_module

# Which series is bound to miss it.
SECTIONS = {
    "CLIENT": "blend", "RESOURCE": "blend,mip", "CONTENT": "blend,z24x8,ssbo",
    "CONTEXT": "blend", "OBJECTS": "blend,ubo", "QUERIES": "query-open,query-condition",
    "BINDINGS": "blend,ubo", "STREAMOUT": "xfb-paused", "CONNECTION": "blend",
}


@pytest.mark.parametrize("name", SECTIONS)
def test_without_a_section_the_comparison_fails(programs, references, name):
    options = ["--only", SECTIONS[name], "--frames", 24, "--pace-ms", 20]
    reference = references.of(*options)
    with node_module.Node(environment={"VGPU_DROP_SECTION": name}) as node:
        node.create("a")
        with glstate.Run(node, "a", *options) as run:
            run.wait_frames(4)
            done = node.ctl("move", "a", "--gpu", "soft0", check=False)
            if done.returncode:
                return  # refused: the state is not whole, and that was noticed
            try:
                lines = run.finish(15)
            except AssertionError:
                return  # the client itself could not go on
            with pytest.raises(glstate.Lost):
                glstate.compare(reference, lines)
