import Testing

@testable import ReplicaProto

/// Several volumes in one resource: what they share, and what each has for itself.
@Suite struct VolumesTests {
    private let first = VolumeNumber(0)
    private let second = VolumeNumber(1)

    /// Two volumes with data; the peer has told of the first one, and of the second if it has that.
    private func connected(peerHasSecond: Bool = true) -> (node: TestNode, peer: ScriptedPeer) {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        node.addVolume(sectors: 65_536, seed: 2)
        node.disks[1].superblock = node.disks[0].superblock
        for volume in [first, second] { #expect(node.attach(SameData.quickDisk, volume) == 0) }
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect()
        if peerHasSecond { introduceSecond(peer) }
        return (node, peer)
    }
    private func introduceSecond(_ peer: ScriptedPeer) {
        for packet in [Packet.syncParameters(peer.syncParameters), .sizes(peer.sizes()), .uuids(peer.uuids), .state(peer.state())] {
            peer.node.receive(.data, second, packet, nil)
        }
    }
    private func promote(_ node: TestNode, _ peer: ScriptedPeer, _ volume: VolumeNumber) {
        _ = node.command(.primary(volume, force: false))
        node.receive(.meta, volume, .stateChangeReply(1), nil)
    }
    /// Pings are answered, nothing else is said.
    private func silence(_ peer: ScriptedPeer, seconds: Int) {
        for _ in 0..<seconds * 10 {
            if peer.take().contains(where: { $0.packet == .ping }) { peer.ack(.pingAck) }
            peer.pass(.milliseconds(100))
        }
    }

    @Test("items 6, 15: each volume is told of in the order of numbers, each packet with its own")
    func handshakes() {
        let (node, peer) = connected()
        let told = peer.take().filter { $0.stream == .data && $0.packet.command(in: node.format) == .sizes }
        #expect(told.map(\.volume) == [first, second])
        #expect((0...1).allSatisfy { node.state(of: $0).connection == .connected && node.state(of: $0).peerDisk == .upToDate })
    }

    @Test("items 35, 41: writes of all volumes make one stream of epochs; sequence numbers are each volume's own")
    func oneTransferLog() {
        let (node, peer) = connected()
        for volume in [first, second] { promote(node, peer, volume) }
        node.sent = []
        _ = node.write(0, 1, on: first)
        _ = node.write(0, 2, on: second)
        let written = peer.take().compactMap { message in
            if case .data(let head) = message.packet { (message.volume, head) } else { nil }
        }
        #expect(written.map(\.0) == [first, second] && written.map(\.1.sequence) == [1, 1])
        for (volume, head) in written {
            let ack = BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: 1)
            node.receive(.meta, volume, .writeAck(ack), nil)
        }
        #expect(node.replies.values.filter { $0.error == nil }.count == 2)
        let barriers = peer.take().filter { if case .barrier = $0.packet { true } else { false } }
        #expect(barriers.count == 1 && barriers[0].volume == first)
        guard case .barrier(let number)? = barriers.first?.packet else { return }
        peer.ack(.barrierAck(number: number, setSize: 2))
        #expect(node.isIdle && node.core.link.isUsable)
    }

    @Test("a received epoch counts the writes of all volumes")
    func oneReceivedEpoch() {
        let (node, peer) = connected()
        peer.role = .primary
        for volume in [first, second] { node.receive(.data, volume, .state(peer.state(.connected, peerDisk: .upToDate)), nil) }
        peer.write(8, 5)
        node.receive(
            .data, second,
            .data(DataPacket(sector: Sector(16), blockID: 77, sequence: 1, flags: .sendWriteAck, byteCount: 4096)),
            Array(repeating: 6, count: 8))
        peer.say(.barrier(number: 42))
        let answers = peer.take().compactMap { if case .barrierAck(let number, let count) = $0.packet { [number, count] } else { nil } }
        #expect(answers == [[42, 2]])
        #expect(node.disks[0].data[8] == 5 && node.disks[1].data[16] == 6 && node.disks[1].data[8] == 0)
    }

    @Test("one volume loses its disk, the other does not notice")
    func disklessNeighbour() {
        let (node, peer) = connected()
        for volume in [first, second] { promote(node, peer, volume) }
        _ = node.command(.detach(second, force: true))
        #expect(node.state(of: 1).disk == .diskless && node.state(of: 0).disk == .upToDate)
        node.sent = []
        let read = node.read(24, on: second)
        let asked = peer.take().compactMap { message -> BlockRequest? in
            if case .dataRequest(let request) = message.packet, message.volume == second { request } else { nil }
        }
        #expect(asked.count == 1)
        guard let request = asked.first else { return }
        let head = DataPacket(sector: request.sector, blockID: request.blockID, byteCount: request.byteCount)
        node.receive(.data, second, .dataReply(head), Array(repeating: 9, count: 8))
        #expect(node.replies[read]?.data == Array(repeating: 9, count: 8))
        _ = node.write(24, 3, on: first)
        #expect(node.disks[0].data[24] == 3)
    }

    // MARK: A volume that the peer does not have

    @Test("a volume that the peer does not have goes on alone, and what is written there is marked")
    func lonely() {
        let (node, peer) = connected(peerHasSecond: false)
        #expect(node.state(of: 1).connection == .wfReportParams)
        // A moment of silence may mean anything.
        let promotion = node.command(.primary(second, force: false))
        #expect(node.answers[promotion] == nil)
        silence(peer, seconds: 15)
        #expect(node.answers[promotion]?.code == 0 && node.state(of: 1).role == .primary)
        let written = node.write(80, 7, on: second)
        #expect(node.replies[written]?.error == nil && node.disks[1].data[80] == 7)
        let isMarked = node.core.isOutOfSync(BitmapBlock(10), of: second)
        #expect(isMarked)
        #expect(node.core.volumes[1].identifiers.bitmap == SameData.identifiers.current)
        #expect(node.state(of: 0).connection == .connected)
        #expect(!peer.take().contains { if case .data = $0.packet { true } else { false } })
    }

    @Test("the peer gets the volume later: it is introduced again")
    func companyForTheLonely() {
        let (node, peer) = connected(peerHasSecond: false)
        silence(peer, seconds: 15)
        node.sent = []
        introduceSecond(peer)
        #expect(peer.take().filter { $0.volume == second }.prefix(4).map { $0.packet.command(in: node.format) }
            == [.syncParameters89, .sizes, .uuids, .state])
        #expect(node.state(of: 1).connection == .connected && node.state(of: 0).connection == .connected)
    }

    @Test("what was said of the volume has become wrong: both begin again")
    func changedWhileLonely() {
        let (node, peer) = connected(peerHasSecond: false)
        silence(peer, seconds: 15)
        _ = node.command(.primary(second, force: false))
        _ = node.write(80, 7, on: second)
        node.sent = []
        introduceSecond(peer)
        #expect(!node.core.link.isUsable && node.closed.contains(peer.dataSocket))
        peer.pass(.seconds(2))
        peer.connect()
        introduceSecond(peer)
        #expect(node.state(of: 1).connection == .wfBitMapS && node.state(of: 0).connection == .connected)
    }
}
