#!/usr/bin/env bash
# new-current-uuid --clear-bitmap by command of either side: both are in sync without a copy.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_up "protocol C;"
"$one" new-current-uuid --clear-bitmap r0/0
same "without a copy"
[ "$(resyncs alice)/$(resyncs carol)" = 0/0 ] || fail "something was synchronised"
"$two" primary r0
io "$two" "write -P 5 3M 1M" flush
part "$one"
meet "$one"
same "after a write and a reconnect"
