#!/usr/bin/env bash
# data-integrity-alg: every block carries a digest that the other side checks; the algorithm changes online.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

no_failure() {
    local node
    for node in alice carol; do
        if says "$node" 'Digest integrity check FAILED'; then fail "$node found a wrong digest"; fi
    done
}

both_fresh "protocol C; data-integrity-alg crc32c;"
for algorithm in crc32c sha1; do
    if [ $algorithm = sha1 ]; then
        both_conf "protocol C; data-integrity-alg sha1;"
        # One direction after the other, on the same connection.
        alice adjust r0
        checked "$one" --rw=randwrite --io_size=4M
        carol adjust r0
    fi
    checked "$one" --rw=randwrite --io_size=8M
    checked "$one" --rw=write --bs=256k --io_size=16M
    io "$one" "write -P 3 1M 512" "discard 8M 4M" "write -z 16M 1M" "write -z -u 20M 64k" flush || fail "writing: $(cat "$work/io.out")"
    same "after writes with $algorithm"
    part "$one"
    io "$one" "write -P 7 2M 3M" flush || fail "writing apart: $(cat "$work/io.out")"
    meet "$one"
    same "after a resync with $algorithm"
    no_failure
done
say "reads from the other side"
"$one" detach r0
await 20 "$one has no disk" eval "[[ \$(dstate $one) = Diskless/* ]]"
io "$one" "read -P 7 2M 3M" "write -P 8 30M 1M" "read -P 8 30M 1M" || fail "reading without a disk: $(cat "$work/io.out")"
"$one" attach r0
same "after an attach"
no_failure
