#!/usr/bin/env bash
# Debian's drbdmeta reads what a running pair leaves behind, clean and crashed, and applies the same activity log.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root loop drbdmeta qemu-io nbd

loops=()
detach_loops() {
    local loop
    for loop in "${loops[@]}"; do losetup -d "$loop" 2>/dev/null; done
}
cleanup_fn detach_loops
# attach FILE: its loop device in $loop
attach() {
    loop=$(losetup --show -f "$work/$1") || skip "no free loop device"
    loops+=("$loop")
}
theirs() { drbdmeta --force - v08 "$1" internal "${@:2}" </dev/null; }
ours() { "$bin/replctl" meta --force - v08 "$1" internal "${@:2}" </dev/null; }
# A dump without its date and command line, and without the flags that drbdmeta before 9.33 prints as zero.
plain() { sed -e '2,3d' -e 's/^    flags 0x.*/    flags -/'; }
# agree TEXT DEVICE: both tools say the same of the metadata there
agree() {
    local command
    for command in get-gi dstate read-dev-uuid; do
        [ "$(theirs "$2" $command 2>&1)" = "$(ours "$2" $command 2>&1)" ] ||
            fail "$1: $command: $(theirs "$2" $command 2>&1) by drbdmeta, $(ours "$2" $command 2>&1) by us"
    done
    theirs "$2" dump-md 2>/dev/null | plain >"$work/theirs.dump"
    ours "$2" dump-md 2>/dev/null | plain >"$work/ours.dump"
    [ -s "$work/theirs.dump" ] || fail "$1: drbdmeta dumps nothing: $(theirs "$2" dump-md 2>&1)"
    cmp "$work/theirs.dump" "$work/ours.dump" || fail "$1: the dumps differ: $(diff "$work/theirs.dump" "$work/ours.dump" | head -n 5)"
}
# applied TEXT DEVICE: both apply the log of that device, each to a copy; the copies must be equal. Bits in $bits.
applied() {
    local one two
    cp "${file_of[$2]}" "$work/one.img"
    cp "${file_of[$2]}" "$work/two.img"
    attach one.img; one=$loop
    attach two.img; two=$loop
    theirs "$one" apply-al >"$work/theirs.out" 2>&1 || fail "$1: drbdmeta apply-al: $(cat "$work/theirs.out")"
    ours "$two" apply-al >"$work/ours.out" 2>&1 || fail "$1: our apply-al: $(cat "$work/ours.out")"
    agree "$1, applied by drbdmeta" "$one"
    agree "$1, applied by us" "$two"
    cmp "$one" "$two" || fail "$1: apply-al differs"
    bits=$(theirs "$one" dump-md | sed -n 's/^# bits-set \([0-9]*\);/\1/p')
    say "$1: both find $bits bits after apply-al"
    losetup -d "$one" "$two"
}
declare -A file_of=()
for node in "${nodes[@]}"; do
    truncate -s 192M "$work/$node.img"
    attach "$node.img"
    disk_of[$node]=$loop
    file_of[$loop]=$work/$node.img
done
nodes_with -

say "alice's metadata are ours, bob's are drbdmeta's"
alice create-md r0 >"$work/create-md.out" 2>&1
theirs "${disk_of[bob]}" create-md >"$work/create-md.out" 2>&1
item 3 "drbdmeta dumps fresh metadata of ours"
agree "fresh, ours" "${disk_of[alice]}"
agree "fresh, drbdmeta's" "${disk_of[bob]}"
alice up r0
bob up r0
alice wait-connect r0
alice primary --force r0
settled
qemu-io -f raw -c "write -q -P 7 100M 40M" -c flush "$(uri alice)"
identical
online=$(alice get-gi r0)
item 42 "drbdmeta finds the device held"
status=0
drbdmeta - v08 "${disk_of[alice]}" internal dump-md </dev/null >"$work/held.out" 2>&1 || status=$?
[ $status = 20 ] || fail "drbdmeta ends with $status: $(cat "$work/held.out")"
alice down r0
bob down r0
for node in "${nodes[@]}"; do
    await 10 "$node's daemon is gone" gone "$(pid_of "$node" || echo 999999)"
    applied "$node after a clean end" "${disk_of[$node]}"
    [ "$bits" = 0 ] || fail "$node has $bits bits after a clean end"
done
# Offline nobody is Primary any more: the last bit of the current identifier says so.
[ "$(theirs "${disk_of[alice]}" get-gi | cut -d: -f2-4)" = "$(cut -d: -f2-4 <<<"$online")" ] ||
    fail "identifiers: $online online, $(theirs "${disk_of[alice]}" get-gi) offline"

say "alice crashes as Primary under load, apart from bob"
alice up r0
bob up r0
settled
alice primary r0
kill_node bob
await 20 "alice notices" connection_is alice WFConnection
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 16 --span 80
progress 1000
kill_node alice
await 20 "the writer sees the end of its connection" gone "$last"
applied "alice after a crash" "${disk_of[alice]}"
[ "$bits" -ge 20480 ] || fail "only $bits bits for 80 MiB that were hot"
[ "$(theirs "${disk_of[alice]}" get-gi | cut -d: -f5-)" = "$(ours "${disk_of[alice]}" get-gi | cut -d: -f5-)" ] || fail "flags differ"
say "flags after the crash: $(theirs "${disk_of[alice]}" get-gi | cut -d: -f5-)"

say "drbdmeta applies the log for real; the pair goes on from there"
theirs "${disk_of[alice]}" apply-al
alice up r0
[ "$(counter alice oos)" = $((bits * 4)) ] || fail "$(counter alice oos) KiB out of sync, drbdmeta counted $bits bits"
alice primary r0
no_write_lost alice
bob up r0
settled
identical

say "a crash of both, each with a hot log"
background writer-again "$writer" write "$(uri alice)" "$work/journal" --depth 16 --span 40 --seed 2
progress 500
kill -9 "$(pid_of alice)" "$(pid_of bob)"
kill_node alice
kill_node bob
await 20 "the writer sees the end of its connection" gone "$last"
for node in "${nodes[@]}"; do applied "$node after the crash of both" "${disk_of[$node]}"; done
alice up r0
bob up r0
settled
alice primary r0
no_write_lost alice
identical
