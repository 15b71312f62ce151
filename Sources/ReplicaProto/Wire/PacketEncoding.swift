/// Writing packets: header and fixed part. The payload (digest, data) is appended by whoever holds its buffer.
extension Packet {
    /// The command under which the packet travels.
    package func command(in format: WireFormat) -> PacketCommand {
        switch self {
        case .data: .data
        case .dataReply: .dataReply
        case .resyncDataReply: .resyncDataReply
        case .barrier: .barrier
        case .bitmap: .bitmap
        case .compressedBitmap: .compressedBitmap
        case .unplugRemote: .unplugRemote
        case .dataRequest: .dataRequest
        case .resyncDataRequest: .resyncDataRequest
        case .syncParameters: format.version >= 89 ? .syncParameters89 : .syncParameters
        case .protocolParameters: .protocolParameters
        case .protocolUpdate: .protocolUpdate
        case .uuids: .uuids
        case .sizes: .sizes
        case .state: .state
        case .syncUUID: .syncUUID
        case .authChallenge: .authChallenge
        case .authResponse: .authResponse
        case .stateChangeRequest: .stateChangeRequest
        case .connectionStateChangeRequest: .connectionStateChangeRequest
        case .verifyRequest: .verifyRequest
        case .verifyReply: .verifyReply
        case .checksumResyncRequest: .checksumResyncRequest
        case .delayProbe: .delayProbe
        case .outOfSync: .outOfSync
        case .trim: .trim
        case .thinResyncRequest: .thinResyncRequest
        case .resyncDeallocated: .resyncDeallocated
        case .writeSame: .writeSame
        case .zeroes: .zeroes
        case .connectionFeatures: .connectionFeatures
        case .initialData: .initialData
        case .initialMeta: .initialMeta
        case .ping: .ping
        case .pingAck: .pingAck
        case .receiveAck: .receiveAck
        case .writeAck: .writeAck
        case .resyncWriteAck: .resyncWriteAck
        case .superseded: .superseded
        case .negativeAck: .negativeAck
        case .negativeDataReply: .negativeDataReply
        case .negativeResyncReply: .negativeResyncReply
        case .barrierAck: .barrierAck
        case .stateChangeReply: .stateChangeReply
        case .connectionStateChangeReply: .connectionStateChangeReply
        case .verifyResult: .verifyResult
        case .resyncIsInSync: .resyncIsInSync
        case .resyncCancel: .resyncCancel
        case .retryWrite: .retryWrite
        }
    }

    /// Bytes of the body without the payload that lies in a buffer.
    package func fixedLength(in format: WireFormat) -> Int {
        switch self {
        case .data, .dataReply, .resyncDataReply: 24
        case .dataRequest, .resyncDataRequest, .thinResyncRequest, .checksumResyncRequest, .verifyRequest, .verifyReply: 24
        case .receiveAck, .writeAck, .resyncWriteAck, .superseded, .negativeAck, .negativeDataReply, .negativeResyncReply,
            .verifyResult, .resyncIsInSync, .resyncCancel, .retryWrite:
            24
        case .trim, .zeroes, .writeSame: 28
        case .outOfSync, .resyncDeallocated: 16
        case .barrier, .barrierAck, .syncUUID, .stateChangeRequest, .connectionStateChangeRequest, .delayProbe: 8
        case .state, .stateChangeReply, .connectionStateChangeReply: 4
        case .unplugRemote, .ping, .pingAck, .initialData, .initialMeta: 0
        case .uuids: 48
        case .connectionFeatures: 72
        case .sizes: format.features.contains(.writeSame) ? SizesPacket.wireSizeWithLimits : SizesPacket.wireSize
        case .syncParameters(let parameters): parameters.wireLength(version: format.version)
        case .protocolParameters(let parameters), .protocolUpdate(let parameters):
            parameters.wireLength(version: format.version)
        case .bitmap(let bytes), .compressedBitmap(let bytes), .authChallenge(let bytes), .authResponse(let bytes):
            bytes.count
        }
    }

    /// Bytes that `encode` writes: header and fixed part.
    package func encodedSize(in format: WireFormat) -> Int {
        PacketHeader.size(in: format) &+ fixedLength(in: format)
    }

    /// Appends header and fixed part.
    ///
    /// - Parameter payloadLength: bytes that will follow from a buffer; the header counts them.
    package func encode(
        volume: VolumeNumber, payloadLength: Int = 0, format: WireFormat, into output: inout OutputRawSpan
    ) {
        PacketHeader.encode(
            command(in: format), volume: volume, length: fixedLength(in: format) &+ payloadLength, format: format,
            into: &output)
        switch self {
        case .data(let packet): packet.encode(format, into: &output)
        case .dataReply(let packet), .resyncDataReply(let packet): packet.encode(format, into: &output)
        case .trim(let packet), .zeroes(let packet), .writeSame(let packet): packet.encode(format, into: &output)
        case .dataRequest(let request), .resyncDataRequest(let request), .thinResyncRequest(let request),
            .checksumResyncRequest(let request), .verifyRequest(let request), .verifyReply(let request):
            request.encode(into: &output)
        case .receiveAck(let ack), .writeAck(let ack), .resyncWriteAck(let ack), .superseded(let ack), .negativeAck(let ack),
            .negativeDataReply(let ack), .negativeResyncReply(let ack), .verifyResult(let ack), .resyncIsInSync(let ack),
            .resyncCancel(let ack), .retryWrite(let ack):
            ack.encode(into: &output)
        case .outOfSync(let area), .resyncDeallocated(let area): area.encode(into: &output)
        case .barrier(let number):
            output.appendBE(number)
            output.appendBE(0 as UInt32)
        case .barrierAck(let number, let setSize):
            output.appendBE(number)
            output.appendBE(setSize)
        case .unplugRemote, .ping, .pingAck, .initialData, .initialMeta: break
        case .bitmap(let bytes), .compressedBitmap(let bytes), .authChallenge(let bytes), .authResponse(let bytes):
            for byte in bytes { output.appendU8(byte) }
        case .syncParameters(let parameters): parameters.encode(version: format.version, into: &output)
        case .protocolParameters(let parameters), .protocolUpdate(let parameters):
            parameters.encode(version: format.version, into: &output)
        case .uuids(let packet): packet.encode(into: &output)
        case .sizes(let packet): packet.encode(withLimits: format.features.contains(.writeSame), into: &output)
        case .state(let word): output.appendBE(word)
        case .syncUUID(let identifier): output.appendBE(identifier)
        case .stateChangeRequest(let request), .connectionStateChangeRequest(let request):
            output.appendBE(request.mask)
            output.appendBE(request.value)
        case .stateChangeReply(let code), .connectionStateChangeReply(let code): output.appendBE(UInt32(bitPattern: code))
        case .delayProbe: output.appendBE(0 as UInt64)
        case .connectionFeatures(let features): features.encode(into: &output)
        }
    }

    /// `encode` into plain memory of at least `encodedSize` bytes. Returns the number of bytes written.
    @unsafe package func encode(
        volume: VolumeNumber, payloadLength: Int = 0, format: WireFormat, into memory: UnsafeMutableRawBufferPointer
    ) -> Int {
        var output = unsafe OutputRawSpan(buffer: memory, initializedCount: 0)
        encode(volume: volume, payloadLength: payloadLength, format: format, into: &output)
        return unsafe output.finalize(for: memory)
    }
}

extension DataFlags {
    /// The flags that a peer of an older version understands (`wire.md` 7.2): acknowledgements are asked for since 100;
    /// before 95 all that a request can say is that somebody waits for it.
    func understood(by version: UInt32) -> DataFlags {
        if version >= 100 { return self }
        if version >= 95 { return subtracting([.sendReceiveAck, .sendWriteAck]) }
        let waits = !isDisjoint(with: [.sync, .unplug])
        return intersection(.maySetInSync).union(waits ? .sync : [])
    }
}

extension DataPacket {
    fileprivate func encode(_ format: WireFormat, into output: inout OutputRawSpan) {
        output.appendBE(sector.value)
        output.appendBE(blockID)
        output.appendBE(sequence)
        output.appendBE(flags.understood(by: format.version).rawValue)
    }
}

extension DiscardPacket {
    fileprivate func encode(_ format: WireFormat, into output: inout OutputRawSpan) {
        output.appendBE(sector.value)
        output.appendBE(blockID)
        output.appendBE(sequence)
        output.appendBE(flags.understood(by: format.version).rawValue)
        output.appendBE(byteCount)
    }
}

extension BlockRequest {
    fileprivate func encode(into output: inout OutputRawSpan) {
        output.appendBE(sector.value)
        output.appendBE(blockID)
        output.appendBE(byteCount)
        output.appendBE(0 as UInt32)
    }
}

extension BlockAck {
    fileprivate func encode(into output: inout OutputRawSpan) {
        output.appendBE(sector.value)
        output.appendBE(blockID)
        output.appendBE(byteCount)
        output.appendBE(sequence)
    }
}

extension AreaPacket {
    fileprivate func encode(into output: inout OutputRawSpan) {
        output.appendBE(sector.value)
        output.appendBE(byteCount)
        output.appendBE(0 as UInt32)
    }
}

extension ConnectionFeatures {
    fileprivate func encode(into output: inout OutputRawSpan) {
        output.appendBE(minimumVersion)
        output.appendBE(flags.rawValue)
        output.appendBE(maximumVersion)
        output.appendZeroes(60)
    }
}

extension UUIDsPacket {
    fileprivate func encode(into output: inout OutputRawSpan) {
        output.appendBE(identifiers.current)
        output.appendBE(identifiers.bitmap)
        output.appendBE(identifiers.history0)
        output.appendBE(identifiers.history1)
        output.appendBE(dirtyBits)
        output.appendBE(flags.rawValue)
    }
}

extension ProtocolParameters {
    fileprivate func wireLength(version: UInt32) -> Int {
        version >= 87 ? ProtocolParameters.wireSize &+ nameLength(integrityAlgorithm) &+ 1 : ProtocolParameters.wireSize
    }

    fileprivate func encode(version: UInt32, into output: inout OutputRawSpan) {
        output.appendBE(replicationProtocol)
        output.appendBE(afterSplitBrain0Primaries)
        output.appendBE(afterSplitBrain1Primary)
        output.appendBE(afterSplitBrain2Primaries)
        output.appendBE(connectionFlags)
        output.appendBE(twoPrimaries)
        if version >= 87 { output.appendName(integrityAlgorithm, field: nameLength(integrityAlgorithm) &+ 1) }
    }
}

extension SyncParameters {
    fileprivate func wireLength(version: UInt32) -> Int {
        switch version {
        case ...87: 4
        case 88: 4 &+ nameLength(verifyAlgorithm) &+ 1
        case 89...94: 132
        default: 148
        }
    }

    fileprivate func encode(version: UInt32, into output: inout OutputRawSpan) {
        output.appendBE(resyncRate)
        if version == 88 { output.appendName(verifyAlgorithm, field: nameLength(verifyAlgorithm) &+ 1) }
        guard version >= 89 else { return }
        output.appendName(verifyAlgorithm, field: Limits.algorithmNameBytes)
        output.appendName(checksumAlgorithm, field: Limits.algorithmNameBytes)
        guard version >= 95 else { return }
        output.appendBE(planAhead)
        output.appendBE(delayTarget)
        output.appendBE(fillTarget)
        output.appendBE(maximumRate)
    }
}

extension SizesPacket {
    fileprivate func encode(withLimits: Bool, into output: inout OutputRawSpan) {
        output.appendBE(diskSize)
        output.appendBE(userSize)
        output.appendBE(currentSize)
        output.appendBE(maximumRequest)
        output.appendBE(queueOrderType)
        output.appendBE(resizeFlags)
        guard withLimits else { return }
        guard let limits else { return output.appendZeroes(24) }
        output.appendBE(limits.physicalBlockSize)
        output.appendBE(limits.logicalBlockSize)
        output.appendBE(limits.alignmentOffset)
        output.appendBE(limits.minimumIO)
        output.appendBE(limits.optimalIO)
        output.appendU8(limits.discardEnabled ? 1 : 0)
        output.appendU8(limits.discardZeroesData ? 1 : 0)
        output.appendU8(limits.writeSameCapable ? 1 : 0)
        output.appendU8(0)
    }
}

/// Bytes of a name on the wire without its NUL; longer names are cut.
private func nameLength(_ name: String) -> Int {
    min(name.utf8.count, Limits.algorithmNameBytes &- 1)
}

extension OutputRawSpan {
    fileprivate mutating func appendZeroes(_ count: Int) {
        for _ in 0..<count { appendU8(0) }
    }

    /// A name, cut to what leaves room for a NUL, and NULs up to `field` bytes.
    fileprivate mutating func appendName(_ name: String, field: Int) {
        var written = 0
        for byte in name.utf8 where written < field &- 1 {
            appendU8(byte)
            written &+= 1
        }
        appendZeroes(field &- written)
    }
}
