#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# First program of the guest: modules, then the 9p root with a tmpfs above it, then the agent.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

fail() {
	echo "@guest failed: $1" >/dev/ttyS0
	poweroff -f
}

if grep -q vgpu.probe /proc/cmdline; then
	echo "@guest probe alive" >/dev/ttyS0
	poweroff -f
fi
for module in /modules/*; do
	insmod "$module" || fail "insmod $module"
done
mount -t tmpfs tmpfs /upper && mkdir /upper/data /upper/work || fail "tmpfs"
options=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o "ro,$options,cache=loose" root /lower || fail "9p root"
mount -t overlay -o lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work overlay /newroot ||
	fail "overlay"
mkdir -p /newroot/dev /newroot/proc /newroot/sys /newroot/job
mount -t 9p -o "$options,cache=none" job /newroot/job || fail "9p job"
mount --move /dev /newroot/dev
mount --move /proc /newroot/proc
mount --move /sys /newroot/sys
exec switch_root /newroot /sbin/agent
