#!/usr/bin/env bash
# Two volumes in one resource, over IPv6; the second is added while the first is in use: writes to both in one stream of
# epochs, one volume without its disk, resyncs of one and of both, where the second waits for the first.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

second_kernel_disk=$judge/carol1.img
sizes=([0]=$((32 << 20)) [1]=$((32 << 20)))
# vio NODE VOLUME QEMU-IO-COMMAND...
vio() {
    local node=$1 volume=$2 commands=() command out=$work/io.$2.out
    shift 2
    for command in "$@"; do commands+=(-c "$command"); done
    if [ "$node" = alice ]; then
        qemu-io -f raw "${commands[@]}" "nbd+unix:///r0%2F$volume?socket=$work/alice/run/r0.nbd" >"$out" 2>&1 || return 1
    else
        guest qemu-io -f raw -t none "${commands[@]}" "/dev/drbd$volume" >"$out" 2>&1 || return 1
    fi
    ! grep -q -i -e 'failed' -e 'error' -e 'verification' "$out"
}
pair_of() { printf '%s\n%s' "$1" "$2"; }
volumes_are() { [ "$("$1" cstate r0)" = "$(pair_of Connected Connected)" ] && [ "$("$1" dstate r0)" = "$(pair_of "$2" "$3")" ]; }
both_settled() {
    local node
    for node in alice carol; do
        await 60 "$node: two volumes Connected UpToDate/UpToDate (they are $("$node" cstate r0 | tr '\n' ' ') $("$node" dstate r0 | tr '\n' ' '))" \
            volumes_are "$node" UpToDate/UpToDate UpToDate/UpToDate
    done
}
gi_of() { generations "$1" "r0/$2"; }
no_oos() { ! "$1" proc | grep -e 'oos:[1-9]' -e ' lo:[1-9]' -e ' pe:[1-9]' -e ' ua:[1-9]' -e ' ap:[1-9]' >/dev/null; }
# both_same WHAT: as `same`, for each volume
both_same() {
    local volume node ours
    both_settled
    for node in alice carol; do await 20 "$node is quiet" no_oos "$node"; done
    for volume in 0 1; do
        ours=$work/alice/disk$volume.img
        if [ "$volume" = 0 ]; then node=$kernel_disk; else node=$second_kernel_disk; fi
        cmp -n $((sizes[volume] - 40960)) "$ours" "$node" >"$work/cmp.out" || fail "volume $volume differs: $(cat "$work/cmp.out")"
        [ "$(gi_of alice $volume)" = "$(gi_of carol $volume)" ] || fail "generations of volume $volume: $(gi_of alice $volume), $(gi_of carol $volume)"
    done
    say "same $1: $(gi_of alice 0) and $(gi_of alice 1)"
}

fresh
guest -t 30 blkdiscard -f -z /dev/vdb || true
# Both ends of the wire speak IPv6, too.
bridge=$("$vm" net exec "$network" -- ip -o -4 addr show | sed -n 's/^[0-9]*: \([^ ]*\) *inet 10\.77\.0\.1\/.*/\1/p')
"$vm" net exec "$network" -- sh -c "sysctl -q -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.$bridge.disable_ipv6=0; ip -6 addr replace fd77::1/64 dev $bridge nodad" >"$work/ip.out" 2>&1 ||
    fail "no IPv6 here: $(cat "$work/ip.out")"
# shellcheck disable=SC2016
guest sh -c 'dev=$(ip -o -4 addr show | sed -n "s/^[0-9]*: \([^ ]*\) *inet 10\.77\.0\.11\/.*/\1/p"); ip -6 addr replace fd77::11/64 dev $dev nodad' >"$work/ip.out" 2>&1 ||
    fail "no IPv6 in the guest: $(cat "$work/ip.out")"
for volume in 0 1; do
    truncate -s 0 "$work/alice/disk$volume.img"
    truncate -s "${sizes[volume]}" "$work/alice/disk$volume.img"
done
disk_of[alice]=$work/alice/disk0.img
# write_conf VOLUMES
write_conf() {
    local own='' his='' volume disk
    for ((volume = 0; volume < $1; volume++)); do
        disk=$([ $volume = 0 ] || echo 'disk { resync-after r0/0; }')
        own+="volume $volume { device minor $volume; meta-disk internal; disk $work/alice/disk$volume.img; $disk } "
        his+="volume $volume { device minor $volume; meta-disk internal; disk /dev/vd$([ $volume = 0 ] && echo a || echo b); $disk } "
    done
    cat >"$conf" <<CONF
global { usage-count no; disable-ip-verification; }
common {
    net  { protocol C; timeout 40; ping-int 5; ping-timeout 20; connect-int 5; }
    disk { c-plan-ahead 0; c-min-rate 0; resync-rate 60M; }
}
resource r0 {
    on alice { $own address ipv6 [fd77::1]:7788; }
    on carol { $his address ipv6 [fd77::11]:7788; }
}
CONF
    chmod 600 "$conf"
    conf_of_carol=$conf
}
write_conf 2
for node in alice carol; do "$node" create-md --force r0/0 r0/1 >"$work/create-md.out" 2>&1 || fail "create-md on $node: $(cat "$work/create-md.out")"; done

say "a second volume comes, to $one first; the disks have different sizes"
write_conf 1
alice up r0
carol up r0
one_is() { [ "$("$1" cstate r0)" = Connected ] && [ "$("$1" dstate r0)" = "$2" ]; }
for node in alice carol; do await 30 "$node: one volume Connected" one_is "$node" Inconsistent/Inconsistent; done
"$one" primary --force r0/0
for node in alice carol; do await 30 "$node: one volume in sync" one_is "$node" UpToDate/UpToDate; done
write_conf 2
"$one" adjust r0
vio "$one" 0 "write -P 12 0 64k" flush || fail "volume 0 beside a new one: $(cat "$work/io.0.out")"
"$two" adjust r0
for node in alice carol; do await 30 "$node: two volumes Connected" volumes_are "$node" UpToDate/UpToDate Inconsistent/Inconsistent; done
carol new-current-uuid --clear-bitmap r0/1
both_settled
"$one" primary r0/1
vio "$one" 0 "write -P 1 0 4M" "write -P 2 20M 64k" flush || fail "volume 0: $(cat "$work/io.0.out")"
vio "$one" 1 "write -P 3 0 4M" "write -P 4 30M 64k" flush || fail "volume 1: $(cat "$work/io.1.out")"
both_same "written"

say "writes to both at once"
vio "$one" 0 "write -q -P 5 8M 8M" "read -q -P 1 0 4M" flush >/dev/null &
first=$!
vio "$one" 1 "write -q -P 6 8M 8M" flush || fail "volume 1: $(cat "$work/io.1.out")"
wait "$first" || fail "volume 0: $(cat "$work/io.0.out")"
both_same "written together"

say "one volume without its disk on $one"
"$one" detach r0/1
await 20 "$two sees it" volumes_are "$two" UpToDate/UpToDate UpToDate/Diskless
vio "$one" 1 "write -P 7 1M 1M" "read -P 7 1M 1M" "read -P 4 30M 64k" flush || fail "volume 1 without a disk: $(cat "$work/io.1.out")"
vio "$one" 0 "write -P 8 1M 1M" flush || fail "volume 0: $(cat "$work/io.0.out")"
"$one" attach r0/1
both_same "attached again"

say "apart, then a resync of one"
"$one" disconnect r0
vio "$one" 0 "write -P 9 2M 1M" flush
"$one" connect r0
both_same "after a resync of volume 0"

say "apart, then a resync of both, one after the other"
"$one" disconnect r0
vio "$one" 0 "write -P 10 0 28M" flush || fail "volume 0: $(cat "$work/io.0.out")"
vio "$one" 1 "write -P 11 0 12M" flush || fail "volume 1: $(cat "$work/io.1.out")"
before=$(wc -l <"$(log_of alice)")
"$one" connect r0
both_same "after a resync of both"
tail -n "+$before" "$(log_of alice)" >"$work/ours.log"
has_line 'drbd1: .*aftr_isp( 0 -> 1 )' "$work/ours.log" || fail "ours never made volume 1 wait"
has_line 'drbd1: .*conn( PausedSync[ST] -> Sync' "$work/ours.log" || fail "ours never let volume 1 go on"
grep -n 'drbd.: .*\(Resync done\|PausedSync. -> Sync\)' "$work/ours.log" | sed 's/^/    /'
