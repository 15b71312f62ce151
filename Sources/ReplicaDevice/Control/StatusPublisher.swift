import CLinux
import Glibc
import ReplicaProto

/// The version of this program, not the one that its texts present.
package let productVersion = "0.1.0"

/// Status files: a fragment per minor in RUN/proc.d, and RUN/proc/drbd, merged from the fragments of all daemons of
/// this node (`control.md` 3.10). Written by rename, so that readers never see a part; by whoever holds the lock.
struct StatusPublisher {
    /// The core said that more than counters changed.
    var isWanted = false
    var hasMerged = false
    var published: [(minor: UInt32, text: String)] = []
    var lastCheck: UInt64 = 0
    /// Events handled when the counters were last looked at.
    var lastEvents: UInt64 = 0
    var nextDeadline = UInt64.max
}

extension ResourceLoop {
    func resourceStatus() -> ResourceStatus {
        var status = ResourceStatus(
            resource: settings.resource, node: settings.node, productVersion: productVersion)
        status.volumes = core.status(at: now)
        return status
    }

    /// The status file as it would be if this resource were the only one.
    func ownStatusText() -> String { ProcText.file(core.status(at: now), build: Self.build(settings.node)) }

    private static func build(_ node: String) -> String { "root@\(node), 2020-01-01 00:00:00" }

    /// At once on a change of state, once a second while counters move.
    mutating func publishStatusIfDue() {
        if status.isWanted || now.nanoseconds >= status.nextDeadline {
            publishStatus()
        } else if status.nextDeadline == .max && counters.events != status.lastEvents {
            status.nextDeadline = status.lastCheck &+ 1_000_000_000
        }
    }

    mutating func publishStatus() {
        status.isWanted = false
        status.lastCheck = now.nanoseconds
        status.lastEvents = counters.events
        status.nextDeadline = .max
        let fragments = core.status(at: now).map { (minor: $0.minor, text: ProcText.minor($0)) }
        guard !fragments.elementsEqual(status.published, by: ==) || !status.hasMerged else { return }
        let directory = "\(runDirectory)/proc.d"
        mkdir(directory, 0o755)
        for old in status.published where !fragments.contains(where: { $0.minor == old.minor }) {
            unlink("\(directory)/\(old.minor)")
        }
        for new in fragments where !status.published.contains(where: { $0 == new }) {
            writeFile("\(directory)/\(new.minor)", "\(getpid())\n" + new.text)
        }
        status.published = fragments
        status.hasMerged = mergeStatus()
        if !status.hasMerged { status.nextDeadline = now.nanoseconds &+ 50_000_000 }
    }

    mutating func removePublishedStatus() {
        for old in status.published { unlink("\(runDirectory)/proc.d/\(old.minor)") }
        status.published = []
        // At the end there is no later: a few tries, then the next daemon that merges does it.
        for _ in 0..<20 {
            if mergeStatus() { break }
            usleep(10_000)
        }
    }

    /// Composes RUN/proc/drbd from all fragments whose daemons live. False: another daemon is at it, try again soon.
    private func mergeStatus() -> Bool {
        mkdir("\(runDirectory)/proc", 0o755)
        let lock = open("\(runDirectory)/proc.d/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else { return true }
        defer { close(lock) }
        // Never waits: whoever holds the lock might be stopped.
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else { return false }
        var parts: [(minor: UInt32, text: Substring)] = []
        guard let listing = opendir("\(runDirectory)/proc.d") else { return true }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let minor = UInt32(name), let text = readFile("\(runDirectory)/proc.d/\(name)"),
                let end = text.firstIndex(of: "\n"), let process = pid_t(text[..<end])
            else { continue }
            if kill(process, 0) != 0 && errno == ESRCH {
                unlink("\(runDirectory)/proc.d/\(name)")
            } else {
                parts.append((minor, text[text.index(after: end)...]))
            }
        }
        var text = ProcText.header(build: Self.build(settings.node))
        var previous: Int64 = -1
        for part in parts.sorted(by: { $0.minor < $1.minor }) {
            if Int64(part.minor) != previous + 1 { text += "\n" }
            previous = Int64(part.minor)
            text += part.text
        }
        writeFile("\(runDirectory)/proc/drbd", text)
        return true
    }

    /// Replaces a file in one step.
    private func writeFile(_ path: String, _ text: String) {
        let temporary = "\(path).\(getpid())"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o444)
        guard descriptor >= 0 else { return }
        var text = text
        let count = text.utf8.count
        let written = text.withUTF8 { write(descriptor, $0.baseAddress, $0.count) }
        close(descriptor)
        if written != count || rename(temporary, path) != 0 { unlink(temporary) }
    }

    private func readFile(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = read(descriptor, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }
}
