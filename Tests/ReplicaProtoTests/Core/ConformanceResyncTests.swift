import Testing

@testable import ReplicaProto

/// Items 44 to 51: bitmap exchange and resync, on both sides.
@Suite struct ConformanceResyncTests {
    private let volume = VolumeNumber(0)

    /// A node that became target of a peer whose data is one generation ahead.
    private func target(
        version: UInt32 = 101, disk: DiskOptions = SameData.quickDisk, blocks: [UInt64] = [0, 1, 2, 3]
    ) -> (node: TestNode, peer: ScriptedPeer) {
        let (node, peer) = SameData.pair(disk: disk, version: version)
        peer.identifiers = GenerationIdentifiers(
            current: 0x9990, bitmap: SameData.identifiers.current, history0: 0x88, history1: 0x66)
        peer.dirtyBits = UInt64(blocks.count)
        peer.connect()
        return (node, peer)
    }
    /// A node that became source, with `blocks` set in its own bitmap.
    private func source(version: UInt32 = 101, primary: Bool = false, blocks: [UInt64] = [0, 1, 2]) -> (
        node: TestNode, peer: ScriptedPeer
    ) {
        let node = TestNode.withData(
            identifiers: GenerationIdentifiers(
                current: 0x9990, bitmap: SameData.identifiers.current, history0: 0x88, history1: 0x66))
        for block in blocks { node.bitmap[Int(block / 8)] |= 1 << UInt8(block % 8) }
        _ = node.attach(SameData.quickDisk)
        if primary { _ = node.command(.primary(volume, force: false)) }
        _ = node.connect()
        let peer = ScriptedPeer(node, version: version)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect()
        return (node, peer)
    }

    @Test("a target that reports its end again and again is remembered once")
    func repeatedReports() {
        let (node, peer) = source()
        peer.sayBitmap(setting: [0, 1, 2])
        peer.pass(.milliseconds(1))
        #expect(node.state.connection == .syncSource)
        for _ in 0..<1000 { peer.say(.state(peer.state(.connected, peerDisk: .upToDate))) }
        #expect(node.core.link.pingActions.count == 1)
    }

    // MARK: Bitmaps

    @Test(
        "item 44: an encoded transfer ends with its last bit, a plain one with an empty chunk", arguments: UInt32(86)...101)
    func item44TransfersEnd(version: UInt32) {
        let (node, peer) = source(version: version)
        #expect(node.state.connection == .wfBitMapS)
        let chunks = peer.commands(.data).filter { $0 == .bitmap || $0 == .compressedBitmap }
        if version >= 90 {
            #expect(chunks == [.compressedBitmap])
        } else {
            // 8 KiB of bits cover the 32 MiB: less than a chunk, and the empty one.
            #expect(chunks == [.bitmap, .bitmap])
            guard case .bitmap(let bytes)? = node.sent.last?.packet else {
                Issue.record("no bitmap")
                return
            }
            #expect(bytes.isEmpty)
        }
    }

    @Test("item 44: a plain transfer in full chunks", arguments: [UInt32(86), 101])
    func item44PlainChunksAreFull(version: UInt32) {
        var options = NetOptions()
        options.useRLE = false
        let node = TestNode.withData(
            sectors: 700_000, identifiers: GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current))
        _ = node.attach(SameData.quickDisk)
        _ = node.connect(options)
        let peer = ScriptedPeer(node, version: version)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect(options)
        let lengths = node.sent.compactMap { if case .bitmap(let bytes) = $0.packet { bytes.count } else { nil } }
        let total = Int((DirtyBitmap.bits(forDeviceSectors: node.status.sectors) + 63) / 64 * 8)
        let most = version >= 100 ? 4080 : 4088
        var expected: [Int] = []
        var left = total
        while left > 0 {
            expected.append(min(left, most))
            left -= min(left, most)
        }
        #expect(lengths == expected + [0])
    }

    @Test("item 45: any mixture of chunks is understood", arguments: [true, false])
    func item45WorkedExamples(compressed: Bool) {
        let (node, peer) = target()
        let bits = DirtyBitmap.bits(forDeviceSectors: node.status.sectors)
        if compressed {
            var bitmap = DirtyBitmap(bits: bits)
            _ = bitmap.setRun(from: BitmapBlock(1000), count: 256)
            var sender = BitmapSender()
            if case .compressed(let bytes) = sender.nextChunk(of: bitmap, useRLE: true, maximumBytes: 4080) {
                peer.say(.compressedBitmap(bytes))
            }
        } else {
            peer.sayBitmap(setting: (1000..<1256).map { UInt64($0) })
        }
        #expect(node.state.connection == .wfSyncUUID)
        #expect(node.status.outOfSyncBits == 256)
    }

    @Test func nothingElseMayComeInsideABitmap() {
        let node = TestNode.withData(sectors: 2_200_000, identifiers: SameData.identifiers)
        _ = node.attach(SameData.quickDisk)
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.identifiers = GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current)
        peer.disk = .upToDate
        peer.connect()
        peer.say(.bitmap([UInt8](repeating: 0, count: 4080)))
        peer.say(.unplugRemote)
        peer.say(.state(peer.state(.wfBitMapS)))
        #expect(!node.state.connection.isConnected)
    }

    @Test("chunks that do not fit end the connection", arguments: 0..<4)
    func badChunks(kind: Int) {
        let (node, peer) = target()
        switch kind {
        case 0: peer.say(.bitmap([1, 2, 3]))
        case 1: peer.say(.compressedBitmap([0x03, 0xff]))
        case 2: peer.say(.compressedBitmap([0xb2, 0x7f, 0xcf, 0xde, 0x03]))
        default: peer.say(.compressedBitmap([]))
        }
        #expect(!node.state.connection.isConnected)
    }

    @Test func item46TheTargetAnswersACompleteBitmapWithTheUnion() {
        let node = TestNode.withData(identifiers: GenerationIdentifiers(current: SameData.identifiers.current))
        node.bitmap[1] = 0x80
        _ = node.attach(SameData.quickDisk)
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.identifiers = GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current)
        peer.disk = .upToDate
        peer.connect()
        #expect(node.state.connection == .wfBitMapT)
        #expect(!peer.commands(.data).contains(.compressedBitmap))
        node.sent = []
        let bits = DirtyBitmap.bits(forDeviceSectors: node.status.sectors)
        let bytes = [UInt8](repeating: 0, count: Int((bits + 63) / 64 * 8))
        peer.say(.bitmap([1] + bytes.dropFirst()))
        #expect(node.sent.isEmpty && node.state.connection == .wfBitMapT)
        peer.say(.bitmap([]))
        #expect(node.state.connection == .wfSyncUUID)
        #expect(peer.commands(.data) == [.compressedBitmap])
        #expect(node.core.isOutOfSync(BitmapBlock(0), of: volume) && node.core.isOutOfSync(BitmapBlock(15), of: volume))
    }

    // MARK: Source

    @Test("item 47: P_SYNC_UUID after the target's bitmap; requests are served", arguments: UInt32(86)...101)
    func item47TheSourceStarts(version: UInt32) {
        let (node, peer) = source(version: version)
        #expect(!peer.commands(.data).contains(.syncUUID))
        node.sent = []
        peer.sayBitmap(setting: [5])
        #expect(node.state.connection == .syncSource && node.state.peerDisk == .inconsistent)
        #expect(node.sent.map(\.packet) == [.syncUUID(SameData.identifiers.current + GenerationIdentifiers.syncOffset)])
        #expect(node.status.outOfSyncBits == 4)
        // It is durable before it is said.
        let written = node.position {
            if case .writeSuperblock(_, let block, _) = $0 {
                block.identifiers.bitmap == SameData.identifiers.current + GenerationIdentifiers.syncOffset
            } else {
                false
            }
        }
        let said = node.position { if case .send(_, _, .syncUUID, _) = $0 { true } else { false } }
        #expect(written! < said!)
        #expect(node.status.identifiers.history0 == SameData.identifiers.current)
        node.sent = []
        node.data[8] = 99
        peer.say(.resyncDataRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 12_288)))
        #expect(
            node.sent.map(\.packet) == [.resyncDataReply(DataPacket(sector: Sector(0), blockID: .max, byteCount: 12_288))])
        #expect(node.sent[0].payload?[8] == 99)
    }

    @Test func item47TheWaysAResyncReadIsAnswered() {
        let (node, peer) = source()
        peer.sayBitmap(setting: [])
        node.sent = []
        node.data[8] = 5
        peer.say(.thinResyncRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
        peer.say(.thinResyncRequest(BlockRequest(sector: Sector(8), blockID: .max, byteCount: 4096)))
        #expect(peer.commands(.data) == [.resyncDeallocated, .resyncDataReply])
        node.sent = []
        _ = node.command(.detach(volume, force: true))
        node.sent = []
        peer.say(.resyncDataRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
        #expect(peer.commands(.meta) == [.negativeResyncReply])
        #expect(node.core.openWork() == [])
    }

    /// Applied by the source: acks clear bits; the end is the target's word and no earlier.
    @Test("item 49: the source stays until the target says that it is done", arguments: [UInt32(96), 99, 101])
    func item49TheSourceWaitsForTheTargetsWord(version: UInt32) {
        let (node, peer) = source(version: version)
        peer.sayBitmap(setting: [])
        let area = BlockAck(sector: Sector(0), blockID: .max, byteCount: 12_288, sequence: 1)
        // The word comes too early: it is not believed.
        peer.say(.state(peer.state(.connected)))
        #expect(node.state.connection == .syncSource)
        node.sent = []
        let (other, second) = source(version: version)
        second.sayBitmap(setting: [])
        second.ack(.resyncWriteAck(area))
        #expect(other.status.outOfSyncBits == 0 && other.state.connection == .syncSource)
        second.pass(.seconds(1))
        #expect(other.state.connection == .syncSource)
        other.sent = []
        second.say(.state(second.state(.connected)))
        #expect(second.commands(.meta) == [.ping] && other.state.connection == .syncSource)
        second.ack(.pingAck)
        #expect(other.state.connection == .connected && other.state.peerDisk == .upToDate)
        #expect(!second.commands(.data).contains(.state))
        #expect(
            other.status.identifiers
                == GenerationIdentifiers(
                    current: 0x9990, bitmap: 0, history0: SameData.identifiers.current + GenerationIdentifiers.syncOffset,
                    history1: SameData.identifiers.current))
    }

    @Test("up to v95 the source sees the end itself", arguments: UInt32(86)...95)
    func theSourceSeesTheEndBelow96(version: UInt32) {
        let (node, peer) = source(version: version)
        peer.sayBitmap(setting: [])
        peer.ack(.resyncWriteAck(BlockAck(sector: Sector(0), blockID: .max, byteCount: 12_288, sequence: 1)))
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected && node.state.peerDisk == .upToDate)
    }

    @Test func aBlockThatFailedAtTheTargetKeepsTheSourceFromBelievingItUpToDate() {
        let (node, peer) = source()
        peer.sayBitmap(setting: [])
        peer.ack(.resyncWriteAck(BlockAck(sector: Sector(0), blockID: .max, byteCount: 8192, sequence: 1)))
        peer.ack(.negativeAck(BlockAck(sector: Sector(16), blockID: .max, byteCount: 4096, sequence: 2)))
        #expect(node.status.outOfSyncBits == 1)
        peer.disk = .inconsistent
        peer.say(.state(peer.state(.connected)))
        peer.ack(.pingAck)
        #expect(node.state.peerDisk == .inconsistent)
        #expect(node.status.outOfSyncBits == 1)
    }

    @Test func O5AWriteThatOverlapsAResyncReadWaitsForItsAnswer() {
        let (node, peer) = source(primary: true)
        peer.sayBitmap(setting: [])
        node.sent = []
        node.holdsDisk = true
        peer.say(.resyncDataRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
        _ = node.write(0, 5)
        #expect(node.sent.isEmpty)
        node.releaseHeld()
        #expect(peer.commands(.data).prefix(2) == [.resyncDataReply, .data])
    }

    @Test func O5AResyncReadWaitsForAWriteThatIsOnItsWay() {
        let (node, peer) = source(primary: true)
        peer.sayBitmap(setting: [])
        node.sent = []
        _ = node.write(0, 5)
        let head = peer.writes[0]
        peer.say(.resyncDataRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
        #expect(!peer.commands(.data).contains(.resyncDataReply))
        peer.acknowledge(head, clearing: true)
        let reply = node.sent.last { if case .resyncDataReply = $0.packet { true } else { false } }
        #expect(reply?.payload?[0] == 5)
    }

    @Test("O7: writes while the bitmap travels are reported, not sent", arguments: [UInt32(86), 95, 96, 101])
    func O7WritesDuringWFBitMapS(version: UInt32) {
        let (node, peer) = source(version: version, primary: true)
        node.sent = []
        let id = node.write(800, 5)
        if version >= 96 {
            #expect(node.sent.map(\.packet) == [.outOfSync(AreaPacket(sector: Sector(800), byteCount: 4096))])
            #expect(node.replies[id] != nil)
        } else {
            #expect(node.sent.isEmpty && node.replies[id] == nil)
        }
        peer.sayBitmap(setting: [])
        #expect(node.replies[id] != nil || peer.commands(.data).contains(.data))
    }

    // MARK: Target

    @Test("items 48, 51: a whole resync as target", arguments: UInt32(86)...101)
    func item48TheTargetPingsBeforeItsLastWord(version: UInt32) {
        let (node, peer) = target(version: version, blocks: [0, 1, 2, 3, 100])
        #expect(node.state.connection == .wfBitMapT)
        // It was UpToDate; it is not to be used any more.
        #expect(node.state.disk == .outdated)
        peer.startAsSource(setting: [0, 1, 2, 3, 100])
        #expect(node.state.connection == .syncTarget && node.state.disk == .inconsistent)
        let requests = peer.resyncRequests
        #expect(requests.map(\.byteCount).reduce(0, +) == 5 * 4096)
        #expect(requests.allSatisfy { $0.blockID == BlockID.syncer && $0.byteCount <= node.core.maximumRequest })
        for (index, request) in requests.enumerated() {
            node.sent = []
            peer.answer(request, 7)
            #expect(peer.commands(.meta).first == .resyncWriteAck)
            #expect(node.sent.first?.packet.sequenceNumber == UInt32(index + 1))
        }
        // All is written; the end waits for the answer to a ping.
        #expect(peer.commands(.meta) == [.resyncWriteAck, .ping])
        #expect(node.state.connection == .syncTarget && peer.states.isEmpty)
        let flushed = node.position { $0 == .flushDisk(volume, .metadata) }
        let pinged = node.position { if case .send(.meta, _, .ping, _) = $0 { true } else { false } }
        #expect(flushed! < pinged!)
        node.sent = []
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected && node.state.disk == .upToDate)
        #expect(peer.states.map(\.word) == [peer.seen(role: .secondary)])
        #expect(
            node.status.identifiers
                == GenerationIdentifiers(
                    current: 0x9990, bitmap: 0, history0: 0x77_0000_0000, history1: SameData.identifiers.current))
        #expect(node.data[0] == 7 && node.data[800] == 7)
        #expect(node.handlersRun == [.beforeResyncTarget, .afterResyncTarget])
        #expect(node.core.openWork() == [])
    }

    @Test("an empty resync ends by itself", arguments: [UInt32(86), 95, 96, 101])
    func anEmptyResyncEnds(version: UInt32) {
        let (node, peer) = target(version: version)
        peer.startAsSource(setting: [])
        peer.pass(.milliseconds(200))
        #expect(peer.resyncRequests.isEmpty && peer.commands(.meta).contains(.ping))
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected && node.state.disk == .upToDate)
    }

    @Test func refusedBlocksLeaveTheTargetInconsistent() {
        let (node, peer) = target(blocks: [0, 1])
        peer.startAsSource(setting: [0, 900])
        let requests = peer.resyncRequests
        guard requests.count == 2 else {
            Issue.record("\(requests)")
            return
        }
        peer.ack(.negativeResyncReply(BlockAck(sector: requests[0].sector, blockID: .max, byteCount: 4096, sequence: 0)))
        peer.answer(requests[1], 3)
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected && node.state.disk == .inconsistent)
        #expect(node.status.outOfSyncBits == 1)
        #expect(node.status.identifiers.current == 0x77_0000_0000)
        #expect(node.core.openWork() == [])
    }

    @Test func cancelledRequestsAreMadeAgain() {
        let (node, peer) = target(blocks: [0])
        peer.startAsSource(setting: [0])
        let request = peer.firstRequest
        node.sent = []
        peer.ack(.resyncCancel(BlockAck(sector: request.sector, blockID: .max, byteCount: 4096, sequence: 0)))
        peer.pass(.milliseconds(300))
        #expect(peer.resyncRequests.count == 1)
        peer.ack(.resyncIsInSync(BlockAck(sector: request.sector, blockID: 0, byteCount: 4096, sequence: 0)))
        peer.ack(.pingAck)
        #expect(node.state.disk == .upToDate)
    }

    @Test func item50AnApplicationWriteWaitsForTheResyncWriteUnderIt() {
        let (node, peer) = target(blocks: [0])
        peer.startAsSource(setting: [0])
        let request = peer.firstRequest
        node.holdsDisk = true
        peer.answer(request, 1)
        peer.write(0, 2, flags: [.maySetInSync, .sendWriteAck])
        let writes = node.count { if case .writeDisk = $0 { true } else { false } }
        #expect(writes == 1)
        node.releaseHeld()
        #expect(node.data[0] == 2)
        #expect(node.state.connection == .syncTarget || node.state.connection == .connected)
    }

    @Test("item 50: overlapping writes during a resync: both copies end equal", arguments: 1...8)
    func item50OverlappingWritesUnderAResync(seed: Int) {
        var random = RandomGenerator(seed: (UInt64(seed), 1, 2, 3))
        let pair = TestPair(seed: UInt64(seed))
        pair.up(NetOptions(), SameData.quickDisk)
        for sector in 0..<20_000 { pair.a.data[sector] = UInt64(sector) }
        _ = pair.a.command(.primary(volume, force: true))
        var value: UInt64 = 1_000_000
        for _ in 0..<300 {
            value += 1
            if random.next() % 3 == 0 { pair.deliverOne() } else { pair.pass(.milliseconds(Int(random.next() % 40))) }
            let sector = random.next() % 20_000
            _ = pair.a.write(sector, value, count: UInt32(1 + random.next() % 24))
            if random.next() % 4 == 0 { pair.exchange() }
        }
        pair.exchange()
        #expect(pair.synchronise(), "\(pair.a.state.summary) \(pair.b.state.summary)")
        pair.exchange()
        let same = pair.a.data == pair.b.data
        #expect(same)
        #expect(pair.a.status.outOfSyncBits == 0 && pair.b.status.outOfSyncBits == 0)
        #expect(pair.a.core.openWork() == [] && pair.b.core.openWork() == [])
    }

    @Test func item51AnAnswerThatNobodyAskedForIsRefused() {
        let (node, peer) = target(blocks: [0])
        peer.startAsSource(setting: [0])
        let request = peer.firstRequest
        peer.answer(request, 1)
        node.sent = []
        peer.answer(request, 9)
        #expect(node.data[0] == 1)
        #expect(peer.commands(.meta).filter { $0 == .negativeAck || $0 == .resyncWriteAck }.count == 1)
    }

    @Test("requests stay inside a resync extent and start at multiples of their size", arguments: [UInt32(90), 95, 101])
    func shapeOfRequests(version: UInt32) {
        let (node, peer) = SameData.pair(version: version, sectors: 100_000)
        peer.identifiers = GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current)
        peer.connect()
        peer.startAsSource(setting: Array(3..<5000) + [5003, 5004])
        var seen: Set<UInt64> = []
        for _ in 0..<300 where node.state.connection == .syncTarget {
            let requests = peer.resyncRequests
            node.sent = []
            for request in requests {
                let blocks = UInt64(request.byteCount / 4096)
                let first = request.sector.value / 8
                #expect(first >> 12 == (first + blocks - 1) >> 12)
                var size: UInt64 = 1
                while size < blocks { size *= 2 }
                #expect(first % size == 0)
                #expect(request.byteCount <= node.core.maximumRequest)
                for block in first..<first + blocks { #expect(seen.insert(block).inserted) }
                peer.answer(request, 1)
            }
            peer.ack(.pingAck)
            peer.pass(.milliseconds(100))
        }
        #expect(seen.count == 4999)
        #expect(node.state.connection == .connected)
    }

    // MARK: Interruptions

    @Test("a resync that is interrupted leaves nothing behind", arguments: 0..<6)
    func interruptedResyncs(kind: Int) {
        let (node, peer) = target(blocks: [0, 1, 900])
        peer.startAsSource(setting: [0, 900])
        if kind >= 2 { node.holdsDisk = true }
        peer.answer(peer.firstRequest, 1)
        switch kind {
        case 0, 2: peer.drop()
        case 1, 3: _ = node.command(.detach(volume, force: true))
        case 4:
            // The peer's disk goes.
            peer.disk = .failed
            peer.say(.state(peer.state(.connected)))
        default: _ = node.command(.disconnect(force: true))
        }
        node.releaseHeld()
        for _ in 0..<20 { peer.pass(.milliseconds(100)) }
        #expect(!node.state.connection.isSyncTarget)
        #expect(node.core.openWork() == [], "\(kind)")
        #expect(node.status.progress == nil)
        if kind != 1 && kind != 3 {
            #expect(node.state.disk == .inconsistent && node.status.outOfSyncBits >= 1)
            #expect(!node.writtenSuperblock.flags.contains(.consistent))
        }
    }

    @Test func aResyncThatFollowsAnAbortedOneOnTheSameConnectionEnds() {
        let (node, peer) = target(blocks: [0, 1])
        peer.startAsSource(setting: [0, 1])
        let request = peer.firstRequest
        node.holdsDisk = true
        peer.answer(request, 1)
        // The source loses its disk and attaches it again while our write is still under way.
        peer.disk = .diskless
        peer.say(.state(peer.state(.connected)))
        #expect(node.state.connection == .connected)
        peer.disk = .negotiating
        peer.identifiers = GenerationIdentifiers(
            current: 0x9990, bitmap: 0x77_0000_0000, history0: SameData.identifiers.current, history1: 0x88)
        peer.say(.uuids(peer.uuids))
        peer.say(.state(peer.state(.connected)))
        #expect(node.state.connection == .wfBitMapT, "\(node.logs.suffix(8))")
        peer.disk = .upToDate
        node.sent = []
        peer.startAsSource(setting: [0, 1], identifier: 0x88_0000_0000)
        node.releaseHeld()
        for _ in 0..<20 where node.state.connection == .syncTarget {
            let requests = peer.resyncRequests
            node.sent = []
            for again in requests { peer.answer(again, 2) }
            peer.pass(.milliseconds(100))
            peer.ack(.pingAck)
        }
        #expect(node.state.connection == .connected && node.state.disk == .upToDate)
        #expect(node.core.openWork() == [])
    }

    @Test("the target's disk fails while the end is being confirmed", arguments: [true, false])
    func theEndIsOvertakenByAFailure(connectionStays: Bool) {
        let (node, peer) = target(blocks: [0])
        peer.startAsSource(setting: [0])
        peer.answer(peer.firstRequest, 1)
        #expect(peer.commands(.meta).last == .ping)
        if connectionStays { _ = node.command(.detach(volume, force: true)) } else { peer.drop() }
        peer.ack(.pingAck)
        #expect(node.status.progress == nil && node.state.disk != .upToDate)
        #expect(node.core.volumes[0].resync == nil)
        #expect(node.core.openWork() == [])
    }

    @Test("a handler's veto drops the connection for good", arguments: [true, false])
    func handlersVeto(isTarget: Bool) {
        let (node, peer) = isTarget ? target() : source()
        node.handlerStatus[isTarget ? .beforeResyncTarget : .beforeResyncSource] = 1
        if isTarget { peer.startAsSource(setting: [0]) } else { peer.sayBitmap(setting: []) }
        #expect(node.state.connection == .standAlone)
        #expect(node.status.identifiers.bitmap == (isTarget ? 0 : SameData.identifiers.current))
    }

    @Test func aHandlerOfALostConnectionDecidesNothing() {
        let (node, peer) = target()
        node.holdsHandlers = true
        peer.startAsSource(setting: [0])
        #expect(node.state.connection == .wfSyncUUID)
        let late = node.heldHandlers
        peer.drop()
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connection = .wfConnection
        peer.connect()
        peer.startAsSource(setting: [0])
        #expect(node.state.connection == .wfSyncUUID)
        for id in late { node.feed(.handlerFinished(id, status: 1)) }
        #expect(node.state.connection == .wfSyncUUID)
        for id in node.heldHandlers where !late.contains(id) { node.feed(.handlerFinished(id, status: 0)) }
        #expect(node.state.connection == .syncTarget)
    }

    // MARK: Invalidate

    @Test("invalidate and invalidate-remote copy everything without a bitmap exchange", arguments: [true, false])
    func invalidating(remote: Bool) {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(volume, force: true))
        pair.exchange()
        #expect(pair.synchronise())
        for sector in 0..<1000 { pair.b.data[sector] = 666 }
        pair.a.trace = []
        pair.b.trace = []
        let node = remote ? pair.a : pair.b
        let id = node.command(remote ? .invalidateRemote(volume) : .invalidate(volume))
        pair.exchange()
        #expect(node.answers[id]?.code == 0)
        #expect(pair.a.state.connection.isSyncSource && pair.b.state.connection.isSyncTarget)
        let bitmaps = (pair.a.trace + pair.b.trace).contains {
            switch $0 {
            case .send(_, _, .bitmap, _), .send(_, _, .compressedBitmap, _): true
            default: false
            }
        }
        #expect(!bitmaps)
        #expect(pair.synchronise())
        let same = pair.a.data == pair.b.data
        #expect(same)
    }

    @Test func invalidateIsRefusedWhereNoCopyIs() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach()
        #expect(node.code(.invalidateRemote(volume)) == -15)
        #expect(node.code(.invalidate(volume)) == 0)
        #expect(node.state.disk == .inconsistent)
        #expect(node.durableBits == Int(DirtyBitmap.bits(forDeviceSectors: node.status.sectors)))
        #expect(!node.writtenSuperblock.flags.contains(.fullSync))
    }
}

extension ScriptedPeer {
    /// Word of a node that is Connected, UpToDate/UpToDate beside us.
    func seen(role: Role) -> UInt32 {
        var state = VolumeState()
        state.role = role
        state.peerRole = self.role
        state.connection = .connected
        state.disk = .upToDate
        state.peerDisk = .upToDate
        return state.word
    }
}
