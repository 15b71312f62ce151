#!/usr/bin/python3
"""What monitors.sh needs of /proc/drbd's text: a reader of its own, and what others made of it.

    monitors.py texts MOMENTS DIRECTORY       the examples of control.md 3.6, and every recorded text, one file each
    monitors.py metrics URL                   what node_exporter offers of DRBD; fails if its collector did
    monitors.py compare TEXT METRICS          node_exporter's numbers are those of the text
    monitors.py verdict TEXT <VERDICT         check_drbd's words and exit status follow from the text
    monitors.py examples DIRECTORY STATE...   every example that two nodes can be brought to is among these states
    monitors.py collectd TEXT DIRECTORY       collectd's last values are those of the text
    monitors.py munin TEXT                    what Munin's drbd plugin would print; fails if a device is missing
    monitors.py watch FILE STOP               reads FILE at 100 Hz and more until STOP exists; every text has to be whole
"""
import glob
import os
import re
import sys
import time
import urllib.request

HEADER = """version: 8.4.11 (api:1/proto:86-101)
GIT-hash: 66145a308421e9c124ec391a7848ac20203bb03c build by root@alice, 2018-04-26 12:10:42
"""
COUNTERS = "ns nr dw dr al bm lo pe ua ap ep wo oos".split()
IDLE = "    ns:10485404 nr:0 dw:2048 dr:10486068 al:9 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:"
# control.md 3.6; where only the first line is given there, a counter line follows as usual.
EXAMPLES = {
    "unconfigured": " 0: cs:Unconfigured\n",
    "first-start": " 0: cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown C r----s\n"
    "    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:10485404\n",
    "never-synced": " 0: cs:Connected ro:Secondary/Secondary ds:Inconsistent/Inconsistent C r-----\n"
    "    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:10485404\n",
    "source": " 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----\n"
    "    ns:1000000 nr:0 dw:0 dr:1000912 al:8 bm:0 lo:0 pe:2 ua:2 ap:0 ep:1 wo:f oos:9485404\n"
    "\t[>...................] sync'ed:  9.6% (9260/10236)M\n\tfinish: 0:01:24 speed: 112,000 (111,108) K/sec\n",
    "target": " 0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----\n"
    "    ns:0 nr:999936 dw:999424 dr:0 al:0 bm:0 lo:2 pe:4 ua:2 ap:0 ep:1 wo:f oos:9485404\n"
    "\t[>...................] sync'ed:  9.6% (9260/10236)M\n"
    "\tfinish: 0:01:24 speed: 112,000 (111,108) want: 102,400 K/sec\n",
    "in-sync": " 0: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"
    "    ns:10485404 nr:0 dw:0 dr:10486068 al:8 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n",
    "peer-gone": " 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C r-----\n" + IDLE + "1024\n",
    "stand-alone": " 0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----\n" + IDLE + "1024\n",
    "diskless": " 0: cs:Connected ro:Primary/Secondary ds:Diskless/UpToDate C r-----\n"
    "    ns:4096 nr:128 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:d oos:0\n",
    "paused": " 0: cs:PausedSyncT ro:Secondary/Primary ds:Inconsistent/UpToDate C r--u--\n" + IDLE + "1024\n",
    "frozen": " 0: cs:WFConnection ro:Primary/Unknown ds:UpToDate/DUnknown C s---d-\n" + IDLE + "1024\n",
    "verify": " 0: cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"
    "    ns:0 nr:0 dw:0 dr:2097152 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n"
    "\t[===>................] verified: 20.1% (8188/10236)M\n"
    "\tfinish: 0:02:16 speed: 61,440 (61,680) want: 61,440 K/sec\n",
    "three-minors": " 0: cs:Unconfigured\n 1: cs:Connected ro:Secondary/Primary ds:UpToDate/UpToDate A r-----\n"
    "    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n\n"
    "10: cs:Connected ro:Secondary/Secondary ds:UpToDate/UpToDate C r-----\n"
    "    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0\n",
}
CONFIGURED = re.compile(
    r"^([ 1-9]\d): cs:([A-Z]\w+) ro:([A-Z]\w+)/([A-Z]\w+) ds:([A-Z]\w+)/([A-Z]\w+) ([ABC ]) ([rs][a-][p-][u-][-dcbna][s-])$")
COUNTER_LINE = re.compile("^    " + " ".join(name + (r":([bfdn])" if name == "wo" else r":(\d+)") for name in COUNTERS) + "$")
PROGRESS = (
    re.compile(r"^\t\[=*>\.*\] (sync'ed|verified):[ \d]{2}\d\.\d% \(\d+/\d+\)[KM]$"),
    re.compile(r"^\tfinish: \d+:\d\d:\d\d speed: [\d,]+ \([\d,]+\)( want: [\d,]+)? K/sec( \(stalled\))?$"),
)


def parse(text):
    """Devices by minor, strictly by control.md 3.1; ValueError says what is wrong."""

    def need(condition, why):
        if not condition:
            raise ValueError(f"{why}: {text!r}")

    need(text.endswith("\n"), "the end is missing")
    lines = text[:-1].split("\n")
    need(len(lines) >= 2 and re.match(r"^version: 8\.4\.11 \(api:1/proto:86-101\)$", lines[0]), "no version")
    need(re.match(r"^GIT-hash: [0-9a-f]{40} build by \S+, \d{4}-\d\d-\d\d \d\d:\d\d:\d\d$", lines[1]), "no second line")
    devices, last, at = {}, -1, 2
    while at < len(lines):
        is_hole = lines[at] == ""
        if is_hole:
            at += 1
            need(at < len(lines), "an empty line at the end")
        line = lines[at]
        plain = re.match(r"^([ 1-9]\d): cs:Unconfigured$", line)
        head = plain or CONFIGURED.match(line)
        need(head, f"no device line: {line!r}")
        minor = int(head[1])
        need(minor > last and is_hole == (minor != last + 1), "the order of minors")
        last, at = minor, at + 1
        if plain:
            devices[minor] = {"cs": "Unconfigured"}
            continue
        device = dict(zip(("cs", "role", "peer-role", "disk", "peer-disk", "protocol", "flags"), head.groups()[1:]))
        need(at < len(lines), "no counters")
        counters = COUNTER_LINE.match(lines[at])
        need(counters, f"no counter line: {lines[at]!r}")
        device.update(zip(COUNTERS, counters.groups()))
        at += 1
        if at < len(lines) and lines[at].startswith("\t"):
            for pattern in PROGRESS:
                need(at < len(lines) and pattern.match(lines[at]), "half a progress")
                at += 1
        need(
            (device["cs"] in ("SyncSource", "SyncTarget", "VerifyS", "VerifyT")) == lines[at - 1].startswith("\t"),
            "progress, or none")
        devices[minor] = device
    return devices


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def texts(moments, directory):
    os.mkdir(directory)
    found = dict(EXAMPLES)
    title, inside = None, False
    for line in read(moments).split("\n"):
        if line.startswith("=== "):
            title, inside = "kernel." + line[4:].replace(" ", "."), False
        elif line.startswith("$ "):
            inside = line == "$ cat /proc/drbd"
            if inside:
                found[title] = ""
        elif inside and not line.startswith("# "):
            found[title] += line + "\n"
    for name, text in found.items():
        parse(HEADER + text)
        with open(os.path.join(directory, name), "w", encoding="ascii") as file:
            file.write(HEADER + text)


def metrics(url):
    text = urllib.request.urlopen(url, timeout=5).read().decode()
    if not re.search(r'^node_scrape_collector_success\{collector="drbd"\} 1$', text, re.M):
        sys.exit("the collector failed")
    print(text, end="")


def compare(text, found):
    """By prometheus/node_exporter collector/drbd_linux.go: which key is which metric, in which unit."""
    kib = {"ns": "network_sent_bytes_total", "dw": "disk_written_bytes_total", "dr": "disk_read_bytes_total",
           "oos": "out_of_sync_bytes"}
    plain = {"nr": "network_received_bytes_total", "al": "activitylog_writes_total", "bm": "bitmap_writes_total",
             "lo": "local_pending", "pe": "remote_pending", "ua": "remote_unacknowledged", "ap": "application_pending",
             "ep": "epochs"}
    expected = {}
    for minor, device in parse(read(text)).items():
        label = f'device="drbd{minor}"'
        expected[f"node_drbd_connected{{{label}}}"] = device["cs"] == "Connected"
        if "ns" not in device:
            continue
        for key, name in kib.items():
            expected[f"node_drbd_{name}{{{label}}}"] = int(device[key]) * 1024
        for key, name in plain.items():
            expected[f"node_drbd_{name}{{{label}}}"] = int(device[key])
        for node, role, disk in (("local", "role", "disk"), ("remote", "peer-role", "peer-disk")):
            expected[f'node_drbd_node_role_is_primary{{{label},node="{node}"}}'] = device[role] == "Primary"
            expected[f'node_drbd_disk_state_is_up_to_date{{{label},node="{node}"}}'] = device[disk] == "UpToDate"
    seen = {}
    for line in read(found).split("\n"):
        if line.startswith("node_drbd_"):
            name, value = line.rsplit(" ", 1)
            seen[name] = float(value)
    expected = {name: float(value) for name, value in expected.items()}
    if seen != expected:
        sys.exit("\n".join(f"{key}: {seen.get(key)} instead of {expected.get(key)}"
                           for key in sorted(seen.keys() | expected.keys()) if seen.get(key) != expected.get(key)))


def verdict(text):
    """control.md 7.1: what is out of sync comes first, then the worst of connection and own disk."""
    devices = parse(read(text))
    found = sys.stdin.read().strip()
    critical = {"Unconfigured", "WFConnection", "PausedSyncS", "PausedSyncT", "Diskless", "Outdated", "Inconsistent", "Failed"}
    warning = {"StandAlone", "SyncSource", "SyncTarget", "VerifyS", "VerifyT", "Negotiating", "Attaching"}
    for minor in sorted(devices, key=str):
        if int(devices[minor].get("oos", 0)) > 0:
            expected = f"DRBD WARNING: Out of sync on device {minor}: {devices[minor]['oos']} sectors (1)"
            break
    else:
        words = {minor: {device["cs"], device.get("disk", "UpToDate")} for minor, device in devices.items()}
        for level, status, states in (("CRITICAL", 2, critical), ("WARNING", 1, warning)):
            bad = [minor for minor in sorted(words, key=str) if words[minor] & states]
            if bad:
                names = ", ".join(f"Device {m} {devices[m]['cs']}" + (" " + devices[m]["disk"] if "disk" in devices[m] else "") for m in bad)
                expected = f"DRBD {level}: {names} ({status})"
                break
        else:
            if len(devices) == 1:
                expected = "".join(f"DRBD OK: Device {m} {d['cs']} {d['disk']} (0)" for m, d in devices.items())
            else:
                expected = "DRBD OK: " + ", ".join(f"Dev {m} {devices[m]['cs'][:3]}{devices[m]['disk'][:3]}" for m in sorted(devices, key=str)) + " (0)"
    if found != expected:
        sys.exit(f"{found!r} instead of {expected!r}")


def examples(states):
    # Three resources are another scenario's. Two flags do not count: `key` in monitors.sh.
    def key(state):
        return re.sub(r"[-d][-s]$", "--", state)

    states = {key(state) for state in states}
    for name, text in EXAMPLES.items():
        state = text.split("\n")[0].removeprefix(" 0: ")
        if name != "three-minors" and key(state) not in states:
            sys.exit(f"{name}: {state}")


def collectd(text, directory):
    """collectd's plugin has names of its own for the numbers of the counter line, in its order."""
    names = {"ns": "network_send", "nr": "network_recv", "dw": "disk_write", "dr": "disk_read", "al": "activity_log", "bm": "bitmap",
             "lo": "local_count", "pe": "pending", "ua": "unacknowledged", "ap": "app pending", "ep": "epochs", "oos": "oos"}
    for minor, device in parse(read(text)).items():
        expected = {name: float(device[key]) for key, name in names.items()}
        found = {}
        for path in sorted(glob.glob(f"{directory}/here/drbd-r{minor}/drbd_resource-*")):
            name = re.match(r"drbd_resource-(.*)-\d{4}-\d\d-\d\d$", os.path.basename(path))[1]
            lines = read(path).split("\n")
            # The last line may be half written.
            if len(lines) > 2:
                found[name] = float(lines[-2].split(",")[1])
        if found != expected:
            sys.exit(f"{found} instead of {expected}")


def munin(path):
    """The plugin's way (munin contrib, plugins/drbd/drbd): a minor of one digit behind white space, four counters by name."""
    minor, found = None, {}
    for line in read(path).split("\n"):
        if "version:" in line or "GIT-hash:" in line:
            continue
        if match := re.match(r"^\s+(\d):", line):
            minor = int(match[1])
        for name in ("ns", "nr", "dw", "dr"):
            if match := re.search(name + r":(\d*)", line):
                found.setdefault(minor, {})[name] = match[1]
    expected = {minor: {name: device[name] for name in ("ns", "nr", "dw", "dr")}
                for minor, device in parse(read(path)).items() if minor < 10 and "ns" in device}
    for minor, values in found.items():
        for name, value in values.items():
            print(f"drbd{minor}{name}.value {value}")
    if found != expected:
        sys.exit(f"{found} instead of {expected}")


def watch(path, stop):
    """Never less than 100 readings a second on average, and never one that is not whole."""
    began, readings, different, last = time.monotonic(), 0, 0, None
    while not os.path.exists(stop):
        text = read(path)
        parse(text)
        readings += 1
        if text != last:
            different, last = different + 1, text
        time.sleep(0.002)
    rate = readings / (time.monotonic() - began)
    print(f"{readings} readings, {rate:.0f} a second, {different} different texts")
    if rate < 100 or different < 10:
        sys.exit("too slow, or nothing moved")
    print("held")


if __name__ == "__main__":
    command, arguments = sys.argv[1], sys.argv[2:]
    if command == "examples":
        examples(arguments[1:])
    else:
        {"texts": texts, "metrics": metrics, "compare": compare, "verdict": verdict, "collectd": collectd, "munin": munin,
         "watch": watch}[command](*arguments)
