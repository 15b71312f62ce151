# shellcheck shell=bash
# Two virtual machines, booted once for many scenarios. Shared by `run` and functions.sh.
# shellcheck source-path=SCRIPTDIR source=../Kernel/machine.sh
. "$(dirname "${BASH_SOURCE[0]}")/../Kernel/machine.sh"
machines=(alice bob)
# XFS wants 300 MiB.
volume_size=352M

# at NODE COMMAND...: runs it in that machine, with its exit status
at() {
    local machine=$1
    shift
    guest "$@"
}
boot_one() {
    "$vm" start "$1" --smp 1 --mem 640 --net "$network" --modules nbd,dm-mod,ext4,xfs \
        --disk "$judge/$1.img,size=512M" --share "$judge:$judge:nocache" >"$judge/boot-$1.out" 2>&1 || {
        cat "$judge/boot-$1.out" >&2
        return 1
    }
    # No udev in there: LVM makes its nodes itself.
    at "$1" sh -c "pvcreate -q -y /dev/vda && vgcreate -q vg /dev/vda && lvcreate -q -y -Wn -L $volume_size -n r0 vg" >"$judge/lvm-$1.out" 2>&1 || {
        cat "$judge/lvm-$1.out" >&2
        return 1
    }
}
boot() {
    local name
    for name in "${machines[@]}"; do boot_one "$name" || return 1; done
}
