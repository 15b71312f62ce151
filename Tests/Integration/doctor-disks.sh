#!/usr/bin/env bash
# The doctor and disks, metadata, resyncs and frozen I/O: it names what is wrong, and what it prescribes mends it.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires qemu-io mkfs.xfs

# Each node remembers for itself where the metadata of its disks lies.
on() {
    local node=$1
    shift
    env REPLICA_NODE="$node" REPLICA_RUN_DIR="$work/$node/run" REPLICA_LIB_DIR="$work/$node/lib" "$@"
}
writes() { qemu-io -f raw -c "write -q -P $2 $3 64k" -c flush "$(uri "$1")"; }

pair 64M
writes alice 1 0
healthy

say "disks that are let go of"
bob detach r0
diagnosed alice 1 peer-disk-gone
diagnosed bob 1 no-disk 'alice has good data'
treated no-disk
healthy
alice detach r0
diagnosed alice 1 no-disk "read and write bob's disk"
treated no-disk
healthy
bob detach r0
diagnosed alice 1 peer-disk-gone
treated peer-disk-gone
healthy

say "a Primary without data"
alice detach r0
kill_node bob
diagnosed alice 2 primary-without-data
treated primary-without-data 0
healthy
kill_node bob
alice detach --force r0
diagnosed alice 2 primary-without-data
treated primary-without-data 1
diagnosed alice 1 peer-not-listening
treated peer-not-listening
healthy

say "another disk instead"
bob down r0
mv "${disk_of[bob]}" "$work/bob/good.img"
diagnosed bob 2 disk-unreadable 'No such file'
truncate -s 8K "${disk_of[bob]}"
diagnosed bob 2 disk-too-small
rm "${disk_of[bob]}"
truncate -s 64M "${disk_of[bob]}"
diagnosed bob 1 metadata-missing
treated metadata-missing
healthy
identical
bob down r0
rm "${disk_of[bob]}"
truncate -s 300M "${disk_of[bob]}"
mkfs.xfs -q -f "${disk_of[bob]}"
truncate -s 64M "${disk_of[bob]}"
diagnosed bob 1 metadata-foreign 'xfs filesystem.*wrong disk'
treated metadata-foreign 1
healthy
bob down r0
# Where the superblock is: the magic number of DRBD 9.
printf '\x83\x74\x02\x6d' | dd of="${disk_of[bob]}" bs=1 seek=$((64 * 1048576 - 4096 + 60)) conv=notrunc status=none
diagnosed bob 1 metadata-foreign v09
treated metadata-foreign
healthy
identical

say "a disk that grew"
bob down r0
truncate -s 80M "${disk_of[bob]}"
diagnosed bob 1 metadata-moved 'Nothing is lost'
treated metadata-moved
healthy

say "metadata that does not fit"
bob down r0
truncate -s 64M "${disk_of[bob]}"
bob create-md --force r0 >"$work/create-md.out" 2>&1
printf '\0\0\0\x08' | dd of="${disk_of[bob]}" bs=1 seek=$((64 * 1048576 - 4096 + 68)) conv=notrunc status=none
diagnosed bob 2 metadata-damaged 'strange al_offset'
treated metadata-damaged
healthy
identical

say "a resync: running, paused, interrupted"
alice disk-options --resync-rate=1M r0
bob disk-options --resync-rate=1M r0
bob invalidate r0
diagnosed alice 0 resync-running '% done'
diagnosed bob 0 resync-running 'from alice to bob'
bob pause-sync r0
diagnosed bob 1 resync-paused 'a command on bob'
diagnosed alice 1 resync-paused 'paused by bob'
treated resync-paused
diagnosed alice 0 resync-running
alice disconnect r0
diagnosed bob 1 inconsistent 'was not finished'
diagnosed bob 1 peer-not-listening
treated peer-not-listening
diagnosed bob 0 resync-running
alice disk-options --resync-rate=4G r0
bob disk-options --resync-rate=4G r0
healthy
identical

say "frozen by a command"
alice suspend-io r0
diagnosed alice 2 frozen-by-user
treated frozen-by-user
healthy

say "frozen until the peer is fenced"
write_conf '' 'fencing resource-and-stonith; resync-rate 4G;' "handlers { fence-peer \"exit 1\"; }"
alice adjust r0
bob adjust r0
kill_node bob
diagnosed alice 2 frozen-for-fencing
treated frozen-for-fencing 0
healthy
kill_node bob
diagnosed alice 2 frozen-for-fencing 'surely not Primary'
treated frozen-for-fencing 1
diagnosed alice 1 peer-not-listening
treated peer-not-listening
healthy

say "outdated, and whole but not known to be the newest"
alice secondary r0
bob disconnect r0
bob outdate r0
diagnosed bob 1 outdated 'alice has newer'
treated disconnected
healthy
alice down r0
bob down r0
bob up r0
diagnosed bob 1 consistent
diagnosed alice 1 down
treated down
healthy

say "no good copy is left"
write_conf
alice adjust r0
bob adjust r0
alice primary r0
writes alice 3 3M
alice secondary r0
alice disconnect r0
bob disconnect r0
alice down r0
bob down r0
for node in alice bob; do
    "$node" create-md --force r0 >"$work/create-md.out" 2>&1
    "$node" set-gi --force 1234567812345678:0:0:0:0:0 r0 >"$work/set-gi.out" 2>&1
    "$node" up r0
done
diagnosed alice 2 no-good-data 'is declared good as it is'
treated no-good-data
healthy
identical
say "each of it is mended by what the doctor says"
