#!/usr/bin/env bash
# kill -9 of replicad, Primary and Secondary in turn, under a mounted file system with every block verified: the application sees a
# pause and no error, and so does the kernel. KILLS=50 does it more often.
# directions: ext4
# seconds: 1500
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
kills=${KILLS:-4}

fresh_pair
at alice mkfs.ext4 -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
cp "$(dirname "$0")/pauses.py" "$work/pauses.py"
at alice sh -c "$work/pauses.py /mnt/r0/probe $work/pauses 0.3 </dev/null >/dev/null 2>&1 & echo \$! >/run/prober
    fio --name=files --directory=/mnt/r0 --rw=randrw --rwmixread=30 --bs=4k --size=8M --io_size=1G --iodepth=8 --ioengine=libaio --direct=1 \
        --verify=crc32c --verify_fatal=1 --verify_state_save=0 --time_based --runtime=36000 --output-format=terse \
        >$work/fio.out 2>&1 </dev/null & echo \$! >/run/fio" >/dev/null 2>&1
written() { [ "$(counter alice dw)" -gt $(($1 + $2)) ]; }
answered() { [ "$(at alice stat -c %Y /mnt/r0/probe 2>/dev/null)" -gt "$1" ]; }

printf '%-6s %-9s %8s\n' kill node pause/s
primaries=()
for ((k = 1; k <= kills; k++)); do
    if [ $((k % 2)) = 1 ]; then victim=alice; else victim=bob; fi
    await 30 "the load runs" written "$(counter alice dw)" 2500
    at alice sh -c ": >>$work/pauses"
    lines=$(wc -l <"$work/pauses")
    # At once, as a supervisor would.
    at "$victim" sh -c "kill -9 \$(cat /run/replica/r0.pid); '$bin/replctl' -c '$conf' up r0" >"$work/up.out" 2>&1 || fail "up: $(cat "$work/up.out")"
    await 30 "alice is Primary" role_is alice Primary
    settled
    await 30 "the load goes on" written "$(counter alice dw)" 1000
    pause=$(tail -n +$((lines + 1)) "$work/pauses" | awk '{ if ($2 - $1 > most) most = $2 - $1 } END { printf "%.2f", most }')
    if [ "$victim" = alice ]; then primaries+=("$pause"); fi
    printf '%-6s %-9s %8s\n' "$k" "$victim" "$pause"
    at alice sh -c 'kill -0 $(cat /run/fio) && kill -0 $(cat /run/prober)' || fail "the application ended: $(tail -n 3 "$work/fio.out") $(tail -n 1 "$work/pauses")"
done
mapfile -t sorted < <(printf '%s\n' "${primaries[@]}" | sort -n)
measured "$kills kills; pauses when the Primary was killed: median ${sorted[$((${#sorted[@]} / 2))]} s, longest ${sorted[-1]} s, of ${#sorted[@]}"
at alice sh -c 'kill -INT $(cat /run/fio); kill $(cat /run/prober)'
await 60 "the load ends" at alice sh -c '! kill -0 $(cat /run/fio) 2>/dev/null'
! grep -e error "$work/pauses" || fail "the application saw an error"
[ "$(sed -n 's/^3;fio[^;]*;files;0;\([0-9]*\);.*/\1/p' "$work/fio.out")" = 0 ] || fail "fio: $(cat "$work/fio.out")"
no_troubles
at alice umount /mnt/r0
at alice e2fsck -fn /dev/drbd0 >"$work/check.out" 2>&1 || fail "the file system is not clean"
alice secondary r0
same "after $kills kills"
bob primary r0
at bob e2fsck -fn /dev/drbd0 >"$work/check.out" 2>&1 || fail "bob's file system is not clean"
bob secondary r0
