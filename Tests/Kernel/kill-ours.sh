#!/usr/bin/env bash
# kill -9 of our daemon as Primary under load: the resync covers exactly its activity log and bitmap, whoever is the
# source; and as Secondary under the kernel's load.
# directions: both
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires loop

both_fresh "protocol C;"
io alice "write -P 1 0 24M" flush
for survivor in waits takes-over; do
    under_load alice 28M
    kill_node alice
    kill_tree "$last"
    await 30 "the kernel is alone" connection_is carol WFConnection
    if [ $survivor = takes-over ]; then
        carol primary r0
        io carol "write -P 66 44M 256k" flush || fail "carol does not write: $(cat "$work/io.out")"
    fi
    marked=$(marked_in "${disk_of[alice]}")
    also=$(counter carol oos)
    [ "$marked" -ge 4096 ] || fail "the activity log was not hot: $marked KiB"
    alice up r0
    settled
    # carol's blocks lie outside of what the log of alice covers.
    [ "$(to_sync)" = $((marked + also)) ] || fail "$(to_sync) KiB were synchronised; log and bitmap of alice $marked KiB, of carol $also KiB"
    same "carol $survivor: $marked KiB in alice's log and bitmap, $also KiB in carol's bitmap"
    if [ $survivor = waits ]; then alice primary r0; fi
done

under_load carol 40M 15
kill_node alice
await 30 "the kernel is alone" connection_is carol WFConnection
alice up r0
await 40 "the load ends" gone "$last"
same "killed as Secondary"
