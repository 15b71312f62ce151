# shellcheck shell=bash
# The virtual machine whose kernel judges us: one boot for many scenarios. Shared by `run` and functions.sh.
judge=$REPLICA_JUDGE
vm=$(dirname "${BASH_SOURCE[0]}")/vm/vm
export REPLICA_VM_DIR=$judge/vm
machine=carol
network=judge${judge##*.}
kernel_disk=$judge/carol.img
disk_size=64M

# guest [-t SECONDS] COMMAND...: runs it in the machine, with its exit status.
guest() {
    local seconds=60
    if [ "$1" = -t ]; then
        seconds=$2
        shift 2
    fi
    "$vm" exec -t "$seconds" -C / "$machine" -- "$@"
}
guest_is_up() { "$vm" ls 2>/dev/null | grep "^$machine running" >/dev/null; }
# Without QEMU's lock on the image: our daemon takes it over while the machine is up and leaves it alone.
boot() {
    "$vm" start "$machine" --smp "${REPLICA_JUDGE_CPUS:-1}" --mem 768 --net "$network" --modules drbd,ext4 \
        --disk "$kernel_disk,size=$disk_size,locking=off" --disk "$judge/carol1.img,size=$disk_size,locking=off" --share "$judge:$judge:nocache" >"$judge/boot.out" 2>&1 || {
        cat "$judge/boot.out" >&2
        return 1
    }
    # Without a configuration in /etc its handlers fail, and it drops the connection before a resync.
    guest sh -c 'echo /bin/true >/sys/module/drbd/parameters/usermode_helper'
}
power_cut() { "$vm" kill "$machine"; }
reboot_hard() {
    power_cut
    boot
}
# disk_of_guest BYTES: its disk has another size from now on.
disk_of_guest() {
    "$vm" qmp "$machine" "{\"execute\":\"block_resize\",\"arguments\":{\"node-name\":\"disk0\",\"size\":$1}}" >"$judge/qmp.out" || {
        cat "$judge/qmp.out" >&2
        return 1
    }
}
