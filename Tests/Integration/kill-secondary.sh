#!/usr/bin/env bash
# The Secondary dies by SIGKILL under load: the Primary's clients notice nothing but a pause; it returns and catches up.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd

pair 192M
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 32 --flush
load=$last
for round in 1 2; do
    progress 1500
    say "round $round: SIGKILL for bob after $(acknowledged) answered writes"
    kill_node bob
    await 20 "alice notices" connection_is alice 'WFConnection|Unconnected'
    disks_are alice UpToDate/DUnknown || fail "alice is $(dstate alice)"
    progress 500
    [ "$(counter alice oos)" -gt 0 ] || fail "alice wrote alone and counts nothing out of sync"
    say "bob returns, while writes go on"
    bob up r0
    settled
done
progress 500
gone "$load" && fail "the writer has ended: $(tail -n 1 "$work/writer-alice.out")"
say "alice dies too: all that was answered is on bob"
kill_node alice
await 20 "the writer sees the end of its connection" gone "$load"
bob primary r0
no_write_lost bob
alice up r0
settled
identical
