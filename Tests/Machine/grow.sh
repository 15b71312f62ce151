#!/usr/bin/env bash
# Both logical volumes grow under a mounted file system: the resource, the device and the file system follow.
# directions: ext4
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

fresh_pair
before=$(data_bytes)
at alice mkfs.ext4 -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
at alice sh -c "head -c 8M /dev/urandom >/mnt/r0/file && sha256sum /mnt/r0/file >/tmp/sum"
for node in alice bob; do at $node lvextend -q -L +64M vg/r0 >"$work/lvextend.out" 2>&1; done
alice resize r0
after=$(data_bytes)
[ $((after - before)) -ge $((63 << 20)) ] || fail "the resource has $after bytes, and $before before"
device_is alice "$after" || fail "the device has $(at alice blockdev --getsize64 /dev/drbd0) bytes, the resource $after"
at alice resize2fs /dev/drbd0 >"$work/resize2fs.out" 2>&1
settled
at alice sh -c 'head -c 200M /dev/urandom >/mnt/r0/more && sync && sha256sum --quiet -c /tmp/sum && umount /mnt/r0'
at alice e2fsck -fn /dev/drbd0 >"$work/check.out" 2>&1 || fail "the file system is not clean"
alice secondary r0
same "after growing"
no_troubles
