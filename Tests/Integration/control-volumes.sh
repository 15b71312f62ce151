#!/usr/bin/env bash
# A resource of two volumes: commands for one of them and for all, both devices, a volume that leaves the configuration.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbdinfo qemu-io cmp

for node in "${nodes[@]}"; do
    mkdir -p "$work/$node/run"
    truncate -s 32M "$work/$node/zero.img"
    truncate -s 24M "$work/$node/one.img"
done
cat >"$conf" <<CONF
global { usage-count no; disable-ip-verification; }
common { net { timeout 20; ping-int 3; connect-int 3; } disk { c-plan-ahead 0; resync-rate 4194304; } }
resource r0 {
    volume 0 { device minor 0; meta-disk internal; }
    volume 1 { device minor 1; meta-disk internal; }
    on alice { address 127.0.0.1:$port; volume 0 { disk $work/alice/zero.img; } volume 1 { disk $work/alice/one.img; } }
    on bob { address 127.0.0.2:$port; volume 0 { disk $work/bob/zero.img; } volume 1 { disk $work/bob/one.img; } }
}
CONF
chmod 600 "$conf"
device() { printf 'nbd+unix:///r0%s?socket=%s/%s/run/r0.nbd' "$2" "$work" "$1"; }
both() { printf '%s\n%s' "$1" "$1"; }

for node in "${nodes[@]}"; do "$node" create-md all >"$work/create-md.out" 2>&1; done
silent alice up r0
silent bob up r0
# Both volumes answer at once.
silent timeout 20 env REPLICA_NODE=alice REPLICA_RUN_DIR="$work/alice/run" "$bin/replctl" -c "$conf" wait-con-int
equal "$(both Connected)" alice cstate r0
equal "$(both Inconsistent/Inconsistent)" alice dstate r0

say "one volume, then all"
silent alice primary --force r0/0
silent alice wait-sync r0/0
equal $'Primary/Secondary\nSecondary/Secondary' alice role r0
equal $'UpToDate/UpToDate\nInconsistent/Inconsistent' alice dstate r0
silent alice primary --force minor-1
silent alice wait-sync all
equal "$(both UpToDate/UpToDate)" alice dstate r0
refused 1 'new-current-uuid requires a specific volume id, but none is specified.' alice new-current-uuid r0
equal $'/dev/drbd0\n/dev/drbd1' alice sh-dev r0
silent alice adjust r0
alice status >"$work/status.out"
[ "$(grep -c 'volume:[01] replication:Established peer-disk:UpToDate' "$work/status.out")" = 2 ] || fail "status: $(cat "$work/status.out")"

say "both devices"
equal $((32 * 1048576 - 40960)) nbdinfo --size "$(device alice '')"
equal $((24 * 1048576 - 40960)) nbdinfo --size "$(device alice %2F1)"
silent qemu-io -f raw -c "write -q -P 3 0 16M" "$(device alice '')"
silent qemu-io -f raw -c "write -q -P 4 4M 8M" "$(device alice %2F1)"
silent qemu-io -f raw -c "read -q -P 3 4M 8M" "$(device alice %2F0)"

say "roles are the volumes' own, and the connection's"
silent alice secondary r0/0
refused 11 '^0: State change failed: (-20) Other vol primary on peer not allowed by config$' bob primary r0/0
silent alice secondary r0
silent bob primary r0
silent qemu-io -f raw -c "read -q -P 4 4M 8M" "$(device bob %2F1)"
silent alice detach r0/1
equal $'UpToDate/UpToDate\nDiskless/UpToDate' alice dstate r0
silent qemu-io -f raw -c "write -q -P 5 0 1M" "$(device bob %2F1)"
silent alice attach r0/1
in_sync() { [ "$(alice dstate r0)" = "$(both UpToDate/UpToDate)" ] && [ "$(bob dstate r0)" = "$(both UpToDate/UpToDate)" ]; }
await 20 "both are UpToDate again" in_sync
kill_node alice
silent qemu-io -f raw -c "write -q -P 6 1M 1M" "$(device bob '')"
alice up r0
await 20 "both are UpToDate again" in_sync
silent bob secondary r0
cmp -n $((32 * 1048576 - 40960)) "$work/alice/zero.img" "$work/bob/zero.img" || fail "volume 0 differs"
cmp -n $((24 * 1048576 - 40960)) "$work/alice/one.img" "$work/bob/one.img" || fail "volume 1 differs"

say "volume 1 leaves the configuration"
sed -i '/^    volume 1 {/d; s/volume 1 { disk[^}]*}//' "$conf"
for node in "${nodes[@]}"; do silent "$node" adjust r0; done
await 20 "connected again" connection_is alice Connected
equal UpToDate/UpToDate alice dstate r0
[ "$(grep -c '^ [0-9]: ' "$work/alice/run/proc/drbd")" = 1 ] || fail "the status file: $(cat "$work/alice/run/proc/drbd")"
silent alice primary r0
silent qemu-io -f raw -c "write -q -P 7 0 1M" "$(device alice '')"
silent alice adjust r0
