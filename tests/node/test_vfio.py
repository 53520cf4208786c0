# SPDX-License-Identifier: Apache-2.0
"""Functions of five kinds go to vfio-pci and back, by a real kernel; and what it refuses."""
import errno

import hostnode
import pytest
from hostnode import answers
from machines import Boot

KINDS = {"0000:01:00.0": "bochs-drm", "0000:02:00.1": "snd_hda_intel", "0000:03:00.0": "virtio-pci",
         "0000:00:05.0": "aty128fb", "0000:04:00.0": "nvme"}
NVME = ["-device", "pcie-root-port,id=rp4,chassis=4,slot=4,addr=13", "-device", "nvme-subsys,id=s0",
        "-device", "nvme,serial=x,subsys=s0,bus=rp4"]

# `change NAME take|give ADDRESS` prints one line "NAME {json}".
PREAMBLE = """
change() { echo "$1 $(vfio_change $2 $3)"; }
"""

SCRIPT = PREAMBLE + "".join(
    f"change take-{a} take {a}\nchange again-{a} take {a}\nchange give-{a} give {a}\n"
    for a in KINDS) + """
exec 8<>/dev/dri/$(ls /sys/bus/pci/devices/0000:01:00.0/drm | grep card)
change screen take 0000:01:00.0
exec 8>&-
change taken take 0000:01:00.0
exec 9<>/dev/vfio/$(basename $(readlink /sys/bus/pci/devices/0000:01:00.0/iommu_group))
change held give 0000:01:00.0
exec 9>&-
change back give 0000:01:00.0
change user_ give 0000:77:00.0
echo "user $(setpriv --reuid=65534 --regid=65534 --clear-groups vfio_change take 0000:01:00.0)"
echo 0000:02:00.1 > /sys/bus/pci/devices/0000:02:00.1/driver/unbind
change take-alone take 0000:02:00.1
change give-alone give 0000:02:00.1
"""

BOOTS = {
    "seen": lambda node: Boot(SCRIPT, devices=[*hostnode.IOMMU, *NVME]),
    "no_iommu": lambda node: Boot(PREAMBLE + "change x take 0000:01:00.0\n", devices=[], append=""),
}


@pytest.fixture(scope="module")
def seen(printed):
    return answers(printed("seen"))


@pytest.fixture(scope="module")
def no_iommu(printed):
    return answers(printed("no_iommu"))["x"]


@pytest.mark.parametrize("address, driver", KINDS.items())
def test_there_and_back(seen, address, driver):
    take, again, give = (seen[f"{what}-{address}"] for what in ("take", "again", "give"))
    assert (take["code"], take["before"], take["driver"]) == (0, driver, "vfio-pci")
    assert (again["code"], again["requests"]) == (0, 0)
    assert (give["code"], give["before"], give["driver"]) == (0, "vfio-pci", driver)


def test_refused_while_somebody_has_it_open(seen):
    for name, file in (("screen", "/dev/dri/card"), ("held", "/dev/vfio/")):
        assert (seen[name]["code"], seen[name]["requests"]) == (-errno.EBUSY, 0)
        assert "(bash) has " + file in seen[name]["text"]
    assert seen["back"]["driver"] == "bochs-drm"


def test_other_refusals(seen):
    assert seen["user"]["code"] == -errno.EACCES and "run vgpud as root" in seen["user"]["text"]
    assert seen["user"]["driver"] == "bochs-drm"
    assert seen["user_"]["code"] == -errno.ENODEV


def test_one_that_nobody_has(seen):
    assert (seen["take-alone"]["before"], seen["take-alone"]["driver"]) == ("", "vfio-pci")
    assert (seen["give-alone"]["code"], seen["give-alone"]["driver"]) == (0, "snd_hda_intel")


def test_without_an_iommu_all_is_undone(no_iommu):
    assert no_iommu["code"] == -errno.ENXIO and no_iommu["taken_back"]
    assert no_iommu["driver"] == "bochs-drm" and "IOMMU group" in no_iommu["text"]
