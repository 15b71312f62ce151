import Testing

@testable import ReplicaProto

/// Online verify (`wire-resync.md` 8.11), both sides; item 52 of the wire specification's checklist.
@Suite struct OnlineVerifyTests {
    private let volume = VolumeNumber(0)
    private let options: NetOptions = {
        var options = NetOptions()
        options.verifyAlgorithm = "sha1"
        return options
    }()

    /// Two nodes with the same data, one Primary.
    private func pair(_ options: NetOptions? = nil, sectors: UInt64 = 4096) -> TestPair {
        let pair = TestPair(sectors: sectors)
        pair.up(options ?? self.options, SameData.quickDisk)
        _ = pair.a.command(.newCurrentUUID(volume, clearBitmap: true))
        pair.exchange()
        _ = pair.a.command(.primary(volume, force: false))
        pair.exchange()
        return pair
    }
    private func run(_ pair: TestPair, limit: Int = 300) -> Bool {
        for _ in 0..<limit {
            if pair.a.state.connection == .connected, pair.b.state.connection == .connected { return true }
            pair.pass(.milliseconds(100))
        }
        return false
    }
    private func marked(_ node: TestNode) -> [UInt64] {
        (0..<node.core.volumes[0].bitmap.bits).filter { node.isMarked($0) }
    }

    @Test("item 52: differing blocks are marked on both nodes, and nothing else happens", arguments: [true, false])
    func item52(byPrimary: Bool) {
        let pair = pair()
        let bits = pair.a.core.volumes[0].bitmap.bits
        let before = (pair.a.status.identifiers, pair.b.status.identifiers)
        // A lone block, two neighbours, one sector of a block, and the last one, which is shorter.
        pair.b.data[16] = 99
        for sector in 80..<96 { pair.b.data[sector] = 98 }
        pair.a.data[1601] = 97
        pair.b.data[pair.b.data.count - 1] = 96
        let (initiator, other) = byPrimary ? (pair.a, pair.b) : (pair.b, pair.a)
        let id = initiator.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        #expect(initiator.answers[id]?.code == 0)
        #expect(run(pair))
        let expected = [2, 10, 11, 200, bits - 1]
        #expect(marked(pair.a) == expected)
        #expect(marked(pair.b) == expected)
        #expect(pair.a.durableBits == 5 && pair.b.durableBits == 5)
        for node in [pair.a, pair.b] {
            #expect(node.state.disk == .upToDate && node.state.peerDisk == .upToDate)
            #expect(node.logs.contains("Out of sync: start=16, size=8 (sectors)"))
            #expect(node.logs.contains("Out of sync: start=80, size=16 (sectors)"))
            #expect(node.logs.contains("Online verify found 5 4k block out of sync!"))
            #expect(node.handlersRun.last == .outOfSync)
            #expect(node.core.openWork() == [])
            #expect(node.buffers.isEmpty)
            HazardGuard.check(node)
        }
        #expect(initiator.logs.contains("Starting Online Verify from sector 0"))
        #expect(other.logs.contains("Online Verify start sector: 0"))
        #expect(pair.a.status.identifiers == before.0 && pair.b.status.identifiers == before.1)
        // A Primary that is left alone, and comes back, mends them.
        pair.cut()
        pair.pass(.seconds(2))
        pair.link()
        #expect(pair.synchronise())
        let same = pair.a.data == pair.b.data
        #expect(same)
        _ = initiator.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        #expect(run(pair))
        #expect(marked(pair.a) == [] && marked(pair.b) == [])
    }

    @Test func equalCopiesLeaveNoTrace() {
        let pair = pair()
        _ = pair.b.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        #expect(run(pair))
        for node in [pair.a, pair.b] {
            #expect(!node.logs.contains { $0.hasPrefix("Out of sync") || $0.hasPrefix("Online verify found") })
            #expect(node.logs.contains { $0.hasPrefix("Online verify done (total") })
            #expect(!node.handlersRun.contains(.outOfSync))
        }
    }

    /// What the recorded sessions show of `--start` and `--stop`.
    @Test func aStopSectorEndsItOnBothNodes() {
        let pair = pair(sectors: 20_000)
        pair.b.data[8192] = 1
        pair.b.data[12_288] = 1
        pair.b.data[8191] = 1
        _ = pair.a.command(.verify(volume, start: 8195, stop: 12_288))
        pair.exchange()
        #expect(run(pair))
        #expect(marked(pair.a) == [1024] && marked(pair.b) == [1024])
        for node in [pair.a, pair.b] { #expect(node.logs.contains("Online Verify reached sector 12288")) }
        #expect(pair.a.logs.contains("Starting Online Verify from sector 8192"))
        // Without a start it goes on from there.
        _ = pair.a.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        #expect(run(pair))
        #expect(pair.a.logs.contains("Starting Online Verify from sector 12288"))
        #expect(marked(pair.a) == [1024, 1536] && marked(pair.b) == [1024, 1536])
        // And from the start after it came to the end.
        _ = pair.a.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        #expect(run(pair))
        #expect(marked(pair.b) == [1023, 1024, 1536])
    }

    @Test("without the version for it a stop sector is ignored", arguments: [UInt32(96), 97, 99, 100, 101])
    func stopSectorVersions(version: UInt32) {
        let (node, peer) = SameData.connected(options, version: version, sectors: 4096)
        _ = node.command(.verify(volume, start: 0, stop: 80))
        peer.ack(.stateChangeReply(1))
        peer.pass(.milliseconds(200))
        let requests = peer.verifyRequests
        let canStop = version >= 97 && version != 100
        #expect(requests.count == (canStop ? 10 : Int(node.core.volumes[0].bitmap.bits)))
        node.sent = []
        node.judgesBlock = { true }
        for request in requests { peer.say(.verifyReply(request), [1]) }
        #expect(peer.commands(.meta).filter { $0 == .verifyResult }.count == requests.count)
        #expect(peer.commands(.meta).last == .ping)
        #expect(node.state.connection == .verifyS)
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected)
        #expect(peer.states.map(\.connection) == (canStop ? [.connected] : []))
        #expect(node.core.openWork() == [])
    }

    @Test func conditionsOfAStart() {
        #expect(SameData.connected(NetOptions()).node.code(.verify(volume, start: nil, stop: nil)) == -14)
        let lone = TestNode.withData(identifiers: SameData.identifiers)
        _ = lone.attach(SameData.quickDisk)
        _ = lone.connect(options)
        #expect(lone.code(.verify(volume, start: nil, stop: nil)) == -15)
        let (node, peer) = SameData.connected(options)
        _ = node.command(.invalidate(volume))
        peer.ack(.stateChangeReply(1))
        #expect(node.code(.verify(volume, start: nil, stop: nil)) == -8)
        // The peer has its own reasons.
        let (other, refusing) = SameData.connected(options)
        let id = other.command(.verify(volume, start: nil, stop: nil))
        refusing.ack(.stateChangeReply(-8))
        #expect(other.answers[id]?.code == -10)
        // Its algorithm stays as long as it runs.
        let pair = pair(sectors: 20_000)
        pair.a.core.volumes[0].diskOptions.resyncRate = 250
        _ = pair.a.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        var changed = options
        changed.verifyAlgorithm = "md5"
        #expect(pair.a.state.connection == .verifyS)
        #expect(pair.a.code(.netOptions(changed)) == 149)
        #expect(run(pair, limit: 3000))
        #expect(pair.a.code(.netOptions(changed)) == 0)
        pair.exchange()
        #expect(pair.b.core.link.options.verifyAlgorithm == "md5")
    }

    /// What is written between a request and its result must not look like a difference, and waits.
    @Test("a block is locked on both nodes while it is compared", arguments: [true, false])
    func writesWait(byPrimary: Bool) {
        let pair = pair()
        let (initiator, other) = byPrimary ? (pair.a, pair.b) : (pair.b, pair.a)
        _ = initiator.command(.verify(volume, start: nil, stop: nil))
        // Up to the moment when the other node's copy is read.
        while !other.sent.contains(where: { if case .verifyReply = $0.packet { true } else { false } }) {
            if pair.a.sent.isEmpty, pair.b.sent.isEmpty { pair.a.advance(to: pair.a.now + .milliseconds(100)); pair.b.advance(to: pair.a.now) }
            pair.deliverOne()
        }
        let before = pair.a.data[0]
        let id = pair.a.write(0, 7)
        #expect(pair.a.data[0] == before, "the block is locked")
        #expect(pair.a.replies[id] == nil)
        pair.exchange()
        #expect(run(pair))
        #expect(pair.a.replies[id]?.error == nil && pair.a.replies[id] != nil)
        let same = pair.a.data == pair.b.data
        #expect(same)
        #expect(marked(pair.a) == [] && marked(pair.b) == [])
    }

    /// Protocol A answers early: the block is asked for when the peer has it, too.
    @Test func unconfirmedWritesComeFirst() {
        var options = options
        options.replicationProtocol = .a
        let (node, peer) = SameData.connected(options, primary: true, sectors: 4096)
        let id = node.write(0, 5)
        #expect(node.replies[id]?.error == nil && node.replies[id] != nil)
        let barrier = peer.barriers
        node.sent = []
        _ = node.command(.verify(volume, start: nil, stop: nil))
        peer.ack(.stateChangeReply(1))
        peer.pass(.milliseconds(300))
        #expect(peer.verifyRequests.isEmpty)
        // A new write to that block waits for its turn, one elsewhere does not.
        let held = node.write(0, 6)
        let free = node.write(800, 6)
        #expect(node.replies[held] == nil)
        #expect(node.replies[free] != nil)
        peer.ack(.barrierAck(number: barrier[0], setSize: 1))
        #expect(peer.verifyRequests.first?.sector.value == 0)
        #expect(node.replies[held] == nil)
    }

    @Test("a lost connection tells how far it came", arguments: [true, false])
    func interruption(byPrimary: Bool) {
        let pair = pair(sectors: 20_000)
        pair.a.core.volumes[0].diskOptions.resyncRate = 400
        pair.b.core.volumes[0].diskOptions.resyncRate = 400
        let (initiator, other) = byPrimary ? (pair.a, pair.b) : (pair.b, pair.a)
        _ = initiator.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        for _ in 0..<5 { pair.pass(.milliseconds(100)) }
        #expect(initiator.state.connection == .verifyS && other.state.connection == .verifyT)
        let left = initiator.status.progress!.bitsLeft
        #expect(other.status.progress?.bitsLeft == left)
        #expect(left < initiator.status.progress!.totalBits && left > 0)
        pair.cut()
        let reached = (initiator.core.volumes[0].bitmap.bits - left) * 8
        #expect(initiator.logs.contains("Online Verify reached sector \(reached)"))
        #expect(other.logs.contains("Online Verify reached sector \(reached)"))
        pair.pass(.seconds(2))
        pair.link()
        #expect(pair.synchronise())
        _ = initiator.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        #expect(initiator.logs.contains("Starting Online Verify from sector \(reached)"))
        #expect(run(pair, limit: 3000))
        for node in [pair.a, pair.b] { #expect(node.core.openWork() == []) }
    }

    @Test func aDiskThatGoesEndsIt() {
        for node in 0..<2 {
            let pair = pair(sectors: 20_000)
            pair.a.core.volumes[0].diskOptions.resyncRate = 400
            _ = pair.a.command(.verify(volume, start: nil, stop: nil))
            pair.exchange()
            pair.pass(.milliseconds(100))
            #expect(pair.a.state.connection == .verifyS)
            _ = [pair.a, pair.b][node].command(.detach(volume, force: true))
            pair.exchange()
            pair.pass(.seconds(1))
            #expect(pair.a.state.connection == .connected && pair.b.state.connection == .connected)
            #expect(pair.a.core.openWork() == [] && pair.b.core.openWork() == [])
            #expect(pair.a.buffers.isEmpty && pair.b.buffers.isEmpty)
        }
    }

    /// DRBD 8.4 calls both disks UpToDate when a verify begins, whatever they lack, and while it runs.
    @Test("a copy that is not good is not compared", arguments: [true, false])
    func aCopyThatIsNotGood(primary: Bool) {
        var disk = SameData.quickDisk
        disk.onIOError = .passOn
        disk.resyncRate = 400
        let pair = TestPair(sectors: 20_000)
        pair.up(options, disk)
        _ = pair.a.command(.newCurrentUUID(volume, clearBitmap: true))
        pair.exchange()
        _ = pair.a.command(.primary(volume, force: false))
        pair.exchange()
        // In the middle of a run.
        _ = (primary ? pair.a : pair.b).command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        pair.pass(.milliseconds(100))
        #expect(pair.a.state.connection.isVerifying && pair.b.state.connection.isVerifying)
        pair.b.failsWrites = DiskError(5)
        let id = pair.a.write(16_000, 7)
        pair.exchange()
        pair.b.failsWrites = nil
        #expect(pair.a.replies[id]?.error == nil && pair.a.replies[id] != nil)
        #expect(pair.b.state.disk == .inconsistent && pair.b.state.connection < .connected)
        #expect(pair.a.isMarked(2000))
        #expect(!pair.b.core.link.isUsable)
        pair.cut()
        pair.link()
        #expect(pair.synchronise())
        let same = pair.a.data == pair.b.data
        #expect(same)
        pair.pass(.seconds(2))
        #expect(pair.a.core.openWork() == [] && pair.b.core.openWork() == [])
        // Before one.
        for isSource in [true, false] {
            let (node, peer) = SameData.connected(options)
            if isSource {
                peer.disk = .inconsistent
                peer.say(.state(peer.state(.connected, peerDisk: .upToDate)))
            } else {
                node.core.setState(0) { $0.disk = .inconsistent }
            }
            node.sent = []
            #expect(node.code(.verify(volume, start: nil, stop: nil)) == -2)
            #expect(node.sent.isEmpty)
            peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x1f0, value: 0x120)))
            let replies = node.sent.compactMap { if case .stateChangeReply(let code) = $0.packet { code } else { nil } }
            #expect(replies == [-2])
            #expect(node.state.connection == .connected)
        }
        // After we asked and before the answer.
        let (node, peer) = SameData.connected(options)
        let asked = node.command(.verify(volume, start: nil, stop: nil))
        node.core.setState(0) { $0.disk = .inconsistent }
        peer.ack(.stateChangeReply(1))
        #expect(node.answers[asked]?.code == -2)
        #expect(!node.core.link.isUsable)
    }

    /// The end of a run may be moved to where it has been, while it waits for a write.
    @Test func anEndThatMovesBack() {
        var options = options
        options.replicationProtocol = .a
        let (node, peer) = SameData.connected(options, primary: true, sectors: 4096)
        _ = node.write(800, 5)
        _ = node.command(.verify(volume, start: 800, stop: nil))
        peer.ack(.stateChangeReply(1))
        peer.pass(.milliseconds(300))
        #expect(peer.verifyRequests.isEmpty && node.state.connection == .verifyS)
        let held = node.write(800, 6)
        #expect(node.replies[held] == nil)
        _ = node.command(.verify(volume, start: 0, stop: 400))
        #expect(node.replies[held] != nil)
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected)
    }

    /// What cannot be read is not known to be equal.
    @Test("read errors count as differences", arguments: [true, false])
    func readErrors(atInitiator: Bool) {
        var disk = SameData.quickDisk
        disk.onIOError = .passOn
        let pair = TestPair(sectors: 4096)
        pair.up(options, disk)
        _ = pair.a.command(.newCurrentUUID(volume, clearBitmap: true))
        pair.exchange()
        _ = pair.a.command(.verify(volume, start: 0, stop: 8))
        let failing = atInitiator ? pair.a : pair.b
        failing.failsReads = DiskError(5)
        pair.exchange()
        pair.pass(.milliseconds(200))
        failing.failsReads = nil
        #expect(failing.isMarked(0))
        pair.pass(.seconds(2))
        #expect(pair.a.core.openWork() == [] && pair.b.core.openWork() == [])
    }

    /// Whatever a peer says out of turn is answered once or ends the connection; nothing else.
    @Test func aPeerOutOfTurn() {
        let block = BlockRequest(sector: Sector(8), blockID: .max, byteCount: 4096)
        let (node, peer) = SameData.connected(options)
        // A reply that nobody waits for is one of a run that was given up.
        peer.say(.verifyReply(block), [1])
        #expect(node.sent.map(\.packet.inSyncRange) == [block.range])
        node.sent = []
        // A request is served in any state.
        peer.say(.verifyRequest(block))
        #expect(peer.commands(.data) == [.verifyReply])
        peer.ack(.verifyResult(BlockAck(sector: Sector(8), blockID: BlockID.outOfSync, byteCount: 4096, sequence: 1)))
        #expect(node.isMarked(1))
        #expect(node.core.openWork() == [])
        for packet in [
            Packet.verifyRequest(BlockRequest(sector: Sector(1 << 40), blockID: .max, byteCount: 4096)),
            .verifyReply(BlockRequest(sector: Sector(1 << 40), blockID: .max, byteCount: 4096)),
        ] {
            let (node, peer) = SameData.connected(options)
            if case .verifyReply = packet { peer.say(packet, [1]) } else { peer.say(packet) }
            #expect(!node.core.link.isUsable)
            #expect(node.buffers.isEmpty)
        }
        // Without an algorithm neither has a meaning.
        for packet in [Packet.verifyRequest(block), .verifyReply(block)] {
            let (node, peer) = SameData.connected()
            if case .verifyReply = packet { peer.say(packet, [1]) } else { peer.say(packet) }
            #expect(!node.core.link.isUsable)
        }
    }

    /// Verify leaves what is the Primary's as it is: writes during it reach both disks and clear what was marked.
    @Test func writesGoOn() {
        let pair = pair(sectors: 20_000)
        pair.b.data[16_000] = 3
        pair.b.data[8] = 3
        _ = pair.a.command(.verify(volume, start: nil, stop: nil))
        pair.exchange()
        var value: UInt64 = 100
        for step in 0..<200 where pair.a.state.connection == .verifyS {
            value += 1
            _ = pair.a.write(UInt64(step * 72 % 8000), value)
            if step == 3 { _ = pair.a.write(16_000, 4) }
            pair.pass(.milliseconds(20))
        }
        #expect(run(pair))
        let different = pair.a.data.indices.filter { pair.a.data[$0] != pair.b.data[$0] }
        let found = Set(different.map { UInt64($0 / 8) }).sorted()
        #expect(marked(pair.a) == found, "what is marked is what differs")
        #expect(marked(pair.b) == found)
    }
}

extension ScriptedPeer {
    var verifyRequests: [BlockRequest] {
        node.sent.compactMap { if case .verifyRequest(let request) = $0.packet { request } else { nil } }
    }
}

extension Packet {
    fileprivate var inSyncRange: SectorRange? {
        if case .verifyResult(let ack) = self, ack.blockID == BlockID.inSync { ack.range } else { nil }
    }
}
