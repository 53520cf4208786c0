# SPDX-License-Identifier: Apache-2.0
"""Slices of GPUs by a real kernel: its own samples of mediated devices (mbochs, mdpy, mtty), and the
virtual functions of an emulated NVMe, which stands for any PF: made, given to a machine inside the
node, held, taken away; what is exhausted, malformed or somebody else's."""
import errno

import hostnode
import initrd
import mediated
import pytest
from hostnode import answers
from machines import Boot

PF = "0000:04:00.0"
VFS = [f"0000:04:00.{n}" for n in range(1, 5)]
NVME = ["-device", "pcie-root-port,id=rp4,chassis=4,slot=4,addr=13", "-device", "nvme-subsys,id=s0",
        "-device", "nvme,serial=x,subsys=s0,bus=rp4,sriov_max_vfs=4,sriov_vq_flexible=8,"
        "sriov_vi_flexible=4,max_ioqpairs=16,msix_qsize=17"]


def uuid(n):
    return f"{n:08x}-2222-4333-8444-555555555555"


# call NAME ARGUMENTS... prints "NAME {json}"; qemu DEVICE runs a machine with that device, as the
# user whom the plans give it to, and waits until it has it.
PREAMBLE = """
cd /mnt
call() {{ name=$1; shift; echo "$name $(timeout -s KILL 60 change_run "$@")"; }}
say() {{ echo "$1 [\\"$2\\"]"; }}
qemu() {{
    ulimit -l unlimited
    setpriv --reuid=1000 --regid=1000 --clear-groups timeout -s KILL 90 \
        {qemu} -accel tcg -M q35 -m 64 -S -nodefaults -display none -monitor none \
        -device vfio-pci,$1 > /mnt/qemu.log 2>&1 &
    qemu=$!
    for try in $(seq 150); do
        sleep 0.2
        ls -l /proc/[0-9]*/fd 2> /dev/null | grep -q "/dev/vfio/[0-9]" && return
        kill -0 $qemu 2> /dev/null || break
    done
    say qemu-failed "$(tr '"\\n' '. ' < /mnt/qemu.log)"
}}
qemu_ends() {{
    kill $qemu; wait $qemu 2> /dev/null
    for try in $(seq 50); do
        ls -l /proc/[0-9]*/fd 2> /dev/null | grep -q "/dev/vfio/[0-9]" || return
        sleep 0.1
    done
}}
busybox={busybox}
for module in mbochs mdpy mtty; do {busybox} insmod {modules}/$module.ko; done
"""

MDEV = f"""
call types types mdev-mbochs
call types-mdpy types mdev-mdpy
call types-mtty types mdev-mtty
call bad plan bad mdev-mbochs mbochs-small 1234
call none plan none mdev-mbochs mbochs-huge {uuid(1)}
call first plan first mdev-mbochs mbochs-small {uuid(1)}
call first-made apply first
call first-again apply first
call first-right check first
call twice plan twice mdev-mbochs mbochs-small {uuid(1)}
call types-one types mdev-mbochs
say owner $(stat -c %u:%g:%a /dev/vfio/$(basename $(readlink /sys/bus/mdev/devices/{uuid(1)}/iommu_group)))
qemu sysfsdev=/sys/bus/mdev/devices/{uuid(1)}
call held undo first
call held-right check first
qemu_ends
call first-gone undo first
call first-gone-again undo first
say first-left "$(ls /sys/bus/mdev/devices)"

for n in 2 3 4 5; do
    call large-$n plan large-$n mdev-mbochs mbochs-large 0000000$n-2222-4333-8444-555555555555
    call large-$n-made apply large-$n
done
call large-6 plan large-6 mdev-mbochs mbochs-large {uuid(6)}
call small-6 plan small-6 mdev-mbochs mbochs-small {uuid(6)}
call large-2-gone undo large-2
call late plan late mdev-mbochs mbochs-large {uuid(9)}
echo {uuid(2)} > /sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large/create
call late-made apply late
call late-undone undo late
call large-3-gone undo large-3
call by-hand plan by-hand mdev-mbochs mbochs-large {uuid(2)}
call by-hand-small raw by-hand-small mdev mbochs/mbochs-small/{uuid(2)} 0 1
call by-hand-small-made apply by-hand-small
call by-hand-small-undone undo by-hand-small
for n in 4 5; do call large-$n-gone undo large-$n; done
say by-hand-left "$(ls /sys/bus/mdev/devices)"
echo 1 > /sys/bus/mdev/devices/{uuid(2)}/remove
call pool types mdev-mbochs

call upper plan upper mdev-mbochs mbochs-medium ABCDEFAB-2222-4333-8444-555555555555
call upper-made apply upper
call upper-gone undo upper

type=$(ls /sys/class/mdev_bus/mdpy/mdev_supported_types | head -1)
for n in 1 2 3 4 5; do
    call mdpy-$n raw mdpy-$n mdev mdpy/$type/0000000$n-2222-4333-8444-555555555555 0 1
    call mdpy-$n-made apply mdpy-$n
done
for n in 1 2 3 4; do call mdpy-$n-gone undo mdpy-$n; done

call no-type raw no-type mdev mbochs/mbochs-none/{uuid(1)} 0 1
call no-type-made apply no-type
call tty plan tty mdev-mtty mtty-2 {uuid(1)}
call tty-made apply tty
call tty-gone undo tty
$busybox rmmod mbochs
call unloaded apply first
call unloaded-plan plan unloaded mdev-mbochs mbochs-small {uuid(1)}
"""

SRIOV = f"""
numvfs=/sys/bus/pci/devices/{PF}/sriov_numvfs
driver() {{ say $1 $(basename $(readlink /sys/bus/pci/devices/$2/driver) 2> /dev/null); }}
call types types {PF}
CHANGE_RUN_VFS=9 call many plan many {PF} vf {uuid(1)}
call first plan first {PF} vf {uuid(1)}
call first-made apply first
call first-right check first
say numvfs $(cat $numvfs)
say autoprobe $(cat /sys/bus/pci/devices/{PF}/sriov_drivers_autoprobe)
driver first-driver {VFS[0]}
driver third-driver {VFS[2]}
call second plan second {PF} vf {uuid(2)} {VFS[0]}
call second-made apply second
call counted types {PF} {VFS[0]} {VFS[1]}
CHANGE_RUN_VFS=2 call fewer plan fewer {PF} vf {uuid(3)}
call full plan full {PF} vf {uuid(3)} {' '.join(VFS)}
qemu host={VFS[0]}
call unknown plan unknown {PF} vf {uuid(3)}
call held undo first
call held-right check first
call second-gone keep second
driver second-driver {VFS[1]}
say vfs-kept $(cat $numvfs)
qemu_ends
echo vfio-pci > /sys/bus/pci/devices/{VFS[3]}/driver_override
echo {VFS[3]} > /sys/bus/pci/drivers_probe
call foreign undo first
say vfs-foreign $(cat $numvfs)
echo {VFS[3]} > /sys/bus/pci/devices/{VFS[3]}/driver/unbind
call vfs raw vfs vfs {PF} 0 4
call vfs-gone undo vfs
say vfs-none $(cat $numvfs)
call over raw over vfs {PF} 0 9
call over-made apply over
echo 2 > $numvfs
call other apply vfs
echo 0 > $numvfs
echo {PF} > /sys/bus/pci/devices/{PF}/driver/unbind
call undriven plan undriven {PF} vf {uuid(1)}
call undriven-made apply vfs
echo vfio-pci > /sys/bus/pci/devices/{PF}/driver_override
echo {PF} > /sys/bus/pci/drivers_probe
call on-vfio plan on-vfio {PF} vf {uuid(1)}
call on-vfio-made apply vfs
"""


# The same by verbs: ask NAME ARGUMENTS... prints what `vgpuctl --json` says, told NAME ARGUMENTS...
# its words; state NAME waits until the vGPU is in that state.
VERBS = f"""
export VGPUD_SOCKET=/mnt/r/vgpud.sock
printf '[node]\\nstandby = 0\\n[gpu mdev-mbochs]\\nmixed = no\\n' > /mnt/conf
begin() {{
    vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s 2>> /mnt/log &
    vgpud=$!
    for try in $(seq 200); do vgpuctl type list 2>&1 | grep -q mbochs-small && break; sleep 0.05; done
}}
ask() {{ name=$1; shift; echo "$name $(vgpuctl --json "$@" | tr -d '\\n')"; }}
told() {{ name=$1; shift; say $name "$(vgpuctl "$@" 2>&1 | tr '"\\n' '. ')"; }}
state() {{
    for try in $(seq 100); do vgpuctl --json show a | grep -q "\\"$1\\"" && return; sleep 0.1; done
}}
begin
ask types type list mdev-mbochs
told made create a --gpu mdev-mbochs --type mdev-mbochs-mbochs-small --owner 1000
ask shown show a
told args qemu-args a
say owner $(stat -c %u:%a /dev/vfio/$(basename $(readlink /sys/bus/mdev/devices/*/iommu_group)))
told other create b --gpu mdev-mbochs --type mdev-mbochs-mbochs-large
kill -9 $vgpud; wait $vgpud 2> /dev/null
begin
state ready
qemu $(vgpuctl qemu-args a | sed 's/.*vfio-pci,//; s/ .*//; 1q')
state bound
ask bound show a
told held delete a --force
qemu_ends
state ready
echo {uuid(7)} > /sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-large/create
told gone delete a
say left "$(ls /sys/bus/mdev/devices)"
ask types-after type list mdev-mbochs
"""


def boot(script):
    def make(node):
        env = node.qemu.environment()
        words = [f"{key}={env[key]}" for key in ("LD_LIBRARY_PATH", "QEMU_MODULE_DIR") if key in env]
        nested = ["env", *words, node.qemu.binary, *node.qemu.data_arguments()]
        preamble = PREAMBLE.format(busybox=initrd.busybox(), qemu=" ".join(map(str, nested)),
                                   modules=mediated.prepare(node.kernel_release(), print))
        return Boot(preamble + script, devices=[*hostnode.IOMMU, *NVME], limit_s=240)
    return make


BOOTS = {"mdev": boot(MDEV), "sriov": boot(SRIOV), "verbs": boot(VERBS)}


def seen_in(lines):
    seen = answers(lines)
    assert "qemu-failed" not in seen, seen["qemu-failed"]
    return seen


@pytest.fixture(scope="module")
def mdev(printed):
    return seen_in(printed("mdev"))


@pytest.fixture(scope="module")
def sriov(printed):
    return seen_in(printed("sriov"))


@pytest.fixture(scope="module")
def verbs(printed):
    return seen_in(printed("verbs"))


def done(answer, changes):
    assert (answer["code"], answer["done"], answer["left"]) == (0, changes, 0), answer


def refused(answer, code, part):
    assert answer["code"] == -code and part in answer["text"], answer
    assert answer["text"].endswith(")"), "what can be done about it"


def by_name(types):
    return {one["name"]: (one["vram_mib"], one["max_instances"], one["available"])
            for one in types}


def test_types_of_mediated_devices(mdev):
    assert by_name(mdev["types"]) == {"mbochs-small": (4, 64, 64), "mbochs-medium": (16, 16, 16),
                                      "mbochs-large": (64, 4, 4)}
    assert by_name(mdev["types-one"]) == {"mbochs-small": (4, 64, 63), "mbochs-large": (64, 4, 3),
                                          "mbochs-medium": (16, 16, 15)}
    assert by_name(mdev["types-mdpy"])["mdpy-vga"] == (0, 4, 4)
    assert by_name(mdev["types-mtty"]) == {"mtty-1": (0, 24, 24), "mtty-2": (0, 12, 12)}


def test_mediated_device_there_and_back(mdev):
    assert mdev["first"]["device"] == uuid(1)
    done(mdev["first-made"], 2)
    done(mdev["first-again"], 0)
    done(mdev["first-right"], 0)
    assert mdev["owner"] == ["1000:1000:600"]
    done(mdev["first-gone"], 2)
    done(mdev["first-gone-again"], 0)
    assert mdev["first-left"] == [""]
    done(mdev["tty-made"], 2)
    done(mdev["tty-gone"], 2)


def test_mediated_device_that_a_machine_has(mdev):
    refused(mdev["held"], errno.EBUSY, "(qemu-system-x86) has /dev/vfio/")
    done(mdev["held-right"], 0)


def test_exhausted(mdev):
    for n in (2, 3, 4):
        done(mdev[f"large-{n}-made"], 2)
    assert mdev["large-5"]["code"] == 0
    done(mdev["large-5-made"], 2)
    refused(mdev["large-6"], errno.ENOSPC, "no mediated device can be made any more")
    refused(mdev["small-6"], errno.ENOSPC, "no mediated device can be made any more")
    refused(mdev["late-made"], errno.ENOSPC, "types may share one pool")
    done(mdev["late-undone"], 0)
    refused(mdev["mdpy-5-made"], errno.EUSERS, "as many as it can have")
    for n in range(1, 5):
        done(mdev[f"mdpy-{n}-gone"], 1)
    assert mdev["pool"] == mdev["types"]


def test_mediated_device_made_by_hand(mdev):
    refused(mdev["by-hand"], errno.EEXIST, "of that UUID already, of type mbochs-large")
    refused(mdev["by-hand-small-made"], errno.ESTALE, "1 of type mbochs-large, and should be 0")
    assert mdev["by-hand-small-undone"]["left"] == 1
    assert mdev["by-hand-left"] == [uuid(2)]


def test_uuids_and_types(mdev):
    refused(mdev["bad"], errno.EINVAL, "1234 is no UUID")
    refused(mdev["none"], errno.ENOENT, "it offers no type mbochs-huge")
    refused(mdev["twice"], errno.EEXIST, "vgpud did not make it")
    assert mdev["upper"]["device"] == "abcdefab-2222-4333-8444-555555555555"
    done(mdev["upper-made"], 2)
    done(mdev["upper-gone"], 2)
    refused(mdev["no-type-made"], errno.ENOENT, "its parent offers no such type")


def test_parent_that_is_gone(mdev):
    refused(mdev["unloaded"], errno.ENODEV, "not on this node any more")
    refused(mdev["unloaded-plan"], errno.ENODEV, "no longer on this node")


def test_virtual_functions(sriov):
    assert by_name(sriov["types"]) == {"vf": (0, 4, 4)}
    assert sriov["first"]["plan"] == [
        f"autoprobe {PF} 1>0", f"vfs {PF} 0>4", f"vfio {VFS[0]} >vfio-pci",
        f"owner {VFS[0]} >1000:1000:0600", f"cdev {VFS[0]} >1000:1000:0600"]
    done(sriov["first-made"], 4)
    done(sriov["first-right"], 0)
    assert (sriov["numvfs"], sriov["autoprobe"]) == (["4"], ["0"])
    assert (sriov["first-driver"], sriov["third-driver"]) == (["vfio-pci"], [""])
    assert sriov["second"]["device"] == VFS[1]
    done(sriov["second-made"], 2)
    assert by_name(sriov["counted"]) == {"vf": (0, 4, 2)}
    refused(sriov["full"], errno.ENOSPC, "each of its 4 virtual functions is a vGPU's")


def test_virtual_function_that_a_machine_has(sriov):
    assert sriov["unknown"]["device"] == VFS[2], "neither what is held nor what was set aside"
    refused(sriov["held"], errno.EBUSY, "(qemu-system-x86) has /dev/vfio/")
    done(sriov["held-right"], 0)


def test_virtual_functions_stay_while_one_is_used(sriov):
    done(sriov["second-gone"], 2)
    assert (sriov["second-driver"], sriov["vfs-kept"]) == ([""], ["4"])
    assert (sriov["foreign"]["code"], sriov["foreign"]["left"]) == (0, 1)
    assert f"VF {VFS[3]} has the driver vfio-pci" in sriov["foreign"]["text"]
    assert sriov["vfs-foreign"] == ["4"]
    done(sriov["vfs-gone"], 1)
    assert sriov["vfs-none"] == ["0"]


def test_numbers_of_virtual_functions(sriov):
    refused(sriov["many"], errno.ERANGE, "it has at most 4 virtual functions")
    refused(sriov["over-made"], errno.ERANGE, "it has fewer virtual functions than that")
    refused(sriov["fewer"], errno.EBUSY, "4 of its virtual functions are enabled, not 2")
    refused(sriov["other"], errno.ESTALE, "is 2, and should be 0: somebody else changed it")


def test_physical_function_without_its_driver(sriov):
    for name in ("undriven-made", "on-vfio-made"):
        refused(sriov[name], errno.ENOENT, "it has no driver, or one that makes no")
    refused(sriov["undriven"], errno.ENOENT, "its virtual functions need its driver")
    refused(sriov["on-vfio"], errno.ENOTSUP, "enable_sriov=1")


def offered(types):
    return {one["name"].removeprefix("mdev-mbochs-"): one["available_instances"] for one in types}


def test_by_verbs(verbs):
    assert offered(verbs["types"]) == {"mbochs-small": 64, "mbochs-medium": 16, "mbochs-large": 4}
    shown = verbs["shown"]
    assert (shown["state"], shown["method"], shown["device"]) == \
        ("ready", "mediate", shown["uuid"]), shown
    assert verbs["args"][0].startswith(
        "-device vfio-pci,sysfsdev=/sys/bus/mdev/devices/" + shown["uuid"] + " #")
    assert verbs["owner"] == ["1000:600"]
    assert "rule 2" in verbs["other"][0] or "one type" in verbs["other"][0]


def test_by_verbs_with_a_machine(verbs):
    assert verbs["bound"]["state"] == "bound" and "qemu-system" in verbs["bound"]["bound_to"]
    assert "shut that VM down" in verbs["held"][0]
    assert "failed" not in verbs["gone"][0]
    assert verbs["left"] == [uuid(7)], "one made by hand stays"
    assert offered(verbs["types-after"]) == {"mbochs-small": 48, "mbochs-medium": 12,
                                             "mbochs-large": 3}
