#!/bin/bash
# Handlers `before-resync-target` and `after-resync-target`: a snapshot of the logical volume below a volume that is about to be
# the target of a resync. While blocks of two moments lie side by side there, the snapshot is the last consistent copy.
#
#     before-resync-target "snapshot-resync-target-lvm.sh [-p PERCENT] [-a KIB] [-n] [-- LVCREATE OPTIONS]";
#     after-resync-target  "unsnapshot-resync-target-lvm.sh";
#
# The snapshot, VOLUME-before-resync, has room for what is out of sync, PERCENT of the volume's size (10) and KIB more (10240),
# for what is written meanwhile. If it can't be made, the resync begins all the same; with -n it does not, and the connection
# ends. What is no logical volume is left alone. A snapshot that is there already is of an interrupted resync, and stays: it
# is the consistent one.
set -uo pipefail
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

percent=10
additional=10240
required=
while getopts p:a:n option; do
    case $option in
        p) percent=$OPTARG ;;
        a) additional=$OPTARG ;;
        n) required=1 ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

: "${DRBD_RESOURCE:?is set by whoever calls a handler}" "${DRBD_LL_DISK:?}" "${DRBD_MINOR:?}"
say() { echo "${0##*/}: $DRBD_RESOURCE: $*" >&2; }
# give_up REASON
give_up() {
    say "$1"
    if [ -n "$required" ]; then exit 1; fi
    exit 0
}

found=$(lvs --noheadings --nosuffix --units k -o vg_name,lv_name,lv_size "$DRBD_LL_DISK" 2>/dev/null) ||
    give_up "$DRBD_LL_DISK is no logical volume, no snapshot"
read -r group volume size <<<"$found"
snapshot=$volume-before-resync

case ${0##*/} in
    unsnapshot*)
        lvs "$group/$snapshot" >/dev/null 2>&1 || exit 0
        lvremove -q -f "$group/$snapshot" >&2 || give_up "$group/$snapshot can't be removed"
        ;;
    *)
        if lvs "$group/$snapshot" >/dev/null 2>&1; then
            say "$group/$snapshot is there since an earlier resync, and stays"
            exit 0
        fi
        status=${REPLICA_RUN_DIR:-/run/replica}/proc/drbd
        out_of_sync=$(sed -n "/^ *$DRBD_MINOR:/ { n; s/.* oos:\([0-9]*\).*/\1/p; }" "$status" 2>/dev/null)
        room=$((${out_of_sync:-0} + additional + ${size%.*} * percent / 100))
        lvcreate -q -s -n "$snapshot" -L "${room}k" "$@" "$group/$volume" >&2 || give_up "no snapshot of $group/$volume"
        ;;
esac
