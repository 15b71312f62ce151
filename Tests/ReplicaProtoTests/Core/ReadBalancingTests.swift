import Testing

@testable import ReplicaProto

/// `read-balancing` (`control.md` 1.9): where a read goes, and that it never shows less than what was answered.
@Suite struct ReadBalancingTests {
    private func pair(_ balancing: ReadBalancing, _ net: NetOptions = NetOptions()) -> (node: TestNode, peer: ScriptedPeer) {
        var disk = SameData.quickDisk
        disk.readBalancing = balancing
        return SameData.connected(net, disk: disk, primary: true)
    }
    private func isRemote(_ node: TestNode, _ peer: ScriptedPeer, _ sector: UInt64) -> Bool {
        node.sent = []
        _ = node.read(sector)
        return peer.commands(.data).contains(.dataRequest)
    }

    @Test func whereReadsGo() {
        let table: [(ReadBalancing, [(sector: UInt64, remote: Bool)])] = [
            (.preferLocal, [(0, false), (64, false)]),
            (.preferRemote, [(0, true), (64, true)]),
            (.roundRobin, [(0, true), (0, false), (0, true), (8, false)]),
            (.whenCongestedRemote, [(0, false)]),
            (.striping(shift: 15), [(0, false), (63, false), (64, true), (128, false), (192, true)]),
            (.striping(shift: 20), [(2047, false), (2048, true), (4096, false)]),
        ]
        for (balancing, reads) in table {
            let (node, peer) = pair(balancing)
            for (sector, remote) in reads {
                #expect(isRemote(node, peer, sector) == remote, "\(balancing) at \(sector)")
            }
        }
    }

    @Test func leastPendingAndCongestion() {
        let (node, peer) = pair(.leastPending)
        node.holdsDisk = true
        // None here, none there: here. One here: there. One each: here.
        #expect([false, true, false, true] == (0..<4).map { isRemote(node, peer, UInt64($0) * 8) })
        let (busy, idle) = pair(.whenCongestedRemote)
        busy.holdsDisk = true
        for sector in 0..<UInt64(Limits.congestedDiskRequests) { #expect(!isRemote(busy, idle, sector * 8)) }
        #expect(isRemote(busy, idle, 8000))
    }

    @Test func aPeerThatIsNotUpToDateIsNotAsked() {
        for disk in [DiskState.inconsistent, .outdated, .diskless, .failed] {
            let (node, peer) = pair(.preferRemote)
            peer.disk = disk
            peer.say(.state(peer.state(.connected)))
            if node.state.peerDisk != .upToDate { #expect(!isRemote(node, peer, 0), "\(disk)") }
        }
        let (alone, peer) = pair(.preferRemote)
        peer.drop()
        #expect(!isRemote(alone, peer, 0))
    }

    /// Its disk may show a write that nobody was answered, and that is gone when it dies.
    @Test func anotherPrimaryIsNotAsked() {
        var net = NetOptions()
        net.allowTwoPrimaries = true
        let (node, peer) = pair(.preferRemote, net)
        #expect(isRemote(node, peer, 0))
        peer.role = .primary
        peer.say(.state(peer.state(.connected)))
        #expect(node.state.peerRole == .primary && !isRemote(node, peer, 8))
    }

    /// Under A and B a write is answered before the peer's disk has it.
    @Test(arguments: [ReplicationProtocol.a, .b])
    func whatThePeerHasNotConfirmedIsReadHere(replication: ReplicationProtocol) {
        var net = NetOptions()
        net.replicationProtocol = replication
        let (node, peer) = pair(.preferRemote, net)
        let id = node.write(0, 7)
        guard let head = peer.writes.first else {
            Issue.record("not replicated")
            return
        }
        if replication == .b {
            peer.ack(
                .receiveAck(
                    BlockAck(sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: peer.nextSequence())))
        }
        #expect(node.replies[id] != nil)
        #expect(!isRemote(node, peer, 0) && isRemote(node, peer, 64))
    }

    @Test func aMarkedBlockIsReadHere() {
        let (node, peer) = pair(.preferRemote)
        _ = node.core.volumes[0].bitmap.setRun(from: BitmapBlock(1), count: 1)
        #expect(!isRemote(node, peer, 8) && isRemote(node, peer, 16))
    }

    @Test func aRefusedReadIsDoneHere() {
        let (node, peer) = pair(.preferRemote)
        node.data[16] = 77
        node.sent = []
        let id = node.read(16, count: 1)
        guard case .dataRequest(let request)? = node.sent.last?.packet else {
            Issue.record("not asked")
            return
        }
        peer.ack(.negativeDataReply(BlockAck(sector: request.sector, blockID: request.blockID, byteCount: 512, sequence: 0)))
        #expect(node.replies[id]?.data == [77] && node.replies[id]?.error == nil)
        let second = node.read(16, count: 1)
        peer.drop()
        #expect(node.replies[second]?.data == [77])
    }
}
