#!/usr/bin/env bash
# Resources that depend on each other (resync-after), I/O frozen by command, a volume that comes to a connected resource,
# and addresses of IPv6.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io cmp nbdinfo

for node in "${nodes[@]}"; do
    mkdir -p "$work/$node/run"
    for disk in first second third; do truncate -s 32M "$work/$node/$disk.img"; done
done
# second_volume WANTED DIRECTORY
second_volume() { [ -z "$1" ] || printf 'volume 1 { device minor 2; meta-disk internal; disk %s/third.img; }' "$2"; }
# write_conf [AFTER [VOLUME1]]: what r1 waits for; r0 has a second volume
write_conf() {
    cat >"$conf" <<CONF
global { usage-count no; disable-ip-verification; }
common { net { timeout 20; ping-int 3; connect-int 3; } disk { c-plan-ahead 0; resync-rate 10M; c-min-rate 0; } }
resource r0 {
    on alice { address ipv6 [::1]:$port; volume 0 { device minor 0; meta-disk internal; disk $work/alice/first.img; } $(second_volume "${2:-}" "$work/alice") }
    on bob { address ipv6 [::1]:$((port + 1)); volume 0 { device minor 0; meta-disk internal; disk $work/bob/first.img; } $(second_volume "${2:-}" "$work/bob") }
}
resource r1 {
    device minor 1; meta-disk internal;
    disk { ${1:+resync-after $1;} }
    on alice { address 127.0.0.1:$port; disk $work/alice/second.img; }
    on bob { address 127.0.0.2:$port; disk $work/bob/second.img; }
}
CONF
    chmod 600 "$conf"
}
state_of() { "$1" cstate "$2" 2>/dev/null; }
state_is() { [ "$(state_of "$1" "$2")" = "$3" ]; }
flags_of() { "$1" proc | sed -n "s/^ $2: .* \([-a-z]*\)$/\1/p"; }

write_conf r0
for node in "${nodes[@]}"; do "$node" create-md all >"$work/create-md.out" 2>&1; done
silent alice up all
silent bob up all
for resource in r0 r1; do await 20 "$resource is connected" state_is alice $resource Connected; done

say "IPv6 is shown as it is written"
equal "address ipv6 [::1]:$port;" sh -c "REPLICA_NODE=alice REPLICA_RUN_DIR=$work/alice/run $bin/replctl -c $conf dump r0 | grep -o 'address.*::1.*$port;' | tr -s ' \t' ' '"
alice -d connect r0 >"$work/plan.out"
has_line "ipv6:\[::1\]:$port ipv6:\[::1\]:$((port + 1))" "$work/plan.out" || fail "the plan: $(cat "$work/plan.out")"

say "r1 waits while r0 is paused"
silent alice primary --force r0
await 10 "r0 is synchronised" state_is alice r0 SyncSource
silent alice pause-sync r0
silent alice primary --force r1
await 20 "r1 waits: $(state_of alice r1)" state_is alice r1 PausedSyncS
await 20 "bob's, too" state_is bob r1 PausedSyncT
# Each node looks at its own processes, and says so to the other.
flags_are() { [[ "$(flags_of "$1" "$2")" = $3* ]]; }
for node in alice bob; do await 5 "flags of r1 on $node: $(flags_of "$node" 1)" flags_are "$node" 1 rap; done
silent alice resume-sync r0
await 20 "r0 is in sync" state_is alice r0 Connected
await 20 "r1 is in sync" state_is alice r1 Connected

say "a dead process blocks nobody"
silent bob invalidate r0
silent bob pause-sync r0
silent bob invalidate r1
await 20 "r1 waits" state_is bob r1 PausedSyncT
kill_node bob
await 20 "r1 goes on: $(state_of bob r1)" state_is bob r1 Connected
silent bob up r0
silent alice wait-sync r0

say "who waits for himself, and in circles"
refused 10 '^1: Failure: (133) ' alice disk-options --resync-after=1 r1
refused 10 '^0: Failure: (133) ' alice disk-options --resync-after=1 r0

say "frozen by command"
silent alice suspend-io r0
[[ "$(flags_of alice 0)" = s* ]] || fail "flags: $(flags_of alice 0)"
background write qemu-io -f raw -c "write -q -P 9 0 1M" "$(uri alice)"
! within 1 test ! -e "/proc/$last" || fail "a write ended while I/O was frozen"
silent alice resume-io r0
await 10 "the write ends" test ! -e "/proc/$last"
[[ "$(flags_of alice 0)" = r* ]] || fail "flags: $(flags_of alice 0)"
silent alice suspend-io r0
silent alice resume-io r0
silent alice resume-io r0
silent qemu-io -f raw -c "read -q -P 9 0 1M" "$(uri alice)"

say "a volume comes to a connected resource"
write_conf "" two
for node in "${nodes[@]}"; do "$node" create-md --force r0/1 >"$work/create-md.out" 2>&1; done
silent alice adjust r0
silent bob adjust r0
both() { [ "$("$1" cstate r0)" = $'Connected\nConnected' ]; }
await 20 "both volumes are connected: $(alice cstate r0)" both alice
silent alice primary --force r0/1
silent alice wait-sync r0
silent qemu-io -f raw -c "write -q -P 6 0 4M" "nbd+unix:///r0%2F1?socket=$work/alice/run/r0.nbd"
silent qemu-io -f raw -c "read -q -P 9 0 1M" "$(uri alice)"
equal $'UpToDate/UpToDate\nUpToDate/UpToDate' alice dstate r0

say "resize of a file, and what a client sees"
resized() { [ "$(nbdinfo --size "$(uri alice)")" = $((48 * 1048576 - 40960)) ]; }
for node in "${nodes[@]}"; do truncate -s 48M "$work/$node/first.img"; done
silent alice resize r0/0
await 20 "r0/0 has its size" resized
await 20 "r0/0 is in sync" both alice
silent qemu-io -f raw -c "write -q -P 5 40M 1M" -c "read -q -P 9 0 1M" "$(uri alice)"
truncate -s 20M "$work/bob/first.img"
refused 10 '^0: Failure: (170) ' bob resize r0/0
truncate -s 48M "$work/bob/first.img"
silent alice secondary all
refused 10 '^1: Failure: (131) ' bob resize r1
