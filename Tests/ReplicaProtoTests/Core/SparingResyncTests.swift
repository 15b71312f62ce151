import Testing

@testable import ReplicaProto

/// Resync that does not send everything: by digests (`csums-alg`), and without zeroes (`rs-discard-granularity`).
@Suite struct SparingResyncTests {
    private let volume = VolumeNumber(0)
    private let checked: NetOptions = {
        var options = NetOptions()
        options.checksumAlgorithm = "crc32c"
        return options
    }()

    /// Two nodes in sync that part; the first one writes what is given, sector by sector.
    private func apart(_ options: NetOptions, _ disk: DiskOptions = SameData.quickDisk, writing: [(UInt64, UInt64)]) -> TestPair {
        let pair = TestPair(sectors: 40_000)
        pair.up(options, disk)
        _ = pair.a.command(.newCurrentUUID(volume, clearBitmap: true))
        pair.exchange()
        _ = pair.a.command(.primary(volume, force: false))
        pair.exchange()
        for block in 0..<64 { _ = pair.a.write(UInt64(block * 8), UInt64(block + 1)) ; pair.exchange() }
        pair.cut()
        for (sector, value) in writing { _ = pair.a.write(sector, value) }
        pair.pass(.seconds(1))
        return pair
    }
    private func commands(_ node: TestNode) -> [PacketCommand] {
        node.trace.compactMap { if case .send(_, _, let packet, _) = $0 { packet.command(in: WireTest.format101) } else { nil } }
    }

    @Test("only what differs travels, and both nodes say so", arguments: [NetOptions?.none, NetOptions()])
    func checksums(plain: NetOptions?) {
        // Three blocks written with what they held already, one with something else.
        let pair = apart(plain ?? checked, writing: [(0, 1), (8, 2), (80, 11), (240, 99)])
        pair.a.trace = []
        pair.b.trace = []
        pair.link()
        #expect(pair.synchronise())
        let (source, target) = (commands(pair.a), commands(pair.b))
        if plain == nil {
            #expect(target.filter { $0 == .checksumResyncRequest }.count == 3)
            #expect(source.filter { $0 == .resyncIsInSync }.count == 2)
            #expect(source.filter { $0 == .resyncDataReply }.count == 1)
            for node in [pair.a, pair.b] {
                #expect(node.logs.contains("75 % had equal checksums, eliminated: 12K; transferred 4K total 16K"))
            }
        } else {
            #expect(!target.contains(.checksumResyncRequest) && !source.contains(.resyncIsInSync))
            #expect(!pair.a.logs.contains { $0.contains("equal checksums") })
        }
        let same = pair.a.data == pair.b.data
        #expect(same)
        for node in [pair.a, pair.b] {
            #expect(node.core.openWork() == [])
            #expect(node.buffers.isEmpty)
            #expect(node.status.outOfSyncBits == 0 && node.durableBits == 0)
            HazardGuard.check(node)
        }
    }

    @Test("csums-after-crash-only: only where the target was a crashed Primary", arguments: [true, false])
    func afterCrashOnly(crashed: Bool) {
        var options = checked
        options.checksumsAfterCrashOnly = true
        let pair = apart(options, writing: [(0, 1)])
        pair.b.core.volumes[0].isCrashedPrimary = crashed
        pair.b.trace = []
        pair.link()
        #expect(pair.synchronise())
        #expect(commands(pair.b).contains(.checksumResyncRequest) == crashed)
    }

    /// Its own copy cannot be read: the block is asked for without.
    @Test func aTargetThatCannotReadAsksForAll() {
        var disk = SameData.quickDisk
        disk.onIOError = .passOn
        let pair = apart(checked, disk, writing: [(0, 1)])
        pair.b.trace = []
        pair.b.failsReads = DiskError(5)
        pair.link()
        for _ in 0..<20 { pair.pass(.milliseconds(100)) }
        pair.b.failsReads = nil
        #expect(commands(pair.b).contains(.resyncDataRequest))
        #expect(pair.synchronise())
        let same = pair.a.data == pair.b.data
        #expect(same)
    }

    @Test("the source's answers to a digest", arguments: 0..<4)
    func sourceAnswers(kind: Int) {
        let node = TestNode.withData(
            identifiers: GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current))
        _ = node.attach(SameData.quickDisk)
        _ = node.connect(kind == 3 ? NetOptions() : checked)
        let peer = ScriptedPeer(node)
        peer.checksumAlgorithm = kind == 3 ? "" : "crc32c"
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect(kind == 3 ? NetOptions() : checked)
        peer.sayBitmap(setting: [0, 1, 2])
        peer.pass(.milliseconds(1))
        #expect(node.state.connection == .syncSource)
        node.sent = []
        for sector in 0..<16 { node.data[sector] = 5 }
        if kind == 2 { node.failsReads = DiskError(5) }
        peer.say(
            .checksumResyncRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 8192)),
            Array(repeating: kind == 0 ? 5 : 4, count: 16))
        switch kind {
        case 0:
            #expect(peer.commands(.meta) == [.resyncIsInSync])
            #expect(node.status.outOfSyncBits == 1)
        case 1:
            #expect(peer.commands(.data) == [.resyncDataReply])
            #expect(node.sent[0].payload == Array(repeating: 5, count: 16))
            #expect(node.status.outOfSyncBits == 3)
        case 2: #expect(peer.commands(.meta).first == .negativeResyncReply)
        default: #expect(!node.core.link.isUsable, "no such algorithm was agreed upon")
        }
        if kind < 2 { #expect(node.core.openWork() == []) }
        #expect(node.buffers.isEmpty)
    }

    /// An application's write on the source waits until the block has been compared and answered (G1).
    @Test func aWriteWaitsForTheComparison() {
        let node = TestNode.withData(
            identifiers: GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current))
        _ = node.attach(SameData.quickDisk)
        _ = node.connect(checked)
        let peer = ScriptedPeer(node)
        peer.checksumAlgorithm = "crc32c"
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect(checked)
        peer.sayBitmap(setting: [0])
        peer.pass(.milliseconds(1))
        _ = node.command(.primary(volume, force: false))
        peer.ack(.stateChangeReply(1))
        node.sent = []
        node.holdsDisk = true
        peer.say(.checksumResyncRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)), Array(repeating: 0, count: 8))
        node.releaseOne()
        let id = node.write(0, 7)
        #expect(peer.writes.isEmpty, "read, not compared yet")
        node.releaseHeld()
        #expect(peer.commands(.meta) == [.resyncIsInSync])
        #expect(peer.writes.count == 1)
        peer.acknowledge(peer.writes[0])
        #expect(node.replies[id]?.error == nil)
    }

    /// A write of the peer that our disk refused since the digest was computed is not undone by "equal".
    @Test func equalIsNoNewsAboutAFailedWrite() {
        var disk = SameData.quickDisk
        disk.onIOError = .passOn
        let pair = apart(checked, disk, writing: [(0, 1)])
        pair.link(until: { if case .resyncIsInSync = $0 { true } else { false } })
        for _ in 0..<20 where pair.isLinked { pair.pass(.milliseconds(100), until: { if case .resyncIsInSync = $0 { true } else { false } }) }
        #expect(pair.b.state.connection == .syncTarget)
        let head = DataPacket(sector: Sector(0), blockID: 77, sequence: 1, flags: [.sendWriteAck, .maySetInSync], byteCount: 4096)
        pair.b.failsWrites = DiskError(5)
        pair.b.receive(.data, volume, .data(head), Array(repeating: 9, count: 8))
        pair.b.failsWrites = nil
        pair.b.receive(
            .meta, volume, .resyncIsInSync(BlockAck(sector: Sector(0), blockID: 1, byteCount: 4096, sequence: 9)), nil)
        #expect(pair.b.isMarked(0))
    }

    // MARK: Zeroes

    private let thinDisk: DiskOptions = {
        var disk = SameData.quickDisk
        disk.rsDiscardGranularity = 65_536
        return disk
    }()

    @Test("zeroes are not sent where both know how", arguments: [true, false])
    func thin(isConfigured: Bool) {
        let pair = TestPair(sectors: 4096)
        pair.up(NetOptions(), isConfigured ? thinDisk : SameData.quickDisk)
        for sector in 256..<300 { pair.a.data[sector] = 7 }
        for sector in pair.b.data.indices { pair.b.data[sector] = 3 }
        _ = pair.a.command(.primary(volume, force: true))
        pair.exchange()
        #expect(pair.synchronise())
        let same = pair.a.data == pair.b.data
        #expect(same)
        let (source, target) = (commands(pair.a), commands(pair.b))
        #expect(target.contains(.thinResyncRequest) == isConfigured)
        #expect(source.contains(.resyncDeallocated) == isConfigured)
        #expect(source.filter { $0 == .resyncDataReply }.count == (isConfigured ? 2 : 2))
        #expect(pair.b.count { if case .discardDisk = $0 { true } else { false } } == source.filter { $0 == .resyncDeallocated }.count)
        for node in [pair.a, pair.b] { #expect(node.core.openWork() == []) }
    }

    @Test func withoutTheFeatureNobodyAsksForIt() {
        let (node, peer) = SameData.pair(disk: thinDisk, features: [.trim, .writeSame])
        node.rewriteSuperblock { $0.identifiers = GenerationIdentifiers(current: GenerationIdentifiers.justCreated) }
        peer.connect()
        node.sent = []
        peer.say(.thinResyncRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
        #expect(!node.core.link.isUsable)
    }

    @Test func deallocatedOutOfTurnEndsNothingElse() {
        let (node, peer) = SameData.connected()
        peer.say(.resyncDeallocated(AreaPacket(sector: Sector(0), byteCount: 65_536)))
        #expect(peer.commands(.meta) == [.negativeAck])
        #expect(node.data[0] == 0)
        peer.say(.resyncDeallocated(AreaPacket(sector: Sector(1 << 40), byteCount: 65_536)))
        #expect(!node.core.link.isUsable)
    }

    // MARK: P_WSAME

    @Test("P_WSAME repeats its block over the area", arguments: [UInt32(512), 4096, 1024])
    func writeSame(bytes: UInt32) {
        let (node, peer) = SameData.connected()
        let packet = DiscardPacket(
            sector: Sector(16), blockID: 5, sequence: 1, flags: [.writeSame, .sendWriteAck], byteCount: 8192, patternBytes: bytes)
        peer.say(.writeSame(packet), Array(repeating: 6, count: Int(bytes / 512)))
        if bytes == 512 {
            #expect(node.data[16..<32].allSatisfy { $0 == 6 } && node.data[15] == 0 && node.data[32] == 0)
            #expect(node.sent.map(\.packet) == [.writeAck(BlockAck(sector: Sector(16), blockID: 5, byteCount: 8192, sequence: 1))])
            peer.say(.barrier(number: 3))
            #expect(node.sent.last?.packet == .barrierAck(number: 3, setSize: 1))
        } else {
            #expect(!node.core.link.isUsable, "not one logical block")
        }
        #expect(node.buffers.isEmpty)
    }

    // MARK: Zeroes for a peer that knows no discards (`wire.md` 7.12)

    @Test("zeroes go as data to a peer that takes nothing else", arguments: [UInt32(94), 99, 101], [true, false])
    func zeroesAsData(version: UInt32, isRefused: Bool) {
        let (node, peer) = SameData.connected(version: version, features: [], primary: true)
        for sector in 100..<9000 { node.data[sector] = 4 }
        let id = node.discard(100, count: 8000, .zeroNoUnmap)
        let pieces = peer.writes
        let most: UInt32 = version < 95 ? 64 : version < 100 ? 256 : 2048
        #expect(pieces.count == Int((8000 + most - 1) / most))
        #expect(pieces.allSatisfy { $0.range.count <= most && $0.blockID == pieces[0].blockID })
        #expect(pieces.map { $0.range.start.value } == stride(from: 100, to: 8100, by: Int(most)).map { UInt64($0) })
        #expect(pieces.map(\.sequence) == Array(1...UInt32(pieces.count)))
        #expect(node.sent.allSatisfy { $0.payload?.allSatisfy { $0 == 0 } ?? true })
        #expect(node.data[100..<8100].allSatisfy { $0 == 0 } && node.data[8100] == 4)
        for (index, piece) in pieces.reversed().enumerated() {
            #expect(node.replies[id] == nil)
            if isRefused, index == 1 {
                peer.ack(.negativeAck(BlockAck(sector: piece.sector, blockID: piece.blockID, byteCount: piece.byteCount, sequence: peer.nextSequence())))
            } else {
                peer.acknowledge(piece)
            }
            if isRefused, index == 1 { break }
        }
        #expect(node.replies[id]?.error == nil && node.replies[id] != nil)
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: UInt32(pieces.count)))
        #expect((node.status.outOfSyncBits == 0) == !isRefused)
        #expect(node.core.openWork() == [])
    }
}
