#!/usr/bin/env bash
# More is under way to the peer than congestion-fill allows: $one pulls ahead, $two stays behind, and a resync of what was
# left out brings them together; again and again under load, and with `disconnect` as the policy.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

count() { if [ "$1" = alice ]; then grep -c -e "$2" "$(log_of alice)" || true; else kernel_log | grep -c -e "$2" || true; fi; }

# Each way back rotates the source's history, of which the target hears nothing: with the kernel as the target, too, the
# older of the two history identifiers is another one after the second.
eval "all_$(declare -f generations)"
generations() { all_generations "$1" | cut -d: -f 1-3,5-; }

both_fresh "protocol A; on-congestion pull-ahead; congestion-fill 256k; congestion-extents 1000; sndbuf-size 512k;"
io "$one" "write -P 41 0 8M" flush
for round in 1 2; do
    checked "$one" --rw=randwrite --bs=32k --io_size=16M --randseed=$((round * 100 + RANDOM % 100))
    await 20 "$one is back from Ahead" connection_is "$one" 'Connected|SyncSource'
    same "after round $round"
done
ahead=$(count "$one" ' -> Ahead ')
behind=$(count "$two" ' -> Behind ')
[ "$ahead" -gt 0 ] || fail "$one never pulled ahead"
[ "$behind" -gt 0 ] || fail "$two was never behind"
await 5 "the threshold is named" says "$one" 'Congestion-fill threshold reached'
await 5 "the resync began from Ahead" says "$one" 'Ahead -> SyncSource'
await 5 "the resync began from Behind" says "$two" 'Behind -> SyncTarget'
say "$one was Ahead $ahead times, $two Behind $behind times"

say "the link is lost while Ahead"
background load load "$one" --rw=randwrite --bs=32k --time_based --runtime=5
await 30 "$one is Ahead" connection_is "$one" Ahead
"$two" disconnect --force r0
await 30 "the load ends" gone "$last"
meet "$two"
same "after a loss while Ahead"

# The kernel itself does not survive this policy: its receiver ends, and it stays Disconnecting until the next boot.
[ "$one" = alice ] || exit 0
both_conf "protocol A; on-congestion disconnect; congestion-fill 256k; congestion-extents 1000; sndbuf-size 512k;"
alice adjust r0
carol adjust r0
load "$one" --rw=randwrite --bs=32k --io_size=8M || fail "the load: $(tail -n 3 "$work/fio.out")"
await 20 "$one is StandAlone" connection_is "$one" StandAlone
both_conf "protocol A;"
"$one" adjust r0
"$two" adjust r0
same "after on-congestion disconnect"
