import Glibc
import ReplicaProto

package enum ControlClientError: Error, Equatable, Sendable {
    /// No daemon answers on the socket.
    case notRunning
    case timedOut
    /// The daemon went away or does not speak our language.
    case broken(String)
}

/// One connection to a daemon's control socket.
///
/// A request is one line; the answer is a line `CODE LENGTH` and LENGTH bytes of text. Requests are answered in
/// order.
package final class ControlClient {
    /// Bytes of text that one answer may have.
    static let maximumAnswerBytes = 64 << 20

    let descriptor: Int32
    private var received: [UInt8] = []
    /// How many of them `receiveBytes` has handed out.
    private var consumed = 0

    /// - Parameter timeoutSeconds: how long a daemon may take to accept that has many such calls waiting; 0 is for ever.
    package init(path: String, timeoutSeconds: Int = 0) throws(ControlClientError) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        guard bytes.count < capacity else { throw .broken("socket path '\(path)' is too long") }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw .broken(ConfigFiles.errorText()) }
        if timeoutSeconds > 0 {
            var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
            setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        if result != 0 {
            let code = errno
            close(descriptor)
            switch code {
            case ENOENT, ECONNREFUSED, ENOTDIR: throw .notRunning
            case EAGAIN: throw .timedOut
            default: throw .broken("\(path): \(ConfigFiles.errorText(code))")
            }
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Sends one line and waits for its answer; a timeout of 0 waits for ever.
    package func ask(_ line: String, timeoutSeconds: Int = 0) throws(ControlClientError) -> CommandAnswer {
        try send(line + "\n")
        return try receiveAnswer(timeoutSeconds: timeoutSeconds)
    }

    /// Sends one line; its answer is fetched later.
    func begin(_ line: String) throws(ControlClientError) { try send(line + "\n") }

    func receiveAnswer(timeoutSeconds: Int) throws(ControlClientError) -> CommandAnswer {
        let header = try receiveLine(timeoutSeconds: timeoutSeconds)
        let words = header.split(separator: " ")
        guard words.count == 2, let code = Int32(words[0]), let length = Int(words[1]), length >= 0,
            length <= ControlClient.maximumAnswerBytes
        else { throw .broken("unexpected answer '\(header.prefix(40))'") }
        while received.count < length { try receive(timeoutSeconds: timeoutSeconds) }
        let text = String(decoding: received[0..<length], as: UTF8.self)
        received.removeFirst(length)
        return CommandAnswer(code: code, text: text)
    }

    /// The next bytes of a stream that follows an answer; nil if it has ended before the first of them.
    func receiveBytes(_ count: Int) throws(ControlClientError) -> [UInt8]? {
        while received.count - consumed < count {
            if consumed > 0 {
                received.removeFirst(consumed)
                consumed = 0
            }
            if try receiveMore(timeoutSeconds: 0) { continue }
            if received.isEmpty { return nil }
            throw .broken("the daemon closed the connection")
        }
        defer { consumed += count }
        return Array(received[consumed..<consumed + count])
    }

    /// Whether so many bytes of such a stream are there already.
    func hasReceived(_ count: Int) -> Bool { received.count - consumed >= count }

    /// Takes what has arrived; false at the end of the stream. Waits if nothing has.
    func takeArrived() throws(ControlClientError) -> Bool { try receiveMore(timeoutSeconds: 0) }

    /// Whether a whole answer has been received and not been taken.
    var hasAnswer: Bool {
        guard let end = received.firstIndex(of: 10) else { return false }
        let words = String(decoding: received[0..<end], as: UTF8.self).split(separator: " ")
        // What is no header is found out when it is taken.
        guard words.count == 2, let length = Int(words[1]), length >= 0 else { return true }
        return received.count - end - 1 >= length
    }

    /// Waits until the daemon closes the connection, as it does when it ends.
    package func waitForEnd(timeoutSeconds: Int) throws(ControlClientError) {
        while true {
            do { try receive(timeoutSeconds: timeoutSeconds) } catch ControlClientError.broken { return }
        }
    }

    private func send(_ text: String) throws(ControlClientError) {
        let bytes = Array(text.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                Glibc.send(descriptor, buffer.baseAddress?.advanced(by: sent), bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            if count > 0 { sent += count } else if errno != EINTR { throw .broken(ConfigFiles.errorText()) }
        }
    }

    private func receiveLine(timeoutSeconds: Int) throws(ControlClientError) -> String {
        while true {
            if let end = received.firstIndex(of: 10) {
                let line = String(decoding: received[0..<end], as: UTF8.self)
                received.removeFirst(end + 1)
                return line
            }
            if received.count > 64 { throw .broken("no answer header") }
            try receive(timeoutSeconds: timeoutSeconds)
        }
    }

    private func receive(timeoutSeconds: Int) throws(ControlClientError) {
        guard try receiveMore(timeoutSeconds: timeoutSeconds) else { throw .broken("the daemon closed the connection") }
    }

    /// False at the end of the stream.
    private func receiveMore(timeoutSeconds: Int) throws(ControlClientError) -> Bool {
        if timeoutSeconds > 0 {
            var request = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            let ready = poll(&request, 1, Int32(clamping: timeoutSeconds * 1000))
            if ready == 0 { throw .timedOut }
        }
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = chunk.withUnsafeMutableBytes { recv(descriptor, $0.baseAddress, $0.count, 0) }
        if count == 0 { return false }
        if count < 0 {
            if errno == EINTR { return true }
            throw .broken(ConfigFiles.errorText())
        }
        received += chunk[0..<count]
        return true
    }
}

/// Asks a daemon that may have been killed a moment ago: its socket takes connections until the kernel is done with it, and
/// cuts them off then. Tries again for half a second.
func withPatience<Answer>(_ body: () throws(ControlClientError) -> Answer) throws(ControlClientError) -> Answer {
    var tries = 25
    while true {
        do { return try body() } catch {
            tries -= 1
            guard case .broken = error, tries > 0 else { throw error }
        }
        poll(nil, 0, 20)
    }
}
