#!/usr/bin/env bash
# Both logical volumes grow under a mounted file system that is in use, twice: the resource, the device and the file system follow, and
# the program that writes and verifies there does not notice.
# directions: ext4 xfs
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
kind=$1
case $kind in
    ext4) grow=(resize2fs /dev/drbd0) check=(e2fsck -fn /dev/drbd0) ;;
    xfs) grow=(xfs_growfs /mnt/r0) check=(xfs_repair -n /dev/drbd0) ;;
esac
written() { [ "$(counter alice dw)" -gt $(($1 + $2)) ]; }

fresh_pair
at alice "mkfs.$kind" -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
at alice sh -c "head -c 8M /dev/urandom >/mnt/r0/file && sha256sum /mnt/r0/file >/tmp/sum"
at alice sh -c "fio --name=files --directory=/mnt/r0 --rw=randrw --rwmixread=30 --bs=4k --size=8M --io_size=1G --iodepth=8 --ioengine=libaio --direct=1 \
    --verify=crc32c --verify_fatal=1 --verify_state_save=0 --fsync=64 --time_based --runtime=36000 --output-format=terse \
    >$work/fio.out 2>&1 </dev/null & echo \$! >/run/fio" >/dev/null 2>&1
for more in 48 16; do
    before=$(data_bytes)
    room=$(at alice stat -f -c %b /mnt/r0)
    await 60 "the load runs" written "$(counter alice dw)" 2500
    for node in alice bob; do at $node lvextend -q -L +${more}M vg/r0 >"$work/lvextend.out" 2>&1; done
    alice resize r0
    after=$(data_bytes)
    [ $((after - before)) -ge $(((more - 1) << 20)) ] || fail "the resource has $after bytes, and $before before"
    device_is alice "$after" || fail "the device has $(at alice blockdev --getsize64 /dev/drbd0) bytes, the resource $after"
    at alice "${grow[@]}" >"$work/grow.out" 2>&1 || fail "the file system does not grow: $(cat "$work/grow.out")"
    [ "$(at alice stat -f -c %b /mnt/r0)" -gt "$room" ] || fail "the file system has not grown"
    settled
    await 60 "the load goes on" written "$(counter alice dw)" 2500
    at alice sh -c 'kill -0 $(cat /run/fio)' || fail "fio: $(tail -n 3 "$work/fio.out")"
    say "$((before >> 10)) KiB became $((after >> 10)) KiB"
done
at alice sh -c 'kill -INT $(cat /run/fio)'
await 60 "the load ends" at alice sh -c '! kill -0 $(cat /run/fio) 2>/dev/null'
[ "$(sed -n 's/^3;fio[^;]*;files;0;\([0-9]*\);.*/\1/p' "$work/fio.out")" = 0 ] || fail "fio: $(cat "$work/fio.out")"
# Beyond what there was before.
at alice -t 120 sh -c 'head -c 300M /dev/urandom >/mnt/r0/more && sync && sha256sum --quiet -c /tmp/sum && umount /mnt/r0' ||
    fail "what was there is not, or there is no room"
at alice "${check[@]}" >"$work/check.out" 2>&1 || fail "the file system is not clean"
alice secondary r0
same "after growing"
no_troubles
