#!/usr/bin/env bash
# A handler that hangs hurts nobody but itself, until its time is over (cmd-timeout-long) and it is killed: queries, the status
# file, another resource, the link and, where control.md 4.1 does not say otherwise, applications go on. Then the state is what an
# end with an error leads to, and no process is left.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io prlimit

helper=$(realpath "$bin")/replctl
limit=4
# The one of `hangs` never ends by itself, nor does what it has started; the others are done at once.
cat >"$work/handler" <<HANDLER
#!/bin/sh
[ "\$1" = "\$(cat $work/hangs)" ] || exit 0
sleep 600 &
echo \$\$ \$! >$work/\$REPLICA_NODE.hanging
wait
HANDLER
chmod 755 "$work/handler"
handlers=
for name in pri-on-incon-degr local-io-error pri-lost pri-lost-after-sb initial-split-brain split-brain fence-peer unfence-peer \
    before-resync-target after-resync-target before-resync-source out-of-sync; do
    handlers+="$name \"$work/handler $name\"; "
done
# write_both NET DISK: two resources; r1 is there to be left alone
write_both() {
    write_conf "verify-alg crc32c; $1" "resync-rate 4G; $2" "handlers { $handlers }"
    # A peer that does not answer is found out before the handler's time is over.
    sed -i "s/^global { /&cmd-timeout-long $limit; /; s/timeout 20; ping-int 3;/timeout 9; ping-int 1;/" "$conf"
    cat >>"$conf" <<CONF
resource r1 {
    device /dev/drbd1;
    meta-disk internal;
    on alice { disk $work/alice/r1.img; address ${address_of[alice]}:$((port + 1)); }
    on bob   { disk $work/bob/r1.img;   address ${address_of[bob]}:$((port + 1)); }
}
CONF
}
settings() {
    write_both "${1:-}" "${2:-}"
    silent alice adjust r0
    silent bob adjust r0
}
: >"$work/hangs"
nodes_with 32M
write_both '' ''
for node in alice bob; do
    truncate -s 16M "$work/$node/r1.img"
    for resource in r0 r1; do "$node" create-md $resource >"$work/create-md.out" 2>&1; done
    (trap '' XFSZ; silent "$node" up all)
done
for resource in r0 r1; do
    alice wait-connect $resource
    alice new-current-uuid --clear-bitmap $resource/0
done
settled
silent alice primary all
other_uri="nbd+unix:///r1?socket=$work/alice/run/r1.nbd"

hanging() { [ -s "$work/$1.hanging" ]; }
killed() { has_line "helper command: $helper $2 .* did not terminate within $limit seconds and is killed" "$(log_of "$1")"; }
other_written() { sed -n '/^ 1: /{n;s/.* dw:\([0-9]*\) .*/\1/p}' "$work/alice/run/proc/drbd"; }
has_written() { [ "$(other_written)" -gt "$1" ]; }
# quick COMMAND...: it succeeds, and in less than two seconds
quick() {
    local since=${EPOCHREALTIME/./}
    "$@" >"$work/said.out" 2>&1 </dev/null || fail "'$*' ended with $?: $(said)"
    [ $((${EPOCHREALTIME/./} - since)) -lt 2000000 ] || fail "'$*' took $(((${EPOCHREALTIME/./} - since) / 1000)) ms"
}
io() { timeout 2 qemu-io -f raw -c "write -q -P 7 0 64k" -c "read -q -P 7 0 64k" "$(uri alice)"; }

children_of() { cat "/proc/$(pid_of "$1")/task/"*/children | tr ' ' '\n' | grep . | sort; }

# hangs HANDLER: what follows runs into it
hangs() {
    rm -f "$work"/*.hanging
    for node in alice bob; do : >"$(log_of "$node")"; done
    echo "$1" >"$work/hangs"
}
# harmless HANDLER NODE goes|waits|- [STATE]: it hangs there now. A write of r0's application does that; the connection is in STATE and
# stays so.
harmless() {
    local name=$1 node=$2 application=$3 state=${4:-} written pids company
    await 20 "$name hangs on $node" hanging "$node"
    # The handler's shell comes and goes; what reports the daemon's death stays.
    company=$(children_of "$node" | grep -v -x -e "$(awk '{ print $4 }' "/proc/$(cut -d ' ' -f 1 "$work/$node.hanging")/stat")" \
        -e "$(cut -d ' ' -f 1 "$work/$node.hanging")")
    read -ra pids <"$work/$node.hanging"
    written=$(other_written)
    for command in "role r0" "cstate r0" "dstate r0" "status r0" "get-gi r0" "proc"; do
        # shellcheck disable=SC2086
        quick "$node" $command
    done
    quick qemu-io -f raw -c "write -q -P 3 0 256k" -c flush "$other_uri"
    await 5 "the status file shows what r1 writes" has_written "$written"
    case $application in
        goes) io >"$work/io.out" 2>&1 || fail "$name hangs on $node, and r0's application cannot write: $(cat "$work/io.out")" ;;
        waits)
            background waiting qemu-io -f raw -c "write -q -P 7 0 64k" "$(uri alice)"
            within 1 gone "$last" && fail "a write was answered while $name hangs on $node: $(cat "$work/waiting.out")"
            ;;
    esac
    [ -z "$state" ] || connection_is "$node" "$state" || fail "$node is $(cstate "$node") while $name hangs"
    # It is still the first one: nothing of this took as long as the time limit.
    kill -0 "${pids[0]}" || fail "$name is gone already"
    await $((limit + 4)) "$name on $node is killed" killed "$node" "$name"
    if [ -n "$state" ]; then
        grep -q 'PingAck did not arrive' "$(log_of alice)" "$(log_of bob)" && fail "the connection was lost while $name hung on $node"
    fi
    for pid in "${pids[@]}"; do await 5 "process $pid of $name ends" gone "$pid"; done
    : >"$work/hangs"
    if [ "$application" = waits ]; then
        await 20 "the write that waited for $name is answered" gone "$last"
        [ ! -s "$work/waiting.out" ] || fail "the write that waited for $name: $(cat "$work/waiting.out")"
    fi
    [ "$(children_of "$node")" = "$company" ] || fail "$name left processes behind"
    say "$name on $node: $(cstate "$node") $(dstate "$node") afterwards"
}
alone() { await 20 "$1 is alone" connection_is "$1" "WFConnection|StandAlone"; }
apart() {
    silent alice disconnect r0
    alone bob
    silent bob disconnect r0
    silent bob primary r0
    silent qemu-io -f raw -c "write -q -P 1 1M 64k" -c flush "$(uri alice)"
    silent qemu-io -f raw -c "write -q -P 2 4M 512k" -c flush "$(uri bob)"
}
meet() { for node in alice bob; do silent "$node" connect r0; done; }
mend() {
    for node in alice bob; do silent "$node" disconnect r0; done
    # Policies would come first.
    write_both '' ''
    silent bob secondary r0
    silent alice primary r0
    silent bob -- --discard-my-data connect r0
    silent alice connect r0
    settled
}

# MARK: Those that nobody waits for

hangs after-resync-target
silent bob invalidate r0
await 20 "the resync ends" settled_on bob
harmless after-resync-target bob goes Connected

settings '' 'fencing resource-only;'
hangs unfence-peer
silent bob invalidate r0
await 20 "the resync ends" settled_on alice
harmless unfence-peer alice goes Connected
settings

head -c 4096 /dev/urandom | dd of="${disk_of[bob]}" bs=4k seek=2048 conv=notrunc,fsync status=none
hangs out-of-sync
silent alice verify r0
await 20 "it is verified" has_line 'Online verify found 1 4k block out of sync' "$(log_of alice)"
harmless out-of-sync alice goes Connected
silent bob disconnect r0
silent bob connect r0
settled

# MARK: Those that a resync waits for

resync_to_bob() {
    silent bob disconnect r0
    silent qemu-io -f raw -c "write -q -P 1 2M 64k" "$(uri alice)"
    silent bob connect r0
}

hangs before-resync-source
resync_to_bob
harmless before-resync-source alice goes WFBitMapS
await 20 "alice gives up" connection_is alice StandAlone
silent alice connect r0
settled

# What it takes a snapshot of must not change.
hangs before-resync-target
resync_to_bob
harmless before-resync-target bob waits WFSyncUUID
await 20 "bob gives up" connection_is bob StandAlone
disks_are bob Outdated/DUnknown || fail "bob is $(dstate bob)"
silent bob connect r0
settled

# MARK: Split brain

for name in initial-split-brain split-brain; do
    apart
    hangs $name
    meet
    harmless $name alice goes WFReportParams
    for node in alice bob; do await 20 "$node parts" connection_is "$node" StandAlone; done
    mend
done
settings 'after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;'
apart
silent bob secondary r0
hangs pri-lost-after-sb
meet
harmless pri-lost-after-sb alice goes
await 20 "alice parts" connection_is alice StandAlone
mend
settings 'after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p; rr-conflict call-pri-lost;'
apart
silent bob secondary r0
hangs pri-lost
meet
harmless pri-lost alice goes
await 20 "alice parts" connection_is alice StandAlone
mend

# MARK: Disks and fencing

settings '' 'on-io-error call-local-io-error;'
hangs local-io-error
prlimit --pid "$(pid_of alice)" --fsize=1048576:
background failing qemu-io -f raw -c "write -q -P 5 8M 64k" "$(uri alice)"
await 20 "local-io-error hangs" hanging alice
# If the handler resets the node, that is to look like any crash.
disks_are bob UpToDate/UpToDate || fail "bob has been told: $(dstate bob)"
harmless local-io-error alice waits Connected
await 10 "bob is told" disks_are bob UpToDate/Diskless
prlimit --pid "$(pid_of alice)" --fsize=unlimited:
alice attach r0 >"$work/attach.out" 2>&1
settled
hangs local-io-error
prlimit --pid "$(pid_of bob)" --fsize=1048576:
silent qemu-io -f raw -c "write -q -P 6 12M 64k" "$(uri alice)"
harmless local-io-error bob goes Connected
await 10 "alice is told" disks_are alice UpToDate/Diskless
prlimit --pid "$(pid_of bob)" --fsize=unlimited:
bob attach r0 >"$work/attach.out" 2>&1
settled
silent qemu-io -f raw -c "read -q -P 5 8M 64k" "$(uri alice)"
identical

settings '' 'fencing resource-only;'
hangs fence-peer
kill_node bob
harmless fence-peer alice goes
disks_are alice UpToDate/DUnknown || fail "alice is $(dstate alice)"
(trap '' XFSZ; silent bob up r0)
settled
settings '' 'fencing resource-and-stonith;'
hangs fence-peer
kill_node bob
await 20 "fence-peer hangs" hanging alice
background frozen qemu-io -f raw -c "write -q -P 8 0 64k" "$(uri alice)"
frozen=$last
harmless fence-peer alice -
within 1 gone "$frozen" && fail "a write was answered although nobody knows what became of the peer"
silent alice resume-io r0
await 10 "the frozen write is answered" gone "$frozen"
(trap '' XFSZ; silent bob up r0)
settled
settings

silent alice detach r0
hangs pri-on-incon-degr
kill_node bob
harmless pri-on-incon-degr alice -
silent alice secondary r0
