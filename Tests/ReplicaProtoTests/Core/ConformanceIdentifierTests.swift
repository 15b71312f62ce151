import Testing

@testable import ReplicaProto

/// Items 20 to 29: generation identifiers and the sync decision, by whole cores.
@Suite struct ConformanceIdentifierTests {
    /// A pair in sync, `a` Primary.
    private func synchronised() -> TestPair {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(VolumeNumber(0), force: true))
        pair.exchange()
        #expect(pair.synchronise())
        return pair
    }
    private func rejoin(_ pair: TestPair) {
        pair.pass(.seconds(1))
        pair.link()
    }
    private func rule(_ node: TestNode) -> String { node.logs.last { $0.hasPrefix("uuid_compare") } ?? "none" }

    @Test func item20LosingThePeerAsPrimaryBeginsANewGeneration() {
        let pair = synchronised()
        let before = pair.a.status.identifiers
        #expect(before.bitmap == 0 && before.current & 1 == 1)
        pair.cut()
        let after = pair.a.status.identifiers
        #expect(after.bitmap == before.current)
        #expect(after.current != before.current && after.current & 1 == 1)
        #expect(pair.a.writtenSuperblock.identifiers == after)
        #expect(pair.b.status.identifiers.current & ~1 == before.current & ~1)
    }

    @Test func item21ReconnectingBringsWhatChangedAndNoMore() {
        let pair = synchronised()
        pair.cut()
        let write = pair.a.write(1600, 9)
        #expect(pair.a.replies[write]?.error == nil && pair.a.replies[write] != nil)
        pair.pass(.seconds(1))
        pair.link()
        #expect(rule(pair.a) == "uuid_compare()=1 by rule 70")
        #expect(rule(pair.b) == "uuid_compare()=-1 by rule 50")
        #expect(pair.synchronise())
        #expect(pair.b.logs.contains { $0.hasPrefix("Began resync as SyncTarget (will sync 4 KB [1 bits set])") })
        #expect(pair.b.data[1600] == 9)
    }

    @Test func item22FreshNodesUseRule10() {
        let pair = TestPair()
        pair.up()
        #expect(rule(pair.a) == "uuid_compare()=0 by rule 10")
        #expect(pair.a.state.connection == .connected && pair.a.state.disk == .inconsistent)
    }

    @Test func item23ForcedPromotionUsesRules30And20() {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(VolumeNumber(0), force: true))
        pair.exchange()
        #expect(rule(pair.a) == "uuid_compare()=2 by rule 30")
        #expect(rule(pair.b) == "uuid_compare()=-2 by rule 20")
        #expect(pair.synchronise())
    }

    private func splitBrain(_ options: NetOptions = NetOptions()) -> TestPair {
        let pair = TestPair()
        pair.up(options, SameData.quickDisk)
        _ = pair.a.command(.primary(VolumeNumber(0), force: true))
        pair.exchange()
        _ = pair.synchronise()
        pair.cut()
        _ = pair.a.write(800, 1)
        _ = pair.a.write(808, 1)
        _ = pair.a.command(.secondary(VolumeNumber(0)))
        _ = pair.b.command(.primary(VolumeNumber(0), force: false))
        _ = pair.b.write(800, 2)
        _ = pair.b.command(.secondary(VolumeNumber(0)))
        return pair
    }

    @Test func item24SplitBrainEndsInStandAloneWithHandlers() {
        let pair = splitBrain()
        rejoin(pair)
        for node in [pair.a, pair.b] {
            #expect(rule(node) == "uuid_compare()=100 by rule 90")
            #expect(node.handlersRun.contains(.initialSplitBrain) && node.handlersRun.contains(.splitBrain))
        }
        // Each leaves the streams open for the other to see the same.
        #expect(pair.a.state.connection == .disconnecting && pair.b.state.connection == .disconnecting)
        pair.cut()
        #expect(pair.a.state.connection == .standAlone && pair.b.state.connection == .standAlone)
        #expect(pair.a.data[800] == 1 && pair.b.data[800] == 2)
    }

    @Test func splitBrainWaitsForThePeerOnlySoLong() {
        let pair = splitBrain()
        rejoin(pair)
        pair.a.sent = []
        pair.a.feed(.packetReceived(.meta, VolumeNumber(0), .ping, payload: nil))
        #expect(pair.a.sent.contains { $0.packet == .pingAck })
        pair.a.receive(.data, VolumeNumber(0), .state(0), nil)
        #expect(pair.a.state.connection == .disconnecting)
        pair.pass(.milliseconds(499))
        #expect(pair.a.state.connection == .disconnecting)
        pair.pass(.milliseconds(1))
        #expect(pair.a.state.connection == .standAlone && pair.b.state.connection == .standAlone)
        #expect(pair.a.data[800] == 1 && pair.b.data[800] == 2)
    }

    @Test("item 25: discard-my-data makes its node the target", arguments: [true, false])
    func item25DiscardMyData(onA: Bool) {
        let pair = splitBrain()
        rejoin(pair)
        pair.cut()
        _ = pair.a.connect(NetOptions(), discardMyData: onA)
        _ = pair.b.connect(NetOptions(), discardMyData: !onA)
        pair.link()
        #expect(pair.synchronise(), "\(pair.a.logs.suffix(20)) \(pair.b.logs.suffix(20))")
        let same = pair.a.data == pair.b.data
        #expect(same)
        #expect(pair.a.data[800] == (onA ? 2 : 1))
    }

    @Test func item25DiscardMyDataHoldsForOneConnectionOnly() {
        let pair = splitBrain()
        rejoin(pair)
        pair.cut()
        _ = pair.a.connect(NetOptions(), discardMyData: true)
        _ = pair.b.connect()
        pair.link()
        #expect(pair.synchronise())
        pair.cut()
        pair.pass(.seconds(1))
        pair.link()
        let again = pair.a.sent + pair.b.sent
        #expect(again.isEmpty && pair.a.state.connection == .connected)
        #expect(pair.a.core.link.discardMyData == false)
    }

    static let automatic: [(SplitBrainPolicyValue, UInt64)] = [
        (.discardLeastChanges, 1), (.discardYoungerPrimary, 1), (.discardOlderPrimary, 2),
    ]

    @Test("after-sb-0pri decides for both nodes alike", arguments: automatic)
    func afterSplitBrainPolicies(policy: SplitBrainPolicyValue, survivor: UInt64) {
        var options = NetOptions()
        options.afterSplitBrain0Primaries = policy
        let pair = splitBrain(options)
        rejoin(pair)
        #expect(pair.synchronise(), "\(pair.a.logs.suffix(12)) \(pair.b.logs.suffix(12))")
        #expect(pair.a.data[800] == survivor && pair.b.data[800] == survivor)
        #expect(pair.a.data[808] == pair.b.data[808])
    }

    /// Target and source are cut at chosen moments of a resync.
    @Test("item 26: an interrupted resync goes on from the bitmap", arguments: [false, true])
    func item26InterruptedResync(beforeSyncUUIDArrived: Bool) {
        let pair = synchronised()
        pair.cut()
        _ = pair.a.write(1600, 9)
        _ = pair.a.write(3200, 9)
        pair.pass(.seconds(1))
        pair.link(until: { packet in
            if beforeSyncUUIDArrived, case .syncUUID = packet { return true }
            if !beforeSyncUUIDArrived, case .resyncDataRequest = packet { return true }
            return false
        })
        if !beforeSyncUUIDArrived { #expect(pair.b.state.connection == .syncTarget) }
        let x = pair.a.status.identifiers.bitmap
        pair.cut()
        pair.pass(.seconds(1))
        pair.link()
        #expect(rule(pair.a) == "uuid_compare()=1 by rule \(beforeSyncUUIDArrived ? 71 : 70)")
        #expect(rule(pair.b) == "uuid_compare()=-1 by rule \(beforeSyncUUIDArrived ? 51 : 50)")
        // A second start adds the offset to what the target has, or to what is left after the correction.
        if !beforeSyncUUIDArrived { #expect(pair.a.status.identifiers.bitmap & ~1 == (x &+ GenerationIdentifiers.syncOffset) & ~1) }
        #expect(pair.synchronise())
        #expect(pair.b.data[1600] == 9 && pair.b.data[3200] == 9)
        #expect(identities(pair.a) == identities(pair.b))
    }

    @Test func item27AMissedEndIsMended() {
        let pair = synchronised()
        pair.cut()
        _ = pair.a.write(1600, 9)
        pair.pass(.seconds(1))
        pair.link()
        // The target's last word is lost.
        for _ in 0..<100 where pair.b.state.connection != .connected {
            pair.pass(.milliseconds(100), until: { packet in
                if case .state(let word) = packet { return VolumeState(word: word)?.connection == .connected }
                return false
            })
        }
        #expect(pair.b.state.connection == .connected && pair.a.state.connection == .syncSource)
        pair.cut()
        pair.pass(.seconds(1))
        pair.link()
        // DRBD 8.4 keeps its bitmap identifier here, and rules 34 and 35 mend that. But a target that was promoted meanwhile
        // would overwrite by rule 50 what its source has written alone since: ours takes it that the target did end, and
        // begins a generation (`endUnseenResync`).
        #expect(rule(pair.a) == "uuid_compare()=1 by rule 70")
        #expect(rule(pair.b) == "uuid_compare()=-1 by rule 50")
        #expect(pair.synchronise())
        #expect(identities(pair.a) == identities(pair.b))
    }

    private func identities(_ node: TestNode) -> [UInt64] {
        let set = node.status.identifiers
        return [set.current & ~1, set.bitmap & ~1, set.history0 & ~1, set.history1 & ~1]
    }

    @Test func item28AfterAResyncBothReportTheSameSet() {
        let pair = synchronised()
        #expect(identities(pair.a) == identities(pair.b))
        pair.cut()
        _ = pair.a.write(0, 3)
        pair.pass(.seconds(1))
        pair.link()
        #expect(pair.synchronise())
        #expect(identities(pair.a) == identities(pair.b))
        #expect(pair.a.writtenSuperblock.identifiers == pair.a.status.identifiers)
        #expect(pair.b.writtenSuperblock.identifiers == pair.b.status.identifiers)
        #expect(pair.a.status.outOfSyncBits == 0 && pair.b.status.outOfSyncBits == 0)
    }

    @Test("item 29: two crashed Primaries: the resolver becomes the target", arguments: [true, false])
    func item29BothCrashed(isResolver: Bool) {
        let node = TestNode.withData(
            identifiers: SameData.identifiers, flags: [.consistent, .wasUpToDate, .primaryIndicator])
        _ = node.attach()
        _ = node.connect()
        let peer = ScriptedPeer(node, nodeIsResolver: isResolver)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.flags = .crashedPrimary
        peer.connect()
        #expect(node.state.connection == (isResolver ? .wfBitMapT : .wfBitMapS), "\(node.logs)")
        let told = node.trace.contains {
            if case .send(_, _, .uuids(let packet), _) = $0 { packet.flags.contains(.crashedPrimary) } else { false }
        }
        #expect(told)
    }

    // MARK: new-current-uuid (`wire.md` 5.4)

    @Test func skippingTheInitialSyncMakesBothUpToDate() {
        let pair = TestPair()
        pair.up()
        let command = pair.a.command(.newCurrentUUID(VolumeNumber(0), clearBitmap: true))
        let said = pair.a.sent.map { $0.packet.command(in: pair.a.format) }
        #expect(said == [.uuids])
        pair.exchange()
        #expect(pair.a.answers[command]?.code == 0)
        for node in [pair.a, pair.b] {
            #expect(node.state.connection == .connected && node.state.disk == .upToDate && node.state.peerDisk == .upToDate)
            #expect(node.status.outOfSyncBits == 0 && node.durableBits == 0)
            #expect(node.status.identifiers.bitmap == 0)
            #expect(node.writtenSuperblock.flags.contains([.consistent, .wasUpToDate]))
        }
        #expect(identities(pair.a) == identities(pair.b))
        // And it stays so.
        pair.cut()
        pair.pass(.seconds(1))
        pair.link()
        #expect(pair.a.state.connection == .connected && pair.b.state.disk == .upToDate)
    }

    @Test func newCurrentUUIDIsRefusedWhereItWouldLoseTrack() {
        let pair = synchronised()
        #expect(pair.a.code(.newCurrentUUID(VolumeNumber(0), clearBitmap: true)) == 151)
        #expect(pair.b.code(.newCurrentUUID(VolumeNumber(0), clearBitmap: false)) == 151)
    }
}
