#!/usr/bin/env bash
# What after-sb-0pri, -1pri and -2pri make of a split brain is the same on both sides, and what the manual says.
# $one was Primary when they parted, $two became one after that.
# directions: kernel ours
# seconds: 480
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
# Each side waits that long before it takes a new connection for one, and here are many.
# shellcheck disable=SC2034
ping_timeout=8

# in_sync_or_apart: what came of it, in $came
in_sync_or_apart() {
    if settled_on alice && settled_on carol; then came=sync; elif apart; then came=apart; else return 1; fi
}
# policy OPTIONS SECONDARIES ONE TWO EXPECTED: $one writes ONE KiB and $two TWO while apart, then SECONDARIES (one, two)
# are demoted and both meet with these options. EXPECTED is whose data survive, or `apart`.
policy() {
    local options=$1 secondaries=$2 kib_one=$3 kib_two=$4 expected=$5 name winner byte
    both_conf ""
    for name in alice carol; do
        "$name" disconnect r0 >/dev/null 2>&1 || true
        "$name" secondary r0
    done
    # Whatever was left by the case before: $one has the right data.
    "$one" connect r0
    "$two" -- --discard-my-data connect r0
    settled
    "$one" primary r0
    io "$one" "write -P 0 1M 1M" flush
    part "$two"
    "$two" primary r0
    [ "$kib_one" = 0 ] || io "$one" "write -P 11 1M ${kib_one}k" flush
    [ "$kib_two" = 0 ] || io "$two" "write -P 22 1M ${kib_two}k" flush
    "$one" disconnect r0
    for name in $secondaries; do "${!name}" secondary r0; done
    both_conf "$options"
    alice adjust r0
    carol adjust r0
    came=
    # Asked once: who is alone for good is so while the other is still on its way there.
    within 40 in_sync_or_apart || fail "$options: alice is $(cstate alice) $(dstate alice), carol $(cstate carol) $(dstate carol)"
    if [ "$came" = sync ]; then
        same "by $options"
        byte=$(od -An -tu1 -j 1M -N 1 "$kernel_disk")
        case $((byte)) in
            11) winner=one ;;
            22) winner=two ;;
            *) winner=other$((byte)) ;;
        esac
        # Who wrote nothing has the zeroes from before.
        [ "$winner" != other0 ] || if [ "$kib_one" = 0 ]; then winner=one; else winner=two; fi
    else
        winner=apart
    fi
    say "$options: $winner (alice $(role alice), carol $(role carol))"
    [ "$winner" = "$expected" ] || fail "$options: $winner instead of $expected"
}

both_up "protocol C;"
carol new-current-uuid --clear-bitmap r0/0
settled
policy "after-sb-0pri disconnect;" "one two" 64 64 apart
policy "after-sb-0pri discard-younger-primary;" "one two" 64 64 one
policy "after-sb-0pri discard-older-primary;" "one two" 64 64 two
policy "after-sb-0pri discard-zero-changes;" "one two" 64 64 apart
policy "after-sb-0pri discard-zero-changes;" "one two" 0 64 two
policy "after-sb-0pri discard-zero-changes;" "one two" 64 0 one
policy "after-sb-0pri discard-least-changes;" "one two" 64 128 two
policy "after-sb-0pri discard-least-changes;" "one two" 128 64 one
policy "after-sb-0pri discard-node-$one;" "one two" 64 64 two
policy "after-sb-0pri discard-node-$two;" "one two" 64 64 one
policy "after-sb-1pri disconnect;" "two" 64 64 apart
policy "after-sb-1pri discard-secondary;" "two" 64 64 one
policy "after-sb-1pri consensus; after-sb-0pri discard-least-changes;" "two" 128 64 one
policy "after-sb-1pri consensus; after-sb-0pri discard-least-changes;" "two" 64 128 apart
# A Primary that should become the target refuses, unless rr-conflict says otherwise.
policy "after-sb-1pri violently-as0p; after-sb-0pri discard-least-changes;" "two" 64 128 apart
policy "after-sb-1pri violently-as0p; after-sb-0pri discard-least-changes; rr-conflict violently;" "two" 64 128 two
# The losing Primary runs its handler pri-lost-after-sb and stays what it is: roles do not change during a handshake.
policy "after-sb-1pri call-pri-lost-after-sb; after-sb-0pri discard-least-changes;" "two" 64 128 apart
policy "after-sb-1pri call-pri-lost-after-sb; after-sb-0pri discard-least-changes;" "two" 128 64 one
policy "after-sb-2pri disconnect; after-sb-0pri discard-least-changes;" "" 64 128 apart
# Both are Primary still: the target goes on as one with the other's data, if it may.
policy "allow-two-primaries; after-sb-2pri disconnect; after-sb-0pri discard-least-changes;" "" 64 128 apart
policy "allow-two-primaries; after-sb-2pri violently-as0p; after-sb-0pri discard-least-changes;" "" 64 128 apart
policy "allow-two-primaries; after-sb-2pri violently-as0p; after-sb-0pri discard-least-changes; rr-conflict violently;" "" 64 128 two
