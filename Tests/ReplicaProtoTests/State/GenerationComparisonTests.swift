import ReplicaProto
import Testing

@Suite struct GenerationComparisonTests {
    private static let a: UInt64 = 0x1000_0000_0000_00A0
    private static let b: UInt64 = 0x2000_0000_0000_00B0
    private static let c: UInt64 = 0x3000_0000_0000_00C0
    private static let d: UInt64 = 0x4000_0000_0000_00D0
    private static let e: UInt64 = 0x5000_0000_0000_00E0
    private static let offset = GenerationIdentifiers.syncOffset

    struct Row: Sendable, CustomTestStringConvertible {
        var own: [UInt64]
        var peer: [UInt64]
        var number: Int
        var rule: Int
        var correction: Correction?
        var testDescription: String { "rule \(rule): \(number)" }
    }

    private static func set(_ values: [UInt64]) -> GenerationIdentifiers {
        GenerationIdentifiers(current: values[0], bitmap: values[1], history0: values[2], history1: values[3])
    }

    /// Every row of `wire.md` 5.3 that needs no crash flag.
    static let rows: [Row] = [
        Row(own: [4, 0, 0, 0], peer: [4, 0, 0, 0], number: 0, rule: 10),
        Row(own: [5, 0, 0, 0], peer: [4, 0, 0, 0], number: 0, rule: 10),
        Row(own: [4, 0, 0, 0], peer: [a, 0, 0, 0], number: -2, rule: 20),
        Row(own: [0, 0, 0, 0], peer: [a, 0, 0, 0], number: -2, rule: 20),
        Row(own: [0, 0, 0, 0], peer: [0, 0, 0, 0], number: -2, rule: 20),
        Row(own: [a, 0, 0, 0], peer: [4, 0, 0, 0], number: 2, rule: 30),
        Row(own: [a, 0, 0, 0], peer: [0, 0, 0, 0], number: 2, rule: 30),
        Row(own: [0, 0, 0, 0], peer: [4, 0, 0, 0], number: 2, rule: 30),
        Row(
            own: [a, b, c, d], peer: [a | 1, 0, b, c], number: 1, rule: 34,
            correction: .own(set([a, 0, b, c]))),
        Row(own: [a, b, c, d], peer: [a, 0, b, d], number: 1, rule: 36),
        Row(own: [a, b, c, d], peer: [a, 0, d, c], number: 1, rule: 36),
        Row(
            own: [a, 0, b, c], peer: [a | 1, b | 1, c, d], number: -1, rule: 35,
            correction: .peer(set([a | 1, 0, b | 1, c]))),
        Row(own: [a, 0, b, d], peer: [a, b, c, d], number: -1, rule: 37),
        Row(own: [a, 0, c, d], peer: [a | 1, 0, d, e], number: 0, rule: 40),
        Row(own: [a, b, c, d], peer: [a, b, c, d], number: 0, rule: 40),
        Row(own: [a, 0, 0, 0], peer: [b, a | 1, 0, 0], number: -1, rule: 50),
        Row(
            own: [a, 0, 0, 0], peer: [b, a &+ offset, a, c], number: -1, rule: 51,
            correction: .peer(set([b, a, c, c]))),
        Row(own: [a, 0, 0, 0], peer: [b, c, a, d], number: -2, rule: 60),
        Row(own: [a, 0, 0, 0], peer: [b, c, d, a], number: -2, rule: 60),
        Row(own: [b, a | 1, 0, 0], peer: [a, 0, 0, 0], number: 1, rule: 70),
        Row(
            own: [b, a &+ offset, a, c], peer: [a | 1, 0, 0, 0], number: 1, rule: 71,
            correction: .own(set([b, a, c, c]))),
        Row(own: [b, c, a, d], peer: [a, 0, 0, 0], number: 2, rule: 80),
        Row(own: [b, c, d, a], peer: [a, 0, 0, 0], number: 2, rule: 80),
        Row(own: [a, c, 0, 0], peer: [b, c | 1, d, e], number: 100, rule: 90),
        Row(own: [a, 0, c, 0], peer: [b, 0, c | 1, d], number: -100, rule: 100),
        Row(own: [a, 0, c, d], peer: [b, 0, d, e], number: -100, rule: 100),
        Row(own: [a, 0, 0, 0], peer: [b, 0, 0, 0], number: -100, rule: 100),
        Row(own: [a, 0, c, c], peer: [b, 0, d, e], number: -1000, rule: 100),
    ]

    @Test(arguments: rows) func everyRuleDecidesAsItsRowSays(row: Row) {
        let result = compareGenerations(ComparisonInput(own: Self.set(row.own), peer: Self.set(row.peer)))
        #expect(result.verdict.number == row.number)
        #expect(result.rule == row.rule)
        #expect(result.correction == row.correction)
    }

    /// Corrections come only with protocol 91; the lost-sync-uuid test is another one below 96.
    @Test(arguments: [UInt32(86), 90, 91, 95, 96, 101]) func oldVersions(version: UInt32) {
        let missedEnd = ComparisonInput(
            own: Self.set([Self.a, Self.b, Self.c, Self.d]), peer: Self.set([Self.a, 0, Self.b, Self.c]), version: version)
        #expect(compareGenerations(missedEnd).verdict == (version < 91 ? .needsVersion91 : .source(full: false)))
        let lostNew = ComparisonInput(
            own: Self.set([Self.b, Self.a &+ Self.offset, Self.a, Self.c]), peer: Self.set([Self.a, 0, Self.d, Self.e]),
            version: version)
        #expect(compareGenerations(lostNew).rule == (version < 96 ? 80 : 71))
        let lostOld = ComparisonInput(
            own: Self.set([Self.b, Self.e, Self.a, Self.c]), peer: Self.set([Self.a, 0, Self.c, Self.d]),
            version: version)
        let old = compareGenerations(lostOld)
        #expect(old.rule == (version < 96 ? 71 : 80))
        if version < 91 { #expect(old.verdict == .needsVersion91) }
    }

    /// Rules 40 and 41, all combinations of crash flags, roles, tie breaker and feature (conformance items 29 and 40).
    @Test func crashFlagsWalk() {
        let roles: [Role] = [.primary, .secondary]
        for flags in 0..<4 {
            for ownRole in roles {
                for peerRole in roles {
                    for resolver in [true, false] {
                        for features: FeatureFlags in [.all, [.trim]] {
                            let set = GenerationIdentifiers(current: Self.a)
                            let result = compareGenerations(
                                ComparisonInput(
                                    own: set, peer: set, ownCrashedPrimary: flags & 1 != 0,
                                    peerCrashedPrimary: flags & 2 != 0, ownRole: ownRole, peerRole: peerRole,
                                    features: features, isResolver: resolver))
                            let expected: (Int, Int) =
                                switch (flags, ownRole, peerRole) {
                                case (0, _, _): (0, 40)
                                case (_, .primary, _), (_, _, .primary):
                                    !features.contains(.writeSame)
                                        ? (Verdict.needsWriteSameFeature.number, 41)
                                        : ownRole == peerRole ? (-100, 41) : ownRole == .primary ? (1, 41) : (-1, 41)
                                case (1, _, _): (1, 40)
                                case (2, _, _): (-1, 40)
                                default: resolver ? (-1, 40) : (1, 40)
                                }
                            #expect(result.verdict.number == expected.0)
                            #expect(result.rule == expected.1)
                        }
                    }
                }
            }
        }
    }

    /// What one node computes, the other computes mirrored, for all sets that the events of 5.2 produce, whatever the
    /// moment the connection breaks. Both then agree on the same identifiers, too (conformance items 20 to 28).
    @Test func bothNodesAgreeAfterAnyHistory() {
        var seen: [Int: Int] = [:]
        for seed in UInt64(0)..<40_000 {
            var history = PairHistory(seed: seed)
            for _ in 0..<(2 + Int(seed % 9)) { history.step() }
            let forward = compareGenerations(history.input(of: 0))
            let backward = compareGenerations(history.input(of: 1))
            let mirrored =
                switch forward.verdict {
                case .source(let full): Verdict.target(full: full)
                case .target(let full): Verdict.source(full: full)
                default: forward.verdict
                }
            #expect(backward.verdict == mirrored, "seed \(seed): \(history.text)")
            if forward.verdict == .none {
                #expect(history.dataIsEqual, "seed \(seed): no resync for different data: \(history.text)")
            }
            if case .splitBrain = forward.verdict {
                #expect(history.bothWroteAlone, "seed \(seed): split brain without two writers: \(history.text)")
            }
            seen[forward.rule, default: 0] += 1
            switch (forward.correction, backward.correction) {
            case (.own(let own), .peer(let peer)): #expect(own == peer.with(bit0Of: own), "seed \(seed)")
            case (.peer(let peer), .own(let own)): #expect(own == peer.with(bit0Of: own), "seed \(seed)")
            case (nil, nil): break
            default: Issue.record("seed \(seed): only one node corrects")
            }
        }
        for rule in [34, 35, 36, 37, 40, 50, 51, 70, 71, 90] {
            #expect(seen[rule, default: 0] > 0, "rule \(rule) was never reached")
        }
    }
}

extension GenerationIdentifiers {
    fileprivate func with(bit0Of other: GenerationIdentifiers) -> GenerationIdentifiers {
        GenerationIdentifiers(
            current: current & ~1 | other.current & 1, bitmap: bitmap & ~1 | other.bitmap & 1,
            history0: history0 & ~1 | other.history0 & 1, history1: history1 & ~1 | other.history1 & 1)
    }
}

/// Two nodes that live through promotions, writes, lost connections and interrupted resyncs, reduced to identifiers
/// and "versions" of data: a slow, obvious model of `wire.md` 5.2.
private struct PairHistory {
    struct Node {
        var set = GenerationIdentifiers(current: 0x1111_0000_0000_0000)
        var isPrimary = false
        /// Stands for the data: every write gives a new number.
        var data: UInt64 = 1
        /// Since the data of both were last the same.
        var wroteAlone = false
        var isInconsistent = false
    }
    var nodes = [Node(), Node()]
    var isConnected = true
    var random: SplitMix
    var text = ""

    init(seed: UInt64) { random = SplitMix(seed: seed) }

    var dataIsEqual: Bool { nodes[0].data == nodes[1].data }
    var bothWroteAlone: Bool { nodes[0].wroteAlone && nodes[1].wroteAlone }

    func input(of index: Int) -> ComparisonInput {
        let own = nodes[index]
        let peer = nodes[1 - index]
        return ComparisonInput(
            own: own.set, peer: peer.set, ownRole: own.isPrimary ? .primary : .secondary,
            peerRole: peer.isPrimary ? .primary : .secondary)
    }

    mutating func step() {
        switch random.below(5) {
        case 0: promoteOrDemote(random.below(2))
        case 1: disconnect()
        case 2: write(random.below(2))
        default: reconnect()
        }
    }

    private mutating func fresh(_ primary: Bool) -> UInt64 { random.next() & ~1 | (primary ? 1 : 0) }

    /// U2, U3, U5.
    private mutating func promoteOrDemote(_ index: Int) {
        if !nodes[index].isPrimary && nodes[index].isInconsistent { return }
        nodes[index].isPrimary.toggle()
        text += nodes[index].isPrimary ? "P\(index) " : "S\(index) "
        if isConnected && nodes[0].isPrimary && nodes[1].isPrimary {
            nodes[index].isPrimary = false
            return
        }
        if nodes[index].isPrimary && !isConnected && nodes[index].set.bitmap == 0 { newCurrent(index) }
        nodes[index].set.current = nodes[index].set.current & ~1 | (nodes[index].isPrimary ? 1 : 0)
    }

    private mutating func newCurrent(_ index: Int) {
        nodes[index].set.bitmap = nodes[index].set.current
        nodes[index].set.current = fresh(nodes[index].isPrimary)
        writeAlone(index)
    }

    private mutating func writeAlone(_ index: Int) {
        nodes[index].data = random.next()
        nodes[index].wroteAlone = true
    }

    /// U6 on whoever is Primary.
    private mutating func disconnect() {
        guard isConnected else { return }
        text += "down "
        isConnected = false
        for index in 0...1 where nodes[index].isPrimary && nodes[index].set.bitmap == 0 {
            newCurrent(index)
        }
    }

    private mutating func write(_ index: Int) {
        guard nodes[index].isPrimary else { return }
        text += "w\(index) "
        let value = random.next()
        if isConnected {
            nodes[0].data = value
            nodes[1].data = value
        } else {
            writeAlone(index)
        }
    }

    /// Handshake and resync, which may stop before the sync UUID, after it, or before the source knows of the end.
    private mutating func reconnect() {
        guard !isConnected else { return }
        let result = compareGenerations(input(of: 0))
        let mirror = compareGenerations(input(of: 1))
        if case .own(let set) = result.correction { nodes[0].set = set }
        if case .own(let set) = mirror.correction { nodes[1].set = set }
        let source: Int
        switch result.verdict {
        case .none:
            text += "up "
            isConnected = true
            nodes[0].wroteAlone = false
            nodes[1].wroteAlone = false
            return
        case .source: source = 0
        case .target: source = 1
        default: return
        }
        let target = 1 - source
        if nodes[target].isPrimary { return }
        let stage = random.below(4)
        text += "sync\(source)@\(stage) "
        // U8: the source announces a new bitmap identifier.
        var known = nodes[source].set
        let old = known.bitmap
        let announced = old == 0 || old == 4 ? fresh(false) : old &+ GenerationIdentifiers.syncOffset
        if old != 0 {
            known.history1 = known.history0
            known.history0 = old
        }
        let beforeStart = nodes[source].set
        known.bitmap = announced
        nodes[source].set = known
        if stage == 0 { return }
        // U9
        nodes[target].set.current = announced
        nodes[target].set.bitmap = 0
        nodes[target].data = random.next()
        nodes[target].isInconsistent = true
        if stage == 1 { return }
        // U10, from the source's set as the target last received it: before the resync started.
        var end = beforeStart
        if end.bitmap != 0 {
            end.history1 = end.history0
            end.history0 = end.bitmap
        }
        end.bitmap = announced
        end.current = beforeStart.current & ~1
        nodes[target].set = end.withRetiredBitmap
        nodes[target].data = nodes[source].data
        nodes[target].isInconsistent = false
        nodes[target].wroteAlone = false
        nodes[source].wroteAlone = false
        if stage == 2 { return }
        // U11
        nodes[source].set = nodes[source].set.withRetiredBitmap
        isConnected = true
    }
}
