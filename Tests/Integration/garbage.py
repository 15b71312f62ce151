#!/usr/bin/python3
"""Strangers at a door.

    garbage.py flood WHERE [--from ADDRESS] [--count N] [--seed N] [--prefix HEX...]
    garbage.py loris WHERE [--from ADDRESS] [--count N] [--prefix HEX...]

WHERE is ADDRESS:PORT or the path of a Unix socket. `flood` opens N connections one after another, says one of the
prefixes and then noise on each, and takes what comes. `loris` opens N at once, sends a byte now and then, opens again
what is closed, and goes on until it is killed.
"""
import argparse
import random
import select
import socket
import sys
import time


def connect(arguments):
    if arguments.where.startswith("/"):
        stranger = socket.socket(socket.AF_UNIX)
        address = arguments.where
    else:
        stranger = socket.socket(socket.AF_INET)
        host, port = arguments.where.rsplit(":", 1)
        address = (host, int(port))
        if arguments.source:
            stranger.bind((arguments.source, 0))
    stranger.settimeout(2)
    try:
        stranger.connect(address)
    except OSError:
        stranger.close()
        return None
    return stranger


def noise(generator):
    """Bytes without sense, or with a little: long lines, large lengths, runs of one byte."""
    kind = generator.randrange(5)
    if kind == 0:
        return generator.randbytes(generator.randrange(1, 200))
    if kind == 1:
        return generator.randbytes(generator.randrange(1, 200_000))
    if kind == 2:
        return bytes([generator.randrange(256)]) * generator.randrange(1, 100_000)
    if kind == 3:
        return b"primary 0 " * generator.randrange(1, 20_000)
    return bytes(generator.randrange(8)) + b"\xff" * generator.randrange(1, 64)


def flood(arguments):
    generator = random.Random(arguments.seed)
    connected = sent = 0
    for _ in range(arguments.count):
        stranger = connect(arguments)
        if stranger is None:
            continue
        connected += 1
        try:
            if arguments.prefix:
                stranger.sendall(generator.choice(arguments.prefix))
            data = noise(generator)
            stranger.setblocking(False)
            deadline = time.monotonic() + 0.3
            while data and time.monotonic() < deadline:
                readable, writable, _ = select.select([stranger], [stranger], [], 0.3)
                if readable and not stranger.recv(65536):
                    break
                if writable:
                    count = stranger.send(data)
                    sent += count
                    data = data[count:]
            if generator.random() < 0.2:
                stranger.shutdown(socket.SHUT_WR)
                select.select([stranger], [], [], 0.05)
        except OSError:
            pass
        stranger.close()
    print("%d connections, %d bytes" % (connected, sent))


def loris(arguments):
    generator = random.Random(arguments.seed)
    strangers = [None] * arguments.count
    while True:
        for index, stranger in enumerate(strangers):
            try:
                if stranger is None:
                    stranger = connect(arguments)
                    if stranger is not None and arguments.prefix:
                        stranger.sendall(generator.choice(arguments.prefix))
                    strangers[index] = stranger
                else:
                    stranger.setblocking(False)
                    stranger.send(generator.randbytes(1))
                    try:
                        if not stranger.recv(4096):
                            raise ConnectionResetError
                    except BlockingIOError:
                        pass
            except OSError:
                strangers[index].close()
                strangers[index] = None
        time.sleep(0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("flood", "loris"))
    parser.add_argument("where")
    parser.add_argument("--from", dest="source")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prefix", type=bytes.fromhex, nargs="*", default=[])
    arguments = parser.parse_args()
    (flood if arguments.what == "flood" else loris)(arguments)


sys.exit(main())
