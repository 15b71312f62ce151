#!/usr/bin/env bash
# Disks that fail, on either node, below a mounted file system with every block verified: each policy does what it says, the application
# sees no error, and when the disk is back only what has changed is copied.
# directions: detach call-local-io-error pass_on metadata flakey delay hang
# seconds: 600
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
kind=$1
case $kind in
    detach | call-local-io-error | pass_on) policy=$kind ;;
    flakey) policy=detach ;;
    metadata | delay | hang) policy=pass_on ;;
esac
case $kind in
    # Tenths of a second.
    delay | hang) timeout='disk-timeout 30;' ;;
    *) timeout= ;;
esac
dm='dmsetup --noudevrules --noudevsync'

write_conf() {
    cat >"$conf.new" <<CONF
global { usage-count no; disable-ip-verification; }
common {
    net  { protocol C; timeout 40; ping-int 5; ping-timeout 30; connect-int 5; }
    disk { c-plan-ahead 0; c-min-rate 0; resync-rate 100M; on-io-error $policy; $timeout }
    handlers { local-io-error "echo \$DRBD_RESOURCE \$DRBD_MINOR >/run/local-io-error"; }
}
resource r0 {
    device minor 0;
    disk /dev/mapper/bad;
    meta-disk internal;
    on alice { address 10.77.0.11:7788; }
    on bob   { address 10.77.0.12:7788; }
}
CONF
    chmod 600 "$conf.new"
    mv "$conf.new" "$conf"
}

# table NODE LINE...: what lies between the volume and the node
table() {
    local node=$1
    shift
    printf '%s\n' "$@" >"$work/table"
    at "$node" sh -c "$dm suspend --noflush bad; $dm load bad $work/table && $dm resume bad"
}
whole() { printf '0 %s linear /dev/vg/r0 0' "$sectors"; }
# fails NODE: what its kind says
fails() {
    # The last MiB is metadata, and little else.
    local tail=2048
    case $kind in
        detach | call-local-io-error) table "$1" "0 $sectors error" ;;
        pass_on) table "$1" "0 $((sectors - tail)) error" "$((sectors - tail)) $tail linear /dev/vg/r0 $((sectors - tail))" ;;
        metadata) table "$1" "0 $((sectors - tail)) linear /dev/vg/r0 0" "$((sectors - tail)) $tail error" ;;
        # Reads are good, writes fail for three seconds of four.
        flakey) table "$1" "0 $sectors flakey /dev/vg/r0 0 1 3 1 error_writes" ;;
        delay) table "$1" "0 $sectors delay /dev/vg/r0 0 6000" ;;
        hang) at "$1" sh -c "$dm suspend --noflush bad" ;;
    esac
}
heals() { if [ "$kind" = hang ]; then at "$1" sh -c "$dm resume bad"; else table "$1" "$(whole)"; fi; }

write_conf
for node in alice bob; do
    "$node" down r0 >"$work/down.out" 2>&1 || true
    at "$node" sh -c "$dm remove bad 2>/dev/null; lvresize -q -f -L $volume_size vg/r0; rm -f /run/local-io-error" >"$work/lvm.out" 2>&1 || true
    sectors=$(at "$node" blockdev --getsz /dev/vg/r0)
    at "$node" sh -c "$dm create bad --table '$(whole)'"
done
remove_layers() {
    local node
    at alice sh -c 'kill -9 $(cat /run/fio)' >"$work/remove.out" 2>&1
    for node in alice bob; do at "$node" sh -c "umount /mnt/r0; '$bin/replctl' -c '$conf' down r0; $dm resume bad; $dm remove bad" >"$work/remove.out" 2>&1; done
}
cleanup_fn remove_layers

fresh_pair
at alice mkfs.ext4 -q /dev/drbd0
# From here on the activity log knows nothing but the load.
alice detach r0
alice attach r0
settled
at alice mount /dev/drbd0 /mnt/r0
at alice sh -c "fio --name=files --directory=/mnt/r0 --rw=randrw --rwmixread=30 --bs=4k --size=8M --io_size=1G --iodepth=4 --ioengine=libaio \
    --direct=1 --verify=crc32c --verify_fatal=1 --verify_state_save=0 --time_based --runtime=36000 --output-format=terse \
    >$work/fio.out 2>&1 </dev/null & echo \$! >/run/fio" >/dev/null 2>&1
done_so_far() { echo $(($(counter alice dw) + $(counter alice ns))); }
written_more() { [ "$(done_so_far)" -gt $(($1 + $2)) ]; }
goes_on() { written_more "$1" 1000; }
# disks_of NODE: its own, and what its peer thinks of it
disks_of() { [[ "$(dstate "$1")" = $2/UpToDate && "$(dstate "$(other "$1")")" = UpToDate/$2 ]]; }
is_failed() { disks_of "$1" Failed || disks_of "$1" Diskless; }

for victim in alice bob; do
    await 30 "the load runs" goes_on "$(done_so_far)"
    at "$victim" sh -c ': >/run/replica/r0.log'
    if [ "$kind" = delay ]; then
        table "$victim" "0 $sectors delay /dev/vg/r0 0 100"
        await 40 "the load goes on, slowly" written_more "$(done_so_far)" 100
        disks_of "$victim" UpToDate || fail "$victim's slow disk is $(dstate "$victim")"
    fi
    fails "$victim"
    # A Secondary that is connected and in sync has nothing to write there.
    if [ "$kind/$victim" = metadata/bob ]; then
        bob disconnect r0
        bob connect r0
    fi
    case $kind in
        pass_on) await 30 "$victim's disk is Inconsistent: $(dstate "$victim")" disks_of "$victim" Inconsistent ;;
        # It is gone once all that it was given has come back.
        delay) await 30 "$victim's disk is Failed: $(dstate "$victim")" is_failed "$victim" ;;
        hang) await 30 "$victim's disk is Failed: $(dstate "$victim")" disks_of "$victim" Failed ;;
        *) await 30 "$victim has no disk: $(dstate "$victim")" disks_of "$victim" Diskless ;;
    esac
    await 40 "the load goes on" goes_on "$(done_so_far)"
    if [ "$kind" = call-local-io-error ]; then
        [ "$(at "$victim" cat /run/local-io-error)" = 'r0 0' ] || fail "local-io-error was not called"
    else
        at "$victim" sh -c '! [ -e /run/local-io-error ]' || fail "local-io-error was called"
    fi
    if [ -n "$timeout" ]; then says "$victim" 'failed to meet the disk-timeout' || fail "$victim does not say why"; fi
    heals "$victim"
    if [ "$kind" = pass_on ]; then "$victim" detach --force r0; fi
    await 30 "$victim has no disk" disks_of "$victim" Diskless
    at "$(other "$victim")" sh -c ': >/run/replica/r0.log'
    "$victim" attach r0
    settled
    copied=$(run_log "$(other "$victim")" | sed -n 's/.*Began resync as SyncSource (will sync \([0-9]*\) KB.*/\1/p' | tail -n 1)
    [ -n "$copied" ] || fail "nothing was copied"
    # The extents of the activity log, and what was written meanwhile.
    [ "$copied" -lt 120000 ] || fail "$copied KiB were copied"
    measured "$victim: $copied of $((sectors / 2)) KiB copied"
done
at alice sh -c 'kill -INT $(cat /run/fio); while kill -0 $(cat /run/fio) 2>/dev/null; do sleep 0.2; done'
[ "$(sed -n 's/^3;fio[^;]*;files;0;\([0-9]*\);.*/\1/p' "$work/fio.out")" = 0 ] || fail "fio: $(cat "$work/fio.out")"
for node in alice bob; do
    found=$(troubles "$node" | grep -v ', dev dm-\|on dev dm-') || true
    [ -z "$found" ] || fail "$node's kernel: $found"
done
at alice umount /mnt/r0
at alice e2fsck -fn /dev/drbd0 >"$work/check.out" 2>&1 || fail "the file system is not clean"
alice secondary r0
same "in the end"
