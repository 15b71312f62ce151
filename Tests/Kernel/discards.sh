#!/usr/bin/env bash
# Discards and writes of zeroes, aligned and not, alone and amid writes.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol C;"
io "$one" "write -P 170 0 24M" flush || fail "writing: $(cat "$work/io.out")"
io "$one" "discard 1M 4M" "discard 8M 64k" "write -z 10M 2M" "write -z -u 14M 1M" "write -z 16384k 4k" flush ||
    fail "discards: $(cat "$work/io.out")"
io "$one" "read -P 170 0 1M" "read -P 0 10M 2M" "read -P 0 14M 1M" "read -P 170 12M 2M" "read -P 0 16384k 4k" ||
    fail "reading back: $(cat "$work/io.out")"
same "after discards and zeroes"
io "$one" "discard 1052672 1000448" "discard 20975616 5120" "write -z 22020608 3584" flush || fail "odd sizes: $(cat "$work/io.out")"
same "after odd ones"
load "$one" --rw=randtrim --bs=64k --io_size=8M || fail "fio's trims: $(tail -n 3 "$work/fio.out")"
load "$one" --rw=randwrite --bs=4k --io_size=8M || fail "fio's writes: $(tail -n 3 "$work/fio.out")"
load "$one" --rw=trimwrite --bs=32k --io_size=16M || fail "fio's trims and writes: $(tail -n 3 "$work/fio.out")"
same "after discards amid writes"
io "$one" "discard 0 60M" flush || fail "a large discard: $(cat "$work/io.out")"
same "after a large one"
