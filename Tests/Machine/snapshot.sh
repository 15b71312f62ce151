#!/usr/bin/env bash
# A logical volume that becomes the target of a resync: the handler takes a snapshot of it before the first block is overwritten,
# with what it held, and the other removes it when the resync is over; where there is no room, the resync begins all the same,
# or not at all if that is asked for.
# directions: bob
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
handlers=$(cd "$(dirname "$0")/../../etc/handlers" && pwd)
cp "$handlers/snapshot-resync-target-lvm.sh" "$work/"
ln -s snapshot-resync-target-lvm.sh "$work/unsnapshot-resync-target-lvm.sh"
options=
after='sleep 1; touch /run/resynced'

write_conf() {
    cat >"$conf.new" <<CONF
global { usage-count no; disable-ip-verification; }
common {
    net  { protocol C; timeout 40; ping-int 5; ping-timeout 30; connect-int 5; }
    disk { c-plan-ahead 0; c-min-rate 0; resync-rate 4M; }
    handlers {
        before-resync-target "$work/snapshot-resync-target-lvm.sh $options";
        after-resync-target "$work/unsnapshot-resync-target-lvm.sh; $after";
    }
}
resource r0 {
    device minor 0;
    disk /dev/vg/r0;
    meta-disk internal;
    on alice { address 10.77.0.11:7788; }
    on bob   { address 10.77.0.12:7788; }
}
CONF
    chmod 600 "$conf.new"
    mv "$conf.new" "$conf"
}
snapshot_of() { at "$1" lvs vg/r0-before-resync; }
no_snapshot() { ! snapshot_of bob >/dev/null 2>&1; }
cleanup_fn no_snapshot_left
no_snapshot_left() { at bob sh -c 'lvremove -q -f vg/r0-before-resync; lvremove -q -f vg/hog' >"$work/lvremove.out" 2>&1; }
# behind: bob misses 16 MiB, and comes back
behind() {
    bob disconnect r0
    at alice sh -c "dd if=/dev/urandom of=/dev/drbd0 bs=1M count=16 oflag=direct conv=fsync" >"$work/dd.out" 2>&1
    bob connect r0
}

fresh_pair
at alice sh -c 'head -c 16M /dev/zero | tr "\0" "b" | dd of=/dev/drbd0 bs=1M oflag=direct conv=fsync' >"$work/dd.out" 2>&1
at bob rm -f /run/resynced
behind
await 30 "bob is the target" connection_is bob SyncTarget
snapshot_of bob >"$work/lvs.out" 2>&1 || fail "no snapshot"
at bob sh -c 'head -c 16M /dev/vg/r0-before-resync | tr -d b | wc -c' >"$work/old.out" 2>/dev/null
[ "$(tail -n 1 "$work/old.out")" = 0 ] || fail "the snapshot does not hold what bob had: $(cat "$work/old.out")"
if snapshot_of alice >"$work/lvs.out" 2>&1; then fail "a snapshot of the source"; fi
settled
await 30 "the end's handler" at bob test -e /run/resynced
no_snapshot || fail "the snapshot is left behind"
same "after a resync with a snapshot"

say "no room"
at bob lvcreate -q -y -Wn -l 100%FREE -n hog vg
behind
settled
no_snapshot || fail "there was room"
say "no room, and none is not good enough"
options=-n write_conf
bob adjust r0
behind
await 30 "bob does not become a target" says bob 'before-resync-target handler returned'
[ "$(dstate bob)" != Inconsistent/UpToDate ] || fail "bob is Inconsistent"
at bob lvremove -q -f vg/hog
bob disconnect r0
bob connect r0
settled
same "in the end"
alice secondary r0
