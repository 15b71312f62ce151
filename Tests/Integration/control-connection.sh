#!/usr/bin/env bash
# Connections, adjust and waiting: control.md items 18, 19, 21, 22, 28, 29, with real daemons; IPv6.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io cmp

handshakes() { grep -c 'Handshake successful' "$(log_of "$1")" || true; }
changes() { wc -l <"$(log_of "$1")"; }
milliseconds() { date +%s%3N; }

pair 64M
item 18 "connect twice, disconnect twice"
refused 10 '^r0: Failure: (125) Device has a net-config (use disconnect first)$' alice connect r0
silent alice disconnect r0
silent alice disconnect r0
equal StandAlone alice cstate r0
grep -q '^ 0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----$' "$work/alice/run/proc/drbd" ||
    fail "item 41: the status file says: $(cat "$work/alice/run/proc/drbd")"
item 19 "discard-my-data on a Primary"
refused 10 '^r0: Failure: (123) --discard-my-data not allowed when primary.$' alice -- --discard-my-data connect r0
refused 10 '(123)' alice connect --discard-my-data r0
silent alice connect r0
settled

item 21 "adjust of what runs as configured; up of what is up; down twice"
count=$(changes alice)
silent alice adjust r0
silent alice adjust all
equal '' alice -d adjust r0
[ "$(changes alice)" = "$count" ] || fail "adjust did something: $(tail -n 3 "$(log_of alice)")"
refused 1 "^Device '0' is configured!$" alice up r0
settled
silent bob down r0
silent bob down r0
silent bob down all
[ "$(tail -n +3 "$work/bob/run/proc/drbd" | wc -l)" = 0 ] || fail "minors are left: $(cat "$work/bob/run/proc/drbd")"
silent bob adjust r0
settled

item 22 "adjust: a rate changes nothing else"
count=$(handshakes alice)
write_conf '' 'resync-rate 12M;'
silent alice adjust r0
alice show r0 >"$work/show.out"
grep -q 'resync-rate[[:space:]]*12288k' "$work/show.out" || fail "the rate is not 12M: $(cat "$work/show.out")"
[ "$(handshakes alice)" = "$count" ] || fail "the connection was dropped"
settled_on alice || fail "alice is $(cstate alice)"
silent alice adjust r0
write_conf 'max-buffers 4000;' 'resync-rate 12M;'
silent alice adjust r0
silent bob adjust r0
[ "$(handshakes alice)" = "$count" ] || fail "the connection was dropped for max-buffers"

item 22 "adjust: another address means another connection"
port=$((port + 1))
write_conf 'max-buffers 4000;' 'resync-rate 12M;'
[ "$(alice -d adjust r0 | wc -l)" = 2 ] || fail "not disconnect and connect: $(alice -d adjust r0)"
silent alice adjust r0
silent bob adjust r0
settled
[ "$(handshakes alice)" = $((count + 1)) ] || fail "$(handshakes alice) handshakes"
role_is alice Primary || fail "alice is $(role alice)"

item 22 "adjust: another disk means another attach"
ln "$work/bob/disk.img" "$work/bob/same.img"
disk_of[bob]=$work/bob/same.img
write_conf 'max-buffers 4000;' 'resync-rate 12M;'
silent bob adjust r0
settled
bob show r0 | grep -q "same.img" || fail "the old disk is in use"

say "adjust during a resync"
qemu-io -f raw -c "write -q -P 3 0 40M" "$(uri alice)"
silent bob invalidate r0
await 10 "a resync" connection_is bob SyncTarget
silent bob adjust r0
connection_is bob SyncTarget || fail "adjust ended the resync: $(cstate bob)"
write_conf 'max-buffers 4000;' 'resync-rate 13M;'
silent bob adjust r0
connection_is bob SyncTarget || fail "adjust ended the resync: $(cstate bob)"

item 29 "wait-sync returns at the end of the resync, not before"
[ "$(counter bob oos)" -gt 8192 ] || fail "too late: $(counter bob oos) KiB"
silent bob wait-sync r0
[ "$(counter bob oos) $(cstate bob)" = '0 Connected' ] || fail "$(counter bob oos) KiB are missing, $(cstate bob)"
silent alice wait-sync r0
silent on alice "$bin/replctl" setup wait-sync 0
identical

item 28 "wait-connect with a timeout of 3 s"
silent bob down r0
await 10 "alice is alone" connection_is alice WFConnection
write_conf '' '' 'startup { wfc-timeout 3; }'
before=$(milliseconds)
[ "$(status_of alice wait-connect r0)" = 5 ] || fail "not 5: $(said)"
after=$(($(milliseconds) - before))
if [ "$after" -lt 3000 ] || [ "$after" -ge 4500 ]; then fail "it took $after ms"; fi
background waiter on alice "$bin/replctl" -c "$conf" wait-connect -t 30 r0
waiter=$last
silent bob up r0
await 20 "the wait ends" gone "$waiter"
[ ! -s "$work/waiter.out" ] || fail "it says: $(cat "$work/waiter.out")"
connection_is alice 'Connected|Sync.*|WFBitMap.*|PausedSync.*' || fail "alice is $(cstate alice)"
settled
silent alice wait-connect r0

say "IPv6"
silent alice secondary r0
address_of[alice]='ipv6 [::1]'
write_conf
# One address on this machine, so each side has its own port.
sed -i "s/on bob \(.*\):$port;/on bob \1:$((port + 1));/; s/127.0.0.2/[::1]/" "$conf"
grep -q 'on bob .*\[::1\]' "$conf" || fail "no configuration: $(cat "$conf")"
silent alice adjust r0
silent bob adjust r0
settled
alice dump r0 | grep -q "address  *ipv6 \[::1\]:$port;" || fail "dump: $(alice dump r0)"
equal ::1 alice sh-ip r0
silent alice primary r0
silent qemu-io -f raw -c "write -q -P 7 0 8M" "$(uri alice)"
identical
alice show r0 | grep -q "ipv6 \[::1\]:$((port + 1))" || fail "show: $(alice setup show r0)"
silent alice adjust r0
