import CLinux
import Glibc
import Logging
import ReplicaProto

/// A process that does nothing until the daemon is gone. If that was no orderly end (killed, out of memory, a broken
/// invariant), it says so in the log and takes the daemon's minors out of the status file, which would otherwise tell
/// monitors for ever that all is well (`control.md` 3.10).
struct CrashWatch {
    /// The daemon's end of the pipe; closed by the kernel when it dies, whatever the cause.
    private let descriptor: Int32

    /// Starts the watcher. Call before any thread exists. Without one the daemon works as well.
    init(_ settings: DaemonSettings, run: String, persona: Persona, log: Int32) {
        let daemon = getpid()
        var end: Int32 = -1
        var watcherLog = log
        guard clinux_fork_watcher(&end, &watcherLog) == 0 else {
            descriptor = end
            return
        }
        // In the watcher: only the pipe and the log are left open.
        var byte: UInt8 = 0
        var count = read(end, &byte, 1)
        while count < 0 && errno == EINTR { count = read(end, &byte, 1) }
        if count == 1 { _exit(0) }
        let resource = settings.resource
        let output = LineLogHandler(label: "", descriptor: watcherLog)
        Logger(label: resource) { _ in output }.error(
            "drbd \(resource): replicad (process \(daemon)) is gone without a word: killed, or broken")
        let directory = StatusDirectory(run: run, persona: persona, build: Daemon.build(settings.node))
        // The pipe closes early on a process's way out. Others who merge must see it gone, too.
        for _ in 0..<100 where StatusDirectory.isAlive(daemon) { usleep(10_000) }
        for _ in 0..<100 {
            if directory.merge(without: daemon) != .busy { break }
            usleep(10_000)
        }
        _exit(0)
    }

    /// The daemon ends in good order.
    func end() {
        guard descriptor >= 0 else { return }
        var byte: UInt8 = 1
        _ = write(descriptor, &byte, 1)
        close(descriptor)
    }
}
