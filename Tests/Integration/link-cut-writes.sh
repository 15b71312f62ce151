#!/usr/bin/env bash
# The cable is pulled in the middle of writes and put back, three times. The client sees a pause, never an error.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd

networks
pair 192M
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 32 --flush
for round in 1 2 3; do
    progress 1000
    unplug
    say "round $round: unplugged after $(acknowledged) answered writes"
    await 30 "alice notices" connection_is alice 'NetworkFailure|BrokenPipe|Timeout|Unconnected|WFConnection'
    progress 500
    await 30 "bob notices" connection_is bob 'NetworkFailure|BrokenPipe|Timeout|Unconnected|WFConnection'
    disks_are alice UpToDate/DUnknown || fail "alice is $(dstate alice)"
    plug
    settled
done
progress 500
say "alice dies: all that was answered is on bob"
kill_node alice
await 20 "the writer sees the end of its connection" gone "$last"
grep -q 'failed' "$work/writer-alice.out" && fail "the client saw an error: $(cat "$work/writer-alice.out")"
bob primary r0
no_write_lost bob
alice up r0
settled
identical
