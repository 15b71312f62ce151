import Foundation
import ReplicaProto

/// A control socket that answers from a script and remembers what it was asked.
final class FakeDaemon: @unchecked Sendable {
    private let lock = NSLock()
    private let listener: Int32
    private let path: String
    private var asked: [String] = []
    private var answer: @Sendable (String) -> CommandAnswer
    private var isEnded = false

    /// The lines that were asked, queries left out.
    var requests: [String] { lock.withLock { asked.filter { $0 != "status-raw" } } }

    init(
        socket path: String, answer: @escaping @Sendable (String) -> CommandAnswer = { _ in .success }
    ) throws {
        self.path = path
        self.answer = answer
        listener = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(listener, 8) == 0 else { throw POSIXError(.EIO) }
        let thread = Thread { self.serve() }
        thread.start()
    }

    /// Answers `status-raw` with a status and everything else with success.
    convenience init(in harness: ToolHarness, _ status: ResourceStatus) throws {
        let text = status.text
        try self.init(socket: harness.runDirectory + "/\(status.resource).ctl") { line in
            line == "status-raw" ? CommandAnswer(code: 0, text: text) : .success
        }
    }

    deinit { end() }

    /// Takes no more connections.
    func end() {
        let wasEnded = lock.withLock {
            let before = isEnded
            isEnded = true
            return before
        }
        if wasEnded { return }
        shutdown(listener, Int32(SHUT_RDWR))
        unlink(path)
    }

    /// Closes the listener at its end, and nobody else does: tests run beside each other, and the descriptor of a listener
    /// that this thread still knows would soon be another one's.
    private func serve() {
        defer { close(listener) }
        while true {
            let connection = accept(listener, nil, nil)
            if connection < 0 { return }
            Thread { self.serve(connection) }.start()
        }
    }

    private func serve(_ connection: Int32) {
        defer { close(connection) }
        var received: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(connection, &chunk, chunk.count, 0)
            if count <= 0 { return }
            received += chunk[0..<count]
            while let newline = received.firstIndex(of: 10) {
                let line = String(decoding: received[0..<newline], as: UTF8.self)
                received.removeFirst(newline + 1)
                let reply = lock.withLock {
                    asked.append(line)
                    return answer(line)
                }
                let isDown = line.hasPrefix("down ") && reply.code >= 0 && reply.code < 100
                // A daemon that goes down takes no more connections once it has answered.
                if isDown { self.end() }
                // In two pieces: a reader must not take one read for one answer.
                for piece in ["\(reply.code) ", "\(reply.text.utf8.count)\n\(reply.text)"] {
                    let bytes = Array(piece.utf8)
                    _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
                }
                if isDown { return }
            }
        }
    }
}
