#!/usr/bin/env bash
# invalidate, invalidate-remote and outdate, by command of either side.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol C;"
all=$(($(data_bytes) / 1024))
io "$one" "write -P 9 0 20M" flush
# The kernel that began the first generation does not know that we have it too until the next handshake, and would end
# its own resync with the identifiers that we had before.
part "$one"
meet "$one"
guest dmesg -C
count=$(resyncs alice)
for command in "$two invalidate" "$one invalidate-remote"; do
    # shellcheck disable=SC2086
    $command r0
    count=$((count + 1))
    await 30 "a resync begins" eval "[ \$(resyncs alice) = $count ] && kernel_says 'Began resync as'"
    settled
    [ "$(to_sync)" = "$all" ] || fail "$command: $(to_sync) KiB of $all"
    same "after $command"
    guest dmesg -C
done
part "$one"
"$two" outdate r0
await 10 "$two is Outdated" eval "[[ \$(dstate $two) = Outdated/* ]]"
[ "$(status_of "$two" primary r0)" != 0 ] || fail "an outdated $two becomes Primary"
io "$one" "write -P 8 1M 1M" flush
meet "$one"
same "after outdate"
