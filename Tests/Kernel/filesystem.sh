#!/usr/bin/env bash
# A file system's journal: many small files, each of them synchronised, then the other side's copy is checked.
# directions: kernel ours
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"

mount_on_kernel() { guest sh -c 'mkdir -p /mnt/drbd && mount /dev/drbd0 /mnt/drbd'; }
both_fresh "protocol C;"
if [ "$one" = carol ]; then
    guest mkfs.ext4 -q -F /dev/drbd0
    mount_on_kernel
    guest -t 120 fio --name=files --directory=/mnt/drbd --rw=randwrite --bs=4k --size=2M --nrfiles=8 --numjobs=2 \
        --fsync=1 --ioengine=psync --verify=crc32c --verify_state_save=0 --output-format=terse >"$work/fio.out" 2>&1 ||
        fail "fio on the file system: $(tail -n 3 "$work/fio.out")"
    # shellcheck disable=SC2016
    guest sh -c 'for i in 1 2 3 4 5 6 7 8 9; do mkdir /mnt/drbd/$i; echo $i >/mnt/drbd/$i/file; sync; done; rm -r /mnt/drbd/5'
    guest sh -c 'cd /mnt/drbd && find . -type f -exec sha256sum {} +' >"$work/sums"
    guest umount /mnt/drbd
    same "after the file system's load"
    carol secondary r0
    alice primary r0
    head -c "$(data_bytes)" "${disk_of[alice]}" >"$work/copy.img"
    e2fsck -fn "$work/copy.img" >"$work/fsck.out" 2>&1 || fail "our copy is no clean file system"
else
    load alice --rw=randwrite --fsync=1 --iodepth=4 --io_size=8M || fail "fio: $(tail -n 3 "$work/fio.out")"
    same "after a flush for each write"
    mkdir "$work/tree"
    for i in 1 2 3 4 5 6; do head -c 700K /dev/urandom >"$work/tree/$i"; done
    truncate -s "$(data_bytes)" "$work/fs.img"
    mkfs.ext4 -q -F -d "$work/tree" "$work/fs.img"
    nbdcopy --flush "$work/fs.img" "$(uri alice)"
    same "with a file system"
    alice secondary r0
    carol primary r0
    mount_on_kernel
    (cd "$work/tree" && sha256sum -- *) >"$work/sums"
    guest sh -c "cd /mnt/drbd && sha256sum --quiet -c $work/sums" || fail "the kernel reads other files than we were given"
    guest umount /mnt/drbd
    guest e2fsck -fn /dev/drbd0 >"$work/fsck.out" 2>&1 || fail "the kernel's copy is no clean file system"
fi
same "in the end"
