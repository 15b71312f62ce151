import Testing

@testable import ReplicaProto

/// Items 30 to 33: requests for cluster-wide changes, and pausing.
@Suite struct ConformanceStateTests {
    private let volume = VolumeNumber(0)

    @Test func item30ASecondPrimaryIsRefused() {
        let (node, peer) = SameData.connected(primary: true)
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x3, value: 0x1)))
        #expect(peer.replies() == [-1])
        #expect(node.state.peerRole == .secondary)
    }

    /// Both sides refuse what they cannot carry out, and keep the connection (`control.md` item 32).
    @Test func aVerifyWithoutAnAlgorithmIsRefusedByBothSides() {
        let (node, peer) = SameData.connected()
        #expect(node.code(.verify(volume, start: 0, stop: nil)) == -14)
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x1f0, value: UInt32(ConnectionState.verifyS.rawValue) << 4)))
        #expect(peer.replies() == [-14])
        #expect(node.state.connection == .connected)
    }

    @Test func aPromotionOfThePeerIsAnsweredAfterItIsKnown() {
        let (node, peer) = SameData.connected()
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x3, value: 0x1)))
        #expect(peer.replies() == [1])
        #expect(node.state.peerRole == .primary)
        #expect(node.sent.first?.stream == .meta)
    }

    @Test("item 31: a graceful disconnect is answered, waited for, and the peer is expected back", arguments: [UInt32(95), 99, 100, 101])
    func item31GracefulDisconnectIsAnsweredThenWaited(version: UInt32) {
        let (node, peer) = SameData.connected(version: version)
        let request = StateChangeRequest(mask: 0x1f0, value: 0x10)
        peer.say(version >= 100 ? .connectionStateChangeRequest(request) : .stateChangeRequest(request))
        #expect(peer.commands(.meta) == [version >= 100 ? .connectionStateChangeReply : .stateChangeReply])
        #expect(peer.replies() == [1])
        #expect(node.state.connection == .tearDown)
        peer.drop()
        #expect(!node.logs.contains { $0.contains("shut down by peer") })
        #expect(node.state.connection == .unconnected)
        #expect(peer.pass(until: { node.core.link.isAttempting }))
        #expect(node.state.connection == .wfConnection)
    }

    @Test func item31APeerThatDoesNotLeaveIsLeft() {
        let (node, peer) = SameData.connected()
        peer.say(.connectionStateChangeRequest(StateChangeRequest(mask: 0x1f0, value: 0x10)))
        #expect(peer.pass(until: { node.state.connection == .wfConnection }))
        #expect(node.closed.contains(peer.dataSocket) && node.closed.contains(peer.metaSocket))
    }

    @Test("our own disconnect asks first", arguments: [UInt32(95), 101])
    func disconnectAsksFirst(version: UInt32) {
        let (node, peer) = SameData.connected(version: version)
        let id = node.command(.disconnect(force: false))
        #expect(peer.commands(.data) == [version >= 100 ? .connectionStateChangeRequest : .stateChangeRequest])
        #expect(node.answers[id] == nil)
        peer.ack(version >= 100 ? .connectionStateChangeReply(1) : .stateChangeReply(1))
        #expect(node.answers[id]?.code == 0)
        #expect(node.state.connection == .standAlone)
    }

    @Test func aRefusedDisconnectOffersToBeOutdatedThenLeaves() {
        let (node, peer) = SameData.connected()
        let id = node.command(.disconnect(force: false))
        node.sent = []
        peer.ack(.connectionStateChangeReply(-7))
        guard case .connectionStateChangeRequest(let request)? = node.sent.last?.packet else {
            Issue.record("no second request")
            return
        }
        #expect(request == StateChangeRequest(mask: 0x1ff0, value: 0xa10))
        peer.ack(.connectionStateChangeReply(1))
        #expect(node.answers[id]?.code == 0)
        #expect(node.state.disk == .outdated)
        #expect(!node.writtenSuperblock.flags.contains(.wasUpToDate))
    }

    @Test func aForcedDisconnectDoesNotWaitForAPeerThatOwesAnAnswer() {
        let (node, _) = SameData.connected()
        let promotion = node.command(.primary(volume, force: false))
        #expect(node.answers[promotion] == nil)
        let id = node.command(.disconnect(force: true))
        #expect(node.answers[id]?.code == 0)
        #expect(node.state.connection == .standAlone)
        // What was asked for is done alone where that is legal.
        #expect(node.answers[promotion]?.code == 0 && node.state.role == .primary)
    }

    @Test("item 32: the resolver refuses a request that collides with its own", arguments: [true, false])
    func item32CollidingRequests(isResolver: Bool) {
        let (node, peer) = SameData.connected(nodeIsResolver: isResolver)
        let promotion = node.command(.primary(volume, force: false))
        node.sent = []
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x1e00, value: 0x400)))
        #expect(peer.replies() == [isResolver ? -19 : 1])
        peer.ack(.stateChangeReply(1))
        #expect(node.answers[promotion]?.code == 0)
    }

    @Test("item 32: a connection request collides, too")
    func item32CollidingDisconnect() {
        let (node, peer) = SameData.connected()
        _ = node.command(.primary(volume, force: false))
        node.sent = []
        peer.say(.connectionStateChangeRequest(StateChangeRequest(mask: 0x1f0, value: 0x10)))
        #expect(peer.replies() == [-19])
        #expect(node.state.connection == .connected)
    }

    @Test("every cluster-wide command survives the loss of the connection", arguments: 0..<5)
    func commandsEndWhenTheConnectionIsLost(kind: Int) {
        let (node, peer) = SameData.connected()
        let command: ControlCommand =
            [
                .primary(volume, force: false), .detach(volume, force: false), .invalidate(volume),
                .invalidateRemote(volume), .disconnect(force: false),
            ][kind]
        let id = node.command(command)
        #expect(node.answers[id] == nil)
        // Commands that come meanwhile wait for their turn.
        let second = node.command(.outdate(volume))
        #expect(node.answers[second] == nil)
        peer.drop()
        #expect(peer.pass(until: { node.answers[id] != nil && node.answers[second] != nil }))
        #expect(node.answers[id]?.code == [0, 0, -15, -15, 0][kind])
        if kind == 0 { #expect(node.state.role == .primary) }
        if kind == 1 { #expect(node.state.disk == .diskless) }
        if kind == 4 { #expect(node.state.connection == .standAlone) }
        #expect(node.core.openWork() == [])
    }

    @Test func item33ThePeersPauseStopsRequests() {
        let (node, peer) = SameData.pair()
        peer.identifiers = GenerationIdentifiers(
            current: 0x999, bitmap: SameData.identifiers.current, history0: 0, history1: 0)
        peer.dirtyBits = 4
        peer.connect()
        #expect(node.state.connection == .wfBitMapT)
        peer.sayBitmap(setting: [0, 1, 2, 3])
        peer.say(.syncUUID(0x77_0000_0000))
        #expect(node.state.connection == .syncTarget)
        node.sent = []
        var word = peer.state(.syncSource, peerDisk: .inconsistent)
        word |= 1 << 20
        peer.say(.state(word))
        #expect(node.state.connection == .pausedSyncT && node.state.pausedByPeer)
        peer.pass(.seconds(1))
        #expect(peer.resyncRequests.isEmpty)
        word &= ~(1 << 20)
        peer.say(.state(word))
        #expect(node.state.connection == .syncTarget)
        peer.pass(.milliseconds(100))
        #expect(!peer.resyncRequests.isEmpty)
    }

    @Test("a pause on either node stops both, and a resume lets both go on", arguments: [true, false], [true, false])
    func pausesStopBothNodes(onSource: Bool, early: Bool) {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        let node = onSource ? pair.a : pair.b
        if early { #expect(node.code(.pauseSync(volume)) == 0) }
        _ = pair.a.command(.primary(volume, force: true))
        pair.exchange()
        if !early { #expect(node.code(.pauseSync(volume)) == 0) }
        pair.pass(.seconds(1))
        #expect(pair.a.state.connection == .pausedSyncS, "\(pair.a.logs.suffix(6))")
        #expect(pair.b.state.connection == .pausedSyncT, "\(pair.b.logs.suffix(6))")
        let left = pair.b.status.outOfSyncBits
        pair.pass(.seconds(5))
        #expect(pair.b.status.outOfSyncBits == left && left > 0)
        #expect(node.code(.pauseSync(volume)) == 134)
        #expect(node.code(.resumeSync(volume)) == 0)
        #expect(pair.synchronise())
        #expect(node.code(.resumeSync(volume)) == 135)
    }

    @Test func aPrimaryThatDisconnectsWithFencingOutdatesThePeer() {
        var disk = SameData.quickDisk
        disk.fencing = .resourceOnly
        let (node, peer) = SameData.connected(disk: disk, primary: true)
        let id = node.command(.disconnect(force: false))
        guard case .connectionStateChangeRequest(let request)? = node.sent.last?.packet else {
            Issue.record("no request")
            return
        }
        #expect(request == StateChangeRequest(mask: 0x1e1f0, value: 0xa010))
        peer.ack(.connectionStateChangeReply(1))
        #expect(node.answers[id]?.code == 0)
        #expect(node.state.peerDisk == .outdated && node.state.connection == .standAlone)
        #expect(node.writtenSuperblock.flags.contains(.peerOutdated))
        #expect(!node.handlersRun.contains(.fencePeer))
    }

    @Test func aDisconnectRequestCanOutdateUs() {
        let (node, peer) = SameData.connected()
        peer.say(.stateChangeRequest(StateChangeRequest(mask: 0x3, value: 0x1)))
        node.sent = []
        peer.say(.connectionStateChangeRequest(StateChangeRequest(mask: 0x1e1f0, value: 0xa010)))
        #expect(peer.replies() == [1])
        #expect(node.state.disk == .outdated && node.state.connection == .tearDown)
        peer.drop()
        #expect(!node.writtenSuperblock.flags.contains(.wasUpToDate))
        #expect(node.code(.primary(volume, force: false)) == -2)
    }

    // MARK: Disks on an established connection (`wire.md` 6.8)

    @Test func detachAsksTheOtherNodeAndTellsTwice() {
        let (node, peer) = SameData.connected()
        let id = node.command(.detach(volume, force: false))
        #expect(peer.take().map { $0.packet } == [.stateChangeRequest(StateChangeRequest(mask: 0x1e00, value: 0x400))])
        peer.ack(.stateChangeReply(1))
        #expect(peer.states.map(\.disk) == [.failed, .diskless])
        #expect(node.answers[id]?.code == 0 && node.state.disk == .diskless)
    }

    @Test func detachOfAPrimaryKeepsServingFromThePeerAndAttachComesBack() {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(volume, force: true))
        pair.exchange()
        #expect(pair.synchronise())
        let detach = pair.a.command(.detach(volume, force: false))
        pair.exchange()
        #expect(pair.a.answers[detach]?.code == 0 && pair.a.state.disk == .diskless)
        #expect(pair.b.state.peerDisk == .diskless)
        // U6 on the peer: our disk is out of its generation, and we know the identifier of what we now use.
        #expect(pair.b.status.identifiers.bitmap != 0)
        let write = pair.a.write(240, 8)
        let read = pair.a.read(240)
        pair.exchange()
        #expect(pair.a.replies[write]?.error == nil && pair.b.data[240] == 8 && pair.a.data[240] == 0)
        #expect(pair.a.replies[read] == nil || pair.a.replies[read]?.data?[0] == 8)
        let attach = pair.a.command(
            .attach(volume, DiskConfiguration(dataPath: "/d", metadataPath: "/d", index: .internal, options: SameData.quickDisk)))
        pair.exchange()
        #expect(pair.a.answers[attach]?.code == 0)
        #expect(pair.synchronise(), "\(pair.a.state.summary) \(pair.b.state.summary) \(pair.a.logs.suffix(10))")
        #expect(pair.a.data[240] == 8)
        #expect(pair.a.core.openWork() == [] && pair.b.core.openWork() == [])
    }

    @Test func aStateThatCrossesOurAttachIsNoError() {
        let (node, peer) = SameData.pair()
        _ = node.command(.detach(volume, force: false))
        peer.connect()
        #expect(node.state.connection == .connected && node.state.disk == .diskless)
        _ = node.attach(SameData.quickDisk)
        #expect(node.state.disk == .negotiating)
        // The peer was promoted before it saw our attach.
        peer.role = .primary
        peer.say(.state(peer.state(.connected)))
        #expect(node.state.disk == .negotiating && node.state.peerRole == .primary && node.state.connection == .connected)
        peer.say(.uuids(peer.uuids))
        peer.say(.state(peer.state(.connected)))
        #expect(node.state.disk == .upToDate, "\(node.logs)")
    }

    @Test("down comes to its end from everywhere", arguments: 0..<7)
    func downComesToItsEnd(situation: Int) {
        let node: TestNode
        var peer: ScriptedPeer?
        switch situation {
        case 0:
            node = TestNode("alice", seed: 1)
        case 1:
            // In the middle of an attach.
            node = TestNode.withData(identifiers: SameData.identifiers)
            node.holdsMetadata = true
            _ = node.attach()
        case 2:
            (node, peer) = SameData.connected()
        case 3:
            (node, peer) = SameData.connected(primary: true)
        case 4:
            (node, peer) = SameData.connected()
            peer?.drop()
        case 5:
            (node, peer) = SameData.pair()
            peer?.open()
        default:
            // With a write whose epoch the peer has not acknowledged.
            (node, peer) = SameData.connected(primary: true)
            _ = node.write(0, 1)
            if let head = peer?.writes.first { peer?.acknowledge(head) }
        }
        let id = node.command(.down)
        if situation == 1 { node.releaseHeld() }
        if situation == 6 {
            peer?.ack(.barrierAck(number: peer?.barriers.first ?? 0, setSize: 1))
        }
        if let peer, !peer.replies().isEmpty || node.answers[id] == nil { peer.ack(.connectionStateChangeReply(1)) }
        for _ in 0..<100 where node.answers[id] == nil { node.advance(to: node.now + .milliseconds(100)) }
        #expect(node.answers[id]?.code == 0, "\(situation): \(node.logs)")
        #expect(node.state.disk == .diskless && node.state.connection == .standAlone && node.state.role == .secondary)
        #expect(node.core.openWork() == [])
        // What is left is what any attach accepts.
        if situation > 1 {
            #expect(!node.writtenSuperblock.isUnclean && node.writtenSuperblock.flags.contains(.activityLogClean))
            #expect(!node.writtenSuperblock.flags.contains(.primaryIndicator))
        }
    }

    @Test func aVolumeThatGoesTakesWhatWaitsForItAlong() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        let waiting = node.command(.waitConnect(volume, WaitTimes(afterSplitBrain: true)))
        #expect(node.answers[waiting] == nil)
        #expect(node.code(.deleteMinor(volume)) == 0)
        #expect(node.answers[waiting] != nil)
        node.advance(to: node.now + .seconds(10))
        #expect(node.core.status(at: node.now).isEmpty)
    }

    // MARK: wait-connect

    @Test("wait-connect takes the time that fits", arguments: [(false, false, 30), (true, false, 10), (false, true, 20)])
    func waitConnectTimes(isDegraded: Bool, isOutdated: Bool, seconds: Int) {
        var flags: MetadataFlags = [.consistent, .wasUpToDate]
        if isDegraded { flags.insert(.primaryIndicator) }
        if isOutdated { flags.insert(.peerOutdated) }
        let node = TestNode.withData(identifiers: SameData.identifiers, flags: flags)
        _ = node.attach()
        _ = node.connect()
        let id = node.command(.waitConnect(volume, WaitTimes(wfc: 30, degraded: 10, outdated: 20)))
        node.advance(to: node.now + .milliseconds(seconds * 1000 - 100))
        #expect(node.answers[id] == nil)
        node.advance(to: node.now + .milliseconds(200))
        #expect(node.answers[id]?.code == 5)
    }
}
