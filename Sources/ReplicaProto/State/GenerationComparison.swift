/// What two nodes tell each other before they compare their data generations (P_UUIDS and the first P_STATE).
package struct ComparisonInput: Equatable, Sendable {
    package var own: GenerationIdentifiers
    package var peer: GenerationIdentifiers
    /// Was Primary when it went down, and not resynced since.
    package var ownCrashedPrimary: Bool
    package var peerCrashedPrimary: Bool
    package var ownRole: Role
    package var peerRole: Role
    /// Agreed protocol version.
    package var version: UInt32
    package var features: FeatureFlags
    /// We accepted the meta stream (RESOLVE_CONFLICTS): ties are decided against us.
    package var isResolver: Bool

    package init(
        own: GenerationIdentifiers, peer: GenerationIdentifiers, ownCrashedPrimary: Bool = false,
        peerCrashedPrimary: Bool = false, ownRole: Role = .secondary, peerRole: Role = .secondary,
        version: UInt32 = 101, features: FeatureFlags = .all, isResolver: Bool = false
    ) {
        self.own = own
        self.peer = peer
        self.ownCrashedPrimary = ownCrashedPrimary
        self.peerCrashedPrimary = peerCrashedPrimary
        self.ownRole = ownRole
        self.peerRole = peerRole
        self.version = version
        self.features = features
        self.isResolver = isResolver
    }
}

/// Who copies from whom, as far as the identifiers alone can tell.
package enum Verdict: Equatable, Sendable {
    /// 0: same data.
    case none
    /// +1, or +2 with a full resync: our data is newer.
    case source(full: Bool)
    /// -1, or -2 with a full resync: the peer's data is newer.
    case target(full: Bool)
    /// 100, or -100 if the common ancestor is not known to the bitmaps (`ambiguous`).
    case splitBrain(ambiguous: Bool)
    /// -1000: no common history.
    case unrelated
    /// The decision needs protocol version 91.
    case needsVersion91
    /// The decision needs FF_WSAME, DRBD's mark of a peer that is new enough for rule 41.
    case needsWriteSameFeature

    /// The number that DRBD logs as `uuid_compare()`.
    package var number: Int {
        switch self {
        case .none: 0
        case .source(let full): full ? 2 : 1
        case .target(let full): full ? -2 : -1
        case .splitBrain(let ambiguous): ambiguous ? -100 : 100
        case .unrelated: -1000
        case .needsVersion91: -1091
        case .needsWriteSameFeature: -(0x10000 | 101 | (4 << 8))
        }
    }
}

/// A set of identifiers that turned out to be behind what really happened.
package enum Correction: Equatable, Sendable {
    /// Rules 34 and 71: take over and persist.
    case own(GenerationIdentifiers)
    /// Rules 35 and 51: only our copy of the peer's set; the peer corrects itself.
    case peer(GenerationIdentifiers)
}

package struct ComparisonResult: Equatable, Sendable {
    package var verdict: Verdict
    /// As in DRBD's log: "uuid_compare()=1 by rule 70".
    package var rule: Int
    package var correction: Correction?

    package init(verdict: Verdict, rule: Int, correction: Correction? = nil) {
        self.verdict = verdict
        self.rule = rule
        self.correction = correction
    }
}

/// Compares two sets of generation identifiers by numbered rules; the first that matches decides (`wire.md` 5.3).
///
/// Capitals are ours, small letters the peer's: current, bitmap, history0, history1. Bit 0 of every value is the role
/// of its node and not part of the identity.
///
/// |  rule | condition                                             | verdict                              |
/// |------:|-------------------------------------------------------|--------------------------------------|
/// |    10 | both just created                                     | none                                 |
/// |    20 | only ours just created or unset                       | target, full                         |
/// |    30 | only the peer's just created or unset                 | source, full                         |
/// | 34 36 | C = c, only we have a bitmap identifier               | source: the peer saw the resync end  |
/// | 35 37 | C = c, only the peer has a bitmap identifier          | target: we saw the resync end        |
/// | 40 41 | C = c otherwise                                       | none, or by crash flags and roles    |
/// |    50 | C = b                                                 | target                               |
/// | 51 60 | C in h0, h1                                           | target, full unless a lost sync UUID |
/// |    70 | B = c                                                 | source                               |
/// | 71 80 | c in H0, H1                                           | source, full unless a lost sync UUID |
/// |    90 | B = b, not zero                                       | split brain                          |
/// |   100 | some history in common                                | split brain, ambiguous               |
/// |   100 | otherwise                                             | unrelated                            |
package func compareGenerations(_ input: ComparisonInput) -> ComparisonResult {
    let own = input.own.identities
    let peer = input.peer.identities
    let created = GenerationIdentifiers.justCreated
    let ownIsNew = own.current == created || own.current == 0
    let peerIsNew = peer.current == created || peer.current == 0
    if own.current == created && peer.current == created { return ComparisonResult(verdict: .none, rule: 10) }
    if ownIsNew && peer.current != created { return ComparisonResult(verdict: .target(full: true), rule: 20) }
    if own.current != created && peerIsNew { return ComparisonResult(verdict: .source(full: true), rule: 30) }
    if own.current == peer.current { return compareEqualGenerations(input) }

    if own.current == peer.bitmap { return ComparisonResult(verdict: .target(full: false), rule: 50) }
    if own.current == peer.history0 && lostSyncUUID(peer, other: own, version: input.version) {
        if input.version < 91 { return ComparisonResult(verdict: .needsVersion91, rule: 51) }
        return ComparisonResult(verdict: .target(full: false), rule: 51, correction: .peer(input.peer.withoutSyncUUID))
    }
    if own.current == peer.history0 || own.current == peer.history1 {
        return ComparisonResult(verdict: .target(full: true), rule: 60)
    }
    if own.bitmap == peer.current { return ComparisonResult(verdict: .source(full: false), rule: 70) }
    if own.history0 == peer.current && lostSyncUUID(own, other: peer, version: input.version) {
        if input.version < 91 { return ComparisonResult(verdict: .needsVersion91, rule: 71) }
        return ComparisonResult(verdict: .source(full: false), rule: 71, correction: .own(input.own.withoutSyncUUID))
    }
    if own.history0 == peer.current || own.history1 == peer.current {
        return ComparisonResult(verdict: .source(full: true), rule: 80)
    }
    if own.bitmap == peer.bitmap && own.bitmap != 0 {
        return ComparisonResult(verdict: .splitBrain(ambiguous: false), rule: 90)
    }
    let commonHistory =
        own.history0 == peer.history0 || own.history0 == peer.history1 || own.history1 == peer.history0
        || own.history1 == peer.history1
    return ComparisonResult(verdict: commonHistory ? .splitBrain(ambiguous: true) : .unrelated, rule: 100)
}

/// Rules 34 to 41: the same generation on both sides.
private func compareEqualGenerations(_ input: ComparisonInput) -> ComparisonResult {
    let own = input.own.identities
    let peer = input.peer.identities
    if input.peer.bitmap == 0 && input.own.bitmap != 0 {
        let missedEnd = own.bitmap == peer.history0 && own.history0 == peer.history1
        let rule = missedEnd ? 34 : 36
        if input.version < 91 { return ComparisonResult(verdict: .needsVersion91, rule: rule) }
        return ComparisonResult(
            verdict: .source(full: false), rule: rule, correction: missedEnd ? .own(input.own.withRetiredBitmap) : nil)
    }
    if input.own.bitmap == 0 && input.peer.bitmap != 0 {
        let missedEnd = own.history0 == peer.bitmap && own.history1 == peer.history0
        let rule = missedEnd ? 35 : 37
        if input.version < 91 { return ComparisonResult(verdict: .needsVersion91, rule: rule) }
        return ComparisonResult(
            verdict: .target(full: false), rule: rule, correction: missedEnd ? .peer(input.peer.withRetiredBitmap) : nil)
    }
    if !input.ownCrashedPrimary && !input.peerCrashedPrimary { return ComparisonResult(verdict: .none, rule: 40) }
    if input.ownRole == .primary || input.peerRole == .primary {
        if !input.features.contains(.writeSame) { return ComparisonResult(verdict: .needsWriteSameFeature, rule: 41) }
        switch (input.ownRole == .primary, input.peerRole == .primary) {
        case (true, true): return ComparisonResult(verdict: .splitBrain(ambiguous: true), rule: 41)
        case (true, false): return ComparisonResult(verdict: .source(full: false), rule: 41)
        case (false, _): return ComparisonResult(verdict: .target(full: false), rule: 41)
        }
    }
    switch (input.ownCrashedPrimary, input.peerCrashedPrimary) {
    case (true, false): return ComparisonResult(verdict: .source(full: false), rule: 40)
    case (false, true): return ComparisonResult(verdict: .target(full: false), rule: 40)
    case (true, true):
        return ComparisonResult(
            verdict: input.isResolver ? .target(full: false) : .source(full: false), rule: 40)
    case (false, false): return ComparisonResult(verdict: .none, rule: 40)
    }
}

/// Whether `source` started a resync whose P_SYNC_UUID never arrived at the other node: its youngest retired value is
/// the other's current one, and its bitmap identifier was made from that.
private func lostSyncUUID(
    _ source: GenerationIdentifiers, other target: GenerationIdentifiers, version: UInt32
) -> Bool {
    if version >= 96 {
        let announced = source.history0 &+ GenerationIdentifiers.syncOffset
        return announced & ~1 == source.bitmap
    }
    return target.history0 == source.history1
}

extension GenerationIdentifiers {
    /// UUID_NEW_BM_OFFSET: what a resync source adds to its bitmap identifier when the resync starts.
    package static let syncOffset: UInt64 = 0x0001_0000_0000_0000

    /// All four without bit 0.
    fileprivate var identities: GenerationIdentifiers {
        GenerationIdentifiers(current: current & ~1, bitmap: bitmap & ~1, history0: history0 & ~1, history1: history1 & ~1)
    }
    /// The bitmap identifier moved into history: the resync has ended.
    package var withRetiredBitmap: GenerationIdentifiers {
        bitmap == 0 ? self : GenerationIdentifiers(current: current, bitmap: 0, history0: bitmap, history1: history0)
    }
    /// The start of a resync undone (rules 51 and 71).
    fileprivate var withoutSyncUUID: GenerationIdentifiers {
        GenerationIdentifiers(current: current, bitmap: history0, history0: history1, history1: history1)
    }
}
