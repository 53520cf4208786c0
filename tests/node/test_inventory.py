# SPDX-License-Identifier: Apache-2.0
"""The inventory of a node with a real kernel: what is there, what it can do, who holds it, what
comes and goes."""
import hostnode
import pytest
from hostnode import answers
from machines import Boot

BOCHS, VGA, VIRTIO, ATI = "gpu-01:00.0", "gpu-02:00.0", "gpu-03:00.0", "gpu-00:05.0"

# `show NAME GPU` prints one line "NAME {json}"; `until WORDS` waits for an event with these words.
PREAMBLE = """
export VGPUD_SOCKET=/mnt/r/vgpud.sock
printf '[node]\\nstandby = 0\\n' >/mnt/conf  # no namespaces in here: it would say so in events
vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s 2>/mnt/log &
for i in $(seq 200); do [ -S $VGPUD_SOCKET ] && break; sleep 0.05; done
show() { echo "$1 $(vgpuctl --json gpu show $2 | tr -d '\\n')"; }
names() { echo "$1 $(vgpuctl --json gpu list | tr -d '\\n')"; }
until_event() { for i in $(seq 200); do vgpuctl events | grep -q "$1" && return; sleep 0.05; done; }
"""

EVERYTHING = PREAMBLE + """
names first
for name in 01:00.0 02:00.0 03:00.0 00:05.0; do show gpu-$name gpu-$name; done
device=/sys/bus/pci/devices/0000:01:00.0
echo vfio-pci > $device/driver_override
echo 0000:01:00.0 > $device/driver/unbind
echo 0000:01:00.0 > /sys/bus/pci/drivers_probe
until_event "its driver is vfio-pci"
exec 9<>/dev/vfio/$(basename $(readlink $device/iommu_group))
show taken gpu-01:00.0
exec 9>&-
echo 1 > $device/remove
until_event "gone from this node"
names without
echo 1 > /sys/bus/pci/rescan
until_event "is back"
names again
echo "events $(vgpuctl --json events | tr -d '\\n')"
"""

# Nodes that cannot pass a GPU through: their IOMMU, and what the kernel is told of it.
CANNOT = {"iommu-missing": ([], ""), "iommu-disabled": (hostnode.IOMMU, "intel_iommu=off"),
          "no-interrupt-remapping": (["-device", "intel-iommu,intremap=off,caching-mode=on"],
                                     "intel_iommu=on")}


def cannot(condition):
    devices, append = CANNOT[condition]
    return lambda node: Boot(PREAMBLE + "show bochs gpu-01:00.0\n", devices=devices, append=append)


BOOTS = {"seen": lambda node: Boot(EVERYTHING), **{name: cannot(name) for name in CANNOT}}


@pytest.fixture(scope="module")
def seen(printed):
    return answers(printed("seen"))


def conditions(gpu, method):
    return {f["condition"]: f for f in next(
        m for m in gpu["methods"] if m["method"] == method)["findings"]}


def possible(gpu, method):
    return next(m["possible"] for m in gpu["methods"] if m["method"] == method)


def test_all_gpus_are_there(seen):
    drivers = {g["name"]: g["driver"] for g in seen["first"]}
    assert drivers.pop("soft0") == "llvmpipe"
    assert drivers == {BOCHS: "bochs-drm", VGA: "bochs-drm", VIRTIO: "virtio-pci",
                       ATI: "aty128fb"}
    assert all(not seen[name]["unreadable"] for name in drivers)


def test_what_they_are(seen):
    assert seen[BOCHS]["pci"]["vendor_id"] == "0x1234" and seen[BOCHS]["vram_mib"] == 16
    assert seen[BOCHS]["pci"]["reset_methods"] == ["bus"]
    assert seen[ATI]["pci"]["boot_vga"] and not seen[ATI]["pci"]["can_reset"]
    assert seen[VIRTIO]["render_node"] == "/dev/dri/renderD128"
    assert seen[VIRTIO]["device_nodes"][-1] == "/dev/dri/renderD128"
    assert seen[BOCHS]["screens"] == 1


def test_groups_of_the_iommu(seen):
    groups = [seen[name]["iommu"]["group"] for name in (BOCHS, VGA, VIRTIO, ATI)]
    assert None not in groups and len(set(groups)) == 4
    iommu = seen[VGA]["iommu"]
    assert iommu["interrupt_remapping"] is True and iommu["viable"] is False
    roles = {m["address"]: (m["role"], m["driver"]) for m in iommu["members"]}
    assert roles == {"0000:02:00.0": ("self", "bochs-drm"),
                     "0000:02:00.1": ("companion", "snd_hda_intel")}


def test_what_could_be_done_with_them(seen):
    assert possible(seen[BOCHS], "passthrough") and possible(seen[VIRTIO], "passthrough")
    assert set(conditions(seen[VGA], "passthrough")) == {"companions"}
    assert {"boot-console", "no-reset"} == set(conditions(seen[ATI], "passthrough"))
    assert possible(seen[VIRTIO], "forward") and not possible(seen[BOCHS], "forward")
    assert "no-render-node" in conditions(seen[BOCHS], "forward")
    assert "no-slices" in conditions(seen[BOCHS], "mediate")


def test_one_that_vfio_has(seen):
    taken = seen["taken"]
    assert taken["driver"] == "vfio-pci" and taken["iommu"]["viable"]
    assert "set-aside" in conditions(taken, "forward")
    assert "(bash) has /dev/vfio/" in conditions(taken, "passthrough")["in-use"]["text"]
    assert taken["pci"]["driver_override"] == "vfio-pci"


def test_the_kernel_says_what_comes_and_goes(seen):
    assert BOCHS not in {g["name"] for g in seen["without"]}
    assert BOCHS in {g["name"] for g in seen["again"]}
    assert [e["text"] for e in seen["events"]] == [
        BOCHS + ": its driver is vfio-pci, was bochs-drm",
        BOCHS + ": the GPU is gone from this node",
        BOCHS + ": the GPU is back, its driver is bochs-drm"]


@pytest.mark.parametrize("condition", CANNOT)
def test_nodes_that_cannot(printed, condition):
    seen = answers(printed(condition))
    assert condition in conditions(seen["bochs"], "passthrough")
    assert not possible(seen["bochs"], "passthrough")
