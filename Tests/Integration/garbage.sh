#!/usr/bin/env bash
# Strangers at every door, noisy and slow: the pair goes on, memory stays bounded, the log is not filled.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd nbdinfo

garbage=$here/garbage.py
resident() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/$(pid_of alice)/status"; }
files() { find "/proc/$(pid_of alice)/fd" | wc -l; }
lines() { wc -l <"$(log_of alice)"; }
# DRBD's first packets: which stream this is; features; a challenge; an NBD client's flags, and one of its options.
data_marker=83740267fff20000
meta_marker=83740267fff10000
features=8620ec200000fffe00000050
features+=$(printf '%0160d' 0)
nbd_flags=00000003
nbd_option=49484156454f505400000007
control=(737461747573 70726f630a 7072696d61727920)

pair 96M 'cram-hmac-alg sha256; shared-secret "himitu";'
pid=$(pid_of alice)
# The load warms up every buffer before anything is measured.
"$writer" write "$(uri alice)" "$work/journal" --count 800 --depth 64 --flush
before=$(resident)
files_before=$(files)
lines_before=$(lines)

say "at the NBD and the control socket, and at the replication port of a connected pair"
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 8 --seed 2
load=$last
# A client that comes in the middle of a flood may be refused: tried again below, and nothing that the load should meet.
progress 1
for door in "$work/alice/run/r0.nbd" "$work/alice/run/r0.ctl"; do
    background "loris-${door##*.}" "$garbage" loris "$door" --count 24 --prefix $nbd_flags $nbd_option
done
"$garbage" flood "$work/alice/run/r0.nbd" --count 120 --seed 1
"$garbage" flood "$work/alice/run/r0.nbd" --count 120 --seed 2 --prefix $nbd_flags $nbd_flags$nbd_option $nbd_flags${nbd_option}00001000
"$garbage" flood "$work/alice/run/r0.ctl" --count 120 --seed 3 --prefix "${control[@]}"
"$garbage" flood "127.0.0.1:$port" --from 127.0.0.2 --count 50 --seed 4 --prefix $data_marker $meta_marker
"$garbage" flood "127.0.0.1:$port" --from 127.0.0.9 --count 50 --seed 5
progress 200
within 10 nbdinfo --size "$(uri alice)" || fail "a client does not get in beside the strangers"
settled_on alice || fail "alice is $(cstate alice) $(dstate alice)"
say "log: $(($(lines) - lines_before)) lines more"
[ $(($(lines) - lines_before)) -le 20 ] || fail "the log is filled: $(tail -n 5 "$(log_of alice)")"

say "at the replication port of a node that waits for its peer"
kill_node bob
await 20 "alice waits" connection_is alice WFConnection
lines_before=$(lines)
background loris-peer "$garbage" loris "127.0.0.1:$port" --from 127.0.0.2 --count 24
loris_peer=$last
background loris-other "$garbage" loris "127.0.0.1:$port" --from 127.0.0.9 --count 24
"$garbage" flood "127.0.0.1:$port" --from 127.0.0.9 --count 80 --seed 6 --prefix $data_marker
"$garbage" flood "127.0.0.1:$port" --from 127.0.0.2 --count 80 --seed 7
"$garbage" flood "127.0.0.1:$port" --from 127.0.0.2 --count 50 --seed 8 --prefix $data_marker $meta_marker "$data_marker$features"
connection_is alice 'Unconnected|WFConnection' || fail "alice is $(cstate alice)"
[ "$(grep -c '127.0.0.9' "$(log_of alice)")" -le 2 ] || fail "a stranger is logged again and again"
say "log: $(($(lines) - lines_before)) lines more"
[ $(($(lines) - lines_before)) -le 60 ] || fail "the log is filled: $(tail -n 5 "$(log_of alice)")"
progress 100

say "the peer comes back between strangers from other addresses"
kill_tree "$loris_peer"
bob up r0
settled
[ "$(pid_of alice)" = "$pid" ] || fail "alice's daemon is another one"
gone "$load" && fail "the writer has ended: $(tail -n 1 "$work/writer-alice.out")"
after=$(resident)
say "resident: $before KiB before, $after KiB after; $files_before and $(files) open files"
[ "$after" -lt $((before + 16384)) ] || fail "memory grew from $before to $after KiB"
[ "$(files)" -lt $((files_before + 80)) ] || fail "open files grew from $files_before to $(files)"

say "alice dies: all that was answered is on bob"
kill_node alice
await 20 "the writer sees the end of its connection" gone "$load"
bob primary r0
no_write_lost bob
alice up r0
settled
identical
