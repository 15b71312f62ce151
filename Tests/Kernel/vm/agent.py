"""Guest side of the vm harness: runs as process 1 inside the virtual machine.

It configures the guest from a small JSON file, then serves commands on
virtio-serial ports named replica-vm.0, replica-vm.1, ...  One port carries one command
at a time; several ports allow several commands at once.

Frame, both directions:  magic "VMf1" | type (1 byte) | length (u32 BE) | payload
host -> guest  S nonce   start of a client; any running job of the port is killed
               R json    run {"argv":[..],"cwd":..,"env":{..},"timeout":..,"stdin":bool}
               I bytes   data for the command's standard input
               E         end of standard input
               K json    {"signal": n}: signal the command's process group
               Q json    {"how":"poweroff"|"reboot"|"crash"}
guest -> host  H nonce   answer to S
               O bytes   standard output       X bytes  standard error
               D json    {"rc":..,"signal":..,"timeout":bool,"seconds":..}
"""
import fcntl
import json
import os
import select
import signal
import struct
import sys
import time

MAGIC = b"VMf1"
HDR = struct.Struct(">4scI")
MAXPAY = 4096
DEFAULT_ENV = {}


def klog(text):
    try:
        with open("/dev/kmsg", "w") as f:
            f.write("replica-vm: " + text + "\n")
    except OSError:
        pass


def sh(*argv):
    pid = os.fork()
    if pid == 0:
        try:
            os.execvp(argv[0], argv)
        except OSError:
            os._exit(127)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write_file(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)


def setup(cfg):
    name = cfg["name"]
    with open("/proc/sys/kernel/hostname", "w") as f:
        f.write(name)
    write_file("/etc/hostname", name + "\n")
    hosts = "127.0.0.1 localhost\n"
    for n, ip in cfg.get("hosts", {}).items():
        hosts += "%s %s\n" % (ip, n)
    write_file("/etc/hosts", hosts)
    write_file("/etc/resolv.conf", "")
    # No udev in the guest unless asked for: let the device mapper tools make their own nodes.
    write_file("/etc/lvm/lvmlocal.conf",
               "devices { obtain_device_list_from_udev = 0\n external_device_info_source = \"none\" }\n"
               "activation { udev_sync = %d\n udev_rules = %d\n monitoring = 0 }\n" % ((1, 1) if cfg.get("udev") else (0, 0)))
    for d in ("/run/lock/lvm", "/run/lvm", "/run/drbd", "/var/lib/drbd", "/var/run", "/run/lock/drbd"):
        try:
            os.makedirs(d, exist_ok=True)
        except OSError:
            pass
    if not cfg.get("udev"):
        DEFAULT_ENV["DM_DISABLE_UDEV"] = "1"
    mods = list(cfg.get("modules", []))
    if mods:
        if sh("modprobe", "-a", *mods):
            klog("modprobe reported an error for one of: " + " ".join(mods))
    for k, v in cfg.get("sysctl", {}).items():
        with open("/proc/sys/" + k.replace(".", "/"), "w") as f:
            f.write(v)
    sh("ip", "link", "set", "lo", "up")
    by_mac = {}
    for dev in os.listdir("/sys/class/net"):
        try:
            by_mac[open("/sys/class/net/%s/address" % dev).read().strip()] = dev
        except OSError:
            pass
    for n in cfg.get("nets", []):
        dev = by_mac.get(n["mac"])
        if dev:
            sh("ip", "addr", "add", n["ip"] + "/" + str(n["prefix"]), "dev", dev)
            sh("ip", "link", "set", dev, "up")
        else:
            klog("no interface with address " + n["mac"])
    for s in cfg.get("shares", []):
        os.makedirs(s["at"], exist_ok=True)
        opts = "trans=virtio,version=9p2000.L,msize=262144,access=any,cache=" + s.get("cache", "mmap")
        if s.get("ro"):
            opts += ",ro"
        sh("mount", "-t", "9p", "-o", opts, s["tag"], s["at"])
    if cfg.get("udev"):
        sh("/lib/systemd/systemd-udevd", "--daemon")
        sh("udevadm", "trigger", "--action=add")
        sh("udevadm", "settle", "-t", "60")


class Gone(Exception):
    pass


class Port:
    """One virtio-serial port.  The host side may come and go at any time."""

    def __init__(self, path):
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
        fcntl.fcntl(self.fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
        self.buf = bytearray()
        self.pid = None

    def wait_host(self):
        """Waits, without polling, until the host has its side open.

        The driver reports POLLIN together with POLLHUP while the host side is
        closed (a read then gives 0 bytes), and sends SIGIO when that changes.
        """
        p = select.poll()
        p.register(self.fd, select.POLLIN)
        while True:
            ev = p.poll(0)
            if not (ev and ev[0][1] & select.POLLHUP):
                return
            try:
                d = os.read(self.fd, 65536)
            except BlockingIOError:
                return
            if d:
                self.buf += d
                return
            signal.sigtimedwait([signal.SIGIO], 5.0)

    def fill(self):
        try:
            d = os.read(self.fd, 65536)
        except BlockingIOError:
            return
        if not d:
            raise Gone()
        self.buf += d

    def frame(self):
        """Next whole frame or None; skips anything that is not a frame."""
        while True:
            i = self.buf.find(MAGIC)
            if i < 0:
                del self.buf[:max(0, len(self.buf) - 3)]
                return None
            if i:
                del self.buf[:i]
            if len(self.buf) < HDR.size:
                return None
            _, t, n = HDR.unpack_from(self.buf)
            if n > 1 << 20:
                del self.buf[:4]
                continue
            if len(self.buf) < HDR.size + n:
                return None
            pay = bytes(self.buf[HDR.size:HDR.size + n])
            del self.buf[:HDR.size + n]
            return t, pay

    def send(self, t, pay=b""):
        data = HDR.pack(MAGIC, t, len(pay)) + pay
        while data:
            try:
                n = os.write(self.fd, data)
                data = data[n:]
            except BlockingIOError:
                p = select.poll()
                p.register(self.fd, select.POLLOUT)
                ev = p.poll(5000)
                if ev and ev[0][1] & select.POLLHUP:
                    raise Gone()
            except (BrokenPipeError, OSError):
                raise Gone()

    def kill(self, sig=signal.SIGKILL):
        if self.pid:
            try:
                os.killpg(self.pid, sig)
            except OSError:
                pass

    def serve(self):
        while True:
            self.wait_host()
            try:
                self.client()
            except Gone:
                self.buf.clear()

    def client(self):
        while True:
            f = self.frame()
            if f is None:
                p = select.poll()
                p.register(self.fd, select.POLLIN)
                p.poll()
                self.fill()
                continue
            t, pay = f
            if t == b"S":
                self.send(b"H", pay)
            elif t == b"R":
                self.run(json.loads(pay))
            elif t == b"Q":
                os.sync()
                how = json.loads(pay).get("how")
                klog("asked to " + how)
                if how == "crash":
                    with open("/proc/sysrq-trigger", "w") as f2:
                        f2.write("b")
                os.kill(1, signal.SIGUSR1 if how == "poweroff" else signal.SIGUSR2)

    def run(self, req):
        if req.get("fresh"):
            # forget what is cached of the host's files, so that files changed there meanwhile are seen
            os.sync()
            with open("/proc/sys/vm/drop_caches", "w") as f:
                f.write("3")
        t0 = time.monotonic()
        ir, iw = os.pipe()
        orr, ow = os.pipe()
        er, ew = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                signal.pthread_sigmask(signal.SIG_SETMASK, [])
                for sig in (signal.SIGPIPE, signal.SIGHUP, signal.SIGXFSZ):
                    signal.signal(sig, signal.SIG_DFL)
                if not req.get("stdin"):
                    os.close(ir)
                    ir = os.open("/dev/null", os.O_RDONLY)
                os.dup2(ir, 0)
                os.dup2(ow, 1)
                os.dup2(ew, 2)
                os.closerange(3, 64)
                try:
                    os.chdir(req.get("cwd") or "/")
                except OSError:
                    os.chdir("/")
                env = dict(DEFAULT_ENV)
                env.update(req.get("env") or {})
                os.execvpe(req["argv"][0], req["argv"], env)
            except BaseException as e:
                try:
                    os.write(2, ("vm: cannot run %r: %s\n" % (req["argv"][:1], e)).encode())
                finally:
                    os._exit(127)
        for fd in (ir, ow, ew):
            os.close(fd)
        self.pid = pid
        pidfd = os.pidfd_open(pid)
        outs = {orr: b"O", er: b"X"}
        stdin_open = True
        pend = bytearray()
        limit = req.get("timeout")
        deadline = t0 + limit if limit else None
        timed_out = False
        status = None
        for fd in (orr, er, iw):
            os.set_blocking(fd, False)
        if not req.get("stdin"):
            os.close(iw)
            stdin_open = False
        eof_in = False
        try:
            while True:
                while True:
                    f = self.frame()
                    if not f:
                        break
                    t, pay = f
                    if t == b"I":
                        pend += pay
                    elif t == b"E":
                        eof_in = True
                    elif t == b"K":
                        self.kill(json.loads(pay)["signal"])
                    elif t == b"S":
                        # a new client took over the port
                        self.kill()
                        self.send(b"H", pay)
                        return
                if stdin_open and eof_in and not pend:
                    os.close(iw)
                    stdin_open = False
                p = select.poll()
                if len(pend) < 1 << 20:
                    p.register(self.fd, select.POLLIN)
                for fd in outs:
                    p.register(fd, select.POLLIN)
                if status is None:
                    p.register(pidfd, select.POLLIN)
                if stdin_open and pend:
                    p.register(iw, select.POLLOUT)
                now = time.monotonic()
                if status is not None:
                    wait = 0
                elif deadline:
                    wait = max(0, min(deadline - now, 60)) * 1000
                else:
                    wait = None
                evs = p.poll(wait)
                moved = False
                for fd, ev in evs:
                    if fd in outs:
                        try:
                            d = os.read(fd, MAXPAY)
                        except BlockingIOError:
                            continue
                        if d:
                            self.send(outs[fd], d)
                            moved = True
                        else:
                            del outs[fd]
                            os.close(fd)
                    elif fd == pidfd:
                        _, st = os.waitpid(pid, 0)
                        status = os.waitstatus_to_exitcode(st)
                    elif fd == self.fd:
                        self.fill()
                    elif stdin_open and fd == iw:
                        try:
                            n = os.write(iw, pend)
                            del pend[:n]
                        except BlockingIOError:
                            pass
                        except OSError:
                            pend.clear()
                            eof_in = True
                if status is not None and not moved:
                    break
                if status is None and deadline and time.monotonic() > deadline:
                    timed_out = True
                    deadline = time.monotonic() + 2
                    self.kill(signal.SIGKILL)
            rc = 124 if timed_out else (status if status >= 0 else 128 - status)
            self.send(b"D", json.dumps({"rc": rc, "signal": -status if status < 0 else 0, "timeout": timed_out,
                                        "seconds": round(time.monotonic() - t0, 4)}).encode())
        except Gone:
            self.kill()
            raise
        finally:
            if status is None:
                try:
                    os.waitpid(pid, 0)
                except OSError:
                    pass
            self.pid = None
            os.close(pidfd)
            for fd in outs:
                os.close(fd)
            if stdin_open:
                os.close(iw)


def find_ports():
    out = {}
    base = "/sys/class/virtio-ports"
    for d in os.listdir(base):
        try:
            n = open("%s/%s/name" % (base, d)).read().strip()
        except OSError:
            continue
        if n.startswith("replica-vm."):
            out[n] = "/dev/" + d
    return out


def shut(how):
    klog("shutting down")
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    try:
        os.kill(-1, signal.SIGTERM)
        time.sleep(0.2)
        os.kill(-1, signal.SIGKILL)
    except OSError:
        pass
    os.sync()
    import ctypes
    libc = ctypes.CDLL(None)
    libc.reboot(0x4321fedc if how == "poweroff" else 0x1234567)
    time.sleep(60)


def main():
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    os.umask(0o022)
    cfg = json.load(open(sys.argv[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2])
    try:
        setup(cfg)
    except Exception as e:
        klog("setup failed: %r" % (e,))
    for fd in (0, 1, 2):
        n = os.open("/dev/null" if fd == 0 else "/dev/console", os.O_RDWR)
        os.dup2(n, fd)
        if n > 2:
            os.close(n)
    ports = find_ports()
    kids = {}

    def spawn(name):
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGIO])
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            try:
                Port(ports[name]).serve()
            except BaseException as e:
                klog("port %s: %r" % (name, e))
            os._exit(1)
        kids[pid] = name

    for name in sorted(ports):
        spawn(name)
    klog("agent ready, %d ports, up %s" % (len(ports), open("/proc/uptime").read().split()[0]))
    while True:
        info = signal.sigwaitinfo([signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2])
        if info.si_signo == signal.SIGUSR1:
            shut("poweroff")
        elif info.si_signo == signal.SIGUSR2:
            shut("reboot")
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            if pid in kids:
                name = kids.pop(pid)
                klog("port handler %s ended, starting it again" % name)
                time.sleep(0.2)
                spawn(name)


if __name__ == "__main__":
    main()
