#!/usr/bin/env bash
# Each command in each state: it does what it is for or says in DRBD's words why not, with an exit code of the list.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires timeout

nodes_with 32M
for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done

commands=$(alice hidden-commands | grep '^ ' | tr -s ' ' '\n')
commands+=" attach disk-options connect disconnect resource-options primary invalidate outdate verify resume-sync adjust
adjust-with-progress wait-con-int cstate dump create-md get-gi wipe-md status detach net-options secondary invalidate-remote
resize pause-sync wait-connect wait-sync role dstate dump-xml show-gi dump-md apply-al syncer show proc up down"
# Exit codes that a command may end with; a crash is 132 or 139, a hang 124
sweep() { # STATE PATTERN PREPARATION: the pattern is alice's line in the status file while in that state
    local state=$1 command options status count=0
    for command in $commands; do
        if ! grep -q -s "^ 0: $2" "$work/alice/run/proc/drbd"; then
            "$3" >/dev/null 2>&1 || true
            [ "$state" = down ] || await 15 "$state, for '$command'" grep -q "^ 0: $2" "$work/alice/run/proc/drbd"
        fi
        options=()
        case $command in wait-*) options=(-t 1) ;; esac
        status=$(status_of timeout 20 env REPLICA_NODE=alice REPLICA_RUN_DIR="$work/alice/run" "$bin/replctl" -c "$conf" "$command" "${options[@]}" r0)
        case $status in
            0 | 1 | 5 | 10 | 11 | 16 | 17 | 20) ;;
            *) fail "'$command' while $state ends with $status: $(said)" ;;
        esac
        if [ "$status" -ge 10 ]; then
            said | grep -q -E "^(0|r0): (State change failed|Failure): \(-?[0-9]+\) [A-Z]|Device '0' is configured|set-gi needs|No such resource|unclean" ||
                fail "'$command' while $state ends with $status and says: $(said)"
        fi
        if [ "$status" = 0 ] && said | grep -q -E 'Failure|failed|Fatal|rror:'; then fail "'$command' while $state ends with 0 and says: $(said)"; fi
        count=$((count + 1))
    done
    grep -l -E 'gone without a word|invariant|Fatal' "$work"/*/run/r0.log && fail "a daemon broke while $state"
    say "$state: $count commands"
}
is_down() { alice down r0; }
is_alone() { bob down r0; alice adjust r0; alice resume-sync r0; alice resume-io r0; alice secondary r0; }
is_connected() {
    bob adjust r0; alice adjust r0; alice resume-sync r0; alice resume-io r0
    alice wait-connect -t 5 r0
    alice wait-sync -t 10 r0
    settled_on alice || { alice primary --force r0; alice wait-sync -t 10 r0; }
    alice secondary r0
}
is_primary() { is_connected; alice primary r0; }
is_diskless() { is_primary; alice detach r0; }
stands_alone() { is_connected; alice disconnect r0; }
sweep down 'cs:Never' is_down
sweep disconnected 'cs:WFConnection ro:Secondary/Unknown .* C r-----$' is_alone
sweep connected 'cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----$' is_connected
sweep primary 'cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----$' is_primary
sweep diskless 'cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate C r-----$' is_diskless
sweep StandAlone 'cs:StandAlone ro:Secondary/Unknown ds:UpToDate/.* r-----$' stands_alone
