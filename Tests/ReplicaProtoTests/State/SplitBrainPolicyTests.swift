import ReplicaProto
import Testing

/// `wire.md` 5.5 and 5.6 where no recording reaches.
@Suite struct SplitBrainPolicyTests {
    /// Two nodes after a split brain; `lowBits` are bit 0 of both bitmap identifiers.
    private static func input(
        verdict: Verdict = .splitBrain(ambiguous: false), roles: (Role, Role) = (.secondary, .secondary),
        options: NetOptions, lowBits: (Bool, Bool) = (false, false), bits: (UInt64, UInt64) = (10, 20),
        resolver: Bool = false
    ) -> SyncDecisionInput {
        let ancestor: UInt64 = 0x7700_0000_0000_0000
        return SyncDecisionInput(
            comparison: ComparisonResult(verdict: verdict, rule: 90), ownDisk: .upToDate, ownCurrentDisk: .upToDate,
            peerDisk: .upToDate, ownRole: roles.0, peerRole: roles.1, policies: SplitBrainPolicies(options),
            own: GenerationIdentifiers(current: 0x100, bitmap: ancestor | (lowBits.0 ? 1 : 0)),
            peer: GenerationIdentifiers(current: 0x200, bitmap: ancestor | (lowBits.1 ? 1 : 0)), ownBits: bits.0,
            peerBits: bits.1, isResolver: resolver)
    }

    private static func mirror(_ policy: SplitBrainPolicyValue) -> SplitBrainPolicyValue {
        switch policy {
        case .discardLocal: .discardRemote
        case .discardRemote: .discardLocal
        default: policy
        }
    }

    /// Both nodes reach the opposite end of the same decision, whatever the policies, roles, counts and tie breaker;
    /// and never does a Primary turn target without the administrator having said so.
    @Test func bothNodesAgreeWalk() {
        var solved = 0
        let counts: [(UInt64, UInt64)] = [(0, 0), (0, 5), (5, 0), (5, 5), (3, 5)]
        for zero in SplitBrainPolicyValue.allCases {
            for one in SplitBrainPolicyValue.allCases {
                for two in [SplitBrainPolicyValue.disconnect, .violently, .callPriLost, .consensus] {
                    for (own, peer) in [(Role.primary, Role.primary), (.primary, .secondary), (.secondary, .primary), (.secondary, .secondary)] {
                        for lowBits in [(false, false), (true, false), (false, true), (true, true)] {
                            for bits in counts {
                                for ambiguous in [false, true] {
                                    var options = NetOptions()
                                    options.afterSplitBrain0Primaries = zero
                                    options.afterSplitBrain1Primary = one
                                    options.afterSplitBrain2Primaries = two
                                    options.alwaysAfterSplitBrainPolicies = true
                                    let verdict = Verdict.splitBrain(ambiguous: ambiguous)
                                    let here = decideSync(
                                        Self.input(
                                            verdict: verdict, roles: (own, peer), options: options, lowBits: lowBits,
                                            bits: bits, resolver: true))
                                    options.afterSplitBrain0Primaries = Self.mirror(zero)
                                    let there = decideSync(
                                        Self.input(
                                            verdict: verdict, roles: (peer, own), options: options,
                                            lowBits: (lowBits.1, lowBits.0), bits: (bits.1, bits.0), resolver: false))
                                    switch (here.outcome, there.outcome) {
                                    case (.becomeSource(let full), .becomeTarget(let fullThere)),
                                        (.becomeTarget(let full), .becomeSource(let fullThere)):
                                        #expect(full == ambiguous && fullThere == ambiguous)
                                        solved += 1
                                    case (.fail(.splitBrain), .fail(.splitBrain)): break
                                    case (.fail(.primaryTarget), .becomeSource), (.becomeSource, .fail(.primaryTarget)): break
                                    // The losing Primary calls for help; the other one sees the connection end.
                                    case (.fail(.splitBrain), .becomeSource) where here.handlers.contains(.priLostAfterSB): break
                                    case (.becomeSource, .fail(.splitBrain)) where there.handlers.contains(.priLostAfterSB): break
                                    default: Issue.record("\(zero) \(one) \(two) \(own) \(peer): \(here.outcome) against \(there.outcome)")
                                    }
                                    if case .becomeTarget = here.outcome { #expect(own != .primary) }
                                    #expect(here.handlers.first == .initialSplitBrain)
                                }
                            }
                        }
                    }
                }
            }
        }
        #expect(solved > 1000)
    }

    struct Row: Sendable {
        var zero: SplitBrainPolicyValue = .disconnect
        var one: SplitBrainPolicyValue = .disconnect
        var two: SplitBrainPolicyValue = .disconnect
        var roles: (Role, Role) = (.secondary, .secondary)
        var lowBits = (false, false)
        var bits: (UInt64, UInt64) = (10, 20)
        var resolver = false
        var outcome: SyncOutcome
        var handlers: [HandlerName] = [.initialSplitBrain]
    }

    static let rows: [Row] = [
        Row(outcome: .fail(.splitBrain), handlers: [.initialSplitBrain, .splitBrain]),
        Row(zero: .discardLocal, outcome: .becomeTarget(full: false)),
        Row(zero: .discardRemote, outcome: .becomeSource(full: false)),
        Row(zero: .discardYoungerPrimary, lowBits: (false, true), outcome: .becomeTarget(full: false)),
        Row(zero: .discardYoungerPrimary, lowBits: (true, false), outcome: .becomeSource(full: false)),
        Row(zero: .discardYoungerPrimary, lowBits: (true, true), outcome: .becomeTarget(full: false)),
        Row(zero: .discardYoungerPrimary, bits: (10, 0), outcome: .becomeSource(full: false)),
        Row(zero: .discardOlderPrimary, lowBits: (false, true), outcome: .becomeSource(full: false)),
        Row(zero: .discardOlderPrimary, lowBits: (true, false), outcome: .becomeTarget(full: false)),
        Row(zero: .discardZeroChanges, bits: (0, 20), outcome: .becomeTarget(full: false)),
        Row(zero: .discardZeroChanges, bits: (10, 0), outcome: .becomeSource(full: false)),
        Row(zero: .discardZeroChanges, bits: (0, 0), resolver: true, outcome: .becomeTarget(full: false)),
        Row(zero: .discardZeroChanges, bits: (0, 0), resolver: false, outcome: .becomeSource(full: false)),
        Row(zero: .discardZeroChanges, outcome: .fail(.splitBrain), handlers: [.initialSplitBrain, .splitBrain]),
        Row(zero: .discardLeastChanges, outcome: .becomeTarget(full: false)),
        Row(zero: .discardLeastChanges, bits: (7, 7), resolver: true, outcome: .becomeTarget(full: false)),
        Row(zero: .discardLeastChanges, bits: (7, 7), resolver: false, outcome: .becomeSource(full: false)),
        Row(zero: .consensus, outcome: .fail(.splitBrain), handlers: [.initialSplitBrain, .splitBrain]),
        Row(zero: .discardLeastChanges, one: .consensus, roles: (.secondary, .primary), outcome: .becomeTarget(full: false)),
        Row(
            zero: .discardLeastChanges, one: .consensus, roles: (.primary, .secondary), outcome: .fail(.splitBrain),
            handlers: [.initialSplitBrain, .splitBrain]),
        Row(zero: .discardRemote, one: .violently, roles: (.primary, .secondary), outcome: .becomeSource(full: false)),
        Row(zero: .discardLocal, one: .violently, roles: (.primary, .secondary), outcome: .fail(.primaryTarget)),
        Row(one: .discardSecondary, roles: (.primary, .secondary), outcome: .becomeSource(full: false)),
        Row(one: .discardSecondary, roles: (.secondary, .primary), outcome: .becomeTarget(full: false)),
        Row(zero: .discardRemote, one: .callPriLost, roles: (.primary, .secondary), outcome: .becomeSource(full: false)),
        Row(zero: .discardLocal, one: .callPriLost, roles: (.secondary, .primary), outcome: .becomeTarget(full: false)),
        Row(
            zero: .discardLocal, one: .callPriLost, roles: (.primary, .secondary),
            outcome: .fail(.splitBrain), handlers: [.initialSplitBrain, .priLostAfterSB, .splitBrain]),
        Row(
            zero: .discardLocal, two: .callPriLost, roles: (.primary, .primary),
            outcome: .fail(.splitBrain), handlers: [.initialSplitBrain, .priLostAfterSB, .splitBrain]),
        Row(zero: .discardRemote, two: .callPriLost, roles: (.primary, .primary), outcome: .becomeSource(full: false)),
        Row(zero: .discardLocal, two: .consensus, roles: (.primary, .primary), outcome: .fail(.splitBrain), handlers: [.initialSplitBrain, .splitBrain]),
    ]

    @Test(arguments: rows.indices) func policies(index: Int) {
        let row = Self.rows[index]
        var options = NetOptions()
        options.afterSplitBrain0Primaries = row.zero
        options.afterSplitBrain1Primary = row.one
        options.afterSplitBrain2Primaries = row.two
        let decision = decideSync(
            Self.input(
                roles: row.roles, options: options, lowBits: row.lowBits, bits: row.bits, resolver: row.resolver))
        #expect(decision.outcome == row.outcome)
        #expect(decision.handlers == row.handlers)
    }

    @Test func ambiguousSplitBrainNeedsAlwaysOrAHuman() {
        var options = NetOptions()
        options.afterSplitBrain0Primaries = .discardRemote
        let ambiguous = Verdict.splitBrain(ambiguous: true)
        #expect(decideSync(Self.input(verdict: ambiguous, options: options)).outcome == .fail(.splitBrain))
        options.alwaysAfterSplitBrainPolicies = true
        #expect(decideSync(Self.input(verdict: ambiguous, options: options)).outcome == .becomeSource(full: true))
    }

    /// Conformance item 25.
    @Test func discardMyDataDecides() {
        for ambiguous in [false, true] {
            var input = Self.input(verdict: .splitBrain(ambiguous: ambiguous), options: NetOptions())
            input.ownDiscardsData = true
            #expect(decideSync(input).outcome == .becomeTarget(full: false))
            input.peerDiscardsData = true
            #expect(decideSync(input).outcome == .fail(.splitBrain))
            input.ownDiscardsData = false
            #expect(decideSync(input).outcome == .becomeSource(full: false))
        }
    }

    @Test func aPrimaryIsNotOverwritten() {
        for (policy, outcome, handlers) in [
            (SplitBrainPolicyValue.disconnect, SyncOutcome.fail(.primaryTarget), [HandlerName]()),
            (.callPriLost, .fail(.primaryTarget), [.priLost]), (.violently, .becomeTarget(full: false), []),
        ] {
            var options = NetOptions()
            options.rrConflict = policy
            var input = Self.input(verdict: .target(full: false), roles: (.primary, .secondary), options: options)
            #expect(decideSync(input).outcome == outcome)
            #expect(decideSync(input).handlers == handlers)
            input.ownCurrentDisk = .negotiating
            #expect(decideSync(input).outcome == .becomeTarget(full: false), "an attaching disk is not in use")
        }
    }

    @Test func badDataIsNeverASource() {
        for disk in [DiskState.inconsistent, .failed, .diskless] {
            var input = Self.input(verdict: .source(full: false), options: NetOptions())
            input.ownDisk = disk
            input.peerDisk = disk
            #expect(decideSync(input).outcome == .fail(.inconsistentSource))
        }
    }

    @Test func dryRunOnlyTells() {
        for (own, peer) in [(true, false), (false, true)] {
            for verdict in [Verdict.none, .source(full: true), .target(full: false)] {
                var input = Self.input(verdict: verdict, options: NetOptions())
                input.ownDryRun = own
                input.peerDryRun = peer
                let decision = decideSync(input)
                #expect(decision.outcome == .fail(.dryRun))
                #expect(decision.steps.count == 1)
            }
        }
    }

    @Test func failureActions() {
        #expect(SyncFailureAction(ownDisk: .negotiating, peerDiskAsSent: .negotiating, peerDryRun: true) == .failOwnDisk)
        #expect(SyncFailureAction(ownDisk: .upToDate, peerDiskAsSent: .negotiating, peerDryRun: true) == .treatPeerAsDiskless)
        #expect(SyncFailureAction(ownDisk: .upToDate, peerDiskAsSent: .upToDate, peerDryRun: true) == .reconnect)
        #expect(SyncFailureAction(ownDisk: .upToDate, peerDiskAsSent: .upToDate, peerDryRun: false) == .disconnect)
    }
}
