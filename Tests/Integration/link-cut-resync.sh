#!/usr/bin/env bash
# The cable is pulled in the middle of a resync, while the source is written to; the resync goes on where it was.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd qemu-io

away='NetworkFailure|BrokenPipe|Timeout|Unconnected|WFConnection'
partly() { local left; left=$(counter alice oos) && [ "$left" -lt "$1" ] && [ "$left" -gt 0 ]; }
last_total() { grep -o 'Began resync as SyncSource (will sync [0-9]*' "$(log_of alice)" | tail -n 1 | grep -o '[0-9]*$'; }
resyncs() { grep -c 'Began resync as SyncSource' "$(log_of alice)" || true; }
idle() { [ "$(counter "$1" ap)$(counter "$1" lo)" = 00 ]; }
resyncs_are() { [ "$(resyncs)" = "$1" ]; }

networks
pair 192M '' 'resync-rate 12M;'
say "bob is away while alice gets 160 MiB"
kill_node bob
await 20 "alice notices" connection_is alice WFConnection
qemu-io -f raw -c "write -q -P 77 0 160M" "$(uri alice)"
bob up r0
await 30 "a resync" resyncs_are 1
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 2 --seed 5 --span 32
load=$last
for round in 1 2; do
    await 30 "some of it is done" partly $((160000 - round * 25000))
    unplug
    say "unplugged with $(counter alice oos) KiB left"
    await 30 "alice notices" connection_is alice "$away"
    await 30 "bob notices" connection_is bob "$away"
    disks_are bob Inconsistent/DUnknown || fail "bob is $(dstate bob)"
    refused 17 'Need access to UpToDate data' bob primary r0
    progress 100
    # Nothing changes any more, so that what has to travel is known.
    kill -STOP "$load"
    await 10 "alice has answered all" idle alice
    left=$(counter alice oos)
    plug
    await 30 "the resync goes on" resyncs_are $((round + 1))
    kill -CONT "$load"
    say "goes on with $(last_total) KiB, $left KiB were marked"
    # What was in flight when the cable was pulled may be marked on bob only.
    [ "$(last_total)" -le $((left + 4096)) ] || fail "it began again from the start"
done
progress 300
alice disk-options --resync-rate=4G r0
bob disk-options --resync-rate=4G r0
settled
say "alice dies: all that was answered is on bob"
kill_node alice
await 20 "the writer sees the end of its connection" gone "$load"
bob primary r0
no_write_lost bob
alice up r0
settled
identical
