#!/usr/bin/env bash
# Both are Primary and write the same blocks at once: each conflict is resolved, and both disks end with the same. Two
# kernels lose their connection under a deep queue of such writes ("BAD! BarrierAck"), so each side writes one at a time.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

conflicts() { if [ "$1" = alice ]; then grep -c 'Concurrent writes detected' "$(log_of alice)" || true; else kernel_log | grep -c 'Concurrent writes detected' || true; fi; }
# both_write FIO-OPTION...: the same load on both at once
both_write() {
    local common=(--name=load --output-format=terse --verify_state_save=0 --randrepeat=0 --norandommap --time_based "$@")
    background ours fio "${common[@]}" --ioengine=nbd "--uri=$(uri alice)"
    guest fio "${common[@]}" --ioengine=libaio --direct=1 --filename=/dev/drbd0 >"$work/theirs.out" 2>&1 || fail "fio on carol: $(tail -n 3 "$work/theirs.out")"
    await 20 "fio on alice ends" gone "$last"
    [ -s "$work/ours.out" ] || fail "fio on alice has nothing to say"
    ! grep -q -i -e 'error' "$work/ours.out" || fail "fio on alice: $(tail -n 3 "$work/ours.out")"
}
primaries() { [ "$(role alice)/$(role carol)" = Primary/Primary/Primary/Primary ]; }

both_up "protocol C;"
"$one" new-current-uuid --clear-bitmap r0/0
settled
"$one" primary r0
say "the option is switched on while connected; before that the second promotion is refused"
! "$two" primary r0 >"$work/refused.out" 2>&1 || fail "a second Primary without allow-two-primaries"
both_conf "protocol C; allow-two-primaries;"
"$one" adjust r0
"$two" adjust r0
"$two" primary r0
await 10 "both are Primary" primaries

say "different blocks, deep queues"
both_write --rw=randwrite --bs=4k --iodepth=16 --size=8M --runtime=4
same "after writes that seldom meet"
say "the same blocks, one at a time"
before=$(resyncs alice)
both_write --rw=randwrite --bsrange=4k-16k --bs_unaligned=0 --iodepth=1 --size=48k --runtime=8
same "after conflicts"
[ "$(resyncs alice)" = "$before" ] || fail "the connection was lost: $(resyncs alice) resyncs"
ours=$(conflicts alice)
kernel=$(conflicts carol)
say "conflicts: $ours noticed by us, $kernel by the kernel"
if [ "$ours" -le 20 ] || [ "$kernel" -le 20 ]; then fail "hardly a conflict"; fi
say "flushes between them"
both_write --rw=randwrite --bs=8k --iodepth=1 --size=24k --fsync=4 --runtime=4
same "after conflicts with flushes"

# The kernel never acknowledges an epoch in which it overruled one write of several. Nothing comes after it here but a flush.
# Who decides about conflicts is whoever was faster when they connected; we do acknowledge.
if has_line 'assuming .* came first' "$(log_of alice)"; then
    say "this time the conflicts are ours to decide: no such epoch"
else
    say "an epoch that is never acknowledged is proven to be safe by a read"
    background trace alice trace r0
    traced=$last
    background theirs guest fio --name=load --verify_state_save=0 --ioengine=libaio --direct=1 --filename=/dev/drbd0 --rw=write --bs=4k \
        --size=4k --time_based --runtime=60
    theirs=$last
    proven() { has_line 'rcvd data P_DATA_REPLY' "$work/trace.out"; }
    # Its load takes seconds to begin.
    round=0
    began=$SECONDS
    until proven; do
        [ $((SECONDS - began)) -lt 50 ] || fail "no such epoch in $round rounds"
        qemu-io -f raw -c "aio_write -q -P 1 0 4k" -c "aio_write -q -P 2 64k 4k" -c aio_flush -c flush "$(uri alice)" >"$work/rounds.out"
        round=$((round + 1))
    done
    say "after $round rounds: $(grep -h 'P_DATA_REQUEST\|P_DATA_REPLY' "$work/trace.out" | sed 's/ seq.*//' | tr '\n' ';')"
    kill_tree "$traced"
    guest pkill fio
    await 20 "fio on carol ends" gone "$theirs"
    same "after a proof"
fi

say "the option stays on while both are Primary"
both_conf "protocol C;"
! alice adjust r0 >"$work/refused.out" 2>&1 || fail "the option went while both were Primary"
both_conf "protocol C; allow-two-primaries;"
"$one" secondary r0
await 10 "$two knows" role_is "$two" Primary
"$two" secondary r0
"$two" primary r0
"$one" primary r0
same "after changes of role"
part "$two"
