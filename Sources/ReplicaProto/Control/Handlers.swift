/// Handler scripts that run, and what waits for them (`control.md` section 4).
struct HandlerTable {
    struct Run {
        var id: HandlerID
        var name: HandlerName
        var volume: Int?
        /// Which connection it was run for.
        var connection: UInt32
    }

    var runs: [Run] = []
    var nextID: UInt32 = 1
}

/// A fence-peer call and what it is for.
struct Fencing {
    /// The promotion that waits for it; nil if the peer was lost.
    var promotion: (command: CommandID, volume: Int, verdict: StateChangeResult)?
}

extension Resource {
    @discardableResult
    mutating func runHandler(_ name: HandlerName, _ v: Int?) -> HandlerID {
        let id = HandlerID(handlers.nextID)
        handlers.nextID &+= 1
        handlers.runs.append(HandlerTable.Run(id: id, name: name, volume: v, connection: link.instance))
        emit(.publishStatus)
        emit(.runHandler(id, name, v.map { volumes[$0].number }))
        return id
    }

    mutating func handlerFinished(_ id: HandlerID, _ status: Int32?) {
        guard let position = handlers.runs.firstIndex(where: { $0.id == id }) else { return }
        let run = handlers.runs.remove(at: position)
        switch (run.name, run.volume) {
        case (.beforeResyncSource, let v?) where volumes[v].resyncHandler == id: sourceHandlerDone(v, status)
        case (.beforeResyncTarget, let v?) where volumes[v].resyncHandler == id: targetHandlerDone(v, status)
        case (.fencePeer, _): fencingDone(status)
        default: break
        }
    }

    // MARK: fence-peer (`control.md` 4.3)

    /// The connection is gone while we are Primary.
    mutating func startFencing() {
        guard fencing == nil, link.afterCleanup != .standAlone || volumes.contains(where: { $0.state.suspendedFencing })
        else { return }
        let wanted = volumes.contains {
            $0.state.role == .primary && $0.diskOptions.fencing != .dontCare && $0.state.disk >= .consistent
                && $0.state.peerDisk == .unknown
        }
        guard wanted else { return }
        fencing = Fencing(promotion: nil)
        runHandler(.fencePeer, nil)
    }

    mutating func fenceForPromotion(_ id: CommandID, _ v: Int, _ verdict: StateChangeResult) {
        guard volumes[v].diskOptions.fencing != .dontCare else { return answer(id, code(verdict)) }
        fencing = Fencing(promotion: (id, v, verdict))
        runHandler(.fencePeer, nil)
    }

    private mutating func fencingDone(_ status: Int32?) {
        guard let fencing else { return }
        self.fencing = nil
        defer { if !deferred.isEmpty { timers.set(.retry, now) } }
        let isDown = !volumes.contains { $0.state.connection.isConnected }
        var succeeded = false
        if isDown {
            switch status {
            case 3?: succeeded = setPeerDisks(.inconsistent)
            case 4?: succeeded = setPeerDisks(.outdated)
            case 5?:
                if volumes.contains(where: { $0.state.disk == .upToDate }) { succeeded = setPeerDisks(.outdated) }
            case 6?:
                log(.warning, nil, "Peer is primary, outdating myself.")
                for v in volumes.indices where volumes[v].state.role != .primary && volumes[v].state.disk >= .outdated {
                    setState(v) { $0.disk = .outdated }
                }
            case 7?: succeeded = setPeerDisks(.outdated)
            default:
                log(.error, nil, "fence-peer helper broken, returned \(status.map(String.init) ?? "nothing")")
            }
        }
        if let promotion = fencing.promotion {
            if succeeded, promotion.volume < volumes.count {
                promoteAfterFencing(promotion.command, promotion.volume)
            } else {
                answer(promotion.command, code(promotion.verdict))
            }
            return
        }
        guard succeeded else { return }
        for v in volumes.indices where volumes[v].state.suspendedFencing {
            setState(v) { $0.suspendedFencing = false }
            thaw(v)
        }
    }

    private mutating func promoteAfterFencing(_ id: CommandID, _ v: Int) {
        if volumes[v].state.disk == .consistent { setState(v) { $0.disk = .upToDate } }
        promote(id, v, force: false)
    }

    private mutating func setPeerDisks(_ disk: DiskState) -> Bool {
        for v in volumes.indices { setState(v) { $0.peerDisk = disk } }
        return true
    }
}
