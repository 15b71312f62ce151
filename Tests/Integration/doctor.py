#!/usr/bin/python3
"""Reads what `replctl doctor --json` says, and plays a peer of another age.

    doctor.py found FILE               each situation with its severity and heading, a line each
    doctor.py steps FILE SITUATION [N] the commands of its N-th choice (from 0), as NODE TAB COMMAND
    doctor.py peer ADDRESS:PORT MINIMUM MAXIMUM
                                       takes both streams of a node and offers these protocol versions, until it is killed
"""
import json
import socket
import struct
import sys


def findings(path):
    with open(path) as file:
        return [finding for resource in json.load(file) for finding in resource["findings"]]


def peer(where, minimum, maximum):
    host, port = where.rsplit(":", 1)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen(5)
    streams = []
    while True:
        stream, _ = listener.accept()
        # header80: magic, command, length. P_INITIAL_DATA is 0xfff2, P_INITIAL_META 0xfff1.
        marker = stream.recv(8, socket.MSG_WAITALL)
        if len(marker) < 8:
            continue
        streams.append(stream)
        if struct.unpack(">IHH", marker)[1] == 0xFFF1:
            data = streams[-2]
            data.sendall(struct.pack(">IHH", 0x83740267, 0xFFFE, 72))
            data.sendall(struct.pack(">IIII", minimum, 0, maximum, 0) + bytes(56))


def main():
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "found":
        for finding in findings(arguments[0]):
            print(finding["situation"], finding["severity"], finding["heading"])
    elif what == "steps":
        number = int(arguments[2]) if len(arguments) > 2 else 0
        finding = next(f for f in findings(arguments[0]) if f["situation"] == arguments[1])
        for step in finding["choices"][number]["steps"]:
            if "command" in step:
                print(step["node"] + "\t" + step["command"])
    else:
        peer(arguments[0], int(arguments[1]), int(arguments[2]))


main()
