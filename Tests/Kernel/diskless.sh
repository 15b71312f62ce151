#!/usr/bin/env bash
# The Primary loses its disk: it reads and writes through the other, and gets what it missed when it attaches again.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol C;"
io "$one" "write -P 31 0 8M" flush
"$one" detach r0
await 10 "$one is Diskless" disks_are "$one" Diskless/UpToDate
io "$one" "read -P 31 0 8M" "write -P 32 1M 64k" "write -P 33 5M 1M" "write -P 34 12000k 4k" flush || fail "through the other: $(cat "$work/io.out")"
io "$one" "read -P 32 1M 64k" "read -P 33 5M 1M" "read -P 31 2M 2M" || fail "reading through the other: $(cat "$work/io.out")"
checked "$one" --rw=randwrite --offset=16M --size=16M --io_size=4M
[ "$(counter "$two" oos)" -gt 0 ] || fail "$two counts nothing for a peer without a disk"
"$one" attach r0
same "after attaching again"
io "$one" "read -P 32 1M 64k" "read -P 33 5M 1M" "read -P 34 12000k 4k" "read -P 31 2M 2M" || fail "own disk: $(cat "$work/io.out")"

"$two" detach r0
await 10 "the disk of $two is known to be away" disks_are "$one" UpToDate/Diskless
io "$one" "write -P 35 2M 128k" flush || fail "writing without the peer's disk: $(cat "$work/io.out")"
"$two" attach r0
same "after the other attached again"
