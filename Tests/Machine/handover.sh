#!/usr/bin/env bash
# A daemon ends while its device is in use: by SIGTERM the next one goes on with it; not while the peer is Primary; and never with
# the peer's data below a mounted file system.
# directions: alice
# shellcheck disable=SC2016
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

fresh_pair
at alice mkfs.ext4 -q /dev/drbd0
at alice mount /dev/drbd0 /mnt/r0
cp "$(dirname "$0")/pauses.py" "$work/pauses.py"
at alice sh -c "$work/pauses.py /mnt/r0/probe $work/pauses 0.3 </dev/null >/dev/null 2>&1 & echo \$! >/run/prober" >/dev/null 2>&1

say "SIGTERM"
daemon alice TERM
await 20 "the daemon is gone" gone_from alice
at alice test -e /sys/block/nbd0/pid || fail "the kernel's device is gone"
alice up r0
await 30 "alice is Primary" role_is alice Primary
settled
says alice 'what uses it waits for the next daemon' || fail "the daemon did not say what happened"
at alice sh -c 'kill -0 $(cat /run/prober)' || fail "the application ended: $(cat "$work/pauses")"

say "alone"
daemon bob TERM
await 20 "bob is gone" gone_from bob
daemon alice KILL
alice up r0
await 30 "alice is Primary without bob" role_is alice Primary
at alice sh -c 'kill -0 $(cat /run/prober)' || fail "the application ended: $(cat "$work/pauses")"
bob up r0
settled
no_troubles

say "while bob is Primary alice's applications wait"
at alice sh -c 'kill $(cat /run/prober); sync'
daemon alice KILL
await 30 "bob is alone" connection_is bob WFConnection
bob primary r0
at bob sh -c 'mount /dev/drbd0 /mnt/r0 && echo of bob >/mnt/r0/bob && umount /mnt/r0'
alice up r0 || true
# bob's data comes to alice; what is mounted there belongs to other data.
await 30 "alice gives up the device" says alice 'its data is not what this node holds now'
if at alice sh -c 'echo late >/mnt/r0/late && sync /mnt/r0/late' >"$work/late.out" 2>&1; then fail "alice still writes"; fi
role_is alice Secondary || fail "alice is $(role alice)"
settled
at alice sh -c 'umount /mnt/r0'
bob secondary r0
alice primary r0
at alice mount /dev/drbd0 /mnt/r0
[ "$(at alice cat /mnt/r0/bob)" = "of bob" ] || fail "alice does not have bob's file"
at alice umount /mnt/r0
alice secondary r0
same "in the end"
