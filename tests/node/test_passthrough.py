# SPDX-License-Identifier: Apache-2.0
"""GPUs of several kinds go to a VM and back through vgpud, by a real kernel."""
import hostnode
import pytest
from hostnode import answers
from machines import Boot

# GPU: its functions and their drivers
KINDS = {
    "gpu-01:00.0": {"0000:01:00.0": "bochs-drm"},
    "gpu-02:00.0": {"0000:02:00.0": "bochs-drm", "0000:02:00.1": "snd_hda_intel"},
    "gpu-03:00.0": {"0000:03:00.0": "virtio-pci"},
    "gpu-00:05.0": {"0000:00:05.0": "aty128fb"},
}
NO_RESET = "gpu-00:05.0"  # so it is empty and yet not clean
SECRET = "what-A-drew"

# `ctl NAME ARGUMENTS...` prints "NAME {json}", or what a refusal says; `until NAME STATE` waits.
PREAMBLE = """
cd /mnt
export VGPUD_SOCKET=/mnt/r/vgpud.sock
printf '[node]\\nstandby = 0\\ngroup =\\n' > /mnt/conf
serve() {
  vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s 2>>/mnt/log &
  vgpud=$!
  for i in $(seq 200); do vgpuctl list >/dev/null 2>&1 && return; sleep 0.05; done
}
ctl() {
  name=$1; shift
  if vgpuctl --json "$@" >/mnt/out 2>/mnt/err; then echo "$name $(tr '\\n' ' ' < /mnt/out)"
  else echo "$name [\\"$(tr '"\\n' ". " < /mnt/err)\\"]"; fi
}
no_console() {
  for console in /sys/class/vtconsole/vtcon*; do
    grep -q "frame buffer" $console/name && echo 0 > $console/bind
  done
}
until_state() { for i in $(seq 150); do vgpuctl --json show $1 2>/dev/null | grep -q "\\"state\\": \\"$2\\"" && return; sleep 0.1; done; }
drivers() {
  name=$1; shift; said=
  for a in "$@"; do said="$said\\"$(basename $(readlink /sys/bus/pci/devices/$a/driver))\\", "; done
  echo "$name [${said%, }]"
}
files() { echo "$1 [\\"$(stat -c %u:%a /dev/vfio/[0-9]* 2>/dev/null | tr '\\n' ' ')\\"]"; }
hold() {
  vfio_client $1 write SECRET hold 30 > /mnt/holder &
  holder=$!
  for i in $(seq 100); do grep -q holding /mnt/holder && return; sleep 0.1; done
}
""".replace("SECRET", SECRET)


def life(gpu, functions):
    address, every = next(iter(functions)), " ".join(functions)
    return f"""
ctl create-{gpu} create a --gpu {gpu} --method passthrough --owner 1234
drivers taken-{gpu} {every}
files files-{gpu}
ctl args-{gpu} qemu-args a
ctl gpu-{gpu} gpu list
hold {address}
until_state a bound
ctl bound-{gpu} show a
ctl refused-{gpu} delete a --force
kill $holder; wait $holder 2>/dev/null
until_state a ready
for i in $(seq 100); do vgpuctl --json show a | grep -q verdict && break; sleep 0.1; done
ctl left-{gpu} show a
echo "find-{gpu} $(vfio_client {address} find {SECRET} | grep '^{{')"
until_state a ready
{f"ctl unclean delete a; until_state a ready; ctl release gpu release {gpu} --unscrubbed" if gpu == NO_RESET else ""}
ctl delete-{gpu} delete a
drivers back-{gpu} {every}
files none-{gpu}
"""


SHARED = """
serve
ctl shared create a --gpu gpu-05:01.0 --method passthrough
ctl events events
kill $vgpud; wait $vgpud 2>/dev/null
"""
# Two GPUs behind one bridge are in one group.
BRIDGE = ["-device", "pcie-root-port,id=rp5,chassis=5,slot=5,addr=14", "-device",
          "pcie-pci-bridge,id=pb,bus=rp5", "-device", "secondary-vga,bus=pb,addr=1", "-device",
          "secondary-vga,bus=pb,addr=2"]

LIVES = PREAMBLE + """
serve
ctl console create a --gpu gpu-00:05.0 --method passthrough
no_console
""" + "".join(life(gpu, functions) for gpu, functions in KINDS.items())


BOOTS = {
    "seen": lambda node: Boot(LIVES, limit_s=240, cpus=1),
    "shared": lambda node: Boot(PREAMBLE + SHARED, devices=[*hostnode.IOMMU, *BRIDGE]),
}


@pytest.fixture(scope="module")
def seen(printed):
    return answers(printed("seen"))


@pytest.fixture(scope="module")
def shared(printed):
    return answers(printed("shared"))["shared"]


@pytest.mark.parametrize("gpu", KINDS)
def test_a_life(seen, gpu):
    functions = KINDS[gpu]
    made = seen["create-" + gpu]
    assert isinstance(made, dict), made
    assert (made["state"], made["device"], made["owner_uid"]) == ("ready", next(iter(functions)), 1234)
    assert seen["taken-" + gpu] == ["vfio-pci"] * len(functions)
    assert seen["files-" + gpu] == ["1234:600 "]
    assert seen["args-" + gpu]["args"] == [w for a in functions for w in
                                           ("-device", "vfio-pci,host=" + a)]
    assert next(g for g in seen["gpu-" + gpu] if g["name"] == gpu)["state"] == "passthrough"
    bound = seen["bound-" + gpu]
    assert bound["state"] == "bound" and bound["bound_to"].startswith("vfio_client["), bound
    assert "vfio_client[" in seen["refused-" + gpu][0]
    left = seen["left-" + gpu]
    assert left["state"] == "ready" and left["bound_to"] is None
    assert left["scrub"]["verdict"] == ("partial" if gpu == NO_RESET else "clean"), left["scrub"]
    assert seen["find-" + gpu].get("found", 0) == 0
    assert seen["delete-" + gpu] == {}, seen["delete-" + gpu]
    assert seen["back-" + gpu] == list(functions.values())
    assert seen["none-" + gpu] == [""]


def test_what_cannot_be_reset_is_released_by_hand_alone(seen):
    assert "no way to be reset" in seen["unclean"][0]
    assert seen["release"]["left_by"] is None


def test_the_console_stays(seen):
    assert isinstance(seen["console"], list) and "text console is on it" in seen["console"][0]


def test_a_shared_group_is_refused(shared):
    assert isinstance(shared, list) and "is shared with" in shared[0], shared
