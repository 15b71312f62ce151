#!/usr/bin/env bash
# A disk with sectors of 4096 bytes, which the kernel reads and writes in nothing smaller: metadata, data, a crash, a resync,
# with a peer whose sectors have 512 bytes, in both roles.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root loop drbdmeta qemu-io

detach() { [ -z "${loop:-}" ] || losetup -d "$loop"; }
cleanup_fn detach
truncate -s 64M "$work/large.img"
loop=$(losetup --show -b 4096 -f "$work/large.img") || skip "no loop device with large sectors"
[ "$(blockdev --getss "$loop")" = 4096 ] || skip "the kernel does not do large sectors"
disk_of[alice]=$loop

use() { qemu-io -f raw "${@:2}" "$(uri "$1")" >"$work/io.out" 2>&1 && ! grep -i -e failed -e error -e verification "$work/io.out"; }

item 48 "on a device with 4096-byte sectors all of our metadata I/O is in multiples of them, or it would fail"
pair 64M
use alice -c "write -P 1 0 8M" -c "write -P 2 4100k 4k" -c flush || fail "alice does not write: $(cat "$work/io.out")"

say "drbdmeta finds what we wrote there"
alice down r0
drbdmeta - v08 "$loop" internal get-gi </dev/null >"$work/get-gi.out" 2>&1 || fail "get-gi: $(cat "$work/get-gi.out")"
grep -q '^[0-9A-F]*:' "$work/get-gi.out" || fail "get-gi: $(cat "$work/get-gi.out")"

say "the peer, whose sectors are small, takes over, and writes small"
bob primary r0
use bob -c "write -P 3 1M 512" -c "write -P 4 $((1536 * 1024 + 512)) 1024" -c flush || fail "bob alone does not write: $(cat "$work/io.out")"
alice up r0
settled
use bob -c "write -P 5 2M 512" -c "write -P 6 $((2560 * 1024 + 512)) 1024" -c "write -P 7 3M 64k" -c flush ||
    fail "bob does not write with alice there: $(cat "$work/io.out")"
settled
use bob -c "read -P 5 2M 512" -c "read -P 6 $((2560 * 1024 + 512)) 1024" -c "read -P 3 1M 512" || fail "bob reads something else"

say "killed as Primary, with extents in the log"
bob secondary r0
alice primary r0
use alice -c "write -P 8 5M 1M" -c "write -P 9 40M 1M" -c flush || fail "alice does not write: $(cat "$work/io.out")"
kill_node alice
await 20 "bob is alone" connection_is bob WFConnection
alice up r0
settled
grep -q 'Began resync' "$(log_of alice)" || fail "the log of a crashed Primary named nothing"
identical
