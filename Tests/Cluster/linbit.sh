#!/usr/bin/env bash
# DRBD's own resource agent, as Debian's drbd-utils has it, drives us under the names of DRBD's tools: ocf-tester first, then what
# pacemaker.sh does with our agent.
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR
AGENT=linbit
linbit=/usr/lib/ocf/resource.d/linbit/drbd

# ocf_tester NODE: no cluster runs yet, so that nobody takes a score or tells where the promoted one is.
ocf_tester() {
    mkdir -p "$work/no-cluster"
    printf '#!/bin/sh\nexit 0\n' | tee "$work/no-cluster/crm_master" >"$work/no-cluster/crm_resource"
    chmod 755 "$work/no-cluster/"*
    on "$1" env PATH="$work/no-cluster:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" HA_SBIN_DIR="$work/no-cluster" \
        LD_PRELOAD=/usr/local/lib/replica/libreplica-proc.so \
        OCF_RESKEY_crm_feature_set=3.16.2 OCF_RESKEY_CRM_meta_clone_max=2 OCF_RESKEY_CRM_meta_clone_node_max=1 \
        OCF_RESKEY_CRM_meta_master_max=1 OCF_RESKEY_CRM_meta_master_node_max=1 OCF_RESKEY_CRM_meta_notify=true \
        timeout -k 1 100 ocf-tester -n p_r0 -o drbd_resource=r0 -o wfc_timeout=1 $linbit
}
before_the_cluster() {
    [ -x $linbit ] || skip "no $linbit (package drbd-utils)"
    command -v ocf-tester >/dev/null || skip "no ocf-tester (package resource-agents)"
    stranger_prepared alice
    # The agent's own description does not keep to the DTD; that is the one thing that may be wrong.
    ocf_tester alice >"$work/ocf-tester.out" 2>&1 || true
    for line in '^Tests failed: .* failed 1 tests$' 'does not conform to ra-api-1.dtd'; do
        grep -q "$line" "$work/ocf-tester.out" || fail "ocf-tester: $(cat "$work/ocf-tester.out")"
    done
    say "ocf-tester: what it does is right, but for the form of its description"
}
# shellcheck source=pacemaker.sh
. "$(dirname "$0")/pacemaker.sh"
