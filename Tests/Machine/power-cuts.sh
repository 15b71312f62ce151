#!/usr/bin/env bash
# The Primary's machine loses its power, and its disk what it had not flushed, under programs that synchronise each of their records
# and have it acknowledged outside of both machines. The other one is promoted: its file system is clean after its journal, and every
# acknowledged record is there. The first returns and gets what its log and the bitmaps name. Or both lose their power at once, and
# then the other one is promoted. CUTS=30 does it more often.
# directions: one both
# seconds: 4000
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
kind=$1
cuts=${CUTS:-2}
# 500 extents, of which the log holds the least that it can: what is hot is far from everything.
cached=2G volume_size=2000M
disk_options="al-extents 67;"

# everything_there NODE: promotes it, and looks at what was acknowledged and at the file system
everything_there() {
    "$1" primary r0
    at "$1" mount /dev/drbd0 /mnt/r0
    down=$(awk "BEGIN { print $EPOCHREALTIME - $began }")
    at "$1" "$work/records.py" check /mnt/r0 "$work/journal" >"$work/check.out" 2>&1 || fail "what was acknowledged is not there"
    read -r checked _ wrong _ <"$work/check.out"
    at "$1" umount /mnt/r0
    at "$1" e2fsck -fn /dev/drbd0 >"$work/e2fsck.out" 2>&1 || fail "the file system is not clean"
    at "$1" mount /dev/drbd0 /mnt/r0
}
goes_on() { at "$1" sh -c 'kill -0 $(cat /run/records)' || fail "the load ended: $(cat "$work/records.out")"; }
returns() {
    is_up "$1" || boot_one "$1" || fail "$1 does not boot"
    "$1" up r0 >"$work/up.out" 2>&1 || fail "$1 does not come up"
}
copied_by() { run_log "$1" | sed -n 's/.*Began resync as SyncSource (will sync \([0-9]*\) KB.*/\1/p' | tail -n 1; }

fresh_pair
cp "$(dirname "$0")/records.py" "$work/records.py"
collect
at alice mkfs.ext4 -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0

primary=alice most=0 longest=0
printf '%-5s %-6s %12s %10s %10s %14s %11s %10s %8s\n' cut node acknowledged checked 'not there' 'lost in cache' resync/KiB bound/KiB down/s
for ((cut = 1; cut <= cuts; cut++)); do
    survivor=$(other "$primary")
    before=$(acknowledged)
    load_on "$primary" $((cut * 100000))
    progress 250 60
    sleep "0.$((RANDOM % 10))"
    goes_on "$primary"
    power_cut "$primary"
    if [ "$kind" = both ]; then power_cut "$survivor"; fi
    began=$EPOCHREALTIME
    here=$(($(acknowledged) - before)) bound=$(marked_in "$primary") lost=$(lost "$primary")

    if [ "$kind" = both ]; then
        bound=$((bound + $(marked_in "$survivor")))
        for node in "$primary" "$survivor"; do returns "$node"; done
        settled
        copied=$(copied_by "$primary")$(copied_by "$survivor")
        everything_there "$survivor"
    else
        await 40 "$survivor is alone" connection_is "$survivor" WFConnection
        everything_there "$survivor"
        # What it misses while it is away, and while it returns.
        load_on "$survivor" $((cut * 100000 + 50000))
        progress 60 60
        boot_one "$primary" || fail "$primary does not boot"
        bound=$((bound + $(counter "$survivor" oos))) written=$(counter "$survivor" dw)
        returns "$primary"
        settled
        bound=$((bound + $(counter "$survivor" dw) - written))
        copied=$(copied_by "$survivor")
        goes_on "$survivor"
        at "$survivor" sh -c 'kill $(cat /run/records)'
    fi
    [ "${copied:-0}" -gt 0 ] || fail "no resync: the log was not hot"
    [ "$copied" -le $bound ] || fail "the resync takes $copied KiB, and log and bitmaps name $bound KiB"
    printf '%-5s %-6s %12s %10s %10s %14s %11s %10s %8.1f\n' $cut "$primary" $here "$checked" "$wrong" "$lost" "$copied" $bound "$down"
    if [ "$copied" -gt "$most" ]; then most=$copied; fi
    longest=$(printf '%s\n' "$longest" "$down" | sort -g | tail -n 1)
    no_troubles
    primary=$survivor
done
at "$primary" "$work/records.py" check /mnt/r0 "$work/journal" >"$work/check.out" 2>&1 || fail "what was acknowledged is not there"
read -r checked _ wrong _ <"$work/check.out"
at "$primary" umount /mnt/r0
at "$primary" e2fsck -fn /dev/drbd0 >"$work/e2fsck.out" 2>&1 || fail "the file system is not clean"
$primary secondary r0
same "after $cuts power cuts"
measured "$(printf '%s power cuts; %s records acknowledged, %s lost; back after %.1f s; resync of at most %s of %s KiB' \
    "$cuts" "$checked" "$wrong" "$longest" "$most" "$(($(data_bytes) >> 10))")"
