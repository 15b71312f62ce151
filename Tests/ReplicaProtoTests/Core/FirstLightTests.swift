import Testing

@testable import ReplicaProto

/// The life of a pair, from fresh metadata to failover and back.
@Suite struct FirstLightTests {
    static func fast() -> DiskOptions {
        var options = DiskOptions()
        options.cPlanAhead = 0
        options.resyncRate = 4_000_000
        options.cMinRate = 0
        return options
    }

    @Test func item22FreshNodesConnectWithoutResync() {
        let pair = TestPair()
        pair.up()
        #expect(pair.a.state.connection == .connected, "\(pair.a.logs)")
        #expect(pair.b.state.connection == .connected)
        #expect(pair.a.state.disk == .inconsistent && pair.b.state.disk == .inconsistent)
    }

    @Test func item23ForcedPromotionSynchronisesEverything() {
        let pair = TestPair()
        pair.up(NetOptions(), Self.fast())
        pair.a.data[77] = 4711
        let promotion = pair.a.command(.primary(VolumeNumber(0), force: true))
        pair.exchange()
        #expect(pair.a.answers[promotion]?.code == 0)
        #expect(pair.a.state.role == .primary)
        let done = pair.synchronise()
        #expect(done, "\(pair.a.state.summary) \(pair.b.state.summary)\n\(pair.a.logs.joined(separator: "\n"))\n--\n\(pair.b.logs.joined(separator: "\n"))")
        let same = pair.a.data == pair.b.data
        #expect(same)
        #expect(pair.a.status.identifiers.bitmap == 0)
        #expect(pair.a.status.identifiers.current & ~1 == pair.b.status.identifiers.current & ~1)
        #expect(pair.a.status.identifiers.history0 == pair.b.status.identifiers.history0)
    }

    @Test func writesReachBothDisksAndSurviveFailover() {
        let pair = TestPair()
        pair.up(NetOptions(), Self.fast())
        _ = pair.a.command(.primary(VolumeNumber(0), force: true))
        pair.exchange()
        #expect(pair.synchronise())
        let write = pair.a.write(800, 5)
        pair.exchange()
        #expect(pair.a.replies[write] != nil && pair.a.replies[write]?.error == nil, "\(pair.a.logs)")
        #expect(pair.b.data[800] == 5)
        // The primary dies; the other takes over.
        pair.lose(pair.a)
        let promotion = pair.b.command(.primary(VolumeNumber(0), force: false))
        #expect(pair.b.answers[promotion]?.code == 0, "\(pair.b.logs)")
        let more = pair.b.write(1600, 6)
        #expect(pair.b.replies[more] != nil)
        #expect(pair.b.status.outOfSyncBits == 1)
        pair.a.restart(seed: 50)
        #expect(pair.a.attach(Self.fast()) == 0)
        #expect(pair.a.connect() == 0)
        pair.pass(.seconds(2))
        pair.link()
        let done = pair.synchronise()
        #expect(done, "\(pair.a.state.summary) \(pair.b.state.summary)\n\(pair.a.logs.joined(separator: "\n"))\n--\n\(pair.b.logs.joined(separator: "\n"))")
        let same = pair.a.data == pair.b.data
        #expect(same)
        #expect(pair.a.data[1600] == 6)
    }
}
