#!/usr/bin/env bash
# Two ends whose settings do not fit part for good and say why; corrected, they find each other.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires cmp

# Each node has its own configuration here.
different() { # NET-OPTIONS-OF-BOTH ALICE-ONLY BOB-ONLY
    write_conf "$1 $2"
    cp "$conf" "$work/alice.conf"
    write_conf "$1 $3"
    cp "$conf" "$work/bob.conf"
}
alice() { on alice "$bin/replctl" -c "$work/alice.conf" "$@"; }
bob() { on bob "$bin/replctl" -c "$work/bob.conf" "$@"; }
both_stand_alone() { connection_is alice StandAlone && connection_is bob StandAlone; }
one_stands_alone() { [[ "$(cstate alice)/$(cstate bob)" =~ ^(StandAlone/(StandAlone|WFConnection)|WFConnection/StandAlone)$ ]]; }

secret='cram-hmac-alg sha256; shared-secret'
nodes_with 64M
different '' "$secret \"himitu\";" "$secret \"himitsu\";"
alice create-md r0 >"$work/create-md.out" 2>&1
bob create-md r0 >"$work/create-md.out" 2>&1

say "a wrong secret"
alice up r0
bob up r0
await 30 "both part" one_stands_alone
grep -h -i 'authentic' "$(log_of alice)" "$(log_of bob)" | sort -u -k 3 | head -n 4
say "alice $(cstate alice), bob $(cstate bob)"
grep -q -r 'himit' "$(log_of alice)" "$(log_of bob)" && fail "a secret is in the log"

say "corrected: adjust"
different '' "$secret \"himitu\";" "$secret \"himitu\";"
bob adjust r0
alice adjust r0
await 30 "connected" connection_is alice Connected
await 30 "connected" connection_is bob Connected

say "only one end has a secret"
bob disconnect r0
alice disconnect r0
different '' "$secret \"himitu\";" ''
alice adjust r0
bob adjust r0
await 30 "they part or wait, and are not connected" one_stands_alone
say "alice $(cstate alice), bob $(cstate bob)"

say "protocol letters that differ"
alice disconnect r0
bob disconnect r0
different '' 'protocol A;' 'protocol C;'
alice connect r0
bob connect r0
await 30 "both part" one_stands_alone
grep -h -i 'protocol' "$(log_of alice)" "$(log_of bob)" | grep -i -v 'agreed' | sort -u -k 3 | head -n 4

say "corrected: works"
different '' '' ''
bob adjust r0
alice adjust r0
await 30 "connected" connection_is alice Connected
alice new-current-uuid --clear-bitmap r0/0
settled
alice primary r0
identical
