/// The head of every packet, in one of three forms (`wire.md` 2.1). Integers are big-endian.
///
/// | form      | bytes | layout                                                              | used                        |
/// |-----------|------:|---------------------------------------------------------------------|-----------------------------|
/// | header80  |     8 | magic 0x83740267, command u16, length u16                           | before agreement, 86...99   |
/// | header95  |     8 | magic 0x835a, command u16, length u32                               | 95...99 if length > 32768   |
/// | header100 |    16 | magic 0x8620ec20, volume u16, command u16, length u32, pad u32 = 0  | 100, 101                    |
///
/// Decoding a header applies every rule about lengths, so whatever it returns bounds the bytes that follow:
///
///     header | fixed part (for `Packet.decode`) | payload (for a buffer: digest, then data)
///              `fixedLength`                      `payloadLength`, of which the first `digestLength` are digest
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_header80`, `p_header95`, `p_header100`.
package struct PacketHeader: Equatable, Sendable {
    package static let magic80: UInt32 = 0x8374_0267
    package static let magic95: UInt16 = 0x835a
    package static let magic100: UInt32 = 0x8620_ec20
    /// Bytes of the longest form.
    package static let maximumSize = 16
    /// Bytes of the stream marker, always a header80.
    package static let markerSize = 8

    package var command: PacketCommand
    /// Zero where the field means nothing (packets of the whole connection, P_UNPLUG_REMOTE, header80, header95).
    package var volume: VolumeNumber
    /// Bytes behind the header: fixed part, digest and data.
    package var length: UInt32
    /// Bytes of the header itself: 8 or 16.
    package var headerSize: Int
    /// Bytes that `Packet.decode` wants: for packets without payload all of `length`, at most 4096.
    package var fixedLength: Int
    /// How many bytes at the beginning of the payload are a digest.
    package var digestLength: Int

    /// Bytes behind the fixed part that belong in a buffer.
    @inlinable package var payloadLength: Int { Int(length) &- fixedLength }
    /// Header and body together.
    @inlinable package var packetLength: Int { headerSize &+ Int(length) }

    @inlinable package init(
        command: PacketCommand, volume: VolumeNumber, length: UInt32, headerSize: Int, fixedLength: Int, digestLength: Int
    ) {
        self.command = command
        self.volume = volume
        self.length = length
        self.headerSize = headerSize
        self.fixedLength = fixedLength
        self.digestLength = digestLength
    }

    /// Bytes of the header that an agreement leads to.
    @inlinable package static func size(in format: WireFormat) -> Int { format.version >= 100 ? 16 : 8 }

    /// Reads the header at the beginning of `bytes`; more bytes may follow it.
    ///
    /// - Returns: nil if the header is not complete yet.
    /// - Throws: whatever makes the stream unusable; there is no way to find the next packet.
    package static func decode(_ bytes: RawSpan, stream: StreamKind, format: WireFormat) throws(PacketError) -> PacketHeader?
    {
        let headerSize = size(in: format)
        guard bytes.byteCount >= headerSize else { return nil }
        let magic = bytes.readBE32(at: 0)
        var volume: UInt16 = 0
        let code: UInt16
        let length: UInt32
        if headerSize == 16 {
            guard magic == magic100 else { throw .badMagic(magic) }
            let pad = bytes.readBE32(at: 12)
            guard pad == 0 else { throw .nonZeroPad(pad) }
            volume = bytes.readBE16(at: 4)
            code = bytes.readBE16(at: 6)
            length = bytes.readBE32(at: 8)
        } else if magic == magic80 {
            code = bytes.readBE16(at: 4)
            length = UInt32(bytes.readBE16(at: 6))
        } else if UInt16(truncatingIfNeeded: magic >> 16) == magic95 {
            code = UInt16(truncatingIfNeeded: magic)
            length = bytes.readBE32(at: 4)
        } else {
            throw .badMagic(magic)
        }
        guard let command = PacketCommand(rawValue: code) else { throw .unknownCommand(code) }
        let shape = command.shape
        // Markers and features exist only before an agreement, and nothing else does.
        guard (shape.sinceVersion == 0) == (format.version == 0) else { throw .unknownCommand(code) }
        switch (shape.streams, stream) {
        case (.data, .data), (.meta, .meta), (.both, .data), (.both, .meta): break
        case (.data, .meta), (.meta, .data): throw .wrongStream(code)
        }
        if shape.volumeUse != .named { volume = 0 }
        var header = PacketHeader(
            command: command, volume: VolumeNumber(volume), length: length, headerSize: headerSize,
            fixedLength: Int(shape.fixedSize), digestLength: 0)
        guard header.settleLength(isVariable: shape.isVariable, format: format) else {
            throw .badLength(command: code, length: length)
        }
        return header
    }

    /// Which stream the first 8 bytes of an accepted connection announce; nil if they are no marker.
    package static func marker(_ bytes: RawSpan) -> StreamKind? {
        guard bytes.byteCount >= markerSize, bytes.readBE32(at: 0) == magic80, bytes.readBE16(at: 6) == 0 else { return nil }
        switch PacketCommand(rawValue: bytes.readBE16(at: 4)) {
        case .initialData: return .data
        case .initialMeta: return .meta
        default: return nil
        }
    }

    /// Appends a header. `length` counts everything behind it.
    @inlinable package static func encode(
        _ command: PacketCommand, volume: VolumeNumber, length: Int, format: WireFormat, into output: inout OutputRawSpan
    ) {
        if format.version >= 100 {
            output.appendBE(magic100)
            output.appendBE(volume.value)
            output.appendBE(command.rawValue)
            output.appendBE(UInt32(truncatingIfNeeded: length))
            output.appendBE(0 as UInt32)
        } else {
            encodeShort(command, length: length, format: format, into: &output)
        }
    }

    @usableFromInline static func encodeShort(
        _ command: PacketCommand, length: Int, format: WireFormat, into output: inout OutputRawSpan
    ) {
        if format.version >= 95 && length > 32_768 {
            output.appendBE(magic95)
            output.appendBE(command.rawValue)
            output.appendBE(UInt32(truncatingIfNeeded: length))
        } else {
            invariant(length <= 0xffff, "a packet below version 95 has at most 65535 bytes")
            output.appendBE(magic80)
            output.appendBE(command.rawValue)
            output.appendBE(UInt16(truncatingIfNeeded: length))
        }
    }

    /// Divides `length` into fixed part, digest and data, and checks all three (`wire.md` 2.3).
    private mutating func settleLength(isVariable: Bool, format: WireFormat) -> Bool {
        let length = Int(length)
        switch command {
        case .data, .dataReply, .resyncDataReply:
            digestLength = format.integrityDigestSize
            let data = length &- fixedLength &- digestLength
            return data > 0 && data & 511 == 0 && data <= Int(Limits.requestSectors) &* 512
        case .writeSame:
            digestLength = format.integrityDigestSize
            let block = length &- fixedLength &- digestLength
            return block > 0 && block & 511 == 0 && block <= Limits.writeSameBlockBytes
        case .checksumResyncRequest, .verifyReply:
            digestLength = length &- fixedLength
            let agreed = command == .verifyReply ? format.verify : format.checksum
            if let agreed { return digestLength == agreed.size }
            return digestLength > 0 && digestLength <= Limits.digestBytes
        case .sizes:
            if format.features.contains(.writeSame) { fixedLength = SizesPacket.wireSizeWithLimits }
            return length == fixedLength
        case .syncParameters, .syncParameters89:
            fixedLength = length
            return SyncParameters.lengths(version: format.version).contains(length)
        case .protocolParameters, .protocolUpdate:
            fixedLength = length
            return ProtocolParameters.lengths(version: format.version).contains(length)
        case .bitmap:
            fixedLength = length
            return length <= Limits.controlPacketBytes &- headerSize && length & 7 == 0
        case .compressedBitmap:
            fixedLength = length
            return length >= 2 && length <= Limits.controlPacketBytes &- headerSize
        case .authChallenge, .authResponse:
            fixedLength = length
            return length <= Limits.controlPacketBytes &- headerSize
        default:
            return !isVariable && length == fixedLength
        }
    }
}
