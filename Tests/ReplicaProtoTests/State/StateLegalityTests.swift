import ReplicaProto
import Testing

/// `wire.md` 6.6 and 6.7, row by row and over all states.
@Suite struct StateLegalityTests {
    private static func state(
        _ role: Role, _ peer: Role, _ connection: ConnectionState, _ disk: DiskState, _ peerDisk: DiskState
    ) -> VolumeState {
        var state = VolumeState()
        state.role = role
        state.peerRole = peer
        state.connection = connection
        state.disk = disk
        state.peerDisk = peerDisk
        return state
    }

    private static func allStates(_ body: (VolumeState) -> Void) {
        for role in [Role.primary, .secondary] {
            for peer in Role.allCases {
                for connection in ConnectionState.allCases {
                    for disk in DiskState.allCases where disk != .unknown {
                        for peerDisk in DiskState.allCases { body(state(role, peer, connection, disk, peerDisk)) }
                    }
                }
            }
        }
    }

    // MARK: Sanitizing

    @Test func sanitizingTwiceChangesNothing() {
        for fencing in [FencingPolicy.dontCare, .resourceAndStonith] {
            let context = StateContext(fencing: fencing, onNoData: .suspendIO, attachDiskState: .consistent)
            Self.allStates { wanted in
                // Leaving a pause is two steps: the clamp of the pause first, that of the running resync next time.
                if wanted.connection == .pausedSyncS || wanted.connection == .pausedSyncT { return }
                let once = wanted.sanitized(from: VolumeState(), context: context)
                #expect(once.sanitized(from: once, context: context) == once)
            }
        }
    }

    @Test func withoutConnectionThePeerIsForgotten() {
        Self.allStates { wanted in
            let state = wanted.sanitized(from: wanted, context: StateContext(attachPeerDisk: .outdated))
            if state.connection < .connected {
                #expect(state.peerRole == .unknown)
                #expect([.inconsistent, .outdated, .unknown].contains(state.peerDisk))
            } else {
                #expect(state.peerDisk <= .upToDate)
                if state.connection < .ahead { #expect(state.disk != .consistent && state.disk != .outdated || state.connection.isSyncTargetSide) }
            }
        }
    }

    struct Bounds: Sendable {
        var connections: [ConnectionState]
        var disk: [DiskState]
        var peerDisk: [DiskState]
    }

    /// Step 6: which disk states can be seen with a connection state, after everything is implied.
    @Test(arguments: [
        Bounds(
            connections: [.wfBitMapT, .pausedSyncT, .startingSyncT, .wfSyncUUID, .behind],
            disk: [.inconsistent, .outdated], peerDisk: [.upToDate]),
        Bounds(connections: [.syncTarget], disk: [.inconsistent], peerDisk: [.upToDate]),
        Bounds(connections: [.verifyS, .verifyT], disk: [.upToDate], peerDisk: [.upToDate]),
        Bounds(
            connections: [.wfBitMapS, .pausedSyncS, .startingSyncS, .ahead], disk: [.upToDate],
            peerDisk: [.inconsistent, .outdated, .unknown, .consistent]),
        Bounds(connections: [.syncSource], disk: [.upToDate], peerDisk: [.inconsistent]),
    ]) func diskStatesFollowTheConnection(bounds: Bounds) {
        for connection in bounds.connections {
            for disk in DiskState.allCases where disk > .failed {
                for peerDisk in DiskState.allCases where peerDisk > .failed {
                    var wanted = Self.state(.secondary, .secondary, connection, disk, peerDisk)
                    wanted.pausedByUser = connection == .pausedSyncS || connection == .pausedSyncT
                    // A verify under way is another matter.
                    let old = connection.isVerifying ? Self.state(.secondary, .secondary, .connected, disk, peerDisk) : wanted
                    let state = wanted.sanitized(from: old, context: StateContext())
                    #expect(state.connection == connection)
                    #expect(bounds.disk.contains(state.disk))
                    #expect(bounds.peerDisk.contains(state.peerDisk))
                }
            }
        }
    }

    @Test("a disk that turns out to be no good ends a verify, and nobody calls it UpToDate", arguments: [ConnectionState.verifyS, .verifyT])
    func aBadDiskEndsVerify(connection: ConnectionState) {
        let old = Self.state(.secondary, .primary, connection, .upToDate, .upToDate)
        for (disk, peerDisk) in [(DiskState.inconsistent, DiskState.upToDate), (.upToDate, .inconsistent)] {
            let state = Self.state(.secondary, .primary, connection, disk, peerDisk).sanitized(from: old, context: StateContext())
            #expect(state.connection == .connected && state.disk == disk && state.peerDisk == peerDisk)
        }
        #expect(old.sanitized(from: old, context: StateContext()) == old)
    }

    @Test func aFailedDiskEndsResync() {
        for connection in ConnectionState.allCases where connection > .connected {
            for disk in [DiskState.diskless, .attaching, .failed] {
                let ours = Self.state(.secondary, .primary, connection, disk, .upToDate)
                #expect(ours.sanitized(from: ours, context: StateContext()).connection == .connected)
                let theirs = Self.state(.secondary, .primary, connection, .upToDate, disk)
                #expect(theirs.sanitized(from: theirs, context: StateContext()).connection == .connected)
            }
        }
    }

    @Test func losingThePeerWhileNegotiating() {
        let wanted = Self.state(.secondary, .unknown, .networkFailure, .negotiating, .unknown)
        var context = StateContext(attachDiskState: .upToDate, attachPeerDisk: .outdated, exposedMatchesCurrent: true)
        var state = wanted.sanitized(from: wanted, context: context)
        #expect(state.disk == .upToDate && state.peerDisk == .outdated)
        context.exposedMatchesCurrent = false
        state = wanted.sanitized(from: wanted, context: context)
        #expect(state.disk == .diskless && state.peerDisk == .unknown)
    }

    @Test func fencingFreezesWhenThePeerIsLost() {
        let old = Self.state(.primary, .secondary, .connected, .upToDate, .upToDate)
        var wanted = old
        wanted.connection = .networkFailure
        let context = StateContext(fencing: .resourceAndStonith)
        let lost = wanted.sanitized(from: old, context: context)
        #expect(lost.suspendedFencing)
        var thawed = lost
        thawed.suspendedFencing = false
        #expect(!thawed.sanitized(from: lost, context: context).suspendedFencing, "only the loss itself freezes")
        #expect(!wanted.sanitized(from: old, context: StateContext(fencing: .resourceOnly)).suspendedFencing)
        var outdated = wanted
        outdated.peerDisk = .outdated
        #expect(!outdated.sanitized(from: old, context: context).suspendedFencing)
    }

    @Test func noDataFreezesIfConfigured() {
        let old = Self.state(.primary, .secondary, .connected, .diskless, .upToDate)
        var wanted = old
        wanted.connection = .brokenPipe
        #expect(wanted.sanitized(from: old, context: StateContext(onNoData: .suspendIO)).suspendedNoData)
        #expect(!wanted.sanitized(from: old, context: StateContext(onNoData: .ioError)).suspendedNoData)
    }

    /// Conformance item 33.
    @Test func pausesFollowTheirFlags() {
        for flags in 0..<8 {
            var wanted = Self.state(.secondary, .primary, .syncTarget, .inconsistent, .upToDate)
            wanted.pausedByDependency = flags & 1 != 0
            wanted.pausedByPeer = flags & 2 != 0
            wanted.pausedByUser = flags & 4 != 0
            #expect(
                wanted.sanitized(from: wanted, context: StateContext()).connection
                    == (flags == 0 ? .syncTarget : .pausedSyncT))
            wanted.connection = .pausedSyncT
            #expect(
                wanted.sanitized(from: wanted, context: StateContext()).connection
                    == (flags == 0 ? .syncTarget : .pausedSyncT))
        }
    }

    // MARK: State checks

    /// Every state, against the list of `wire.md` 6.7 written as a list of (code, condition).
    @Test func stateChecksWalk() {
        typealias Rule = (StateChangeResult, (VolumeState, StateContext) -> Bool)
        let rules: [Rule] = [
            (.twoPrimaries, { $1.hasNetConfiguration && !$1.allowTwoPrimaries && $0.role == .primary && $0.peerRole == .primary }),
            (.otherVolumePeerPrimary, { $1.hasNetConfiguration && !$1.allowTwoPrimaries && $0.role == .primary && $1.peerPrimaryOnOtherVolume }),
            (.deviceInUse, { $0.role == .secondary && $1.exportIsOpen }),
            (.noUpToDateDisk, { s, _ in s.role == .primary && s.connection < .connected && s.disk < .upToDate }),
            (.peerNotOutdated, { s, c in c.fencing != .dontCare && s.role == .primary && s.connection < .connected && s.peerDisk >= .unknown }),
            (.noUpToDateDisk, { s, _ in s.role == .primary && s.disk <= .inconsistent && s.peerDisk <= .inconsistent }),
            (.noLocalDisk, { s, _ in s.connection > .connected && s.disk < .inconsistent }),
            (.noRemoteDisk, { s, _ in s.connection > .connected && s.peerDisk < .inconsistent }),
            (.noUpToDateDisk, { s, _ in s.connection > .connected && s.disk < .upToDate && s.peerDisk < .upToDate }),
            (.connectedOutdates, { s, _ in [.connected, .wfBitMapS, .syncSource, .pausedSyncS].contains(s.connection) && s.disk == .outdated }),
            (.noVerifyAlgorithm, { s, c in c.hasNetConfiguration && s.connection.isVerifying && !c.verifyAlgorithmSet }),
            (.peerTooOld, { s, c in s.connection.isVerifying && c.agreedVersion < 88 }),
            (.noUpToDateDisk, { s, _ in s.role == .primary && s.disk < .upToDate && s.peerDisk < .upToDate }),
            (.needConnection, { s, _ in [.startingSyncS, .startingSyncT].contains(s.connection) && s.peerDisk == .unknown }),
            (.connectedOutdates, { s, _ in s.connection >= .connected && s.peerDisk == .unknown }),
        ]
        var contexts = [StateContext()]
        contexts.append(StateContext(fencing: .resourceOnly, verifyAlgorithmSet: true))
        contexts.append(StateContext(allowTwoPrimaries: true, exportIsOpen: true, verifyAlgorithmSet: true, agreedVersion: 87))
        contexts.append(StateContext(hasNetConfiguration: false, peerPrimaryOnOtherVolume: true))
        contexts.append(StateContext(peerPrimaryOnOtherVolume: true))
        var hits = Set<StateChangeResult>()
        for context in contexts {
            Self.allStates { state in
                let expected = rules.first { $0.1(state, context) }?.0
                #expect(state.check(context: context) == expected)
                if let expected { hits.insert(expected) }
            }
        }
        #expect(hits.count == 11)
    }

    /// Conformance item 30.
    @Test func promotionBesideAPrimaryIsRefused() {
        let old = Self.state(.secondary, .primary, .connected, .upToDate, .upToDate)
        var new = old
        new.role = .primary
        #expect(VolumeState.evaluateSoftChange(from: old, to: new, context: StateContext()) == .twoPrimaries)
        #expect(
            VolumeState.evaluateSoftChange(from: old, to: new, context: StateContext(allowTwoPrimaries: true)) == nil)
    }

    @Test func whatWasWrongBeforeIsForgiven() {
        let context = StateContext(exportIsOpen: true)
        let old = Self.state(.secondary, .secondary, .connected, .upToDate, .upToDate)
        var new = old
        new.connection = .disconnecting
        new = new.sanitized(from: old, context: context)
        #expect(new.check(context: context) == .deviceInUse)
        #expect(VolumeState.evaluateSoftChange(from: old, to: new, context: context) == nil)
    }

    // MARK: Transition checks

    struct Transition: Sendable {
        var old: VolumeState
        var new: VolumeState
        var context = StateContext(verifyAlgorithmSet: true)
        var result: StateChangeResult?
    }

    static let transitions: [Transition] = {
        func pair(
            _ from: ConnectionState, _ to: ConnectionState, _ disk: DiskState = .upToDate,
            _ newDisk: DiskState = .upToDate, _ result: StateChangeResult?
        ) -> Transition {
            Transition(
                old: state(.secondary, .secondary, from, disk, .upToDate),
                new: state(.secondary, .secondary, to, newDisk, .upToDate), result: result)
        }
        var rows = [
            pair(.syncSource, .startingSyncS, .upToDate, .upToDate, .resyncRunning),
            pair(.verifyS, .startingSyncT, .upToDate, .outdated, .resyncRunning),
            pair(.standAlone, .disconnecting, .upToDate, .upToDate, .alreadyStandAlone),
            pair(.connected, .connected, .diskless, .upToDate, .diskless),
            pair(.connected, .connected, .diskless, .attaching, nil),
            pair(.standAlone, .wfConnection, .upToDate, .upToDate, .noNetConfiguration),
            pair(.unconnected, .wfConnection, .upToDate, .upToDate, nil),
            pair(.standAlone, .standAlone, .inconsistent, .outdated, .lowerThanOutdated),
            pair(.standAlone, .standAlone, .attaching, .outdated, nil),
            pair(.standAlone, .standAlone, .consistent, .outdated, nil),
            pair(.unconnected, .disconnecting, .upToDate, .upToDate, .inTransientState),
            pair(.wfConnection, .verifyS, .upToDate, .upToDate, .needConnection),
            pair(.syncSource, .verifyS, .upToDate, .upToDate, .resyncRunning),
            pair(.connected, .verifyS, .upToDate, .upToDate, nil),
            pair(.verifyS, .verifyS, .upToDate, .upToDate, nil),
            pair(.wfConnection, .startingSyncS, .upToDate, .upToDate, .needConnection),
            pair(.networkFailure, .syncTarget, .inconsistent, .inconsistent, .needConnection),
            pair(.connected, .startingSyncT, .upToDate, .outdated, nil),
        ]
        var outdating = pair(.wfConnection, .disconnecting, .upToDate, .upToDate, .outdateWithoutConnection)
        outdating.old.peerDisk = .unknown
        outdating.new.peerDisk = .outdated
        rows.append(outdating)
        outdating.old.peerDisk = .outdated
        outdating.result = nil
        rows.append(outdating)
        for (from, to, free) in [
            (ConnectionState.wfConnection, ConnectionState.wfReportParams, true), (.wfReportParams, .connected, true),
            (.wfReportParams, .wfBitMapT, true), (.wfReportParams, .disconnecting, false), (.connected, .connected, false),
        ] {
            var row = pair(from, to, .upToDate, .upToDate, free ? nil : .inTransientState)
            row.context.handshakeRunning = true
            rows.append(row)
        }
        // A promotion while a forced promotion of the peer starts its resync.
        for (connection, disk, result) in [
            (ConnectionState.wfBitMapT, DiskState.outdated, StateChangeResult?.some(.inTransientState)),
            (.connected, .inconsistent, .inTransientState), (.syncTarget, .inconsistent, nil),
            (.connected, .diskless, nil), (.connected, .upToDate, nil),
        ] {
            rows.append(
                Transition(
                    old: state(.secondary, .secondary, connection, disk, .upToDate),
                    new: state(.primary, .secondary, connection, disk, .upToDate), result: result))
        }
        return rows
    }()

    @Test(arguments: transitions) func transitionsAreJudged(row: Transition) {
        #expect(row.new.checkTransition(from: row.old, context: row.context) == row.result)
    }

    /// The last paragraph of 6.7, over every pair of connection states.
    @Test func hardLimitsWalk() {
        for from in ConnectionState.allCases {
            for to in ConnectionState.allCases {
                let forbidden: Bool
                if from == to {
                    forbidden = false
                } else if from == .standAlone {
                    forbidden = to != .unconnected
                } else if from == .disconnecting {
                    forbidden = to != .standAlone
                } else if (3...7).contains(from.rawValue) {
                    forbidden = to != .unconnected && to != .disconnecting
                } else {
                    forbidden = from.rawValue < 9 && to.rawValue >= 10
                }
                let old = Self.state(.secondary, .unknown, from, .upToDate, .unknown)
                let new = Self.state(.secondary, .unknown, to, .upToDate, .unknown)
                #expect(VolumeState.isHardForbidden(from: old, to: new) == forbidden, "\(from) -> \(to)")
            }
        }
        let diskless = Self.state(.secondary, .unknown, .standAlone, .diskless, .unknown)
        var failed = diskless
        failed.disk = .failed
        #expect(VolumeState.isHardForbidden(from: diskless, to: failed))
        #expect(VolumeState.evaluateSoftChange(from: diskless, to: failed, context: StateContext()) == .diskless)
    }

    @Test func codesAreThoseOfTheWire() {
        #expect(StateChangeResult.allCases.map(\.rawValue) == [4, 3, 2, 1, 0, -1, -2, -4] + Array(stride(from: Int32(-5), through: -21, by: -1)))
    }
}
