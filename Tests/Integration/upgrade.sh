#!/usr/bin/env bash
# The daemon's process goes on with another program: everything comes back as it was, what can't is refused before anything
# stops, and a program that does not work changes nothing.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires cmp nbd

# Installed by itself, so that another one can be put in its place.
mkdir "$work/installed"
cp "$bin/replicad" "$bin/replctl" "$work/installed"
bin=$work/installed
install_again() {
    cp "${1:-$bin/replicad}" "$work/installed/replicad.new"
    mv "$work/installed/replicad.new" "$work/installed/replicad"
}
# What a status says, but for counters and who serves.
state_of() {
    on "$1" "$bin/replctl" -c "$conf" show r0 | grep -v '^#' || true
    on "$1" "$bin/replctl" -c "$conf" role r0
    on "$1" "$bin/replctl" -c "$conf" cstate r0
    on "$1" "$bin/replctl" -c "$conf" dstate r0
}
# upgraded NODE: it hands over, its process stays, its program is another file, and its state is that of before
upgraded() {
    local node=$1 pid
    pid=$(pid_of "$node")
    state_of "$node" >"$work/before.out"
    install_again
    "$node" upgrade r0 >"$work/upgrade.out" 2>&1 || fail "$node is not upgraded: $(cat "$work/upgrade.out")"
    say "$node: $(cat "$work/upgrade.out")"
    grep -q '^r0: handed over in [0-9.]* s (replicad [0-9.]*)$' "$work/upgrade.out" || fail "it says: $(cat "$work/upgrade.out")"
    [ "$(pid_of "$node")" = "$pid" ] || fail "$node's process was $pid and is $(pid_of "$node")"
    [ "$(readlink "/proc/$pid/exe")" = "$bin/replicad" ] || fail "$node's program is $(readlink "/proc/$pid/exe")"
    # A Secondary may have to catch up.
    await 20 "$node is as before" is_as_before "$node"
}
is_as_before() { state_of "$1" >"$work/after.out" && cmp -s "$work/before.out" "$work/after.out"; }
# stays NODE COMMAND...: the command fails, with these words, and the daemon goes on with its program
stays() {
    local node=$1 words=$2 before
    shift 2
    before=$(stat -L -c %i "/proc/$(pid_of "$node")/exe")
    state_of "$node" >"$work/before.out"
    refused 20 "$words" "$@"
    [ "$(stat -L -c %i "/proc/$(pid_of "$node")/exe")" = "$before" ] || fail "$node has another program"
    state_of "$node" >"$work/after.out"
    cmp "$work/before.out" "$work/after.out" || fail "$node is not as before"
}

say "nothing runs"
nodes_with 64M
refused 20 'does not run' alice upgrade r0
silent alice upgrade all

pair 64M
background writer "$writer" write "$(uri alice)" "$work/journal" --depth 8 --span 48
writer_pid=$last

say "a client of the socket would be cut off"
await 20 "answered writes" acknowledged_at_least 50
stays alice 'client.* of the NBD socket would be cut off' alice upgrade r0
progress 20
bob upgrade r0 >"$work/upgrade.out" 2>&1 || fail "bob: $(cat "$work/upgrade.out")"
settled
progress 20
alice upgrade --force r0 >"$work/upgrade.out" 2>&1 || fail "alice: $(cat "$work/upgrade.out")"
await 20 "the writer has ended" gone "$writer_pid"
settled
role_is alice Primary || fail "alice is $(role alice)"
no_write_lost alice

say "as Primary and as Secondary, connected"
resyncs() { grep -c 'Began resync' "$(log_of alice)" || true; }
before=$(resyncs)
upgraded alice
[ "$(resyncs)" = "$before" ] || fail "there was a resync"
upgraded bob
settled
[ "$(counter alice oos)" = 0 ] || fail "there is something to copy"
grep -q 'handing over' "$(log_of alice)" || fail "the log does not tell"
! grep -q 'gone without a word' "$(log_of alice)" || fail "somebody takes it for a crash"

say "what was changed at run time"
alice net-options --ping-int=7 --max-buffers=4000 r0
alice disk-options --c-max-rate=50M --resync-rate=3M r0
alice resource-options --on-no-data-accessible=suspend-io r0
alice pause-sync r0
upgraded alice
alice show r0 >"$work/show.out"
for words in 'ping-int.*7' 'c-max-rate.*51200' 'on-no-data-accessible.*suspend-io'; do
    grep -q -e "$words" "$work/show.out" || fail "not there any more: $words"
done
refused 10 'already' alice pause-sync r0
alice resume-sync r0

say "a decision to be alone"
alice disconnect r0
connection_is alice StandAlone
upgraded alice
connection_is alice StandAlone || fail "alice is $(cstate alice)"
role_is alice Primary || fail "alice is $(role alice)"
upgraded bob
connection_is bob WFConnection || fail "bob is $(cstate bob)"
alice connect r0
settled

say "the peer is away: nobody waits for it"
bob down r0
await 20 "alice is alone" connection_is alice WFConnection
upgraded alice
seconds=$(sed 's/.* in \([0-9]*\)\..*/\1/' "$work/upgrade.out")
[ "$seconds" -lt 3 ] || fail "alice has waited for a peer that was not there"
bob up r0
settled

say "without a disk"
bob detach r0
upgraded bob
[ "$(dstate bob)" = Diskless/UpToDate ] || fail "bob's disk: $(dstate bob)"
bob attach r0
settled
alice detach r0
stays alice 'its applications rely on the peer' alice upgrade r0
alice attach r0
settled

say "frozen"
alice suspend-io r0
stays alice 'is frozen' alice upgrade r0
alice resume-io r0

say "programs that do not work"
good=$work/good
cp "$bin/replicad" "$good"
printf '#!/bin/sh\nkill -SEGV $$\n' >"$work/dies"
printf '#!/bin/sh\necho "of another time" >&2\nexit 3\n' >"$work/old"
printf 'no program at all' >"$work/garbage"
chmod +x "$work/dies" "$work/old" "$work/garbage"
install_again "$work/dies"
stays alice 'dies of signal 11' alice upgrade r0
install_again "$work/old"
stays alice 'not able to take over (exit code 3)' alice upgrade r0
install_again "$work/garbage"
stays alice 'can not run' alice upgrade r0
rm "$bin/replicad"
stays alice "can not run\|not able to take over" env REPLICA_DAEMON="$bin/replicad" REPLICA_NODE=alice REPLICA_RUN_DIR="$work/alice/run" "$bin/replctl" -c "$conf" upgrade r0
# It passes the check and can't be started: the old program begins again.
# shellcheck disable=SC2016
printf '#!/bin/sh\nif [ "$1" = --check ]; then printf "no program" >"$0.new"; chmod +x "$0.new"; mv "$0.new" "$0"; fi\n' >"$work/vanishes"
chmod +x "$work/vanishes"
install_again "$work/vanishes"
alice upgrade r0 >"$work/upgrade.out" 2>&1 || fail "alice: $(cat "$work/upgrade.out")"
grep -q 'does not take over' "$(log_of alice)" || fail "the log does not tell"
settled
role_is alice Primary || fail "alice is $(role alice)"
install_again "$good"

say "a configuration that is wrong"
cp "$conf" "$work/good.conf"
echo 'resource r0 { nonsense; }' >"$conf"
refused 10 'nonsense' alice upgrade r0
cp "$work/good.conf" "$conf"

say "one that dies on its way: the next one starts as after a crash"
# shellcheck disable=SC2016
printf '#!/bin/sh\n[ "$1" = --check ] || kill -KILL $$\n' >"$work/dies-later"
chmod +x "$work/dies-later"
install_again "$work/dies-later"
refused 20 'the new daemon has ended' alice upgrade r0
install_again "$good"
alice up r0
settled
alice primary r0

upgraded alice
upgraded bob
[ -z "$(ls "$work"/*/run/*.hand-over* 2>/dev/null)" ] || fail "left behind: $(ls "$work"/*/run/)"
identical
