import Testing

@testable import ReplicaProto

/// Items 54 and 55, and everything else that time does to a connection.
@Suite struct ConformanceLivenessTests {
    @Test func item54APingIsAnsweredUnderFullLoad() {
        let (node, peer) = SameData.connected()
        node.holdsDisk = true
        for block in 0..<1000 { peer.write(UInt64(block) * 8, 1) }
        peer.say(.resyncDataRequest(BlockRequest(sector: Sector(0), blockID: .max, byteCount: 4096)))
        peer.ack(.ping)
        #expect(node.sent.last?.packet == .pingAck)
        node.releaseHeld()
        // After the acks that came before it (O8).
        peer.ack(.ping)
        #expect(node.sent.last?.packet == .pingAck)
    }

    @Test func item55APeerThatDoesNotAnswerPingsIsDropped() {
        let (node, peer) = SameData.connected()
        peer.pass(.seconds(10))
        #expect(peer.commands(.meta) == [.ping])
        peer.pass(.milliseconds(499))
        #expect(node.state.connection == .connected)
        peer.pass(.milliseconds(2))
        #expect(!node.state.connection.isConnected)
        #expect(node.logs.contains("PingAck did not arrive in time."))
        #expect(peer.pass(until: { node.core.link.isAttempting }))
    }

    @Test func anAnsweredPingRestoresTheIdleTime() {
        let (node, peer) = SameData.connected()
        for _ in 0..<5 {
            peer.pass(.seconds(10))
            #expect(peer.commands(.meta) == [.ping])
            node.sent = []
            peer.ack(.pingAck)
            peer.pass(.milliseconds(600))
            peer.pass(.seconds(9))
            #expect(node.sent.isEmpty && node.state.connection == .connected)
        }
    }

    @Test func trafficOnTheDataStreamStandsInForAPingAck() {
        let (node, peer) = SameData.connected()
        peer.pass(.seconds(10))
        peer.write(0, 1)
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .connected)
    }

    @Test("ko-count: stalled sends are tolerated, then the connection ends", arguments: [0, 1, 3, 7])
    func stalledSends(koCount: Int) {
        var options = NetOptions()
        options.koCount = koCount
        let (node, peer) = SameData.connected(options)
        for _ in 0..<max(koCount - 1, 3 * (koCount == 0 ? 1 : 0)) {
            node.feed(.sendStalled(.data))
            #expect(node.state.connection == .connected && peer.commands(.meta).last == .ping)
        }
        node.feed(.sendStalled(.data))
        #expect(node.state.connection.isConnected == (koCount == 0))
    }

    @Test func aStalledMetaStreamEndsAtOnce() {
        let (node, _) = SameData.connected()
        node.feed(.sendStalled(.meta))
        #expect(!node.state.connection.isConnected)
    }

    @Test("a request without an answer ends the connection after timeout times ko-count", arguments: 0..<3)
    func requestTimer(kind: Int) throws {
        let (node, peer) = SameData.connected(primary: kind != 2)
        if kind == 2 {
            // A read at a node without disk.
            _ = node.command(.detach(VolumeNumber(0), force: true))
            _ = node.command(.primary(VolumeNumber(0), force: false))
            peer.ack(.stateChangeReply(1))
            let id = node.read(0)
            #expect(node.replies[id] == nil)
        } else {
            let id = node.write(0, 1)
            if kind == 1 {
                peer.acknowledge(try #require(peer.writes.first))
                #expect(node.replies[id] != nil)
            }
        }
        for second in 0..<60 where node.state.connection.isConnected {
            peer.pass(.seconds(1))
            peer.ack(.pingAck)
            if second < 40 { #expect(node.state.connection.isConnected) }
        }
        #expect(!node.state.connection.isConnected)
        #expect(node.core.openWork() == [])
        #expect(node.status.outOfSyncBits == (kind == 2 ? 0 : 1))
    }

    @Test func aPromotionBesideADeadPrimaryWaitsForItsPing() {
        let (node, peer) = SameData.connected()
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x3, value: 0x1)))
        node.sent = []
        peer.pass(.milliseconds(1))
        let id = node.command(.primary(VolumeNumber(0), force: false))
        #expect(peer.commands(.meta) == [.ping] && node.answers[id] == nil)
        #expect(peer.pass(until: { node.answers[id] != nil }))
        #expect(node.answers[id]?.code == 0 && node.state.role == .primary)
        #expect(!node.state.connection.isConnected)
        // Had it been alive, it would have been refused.
        let (other, living) = SameData.connected()
        living.say(.stateChangeRequest(StateChangeRequest(mask: 0x3, value: 0x1)))
        let refused = other.command(.primary(VolumeNumber(0), force: false))
        living.ack(.pingAck)
        #expect(living.pass(until: { other.answers[refused] != nil }))
        #expect(other.answers[refused]?.code == -1 && other.state.connection == .connected)
    }
}
