#!/usr/bin/env bash
# Resyncs on demand: control.md items 32 to 34 and 36 with real daemons, and how wait-sync looks on a terminal.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io "$python"

flags() { sed -n 's/^ 0: cs:.* \([rs][-a-z]*\)$/\1/p' "$work/$1/run/proc/drbd"; }
flags_are() { [ "$(flags "$1")" = "$2" ]; }
resyncs() { grep -c 'Began resync' "$(log_of "$1")" || true; }
full=65496

pair 64M '' 'resync-rate 16M;'
item 32 "verify without verify-alg, from a sector on, unconnected, during a resync"
refused 11 '^0: State change failed: (-14) Need a verify algorithm to start online verify$' alice verify r0
write_conf 'verify-alg sha1;' 'resync-rate 16M;'
silent alice adjust r0
silent bob adjust r0
verified() { [ "$(grep -c 'Online verify *done' "$(log_of alice)")" = "$1" ]; }
silent alice verify r0
await 10 "bob verifies, too" connection_is bob VerifyT
refused 11 '(-8)' bob verify r0
await 60 "the verify ends" verified 1
has_line 'Starting Online Verify from sector 0$' "$(log_of alice)" || fail "it began elsewhere"
settled
silent alice -- --start=98304 verify r0
await 60 "the second verify ends" verified 2
has_line 'Starting Online Verify from sector 98304$' "$(log_of alice)" || fail "it began elsewhere"
settled
refused 20 'Option --start' alice verify --start=never r0
settled
silent alice disconnect r0
refused 11 '^0: State change failed: (-15) Need a connection to start verify or resync$' alice verify r0
silent alice connect r0
settled

item 34 "invalidate on the connected Secondary: a full resync to it"
qemu-io -f raw -c "write -q -P 4 0 8M" "$(uri alice)"
received=$(counter bob nr)
silent bob invalidate r0
await 10 "bob is a target" connection_is bob SyncTarget
refused 11 '^0: State change failed: (-8) Can not start OV/resync since it is already active$' alice verify r0
refused 11 '(-8)' alice invalidate-remote r0
refused 11 '(-8)' bob invalidate r0
item 36 "resize during a resync, and with no Primary"
refused 10 '^0: Failure: (130) Resize not allowed during resync.$' alice resize r0

item 33 "pause-sync and resume-sync, twice each"
silent alice pause-sync r0
refused 10 '^0: Failure: (134) Sync-pause flag is already set$' alice pause-sync r0
await 10 "alice shows u" flags_are alice r--u--
await 10 "bob shows p" flags_are bob r-p---
connection_is alice PausedSyncS || fail "alice is $(cstate alice)"
connection_is bob PausedSyncT || fail "bob is $(cstate bob)"
left=$(counter bob oos)
[ "$left" -gt 0 ] || fail "nothing is left"
alice status r0 | grep -q 'resync-suspended:user' || fail "status: $(alice status r0)"
bob status r0 | grep -q 'resync-suspended:peer' || fail "status: $(bob status r0)"
alice status --json r0 | "$python" -c 'import json, sys; d = json.load(sys.stdin)[0]["devices"][0]; assert d["resync-suspended-user"] is True, d; assert d["connection-state"] == "PausedSyncS", d'
refused 10 '^0: Failure: (157) Sync-pause flag is already cleared.$' bob resume-sync r0
[ "$(counter bob oos)" -ge $((left - 2048)) ] || fail "the resync goes on: $left, then $(counter bob oos) KiB"
silent alice resume-sync r0
refused 10 '^0: Failure: (135) Sync-pause flag is already cleared$' alice resume-sync r0
silent bob wait-sync r0
settled
[ $(($(counter bob nr) - received)) -ge $full ] || fail "only $(($(counter bob nr) - received)) KiB were copied"
identical

item 34 "invalidate-remote: from here to the peer; what asks the wrong way is refused"
received=$(counter bob nr)
silent alice invalidate-remote r0
silent alice wait-sync r0
settled
[ $(($(counter bob nr) - received)) -ge $full ] || fail "only $(($(counter bob nr) - received)) KiB were copied"
identical

item 36 "resize of disks that have not grown, and with both Secondary"
silent alice resize r0
settled
identical
silent alice secondary r0
refused 10 '^0: Failure: (131) Need one Primary node to resize.$' alice resize r0
silent alice primary r0

item 29 "wait-sync on a terminal draws a bar, and ends at the end"
silent bob invalidate r0
await 10 "bob is a target" connection_is bob SyncTarget
on bob "$python" "$here/terminal.py" "$work/bar" '' "$bin/replctl" -c "$conf" wait-sync r0
[ "$(cut -d' ' -f1 "$work/bar.end")" = 0 ] || fail "wait-sync on a terminal ends with $(cat "$work/bar.end")"
[ "$(counter bob oos) $(cstate bob)" = '0 Connected' ] || fail "$(counter bob oos) KiB are missing, $(cstate bob)"
grep -q -a -E $'^\r?r0/0 \\[=*>\\.*\\] [0-9]+\\.[0-9]% \\([0-9]+ of 63 MiB left\\)' "$work/bar.screen" || fail "no bar: $(cat -v "$work/bar.screen")"
# The line is wiped in the end.
tail -c 5 "$work/bar.screen" | grep -q -a $'\r\e\\[K$' || fail "the bar stays: $(tail -c 20 "$work/bar.screen" | cat -v)"
say "$(tr '\r' '\n' <"$work/bar.screen" | grep -a '^r0' | sed -n '2p' | tr -d '\033')"
identical
