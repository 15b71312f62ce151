#!/usr/bin/env bash
# A file system on /dev/drbd0 on a logical volume: load with every block verified, a trim that reaches both disks, a refused demotion,
# a clean end, and the other machine mounts the same files.
# directions: ext4 xfs
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
kind=$1
case $kind in
    ext4) check=(e2fsck -fn /dev/drbd0) ;;
    xfs) check=(xfs_repair -n /dev/drbd0) ;;
esac

fresh_pair
at alice sh -c '[ -b /dev/drbd0 ] && [ /dev/replica/by-res/r0/0 -ef /dev/drbd0 ] && [ /dev/drbd/by-res/r0/0 -ef /dev/drbd0 ]' ||
    fail "no device nodes"
device_is alice "$(data_bytes)" || fail "the device has another size"
at bob sh -c 'blockdev --getsize64 /dev/drbd0' >"$work/secondary.out" 2>&1 && [ "$(cat "$work/secondary.out")" != 0 ] && fail "bob's device is open to all"

at alice "mkfs.$kind" -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
refused 11 'State change failed: (-12) Device is held open by someone' alice secondary r0
refused 11 'Device is held open by someone' alice down r0
role_is alice Primary || fail "alice is $(role alice)"

at alice fio --name=files --directory=/mnt/r0 --rw=randwrite --bs=4k --size=6M --nrfiles=4 --fsync=32 --ioengine=libaio --direct=1 \
    --iodepth=8 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --output-format=terse >"$work/fio.out" 2>&1 || fail "fio: $(tail -n 3 "$work/fio.out")"
at alice sh -c 'head -c 64M /dev/urandom >/mnt/r0/large && sync && cp -r /usr/share/doc/base-files /mnt/r0/tree'
before=("$(used alice)" "$(used bob)")
at alice sh -c 'rm /mnt/r0/large && sync && fstrim /mnt/r0'
after=("$(used alice)" "$(used bob)")
for i in 0 1; do
    [ "${after[i]}" -lt $((before[i] - 60000)) ] || fail "the trim does not reach both: ${after[*]} KiB instead of ${before[*]}"
done
at alice sh -c 'cd /mnt/r0 && find . -type f -exec sha256sum {} + >/tmp/sums && cat /tmp/sums' >"$work/sums"
[ "$(wc -l <"$work/sums")" -ge 5 ] || fail "no files"
at alice umount /mnt/r0
at alice "${check[@]}" >"$work/check.out" 2>&1 || fail "the file system is not clean"

say "a process is as good as a mount"
at alice sh -c 'sleep 600 </dev/drbd0 & echo $! >/run/sleeper' >/dev/null 2>&1
await 10 "it has the device open" at alice sh -c '[ "$(readlink /proc/$(cat /run/sleeper)/fd/0)" = /dev/drbd0 ]'
refused 11 'Device is held open by someone' alice secondary r0
says alice 'held open by sleep(' || fail "nobody says who holds it"
at alice sh -c 'kill $(cat /run/sleeper)'
alice secondary r0
at alice sh -c '[ ! -e /sys/block/nbd0/pid ]' || fail "the kernel still has the device"
same "on both"

bob primary r0
at bob mount /dev/drbd0 /mnt/r0
at bob sh -c "cd /mnt/r0 && sha256sum --quiet -c $work/sums" || fail "bob reads other files"
at bob sh -c 'echo of bob >/mnt/r0/bob && umount /mnt/r0'
at bob blkdiscard -f /dev/drbd0
for node in alice bob; do [ "$(used $node)" -lt 20000 ] || fail "the discard does not reach $node: $(used $node) KiB"; done
bob secondary r0
same "in the end"
alice down r0
at alice sh -c '! [ -e /dev/drbd0 ] && ! [ -e /dev/replica ]' || fail "device nodes are left behind"
alice up r0
no_troubles
