#!/usr/bin/python3
"""Records on a file system, each acknowledged outside of the machine once it is synchronised, and what must be left of them.

    records.py collect ADDRESS PORT JOURNAL
    records.py write DIRECTORY ADDRESS PORT FIRST
    records.py check DIRECTORY JOURNAL

`collect` listens and puts each line that comes into JOURNAL. `write` has several threads, each of which does one thing after
the other, synchronises it and sends a line `THREAD NUMBER`; their numbers begin at FIRST, which no run before has reached. What a
thread does with a number follows from the number:

    append        a record to log.THREAD.FIRST
    create        new.THREAD.NUMBER is written, synchronised, renamed to kept.THREAD.NUMBER, and then the directory
    replace       a block of blocks.THREAD is overwritten
    remove        the file that was kept before the last one is removed, and then the directory is synchronised

`check` ends with 1 and a line for each thing that is not as acknowledged. A thing begun and not acknowledged may have happened
or not, and nothing between.
"""
import mmap
import os
import random
import re
import socket
import struct
import sys
import threading
import time
import zlib

THREADS = 3
BLOCK = 4096
BLOCKS = 16
# magic, thread, number, bytes that follow, their checksum
HEAD = struct.Struct("<4sIQII")
MAGIC = b"rcrd"


def does(number):
    return ("append", "append", "replace", "append", "create", "append", "replace", "append", "create", "remove")[number % 10]


def removed_by(number):
    """What a remove takes away: the first of the two files kept in its ten."""
    return number - 5


def record(thread, number):
    """The record of that number: replaces take a whole block."""
    rest = random.Random(thread << 48 | number)
    length = BLOCK - HEAD.size if does(number) == "replace" else rest.randrange(16, 12000)
    content = rest.randbytes(length)
    return HEAD.pack(MAGIC, thread, number, length, zlib.crc32(content)) + content


class Writer:
    def __init__(self, directory, first, tell):
        self.directory, self.first, self.tell = directory, first, tell
        self.folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def file(self, name, flags=os.O_WRONLY | os.O_CREAT):
        return os.open(os.path.join(self.directory, name), flags, 0o644)

    def noise(self):
        """Writes that nobody synchronises: there is always something that a power cut takes away."""
        file = self.file("noise", os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        block = mmap.mmap(-1, BLOCK)
        while True:
            time.sleep(0.02)
            for _ in range(8):
                block[:8] = struct.pack("<Q", random.getrandbits(64))
                os.pwrite(file, block, BLOCK * random.randrange(1024))

    def run(self, thread):
        try:
            log = self.file("log.%d.%d" % (thread, self.first), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            blocks = self.file("blocks.%d" % thread)
            os.fsync(self.folder)
            number = self.first
            while True:
                content = record(thread, number)
                kind = does(number)
                if kind == "append":
                    self.put(log, content)
                    os.fsync(log)
                elif kind == "replace":
                    if os.pwrite(blocks, content, number // 10 % BLOCKS * BLOCK) != BLOCK:
                        raise OSError("short write")
                    os.fdatasync(blocks)
                elif kind == "create":
                    new, kept = ("%s/%s.%d.%d" % (self.directory, word, thread, number) for word in ("new", "kept"))
                    file = self.file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                    self.put(file, content)
                    os.fsync(file)
                    os.close(file)
                    os.rename(new, kept)
                    os.fsync(self.folder)
                else:
                    os.unlink("%s/kept.%d.%d" % (self.directory, thread, removed_by(number)))
                    os.fsync(self.folder)
                self.tell(b"%d %d\n" % (thread, number))
                number += 1
        except BaseException as error:
            print("thread %d: %s" % (thread, error), flush=True)
            os._exit(1)

    @staticmethod
    def put(file, content):
        while content:
            content = content[os.write(file, content):]


def write(directory, address, port, first):
    outside = socket.create_connection((address, int(port)))
    outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # One line is one call, and none is cut in two: they are far smaller than the buffer.
    lock = threading.Lock()

    def tell(line):
        with lock:
            outside.sendall(line)
    writer = Writer(directory, int(first), tell)
    for thread in range(THREADS):
        threading.Thread(target=writer.run, args=(thread,)).start()
    writer.noise()


def collect(address, port, path):
    journal = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    lock = threading.Lock()

    def take(connection):
        rest = b""
        while True:
            try:
                piece = connection.recv(65536)
            except OSError:
                piece = b""
            if not piece:
                return
            whole, end, rest = (rest + piece).rpartition(b"\n")
            with lock:
                os.write(journal, whole + end)
    listener = socket.create_server((address, int(port)))
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=take, args=(connection,), daemon=True).start()


def records_of(path):
    """The whole records at the beginning of a file, and whether they are all of it."""
    content = open(path, "rb").read()
    at, found = 0, []
    while at + HEAD.size <= len(content):
        magic, thread, number, length, checksum = HEAD.unpack_from(content, at)
        body = content[at + HEAD.size:at + HEAD.size + length]
        if magic != MAGIC or len(body) != length or zlib.crc32(body) != checksum:
            break
        found.append((thread, number))
        if content[at:at + HEAD.size + length] != record(thread, number):
            raise ValueError("%s: record %d.%d is another one" % (path, thread, number))
        at += HEAD.size + length
    return found, at == len(content)


def check(directory, journal):
    wrong = []
    acknowledged = {thread: [] for thread in range(THREADS)}
    for line in open(journal, encoding="ascii"):
        thread, number = map(int, line.split())
        acknowledged[thread].append(number)
    names = set(os.listdir(directory)) - {"lost+found", "noise"}
    beyond = 0
    for thread, numbers in acknowledged.items():
        if numbers != sorted(set(numbers)):
            wrong.append("thread %d: the journal is out of order" % thread)
        told = set(numbers)
        appended = []
        for name in sorted((name for name in names if name.startswith("log.%d." % thread)), key=lambda name: int(name.split(".")[2])):
            found, _ = records_of(os.path.join(directory, name))
            appended += [number for owner, number in found if owner == thread]
            if [number for _, number in found] != sorted(set(number for _, number in found)):
                wrong.append("%s: out of order" % name)
        beyond += len(set(appended) - told)
        wrong += ["append %d.%d is lost" % (thread, number) for number in sorted(
            {number for number in numbers if does(number) == "append"} - set(appended))]

        kept = {int(name.split(".")[2]) for name in names if name.startswith("kept.%d." % thread)}
        gone = {removed_by(number) for number in numbers if does(number) == "remove"}
        for number in sorted(kept):
            name = "kept.%d.%d" % (thread, number)
            try:
                if open(os.path.join(directory, name), "rb").read() != record(thread, number):
                    wrong.append("%s holds something else" % name)
            except OSError as error:
                wrong.append("%s: %s" % (name, error))
        wrong += ["remove of %d.%d is lost" % (thread, number) for number in sorted(gone & kept)]
        # A remove may be under way: the next number after an acknowledged one was begun.
        begun = {removed_by(number + 1) for number in numbers if does(number + 1) == "remove"}
        wrong += ["create %d.%d is lost" % (thread, number) for number in sorted(
            {number for number in numbers if does(number) == "create"} - kept - gone - begun)]

        last = {}
        for number in numbers:
            if does(number) == "replace":
                last[number // 10 % BLOCKS] = number
        if last:
            content = open(os.path.join(directory, "blocks.%d" % thread), "rb").read()
            for place, number in sorted(last.items()):
                block = content[place * BLOCK:(place + 1) * BLOCK]
                there = HEAD.unpack_from(block)[2] if len(block) == BLOCK else -1
                if there < number or there // 10 % BLOCKS != place or there > number and there in told or block != record(thread, there):
                    wrong.append("replace %d.%d is lost: %d is there" % (thread, number, there))
    strange = [name for name in names if not re.fullmatch(r"(log|kept|new)\.\d+\.\d+|blocks\.\d+", name)]
    wrong += ["%s: nobody made it" % name for name in strange]
    total = sum(map(len, acknowledged.values()))
    print("%d acknowledged, %d wrong, %d more appended" % (total, len(wrong), beyond))
    for line in wrong[:20]:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit({"collect": collect, "write": write, "check": check}[sys.argv[1]](*sys.argv[2:]))
