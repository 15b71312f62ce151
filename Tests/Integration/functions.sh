# shellcheck shell=bash
# What the scenarios share: two nodes, alice and bob, on this machine; waiting with a deadline; evidence on failure.
#
# A scenario sources this file, says what it `requires`, builds a `pair`, and ends by falling off its end. It exits
# with 0 (held), 1 (broken, with the last log lines of both nodes) or 77 (skipped, the last line says why).
# KEEP=1 leaves the scenario's directory behind.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=${REPLICA_BIN:-$root/.build/release}
# Debian's own, which sees python3-libnbd.
python=/usr/bin/python3
writer=$here/writer.py
scenario=$(basename "$0" .sh)
work=$(mktemp -d "${TMPDIR:-/tmp}/replica-$scenario.XXXXXX")
conf=$work/replica.conf
nodes=(alice bob)
cleanups=()
children=()
declare -A namespace_of=([alice]='' [bob]='')
failed_because=''

# MARK: Beginning and end

# cleanup_fn FUNCTION: runs at the end, the last one first, however the scenario ends.
cleanup_fn() { cleanups+=("$1"); }

finish() {
    local status=$? node i
    # Whatever happens now, a second Ctrl-C or a reader of our output that has gone, everything is cleaned up.
    trap - EXIT ERR
    trap '' INT TERM HUP PIPE
    set +eu
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then evidence "$status" >&2; fi
    for i in "${children[@]}"; do kill_tree "$i"; done
    for node in "${nodes[@]}"; do kill_all "$node"; done
    for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do "${cleanups[i]}"; done
    for node in "${nodes[@]}"; do
        [ -z "${namespace_of[$node]}" ] || ip netns del "${namespace_of[$node]}" 2>/dev/null
    done
    if [ "${KEEP:-}" = 1 ]; then echo "left behind: $work" >&2; else remove "$work"; fi
    exit "$status"
}
trap finish EXIT
trap 'failed_because="line $LINENO: $BASH_COMMAND"' ERR
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
set -E

# remove DIRECTORY: whoever was just told to end may still write there.
remove() {
    local try
    for ((try = 0; try < 100; try++)); do
        rm -rf "$1" 2>/dev/null && return 0
        sleep 0.02
    done
    echo "could not remove $1" >&2
}

evidence() {
    local node file
    echo "--- $scenario broke with status $1${failed_because:+ ($failed_because)}"
    for node in "${nodes[@]}"; do
        [ -f "$work/$node/run/r0.log" ] || continue
        echo "--- $node: status and last log lines"
        tail -n +3 "$work/$node/run/proc/drbd" 2>/dev/null
        tail -n 25 "$work/$node/run/r0.log"
    done
    for file in "$work"/*.out; do
        [ -s "$file" ] || continue
        echo "--- ${file##*/}"
        tail -n 12 "$file"
    done
}

say() { printf '%s\n' "$*"; }
# item NUMBER TEXT: what follows is that item of the checklist in the specification of the control plane.
item() { say "item $1: ${*:2}"; }
fail() {
    failed_because=$*
    say "FAILED: $*"
    exit 1
}
skip() {
    say "skipped: $*"
    exit 77
}

# requires WHAT...: skips the scenario unless all of it is there: root, loop, netns, nbd (python3-libnbd), or a command.
requires() {
    local what
    for what in replctl replicad; do [ -x "$bin/$what" ] || fail "no $what in $bin: build it first"; done
    for what in "$@"; do
        case $what in
            root) [ "$(id -u)" = 0 ] || skip "needs root" ;;
            loop)
                truncate -s 1M "$work/probe"
                losetup -d "$(losetup --show -f "$work/probe" 2>&1)" 2>/dev/null || skip "no loop devices here"
                ;;
            netns)
                command -v ip >/dev/null || skip "no ip (package iproute2)"
                ip netns add "probe-$$" 2>/dev/null || skip "no network namespaces here"
                ip netns del "probe-$$"
                ;;
            nbd) "$python" -c 'import nbd' 2>/dev/null || skip "no python3-libnbd" ;;
            *) command -v "$what" >/dev/null || skip "no $what" ;;
        esac
    done
}

# MARK: Waiting

# within SECONDS COMMAND...: runs the command again and again until it succeeds; 1 if it does not in time.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

# await SECONDS TEXT COMMAND...: the same, and the end of the scenario if it does not happen.
await() {
    local seconds=$1 text=$2
    shift 2
    within "$seconds" "$@" || fail "not within $seconds s: $text"
}

# background NAME COMMAND...: starts it with output to NAME.out; its process id is in $last.
last=
background() {
    local name=$1
    shift
    "$@" >"$work/$name.out" 2>&1 &
    last=$!
    children+=("$last")
    disown "$last"
}
# kill_tree PID: a process and what it started.
kill_tree() {
    local child children
    { read -ra children <"/proc/$1/task/$1/children"; } 2>/dev/null || true
    for child in "${children[@]}"; do kill_tree "$child"; done
    kill -9 "$1" 2>/dev/null || true
}
gone() { ! kill -0 "$1" 2>/dev/null; }
# asks_daemon PID: it, or what it started, has asked a daemon and sleeps until the answer comes.
asks_daemon() {
    local process children
    { read -ra children <"/proc/$1/task/$1/children"; } 2>/dev/null || true
    for process in "$1" "${children[@]}"; do
        readlink "/proc/$process/fd/"* | grep -q '^socket:' && grep -q '^State:.S' "/proc/$process/status" && return 0
    done 2>/dev/null
    return 1
}
has_line() { [ -f "$2" ] && grep -q -e "$1" "$2"; }

# MARK: Two nodes

# write_conf [NET-OPTIONS [DISK-OPTIONS [MORE]]]: the configuration of the pair, over the one before.
write_conf() {
    cat >"$conf.new" <<CONF
global { usage-count no; disable-ip-verification; }
common {
    net  { timeout 20; ping-int 3; connect-int 3; ${1:-} }
    disk { c-plan-ahead 0; c-min-rate 0; ${2:-resync-rate 4194304;} }
    ${3:-}
}
resource r0 {
    device /dev/drbd0;
    meta-disk internal;
    on alice { disk ${disk_of[alice]}; address ${address_of[alice]}:$port; }
    on bob   { disk ${disk_of[bob]};   address ${address_of[bob]}:$port; }
}
CONF
    chmod 600 "$conf.new"
    mv "$conf.new" "$conf"
}

# nodes_with SIZE [NET-OPTIONS [DISK-OPTIONS [MORE]]]: directories, sparse disks, configuration; nothing runs yet.
declare -A disk_of=() address_of=()
# Below the ports that the kernel gives to outgoing connections.
port=$((20000 + RANDOM % 12000))
nodes_with() {
    local node size=$1
    shift
    for node in "${nodes[@]}"; do
        mkdir -p "$work/$node/run"
        if [ -z "${disk_of[$node]:-}" ]; then
            disk_of[$node]=$work/$node/disk.img
            truncate -s "$size" "${disk_of[$node]}"
        fi
    done
    : "${address_of[alice]:=127.0.0.1}" "${address_of[bob]:=127.0.0.2}"
    write_conf "$@"
}

# pair SIZE [...]: as nodes_with; then both are up, in sync (without a copy: both disks are zero), alice is Primary.
pair() {
    nodes_with "$@"
    local node
    for node in "${nodes[@]}"; do "$node" create-md r0 >"$work/create-md.out" 2>&1; done
    alice up r0
    bob up r0
    alice wait-connect r0
    alice new-current-uuid --clear-bitmap r0/0
    await 30 "both UpToDate" disks_are alice UpToDate/UpToDate
    await 30 "both UpToDate on bob" disks_are bob UpToDate/UpToDate
    alice primary r0
}

# on NODE COMMAND...: with the node's name, directory and network.
on() {
    local node=$1
    shift
    local enter=()
    [ -z "${namespace_of[$node]}" ] || enter=(ip netns exec "${namespace_of[$node]}")
    "${enter[@]}" env REPLICA_NODE="$node" REPLICA_RUN_DIR="$work/$node/run" "$@"
}
alice() { on alice "$bin/replctl" -c "$conf" "$@"; }
bob() { on bob "$bin/replctl" -c "$conf" "$@"; }

# status_of COMMAND...: prints the exit status of what may fail; its output is in said.out.
status_of() {
    local status=0
    "$@" >"$work/said.out" 2>&1 </dev/null || status=$?
    echo "$status"
}
said() { cat "$work/said.out"; }

# refused STATUS WORD COMMAND...: it must fail in this way.
refused() {
    local expected=$1 word=$2 found
    shift 2
    found=$(status_of "$@")
    [ "$found" = "$expected" ] || fail "'$*' ended with $found instead of $expected: $(said)"
    said | grep -q -e "$word" || fail "'$*' does not say '$word' but: $(said)"
}

# equal EXPECTED COMMAND...: it must succeed and print just that.
equal() {
    local expected=$1 found
    shift
    found=$("$@" 2>"$work/said.out") || fail "'$*' ended with $?: $(said)"
    [ "$found" = "$expected" ] || fail "'$*' prints '$found' instead of '$expected'"
}
# silent COMMAND...: it must succeed and say nothing.
silent() {
    "$@" >"$work/said.out" 2>&1 || fail "'$*' ended with $?: $(said)"
    [ ! -s "$work/said.out" ] || fail "'$*' says: $(said)"
}
# tools: drbdadm, drbdsetup and drbdmeta, under their own names, in \$tools.
tools=$work/tools
tools() {
    mkdir -p "$tools"
    local name
    for name in drbdadm drbdsetup drbdmeta; do ln -sf "$bin/replctl" "$tools/$name"; done
}

cstate() { "$1" cstate r0 2>/dev/null; }
role() { "$1" role r0 2>/dev/null; }
dstate() { "$1" dstate r0 2>/dev/null; }
connection_is() { [[ "$(cstate "$1")" =~ ^($2)$ ]]; }
disks_are() { [ "$(dstate "$1")" = "$2" ]; }
role_is() { [[ "$(role "$1")" = "$2"/* ]]; }
settled_on() { connection_is "$1" Connected && disks_are "$1" UpToDate/UpToDate; }
# settled: both connected and UpToDate, seen from both, within a minute.
settled() {
    local node
    for node in "${nodes[@]}"; do await 60 "$node Connected UpToDate/UpToDate" settled_on "$node"; done
}
# counter NODE NAME: one of the counters of the status file (ns nr dw ... oos).
counter() { "$1" proc | sed -n "s/.*[ ]$2:\([0-9a-z]*\).*/\1/p" | head -n 1; }
uri() { printf 'nbd+unix:///r0?socket=%s/%s/run/r0.nbd' "$work" "$1"; }
log_of() { printf '%s/%s/run/r0.log' "$work" "$1"; }
pid_of() { cat "$work/$1/run/r0.pid" 2>/dev/null; }

# kill_node NODE [RESOURCE]: SIGKILL for its daemon, and waits until it is gone. Nothing if it does not run.
kill_node() {
    local pid program
    { pid=$(cat "$work/$1/run/${2:-r0}.pid"); } 2>/dev/null || return 0
    program=$(readlink "/proc/$pid/exe" 2>/dev/null) || true
    # One that was killed a moment ago has no program any more, but may still hold its sockets.
    [[ -z $program || $program = */replicad* ]] || return 0
    kill -9 "$pid" 2>/dev/null || return 0
    within 10 gone "$pid" || say "$1's daemon $pid does not die"
}
# kill_all NODE: the daemons of all its resources
kill_all() {
    local file
    for file in "$work/$1/run/"*.pid; do kill_node "$1" "$(basename "$file" .pid)"; done
}

# MARK: What must be true in the end

# data_bytes: bytes of the data area, the metadata after it not counted.
data_bytes() { echo $(($(alice status r0 --verbose --statistics | sed -n 's/.*size:\([0-9]*\).*/\1/p' | head -n 1) * 1024)); }

# identical: both disks hold the same outside their metadata. Both nodes are up and idle.
identical() {
    local bytes
    bytes=$(data_bytes)
    [ "$bytes" -gt 0 ] || fail "no size known"
    [ "$(counter alice oos)" = 0 ] || fail "alice counts $(counter alice oos) KiB out of sync"
    [ "$(counter bob oos)" = 0 ] || fail "bob counts $(counter bob oos) KiB out of sync"
    cmp -n "$bytes" "${disk_of[alice]}" "${disk_of[bob]}" || fail "the disks differ"
    say "both disks are identical: $((bytes / 1024)) KiB"
}

# no_write_lost NODE: every acknowledged write of the journal can be read at that node.
no_write_lost() { "$writer" check "$(uri "$1")" "$work/journal" || fail "a write that was answered is lost on $1"; }
acknowledged() { grep -c '^d' "$work/journal" 2>/dev/null || true; }
acknowledged_at_least() { [ "$(acknowledged)" -ge "$1" ]; }
# progress COUNT: waits until so many more writes are answered.
progress() { await "${2:-40}" "$1 more answered writes" acknowledged_at_least $(($(acknowledged) + $1)); }

# MARK: A network that can be cut

# networks: each node gets a network namespace, and a cable lies between them. Before `pair`.
networks() {
    local node
    for node in "${nodes[@]}"; do
        namespace_of[$node]=replica-$node-$$
        ip netns add "${namespace_of[$node]}"
        ip -n "${namespace_of[$node]}" link set lo up
    done
    ip link add "ra$$" netns "${namespace_of[alice]}" type veth peer name "rb$$" netns "${namespace_of[bob]}"
    address_of[alice]=10.77.0.1 address_of[bob]=10.77.0.2
    ip -n "${namespace_of[alice]}" address add 10.77.0.1/24 dev "ra$$"
    ip -n "${namespace_of[bob]}" address add 10.77.0.2/24 dev "rb$$"
    plug
}
unplug() { ip -n "${namespace_of[bob]}" link set "rb$$" down; }
plug() {
    ip -n "${namespace_of[alice]}" link set "ra$$" up
    ip -n "${namespace_of[bob]}" link set "rb$$" up
}

# MARK: The doctor

# found NODE STATUS SITUATION: what the doctor finds on that node has this among it, and it ends with the status.
found() {
    local status=0
    "$1" doctor --json r0 >"$work/doctor.json" 2>"$work/doctor.out" || status=$?
    "$here/doctor.py" found "$work/doctor.json" >"$work/found.out" || return 1
    grep -q "^$3 " "$work/found.out" && [ "$status" = "$2" ]
}
# diagnosed NODE STATUS SITUATION [WORDS]: it comes to find that, and says these words.
diagnosed() {
    await 30 "the doctor on $1 finds $3 and ends with $2" found "$1" "$2" "$3"
    say "  $1: $(grep "^$3 " "$work/found.out" | head -n 1)"
    "$1" doctor r0 >"$work/doctor.out" 2>&1 || true
    if [ -n "${4:-}" ]; then tr -s ' \n' ' ' <"$work/doctor.out" | grep -q -e "$4" || fail "it does not say '$4'"; fi
}
conf_of() { echo "$conf"; }
# treated SITUATION [CHOICE]: what was prescribed last for that is typed, each command on its node.
treated() {
    local node command
    "$here/doctor.py" steps "$work/doctor.json" "$@" >"$work/steps.out" || fail "no such steps"
    [ -s "$work/steps.out" ] || fail "no commands for $1"
    while IFS=$'\t' read -r node command <&3; do
        say "  on $node: ${command/"$work/"/}"
        # The other node's configuration is where it always is; here that is elsewhere.
        [[ $command = *' -c '* ]] || command=${command/#replctl /replctl -c "$(conf_of "$node")" }
        on "$node" env PATH="$bin:$PATH" sh -c "$command" >"$work/said.out" 2>&1 </dev/null && continue
        # A second opinion is not a cure.
        [[ $command = *' doctor '* ]] || fail "on $node: $command: $(said)"
    done 3<"$work/steps.out"
}
# healthy [NODE...]: in the end there is nothing left to do.
healthy() {
    local node
    if [ $# = 0 ]; then set -- "${nodes[@]}"; fi
    for node in "$@"; do await 40 "the doctor finds nothing on $node" found "$node" 0 in-order; done
}
