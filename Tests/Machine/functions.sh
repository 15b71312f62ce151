# shellcheck shell=bash
# What the scenarios on whole machines share. alice and bob are virtual machines with Debian's stock kernel, each with a
# logical volume below our replicad, which serves /dev/drbd0 there. The rest is what Tests/Integration/functions.sh
# offers: waiting, evidence, comparing.
#
# A scenario is started by `run`, which has booted both machines.
[ -n "${REPLICA_JUDGE:-}" ] || {
    echo "this is started by Tests/Machine/run, which boots the machines: Tests/Machine/run $(basename "$0" .sh)" >&2
    exit 77
}
export TMPDIR=$REPLICA_JUDGE
# shellcheck source-path=SCRIPTDIR source=../Integration/functions.sh
. "$(dirname "${BASH_SOURCE[0]}")/../Integration/functions.sh"
# shellcheck source-path=SCRIPTDIR source=machines.sh
. "$(dirname "${BASH_SOURCE[0]}")/machines.sh"

# measured TEXT: for the table
measured() { say "measured: $*"; }
# Daemons live and die with their machines.
kill_all() { :; }
on() { at "$@"; }
proc() { at "$1" cat /run/replica/proc/drbd; }
run_log() { at "$1" cat /run/replica/r0.log; }
says() { run_log "$1" | grep -e "$2" >/dev/null; }
dev_log() { at "$1" dmesg; }
other() { if [ "$1" = alice ]; then echo bob; else echo alice; fi; }

write_conf() {
    local name=${device:-minor 0}
    cat >"$conf.new" <<CONF
global { usage-count no; disable-ip-verification; }
common {
    net  { protocol C; timeout 40; ping-int 5; ping-timeout 30; connect-int 5; socket-check-timeout 5; }
    disk { c-plan-ahead 0; c-min-rate 0; resync-rate 100M; ${disk_options:-} }
}
resource r0 {
    device $name;
    meta-disk internal;
    on alice { disk /dev/vg/r0; address 10.77.0.11:7788; }
    on bob   { disk /dev/vg/r0; address 10.77.0.12:7788; }
}
CONF
    chmod 600 "$conf.new"
    mv "$conf.new" "$conf"
}

# A scenario that cuts power sets it to the size of its disks: they are behind a cache then.
cached=
# fresh_node NODE: an empty logical volume with metadata; the node is down
fresh_node() {
    # shellcheck disable=SC2086
    with_disk "$1" $cached || fail "$1 does not boot"
    at "$1" sh -c 'umount /mnt/r0 2>/dev/null; rm -f /run/replica/r0.log; mkdir -p /mnt/r0; dmesg -C'
    # What a scenario left behind when it broke goes with its machine.
    "$1" down r0 >"$work/down.out" 2>&1 || { power_cut "$1" && boot_one "$1"; } || fail "$1 does not boot"
    at "$1" sh -c "lvresize -q -f -L $volume_size vg/r0; blkdiscard -f /dev/vg/r0 && '$bin/replctl' -c '$conf' create-md --force r0" \
        >"$work/create-md.out" 2>&1 || fail "create-md on $1: $(cat "$work/create-md.out")"
}
# fresh_pair: both logical volumes are empty, both nodes up and in sync without a copy; alice is Primary.
fresh_pair() {
    local node
    write_conf
    # One that is up would meet what the other one was in the scenario before.
    for node in alice bob; do fresh_node "$node"; done
    for node in alice bob; do "$node" up r0; done
    await 30 "connected" connection_is alice Connected
    alice new-current-uuid --clear-bitmap r0/0
    settled
    alice primary r0
}
settled() {
    local node
    for node in alice bob; do await 90 "$node Connected UpToDate/UpToDate: $(proc "$node" | tail -n 2)" settled_on "$node"; done
}
# troubles NODE: the kernel's words about errors of its block devices or file systems; nothing if all is well
troubles() { dev_log "$1" | grep -i -e 'I/O error' -e 'EXT4-fs error' -e 'EXT4-fs warning' -e 'XFS.*error' -e 'Remounting' -e 'lost async' || true; }
no_troubles() {
    local node found
    for node in alice bob; do
        found=$(troubles "$node")
        [ -z "$found" ] || fail "$node's kernel: $found"
    done
}
# same: both volumes hold the same outside their metadata. Each lies in one piece behind the first MiB of its disk.
same() {
    local node bytes
    settled
    for node in alice bob; do [ "$(counter "$node" oos)" = 0 ] || fail "$node counts $(counter "$node" oos) KiB out of sync"; done
    bytes=$(data_bytes)
    cmp -i 1M -n "$bytes" "$judge/alice.img" "$judge/bob.img" >"$work/cmp.out" || fail "the volumes differ: $(cat "$work/cmp.out")"
    say "same ${1:-}: $((bytes / 1024)) KiB"
}
# used NODE: KiB that its disk takes on this machine
used() { echo $(($(stat -c %b "$judge/$1.img") / 2)); }
counter() { proc "$1" | sed -n "s/.*[ ]$2:\([0-9a-z]*\).*/\1/p" | head -n 1; }
# daemon NODE SIGNAL: for its daemon
daemon() { at "$1" sh -c "kill -$2 \$(cat /run/replica/r0.pid)"; }
gone_from() { ! at "$1" test -e /run/replica/r0.pid || ! at "$1" sh -c "kill -0 \$(cat /run/replica/r0.pid)"; }
# MARK: What is acknowledged outside of the machines

# collect: a journal on this machine of what programs in the others acknowledge; they reach it at 10.77.0.1.
collect() {
    background collect "$vm" net exec "$network" -- "$work/records.py" collect 10.77.0.1 7000 "$work/journal"
    await 10 "the journal is open" has_line listening "$work/collect.out"
}
acknowledged() { wc -l <"$work/journal"; }
# load_on NODE NUMBER: records in its file system, from that number on; the process is in /run/records.
load_on() {
    at "$1" sh -c "$work/records.py write /mnt/r0 10.77.0.1 7000 $2 </dev/null >$work/records.out 2>&1 & echo \$! >/run/records" >/dev/null
}
# marked_in NODE: KiB that the metadata of its volume call out of sync once the activity log is applied, by Debian's drbdmeta on a
# copy. Its machine is down.
marked_in() {
    local loop bits
    cp --sparse=always "$judge/$1.img" "$work/copy.img"
    loop=$(losetup --show -f -o 1M --sizelimit "$volume_size" "$work/copy.img")
    drbdmeta --force - v08 "$loop" internal apply-al </dev/null >"$work/apply-al.out" 2>&1
    bits=$(drbdmeta --force - v08 "$loop" internal dump-md </dev/null 2>"$work/dump-md.out" | sed -n 's/^# bits-set \([0-9]*\);/\1/p')
    losetup -d "$loop"
    rm "$work/copy.img"
    [ -n "$bits" ] || fail "drbdmeta does not tell the bits: $(cat "$work/apply-al.out" "$work/dump-md.out")"
    echo $((bits * 4))
}

device_is() { [ "$(at "$1" blockdev --getsize64 /dev/drbd0 2>/dev/null)" = "$2" ]; }
evidence() {
    local node file
    echo "--- $scenario broke with status $1${failed_because:+ ($failed_because)}"
    for node in alice bob; do
        echo "--- $node"
        at "$node" sh -c 'tail -n +3 /run/replica/proc/drbd; tail -n 18 /run/replica/r0.log; ls -l /dev/drbd? /dev/nbd0; dmesg | tail -n 10' 2>&1
    done
    for file in "$work"/*.out; do
        [ -s "$file" ] || continue
        echo "--- ${file##*/}"
        tail -n 5 "$file" | cut -c 1-160
    done
}
