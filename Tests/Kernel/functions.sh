# shellcheck shell=bash
# What the kernel scenarios share. alice is our replicad on this machine, carol is the kernel's drbd in the virtual
# machine that `run` has booted. The rest is what Tests/Integration/functions.sh offers: waiting, evidence, nodes.
#
# A scenario is started by `run` with its direction as the only argument: `kernel` (carol is $one, the Primary, the
# source, the side that something is done to) or `ours` (alice is). $two is the other.
[ -n "${REPLICA_JUDGE:-}" ] || {
    echo "this is started by Tests/Kernel/run, which boots the machine: Tests/Kernel/run $(basename "$0" .sh)" >&2
    exit 77
}
export TMPDIR=$REPLICA_JUDGE
# shellcheck source-path=SCRIPTDIR source=../Integration/functions.sh
. "$(dirname "${BASH_SOURCE[0]}")/../Integration/functions.sh"
# shellcheck source-path=SCRIPTDIR source=machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/machine.sh"

# The kernel's node is none of those whose daemon is killed and whose log is read at the end.
nodes=(alice)
direction=${1:-both}
case $direction in
    kernel) one=carol two=alice ;;
    *) one=alice two=carol ;;
esac
export one two

# MARK: Both sides

on() { "$vm" net exec "$network" -- env REPLICA_NODE="$1" REPLICA_RUN_DIR="$work/$1/run" "${@:2}"; }
# carol COMMAND...: drbdadm in the guest; `carol proc` is its /proc/drbd.
carol() {
    if [ "$1" = proc ]; then guest cat /proc/drbd; else guest drbdadm -c "$conf_of_carol" "$@"; fi
}
# One look at the kernel's status text is several times faster than its tool.
kernel_state() { guest cat /proc/drbd | sed -n "s,^ *0: cs:\\([^ ]*\\) ro:\\([^ ]*\\) ds:\\([^ ]*\\) .*,$1,p"; }
cstate() { if [ "$1" = carol ]; then kernel_state '\1'; else "$1" cstate r0 2>/dev/null; fi; }
role() { if [ "$1" = carol ]; then kernel_state '\2'; else "$1" role r0 2>/dev/null; fi; }
dstate() { if [ "$1" = carol ]; then kernel_state '\3'; else "$1" dstate r0 2>/dev/null; fi; }
settled_on() {
    if [ "$1" = carol ]; then
        [ "$(kernel_state '\1 \3')" = "Connected UpToDate/UpToDate" ]
    else
        connection_is "$1" Connected && disks_are "$1" UpToDate/UpToDate
    fi
}
other() { if [ "$1" = alice ]; then echo carol; else echo alice; fi; }
# io NODE QEMU-IO-COMMAND...: reads and writes the replicated device of that node.
io() {
    local node=$1 commands=() command
    shift
    for command in "$@"; do commands+=(-c "$command"); done
    if [ "$node" = alice ]; then
        qemu-io -f raw -d unmap "${commands[@]}" "$(uri alice)" >"$work/io.out" 2>&1 || return 1
    else
        guest qemu-io -f raw -d unmap -t none "${commands[@]}" /dev/drbd0 >"$work/io.out" 2>&1 || return 1
    fi
    ! grep -q -i -e 'failed' -e 'error' -e 'verification' "$work/io.out"
}
# load NODE FIO-OPTION...: fio on the replicated device of that node.
load() {
    local node=$1 target=()
    shift
    if [ "$node" = alice ]; then target=(--ioengine=nbd "--uri=$(uri alice)"); else target=(--ioengine=libaio --direct=1 --filename=/dev/drbd0); fi
    local fio=(fio --name=load --output-format=terse --size=60M --bs=4k --iodepth=16 --verify_state_save=0 "${target[@]}" "$@")
    if [ "$node" = alice ]; then
        (cd "$work" && "${fio[@]}") >"$work/fio.out" 2>&1
    else
        guest "${fio[@]}" >"$work/fio.out" 2>&1
    fi
}
# under_load NODE MIB: writes into the first MIB of that node's device, for a minute or until its process $last is killed;
# returns when some thousand blocks have reached us.
under_load() {
    local before
    before=$(counter alice dw)
    background load load "$1" --rw=randwrite --time_based --runtime="${3:-60}" --randrepeat=0 --size="$2"
    await 30 "a load on $1" written "$before"
}
written() { [ "$(counter alice dw)" -gt $(($1 + 6000)) ]; }
# checked NODE FIO-OPTION...: the same with every block verified; the scenario ends if one is wrong.
checked() { load "$@" --verify=crc32c --verify_fatal=1 || fail "fio on $1 ($*): $(tail -n 3 "$work/fio.out")"; }
# No `grep -q` behind what comes from the guest: it would be cut off, and fail.
kernel_log() { guest dmesg; }
kernel_says() { kernel_log | grep -e "$1" >/dev/null; }
we_say() { has_line "$1" "$(log_of alice)"; }
says() { if [ "$1" = alice ]; then we_say "$2"; else kernel_says "$2"; fi; }

# both_conf [NET-OPTIONS [DISK-OPTIONS [NET-OPTIONS-OF-CAROL]]]: one configuration for both, over the one before; the
# kernel's side has net options of its own if they are given.
conf_of_carol=$conf
both_conf() {
    conf_of_carol=$conf
    write_conf "$@"
    [ $# -gt 2 ] || return 0
    conf=$conf.carol write_conf "$3" "${2:-}"
    conf_of_carol=$conf.carol
}
write_conf() {
    cat >"$conf.new" <<CONF
global { usage-count no; disable-ip-verification; }
common {
    net  { timeout 40; ping-int 5; ping-timeout ${ping_timeout:-20}; connect-int 5; ${1:-} }
    disk { c-plan-ahead 0; c-min-rate 0; ${2:-resync-rate 100M;} }
}
resource r0 {
    device minor 0;
    meta-disk internal;
    on alice { disk $work/alice/disk.img; address 10.77.0.1:7788; }
    on carol { disk ${carols_disk:-/dev/vda}; address ${carols_address:-10.77.0.11:7788}; }
}
CONF
    chmod 600 "$conf.new"
    mv "$conf.new" "$conf"
}

# fresh: both disks are new and nothing runs.
fresh() {
    guest_is_up || boot
    if guest test -e /proc/drbd; then
        guest -t 20 drbdsetup down r0 >/dev/null 2>&1 || true
        if guest grep -q '^ *0: cs:[^U]' /proc/drbd; then
            say "the kernel did not let go of its resource: new boot"
            reboot_hard
        fi
    fi
    # A scenario may have grown it.
    [ "$(stat -c %s "$kernel_disk")" = "$(numfmt --from=iec "$disk_size")" ] || disk_of_guest "$(numfmt --from=iec "$disk_size")"
    guest -t 30 sh -c 'umount /dev/drbd0 2>/dev/null; blkdiscard -f -z /dev/vda 2>/dev/null && echo 3 >/proc/sys/vm/drop_caches && dmesg -C'
    mkdir -p "$work/alice/run"
    truncate -s 0 "$work/alice/disk.img"
    truncate -s "$disk_size" "$work/alice/disk.img"
    disk_of[alice]=$work/alice/disk.img
    disk_of[carol]=$kernel_disk
}
create_md() { "$1" create-md --force r0 >"$work/create-md.out" 2>&1 || fail "create-md on $1: $(cat "$work/create-md.out")"; }
# both_up: fresh disks with metadata, both up and connected: Inconsistent, no data.
both_up() {
    fresh
    both_conf "$@"
    create_md alice
    create_md carol
    alice up r0
    carol up r0
    await 30 "connected" connection_is alice Connected
    await 30 "connected, the kernel says" connection_is carol Connected
}
# both_fresh: the same, and in sync without a copy; $one is Primary.
both_fresh() {
    both_up "$@"
    carol new-current-uuid --clear-bitmap r0/0
    settled
    "$one" primary r0
}
settled() {
    local node
    for node in alice carol; do
        await 90 "$node Connected UpToDate/UpToDate (it is $(cstate "$node") $(dstate "$node"))" settled_on "$node"
    done
}
apart() {
    [[ "$(cstate alice)/$(cstate carol)" =~ ^(StandAlone/(StandAlone|WFConnection)|WFConnection/StandAlone)$ ]]
}
# part: the connection ends by command of $one
part() {
    "${1:-$one}" disconnect r0
    await 20 "$(other "${1:-$one}") is alone" connection_is "$(other "${1:-$one}")" WFConnection
}
# meet [NODE...]: these nodes connect again
meet() {
    local node
    for node in "$@"; do "$node" connect r0; done
    settled
}
# to_sync: KiB of the last resync, as both sides announced it when it began; they must agree.
to_sync() {
    local ours kernel
    ours=$(sed -n 's/.*will sync \([0-9]*\) KB.*/\1/p' "$(log_of alice)" | tail -n 1)
    kernel=$(kernel_log | sed -n 's/.*will sync \([0-9]*\) KB.*/\1/p' | tail -n 1)
    [ "$ours" = "$kernel" ] || fail "we announced ${ours:-no} KiB to sync, the kernel ${kernel:-no} KiB"
    echo "$ours"
}
# resyncs NODE: how often a resync began
resyncs() { if [ "$1" = alice ]; then grep -c 'Began resync as' "$(log_of alice)" || true; else kernel_log | grep -c 'Began resync as' || true; fi; }

# marked_in IMAGE: KiB that its metadata call out of sync once the activity log is applied, by Debian's drbdmeta on a copy.
marked_in() {
    local loop bits
    cp --sparse=always "$1" "$work/copy.img"
    loop=$(losetup --show -f "$work/copy.img")
    drbdmeta --force - v08 "$loop" internal apply-al </dev/null >"$work/apply-al.out" 2>&1
    bits=$(drbdmeta --force - v08 "$loop" internal dump-md </dev/null 2>"$work/dump-md.out" | sed -n 's/^# bits-set \([0-9]*\);/\1/p')
    losetup -d "$loop"
    rm "$work/copy.img"
    [ -n "$bits" ] || fail "drbdmeta does not tell the bits: $(cat "$work/apply-al.out" "$work/dump-md.out")"
    echo $((bits * 4))
}

# left_in IMAGE TOLD FLAGS: by Debian's drbdmeta, its metadata hold the identifiers that `get-gi` told while it was in use (the
# last bit is the role's), and begin with these flags: consistent, up to date, Primary, connected.
left_in() {
    local loop found i one other
    loop=$(losetup --show -f "$1")
    found=$(drbdmeta - v08 "$loop" internal get-gi </dev/null 2>"$work/get-gi.out") || found=
    losetup -d "$loop"
    [ -n "$found" ] || fail "get-gi of $1: $(cat "$work/get-gi.out")"
    for i in 1 2 3 4; do
        one=$(cut -d: -f$i <<<"$found") other=$(cut -d: -f$i <<<"$2")
        [ $((16#$one & ~1)) = $((16#$other & ~1)) ] || fail "drbdmeta finds $found, and it was $2 while in use"
    done
    [ "$(cut -d: -f5-8 <<<"$found")" = "$3" ] || fail "drbdmeta finds $found, not the flags $3"
    say "drbdmeta finds $found"
}

# MARK: What must be true in the end

# generations NODE [VOLUME]: current, bitmap and both history identifiers, without the bit that tells the role, and without the
# identifier of a disk just created, which the side that skipped its first sync does not keep in its history
generations() {
    local fields field
    IFS=: read -ra fields <<<"$("$1" get-gi "${2:-r0}")"
    [ ${#fields[@]} -ge 6 ] || fail "get-gi on $1 says nothing useful"
    for field in "${fields[@]:0:4}"; do
        field=$(printf '%016X' $((16#$field & ~1)))
        if [ "$field" != 0000000000000004 ]; then printf '%s:' "$field"; else printf '%016X:' 0; fi
    done
    echo "${fields[4]}:${fields[5]}"
}
quiet() { ! "$1" proc | grep -e ' lo:[1-9]' -e ' pe:[1-9]' -e ' ua:[1-9]' -e ' ap:[1-9]' >/dev/null; }
# same: both are connected, quiet and hold the same; the disks byte for byte, the generation identifiers, nothing dirty.
same() {
    local node bytes found kernel
    settled
    for node in alice carol; do
        await 20 "$node is quiet: $("$node" proc | tail -n 2)" quiet "$node"
        [ "$(counter "$node" oos)" = 0 ] || fail "$node counts $(counter "$node" oos) KiB out of sync"
    done
    bytes=$(data_bytes)
    kernel=$(($(guest cat /sys/block/drbd0/size) * 512))
    [ "$bytes" = "$kernel" ] || fail "the device has $bytes bytes for us, $kernel for the kernel"
    cmp -n "$bytes" "${disk_of[alice]}" "$kernel_disk" >"$work/cmp.out" || fail "the disks differ: $(cat "$work/cmp.out")"
    found=$(generations alice)
    kernel=$(generations carol)
    [ "$found" = "$kernel" ] || fail "the generations differ: $found ours, $kernel the kernel's"
    say "same ${1:-}: $((bytes / 1024)) KiB, $found"
}
evidence() {
    local file
    echo "--- $scenario $direction broke with status $1${failed_because:+ ($failed_because)}"
    if [ -f "$work/alice/run/r0.log" ]; then
        tail -n +3 "$work/alice/run/proc/drbd" 2>/dev/null
        tail -n 40 "$work/alice/run/r0.log"
    fi
    echo "--- kernel"
    guest -t 10 sh -c 'tail -n +3 /proc/drbd; dmesg | tail -n 45' || "$vm" console "$machine" | tail -n 20
    for file in "$work"/*.out; do
        [ -s "$file" ] || continue
        echo "--- ${file##*/}"
        tail -n 8 "$file" | cut -c 1-160
    done
}
