#!/usr/bin/env bash
# Resync by digests: only what differs travels, and both sides tell the same of it.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

last_of_ours() { grep 'had equal checksums' "$(log_of alice)" | tail -n 1 | grep -q -e "$1"; }
equal_blocks() { # TEXT: both say this of the last resync
    local node
    await 5 "carol says: $1" says carol "$1"
    await 5 "alice says: $1" last_of_ours "$1"
}

both_fresh "protocol C; csums-alg sha1;"
io "$one" "write -P 9 0 24M" flush || fail "writing: $(cat "$work/io.out")"
for algorithm in sha1 crc32c; do
    part "$one"
    # 8 MiB of what is there, 1 MiB of something else, and zeroes that are zero on both.
    guest dmesg -C
    io "$one" "write -P 9 4M 8M" "write -P $((RANDOM % 200 + 10)) 16M 1M" "write -z 40M 1M" flush ||
        fail "writing apart: $(cat "$work/io.out")"
    both_conf "protocol C; csums-alg $algorithm;"
    for node in alice carol; do "$node" adjust r0; done
    settled
    [ "$(to_sync)" = 10240 ] || fail "$(to_sync) KiB were synchronised"
    equal_blocks '90 % had equal checksums, eliminated: 9216K; transferred 1024K total 10240K'
    same "after a resync with $algorithm"
done
guest dmesg -C
"$two" invalidate r0
await 30 "a resync begins" eval "kernel_says 'Began resync as'"
settled
all=$(($(data_bytes) / 1024))
equal_blocks "100 % had equal checksums, eliminated: ${all}K; transferred 0K total ${all}K"
same "after invalidate"

say "amid writes"
"$two" invalidate r0
load "$one" --rw=randwrite --io_size=16M --randrepeat=0 || fail "fio: $(tail -n 3 "$work/fio.out")"
settled
same "after writes to what is compared"
