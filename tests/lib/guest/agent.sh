#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The guest's only service. On the second serial port the host writes a job's number; the agent runs
# /job/NUMBER.sh, puts its output into NUMBER.out and its exit status into NUMBER.rc, and says so.
export PATH=/bin:/usr/bin:/sbin HOME=/ XDG_RUNTIME_DIR=/tmp TERM=linux
mkdir -p /tmp /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1

run() {
	sh "/job/$1.sh" >"/job/$1.out" 2>&1 3>&- &
	echo $! >"/job/$1.pid"
	wait $!
	code=$?
	echo "$code" >"/job/$1.rc"
	echo "done $1 $code" >&3
}

echo "ready $(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r id <&3; do
	run "$id" &
done
