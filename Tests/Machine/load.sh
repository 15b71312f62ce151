# shellcheck shell=bash
# An application on alice's mounted device that daemons are taken from: fio verifies every block that it reads, and one block is
# synchronised again and again by a process that notes each time that took long. Shared by `kill` and `upgrade`.
# shellcheck disable=SC2016,SC2034,SC2154

# Whoever waited less than this, in seconds, is not in the table.
shortest_pause=0.2

start_load() {
    at alice mkfs.ext4 -q /dev/drbd0
    at alice mount /dev/drbd0 /mnt/r0
    cp "$(dirname "$0")/pauses.py" "$work/pauses.py"
    : >"$work/pauses"
    at alice sh -c "$work/pauses.py /mnt/r0/probe $work/pauses $shortest_pause </dev/null >/dev/null 2>&1 & echo \$! >/run/prober
        fio --name=files --directory=/mnt/r0 --rw=randrw --rwmixread=30 --bs=4k --size=8M --io_size=1G --iodepth=8 --ioengine=libaio --direct=1 \
            --verify=crc32c --verify_fatal=1 --verify_state_save=0 --time_based --runtime=36000 --output-format=terse \
            >$work/fio.out 2>&1 </dev/null & echo \$! >/run/fio" >/dev/null 2>&1
}
written() { [ "$(counter alice dw)" -gt $(($1 + $2)) ]; }
load_runs() { await 30 "the load runs" written "$(counter alice dw)" 2500; }
# pause_of COMMAND...: runs it while the load runs; the longest time that a write took until it went on is in $pause
pause_of() {
    local lines
    at alice sh -c ": >>$work/pauses"
    lines=$(wc -l <"$work/pauses")
    "$@"
    await 30 "alice is Primary" role_is alice Primary
    settled
    await 30 "the load goes on" written "$(counter alice dw)" 1000
    pause=$(tail -n +$((lines + 1)) "$work/pauses" | awk '{ if ($2 - $1 > most) most = $2 - $1 } END { printf "%.2f", most }')
    at alice sh -c 'kill -0 $(cat /run/fio) && kill -0 $(cat /run/prober)' || fail "the application ended: $(tail -n 3 "$work/fio.out") $(tail -n 1 "$work/pauses")"
}
# median_of NUMBER..., longest_of NUMBER...
median_of() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
longest_of() { printf '%s\n' "$@" | sort -n | tail -n 1; }

# end_load TEXT: nobody saw an error, and what is there is right on both nodes
end_load() {
    at alice sh -c 'kill -INT $(cat /run/fio); kill $(cat /run/prober)'
    await 60 "the load ends" at alice sh -c '! kill -0 $(cat /run/fio) 2>/dev/null'
    ! grep -e error "$work/pauses" || fail "the application saw an error"
    [ "$(sed -n 's/^3;fio[^;]*;files;0;\([0-9]*\);.*/\1/p' "$work/fio.out")" = 0 ] || fail "fio: $(cat "$work/fio.out")"
    no_troubles
    at alice umount /mnt/r0
    at alice e2fsck -fn /dev/drbd0 >"$work/check.out" 2>&1 || fail "the file system is not clean"
    alice secondary r0
    same "$1"
    bob primary r0
    at bob e2fsck -fn /dev/drbd0 >"$work/check.out" 2>&1 || fail "bob's file system is not clean"
    bob secondary r0
}
