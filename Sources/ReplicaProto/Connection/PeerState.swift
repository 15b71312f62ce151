/// The peer's P_STATE: the sync decision at the end of the handshake, the end of a resync, every later change
/// (`wire.md` 6.3).
extension Resource {
    mutating func stateReceived(_ v: Int, _ word: UInt32) {
        guard let peer = VolumeState(word: word) else { return connectionFailed(.protocolError) }
        guard link.receivedProtocol || link.phase == .established else { return connectionFailed(.protocolError) }
        let state = volumes[v].state
        if state.connection.isDown { return }
        volumes[v].owesSecondState = state.connection == .wfReportParams
        // Without identifiers a Negotiating or better disk can't be judged (`wire.md` 12, Z1 and Z11).
        if peer.disk.hasMetadata, volumes[v].peerIdentifiers == nil, state.disk.hasMetadata {
            if state.disk == .negotiating, state.connection.isConnected {
                // Sent before the peer saw our attach; its identifiers are on their way.
                return setState(v) {
                    $0.peerRole = peer.role
                    $0.pausedByPeer = peer.pausedByDependency || peer.pausedByUser
                }
            }
            log(.error, v, "peer reports a disk but sent no UUIDs")
            return connectionFailed(.protocolError)
        }
        if peer.connection.isConnected, state.connection.isConnected, !peer.disk.isThere { peerAcceptedOurData(v) }
        var peerDisk = peer.disk
        if peerDisk == .negotiating {
            peerDisk = volumes[v].peerFlags.contains(.inconsistent) ? .inconsistent : .consistent
        }
        if resyncEndReported(v, peer, &peerDisk) || verifyEndReported(v, peer, peerDisk) { return }
        if state.peerDisk == .upToDate, peerDisk == .inconsistent, state.connection == .connected,
            peer.connection > .syncSource
        {
            peerDisk = .upToDate
        }
        var connection = state.connection == .wfReportParams ? ConnectionState.connected : state.connection
        if peer.connection == .ahead {
            guard sourceEndsBeforeFallingBehind(v) else {
                log(.error, v, "peer pulled ahead of its own resync")
                return connectionFailed(.protocolError)
            }
            connection = .behind
        }
        if volumes[v].peerIdentifiers != nil, peer.disk.hasMetadata, state.disk.hasMetadata {
            let wanted =
                !state.connection.isConnected
                || (state.connection == .connected && (peer.disk == .negotiating || state.disk == .negotiating))
                || volumes[v].peerForcedPromotion
                || (state.connection == .connected && peer.connection >= .startingSyncS && peer.connection <= .wfBitMapT)
            if wanted {
                volumes[v].peerForcedPromotion = false
                guard let decided = decide(v, peer, &peerDisk) else { return }
                connection = decided
            }
        }
        finishPeerState(v, peer, peerDisk, connection)
    }

    private mutating func finishPeerState(
        _ v: Int, _ peer: VolumeState, _ peerDisk: DiskState, _ connection: ConnectionState
    ) {
        let old = volumes[v].state
        link.peerStateSeen = true
        if link.phase == .parameters {
            link.phase = .established
            awaitIntroductions()
        }
        let attachState = volumes[v].attachDiskState
        let change: (inout VolumeState) -> Void = {
            $0.peerRole = peer.role
            $0.peerDisk = peerDisk
            $0.pausedByPeer = peer.pausedByDependency || peer.pausedByUser
            $0.connection = connection
            if $0.disk == .negotiating, connection == .connected || connection == .wfBitMapS { $0.disk = attachState }
        }
        if !old.connection.isConnected {
            let verdict = judge(v, change)
            guard verdict.isSuccess || verdict == .inTransientState else {
                log(.error, v, "connection refused: \(verdict.text)")
                return refusePeer(verdict == .twoPrimaries ? .twoPrimaries : .statesRefused)
            }
        }
        if old.disk == .negotiating, connection == .connected, !peerDisk.isThere,
            isOtherThanInUse(v, volumes[v].identifiers)
        {
            // The peer lost its disk meanwhile, and with it what applications have seen.
            log(.error, v, "this is not the data that was lost last")
            answerAttach(v, CommandAnswer(code: 150))
            return setState(v) {
                $0.peerRole = peer.role
                $0.peerDisk = peerDisk
                $0.disk = .failed
            }
        }
        if !old.connection.isConnected, connection == .connected, peerDisk == .consistent, volumes[v].isSuspended,
            volumes[v].rotationDeferred
        {
            return giveUpFrozenWrites(v)
        }
        setState(v, change)
        if let corrected = volumes[v].identifierCorrection {
            volumes[v].identifierCorrection = nil
            correctIdentifiers(v, corrected)
        }
        let new = volumes[v].state
        if old.connection > .wfReportParams, new.connection > .connected, peer.connection <= .connected,
            peer.disk != .negotiating, old.connection != new.connection
        {
            sendUUIDs(v)
            sendState(v)
        }
        volumes[v].discardMyData = false
        if !old.connection.isConnected, new.connection.isConnected {
            link.lostAt = nil
            connectionEstablished(v)
        }
    }

    /// First P_STATE of a connection is through for a volume.
    private mutating func connectionEstablished(_ v: Int) {
        if volumes[v].state.connection == .connected { superblockChanged(v) }
        if volumes[v].state.peerDisk.isThere { volumes[v].rotationDeferred = false }
        enqueue(v, .superblock)
        resendFrozenWrites(v)
    }

    /// The peer was restarted: writes that it had in memory are lost, so sending again only what it never
    /// acknowledged would not do (`wire.md` 7.13). Our disk goes on alone, and a resync mends the peer's.
    private mutating func giveUpFrozenWrites(_ v: Int) {
        log(.error, v, "Aborting Connect, can not thaw IO with an only Consistent peer")
        setState(v) {
            $0.suspendedByUser = false
            $0.suspendedNoData = false
            $0.suspendedFencing = false
        }
        connectionFailed(.protocolError)
        thaw(v)
    }

    // MARK: The decision

    /// The new connection state, or nil if the connection or the attach failed.
    private mutating func decide(_ v: Int, _ peer: VolumeState, _ peerDisk: inout DiskState) -> ConnectionState? {
        guard let peerIdentifiers = volumes[v].peerIdentifiers else { return .connected }
        if peer.disk == .negotiating { rotateBeforeComparison(v) }
        log(.info, v, "drbd_sync_handshake:")
        log(
            .info, v,
            volumes[v].identifiers.handshakeLine(
                "self", bits: volumes[v].communicatedBits, flags: volumes[v].isCrashedPrimary ? .crashedPrimary : []))
        log(.info, v, peerIdentifiers.handshakeLine("peer", bits: volumes[v].peerDirtyBits, flags: volumes[v].peerFlags))
        let comparison = compareGenerations(
            ComparisonInput(
                own: volumes[v].identifiers, peer: peerIdentifiers, ownCrashedPrimary: volumes[v].isCrashedPrimary,
                peerCrashedPrimary: volumes[v].peerFlags.contains(.crashedPrimary), ownRole: volumes[v].state.role,
                peerRole: peer.role, version: link.version, features: link.features, isResolver: link.isResolver))
        log(.info, v, "uuid_compare()=\(comparison.verdict.number) by rule \(comparison.rule)")
        switch comparison.correction {
        case .own(let corrected):
            if peer.disk == .negotiating {
                // It decides by what we tell it next, and has to see what we have seen: the same rule from the other side.
                volumes[v].identifierCorrection = corrected
            } else {
                correctIdentifiers(v, corrected)
            }
        case .peer(let corrected): volumes[v].peerIdentifiers = corrected
        case nil: break
        }
        let state = volumes[v].state
        let decision = decideSync(
            SyncDecisionInput(
                comparison: comparison, ownDisk: state.disk == .negotiating ? volumes[v].attachDiskState : state.disk,
                ownCurrentDisk: state.disk, peerDisk: peerDisk, ownRole: state.role, peerRole: peer.role,
                policies: SplitBrainPolicies(link.options), own: volumes[v].identifiers,
                peer: volumes[v].peerIdentifiers ?? peerIdentifiers, ownBits: volumes[v].communicatedBits,
                peerBits: volumes[v].peerDirtyBits, ownDiscardsData: volumes[v].discardMyData,
                peerDiscardsData: volumes[v].peerFlags.contains(.discardMyData),
                ownDryRun: link.configuration?.tentative ?? false, peerDryRun: link.peerWantsDryRun,
                isResolver: link.isResolver))
        for step in decision.steps {
            switch step {
            case .log(let level, let text): log(level, v, text)
            case .run(let handler): runHandler(handler, v)
            }
        }
        var reason = DisconnectReason.peerLacksDataInUse
        switch decision.outcome {
        case .connected: return .connected
        case .becomeSource where state.disk == .negotiating && isOtherThanInUse(v, volumes[v].identifiers):
            // By disk states, not by generations: what applications have seen is on the peer's disk, damaged as it is.
            log(.error, v, "this is not the data that was lost last")
        case .becomeSource(let full):
            if full { setWholeBitmap(v, .decidedSource) }
            return .wfBitMapS
        case .becomeTarget(let full):
            if full { setWholeBitmap(v, .decidedTarget) }
            return .wfBitMapT
        case .fail(let failure): reason = DisconnectReason(failure)
        }
        switch SyncFailureAction(ownDisk: state.disk, peerDiskAsSent: peer.disk, peerDryRun: link.peerWantsDryRun) {
        case .failOwnDisk:
            log(.error, v, "Disk attach process on this node aborted")
            setState(v) { $0.disk = .failed }
            answerAttach(v, CommandAnswer(code: 150))
            return .connected
        case .treatPeerAsDiskless:
            log(.error, v, "Disk attach process on the peer node was aborted.")
            peerDisk = .diskless
            // It compares for itself once it hears of us, comes to the same end, and gives its disk up; DRBD 8.4 says nothing,
            // and the other stays Negotiating.
            sendUUIDs(v)
            sendState(v)
            return .connected
        case .reconnect:
            connectionFailed(.protocolError, because: reason)
            return nil
        case .disconnect:
            if judgesHandshake(v), !volumes.contains(where: { $0.state.connection.isConnected }) {
                partAfterHandlers(reason)
            } else {
                refusePeer(reason)
            }
            return nil
        }
    }

    /// The end of a connection for a reason that the peer has to see for itself: our settings, identifiers and state may still be on their
    /// way, and a kernel whose meta stream ends throws away what it has not read. It would take that for a network
    /// failure and try again for ever. The kernel waits for its split-brain handler before it closes; we give the peer
    /// as much time, unless it closes first.
    mutating func refusePeer(_ reason: DisconnectReason) {
        noteDisconnect(.disconnecting, reason)
        partNow()
    }

    /// The same, for a reason that is noted already.
    mutating func partNow() {
        link.partsAfterHandlers = false
        link.phase = .closing
        link.afterCleanup = .standAlone
        timers.set(.handshake, now + .milliseconds(500))
        for v in volumes.indices { setState(v) { $0.connection = .disconnecting } }
    }

    /// The same, once the handlers of this handshake have ended (`startNextHandler`): what they do about a split brain, or to
    /// this node, comes first. Nothing that the peer sends counts any more, and applications go on without it.
    private mutating func partAfterHandlers(_ reason: DisconnectReason) {
        noteDisconnect(.disconnecting, reason)
        link.partsAfterHandlers = true
        link.phase = .closing
        link.afterCleanup = .standAlone
        timers.cancel(.handshake)
        for v in volumes.indices { retryLater(v) }
    }

    private mutating func correctIdentifiers(_ v: Int, _ corrected: GenerationIdentifiers) {
        volumes[v].identifiers = corrected
        storeRoleBit(v)
        superblockChanged(v)
        enqueue(v, .superblock)
    }

    // MARK: Cluster-wide changes, the peer's side (`wire.md` 6.5)

    mutating func stateChangeRequested(_ v: Int, _ request: StateChangeRequest) {
        if link.isResolver, clusterChange != nil || !demotions.isEmpty {
            return send(.meta, v, .stateChangeReply(StateChangeResult.concurrentChange.rawValue))
        }
        if link.version < 100, StateChange(request).mirrored().applied(to: volumes[v].state)?.connection == .tearDown {
            return connectionChangeRequested(request)
        }
        send(.meta, v, .stateChangeReply(applyPeerChange(v, request).rawValue))
    }

    private mutating func applyPeerChange(_ v: Int, _ request: StateChangeRequest) -> StateChangeResult {
        let change = StateChange(request).mirrored()
        let old = volumes[v].state
        guard let wanted = change.applied(to: old) else { return .peerTooOld }
        if wanted.connection == .verifyT, old.connection == .connected, lacksData(v) { return .noUpToDateDisk }
        // A Primary that is the source ends a resync before the target does, and believes in a copy that is not durable yet.
        if old.connection.isSyncTarget, old.peerRole == .primary, old.peerDisk == .upToDate, wanted.peerDisk == .failed {
            return .noUpToDateDisk
        }
        volumes[v].obeysPeer = true
        let result = requestState(v) { state in
            if let changed = change.applied(to: state) { state = changed }
        }
        volumes[v].obeysPeer = false
        if result == .success, old.disk == .inconsistent, old.peerDisk == .inconsistent, old.peerRole == .secondary,
            volumes[v].state.peerRole == .primary
        {
            volumes[v].peerForcedPromotion = true
        }
        return result
    }

    mutating func connectionChangeRequested(_ request: StateChangeRequest) {
        let isOld = link.version < 100
        func reply(_ result: StateChangeResult) -> Packet {
            isOld ? .stateChangeReply(result.rawValue) : .connectionStateChangeReply(result.rawValue)
        }
        if link.isResolver, clusterChange != nil { return send(.meta, nil, reply(.concurrentChange)) }
        let change = StateChange(request).mirrored()
        for v in volumes.indices {
            let result = judge(v) { state in
                if let changed = change.applied(to: state) { state = changed }
            }
            guard result.isSuccess || result == .lowerThanOutdated else { return send(.meta, nil, reply(result)) }
        }
        let takesLeave = volumes.indices.contains { v in
            change.applied(to: volumes[v].state)?.connection == .tearDown
        }
        for v in volumes.indices where volumes[v].state.connection.isConnected {
            setState(v) { state in
                if let changed = change.applied(to: state) { state = changed }
            }
        }
        send(.meta, nil, reply(.success))
        if takesLeave {
            noteDisconnect(.tearDown, .peerLeft)
            link.phase = .closing
            link.afterCleanup = .unconnected
            timers.set(.handshake, now + .deciseconds(link.options.pingTimeout) * 4)
        }
    }
}
