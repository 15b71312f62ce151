@testable import ReplicaProto

/// One core with an honest disk: every effect is carried out at once and well, unless a test holds it back.
///
/// The contents of a sector are one number, so that copies can be compared; a buffer is the numbers of its sectors.
final class TestNode {
    let name: String
    var core: Resource
    var now = Instant(nanoseconds: 1_000_000_000)
    var queue = EffectQueue()

    // MARK: What the outside holds
    /// One per volume.
    var disks: [TestDisk]
    var buffers: [UInt32: [UInt64]] = [:]
    var nextBuffer: UInt32 = 1
    // Those of volume 0.
    var data: [UInt64] {
        get { disks[0].data }
        _modify { yield &disks[0].data }
    }
    var superblock: [UInt8] {
        get { disks[0].superblock }
        _modify { yield &disks[0].superblock }
    }
    var bitmap: [UInt8] {
        get { disks[0].bitmap }
        _modify { yield &disks[0].bitmap }
    }
    var ring: [UInt8] {
        get { disks[0].ring }
        _modify { yield &disks[0].ring }
    }
    var layout: MetadataLayout { disks[0].layout }
    var deviceSectors: UInt64 { disks[0].deviceSectors }

    // MARK: What happened
    /// Packets in the order of sending, by stream.
    var sent: [(stream: StreamKind, volume: VolumeNumber, packet: Packet, payload: [UInt64]?)] = []
    var answers: [CommandID: CommandAnswer] = [:]
    var replies: [RequestID: (error: ClientError?, data: [UInt64]?)] = [:]
    var logs: [String] = []
    var exports: [VolumeNumber: ExportState] = [:]
    var closed: [SocketID] = []
    var connectAttempts = 0
    var markers: [(SocketID, StreamKind)] = []
    var handlersRun: [HandlerName] = []
    var handlerStatus: [HandlerName: Int32] = [:]
    var challenges: UInt8 = 1
    /// What stands in for a random challenge and for an HMAC, if a test has its own.
    var makesChallenge: (() -> [UInt8])?
    var computesHMAC: ((HMACPurpose) -> [UInt8])?
    var clearedSuperblocks: [UInt64] = []
    /// Effects in the order in which they came, for tests of order.
    var trace: [Effect] = []
    /// Disk and metadata completions wait here instead of being delivered.
    var holdsDisk = false
    var holdsMetadata = false
    /// Challenges and digests wait there too.
    var holdsAuthentication = false
    var held: [Event] = []
    /// Handlers do not end by themselves.
    var holdsHandlers = false
    var heldHandlers: [HandlerID] = []
    var failsWrites: DiskError?
    var failsReads: DiskError?
    var failsNextFlush: DiskError?
    var failsMetadata: DiskError?
    /// Whether a block is what is asked for (as the peer's digest says, all zeroes); without it that is looked at.
    var judgesBlock: (() -> Bool)?
    var commandCount: UInt64 = 0
    var requestCount: UInt32 = 0
    var format = WireFormat.initial

    init(_ name: String, seed: UInt64, sectors: UInt64 = 65_536, create: Bool = true) {
        self.name = name
        core = Resource(name: "r0", seed: (seed, 2, 3, 4))
        disks = [TestDisk(sectors: sectors, seed: seed)]
        commandCount = 0
        _ = command(.newMinor(VolumeNumber(0), minor: 0))
    }

    /// The process died: a new core over the same disk.
    func restart(seed: UInt64) {
        core = Resource(name: "r0", seed: (seed, 7, 8, 9))
        queue.removeAll()
        buffers = [:]
        held = []
        replies = [:]
        exports = [:]
        for v in disks.indices { _ = command(.newMinor(VolumeNumber(UInt16(v)), minor: UInt32(v))) }
    }

    /// One more volume, with a disk of its own.
    func addVolume(sectors: UInt64, seed: UInt64) {
        let number = disks.count
        disks.append(TestDisk(sectors: sectors, seed: seed))
        _ = command(.newMinor(VolumeNumber(UInt16(number)), minor: UInt32(number)))
    }

    func feed(_ event: Event) {
        core.handle(event, at: now, into: &queue)
        drain()
    }

    func advance(to moment: Instant) {
        now = moment
        feed(.clockAdvanced)
    }

    func drain() {
        while queue.count > 0 {
            var effects: [Effect] = []
            for index in 0..<queue.count { effects.append(queue[index]) }
            queue.removeAll()
            for effect in effects {
                trace.append(effect)
                carryOut(effect)
            }
        }
    }

    private func complete(_ event: Event, metadata: Bool) {
        if metadata ? holdsMetadata : holdsDisk {
            held.append(event)
        } else {
            core.handle(event, at: now, into: &queue)
        }
    }

    private func authenticated(_ event: Event) {
        if holdsAuthentication { held.append(event) } else { core.handle(event, at: now, into: &queue) }
    }

    /// What is held ends with an error, in the same order.
    private func abandonDisk() {
        let waiting = held
        held = []
        let error = DiskError(110)
        for event in waiting {
            switch event {
            case .diskReadFinished(let tag, let slot, _):
                if let slot { buffers[slot.value] = nil }
                core.handle(.diskReadFinished(tag, nil, error), at: now, into: &queue)
            case .diskWriteFinished(let tag, _): core.handle(.diskWriteFinished(tag, error), at: now, into: &queue)
            case .diskFlushFinished(let volume, let tag, _):
                core.handle(.diskFlushFinished(volume, tag, error), at: now, into: &queue)
            case .metadataWritten(let volume, _): core.handle(.metadataWritten(volume, error), at: now, into: &queue)
            default: held.append(event)
            }
        }
        (holdsDisk, holdsMetadata) = (false, false)
        (failsReads, failsWrites, failsMetadata, failsNextFlush) = (error, error, error, error)
    }

    /// Lets the oldest operation that is held end.
    func releaseOne() { feed(held.removeFirst()) }

    func releaseHeld() {
        holdsDisk = false
        holdsMetadata = false
        holdsAuthentication = false
        let waiting = held
        held = []
        for event in waiting { feed(event) }
    }

    /// The administrator makes the disk larger (or smaller); the metadata is still where it was.
    func changeCapacity(to sectors: UInt64, of volume: Int = 0) { disks[volume].changeCapacity(to: sectors) }

    private func store(_ values: [UInt64]) -> BufferSlot {
        let slot = nextBuffer
        nextBuffer += 1
        buffers[slot] = values
        return BufferSlot(slot)
    }

    /// What follows a packet: of a buffer as much as it announces, zeroes where it has no buffer.
    private func payload(_ packet: Packet, _ slot: BufferSlot?) -> [UInt64]? {
        let values = slot.flatMap { buffers[$0.value] }
        switch packet {
        case .data(let head):
            return values.map { Array($0.prefix(Int(head.range.count))) } ?? Array(repeating: 0, count: Int(head.range.count))
        case .verifyReply: return values ?? []
        default: return values
        }
    }

    private func carryOut(_ effect: Effect) {
        switch effect {
        case .replyToClient(let id, let error, let slot):
            replies[id] = (error, slot.flatMap { buffers[$0.value] })
            if let slot { buffers[slot.value] = nil }
        case .setExport(let volume, let state): exports[volume] = state
        case .releaseBuffer(let slot): buffers[slot.value] = nil
        case .readDisk(let tag, let volume, let range):
            if let failsReads {
                complete(.diskReadFinished(tag, nil, failsReads), metadata: false)
                return
            }
            let values = Array(disks[Int(volume.value)].data[Int(range.start.value)..<Int(range.end.value)])
            let slot = store(values)
            complete(.diskReadFinished(tag, slot, nil), metadata: false)
        case .writeDisk(let tag, let volume, let range, let slot, _):
            if failsWrites == nil {
                let values = buffers[slot.value]!
                for offset in 0..<Int(range.count) { disks[Int(volume.value)].data[Int(range.start.value) + offset] = values[offset] }
            }
            complete(.diskWriteFinished(tag, failsWrites), metadata: false)
        case .discardDisk(let tag, let volume, let range, _):
            for sector in range.start.value..<range.end.value { disks[Int(volume.value)].data[Int(sector)] = 0 }
            complete(.diskWriteFinished(tag, failsWrites), metadata: false)
        case .writePattern(let tag, let volume, let range, let slot, let bytes):
            let block = buffers[slot.value]!
            for offset in 0..<Int(range.count) { disks[Int(volume.value)].data[Int(range.start.value) + offset] = block[offset % Int(bytes / 512)] }
            complete(.diskWriteFinished(tag, failsWrites), metadata: false)
        case .compareDigest(let id, _, let slot, _, let digest):
            // A block stands for its own digest, unless a test knows better.
            let values = buffers[slot.value]!
            complete(.blockExamined(id, matches: judgesBlock?() ?? (values == buffers[digest.value]!)), metadata: false)
        case .lookForZeroes(let id, let slot, _):
            let values = buffers[slot.value]!
            complete(.blockExamined(id, matches: judgesBlock?() ?? values.allSatisfy { $0 == 0 }), metadata: false)
        case .flushDisk(let volume, let tag):
            let error = failsNextFlush
            failsNextFlush = nil
            complete(.diskFlushFinished(volume, tag, error), metadata: tag == .metadata)
        case .writeSuperblock(let volume, let block, _):
            if failsMetadata == nil { disks[Int(volume.value)].superblock = block.encoded() }
            complete(.metadataWritten(volume, failsMetadata), metadata: true)
        case .writeActivityLog(let volume, let block, _, _):
            var bytes = [UInt8](repeating: 0, count: 4096)
            bytes.withUnsafeMutableBytes { core.activityLogBlock(volume, into: $0) }
            disks[Int(volume.value)].ring.replaceSubrange(Int(block) * 4096..<(Int(block) + 1) * 4096, with: bytes)
            complete(.metadataWritten(volume, failsMetadata), metadata: true)
        case .writeBitmapPages(let volume, let first, let count):
            for page in first..<first + count {
                var bytes = [UInt8](repeating: 0, count: 4096)
                bytes.withUnsafeMutableBytes { core.bitmapPage(volume, page: page, into: $0) }
                let start = Int(page) * 4096
                let end = min(start + 4096, disks[Int(volume.value)].bitmap.count)
                disks[Int(volume.value)].bitmap.replaceSubrange(start..<end, with: bytes[0..<end - start])
            }
            complete(.metadataWritten(volume, failsMetadata), metadata: true)
        case .initialiseActivityLog(let volume):
            disks[Int(volume.value)].initialiseRing()
            complete(.metadataWritten(volume, failsMetadata), metadata: true)
        case .flushMetadata(let volume):
            complete(.metadataWritten(volume, failsMetadata), metadata: true)
        case .clearSuperblock(let volume, let sector):
            clearedSuperblocks.append(sector.value)
            complete(.metadataWritten(volume, failsMetadata), metadata: true)
        case .measureDisk(let volume):
            let sectors = disks[Int(volume.value)].deviceSectors
            complete(
                .diskMeasured(volume, DiskCapacity(dataDeviceSectors: sectors, metadataDeviceSectors: sectors)), metadata: true)
        case .moveMetadata(let volume, let layout): disks[Int(volume.value)].movedMetadata(to: layout)
        case .openDisk(let volume, _):
            let image = disks[Int(volume.value)].image
            complete(.diskOpened(volume, image), metadata: true)
        case .abandonDisk: abandonDisk()
        case .closeDisk(let volume) where failsMetadata?.code == 110:
            (failsReads, failsWrites, failsMetadata, failsNextFlush) = (nil, nil, nil, nil)
            complete(.diskClosed(volume), metadata: true)
        case .closeDisk(let volume): complete(.diskClosed(volume), metadata: true)
        case .listen, .stopListening: break
        case .connectToPeer: connectAttempts += 1
        case .sendMarker(let socket, let kind): markers.append((socket, kind))
        case .closeSocket(let socket): closed.append(socket)
        case .useSocket: break
        case .setWireFormat(let format): self.format = format
        case .send(let stream, let volume, let packet, let slot):
            sent.append((stream, volume, packet, payload(packet, slot)))
        case .sendAndReport(let id, let volume, let packet, let slot):
            sent.append((.data, volume, packet, payload(packet, slot)))
            complete(.writeHandedToNetwork(id), metadata: false)
        case .sendPart(let volume, let packet, let slot, let offset, let report):
            guard case .data(let head) = packet, let values = buffers[slot.value] else { return }
            let first = Int(offset / 512)
            sent.append((.data, volume, packet, Array(values[first..<first + Int(head.range.count)])))
            if let report { complete(.writeHandedToNetwork(report), metadata: false) }
        case .makeChallenge:
            if let makesChallenge { return authenticated(.challengeMade(makesChallenge())) }
            challenges += 1
            authenticated(.challengeMade([UInt8](repeating: challenges &* 7, count: 63) + [UInt8(name.utf8.first!)]))
        case .computeHMAC(let purpose, _, let key, let message):
            if let computesHMAC { return authenticated(.hmacComputed(purpose, computesHMAC(purpose))) }
            var sum: [UInt8] = Array(repeating: 0, count: 20)
            for (index, byte) in (key + message).enumerated() { sum[index % 20] = sum[index % 20] &* 31 &+ byte }
            authenticated(.hmacComputed(purpose, sum))
        case .answerCommand(let id, let answer): answers[id] = answer
        case .runHandler(let id, let handler, _):
            handlersRun.append(handler)
            if holdsHandlers {
                heldHandlers.append(id)
                return
            }
            core.handle(.handlerFinished(id, status: handlerStatus[handler] ?? 0), at: now, into: &queue)
        case .log(_, _, let text): logs.append(text)
        case .publishStatus: break
        }
    }

    // MARK: Shorthand

    func command(_ command: ControlCommand) -> CommandID {
        commandCount += 1
        let id = CommandID(commandCount)
        feed(.commandReceived(id, command))
        return id
    }
    /// The code of a command that ends at once; nil if it has not ended.
    func code(_ command: ControlCommand) -> Int32? { answers[self.command(command)]?.code }

    func attach(_ options: DiskOptions = DiskOptions(), _ volume: VolumeNumber = VolumeNumber(0)) -> Int32? {
        code(
            .attach(
                volume,
                DiskConfiguration(dataPath: "/d", metadataPath: "/d", index: .internal, options: options)))
    }
    func connect(_ options: NetOptions = NetOptions(), discardMyData: Bool = false) -> Int32? {
        let local = SocketAddress(family: "ipv4", host: "127.0.0.1", port: 7788)
        return code(
            .connect(
                ConnectionConfiguration(local: local, remote: local, options: options, discardMyData: discardMyData)))
    }
    func write(_ sector: UInt64, _ value: UInt64, count: UInt32 = 8, fua: Bool = false, on volume: VolumeNumber = VolumeNumber(0)) -> RequestID {
        let id = nextRequest()
        let slot = store(Array(repeating: value, count: Int(count)))
        feed(.writeRequested(id, volume, SectorRange(sector, count), slot, fua: fua))
        return id
    }
    func read(_ sector: UInt64, count: UInt32 = 8, on volume: VolumeNumber = VolumeNumber(0)) -> RequestID {
        let id = nextRequest()
        feed(.readRequested(id, volume, SectorRange(sector, count)))
        return id
    }
    func flush() -> RequestID {
        let id = nextRequest()
        feed(.flushRequested(id, VolumeNumber(0)))
        return id
    }
    func discard(_ sector: UInt64, count: UInt32, _ kind: DiscardKind, on volume: VolumeNumber = VolumeNumber(0)) -> RequestID {
        let id = nextRequest()
        feed(.discardRequested(id, volume, SectorRange(sector, count), kind))
        return id
    }
    private func nextRequest() -> RequestID {
        requestCount += 1
        return RequestID(index: requestCount % UInt32(Limits.clientRequests), generation: requestCount)
    }
    var state: VolumeState { state(of: 0) }
    var status: VolumeStatus { status(of: 0) }
    func state(of volume: Int) -> VolumeState { status(of: volume).state }
    func status(of volume: Int) -> VolumeStatus { core.status(at: now)[volume] }
    var isIdle: Bool { core.isIdle }
    /// Whether a block counts as out of sync.
    func isMarked(_ block: UInt64) -> Bool { core.isOutOfSync(BitmapBlock(block), of: VolumeNumber(0)) }

    func receive(_ stream: StreamKind, _ volume: VolumeNumber, _ packet: Packet, _ payload: [UInt64]?) {
        let slot = payload.map { store($0) }
        feed(.packetReceived(stream, volume, packet, payload: slot))
    }
}
