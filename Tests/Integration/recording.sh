#!/usr/bin/env bash
# What a daemon remembers of its life, told to another core, leads to the same effects, step by step.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root netns nbd qemu-io

export REPLICA_RECORDED_EVENTS=1000000
networks
pair 64M "cram-hmac-alg sha256; shared-secret very-secret;"
background writer-alice "$writer" write "$(uri alice)" "$work/journal" --depth 16 --flush
progress 500
unplug
progress 200
plug
settled
progress 200
kill_tree "$last"
await 10 "the writer ends" gone "$last"
qemu-io -f raw -d unmap -c "discard 1M 1M" -c "write -z 3M 1M" -c "read 0 1M" "$(uri alice)" >"$work/io.out"
alice secondary r0
bob primary r0
bob disconnect r0
qemu-io -f raw -c "write -P 3 8M 64k" "$(uri bob)" >>"$work/io.out"
bob connect r0
settled
for node in "${nodes[@]}"; do
    equal "$work/$node/run/r0.recording" "$node" recording r0
    [ "$(stat -c %a "$work/$node/run/r0.recording")" = 600 ] || fail "others can read $node's recording"
    ! grep -q -e very-secret -e "$(printf very-secret | od -An -tx1 | tr -d ' \n')" "$work/$node/run/r0.recording" ||
        fail "the shared secret is in $node's recording"
    "$bin/replsim" replay "$work/$node/run/r0.recording" >"$work/replay.out" || fail "$node: $(head -c 2000 "$work/replay.out")"
    say "$node: $(cat "$work/replay.out")"
    grep -q '^[0-9]\{4,\} events' "$work/replay.out" || fail "hardly anything was recorded"
done
sed '9s/^/?/' "$work/alice/run/r0.recording" >"$work/damaged"
refused 20 'damaged:9: neither event nor effect' "$bin/replsim" replay "$work/damaged"
sed 's/^complete 1/complete 0/' "$work/alice/run/r0.recording" >"$work/late"
refused 20 'late:4: the beginning of the process is not in it' "$bin/replsim" replay "$work/late"
