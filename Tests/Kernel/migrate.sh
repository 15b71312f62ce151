#!/usr/bin/env bash
# docs/migration.md, command by command: a pair of kernels becomes a pair of ours, one node at a time under load, and goes
# back. What travels is what was written while a node was away; drbdmeta reads what each leaves behind.
# directions: both
# seconds: 400
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires loop

guide=$root/docs/migration.md
nodes=(alpha beta)
declare -A address_of=([alpha]=10.77.0.21 [beta]=10.77.0.22) image_of=() owner_of=([alpha]=kernel [beta]=kernel)
namespace_of=([alpha]='' [beta]='')

stop_machines() {
    local host
    for host in "${nodes[@]}"; do "$vm" kill "$host" >/dev/null 2>&1; done
}
cleanup_fn stop_machines

guest_of() { "$vm" exec -t "${2:-60}" -C / "$1" -- "${@:3}"; }

# MARK: One host, whoever has its disk

# conf_for HOST: the configuration as that host's owner sees the disks.
conf_for() {
    local file=$work/$1/${owner_of[$1]}.conf disk=/dev/vda
    [ "${owner_of[$1]}" = kernel ] || disk=${image_of[$1]}
    cat >"$file" <<CONF
global { usage-count no; disable-ip-verification; }
resource r0 {
    net  { protocol C; timeout 40; ping-int 5; ping-timeout 20; connect-int 5; cram-hmac-alg sha256; shared-secret "himitu"; }
    disk { c-plan-ahead 0; resync-rate 100M; }
    device minor 0;
    meta-disk internal;
    on alpha { disk $disk; address ${address_of[alpha]}:7788; }
    on beta  { disk $disk; address ${address_of[beta]}:7788; }
}
CONF
    chmod 600 "$file"
    echo "$file"
}
link_of() { guest_of "$1" 20 sh -c "ip -o link | sed -n 's/^[0-9]*: \(e[^:]*\):.*/\1/p' | head -n 1"; }
# belongs_to OWNER HOST: the host's address is where its owner runs, as it would be if both were on one machine.
belongs_to() {
    local host
    [ "${owner_of[$2]}" != "$1" ] || return 0
    owner_of[$2]=$1
    if [ "$1" = ours ]; then
        guest_of "$2" 20 ip address del "${address_of[$2]}/24" dev "$(link_of "$2")"
        "$vm" net exec "$network" -- ip address add "${address_of[$2]}/24" dev br0
    else
        "$vm" net exec "$network" -- ip address del "${address_of[$2]}/24" dev br0
        guest_of "$2" 20 ip address add "${address_of[$2]}/24" dev "$(link_of "$2")"
        # The guest has a cache of the disk that we had.
        guest_of "$2" 20 sh -c 'echo 3 >/proc/sys/vm/drop_caches; blockdev --flushbufs /dev/vda'
    fi
    # Nobody shall send to where it was.
    "$vm" net exec "$network" -- ip neigh flush all
    for host in "${nodes[@]}"; do guest_of "$host" 20 ip neigh flush all; done
}
host=
drbdadm() {
    belongs_to kernel "$host"
    guest_of "$host" 90 drbdadm -c "$(conf_for "$host")" "$@"
}
drbdsetup() { guest_of "$host" 90 drbdsetup "$@"; }
replctl() {
    [ "$1" = dump ] || belongs_to ours "$host"
    "$vm" net exec "$network" -- env REPLICA_NODE="$host" REPLICA_RUN_DIR="$work/$host/run" "$bin/replctl" -c "$(conf_for "$host")" "$@"
}
# quiet_handlers HOST: without a configuration in /etc they fail, and the kernel drops the connection before a resync.
quiet_handlers() { guest_of "$1" 20 sh -c 'echo /bin/true >/sys/module/drbd/parameters/usermode_helper'; }
modprobe() {
    guest_of "$host" 60 modprobe "$@"
    [ "$1" = -r ] || quiet_handlers "$host"
}
# ask HOST COMMAND...: by the tool of whoever has its disk
ask() {
    local host=$1
    if [ "${owner_of[$1]}" = kernel ]; then drbdadm "${@:2}"; else replctl "${@:2}"; fi
}
alpha() { if [ "$1" = proc ]; then status_text alpha; else ask alpha "$@"; fi; }
beta() { if [ "$1" = proc ]; then status_text beta; else ask beta "$@"; fi; }
status_text() { if [ "${owner_of[$1]}" = kernel ]; then guest_of "$1" 20 cat /proc/drbd; else cat "$work/$1/run/proc/drbd"; fi; }
# use HOST QEMU-IO-COMMAND...: reads and writes its device
use() {
    local commands=() command
    for command in "${@:2}"; do commands+=(-c "$command"); done
    if [ "${owner_of[$1]}" = kernel ]; then
        guest_of "$1" 60 qemu-io -f raw -t none "${commands[@]}" /dev/drbd0 >"$work/io.out" 2>&1 || fail "I/O on $1: $(cat "$work/io.out")"
    else
        qemu-io -f raw "${commands[@]}" "$(uri "$1")" >"$work/io.out" 2>&1 || fail "I/O on $1: $(cat "$work/io.out")"
    fi
    ! grep -i -e failed -e error -e verification "$work/io.out" || fail "I/O on $1"
}
# moved HOST KIB: what its last resync copied
moved() {
    local kib
    if [ "${owner_of[$1]}" = kernel ]; then
        kib=$(guest_of "$1" 20 dmesg | sed -n 's/.*will sync \([0-9]*\) KB.*/\1/p' | tail -n 1)
    else
        kib=$(sed -n 's/.*will sync \([0-9]*\) KB.*/\1/p' "$(log_of "$1")" | tail -n 1)
    fi
    [ "${kib:-0}" = "$2" ] || fail "$1 copied ${kib:-nothing} instead of $2 KiB"
}
# leaves HOST: drbdmeta reads the identifiers that were told while it ran, and finds nothing dirty.
leaves() {
    local kib
    left_in "${image_of[$1]}" "$told" 1:1:0:0
    kib=$(marked_in "${image_of[$1]}")
    [ "$kib" = 0 ] || fail "$1's disk: $kib KiB out of sync"
}
both_settled() {
    local node
    for node in "${nodes[@]}"; do await 60 "$node Connected UpToDate/UpToDate ($(cstate "$node") $(dstate "$node"))" settled_on "$node"; done
}

# MARK: Two kernels, connected and in sync

for node in "${nodes[@]}"; do
    mkdir -p "$work/$node/run"
    image_of[$node]=$judge/$node.img
    "$vm" start "$node" --smp 1 --mem 512 --net "$network:${address_of[$node]}" --modules drbd --disk "${image_of[$node]},size=$disk_size,locking=off" \
        --share "$judge:$judge:nocache" >"$work/boot.out" 2>&1 || fail "$node does not boot: $(tail -n 5 "$work/boot.out")"
    quiet_handlers "$node"
    "$node" create-md --force r0 >"$work/create-md.out" 2>&1
    "$node" up r0
done
await 30 "two kernels are connected" connection_is alpha Connected
alpha new-current-uuid --clear-bitmap r0/0
both_settled
alpha primary r0
use alpha "write -P 1 0 8M" flush

evidence() {
    local node
    echo "--- $scenario broke with status $1${failed_because:+ ($failed_because)}"
    for node in "${nodes[@]}"; do
        echo "--- $node, whose disk is ${owner_of[$node]}"
        tail -n 25 "$(log_of "$node")" 2>/dev/null
        guest_of "$node" 10 sh -c 'tail -n +3 /proc/drbd; dmesg | tail -n 25'
    done
}

# MARK: What must be true after each of the guide's steps

# While a node is away the other one writes one more MiB.
written=8
write_more() {
    use "$1" "write -P $((written + 10)) ${written}M 1M" flush
    written=$((written + 1))
}
all_there() {
    local mib
    use "$1" "read -P 1 0 8M"
    for ((mib = 8; mib < written; mib++)); do use "$1" "read -P $((mib + 10)) ${mib}M 1M"; done
}
before() { both_settled; }
beta_leaves() {
    leaves beta
    write_more alpha
}
joined() {
    both_settled
    moved "$1" 1024
}
beta_joins() { joined beta; }
alpha_steps_down() { role_is alpha Secondary || fail "alpha is $(role alpha)"; }
beta_takes_over() { all_there beta; }
alpha_leaves() {
    leaves alpha
    write_more beta
}
module_goes() { ! guest_of alpha 20 test -e /proc/drbd || fail "the module is still there"; }
alpha_joins() { joined alpha; }
# One block goes down and comes up: nobody wrote in between.
alpha_goes_back() { both_settled; }
beta_steps_down() { role_is beta Secondary || fail "beta is $(role beta)"; }
alpha_takes_over() {
    all_there alpha
    write_more alpha
}
beta_goes_back() {
    both_settled
    await 20 "alpha is quiet" quiet alpha
    await 20 "beta is quiet" quiet beta
    cmp -n $((60 << 20)) "${image_of[alpha]}" "${image_of[beta]}" || fail "the disks differ"
    found=$(generations alpha)
    [ "$found" = "$(generations beta)" ] || fail "the generations differ: $found, $(generations beta)"
    say "same: $found"
}

# MARK: The guide

steps=0
step=
while IFS= read -r line; do
    if [ -n "$step" ] && [ "$line" = '```' ]; then
        "${step//-/_}"
        say "$step holds"
        steps=$((steps + 1))
        step=
    elif [ -n "$step" ]; then
        say "$host# $line"
        # What it said of itself last, for whoever reads what it left.
        case $line in *" down "*) told=$(ask "$host" get-gi r0) ;; esac
        # These go to the host that the step is for; nothing else of the guide is run here.
        [[ $line =~ ^(drbdadm|drbdsetup|replctl|modprobe)(\ [a-z0-9-]+)+$ ]] || fail "the guide has a command that this does not run: $line"
        eval "$line" </dev/null >"$work/said.out" 2>&1 || fail "$host# $line: $(said)"
        case $line in *" dstate "*) [ "$(said)" = UpToDate/UpToDate ] || fail "$host# $line says $(said)" ;; esac
    elif [[ $line =~ ^\`\`\`sh\ ([a-z]+)\ ([a-z-]+)$ ]]; then
        host=${BASH_REMATCH[1]} step=${BASH_REMATCH[2]}
        declare -F "${step//-/_}" >/dev/null || fail "the guide has a step $step that nobody checks"
    elif [[ $line = '```'* ]]; then
        fail "the guide has a block that this does not read: $line"
    fi
done <"$guide"
[ $steps = 12 ] || fail "the guide has $steps steps"
