#!/usr/bin/env bash
# What scripts read (monitors: monitors.sh): control.md items 31 and 46 with real daemons, and the forms of status.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io "$python"

tools
pair 64M '' 'resync-rate 16M;'
proc=$work/alice/run/proc/drbd

# json NODE EXPRESSION: status --json is valid, and the expression holds of d, its first device, and r, its resource
json() {
    "$1" status --json r0 >"$work/json.out"
    "$python" -c 'import json, sys
r = json.load(open(sys.argv[1]))[0]
d = r["devices"][0]
assert eval(sys.argv[2]), r' "$work/json.out" "$2" || fail "status --json: $(cat "$work/json.out")"
}
valid_xml() { "$1" status --xml | "$python" -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.stdin)' || fail "status --xml: $("$1" status --xml)"; }

say "status in all its forms, in several states"
json alice 'r["role"] == "Primary" and d["disk-state"] == "UpToDate" and d["size"] == 65496 and d["out-of-sync"] == 0'
json bob 'r["role"] == "Secondary" and d["peer-role"] == "Primary" and d["protocol"] == "C"'
equal $'r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n    replication:Established peer-disk:UpToDate' alice status
silent alice suspend-io r0
json alice 'r["suspended"] is True and d["suspended-user"] is True'
alice status | grep -q '^r0 role:Primary suspended:user$' || fail "status: $(alice status)"
alice proc | grep -q ' C s---d-$' || fail "proc: $(alice proc)"
silent alice resume-io r0
json alice 'r["suspended"] is False'
silent bob invalidate r0
await 10 "a resync" connection_is alice SyncSource
json bob 'd["connection-state"] == "SyncTarget" and 0 <= d["percent-in-sync"] <= 100 and d["out-of-sync"] > 0'
valid_xml bob
bob status | grep -q 'replication:SyncTarget peer-disk:UpToDate done:[0-9]*\.[0-9][0-9]$' || fail "status: $(bob status)"
bob proc | grep -q $'^\t\\[[=>.]*\\] sync\'ed:[ 0-9]*\\.[0-9]% ([0-9]*/65496)K$' || fail "proc: $(bob proc)"
bob events2 --now r0 | tail -n 1 | grep -q '^exists -$' || fail "events2: $(bob events2 --now r0)"
bob disk-options --resync-rate=4G r0
settled
silent bob down r0
await 10 "alice is alone" connection_is alice WFConnection
json alice 'd["peer-disk-state"] == "DUnknown" and d["connection-state"] == "WFConnection"'
equal $'r0 role:Primary\n  disk:UpToDate\n  peer connection:Connecting' alice status
valid_xml alice
equal $'[\n]' bob status --json
refused 10 '^r0: No such resource$' bob status r0
bob up r0
settled

item 31 "sh-status is evaluated by a shell, one call for each volume"
alice sh-status >"$work/sh-status.sh"
seen=$(bash -c '
    set -eu
    _sh_status_process() { echo "$_conf_res_name $_minor $_known $_cstate $_role $_peer $_disk $_pdsk [$_flags_susp$_flags_user_isp] [$_resynced_percent]"; }
    . "$1"
    echo "$_drbd_version $_drbd_api $_config_file"' - "$work/sh-status.sh")
[ "$seen" = $'r0 0 Configured Connected Primary Secondary UpToDate UpToDate [] []\n8.4.11 1 '"$conf" ] || fail "sh-status: $seen"
# What the 8.4 scripts ask of the low level.
on alice "$tools/drbdsetup" sh-status r0 | grep -q '^_sh_status_process$' || fail "drbdsetup sh-status"
on alice "$tools/drbdadm" --version | bash -c 'eval "$(cat)"; [ $((DRBD_KERNEL_VERSION_CODE)) -ge $((0x080400)) ] && [ $((DRBD_KERNEL_VERSION_CODE)) -lt $((0x090000)) ]' ||
    fail "version: $(on alice "$tools/drbdadm" --version)"

say "programs that know /proc/drbd alone, with our library loaded into them"
if [ ! -e /proc/drbd ]; then
    preload=$bin/libreplica-proc.so
    as_module() { env REPLICA_RUN_DIR="$work/alice/run" LD_PRELOAD="$preload" "$@"; }
    for reader in "cat /proc/drbd" "grep '' /proc/drbd" "sed -n p /proc/drbd" "awk 1 /proc/drbd" "cat </proc/drbd" "dd if=/proc/drbd status=none" \
        "[ -e /proc/drbd ] && [ -f /proc/drbd ] && [ -r /proc/drbd ] && perl -pe 1 /proc/drbd" \
        "test \"\$(stat -c %s /proc/drbd)\" -gt 100 && $python -c 'print(open(\"/proc/drbd\").read(), end=str())'"; do
        for shell in bash dash; do
            as_module $shell -c "$reader" >"$work/reader.out" 2>&1 || fail "$shell -c '$reader' ended with $?: $(cat "$work/reader.out")"
            cmp -s "$work/reader.out" "$proc" || fail "$shell -c '$reader' reads $(cat "$work/reader.out")"
        done
    done
    as_module sh -c 'echo >/proc/drbd' 2>"$work/said.out" && fail "somebody can write there"
    [ "$(LD_PRELOAD=$preload cat "$proc")" = "$(cat "$proc")" ] || fail "other files are other ones"
else
    say "this machine has a /proc/drbd of its own"
fi

item 46 "drbddisk: words and exit codes for Primary, Secondary, down"
# DRBD's script, where there is one, and ours. Without -c, as a cluster manager calls: the registered file is found.
scripts=()
for candidate in /etc/ha.d/resource.d/drbddisk /usr/share/drbd/drbddisk; do
    [ -r "$candidate" ] || continue
    sed -e "s,/sbin/drbdadm,$tools/drbdadm,g; s,/proc/drbd,$proc,g" "$candidate" >"$work/drbddisk"
    chmod 755 "$work/drbddisk"
    scripts=("$work/drbddisk")
done
scripts+=("$root/etc/heartbeat/drbddisk")
for script in "${scripts[@]}"; do
    drbddisk() { on alice env PATH="$tools:$PATH" REPLICA_CONTROL="$bin/replctl" "$script" "$@"; }
    equal 'running (Primary)' drbddisk r0 status
    silent drbddisk r0 stop
    [ "$(status_of drbddisk r0 status)" = 3 ] || fail "status of a Secondary: $(said)"
    [ "$(said)" = 'stopped (Secondary)' ] || fail "status of a Secondary: $(said)"
    silent drbddisk r0 start
    role_is alice Primary || fail "alice is $(role alice)"
    silent drbddisk r0 start
    silent drbddisk r0 stop
    silent drbddisk r0 stop
    [ "$(status_of drbddisk status)" = 10 ] || fail "status without a resource: $(said)"
    [ "$(said)" = 'A resource name is required for status inquiries.' ] || fail "status without a resource: $(said)"
    [ "$(status_of drbddisk r0 restart)" = 1 ] || fail "no such word: $(said)"
    silent drbddisk r0 start
done
silent alice secondary r0
silent bob primary r0
SECONDS=0
[ "$(status_of drbddisk r0 start)" = 1 ] || fail "two Primaries: $(said)"
[ "$SECONDS" -ge 5 ] || fail "it does not try again"
[ "$(said | grep -c 'State change failed')" = 6 ] || fail "not six tries: $(said)"
silent bob secondary r0

say "ours, where the daemon has died: what nobody serves is stopped; what left a device is started again, so that its users can end"
silent alice primary r0
mkdir "$work/programs"
cat >"$work/programs/replctl" <<SCRIPT
#!/bin/bash
# Any block device stands for one that a daemon left behind.
[ "\$1" != sh-dev ] || [ ! -e $work/left-behind ] || { echo $work/left-behind; exit; }
exec '$bin/replctl' -c '$conf' "\$@"
SCRIPT
chmod 755 "$work/programs/replctl"
ours() { on alice env REPLICA_CONTROL="$work/programs/replctl" "$root/etc/heartbeat/drbddisk" "$@"; }
kill_node alice
[ "$(status_of ours r0 start)" = 1 ] || fail "it starts what nobody has brought up: $(said)"
silent ours r0 stop
silent ours stop
[ "$(cstate alice)" = '' ] || fail "stop has started something"
refused 1 'not defined' ours r1 stop
if [ "$(id -u)" = 0 ]; then
    mknod "$work/left-behind" b 7 255
    [ "$(status_of ours r0 stop)" = 0 ] || fail "stop with a device: $(said)"
    role_is alice Secondary || fail "the daemon is not back: alice is $(role alice)"
    rm "$work/left-behind"
else
    alice up r0 >"$work/said.out" 2>&1
fi
settled

silent alice down r0
[ "$(status_of on alice env REPLICA_CONTROL="$bin/replctl -c $conf" "$root/etc/heartbeat/drbddisk" r0 status)" = 3 ] || fail "status when down: $(said)"
[ "$(said)" = 'stopped (Unconfigured)' ] || fail "status when down: $(said)"
[ "$(status_of on alice env REPLICA_CONTROL="$bin/replctl -c $work/none.conf" "$root/etc/heartbeat/drbddisk" r0 status)" = 4 ] || fail "status without a configuration: $(said)"
[ "$(said)" = 'cannot determine status, may be running (unknown)' ] || fail "status without a configuration: $(said)"
