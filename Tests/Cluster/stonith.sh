#!/usr/bin/env bash
# Both cables of a node are cut at once, while Pacemaker has a stonith device and DRBD's policy is `resource-and-stonith` with its own
# crm-fence-peer.sh. The Primary's I/O stands still until one of the two is shot: in odd rounds the Secondary, in even rounds the Primary.
# ROUNDS=10 does it more often.
# shellcheck disable=SC2016,SC2119
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd corosync pacemakerd crm crm_mon cibadmin
rounds=${ROUNDS:-2}
scripts=/usr/lib/drbd
[ -x $scripts/crm-fence-peer.sh ] || skip "no $scripts/crm-fence-peer.sh (package drbd-utils)"
handlers="handlers { fence-peer $scripts/crm-fence-peer.sh; unfence-peer $scripts/crm-unfence-peer.sh; }"
# A node that was shot and sees nobody when it is back must not shoot.
wait_for_all=1
properties="stonith-enabled=true no-quorum-policy=stop stonith-timeout=60s"
power=$work/power
touch "$work/shot"

# power_switch: whose name appears in the directory loses its power. It is no part of either node.
power_switch() {
    local request node
    while sleep 0.05; do
        for request in "$power"/*; do
            [ -s "$request" ] || continue
            node=${request##*/}
            first_of[$node]=$(cat "$work/$node.first")
            power_off "$node"
            echo "$node $(answered) by $(cat "$request")" >>"$work/shot"
            rm -f "$request"
        done
    done
}
# begin NODE: its power and its cluster
begin() {
    is_on "$1" || power_on "$1"
    echo "${first_of[$1]}" >"$work/$1.first"
    on "$1" install -m 755 "$here/../Cluster/fence_replica_test" /usr/sbin/
}
shots() { wc -l <"$work/shot"; }
shot_again() { [ "$(shots)" -gt "$1" ]; }
# The first of the six flags: `s` while I/O is suspended.
frozen() { on "$1" grep -q '^ *0: cs:.* C s' /run/replica/proc/drbd; }
# Answers that were given just before are in the journal.
quiet() {
    local before
    before=$(answered)
    sleep 0.3
    [ "$(answered)" = "$before" ]
}
constraint() { ask "$1" cibadmin -Q -o constraints 2>/dev/null | grep -q 'drbd-fence-by-handler-r0-p_r0-clone'; }
no_constraint() { ! constraint "$1"; }
# What a node must not do that is back and alone.
misbehaves() { shot_again "$2" || role_is "$1" Primary || application_on "$1" || [ -n "$(ls "$power")" ]; }

nodes_on 64M "" "fencing resource-and-stonith; resync-rate 4194304;" "$handlers"
mkdir "$power"
for node in alice bob; do begin $node; done
power_switch >"$work/power-switch.out" 2>&1 &
children+=("$!")
disown "$!"
clusters_up
devices=()
for node in alice bob; do
    devices+=("primitive fence_$node stonith:fence_replica_test params pcmk_host_list=$node pcmk_host_check=static-list directory=$power pcmk_delay_base=5s op monitor interval=60s timeout=20s"
        "location l_fence_$node fence_$node -inf: $node")
done
load_configuration "${devices[@]}"
say "promoted on $primary, $SECONDS s after the start"

for ((round = 1; round <= rounds; round++)); do
    if [ $((round % 2)) = 1 ]; then winner=$primary; else winner=$(other "$primary"); fi
    loser=$(other "$winner")
    # Each will want to shoot the other one: who has to wait longer is shot.
    crm_says "$winner" resource param "fence_$loser" set pcmk_delay_base 6s
    crm_says "$winner" resource param "fence_$winner" set pcmk_delay_base 25s
    on "$winner" timeout -k 1 60 crm_resource --wait --timeout 50 >"$work/wait.out" 2>&1 || fail "the cluster does not come to rest: $(cat "$work/wait.out")"
    goes_on
    before=$(shots)
    for cable in 0 1; do cut_link "$loser" $cable; done
    await 20 "I/O of the Primary is frozen" frozen "$primary"
    await 5 "nothing is answered" quiet
    last_answered=$(answered)
    [ "$(shots)" = "$before" ] || fail "it was shot before that could be seen"
    await 60 "$loser is shot" shot_again "$before"
    [ "$(tail -n 1 "$work/shot")" = "$loser $last_answered by $winner" ] ||
        fail "shot: $(tail -n 1 "$work/shot"), expected $loser with $last_answered answered writes by $winner"
    first_of[$loser]=
    serves "$winner" 90
    await 30 "the one without power may not be promoted" constraint "$winner"

    # It is back, and its cables are still cut.
    power_on "$loser"
    for cable in 0 1; do cut_link "$loser" $cable; done
    begin "$loser"
    cluster_up "$loser"
    if within 10 misbehaves "$loser" $((before + 1)); then fail "$loser is back, alone, and does something"; fi
    for cable in 0 1; do heal_link "$loser" $cable; done
    await 90 "$loser is back" is_online "$winner" "$loser"
    in_sync
    await 60 "the fence is gone" no_constraint "$winner"
    serves "$winner"
    [ "$(shots)" = $((before + 1)) ] || fail "somebody else was shot: $(cat "$work/shot")"
    say "round $round: $primary was Primary, $loser was shot, $SECONDS s"
    primary=$winner
done
no_split_brain
say "$rounds times; $(answered) answered writes; started: $(paste -sd, "$work/started")"
