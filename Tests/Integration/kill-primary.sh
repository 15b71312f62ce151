#!/usr/bin/env bash
# The Primary dies by SIGKILL under load; the other takes over; the dead one returns and both are equal again.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd

pair 192M
say "writes at alice, then SIGKILL in the middle of them"
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 32 --flush --seed 1
progress 3000
kill_node alice
await 20 "the writer sees the end of its connection" gone "$last"

say "bob takes over: $(acknowledged) writes were answered"
bob primary r0
no_write_lost bob
connection_is bob WFConnection || fail "bob is $(cstate bob)"

say "bob goes on writing, alone"
"$writer" write "$(uri bob)" "$work/journal" --count 1000 --depth 32 --seed 2
no_write_lost bob

say "alice returns"
alice up r0
settled
role_is alice Secondary || fail "alice is $(role alice)"
grep -o 'will sync [0-9]* KB' "$(log_of alice)" | tail -n 1
no_write_lost bob
identical

say "and takes over in turn"
bob secondary r0
alice primary r0
no_write_lost alice
