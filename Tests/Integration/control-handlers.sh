#!/usr/bin/env bash
# Handlers: control.md items 43 to 45 with real daemons, what the log says of them, and how long they may take.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io

tools
verdict=$work/verdict
# handler NAME BODY: a script with what every handler notes, and the name by which the configuration calls it
handler() {
    {
        echo '#!/bin/sh'
        echo "{ echo \"pwd=\$PWD\"; env; } >$work/$1.env.new; mv $work/$1.env.new $work/$1.env"
        # The status file must already show why, under the only name that handlers made for DRBD know.
        echo "cat /proc/drbd >$work/$1.proc 2>/dev/null"
        echo "$2"
    } >"$work/$1.sh"
    chmod 755 "$work/$1.sh"
}
noted() { [ -s "$work/$1.env" ]; }
forget() { rm -f "$work"/*.env "$work"/*.proc; }
has() { grep -q -x -F -e "$2" "$work/$1.env" || fail "$1's environment has no '$2': $(cat "$work/$1.env")"; }
flags() { sed -n 's/^ 0: cs:.* \([rs][-a-z]*\)$/\1/p' "$work/$1/run/proc/drbd"; }
said_in_log() { await 10 "$1's log says '$2'" has_line "$2" "$(log_of "$1")"; }
helper=$(realpath "$bin")/replctl

# The handler asks the same resource before it gives its verdict: no dead-lock.
handler fence-peer "$bin/replctl -c \$DRBD_CONF role r0 >$work/fence-peer.role 2>&1; exit \$(cat $verdict)"
handler before-resync-target "exit \$(cat $work/sync-verdict)"
handlers="fence-peer \"$work/fence-peer.sh\"; before-resync-target \"$work/before-resync-target.sh\";"
echo 4 >"$verdict"
echo 0 >"$work/sync-verdict"
pair 64M '' 'fencing resource-and-stonith; resync-rate 4G;' "handlers { $handlers }"

# state_after CODE OF-PEER-DISK: bob dies, the handler ends with the code
state_after() {
    local code=$1
    forget
    echo "$code" >"$verdict"
    : >"$(log_of alice)"
    kill_node bob
    await 20 "fence-peer runs" noted fence-peer
    said_in_log alice "helper command: $helper fence-peer r0\$"
    said_in_log alice "helper command: $helper fence-peer r0 exit code $code (0x$(printf '%x' $((code << 8))))\$"
    grep -q '^ 0: cs:[A-Za-z]* ro:Primary/Unknown ds:UpToDate/DUnknown C s---d-$' "$work/fence-peer.proc" ||
        fail "fence-peer sees: $(cat "$work/fence-peer.proc")"
    [ "$(cat "$work/fence-peer.role")" = Primary/Unknown ] || fail "role inside of fence-peer: $(cat "$work/fence-peer.role")"
}
peer_disk_is() { disks_are alice "UpToDate/$1"; }
flags_are() { [ "$(flags alice)" = "$1" ]; }
back() {
    bob up r0
    settled
}

item 43 "fence-peer: each verdict"
for code in 3 4 5 7; do
    case $code in 3) disk=Inconsistent ;; *) disk=Outdated ;; esac
    state_after $code
    await 10 "the peer's disk is $disk after $code" peer_disk_is $disk
    await 10 "I/O goes on after $code" flags_are r-----
    silent qemu-io -f raw -c "write -q -P $code 0 64k" "$(uri alice)"
    say "$code: $(dstate alice), I/O goes on"
    if [ $code = 4 ]; then
        item 44 "the environment of a handler"
        for line in DRBD_RESOURCE=r0 "DRBD_CONF=$conf" DRBD_MINOR=0 DRBD_VOLUME=0 "DRBD_LL_DISK=${disk_of[alice]}" \
            DRBD_PEER=bob DRBD_PEERS=bob DRBD_PEER_AF=ipv4 DRBD_PEER_ADDRESS=127.0.0.2 HOME=/ TERM=linux \
            PATH=/sbin:/usr/sbin:/bin:/usr/bin pwd=/; do
            has fence-peer "$line"
        done
        grep -q -i 'secret' "$work/fence-peer.env" && fail "a secret in the environment"
    fi
    back
done
state_after 1
said_in_log alice 'fence-peer helper broken, returned 1'
flags_are s---d- || fail "I/O is not frozen: $(flags alice)"
background frozen qemu-io -f raw -c "write -q -P 8 0 64k" "$(uri alice)"
frozen=$last
within 1 gone "$frozen" && fail "a write was answered although I/O is frozen"
peer_disk_is DUnknown || fail "alice is $(dstate alice)"
silent alice resume-io r0
await 10 "the frozen write is answered" gone "$frozen"
[ ! -s "$work/frozen.out" ] || fail "the frozen write says: $(cat "$work/frozen.out")"
say "1: frozen until resume-io"
back

say "6: the peer is Primary"
silent alice secondary r0
forget
kill_node bob
await 20 "alice is alone" connection_is alice WFConnection
echo 6 >"$verdict"
refused 11 '^0: State change failed: (-7) Refusing to be Primary while peer is not outdated$' alice primary r0
said_in_log alice 'Peer is primary, outdating myself'
disks_are alice Outdated/DUnknown || fail "alice is $(dstate alice)"
refused 17 '(-2)' alice primary r0
back
say "the other verdicts when promoted apart"
kill_node bob
await 20 "alice is alone" connection_is alice WFConnection
echo 1 >"$verdict"
refused 11 '(-7)' alice primary r0
echo 4 >"$verdict"
silent alice primary r0
equal UpToDate/Outdated alice dstate r0
back

say "a handler that takes too long"
write_conf '' 'fencing resource-and-stonith; resync-rate 4G;' "handlers { fence-peer \"echo \$\$ >$work/slow.pid; exec sleep 600\"; }"
sed -i 's/^global { /&cmd-timeout-long 1; /' "$conf"
# Nothing but the configuration changes: adjust hands it over, silently.
silent alice adjust r0
: >"$(log_of alice)"
kill_node bob
said_in_log alice "helper command: $helper fence-peer r0 did not terminate within 1 seconds and is killed"
said_in_log alice 'fence-peer helper broken'
flags_are s---d- || fail "I/O is not frozen: $(flags alice)"
await 5 "the handler is killed" gone "$(cat "$work/slow.pid")"
silent alice resume-io r0

item 45 "before-resync-target that fails: no resync, StandAlone"
echo 1 >"$work/sync-verdict"
write_conf '' 'resync-rate 4G;' "handlers { $handlers }"
silent alice adjust r0
silent qemu-io -f raw -c "write -q -P 9 0 8M" "$(uri alice)"
forget
: >"$(log_of bob)"
bob up r0
await 20 "before-resync-target runs" noted before-resync-target
said_in_log bob "helper command: $helper before-resync-target minor-0 exit code 1 (0x100)"
await 20 "bob gives up" connection_is bob StandAlone
has before-resync-target DRBD_MINOR=0
grep -q '^ 0: cs:WF[A-Za-z]* ro:Secondary/Primary ds:[A-Z][a-z]*/UpToDate' "$work/before-resync-target.proc" ||
    fail "it sees: $(cat "$work/before-resync-target.proc")"
[ "$(counter bob nr)" = 0 ] || fail "$(counter bob nr) KiB were copied"
echo 0 >"$work/sync-verdict"
silent bob adjust r0
settled
identical

say "by hand"
silent alice before-resync-target minor-0
echo 5 >"$verdict"
[ "$(status_of alice fence-peer r0)" = 5 ] || fail "by hand: $(said)"
[ "$(status_of on alice "$tools/drbdadm" -c "$conf" outdate-peer r0)" = 5 ] || fail "by its old name: $(said)"
[ "$(status_of alice split-brain r0)" = 0 ] || fail "one that is not configured: $(said)"
