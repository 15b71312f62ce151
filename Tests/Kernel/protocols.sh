#!/usr/bin/env bash
# Protocols A, B and C: a verified load on the Primary, and both disks equal when it ends.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

both_fresh "protocol A;"
for protocol in A B C; do
    both_conf "protocol $protocol;"
    alice adjust r0
    carol adjust r0
    settled
    await 10 "protocol $protocol on the kernel" bash -c "\"$vm\" exec $machine -- grep -q ' $protocol r' /proc/drbd"
    checked "$one" --rw=randwrite --io_size=24M --randseed=1$((${#protocol} + RANDOM % 100))
    checked "$one" --rw=randrw --bsrange=4k-256k --io_size=16M
    same "by protocol $protocol"
done
