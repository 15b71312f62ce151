import Testing

@testable import ReplicaProto

/// Items 34 to 43: writes, acks, epochs.
@Suite struct ConformanceReplicationTests {
    private func options(_ replication: ReplicationProtocol) -> NetOptions {
        var options = NetOptions()
        options.replicationProtocol = replication
        return options
    }

    // MARK: Receiving

    @Test("item 34: the ack that the flags ask for, at v100 and later", arguments: ReplicationProtocol.allCases, [0, 128, 256, 2 | 16])
    func item34AcksFollowTheFlags(replication: ReplicationProtocol, flags: Int) {
        let (node, peer) = SameData.connected(options(replication))
        peer.write(80, 5, id: 0x1234_5678, flags: DataFlags(rawValue: UInt32(flags)))
        let expected: [PacketCommand] = flags == 128 ? [.receiveAck] : flags == 256 ? [.writeAck] : []
        #expect(peer.commands(.meta) == expected)
        #expect(node.data[87] == 5)
        // Items 41 and 43: our first block ack, with their id.
        if let packet = node.sent.first?.packet {
            let ack = BlockAck(sector: Sector(80), blockID: 0x1234_5678, byteCount: 4096, sequence: 1)
            #expect(packet == (flags == 128 ? .receiveAck(ack) : .writeAck(ack)))
        }
    }

    @Test("item 34: below v100 the ack follows from the protocol", arguments: ReplicationProtocol.allCases, [UInt32(86), 94, 95, 99])
    func item34AcksFollowTheProtocolBelow100(replication: ReplicationProtocol, version: UInt32) {
        let (_, peer) = SameData.connected(options(replication), version: version)
        peer.write(80, 5, flags: .sync)
        #expect(peer.commands(.meta) == (replication == .a ? [] : replication == .b ? [.receiveAck] : [.writeAck]))
    }

    @Test func item34ReceiveAckComesBeforeTheDiskIsDone() {
        let (node, peer) = SameData.connected(options(.b))
        node.holdsDisk = true
        peer.write(80, 5, flags: .sendReceiveAck)
        #expect(peer.commands(.meta) == [.receiveAck])
        node.releaseHeld()
        #expect(peer.commands(.meta) == [.receiveAck])
    }

    @Test("item 35: barrier acks carry number and count, in order, after all acks, after the flush", arguments: [true, false])
    func item35BarrierAcks(flushes: Bool) {
        var disk = SameData.quickDisk
        disk.diskFlushes = flushes
        let (node, peer) = SameData.connected(disk: disk)
        node.holdsDisk = true
        peer.write(0, 1)
        peer.write(8, 2)
        node.releaseOne()
        peer.say(.barrier(number: 0x0700_0000))
        peer.write(16, 3)
        peer.say(.barrier(number: 0x0800_0000))
        // The second epoch may depend on the write that is answered: it waits for the first.
        #expect(node.count(where: isDiskWrite) == 2 && peer.commands(.meta) == [.writeAck])
        node.releaseHeld()
        #expect(peer.commands(.meta) == [.writeAck, .writeAck, .barrierAck, .writeAck, .barrierAck])
        #expect(node.sent[2].packet == .barrierAck(number: 0x0700_0000, setSize: 2))
        #expect(node.sent[4].packet == .barrierAck(number: 0x0800_0000, setSize: 1))
        #expect(node.count(where: isEpochFlush) == (flushes ? 2 : 0))
        #expect(node.core.openWork() == [])
    }

    @Test("item 35: epochs that came unanswered go to the disk together, and are flushed together", arguments: [true, false])
    func item35UnansweredEpochs(flushes: Bool) {
        var disk = SameData.quickDisk
        disk.diskFlushes = flushes
        let (node, peer) = SameData.connected(disk: disk)
        node.holdsDisk = true
        peer.write(0, 1)
        peer.say(.barrier(number: 1))
        peer.write(8, 2)
        peer.say(.barrier(number: 2))
        peer.write(16, 3)
        #expect(node.count(where: isDiskWrite) == 3)
        // The first answer ends it: what comes now may depend on that write, whatever epoch it counts in.
        node.releaseOne()
        peer.write(24, 4)
        peer.say(.barrier(number: 3))
        peer.write(32, 5)
        #expect(node.count(where: isDiskWrite) == 3)
        node.releaseOne()
        #expect(node.count(where: isDiskWrite) == 3 && node.count(where: isEpochFlush) == 0)
        node.releaseOne()
        if flushes {
            #expect(node.count(where: isEpochFlush) == 1 && node.count(where: isDiskWrite) == 3)
            // What comes during the flush waits for the next.
            peer.write(40, 6)
            #expect(peer.commands(.meta) == [.writeAck, .writeAck, .writeAck])
            node.releaseOne()
        } else {
            peer.write(40, 6)
        }
        #expect(node.count(where: isDiskWrite) == 6)
        // Epoch 3 still has a write on its way.
        #expect(peer.commands(.meta) == [.writeAck, .writeAck, .writeAck, .barrierAck, .barrierAck])
        node.releaseHeld()
        #expect(peer.commands(.meta).suffix(4) == [.writeAck, .writeAck, .writeAck, .barrierAck])
        #expect(node.count(where: isEpochFlush) == (flushes ? 2 : 0))
        #expect(node.sent.last?.packet == .barrierAck(number: 3, setSize: 2))
    }

    @Test("item 35: a lone write is flushed before its barrier comes, and once")
    func item35ALoneWrite() {
        let (node, peer) = SameData.connected()
        node.holdsDisk = true
        peer.write(0, 1)
        node.releaseOne()
        #expect(peer.commands(.meta) == [.writeAck] && node.count(where: isEpochFlush) == 1)
        peer.say(.barrier(number: 1))
        peer.write(8, 2)
        #expect(node.count(where: isDiskWrite) == 1 && peer.commands(.meta) == [.writeAck])
        node.releaseOne()
        #expect(node.count(where: isDiskWrite) == 2 && peer.commands(.meta) == [.writeAck, .barrierAck])
        node.releaseOne()
        node.releaseOne()
        // Flushed before its barrier: that owes only the ack.
        #expect(node.count(where: isEpochFlush) == 2 && peer.commands(.meta).count == 3)
        peer.say(.barrier(number: 2))
        #expect(node.count(where: isEpochFlush) == 2 && peer.commands(.meta).last == .barrierAck)
        node.releaseHeld()
        #expect(node.core.openWork() == [])
    }

    @Test("item 35: under A and B a write may be complete at the sender once it has arrived", arguments: [ReplicationProtocol.a, .b])
    func item35EpochsOfEarlyAnswers(replication: ReplicationProtocol) {
        let (node, peer) = SameData.connected(options(replication))
        let flags: DataFlags = replication == .b ? [.sendReceiveAck] : []
        node.holdsDisk = true
        for epoch in UInt32(1)...3 {
            peer.write(UInt64(epoch) * 8, 1, flags: flags)
            peer.say(.barrier(number: epoch))
            #expect(node.count(where: isDiskWrite) == 1)
        }
        node.releaseOne()
        #expect(node.count(where: isDiskWrite) == 1 && node.count(where: isEpochFlush) == 1)
        node.releaseOne()
        #expect(node.count(where: isDiskWrite) == 2)
        #expect(peer.commands(.meta).filter { $0 == .barrierAck }.count == 1)
        node.releaseHeld()
        #expect(peer.commands(.meta).filter { $0 == .barrierAck }.count == 3)
        #expect(node.count(where: isDiskWrite) == 3 && node.count(where: isEpochFlush) == 3)
    }

    private func isDiskWrite(_ effect: Effect) -> Bool { if case .writeDisk = effect { true } else { false } }
    private func isEpochFlush(_ effect: Effect) -> Bool { if case .flushDisk(_, .epoch) = effect { true } else { false } }

    @Test func item35EmptyEpochsOweNothing() {
        let (node, peer) = SameData.connected()
        peer.say(.barrier(number: 1))
        #expect(node.sent.isEmpty)
        peer.write(0, 1)
        peer.say(.barrier(number: 2))
        #expect(node.sent.last?.packet == .barrierAck(number: 2, setSize: 1))
    }

    @Test func item38AFailedWriteIsRefusedInEveryProtocolAndLeavesItsBlocksOutOfSync() {
        for replication in ReplicationProtocol.allCases {
            var disk = SameData.quickDisk
            disk.onIOError = .passOn
            let (node, peer) = SameData.connected(options(replication), disk: disk)
            node.failsWrites = DiskError(5)
            peer.write(4, 1, flags: [], count: 8)
            #expect(peer.commands(.meta) == [.negativeAck])
            #expect(node.status.outOfSyncBits == 2)
            // Our disk is not what the peer thinks any more, and it is told.
            #expect(peer.states.map(\.disk) == [.inconsistent])
            peer.say(.barrier(number: 1))
            #expect(peer.commands(.meta).last == .barrierAck)
        }
    }

    @Test("item 38: the sender marks a refused write and forgets it with its epoch", arguments: ReplicationProtocol.allCases)
    func item38ARefusedWriteOfOurs(replication: ReplicationProtocol) throws {
        let (node, peer) = SameData.connected(options(replication), primary: true)
        let id = node.write(4, 1)
        let head = try #require(peer.writes.first)
        peer.ack(
            .negativeAck(BlockAck(sector: head.sector, blockID: head.blockID, byteCount: 4096, sequence: 1)))
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.status.outOfSyncBits == 2)
        peer.ack(.barrierAck(number: try #require(peer.barriers.first), setSize: 1))
        #expect(node.state.connection == .connected && node.core.openWork() == [])
        // A late one for a write that is long forgotten marks its area all the same (`wire.md` 7.6).
        peer.ack(.negativeAck(BlockAck(sector: Sector(800), blockID: head.blockID, byteCount: 4096, sequence: 2)))
        #expect(node.state.connection == .connected && node.status.outOfSyncBits == 3)
    }

    @Test func item39ADisklessNodeRefusesButCounts() {
        let (node, peer) = SameData.pair()
        _ = node.command(.detach(VolumeNumber(0), force: false))
        peer.role = .primary
        peer.connect()
        node.sent = []
        peer.write(0, 1, id: 77)
        peer.say(
            .trim(DiscardPacket(sector: Sector(8), blockID: 78, sequence: peer.nextSequence(), flags: [.discard, .sendWriteAck], byteCount: 4096)))
        peer.say(.dataRequest(BlockRequest(sector: Sector(0), blockID: 79, byteCount: 4096)))
        peer.say(.barrier(number: 5))
        #expect(
            node.sent.map(\.packet) == [
                .negativeAck(BlockAck(sector: Sector(0), blockID: 77, byteCount: 4096, sequence: 1)),
                .negativeAck(BlockAck(sector: Sector(8), blockID: 78, byteCount: 0, sequence: 2)),
                .negativeDataReply(BlockAck(sector: Sector(0), blockID: 79, byteCount: 4096, sequence: 3)),
                .barrierAck(number: 5, setSize: 2),
            ])
    }

    @Test func theDiskThatFailsUnderWaitingWritesRefusesThem() {
        let (node, peer) = SameData.connected()
        node.holdsDisk = true
        // Under B the first may be complete at the sender, so the second has to wait for it.
        peer.write(0, 1, id: 1, flags: .sendReceiveAck)
        peer.say(.barrier(number: 1))
        peer.write(8, 2, id: 2, flags: .sendReceiveAck)
        peer.say(.dataRequest(BlockRequest(sector: Sector(0), blockID: 3, byteCount: 4096)))
        peer.say(.barrier(number: 2))
        _ = node.command(.detach(VolumeNumber(0), force: true))
        let submitted = node.count { if case .writeDisk = $0 { true } else { false } }
        node.releaseHeld()
        let closing = node.position { if case .closeDisk = $0 { true } else { false } }
        #expect(closing != nil)
        let after = node.trace[closing!...].contains {
            switch $0 {
            case .writeDisk, .readDisk, .discardDisk, .flushDisk: true
            default: false
            }
        }
        #expect(!after && submitted == 1)
        #expect(peer.commands(.meta).contains(.negativeAck) && peer.commands(.meta).contains(.negativeDataReply))
        #expect(peer.commands(.meta).filter { $0 == .barrierAck }.count == 2)
        #expect(node.state.disk == .diskless && node.core.openWork() == [])
    }

    @Test("item 40: during a resync writes are acked as synced, whatever the protocol", arguments: ReplicationProtocol.allCases)
    func item40WritesDuringAResync(replication: ReplicationProtocol) throws {
        let (node, peer) = SameData.pair(options(replication))
        peer.identifiers = GenerationIdentifiers(current: 0x999, bitmap: SameData.identifiers.current)
        peer.role = .primary
        peer.connect(options(replication))
        peer.startAsSource(setting: [0, 1, 2, 3])
        node.sent = []
        peer.write(8000, 1, flags: [.maySetInSync, .sendWriteAck])
        #expect(peer.commands(.meta) == [.resyncWriteAck])
        let before = node.status.outOfSyncBits
        peer.write(16, 2, flags: [.maySetInSync, .sendWriteAck])
        // Block 2 was asked for already; block 1000 was in sync.
        #expect(node.status.outOfSyncBits == before - 1)
    }

    @Test func item40OurWritesDuringAResyncClearBitsOnBothSides() throws {
        let node = TestNode.withData(
            identifiers: GenerationIdentifiers(current: 0x999, bitmap: SameData.identifiers.current))
        _ = node.attach(SameData.quickDisk)
        _ = node.command(.primary(VolumeNumber(0), force: false))
        _ = node.connect(options(.a))
        let peer = ScriptedPeer(node)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect(options(.a))
        #expect(node.state.connection == .wfBitMapS)
        peer.sayBitmap(setting: [0, 1, 2])
        #expect(node.state.connection == .syncSource && node.status.outOfSyncBits == 3)
        node.sent = []
        _ = node.write(8, 5)
        let head = try #require(peer.writes.first)
        #expect(head.flags == [.maySetInSync, .sendWriteAck])
        peer.acknowledge(head, clearing: true)
        #expect(node.status.outOfSyncBits == 2)
    }

    // MARK: Sending

    @Test("what a write asks for, by version and protocol", arguments: UInt32(86)...101, ReplicationProtocol.allCases)
    func flagsOfOurWrites(version: UInt32, replication: ReplicationProtocol) throws {
        let (node, peer) = SameData.connected(options(replication), version: version, primary: true)
        _ = node.write(0, 1, fua: true)
        let head = try #require(peer.writes.first)
        let acks: UInt32 = version < 100 ? 0 : replication == .a ? 0 : replication == .b ? 128 : 256
        #expect(head.flags.rawValue == acks | (version < 95 ? 0 : 16))
        #expect(head.sequence == 1 && head.blockID != BlockID.syncer)
    }

    @Test("completion by protocol", arguments: ReplicationProtocol.allCases)
    func completionByProtocol(replication: ReplicationProtocol) throws {
        let (node, peer) = SameData.connected(options(replication), primary: true)
        let id = node.write(0, 1)
        let head = try #require(peer.writes.first)
        #expect((node.replies[id] != nil) == (replication == .a))
        let ack = BlockAck(sector: head.sector, blockID: head.blockID, byteCount: 4096, sequence: 1)
        if replication == .b { peer.ack(.receiveAck(ack)) }
        if replication == .c { peer.ack(.writeAck(ack)) }
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.status.outOfSyncBits == 0)
    }

    @Test func item36AnEpochIsClosedBeforeADependentWrite() throws {
        let (node, peer) = SameData.connected(primary: true)
        _ = node.write(0, 1)
        _ = node.write(8, 2)
        #expect(peer.commands(.data) == [.data, .data])
        peer.acknowledge(peer.writes[0])
        _ = node.write(16, 3)
        #expect(peer.commands(.data) == [.data, .data, .barrier, .data])
        peer.acknowledge(peer.writes[1])
        // The second write completed out of a closed epoch: nothing to close but that of the third.
        #expect(peer.commands(.data) == [.data, .data, .barrier, .data])
        peer.acknowledge(peer.writes[2])
        #expect(peer.commands(.data).last == .barrier)
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: 2))
        peer.ack(.barrierAck(number: peer.barriers[1], setSize: 1))
        #expect(node.state.connection == .connected && node.core.openWork() == [])
    }

    @Test func item36AFullEpochIsClosed() {
        var options = NetOptions()
        options.maxEpochSize = 3
        let (node, peer) = SameData.connected(options, primary: true)
        for block in 0..<7 { _ = node.write(UInt64(block * 8), 1) }
        #expect(peer.commands(.data) == [.data, .data, .data, .barrier, .data, .data, .data, .barrier, .data])
    }

    @Test func item36AFlushClosesTheEpochAndWaitsForItsAck() {
        let (node, peer) = SameData.connected(primary: true)
        _ = node.write(0, 1)
        let flush = node.flush()
        #expect(peer.commands(.data) == [.data, .barrier])
        #expect(node.replies[flush] == nil)
        peer.acknowledge(peer.writes[0])
        #expect(node.replies[flush] == nil)
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: 1))
        #expect(node.replies[flush] != nil && node.replies[flush]?.error == nil)
    }

    @Test func item37NoBarrierWithoutWrites() {
        let (node, peer) = SameData.connected(primary: true)
        _ = node.flush()
        let read = node.read(0)
        _ = node.command(.secondary(VolumeNumber(0)))
        #expect(node.replies[read] != nil)
        #expect(peer.barriers.isEmpty)
    }

    @Test("Z6 and Z7 seen from us: acks that do not fit end the connection", arguments: 0..<6)
    func acksThatDoNotFit(kind: Int) throws {
        let (node, peer) = SameData.connected(primary: true)
        let id = node.write(0, 1)
        let head = try #require(peer.writes.first)
        let good = BlockAck(sector: head.sector, blockID: head.blockID, byteCount: 4096, sequence: 1)
        var wrong = good
        switch kind {
        case 0:
            wrong.blockID &+= 1
            peer.ack(.writeAck(wrong))
        case 1:
            wrong.sector = Sector(8)
            peer.ack(.writeAck(wrong))
        case 2: peer.ack(.barrierAck(number: 1, setSize: 1))
        case 3:
            peer.ack(.writeAck(good))
            peer.ack(.barrierAck(number: peer.barriers[0], setSize: 2))
        case 4:
            peer.ack(.writeAck(good))
            peer.ack(.barrierAck(number: peer.barriers[0] &+ 1, setSize: 1))
        default:
            wrong.blockID = .max
            wrong.sector = Sector(.max - 1)
            peer.ack(.resyncWriteAck(wrong))
        }
        #expect(!node.state.connection.isConnected)
        // The client is answered from the local disk, and the block is known to be missing there.
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.status.outOfSyncBits == 1)
        #expect(peer.pass(until: { node.core.link.isAttempting }))
    }

    @Test func item41SequenceNumbersHaveNoGapsOverBothStreams() {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(VolumeNumber(0), force: true))
        pair.exchange()
        #expect(pair.synchronise())
        _ = pair.a.write(0, 1)
        _ = pair.a.discard(8, count: 64, .zeroMayUnmap)
        _ = pair.a.write(160, 1)
        pair.exchange()
        for (node, start) in [(pair.a, 1), (pair.b, 1)] {
            var expected = UInt32(start)
            for case .send(_, _, let packet, _) in node.trace {
                guard let sequence = packet.sequenceNumber else { continue }
                #expect(sequence == expected)
                expected += 1
            }
            #expect(expected > 2)
        }
        // A new handshake starts anew.
        pair.cut()
        pair.pass(.seconds(1))
        pair.link()
        #expect(pair.synchronise())
        let mark = pair.a.trace.count
        _ = pair.a.write(0, 2)
        let first = pair.a.trace[mark...].compactMap { if case .send(_, _, let packet, _) = $0 { packet.sequenceNumber } else { nil } }
        #expect(first == [1])
    }

    // MARK: Discards

    @Test("a discard is what the agreed features know", arguments: [DiscardKind.trim, .zeroMayUnmap, .zeroNoUnmap], 0..<16)
    func discardsByFeature(kind: DiscardKind, features: Int) {
        let flags = FeatureFlags(rawValue: UInt32(features))
        for count: UInt32 in [8, 16_384] {
            let (node, peer) = SameData.connected(features: flags, primary: true)
            let id = node.discard(0, count: count, kind)
            let possible = flags.contains(.trim) && (count == 8 || flags.contains(.writeSame))
            let commands = peer.commands(.data)
            if !possible, kind == .trim {
                // A hint that is ignored on both disks.
                #expect(commands.isEmpty)
                #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
                #expect(node.status.outOfSyncBits == 0 && node.core.openWork() == [])
            } else if !possible {
                #expect(commands.allSatisfy { $0 == .data } && !commands.isEmpty)
            } else if kind == .trim || !flags.contains(.writeZeroes) {
                #expect(commands == [.trim])
            } else {
                #expect(commands == [.zeroes])
            }
            guard case .send(_, _, let packet, _)? = node.trace.last(where: {
                if case .send(_, _, let packet, _) = $0 { packet.discard != nil } else { false }
            }) else { continue }
            #expect(packet.discard?.byteCount == count * 512)
            let expected: DataFlags =
                commands == [.trim] ? [.discard, .sendWriteAck]
                : kind == .zeroMayUnmap ? [.discard, .zeroes, .sendWriteAck] : [.zeroes, .sendWriteAck]
            #expect(packet.discard?.flags == expected)
        }
    }

    @Test func theLargestDiscardAtTheDevicesEndAndUnalignedWrites() {
        let (node, peer) = SameData.connected(primary: true, sectors: 600_000)
        let end = node.status.sectors
        let ids = [
            node.discard(end - 262_144, count: 262_144, .zeroMayUnmap), node.write(end - 1, 9, count: 1),
            node.write(end - 2049, 8, count: 2048), node.write(3, 7, count: 1),
        ]
        for _ in 0..<4 {
            for message in peer.take() {
                if case .zeroes(let head) = message.packet {
                    peer.acknowledge(DataPacket(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount))
                }
                if case .data(let head) = message.packet { peer.acknowledge(head) }
            }
        }
        for id in ids { #expect(node.replies[id] != nil && node.replies[id]?.error == nil) }
        #expect(node.data[Int(end) - 1] == 9 && node.data[Int(end) - 2] == 8 && node.data[3] == 7)
        let beyond = node.write(end - 1, 1, count: 2)
        #expect(node.replies[beyond]?.error == .invalid)
        #expect(node.code(.disconnect(force: true)) == 0)
        // An unaligned write that is missing there marks the whole block, and one at the end the last one.
        #expect(node.status.outOfSyncBits > 0)
    }

    @Test("the peer's requests outside the device or of impossible size end the connection", arguments: 0..<6)
    func impossibleRequestsOfThePeer(kind: Int) {
        let (node, peer) = SameData.connected()
        let end = node.status.sectors
        switch kind {
        case 0: peer.write(end - 7, 1)
        case 1: peer.say(.dataRequest(BlockRequest(sector: Sector(end), blockID: 1, byteCount: 512)))
        case 2: peer.say(.resyncDataRequest(BlockRequest(sector: Sector(.max), blockID: .max, byteCount: 4096)))
        case 3: peer.say(.dataRequest(BlockRequest(sector: Sector(0), blockID: 1, byteCount: 0)))
        case 4: peer.say(.outOfSync(AreaPacket(sector: Sector(end - 1), byteCount: 1024)))
        default:
            peer.say(
                .zeroes(DiscardPacket(sector: Sector(end - 1), blockID: 1, sequence: 1, flags: .zeroes, byteCount: 1024)))
        }
        #expect(!node.state.connection.isConnected)
        #expect(node.buffers.isEmpty)
    }

    /// A header of those versions has 16 bits for the length of the answer.
    @Test("no request asks for more than an answer can carry", arguments: [UInt32(86), 90, 94])
    func answersFitTheirHeader(version: UInt32) {
        for isResync in [false, true] {
            let (node, peer) = SameData.connected(version: version, features: [])
            let request = BlockRequest(sector: Sector(0), blockID: 1, byteCount: 1 << 16)
            peer.say(isResync ? .resyncDataRequest(request) : .dataRequest(request))
            #expect(!node.state.connection.isConnected)
        }
    }

    // MARK: Limits

    /// Each write waits for the one before, and the peer flushes for ever: epochs pile up.
    @Test func openEpochsAreBounded() throws {
        let (node, peer) = SameData.connected(primary: true)
        var open: [UInt32] = []
        var refused: RequestID?
        for round in 0..<5000 {
            let id = node.write(UInt64(round % 1000) * 8, 1)
            let sent = peer.take()
            guard case .data(let head)? = sent.first?.packet else {
                refused = id
                break
            }
            peer.acknowledge(head)
            for message in peer.take() { if case .barrier(let number) = message.packet { open.append(number) } }
            node.trace = []
        }
        let waiting = try #require(refused)
        #expect(open.count == Limits.openEpochs - Limits.clientRequests)
        #expect(node.replies[waiting] == nil)
        peer.ack(.barrierAck(number: open[0], setSize: 1))
        #expect(peer.commands(.data) == [.data])
    }
}

extension Packet {
    /// Number of the counter that writes and block acks share.
    var sequenceNumber: UInt32? {
        switch self {
        case .data(let head): head.sequence
        case .trim(let head), .zeroes(let head), .writeSame(let head): head.sequence
        case .receiveAck(let ack), .writeAck(let ack), .resyncWriteAck(let ack), .negativeAck(let ack),
            .negativeDataReply(let ack), .negativeResyncReply(let ack), .superseded(let ack), .retryWrite(let ack),
            .resyncCancel(let ack), .resyncIsInSync(let ack), .verifyResult(let ack):
            ack.sequence
        default: nil
        }
    }
    var discard: DiscardPacket? {
        switch self {
        case .trim(let head), .zeroes(let head): head
        default: nil
        }
    }
}
