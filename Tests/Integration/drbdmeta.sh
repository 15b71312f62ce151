#!/usr/bin/env bash
# Debian's drbdmeta (package drbd-utils) and our metadata tool read, write and apply each other's metadata.
#
#   drbdmeta.sh [REPLCTL]
#
# Needs root and loop devices. Exit status: 0 all agree, 1 they differ, 77 skipped.
# shellcheck disable=SC2086  # some of the commands below are two words
set -u
here=$(cd "$(dirname "$0")" && pwd)
replctl=${1:-$here/../../.build/debug/replctl}
vectors=$here/../ReplicaProtoTests/Vectors/metadata
work=$(mktemp -d)
loops=()
failures=0
checks=0

cleanup() {
    local loop
    for loop in "${loops[@]}"; do losetup -d "$loop" 2>/dev/null; done
    if [ "$failures" -eq 0 ]; then rm -rf "$work"; else echo "evidence is left in $work"; fi
}
trap cleanup EXIT

skip() { echo "SKIPPED: $*"; exit 77; }

command -v drbdmeta >/dev/null || skip "no drbdmeta (package drbd-utils)"
[ -x "$replctl" ] || skip "no $replctl: build it first"
[ "$(id -u)" -eq 0 ] || skip "not root"
truncate -s 1M "$work/probe"
probe=$(losetup --show -f "$work/probe" 2>"$work/probe.err") || skip "losetup: $(cat "$work/probe.err")"
losetup -d "$probe"

fail() { failures=$((failures + 1)); echo "FAILED: $*"; }
# same TEXT EXPECTED FOUND
same() { checks=$((checks + 1)); [ "$2" = "$3" ] || fail "$1: expected '$2', found '$3'"; }
# equal TEXT FILE FILE
equal() { checks=$((checks + 1)); cmp -s "$2" "$3" || fail "$1: $(cmp "$2" "$3" 2>&1)"; }

# attach FILE SIZE [LOSETUP OPTIONS]: a fresh loop device over a file of zeroes; its name in $loop
attach() {
    rm -f "$work/$1"
    truncate -s "$2" "$work/$1"
    loop=$(losetup --show -f "${@:3}" "$work/$1") || { echo "losetup failed"; exit 1; }
    loops+=("$loop")
}
detach() { losetup -d "$1"; }

theirs() { drbdmeta "$@" </dev/null; }
ours() { "$replctl" meta "$@" </dev/null; }

# A dump without date, command line, and the flags that drbdmeta before 9.33 prints as zero.
plain() { sed -e '2,3d' -e 's/^    flags 0x.*/    flags -/' "$1"; }

# compare TEXT DEVICE INDEX: both tools say the same of one device
compare() {
    local command
    for command in get-gi dstate read-dev-uuid; do
        same "$1: $command" "$(theirs - v08 "$2" "$3" $command 2>&1)" "$(ours - v08 "$2" "$3" $command 2>&1)"
    done
    theirs - v08 "$2" "$3" dump-md >"$work/theirs.dump" 2>"$work/theirs.err"; local their_status=$?
    ours - v08 "$2" "$3" dump-md >"$work/ours.dump" 2>"$work/ours.err"; local our_status=$?
    same "$1: dump-md status" $their_status $our_status
    if [ $their_status -eq 0 ]; then
        plain "$work/theirs.dump" >"$work/theirs.plain"
        plain "$work/ours.dump" >"$work/ours.plain"
        equal "$1: dump-md" "$work/theirs.plain" "$work/ours.plain"
        theirs - v08 "$2" "$3" verify-dump "$work/ours.dump" >/dev/null 2>&1
        same "$1: drbdmeta verify-dump of our dump" 0 $?
        ours - v08 "$2" "$3" verify-dump "$work/theirs.dump" >/dev/null 2>&1
        same "$1: our verify-dump of drbdmeta's dump" 0 $?
    else
        same "$1: dump-md stderr" "$(cat "$work/theirs.err")" "$(cat "$work/ours.err")"
    fi
    theirs - v08 "$2" "$3" show-gi | sed -n '/^flags:/,$p' >"$work/theirs.plain"
    ours - v08 "$2" "$3" show-gi | sed -n '/^flags:/,$p' >"$work/ours.plain"
    equal "$1: show-gi" "$work/theirs.plain" "$work/ours.plain"
}

echo "== created by both, byte for byte"
created() { # NAME SIZE INDEX LOSETUP-OPTIONS CREATE-OPTIONS...
    local name=$1 size=$2 index=$3 block=$4
    shift 4
    attach "theirs-$name" "$size" -b "$block"; local a=$loop
    attach "ours-$name" "$size" -b "$block"; local b=$loop
    theirs --force - v08 "$a" "$index" create-md "$@" >/dev/null 2>&1
    same "$name: drbdmeta create-md" 0 $?
    ours - v08 "$b" "$index" create-md "$@" >"$work/out" 2>&1
    same "$name: our create-md" 0 $?
    equal "$name: created" "$work/theirs-$name" "$work/ours-$name"
    compare "$name" "$b" "$index"
    compare "$name (drbdmeta's)" "$a" "$index"
    local gi=1122334455667788:99AABBCCDDEEFF00:0102030405060708:A1A2A3A4A5A6A7A8:1:1:1:0:0:1:0
    theirs --force - v08 "$a" "$index" set-gi $gi >"$work/theirs.out" 2>/dev/null
    ours --force - v08 "$b" "$index" set-gi $gi >"$work/ours.out" 2>/dev/null
    same "$name: set-gi" "$(head -2 "$work/theirs.out")" "$(head -2 "$work/ours.out")"
    equal "$name: after set-gi" "$work/theirs-$name" "$work/ours-$name"
    local command
    for command in "write-dev-uuid 0F1E2D3C4B5A6978" outdate outdate invalidate outdate apply-al check-resize; do
        theirs - v08 "$a" "$index" $command >/dev/null 2>&1; local status=$?
        # drbdmeta before 9.29 answers 1 where it has no record of the size.
        [ "$command" = check-resize ] && status=0
        ours - v08 "$b" "$index" $command >/dev/null 2>&1
        same "$name: $command" $status $?
        equal "$name: after $command" "$work/theirs-$name" "$work/ours-$name"
    done
    compare "$name at the end" "$b" "$index"
    theirs --force - v08 "$b" "$index" wipe-md >/dev/null 2>&1
    ours --force - v08 "$a" "$index" wipe-md >/dev/null 2>&1
    same "$name: our wipe-md" 0 $?
    equal "$name: wiped by the other" "$work/theirs-$name" "$work/ours-$name"
    same "$name: get-gi of nothing" 1 "$(ours - v08 "$a" "$index" get-gi >/dev/null 2>&1; echo $?)"
    detach "$a"; detach "$b"
    rm -f "$work/theirs-$name" "$work/ours-$name"
}
created internal 32M internal 512
created odd 33558016 internal 512
created page 134218240 internal 512
created gibibyte 1G internal 512
created 4kn 32M internal 4096
created striped 64M internal 512 --al-stripes 4 --al-stripe-size-kB 64
created striped3 64M internal 512 --al-stripes 3 --al-stripe-size-kB 12
created flexible 1M flex-external 512
created flexible-odd 1051136 flex-external 512
created index0 256M 0 512
created index1 256M 1 512 --peer-max-bio-size 1M

echo "== every golden log, applied by both"
for before in "$vectors"/al-*.before.bin.gz; do
    name=$(basename "$before" .before.bin.gz)
    size=33554432; start=33513472
    [ "$name" = al-striped-4x64k ] && { size=67108864; start=66838528; }
    attach "theirs-$name" $size; a=$loop
    attach "ours-$name" $size; b=$loop
    for device in "$a" "$b"; do
        gzip -dc "$before" | dd of="$device" bs=4096 seek=$((start / 4096)) conv=notrunc,fsync status=none
    done
    compare "$name before" "$b" internal
    theirs - v08 "$a" internal apply-al >"$work/theirs.out" 2>"$work/theirs.err"; status=$?
    ours - v08 "$b" internal apply-al >"$work/ours.out" 2>"$work/ours.err"
    same "$name: apply-al" $status $?
    sort "$work/theirs.err" >"$work/theirs.plain"; sort "$work/ours.err" >"$work/ours.plain"
    equal "$name: apply-al says" "$work/theirs.plain" "$work/ours.plain"
    equal "$name: applied" "$work/theirs-$name" "$work/ours-$name"
    compare "$name after" "$b" internal
    detach "$a"; detach "$b"
    rm -f "$work/theirs-$name" "$work/ours-$name"
done

echo "== a power cut while the log is initialised"
superblock=$((32 * 1048576 - 4096))
# torn FLAGS BLOCK: what it leaves of metadata with these flags; one block of the ring is half of another
torn() {
    local device
    attach theirs-torn 32M; a=$loop
    attach ours-torn 32M; b=$loop
    for device in "$a" "$b"; do
        theirs --force - v08 "$device" internal create-md >/dev/null 2>&1
        printf '\0\0\0\0\0\0\x40\0' | dd of="$device" bs=1 seek=$superblock conv=notrunc status=none
        # Flags, and the magic of metadata in use.
        printf '%b' "\\0\\0\\0\\x$1\\x83\\x74\\x02\\x6c" | dd of="$device" bs=1 seek=$((superblock + 56)) conv=notrunc status=none
        head -c 2048 /dev/zero | tr '\0' '\021' |
            dd of="$device" bs=1 seek=$((superblock - 32768 + $2 * 4096 + 2048)) conv=notrunc,fsync status=none
    done
    theirs - v08 "$a" internal apply-al >/dev/null 2>&1; status=$?
    ours - v08 "$b" internal apply-al >"$work/out" 2>&1
    same "torn block $2, flags 0x$1: apply-al" $status $?
    equal "torn block $2, flags 0x$1: applied" "$work/theirs-torn" "$work/ours-torn"
    detach "$a"; detach "$b"
}
for block in 0 1 5 7; do
    # As we leave it meanwhile: a former Primary. Were it still PRIMARY_IND, nobody would ever take it again.
    torn 51 $block
    same "torn block $block of a former Primary is nobody's loss" 0 $status
    torn 13 $block
done
same "torn block 7 of a Primary" 1 $status

echo "== dumps of random bitmaps, restored by the other"
attach theirs-restore 200M; a=$loop
attach ours-restore 200M; b=$loop
for seed in 1 2 3 4; do
    {
        printf 'version "v08";\nuuid {\n 0x%016X; 0x%016X; 0x0000000000000000; 0x0000000000000000;\n' $seed 7
        printf ' flags 0x00000091;\n}\nla-size-sect 409000;\nbm-byte-per-bit 4096;\ndevice-uuid 0x%016X;\n' $seed
        printf 'la-peer-max-bio-size 4096;\nal-stripes 1;\nal-stripe-size-4k 8;\nbm {\n'
        awk -v seed=$seed 'BEGIN {
            srand(seed); left = 1024
            while (left > 0) {
                n = 1 + int(rand() * (rand() < 0.3 ? 200 : 3)); if (n > left) n = left
                r = rand()
                if (r < 0.3) word = "0000000000000000"; else if (r < 0.5) word = "FFFFFFFFFFFFFFFF"
                else if (r < 0.6) word = "5555555555555555"
                else word = sprintf("%08X%08X", int(rand() * 4294967295), int(rand() * 4294967295))
                if (n > 1) printf " %d times 0x%s;\n", n, word; else printf " 0x%s;\n", word
                left -= n
            }
        }'
        echo "}"
    } >"$work/dump.$seed"
    theirs --force - v08 "$a" internal create-md >/dev/null 2>&1
    theirs --force - v08 "$a" internal restore-md "$work/dump.$seed" >/dev/null 2>&1
    same "dump $seed: drbdmeta restore-md" 0 $?
    ours --force - v08 "$b" internal restore-md "$work/dump.$seed" >/dev/null 2>&1
    same "dump $seed: our restore-md" 0 $?
    equal "dump $seed: restored" "$work/theirs-restore" "$work/ours-restore"
    compare "dump $seed" "$b" internal
done
detach "$a"; detach "$b"

echo "== existing data"
attach theirs-data 32M; a=$loop
attach ours-data 32M; b=$loop
status_of() { "$@" >/dev/null 2>&1; echo $?; }
refusal() { # TEXT INDEX
    for force in "" --force; do
        same "$1 $force" "$(status_of theirs $force - v08 "$a" "$2" create-md)" "$(status_of ours $force - v08 "$b" "$2" create-md)"
    done
    equal "$1: device" "$work/theirs-data" "$work/ours-data"
}
both() { "$@" "$a" >/dev/null 2>&1 && dd if="$a" of="$b" bs=1M conv=fsync status=none; }
if command -v mkfs.ext4 >/dev/null; then
    both mkfs.ext4 -q -F
    same "ext4 over the whole device" 40 "$(status_of ours - v08 "$b" internal create-md)"
    refusal "ext4 over the whole device" internal
    refusal "ext4, external" flex-external
    dd if=/dev/zero of="$a" bs=1M count=32 status=none
    mkfs.ext4 -q -F "$a" 16M >/dev/null 2>&1; dd if="$a" of="$b" bs=1M conv=fsync status=none
    refusal "ext4 over half of it" internal
fi
dd if=/dev/zero of="$a" bs=1M count=32 status=none
if command -v mkswap >/dev/null; then
    both mkswap
    same "swap" 40 "$(status_of ours - v08 "$b" internal create-md)"
    refusal swap internal
fi
for device in "$a" "$b"; do dd if=/dev/zero of="$device" bs=1M count=32 status=none; echo x | dd of="$device" conv=fsync status=none; done
refusal "some data" internal
detach "$a"; detach "$b"

echo "== devices in use"
attach held 32M; a=$loop
ours - v08 "$a" internal create-md >/dev/null 2>&1
if command -v mkfs.ext2 >/dev/null; then
    attach mounted 32M; b=$loop
    mkfs.ext2 -q -F "$b" && mkdir "$work/mount" && mount "$b" "$work/mount" && {
        same "mounted device" 20 "$(status_of ours - v08 "$b" internal create-md)"
        umount "$work/mount"
    }
    detach "$b"
fi
truncate -s 65536 "$work/small"
same "too small" 10 "$(status_of ours - v08 "$work/small" internal create-md)"
detach "$a"

echo "$checks checks, $failures failures"
[ "$failures" -eq 0 ]
