/// Everything that decides what follows from a comparison of generations (`wire.md` 5.5).
package struct SyncDecisionInput: Equatable, Sendable {
    package var comparison: ComparisonResult
    /// Our disk; the state it would get if it is Negotiating.
    package var ownDisk: DiskState
    /// Our disk as it is now (Negotiating stays Negotiating).
    package var ownCurrentDisk: DiskState
    /// The peer's disk after the translation of Negotiating (`wire.md` 6.3, step 1).
    package var peerDisk: DiskState
    package var ownRole: Role
    package var peerRole: Role
    package var policies: SplitBrainPolicies
    package var own: GenerationIdentifiers
    package var peer: GenerationIdentifiers
    /// Bits that we told the peer in our P_UUIDS.
    package var ownBits: UInt64
    /// Bits that the peer told us.
    package var peerBits: UInt64
    package var ownDiscardsData: Bool
    package var peerDiscardsData: Bool
    /// `--tentative`, asked for here or there.
    package var ownDryRun: Bool
    package var peerDryRun: Bool
    package var isResolver: Bool

    package init(
        comparison: ComparisonResult, ownDisk: DiskState, ownCurrentDisk: DiskState, peerDisk: DiskState,
        ownRole: Role, peerRole: Role, policies: SplitBrainPolicies, own: GenerationIdentifiers,
        peer: GenerationIdentifiers, ownBits: UInt64, peerBits: UInt64, ownDiscardsData: Bool = false,
        peerDiscardsData: Bool = false, ownDryRun: Bool = false, peerDryRun: Bool = false, isResolver: Bool = false
    ) {
        self.comparison = comparison
        self.ownDisk = ownDisk
        self.ownCurrentDisk = ownCurrentDisk
        self.peerDisk = peerDisk
        self.ownRole = ownRole
        self.peerRole = peerRole
        self.policies = policies
        self.own = own
        self.peer = peer
        self.ownBits = ownBits
        self.peerBits = peerBits
        self.ownDiscardsData = ownDiscardsData
        self.peerDiscardsData = peerDiscardsData
        self.ownDryRun = ownDryRun
        self.peerDryRun = peerDryRun
        self.isResolver = isResolver
    }
}

package enum SyncOutcome: Equatable, Sendable {
    /// Set bits are left alone.
    case connected
    /// WFBitMapS. `full`: set all bits first.
    case becomeSource(full: Bool)
    /// WFBitMapT. `full`: set all bits first.
    case becomeTarget(full: Bool)
    case fail(SyncFailure)
}

package enum SyncFailure: Equatable, Sendable {
    case unrelatedData
    case versionTooOld
    case featureMissing
    case splitBrain
    /// We would be copied from, but our data is not good.
    case inconsistentSource
    /// We would be overwritten while applications use our data.
    case primaryTarget
    case dryRun
}

/// What a failed decision does to the connection (`wire.md` 5.5, end).
package enum SyncFailureAction: Equatable, Sendable {
    /// We are attaching: our disk becomes Failed, then Diskless; stay Connected.
    case failOwnDisk
    /// The peer is attaching: treat it as Diskless; stay Connected.
    case treatPeerAsDiskless
    /// The peer asked for a dry run: protocol error, the connection comes back without it.
    case reconnect
    /// Disconnecting, then StandAlone.
    case disconnect

    package init(ownDisk: DiskState, peerDiskAsSent: DiskState, peerDryRun: Bool) {
        if ownDisk == .negotiating {
            self = .failOwnDisk
        } else if peerDiskAsSent == .negotiating {
            self = .treatPeerAsDiskless
        } else {
            self = peerDryRun ? .reconnect : .disconnect
        }
    }
}

/// The decision and what has to happen on the way, in order.
package struct SyncDecision: Equatable, Sendable {
    package enum Step: Equatable, Sendable {
        case log(LogLevel, String)
        /// Its exit status changes nothing.
        case run(HandlerName)
    }

    package var outcome: SyncOutcome
    package var steps: [Step]

    package var handlers: [HandlerName] {
        var names: [HandlerName] = []
        for step in steps {
            if case .run(let name) = step { names.append(name) }
        }
        return names
    }
}

/// From the comparison of generations to what the connection does (`wire.md` 5.5).
package func decideSync(_ input: SyncDecisionInput) -> SyncDecision {
    var decider = SyncDecider(input: input)
    let outcome = decider.decide()
    return SyncDecision(outcome: outcome, steps: decider.steps)
}

private struct SyncDecider {
    let input: SyncDecisionInput
    var steps: [SyncDecision.Step] = []

    init(input: SyncDecisionInput) { self.input = input }

    /// Which way the data goes.
    private enum Direction { case source, target }

    mutating func decide() -> SyncOutcome {
        var verdict = input.comparison.verdict
        switch verdict {
        case .unrelated:
            log(.error, "Unrelated data, aborting!")
            return .fail(.unrelatedData)
        case .needsVersion91:
            log(.error, "To resolve this both sides have to support at least protocol 91")
            return .fail(.versionTooOld)
        case .needsWriteSameFeature:
            log(.error, "To resolve this both sides have to support the WRITE_SAME feature")
            return .fail(.featureMissing)
        case .none, .source, .target, .splitBrain: break
        }
        verdict = byDiskStates(verdict)
        if case .splitBrain(let ambiguous) = verdict {
            guard let solved = solveSplitBrain(ambiguous: ambiguous) else {
                log(.error, "Split-Brain detected but unresolved, dropping connection!")
                steps.append(.run(.splitBrain))
                return .fail(.splitBrain)
            }
            verdict = solved
        }
        switch verdict {
        case .source where input.ownDisk <= .inconsistent:
            log(.error, "I shall become SyncSource, but I am inconsistent!")
            return .fail(.inconsistentSource)
        case .target where input.ownRole == .primary && input.ownCurrentDisk >= .consistent:
            if !overwritesPrimary() { return .fail(.primaryTarget) }
        default: break
        }
        if input.ownDryRun || input.peerDryRun {
            log(.info, Self.dryRunLine(verdict))
            return .fail(.dryRun)
        }
        switch verdict {
        case .source(let full): return .becomeSource(full: full)
        case .target(let full): return .becomeTarget(full: full)
        default:
            if input.ownBits != 0 { log(.info, "No resync, but \(input.ownBits) bits in bitmap!") }
            return .connected
        }
    }

    /// One Inconsistent disk is always the target.
    private mutating func byDiskStates(_ verdict: Verdict) -> Verdict {
        let ownIsBetter = input.ownDisk > .inconsistent && input.peerDisk == .inconsistent
        let peerIsBetter = input.ownDisk == .inconsistent && input.peerDisk > .inconsistent
        guard ownIsBetter || peerIsBetter else { return verdict }
        let full =
            switch verdict {
            case .source(let full), .target(let full): full
            case .splitBrain(let ambiguous): ambiguous
            default: false
            }
        log(.info, "Becoming sync \(ownIsBetter ? "source" : "target") due to disk states.")
        return ownIsBetter ? .source(full: full) : .target(full: full)
    }

    /// Policies first, then discard-my-data; nil if both stay silent.
    private mutating func solveSplitBrain(ambiguous: Bool) -> Verdict? {
        steps.append(.run(.initialSplitBrain))
        if !ambiguous || input.policies.always, let direction = recoverByPolicy() {
            let primaries = (input.ownRole == .primary ? 1 : 0) + (input.peerRole == .primary ? 1 : 0)
            log(
                .warning,
                "Split-Brain detected, \(primaries) primaries, automatically solved. Sync from \(Self.side(direction)) node"
            )
            if ambiguous { log(.warning, "Doing a full sync, since UUIDs where ambiguous.") }
            return direction == .source ? .source(full: ambiguous) : .target(full: ambiguous)
        }
        guard input.ownDiscardsData != input.peerDiscardsData else { return nil }
        let direction: Direction = input.ownDiscardsData ? .target : .source
        log(.warning, "Split-Brain detected, manually solved. Sync from \(Self.side(direction)) node")
        return direction == .source ? .source(full: false) : .target(full: false)
    }

    private mutating func recoverByPolicy() -> Direction? {
        let recovery = input.policies.recover(
            SplitBrainFacts(
                ownWasPrimary: input.own.bitmap & 1 != 0, peerWasPrimary: input.peer.bitmap & 1 != 0,
                ownBits: input.ownBits, peerBits: input.peerBits, isResolver: input.isResolver,
                ownRole: input.ownRole, peerRole: input.peerRole))
        if recovery.misconfigured { log(.error, "Configuration error.") }
        if recovery.fellBack {
            log(.warning, "Discard younger/older primary did not find a decision, using discard-least-changes instead")
        }
        if recovery.primaryLoses { steps.append(.run(.priLostAfterSB)) }
        switch recovery.choice {
        case .keepOurs: return .source
        case .keepTheirs: return .target
        case .undecided: return nil
        }
    }

    /// rr-conflict: the resync would change data under a running application.
    private mutating func overwritesPrimary() -> Bool {
        if input.policies.rrConflict == .violently {
            log(.warning, "Becoming SyncTarget, violating the stable-data assumption")
            return true
        }
        if input.policies.rrConflict == .callPriLost { steps.append(.run(.priLost)) }
        log(.error, "I shall become SyncTarget, but I am primary!")
        return false
    }

    private mutating func log(_ level: LogLevel, _ text: String) { steps.append(.log(level, text)) }

    private static func side(_ direction: Direction) -> String { direction == .source ? "this" : "peer" }

    private static func dryRunLine(_ verdict: Verdict) -> String {
        switch verdict {
        case .source(let full): "dry-run connect: Would become SyncSource, doing a \(full ? "full" : "bit-map based") resync."
        case .target(let full): "dry-run connect: Would become SyncTarget, doing a \(full ? "full" : "bit-map based") resync."
        default: "dry-run connect: No resync, would become Connected immediately."
        }
    }
}
