#!/usr/bin/env bash
# Two fresh nodes meet, one is forced to be Primary: all of its disk travels.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

fresh
# One configuration for both kinds: control.md item 50.
both_conf
say "both disks hold something else"
head -c 60M /dev/urandom >"$work/noise"
guest dd if="$work/noise" of=/dev/vda bs=1M oflag=direct conv=notrunc status=none
head -c 60M /dev/urandom | dd of="${disk_of[alice]}" bs=1M iflag=fullblock conv=notrunc status=none
create_md alice
create_md carol
alice up r0
carol up r0
for node in alice carol; do
    await 30 "$node Connected, both Inconsistent" disks_are "$node" Inconsistent/Inconsistent
    await 30 "$node is Connected" connection_is "$node" Connected
done
await 5 "rule 10, we say" we_say 'uuid_compare()=0 by rule 10'
await 5 "rule 10, the kernel says" kernel_says 'uuid_compare()=0 by rule 10'

"$one" primary --force r0
settled
[ "$(to_sync)" = $(($(data_bytes) / 1024)) ] || fail "$(to_sync) KiB were synchronised of $(($(data_bytes) / 1024))"
await 5 "the source says it is one" says "$one" 'Began resync as SyncSource'
await 5 "the target says it is one" says "$two" 'Began resync as SyncTarget'
same "after the first sync"
if [ "$one" = carol ]; then cmp -n 60M "$work/noise" "$kernel_disk" || fail "the source's data changed"; fi
