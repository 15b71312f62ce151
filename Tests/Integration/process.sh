#!/usr/bin/env bash
# The daemon as a process: how it ends on a signal, what is left when it is killed, what its status file says meanwhile.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd qemu-io "$python"

seconds_now() { date +%s; }
end_of() { # NODE SIGNAL: the signal, and the seconds until the daemon is gone in $took
    local pid before
    pid=$(pid_of "$1")
    before=$(seconds_now)
    kill "-$2" "$pid"
    await 80 "$1's daemon ends on SIG$2" gone "$pid"
    took=$(($(seconds_now) - before))
}
lines() { wc -l <"$work/$1/run/proc/drbd"; }
lines_are() { [ "$(lines "$1")" = "$2" ]; }
# A client that keeps its connection, asks for 32 MiB and takes none of it; or only stays.
client() {
    "$python" - "$1" "$(uri alice)" <<'PYTHON'
import socket
import struct
import sys
import time
import urllib.parse

kind, uri = sys.argv[1:]
path = urllib.parse.parse_qs(urllib.parse.urlparse(uri).query)["socket"][0]
stream = socket.socket(socket.AF_UNIX)
stream.connect(path)
stream.recv(18)
stream.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 2) + b"r0")
stream.recv(10)
if kind == "greedy":
    for k in range(32):
        stream.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, k, 0, 1 << 20))
print("there", flush=True)
time.sleep(100)
PYTHON
}
stuck() { # KIND
    rm -f "$work/client-$1.out"
    background "client-$1" client "$1"
    await 10 "the client is in" has_line there "$work/client-$1.out"
}

pair 64M
say "SIGTERM: idle, with a client that stays, with one that takes no answers"
silent alice secondary r0
end_of alice TERM
[ "$took" -le 3 ] || fail "it took $took s"
[ "$(lines alice)" = 2 ] || fail "minors are left: $(cat "$work/alice/run/proc/drbd")"
for name in ctl nbd pid; do [ ! -e "$work/alice/run/r0.$name" ] || fail "left: $(ls "$work/alice/run")"; done
await 10 "bob is alone" connection_is bob WFConnection
bob status r0 | grep -q 'connection:Connecting' || fail "status: $(bob status r0)"
alice up r0
settled
alice primary r0
stuck staying
end_of alice TERM
[ "$took" -le 3 ] || fail "a client that only stays holds it for $took s"
alice get-gi r0 | grep -q ':0:[01]:0:0:0$' || fail "not a clean end: $(alice get-gi r0)"
alice up r0
settled
alice primary r0
stuck greedy
end_of alice TERM
if [ "$took" -lt 8 ] || [ "$took" -gt 15 ]; then fail "it took $took s"; fi
grep -q '1 clients do not take their answers and are cut off' "$(log_of alice)" || fail "no word of it: $(tail -n 3 "$(log_of alice)")"
alice get-gi r0 | grep -q ':0:[01]:0:0:0$' || fail "not a clean end: $(alice get-gi r0)"
say "cut off after $took s"
alice up r0
settled
alice primary r0
say "twice: at once"
stuck greedy
kill -TERM "$(pid_of alice)"
within 1 gone "$(pid_of alice)" && fail "it did not wait for its client"
end_of alice TERM
[ "$took" -le 3 ] || fail "the second SIGTERM takes $took s"
alice up r0
settled
identical

say "killed: the status file says so, though nobody else is there to write it"
alice primary r0
grep -q '^ 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----$' "$work/alice/run/proc/drbd" || fail "$(cat "$work/alice/run/proc/drbd")"
pid=$(pid_of alice)
kill -9 "$pid"
await 2 "alice's minors are gone" lines_are alice 2
await 2 "the log says so" has_line "replicad (process $pid) is gone without a word" "$(log_of alice)"
refused 10 '(127) Device minor not allocated' alice role r0
# A stale socket and a stale process id file are in nobody's way.
for name in ctl pid; do [ -e "$work/alice/run/r0.$name" ] || fail "the scene is not as meant"; done
silent_but() { "$@" >"$work/said.out" 2>&1 || fail "'$*' ended with $?: $(said)"; }
silent_but alice up r0
settled
alice secondary r0
[ "$(lines alice)" = 4 ] || fail "$(cat "$work/alice/run/proc/drbd")"

say "one that is already there, and down then up without a breath"
refused 1 '^replicad: already running$' on alice "$bin/replicad" r0
for _ in 1 2 3 4 5 6 7 8; do
    silent alice down r0
    silent alice up r0
done
settled

item 40 "the status file is whole at every moment"
alice primary r0
cat >"$work/monitor.py" <<'PYTHON'
import re
import sys

# A whole file: two lines, then nothing or one minor with its counters and perhaps its progress.
whole = re.compile(
    r"version: 8\.4\.11 \(api:1/proto:86-101\)\n"
    r"GIT-hash: [0-9a-f]{40} build by root@alice, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\n"
    r"(?: 0: cs:(?:Unconfigured\n|\w+ ro:\w+/\w+ ds:\w+/\w+ [ABC ] [rs][-a][-p][-u][-dcbna][-s]\n"
    r"    ns:\d+ nr:\d+ dw:\d+ dr:\d+ al:\d+ bm:\d+ lo:\d+ pe:\d+ ua:\d+ ap:\d+ ep:\d+ wo:[bfdn] oos:\d+\n"
    r"(?:\t\[=*>\.*\] sync'ed:[ \d]{3}\.\d% \(\d+/\d+\)[KM]\n\tfinish: \d+:\d\d:\d\d speed: [\d,]+ \([\d,]+\)"
    r"(?: want: [\d,]+)? K/sec(?: \(stalled\))?\n)?))?")
seen, count = set(), 0
while True:
    with open(sys.argv[1], encoding="ascii") as file:
        text = file.read()
    count += 1
    if not whole.fullmatch(text):
        print("not whole:", repr(text))
        sys.exit(1)
    if text not in seen:
        seen.add(text)
        print(count, len(seen), flush=True)
PYTHON
background monitor "$python" "$work/monitor.py" "$work/alice/run/proc/drbd"
monitor=$last
for round in 1 2 3; do
    silent qemu-io -f raw -c "write -q -P $round 0 16M" "$(uri alice)"
    silent alice disconnect r0
    silent qemu-io -f raw -c "write -q -P 7 16M 8M" "$(uri alice)"
    silent alice connect r0
    silent alice wait-sync r0
    settled
done
gone "$monitor" && fail "$(tail -n 1 "$work/monitor.out")"
[ "$(tail -n 1 "$work/monitor.out" | cut -d' ' -f2)" -ge 15 ] || fail "only $(tail -n 1 "$work/monitor.out")"
say "read $(tail -n 1 "$work/monitor.out" | cut -d' ' -f1) times, $(tail -n 1 "$work/monitor.out" | cut -d' ' -f2) different texts"
kill "$monitor"
await 5 "the monitor ends" gone "$monitor"
[ "$(find "$work/alice/run/proc" -mindepth 1 | wc -l)" = 1 ] || fail "more than the file: $(ls "$work/alice/run/proc")"
[ "$(stat -c %a "$work/alice/run/proc/drbd")" = 444 ] || fail "mode $(stat -c %a "$work/alice/run/proc/drbd")"
same() { alice proc | cmp - "$work/alice/run/proc/drbd"; }
await 3 "proc says the same as the file" same

say "the texts of another release"
silent alice secondary r0
silent alice down r0
REPLICA_PERSONA=8.3.8 alice up r0
settled
head -n 1 "$work/alice/run/proc/drbd" | grep -q '^version: 8.3.8 (api:88/proto:86-94)$' || fail "$(head -n 1 "$work/alice/run/proc/drbd")"
grep -q ' C r----$' "$work/alice/run/proc/drbd" || fail "not five flags: $(cat "$work/alice/run/proc/drbd")"
silent alice down r0
silent alice up r0
settled
head -n 1 "$work/alice/run/proc/drbd" | grep -q '^version: 8.4.11 ' || fail "$(head -n 1 "$work/alice/run/proc/drbd")"
