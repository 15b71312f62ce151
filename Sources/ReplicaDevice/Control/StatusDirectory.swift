import CLinux
import Glibc
import ReplicaProto

/// The status files of a node (`control.md` 3.10): a fragment per minor in RUN/proc.d, and RUN/proc/drbd, merged from the
/// fragments of all daemons that live. Written by rename, so that readers never see a part; by whoever holds the lock.
///
/// A fragment is `PID START` (the daemon, and when the kernel started it, so that another process with this number is
/// not taken for it), `AFTER busy|idle|diskless` (for who is to be synchronised after it: the minor that it waits for itself,
/// and its state), a line feed, and the minor's lines. It belongs to the daemon that serves the minor; others skip it
/// once that daemon is dead, and leave it alone: it may be replaced at any moment.
struct StatusDirectory: Sendable {
    enum Outcome: Equatable {
        case done
        /// Another daemon is at it: try again soon.
        case busy
        case failed(String)
    }

    let run: String
    let persona: Persona
    /// What stands behind `build by`.
    let build: String

    private var fragments: String { "\(run)/proc.d" }

    func prepare() {
        mkdir(fragments, 0o755)
        mkdir("\(run)/proc", 0o755)
    }

    /// - Returns: nil, or why it did not work.
    func publish(_ minor: NeighbourMinor, _ text: String) -> String? {
        let state = !minor.hasDisk ? "diskless" : minor.isBusy ? "busy" : "idle"
        let own = "\(getpid()) \(StatusDirectory.startTime(of: getpid()) ?? "") \(minor.resyncAfter) \(state)\n"
        return replace("\(fragments)/\(minor.minor)", own + text)
    }

    /// What the other daemons that live say of their minors.
    func neighbours() -> [NeighbourMinor] {
        livingFragments()?.compactMap { fragment in
            guard fragment.owner[0] != String(getpid()), fragment.owner.count == 4, let after = Int(fragment.owner[2]) else {
                return nil
            }
            return NeighbourMinor(
                minor: fragment.minor, isBusy: fragment.owner[3] == "busy", hasDisk: fragment.owner[3] != "diskless",
                resyncAfter: after)
        }.sorted { $0.minor < $1.minor } ?? []
    }

    private struct Fragment {
        var minor: UInt32
        /// The words of the first line.
        var owner: [Substring]
        var text: Substring
    }

    /// nil: the directory can't be read.
    private func livingFragments(without dead: pid_t? = nil) -> [Fragment]? {
        guard let listing = opendir(fragments) else { return nil }
        defer { closedir(listing) }
        var found: [Fragment] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard let minor = UInt32(name), let text = read("\(fragments)/\(name)"), let end = text.firstIndex(of: "\n")
            else { continue }
            let owner = text[..<end].split(separator: " ")
            guard owner.count >= 2, let process = pid_t(owner[0]), process != dead,
                StatusDirectory.startTime(of: process) == String(owner[1])
            else { continue }
            found.append(Fragment(minor: minor, owner: owner, text: text[text.index(after: end)...]))
        }
        return found
    }

    func withdraw(_ minor: UInt32) { unlink("\(fragments)/\(minor)") }

    /// Composes RUN/proc/drbd.
    /// - Parameter dead: a process that is known to be at its end, though the kernel may not be done with it.
    func merge(without dead: pid_t? = nil) -> Outcome {
        let lock = open("\(fragments)/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard lock >= 0 else { return .failed("\(fragments)/lock: \(SystemError.text(errno))") }
        defer { close(lock) }
        // Never waits: whoever holds the lock might be stopped.
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else { return .busy }
        guard let parts = livingFragments(without: dead) else { return .failed("\(fragments): \(SystemError.text(errno))") }
        var text = ProcText.header(persona: persona, build: build)
        var previous: Int64 = -1
        for part in parts.sorted(by: { $0.minor < $1.minor }) {
            if Int64(part.minor) != previous + 1 { text += "\n" }
            previous = Int64(part.minor)
            text += part.text
        }
        return replace("\(run)/proc/drbd", text).map { .failed($0) } ?? .done
    }

    // MARK: Files

    /// Replaces a file in one step; what is not finished never stands beside it.
    private func replace(_ path: String, _ text: String) -> String? {
        let temporary = "\(fragments)/new.\(getpid())"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o444)
        guard descriptor >= 0 else { return "\(path): \(SystemError.text(errno))" }
        var text = text
        let count = text.utf8.count
        let written = text.withUTF8 { write(descriptor, $0.baseAddress, $0.count) }
        var error = written < 0 ? errno : written < count ? ENOSPC : 0
        close(descriptor)
        if error == 0 {
            if rename(temporary, path) == 0 { return nil }
            error = errno
        }
        unlink(temporary)
        return "\(path): \(SystemError.text(error))"
    }

    private func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }

    static func isAlive(_ process: pid_t) -> Bool { startTime(of: process) != nil }

    /// When the kernel started a process, in its own unit; nil if there is none of that number, or only its remains.
    private static func startTime(of process: pid_t) -> String? {
        let descriptor = open("/proc/\(process)/stat", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        // The second field is a name in brackets that may contain anything; the state is the third, the start the 22nd.
        let text = String(decoding: bytes[..<count], as: UTF8.self)
        guard let bracket = text.lastIndex(of: ")") else { return nil }
        let fields = text[text.index(after: bracket)...].split(separator: " ")
        guard fields.count > 19, fields[0] != "Z", fields[0] != "X" else { return nil }
        return String(fields[19])
    }
}
