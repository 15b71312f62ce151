#!/usr/bin/env bash
# Thin resync: what is all zeroes on the source is not sent, and reads as zeroes on the target.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

fresh
both_conf "" "resync-rate 100M; rs-discard-granularity 65536;"
say "the target is full of noise, the source holds 10 MiB"
head -c 60M /dev/urandom >"$work/noise"
fill() { # NODE OFFSET-MIB MIB
    if [ "$1" = alice ]; then
        dd if="$work/noise" of="${disk_of[alice]}" bs=1M seek="$2" count="$3" conv=notrunc status=none
    else
        guest dd if="$work/noise" of=/dev/vda bs=1M seek="$2" count="$3" oflag=direct conv=notrunc status=none
    fi
}
fill "$two" 0 60
fill "$one" 4 6
fill "$one" 30 4
create_md alice
create_md carol
alice up r0
carol up r0
await 30 "connected" connection_is alice Connected
await 30 "connected, the kernel says" connection_is carol Connected
"$one" primary --force r0
settled
[ "$(to_sync)" = $(($(data_bytes) / 1024)) ] || fail "$(to_sync) KiB were synchronised"
received=$(counter "$two" nr)
# The rest of the last, shorter request is asked for as it is.
if [ "$received" -lt 10240 ] || [ "$received" -ge 12288 ]; then fail "$two received $received KiB"; fi
same "after $received KiB"
