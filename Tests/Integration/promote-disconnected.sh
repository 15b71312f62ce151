#!/usr/bin/env bash
# Cleanly apart, one node is promoted and written to: afterwards only what changed travels.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io

pair 192M
qemu-io -f raw -c "write -q -P 1 0 64M" -c flush "$(uri alice)"
alice secondary r0
alice disconnect r0
await 20 "bob is alone" connection_is bob WFConnection
bob disconnect r0

say "bob is promoted apart, and writes 5 MiB and three single blocks"
bob primary r0
qemu-io -f raw -c "write -q -P 2 8M 5M" -c "write -q -P 3 100M 4k" -c "write -q -P 4 120M 512" -c "write -q -P 5 150001k 4k" \
    -c flush "$(uri bob)"
dirty=$(counter bob oos)
# 5 MiB, one block, one block for a sector, and two blocks for one that lies across.
[ "$dirty" = $((5120 + 4 + 4 + 8)) ] || fail "$dirty KiB are marked, not 5136"

before=$(counter bob ns)
bob connect r0
alice connect r0
settled
travelled=$(($(counter bob ns) - before))
say "$dirty KiB were marked, $travelled KiB travelled"
[ "$travelled" = "$dirty" ] || fail "$travelled KiB travelled for $dirty KiB marked"
[ "$(counter alice nr)" -ge "$travelled" ] || fail "alice received $(counter alice nr) KiB"
identical
bob secondary r0
alice primary r0
qemu-io -f raw -c "read -q -P 1 0 8M" -c "read -q -P 2 8M 5M" -c "read -q -P 1 13M 51M" -c "read -q -P 3 100M 4k" \
    -c "read -q -P 4 120M 512" -c "read -q -P 5 150001k 4k" "$(uri alice)" | tee "$work/read.out"
! grep -q 'Pattern verification failed' "$work/read.out" || fail "alice does not hold what bob wrote"
