#!/usr/bin/env bash
# Metadata from the administrator's side: control.md items 23 to 25 and 30, with real daemons; two resources whose
# metadata lie on one device in slots, and one with a device of its own for them.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io cmp mkfs.ext3 "$python"

gi='^([0-9A-F]{16}:){4}[01](:[01]){6}$'
nodes_with 64M
item 23 "attach without metadata"
refused 1 '^0: Failure: (119) No valid meta-data signature found.$' alice up r0
refused 10 '^0: Failure: (119) No valid meta-data signature found.$' alice attach r0
said | grep -q "==> Use 'replctl create-md res' to initialize meta-data area. <==" || fail "no hint: $(said)"
refused 1 'No valid meta data found' bob dstate r0
alice create-md r0 >"$work/create-md.out" 2>&1
grep -q '^New drbd meta data block successfully created.$' "$work/create-md.out" || fail "create-md says: $(cat "$work/create-md.out")"
silent alice adjust r0
disks_are alice Inconsistent/DUnknown || fail "alice is $(dstate alice)"

item 24 "create-md: blank, again, forced, in use"
refused 20 "^Device '0' is configured!$" alice create-md --force r0
bob create-md r0 </dev/null >"$work/create-md.out" 2>&1 || fail "create-md on a blank disk: $(cat "$work/create-md.out")"
grep -q 'need to type' "$work/create-md.out" && fail "a question on a blank disk: $(cat "$work/create-md.out")"
again() { bob create-md "$@" r0 </dev/null; }
refused 1 '^Operation cancelled.$' again
said | grep -q 'Do you really want to overwrite the existing meta-data?' || fail "no question: $(said)"
said | grep -q 'stdin not a TTY, not waiting for confirmation' || fail "not why: $(said)"
[ "$(status_of again --force)" = 0 ] || fail "--force: $(said)"
said | grep -q -F '*** confirmation forced via --force option ***' || fail "--force says: $(said)"

item 25 "a full file system is not cut off"
cp "${disk_of[bob]}" "$work/kept.img"
mkfs.ext3 -q -F "${disk_of[bob]}"
refused 40 '^Operation refused.$' again
refused 40 '^Operation refused.$' again --force
said | grep -q 'Found ext3 filesystem' || fail "it says: $(said)"
cp "$work/kept.img" "${disk_of[bob]}"

item 30 "get-gi, online and offline"
[[ "$(alice get-gi r0)" =~ $gi ]] || fail "online: $(alice get-gi r0)"
[[ "$(bob get-gi r0)" =~ $gi ]] || fail "offline: $(bob get-gi r0)"
equal "$(alice get-gi r0)" on alice "$bin/replctl" setup get-gi 0
silent bob up r0
silent alice wait-connect r0
silent alice new-current-uuid --clear-bitmap r0/0
settled
equal "$(alice get-gi r0)" bob get-gi r0
alice show-gi r0 >"$work/show-gi.out"
grep -q 'UpToDate' "$work/show-gi.out" || fail "show-gi: $(cat "$work/show-gi.out")"
online=$(alice get-gi r0)
silent alice down r0
[ "$(alice get-gi r0 | cut -d: -f1-4)" = "$(cut -d: -f1-4 <<<"$online")" ] || fail "$online online, $(alice get-gi r0) offline"
silent bob down r0
# Without the word of a peer nobody knows whether it is up to date.
equal Consistent bob dstate r0

say "metadata in slots of one device, and on a device of their own: three resources at once"
for node in "${nodes[@]}"; do
    truncate -s 300M "$work/$node/slots.img"
    truncate -s 8M "$work/$node/flexible.img"
    for k in 1 2 3; do truncate -s $((k * 16))M "$work/$node/data$k.img"; done
done
# minors NODE: the status file's minors and empty lines, each ended by a bar
minors() { sed -n '3,$p' "$work/$1/run/proc/drbd" | grep -v '^    ' | cut -d' ' -f1-3 | sed 's/ ro:.*//' | tr '\n' '|'; }
place() { # RESOURCE NODE
    case $1 in
        slot0) echo "disk $work/$2/data1.img; meta-disk $work/$2/slots.img[0];" ;;
        slot1) echo "disk $work/$2/data2.img; meta-disk $work/$2/slots.img [1];" ;;
        flexible) echo "disk $work/$2/data3.img; flexible-meta-disk $work/$2/flexible.img;" ;;
    esac
}
{
    echo 'global { usage-count no; disable-ip-verification; }'
    echo 'common { net { timeout 20; ping-int 3; connect-int 3; } disk { c-plan-ahead 0; resync-rate 4194304; } }'
    minor=0
    for resource in slot0 slot1 flexible; do
        case $resource in slot0) minor=0 ;; slot1) minor=1 ;; flexible) minor=10 ;; esac
        echo "resource $resource { device minor $minor;"
        for node in "${nodes[@]}"; do
            echo "on $node { $(place $resource "$node") address ${address_of[$node]}:$((port + 2 + minor)); }"
        done
        echo '}'
    done
} >"$conf"
cleanup_fn kill_others
kill_others() {
    local node resource pid
    for node in "${nodes[@]}"; do
        for resource in slot0 slot1 flexible; do
            pid=$(cat "$work/$node/run/$resource.pid" 2>/dev/null) || continue
            kill -9 "$pid" 2>/dev/null
        done
    done
}
equal 'slot0 slot1 flexible' alice sh-resources
equal $'0\n1\nflexible' alice sh-md-idx all
for node in "${nodes[@]}"; do
    "$node" create-md slot0 flexible </dev/null >"$work/create-md.out" 2>&1 || fail "create-md: $(cat "$work/create-md.out")"
    # As drbdmeta does: whatever begins the device makes it ask, slot 0 too.
    refused 1 "Found some data" "$node" create-md slot1
    "$node" create-md --force slot1 </dev/null >>"$work/create-md.out" 2>&1 || fail "create-md: $(cat "$work/create-md.out")"
    [ "$(grep -c 'successfully created' "$work/create-md.out")" = 3 ] || fail "create-md: $(cat "$work/create-md.out")"
done
silent alice up all
silent bob up all
silent alice wait-connect all
silent alice primary --force all
silent alice wait-sync all
silent bob wait-sync all
for resource in slot0 slot1 flexible; do
    await 20 "$resource is in sync" test "$(alice dstate $resource)" = UpToDate/UpToDate
    silent qemu-io -f raw -c "write -q -P 9 1M 9M" "nbd+unix:///$resource?socket=$work/alice/run/$resource.nbd"
done
[ "$(alice cstate all | sort -u)" = Connected ] || fail "not all are connected: $(alice cstate all)"
item 42 "one status file for all, with an empty line before minor 10"
for node in "${nodes[@]}"; do
    [ "$(minors "$node")" = ' 0: cs:Connected| 1: cs:Connected||10: cs:Connected|' ] || fail "$node: $(cat "$work/$node/run/proc/drbd")"
done
# External metadata leave the whole disk to the data.
equal $((16 * 1048576)) nbdinfo --size "nbd+unix:///slot0?socket=$work/alice/run/slot0.nbd"
silent alice down slot1
[ "$(minors alice)" = ' 0: cs:Connected||10: cs:Connected|' ] || fail "after slot1 is down: $(cat "$work/alice/run/proc/drbd")"
silent alice up slot1
await 20 "slot1 is back" test "$(alice wait-connect slot1; alice cstate slot1)" = Connected
silent alice secondary all
silent alice adjust all
silent alice down all
silent bob down all
for k in 1 2 3; do
    cmp "$work/alice/data$k.img" "$work/bob/data$k.img" || fail "data$k differ"
done
equal 2 wc -l <"$work/alice/run/proc/drbd"
# The slots are apart: each has its own generation.
for resource in slot0 slot1 flexible; do
    equal "$(alice get-gi $resource)" bob get-gi $resource
done
[ "$(alice get-gi all | sort -u | wc -l)" = 3 ] || fail "generations are shared: $(alice get-gi all)"
say "all three are identical: $(alice get-gi all | cut -c1-16 | tr '\n' ' ')"
