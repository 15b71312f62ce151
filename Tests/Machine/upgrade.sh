#!/usr/bin/env bash
# `replctl upgrade` on the Primary and the Secondary in turn, to a program that has just been installed over the old one, under a
# mounted file system with every block verified: a pause, whose length is printed, and no error. HANDOVERS=10 does it more often.
# directions: ext4
# seconds: 1500
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
# shellcheck source-path=SCRIPTDIR source=load.sh
. "$(dirname "$0")/load.sh"
handovers=${HANDOVERS:-3}
shortest_pause=0.1

fresh_pair
# An installation of its own on each machine, so that another program can be put in the place of the one that runs.
built=$bin
bin=/run/installed
for node in alice bob; do at "$node" sh -c "mkdir -p $bin && cp $built/replctl $built/replicad $bin"; done
install_again() { at "$1" sh -c "cp $built/replicad $bin/replicad.new && mv $bin/replicad.new $bin/replicad"; }
program_of() { at "$1" sh -c "stat -L -c %i /proc/\$(cat /run/replica/r0.pid)/exe"; }
upgrade_node() { "$1" upgrade r0 >"$work/upgrade.out" 2>&1 || fail "upgrade: $(cat "$work/upgrade.out")"; }

start_load
printf '%-9s %-9s %8s  %s\n' hand-over node pause/s 'what it says'
primaries=()
printed=()
for ((k = 1; k <= handovers; k++)); do
    if [ $((k % 2)) = 1 ]; then node=alice; else node=bob; fi
    load_runs
    before=$(program_of "$node")
    pid=$(at "$node" cat /run/replica/r0.pid)
    install_again "$node"
    pause_of upgrade_node "$node"
    [ "$(program_of "$node")" != "$before" ] || fail "$node still runs the program of before"
    [ "$(at "$node" cat /run/replica/r0.pid)" = "$pid" ] || fail "$node's daemon is another process"
    said=$(sed -n 's/^r0: handed over in \([0-9.]*\) s .*/\1/p' "$work/upgrade.out")
    [ -n "$said" ] || fail "upgrade says: $(cat "$work/upgrade.out")"
    if [ "$node" = alice ]; then
        primaries+=("$pause")
        printed+=("$said")
    fi
    printf '%-9s %-9s %8s  %s\n' "$k" "$node" "$pause" "$(cat "$work/upgrade.out")"
done
measured "$handovers hand-overs; pauses on the Primary: median $(median_of "${primaries[@]}") s, longest $(longest_of "${primaries[@]}") s, of ${#primaries[@]}; as printed: median $(median_of "${printed[@]}") s, longest $(longest_of "${printed[@]}") s"
# The kernel keeps the connection that it had.
! at alice dmesg | grep -e 'nbd0: .*\(reconnect\|Dead\|shutting down\|Receive\)' || fail "the kernel has noticed"
end_load "after $handovers hand-overs"
