#!/usr/bin/env bash
# What `events2` tells of a life with its peer is what the kernel's tool tells of the same: objects come, change and go with the
# same words in the same order, on the Primary and on the Secondary, and the handlers between them.
# directions: both
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

handlers='handlers { before-resync-source /bin/true; before-resync-target /bin/true; after-resync-target /bin/true; unfence-peer /bin/true; }'
story() {
    local primary=$1 secondary
    secondary=$(other "$primary")
    fresh
    both_conf "protocol C;" "resync-rate 4M; fencing resource-only;"
    sed -i "s,^common {,& $handlers," "$conf"
    create_md alice
    create_md carol
    ours=$work/alice-$primary.out
    kernels=$judge/carol-$primary.out
    guest sh -c "setsid drbdsetup events2 all >$kernels 2>&1 </dev/null & echo \$! >$judge/events.pid"
    background "alice-$primary" on alice "$bin/replctl" -c "$conf" events2
    local follower=$last
    await 10 "the kernel's tool follows" has_line 'exists -' "$kernels"
    await 10 "ours follows" has_line 'exists -' "$ours"
    alice up r0
    await 10 "alice waits" connection_is alice WFConnection
    carol up r0
    await 30 "connected" connection_is alice Connected
    await 30 "connected, the kernel says" connection_is carol Connected
    carol new-current-uuid --clear-bitmap r0/0
    settled
    "$primary" primary r0
    "$primary" suspend-io r0
    "$primary" resume-io r0
    "$secondary" disconnect r0
    await 20 "$primary is alone" connection_is "$primary" WFConnection
    io "$primary" "write -P 1 0 12M" flush
    "$secondary" connect r0
    await 20 "a resync" connection_is "$secondary" SyncTarget
    "$primary" pause-sync r0
    await 10 "the pause has arrived" connection_is "$secondary" PausedSyncT
    "$secondary" pause-sync r0
    "$primary" resume-sync r0
    "$secondary" resume-sync r0
    settled
    "$secondary" detach r0
    await 10 "its disk is gone" disks_are "$primary" UpToDate/Diskless
    "$secondary" attach r0
    settled
    "$primary" secondary r0
    "$primary" down r0
    await 20 "$secondary is alone" connection_is "$secondary" WFConnection
    "$secondary" down r0
    await 10 "the kernel's tool has said all" has_line 'destroy resource' "$kernels"
    await 10 "ours has said all" has_line 'destroy resource' "$ours"
    kill_tree "$follower"
    # shellcheck disable=SC2016 # The guest's shell reads it.
    guest sh -c 'kill $(cat "$1")' - "$judge/events.pid"
}
# states FILE: without what the kernel says although nothing is different, and without handlers
states() { grep -v -E -e ' helper ' -e '^change [a-z-]*( (name|peer-node-id|conn-name|volume|minor):[^ ]*)*$' "$1"; }
# handlers_in FILE: sorted, because some end while other things go on; the guest has no /bin/true, and its kernel says so.
handlers_in() { sed -n '/ helper /{s/ status:.*//;p}' "$1" | sort; }
compare() {
    diff <(states "$1") <(states "$2") >"$work/difference.out" || fail "the events of the $3 differ (<: ours, >: the kernel's)"
    diff <(handlers_in "$1") <(handlers_in "$2") >"$work/difference.out" || fail "the handlers of the $3 differ (<: ours, >: the kernel's)"
    say "the same $(states "$1" | wc -l) events and $(handlers_in "$1" | wc -l) handlers of the $3"
}
story carol
story alice
compare "$work/alice-alice.out" "$judge/carol-carol.out" Primary
compare "$work/alice-carol.out" "$judge/carol-alice.out" Secondary
