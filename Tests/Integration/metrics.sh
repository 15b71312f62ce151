#!/usr/bin/env bash
# `metrics`: what node_exporter's textfile collector makes of them, and that the histograms tell where requests spent their time.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io prometheus-node-exporter "$python"

pair 64M '' 'resync-rate 16M;'
mkdir "$work/textfiles"
exported=$((port + 2))
background exporter prometheus-node-exporter --collector.disable-defaults --collector.textfile \
    --collector.textfile.directory="$work/textfiles" --web.listen-address="127.0.0.1:$exported"

# what node_exporter serves, after a new look
scrape() {
    silent alice metrics --file "$work/textfiles/replica.prom"
    "$python" -c 'import sys, urllib.request; sys.stdout.write(urllib.request.urlopen(sys.argv[1]).read().decode())' \
        "http://127.0.0.1:$exported/metrics" >"$work/metrics.out"
}
# value NAME{LABELS}: of the last scrape, the labels in any order; 0 without
value() {
    "$python" - "$work/metrics.out" "$1" <<'PYTHON'
import re, sys

def key(sample):
    name, labels = re.fullmatch(r"([a-z_]+)\{(.*)\}", sample).groups()
    return name, frozenset(re.findall(r'(\w+)="([^"]*)"', labels))

found = [line.rsplit(" ", 1) for line in open(sys.argv[1]) if line.startswith("replica_")]
print(next((float(number) for sample, number in found if key(sample) == key(sys.argv[2])), 0.0))
PYTHON
}
is() {
    local found
    found=$(value "$1")
    "$python" -c "import sys; sys.exit(not ($found $2))" || fail "$1 is $found, not $2"
}
r0='resource="r0",volume="0",minor="0"'
write='resource="r0",volume="0",operation="write"'
long() { echo "$(value "replica_request_duration_seconds_count{$write,stage=\"$1\"}") $(value "replica_request_duration_seconds_bucket{$write,stage=\"$1\",le=\"0.268435456\"}")"; }
# took_long STAGE: one more of its durations was longer than 268 ms than at the scrape before
took_long() { [ "$(long "$1" | "$python" -c 'a, b = map(float, input().split()); print(int(a - b))')" = "$2" ]; }

await 10 "node_exporter answers" scrape
grep -q -x 'node_textfile_scrape_error 0' "$work/metrics.out" || fail "node_exporter does not understand it"

say "states, counters"
is 'replica_up{resource="r0"}' '== 1'
is "replica_role{$r0,role=\"Primary\"}" '== 1'
is "replica_role{$r0,role=\"Secondary\"}" '== 0'
is "replica_connection_state{$r0,state=\"Connected\"}" '== 1'
is "replica_disk_state{$r0,state=\"UpToDate\"}" '== 1'
is "replica_size_bytes{$r0}" "== $((65496 * 1024))"
is "replica_out_of_sync_bytes{$r0}" '== 0'

say "each request is in the histograms once"
commands=()
for ((i = 0; i < 40; i++)); do commands+=(-c "write -q -P $i $((i * 64))k 4k"); done
silent qemu-io -f raw "${commands[@]}" -c "discard -q 32M 1M" -c "read -q 0 64k" -c flush "$(uri alice)"
scrape
for stage in admission activity-log conflict local-disk peer total; do
    is "replica_request_duration_seconds_count{$write,stage=\"$stage\"}" '== 40'
    is "replica_request_duration_seconds_bucket{$write,stage=\"$stage\",le=\"+Inf\"}" '== 40'
done
is "replica_request_duration_seconds_count{${write/write/read},stage=\"total\"}" '>= 1'
is "replica_request_duration_seconds_count{${write/write/discard},stage=\"peer\"}" '== 1'
is "replica_request_duration_seconds_count{${write/write/flush},stage=\"local-disk\"}" '>= 1'
is "replica_network_sent_bytes_total{$r0}" '>= 163840'
is "replica_request_errors_total{$write}" '== 0'
for stage in admission activity-log local-disk peer total; do
    took_long $stage 0 || fail "a write spent more than a quarter of a second in $stage: $(long $stage)"
done

say "where the time went: I/O was frozen"
silent alice suspend-io r0
background frozen qemu-io -f raw -c "write -q -P 1 0 4k" "$(uri alice)"
await 10 "a write waits" grep -q ' ap:1 ' "$work/alice/run/proc/drbd"
sleep 0.5
silent alice resume-io r0
await 10 "it is written" gone "$last"
scrape
took_long admission 1 || fail "admission: $(long admission)"
took_long peer 0 || fail "peer: $(long peer)"

say "where the time went: the peer hung"
stopped=$(pid_of bob)
kill -STOP "$stopped"
background hangs qemu-io -f raw -c "write -q -P 2 0 4k" "$(uri alice)"
await 10 "a write waits for the peer" grep -q ' pe:1 ' "$work/alice/run/proc/drbd"
sleep 0.5
kill -CONT "$stopped"
await 10 "it is written" gone "$last"
scrape
took_long admission 1 || fail "admission: $(long admission)"
took_long peer 1 || fail "peer: $(long peer)"
took_long local-disk 0 || fail "local-disk: $(long local-disk)"
took_long total 2 || fail "total: $(long total)"

say "a resync"
silent bob invalidate r0
await 10 "a resync" connection_is alice SyncSource
scrape
is "replica_sync_total_bytes{$r0}" "== $((65496 * 1024))"
is "replica_sync_left_bytes{$r0}" '> 0'
is "replica_connection_state{$r0,state=\"SyncSource\"}" '== 1'
silent bob disk-options --resync-rate=4G r0
settled

say "no daemon is a metric, too; no place for the file is an error, and the old file stays"
silent alice secondary r0
silent alice down r0
scrape
is 'replica_up{resource="r0"}' '== 0'
grep -q '^replica_role' "$work/metrics.out" && fail "a role without a daemon"
refused 20 "^$work/none/replica.prom: No such file or directory\$" alice metrics --file "$work/none/replica.prom"
[ "$(ls "$work/textfiles")" = replica.prom ] || fail "left behind: $(ls "$work/textfiles")"
