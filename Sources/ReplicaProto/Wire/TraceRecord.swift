/// What a daemon tells somebody who traces it, one record for each packet: 40 bytes of head, then `length` more.
///
/// | offset | field                                                                           |
/// |-------:|---------------------------------------------------------------------------------|
/// |      0 | length u32                                                                      |
/// |      4 | kind u8, direction u8 (1: sent by the daemon), stream u8 (1: meta), data-integrity-alg u8 (0: none) |
/// |      8 | socket u32, agreed version u32, agreed features u32                             |
/// |     20 | packets lost before this one u32: the tracer was slower than the stream          |
/// |     24 | nanoseconds since 1970 u64                                                      |
/// |     32 | bytes of the packet's header, fixed part and digest u32                         |
/// |     36 | bytes behind them on the wire u32, which follow in the record if they are traced |
///
/// All integers are big-endian. The control socket carries records after the answer to the line `trace`.
package struct TraceRecord: Equatable, Sendable {
    package enum Kind: UInt8, Sendable {
        /// A stream is in use from now on; the text behind is "LOCAL REMOTE", each HOST:PORT.
        case opened = 0
        case packet = 1
    }

    package static let headBytes = 40
    /// Bytes behind a head: more is no record.
    package static let maximumLength = 4 << 20

    package var kind: Kind
    package var isOutgoing = false
    package var stream: StreamKind
    package var socket: UInt32
    package var format: WireFormat
    package var lost: UInt32 = 0
    package var nanoseconds: UInt64
    package var fixedBytes: UInt32 = 0
    package var payloadBytes: UInt32 = 0
    package var length: UInt32 = 0

    package init(_ kind: Kind, stream: StreamKind, socket: UInt32, format: WireFormat, nanoseconds: UInt64) {
        self.kind = kind
        self.stream = stream
        self.socket = socket
        self.format = format
        self.nanoseconds = nanoseconds
    }

    package func encode(into output: inout OutputRawSpan) {
        output.appendBE(length)
        output.appendU8(kind.rawValue)
        output.appendU8(isOutgoing ? 1 : 0)
        output.appendU8(stream == .meta ? 1 : 0)
        let integrity = isOutgoing ? format.integrity : format.peerIntegrity
        output.appendU8(integrity.map { $0.rawValue &+ 1 } ?? 0)
        output.appendBE(socket)
        output.appendBE(format.version)
        output.appendBE(format.features.rawValue)
        output.appendBE(lost)
        output.appendBE(nanoseconds)
        output.appendBE(fixedBytes)
        output.appendBE(payloadBytes)
    }

    /// Nil if these bytes, at least `headBytes` of them, are no head of a record.
    package init?(decoding bytes: RawSpan) {
        guard bytes.byteCount >= Self.headBytes, let kind = Kind(rawValue: bytes.readU8(at: 4)), bytes.readU8(at: 5) < 2,
            bytes.readU8(at: 6) < 2
        else { return nil }
        self.kind = kind
        length = bytes.readBE32(at: 0)
        isOutgoing = bytes.readU8(at: 5) == 1
        stream = bytes.readU8(at: 6) == 1 ? .meta : .data
        socket = bytes.readBE32(at: 8)
        format = WireFormat(
            version: bytes.readBE32(at: 12), features: FeatureFlags(rawValue: bytes.readBE32(at: 16)),
            peerIntegrity: DigestAlgorithm(rawValue: bytes.readU8(at: 7) &- 1))
        format.integrity = format.peerIntegrity
        lost = bytes.readBE32(at: 20)
        nanoseconds = bytes.readBE64(at: 24)
        fixedBytes = bytes.readBE32(at: 32)
        payloadBytes = bytes.readBE32(at: 36)
        guard Int(length) <= Self.maximumLength, kind == .opened || length == fixedBytes || length == fixedBytes &+ payloadBytes
        else { return nil }
    }
}
