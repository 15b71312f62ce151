import Glibc
import Logging
import ReplicaProto
import Synchronization
import Testing

@testable import ReplicaDevice

/// A directory of a test's own, gone at its end.
final class TestDirectory: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/replica-test.XXXXXX".utf8CString)
        let made = mkdtemp(&template)
        try #require(made != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { TestDirectory.remove(path) }

    private static func remove(_ path: String) {
        if let listing = opendir(path) {
            var names: [String] = []
            while let entry = readdir(listing) {
                names.append(
                    withUnsafePointer(to: &entry.pointee.d_name) {
                        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                    })
            }
            closedir(listing)
            for name in names where name != "." && name != ".." { remove("\(path)/\(name)") }
            rmdir(path)
        } else {
            unlink(path)
        }
    }

    /// A sparse file with fresh internal metadata at its end.
    func disk(_ name: String, bytes: UInt64) throws -> String {
        let file = "\(path)/\(name)"
        let descriptor = open(file, O_RDWR | O_CREAT | O_TRUNC, 0o600)
        try #require(descriptor >= 0)
        defer { close(descriptor) }
        try #require(ftruncate(descriptor, off_t(bytes)) == 0)
        let layout = try MetadataLayout(.internal, deviceSectors: bytes / 512)
        let initialised = ActivityLogTransaction.initialisedBlock()
        for block in 0..<layout.activityLogSectors / 8 {
            try #require(pwrite(descriptor, initialised, 4096, off_t(layout.activityLog * 512 + block * 4096)) == 4096)
        }
        let superblock = layout.freshSuperblock(deviceUUID: 1).encoded()
        try #require(pwrite(descriptor, superblock, 4096, off_t(layout.superblock * 512)) == 4096)
        return file
    }
}

func bytesOfFile(_ path: String, at offset: Int, count: Int) throws -> [UInt8] {
    let descriptor = open(path, O_RDONLY)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: count)
    try #require(pread(descriptor, &bytes, count, off_t(offset)) == count)
    return bytes
}

/// A whole resource on a thread of this process: real ring, real files, real sockets.
final class TestNode: Sendable {
    let directory: TestDirectory
    let run: String
    private let worker: Worker
    private let finished = Mutex(false)

    /// Nil where the kernel has no io_uring for us.
    init?(
        _ name: String, in directory: TestDirectory, handlers: [DaemonSettings.Handler] = [], handlerSeconds: Int = 600,
        stopping: StopLimits = StopLimits(), device: String = "/dev/drbd0", kernelDevices: Bool = false
    ) throws {
        self.directory = directory
        run = "\(directory.path)/\(name)"
        mkdir(run, 0o700)
        var settings = DaemonSettings(resource: "r0", node: name)
        settings.volumes = [DaemonSettings.Volume(volume: VolumeNumber(0), minor: 0, device: device)]
        settings.handlers = handlers
        settings.handlerTimeoutSeconds = handlerSeconds
        let file = open("\(run)/log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o600)
        let log = Logger(label: name) { _ in LineLogHandler(label: "", descriptor: file) }
        var configuration = LoopConfiguration(settings: settings, runDirectory: run, log: log)
        configuration.stopping = stopping
        configuration.kernelDevices = kernelDevices
        configuration.buffers = BufferConfiguration(small: 256, medium: 32, large: 16)
        configuration.ring.entries = 256
        configuration.ring.completionEntries = 1024
        let box: LoopBox
        do throws(SystemError) { box = LoopBox(try ResourceLoop(configuration)) } catch {
            if error.call == "io_uring_setup" { return nil }
            throw error
        }
        worker = box.worker
        box.finish = { [self] in finished.withLock { $0 = true } }
        box.start()
    }

    /// The orderly end; false if it takes too long.
    func stop() -> Bool {
        worker.post(.stop)
        let ended = wait { self.finished.withLock { $0 } }
        if !ended { Issue.record("\(run) does not end:\n\(log)") }
        return ended
    }

    /// One line to the control socket, and its answer.
    func ask(_ line: String) throws -> (code: Int32, text: String) {
        let client = try TestSocket(path: "\(run)/r0.ctl")
        try client.send(Array((line + "\n").utf8))
        var head: [UInt8] = []
        while head.last != 10 { head += try client.receive(1) }
        let words = String(decoding: head.dropLast(), as: UTF8.self).split(separator: " ")
        let code = try #require(words.first.flatMap { Int32($0) })
        let length = try #require(words.last.flatMap { Int($0) })
        return (code, String(decoding: try client.receive(length), as: UTF8.self))
    }

    func command(_ line: String, _ location: SourceLocation = #_sourceLocation) throws {
        let (code, text) = try ask(line)
        #expect(code >= 0 && code < 100, "\(line): \(code) \(text)", sourceLocation: location)
    }

    func status() throws -> VolumeStatus {
        let status = try ResourceStatus(parsing: try ask("status-raw").text)
        return try #require(status.volumes.first)
    }

    var log: String { (try? String(decoding: wholeFile("\(run)/log"), as: UTF8.self)) ?? "" }
}

func wholeFile(_ path: String) throws -> [UInt8] {
    var information = stat()
    try #require(stat(path, &information) == 0)
    return try bytesOfFile(path, at: 0, count: Int(information.st_size))
}

/// Looks again and again until something holds; false after 20 s.
func wait(_ holds: () throws -> Bool) rethrows -> Bool {
    let end = monotonicNanoseconds() + 20_000_000_000
    while monotonicNanoseconds() < end {
        if try holds() { return true }
        usleep(2000)
    }
    return false
}

/// Carries a loop to its thread.
private final class LoopBox: @unchecked Sendable {
    private var loop: ResourceLoop?
    let worker: Worker
    var finish: () -> Void = {}

    init(_ loop: consuming ResourceLoop) {
        worker = loop.worker
        self.loop = consume loop
    }

    func start() {
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                let box = Unmanaged<LoopBox>.fromOpaque(argument.unsafelyUnwrapped).takeRetainedValue()
                if var loop = box.loop.take() { loop.run() }
                box.finish()
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        if result == 0 { pthread_detach(thread) }
    }
}

/// A blocking Unix socket.
final class TestSocket {
    let descriptor: Int32

    init(path: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let connected = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(connected == 0)
        var limit = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit { close(descriptor) }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count < 0 && errno == EINTR { continue }
            try #require(count > 0)
            sent += count
        }
    }

    func receive(_ count: Int) throws -> [UInt8] {
        guard count > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        var got = 0
        while got < count {
            let piece = bytes.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress! + got, count - got, 0) }
            let code = errno
            if piece < 0 && code == EINTR { continue }
            try #require(piece > 0, "\(got) of \(count) bytes came, then \(piece) (errno \(code))")
            got += piece
        }
        return bytes
    }

    /// Whether the other side closes (after whatever it still says).
    func isClosed() -> Bool {
        var byte: UInt8 = 0
        while true {
            let count = recv(descriptor, &byte, 1, 0)
            if count == 0 { return true }
            if count < 0 && errno != EINTR { return errno == ECONNRESET }
        }
    }
}

/// A plain NBD client: what our own code does not share with the server is the point.
final class TestClient {
    let socket: TestSocket
    private(set) var size: UInt64 = 0
    let structured: Bool
    private var cookie: UInt64 = 0

    /// Opens an export by NBD_OPT_EXPORT_NAME after an optional NBD_OPT_STRUCTURED_REPLY.
    init(_ node: TestNode, export: String = "r0", structured: Bool) throws {
        self.structured = structured
        socket = try TestSocket(path: "\(node.run)/r0.nbd")
        let greeting = try socket.receive(18)
        try #require(greeting[0..<8].elementsEqual("NBDMAGIC".utf8))
        try socket.send([0, 0, 0, 3])
        if structured {
            try socket.send(Array("IHAVEOPT".utf8) + TestClient.be32(8) + TestClient.be32(0))
            _ = try socket.receive(20)
        }
        try socket.send(
            Array("IHAVEOPT".utf8) + TestClient.be32(1) + TestClient.be32(UInt32(export.utf8.count)) + Array(export.utf8))
        let answer = try socket.receive(10)
        size = answer[0..<8].reduce(0) { $0 << 8 | UInt64($1) }
    }

    static func be32(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * UInt32($0))) }
    }
    static func be64(_ value: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: value >> (56 - 8 * UInt64($0))) }
    }

    /// Sends one request and returns its cookie.
    @discardableResult
    func request(_ type: UInt16, flags: UInt16 = 0, offset: UInt64, length: UInt32, payload: [UInt8] = []) throws -> UInt64 {
        cookie += 1
        let head =
            TestClient.be32(0x2560_9513) + [UInt8(flags >> 8), UInt8(flags & 0xff), UInt8(type >> 8), UInt8(type & 0xff)]
            + TestClient.be64(cookie) + TestClient.be64(offset) + TestClient.be32(length)
        try socket.send(head + payload)
        return cookie
    }

    /// A simple reply: cookie and error.
    func simpleReply() throws -> (cookie: UInt64, error: UInt32) {
        let head = try socket.receive(16)
        try #require(head[0..<4].elementsEqual([0x67, 0x44, 0x66, 0x98]))
        return (head[8..<16].reduce(0) { $0 << 8 | UInt64($1) }, head[4..<8].reduce(0) { $0 << 8 | UInt32($1) })
    }

    func write(_ bytes: [UInt8], at offset: UInt64, fua: Bool = false) throws -> UInt32 {
        try request(1, flags: fua ? 1 : 0, offset: offset, length: UInt32(bytes.count), payload: bytes)
        return try simpleReply().error
    }

    /// Reads by simple reply, or puts the chunks of a structured one together.
    func read(_ offset: UInt64, _ count: Int, flags: UInt16 = 0) throws -> [UInt8] {
        try request(0, flags: flags, offset: offset, length: UInt32(count))
        return try readReply(offset, count)
    }

    func readReply(_ offset: UInt64, _ count: Int) throws -> [UInt8] {
        guard structured else {
            let error = try simpleReply().error
            try #require(error == 0)
            return try socket.receive(count)
        }
        var result = [UInt8](repeating: 0xee, count: count)
        while true {
            let head = try socket.receive(20)
            try #require(head[0..<4].elementsEqual([0x66, 0x8e, 0x33, 0xef]))
            let type = UInt16(head[6]) << 8 | UInt16(head[7])
            let length = head[16..<20].reduce(0) { $0 << 8 | Int($1) }
            let body = try socket.receive(length)
            if type == 1 {
                let start = Int(body[0..<8].reduce(0) { $0 << 8 | UInt64($1) } - offset)
                result.replaceSubrange(start..<start + length - 8, with: body[8...])
            } else {
                try #require(type == 0)
            }
            if head[5] & 1 != 0 { return result }
        }
    }
}

/// Bytes that tell where they belong.
func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
    var random = SplitMix(state: seed)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count { withUnsafeBytes(of: random.next()) { bytes += $0 } }
    return Array(bytes.prefix(count))
}
