@testable import ReplicaProto

/// What the tests of the wire share: bytes as text, and packets to and from bytes.
enum WireTest {
    static let format101 = WireFormat(version: 101, features: .all)

    /// Hexadecimal digits in any grouping.
    static func bytes(_ hex: String) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(hex.utf8.count / 2)
        var high: UInt8?
        for character in hex.utf8 {
            let digit: UInt8
            switch character {
            case 0x30...0x39: digit = character - 0x30
            case 0x61...0x66: digit = character - 0x61 + 10
            case 0x41...0x46: digit = character - 0x41 + 10
            default: continue
            }
            if let first = high {
                result.append(first << 4 | digit)
                high = nil
            } else {
                high = digit
            }
        }
        return result
    }

    static func hex(_ bytes: some Sequence<UInt8>) -> String {
        let digits = Array("0123456789abcdef".utf8)
        var text: [UInt8] = []
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    static func header(_ bytes: [UInt8], stream: StreamKind, format: WireFormat) throws(PacketError) -> PacketHeader? {
        try PacketHeader.decode(bytes.span.bytes, stream: stream, format: format)
    }

    /// Header and fixed part; nil if either is incomplete.
    static func decode(
        _ bytes: [UInt8], stream: StreamKind, format: WireFormat
    ) throws(PacketError) -> (header: PacketHeader, packet: Packet)? {
        guard let header = try header(bytes, stream: stream, format: format) else { return nil }
        guard bytes.count >= header.headerSize + header.fixedLength else { return nil }
        let body = bytes.span.bytes.extracting(header.headerSize...)
        return (header, try Packet.decode(header, body: body, format: format))
    }

    static func encode(_ packet: Packet, volume: UInt16 = 0, payloadLength: Int = 0, format: WireFormat) -> [UInt8] {
        var memory = [UInt8](repeating: 0xa5, count: 8192)
        let count = memory.withUnsafeMutableBytes {
            packet.encode(volume: VolumeNumber(volume), payloadLength: payloadLength, format: format, into: $0)
        }
        return Array(memory[..<count])
    }

    /// Bytes from a small generator whose seed is an argument.
    static func randomBytes(_ count: Int, _ generator: inout some RandomNumberGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }
}
