import Foundation
import ReplicaProto
import ReplicaSim
import Testing

/// Whole nodes under all sorts of faults. A failing seed is replayed with `replsim run SEED --trace`, or here with
/// `REPLICA_SEED=SEED swift test`.
@Suite struct SimulationTests {
    /// Every run: the same seeds; more of them with `REPLICA_SEEDS=COUNT`.
    private static var seeds: Range<UInt64> {
        let environment = ProcessInfo.processInfo.environment
        if let text = environment["REPLICA_SEED"], let seed = UInt64(text) { return seed..<seed + 1 }
        let count = environment["REPLICA_SEEDS"].flatMap { UInt64($0) } ?? 60
        return 0..<count
    }

    /// Among them item 29 of `metadata.md` 10: a node dies between any two writes, and what its log and bitmap then cover is
    /// all that differs, or its copy would not become equal to the other.
    @Test func everyRuleHolds() {
        for seed in Self.seeds {
            let scenario = Scenario(seed: seed)
            let violation = Cluster(scenario: scenario).run()
            #expect(violation == nil, "seed \(seed): \(scenario.summary)")
        }
    }

    @Test("two primaries do meet, and do pull ahead; peers are of every older version; blocks are compared, and some differ")
    func featuresOccur() {
        var conflicts = 0
        var aheads = 0
        var pieces = 0
        var versions: Set<UInt32> = []
        var (runs, compared, different, spared, zeroed) = (0, 0, 0, 0, 0)
        for seed in UInt64(0)..<200 {
            let cluster = Cluster(scenario: Scenario(seed: seed))
            _ = cluster.run()
            conflicts += cluster.conflicts
            aheads += cluster.aheads
            pieces += cluster.pieces
            versions.formUnion(cluster.olderVersions)
            runs += cluster.verifyRuns
            compared += cluster.verifiedBlocks
            different += cluster.foundDifferences
            spared += cluster.sparedRequests
            zeroed += cluster.zeroedRequests
        }
        #expect(conflicts > 10 && aheads > 3, "\(conflicts) conflicts, \(aheads) times ahead")
        #expect(versions == Set(86...100) && pieces > 100, "\(versions.sorted()), \(pieces) pieces")
        #expect(runs > 10 && compared > 10_000 && different > 5, "\(runs) verifies, \(compared) blocks, \(different) differ")
        #expect(spared > 100 && zeroed > 100, "\(spared) requests were equal, \(zeroed) zeroes")
    }

    @Test("every event of many lives is read back from its line in a recording")
    func recordedEvents() {
        // The first handshake of a life has no agreement yet; an older peer has no features.
        let formats = [WireFormat(version: 101, features: .all), WireFormat(version: 101, features: []), .initial]
        for seed in UInt64(1000)..<1020 {
            let cluster = Cluster(scenario: Scenario(seed: seed))
            var kinds: Set<Substring> = []
            cluster.observer = { event in
                // Commands have their own tests, and the simulator gives some that no administrator could.
                if case .commandReceived = event { return }
                let isRead = formats.contains { format in
                    let line = event.recorded(format: format, resource: "r0")
                    if let kind = line.split(separator: " ").first { kinds.insert(kind) }
                    return Event(recorded: line[...], format: format, resource: "r0") == event
                }
                if !isRead { Issue.record("\(event)") }
            }
            _ = cluster.run()
            #expect(kinds.count > 15)
        }
    }

    /// Seeds that once failed, with the reason.
    @Test(arguments: [
        // A demoted node's disk cache.
        UInt64(35), 59, 127, 181, 277,
        // A forced disconnect between two attempts; a diskless Primary that attaches; an aborted resync's requests.
        9, 43, 46,
        // The source's disk fails before the first block of a resync.
        67,
        // A killed Primary's disk cache, after its log was emptied.
        202, 206,
        // Protocol A and B with no good disk here.
        80, 124, 551, 776,
        // P_UUIDS that arrives while the own disk is on its way out; acks that overtake it.
        423, 860,
        // Generations that only one node knows of.
        61, 142, 655, 854,
        // A diskless peer that is promoted (U7), and what its writes need here: a generation, PRIMARY_IND, a bitmap.
        3144, 13125, 14166,
        // The last good disk passes an error on; a Primary's disk does while its peer is dead.
        3566, 4664,
        // A peer that goes and comes back while I/O is frozen: the generation that was put off.
        3795, 13580,
        // Protocols A and B: answers that overtake their own news, a detach, disks that fail one after the other.
        3496, 5727, 14983, 17777,
        // A promotion that is still being asked for when the connection ends; one without data of its own.
        2129, 2823, 3108, 4236, 5325, 11682,
        // Its new generation was never written.
        2473, 2556,
        // The end of a resync: a demotion, a detach, bits and failures that only one side knows of.
        5928, 5969, 10112, 11932, 12923,
        // Two attaches at once.
        5974, 9202,
        // A read that showed an unanswered write.
        7124,
        // Two generations and nothing to lose; caches lost on both sides.
        6615, 19206, 10236, 11243,
        // A disk that leaves without a flush; a source whose cache nobody's log covers.
        22724, 43080, 66674, 88002,
        // The peer is back before I/O thaws, and answered writes are only in our bitmap.
        54041,
        // What is under way when a stream goes silent; marks that only the source knows of.
        23305, 24585, 24600,
        // A Primary that never missed its peer; a disk that goes while writes are under way to the peer; a leave-taking.
        20100, 57571, 47139,
        // A detach that is being asked for when the peer is lost.
        772, 14177,
        // Bits on disk before their blocks; an answer from a cache that is gone; a promotion that was put off.
        36925, 86601, 7517, 49267,
        // A disk that comes to a diskless Primary; a Primary that was the target of a resync.
        44739, 45825, 55412,
        // News of a resync that is over: acknowledgements, its identifier and its handler; a target that nobody saw end.
        83623, 85651, 99164, 30401,
        // The peer is lost in the middle of an attach; refused before the news that its disk has failed.
        29188, 11987,
        // Ahead and lost, frozen or with a failing disk; a target that pulls ahead before it has said that it is one no more;
        // a resync block that a failed target never acknowledged.
        1430, 9515, 18588, 15330, 5557,
        // Two primaries: a verdict whose giver dies, writes that arrive after their node's death.
        879, 2732, 7949,
        // Two generations and only unanswered writes between them; A's writes under way when the Primary dies, too.
        25050, 52249, 75489, 99422,
        // Frozen, or refused, and then demoted.
        2622, 2677, 2764, 3820, 19391,
    ]) func oldFailuresStayAway(seed: UInt64) {
        #expect(Cluster(scenario: Scenario(seed: seed, grows: false, compares: false, older: false, hangs: false)).run() == nil)
    }

    @Test(
        "what older versions and changes of size lead to",
        arguments: [
            // Nothing can be agreed on below version 91, or without a feature: the older one is upgraded.
            551, 947, 1013, 1165,
            // The network stalls before the features are known.
            4523,
            // A source that ends by itself: before the target's cache is flushed, before the target.
            9643, 25935, 25078,
            // Two resizes within a moment of each other; one of them with --assume-clean.
            7371, 15699, 48203, 49187, 61123, 75683, 77931, 97275, 97683,
            // The target's disk leaves before the resync of the new area begins.
            48795, 74467,
            // Who asked for the new size is demoted before the answer comes.
            92139,
            // A write that waited for the peer, and our cache had lost it.
            75083,
            // Behind, and blocks that were asked for before; blocks that the source could not read.
            79430, 41410,
            // A source that has ended by itself wants to detach.
            49175,
        ] as [UInt64]) func olderVersions(seed: UInt64)
    {
        #expect(Cluster(scenario: Scenario(seed: seed, compares: false, hangs: false)).run() == nil)
    }

    @Test(
        "everything at once but hanging disks",
        arguments: [
            // A second disk that got everything, which its source has not seen.
            65645,
            // Differences that only one bitmap has kept.
            30301, 46661,
            // Behind, and blocks that were asked for before.
            43837,
            // A flush that waits for the epoch of a write that was overruled.
            89708,
            // The flush of an attach fails.
            94764,
            // A power cut tears a block of the log that a former Primary's attach initialises.
            79763,
            // A handler that ends after the disk that it was called for has left and come back; demoted before the answer.
            83435, 91115,
        ] as [UInt64]) func everythingAtOnce(seed: UInt64)
    {
        #expect(Cluster(scenario: Scenario(seed: seed, hangs: false)).run() == nil)
    }

    @Test(
        "disks that hang",
        arguments: [
            // A generation that was never durable, or never told; a target that had ended.
            3016, 9855, 14009, 34680, 90469,
            // Its write ended after the process that had given it up.
            8879, 30578,
            // The other's cache, and then this disk; a disk that lacked what the other had.
            11401, 93729,
        ] as [UInt64]) func hangingDisks(seed: UInt64)
    {
        #expect(Cluster(scenario: Scenario(seed: seed)).run() == nil)
    }

    /// The same where digests are in use.
    @Test(arguments: [
        // An end that moves to before the block that waits for a write.
        UInt64(3629),
        // A verify of an Inconsistent disk; one that is asked for while the source still waits for the end of a resync.
        9693, 3397,
    ]) func oldDifferencesStayAway(seed: UInt64) {
        #expect(Cluster(scenario: Scenario(seed: seed, grows: false, compares: true, older: false, hangs: false)).run() == nil)
    }

    @Test func aSeedIsAlwaysTheSameRun() {
        for seed in UInt64(1)...5 {
            let first = Cluster(scenario: Scenario(seed: seed), traces: true)
            let second = Cluster(scenario: Scenario(seed: seed), traces: true)
            _ = first.run()
            _ = second.run()
            #expect(first.trace == second.trace)
            #expect(first.trace.count > 100)
        }
    }
}

/// The simulator notices what it is there to notice: each of these bugs, put into the core on purpose, is caught.
@Suite struct MutationTests {
    private static func firstFailure(_ mutation: CoreMutation, within count: UInt64) -> (seed: UInt64, violation: String)? {
        for seed in 0..<count {
            let cluster = Cluster(scenario: Scenario(seed: seed), mutation: mutation)
            if let violation = cluster.run() { return (seed, violation) }
        }
        return nil
    }

    @Test(arguments: CoreMutation.allCases) func isCaught(mutation: CoreMutation) {
        let failure = Self.firstFailure(mutation, within: 1000)
        #expect(failure != nil, "\(mutation) was not noticed in 1000 seeds")
    }
}
