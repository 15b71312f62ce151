#!/usr/bin/env bash
# Both nodes die at once under load, as in a power cut of the room; each may come back first.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd

pair 192M
# both_die: SIGKILL for both with nothing in between.
both_die() {
    kill -9 "$(pid_of alice)" "$(pid_of bob)"
    kill_node alice
    kill_node bob
    await 20 "both are gone and the writer knows" gone "$last"
}

say "both die under load at alice; the former Primary comes back first"
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 32 --flush --seed 1
progress 2000
both_die
alice up r0
bob up r0
settled
grep -o 'will sync [0-9]* KB' "$(log_of alice)" | tail -n 1
alice primary r0
no_write_lost alice
identical

say "again; this time the former Secondary comes back first, and then serves"
background writer-again "$writer" write "$(uri alice)" "$work/journal" --depth 32 --flush --seed 2
progress 1000
both_die
bob up r0
alice up r0
settled
identical
bob primary r0
no_write_lost bob
