/// Turns the recorded bytes of one direction of one stream into lines of text, one for each packet.
///
/// Payload is counted, not kept. What was agreed at the beginning of a connection stands partly in the other direction
/// and on the other stream; so the agreement is an argument, and the beginning (marker, P_CONNECTION_FEATURES) is told
/// by its header80 and read on its own. A stream that is no protocol any more ends with a line that says so.
package struct PacketStreamPrinter: Sendable {
    /// The agreement that holds after the markers and features.
    package var format: WireFormat
    private let stream: StreamKind
    private var pending: [UInt8] = []
    /// Payload bytes that are still to be skipped.
    private var skip = 0
    /// Where the stream stopped making sense.
    package private(set) var error: PacketError?
    /// Bytes of complete packets so far.
    package private(set) var offset: UInt64 = 0

    package init(stream: StreamKind, format: WireFormat) {
        self.stream = stream
        self.format = format
    }

    /// Takes the next bytes and appends a line for every packet whose head is complete.
    package mutating func feed(_ bytes: RawSpan, into lines: inout [String]) {
        var position = 0
        while error == nil {
            let skipped = min(skip, bytes.byteCount &- position)
            skip &-= skipped
            position &+= skipped
            offset &+= UInt64(skipped)
            guard skip == 0, position < bytes.byteCount || !pending.isEmpty else { return }
            do throws(PacketError) {
                guard let header = try head(bytes, &position),
                    gather(header.headerSize &+ header.fixedLength, bytes, &position)
                else { return }
                lines.append(try line(header))
                offset &+= UInt64(pending.count)
                pending.removeAll(keepingCapacity: true)
                skip = header.payloadLength
            } catch {
                self.error = error
                lines.append("offset \(offset): not a packet: \(error)")
            }
        }
    }

    /// The header in front, once it is complete.
    private mutating func head(_ bytes: RawSpan, _ position: inout Int) throws(PacketError) -> PacketHeader? {
        guard gather(PacketHeader.markerSize, bytes, &position) else { return nil }
        let current = currentFormat
        guard gather(PacketHeader.size(in: current), bytes, &position) else { return nil }
        return try PacketHeader.decode(unsafe pending.span.bytes, stream: stream, format: current)
    }

    private mutating func line(_ header: PacketHeader) throws(PacketError) -> String {
        let current = currentFormat
        let packet = try packet(header, current)
        switch packet {
        case .protocolParameters(let parameters), .protocolUpdate(let parameters):
            // From here on there are digests in this direction (`wire.md` 7.9).
            format.peerIntegrity = DigestAlgorithm(parameters.integrityAlgorithm)
        default: break
        }
        return packet.line(volume: header.volume, format: current, payloadLength: header.payloadLength)
    }

    private func packet(_ header: PacketHeader, _ format: WireFormat) throws(PacketError) -> Packet {
        let body = unsafe pending.span.bytes.extracting(header.headerSize...)
        return try Packet.decode(header, body: body, format: format)
    }

    /// The format of the packet in front: markers and features come in a header80 and before any agreement.
    private var currentFormat: WireFormat {
        let bytes = unsafe pending.span.bytes
        guard bytes.readBE32(at: 0) == PacketHeader.magic80 else { return format }
        return PacketCommand(rawValue: bytes.readBE16(at: 4))?.shape.sinceVersion == 0 ? .initial : format
    }

    private mutating func gather(_ count: Int, _ bytes: RawSpan, _ position: inout Int) -> Bool {
        let wanted = min(count &- pending.count, bytes.byteCount &- position)
        if wanted > 0 {
            pending.append(contentsOf: bytes.readBytes(at: position, count: wanted))
            position &+= wanted
        }
        return pending.count >= count
    }
}
