import Glibc

/// Where the metadata tool writes its results and its questions, and where answers come from.
package struct MetaConsole {
    /// Standard output.
    package var write: (String) -> Void
    /// Standard error.
    package var writeError: (String) -> Void
    /// One line of standard input without its end; nil at the end of input.
    package var readLine: () -> String?
    /// All of standard input.
    package var readAll: () -> [UInt8]
    /// Whether somebody can be asked.
    package var isInteractive: Bool

    package init(
        write: @escaping (String) -> Void, writeError: @escaping (String) -> Void,
        readLine: @escaping () -> String?, readAll: @escaping () -> [UInt8], isInteractive: Bool
    ) {
        self.write = write
        self.writeError = writeError
        self.readLine = readLine
        self.readAll = readAll
        self.isInteractive = isInteractive
    }

    /// This process's own streams.
    package static var standard: MetaConsole {
        MetaConsole(
            write: { Self.write($0, to: STDOUT_FILENO) }, writeError: { Self.write($0, to: STDERR_FILENO) },
            readLine: { Swift.readLine(strippingNewline: true) },
            readAll: { Self.readAll(STDIN_FILENO) ?? [] }, isInteractive: isatty(STDIN_FILENO) == 1)
    }

    private static func write(_ text: String, to descriptor: Int32) {
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 && errno == EINTR { continue }
            if written <= 0 { return }
            bytes = bytes.dropFirst(written)
        }
    }

    /// All bytes of an open file; nil with `errno` on failure.
    static func readAll(_ descriptor: Int32) -> [UInt8]? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = chunk.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk[..<count])
        }
    }
}

/// What the metadata tool knows of the machine it runs on.
package struct MetaHost {
    package var name: String
    /// Seconds since 1970.
    package var now: () -> Int
    package var randomUUID: () -> UInt64
    /// Holds `drbd-minor-N.lkbd`: where a minor's metadata was last seen.
    package var libraryDirectory: String
    /// Holds the lock files `drbd-147-N`.
    package var lockDirectory: String
    /// Sectors in use of an LVM physical volume, as LVM says.
    package var physicalVolumeSectors: (String) -> UInt64?

    package init(
        name: String, now: @escaping () -> Int, randomUUID: @escaping () -> UInt64, libraryDirectory: String,
        lockDirectory: String, physicalVolumeSectors: @escaping (String) -> UInt64?
    ) {
        self.name = name
        self.now = now
        self.randomUUID = randomUUID
        self.libraryDirectory = libraryDirectory
        self.lockDirectory = lockDirectory
        self.physicalVolumeSectors = physicalVolumeSectors
    }

    package static var standard: MetaHost {
        MetaHost(
            name: environment("REPLICA_NODE") ?? hostName(), now: { time(nil) },
            randomUUID: { UInt64.random(in: 8...UInt64.max) & ~1 },
            // A node with a run-time directory of its own is one of several on this machine.
            libraryDirectory: environment("REPLICA_LIB_DIR") ?? environment("REPLICA_RUN_DIR").map { $0 + "/lib" }
                ?? "/var/lib/replica", lockDirectory: "/var/lock",
            physicalVolumeSectors: askLVM)
    }

    private static func environment(_ name: String) -> String? {
        guard let value = getenv(name), value.pointee != 0 else { return nil }
        return String(cString: value)
    }

    private static func hostName() -> String {
        var names = utsname()
        guard uname(&names) == 0 else { return "localhost" }
        return withUnsafeBytes(of: names.nodename) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Runs `pvs`; the device's name reaches it through the environment, so that no shell reads it.
    private static func askLVM(_ device: String) -> UInt64? {
        setenv("REPLICA_PV", device, 1)
        defer { unsetenv("REPLICA_PV") }
        let command = "exec pvs --noheadings --nosuffix --units s -o pv_size -- \"$REPLICA_PV\" 2>/dev/null"
        guard let pipe = popen(command, "r") else { return nil }
        let bytes = MetaConsole.readAll(fileno(pipe)) ?? []
        guard pclose(pipe) == 0 else { return nil }
        return UInt64(String(decoding: bytes.filter { $0 > 0x20 }, as: UTF8.self))
    }

    /// `2026-01-31 12:00:00 +0000 [1769860800]`
    var dateText: String {
        var seconds = time_t(now())
        let stamp = seconds
        var parts = tm()
        guard gmtime_r(&seconds, &parts) != nil else { return "[\(stamp)]" }
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(1900 + parts.tm_year)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) +0000 [\(stamp)]"
    }
}

/// Ends a command of the metadata tool: what to say on standard error, and the exit status.
struct MetaFailure: Error {
    var status: Int32
    var message: String

    init(_ status: Int32, _ message: String = "") {
        self.status = status
        self.message = message
    }
}

/// The text of an error number.
func errorText(_ number: Int32) -> String {
    String(cString: strerror(number))
}
