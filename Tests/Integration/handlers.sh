#!/usr/bin/env bash
# Every handler of control.md 4.1 in its situation: on which node, of what, in which order, with which environment (4.2) and log
# lines, what its exit code is good for. And that nothing else runs, there or on the other node.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io prlimit

helper=$(realpath "$bin")/replctl
secret='what-nobody-may-read'
# What each handler does: it notes that it ran, with all that it was given, and ends as the file exit.NAME says.
cat >"$work/noted" <<HANDLER
#!/bin/sh
cp "/proc/\$2/environ" "$work/\$REPLICA_NODE.\$1.environ"
cat /proc/drbd >"$work/\$REPLICA_NODE.\$1.proc" 2>/dev/null
echo "\$REPLICA_NODE \$1 \$PWD" >>"$work/calls"
echo "this is \$1"
echo "and an error" >&2
exit "\$(cat "$work/exit.\$1" 2>/dev/null || echo 0)"
HANDLER
chmod 755 "$work/noted"
names="pri-on-incon-degr local-io-error pri-lost pri-lost-after-sb initial-split-brain split-brain fence-peer unfence-peer
    before-resync-target after-resync-target before-resync-source out-of-sync"
# The shell that the daemon starts stays alive behind its second command, so that its environment can be read.
handlers=$(for name in $names; do echo "$name \"$work/noted $name \$\$; exit \$?\";"; done)
net="cram-hmac-alg sha256; shared-secret $secret; verify-alg crc32c;"
write_settings() { write_conf "$net ${1:-}" "resync-rate 4G; ${2:-}" "handlers { $handlers }"; }
# settings [NET [DISK]]: on both nodes, from now on
settings() {
    write_settings "$@"
    silent alice adjust r0
    silent bob adjust r0
}

# MARK: What must have run

# called NODE: from its log, in order
called() { sed -n "s,.*helper command: $helper \([a-z-]* [a-z0-9-]*\)\$,$1 \1,p" "$(log_of "$1")"; }
ended() { grep -c "helper command: $helper .* exit code" "$(log_of "$1")" || true; }
all_called() { [ "$(for node in "${nodes[@]}"; do called "$node"; done)" = "$1" ]; }
all_ended() { [ "$(ended "$1")" = "$(called "$1" | grep -c .)" ]; }
# expected SITUATION [CALL...]: since the last time just these handlers ran: NODE NAME OBJECT, those of alice first
expected() {
    local situation=$1 node name object code wanted
    shift
    wanted=$(printf '%s\n' "$@")
    await 20 "$situation: $wanted, but ran: $(for node in "${nodes[@]}"; do called "$node"; done)" all_called "$wanted"
    for node in "${nodes[@]}"; do await 10 "$node's handlers end" all_ended "$node"; done
    [ "$(sed 's, /$,,' "$work/calls" 2>/dev/null | sort)" = "$(printf '%s\n' "$@" | cut -d ' ' -f 1,2 | sort)" ] ||
        fail "$situation: $(cat "$work/calls") ran"
    for call in "$@"; do
        read -r node name object <<<"$call"
        code=$(cat "$work/exit.$name" 2>/dev/null || echo 0)
        has_line "helper command: $helper $name $object exit code $code (0x$(printf '%x' $((code << 8))))\$" "$(log_of "$node")" ||
            fail "$situation: $node's log does not say how $name ended"
        environment "$node" "$name" "$object" 0 0 "${disk_of[$node]}"
        ran[$name]=1
    done
    say "$situation: ${*:-nothing}"
    forget
}
declare -A ran=()
forget() {
    local node
    rm -f "$work/calls" "$work"/*.environ "$work"/*.proc "$work"/exit.*
    for node in "${nodes[@]}"; do : >"$(log_of "$node")"; done
}
# environment NODE NAME OBJECT MINORS VOLUMES DISKS: all that the handler's shell was given
environment() {
    local node=$1 other=bob address=${address_of[bob]}
    if [ "$node" = bob ]; then other=alice address=${address_of[alice]}; fi
    # The last three are ours: the run directory and the name of this node, and what shows the status file as /proc/drbd.
    sort >"$work/expected.out" <<ENVIRONMENT
HOME=/
TERM=linux
PATH=/sbin:/usr/sbin:/bin:/usr/bin
DRBD_RESOURCE=r0
DRBD_CONF=$conf
DRBD_MINOR=$4
DRBD_VOLUME=$5
DRBD_LL_DISK=$6
DRBD_PEER=$other
DRBD_PEERS=$other
DRBD_PEER_AF=ipv4
DRBD_PEER_ADDRESS=$address
REPLICA_RUN_DIR=$work/$node/run
REPLICA_NODE=$node
LD_PRELOAD=$(realpath "$bin")/libreplica-proc.so
ENVIRONMENT
    tr '\0' '\n' <"$work/$node.$2.environ" | sort >"$work/environment.out"
    diff "$work/expected.out" "$work/environment.out" >"$work/said.out" || fail "the environment of $2 on $node: $(said)"
    if tr '\0' '\n' <"$work/$node.$2.environ" | grep -q "$secret"; then fail "$2 is given the secret"; fi
    grep -q "^$node $2 /\$" "$work/calls" || fail "the working directory of $2: $(cat "$work/calls")"
    has_line "this is $2\$" "$(log_of "$node")" ||
        fail "what $2 prints is not in $node's log"
}
saw() { grep -q "^ 0: cs:$3\$" "$work/$1.$2.proc" || fail "$2 on $1 finds this status: $(cat "$work/$1.$2.proc")"; }
in_log() { await 10 "$1's log says '$2'" has_line "$2" "$(log_of "$1")"; }
# before NODE FIRST SECOND: the first has ended before the second is called
before() {
    [ "$(grep -n -e "$2 minor-0 exit code" "$(log_of "$1")" | tail -n 1 | cut -d : -f 1)" -lt "$(grep -n -e "$3" "$(log_of "$1")" | head -n 1 | cut -d : -f 1)" ] ||
        fail "on $1 $3 comes before the end of $2"
}
write() { silent qemu-io -f raw -c "write -q -P $2 ${3:-1M} ${4:-64k}" -c flush "$(uri "$1")"; }
exits() { echo "$2" >"$work/exit.$1"; }
alone() { await 20 "$1 is alone" connection_is "$1" "WFConnection|StandAlone"; }
# apart: both Primary, each with changes that the other does not know; bob has more
apart() {
    silent alice disconnect r0
    alone bob
    silent bob disconnect r0
    silent bob primary r0
    write alice 1
    write bob 2 4M 512k
}
# meet: they see each other again
meet() {
    local node
    for node in alice bob; do connection_is "$node" StandAlone && silent "$node" connect r0; done
}
# mend: alice's data is the good one, alice Primary; no policies any more, which would come first
mend() {
    local node
    for node in alice bob; do silent "$node" disconnect r0; done
    write_settings
    silent bob secondary r0
    silent alice primary r0
    silent bob -- --discard-my-data connect r0
    silent alice connect r0
    settled
    after_resync
}
after_resync() { await 10 "bob's resync is all over" has_line "after-resync-target minor-0 exit" "$(log_of bob)"; }

# Without prlimit's signal the daemon sees what a disk says that can't be written.
trap '' XFSZ
pair 32M "$net" 'resync-rate 4G;' "handlers { $handlers }"
expected "two fresh disks and no first resync"

# MARK: Resync

silent bob invalidate r0
after_resync
expected "a resync" "alice before-resync-source minor-0" "bob before-resync-target minor-0" "bob after-resync-target minor-0"
settled

exits before-resync-source 3
silent bob invalidate r0
after_resync
expected "a source's handler of old that ends with 3" \
    "alice before-resync-source minor-0" "bob before-resync-target minor-0" "bob after-resync-target minor-0"
settled

exits before-resync-source 1
silent bob invalidate r0
await 20 "alice gives up" connection_is alice StandAlone
in_log alice 'before-resync-source handler returned 1, dropping connection'
expected "a source's handler that fails" "alice before-resync-source minor-0"
silent alice connect r0
settled
after_resync
expected "the resync that it put off" \
    "alice before-resync-source minor-0" "bob before-resync-target minor-0" "bob after-resync-target minor-0"

exits before-resync-target 3
silent bob disconnect r0
write alice 3
silent bob connect r0
await 20 "bob gives up" connection_is bob StandAlone
in_log bob 'before-resync-target handler returned 3, dropping connection'
saw bob before-resync-target 'WFSyncUUID ro:Secondary/Primary ds:Outdated/UpToDate C r-----'
expected "a target's handler that fails, with any code" "alice before-resync-source minor-0" "bob before-resync-target minor-0"
silent bob connect r0
settled
after_resync
forget

settings '' 'fencing resource-only;'
silent bob disconnect r0
write alice 4
forget
silent bob connect r0
settled
after_resync
await 10 "unfence-peer has ended" has_line "unfence-peer r0 exit" "$(log_of alice)"
saw alice unfence-peer 'Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----'
expected "a resync with a fencing policy" "alice before-resync-source minor-0" "alice unfence-peer r0" \
    "bob before-resync-target minor-0" "bob after-resync-target minor-0"

# MARK: Fencing

exits fence-peer 4
kill_node bob
await 20 "the peer is fenced" disks_are alice UpToDate/Outdated
saw alice fence-peer '[A-Za-z]* ro:Primary/Unknown ds:UpToDate/DUnknown C r-----'
expected "a Primary without its peer" "alice fence-peer r0"
silent bob up r0
settled
await 10 "unfence-peer has ended" has_line "unfence-peer r0 exit" "$(log_of alice)"
forget
settings
kill_node bob
alone alice
expected "the same without a policy"
silent bob up r0
settled
forget

# MARK: Verify

silent alice verify r0
await 20 "it is verified" has_line 'Online verify done' "$(log_of bob)"
settled
expected "a verify that finds nothing"
head -c 8192 /dev/urandom | dd of="${disk_of[bob]}" bs=4k seek=2048 conv=notrunc,fsync status=none
silent alice verify r0
await 20 "it is verified" has_line 'Online verify found 2 4k block out of sync' "$(log_of bob)"
expected "a verify that finds differences" "alice out-of-sync minor-0" "bob out-of-sync minor-0"
silent bob disconnect r0
silent bob connect r0
settled
identical
after_resync
forget

# MARK: Split brain

apart
forget
meet
for node in alice bob; do
    await 20 "$node parts" connection_is "$node" 'StandAlone'
    in_log $node 'Split-Brain detected but unresolved, dropping connection!'
    before $node initial-split-brain "helper command: $helper split-brain"
    before $node split-brain 'conn( WFReportParams -> Disconnecting )'
    saw $node split-brain 'WFReportParams ro:Primary/Unknown ds:UpToDate/DUnknown C r-----'
done
expected "a split brain" "alice initial-split-brain minor-0" "alice split-brain minor-0" \
    "bob initial-split-brain minor-0" "bob split-brain minor-0"
mend
forget

settings 'after-sb-1pri discard-secondary;'
apart
silent bob secondary r0
forget
meet
settled
after_resync
in_log alice 'Split-Brain detected, 1 primaries, automatically solved. Sync from this node'
in_log bob 'Split-Brain detected, 1 primaries, automatically solved. Sync from peer node'
for node in alice:source bob:target; do before "${node%:*}" initial-split-brain "helper command: $helper before-resync-${node#*:}"; done
expected "a split brain that a policy solves" "alice initial-split-brain minor-0" "alice before-resync-source minor-0" \
    "bob initial-split-brain minor-0" "bob before-resync-target minor-0" "bob after-resync-target minor-0"

settings 'after-sb-0pri discard-least-changes; after-sb-1pri call-pri-lost-after-sb;'
apart
silent bob secondary r0
forget
meet
await 20 "alice parts" connection_is alice StandAlone
await 20 "bob is alone" connection_is bob 'StandAlone|WFConnection'
before alice initial-split-brain "helper command: $helper pri-lost-after-sb"
before alice pri-lost-after-sb 'conn( WFReportParams -> Disconnecting )'
role_is alice Primary || fail "alice is $(role alice)"
expected "a Primary that a policy makes the victim" "alice initial-split-brain minor-0" "alice pri-lost-after-sb minor-0" \
    "alice split-brain minor-0" "bob initial-split-brain minor-0"
mend
forget

settings 'after-sb-0pri discard-least-changes; after-sb-1pri violently-as0p; rr-conflict call-pri-lost;'
apart
silent bob secondary r0
forget
meet
await 20 "alice parts" connection_is alice StandAlone
in_log alice 'I shall become SyncTarget, but I am primary!'
before alice pri-lost 'conn( WFReportParams -> Disconnecting )'
expected "a Primary that is to be overwritten" "alice initial-split-brain minor-0" "alice pri-lost minor-0" \
    "bob initial-split-brain minor-0"
mend
forget

# MARK: Disks

silent alice detach r0
disks_are alice Diskless/UpToDate || fail "alice is $(dstate alice)"
expected "a Primary that works through its peer"
kill_node bob
alone alice
saw alice pri-on-incon-degr '[A-Za-z]* ro:Primary/Unknown ds:Diskless/DUnknown C r-----'
expected "a Primary that has lost both disks" "alice pri-on-incon-degr minor-0"
silent alice secondary r0
# The log's extents are marked, and it says so.
for node in alice bob; do "$node" adjust r0 >"$work/adjust.out" 2>&1; done
settled
silent alice primary r0
forget

# bad_disk NODE: of its disk nothing can be written behind the first MiB, neither data nor metadata
bad_disk() { prlimit --pid "$(pid_of "$1")" --fsize=1048576:; }
good_disk() { prlimit --pid "$(pid_of "$1")" --fsize=unlimited:; }
for policy in call-local-io-error detach; do
    settings '' "on-io-error $policy;"
    for node in alice bob; do
        other=bob
        if [ "$node" = bob ]; then other=alice; fi
        forget
        bad_disk "$node"
        write alice 5 8M 1M
        await 20 "$node has no disk" disks_are "$node" Diskless/UpToDate
        await 20 "$other knows" disks_are $other UpToDate/Diskless
        if [ $policy = detach ]; then
            expected "$node's disk fails, detach"
        else
            saw "$node" local-io-error "Connected ro:[A-Za-z]*/[A-Za-z]* ds:\(Failed\|Diskless\)/UpToDate C r-----"
            expected "$node's disk fails, call-local-io-error" "$node local-io-error minor-0"
        fi
        silent qemu-io -f raw -c "read -q -P 5 8M 1M" "$(uri alice)"
        good_disk "$node"
        "$node" attach r0 >"$work/attach.out" 2>&1
        settled
        after="$work/$node/run/r0.log"
        await 10 "the resync is all over" has_line "after-resync-target minor-0 exit" "$after"
        identical
    done
done

# MARK: Resources with several volumes

forget
for node in alice bob; do silent $node down r0; done
for node in alice bob; do truncate -s 16M "$work/$node/second.img"; done
cat >"$conf" <<CONF
global { usage-count no; disable-ip-verification; }
resource r0 {
    net { timeout 20; ping-int 3; connect-int 3; $net }
    disk { fencing resource-only; }
    handlers { $handlers }
    on alice {
        address ${address_of[alice]}:$port;
        volume 0 { device /dev/drbd0; disk ${disk_of[alice]}; meta-disk internal; }
        volume 1 { device /dev/drbd4; disk $work/alice/second.img; meta-disk internal; }
    }
    on bob {
        address ${address_of[bob]}:$port;
        volume 0 { device /dev/drbd0; disk ${disk_of[bob]}; meta-disk internal; }
        volume 1 { device /dev/drbd4; disk $work/bob/second.img; meta-disk internal; }
    }
}
CONF
for node in alice bob; do
    $node create-md r0/1 >"$work/create-md.out" 2>&1
    $node up r0 >"$work/up.out" 2>&1
done
alice wait-connect r0
alice new-current-uuid --clear-bitmap r0/1
both_good() { [ "$(dstate "$1")" = $'UpToDate/UpToDate\nUpToDate/UpToDate' ]; }
for node in alice bob; do await 20 "$node has two volumes" both_good $node; done
silent alice primary r0
forget
exits fence-peer 4
kill_node bob
await 20 "fence-peer runs" test -s "$work/calls"
environment alice fence-peer r0 '0 4' '0 1' "${disk_of[alice]} $work/alice/second.img"
await 20 "both are fenced" bash -c "[ \"\$(REPLICA_NODE=alice REPLICA_RUN_DIR=$work/alice/run $bin/replctl -c $conf dstate r0)\" = \$'UpToDate/Outdated\nUpToDate/Outdated' ]"
[ "$(called alice)" = "alice fence-peer r0" ] || fail "not once for the resource: $(called alice)"
forget
write alice 6
silent bob up r0
for node in alice bob; do await 20 "$node has two good volumes" both_good $node; done
await 10 "unfence-peer runs" has_line "unfence-peer r0 exit code 0" "$(log_of alice)"
environment alice unfence-peer r0 '0 4' '0 1' "${disk_of[alice]} $work/alice/second.img"
[ "$(called alice | grep -c unfence)" = 1 ] || fail "unfence-peer is not called once: $(called alice)"
say "two volumes: fence-peer and unfence-peer once, with both"

for name in $names; do [ -n "${ran[$name]:-}" ] || fail "$name was never seen"; done
