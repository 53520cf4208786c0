# SPDX-License-Identifier: Apache-2.0
"""A guest program that takes more than its vGPU's VRAM gets an error or ends within 5 s, and the
other programs on that vGPU go on."""
import pytest

NAME = "small"
LIMIT_S = 5


@pytest.fixture(scope="module")
def machine(node, boot):
    smallest = min(node.json("type", "list", "soft0"), key=lambda one: one["vram_mib"])
    node.create(NAME, type_name=smallest["name"])
    return boot(NAME, memory_mib=1024)


def test_within_quota_nothing_is_refused(machine, node):
    """The control: the same program inside the limits succeeds."""
    status, output = machine.run("hog 16", 30)
    assert status == 0 and "took all" in output and "virgl" in output, output


@pytest.mark.parametrize("way", ["", "query"])
def test_over_quota_ends_and_others_go_on(machine, node, way):
    """"": the program looks at what it drew; query: it waits for a query's result."""
    limit_mib = node.vgpu(NAME)["vram_mib"]
    other = machine.spawn("exec scene --seconds 300 --mode 640x480 --expect-renderer virgl")
    other.wait_output("frames ", 30)
    hog = machine.spawn(f"exec hog {limit_mib * 2} 60 {way}")
    # Up to here it may take what it takes; the limit is then at most three textures away.
    hog.wait_output(f"took {limit_mib - 48} MiB", 60)
    status = hog.wait(LIMIT_S)
    assert status == 4, f"the program over quota noticed nothing: {hog.output()[-300:]}"
    assert node.vgpu(NAME)["vram_used_mib"] <= limit_mib
    before = len(other.lines())
    machine.until(lambda: len(other.lines()) >= before + 3, 20, "the other program to go on")
    assert not other.done(), other.output()[-400:]
    other.kill()


def test_memory_comes_back(machine):
    status, output = machine.run("hog 16", 30)
    assert status == 0 and "took all" in output, output
