#!/usr/bin/env bash
# kill -9 of replicad, Primary and Secondary in turn, under a mounted file system with every block verified: the application sees a
# pause and no error, and so does the kernel. KILLS=50 does it more often.
# directions: ext4
# seconds: 3000
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source-path=SCRIPTDIR source=load.sh
. "$(dirname "$0")/load.sh"
kills=${KILLS:-4}

fresh_pair
start_load
# At once, as a supervisor would.
kill_daemon() {
    at "$1" sh -c "kill -9 \$(cat /run/replica/r0.pid); '$bin/replctl' -c '$conf' up r0" >"$work/up.out" 2>&1 || fail "up: $(cat "$work/up.out")"
}
printf '%-6s %-9s %8s\n' kill node pause/s
primaries=()
for ((k = 1; k <= kills; k++)); do
    if [ $((k % 2)) = 1 ]; then victim=alice; else victim=bob; fi
    load_runs
    pause_of kill_daemon "$victim"
    if [ "$victim" = alice ]; then primaries+=("$pause"); fi
    printf '%-6s %-9s %8s\n' "$k" "$victim" "$pause"
done
measured "$kills kills; pauses when the Primary was killed: median $(median_of "${primaries[@]}") s, longest $(longest_of "${primaries[@]}") s, of ${#primaries[@]}"
end_load "after $kills kills"
