#!/usr/bin/env bash
# `events2` beyond what Tests/Kernel/events.sh compares with the kernel's: several resources, handlers, and daemons that come, die,
# hang and are upgraded.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

tools
nodes_with 16M '' 'fencing resource-only;' 'handlers { fence-peer "exit 4"; }'
truncate -s 16M "$work/alice/disk1.img"
cat >>"$conf" <<CONF
resource r1 {
    device minor 1;
    meta-disk internal;
    on alice { disk $work/alice/disk1.img; address 127.0.0.1:$((port + 1)); }
    on bob { disk $work/none; address 127.0.0.2:$((port + 1)); }
}
CONF
first=1
# From now on: what was told before does not count.
silence() { first=$(($(wc -l <"$work/all.out") + 1)); }
lines() { tail -n "+$first" "$work/all.out"; }
told() { lines | grep -x -e "$1" >/dev/null; }
expect() { await 10 "'$1' is told" told "$1"; }
named='name:r0 peer-node-id:0 conn-name:peer'

say "everything that is yet to come"
background all alice events2
follower=$last
background only-r1 alice events2 r1 --timestamps
expect 'exists -'
for node in alice bob; do
    "$node" create-md --force r0 >"$work/create-md.out" 2>&1
    "$node" up r0
done
await 20 "connected" connection_is alice Connected
alice new-current-uuid --clear-bitmap r0/0
settled
alice primary r0
for line in 'create resource name:r0 role:Secondary suspended:no' 'create device name:r0 volume:0 minor:0 disk:[A-Z][a-z]*' \
    "create connection $named connection:[A-Z][A-Za-z]* role:Unknown" "change connection $named role:Secondary" \
    "change peer-device $named volume:0 peer-disk:UpToDate" 'change resource name:r0 role:Primary'; do
    expect "$line"
done
alice create-md --force r1 >"$work/create-md.out" 2>&1
alice up r1
# The first that is heard of it may be later than its beginning.
expect 'create device name:r1 volume:0 minor:1 disk:[A-Z][a-z]*'
expect '[a-z]* connection name:r1 peer-node-id:0 conn-name:peer connection:Connecting.*'
stamp='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}[+-][0-9]{2}:[0-9]{2}'
await 10 "r1 alone, with the time" grep -q -x -E "$stamp create resource name:r1 role:Secondary suspended:no" "$work/only-r1.out"
grep -q r0 "$work/only-r1.out" && fail "r0 was not asked for: $(cat "$work/only-r1.out")"
# What is told later is what a new listener finds.
equal "$(alice events2 --now r0 | sed -n 's/exists peer-device/&/p')" echo \
    "exists peer-device $named volume:0 replication:Established peer-disk:UpToDate resync-suspended:no"

say "a handler"
silence
kill_node bob
expect "call helper $named helper:fence-peer"
expect "response helper $named helper:fence-peer status:4"
expect "change peer-device $named volume:0 peer-disk:Outdated"
bob up r0
settled

say "an upgrade is no event, an end is one"
silence
alice upgrade r1 >"$work/upgrade.out"
silent alice disconnect r1
expect 'destroy connection name:r1 peer-node-id:0 conn-name:peer'
told 'destroy resource .*' && fail "an upgrade is not the end: $(lines)"
silence
silent alice down r1
# At once, not after the patience with one that may come back.
within 1 told 'destroy resource name:r1' || fail "the end of r1: $(lines)"
silence
kill_node alice
expect 'destroy resource name:r0'
[ "$(lines | grep -c destroy)" = 4 ] || fail "all of it is gone: $(lines)"
silence
alice up r0
expect 'create resource name:r0 .*'
settled

say "one that hangs holds up what it has to say, and nobody else"
silence
stopped=$(pid_of alice)
kill -STOP "$stopped"
alice up r1
expect 'create resource name:r1 .*'
told '.* name:r0 .*' && fail "what did it say? $(cat "$work/all.out")"
silent bob disconnect r0
kill -CONT "$stopped"
expect "change connection $named connection:Connecting"
kill -0 "$follower" || fail "it has ended"

say "there is room for 24 of them, and always for an administrator"
crowd=()
for ((i = 0; i < 30; i++)); do
    background "crowd-$i" alice events2 r0
    crowd+=("$last")
done
refusals() { [ "$(cat "$work"/crowd-*.out | grep -c '^r0: 24 commands wait already$')" -ge 6 ]; }
await 20 "six and more are refused" refusals
equal WFConnection alice cstate r0
for i in "${crowd[@]}"; do kill_tree "$i"; done
room() { [ "$(alice events2 --now r0 | grep -c resource)" = 1 ]; }
await 10 "there is room again" room
[ "$(cat "$work"/crowd-*.out | grep -c 'wait already')" -le 10 ] || fail "who is refused asks again and again"

say "a reader that is too slow misses what was in between, not how it ended"
silent alice primary r0
"$python" - "$work/alice/run/r0.ctl" <<'PYTHON' || fail "the slow reader"
import socket, sys


def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    connection.settimeout(10)
    return connection, connection.makefile("rb")


def answer(stream):
    code, length = stream.readline().split()
    assert code == b"0", code
    return stream.read(int(length)).decode()


slow, slow_stream = connect()
slow.sendall(b"watch\n")
quick, quick_stream = connect()
changes = 4001
for change in range(changes):
    quick.sendall(b"suspend-io 0\n" if change % 2 == 0 else b"resume-io 0\n")
    answer(quick_stream)
quick.sendall(b"resume-io 0\nsecondary 0\n")
answer(quick_stream)
answer(quick_stream)
seen = 0
while True:
    seen += 1
    if " role=Secondary" in answer(slow_stream):
        break
assert 1000 < seen < changes, seen
print(seen, "of", changes, "changes")
PYTHON
