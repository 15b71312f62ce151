#!/usr/bin/env bash
# Both are promoted apart and written to. Nothing is overwritten until the administrator names the victim.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io

# holds NODE TEXT PATTERN OFFSET...: 64 KiB at each offset hold the pattern before it
holds() {
    local node=$1 text=$2 reads=()
    shift 2
    while [ $# -gt 0 ]; do
        reads+=(-c "read -q -P $1 $2 64k")
        shift 2
    done
    qemu-io -f raw "${reads[@]}" "$(uri "$node")" >"$work/read.out" 2>&1 || fail "$text"
    if [ -s "$work/read.out" ]; then fail "$text"; fi
}
stand_alone() { # neither talks to the other any more
    [[ "$(cstate alice)/$(cstate bob)" =~ ^(StandAlone/(StandAlone|WFConnection)|WFConnection/StandAlone)$ ]]
}
# apart: both Primary, both with changes of their own, at 1 MiB the same blocks
apart() {
    qemu-io -f raw -c "write -q -P 10 0 4M" -c flush "$(uri alice)"
    alice disconnect r0
    await 20 "bob is alone" connection_is bob WFConnection
    bob disconnect r0
    bob primary r0
    qemu-io -f raw -c "write -q -P 11 1M 64k" -c "write -q -P 12 2M 64k" -c flush "$(uri alice)"
    qemu-io -f raw -c "write -q -P 21 1M 64k" -c "write -q -P 22 3M 64k" -c flush "$(uri bob)"
}

pair 96M
apart
item 20 "both are Primary apart; they meet again"
alice connect r0
bob connect r0
await 30 "they part" stand_alone
await 30 "alice logs it" has_line 'Split-Brain detected but unresolved, dropping connection!' "$(log_of alice)"
await 30 "bob logs it" has_line 'Split-Brain detected but unresolved, dropping connection!' "$(log_of bob)"
holds alice "alice's data were touched" 11 1M 12 2M
holds bob "bob's data were touched" 21 1M 22 3M
say "alice $(cstate alice) $(role alice), bob $(cstate bob) $(role bob)"

item 19 "alice is named the victim: refused while she is Primary"
alice disconnect r0
refused 10 '(123)' alice -- --discard-my-data connect r0
alice secondary r0
alice -- --discard-my-data connect r0
[ "$(cstate bob)" != StandAlone ] || bob connect r0
settled
identical
holds bob "the survivor's data changed" 10 0 21 1M 10 2M 22 3M
bob secondary r0
alice primary r0
holds alice "alice does not hold the survivor's data" 10 0 21 1M 10 2M 22 3M
say "the loser's changes are gone, the survivor's are on both"
