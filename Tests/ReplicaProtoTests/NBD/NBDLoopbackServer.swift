import Foundation
import Glibc

@testable import ReplicaProto

/// A server of one small disk in memory on a Unix socket, made of the core's handshake, requests and replies and of the
/// plainest sockets there are. It is here so that real clients can judge the bytes.
final class NBDLoopbackServer: @unchecked Sendable {
    let path: String
    private let listener: Int32
    private let lock = NSLock()
    private var disk: [UInt8]
    private var received: [[UInt8]] = []
    private let flags: NBDTransmissionFlags

    init?(diskBytes: Int, flags: NBDTransmissionFlags = .standard) {
        path = NSTemporaryDirectory() + "nbd-\(UUID().uuidString.prefix(8)).sock"
        disk = [UInt8](repeating: 0, count: diskBytes)
        self.flags = flags
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let name = Array(path.utf8)
        guard listener >= 0, name.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: name) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, size) }
        }
        guard bound == 0, listen(listener, 16) == 0 else { return nil }
        // The thread that accepts closes the listener: a descriptor that it still knows would soon be another test's.
        Thread.detachNewThread { [self] in
            defer { close(listener) }
            while true {
                let connection = accept(listener, nil, nil)
                guard connection >= 0 else { return }
                Thread.detachNewThread { [self] in
                    serve(connection)
                    close(connection)
                }
            }
        }
    }

    func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        unlink(path)
    }

    /// The contents of the disk.
    var contents: [UInt8] { lock.withLock { disk } }
    /// What each client sent, in the order of their first bytes.
    var conversations: [[UInt8]] { lock.withLock { received } }

    private func serve(_ connection: Int32) {
        let index = lock.withLock {
            received.append([])
            return received.count - 1
        }
        var output: [UInt8] = []
        var handshake = NBDHandshake(greetingInto: &output)
        guard send(connection, &output) else { return }
        var buffer: [UInt8] = []
        var agreement: NBDAgreement?
        while agreement == nil {
            guard receive(connection, &buffer, index) else { return }
            while agreement == nil {
                var (used, step) = handshake.receive(buffer.span.bytes, into: &output)
                buffer.removeFirst(used)
                if case .wantsList = step { step = handshake.answerList(["r0", "other"], into: &output) }
                if case .wantsExport(let name, _) = step {
                    let export = NBDExport(name: "r0", description: "a test", size: UInt64(disk.count), flags: flags)
                    step =
                        switch name {
                        case "r0", "": handshake.accept(export, into: &output)
                        case "other": handshake.refuse(.policy, text: "r0 is Secondary", into: &output)
                        default: handshake.refuse(.unknown, text: "no export \(name)", into: &output)
                        }
                    if step == .needsBytes { continue }
                }
                if case .ready(let agreed) = step { agreement = agreed }
                if case .ended = step {
                    _ = send(connection, &output)
                    return
                }
                if step == .needsBytes && used == 0 { break }
            }
            guard send(connection, &output) else { return }
        }
        guard let agreement else { return }
        while true {
            guard let request = NBDRequest(decoding: buffer.span.bytes) else {
                guard buffer.count < NBDRequest.wireSize, receive(connection, &buffer, index) else { return }
                continue
            }
            let verdict = request.judge(agreement.export, structuredReplies: agreement.structuredReplies)
            if verdict == .disconnect || verdict == .hangUp { return }
            while buffer.count < NBDRequest.wireSize + request.payloadLength {
                guard receive(connection, &buffer, index) else { return }
            }
            answer(request, verdict, Array(buffer[NBDRequest.wireSize...].prefix(request.payloadLength)), agreement, &output)
            buffer.removeFirst(NBDRequest.wireSize + request.payloadLength)
            guard send(connection, &output) else { return }
        }
    }

    private func answer(
        _ request: NBDRequest, _ verdict: NBDVerdict, _ payload: [UInt8], _ agreement: NBDAgreement, _ output: inout [UInt8]
    ) {
        let start = Int(truncatingIfNeeded: request.offset)
        let length = Int(request.length)
        switch verdict {
        case .refuse(let error):
            if agreement.structuredReplies && request.command == .read {
                append(&output) { NBDReply.encodeError(cookie: request.cookie, error: error, into: &$0) }
            } else {
                append(&output) { NBDReply.encodeSimple(cookie: request.cookie, error: error, into: &$0) }
            }
        case .read:
            let data = lock.withLock { Array(disk[start..<start + length]) }
            if !agreement.structuredReplies {
                append(&output) { NBDReply.encodeSimple(cookie: request.cookie, error: nil, into: &$0) }
                output += data
            } else if !request.flags.contains(.dontFragment) && data.allSatisfy({ $0 == 0 }) {
                append(&output) {
                    NBDReply.encodeHole(
                        cookie: request.cookie, offset: request.offset, length: request.length, isLast: true, into: &$0)
                }
            } else {
                // Two chunks where the client allows it, and the end on its own.
                let middle = request.flags.contains(.dontFragment) ? length : max(512, length / 1024 * 512)
                for part in [0..<middle, middle..<length] where !part.isEmpty {
                    append(&output) {
                        NBDReply.encodeData(
                            cookie: request.cookie, offset: request.offset + UInt64(part.lowerBound),
                            length: UInt32(part.count), isLast: false, into: &$0)
                    }
                    output += data[part]
                }
                append(&output) { NBDReply.encodeNone(cookie: request.cookie, into: &$0) }
            }
        case .write, .trim, .writeZeroes:
            lock.withLock {
                for index in 0..<length { disk[start + index] = verdict == .write ? payload[index] : 0 }
            }
            append(&output) { NBDReply.encodeSimple(cookie: request.cookie, error: nil, into: &$0) }
        case .flush, .cache:
            append(&output) { NBDReply.encodeSimple(cookie: request.cookie, error: nil, into: &$0) }
        case .disconnect, .hangUp: break
        }
    }

    private func append(_ output: inout [UInt8], _ encode: (inout OutputRawSpan) -> Void) {
        withUnsafeTemporaryAllocation(byteCount: NBDReply.maximumSize, alignment: 8) { memory in
            var span = OutputRawSpan(buffer: memory, initializedCount: 0)
            encode(&span)
            let count = span.finalize(for: memory)
            output += memory[..<count]
        }
    }

    private func receive(_ connection: Int32, _ buffer: inout [UInt8], _ index: Int) -> Bool {
        var piece = [UInt8](repeating: 0, count: 65_536)
        let count = recv(connection, &piece, piece.count, 0)
        guard count > 0 else { return false }
        buffer += piece[..<count]
        lock.withLock { received[index] += piece[..<count] }
        return true
    }

    private func send(_ connection: Int32, _ output: inout [UInt8]) -> Bool {
        var sent = 0
        while sent < output.count {
            let count = output[sent...].withUnsafeBytes {
                Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            sent += count
        }
        output.removeAll()
        return true
    }
}
