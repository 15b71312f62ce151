#!/usr/bin/env bash
# Online verify, started by either side: both find the blocks that were changed behind their backs, nothing else, and not
# what is being written meanwhile; a disconnect and a connect mend them.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

# behind NODE OFFSET BYTES: its disk gets other bytes, and DRBD does not see it.
behind() {
    if [ "$1" = alice ]; then
        head -c "$3" /dev/urandom | dd of="${disk_of[alice]}" bs="$3" seek="$2" oflag=seek_bytes iflag=fullblock conv=notrunc,fsync status=none
    else
        guest sh -c "head -c $3 /dev/urandom >/tmp/noise && dd if=/tmp/noise of=/dev/vda bs=$3 seek=$2 oflag=seek_bytes,direct conv=notrunc status=none"
    fi
}
# verify NODE [OPTION...]: the node verifies, and both have come to the end.
verify() {
    local node=$1 ours kernel
    shift
    ours=$(verified alice)
    kernel=$(verified carol)
    if [ "$node" = alice ]; then alice verify "$@" r0; else guest drbdsetup verify 0 "$@"; fi
    await 60 "verify ends here" eval "[ \$(verified alice) -gt $ours ] && connection_is alice Connected"
    await 30 "verify ends there" eval "[ \$(verified carol) -gt $kernel ] && connection_is carol Connected"
}
verified() { if [ "$1" = alice ]; then grep -c 'Online verify done' "$(log_of alice)" || true; else kernel_log | grep -c 'Online verify done' || true; fi; }
found() { # KIB: both count as many out of sync
    local node
    for node in alice carol; do
        [ "$(counter "$node" oos)" = "$1" ] || fail "$node counts $(counter "$node" oos) KiB out of sync, expected $1"
    done
}
both_say() {
    local node
    for node in alice carol; do says "$node" "$1" || fail "$node does not say: $1"; done
}

both_fresh "protocol C; verify-alg sha1;"
io "$one" "write -P 9 0 30M" flush || fail "writing: $(cat "$work/io.out")"
part "$one"
meet "$one"
verify "$one"
found 0
behind "$two" 8192 4096
behind "$two" 1M 16384
behind "$one" 3146240 512
behind "$two" 20M 4096
verify "$one"
found 28
both_say 'Out of sync: start=16, size=8 (sectors)'
both_say 'Out of sync: start=2048, size=32 (sectors)'
both_say 'Out of sync: start=6144, size=8 (sectors)'
both_say 'Online verify found 7 4k block out of sync!'
says "$one" 'Starting Online Verify from sector 0' || fail "$one does not say that it starts"
says "$two" 'Online Verify start sector: 0' || fail "$two does not say where it starts"
part "$one"
meet "$one"
[ "$(to_sync)" = 28 ] || fail "$(to_sync) KiB were synchronised"
same "after the repair"

say "from a sector to a sector, asked for by the other one"
behind "$two" 4190208 4096
behind "$two" 4M 4096
behind "$two" 6M 4096
verify "$two" --start=8192 --stop=12288
found 4
both_say 'Online Verify reached sector 12288'
says "$two" 'Starting Online Verify from sector 8192' || fail "$two does not say where it starts"
verify "$two"
found 8
verify "$two"
found 12
part "$two"
meet "$two"
same "after the second repair"

say "while there are writes"
"$one" disconnect r0
both_conf "protocol C; verify-alg crc32c;" "resync-rate 20M;"
for node in alice carol; do "$node" adjust r0; done
settled
under_load "$one" 60M 120
for node in "$one" "$two"; do
    verify "$node"
    found 0
    ! gone "$last" || fail "the load ended before the verify: $(tail -n 3 "$work/load.out")"
done
# Who asked the guest for it is not who writes there.
if [ "$one" = alice ]; then kill_tree "$last"; else guest sh -c "kill -INT \$(pidof fio)"; fi
await 20 "the load is gone" gone "$last"
same "after verify amid writes"
