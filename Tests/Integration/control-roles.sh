#!/usr/bin/env bash
# Promotion, demotion and what asks for them: control.md items 14 to 17, 26, 27, 35, 37, with real daemons.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd qemu-io

tools
drbdadm() { on alice "$tools/drbdadm" -c "$conf" "$@"; }
drbdsetup() { on alice "$tools/drbdsetup" "$@"; }
created() { for node in "${nodes[@]}"; do "$node" create-md --force r0 >"$work/create-md.out" 2>&1 || fail "create-md: $(cat "$work/create-md.out")"; done; }
generation() { alice get-gi r0 | cut -d: -f1; }

nodes_with 64M
created
item 15 "primary on Inconsistent data without peer"
silent alice up r0
refused 17 '^0: State change failed: (-2) Need access to UpToDate data$' drbdadm primary r0
said | grep -q "^Command 'drbdsetup primary 0' terminated with exit code 17$" || fail "not the command: $(said)"

item 26 "bare lines for role, cstate, dstate"
equal Secondary/Unknown alice role r0
equal WFConnection alice cstate r0
equal Inconsistent/DUnknown alice dstate r0
drbdsetup disconnect r0
drbdsetup detach 0
for command in role cstate dstate; do equal Unconfigured alice "$command" r0; done
grep -q '^ 0: cs:Unconfigured$' "$work/alice/run/proc/drbd" || fail "the status file says: $(cat "$work/alice/run/proc/drbd")"
silent drbdadm down r0
refused 10 '^0: Failure: (127) Device minor not allocated$' drbdadm role r0
refused 10 '^0: Failure: (127) Device minor not allocated$' drbdsetup cstate 0

item 35 "new-current-uuid --clear-bitmap on a fresh pair: UpToDate on both without resync"
silent alice up r0
silent bob up r0
silent alice wait-connect r0
equal Inconsistent/Inconsistent alice dstate r0
silent drbdadm -- --clear-bitmap new-current-uuid r0/0
settled
grep -q 'Began resync' "$(log_of alice)" "$(log_of bob)" && fail "there was a resync"
[ "$(counter alice ns)/$(counter bob nr)" = 0/0 ] || fail "data travelled"
silent alice down r0
silent bob down r0

item 14 "three ways to force, and the second time changes nothing"
# Each way: first time from fresh, then once more; the plan is the same in all of them.
way() {
    created
    silent alice up r0
    silent bob up r0
    silent alice wait-connect r0
    local before
    before=$(generation)
    silent drbdadm "$@"
    grep -q 'block drbd0: Forced to consider local data as UpToDate!' "$(log_of alice)" || fail "no word of force in the log"
    silent alice wait-sync r0
    settled
    equal Primary/Secondary alice role r0
    equal Secondary/Primary bob role r0
    local after
    after=$(generation)
    [ "$after" != "$before" ] || fail "no new generation"
    [ "$(counter alice ns)" -ge 65496 ] || fail "no full resync"
    silent drbdadm "$@"
    [ "$(generation)" = "$after" ] || fail "the second '$*' begins a new generation"
    settled
    silent alice down r0
    silent bob down r0
}
way -- --overwrite-data-of-peer primary r0
way primary --force r0
way -- --overwrite-data-of-peer primary all
way primary all --force

item 16 "primary while the peer is Primary"
silent alice up r0
silent bob up r0
settled
silent alice primary r0
refused 11 '^0: State change failed: (-1) Multiple primaries not allowed by config$' bob primary r0
refused 11 '(-1)' bob primary --force r0
equal Primary/Secondary alice role r0
equal Secondary/Primary bob role r0
silent qemu-io -f raw -c "write -q -P 5 0 1M" "$(uri alice)"

item 17 "secondary with the export open"
background client "$python" -c 'import nbd, sys, time; h = nbd.NBD(); h.connect_uri(sys.argv[1]); print("open", flush=True); time.sleep(60)' "$(uri alice)"
client=$last
await 10 "the client is in" has_line open "$work/client.out"
refused 11 '^0: State change failed: (-12) Device is held open by someone$' drbdadm secondary r0
refused 11 '(-12) Device is held open by someone' drbdadm down r0
equal Primary/Secondary alice role r0
silent qemu-io -f raw -c "write -q -P 6 0 1M" "$(uri alice)"
kill "$client"
await 10 "the client is gone" gone "$client"
silent_soon() { drbdadm secondary r0; }
await 5 "secondary when nobody is in" silent_soon
silent drbdadm secondary r0
silent drbdadm -- secondary r0
equal Secondary/Secondary alice role r0

item 27 "drbdsetup in both orders"
for words in '/dev/drbd0 cstate' 'cstate 0' '0 cstate' 'cstate minor-0' 'cstate /dev/drbd0'; do
    # shellcheck disable=SC2086
    equal Connected drbdsetup $words
done

item 37 "unknown command, missing resource"
refused 1 "^drbdadm: Unknown command 'frobnicate'$" drbdadm frobnicate r0
refused 1 '^No resource names specified$' drbdadm up
refused 1 "^'r7' not defined in your config (for this host).$" drbdadm role r7
refused 1 '^No command specified$' drbdadm
