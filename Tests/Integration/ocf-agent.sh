#!/usr/bin/env bash
# The resource agent of cluster managers: control.md item 47 with real daemons and ocf-tester; the cluster's attribute is a file here.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root ocf-tester xmllint

# The agent as it is, in a place where everybody may read it, and what a cluster offers it.
public=$(mktemp -d /tmp/replica-agent.XXXXXX)
no_public() { remove "$public"; }
cleanup_fn no_public
chmod 755 "$public"
agent=$public/replica
install -m 755 "$root/etc/ocf/replica" "$agent"
score=$work/score
mkdir -p "$public/sbin"
for program in /usr/sbin/*; do ln -s "$program" "$public/sbin/"; done 2>/dev/null
rm -f "$public/sbin/crm_master" "$public/sbin/crm_attribute"
cat >"$public/sbin/crm_attribute" <<SCRIPT
#!/bin/bash
# Notes the promotion score that it is told.
case "\$*" in
    *-v*) echo "\${!#}" >$score ;;
    *-D*) rm -f $score ;;
esac
SCRIPT
chmod 755 "$public/sbin/crm_attribute"
ln -s crm_attribute "$public/sbin/crm_master"

# as_cluster NODE COMMAND...: with what the agent gets from a cluster
extra=()
programs=$bin
as_cluster() {
    local node=$1
    shift
    on "$node" env PATH="$programs:$PATH" HA_SBIN_DIR="$public/sbin" OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=p_r0:0 \
        OCF_RESKEY_drbd_resource=r0 OCF_RESKEY_drbdconf="$conf" OCF_RESKEY_crm_feature_set=3.16.2 \
        OCF_RESKEY_CRM_meta_clone_max=2 OCF_RESKEY_CRM_meta_clone_node_max=1 OCF_RESKEY_CRM_meta_notify=true \
        OCF_RESKEY_CRM_meta_promoted_max=1 OCF_RESKEY_CRM_meta_interval=10000 OCF_RESKEY_CRM_meta_timeout=20000 "${extra[@]}" "$@"
}
# ends STATUS ACTION [NODE]: the agent's return code
ends() {
    local found
    found=$(status_of as_cluster "${3:-alice}" "$agent" "$2")
    [ "$found" = "$1" ] || fail "$2 ended with $found instead of $1: $(said)"
}
# with NAME=VALUE... -- COMMAND...: parameters for one call
with() {
    extra=()
    while [ "$1" != -- ]; do
        extra+=("$1")
        shift
    done
    shift
    "$@"
    extra=()
}
score_is() { [ "$(cat "$score" 2>/dev/null || echo none)" = "$1" ] || fail "the promotion score is $(cat "$score" 2>/dev/null || echo none) instead of $1 with $(cstate alice) $(role alice) $(dstate alice)"; }
scored() {
    ends "$1" monitor
    score_is "$2"
}

nodes_with 64M
say "what is wrong is said, and which of the codes it is"
with OCF_RESKEY_drbd_resource= -- ends 6 validate-all
with OCF_RESKEY_drbd_resource=r1 -- ends 5 validate-all
said | grep -q "'r1' not defined" || fail "validate-all says: $(said)"
with OCF_RESKEY_drbd_resource=r1 -- ends 5 monitor
with OCF_RESKEY_drbd_resource=r1 OCF_RESKEY_CRM_meta_interval=0 -- ends 7 monitor
with OCF_RESKEY_drbd_resource=r1 -- ends 0 stop
with OCF_RESKEY_adjust_master_score="1 2 3" -- ends 2 validate-all
with OCF_RESKEY_wfc_timeout=soon -- ends 2 validate-all
with OCF_RESKEY_require_drbd_module_version_ge=9.0.0 -- ends 5 validate-all
with OCF_RESKEY_require_drbd_module_version_lt=8.4.0 -- ends 5 validate-all
with OCF_RESKEY_CRM_meta_clone_node_max=2 -- ends 6 validate-all
with OCF_RESKEY_CRM_meta_clone_max=3 -- ends 6 validate-all
with OCF_RESKEY_CRM_meta_promoted_max=2 -- ends 6 validate-all
with OCF_RESKEY_CRM_meta_notify=false -- ends 6 validate-all
with OCF_RESKEY_CRM_meta_notify=false OCF_RESKEY_ignore_missing_notifications=true -- ends 0 validate-all
ends 0 validate-all
ends 3 migrate_to

say "life of a node that has never had good data"
for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done
ends 7 monitor
ends 0 stop
ends 7 promote
ends 7 demote
ends 7 reload
ends 7 monitor
with OCF_RESKEY_wfc_timeout=1 -- ends 0 start
connection_is alice WFConnection || fail "alice is $(cstate alice)"
scored 0 none
SECONDS=0
ends 1 promote
[ "$SECONDS" -ge 15 ] || fail "a cluster would promote it in vain again and again"

item 47 "start, promote, monitor, demote, stop, and a score in each state"
with OCF_RESKEY_wfc_timeout=1 -- ends 0 start bob
alice wait-connect r0
rm -f "$score"
scored 0 none
alice new-current-uuid --clear-bitmap r0/0
await 30 "both UpToDate" settled_on alice
scored 0 10000
ends 0 promote
score_is 10000
scored 8 10000
ends 0 promote
with OCF_RESKEY_remove_master_score_if_peer_primary=true -- ends 0 monitor bob
score_is none
ends 0 monitor bob
score_is 10000
SECONDS=0
with OCF_RESKEY_fail_promote_early_if_peer_primary=true -- ends 1 promote bob
[ "$SECONDS" -lt 5 ] || fail "that was not early"
ends 0 demote
ends 0 demote
scored 0 10000
ends 0 stop bob
await 20 "alice is alone" connection_is alice WFConnection
score_is none
scored 0 1000
ends 0 promote
scored 8 10000
qemu-io -f raw -c "write -q -P 1 0 8M" "$(uri alice)"
ends 0 demote
silent bob up r0
settled
silent alice detach r0
scored 0 10
with OCF_RESKEY_adjust_master_score="5 20 1000 10000" -- ends 0 monitor
score_is 20
ends 0 reload
await 20 "the disk is back" settled_on alice
score_is 10000
silent bob down r0
await 20 "alice is alone" connection_is alice WFConnection
silent alice outdate r0
scored 0 none

say "notify: never fails; outdates who is cut off from a new Primary; adjusts when the peer comes"
ends 0 notify
ends 0 stop
ends 0 notify
bob up r0
ends 0 start
settled
silent bob disconnect r0
await 10 "alice is alone" connection_is alice 'WFConnection|StandAlone|Unconnected'
silent alice disconnect r0
event() { with OCF_RESKEY_CRM_meta_notify_type="$1" OCF_RESKEY_CRM_meta_notify_operation="$2" OCF_RESKEY_CRM_meta_notify_promote_uname="${3:-}" -- ends 0 notify; }
event post promote
disks_are alice UpToDate/DUnknown || fail "alice is $(dstate alice)"
event post promote bob
disks_are alice Outdated/DUnknown || fail "alice is $(dstate alice)"
score_is none
event pre start
silent bob connect r0
settled

say "stop_outdates_secondary"
silent bob primary r0
with OCF_RESKEY_stop_outdates_secondary=true -- ends 0 stop
ends 7 monitor
on alice "$bin/replctl" -c "$conf" get-gi r0 2>/dev/null | grep -q '1:0:0:0:0:0:0$' || fail "not outdated: $(alice get-gi r0)"
silent bob secondary r0
with OCF_RESKEY_connect_only_after_promote=true -- ends 0 start bob
ends 0 start
settled

say "a monitor's time"
ends 0 promote
# In a busy test run the clock says more about the others: what is limited is the processor's time; it waits for nothing else.
least=1000000
TIMEFORMAT='%R %U %S'
for _ in {1..10}; do
    { time as_cluster alice "$agent" monitor >/dev/null 2>&1 || true; } 2>"$work/time.out"
    read -r clock processor < <(awk '{ printf "%d %d\n", $1 * 1000, ($2 + $3) * 1000 }' "$work/time.out")
    if [ "$processor" -lt "$least" ]; then least=$processor; fi
done
say "$least ms of a processor; the last one took $clock ms"
[ "$least" -lt 100 ] || fail "a monitor takes $least ms of a processor"

say "a daemon that does not answer may do anything: it is not taken for one that is not there"
stopped=$(pid_of alice)
kill -STOP "$stopped"
for action in monitor demote stop; do ends 1 $action; done
said | grep -q 'does not answer' || fail "stop says: $(said)"
with OCF_RESKEY_CRM_meta_interval=0 -- ends 1 monitor
kill -CONT "$stopped"
# Nor is it gone because the program that would tell is.
[ "$(status_of as_cluster alice env OCF_TESTER_FAIL_HAVE_BINARY=1 "$agent" stop)" = 1 ] || fail "stop without replctl: $(said)"
await 20 "it is back" settled_on alice
scored 8 10000

say "a daemon that was killed"
kill_node alice
ends 7 monitor
ends 0 stop
with OCF_RESKEY_wfc_timeout=1 -- ends 0 start
settled

say "a daemon that was killed, and a device that it left behind: any block device stands for that"
mkdir "$work/programs"
cat >"$work/programs/replctl" <<SCRIPT
#!/bin/bash
for word in "\$@"; do
    if [ "\$word" = sh-dev ] && [ -e $work/left-behind ]; then
        echo $work/left-behind
        exit
    fi
done
exec '$bin/replctl' "\$@"
SCRIPT
chmod 755 "$work/programs/replctl"
programs=$work/programs
mknod "$work/left-behind" b 7 255
kill_node alice
with OCF_RESKEY_CRM_meta_interval=0 -- ends 9 monitor
[ "$(cstate alice)" = '' ] || fail "a probe has started something"
ends 9 monitor
settled
scored 0 10000
for action in promote demote stop; do
    kill_node alice
    ends 0 $action
    said | grep -q 'the daemon has died, its device waits' || fail "$action says: $(said)"
done
rm "$work/left-behind"
ends 7 monitor

say "ocf-tester"
ocf_tester() {
    as_cluster alice ocf-tester -n p_r0:0 -o drbd_resource=r0 -o "drbdconf=$conf" -o wfc_timeout=1 "$agent"
}
ocf_tester >"$work/ocf-tester.out" 2>&1 || fail "ocf-tester: $(cat "$work/ocf-tester.out")"
grep -q 'passed all tests' "$work/ocf-tester.out" || fail "ocf-tester: $(cat "$work/ocf-tester.out")"
ends 7 monitor
