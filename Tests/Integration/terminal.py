#!/usr/bin/python3
"""terminal.py NAME TYPED COMMAND...: runs the command on a terminal of its own.

TYPED says what is typed: seconds=text, separated by commas. What the command shows goes to NAME.screen, its exit status
and how many seconds it took to NAME.end.
"""
import os
import pty
import select
import sys
import time

name, typed, *command = sys.argv[1:]
keys = [(float(second), text.encode().decode("unicode_escape").encode())
        for second, text in (part.split("=", 1) for part in typed.split(",") if part)]
start = time.monotonic()
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
screen = open(name + ".screen", "wb", buffering=0)
while True:
    if keys and time.monotonic() - start >= keys[0][0]:
        os.write(terminal, keys.pop(0)[1])
    ready, _, _ = select.select([terminal], [], [], 0.05)
    if not ready:
        continue
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    screen.write(data)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
with open(name + ".end", "w") as end:
    print(status, int(time.monotonic() - start), file=end)
