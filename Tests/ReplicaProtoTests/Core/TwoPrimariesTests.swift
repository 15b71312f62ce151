import Testing

@testable import ReplicaProto

/// Two Primaries (`wire.md` 7.3, 7.8), items 30, 32 and 41 of its section 11.
@Suite struct TwoPrimariesTests {
    private let volume = VolumeNumber(0)
    static let options: NetOptions = {
        var options = NetOptions()
        options.allowTwoPrimaries = true
        return options
    }()

    /// Two cores in sync, both Primary; A holds the resolver flag.
    static func pair(cappedAt version: UInt32 = 101) -> TestPair {
        let pair = TestPair()
        for node in [pair.a, pair.b] {
            node.core.versions = 86...version
            node.rewriteSuperblock {
                $0.identifiers = SameData.identifiers
                $0.flags = [.consistent, .wasUpToDate]
                $0.lastAgreedSectors = node.layout.usableSectors
            }
        }
        pair.up(options, SameData.quickDisk)
        for node in [pair.a, pair.b] {
            _ = node.command(.primary(VolumeNumber(0), force: false))
            pair.exchange()
        }
        return pair
    }

    /// A node that is Primary beside a scripted one, with its disk held back.
    private func beside(resolver: Bool, version: UInt32 = 101) -> (node: TestNode, peer: ScriptedPeer) {
        let (node, peer) = SameData.connected(Self.options, version: version, nodeIsResolver: resolver, primary: true)
        peer.role = .primary
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 3, value: 1)))
        peer.say(.state(peer.state(.connected, peerDisk: .upToDate)))
        #expect(node.state.peerRole == .primary, "\(node.state.summary)")
        node.sent = []
        return (node, peer)
    }

    private func acks(_ peer: ScriptedPeer) -> [Packet] { peer.take().filter { $0.stream == .meta }.map(\.packet) }

    @Test("item 30: without the option the second promotion is refused")
    func item30() {
        let (node, peer) = SameData.connected(primary: true)
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 3, value: 1)))
        #expect(peer.replies() == [-1])
        #expect(node.state.peerRole == .secondary)
    }

    @Test("only protocol C takes two Primaries", arguments: [ReplicationProtocol.a, .b])
    func refusedBelowC(replication: ReplicationProtocol) {
        let node = TestNode("alice", seed: 1)
        _ = node.attach()
        var options = Self.options
        options.replicationProtocol = replication
        #expect(node.connect(options) == 139)
        #expect(node.connect(Self.options) == 0)
        #expect(node.code(.netOptions(options)) == 139)
    }

    @Test("the option is switched while connected; not off while both are Primary, not at all below version 100")
    func switchedAtRunTime() {
        let pair = Self.pair()
        #expect(pair.a.state.role == .primary && pair.b.state.role == .primary)
        #expect(pair.a.code(.netOptions(NetOptions())) == 164)
        _ = pair.b.command(.secondary(volume))
        pair.exchange()
        #expect(pair.a.code(.netOptions(NetOptions())) == 0)
        pair.exchange()
        #expect(!pair.b.core.link.options.allowTwoPrimaries)
        let refused = pair.b.command(.primary(volume, force: false))
        pair.pass(.seconds(2))
        #expect(pair.b.answers[refused]?.code == -1)
        #expect(pair.b.code(.netOptions(Self.options)) == 0)
        pair.exchange()
        let granted = pair.b.command(.primary(volume, force: false))
        pair.exchange()
        #expect(pair.b.answers[granted]?.code == 0)
        let old = Self.pair(cappedAt: 99)
        _ = old.b.command(.secondary(volume))
        old.exchange()
        #expect(old.a.code(.netOptions(NetOptions())) == 163)
    }

    @Test("item 32: both are promoted at once: one is asked to try again, and does")
    func promotedAtOnce() {
        let pair = Self.pair()
        for node in [pair.a, pair.b] {
            _ = node.command(.secondary(volume))
            pair.exchange()
        }
        let first = pair.a.command(.primary(volume, force: false))
        let second = pair.b.command(.primary(volume, force: false))
        pair.exchange()
        for _ in 0..<20 { pair.pass(.milliseconds(100)) }
        #expect(pair.a.answers[first]?.code == 0 && pair.b.answers[second]?.code == 0)
        #expect(pair.a.state.role == .primary && pair.a.state.peerRole == .primary)
        #expect(pair.b.state.role == .primary && pair.b.state.peerRole == .primary)
    }

    // MARK: The holder of the flag

    @Test(
        "a covered write is superseded, another one has to be tried again",
        arguments: [
            (UInt64(0), UInt32(8), UInt64(0), UInt32(8), true), (0, 16, 8, 8, true), (0, 16, 0, 8, true), (4, 8, 5, 2, true),
            (0, 8, 0, 16, false), (8, 8, 0, 9, false), (0, 16, 8, 16, false), (0, 8, 7, 1, true),
        ])
    func verdicts(own: UInt64, ownCount: UInt32, theirs: UInt64, theirCount: UInt32, superseded: Bool) {
        let (node, peer) = beside(resolver: true)
        node.holdsDisk = true
        let id = node.write(own, 1, count: ownCount)
        let head = peer.writes[0]
        peer.write(theirs, 2, count: theirCount)
        let said = acks(peer)
        #expect(said.count == 1)
        switch said.first {
        case .superseded(let ack), .retryWrite(let ack):
            #expect(
                ack.sector == Sector(theirs) && ack.byteCount == theirCount * 512 && ack.blockID == 0xffff_8881_0000_0008)
            #expect(ack.sequence == 2)
        default: Issue.record("\(said)")
        }
        if case .superseded? = said.first { #expect(superseded) } else { #expect(!superseded) }
        // The epoch of the overruled write is closed; there is nothing in it to acknowledge.
        peer.say(.barrier(number: 7))
        peer.acknowledge(head)
        node.releaseHeld()
        #expect(node.replies[id]?.error == nil && node.replies[id] != nil)
        #expect(!acks(peer).contains { if case .barrierAck = $0 { true } else { false } })
        #expect(node.data[Int(theirs)] == (own <= theirs ? 1 : 0))
        peer.ack(.barrierAck(number: peer.barriers.first ?? 0, setSize: 1))
        #expect(node.isIdle, "\(node.core.openWork())")
    }

    @Test("below version 100 there is no \"again\": what is not covered stays marked", arguments: [UInt32(86), 96, 99])
    func verdictBelow100(version: UInt32) {
        let (node, peer) = beside(resolver: true, version: version)
        node.holdsDisk = true
        _ = node.write(8, 1, count: 8)
        peer.write(0, 2, count: 16)
        let said = acks(peer)
        if case .superseded? = said.first {} else { Issue.record("\(said)") }
        #expect(node.status.outOfSyncBits == 2)
    }

    @Test("an epoch is acknowledged without its overruled writes, and not before the peer has what overruled them")
    func epochsOfOverruledWrites() {
        let (node, peer) = beside(resolver: true)
        node.holdsDisk = true
        _ = node.write(0, 1)
        let head = peer.writes[0]
        peer.write(0, 2, id: 0x1108)
        peer.write(800, 3, id: 0x1208)
        peer.say(.barrier(number: 7))
        node.releaseHeld()
        func barrierAcks() -> [UInt32] {
            acks(peer).compactMap { if case .barrierAck(7, let count) = $0 { count } else { nil } }
        }
        #expect(barrierAcks() == [])
        peer.acknowledge(head)
        #expect(barrierAcks() == [1])
    }

    @Test("a write that the peer began after it had ours is not concurrent: it waits for our disk and is written")
    func laterWriteIsNotConcurrent() {
        let (node, peer) = beside(resolver: true)
        node.holdsDisk = true
        let id = node.write(0, 1)
        peer.acknowledge(peer.writes[0])
        _ = peer.take()
        peer.write(0, 2)
        #expect(acks(peer).isEmpty)
        #expect(node.replies[id] == nil)
        node.releaseHeld()
        #expect(node.replies[id] != nil)
        #expect(node.data[0] == 2)
    }

    @Test("item 41: a write waits for the acknowledgements before it, and everything for it")
    func waitsForSequence() {
        let (node, peer) = beside(resolver: true)
        let id = node.write(0, 1)
        let head = peer.writes[0]
        // The peer has acknowledged ours (1) and written over it (2); the acknowledgement is late.
        peer.sequence = 1
        peer.write(0, 2, id: 0x1108)
        peer.write(0, 3, id: 0x1208)
        peer.say(.barrier(number: 7))
        #expect(node.data[0] == 1 && node.replies[id] == nil)
        _ = peer.take()
        peer.ack(.writeAck(BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: 1)))
        #expect(node.replies[id] != nil)
        #expect(node.data[0] == 3)
        #expect(acks(peer).filter { if case .writeAck = $0 { true } else { false } }.count == 2)
        // The numbers wrap.
        node.core.volumes[0].peerSequence = .max - 1
        peer.sequence = .max - 1
        peer.say(
            .data(DataPacket(sector: Sector(16), blockID: 9, sequence: .max, flags: .sendWriteAck, byteCount: 512)), [5])
        peer.say(.data(DataPacket(sector: Sector(17), blockID: 9, sequence: 0, flags: .sendWriteAck, byteCount: 512)), [6])
        peer.say(.data(DataPacket(sector: Sector(18), blockID: 9, sequence: 1, flags: .sendWriteAck, byteCount: 512)), [7])
        #expect(Array(node.data[16...18]) == [5, 6, 7])
    }

    @Test("a gap in the numbers ends the connection after ping-timeout; without the flag or the option nobody waits")
    func gapInTheNumbers() {
        for (resolver, option) in [(true, true), (true, false), (false, true)] {
            let (node, peer) = SameData.connected(option ? Self.options : NetOptions(), nodeIsResolver: resolver)
            peer.sequence = 5
            peer.write(0, 2)
            #expect(node.data[0] == (resolver && option ? 0 : 2))
            peer.pass(.milliseconds(400))
            #expect(node.state.connection == .connected)
            peer.pass(.milliseconds(200))
            #expect((node.state.connection == .connected) == !(resolver && option))
            #expect(node.core.peerRequests.list.count == 0)
            #expect(node.buffers.isEmpty)
        }
    }

    // MARK: The other node

    @Test("the peer's write waits for the verdict on ours, and for our disk", arguments: [true, false])
    func waitsForVerdict(again: Bool) {
        let (node, peer) = beside(resolver: false)
        node.holdsDisk = true
        let id = node.write(0, 1, count: 16)
        let head = peer.writes[0]
        peer.write(8, 2, count: 8)
        let verdict = BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: 2)
        #expect(node.held.count == 1)
        peer.ack(again ? .retryWrite(verdict) : .superseded(verdict))
        #expect(node.held.count == 1 && node.replies[id] == nil)
        _ = peer.take()
        node.releaseHeld()
        let said = peer.take()
        #expect(said.contains { if case .writeAck = $0.packet { true } else { false } })
        let again2 = said.compactMap { if case .data(let head) = $0.packet { head } else { nil } }
        if again {
            #expect(again2.count == 1 && again2[0].range == SectorRange(0, 16) && again2[0].sequence == 3)
            #expect(node.replies[id] == nil)
            #expect(Array(node.data[0..<16]) == Array(repeating: 1, count: 16))
            peer.acknowledge(again2[0])
        } else {
            #expect(again2.isEmpty)
            #expect(Array(node.data[0..<16]) == Array(repeating: 1, count: 8) + Array(repeating: 2, count: 8))
        }
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.status.outOfSyncBits == 0)
    }

    @Test("the kernel never acknowledges the epoch of a write that it overruled: a later one says it, or a read does")
    func epochsThatStayOpen() {
        let (node, peer) = beside(resolver: false)
        func overrule(_ head: DataPacket) {
            peer.ack(
                .superseded(
                    BlockAck(
                        sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: peer.nextSequence())
                ))
        }
        // Alone in its epoch: forgotten at once.
        _ = node.write(0, 1)
        overrule(peer.writes[0])
        #expect(peer.barriers.count == 1)
        #expect(node.isIdle, "\(node.core.openWork())")
        _ = peer.take()
        // With another one, and an epoch after that.
        node.holdsDisk = true
        _ = node.write(0, 1)
        _ = node.write(800, 1)
        let heads = peer.writes
        overrule(heads[0])
        peer.acknowledge(heads[1])
        node.releaseHeld()
        #expect(!node.isIdle)
        _ = node.write(1600, 1)
        peer.acknowledge(peer.writes[2])
        let numbers = peer.barriers
        #expect(numbers.count == 2)
        peer.ack(.barrierAck(number: numbers[1], setSize: 1))
        #expect(node.isIdle && node.state.connection == .connected, "\(node.logs.suffix(3))")
        // An acknowledgement all the same is no error.
        peer.ack(.barrierAck(number: numbers[0], setSize: 2))
        #expect(node.state.connection == .connected)
        _ = peer.take()
        // Nothing after it: a flush does not wait for ever.
        node.holdsDisk = true
        _ = node.write(0, 1)
        _ = node.write(800, 1)
        let last = peer.writes
        overrule(last[0])
        peer.acknowledge(last[1])
        node.releaseHeld()
        let flush = node.flush()
        for _ in 0..<5 {
            peer.pass(.seconds(1))
            peer.ack(.pingAck)
        }
        // Time alone proves nothing: that write may be in a cache over there.
        #expect(node.replies[flush] == nil && !node.isIdle)
        let reads = peer.readRequests
        #expect(reads.count == 1 && reads[0].sector == Sector(800))
        peer.say(
            .dataReply(
                DataPacket(
                    sector: reads[0].sector, blockID: reads[0].blockID, sequence: 0, flags: [], byteCount: reads[0].byteCount
                )),
            [1])
        #expect(node.replies[flush] != nil && node.replies[flush]?.error == nil)
        #expect(node.isIdle && node.state.connection == .connected && node.status.outOfSyncBits == 0)
        peer.ack(.barrierAck(number: peer.barriers.last!, setSize: 2))
        #expect(node.state.connection == .connected)
    }

    @Test("what the peer does not prove to be safe counts as missing there", arguments: [true, false])
    func unprovenEpochs(refuses: Bool) {
        let (node, peer) = beside(resolver: false)
        node.holdsDisk = true
        _ = node.write(0, 1)
        _ = node.write(800, 1)
        let writes = peer.writes
        peer.ack(
            .superseded(
                BlockAck(
                    sector: writes[0].sector, blockID: writes[0].blockID, byteCount: writes[0].byteCount,
                    sequence: peer.nextSequence())))
        peer.acknowledge(writes[1])
        node.releaseHeld()
        for _ in 0..<5 {
            peer.pass(.seconds(1))
            peer.ack(.pingAck)
        }
        #expect(node.status.outOfSyncBits == 0)
        if refuses {
            let read = peer.readRequests[0]
            peer.ack(
                .negativeDataReply(
                    BlockAck(
                        sector: read.sector, blockID: read.blockID, byteCount: read.byteCount, sequence: peer.nextSequence())
                ))
            #expect(node.isIdle && node.state.connection == .connected)
        } else {
            peer.drop()
        }
        #expect(node.status.outOfSyncBits == 1)
    }

    @Test("a postponed write whose peer vanishes is written alone, and marked", arguments: [true, false])
    func postponedWithoutPeer(diskIsSlow: Bool) {
        let (node, peer) = beside(resolver: false)
        node.holdsDisk = diskIsSlow
        let id = node.write(0, 1)
        let head = peer.writes[0]
        peer.ack(.retryWrite(BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: 1)))
        #expect(node.replies[id] == nil)
        peer.drop()
        node.releaseHeld()
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.status.outOfSyncBits == 1)
        #expect(node.isIdle, "\(node.core.openWork())")
    }

    @Test("a write that is postponed for ever is not: the request timer ends the connection")
    func postponedForEver() {
        let (node, peer) = beside(resolver: false)
        let id = node.write(0, 1)
        let head = peer.writes[0]
        peer.ack(.retryWrite(BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: 1)))
        for _ in 0..<60 {
            peer.pass(.seconds(1))
            peer.ack(.pingAck)
        }
        #expect(node.state.connection != .connected)
        #expect(node.replies[id] != nil)
    }

    @Test("only the holder of the resolver flag gives verdicts", arguments: [true, false])
    func verdictOnTheHolder(again: Bool) {
        let (node, peer) = beside(resolver: true)
        _ = node.write(0, 1)
        let head = peer.writes[0]
        let ack = BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: 1)
        peer.ack(again ? .retryWrite(ack) : .superseded(ack))
        #expect(node.state.connection != .connected)
        #expect(node.isIdle, "\(node.core.openWork())")
    }

    @Test("verdicts on nothing of ours end the connection", arguments: 0..<4)
    func strangeVerdicts(kind: Int) {
        let (node, peer) = beside(resolver: false, version: kind == 3 ? 99 : 101)
        node.holdsDisk = true
        _ = node.write(0, 1)
        let head = peer.writes[0]
        let ack = BlockAck(
            sector: kind == 0 ? Sector(8) : head.sector, blockID: kind == 1 ? 77 : head.blockID, byteCount: head.byteCount,
            sequence: 1)
        if kind == 2 { peer.acknowledge(head) }
        peer.ack(kind == 3 ? .retryWrite(ack) : .superseded(ack))
        #expect(node.state.connection != .connected)
        node.releaseHeld()
        #expect(node.isIdle, "\(node.core.openWork())")
    }

    // MARK: Both

    @Test("conflicts of every shape end with equal disks")
    func bothDisksEqual() {
        var conflicts: UInt64 = 0
        var again = 0
        for seed in 0..<UInt64(400) {
            let pair = Self.pair()
            var random = RandomGenerator(seed: (seed, 1, 2, 3))
            var answered: [(TestNode, RequestID)] = []
            var value: UInt64 = 1
            for _ in 0..<40 {
                let node = random.coin() ? pair.a : pair.b
                switch random.next() % 8 {
                case 0...3:
                    value += 1
                    answered.append((node, node.write(random.next() % 24, value, count: UInt32(1 + random.next() % 16))))
                case 4: node.holdsDisk = true
                case 5: node.releaseHeld()
                case 6: _ = node.held.isEmpty ? () : node.releaseOne()
                default: pair.exchangeSome(&random)
                }
                again += pair.a.sent.count { if case .retryWrite = $0.packet { true } else { false } }
            }
            pair.a.releaseHeld()
            pair.b.releaseHeld()
            pair.exchange()
            for _ in 0..<4 { pair.pass(.seconds(1)) }
            for (node, id) in answered {
                #expect(node.replies[id] != nil && node.replies[id]?.error == nil, "seed \(seed): \(node.name) \(id)")
            }
            #expect(pair.a.state.connection == .connected && pair.b.state.connection == .connected, "seed \(seed)")
            let same = pair.a.data == pair.b.data
            #expect(same, "seed \(seed)")
            #expect(pair.a.status.outOfSyncBits == 0 && pair.b.status.outOfSyncBits == 0, "seed \(seed)")
            #expect(pair.a.isIdle && pair.b.isIdle, "seed \(seed): \(pair.a.core.openWork()) \(pair.b.core.openWork())")
            conflicts += pair.b.core.conflicts(of: volume)
        }
        #expect(conflicts > 500 && again > 100, "\(conflicts) conflicts")
    }
}

extension TestPair {
    /// Delivers some of what is on its way: each of the four directions keeps its order, between them there is none.
    func exchangeSome(_ random: inout RandomGenerator) {
        for _ in 0..<random.next() % 6 {
            let (from, to) = random.coin() ? (a, b) : (b, a)
            let stream: StreamKind = random.coin() ? .data : .meta
            guard let index = from.sent.firstIndex(where: { $0.stream == stream }) else { continue }
            let message = from.sent.remove(at: index)
            carry(message, from: from, to: to)
        }
    }
}
