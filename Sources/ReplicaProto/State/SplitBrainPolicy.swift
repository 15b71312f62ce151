/// What the administrators of both nodes agreed to do about diverged data (after-sb-0pri, -1pri, -2pri).
package struct SplitBrainPolicies: Equatable, Sendable {
    package var zeroPrimaries: SplitBrainPolicyValue
    package var onePrimary: SplitBrainPolicyValue
    package var twoPrimaries: SplitBrainPolicyValue
    package var rrConflict: SplitBrainPolicyValue
    package var always: Bool

    package init(_ options: NetOptions) {
        zeroPrimaries = options.afterSplitBrain0Primaries
        onePrimary = options.afterSplitBrain1Primary
        twoPrimaries = options.afterSplitBrain2Primaries
        rrConflict = options.rrConflict
        always = options.alwaysAfterSplitBrainPolicies
    }
}

/// What the policies look at. All of it is known to both nodes, mirrored, so both come to the same end.
struct SplitBrainFacts {
    /// Bit 0 of the bitmap identifiers: was Primary already when the data diverged.
    var ownWasPrimary: Bool
    var peerWasPrimary: Bool
    /// Set bits as communicated in P_UUIDS.
    var ownBits: UInt64
    var peerBits: UInt64
    var isResolver: Bool
    var ownRole: Role
    var peerRole: Role
}

/// How a policy ended, and what it takes.
struct SplitBrainRecovery: Equatable {
    enum Choice: Equatable { case keepOurs, keepTheirs, undecided }
    var choice: Choice
    /// We are Primary and lose: the handler pri-lost-after-sb is for that.
    var primaryLoses = false
    /// discard-younger/older-primary could not tell the two apart.
    var fellBack = false
    /// A policy that is not meant for this number of primaries.
    var misconfigured = false
}

extension SplitBrainPolicies {
    /// Recovery without a human, by the number of nodes that are Primary now (`wire.md` 5.6).
    func recover(_ facts: SplitBrainFacts) -> SplitBrainRecovery {
        switch (facts.ownRole == .primary, facts.peerRole == .primary) {
        case (false, false): recoverWithoutPrimary(facts)
        case (true, false), (false, true): recoverWithOnePrimary(facts)
        case (true, true): recoverWithTwoPrimaries(facts)
        }
    }

    private func recoverWithoutPrimary(_ facts: SplitBrainFacts) -> SplitBrainRecovery {
        switch zeroPrimaries {
        case .disconnect: return SplitBrainRecovery(choice: .undecided)
        case .discardLocal: return SplitBrainRecovery(choice: .keepTheirs)
        case .discardRemote: return SplitBrainRecovery(choice: .keepOurs)
        case .discardYoungerPrimary:
            switch (facts.ownWasPrimary, facts.peerWasPrimary) {
            case (false, true): return SplitBrainRecovery(choice: .keepTheirs)
            case (true, false): return SplitBrainRecovery(choice: .keepOurs)
            default: return SplitBrainRecovery(choice: Self.byZeroThenLeastChanges(facts), fellBack: true)
            }
        case .discardOlderPrimary:
            switch (facts.ownWasPrimary, facts.peerWasPrimary) {
            case (false, true): return SplitBrainRecovery(choice: .keepOurs)
            case (true, false): return SplitBrainRecovery(choice: .keepTheirs)
            default: return SplitBrainRecovery(choice: Self.byZeroThenLeastChanges(facts), fellBack: true)
            }
        case .discardZeroChanges: return SplitBrainRecovery(choice: Self.byZeroChanges(facts))
        case .discardLeastChanges: return SplitBrainRecovery(choice: Self.byLeastChanges(facts))
        case .consensus, .discardSecondary, .callPriLost, .violently:
            return SplitBrainRecovery(choice: .undecided, misconfigured: true)
        }
    }

    private func recoverWithOnePrimary(_ facts: SplitBrainFacts) -> SplitBrainRecovery {
        let weArePrimary = facts.ownRole == .primary
        switch onePrimary {
        case .disconnect: return SplitBrainRecovery(choice: .undecided)
        case .consensus:
            var recovery = recoverWithoutPrimary(facts)
            let agreed: SplitBrainRecovery.Choice = weArePrimary ? .keepOurs : .keepTheirs
            if recovery.choice != agreed { recovery.choice = .undecided }
            return recovery
        case .violently: return recoverWithoutPrimary(facts)
        case .discardSecondary: return SplitBrainRecovery(choice: weArePrimary ? .keepOurs : .keepTheirs)
        case .callPriLost: return unlessPrimaryLoses(recoverWithoutPrimary(facts), facts)
        case .discardYoungerPrimary, .discardOlderPrimary, .discardZeroChanges, .discardLeastChanges, .discardLocal,
            .discardRemote:
            return SplitBrainRecovery(choice: .undecided, misconfigured: true)
        }
    }

    private func recoverWithTwoPrimaries(_ facts: SplitBrainFacts) -> SplitBrainRecovery {
        switch twoPrimaries {
        case .disconnect: return SplitBrainRecovery(choice: .undecided)
        case .violently: return recoverWithoutPrimary(facts)
        case .callPriLost: return unlessPrimaryLoses(recoverWithoutPrimary(facts), facts)
        case .discardYoungerPrimary, .discardOlderPrimary, .discardZeroChanges, .discardLeastChanges, .discardLocal,
            .discardRemote, .consensus, .discardSecondary:
            return SplitBrainRecovery(choice: .undecided, misconfigured: true)
        }
    }

    /// call-pri-lost-after-sb: a losing Primary would have to step down, but no role changes during a handshake; drbd 8.4.11
    /// never does it either. Its handler is called, which is expected to end this node, and nothing else is decided.
    private func unlessPrimaryLoses(_ recovery: SplitBrainRecovery, _ facts: SplitBrainFacts) -> SplitBrainRecovery {
        guard recovery.choice == .keepTheirs && facts.ownRole == .primary else { return recovery }
        var result = recovery
        result.choice = .undecided
        result.primaryLoses = true
        return result
    }

    private static func byZeroChanges(_ facts: SplitBrainFacts) -> SplitBrainRecovery.Choice {
        switch (facts.ownBits == 0, facts.peerBits == 0) {
        case (true, true): facts.isResolver ? .keepTheirs : .keepOurs
        case (false, true): .keepOurs
        case (true, false): .keepTheirs
        case (false, false): .undecided
        }
    }

    private static func byLeastChanges(_ facts: SplitBrainFacts) -> SplitBrainRecovery.Choice {
        if facts.ownBits < facts.peerBits { return .keepTheirs }
        if facts.ownBits > facts.peerBits { return .keepOurs }
        return facts.isResolver ? .keepTheirs : .keepOurs
    }

    private static func byZeroThenLeastChanges(_ facts: SplitBrainFacts) -> SplitBrainRecovery.Choice {
        let choice = byZeroChanges(facts)
        return choice == .undecided ? byLeastChanges(facts) : choice
    }
}
