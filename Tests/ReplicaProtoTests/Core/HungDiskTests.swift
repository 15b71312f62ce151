import Testing

@testable import ReplicaProto

/// Disks that do not answer (`metadata.md` 7.3, `control.md` 1.4: disk-timeout, `detach --force`).
@Suite struct HungDiskTests {
    private let volume = VolumeNumber(0)
    private func disk(_ policy: OnIOError = .passOn) -> DiskOptions {
        var options = SameData.quickDisk
        options.diskTimeout = 30
        options.onIOError = policy
        return options
    }

    /// Alice is Primary, both are in sync.
    private func pair(_ policy: OnIOError = .passOn) -> TestPair {
        let pair = TestPair()
        pair.up(NetOptions(), disk(policy))
        _ = pair.a.command(.newCurrentUUID(volume, clearBitmap: true))
        pair.exchange()
        _ = pair.a.command(.primary(volume, force: false))
        pair.exchange()
        return pair
    }

    @Test("only a disk with a limit has one")
    func limits() {
        let pair = pair()
        #expect(pair.a.core.diskTimeout(volume) == .seconds(3) && pair.a.core.diskTimeout(VolumeNumber(1)) == nil)
        var without = disk()
        without.diskTimeout = 0
        #expect(pair.a.code(.diskOptions(volume, without)) == 0)
        #expect(pair.a.core.diskTimeout(volume) == nil)
        pair.a.feed(.diskTimedOut(volume))
        #expect(pair.a.state.disk == .upToDate)
    }

    @Test(
        "a Primary's disk hangs: it is left behind under every policy, and clients go on with the peer's",
        arguments: [
            OnIOError.passOn, .detach, .callLocalIOError,
        ])
    func primary(policy: OnIOError) {
        let pair = pair(policy)
        pair.a.holdsDisk = true
        pair.a.holdsMetadata = true
        let write = pair.a.write(0, 5)
        let cold = pair.a.write(5 * 8192, 6)
        let read = pair.a.read(800, count: 8)
        pair.exchange()
        #expect(pair.a.replies[write] == nil && pair.a.replies[read] == nil)
        pair.a.feed(.diskTimedOut(volume))
        pair.exchange()
        #expect(pair.a.state.disk == .diskless && pair.b.state.disk == .upToDate)
        for id in [write, cold, read] { #expect(pair.a.replies[id] != nil && pair.a.replies[id]?.error == nil, "\(id)") }
        #expect(pair.b.data[0] == 5)
        // It comes back: what it missed is copied, and what it may have of its own is overwritten.
        _ = pair.a.write(1600, 9)
        pair.exchange()
        _ = pair.a.attach(disk(policy))
        pair.exchange()
        for _ in 0..<100 { pair.pass(.milliseconds(100)) }
        #expect(pair.a.state.disk == .upToDate && pair.a.data == pair.b.data, "\(pair.a.state.summary)")
        #expect(pair.a.isIdle && pair.b.isIdle)
    }

    @Test("a Secondary's disk hangs: the Primary's writes end, and are marked")
    func secondary() {
        let pair = pair()
        pair.b.holdsDisk = true
        let write = pair.a.write(0, 5)
        pair.exchange()
        #expect(pair.a.replies[write] == nil)
        // What of answered writes its cache held nobody knows: the connection goes, and with it the Primary's trust in them.
        pair.b.feed(.diskTimedOut(volume))
        #expect(!pair.b.closed.isEmpty)
        pair.lose(pair.b)
        #expect(pair.a.replies[write] != nil && pair.a.replies[write]?.error == nil)
        for _ in 0..<50 { pair.pass(.milliseconds(100)) }
        pair.link()
        #expect(pair.b.state.disk == .diskless && pair.a.state.connection == .connected, "\(pair.a.state.summary)")
        #expect(pair.a.status.outOfSyncBits == 1)
    }

    @Test("alone there is nobody else to ask: an error, no success and no silence")
    func alone() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        #expect(node.attach(disk()) == 0)
        _ = node.command(.primary(volume, force: false))
        node.holdsDisk = true
        let (write, read) = (node.write(0, 5), node.read(800, count: 8))
        node.feed(.diskTimedOut(volume))
        #expect(node.state.disk == .diskless)
        #expect(node.replies[write]?.error == .io && node.replies[read]?.error == .io)
    }

    @Test("detach --force answers although the disk never does", arguments: [false, true])
    func force(hangs: Bool) {
        let pair = pair()
        pair.a.holdsDisk = hangs
        let write = pair.a.write(0, 5)
        pair.exchange()
        let detach = pair.a.command(.detach(volume, force: true))
        pair.exchange()
        #expect((pair.a.answers[detach] == nil) == hangs && (pair.a.state.disk == .failed) == hangs)
        pair.pass(.seconds(1))
        #expect((pair.a.answers[detach] == nil) == hangs)
        pair.pass(.seconds(2))
        #expect(pair.a.answers[detach]?.code == 0 && pair.a.state.disk == .diskless)
        #expect(pair.a.replies[write] != nil && pair.a.replies[write]?.error == nil)
        #expect(pair.a.isIdle && pair.b.isIdle)
    }

    @Test("a disk that lacks what its peer has answered comes back Inconsistent, though the peer never heard of its failure")
    func backWithoutPeer() {
        let pair = pair(.detach)
        pair.a.holdsDisk = true
        pair.a.failsWrites = DiskError(110)
        let write = pair.a.write(0, 5)
        pair.exchange()
        // The peer is cut off at the moment when the disk fails: its identifiers do not change.
        pair.a.feed(.diskTimedOut(volume))
        #expect(pair.a.replies[write] != nil && pair.a.replies[write]?.error == nil && pair.a.data[0] != 5)
        pair.cut()
        (pair.a.failsReads, pair.a.failsWrites, pair.a.failsMetadata, pair.a.failsNextFlush) = (nil, nil, nil, nil)
        _ = pair.a.command(.secondary(volume))
        #expect(pair.a.attach(disk(.detach)) == 0)
        #expect(pair.a.state.disk == .inconsistent, "\(pair.a.state.summary)")
        #expect(pair.a.code(.primary(volume, force: false)) != 0)
        for _ in 0..<50 { pair.pass(.milliseconds(100)) }
        pair.link()
        for _ in 0..<100 { pair.pass(.milliseconds(100)) }
        #expect(
            pair.a.state.disk == .upToDate && pair.a.data == pair.b.data && pair.a.data[0] == 5, "\(pair.a.state.summary)")
    }

    @Test("a diskless Primary hears of the new generation when that is durable, and never of one that was given up")
    func toldWhenDurable() {
        for fails in [false, true] {
            let pair = pair(.detach)
            pair.b.holdsMetadata = true
            let before = pair.b.core.identifiers(of: volume)!.current
            pair.a.feed(.diskTimedOut(volume))
            let mark = pair.b.trace.count
            pair.exchange()
            func told() -> Bool {
                pair.b.trace[mark...].contains { if case .send(_, _, .uuids, _) = $0 { true } else { false } }
            }
            #expect(pair.b.core.identifiers(of: volume)!.current != before && !told())
            if fails {
                pair.b.feed(.diskTimedOut(volume))
                pair.exchange()
                #expect(!told() && pair.b.state.disk == .diskless)
                // Whatever the disk got of it: the Primary that knows only the old one takes it.
                (pair.b.failsReads, pair.b.failsWrites, pair.b.failsMetadata, pair.b.failsNextFlush) = (nil, nil, nil, nil)
                _ = pair.b.attach(disk(.detach))
                for _ in 0..<100 { pair.pass(.milliseconds(100)) }
                #expect(pair.a.state.connection == .connected && pair.b.state.disk == .upToDate, "\(pair.b.state.summary)")
            } else {
                pair.b.releaseHeld()
                pair.exchange()
                #expect(told())
            }
        }
    }

    @Test("a source whose disk hangs after the target has ended knows that the target has everything")
    func sourceAfterTheEnd() {
        let pair = pair(.detach)
        pair.cut()
        _ = pair.a.write(0, 5)
        for _ in 0..<50 { pair.pass(.milliseconds(100)) }
        // The target's last word has arrived, the ping that the source ends with has not come back.
        pair.link { packet in
            if case .ping = packet { pair.b.state.disk == .upToDate } else { false }
        }
        for _ in 0..<50 where pair.isLinked {
            pair.pass(.milliseconds(100)) { packet in
                if case .ping = packet { pair.b.state.disk == .upToDate } else { false }
            }
        }
        #expect(pair.b.state.disk == .upToDate && pair.a.state.connection == .syncSource, "\(pair.a.state.summary)")
        pair.a.feed(.diskTimedOut(volume))
        #expect(pair.a.state.disk == .diskless && pair.a.state.peerDisk == .upToDate, "\(pair.a.state.summary)")
        pair.isLinked = true
        let read = pair.a.read(0, count: 8)
        pair.exchange()
        #expect(pair.a.replies[read] != nil && pair.a.replies[read]?.error == nil && pair.a.replies[read]?.data?.first == 5)
    }
}
