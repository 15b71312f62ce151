#!/usr/bin/python3
"""A disk with a volatile cache: what was not flushed when its machine lost its power is there, or it is not.

volatile.py IMAGE SOCKET [SEED]: serves IMAGE as an NBD export at SOCKET, to one client after the other.

What is written is in the image at once, so that the image is what the disk would answer. What it replaced is remembered until
the client flushes (or writes with FUA). At SIGUSR1, the power cut, a random part of the writes that were not flushed is taken
back, each of them alone and some only from or up to one of their sectors; then the process ends with status 0, having printed
`N of M writes lost`. Without a client it ends by itself after half a minute. More than CACHE bytes are never in the cache: the oldest writes have reached the disk by then.
"""
import ctypes
import os
import random
import signal
import socket
import struct
import sys

SECTOR = 512
CACHE = 64 << 20
REQUEST = struct.Struct(">IHHQQI")
OPTION = struct.Struct(">QII")
REPLY = struct.Struct(">QIII")
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6
FUA = 1
# has flags, flush, FUA, trim, write zeroes
FLAGS = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6
PUNCH_HOLE_KEEP_SIZE = 3

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class PowerCut(Exception):
    pass


class Disk:
    def __init__(self, path, seed):
        self.file = os.open(path, os.O_RDWR)
        self.size = os.fstat(self.file).st_size
        self.random = random.Random(seed)
        # offset, what was there, what is there: in the order of writing
        self.cache = []
        self.held = 0
        # so many writes in the cache are the moment of the power cut
        self.ends_with = None

    def put(self, offset, content):
        done = 0
        while done < len(content):
            done += os.pwrite(self.file, content[done:], offset + done)

    def remember(self, offset, old, new):
        if self.ends_with and len(self.cache) >= self.ends_with:
            raise PowerCut
        self.cache.append((offset, old, new))
        self.held += len(new)
        while self.held > CACHE:
            self.held -= len(self.cache.pop(0)[2])

    def write(self, offset, content):
        self.remember(offset, os.pread(self.file, len(content), offset), content)
        self.put(offset, content)

    def zero(self, offset, length):
        # Where the image has holes already nothing changes.
        end = offset + length
        while offset < end:
            try:
                begin = os.lseek(self.file, offset, os.SEEK_DATA)
            except OSError:
                return
            until = min(os.lseek(self.file, begin, os.SEEK_HOLE), end)
            for at in range(begin, until, 1 << 20):
                count = min(1 << 20, until - at)
                self.remember(at, os.pread(self.file, count, at), bytes(count))
                if libc.fallocate(self.file, PUNCH_HOLE_KEEP_SIZE, at, count) != 0:
                    self.put(at, bytes(count))
            offset = max(until, offset + 1)

    def flush(self):
        self.cache.clear()
        self.held = 0

    def cut(self):
        for offset, old, _ in reversed(self.cache):
            self.put(offset, old)
        lost = 0
        # Some caches had nearly everything written, others nearly nothing.
        share = self.random.random()
        for offset, _, new in self.cache:
            if self.random.random() < share:
                lost += 1
                continue
            if len(new) > SECTOR and self.random.random() < 0.1:
                border = SECTOR * self.random.randrange(1, len(new) // SECTOR)
                if self.random.random() < 0.5:
                    new = new[:border]
                else:
                    offset, new = offset + border, new[border:]
            self.put(offset, new)
        print("%d of %d writes lost" % (lost, len(self.cache)), flush=True)


class Client:
    def __init__(self, connection):
        self.connection = connection

    def get(self, count):
        content = bytearray(count)
        view, done = memoryview(content), 0
        while done < count:
            piece = self.connection.recv_into(view[done:])
            if piece == 0:
                raise ConnectionError
            done += piece
        return bytes(content)

    def say(self, *pieces):
        self.connection.sendall(b"".join(pieces))

    def shake_hands(self, size):
        self.say(b"NBDMAGIC", b"IHAVEOPT", struct.pack(">H", 3))
        without_zeroes = struct.unpack(">I", self.get(4))[0] & 2
        while True:
            _, option, length = OPTION.unpack(self.get(OPTION.size))
            content = self.get(length)

            def reply(kind, content=b""):
                self.say(REPLY.pack(0x3E889045565A9, option, kind, len(content)), content)
            if option == 1:
                self.say(struct.pack(">QH", size, FLAGS), b"" if without_zeroes else bytes(124))
                return True
            if option in (6, 7):
                reply(3, struct.pack(">HQH", 0, size, FLAGS))
                reply(3, struct.pack(">HIII", 3, SECTOR, 4096, 32 << 20))
                reply(1)
                if option == 7:
                    return True
            elif option == 2:
                reply(1)
                return False
            else:
                reply(0x80000001)

    def serve(self, disk):
        if not self.shake_hands(disk.size):
            return
        while True:
            _, flags, command, handle, offset, length = REQUEST.unpack(self.get(REQUEST.size))
            answer = b""
            error = 0
            if command == DISCONNECT:
                return
            if command == WRITE:
                content = self.get(length)
            if command in (READ, WRITE, TRIM, WRITE_ZEROES) and offset + length > disk.size:
                error = 28 if command == WRITE else 22
            elif command == READ:
                answer = os.pread(disk.file, length, offset)
            elif command == WRITE:
                disk.write(offset, content)
            elif command in (TRIM, WRITE_ZEROES):
                disk.zero(offset, length)
            elif command != FLUSH:
                error = 22
            if command == FLUSH or flags & FUA:
                # In order, one after the other: all that was answered is before it.
                disk.flush()
            self.say(struct.pack(">IIQ", 0x67446698, error, handle), answer)


def now(*_):
    raise PowerCut


def main():
    image, path = sys.argv[1:3]
    disk = Disk(image, int(sys.argv[3]) if len(sys.argv) > 3 else None)

    def soon(*_):
        disk.ends_with = disk.random.randrange(1, 9)
        signal.setitimer(signal.ITIMER_REAL, 1)
    signal.signal(signal.SIGUSR1, soon)
    signal.signal(signal.SIGALRM, now)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    listener.settimeout(30)
    connection = None
    try:
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                return
            connection.settimeout(None)
            try:
                Client(connection).serve(disk)
            except ConnectionError:
                pass
            connection.close()
    except PowerCut:
        signal.setitimer(signal.ITIMER_REAL, 0)
        disk.cut()
        try:
            while connection and connection.recv(1 << 20):
                pass
        except OSError:
            pass


main()
