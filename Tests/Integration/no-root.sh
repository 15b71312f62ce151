#!/usr/bin/env bash
# Nobody special runs a pair, and the demo: no root, hardly any memory to lock. It works, and says so once.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires root setpriv prlimit qemu-io nbdcopy nbdinfo

nobody=65534
locked_bytes=65536
unprivileged() {
    prlimit --memlock="$locked_bytes:$locked_bytes" \
        setpriv --reuid=$nobody --regid=$nobody --clear-groups --no-new-privs "$@"
}
on() {
    local node=$1
    shift
    unprivileged env HOME=/ REPLICA_NODE="$node" REPLICA_RUN_DIR="$work/$node/run" "$@"
}
chown $nobody:$nobody "$work"
chmod 711 "$work"
if ! unprivileged test -x "$bin/replicad"; then
    mkdir "$work/bin"
    cp "$bin/replctl" "$bin/replicad" "$work/bin/"
    chmod 755 "$work/bin"
    bin=$work/bin
fi
warnings() { grep -c ' warning ' "$(log_of "$1")" || true; }

nodes_with 64M
chown -R $nobody:$nobody "$work"
for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done
alice up r0
bob up r0
alice wait-connect r0
alice new-current-uuid --clear-bitmap r0/0
settled
alice primary r0
for node in "${nodes[@]}"; do
    [ "$(stat -c %u "/proc/$(pid_of "$node")")" = $nobody ] || fail "$node's daemon is not nobody's"
    [ "$(warnings "$node")" = 1 ] || fail "$node warns $(warnings "$node") times: $(grep ' warning ' "$(log_of "$node")")"
    grep -q ' warning memory is not locked.*64 KiB' "$(log_of "$node")" || fail "not this: $(grep ' warning ' "$(log_of "$node")")"
    [ "$(stat -c %a:%u "$work/$node/run/r0.ctl")" = 600:$nobody ] || fail "the control socket is $(stat -c %a:%u "$work/$node/run/r0.ctl")"
done
say "$(grep -h -o 'memory is not locked.*' "$(log_of alice)")"
on alice qemu-io -f raw -c "write -q -P 9 0 32M" -c "write -q -z 8M 1M" -c "discard -q 9M 1M" -c flush "$(uri alice)"
kill_node bob
on alice qemu-io -f raw -c "write -q -P 10 40M 4M" "$(uri alice)"
bob up r0
settled
identical
alice down r0
bob down r0

# Whatever the limit is: a node that comes up must not run into it later.
possible() { prlimit --memlock="$1:$1" true 2>/dev/null; }
for mebibytes in 1 8 32 64 128 512; do
    locked_bytes=$((mebibytes << 20))
    possible "$locked_bytes" || continue
    : >"$(log_of alice)"
    alice up r0
    alice primary --force r0
    on alice qemu-io -f raw -c "write -q -P 11 0 48M" -c "read -q -P 11 0 48M" "$(uri alice)" >"$work/io.out" 2>&1
    [ ! -s "$work/io.out" ] || fail "with $mebibytes MiB: $(cat "$work/io.out")"
    [ "$(warnings alice)" = 1 ] || fail "with $mebibytes MiB: $(grep ' warning ' "$(log_of alice)")"
    alice down r0
    say "limit of $mebibytes MiB: one warning, and I/O as ever"
done

locked_bytes=unlimited
if possible unlimited; then
    : >"$(log_of alice)"
    alice up r0
    [ "$(warnings alice)" = 0 ] || fail "without limit: $(grep ' warning ' "$(log_of alice)")"
    grep -q 'VmLck:[[:space:]]*[1-9]' "/proc/$(pid_of alice)/status" ||
        fail "nothing is locked: $(grep VmLck "/proc/$(pid_of alice)/status")"
    alice down r0
fi

say "the demo"
locked_bytes=65536
mkdir "$work/tmp"
chown $nobody:$nobody "$work/tmp"
unprivileged test -x "$root/scripts/demo" || skip "nobody can not reach $root"
unprivileged env HOME=/ TMPDIR="$work/tmp" "$root/scripts/demo" >"$work/demo.out" 2>&1 || fail "the demo ends with $?"
grep -q 'both disks are identical' "$work/demo.out" || fail "the demo's story has no end"
[ -z "$(ls -A "$work/tmp")" ] || fail "the demo leaves $(ls "$work/tmp")"
