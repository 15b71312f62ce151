#!/usr/bin/python3
"""Stamps blocks of an NBD export and keeps a journal of what was answered.

    writer.py write URI JOURNAL [--count N] [--depth N] [--seed N] [--span MIB] [--flush]
    writer.py check URI|FILE JOURNAL

Each 4 KiB block written says its own number and the sequence number of its write. The journal gets a line `b SEQ BLOCK
COUNT` before a write is sent, and `d SEQ BLOCK COUNT` when it is answered. No block has two writes in flight, so that
what may be found afterwards is known: the last answered write of a block, or one begun after it.

`write` ends with 0 after N writes or when the connection is lost, with 3 if a write is answered with an error.
`check` ends with 1 if a block holds anything else than it may.
"""
import argparse
import os
import random
import struct
import sys

import nbd

BLOCK = 4096
STAMP = struct.Struct("<QQ")


def content(block, sequence):
    """One block: its stamp, over and over, so that a torn block is seen."""
    return STAMP.pack(block, sequence) * (BLOCK // STAMP.size)


def read_journal(path):
    """The last sequence number, and for each block the last answered write and those begun after it."""
    last, done, begun = 0, {}, {}
    try:
        lines = open(path, encoding="ascii").read().split("\n")[:-1]
    except FileNotFoundError:
        return 0, {}, {}
    for line in lines:
        kind, *numbers = line.split()
        sequence, first, count = map(int, numbers)
        last = max(last, sequence)
        for block in range(first, first + count):
            if kind == "b":
                begun.setdefault(block, []).append(sequence)
            else:
                done[block] = sequence
    for block, sequences in begun.items():
        begun[block] = [s for s in sequences if s > done.get(block, 0)]
    return last, done, begun


def write(arguments):
    generator = random.Random(arguments.seed)
    sequence = read_journal(arguments.journal)[0]
    journal = os.open(arguments.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    handle = nbd.NBD()
    try:
        handle.connect_uri(arguments.target)
    except nbd.Error as error:
        print("can not connect:", error)
        return 4
    blocks = min(handle.get_size(), arguments.span << 20) // BLOCK
    busy, flying, written = set(), {}, 0

    def retire():
        """Takes answers; raises ConnectionResetError when there will be none."""
        for cookie in list(flying):
            number, first, count = flying[cookie]
            try:
                if not handle.aio_command_completed(cookie):
                    continue
            except nbd.Error as error:
                if handle.aio_is_dead() or handle.aio_is_closed():
                    raise ConnectionResetError from error
                print("write", number, "of block", first, "failed:", error)
                sys.exit(3)
            del flying[cookie]
            if number:
                os.write(journal, b"d %d %d %d\n" % (number, first, count))
                busy.difference_update(range(first, first + count))

    try:
        while arguments.count == 0 or written < arguments.count:
            while len(flying) >= arguments.depth:
                handle.poll(-1)
                retire()
            count = generator.choice((1, 1, 1, 2, 8, 16))
            first = generator.randrange(blocks - count)
            if any(block in busy for block in range(first, first + count)):
                if flying:
                    handle.poll(-1)
                retire()
                continue
            sequence += 1
            written += 1
            os.write(journal, b"b %d %d %d\n" % (sequence, first, count))
            data = b"".join(content(block, sequence) for block in range(first, first + count))
            busy.update(range(first, first + count))
            fua = nbd.CMD_FLAG_FUA if generator.random() < 0.05 else 0
            cookie = handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), first * BLOCK, flags=fua)
            flying[cookie] = (sequence, first, count)
            if arguments.flush and generator.random() < 0.02:
                flying[handle.aio_flush()] = (0, 0, 0)
        while flying:
            handle.poll(-1)
            retire()
        handle.shutdown()
    except (nbd.Error, ConnectionResetError) as error:
        # What was answered before the end has not all been looked at.
        try:
            retire()
        except (nbd.Error, ConnectionResetError):
            pass
        print("connection lost after %d writes, %d in flight: %s" % (written, len(flying), error))
        return 0
    print("%d writes answered" % written)
    return 0


def reader(target):
    if not target.startswith("nbd"):
        file = open(target, "rb")

        def from_file(offset, length):
            file.seek(offset)
            return file.read(length)

        return from_file
    handle = nbd.NBD()
    handle.connect_uri(target)
    return lambda offset, length: bytes(handle.pread(length, offset))


def check(arguments):
    last, done, begun = read_journal(arguments.journal)
    read = reader(arguments.target)
    bad = 0
    for block in sorted(set(done) | set(begun)):
        data = read(block * BLOCK, BLOCK)
        allowed = [done.get(block, 0)] + begun.get(block, [])
        found = STAMP.unpack_from(data)
        whole = data == content(*found) if found != (0, 0) else data == bytes(BLOCK)
        if whole and (found == (0, 0) and 0 in allowed or found[0] == block and found[1] in allowed):
            continue
        bad += 1
        if bad <= 10:
            print("block %d holds %s%s, may hold %s" % (block, found, "" if whole else " torn", allowed))
    print("%d blocks of %d writes checked, %d wrong" % (len(set(done) | set(begun)), last, bad))
    return 1 if bad or not done else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "check"))
    parser.add_argument("target")
    parser.add_argument("journal")
    parser.add_argument("--count", type=int, default=0, help="writes; 0: until the connection is lost")
    parser.add_argument("--depth", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--span", type=int, default=1 << 20, help="MiB at the start of the device that are written")
    parser.add_argument("--flush", action="store_true")
    arguments = parser.parse_args()
    sys.exit(write(arguments) if arguments.what == "write" else check(arguments))


main()
