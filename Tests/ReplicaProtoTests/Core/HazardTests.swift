import Testing

@testable import ReplicaProto

/// Section 12 of the wire specification: input that hurts a kernel peer. Each test brings about the situation that
/// could provoke it, and `HazardGuard` watches everything that was sent in all of them.
@Suite struct HazardTests {
    private let volume = VolumeNumber(0)

    @Test func Z1AndZ11NoDiskIsReportedWithoutIdentifiers() {
        // Attach while connected, while the peer has a disk or not.
        for hasDisk in [true, false] {
            let (node, peer) = SameData.pair()
            _ = node.command(.detach(volume, force: false))
            if !hasDisk { peer.disk = .diskless }
            peer.connect()
            node.sent = []
            _ = node.attach(SameData.quickDisk)
            #expect(peer.commands(.data) == [.sizes, .uuids, .state])
            #expect(peer.states.first?.disk == .negotiating)
            HazardGuard.check(node)
        }
        // And at the first handshake after one that ended in the middle.
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        peer.drop()
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connect()
        HazardGuard.check(node)
    }

    @Test func Z2NoVerifyWithoutAlgorithm() {
        let (node, peer) = SameData.connected()
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x1f0, value: 0x120)))
        #expect(peer.replies() == [-14])
        peer.pass(.seconds(5))
        HazardGuard.check(node)
    }

    @Test("Z3: P_SYNC_UUID only to a peer that waits for it", arguments: 0..<3)
    func Z3(kind: Int) {
        let node = TestNode.withData(
            identifiers: GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current))
        _ = node.attach(SameData.quickDisk)
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect()
        node.sent = []
        node.holdsMetadata = true
        peer.sayBitmap(setting: [0])
        #expect(!peer.commands(.data).contains(.syncUUID))
        // While its metadata is on the way, the resync ends in one way or another.
        switch kind {
        case 0: peer.drop()
        case 1:
            peer.disk = .failed
            peer.say(.state(peer.state(.connected)))
        default: _ = node.command(.detach(volume, force: true))
        }
        node.releaseHeld()
        #expect(!peer.commands(.data).contains(.syncUUID))
        HazardGuard.check(node)
    }

    @Test func Z4AndZ9EveryPacketOfTheMetaStreamIsKnownAndPingsAreAnswered() {
        let pair = life()
        for node in [pair.a, pair.b] { HazardGuard.check(node) }
    }

    @Test func Z5TheEndOfAResyncFollowsAPing() {
        let pair = life()
        HazardGuard.checkEndOfResync(pair.b)
    }

    @Test func Z6BarrierAcksAreExact() {
        let pair = life()
        HazardGuard.checkBarriers(sender: pair.a, receiver: pair.b)
    }

    @Test func Z7AcksNameWhatWasAsked() {
        let pair = life()
        HazardGuard.checkAcks(sender: pair.a, receiver: pair.b)
    }

    @Test func Z8BlockIDsAreNeverAllOnes() {
        var table = RequestTable()
        for index in 0..<Limits.clientRequests {
            let r = table.take(RequestID(index: UInt32(index), generation: 1))
            #expect(table.blockID(r) != BlockID.syncer && table.blockID(r) != 0)
        }
        // The low half is an index, so that even the last generation is not it.
        table[Int32(Limits.requestTable - 1)].generation = .max
        #expect(table.blockID(Int32(Limits.requestTable - 1)) != BlockID.syncer)
    }

    @Test func Z10NoZeroesWithAnIntegrityAlgorithm() {
        // The feature is not offered then, so it is never agreed, and P_ZEROES is not sent without it.
        var options = NetOptions()
        options.dataIntegrityAlgorithm = "crc32c"
        let node = TestNode.withData(identifiers: SameData.identifiers)
        node.core.link.options = options
        #expect(!node.core.offeredFeatures.contains(.writeZeroes))
    }

    @Test func Z12OneAnswerPerResyncRequestWhateverHappens() {
        for kind in 0..<3 {
            let node = TestNode.withData(
                identifiers: GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current))
            _ = node.attach(SameData.quickDisk)
            _ = node.connect()
            let peer = ScriptedPeer(node)
            peer.identifiers = SameData.identifiers
            peer.disk = .upToDate
            peer.connect()
            peer.sayBitmap(setting: [0])
            node.sent = []
            node.holdsDisk = true
            peer.say(.resyncDataRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
            peer.say(.resyncDataRequest(BlockRequest(sector: Sector(8), blockID: .max, byteCount: 8192)))
            if kind == 1 { _ = node.command(.detach(volume, force: true)) }
            if kind == 2 { node.held = node.held.map { if case .diskReadFinished(let tag, _, _) = $0 { .diskReadFinished(tag, nil, DiskError(5)) } else { $0 } } }
            node.releaseHeld()
            let answers = node.sent.compactMap { message -> SectorRange? in
                switch message.packet {
                case .resyncDataReply(let head): head.range
                case .negativeResyncReply(let ack): ack.range
                default: nil
                }
            }
            #expect(Set(answers) == [SectorRange(0, 8), SectorRange(8, 16)] && answers.count == 2, "\(kind)")
        }
    }

    @Test func Z13NothingBeyondTheDevice() {
        // A device that ends in the middle of a block.
        let pair = life(sectors: 60_003)
        for node in [pair.a, pair.b] { HazardGuard.check(node) }
    }

    @Test("Z14: sync parameters have the length of the version", arguments: UInt32(86)...101)
    func Z14(version: UInt32) {
        let (node, peer) = SameData.connected(version: version)
        var disk = SameData.quickDisk
        disk.cFillTarget = 5
        _ = node.command(.diskOptions(volume, disk))
        for message in peer.take() {
            guard case .syncParameters = message.packet else { continue }
            let header = version >= 100 ? 16 : 8
            let expected = version >= 95 ? 148 : version >= 89 ? 132 : version == 88 ? 5 : 4
            #expect(message.packet.encodedSize(in: node.format) == header + expected)
        }
    }

    /// A pair that lives through everything there is.
    private func life(sectors: UInt64 = 65_536) -> TestPair {
        let pair = TestPair(seed: 3, sectors: sectors)
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(volume, force: true))
        for round in 0..<40 {
            _ = pair.a.write(UInt64(round * 1000 % 50_000), UInt64(round), count: UInt32(1 + round % 30))
            pair.pass(.milliseconds(20))
        }
        #expect(pair.synchronise())
        let end = pair.a.status.sectors
        _ = pair.a.write(end - 3, 1, count: 3)
        _ = pair.a.discard(end - 5000, count: 5000, .zeroMayUnmap)
        _ = pair.a.flush()
        pair.exchange()
        pair.pass(.seconds(11))
        pair.cut()
        for round in 0..<40 { _ = pair.a.write(UInt64(round * 1250), 7, count: 9) }
        _ = pair.a.write(end - 1, 8, count: 1)
        pair.pass(.seconds(1))
        pair.link()
        for round in 0..<40 {
            _ = pair.a.write(UInt64(round * 1250), 9, count: 12)
            pair.pass(.milliseconds(10))
        }
        #expect(pair.synchronise())
        _ = pair.b.command(.detach(volume, force: false))
        pair.exchange()
        _ = pair.a.write(0, 11)
        pair.exchange()
        _ = pair.b.attach(SameData.quickDisk)
        pair.exchange()
        #expect(pair.synchronise())
        _ = pair.a.command(.detach(volume, force: false))
        pair.exchange()
        _ = pair.a.write(8, 12)
        _ = pair.a.read(8)
        pair.exchange()
        _ = pair.a.attach(SameData.quickDisk)
        pair.exchange()
        #expect(pair.synchronise())
        _ = pair.a.command(.secondary(volume))
        pair.exchange()
        _ = pair.a.command(.disconnect(force: false))
        pair.exchange()
        let same = pair.a.data == pair.b.data
        #expect(same)
        return pair
    }
}

/// Rules that hold for whatever a node sends, read from its trace.
enum HazardGuard {
    static func check(_ node: TestNode) {
        var saidIdentifiers = false
        for effect in node.trace {
            switch effect {
            case .setWireFormat: saidIdentifiers = false
            case .send(let stream, _, let packet, _): inspect(packet, on: stream, node, &saidIdentifiers)
            case .sendPart(_, let packet, _, _, _): inspect(packet, on: .data, node, &saidIdentifiers)
            case .sendAndReport(_, _, let packet, _): inspect(packet, on: .data, node, &saidIdentifiers)
            default: break
            }
        }
    }

    private static func inspect(_ packet: Packet, on stream: StreamKind, _ node: TestNode, _ saidIdentifiers: inout Bool) {
        let command = packet.command(in: WireTest.format101)
        switch packet {
        case .uuids: saidIdentifiers = true
        case .state(let word):
            // Z1, Z11
            let disk = VolumeState(word: word)?.disk ?? .diskless
            #expect(!disk.hasMetadata || saidIdentifiers)
        case .verifyRequest(let request), .verifyReply(let request), .checksumResyncRequest(let request),
            .thinResyncRequest(let request):
            let names = node.core.link.options
            if command != .thinResyncRequest {
                let name = command == .checksumResyncRequest ? names.checksumAlgorithm : names.verifyAlgorithm
                #expect(DigestAlgorithm(name) != nil, "Z2: a digest without an algorithm")
            }
            expectInside(request.range, node)
        case .data(let head):
            #expect(head.blockID != BlockID.syncer, "Z8")
            expectInside(head.range, node)
        case .trim(let head), .zeroes(let head), .writeSame(let head):
            #expect(head.blockID != BlockID.syncer, "Z8")
            expectInside(head.range, node)
        case .dataRequest(let request):
            #expect(request.blockID != BlockID.syncer, "Z8")
            expectInside(request.range, node)
        case .resyncDataRequest(let request): expectInside(request.range, node)
        case .outOfSync(let area): expectInside(area.range, node)
        case .delayProbe: Issue.record("never sent")
        default: break
        }
        // Z4
        let isMeta = command == .ping || command == .pingAck || packet.isAnswer
        #expect((stream == .meta) == isMeta, "\(command)")
    }

    /// Z13
    private static func expectInside(_ range: SectorRange, _ node: TestNode) {
        #expect(range.count > 0 && range.end.value <= node.layout.usableSectors)
    }

    /// Z5: between the last ack of a resync block and the P_STATE that ends it lies a ping that was answered.
    static func checkEndOfResync(_ node: TestNode) {
        var pings = 0
        var isTarget = false
        var ends = 0
        for effect in node.trace {
            guard case .send(_, _, let packet, _) = effect else { continue }
            switch packet {
            case .resyncWriteAck, .negativeAck: pings = 0
            case .ping: pings += 1
            case .connectionFeatures: isTarget = false
            case .state(let word):
                guard let state = VolumeState(word: word) else { continue }
                if state.connection == .wfBitMapT {
                    isTarget = true
                    pings = 0
                } else if isTarget, state.connection == .connected {
                    #expect(pings > 0)
                    isTarget = false
                    ends += 1
                }
            default: break
            }
        }
        #expect(ends >= 2)
    }

    /// Z6, with the sender's packets as the truth.
    static func checkBarriers(sender: TestNode, receiver: TestNode) {
        let acks = receiver.trace.compactMap { effect -> (UInt32, UInt32)? in
            if case .send(_, _, .barrierAck(let number, let count), _) = effect { (number, count) } else { nil }
        }
        var writes: UInt32 = 0
        var epochs: [(UInt32, UInt32)] = []
        for effect in sender.trace {
            guard case .send(_, _, let packet, _) = effect else { continue }
            switch packet {
            case .data, .trim, .zeroes: writes += 1
            case .barrier(let number):
                #expect(writes > 0)
                epochs.append((number, writes))
                writes = 0
            case .connectionFeatures: writes = 0
            default: break
            }
        }
        #expect(!acks.isEmpty)
        // What a cut connection swallowed has no ack; the others come in order.
        var position = 0
        for ack in acks {
            while position < epochs.count, epochs[position] != ack { position += 1 }
            #expect(position < epochs.count, "\(ack)")
            position += 1
        }
    }

    /// Z7
    static func checkAcks(sender: TestNode, receiver: TestNode) {
        var open: [UInt64: Sector] = [:]
        for case .send(_, _, let packet, _) in sender.trace {
            switch packet {
            case .data(let head): open[head.blockID] = head.sector
            case .trim(let head), .zeroes(let head): open[head.blockID] = head.sector
            default: break
            }
        }
        var seen: Set<UInt64> = []
        for case .send(_, _, let packet, _) in receiver.trace {
            switch packet {
            case .writeAck(let ack), .resyncWriteAck(let ack):
                guard ack.blockID != BlockID.syncer else { continue }
                #expect(open[ack.blockID] == ack.sector)
                #expect(seen.insert(ack.blockID).inserted)
            default: break
            }
        }
        #expect(!seen.isEmpty)
    }
}

extension Packet {
    /// Of the meta stream, but no ping.
    fileprivate var isAnswer: Bool {
        switch self {
        case .receiveAck, .writeAck, .resyncWriteAck, .superseded, .negativeAck, .negativeDataReply, .negativeResyncReply,
            .barrierAck, .stateChangeReply, .connectionStateChangeReply, .verifyResult, .resyncIsInSync, .resyncCancel,
            .retryWrite:
            true
        default: false
        }
    }
}
