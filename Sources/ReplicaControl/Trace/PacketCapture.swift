import Glibc
import ReplicaProto

/// Writes a capture file (pcap, microseconds, raw IP) of streams whose TCP segments nobody has seen: each packet becomes
/// segments of a connection between the stream's true addresses.
struct PacketCapture: ~Copyable {
    private struct Endpoint {
        /// 4 or 16 bytes.
        var address: [UInt8]
        var port: UInt16
        var sequence: UInt32 = 1
    }

    private struct Stream {
        var local: Endpoint
        var remote: Endpoint
    }

    /// Payload of a segment: with both headers it stays below the 65,535 bytes of an IP packet.
    private static let segmentBytes = 65_000

    private let descriptor: Int32
    private var streams: [UInt32: Stream] = [:]
    private var buffer: [UInt8] = []

    /// `-` is standard output. Nil, with `errno`, if the file can't be created.
    init?(path: String) {
        descriptor = path == "-" ? 1 : Glibc.open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return nil }
        // Magic, version 2.4, zone, accuracy, longest packet, LINKTYPE_RAW.
        for word in [0xa1b2_c3d4, 0x0002_0004, 0, 0, 262_144, 101] as [UInt32] { buffer.appendBE(word) }
    }

    deinit { if descriptor > 2 { close(descriptor) } }

    /// - Parameter text: "LOCAL REMOTE", each HOST:PORT.
    mutating func open(_ socket: UInt32, _ text: String) {
        let words = text.split(separator: " ")
        guard words.count == 2, let local = Self.endpoint(words[0]), let remote = Self.endpoint(words[1]),
            local.address.count == remote.address.count
        else { return }
        streams[socket] = Stream(local: local, remote: remote)
    }

    mutating func append(_ socket: UInt32, isOutgoing: Bool, nanoseconds: UInt64, _ bytes: ArraySlice<UInt8>) {
        guard var stream = streams[socket] else { return }
        var rest = bytes
        while !rest.isEmpty {
            let piece = rest.prefix(Self.segmentBytes)
            rest = rest.dropFirst(piece.count)
            if isOutgoing {
                append(piece, from: &stream.local, to: stream.remote, nanoseconds)
            } else {
                append(piece, from: &stream.remote, to: stream.local, nanoseconds)
            }
        }
        streams[socket] = stream
    }

    private mutating func append(_ data: ArraySlice<UInt8>, from: inout Endpoint, to: Endpoint, _ nanoseconds: UInt64) {
        let isIPv6 = from.address.count == 16
        let tcpLength = 20 + data.count
        let length = (isIPv6 ? 40 : 20) + tcpLength
        buffer.appendBE(UInt32(truncatingIfNeeded: nanoseconds / 1_000_000_000))
        buffer.appendBE(UInt32(nanoseconds % 1_000_000_000 / 1000))
        buffer.appendBE(UInt32(length))
        buffer.appendBE(UInt32(length))
        let start = buffer.count
        if isIPv6 {
            buffer.appendBE(0x6000_0000 as UInt32)
            buffer.appendBE(UInt16(tcpLength))
            buffer += [6, 64]
        } else {
            buffer.appendBE(0x4500_0000 | UInt32(length) as UInt32)
            buffer += [0, 0, 0x40, 0, 64, 6, 0, 0]
        }
        buffer += from.address
        buffer += to.address
        if !isIPv6 {
            let sum = Self.checksum(buffer[start...], 0)
            buffer[start + 10] = UInt8(sum >> 8)
            buffer[start + 11] = UInt8(sum & 0xff)
        }
        let tcp = buffer.count
        buffer.appendBE(from.port)
        buffer.appendBE(to.port)
        buffer.appendBE(from.sequence)
        buffer.appendBE(to.sequence)
        // 20 bytes of header, ACK and PSH, window, checksum, urgent pointer.
        buffer += [0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]
        buffer += data
        let sum = Self.checksum(buffer[tcp...], Self.sum(from.address[...]) + Self.sum(to.address[...]) + 6 + UInt32(tcpLength))
        buffer[tcp + 16] = UInt8(sum >> 8)
        buffer[tcp + 17] = UInt8(sum & 0xff)
        from.sequence &+= UInt32(data.count)
    }

    /// Writes what has been collected. False, with `errno`, if that fails.
    mutating func flush() -> Bool {
        var written = 0
        while written < buffer.count {
            let count = buffer.withUnsafeBytes { write(descriptor, $0.baseAddress?.advanced(by: written), $0.count - written) }
            if count > 0 { written += count } else if errno != EINTR { return false }
        }
        buffer.removeAll(keepingCapacity: true)
        return true
    }

    private static func endpoint(_ text: Substring) -> Endpoint? {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        // A zone means nothing outside this machine.
        let name = String(host.prefix { $0 != "%" })
        var address = [UInt8](repeating: 0, count: 16)
        if inet_pton(AF_INET, name, &address) == 1 { return Endpoint(address: Array(address[..<4]), port: port) }
        if inet_pton(AF_INET6, name, &address) == 1 { return Endpoint(address: address, port: port) }
        return nil
    }

    private static func sum(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var sum: UInt32 = 0
        var index = bytes.startIndex
        while index + 1 < bytes.endIndex {
            sum += UInt32(bytes[index]) << 8 | UInt32(bytes[index + 1])
            index += 2
        }
        if index < bytes.endIndex { sum += UInt32(bytes[index]) << 8 }
        return sum
    }

    private static func checksum(_ bytes: ArraySlice<UInt8>, _ pseudoHeader: UInt32) -> UInt16 {
        var total = sum(bytes) + pseudoHeader
        while total > 0xffff { total = (total & 0xffff) + total >> 16 }
        return ~UInt16(total)
    }
}

extension [UInt8] {
    mutating func appendBE(_ value: UInt32) {
        for shift in stride(from: 24, through: 0, by: -8) { append(UInt8(truncatingIfNeeded: value >> UInt32(shift))) }
    }
    mutating func appendBE(_ value: UInt16) { self += [UInt8(value >> 8), UInt8(truncatingIfNeeded: value)] }
}
