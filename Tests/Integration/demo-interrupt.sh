#!/usr/bin/env bash
# The demo, interrupted by Ctrl-C at several moments of its story, leaves nothing behind and works afterwards; KEEP=1
# leaves two nodes up, and what it says about playing with them and cleaning up is true.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbdcopy nbdinfo qemu-io

mkdir "$work/tmp"
# Everything that belongs to a demo of ours names this directory, in its arguments or in its environment.
ours() {
    local entry
    for entry in /proc/[0-9]*; do
        [ "${entry#/proc/}" != $$ ] || continue
        if tr '\0' '\n' 2>/dev/null <"$entry/cmdline" | grep -q -F "$work/tmp/" ||
            tr '\0' '\n' 2>/dev/null <"$entry/environ" | grep -q -F "$work/tmp/"; then
            echo "${entry#/proc/}"
        fi
    done
}
kill_ours() {
    local pid
    for pid in $(ours); do kill -9 "$pid" 2>/dev/null; done
}
cleanup_fn kill_ours
# nothing_left TEXT: no process, no socket, no file
nothing_left() {
    local left
    left=$(ours)
    [ -z "$left" ] || fail "$1: still running: $(for pid in $left; do tr '\0' ' ' <"/proc/$pid/cmdline"; echo; done)"
    if grep -F "$work/tmp/" /proc/net/unix; then fail "$1: a socket is left"; fi
    left=$(ls -A "$work/tmp")
    [ -z "$left" ] || fail "$1: files are left: $left"
}
# demo NAME: the demo as a terminal starts it: leader of its own process group, with the usual signals. Its process
# id, which is its group's too, is in $last.
demo() {
    TMPDIR=$work/tmp background "$1" env --default-signal=INT,TERM,HUP setsid "$root/scripts/demo"
}
told() { grep -q -F -e "$1" "$work/$2.out"; }

moments=0
# interrupted TEXT SECONDS [SIGNALS]: Ctrl-C so long after TEXT was told, so many times
interrupted() {
    local name tries status=0
    moments=$((moments + 1))
    name=moment-$moments
    demo "$name"
    await 60 "the demo tells '$1'" told "$1" "$name"
    sleep "$2"
    for ((tries = 0; tries < ${3:-1}; tries++)); do kill -INT -- "-$last" 2>/dev/null || true; done
    await 20 "the demo ends after '$1'" gone "$last"
    if told "(told in" "$name"; then say "too late for '$1' + $2 s"; fi
    nothing_left "interrupted $2 s after '$1'"
    return "$status"
}

say "Ctrl-C"
interrupted 'This is its configuration' 0
interrupted 'Each disk gets its metadata' 0.01
interrupted 'Both nodes come up' 0
interrupted 'Both nodes come up' 0.02
interrupted 'Both nodes come up' 0.05 3
interrupted 'bob# ' 0
interrupted "alice's disk is the good one" 0.1
interrupted 'A client writes' 0.3
interrupted 'alice dies' 0
interrupted 'bob takes over' 0.1 5
interrupted 'alice comes back' 0.05
interrupted 'The end' 0.02

say "afterwards it works, twice in a row"
for round in 1 2; do
    TMPDIR=$work/tmp "$root/scripts/demo" >"$work/whole-$round.out" 2>&1 || fail "the demo ends with $?"
    told 'both disks are identical' "whole-$round" || fail "the story has no end"
    nothing_left "after a whole story"
done

say "KEEP=1: what it says about playing and cleaning up"
TMPDIR=$work/tmp KEEP=1 "$root/scripts/demo" >"$work/kept.out" 2>&1 || fail "the demo ends with $?"
# The hint is a piece of shell: it is run as it stands, up to the cleaning up.
sed -n '/^    export PATH=/,$p' "$work/kept.out" >"$work/hint"
[ "$(grep -c . "$work/hint")" -ge 7 ] || fail "no hint: $(tail -n 5 "$work/kept.out")"
sed '/# at the end:/,$d' "$work/hint" >"$work/play"
sed -n '/# at the end:/,$p' "$work/hint" >"$work/clean"
grep -q 'rm -r' "$work/clean" || fail "the hint does not say how to clean up"
bash -eu "$work/play" >"$work/play.out" 2>&1 || fail "playing as told fails: $(cat "$work/play.out")"
grep -q '^r0 role:Primary' "$work/play.out" || fail "no status: $(cat "$work/play.out")"
grep -q 'export-size: 268390400' "$work/play.out" || fail "no device: $(cat "$work/play.out")"
cat "$work/play" "$work/clean" >"$work/both"
bash -eu "$work/both" >"$work/clean.out" 2>&1 || fail "cleaning up as told fails: $(cat "$work/clean.out")"
await 10 "the nodes are gone" test -z "$(ours)"
nothing_left "after cleaning up as told"
