import Testing

@testable import ReplicaProto

/// Ahead and Behind (`wire.md` 7.7, `wire-resync.md` 8.9), item 53 of its section 11.
@Suite struct CongestionTests {
    private let volume = VolumeNumber(0)
    static func options(_ policy: OnCongestion = .pullAhead, fill: UInt64 = 32, extents: Int = 1237) -> NetOptions {
        var options = NetOptions()
        options.replicationProtocol = .a
        options.onCongestion = policy
        options.congestionFill = fill
        options.congestionExtents = extents
        return options
    }
    private func primary(_ options: NetOptions, version: UInt32 = 101) -> (node: TestNode, peer: ScriptedPeer) {
        SameData.connected(options, version: version, primary: true)
    }
    private func outOfSync(_ peer: ScriptedPeer) -> [SectorRange] {
        peer.node.sent.compactMap { if case .outOfSync(let area) = $0.packet { area.range } else { nil } }
    }
    private func acknowledge(_ peer: ScriptedPeer, _ counts: [UInt32]) {
        for (number, count) in zip(peer.barriers, counts) { peer.ack(.barrierAck(number: number, setSize: count)) }
    }
    private func pass(_ peer: ScriptedPeer, seconds: Int) {
        for _ in 0..<seconds * 4 {
            peer.pass(.milliseconds(250))
            peer.ack(.pingAck)
        }
    }

    @Test("when it pulls ahead", arguments: [
        (options(fill: 32), UInt32(101), true), (options(fill: 33), 101, false), (options(fill: 32), 96, true),
        (options(fill: 32), 95, false), (options(.block, fill: 32), 101, false), (options(fill: 0), 101, false),
        (options(fill: 0, extents: 2), 101, true), (options(fill: 0, extents: 3), 101, false),
    ])
    func threshold(options: NetOptions, version: UInt32, pulls: Bool) {
        let (node, peer) = primary(options, version: version)
        for sector in [UInt64(0), 8192, 0, 8192, 0] {
            if peer.writes.count == 4 { #expect((node.state.connection == .ahead) == (pulls && options.congestionFill == 0)) }
            _ = node.write(sector, 1)
        }
        #expect((node.state.connection == .ahead) == pulls, "\(node.state.summary)")
        #expect(node.replies.values.allSatisfy { $0.error == nil })
    }

    @Test("Ahead: the state, the end of the last epoch, and one P_OUT_OF_SYNC for each new bit")
    func ahead() {
        let (node, peer) = primary(Self.options())
        for sector in 0..<UInt64(4) { _ = node.write(sector * 8, 1) }
        _ = node.write(64, 2)
        _ = node.write(64, 3)
        _ = node.write(70, 3)
        #expect(peer.writes.count == 4)
        #expect(node.state.connection == .ahead && node.state.peerDisk == .consistent)
        #expect(peer.states.map(\.connection) == [.ahead])
        #expect(outOfSync(peer) == [SectorRange(64, 8), SectorRange(70, 8)])
        #expect(peer.barriers.count >= 1)
        #expect(node.data[64] == 3 && node.data[70] == 3)
        #expect(node.replies.count == 7)
        #expect(node.status.outOfSyncBits == 2)
    }

    @Test("back as SyncSource one second after the last acknowledgement, with P_SYNC_UUID")
    func backAgain() {
        let (node, peer) = primary(Self.options())
        for sector in 0..<UInt64(4) { _ = node.write(sector * 8, 1) }
        _ = node.write(64, 2)
        pass(peer, seconds: 3)
        #expect(node.state.connection == .ahead)
        let open = peer.writes.count
        #expect(open == 4)
        let before = node.now
        acknowledge(peer, Array(repeating: UInt32(open / peer.barriers.count), count: peer.barriers.count))
        #expect(peer.pass(until: { peer.ack(.pingAck); return node.state.connection == .syncSource }))
        #expect(node.now.since(before) >= .seconds(1))
        let commands = peer.commands(.data)
        #expect(commands.last == .syncUUID)
        #expect(node.state.peerDisk == .inconsistent)
        // Writes go to the peer again.
        _ = node.write(640, 5)
        #expect(peer.writes.last?.flags.contains(.maySetInSync) == true)
        peer.say(.resyncDataRequest(BlockRequest(sector: Sector(64), blockID: BlockID.syncer, byteCount: 4096)))
        #expect(peer.commands(.data).last == .resyncDataReply)
    }

    @Test("a demotion waits for the way back: nobody would know what the peer lacks")
    func demotionWaits() {
        let (node, peer) = primary(Self.options())
        for sector in 0..<UInt64(5) { _ = node.write(sector * 8, 1) }
        #expect(node.state.connection == .ahead)
        let id = node.command(.secondary(volume))
        acknowledge(peer, Array(repeating: UInt32(4 / peer.barriers.count), count: peer.barriers.count))
        #expect(node.answers[id] == nil)
        pass(peer, seconds: 3)
        #expect(node.state.connection == .syncSource)
        #expect(node.answers[id]?.code == 0 && node.state.role == .secondary)
    }

    @Test("a connection that is lost while Ahead leaves a generation of its own")
    func lostWhileAhead() {
        let (node, peer) = primary(Self.options())
        for sector in 0..<UInt64(5) { _ = node.write(sector * 8, 1) }
        #expect(node.state.connection == .ahead)
        peer.drop()
        #expect(node.writtenSuperblock.identifiers.bitmap & ~1 == SameData.identifiers.current & ~1)
        #expect(node.status.outOfSyncBits == 5)
        #expect(node.core.timers.deadline(.catchUp) == nil || node.core.volumes[0].catchUpAt == nil)
    }

    @Test("on-congestion disconnect ends the connection for good")
    func disconnects() {
        let (node, _) = primary(Self.options(.disconnect))
        for sector in 0..<UInt64(6) { _ = node.write(sector * 8, 1) }
        #expect(node.state.connection == .standAlone)
        #expect(node.replies.count == 6 && node.replies.values.allSatisfy { $0.error == nil })
        #expect(node.status.outOfSyncBits == 6)
        #expect(node.isIdle)
    }

    @Test("a source that pulls ahead cancels what the target asks for, and keeps its bits")
    func sourcePullsAhead() {
        let (node, peer) = primary(Self.options())
        for sector in 0..<UInt64(5) { _ = node.write(sector * 8, 1) }
        acknowledge(peer, Array(repeating: UInt32(4 / peer.barriers.count), count: peer.barriers.count))
        #expect(peer.pass(until: { peer.ack(.pingAck); return node.state.connection == .syncSource }))
        _ = peer.take()
        // One answer is under way to the target when its node pulls ahead again, another one still on our disk.
        let first = BlockRequest(sector: Sector(32), blockID: BlockID.syncer, byteCount: 4096)
        peer.say(.resyncDataRequest(first))
        for sector in 10..<UInt64(15) { _ = node.write(sector * 8, 7) }
        #expect(node.state.connection == .ahead)
        _ = peer.take()
        peer.say(.resyncDataRequest(first))
        #expect(peer.commands(.meta) == [.resyncCancel])
        // Written again here since: the target cleared its bit with what it had got, and is told.
        _ = node.write(32, 9)
        #expect(outOfSync(peer).isEmpty)
        peer.ack(.resyncWriteAck(BlockAck(sector: Sector(32), blockID: BlockID.syncer, byteCount: 4096, sequence: 99)))
        #expect(outOfSync(peer) == [SectorRange(32, 8)])
        #expect(node.status.outOfSyncBits == 2)
    }

    @Test("item 53: Behind takes P_OUT_OF_SYNC and becomes SyncTarget on P_SYNC_UUID")
    func item53() {
        let (node, peer) = SameData.connected(Self.options(.block))
        peer.role = .primary
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 3, value: 1)))
        peer.say(.state(peer.state(.connected, peerDisk: .upToDate)))
        peer.write(0, 1, flags: [])
        node.sent = []
        peer.say(.state(peer.state(.ahead, peerDisk: .consistent)))
        #expect(node.state.connection == .behind && node.state.disk == .outdated)
        #expect(!node.writtenSuperblock.flags.contains(.wasUpToDate))
        peer.say(.barrier(number: 0))
        #expect(peer.commands(.meta) == [.barrierAck])
        peer.say(.outOfSync(AreaPacket(sector: Sector(64), byteCount: 4096)))
        peer.say(.outOfSync(AreaPacket(sector: Sector(70), byteCount: 4096)))
        #expect(node.status.outOfSyncBits == 2)
        // It pings a Primary that might be dead.
        #expect(node.code(.primary(volume, force: false)) != 0)
        peer.ack(.pingAck)
        peer.say(.syncUUID(0x77_0000_0000))
        peer.pass(.milliseconds(200))
        #expect(node.state.connection == .syncTarget && node.state.disk == .inconsistent)
        for request in peer.resyncRequests { peer.answer(request, 6) }
        peer.pass(.milliseconds(200))
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected && node.state.disk == .upToDate, "\(node.state.summary)")
        #expect(node.data[64] == 6 && node.data[72] == 6)
        #expect(peer.states.last?.connection == .connected)
    }

    @Test("a target that falls behind forgets cancelled requests, keeps its bits, and starts anew")
    func targetFallsBehind() {
        let (node, peer) = SameData.connected(Self.options(.block))
        peer.role = .primary
        peer.say(.state(peer.state(.ahead, peerDisk: .consistent)))
        for block in 0..<UInt64(4) { peer.say(.outOfSync(AreaPacket(sector: Sector(block * 64), byteCount: 4096))) }
        peer.say(.syncUUID(0x77_0000_0000))
        peer.pass(.milliseconds(200))
        let requests = peer.resyncRequests
        #expect(requests.count == 4)
        node.holdsDisk = true
        peer.answer(requests[0], 6)
        peer.say(.state(peer.state(.ahead, peerDisk: .inconsistent)))
        #expect(node.state.connection == .behind)
        // Reported again before the older copy is on the disk.
        peer.say(.outOfSync(AreaPacket(sector: requests[0].sector, byteCount: 4096)))
        node.releaseHeld()
        #expect(node.status.outOfSyncBits == 4)
        for request in requests[1...] {
            peer.ack(
                .resyncCancel(
                    BlockAck(sector: request.sector, blockID: request.blockID, byteCount: request.byteCount, sequence: 1)))
        }
        node.sent = []
        peer.say(.syncUUID(0x78_0000_0000))
        peer.pass(.milliseconds(200))
        #expect(peer.resyncRequests.count == 4)
        for request in peer.resyncRequests { peer.answer(request, 8) }
        peer.pass(.milliseconds(200))
        peer.ack(.pingAck)
        #expect(node.state.connection == .connected && node.state.disk == .upToDate, "\(node.state.summary)")
        #expect(node.data[0] == 8)
        #expect(node.isIdle, "\(node.core.openWork())")
    }

    @Test("two cores: ahead and back, again and again, and both disks equal", arguments: [UInt32(96), 99, 101])
    func pair(version: UInt32) {
        let pair = TestPair()
        for node in [pair.a, pair.b] {
            node.core.versions = 86...version
            node.rewriteSuperblock {
                $0.identifiers = SameData.identifiers
                $0.flags = [.consistent, .wasUpToDate]
                $0.lastAgreedSectors = node.layout.usableSectors
            }
        }
        pair.up(Self.options(fill: 100), SameData.quickDisk)
        _ = pair.a.command(.primary(volume, force: false))
        pair.exchange()
        var random = RandomGenerator(seed: (UInt64(version), 2, 3, 4))
        var pulls = 0
        for round in 0..<400 {
            let was = pair.a.state.connection
            for _ in 0..<random.next() % 12 {
                _ = pair.a.write(random.next() % 4000, UInt64(round), count: UInt32(1 + random.next() % 24))
            }
            if was != .ahead, pair.a.state.connection == .ahead { pulls += 1 }
            if random.coin() { pair.exchangeSome(&random) } else { pair.pass(.milliseconds(Int(random.next() % 400))) }
        }
        #expect(pair.synchronise(), "\(pair.a.state.summary) \(pair.b.state.summary) \(pair.a.logs.suffix(30).joined(separator: "\n"))\n--\n\(pair.b.logs.suffix(30).joined(separator: "\n"))")
        #expect(pulls > 10)
        let same = pair.a.data == pair.b.data
        #expect(same)
        #expect(pair.a.status.outOfSyncBits == 0 && pair.b.status.outOfSyncBits == 0)
        #expect(pair.a.status.identifiers.current & ~1 == pair.b.status.identifiers.current & ~1)
        pair.pass(.seconds(1))
        #expect(pair.a.isIdle && pair.b.isIdle, "\(pair.a.core.openWork()) \(pair.b.core.openWork())")
    }
}
