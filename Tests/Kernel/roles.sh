#!/usr/bin/env bash
# The role moves to the other side and back, ten times, each with writes and a look at what the other wrote.
# directions: both
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol C;"
for ((i = 1; i <= 10; i++)); do
    io "$one" "write -P $i $((i * 512))k 256k" flush || fail "$one does not write: $(cat "$work/io.out")"
    "$one" secondary r0
    "$two" primary r0
    io "$two" "read -P $i $((i * 512))k 256k" || fail "$two does not see what $one wrote: $(cat "$work/io.out")"
    one=$two two=$(other "$two")
done
same "after ten turns"
