#!/usr/bin/env bash
# Real Pacemaker and Corosync on two nodes in namespaces, with the configuration that we ship: switch-over, a killed daemon, a node
# without power that comes back. An application that remembers every answered write judges.
# shellcheck disable=SC2016,SC2119
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd corosync pacemakerd crm crm_mon cibadmin

nodes_on 64M
# What linbit.sh has to do first.
if declare -F before_the_cluster >/dev/null; then before_the_cluster; fi
clusters_up
load_configuration
say "promoted on $primary, $SECONDS s after the start"

say "switch-over"
for _ in 1 2; do
    secondary=$(other "$primary")
    crm_says alice node standby "$primary"
    serves "$secondary"
    crm_says alice node online "$primary"
    in_sync
    primary=$secondary
done

say "the daemon of the Primary is killed"
before=$(answered)
on "$primary" sh -c 'kill -9 $(cat /run/replica/r0.pid)'
await 60 "the application goes on" answered_more "$before" 200
somebody_is_promoted || fail "nobody is promoted"
serves "$primary"
in_sync
crm_says alice resource cleanup
say "now on $primary"

say "the Primary's power is cut"
secondary=$(other "$primary")
power_off "$primary"
serves "$secondary" 90
power_on "$primary"
cluster_up "$primary"
await 60 "$primary is back" is_online "$secondary" "$primary"
in_sync
serves "$secondary"
say "its peer took over and it is back"

no_split_brain
say "$(answered) answered writes; started: $(paste -sd, "$work/started")"
