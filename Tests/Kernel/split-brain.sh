#!/usr/bin/env bash
# Both are Primary while apart: neither touches the other's data, until $one is named the victim.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol C;"
io "$one" "write -P 10 0 4M" flush
part "$two"
"$two" primary r0
io "$one" "write -P 11 1M 64k" "write -P 12 2M 64k" flush
io "$two" "write -P 21 1M 64k" "write -P 22 3M 64k" flush
"$two" connect r0
await 30 "they part" apart
for node in alice carol; do
    await 10 "$node says it" says "$node" 'Split-Brain detected but unresolved, dropping connection!'
done
io "$one" "read -P 11 1M 64k" "read -P 12 2M 64k" "read -P 10 3M 64k" || fail "the data of $one were touched"
io "$two" "read -P 21 1M 64k" "read -P 22 3M 64k" "read -P 10 2M 64k" || fail "the data of $two were touched"
say "alice $(cstate alice), carol $(cstate carol)"

for node in alice carol; do "$node" disconnect r0 || true; done
"$one" secondary r0
"$two" connect r0
"$one" -- --discard-my-data connect r0
same "with the data of $two"
io "$two" "read -P 21 1M 64k" "read -P 22 3M 64k" "read -P 10 2M 64k" || fail "the survivor's data changed"
