import CLinux
import Glibc
import Logging
import ReplicaProto

/// The process around a `ResourceLoop`: arguments, lock file, daemonising, log, limits of the process.
///
///     replicad [-f] [--settings FILE] [--log FILE] RESOURCE
///     replicad --check [--settings FILE] [--take-over FILE] RESOURCE
///
/// Without `-f` the calling process ends when the control socket accepts commands (0), or with 1 if that fails. `--check` reads
/// what it is given and does nothing. `--take-over` is how a daemon starts the program that takes its place in the process.
package enum Daemon {
    private struct Arguments {
        var resource = ""
        var isForeground = false
        var settingsPath: String?
        var logPath: String?
        var takeOverPath: String?
        var isCheck = false
    }

    private struct Failure: Error {
        var message: String
    }

    private static let usage =
        "usage: replicad [-f] [--settings FILE] [--log FILE] RESOURCE\n"
        + "       replicad --check [--settings FILE] [--take-over FILE] RESOURCE\n"

    /// Runs the daemon; returns its exit status.
    package static func main(_ words: [String]) -> Int32 {
        if words == ["--version"] {
            say("replicad \(productVersion)\n", to: 1)
            return 0
        }
        if words == ["--help"] || words == ["-h"] {
            say(usage, to: 1)
            return 0
        }
        do throws(Failure) {
            var arguments = try parse(words)
            let run = absolute(environment("REPLICA_RUN_DIR") ?? "/run/replica")
            let settings = try readSettings(arguments, run)
            let handOver = try readHandOver(arguments)
            if arguments.isCheck { return 0 }
            guard mkdir(run, 0o755) == 0 || errno == EEXIST else {
                throw Failure(message: "\(run): \(SystemError.text(errno))")
            }
            arguments.settingsPath = arguments.settingsPath.map(absolute)
            arguments.logPath = arguments.logPath.map(absolute)
            let logPath = arguments.logPath ?? (arguments.isForeground ? nil : "\(run)/\(settings.resource).log")
            var logDescriptor: Int32 = 2
            if let logPath {
                logDescriptor = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
                guard logDescriptor >= 0 else { throw Failure(message: "\(logPath): \(SystemError.text(errno))") }
            }
            let lock =
                if let inherited = handOver?.descriptor("lock") { inherited } else {
                    try lockPidFile("\(run)/\(settings.resource).pid")
                }
            var ready: Int32 = -1
            if !arguments.isForeground, handOver == nil {
                ready = clinux_daemonise()
                guard ready >= 0 else { throw Failure(message: "can not leave the terminal: \(SystemError.text(errno))") }
            }
            return serve(arguments, settings, run, logDescriptor, lock: lock, ready: ready, takesOver: handOver)
        } catch {
            say("replicad: \(error.message)\n", to: 2)
            return 1
        }
    }

    private static func serve(
        _ arguments: Arguments, _ settings: DaemonSettings, _ run: String, _ logDescriptor: Int32, lock: Int32, ready: Int32,
        takesOver: HandOver?
    ) -> Int32 {
        signal(SIGPIPE, SIG_IGN)
        let log = Logger(label: settings.resource) { _ in LineLogHandler(label: "", descriptor: logDescriptor) }
        writePid(lock)
        let persona = environment("REPLICA_PERSONA").flatMap { Persona($0) } ?? .v8411
        let watch = CrashWatch(settings, run: run, persona: persona, log: logDescriptor)
        var configuration = LoopConfiguration(settings: settings, runDirectory: run, log: log)
        configuration.persona = persona
        configuration.helper = beside(["replctl"]) ?? "replctl"
        configuration.statusFileLibrary = beside(["../lib/replica/libreplica-proc.so", "libreplica-proc.so"])
        configuration.hardens = true
        configuration.takesOver = takesOver
        // Who pretends another node's name shares this machine with that node, and /dev/drbd0 is there only once.
        configuration.kernelDevices =
            environment("REPLICA_KERNEL_DEVICES").map { $0 != "no" } ?? (environment("REPLICA_NODE") == nil)
        configuration.memoryIsLocked = harden()
        let signals = clinux_signal_descriptor()
        var endsWell = true
        do throws(SystemError) {
            var loop = try ResourceLoop(configuration, signals: signals)
            if ready >= 0 {
                // From here on nobody reads what goes to the terminal.
                if logDescriptor != 2 {
                    dup2(logDescriptor, 1)
                    dup2(logDescriptor, 2)
                }
                clinux_report_start(ready, 0)
            }
            endsWell = loop.run()
            if var record = loop.takeHandOver() {
                record.descriptors.append(("lock", lock))
                let (program, file) = (loop.handOver.program, loop.handOver.file)
                watch.end()
                return become(program, arguments, record, file: file, log: log)
            }
        } catch {
            log.error("can not start: \(error)")
            watch.end()
            if ready >= 0 {
                say("replicad: \(error)\n", to: 2)
                clinux_report_start(ready, 1)
            }
            return 1
        }
        unlink("\(run)/\(settings.resource).pid")
        watch.end()
        return endsWell ? 0 : 1
    }

    // MARK: Handing over

    /// The other program begins in this process. Returns only if neither it nor this one again can be started.
    private static func become(
        _ program: String, _ arguments: Arguments, _ record: HandOver, file: String, log: Logger
    ) -> Int32 {
        if let error = writePrivately(record.text(resource: arguments.resource), to: file) {
            log.error("\(file): \(error)")
            return 1
        }
        for descriptor in descriptors(of: record) { _ = clinux_inherit(descriptor, 1) }
        // The one that watches over this program has been told to end.
        for _ in 0..<200 where waitpid(-1, nil, WNOHANG) == 0 { usleep(1000) }
        for path in [program, "/proc/self/exe"] {
            var words = [path]
            if arguments.isForeground { words.append("-f") }
            if let settings = arguments.settingsPath { words += ["--settings", settings] }
            if let path = arguments.logPath { words += ["--log", path] }
            words += ["--take-over", file, arguments.resource]
            let strings: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
            execv(path, strings)
            log.error("\(path) does not take over: \(SystemError.text(errno))")
            for string in strings { free(string) }
        }
        return 1
    }

    private static func descriptors(of record: HandOver) -> [Int32] {
        record.descriptors.map(\.descriptor) + record.devices.map(\.descriptor)
            + record.devices.map(\.unread).filter { $0 >= 0 }
    }

    /// A new file that only its owner may read: there are secrets in it.
    private static func writePrivately(_ text: String, to path: String) -> String? {
        unlink(path)
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return SystemError.text(errno) }
        defer { close(descriptor) }
        let bytes = Array(text.utf8)
        let written = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        return written == bytes.count ? nil : SystemError.text(written < 0 ? errno : ENOSPC)
    }

    private static func readHandOver(_ arguments: Arguments) throws(Failure) -> HandOver? {
        guard let path = arguments.takeOverPath else { return nil }
        guard let text = readWhole(path) else { throw Failure(message: "\(path): \(SystemError.text(errno))") }
        do throws(HandOverError) {
            let record = try HandOver(parsing: text, resource: arguments.resource)
            if arguments.isCheck { return record }
            for descriptor in descriptors(of: record) where clinux_inherit(descriptor, 0) != 0 {
                throw HandOverError.badLine(number: 0, "descriptor \(descriptor), which is not there")
            }
            return record
        } catch {
            throw Failure(message: "\(path): \(error.message)")
        }
    }

    // MARK: Before the start

    /// Daemonising leaves the working directory.
    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }

    private static func parse(_ words: [String]) throws(Failure) -> Arguments {
        var arguments = Arguments()
        var rest = words[...]
        while let word = rest.popFirst() {
            switch word {
            case "-f", "--foreground": arguments.isForeground = true
            case "--check": arguments.isCheck = true
            case "--settings", "--log", "--take-over":
                guard let value = rest.popFirst() else { throw Failure(message: "\(word) needs a file name\n" + usage) }
                switch word {
                case "--log": arguments.logPath = value
                case "--settings": arguments.settingsPath = value
                default: arguments.takeOverPath = value
                }
            default:
                guard !word.hasPrefix("-"), arguments.resource.isEmpty else {
                    throw Failure(message: "can not understand '\(word)'\n" + usage)
                }
                arguments.resource = word
            }
        }
        guard !arguments.resource.isEmpty else { throw Failure(message: "no resource given\n" + usage) }
        guard !arguments.resource.contains("/"), arguments.resource != ".", arguments.resource != ".." else {
            throw Failure(message: "'\(arguments.resource)' is not a resource name")
        }
        return arguments
    }

    private static func readSettings(_ arguments: Arguments, _ run: String) throws(Failure) -> DaemonSettings {
        let path = arguments.settingsPath ?? "\(run)/\(arguments.resource).settings"
        var settings = DaemonSettings(resource: arguments.resource, node: nodeName())
        if let text = readWhole(path) {
            do throws(DaemonSettingsError) { settings = try DaemonSettings(parsing: text) } catch {
                throw Failure(message: "\(path): \(error.message)")
            }
        } else if arguments.settingsPath != nil {
            throw Failure(message: "\(path): \(SystemError.text(errno))")
        }
        guard settings.resource == arguments.resource else {
            throw Failure(message: "\(path) is about resource '\(settings.resource)'")
        }
        if let node = environment("REPLICA_NODE") { settings.node = node }
        return settings
    }

    static func readWhole(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var result: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while result.count < 1 << 20 {
            let count = read(descriptor, &piece, piece.count)
            if count <= 0 { break }
            result.append(contentsOf: piece[..<count])
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// One daemon per resource: the lock lives as long as the process, and passes to the child when it daemonises.
    ///
    /// A daemon that has just answered `down` removes the file while it still holds the lock: whoever is turned away
    /// tries again for a moment, and a lock on a file that is gone is none.
    private static func lockPidFile(_ path: String) throws(Failure) -> Int32 {
        for _ in 0..<100 {
            let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
            guard descriptor >= 0 else { throw Failure(message: "\(path): \(SystemError.text(errno))") }
            let isLocked = clinux_lock_range(descriptor, 0, 0) == 0
            let reason = errno
            var mine = stat()
            var named = stat()
            if isLocked, fstat(descriptor, &mine) == 0, stat(path, &named) == 0, mine.st_ino == named.st_ino,
                mine.st_dev == named.st_dev
            {
                return descriptor
            }
            close(descriptor)
            guard isLocked || reason == EAGAIN else { throw Failure(message: "\(path): \(SystemError.text(reason))") }
            usleep(20_000)
        }
        throw Failure(message: "already running")
    }

    private static func writePid(_ descriptor: Int32) {
        var text = "\(getpid())\n"
        _ = ftruncate(descriptor, 0)
        text.withUTF8 { _ = pwrite(descriptor, $0.baseAddress, $0.count, 0) }
    }

    /// A block device that needs memory to free memory is a deadlock. What is not permitted is done without.
    /// - Returns: whether memory is locked.
    private static func harden() -> Bool {
        let isLocked = clinux_lock_memory() == 0
        _ = clinux_set_io_flusher()
        let descriptor = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)
        if descriptor >= 0 {
            _ = write(descriptor, "-1000", 5)
            close(descriptor)
        }
        return isLocked
    }

    /// The first of these files that there is; their places are relative to this program's.
    private static func beside(_ names: [String]) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = readlink("/proc/self/exe", &buffer, buffer.count)
        let own = String(decoding: buffer[..<max(length, 0)], as: UTF8.self)
        guard let slash = own.lastIndex(of: "/") else { return nil }
        return names.map { String(own[...slash]) + $0 }.first { access($0, R_OK) == 0 }
    }

    private static func nodeName() -> String {
        var name = [CChar](repeating: 0, count: 256)
        gethostname(&name, name.count - 1)
        return String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name) else { return nil }
        let text = String(cString: value)
        return text.isEmpty ? nil : text
    }

    private static func say(_ text: String, to descriptor: Int32) {
        var text = text
        text.withUTF8 { _ = write(descriptor, $0.baseAddress, $0.count) }
    }
}
