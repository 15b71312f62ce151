# shellcheck shell=bash
# What the scenarios with cluster managers share: two nodes, alice and bob, that are sets of namespaces of this machine, with a host
# name, addresses, /run, /etc and /var of their own. Each has two cables to a switch: eth0 for the cluster and its clients, eth1 for the
# replication. The rest is what Tests/Integration/functions.sh offers.
# shellcheck disable=SC2016,SC2034,SC2120
# shellcheck source-path=SCRIPTDIR source=../Integration/functions.sh
. "$(dirname "${BASH_SOURCE[0]}")/../Integration/functions.sh"

# The first process of each set of namespaces, as it is known here.
declare -A first_of=([alice]='' [bob]='' [switch]='')
declare -A cluster_address_of=([alice]=10.77.0.1 [bob]=10.77.0.2) address_of=([alice]=10.78.0.1 [bob]=10.78.0.2)
service_address=10.77.0.100
journal=$work/journal
other() { if [ "$1" = alice ]; then echo bob; else echo alice; fi; }

# on NODE COMMAND...: in its namespaces
on() {
    local node=$1
    shift
    nsenter -t "${first_of[$node]}" -a --wd=/ -- env HOME=/root "$@"
}
alice() { on alice "$bin/replctl" "$@"; }
bob() { on bob "$bin/replctl" "$@"; }
is_on() { [ -n "${first_of[$1]}" ] && kill -0 "${first_of[$1]}" 2>/dev/null; }
pid_of() { on "$1" cat /run/replica/r0.pid 2>/dev/null; }
log_of() { printf '%s/%s/r0.log' "$work" "$1"; }

# hold NAME NAMESPACES...: a set of namespaces whose first process reaps orphans, and takes all others with it
hold() {
    local name=$1 holder
    shift
    unshare --fork --pid --mount-proc --net "$@" --kill-child bash -c 'sleep infinity & wait' </dev/null >/dev/null 2>&1 &
    holder=$!
    children+=("$holder")
    disown "$holder"
    within 10 has_first_process "$holder" || fail "no namespaces for $name"
    first_of[$name]=$first_process
}
first_process=
has_first_process() {
    read -r first_process _ <"/proc/$1/task/$1/children" || [ -n "$first_process" ]
    # Before that it is still `unshare`, outside.
    [ "$(cat "/proc/$first_process/comm")" = bash ]
}
switch_on() {
    hold switch
    on switch sh -euc '
        ip link set lo up
        for bridge in br0 br1; do
            ip link add $bridge type bridge forward_delay 0
            ip link set $bridge up
        done'
}
# power_on NODE: private directories that outlive a power cut, cables; nothing runs yet.
power_on() {
    local node=$1 link
    [ -n "${first_of[switch]}" ] || switch_on
    hold "$node" --mount --uts --ipc
    for link in 0 1; do
        # That of the life before may still be going away.
        within 10 no_cable "$node" $link || fail "$node's cable $link does not go away"
        ip link add "$node.$link" netns "${first_of[switch]}" type veth peer name "eth$link" netns "${first_of[$node]}"
        on switch ip link set "$node.$link" master "br$link" up
    done
    mkdir -p "$work/$node/over"
    on "$node" bash -euc '
        node=$1 over=$2 repository=$3 bin=$4
        hostname "$node"
        mount --make-rprivate /
        ip link set lo up
        ip address add "$5/24" brd + dev eth0
        ip address add "$6/24" brd + dev eth1
        ip link set eth0 up
        ip link set eth1 up
        mount -t tmpfs -o mode=755 tmpfs /run
        mkdir -p -m 1777 /run/lock
        mount -t tmpfs -o mode=1777 tmpfs /dev/shm
        for directory in /etc /var/lib /var/log /usr/lib/ocf /usr/local /usr/sbin; do
            mkdir -p "$over$directory/upper" "$over$directory/work"
            mount -t overlay -o "lowerdir=$directory,upperdir=$over$directory/upper,workdir=$over$directory/work" overlay "$directory"
        done
        echo "$node" >/etc/hostname
        printf "127.0.0.1 localhost\n10.77.0.1 alice\n10.77.0.2 bob\n" >/etc/hosts
        mkdir -p /usr/lib/ocf/resource.d/replica /usr/local/sbin
        install -m 755 "$repository/etc/ocf/replica" /usr/lib/ocf/resource.d/replica/replica
        install -m 755 "$repository/Tests/Cluster/application" /usr/lib/ocf/resource.d/replica/application
        ln -sf "$bin/replctl" "$bin/replicad" /usr/local/sbin/
    ' - "$node" "$work/$node/over" "$root" "$bin" "${cluster_address_of[$node]}" "${address_of[$node]}" || fail "$node does not boot"
    on "$node" cp "$conf" /etc/drbd.conf
}
no_cable() { ! on switch ip link show "$1.$2" >/dev/null 2>&1; }
# installed NODE: there as `make install` does it, with the names of DRBD's tools
installed() {
    on "$1" env PREFIX=/usr/local WITH_DRBD_NAMES=1 REPLICA_BIN="$bin" "$root/scripts/install" install >"$work/install.out" 2>&1 ||
        fail "it can't be installed on $1: $(cat "$work/install.out")"
}
# cut_link NODE LINK, heal_link NODE LINK: 0 is the cluster's, 1 the replication's
cut_link() { on switch ip link set "$1.$2" down; }
heal_link() { on switch ip link set "$1.$2" up; }
# power_off NODE: every process of it dies at once.
power_off() {
    local first=${first_of[$1]} link
    [ -n "$first" ] || return 0
    [ ! -d "$work/$1" ] || on "$1" cat /run/replica/r0.log >>"$work/$1/r0.log" 2>/dev/null || true
    kill -KILL "$first" 2>/dev/null || true
    within 10 gone "$first" || fail "$1 does not go off"
    first_of[$1]=
    # Its network would stay as long as the kernel sends again what was not acknowledged, and the cables with it.
    if [ "$1" != switch ] && is_on switch; then
        for link in 0 1; do on switch ip link delete "$1.$link" 2>/dev/null || true; done
    fi
}
kill_all() {
    power_off "$1"
    power_off switch
}
# What runs in a namespace writes there; the evidence is shown from here.
evidence_of() {
    local node=$1
    is_on "$node" || { echo "--- $node is off"; return; }
    echo "--- $node"
    on "$node" cat /run/replica/proc/drbd 2>/dev/null | tail -n +3
    on "$node" tail -n 20 /run/replica/r0.log 2>/dev/null
    [ ! -e "$work/cluster.crm" ] || on "$node" timeout 10 crm_mon -1 -A 2>&1 | tail -n 25
    on "$node" grep -h -i -e 'error' -e 'warn' -e replica /var/log/pacemaker/pacemaker.log 2>/dev/null | tail -n 25
    on "$node" tail -n 40 /var/log/ha-log 2>/dev/null
}
evidence() {
    echo "--- $scenario broke with status $1${failed_because:+ ($failed_because)}"
    local node
    for node in alice bob; do evidence_of $node; done
    for file in "$work"/*.out; do
        [ -s "$file" ] || continue
        echo "--- ${file##*/}"
        tail -n 12 "$file"
    done
}

# nodes_on SIZE: configuration and disks; both nodes are on and cabled, with metadata that says that both are in sync
nodes_on() {
    local node
    for node in alice bob; do
        mkdir -p "$work/$node"
        disk_of[$node]=$work/$node/disk.img
        truncate -s "$1" "${disk_of[$node]}"
    done
    write_conf "${@:2}"
    for node in alice bob; do power_on $node; done
    for node in alice bob; do on $node "$bin/replctl" create-md r0 >"$work/create-md.out" 2>&1 || fail "create-md: $(cat "$work/create-md.out")"; done
    alice up r0
    bob up r0
    alice wait-connect r0
    alice new-current-uuid --clear-bitmap r0/0
    settled
    for node in alice bob; do on $node "$bin/replctl" down r0; done
}

# answered: writes that the application was told are done
answered() { grep -c '^d' "$journal" 2>/dev/null || true; }
answered_more() { [ "$(answered)" -ge $(($1 + $2)) ]; }
# goes_on: the application, wherever it is, gets some more writes answered
goes_on() { await "${1:-60}" "the application goes on" answered_more "$(answered)" 50; }

# MARK: Pacemaker

# Which resource agent: ours, or `linbit`, the one of DRBD.
agent=${AGENT:-replica}
# 1: a node that is alone when it starts waits for the other one before it does anything.
wait_for_all=0

corosync_conf() {
    cat <<CONF
totem {
    version: 2
    cluster_name: replica
    transport: knet
    token: 2000
    crypto_cipher: none
    crypto_hash: none
}
nodelist {
    node {
        ring0_addr: ${cluster_address_of[alice]}
        name: alice
        nodeid: 1
    }
    node {
        ring0_addr: ${cluster_address_of[bob]}
        name: bob
        nodeid: 2
    }
}
quorum {
    provider: corosync_votequorum
    two_node: 1
    wait_for_all: $wait_for_all
}
logging {
    to_syslog: no
    to_logfile: yes
    logfile: /var/log/corosync.log
}
CONF
}
cluster_up() { # NODE
    corosync_conf | on "$1" sh -c 'mkdir -p /etc/corosync /var/log/pacemaker /var/lib/pacemaker/cib; cat >/etc/corosync/corosync.conf'
    background "corosync-$1" nsenter -t "${first_of[$1]}" -a --wd=/ -- corosync -f
    await 20 "corosync on $1" on "$1" corosync-cfgtool -s
    if [ "$agent" != replica ]; then stranger_prepared "$1"; fi
    # As systemd does: its path, and that file.
    background "pacemaker-$1" nsenter -t "${first_of[$1]}" -a --wd=/ -- env PCMK_logfile=/var/log/pacemaker/pacemaker.log \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c 'set -a; . /etc/default/pacemaker; exec pacemakerd -f'
}
# stranger_prepared NODE: what an agent needs that knows nothing but DRBD: the names of its tools, its status file in its place, also
# before a daemon runs; and a device node, for which any block device may stand where the kernel has no nbd.
stranger_prepared() {
    [ -e "$work/$1/over/usr/local/upper/sbin/drbdadm" ] || installed "$1"
    on "$1" bash -euc '
        mkdir -p /run/replica/proc
        [ -e /run/replica/proc/drbd ] || replctl proc >/run/replica/proc/drbd
        grep -q libreplica-proc /etc/default/pacemaker || echo LD_PRELOAD=/usr/local/lib/replica/libreplica-proc.so >>/etc/default/pacemaker
        [ ! -b /dev/drbd0 ] || exit 0
        mkdir -p /run/dev/pts /run/dev/shm
        cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/ptmx /dev/fd /dev/stdin /dev/stdout /dev/stderr /run/dev/
        mknod /run/dev/drbd0 b 43 0
        mount --rbind /dev/pts /run/dev/pts
        mount --rbind /dev/shm /run/dev/shm
        mount --rbind /run/dev /dev
        # What is mounted on can not be removed: a daemon that ends takes its node along, and without nbd the next one makes none.
        mknod /run/stand-in b 43 0
        mount --bind /run/stand-in /dev/drbd0
    ' || fail "$1 can not be prepared for a strange agent"
}
# ask NODE COMMAND...: a question to the cluster there, which may hang
ask() { on "$1" timeout -k 1 20 "${@:2}"; }
is_online() { ask "$1" crm_mon -1 2>/dev/null | grep -q "Online: \[ .*$2.* \]"; }
promoted_on() { ask "$1" crm_mon -1 2>/dev/null | grep -q "Promoted: \[ $2 \]\|Masters: \[ $2 \]"; }
unpromoted_on() { ask "$1" crm_mon -1 2>/dev/null | grep -q "Unpromoted: \[ .*$2.*\]\|Slaves: \[ .*$2.*\]"; }
application_on() { on "$1" sh -c '[ -s /run/application.pid ] && kill -0 $(cat /run/application.pid)' 2>/dev/null; }
address_is_on() { on "$1" ip -o address show dev eth0 | grep -q " $service_address/"; }
# serves NODE: promoted, with the address and the application, which gets answers
serves() {
    await "${2:-60}" "$1 is promoted" promoted_on "$1" "$1"
    at_work "$1"
}
# at_work NODE: it has the address and the application, which gets answers
at_work() {
    await "${2:-30}" "the application is on $1" application_on "$1"
    await 30 "the address is on $1" address_is_on "$1"
    goes_on
    sane
}
sane() {
    [ ! -e "$work/split-brain" ] || fail "two applications at once: $(cat "$work/split-brain")"
    [ ! -e "$work/lost" ] || fail "answered writes are lost: $(cat "$work/lost")"
}
no_split_brain() {
    sane
    local node
    for node in alice bob; do
        if on $node cat /run/replica/r0.log | cat - "$work/$node/r0.log" 2>/dev/null | grep -q 'Split-Brain'; then fail "$node saw a split brain"; fi
    done
}
not_promoted() { ! promoted_on "$1" "$1" && ! role_is "$1" Primary; }
in_sync() {
    local node
    for node in alice bob; do await 90 "$node Connected UpToDate/UpToDate" settled_on "$node"; done
}

# load_configuration [LINES...]: what we ship, with a device, an address and a file system as they are here; waits until it is at work.
# The node that serves is in $primary then.
primary=
properties="stonith-enabled=false no-quorum-policy=ignore"
load_configuration() {
    local resource_agent=ocf:replica:replica
    if [ "$agent" = linbit ]; then resource_agent=ocf:linbit:drbd; fi
    sed -e '/^#/d' -e "s/ocf:replica:replica/$resource_agent/" -e "s/ip=[0-9.]*/ip=$service_address/" \
        -e "s|primitive p_fs ocf:heartbeat:Filesystem|primitive p_fs ocf:replica:application|" \
        -e "s|params device=.*fstype=ext4|params directory=$work writer=$writer|" \
        -e 's/op monitor interval=20s timeout=40s/op monitor interval=3s timeout=40s/' \
        -e 's/role=Promoted interval=10s/role=Promoted interval=3s/' "$root/etc/pacemaker/replica.crm" >"$work/cluster.crm"
    printf '%s\n' "property $properties dc-deadtime=4s" "$@" >>"$work/cluster.crm"
    crm_says alice configure load update "$work/cluster.crm"
    await 90 "one of them is promoted" somebody_is_promoted
    serves "$primary"
    in_sync
}
somebody_is_promoted() {
    local node
    for node in alice bob; do if promoted_on $node $node; then primary=$node && return 0; fi; done
    return 1
}
crm_says() { # NODE WORDS...
    ask "$1" crm "${@:2}" >"$work/crm.out" 2>&1 || fail "crm ${*:2}: $(cat "$work/crm.out")"
}
clusters_up() {
    local node other
    for node in alice bob; do cluster_up $node; done
    for node in alice bob; do for other in alice bob; do await 60 "$node sees $other" is_online $node $other; done; done
}
