/// The parts that events are made of, as words of a recording.
extension RecordWriter {
    mutating func named(_ name: String, _ value: some FixedWidthInteger) {
        word(name)
        number(value)
    }
    mutating func request(_ id: RequestID) {
        number(id.index)
        number(id.generation)
    }
    mutating func request(_ name: String, _ id: RequestID, _ volume: VolumeNumber, _ range: SectorRange) {
        word(name)
        request(id)
        number(volume.value)
        number(range.start.value)
        number(range.count)
    }
    mutating func error(_ error: DiskError?) { optional(error) { $0.number($1.code) } }
    mutating func tag(_ tag: DiskTag) {
        switch tag {
        case .client(let id):
            word("client")
            request(id)
        case .peer(let id):
            word("peer")
            number(id.index)
            number(id.generation)
        }
    }
    mutating func tag(_ tag: FlushTag) {
        switch tag {
        case .client(let id):
            word("client")
            request(id)
        case .epoch(let epoch): named("epoch", epoch)
        case .metadata: word("metadata")
        }
    }
    mutating func image(_ image: DiskImage) {
        number(image.dataDeviceSectors)
        number(image.metadataDeviceSectors)
        bytes(image.superblock)
        bytes(image.activityLog)
        bytes(image.bitmap)
        number(image.logicalBlockSize)
        number(image.physicalBlockSize)
        flag(image.canDiscard)
    }
    mutating func neighbour(_ minor: NeighbourMinor) {
        number(minor.minor)
        flag(minor.isBusy)
        flag(minor.hasDisk)
        number(minor.resyncAfter)
    }
    mutating func failure(_ failure: SocketFailure) {
        switch failure {
        case .endOfFile: word("end")
        case .error(let code): named("errno", code)
        case .protocolError(let error): packetError(error)
        }
    }
    private mutating func packetError(_ error: PacketError) {
        switch error {
        case .badMagic(let magic): named("magic", magic)
        case .nonZeroPad(let pad): named("pad", pad)
        case .unknownCommand(let command): named("unknown", command)
        case .wrongStream(let command): named("stream", command)
        case .badLength(let command, let length):
            named("length", command)
            number(length)
        case .badField(let command): named("field", command)
        case .badDigest(let sector, let byteCount):
            named("digest", sector)
            number(byteCount)
        }
    }
    /// Header and fixed part.
    mutating func packet(_ packet: Packet, _ format: WireFormat) {
        var head = [UInt8](repeating: 0, count: packet.encodedSize(in: format))
        let payload = Self.payloadBytes(packet, format)
        _ = unsafe head.withUnsafeMutableBytes { target in
            unsafe packet.encode(volume: VolumeNumber(0), payloadLength: payload, format: format, into: target)
        }
        bytes(head)
    }

    /// What the header has to count so that it reads back: the size of a block is told by nothing else, the length of a
    /// digest matters to nobody here.
    private static func payloadBytes(_ packet: Packet, _ format: WireFormat) -> Int {
        switch packet {
        case .data(let head), .dataReply(let head), .resyncDataReply(let head): Int(head.byteCount) + format.integrityDigestSize
        case .checksumResyncRequest, .verifyReply: 4
        case .writeSame: 512 + format.integrityDigestSize
        default: 0
        }
    }
}

extension RecordReader {
    mutating func volume() -> VolumeNumber? { number().map { VolumeNumber($0) } }
    mutating func stream() -> StreamKind? { number().flatMap { StreamKind(rawValue: $0) } }
    mutating func request() -> RequestID? {
        guard let index: UInt32 = number(), let generation: UInt32 = number() else { return nil }
        return RequestID(index: index, generation: generation)
    }
    mutating func requested() -> (RequestID, VolumeNumber, SectorRange)? {
        guard let id = request(), let volume = volume(), let start: UInt64 = number(), let count: UInt32 = number() else { return nil }
        return (id, volume, SectorRange(start, count))
    }
    /// The outer nil: unreadable.
    mutating func diskError() -> DiskError?? { optional { line in line.number().map { DiskError($0) } } }
    mutating func diskTag() -> DiskTag? {
        switch word() {
        case "client": return request().map { .client($0) }
        case "peer":
            guard let index: UInt32 = number(), let generation: UInt32 = number() else { return nil }
            return .peer(PeerRequestID(index: index, generation: generation))
        default: return nil
        }
    }
    mutating func flushTag() -> FlushTag? {
        switch word() {
        case "client": request().map { .client($0) }
        case "epoch": number().map { .epoch($0) }
        case "metadata": .metadata
        default: nil
        }
    }
    mutating func image() -> DiskImage? {
        guard let data: UInt64 = number(), let metadata: UInt64 = number(), let superblock = bytes(), let log = bytes(),
            let bitmap = bytes(), let logical: UInt32 = number(), let physical: UInt32 = number(), let canDiscard = flag()
        else { return nil }
        return DiskImage(
            dataDeviceSectors: data, metadataDeviceSectors: metadata, superblock: superblock, activityLog: log,
            bitmap: bitmap, logicalBlockSize: logical, physicalBlockSize: physical, canDiscard: canDiscard)
    }
    mutating func neighbour() -> NeighbourMinor? {
        guard let minor: UInt32 = number(), let isBusy = flag(), let hasDisk = flag(), let resyncAfter: Int = number() else {
            return nil
        }
        return NeighbourMinor(minor: minor, isBusy: isBusy, hasDisk: hasDisk, resyncAfter: resyncAfter)
    }
    mutating func failure() -> SocketFailure? {
        switch word() {
        case "end": return .endOfFile
        case "errno": return number().map { .error($0) }
        case "magic": return number().map { .protocolError(.badMagic($0)) }
        case "pad": return number().map { .protocolError(.nonZeroPad($0)) }
        case "unknown": return number().map { .protocolError(.unknownCommand($0)) }
        case "stream": return number().map { .protocolError(.wrongStream($0)) }
        case "length":
            guard let command: UInt16 = number(), let length: UInt32 = number() else { return nil }
            return .protocolError(.badLength(command: command, length: length))
        case "digest":
            guard let sector: UInt64 = number(), let byteCount: UInt32 = number() else { return nil }
            return .protocolError(.badDigest(sector: sector, byteCount: byteCount))
        case "field": return number().map { .protocolError(.badField(command: $0)) }
        default: return nil
        }
    }
    mutating func packet(_ stream: StreamKind, _ format: WireFormat) -> Packet? {
        guard let bytes = bytes() else { return nil }
        return Self.packet(bytes, stream, format)
    }
    private static func packet(_ bytes: [UInt8], _ stream: StreamKind, _ format: WireFormat) -> Packet? {
        let span = unsafe bytes.span.bytes
        guard let header = try? PacketHeader.decode(span, stream: stream, format: format),
            bytes.count >= header.headerSize + header.fixedLength
        else { return nil }
        return try? Packet.decode(
            header, body: span.extracting(header.headerSize..<header.headerSize + header.fixedLength), format: format)
    }
}
