/// Reading the fixed part of packets, after `PacketHeader.decode` has checked all lengths.
extension Packet {
    /// Reads the fixed part of the packet whose header was `header`.
    ///
    /// - Parameter body: the `header.fixedLength` bytes behind the header; what follows them is not looked at.
    /// - Throws: `.badField` for a value that no packet of the kind can have, `.badLength` if `body` is too short.
    package static func decode(_ header: PacketHeader, body: RawSpan, format: WireFormat) throws(PacketError) -> Packet {
        guard body.byteCount >= header.fixedLength else {
            throw .badLength(command: header.command.rawValue, length: UInt32(truncatingIfNeeded: body.byteCount))
        }
        switch header.command {
        case .data: return .data(try DataPacket(header, body))
        case .dataReply: return .dataReply(try DataPacket(header, body))
        case .resyncDataReply: return .resyncDataReply(try DataPacket(header, body))
        case .barrier: return .barrier(number: body.readBE32(at: 0))
        case .bitmap: return .bitmap(body.readBytes(at: 0, count: header.fixedLength))
        case .compressedBitmap: return .compressedBitmap(body.readBytes(at: 0, count: header.fixedLength))
        case .unplugRemote: return .unplugRemote
        case .dataRequest: return .dataRequest(try BlockRequest(header, body))
        case .resyncDataRequest: return .resyncDataRequest(try BlockRequest(header, body))
        case .syncParameters, .syncParameters89:
            return .syncParameters(SyncParameters(body, length: header.fixedLength, version: format.version))
        case .protocolParameters: return .protocolParameters(ProtocolParameters(body, length: header.fixedLength))
        case .protocolUpdate: return .protocolUpdate(ProtocolParameters(body, length: header.fixedLength))
        case .uuids: return .uuids(UUIDsPacket(body))
        case .sizes: return .sizes(SizesPacket(body, length: header.fixedLength))
        case .state: return .state(body.readBE32(at: 0))
        case .syncUUID: return .syncUUID(body.readBE64(at: 0))
        case .authChallenge: return .authChallenge(body.readBytes(at: 0, count: header.fixedLength))
        case .authResponse: return .authResponse(body.readBytes(at: 0, count: header.fixedLength))
        case .stateChangeRequest: return .stateChangeRequest(StateChangeRequest(body))
        case .connectionStateChangeRequest: return .connectionStateChangeRequest(StateChangeRequest(body))
        case .verifyRequest: return .verifyRequest(try BlockRequest(header, body))
        case .verifyReply: return .verifyReply(try BlockRequest(header, body))
        case .checksumResyncRequest: return .checksumResyncRequest(try BlockRequest(header, body))
        case .delayProbe: return .delayProbe
        case .outOfSync: return .outOfSync(try AreaPacket(header, body))
        case .trim: return .trim(try DiscardPacket(header, body))
        case .thinResyncRequest: return .thinResyncRequest(try BlockRequest(header, body))
        case .resyncDeallocated: return .resyncDeallocated(try AreaPacket(header, body))
        case .writeSame: return .writeSame(try DiscardPacket(header, body))
        case .zeroes: return .zeroes(try DiscardPacket(header, body))
        case .connectionFeatures: return .connectionFeatures(ConnectionFeatures(body))
        case .initialData: return .initialData
        case .initialMeta: return .initialMeta
        case .ping: return .ping
        case .pingAck: return .pingAck
        case .receiveAck: return .receiveAck(try BlockAck(header, body))
        case .writeAck: return .writeAck(try BlockAck(header, body))
        case .resyncWriteAck: return .resyncWriteAck(try BlockAck(header, body))
        case .superseded: return .superseded(try BlockAck(header, body))
        case .negativeAck: return .negativeAck(try BlockAck(header, body))
        case .negativeDataReply: return .negativeDataReply(try BlockAck(header, body))
        case .negativeResyncReply: return .negativeResyncReply(try BlockAck(header, body))
        case .barrierAck: return .barrierAck(number: body.readBE32(at: 0), setSize: body.readBE32(at: 4))
        case .stateChangeReply: return .stateChangeReply(Int32(bitPattern: body.readBE32(at: 0)))
        case .connectionStateChangeReply: return .connectionStateChangeReply(Int32(bitPattern: body.readBE32(at: 0)))
        case .verifyResult: return .verifyResult(try BlockAck(header, body))
        case .resyncIsInSync: return .resyncIsInSync(try BlockAck(header, body))
        case .resyncCancel: return .resyncCancel(try BlockAck(header, body))
        case .retryWrite: return .retryWrite(try BlockAck(header, body))
        }
    }
}

/// Whether an area can exist on some device: no device is larger than `Limits.deviceSectors`, and no packet is about
/// more than the largest discard. Whether it lies inside *this* volume is for the receiver to say.
private func isArea(_ sector: UInt64, _ byteCount: UInt32, atMost sectors: UInt32) -> Bool {
    byteCount & 511 == 0 && byteCount >> 9 <= sectors && sector <= Limits.deviceSectors
}

extension DataPacket {
    fileprivate init(_ header: PacketHeader, _ body: RawSpan) throws(PacketError) {
        let sector = body.readBE64(at: 0)
        let byteCount = UInt32(truncatingIfNeeded: header.payloadLength &- header.digestLength)
        guard isArea(sector, byteCount, atMost: Limits.requestSectors) else {
            throw .badField(command: header.command.rawValue)
        }
        self.init(
            sector: Sector(sector), blockID: body.readBE64(at: 8), sequence: body.readBE32(at: 16),
            flags: DataFlags(rawValue: body.readBE32(at: 20)), byteCount: byteCount)
    }
}

extension DiscardPacket {
    fileprivate init(_ header: PacketHeader, _ body: RawSpan) throws(PacketError) {
        let sector = body.readBE64(at: 0)
        let byteCount = body.readBE32(at: 24)
        guard byteCount != 0, isArea(sector, byteCount, atMost: Limits.discardSectors) else {
            throw .badField(command: header.command.rawValue)
        }
        self.init(
            sector: Sector(sector), blockID: body.readBE64(at: 8), sequence: body.readBE32(at: 16),
            flags: DataFlags(rawValue: body.readBE32(at: 20)), byteCount: byteCount,
            patternBytes: UInt32(truncatingIfNeeded: header.payloadLength &- header.digestLength))
    }
}

extension BlockRequest {
    fileprivate init(_ header: PacketHeader, _ body: RawSpan) throws(PacketError) {
        let sector = body.readBE64(at: 0)
        let byteCount = body.readBE32(at: 16)
        guard byteCount != 0, isArea(sector, byteCount, atMost: Limits.requestSectors) else {
            throw .badField(command: header.command.rawValue)
        }
        self.init(sector: Sector(sector), blockID: body.readBE64(at: 8), byteCount: byteCount)
    }
}

extension AreaPacket {
    fileprivate init(_ header: PacketHeader, _ body: RawSpan) throws(PacketError) {
        let sector = body.readBE64(at: 0)
        let byteCount = body.readBE32(at: 8)
        guard byteCount != 0, isArea(sector, byteCount, atMost: Limits.discardSectors) else {
            throw .badField(command: header.command.rawValue)
        }
        self.init(sector: Sector(sector), byteCount: byteCount)
    }
}

extension BlockAck {
    /// A size of zero is legal here: a node without disk refuses a trim with it (`wire.md` 7.4 step 1).
    fileprivate init(_ header: PacketHeader, _ body: RawSpan) throws(PacketError) {
        let sector = body.readBE64(at: 0)
        let byteCount = body.readBE32(at: 16)
        guard isArea(sector, byteCount, atMost: Limits.discardSectors) else {
            throw .badField(command: header.command.rawValue)
        }
        self.init(
            sector: Sector(sector), blockID: body.readBE64(at: 8), byteCount: byteCount, sequence: body.readBE32(at: 20))
    }
}

extension StateChangeRequest {
    fileprivate init(_ body: RawSpan) {
        self.init(mask: body.readBE32(at: 0), value: body.readBE32(at: 4))
    }
}

extension ConnectionFeatures {
    fileprivate init(_ body: RawSpan) {
        self.init(
            minimumVersion: body.readBE32(at: 0), flags: FeatureFlags(rawValue: body.readBE32(at: 4)),
            maximumVersion: body.readBE32(at: 8))
    }
}

extension UUIDsPacket {
    fileprivate init(_ body: RawSpan) {
        self.init(
            identifiers: GenerationIdentifiers(
                current: body.readBE64(at: 0), bitmap: body.readBE64(at: 8), history0: body.readBE64(at: 16),
                history1: body.readBE64(at: 24)),
            dirtyBits: body.readBE64(at: 32), flags: UUIDFlags(rawValue: body.readBE64(at: 40)))
    }
}

extension ProtocolParameters {
    /// Bytes of the six numbers.
    package static let wireSize = 24

    /// The lengths that an agreement allows: the algorithm name appeared with version 87.
    static func lengths(version: UInt32) -> ClosedRange<Int> {
        version >= 87 ? wireSize...wireSize + Limits.algorithmNameBytes : wireSize...wireSize
    }

    fileprivate init(_ body: RawSpan, length: Int) {
        self.init(
            replicationProtocol: body.readBE32(at: 0), afterSplitBrain0Primaries: body.readBE32(at: 4),
            afterSplitBrain1Primary: body.readBE32(at: 8), afterSplitBrain2Primaries: body.readBE32(at: 12),
            connectionFlags: body.readBE32(at: 16), twoPrimaries: body.readBE32(at: 20),
            integrityAlgorithm: body.readName(at: ProtocolParameters.wireSize, count: length &- ProtocolParameters.wireSize))
    }
}

extension SyncParameters {
    /// The lengths that an agreement allows (`wire.md` section 10).
    static func lengths(version: UInt32) -> ClosedRange<Int> {
        switch version {
        case ...87: 4...4
        case 88: 5...4 + Limits.algorithmNameBytes
        case 89...94: 132...132
        default: 148...148
        }
    }

    fileprivate init(_ body: RawSpan, length: Int, version: UInt32) {
        let has89 = version >= 89
        let has95 = version >= 95
        self.init(
            resyncRate: body.readBE32(at: 0),
            verifyAlgorithm: has89 ? body.readName(at: 4, count: 64) : body.readName(at: 4, count: length &- 4),
            checksumAlgorithm: has89 ? body.readName(at: 68, count: 64) : "",
            planAhead: has95 ? body.readBE32(at: 132) : 0, delayTarget: has95 ? body.readBE32(at: 136) : 0,
            fillTarget: has95 ? body.readBE32(at: 140) : 0, maximumRate: has95 ? body.readBE32(at: 144) : 0)
    }
}

extension SizesPacket {
    package static let wireSize = 32
    package static let wireSizeWithLimits = 56

    fileprivate init(_ body: RawSpan, length: Int) {
        self.init(
            diskSize: body.readBE64(at: 0), userSize: body.readBE64(at: 8), currentSize: body.readBE64(at: 16),
            maximumRequest: body.readBE32(at: 24), queueOrderType: body.readBE16(at: 28),
            resizeFlags: body.readBE16(at: 30),
            limits: length == SizesPacket.wireSizeWithLimits ? QueueLimits(body, at: 32) : nil)
    }
}

extension QueueLimits {
    fileprivate init(_ body: RawSpan, at offset: Int) {
        self.init(
            physicalBlockSize: body.readBE32(at: offset), logicalBlockSize: body.readBE32(at: offset &+ 4),
            alignmentOffset: body.readBE32(at: offset &+ 8), minimumIO: body.readBE32(at: offset &+ 12),
            optimalIO: body.readBE32(at: offset &+ 16), discardEnabled: body.readU8(at: offset &+ 20) != 0,
            discardZeroesData: body.readU8(at: offset &+ 21) != 0, writeSameCapable: body.readU8(at: offset &+ 22) != 0)
    }
}

extension RawSpan {
    /// A NUL-terminated name in a field of `count` bytes; a name that fills the field lost its last byte, as DRBD does it.
    /// What is no printable ASCII reads as "?": no algorithm is called that, and the name goes into logs.
    fileprivate func readName(at offset: Int, count: Int) -> String {
        var name: [UInt8] = []
        while name.count < count && name.count < Limits.algorithmNameBytes &- 1 {
            let byte = readU8(at: offset &+ name.count)
            if byte == 0 { break }
            name.append(0x21...0x7e ~= byte ? byte : UInt8(ascii: "?"))
        }
        return name.isEmpty ? "" : String(decoding: name, as: UTF8.self)
    }
}
