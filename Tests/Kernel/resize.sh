#!/usr/bin/env bash
# Both disks grow while they are in use and the device with them: first what is new travels, then, with --assume-clean,
# nothing; a chosen size cuts it back. In the end the power of both goes, and the metadata that moved is found.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

# grow MIB: both backing devices.
grow() {
    truncate -s "$1M" "${disk_of[alice]}"
    disk_of_guest $(($1 << 20))
    await 10 "the guest's disk has $1 MiB" guest_has "$1"
}
guest_has() { [ "$(guest cat /sys/block/vda/size)" = $(($1 * 2048)) ]; }
device_kib() { alice status r0 --verbose --statistics | sed -n 's/.*size:\([0-9]*\).*/\1/p' | head -n 1; }
# has_kib MIB KIB: on both sides the device has so many MiB but for the KiB of metadata: log, superblock, bitmap.
has_kib() { [ "$(device_kib)" = $((($1 << 10) - $2)) ] && [ "$(guest cat /sys/block/drbd0/size)" = $(((($1 << 10) - $2) * 2)) ]; }

both_fresh "protocol C;"
io "$one" "write -P 1 0 60M" flush
before=$(device_kib)
[ "$before" = $((65536 - 40)) ] || fail "the device has $before KiB"

say "only one of the disks is larger: nothing happens"
truncate -s 96M "${disk_of[alice]}"
alice resize r0 || fail "resize on alice"
[ "$(device_kib)" = "$before" ] || fail "the device has $(device_kib) KiB although carol's disk has not grown"

say "both are"
grow 96
head -c 8M /dev/urandom >"$work/noise"
guest dd if="$work/noise" of=/dev/vda bs=1M seek=80 oflag=direct conv=notrunc status=none || fail "noise on the new part"
io "$one" "write -P 2 1M 1M" flush
"$one" resize r0 || fail "resize on $one"
settled
await 20 "96 MiB on both sides: $(device_kib)" has_kib 96 40
[ "$(to_sync)" = $(($(device_kib) - before)) ] || fail "$(to_sync) KiB were copied, $(($(device_kib) - before)) are new"
says "$one" 'Began resync as SyncSource' || fail "the source is not $one"
io "$one" "write -P 3 62M 30M" "read -P 1 4M 50M" "read -P 2 1M 1M" flush || fail "using what is new: $(cat "$work/io.out")"
same "96 MiB"

say "again, this time from $two, and nothing is copied"
began=$(resyncs "$one")
grow 130
"$two" -- --assume-clean resize r0 || fail "resize --assume-clean on $two"
await 20 "130 MiB on both sides: $(device_kib)" has_kib 130 44
settled
[ "$(resyncs "$one")" = "$began" ] || fail "something was copied"
# Where the metadata was before, the disks need not agree.
io "$one" "write -P 4 90M 36M" "write -P 5 $((130 * 1024 - 44 - 64))k 64k" flush || fail "using the rest: $(cat "$work/io.out")"
same "130 MiB, clean"

say "cut back by command"
"$one" -- --size=100M resize r0 || fail "resize --size on $one"
await 20 "100 MiB on both sides: $(device_kib)" has_kib 100 0
same "100 MiB"

say "the power goes"
# in the first 60 MiB
load "$one" --rw=randwrite --io_size=2M --randrepeat=0 || fail "fio: $(tail -n 3 "$work/fio.out")"
kill_node alice
reboot_hard
alice up r0
carol up r0
settled
# Nobody remembers the command: the configuration names no size.
await 20 "130 MiB on both sides again: $(device_kib)" has_kib 130 44
same "after a crash of both"
"$one" primary r0
io "$one" "read -P 4 96M 4M" "read -P 3 64M 10M" || fail "the data is not there: $(cat "$work/io.out")"
