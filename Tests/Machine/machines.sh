# shellcheck shell=bash
# Two virtual machines, booted once for many scenarios. Shared by `run` and functions.sh.
# shellcheck source-path=SCRIPTDIR source=../Kernel/machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../Kernel/machine.sh"
declare -A ip_of=([alice]=10.77.0.11 [bob]=10.77.0.12)
# XFS wants 300 MiB.
volume_size=352M

# at NODE COMMAND...: runs it in that machine, with its exit status
at() {
    local machine=$1
    shift
    guest "$@"
}
is_up() { "$vm" ls 2>/dev/null | grep "^$1 running" >/dev/null; }
# boot_one NODE: its disk is $judge/NODE.img, behind a cache that a power cut empties if there is $judge/NODE.cached.
boot_one() {
    local disk=$judge/$1.img
    if [ -e "$judge/$1.cached" ]; then
        [ -e "$disk" ] || truncate -s "$(cat "$judge/$1.cached")" "$disk"
        "$(dirname "${BASH_SOURCE[0]}")/volatile.py" "$disk" "$judge/$1.nbd" >"$judge/volatile-$1.out" 2>&1 &
        echo $! >"$judge/volatile-$1.pid"
        disown
        until [ -S "$judge/$1.nbd" ]; do sleep 0.02; done
        disk+=",nbd=$judge/$1.nbd"
    else
        disk+=",size=512M"
    fi
    "$vm" start "$1" --smp 1 --mem 640 --net "$network:${ip_of[$1]}" --modules nbd,dm-mod,dm-snapshot,dm-delay,dm-flakey,ext4,xfs \
        --disk "$disk" --share "$judge:$judge:nocache" >"$judge/boot-$1.out" 2>&1 || {
        cat "$judge/boot-$1.out" >&2
        return 1
    }
    # No udev in there: LVM makes its nodes itself.
    at "$1" sh -c "mkdir -p /mnt/r0 && if vgs vg >/dev/null 2>&1; then vgchange -q -ay vg && vgmknodes; else
        pvcreate -q -y /dev/vda && vgcreate -q vg /dev/vda && lvcreate -q -y -Wn -L $volume_size -n r0 vg; fi" >"$judge/lvm-$1.out" 2>&1 || {
        cat "$judge/lvm-$1.out" >&2
        return 1
    }
}
boot() {
    local name
    for name in alice bob; do boot_one "$name" || return 1; done
}
# power_cut NODE: its machine ends between two instructions, and what its disk had in its cache is lost, or some of it.
# shellcheck disable=SC2120
power_cut() {
    if [ -e "$judge/$1.cached" ]; then
        # First, or what the disk was asked for before would still happen.
        kill -USR1 "$(cat "$judge/volatile-$1.pid")"
        until grep -q lost "$judge/volatile-$1.out"; do sleep 0.01; done
    fi
    "$vm" kill "$1"
    [ ! -e "$judge/$1.cached" ] || end_cache "$1"
}
# end_cache NODE: its disk ends soon after its machine. It is no child of ours if another scenario booted it.
end_cache() {
    local pid try
    pid=$(cat "$judge/volatile-$1.pid")
    for ((try = 0; try < 500; try++)); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.02
    done
    echo "the disk of $1 does not end" >&2
    return 1
}
# lost NODE: what its disk lost at the last power cut
lost() { sed -n 's/ writes lost$//p' "$judge/volatile-$1.out"; }
# with_disk NODE [SIZE]: it is up with such a disk, plain or with SIZE behind a cache that a power cut empties; a new one if it is not.
with_disk() {
    local found=
    [ ! -e "$judge/$1.cached" ] || found=$(cat "$judge/$1.cached")
    if [ "$found" = "${2:-}" ]; then
        is_up "$1" || boot_one "$1"
        return
    fi
    if is_up "$1"; then "$vm" kill "$1"; fi
    [ -z "$found" ] || kill -9 "$(cat "$judge/volatile-$1.pid")" 2>/dev/null
    rm -f "$judge/$1.img" "$judge/$1.cached"
    [ $# = 1 ] || echo "$2" >"$judge/$1.cached"
    boot_one "$1"
}
