# SPDX-License-Identifier: Apache-2.0
"""Shares of a software GPU by control groups of version 2, as a real kernel has them: where vgpud
is started as a service manager does, in a group that has been delegated the cpu controller."""
import cache
import pytest
from hostnode import answers
from machines import Boot

BURNER = cache.BUILD / "tests" / "bench" / "burner.so"

# Device processes with more threads than CPUs that never rest, but for the one that is quiet; what
# they used, in us, is printed as
# "NAME {json}" before and after some seconds. There are no
# namespaces in here, and nothing that could draw.
SCRIPT = f"""
mount -t cgroup2 none /sys/fs/cgroup
echo +cpu > /sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/service
cat > /mnt/device <<'END'
#!/bin/sh
grep -qa quiet /proc/$PPID/cmdline || export LD_PRELOAD={BURNER}
exec {cache.BUILD}/bin/vgpu-device "$@" --renderer null --lockdown off
END
chmod +x /mnt/device
cat > /mnt/conf <<'END'
[node]
standby = 0
device = /mnt/device
[gpu soft0]
mixed = yes
[type heavy]
gpu = soft0
vram_mib = 64
weight = 300
share_percent = 30
[type light]
gpu = soft0
vram_mib = 64
weight = 100
share_percent = 10
END
export VGPUD_SOCKET=/mnt/r/vgpud.sock
sh -c 'echo $$ > /sys/fs/cgroup/service/cgroup.procs
exec vgpud --config /mnt/conf --run-dir /mnt/r --state-dir /mnt/s' 2>/mnt/log &
for i in $(seq 200); do [ -S $VGPUD_SOCKET ] && break; sleep 0.05; done
used() {{
    said=""
    for name in a b; do
        used=$(cat /sys/fs/cgroup/service/*-soft0/vgpu-$name/cpu.stat \
            /sys/fs/cgroup/service/*-soft0/all/vgpu-$name/cpu.stat |
            awk '$1 == "usage_usec" {{ sum += $2 }} END {{ printf "%.0f", sum }}')
        said="$said\\"$name\\": $used, "
    done
    echo "$1 {{$said\\"at\\": $(awk '{{printf "%.0f", $1 * 1e6}}' /proc/uptime)}}"
}}
vgpuctl gpu policy soft0 equal-share
vgpuctl create a --gpu soft0 --type heavy
vgpuctl create b --gpu soft0 --type light
echo "gpu $(vgpuctl --json gpu show soft0 | tr -d '\\n')"
sleep 3
used equal_before; sleep 3; used equal_after
vgpuctl gpu policy soft0 fixed-share
sleep 1
used fixed_before; sleep 3; used fixed_after
vgpuctl create quiet --gpu soft0 --type light
for i in $(seq 50); do grep -q . /sys/fs/cgroup/service/*-soft0/vgpu-quiet/cgroup.threads && break; sleep 0.1; done
threads() {{ cat /sys/fs/cgroup/service/*-soft0/$1/cgroup.threads | wc -l; }}
echo "light [$(threads vgpu-quiet), $(threads all/vgpu-quiet), $(threads vgpu-a)]"
vgpuctl delete quiet --force
vgpuctl delete b --force
sleep 1
echo "left [\\"$(cd /sys/fs/cgroup/service; echo *-soft0/vgpu-* *-soft0/all/vgpu-*)\\"]"
cat /mnt/log
"""

BOOTS = {"seen": lambda node: Boot(SCRIPT, alone=True)} if BURNER.is_file() else {}


@pytest.fixture(scope="module")
def seen(printed):
    if not BOOTS:
        pytest.skip("not built: burner.so")
    lines = printed("seen")
    print("\n".join(lines))
    return answers(lines)


def used(seen, name):
    """CPUs that both used meanwhile."""
    before, after = seen[name + "_before"], seen[name + "_after"]
    took = after["at"] - before["at"]
    return [(after[one] - before[one]) / took for one in "ab"]


def test_enforced_by(seen):
    assert seen["gpu"]["enforced_by"] == "cgroup-v2"


def test_equal_share_by_weight(seen):
    """Both want all they can get; they get 3 to 1. This machine's CPUs may be busy otherwise."""
    a, b = used(seen, "equal")
    assert 2.4 < a / b < 3.6 and a + b > 1, (a, b)


def test_fixed_share_gives_no_more(seen):
    a, b = used(seen, "fixed")
    assert 0.3 < a < 0.66 and 0.1 < b < 0.22, (a, b)


def test_groups_go_with_their_vgpu(seen):
    assert seen["left"][0].endswith("vgpu-a") and "vgpu-b" not in seen["left"][0]


def test_who_uses_little_is_beside_the_group_of_all_others(seen):
    light, not_light, heavy = seen["light"]
    assert light > 0 and not_light == 0 and heavy == 0
