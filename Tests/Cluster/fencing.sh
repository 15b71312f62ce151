#!/usr/bin/env bash
# The replication link is cut again and again while Pacemaker and DRBD's own crm-fence-peer.sh are at work, and the Primary is told to
# give way in the middle of it: the other node must not be promoted with old data. ROUNDS=20 does it more often.
# shellcheck disable=SC2016,SC2119
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd corosync pacemakerd crm crm_mon cibadmin
rounds=${ROUNDS:-4}
scripts=/usr/lib/drbd
[ -x $scripts/crm-fence-peer.sh ] || skip "no $scripts/crm-fence-peer.sh (package drbd-utils)"
handlers="handlers { fence-peer $scripts/crm-fence-peer.sh; unfence-peer $scripts/crm-unfence-peer.sh; }"

constraint() { ask "$primary" cibadmin -Q -o constraints 2>/dev/null | grep -q 'drbd-fence-by-handler-r0-p_r0-clone'; }
no_constraint() { ! constraint; }

nodes_on 64M "" "fencing resource-only; resync-rate 4194304;" "$handlers"
clusters_up
load_configuration
for ((round = 1; round <= rounds; round++)); do
    secondary=$(other "$primary")
    cut_link "$secondary" 1
    await 30 "the other one is fenced" constraint
    await 20 "it is known to be outdated" disks_are "$primary" UpToDate/Outdated
    goes_on
    if [ $((round % 2)) = 0 ]; then
        # What it has is old: it must not serve, whoever asks for it.
        crm_says "$primary" node standby "$primary"
        await 60 "$primary has given way" not_promoted "$primary"
        # Until the cluster has done all that it wants to do.
        on "$primary" timeout -k 1 90 crm_resource --wait --timeout 60 >"$work/wait.out" 2>&1 || fail "the cluster does not come to rest: $(cat "$work/wait.out")"
        if promoted_on "$secondary" "$secondary"; then fail "$secondary is promoted with old data"; fi
        if role_is "$secondary" Primary; then fail "$secondary is Primary with old data"; fi
        crm_says "$primary" node online "$primary"
        serves "$primary" 90
    fi
    heal_link "$secondary" 1
    in_sync
    await 60 "the fence is gone" no_constraint
    sane
done
no_split_brain
say "$rounds times; $(answered) answered writes; started: $(paste -sd, "$work/started")"
