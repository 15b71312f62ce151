#!/usr/bin/env bash
# Memory is short and there is no swap: a program that writes through the page cache within a tight limit, and then machines whose
# memory is all taken until the kernel kills who takes it, first the Primary's and then the Secondary's. What writes always gets on,
# and the daemon is never the one that is killed.
# directions: ext4
# seconds: 900
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

# protected NODE: its daemon's memory is locked, the OOM killer leaves it alone, and no thread of it waits for its own device when
# it needs memory (PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE in the flags of the 9th field)
protected() {
    local locked score flags
    locked=$(at "$1" sh -c 'sed -n "s/^VmLck:[^0-9]*\([0-9]*\) kB/\1/p" /proc/$(cat /run/replica/r0.pid)/status')
    [ "$locked" -gt 100000 ] || fail "$1 has locked $locked KiB"
    score=$(at "$1" sh -c 'cat /proc/$(cat /run/replica/r0.pid)/oom_score_adj')
    [ "$score" = -1000 ] || fail "$1 has the OOM score $score"
    at "$1" sh -c 'cat /proc/$(cat /run/replica/r0.pid)/task/*/stat' >"$work/tasks.out"
    while read -r flags; do
        [ $((flags & 0x180000)) = $((0x180000)) ] || fail "a thread of $1 may wait for itself: $(cat "$work/tasks.out")"
    done < <(sed 's/.*) //' "$work/tasks.out" | cut -d ' ' -f 7)
    say "$1: $locked KiB locked, $(wc -l <"$work/tasks.out") threads"
}
written() { [ "$(counter alice dw)" -gt $(($1 + $2)) ]; }
killed() { at "$1" dmesg | grep -c 'Out of memory: Killed process' || true; }
# hungry NODE: takes memory until it is killed
hungry() {
    local status=0 killed
    killed=$(killed "$1")
    at "$1" -t 100 python3 -c 'import ctypes
taken = []
while True:
    taken.append(b"x" * (4 << 20))' >"$work/hungry.out" 2>&1 || status=$?
    [ "$(killed "$1")" -gt "$killed" ] || fail "nobody was killed on $1, status $status: $(cat "$work/hungry.out")"
    [ "$status" = 137 ] || fail "$1 ended with $status: $(at "$1" dmesg | grep 'Killed process')"
}

fresh_pair
for node in alice bob; do
    protected $node
    [ "$(at $node sh -c 'wc -l </proc/swaps')" = 1 ] || fail "$node has swap"
done
at alice cat /run/replica/r0.pid >"$work/alice.pid"
at bob cat /run/replica/r0.pid >"$work/bob.pid"
at alice mkfs.ext4 -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
at alice sh -c 'mkdir -p /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; cd /sys/fs/cgroup &&
    echo $((4 << 20)) >/proc/sys/vm/dirty_background_bytes && echo $((16 << 20)) >/proc/sys/vm/dirty_bytes &&
    echo +memory >cgroup.subtree_control && mkdir -p tight && echo 40M >tight/memory.max'
writes=(fio --name=pages --directory=/mnt/r0 --rw=randwrite --bs=4k --ioengine=psync --verify=crc32c --verify_fatal=1 --verify_state_save=0
    --verify_backlog=256 --fallocate=none --end_fsync=1 --output-format=terse)

say "in 40 MiB"
began=$EPOCHREALTIME
at alice -t 200 sh -c 'echo $$ >/sys/fs/cgroup/tight/cgroup.procs && exec "$@"' sh "${writes[@]}" --size=96M >"$work/fio.out" 2>&1 ||
    fail "fio: $(tail -n 3 "$work/fio.out")"
seconds=$(awk "BEGIN { print $EPOCHREALTIME - $began }")
stalls=$(at alice sed -n 's/^max \([0-9]*\)/\1/p' /sys/fs/cgroup/tight/memory.events)
[ "$stalls" -gt 0 ] || fail "the limit was never met"
measured "$(printf 'in 40 MiB: 96 MiB written and verified in %.1f s, the limit was met %s times' "$seconds" "$stalls")"

for node in alice bob; do
    say "$node has no memory left"
    at alice sh -c '"$@" >/run/fio.out 2>&1 </dev/null & echo $! >/run/fio' sh "${writes[@]}" --size=100M --loops=50 >/dev/null 2>&1
    for ((try = 1; try <= 3; try++)); do
        await 120 "it writes" written "$(counter alice dw)" 8000
        before=$(counter alice dw) began=$EPOCHREALTIME
        hungry $node
        seconds=$(awk "BEGIN { print $EPOCHREALTIME - $began }")
        measured "$(printf '%s without memory: %s KiB written in the %.1f s until its taker was killed' $node $(($(counter alice dw) - before)) "$seconds")"
    done
    await 120 "it writes afterwards" written "$(counter alice dw)" 8000
    at alice sh -c 'kill -0 $(cat /run/fio)' || fail "fio: $(at alice tail -n 3 /run/fio.out)"
    at alice sh -c 'kill -INT $(cat /run/fio)'
    await 90 "it ends" at alice sh -c '! kill -0 $(cat /run/fio) 2>/dev/null'
    [ "$(at alice sed -n 's/^3;fio[^;]*;pages;0;\([0-9]*\);.*/\1/p' /run/fio.out)" = 0 ] || fail "fio: $(at alice tail -n 3 /run/fio.out)"
done
for node in alice bob; do [ "$(at $node cat /run/replica/r0.pid)" = "$(cat "$work/$node.pid")" ] || fail "$node has another daemon"; done
settled
at alice -t 200 "${writes[@]}" --size=60M >"$work/fio.out" 2>&1 || fail "fio: $(tail -n 3 "$work/fio.out")"
at alice umount /mnt/r0
at alice e2fsck -fn /dev/drbd0 >"$work/e2fsck.out" 2>&1 || fail "the file system is not clean"
alice secondary r0
same "in the end"
no_troubles
