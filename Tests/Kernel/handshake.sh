#!/usr/bin/env bash
# The handshake: without a secret, with one by sha1 and sha256, with different ones, with different protocols.
# directions: both
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

adjusted() {
    both_conf "$@"
    alice adjust r0
    carol adjust r0
}
# rejected TEXT: at least one side gives up, neither gets through
rejected() {
    await 20 "$1: one side gives up" given_up
    ! connection_is alice Connected || fail "$1: connected"
    say "$1: alice is $(cstate alice), carol is $(cstate carol)"
    await 20 "$1: both are StandAlone" both_parted
}
alone() { [ "$(cstate alice)/$(cstate carol)" = StandAlone/StandAlone ]; }
given_up() { [[ "$(cstate alice)/$(cstate carol)" =~ StandAlone ]]; }
# The kernel refuses to disconnect in the middle of one of its tries.
both_parted() {
    for node in alice carol; do "$node" disconnect r0 || true; done
    [ "$(cstate alice)/$(cstate carol)" = StandAlone/StandAlone ]
}
away() {
    alice disconnect r0
    carol disconnect r0
}

both_fresh "protocol C;"
await 5 "protocol version 101, we say" we_say 'Agreed network protocol version 101'
await 5 "protocol version 101, the kernel says" kernel_says 'Agreed network protocol version 101'
for algorithm in sha1 sha256; do
    away
    guest dmesg -C
    adjusted "cram-hmac-alg $algorithm; shared-secret secret;"
    settled
    await 5 "$algorithm, the kernel says" kernel_says "Peer authenticated using .* bytes HMAC"
    io alice "write -P 7 0 64k" flush || fail "no write by $algorithm"
    same "with $algorithm"
done
away
adjusted "cram-hmac-alg sha1; shared-secret secret;" "" "cram-hmac-alg sha1; shared-secret other;"
rejected "different secrets"
adjusted "cram-hmac-alg sha1; shared-secret secret;" "" " "
rejected "only alice has a secret"
adjusted "" "" "cram-hmac-alg sha1; shared-secret secret;"
rejected "only carol has a secret"
# Different settings are noticed by both, who stop trying.
for settings in "protocol C;|protocol A;" "protocol B;|protocol C;" "csums-alg sha1;|csums-alg crc32c;" "verify-alg sha1;| " \
    "after-sb-0pri discard-zero-changes;| " "allow-two-primaries yes;| "; do
    adjusted "${settings%|*}" "" "${settings#*|}"
    await 20 "$settings: both are StandAlone ($(cstate alice)/$(cstate carol))" alone
done
adjusted ""
same "in the end"
