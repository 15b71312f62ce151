#!/usr/bin/python3
"""Writes and synchronises one block again and again, and tells of each time that took long.

pauses.py FILE OUTPUT [SECONDS]: a line `BEGIN END` (seconds since the epoch) for each write to FILE that took longer than SECONDS (0.5).
Ends with status 1 at the first error, when OUTPUT says so, and with 0 at SIGTERM.
"""
import os
import signal
import sys
import time

ended = False


def end(*_):
    global ended
    ended = True


signal.signal(signal.SIGTERM, end)
name, output = sys.argv[1:3]
limit = float(sys.argv[3]) if len(sys.argv) > 3 else 0.5
told = open(output, "a", buffering=1)
file = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644)
count = 0
while not ended:
    count += 1
    begin = time.time()
    try:
        os.pwrite(file, b"%4095d\n" % count, 0)
        os.fdatasync(file)
    except OSError as error:
        told.write("error %s\n" % error)
        sys.exit(1)
    if time.time() - begin > limit:
        told.write("%.3f %.3f\n" % (begin, time.time()))
    time.sleep(0.02)
os.close(file)
