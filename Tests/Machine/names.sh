#!/usr/bin/env bash
# Every form of `device`; an nbd device that somebody else has; the end of a daemon whose device nobody has open.
# directions: alice
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

# is_device PATH: it has the size of the resource
is_device() { [ "$(at alice blockdev --getsize64 "$1")" = "$(data_bytes)" ] || fail "$1 is not the device"; }
exists() { at alice test -e "$1"; }
write_conf
fresh_node alice
for form in "/dev/drbd3" "minor 5" "/dev/drbd_mail minor 4" "/dev/replica/mail minor 4" "/dev/nbd3 minor 20" "/dev/drbd40"; do
    device=$form write_conf
    path=$(alice sh-dev r0)
    alice up r0
    alice primary --force r0
    is_device "$path"
    is_device /dev/replica/by-res/r0/0
    is_device /dev/drbd/by-res/r0/0
    if [[ $form = *nbd* ]]; then exists /sys/block/nbd3/pid; fi
    say "$form is $path"
    alice down r0
    if [[ $form != *nbd* ]] && exists "$path"; then fail "$path is left behind"; fi
    ! exists /dev/replica || fail "/dev/replica is left behind"
done

say "a socket of that name"
device="unix:/run/export.sock minor 0" write_conf
alice up r0
alice primary r0
at alice qemu-io -f raw -c 'write -P 7 0 4k' -c flush 'nbd+unix:///r0?socket=/run/export.sock' >"$work/io.out" 2>&1 || fail "no export"
! exists /sys/block/nbd0/pid || fail "a block device nobody asked for"
alice down r0
! exists /run/export.sock || fail "the link is left behind"

say "nbd0 is somebody else's"
at alice sh -c 'truncate -s 8M /run/other.img && qemu-nbd --fork -f raw -x other -k /run/other.sock /run/other.img &&
    nbd-client -unix /run/other.sock -N other /dev/nbd0' >"$work/other.out" 2>&1
device="minor 0" write_conf
alice up r0
alice primary r0
is_device /dev/drbd0
[ "$(at alice blockdev --getsize64 /dev/nbd0)" = $((8 << 20)) ] || fail "the other device has changed"
alice down r0
device="/dev/nbd0 minor 0" write_conf
alice up r0
alice primary r0
says alice 'no block device: the nbd device is in use by something else' || fail "nothing is said of the busy device"
at alice qemu-io -f raw -c 'read -P 7 0 4k' 'nbd+unix:///r0?socket=/run/replica/r0.nbd' >"$work/io.out" 2>&1 || fail "the socket does not serve"
at alice sh -c 'nbd-client -d /dev/nbd0' >"$work/other.out" 2>&1
alice secondary r0
alice primary r0
is_device /dev/nbd0

say "SIGTERM with a device that nobody uses is the orderly end"
daemon alice TERM
await 20 "the daemon is gone" gone_from alice
! exists /sys/block/nbd0/pid || fail "the kernel still has the device"
! exists /dev/replica || fail "/dev/replica is left behind"
no_troubles
