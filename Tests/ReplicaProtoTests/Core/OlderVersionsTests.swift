import Testing

@testable import ReplicaProto

/// Peers of every older version (`wire.md` sections 2.3, 4.7 and 10): what the version has no word for is not said, and
/// everything that it has words for works.
@Suite struct OlderVersionsTests {
    private let volume = VolumeNumber(0)
    static let versions = UInt32(86)...101

    private static func mostBytes(_ version: UInt32) -> UInt32 { version < 95 ? 32_768 : version < 100 ? 131_072 : 1_048_576 }

    private static func options(_ replication: ReplicationProtocol) -> NetOptions {
        var options = NetOptions()
        options.replicationProtocol = replication
        return options
    }

    /// Two cores in sync, of which one announces no more than `version`; packets travel as bytes. A is Primary.
    private static func pair(_ version: UInt32, _ replication: ReplicationProtocol) -> TestPair {
        let pair = TestPair()
        for node in [pair.a, pair.b] {
            node.rewriteSuperblock {
                $0.identifiers = SameData.identifiers
                $0.flags = [.consistent, .wasUpToDate]
                $0.lastAgreedSectors = node.layout.usableSectors
            }
        }
        (version % 2 == 0 ? pair.a : pair.b).core.versions = 86...version
        pair.travelsAsBytes = true
        pair.up(options(replication), SameData.quickDisk)
        _ = pair.a.command(.primary(VolumeNumber(0), force: false))
        pair.exchange()
        return pair
    }

    private func expectEqual(_ pair: TestPair, _ moment: String) {
        let same = pair.a.data == pair.b.data
        #expect(same, "\(moment)")
        #expect(pair.a.status.outOfSyncBits == 0 && pair.b.status.outOfSyncBits == 0, "\(moment)")
        #expect(pair.a.isIdle && pair.b.isIdle, "\(moment): \(pair.a.core.openWork()) \(pair.b.core.openWork())")
        #expect(pair.a.status.identifiers.current & ~1 == pair.b.status.identifiers.current & ~1, "\(moment)")
        #expect(pair.a.state.connection == .connected && pair.b.state.connection == .connected, "\(moment): \(pair.a.logs.suffix(5)) \(pair.b.logs.suffix(5))")
        #expect(pair.problems.isEmpty, "\(moment): \(pair.problems.prefix(3))")
    }

    /// Writes of all sizes with slow disks and streams, flushes and discards between them; all have to be answered well.
    private func load(_ pair: TestPair, on node: TestNode, _ random: inout RandomGenerator, steps: Int = 60) {
        var asked: [RequestID] = []
        for step in 0..<steps {
            switch random.next() % 10 {
            case 0...3:
                let count = [1, 8, 64, 72, 256, 257, 700, 2048][Int(random.next() % 8)] as UInt32
                asked.append(
                    node.write(random.next() % 40_000, random.next(), count: count, fua: random.next() % 4 == 0))
            case 4: asked.append(node.flush())
            case 5: asked.append(node.discard(random.next() % 40_000, count: UInt32(1 + random.next() % 3000), random.coin() ? .zeroMayUnmap : .trim))
            case 6: (step % 2 == 0 ? pair.a : pair.b).holdsDisk = true
            case 7:
                pair.a.releaseHeld()
                pair.b.releaseHeld()
            default: pair.exchangeSome(&random)
            }
        }
        pair.a.releaseHeld()
        pair.b.releaseHeld()
        pair.exchange()
        for _ in 0..<3 { pair.pass(.seconds(1)) }
        for id in asked { #expect(node.replies[id] != nil && node.replies[id]?.error == nil, "\(node.name) \(id)") }
    }

    @Test(
        "connect, replicate, resync by bitmap, read remotely, change roles, disconnect; both disks equal",
        arguments: versions, ReplicationProtocol.allCases)
    func wholeLife(version: UInt32, replication: ReplicationProtocol) {
        var random = RandomGenerator(seed: (UInt64(version), UInt64(replication.rawValue), 3, 4))
        let pair = Self.pair(version, replication)
        let (a, b) = (pair.a, pair.b)
        #expect(a.core.link.version == version && b.core.link.version == version)
        #expect(a.format.version == version && b.format.version == version)
        #expect(a.exports[volume]?.requestSectors == Self.mostBytes(version) / 512)
        load(pair, on: a, &random)
        expectEqual(pair, "after replication")

        // Both lose the other; A goes on alone. What comes back is what was missed, while more is written.
        pair.cut()
        for _ in 0..<10 { _ = a.write(random.next() % 30_000, random.next(), count: 16) }
        let missed = a.status.outOfSyncBits
        #expect(missed > 10 && missed < 60)
        pair.pass(.seconds(2))
        #expect(a.exports[volume]?.requestSectors == Limits.requestSectors)
        let start = b.trace.count
        pair.link()
        for _ in 0..<5 { _ = a.write(random.next() % 30_000, random.next(), count: 100) }
        #expect(pair.synchronise(), "\(a.state.summary) \(b.state.summary) \(a.logs.suffix(5)) \(b.logs.suffix(5))")
        for _ in 0..<3 { pair.pass(.seconds(1)) }
        let requested = b.trace[start...].reduce(UInt64(0)) {
            if case .send(_, _, .resyncDataRequest(let request), _) = $1 { $0 + UInt64(request.range.count) } else { $0 }
        }
        #expect(requested >= 8 * 10 && requested <= 8 * (UInt64(missed) + 5 * 14), "\(requested) sectors requested, \(missed) blocks missed")
        expectEqual(pair, "after a resync")

        // Without a disk of its own the Primary reads and writes on the peer's.
        let detach = a.command(.detach(volume, force: false))
        pair.pass(.seconds(1))
        #expect(a.answers[detach]?.code == 0 && a.state.disk == .diskless)
        let sectors = min(2048, Self.mostBytes(version) / 512)
        let read = a.read(4, count: sectors)
        pair.exchange()
        let readSame = a.replies[read]?.data == Array(b.data[4..<4 + Int(sectors)])
        #expect(readSame)
        let write = a.write(100, 4711, count: 2048)
        pair.exchange()
        for _ in 0..<3 { pair.pass(.seconds(1)) }
        #expect(a.replies[write] != nil && a.replies[write]?.error == nil)
        #expect(b.data[100] == 4711 && b.data[2147] == 4711)
        #expect(a.attach(SameData.quickDisk) == 0 || a.state.disk != .diskless)
        pair.exchange()
        #expect(pair.synchronise(), "\(a.state.summary) \(b.state.summary) \(a.logs.suffix(5)) \(b.logs.suffix(5))")
        for _ in 0..<3 { pair.pass(.seconds(1)) }
        expectEqual(pair, "after a detach")

        // The other one's turn.
        let demotion = a.command(.secondary(volume))
        pair.exchange()
        let promotion = b.command(.primary(volume, force: false))
        pair.exchange()
        #expect(a.answers[demotion]?.code == 0 && b.answers[promotion]?.code == 0)
        load(pair, on: b, &random, steps: 30)
        expectEqual(pair, "after a change of roles")

        let disconnect = b.command(.disconnect(force: false))
        pair.exchange()
        #expect(pair.problems.isEmpty, "\(pair.problems.prefix(3))")
        pair.cut()
        #expect(b.answers[disconnect]?.code == 0)
        #expect(b.state.connection == .standAlone, "\(b.state.summary)")
        #expect(!a.state.connection.isConnected && a.state.connection != .standAlone, "\(a.state.summary)")
        let same = a.data == b.data
        #expect(same)
    }

    @Test("a write that is too large for one packet is answered when all of its pieces are", arguments: versions)
    func pieces(version: UInt32) {
        let (node, peer) = SameData.connected(version: version, features: version < 95 ? [] : .all, primary: true)
        let id = node.write(8, 7, count: 2048)
        let heads = peer.writes
        let most = Self.mostBytes(version) / 512
        #expect(heads.map(\.range.count) == Array(repeating: most, count: Int(2048 / most)))
        #expect(heads.map(\.sector.value) == (0..<UInt64(2048 / most)).map { 8 + $0 * UInt64(most) })
        #expect(Set(heads.map(\.blockID)).count == 1)
        #expect(heads.map(\.sequence) == (1...2048 / most).map { $0 })
        #expect(node.sent.filter { if case .data = $0.packet { $0.payload?.count == Int(most) } else { false } }.count == heads.count)
        for head in heads.reversed() {
            #expect(node.replies[id] == nil)
            peer.acknowledge(head)
        }
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(peer.barriers.count == 1)
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: UInt32(heads.count)))
        #expect(node.isIdle && node.state.connection == .connected, "\(node.core.openWork()) \(node.logs.suffix(2))")
    }

    @Test("one piece is refused: the whole write stays marked; the connection is lost in the middle: too", arguments: [UInt32(86), 99])
    func pieceFails(version: UInt32) {
        for isLost in [false, true] {
            let (node, peer) = SameData.connected(version: version, features: [], primary: true)
            let id = node.write(0, 7, count: 512)
            let heads = peer.writes
            #expect(heads.count > 1)
            peer.acknowledge(heads[0])
            if isLost {
                peer.drop()
            } else {
                let block = BlockAck(
                    sector: heads[1].sector, blockID: heads[1].blockID, byteCount: heads[1].byteCount, sequence: peer.nextSequence())
                peer.ack(.negativeAck(block))
                for head in heads.dropFirst(2) { peer.acknowledge(head) }
                if let number = peer.barriers.first { peer.ack(.barrierAck(number: number, setSize: UInt32(heads.count))) }
            }
            #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
            #expect(node.status.outOfSyncBits == 64)
            #expect(node.isIdle, "\(node.core.openWork())")
        }
    }

    @Test("below version 95 there is no FUA: its epoch has to be durable", arguments: versions, ReplicationProtocol.allCases)
    func forcedUnitAccess(version: UInt32, replication: ReplicationProtocol) {
        let (node, peer) = SameData.connected(Self.options(replication), version: version, features: [], primary: true)
        let id = node.write(0, 7, fua: true)
        let head = peer.writes[0]
        #expect(head.flags.contains(.fua) == (version >= 95))
        let ack = BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: peer.nextSequence())
        if replication == .c { peer.ack(.writeAck(ack)) }
        if replication == .b { peer.ack(.receiveAck(ack)) }
        #expect((node.replies[id] != nil) == (version >= 95))
        #expect(peer.barriers.count == 1)
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: 1))
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.isIdle, "\(node.core.openWork())")
    }

    @Test("below version 94 the peer takes no more than it announces", arguments: versions)
    func announcedLimit(version: UInt32) {
        let (node, peer) = SameData.pair(version: version, features: [])
        peer.open()
        peer.sayFeatures()
        peer.say(.protocolParameters(peer.protocolParameters()))
        peer.say(.syncParameters(peer.syncParameters))
        var sizes = peer.sizes()
        sizes.maximumRequest = 9_000
        peer.say(.sizes(sizes))
        peer.say(.uuids(peer.uuids))
        peer.say(.state(peer.state()))
        _ = node.command(.primary(volume, force: false))
        peer.ack(.stateChangeReply(1))
        node.sent = []
        _ = node.write(0, 1, count: 24)
        #expect(peer.writes.map(\.byteCount) == (version < 94 ? [8_192, 4_096] : [12_288]))
        #expect(node.exports[volume]?.requestSectors == (version < 94 ? 16 : Self.mostBytes(version) / 512))
    }

    @Test("sync parameters leave alone what the version has no field for", arguments: versions)
    func syncParameters(version: UInt32) {
        var options = NetOptions()
        options.verifyAlgorithm = "crc32c"
        options.checksumAlgorithm = "sha1"
        var disk = SameData.quickDisk
        disk.cPlanAhead = 20
        disk.cMaxRate = 5_000
        let (node, peer) = SameData.connected(options, disk: disk, version: version, features: [])
        #expect(node.state.connection == .connected, "\(node.logs)")
        let sent = SyncParameters(
            resyncRate: 777, verifyAlgorithm: version >= 88 ? "sha1" : "", checksumAlgorithm: version >= 89 ? "md5" : "",
            planAhead: version >= 95 ? 7 : 0, delayTarget: 0, fillTarget: 0, maximumRate: version >= 95 ? 9_000 : 0)
        peer.say(.syncParameters(sent))
        #expect(node.core.link.options.verifyAlgorithm == (version >= 88 ? "sha1" : "crc32c"))
        #expect(node.core.link.options.checksumAlgorithm == (version >= 89 ? "md5" : "sha1"))
        let adopted = node.core.volumes[0].diskOptions
        #expect(adopted.resyncRate == 777)
        #expect(adopted.cPlanAhead == (version >= 95 ? 7 : 20) && adopted.cMaxRate == (version >= 95 ? 9_000 : 5_000))
    }

    @Test("a disconnect is asked for with the words of the version", arguments: versions)
    func disconnect(version: UInt32) {
        let (node, peer) = SameData.connected(version: version, features: [])
        let id = node.command(.disconnect(force: false))
        #expect(peer.commands(.data) == [version >= 100 ? .connectionStateChangeRequest : .stateChangeRequest])
        peer.ack(version >= 100 ? .connectionStateChangeReply(1) : .stateChangeReply(1))
        peer.drop()
        #expect(node.answers[id]?.code == 0)
        #expect(node.state.connection == .standAlone)
    }
}
