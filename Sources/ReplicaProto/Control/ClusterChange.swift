/// A change that needs the peer's consent (`wire.md` 6.5): asked for, not answered yet.
struct ClusterChange {
    enum Disconnect: Equatable { case plain, outdatingPeer, outdatingMyself }
    enum Purpose: Equatable {
        case promote(force: Bool)
        case detach
        case invalidate
        case invalidateRemote
        case verify
        case disconnect(Disconnect)
    }

    var purpose: Purpose
    var command: CommandID
    /// nil for the whole connection.
    var volume: Int?
    var mask: UInt32
    var value: UInt32
    /// A promotion of a node that has no good disk of its own.
    var reliesOnPeer = false

    init(_ purpose: Purpose, _ command: CommandID, _ volume: Int?, mask: UInt32, value: UInt32) {
        self.purpose = purpose
        self.command = command
        self.volume = volume
        self.mask = mask
        self.value = value
    }
}

extension Resource {
    mutating func askPeer(_ change: ClusterChange) {
        invariant(clusterChange == nil, "one cluster-wide change at a time")
        clusterChange = change
        if case .promote(force: false) = change.purpose, let v = change.volume, volumes[v].state.disk != .upToDate {
            clusterChange?.reliesOnPeer = true
        }
        let request = StateChangeRequest(mask: change.mask, value: change.value)
        if change.volume == nil, link.version >= 100 {
            send(.data, nil, .connectionStateChangeRequest(request))
        } else {
            send(.data, change.volume, .stateChangeRequest(request))
        }
    }

    /// P_STATE_CHG_REPLY, P_CONN_ST_CHG_REPLY
    mutating func clusterChangeAnswered(_ code: Int32) {
        guard let change = clusterChange else { return }
        clusterChange = nil
        defer { if !deferred.isEmpty { timers.set(.retry, now) } }
        if code >= 1 { return perform(change) }
        let result = StateChangeResult(rawValue: code)
        log(.info, change.volume, "Peer refused: \(result?.text ?? "code \(code)")")
        if case .disconnect(let kind) = change.purpose {
            if kind == .outdatingMyself {
                disconnectCommands.append(change.command)
                return connectionFailed(.disconnecting)
            }
            // The peer is probably Primary with a fencing policy: we offer to be outdated.
            let canBeOutdated = volumes.allSatisfy { $0.state.disk >= .outdated && $0.state.disk != .unknown }
            if canBeOutdated {
                return askPeer(
                    ClusterChange(.disconnect(.outdatingMyself), change.command, nil, mask: 0x1ff0, value: 0xa10))
            }
            disconnectCommands.append(change.command)
            return connectionFailed(.disconnecting)
        }
        if case .promote(let force) = change.purpose {
            promotionsRunning = 0
            if result == .concurrentChange, let v = change.volume {
                // The peer had the same in mind, and it is the one that may: another try when it is through.
                let wait = random.jittered(.milliseconds(500))
                deferred.append(
                    DeferredCommand(
                        id: change.command, command: .primary(volumes[v].number, force: force), until: now + .seconds(20),
                        notBefore: now + wait, reliesOnPeer: change.reliesOnPeer))
                return
            }
        }
        if case .detach = change.purpose, let v = change.volume {
            retryLater(v)
            if !volumes[v].state.peerDisk.isThere { peerAcceptedOurData(v) }
        }
        answer(change.command, self.code(.refusedByPeer))
    }

    /// The connection is gone before an answer came: what is still legal is done without the peer.
    mutating func clusterChangeLost() {
        guard let change = clusterChange else { return }
        clusterChange = nil
        switch change.purpose {
        case .promote(let force):
            promotionsRunning = 0
            guard let v = change.volume else { return }
            // It was to go on with the peer's data. A disk that was Negotiating is UpToDate by now, but older for all we know.
            if change.reliesOnPeer { return answer(change.command, code(.noUpToDateDisk)) }
            promote(change.command, v, force: force)
        case .detach:
            if let v = change.volume { performDetach(change.command, v) }
        case .invalidate, .invalidateRemote, .verify:
            answer(change.command, code(.needConnection))
        case .disconnect:
            disconnectCommands.append(change.command)
            link.afterCleanup = .standAlone
            for v in volumes.indices { setState(v) { $0.connection = .disconnecting } }
        }
    }

    private mutating func perform(_ change: ClusterChange) {
        switch change.purpose {
        case .promote(let force):
            if let v = change.volume { performPromotion(change.command, v, force: force) }
        case .detach:
            if let v = change.volume { performDetach(change.command, v) }
        case .invalidate:
            guard let v = change.volume else { return }
            setState(v) { $0.connection = .startingSyncT }
            answer(change.command, .success)
        case .invalidateRemote:
            guard let v = change.volume else { return }
            setState(v) { $0.connection = .startingSyncS }
            answer(change.command, .success)
        case .verify:
            guard let v = change.volume else { return }
            guard !lacksData(v) else {
                // A disk has failed since we asked, and the peer is VerifyT by now.
                answer(change.command, code(.noUpToDateDisk))
                return connectionFailed(.networkFailure)
            }
            setState(v) { $0.connection = .verifyS }
            answer(change.command, .success)
        case .disconnect(let kind):
            disconnectCommands.append(change.command)
            for v in volumes.indices {
                setState(v) {
                    switch kind {
                    case .plain: break
                    case .outdatingPeer: $0.peerDisk = .outdated
                    case .outdatingMyself: $0.disk = .outdated
                    }
                    $0.connection = .disconnecting
                }
            }
            connectionFailed(.disconnecting)
        }
    }
}
