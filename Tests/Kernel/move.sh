#!/usr/bin/env bash
# A disk moves from the kernel to us and back, in place, with its metadata: nothing but what was written meanwhile, or
# what an activity log names after a crash, is copied. alice is the peer all the time.
# directions: both
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires loop

one=carol two=alice
# dave is our replicad on carol's disk, under carol's name. It shares alice's address, not her port.
nodes=(alice carol)
dave() { on carol "$bin/replctl" -c "$conf" "$@"; }
mkdir -p "$work/carol/run"
ours_has_it() { carols_disk=$kernel_disk carols_address=10.77.0.1:7789 both_conf; }
kernel_has_it() {
    both_conf
    guest sh -c 'echo 3 >/proc/sys/vm/drop_caches'
}
settled_with_dave() { settled_on alice && settled_on dave; }
dave_io() {
    qemu-io -f raw -c "$1" -c flush "$(uri carol)" >"$work/io.out" 2>&1 || fail "dave: $(cat "$work/io.out")"
}
pause_between() { [ "$(resyncs alice)" = "$1" ] || fail "$2: something was synchronised"; }

both_fresh "protocol C;"
io carol "write -P 41 0 16M" flush
say "clean: from the kernel to us"
told=$(carol get-gi r0)
carol down r0
left_in "$kernel_disk" "$told" 1:1:0:0
await 20 "alice is alone" connection_is alice WFConnection
ours_has_it
dave up r0
alice adjust r0
await 60 "alice and dave are in sync" settled_with_dave
pause_between 0 "taken over"
dave primary r0
qemu-io -f raw -c "read -P 41 0 16M" "$(uri carol)" >"$work/io.out" 2>&1 || fail "dave does not read what the kernel wrote"
dave_io "write -P 42 4M 1M"

say "clean: back to the kernel"
told=$(dave get-gi r0)
dave down r0
left_in "$kernel_disk" "$told" 1:1:0:0
await 20 "alice is alone" connection_is alice WFConnection
kernel_has_it
carol up r0
alice adjust r0
same "given back clean"
pause_between 0 "given back"
carol primary r0
io carol "read -P 42 4M 1M" "read -P 41 5M 1M" || fail "the kernel does not read what we wrote: $(cat "$work/io.out")"

say "crashed: from the kernel to us"
under_load carol 28M
told=$(carol get-gi r0)
power_cut
left_in "$kernel_disk" "$told" 1:1:1:1
kill_tree "$last"
await 40 "alice is alone" connection_is alice WFConnection
marked=$(marked_in "$kernel_disk")
ours_has_it
dave up r0
alice adjust r0
await 60 "alice and dave are in sync" settled_with_dave
grep -q "Began resync as SyncTarget (will sync $marked KB" "$(log_of alice)" || fail "it was not $marked KiB"
say "$marked KiB were synchronised"

say "crashed: back to the kernel"
dave primary r0
before=$(counter alice dw)
background load fio --name=load --ioengine=nbd "--uri=$(uri carol)" --rw=randwrite --bs=4k --iodepth=16 --size=28M --time_based --runtime=60 --randrepeat=0
await 30 "a load on dave" written "$before"
told=$(dave get-gi r0)
kill_node carol
left_in "$kernel_disk" "$told" 1:1:1:1
kill_tree "$last"
await 40 "alice is alone" connection_is alice WFConnection
marked=$(marked_in "$kernel_disk")
[ "$marked" -ge 4096 ] || fail "the activity log was not hot: $marked KiB"
boot
kernel_has_it
carol up r0
alice adjust r0
settled
[ "$(to_sync)" = "$marked" ] || fail "$(to_sync) KiB were synchronised, not $marked"
same "given back crashed, $marked KiB synchronised"
