#!/usr/bin/env bash
# Waiting at boot: control.md items 28 and 48 with real daemons and a terminal.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires "$python"

# on_terminal NAME SCRIPT COMMAND...: the command on a terminal of its own. SCRIPT says what is typed: seconds and text.
# Output goes to NAME.screen, the exit status and the seconds to NAME.end.
on_terminal() {
    local name=$1 typed=$2
    shift 2
    "$python" "$here/terminal.py" "$work/$name" "$typed" "$@"
}
waits() { # NAME TYPED [OPTIONS]: alice waits for her peer
    local name=$1 typed=$2
    shift 2
    background "$name" on_terminal "$name" "$typed" env REPLICA_NODE=alice REPLICA_RUN_DIR="$work/alice/run" "$bin/replctl" -c "$conf" wait-con-int "$@"
}
ended() { [ -s "$work/$1.end" ]; }
more_than_dots() { [ "$(tr -d '.' <"$work/$1.screen" | wc -c)" != 0 ]; }
shows() { grep -q -a -F -e "$2" "$work/$1.screen"; }

nodes_with 64M '' '' 'startup { degr-wfc-timeout 120; }'
for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done
silent alice up r0
connection_is alice WFConnection || fail "alice is $(cstate alice)"

item 48 "the dialogue: after 10 s, counts, takes only 'yes', ends by itself"
sed 's/^global { /&dialog-refresh 0; /' "$conf" >"$work/still.conf"
waits yes '12.5=no\n,14=yes\n'
waits by-itself ''
conf_kept=$conf
conf=$work/still.conf
waits still ''
conf=$conf_kept
await 5 "the terminal" test -e "$work/yes.screen"
within 8 more_than_dots yes && fail "more than dots before its time: $(cat -v "$work/yes.screen")"
for name in yes by-itself still; do await 5 "the dialogue" shows $name "DRBD's startup script waits for the peer node(s) to appear."; done
shows yes "reboot, the timeout is 120 seconds. [degr-wfc-timeout]" || fail "$(cat -v "$work/yes.screen")"
shows yes "is 0 seconds. [wfc-timeout]" || fail "$(cat -v "$work/yes.screen")"
shows yes "(These values are for resource 'r0'; 0 sec -> wait forever)" || fail "$(cat -v "$work/yes.screen")"
await 6 "it counts" shows by-itself $'\e[s\e[31G  13\e[u'
await 6 "yes ends it" ended yes
[ "$(cut -d' ' -f1 "$work/yes.end")" = 0 ] || fail "it ends with $(cat "$work/yes.end")"
[ "$(cut -d' ' -f2 "$work/yes.end")" -ge 13 ] || fail "'no' ended it: $(cat "$work/yes.end")"
[ "$(grep -a -o -F "To abort waiting enter 'yes'" "$work/yes.screen" | wc -l)" = 2 ] || fail "the prompt is not repeated: $(cat -v "$work/yes.screen")"
shows still $'\e[31G' && fail "dialog-refresh 0 redraws: $(cat -v "$work/still.screen")"
ended by-itself && fail "somebody else's 'yes' ended it"
silent bob up r0
for name in by-itself still; do
    await 10 "it ends when the peer is there" ended $name
    [ "$(cut -d' ' -f1 "$work/$name.end")" = 0 ] || fail "it ends with $(cat "$work/$name.end")"
done
connection_is alice Connected || fail "alice is $(cstate alice)"
say "$(tr '\r' '\n' <"$work/by-itself.screen" | grep -a 'To abort' | head -n 1 | sed 's/\x1b.*//')"

say "all are there: no word"
silent alice wait-con-int
equal Secondary/Secondary alice role r0

say "SIGTERM ends the wait, and boot goes on"
silent bob down r0
await 10 "alice is alone" connection_is alice WFConnection
REPLICA_NODE=alice REPLICA_RUN_DIR=$work/alice/run "$bin/replctl" -c "$conf" wait-con-int >"$work/by-term.out" 2>&1 &
children+=("$!")
waiting=$!
await 5 "it waits for the daemon" asks_daemon "$waiting"
kill -TERM "$waiting"
wait "$waiting" || fail "SIGTERM: it ends with $?"

item 28 "wait-connect: the timeouts of the command line win; a StandAlone node does not wait"
[ "$(status_of alice wait-connect -t 1 r0)" = 5 ] || fail "not 5: $(said)"
[ "$(status_of alice wait-connect --wfc-timeout=1 r0)" = 5 ] || fail "not 5: $(said)"
[ "$(status_of on alice "$bin/replctl" setup wait-connect 0 -t 1)" = 5 ] || fail "not 5: $(said)"
[ "$(status_of on alice "$bin/replctl" setup 0 wait-connect -t1)" = 5 ] || fail "not 5: $(said)"
silent alice disconnect r0
silent alice wait-connect r0

say "the init script: start, status, reload, stop"
init() { on alice env REPLICA_CONTROL="$bin/replctl -c $conf" "$root/etc/init/replica" "$@"; }
table() { init status | tail -n +4; }
[ "$(status_of init)" = 1 ] || fail "no word: $(said)"
said | grep -q '^Usage: ' || fail "no word: $(said)"
silent alice connect r0
silent bob up r0
await 20 "they are together" connection_is alice Connected
init status >"$work/service.out" || fail "status ended with $?"
[ "$(sed -n 1p "$work/service.out")" = 'drbd driver loaded OK; device status:' ] || fail "status: $(cat "$work/service.out")"
[ "$(sed -n 2,3p "$work/service.out")" = "$(head -n 2 "$work/alice/run/proc/drbd")" ] || fail "status: $(cat "$work/service.out")"
equal $'m:res  cs         ro                   ds                         p  mounted  fstype\n0:r0   Connected  Secondary/Secondary  Inconsistent/Inconsistent  C' table
init stop >"$work/init.out" 2>&1 || fail "stop ended with $?: $(cat "$work/init.out")"
[ "$(cat "$work/init.out")" = 'Stopping replicated block devices: .' ] || fail "stop: $(cat "$work/init.out")"
[ "$(cstate alice)" = '' ] || fail "alice is $(cstate alice)"
equal $'m:res  cs            ro  ds  p  mounted  fstype\n0:r0   Unconfigured' table
init start >"$work/init.out" 2>&1 || fail "start ended with $?: $(cat "$work/init.out")"
grep -q '^Starting replicated block devices: ' "$work/init.out" || fail "start: $(cat "$work/init.out")"
await 10 "they are together" connection_is alice Connected
init reload >"$work/init.out" 2>&1 || fail "reload ended with $?: $(cat "$work/init.out")"
init stop >"$work/init.out" 2>&1 || fail "stop ended with $?: $(cat "$work/init.out")"
rm -f "$work/alice/run/proc/drbd"
[ "$(status_of init status)" = 3 ] || fail "nothing has run here: $(said)"
echo 'resource {' >"$work/broken.conf"
broken() { on alice env REPLICA_CONTROL="$bin/replctl -c $work/broken.conf" "$root/etc/init/replica" "$@"; }
[ "$(status_of broken start)" = 6 ] || fail "a broken configuration: $(said)"
[ "$(status_of on alice env REPLICA_CONTROL=no-such-replctl "$root/etc/init/replica" start)" = 5 ] || fail "not installed: $(said)"

say "the script that waits for a resync"
alice up r0
alice wait-connect r0
silent alice primary --force r0
await 20 "bob is the target" connection_is bob SyncTarget
on bob env REPLICA_CONTROL="$bin/replctl -c $conf" "$root/etc/init/replica-wait" start >"$work/wait.out" 2>&1 || fail "it ended with $?"
disks_are bob UpToDate/UpToDate || fail "bob is $(dstate bob)"
grep -q '^Waiting for replicated block devices: \(r0 is syncing... \)\?\.$' "$work/wait.out" || fail "it says: $(cat "$work/wait.out")"
