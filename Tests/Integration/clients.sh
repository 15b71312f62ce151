#!/usr/bin/env bash
# NBD clients that others wrote, over a pair under protocol C: what they agree on is on both disks in the end.
# shellcheck source-path=SCRIPTDIR source=functions.sh
. "$(dirname "$0")/functions.sh"
requires nbd nbdinfo nbdcopy qemu-img qemu-io fio nbd-client socat

# step TEXT COMMAND...: says what is next; its output is shown if it fails.
step() {
    local text=$1
    shift
    say "$text"
    "$@" >"$work/step.out" 2>&1 || fail "$text: $*"
}

pair 96M
here_uri=$(uri alice)
bytes=$(data_bytes)

say "nbdinfo"
nbdinfo "$here_uri" >"$work/step.out"
for line in 'protocol: newstyle-fixed' "export-size: $bytes" 'can_flush: true' 'can_fua: true' 'can_trim: true' \
    'can_zero: true' 'can_multi_conn: true' 'is_read_only: false' 'block_size_preferred: 4096'; do
    grep -q "$line" "$work/step.out" || fail "nbdinfo does not say '$line'"
done
nbdinfo --list "$here_uri" >"$work/step.out"
grep -q 'export="r0"' "$work/step.out" || fail "r0 is not listed"
[ "$(nbdinfo --size "nbd+unix:///?socket=$work/alice/run/r0.nbd")" = "$bytes" ] || fail "no default export"
refused 1 'not supported' nbdinfo "$(uri bob)"
refused 1 'r0 is Secondary' qemu-img info -f raw "$(uri bob)"
refused 1 '' nbdinfo "nbd+unix:///nothing?socket=$work/alice/run/r0.nbd"

say "nbd-client, by TCP"
tcp=$((20000 + RANDOM % 20000))
background socat socat "TCP-LISTEN:$tcp,bind=127.0.0.1,reuseaddr,fork" "UNIX-CONNECT:$work/alice/run/r0.nbd"
listed() { nbd-client -l 127.0.0.1 "$tcp" >"$work/step.out" 2>&1 && grep -qw r0 "$work/step.out"; }
await 20 "nbd-client lists r0" listed
step "nbdinfo, by TCP" nbdinfo "nbd://127.0.0.1:$tcp/r0"

head -c "$bytes" /dev/urandom >"$work/image"
step "nbdcopy there" nbdcopy --flush "$work/image" "$here_uri"
step "and back" nbdcopy "$here_uri" "$work/copy"
cmp "$work/image" "$work/copy"
step "with one connection, synchronous, requests of 512 KiB" nbdcopy --synchronous --request-size=524288 "$work/image" "$here_uri"
truncate -s "$bytes" "$work/sparse"
dd if="$work/image" of="$work/sparse" bs=1M count=8 seek=16 conv=notrunc status=none
step "nbdcopy of holes" nbdcopy --flush "$work/sparse" "$here_uri"
step "qemu-img compares" qemu-img compare -f raw -F raw "$work/sparse" "$here_uri"
step "qemu-img converts there" qemu-img convert -n -f raw -O raw "$work/image" "$here_uri"
step "and from there to qcow2" qemu-img convert -f raw -O qcow2 "$here_uri" "$work/copy.qcow2"
step "which are equal" qemu-img compare -f raw -F qcow2 "$work/image" "$work/copy.qcow2"
rm -f "$work/copy" "$work/copy.qcow2" "$work/sparse"

say "qemu-io: patterns, zeroes, discards, FUA, odd sectors"
silent qemu-io -f raw -c "write -q -P 170 0 4M" -c "write -q -P 187 1536 512" -c "write -q -f -P 204 4M 64k" -c "write -q -z 1M 1M" \
    -c "write -q -z -u 2M 512k" -c "discard -q 3M 512k" -c "aio_write -q -P 221 5M 1M" -c "aio_write -q -P 238 6M 1M" \
    -c aio_flush -c flush "$here_uri"
silent qemu-io -f raw -c "read -q -P 170 0 1536" -c "read -q -P 187 1536 512" -c "read -q -P 170 2k 1022k" -c "read -q -P 0 1M 1536k" \
    -c "read -q -P 170 2560k 512k" -c "read -q -P 170 3584k 512k" -c "read -q -P 204 4M 64k" -c "read -q -P 221 5M 1M" \
    -c "read -q -P 238 6M 1M" "$here_uri"

load() { # NAME OPTIONS...
    local name=$1
    shift
    step "fio: $name" fio --name="$name" --ioengine=nbd --uri="$here_uri" --output-format=terse --aux-path="$work" "$@"
}
checked=(--verify=crc32c --verify_fatal=1 --do_verify=1 --verify_backlog=256)
load depth-1 --rw=randwrite --bs=4k --iodepth=1 --io_size=2M --size=32M "${checked[@]}"
load depth-16 --rw=randrw --bsrange=512-64k --bs_unaligned=0 --iodepth=16 --io_size=24M --size=32M "${checked[@]}"
load depth-64 --rw=randwrite --bs=4k --iodepth=64 --io_size=16M --size=64M "${checked[@]}"
load large --rw=write --bs=1M --iodepth=8 --size=64M "${checked[@]}"
load trims --rw=randtrimwrite --bs=64k --iodepth=8 --io_size=24M --size=64M
load trims-beside --rw=randtrim --bs=64k --iodepth=8 --offset=64M --size=24M --io_size=16M \
    --name=checked --ioengine=nbd --uri="$here_uri" --rw=randwrite --bs=16k --iodepth=16 --io_size=8M --size=32M "${checked[@]}"
load four-jobs --rw=randwrite --bs=16k --iodepth=8 --numjobs=4 --size=16M --offset_increment=16M "${checked[@]}"

step "libnbd" "$python" - "$here_uri" <<'PYTHON'
import errno
import os
import sys

import nbd

uri = sys.argv[1]

def connect(structured=True):
    handle = nbd.NBD()
    # What is wrong must reach the server.
    handle.set_strict_mode(0)
    handle.set_request_structured_replies(structured)
    handle.connect_uri(uri)
    return handle

def refused(what, expected, call):
    try:
        call()
    except nbd.Error as error:
        assert error.errnum in expected, (what, error)
        return
    raise AssertionError(what + " was not refused")

first, second, simple = connect(), connect(), connect(False)
size = first.get_size()
assert first.get_structured_replies_negotiated() and not simple.get_structured_replies_negotiated()
assert first.can_multi_conn()

# What one connection flushed, another reads.
data = os.urandom(1 << 20)
first.pwrite(data, 123 * 512)
first.flush()
assert second.pread(len(data), 123 * 512) == data
assert simple.pread(len(data), 123 * 512) == data
second.pwrite(b"\x5a" * 4096, 8192, nbd.CMD_FLAG_FUA)
assert first.pread(4096, 8192) == b"\x5a" * 4096

# Structured reads, whole and in pieces.
pieces = []
first.pread_structured(65536, 0, lambda piece, offset, status, error: pieces.append((offset, len(piece), status)) or 0)
assert sum(length for _, length, _ in pieces) == 65536, pieces
pieces.clear()
first.pread_structured(65536, 0, lambda piece, offset, status, error: pieces.append(len(piece)) or 0, nbd.CMD_FLAG_DF)
assert pieces == [65536], pieces

# As large as it gets, in both directions.
large = os.urandom(64 << 20)
first.pwrite(large, 4096)
assert second.pread(len(large), 4096) == large

# Zeroes and discards.
first.zero(1 << 20, 1 << 20)
assert second.pread(1 << 20, 1 << 20) == bytes(1 << 20)
first.zero(1 << 20, 3 << 20, nbd.CMD_FLAG_NO_HOLE)
assert second.pread(1 << 20, 3 << 20) == bytes(1 << 20)
first.trim(1 << 20, 5 << 20)
first.cache(1 << 20, 0)

# Mistakes are answered, and the connection goes on.
beyond = (errno.EINVAL, errno.ENOSPC)
for handle in (first, simple):
    refused("read beyond the end", beyond, lambda: handle.pread(4096, size))
    refused("read over the end", beyond, lambda: handle.pread(4096, size - 512))
    refused("write over the end", beyond, lambda: handle.pwrite(bytes(4096), size - 512))
    refused("zeroes over the end", beyond, lambda: handle.zero(4096, size - 512))
    refused("a trim over the end", beyond, lambda: handle.trim(4096, size - 512))
    refused("a far offset", beyond, lambda: handle.pread(512, (1 << 63) - 512))
    refused("an unaligned read", (errno.EINVAL,), lambda: handle.pread(100, 7))
    refused("an unaligned write", (errno.EINVAL,), lambda: handle.pwrite(bytes(100), 7))
    refused("an unknown flag", (errno.EINVAL,), lambda: handle.pread(512, 0, 1 << 13))
    refused("an empty read", (errno.EINVAL,), lambda: handle.pread(0, 0))
    refused("an empty write", (errno.EINVAL,), lambda: handle.pwrite(b"", 0))
    assert handle.pread(4096, 8192) == second.pread(4096, 8192)
for handle in (first, second, simple):
    handle.shutdown()
print("all as expected")
PYTHON

say "at rest"
settled
identical
role_is alice Primary || fail "alice is $(role alice)"
step "demotion when the last client has left" alice secondary r0
