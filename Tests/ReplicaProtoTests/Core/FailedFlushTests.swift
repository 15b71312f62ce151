import Testing

@testable import ReplicaProto

/// What a disk that cannot flush has lost counts for nobody (`design.md` 5, rule 3).
@Suite struct FailedFlushTests {
    private let inputOutput = DiskError(5)

    private func failEpoch(_ policy: OnIOError, _ error: DiskError) -> (node: TestNode, peer: ScriptedPeer) {
        var disk = SameData.quickDisk
        disk.onIOError = policy
        let (node, peer) = SameData.connected(disk: disk)
        node.failsNextFlush = error
        peer.write(0, 1)
        peer.say(.barrier(number: 7))
        return (node, peer)
    }

    @Test(
        "an epoch whose flush fails is never acknowledged: the peer takes its writes for missing",
        arguments: [OnIOError.detach, .callLocalIOError])
    func epochIsNotAcknowledged(policy: OnIOError) {
        let (node, peer) = failEpoch(policy, inputOutput)
        #expect(peer.commands(.meta) == [.writeAck])
        #expect(node.status.state.connection != .connected)
        #expect(node.status.state.disk == .failed || node.status.state.disk == .diskless)
        #expect(node.handlersRun.contains(.localIOError) == (policy == .callLocalIOError))
    }

    @Test func passingOnKeepsTheDiskForTheResyncThatMendsIt() {
        let (node, peer) = failEpoch(.passOn, inputOutput)
        #expect(peer.commands(.meta) == [.writeAck])
        #expect(node.status.state.connection != .connected)
        #expect(node.status.state.disk == .inconsistent)
        #expect(!node.writtenSuperblock.flags.contains(.consistent))
    }

    /// One write is answered and in the cache, the next one fails the disk, and so does the flush with which it is closed.
    @Test func aDiskThatLeavesWithoutAFlushAcknowledgesNothing() {
        let (node, peer) = SameData.connected()
        node.holdsDisk = true
        peer.write(0, 1)
        node.failsWrites = inputOutput
        peer.write(8, 2)
        node.failsWrites = nil
        node.failsNextFlush = inputOutput
        node.holdsDisk = false
        node.releaseHeld()
        peer.say(.barrier(number: 7))
        #expect(peer.commands(.meta).contains(.writeAck) && !peer.commands(.meta).contains(.barrierAck))
        #expect(node.status.state.connection != .connected)
        #expect(node.status.state.disk == .diskless)
        #expect(node.writtenSuperblock.flags.contains(.fullSync))
    }

    @Test("a disk without a cache needs no flush", arguments: [Int32(22), 38, 95])
    func unsupported(code: Int32) {
        let (node, peer) = failEpoch(.detach, DiskError(code))
        #expect(peer.commands(.meta) == [.writeAck, .barrierAck])
        #expect(node.status.state.connection == .connected && node.status.state.disk == .upToDate)
        #expect(node.core.writeOrdering == .drain)
    }

    @Test func whatAResyncWroteIsSuspectToo() {
        let (node, peer) = SameData.pair(disk: SameData.quickDisk)
        peer.identifiers = GenerationIdentifiers(
            current: 0x9990, bitmap: SameData.identifiers.current, history0: 0x88, history1: 0x66)
        peer.dirtyBits = 2
        peer.connect()
        peer.startAsSource(setting: [1, 200])
        peer.answer(peer.firstRequest, 5)
        #expect(node.status.state.connection == .syncTarget)
        node.failsNextFlush = inputOutput
        peer.write(0, 1)
        peer.say(.barrier(number: 7))
        #expect(!peer.commands(.meta).contains(.barrierAck))
        #expect(node.durableBits >= 65_456 / 8)
    }

    @Test func aPrimaryThatPassesOnMarksWhatItsLogCovers() {
        var disk = SameData.quickDisk
        disk.onIOError = .passOn
        let (node, peer) = SameData.connected(disk: disk, primary: true)
        _ = node.write(8192, 1)
        peer.acknowledge(peer.writes[0])
        node.failsNextFlush = inputOutput
        let flush = node.flush()
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: 1))
        // The peer has it, and ours is the worse copy from now on.
        #expect(node.replies[flush] != nil && node.replies[flush]?.error == nil)
        #expect(node.status.state.disk == .inconsistent)
        #expect(node.core.volumes[0].bitmap.weight == 1024)
        #expect(
            node.core.isOutOfSync(BitmapBlock(1024), of: VolumeNumber(0))
                && !node.core.isOutOfSync(BitmapBlock(0), of: VolumeNumber(0)))
    }

    @Test func aPrimaryAloneTellsItsClient() {
        var disk = SameData.quickDisk
        disk.onIOError = .passOn
        let (node, peer) = SameData.connected(disk: disk, primary: true)
        peer.drop()
        _ = node.write(8192, 1)
        node.failsNextFlush = inputOutput
        let flush = node.flush()
        #expect(node.replies[flush]?.error == .io)
        #expect(node.status.state.disk == .upToDate)
        #expect(node.core.volumes[0].bitmap.weight == 1024)
    }

    /// The transaction's own flush began before the client's failed, and ends well after that.
    @Test("what the log forgets while a flush fails is in the bitmap", arguments: [OnIOError.detach, .passOn])
    func evictionBesideAFailedFlush(policy: OnIOError) {
        var disk = SameData.quickDisk
        disk.onIOError = policy
        disk.alExtents = 1
        let (node, peer) = SameData.connected(disk: disk, primary: true)
        _ = node.write(8192, 1)
        peer.acknowledge(peer.writes[0])
        node.holdsDisk = true
        node.holdsMetadata = true
        node.failsNextFlush = inputOutput
        _ = node.flush()
        peer.ack(.barrierAck(number: peer.barriers[0], setSize: 1))
        _ = node.write(2 * 8192, 2)
        #expect(node.trace.contains { if case .writeActivityLog(_, _, flushFirst: true, _) = $0 { true } else { false } })
        node.releaseHeld()
        #expect(node.core.isOutOfSync(BitmapBlock(1024), of: VolumeNumber(0)) || node.state.disk == .diskless)
        // Extent 1 is not in the log any more.
        #expect(node.durableBits >= 1024)
    }
}
