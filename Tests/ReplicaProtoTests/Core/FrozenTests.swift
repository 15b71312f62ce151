import Testing

@testable import ReplicaProto

/// I/O that is frozen: by an administrator, for lack of data, until the peer is fenced (`wire.md` 7.13); and what a
/// failing disk does to requests.
@Suite struct FrozenTests {
    private let volume = VolumeNumber(0)

    private func stonith() -> DiskOptions {
        var disk = SameData.quickDisk
        disk.fencing = .resourceAndStonith
        return disk
    }
    /// Primary and connected, with fencing that freezes; handlers wait for the test.
    private func fenced() -> (node: TestNode, peer: ScriptedPeer) {
        let (node, peer) = SameData.connected(disk: stonith(), primary: true)
        node.holdsHandlers = true
        return (node, peer)
    }

    @Test("a fenced peer thaws I/O under a new generation", arguments: [4, 5, 7])
    func fencingSucceeds(status: Int32) {
        let (node, peer) = fenced()
        let before = node.status.identifiers
        let id = node.write(0, 1)
        peer.drop()
        let late = node.write(8, 2)
        #expect(node.state.suspendedFencing && node.replies.isEmpty)
        #expect(node.status.identifiers == before)
        #expect(node.handlersRun == [.fencePeer])
        node.feed(.handlerFinished(node.heldHandlers[0], status: status))
        #expect(node.state.peerDisk == .outdated && !node.state.suspendedFencing)
        #expect(node.replies[id] != nil && node.replies[late] != nil)
        #expect(node.status.identifiers.bitmap == before.current)
        #expect(node.status.outOfSyncBits == 2)
        #expect(node.writtenSuperblock.flags.contains(.peerOutdated))
        let rotated = node.position {
            if case .writeSuperblock(_, let block, _) = $0 { block.identifiers.bitmap == before.current } else { false }
        }!
        let replied = node.position { if case .replyToClient(id, _, _) = $0 { true } else { false } }!
        #expect(rotated < replied)
    }

    @Test("a failed fencing keeps I/O frozen until somebody decides", arguments: [nil, 1, 6, 99] as [Int32?])
    func fencingFails(status: Int32?) {
        let (node, peer) = fenced()
        let id = node.write(0, 1)
        peer.drop()
        node.feed(.handlerFinished(node.heldHandlers[0], status: status))
        #expect(node.state.suspendedFencing && node.replies[id] == nil)
        #expect(node.code(.resumeIO(volume)) == 0)
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        #expect(node.status.identifiers.bitmap != 0)
    }

    @Test("the peer comes back before the fencing has ended: writes are sent again", arguments: [true, false])
    func thePeerComesBackFirst(handlerEnds: Bool) throws {
        let (node, peer) = fenced()
        let before = node.status.identifiers
        let open = node.write(0, 1)
        let done = node.write(8, 2)
        let heads = peer.writes
        peer.acknowledge(heads[1])
        #expect(node.replies[done] != nil && node.replies[open] == nil)
        peer.drop()
        let late = node.write(16, 3)
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connect()
        #expect(node.state.connection == .connected && !node.state.suspendedFencing, "\(node.logs.suffix(5))")
        #expect(node.status.identifiers == before)
        let again = peer.writes
        #expect(again.map { $0.sector.value } == [0, 16] && again.map(\.sequence) == [1, 2])
        for head in again { peer.acknowledge(head) }
        #expect(node.replies[open]?.error == nil && node.replies[late] != nil)
        for barrier in peer.barriers { peer.ack(.barrierAck(number: barrier, setSize: 2)) }
        #expect(node.core.openWork() == [])
        if handlerEnds {
            node.feed(.handlerFinished(node.heldHandlers[0], status: 7))
            #expect(node.state.peerDisk == .upToDate && node.state.connection == .connected)
        }
    }

    @Test func aRestartedPeerDoesNotGetFrozenWritesAgain() {
        let (node, peer) = fenced()
        let before = node.status.identifiers
        let id = node.write(0, 1)
        peer.drop()
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.disk = .consistent
        peer.connect()
        #expect(!node.state.connection.isConnected)
        #expect(node.logs.contains("Aborting Connect, can not thaw IO with an only Consistent peer"))
        #expect(node.replies[id] != nil && node.status.identifiers.bitmap == before.current)
        #expect(!node.state.isSuspended)
        // The next connection mends the peer.
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connect()
        #expect(node.state.connection == .wfBitMapS)
        #expect(node.status.outOfSyncBits == 1)
    }

    @Test func aPromotionAloneFencesFirst() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        var disk = SameData.quickDisk
        disk.fencing = .resourceOnly
        _ = node.attach(disk)
        #expect(node.state.disk == .consistent)
        node.holdsHandlers = true
        let id = node.command(.primary(volume, force: false))
        #expect(node.handlersRun == [.fencePeer] && node.answers[id] == nil)
        node.feed(.handlerFinished(node.heldHandlers[0], status: 4))
        #expect(node.answers[id]?.code == 0 && node.state.role == .primary && node.state.peerDisk == .outdated)
        // And the other way round.
        let other = TestNode.withData(identifiers: SameData.identifiers)
        _ = other.attach(disk)
        other.handlerStatus[.fencePeer] = 1
        #expect(other.code(.primary(volume, force: false)) != 0)
        #expect(other.state.role == .secondary)
    }

    // MARK: No data

    private func suspending() -> (node: TestNode, peer: ScriptedPeer) {
        let (node, peer) = SameData.connected(primary: true)
        var options = ResourceOptions()
        options.onNoDataAccessible = .suspendIO
        _ = node.command(.resourceOptions(options))
        return (node, peer)
    }

    @Test("without data I/O waits for a disk", arguments: [true, false])
    func noDataWaitsForADisk(pending: Bool) {
        let (node, peer) = suspending()
        peer.drop()
        node.holdsDisk = true
        let id = node.write(0, 1)
        let read = node.read(0)
        node.failsWrites = DiskError(5)
        node.failsReads = DiskError(5)
        // The disk fails under a write and a read, while the peer is away.
        if pending {
            node.held = node.held.map { event in
                switch event {
                case .diskWriteFinished(let tag, _): .diskWriteFinished(tag, DiskError(5))
                case .diskReadFinished(let tag, _, _): .diskReadFinished(tag, nil, DiskError(5))
                default: event
                }
            }
        } else {
            _ = node.command(.detach(volume, force: true))
        }
        node.releaseHeld()
        #expect(node.state.disk == .diskless && node.state.suspendedNoData)
        if pending { #expect(node.replies[id] == nil && node.replies[read] == nil) }
        let late = node.write(8, 2)
        #expect(node.replies[late] == nil)
        node.failsWrites = nil
        node.failsReads = nil
        #expect(node.attach(SameData.quickDisk) == 0)
        #expect(!node.state.suspendedNoData)
        #expect(node.replies[late] != nil && node.replies[late]?.error == nil)
        #expect(node.replies[id] != nil && node.replies[id]?.error == nil && node.data[8] == 2)
        #expect(node.replies[read] != nil && node.replies[read]?.error == nil)
        #expect(node.core.openWork() == [])
    }

    @Test func noDataWaitsForThePeer() throws {
        let (node, peer) = suspending()
        _ = node.command(.detach(volume, force: true))
        #expect(!node.state.suspendedNoData)
        node.sent = []
        let write = node.write(0, 1)
        let read = node.read(8)
        #expect(peer.commands(.data).filter { $0 == .data || $0 == .dataRequest } == [.data, .dataRequest])
        peer.drop()
        #expect(node.state.suspendedNoData && node.replies.isEmpty)
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connect()
        #expect(node.state.connection == .connected && !node.state.suspendedNoData)
        let head = try #require(peer.writes.first)
        peer.acknowledge(head)
        #expect(node.replies[write] != nil && node.replies[write]?.error == nil)
        let request = try #require(node.sent.compactMap { if case .dataRequest(let request) = $0.packet { request } else { nil } }.first)
        peer.say(.dataReply(DataPacket(sector: request.sector, blockID: request.blockID, byteCount: 4096)), Array(repeating: 6, count: 8))
        #expect(node.replies[read]?.data?[0] == 6)
        for barrier in peer.barriers { peer.ack(.barrierAck(number: barrier, setSize: 1)) }
        #expect(node.core.openWork() == [])
    }

    @Test func resumeWithoutDataFailsWhatWaits() {
        let (node, peer) = suspending()
        _ = node.command(.detach(volume, force: true))
        let write = node.write(0, 1)
        peer.drop()
        let late = node.write(8, 1)
        let read = node.read(0)
        #expect(node.replies.isEmpty)
        #expect(node.code(.resumeIO(volume)) == 0)
        for id in [write, late, read] { #expect(node.replies[id]?.error == .io) }
        #expect(node.core.openWork() == [])
    }

    @Test func withoutSuspensionIOFailsAtOnce() {
        let (node, peer) = SameData.connected(primary: true)
        _ = node.command(.detach(volume, force: true))
        let write = node.write(0, 1)
        let read = node.read(0)
        peer.drop()
        #expect(node.replies[write]?.error == .io && node.replies[read]?.error == .io)
        let late = node.write(0, 1)
        #expect(node.replies[late]?.error == .io)
        #expect(node.core.openWork() == [])
    }

    // MARK: suspend-io

    @Test("suspend-io holds what is new, resume-io lets it go, whatever happened in between", arguments: 0..<3)
    func suspendAndResume(kind: Int) {
        let (node, peer) = SameData.connected(primary: true)
        let open = node.write(0, 1)
        let head = peer.writes[0]
        #expect(node.code(.suspendIO(volume)) == 0)
        let late = node.write(8, 2)
        #expect(node.replies.isEmpty && peer.writes.count == 1)
        switch kind {
        case 0:
            peer.acknowledge(head)
            #expect(node.replies[open] != nil)
        case 1:
            peer.drop()
            #expect(node.replies[open] == nil)
        default:
            peer.drop()
            _ = peer.pass(until: { node.core.link.isAttempting })
            peer.connect()
            #expect(peer.writes.map { $0.sector.value } == [0])
            peer.acknowledge(peer.writes[0])
            #expect(node.replies[open] != nil)
        }
        #expect(node.code(.resumeIO(volume)) == 0)
        if kind != 1 { peer.acknowledge(peer.writes.last!) }
        #expect(node.replies[open]?.error == nil && node.replies[late] != nil && node.replies[late]?.error == nil)
        #expect(node.data[8] == 2)
    }

    @Test func downWhileFrozenIsRefusedOrEnds() {
        let (node, peer) = fenced()
        _ = node.write(0, 1)
        peer.drop()
        let id = node.command(.down)
        node.feed(.handlerFinished(node.heldHandlers[0], status: 7))
        for _ in 0..<300 where node.answers[id] == nil { peer.pass(.milliseconds(100)) }
        #expect(node.answers[id]?.code == 0)
        #expect(node.core.openWork() == [])
    }

    // MARK: Disk errors

    @Test("a disk error of a Primary, by policy", arguments: [OnIOError.passOn, .callLocalIOError, .detach], 0..<4)
    func diskErrors(policy: OnIOError, kind: Int) {
        let isRead = kind & 1 == 0
        let connected = kind & 2 == 0
        var disk = SameData.quickDisk
        disk.onIOError = policy
        let (node, peer) = SameData.connected(disk: disk, primary: true)
        if !connected { peer.drop() }
        node.failsWrites = DiskError(5)
        node.failsReads = DiskError(5)
        let id = isRead ? node.read(0) : node.write(0, 1)
        if connected {
            if isRead {
                guard case .dataRequest(let request)? = node.sent.first(where: { if case .dataRequest = $0.packet { true } else { false } })?.packet
                else {
                    Issue.record("the peer is not asked")
                    return
                }
                peer.say(.dataReply(DataPacket(sector: request.sector, blockID: request.blockID, byteCount: 4096)), Array(repeating: 6, count: 8))
            } else {
                peer.acknowledge(peer.writes[0])
            }
            #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
        } else {
            #expect(node.replies[id]?.error == .io)
        }
        switch policy {
        case .passOn: #expect(node.state.disk == (connected ? .inconsistent : .upToDate))
        case .callLocalIOError, .detach: #expect(node.state.disk == .diskless)
        }
        #expect(node.handlersRun.contains(.localIOError) == (policy == .callLocalIOError))
        // What is not equal is known on disk, even where the disk is gone.
        if connected { for barrier in peer.barriers { peer.ack(.barrierAck(number: barrier, setSize: 1)) } }
        #expect(node.core.openWork() == [])
        #expect(node.buffers.isEmpty)
    }

    @Test("requests that wait for the log when the disk goes are served by the peer or fail", arguments: [true, false])
    func waitersWhenTheDiskGoes(connected: Bool) {
        var disk = SameData.quickDisk
        disk.alExtents = 67
        let (node, peer) = SameData.connected(disk: disk, primary: true, sectors: 100 * 8192)
        node.holdsDisk = true
        node.holdsMetadata = true
        let ids = (0..<90).map { node.write(UInt64($0) * 8192, 1) }
        if !connected { peer.drop() }
        _ = node.command(.detach(volume, force: true))
        node.releaseHeld()
        for _ in 0..<20 {
            for message in peer.take() {
                if case .data(let head) = message.packet { peer.acknowledge(head) }
                if case .ping = message.packet { peer.ack(.pingAck) }
            }
        }
        for id in ids { #expect(node.replies[id] != nil) }
        if connected { #expect(ids.allSatisfy { node.replies[$0]?.error == nil }) }
        #expect(node.state.disk == .diskless)
        #expect(node.core.volumes[0].activityLog.totalReferences == 0)
        #expect(node.buffers.isEmpty)
    }
}
