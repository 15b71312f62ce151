#!/usr/bin/env bash
# The kernel's machine loses its power as Primary under load: the resync covers exactly its activity log and bitmap,
# whoever is the source; and as Secondary under our load.
# directions: both
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires loop

one=carol two=alice
both_fresh "protocol C;"
io carol "write -P 1 0 24M" flush
for survivor in waits takes-over; do
    under_load carol 28M
    power_cut
    kill_tree "$last"
    await 40 "we are alone" connection_is alice WFConnection
    if [ $survivor = takes-over ]; then
        alice primary r0
        io alice "write -P 66 44M 256k" flush || fail "alice does not write: $(cat "$work/io.out")"
    fi
    marked=$(marked_in "$kernel_disk")
    also=$(counter alice oos)
    [ "$marked" -ge 4096 ] || fail "the activity log was not hot: $marked KiB"
    boot
    carol up r0
    settled
    [ "$(to_sync)" = $((marked + also)) ] || fail "$(to_sync) KiB were synchronised; log and bitmap of carol $marked KiB, of alice $also KiB"
    same "alice $survivor: $marked KiB in carol's log and bitmap, $also KiB in alice's bitmap"
    if [ $survivor = waits ]; then carol primary r0; fi
done

under_load alice 40M 20
power_cut
await 40 "we are alone" connection_is alice WFConnection
boot
carol up r0
await 60 "the load ends" gone "$last"
same "cut as Secondary"
