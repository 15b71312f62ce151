#!/usr/bin/env bash
# Monitors read our status file as they read the kernel's (control.md 7, items 39 and 40): check_drbd, node_exporter, collectd, what
# Munin's plugin does, DRBD's own init script. First the texts of 3.6 and those that a kernel's DRBD was recorded with, then two
# daemons that are really in those states: the same verdicts, the same numbers. Then readers as fast as they can while fio writes.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
plugin=/usr/lib/nagios/plugins/check_drbd
requires qemu-io fio prometheus-node-exporter collectd perl column "$python" "$plugin"

tools
reader=$here/monitors.py
moments=$root/Tests/ReplicaProtoTests/Vectors/status/moments.txt
preload=$(realpath "$bin")/libreplica-proc.so

# MARK: The monitors

# verdict FILE: what check_drbd says of it, with its exit status behind
verdict() {
    local status=0 text
    text=$("$plugin" -p "$1" -d All) || status=$?
    echo "$text ($status)"
}
# One node_exporter for all: its procfs is a link that is turned.
mkdir "$work/recorded"
ln -s "$work/recorded" "$work/procfs"
turn() { ln -sfn "$1" "$work/procfs.new" && mv -T "$work/procfs.new" "$work/procfs"; }
exporter_port=$((port + 3))
background exporter prometheus-node-exporter --collector.disable-defaults --collector.drbd --path.procfs="$work/procfs" \
    --web.listen-address="127.0.0.1:$exporter_port"
metrics() { "$python" "$reader" metrics "http://127.0.0.1:$exporter_port/metrics"; }
# key STATE FILE: the state of minor 0, and whether anything is out of sync, which check_drbd asks first. Two flags are left out: the
# fifth is the kernel's last answer about congestion, and with nobody who asked it says nothing of frozen I/O, as ours always does; the
# sixth says that a disk that is to be overwritten anyway has no activity log, and ours always has.
key() {
    local state=${1/%[-d][-s]/--}
    if grep -q 'oos:[1-9]' "$2"; then echo "$state dirty"; else echo "$state clean"; fi
}
# What check_drbd said of the recorded texts.
declare -A verdicts=()

item 39 "the texts of 3.6 and all that were recorded from a kernel"
"$python" "$reader" texts "$moments" "$work/recorded.texts"
cp "$work/recorded.texts/in-sync" "$work/recorded/drbd"
await 10 "node_exporter answers" metrics
count=0
for text in "$work"/recorded.texts/*; do
    cp "$text" "$work/recorded/drbd"
    metrics >"$work/metrics.out" || fail "node_exporter does not read $(cat "$text")"
    "$python" "$reader" compare "$text" "$work/metrics.out" || fail "node_exporter's numbers are not those of $(cat "$text")"
    verdict "$text" >"$work/verdict.out"
    "$python" "$reader" verdict "$text" <"$work/verdict.out" || fail "check_drbd: $(cat "$work/verdict.out") of $(cat "$text")"
    state=$(sed -n 's/^ *0: \(cs:.*\)/\1/p' "$text" | head -n 1)
    state=$(key "$state" "$text")
    verdicts[$state]="${verdicts[$state]:-} $(sed 's/: [0-9]* sectors/: N sectors/' "$work/verdict.out");"
    count=$((count + 1))
done
say "$count texts: check_drbd's verdicts and node_exporter's numbers are those of the states and counters"

# MARK: The same states, for real

pair 64M 'verify-alg crc32c;' 'resync-rate 4G;'
declare -A seen=()
# same NODE STATE: the node is in it, and the monitors say of its file what they say of the kernel's
same() {
    local node=$1 state=$2 file found
    file=$work/$node/run/proc/drbd
    await 20 "$node's file says $state" has_line "^ 0: $state\$" "$file"
    cp "$file" "$work/held.text"
    turn "$work/$node/run/proc"
    if [ -n "${3:-}" ]; then
        # It moves: judged is what was there at one moment.
        cp "$file" "$work/recorded/drbd"
        turn "$work/recorded"
        cp "$work/recorded/drbd" "$work/held.text"
    fi
    metrics >"$work/metrics.out" || fail "node_exporter does not read $(cat "$file")"
    "$python" "$reader" compare "$work/held.text" "$work/metrics.out" || fail "node_exporter's numbers are not those of $(cat "$work/held.text")"
    found=$(verdict "$work/held.text" | sed 's/: [0-9]* sectors/: N sectors/')
    state=$(key "$state" "$work/held.text")
    [ -n "${verdicts[$state]:-}" ] || fail "no recorded text is in the state $state"
    [[ "${verdicts[$state]}" = *" $found;"* ]] || fail "check_drbd says '$found' of $node's $state, of the kernel's${verdicts[$state]}"
    seen[$2]=1
    say "$node $state: $found"
}
write() { silent qemu-io -f raw -c "write -q -P $1 0 1M" -c flush "$(uri alice)"; }
write 1
same alice 'cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----'
same bob 'cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate C r-----'
silent alice suspend-io r0
same alice 'cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C s---d-'
silent alice resume-io r0
for letter in A B; do
    write_conf "verify-alg crc32c; protocol $letter;"
    for node in alice bob; do silent $node adjust r0; done
    settled
    same alice "cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate $letter r-----"
done
write_conf 'verify-alg crc32c;' 'resync-rate 1M;'
for node in alice bob; do silent $node adjust r0; done
settled
silent bob disconnect r0
same bob 'cs:StandAlone ro:Secondary/Unknown ds:UpToDate/DUnknown   r-----'
write 2
await 5 "what bob lacks is counted" has_line ' oos:1024$' "$work/alice/run/proc/drbd"
same alice 'cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----'
silent alice suspend-io r0
same alice 'cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C s---d-'
silent alice resume-io r0
silent alice disconnect r0
same alice 'cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----'
silent bob connect r0
silent alice connect r0
settled
silent bob invalidate r0
same alice 'cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----' moving
same bob 'cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----' moving
silent bob pause-sync r0
same alice 'cs:PausedSyncS ro:Primary/Secondary ds:UpToDate/Inconsistent C r-p---'
same bob 'cs:PausedSyncT ro:Secondary/Primary ds:Inconsistent/UpToDate C r--u--'
silent alice pause-sync r0
same alice 'cs:PausedSyncS ro:Primary/Secondary ds:UpToDate/Inconsistent C r-pu--'
same bob 'cs:PausedSyncT ro:Secondary/Primary ds:Inconsistent/UpToDate C r-pu--'
for node in alice bob; do silent $node resume-sync r0; done
silent bob disk-options --resync-rate=4G r0
settled
silent alice disk-options --resync-rate=1M r0
silent bob disk-options --resync-rate=1M r0
silent alice verify r0
same alice 'cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----' moving
silent bob disconnect r0
silent bob connect r0
settled
silent alice detach r0
same alice 'cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate C r-----'
write 4
await 5 "what alice lacks is counted" has_line ' oos:1024$' "$work/bob/run/proc/drbd"
same bob 'cs:Connected ro:Secondary/Primary ds:UpToDate/Diskless C r-----'
silent bob disk-options --resync-rate=4G r0
alice adjust r0 >"$work/adjust.out" 2>&1
settled
silent alice secondary r0
same alice 'cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----'
silent bob down r0
on bob "$tools/drbdsetup" new-resource r0
on bob "$tools/drbdsetup" new-minor r0 0 0
same bob 'cs:Unconfigured'
silent bob down r0
bob create-md --force r0 >"$work/create-md.out" 2>&1
silent alice down r0
silent bob up r0
same bob 'cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown C r-----'
silent bob down r0
alice create-md --force r0 >"$work/create-md.out" 2>&1
for node in alice bob; do silent $node up r0; done
same alice 'cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----'
alice new-current-uuid --clear-bitmap r0/0
settled
silent alice primary r0
"$python" "$reader" examples "$work/recorded.texts" "${!seen[@]}" || fail "a state of 3.6 was not reached"

# MARK: collectd, Munin, the init script

write 3
say "collectd itself, with our library"
mkdir "$work/csv"
cat >"$work/collectd.conf" <<CONF
Hostname "here"
BaseDir "$work"
PIDFile "$work/collectd.pid"
PluginDir "$(dirname "$(dpkg -L collectd-core | grep '/drbd\.so$')")"
TypesDB "$(dpkg -L collectd-core | grep '/types\.db$' | head -n 1)"
Interval 1
LoadPlugin drbd
LoadPlugin csv
<Plugin csv>
    DataDir "$work/csv"
    StoreRates false
</Plugin>
CONF
background collectd env REPLICA_RUN_DIR="$work/alice/run" LD_PRELOAD="$preload" collectd -f -C "$work/collectd.conf"
collectd=$last
collected() { "$python" "$reader" collectd "$work/alice/run/proc/drbd" "$work/csv"; }
await 20 "collectd's values are those of the file" collected
kill "$collectd"
await 10 "collectd ends" gone "$collectd"
collected

say "what Munin's plugin does, with the path of our file"
"$python" "$reader" munin "$work/alice/run/proc/drbd" >"$work/munin.out" || fail "Munin: $(cat "$work/munin.out")"

say "DRBD's init script, with our library, and our own table"
# It calls drbdadm without -c, and this machine may have a configuration of its own.
mkdir "$work/named"
printf '#!/bin/sh\nexec %s -c %s "$@"\n' "$tools/drbdadm" "$conf" >"$work/named/drbdadm"
chmod 755 "$work/named/drbdadm"
init() { on alice env LD_PRELOAD="$preload" bash "$work/init" status; }
for candidate in /etc/init.d/drbd /lib/drbd/scripts/drbd; do
    [ -r "$candidate" ] || continue
    # Its PATH has not our programs; nothing else is changed.
    sed "s,^PATH=/sbin:/bin\$,PATH=$work/named:/usr/sbin:/usr/bin:/sbin:/bin," "$candidate" >"$work/init"
    init 2>"$work/said.out" | sed 's/ *$//' >"$work/init.out" || fail "$candidate status ended with $?: $(said)"
    [ "$(head -n 1 "$work/init.out")" = 'drbd driver loaded OK; device status:' ] || fail "$candidate: $(cat "$work/init.out")"
    alice service-status >"$work/service-status.out"
    cmp -s "$work/init.out" "$work/service-status.out" || fail "$candidate: $(diff "$work/init.out" "$work/service-status.out")"
    grep -q '^0:r0  *Connected  *Primary/Secondary  *UpToDate/UpToDate  *C$' "$work/init.out" || fail "$candidate: $(cat "$work/init.out")"
done

item 40 "readers as fast as they can, while fio writes and the state changes"
background fio fio --name=load --ioengine=nbd --uri="$(uri alice)" --rw=randwrite --bs=4k --size=32M --iodepth=8 --time_based --runtime=120
load=$last
readers=()
for index in 1 2 3; do
    background "reader$index" "$python" "$reader" watch "$work/alice/run/proc/drbd" "$work/stop"
    readers+=("$last")
done
background readerbob "$python" "$reader" watch "$work/bob/run/proc/drbd" "$work/stop"
readers+=("$last")
for ((round = 0; round < 4; round++)); do
    silent bob disconnect r0
    await 20 "alice is alone" connection_is alice WFConnection
    silent bob connect r0
    settled
    silent bob down r0
    silent bob up r0
    settled
done
kill "$load" 2>/dev/null || true
await 20 "fio ends" gone "$load"
has_line 'write: IOPS=' "$work/fio.out" || fail "fio: $(cat "$work/fio.out")"
for ((round = 0; round < 3; round++)); do
    silent alice secondary r0
    silent bob primary r0
    silent bob secondary r0
    silent alice primary r0
done
touch "$work/stop"
for pid in "${readers[@]}"; do await 10 "a reader ends" gone "$pid"; done
for index in 1 2 3 bob; do
    grep -q '^held$' "$work/reader$index.out" || fail "reader $index: $(cat "$work/reader$index.out")"
    say "reader $index: $(head -n 1 "$work/reader$index.out")"
done
