#!/bin/busybox sh
# shellcheck shell=dash
# shellcheck disable=SC2086
# First process of the guest: loads what the root file system needs, mounts it, hands over to the agent.
B=/bin/busybox
$B mkdir -p /proc /sys /dev /low /ovl /new
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
for m in $($B cat /mods/order); do $B insmod /mods/$m || echo "insmod $m failed"; done
conf="" mods="" python="" cache=loose
for a in $($B cat /proc/cmdline); do
  case $a in
    replica-vm.conf=*) conf=${a#*=} ;;
    replica-vm.mods=*) mods=${a#*=} ;;
    replica-vm.cache=*) cache=${a#*=} ;;
    replica-vm.python=*) python=${a#*=} ;;
  esac
done
$B mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=$cache vmroot /low || exec $B sh
$B mount -t tmpfs -o size=75% ovl /ovl
$B mkdir /ovl/up /ovl/work
$B mount -t overlay -o lowerdir=/low,upperdir=/ovl/up,workdir=/ovl/work overlay /new || exec $B sh
$B mount --move /dev /new/dev
$B mkdir -p /new/dev/pts /new/dev/shm
$B mount -t devpts devpts /new/dev/pts
$B mount -t tmpfs shm /new/dev/shm
$B mount --move /proc /new/proc
$B mount --move /sys /new/sys
$B mount -t tmpfs run /new/run
$B mkdir -p /new/run/replica-vm /new/run/lock /new/lib/modules /new/var/lib/drbd
$B cp /agent.py /new/run/replica-vm/agent.py
$B cp /low/$conf /new/run/replica-vm/guest.json
$B mount --bind /low/$mods /new/lib/modules
$B mount -t configfs configfs /new/sys/kernel/config 2>/dev/null
$B mount -t debugfs debugfs /new/sys/kernel/debug 2>/dev/null
exec $B switch_root /new $python -I -S /run/replica-vm/agent.py /run/replica-vm/guest.json
