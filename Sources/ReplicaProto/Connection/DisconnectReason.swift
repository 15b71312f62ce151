/// Why the last connection, or the last try to get one, came to its end: what an administrator asks first.
///
/// The word of each is what the status texts say.
package enum DisconnectReason: String, Sendable, CaseIterable {
    // MARK: Somebody wanted it
    /// `disconnect` or `down` here.
    case requested
    /// The same on the peer.
    case peerLeft = "peer-left"

    // MARK: The way to the peer failed
    case networkFailure = "network-failure"
    /// Pings or writes were not answered in time.
    case timeout
    case protocolError = "protocol-error"
    /// The peer took our streams and ended them before any parameters were exchanged.
    case closedInHandshake = "closed-in-handshake"
    /// The same while both prove that they know the secret: the peer may have refused ours.
    case closedInAuthentication = "closed-in-authentication"
    /// Our own address or port can't be used.
    case ownAddress = "own-address"
    /// `on-congestion disconnect`
    case congestion
    /// `before-resync-source` or `before-resync-target` ended with a failure.
    case handlerRefused = "handler-refused"

    // MARK: The peer does not fit
    /// It speaks, but not this protocol.
    case foreignPeer = "foreign-peer"
    case incompatibleVersions = "incompatible-versions"
    /// A wrong secret, or only one of us has one.
    case authentication
    case differentProtocol = "different-protocol"
    case differentAfterSplitBrain0Primaries = "different-after-sb-0pri"
    case differentAfterSplitBrain1Primary = "different-after-sb-1pri"
    case differentAfterSplitBrain2Primaries = "different-after-sb-2pri"
    case differentTwoPrimaries = "different-allow-two-primaries"
    case differentIntegrityAlgorithm = "different-data-integrity-alg"
    case differentVerifyAlgorithm = "different-verify-alg"
    case differentChecksumAlgorithm = "different-csums-alg"
    /// It wants an algorithm that is not there.
    case unknownAlgorithm = "unknown-algorithm"

    // MARK: The data do not fit
    case splitBrain = "split-brain"
    case unrelatedData = "unrelated-data"
    /// Both were told to `--discard-my-data`.
    case bothDiscardData = "both-discard-data"
    /// The comparison needs a newer protocol, or a feature that the peer lacks.
    case peerTooOld = "peer-too-old"
    /// We would be copied from, but our data is Inconsistent.
    case inconsistentSource = "inconsistent-source"
    /// We would be overwritten while Primary.
    case primaryWouldBeOverwritten = "primary-would-be-overwritten"
    /// Our applications have seen newer data than the peer has.
    case peerLacksDataInUse = "peer-lacks-data-in-use"
    /// The peer's disk is smaller than what both had agreed on.
    case peerTooSmall = "peer-too-small"
    /// Both are Primary, and that is not allowed.
    case twoPrimaries = "two-primaries"
    /// The states do not go together in another way.
    case statesRefused = "states-refused"
    /// `connect --tentative`: this was all that was asked for.
    case dryRun = "dry-run"

    package var name: String { rawValue }

    /// What a connection that fails in this state has failed of, if nobody says more.
    init(_ state: ConnectionState) {
        self =
            switch state {
            case .timeout: .timeout
            case .brokenPipe, .networkFailure: .networkFailure
            case .tearDown: .peerLeft
            case .disconnecting: .requested
            case .standAlone, .unconnected, .protocolError, .wfConnection, .wfReportParams, .connected, .startingSyncS,
                .startingSyncT, .wfBitMapS, .wfBitMapT, .wfSyncUUID, .syncSource, .syncTarget, .verifyS, .verifyT,
                .pausedSyncS, .pausedSyncT, .ahead, .behind:
                .protocolError
            }
    }

    init(_ failure: SyncFailure) {
        self =
            switch failure {
            case .unrelatedData: .unrelatedData
            case .versionTooOld, .featureMissing: .peerTooOld
            case .splitBrain: .splitBrain
            case .inconsistentSource: .inconsistentSource
            case .primaryTarget: .primaryWouldBeOverwritten
            case .dryRun: .dryRun
            }
    }
}

/// The end of the last connection, and since when there is none.
package struct LastDisconnect: Equatable, Sendable {
    /// nil: there was none since the last `connect`.
    package var reason: DisconnectReason?
    /// Whole seconds for which a connection has been missing; nil while there is one, and before the first `connect`.
    package var seconds: UInt64?

    package init(reason: DisconnectReason? = nil, seconds: UInt64? = nil) {
        self.reason = reason
        self.seconds = seconds
    }
}

extension Resource {
    package func lastDisconnect(at now: Instant) -> LastDisconnect {
        LastDisconnect(
            reason: link.lastDisconnect, seconds: link.lostAt.map { now.since($0).wholeSeconds })
    }

    /// Remembers why a connection ends. The first word counts: what follows is only its consequence.
    mutating func noteDisconnect(_ state: ConnectionState, _ reason: DisconnectReason?) {
        if link.phase == .standAlone { return }
        if link.lostAt == nil { link.lostAt = now }
        switch link.phase {
        case .standAlone: break
        case .cleanup:
            // Somebody gives up what would have come back by itself.
            if state == .disconnecting { link.lastDisconnect = reason ?? .requested }
        case .closing:
            if let reason { link.lastDisconnect = reason }
        case .connecting, .settling, .features, .authentication, .parameters, .established:
            link.lastDisconnect = reason ?? DisconnectReason(state)
        }
    }
}
