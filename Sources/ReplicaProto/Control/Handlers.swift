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
    /// Their turn comes when another of their volume has ended, in order.
    var waiting: [Run] = []
    var nextID: UInt32 = 1
}

extension HandlerName {
    /// Run while both nodes find out who copies from whom; what follows from that waits until it has ended.
    fileprivate var judgesHandshake: Bool {
        switch self {
        case .initialSplitBrain, .splitBrain, .priLost, .priLostAfterSB: true
        case .priOnInconDegr, .localIOError, .fencePeer, .unfencePeer, .beforeResyncTarget, .afterResyncTarget,
            .beforeResyncSource, .outOfSync:
            false
        }
    }
    fileprivate var guardsResync: Bool { self == .beforeResyncSource || self == .beforeResyncTarget }
    /// One at a time for a volume, also those of an earlier connection.
    fileprivate var isInLine: Bool { judgesHandshake || guardsResync }
}

/// A fence-peer call and what it is for.
struct Fencing {
    /// The promotion that waits for it; nil if the peer was lost.
    var promotion: (command: CommandID, volume: Int, verdict: StateChangeResult)?
}

extension Resource {
    /// The next handler's identity, for what has to know it before it runs.
    mutating func announceHandler() -> HandlerID {
        defer { handlers.nextID &+= 1 }
        return HandlerID(handlers.nextID)
    }

    @discardableResult
    mutating func runHandler(_ name: HandlerName, _ v: Int?, as announced: HandlerID? = nil) -> HandlerID {
        let id = announced ?? announceHandler()
        let run = HandlerTable.Run(id: id, name: name, volume: v, connection: link.instance)
        if name.isInLine, handlers.runs.contains(where: { $0.volume == v && $0.name.isInLine }) {
            handlers.waiting.removeAll { $0.volume == v && $0.name == name }
            handlers.waiting.append(run)
        } else {
            start(run)
        }
        return id
    }

    private mutating func start(_ run: HandlerTable.Run) {
        handlers.runs.append(run)
        emit(.publishStatus)
        emit(.runHandler(run.id, run.name, run.volume.map { volumes[$0].number }))
    }

    /// Whether the handlers of a volume's handshake have not all ended.
    func judgesHandshake(_ v: Int?) -> Bool {
        handlers.runs.contains { $0.volume == v && $0.name.judgesHandshake }
            || handlers.waiting.contains { $0.volume == v && $0.name.judgesHandshake }
    }

    /// Whether a handler of an earlier handshake has not ended.
    var isHandlerInLine: Bool { handlers.runs.contains { $0.name.isInLine } }

    private mutating func startNextHandler(_ v: Int) {
        while !handlers.runs.contains(where: { $0.volume == v && $0.name.isInLine }),
            let position = handlers.waiting.firstIndex(where: { $0.volume == v })
        {
            let run = handlers.waiting.remove(at: position)
            // Its resync was given up meanwhile.
            if run.name.guardsResync, volumes[v].resyncHandler != run.id { continue }
            start(run)
        }
        if link.partsAfterHandlers, !volumes.indices.contains(where: { judgesHandshake($0) }) { partNow() }
    }

    mutating func handlerFinished(_ id: HandlerID, _ status: Int32?) {
        guard let position = handlers.runs.firstIndex(where: { $0.id == id }) else { return }
        let run = handlers.runs.remove(at: position)
        switch (run.name, run.volume) {
        case (.beforeResyncSource, let v?) where volumes[v].resyncHandler == id: sourceHandlerDone(v, status)
        case (.beforeResyncTarget, let v?) where volumes[v].resyncHandler == id: targetHandlerDone(v, status)
        case (.fencePeer, _): fencingDone(status)
        case (.localIOError, let v?) where volumes[v].ioErrorHandler == id: localIOErrorTold(v)
        default: break
        }
        if let v = run.volume, run.name.isInLine { startNextHandler(v) }
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

    /// A resync to the peer has ended; the fence concerns the resource, so it stays until the last volume is good.
    mutating func unfenceIfAllUpToDate(_ v: Int) {
        guard volumes[v].diskOptions.fencing != .dontCare,
            volumes.allSatisfy({ $0.state.disk == .upToDate && $0.state.peerDisk == .upToDate })
        else { return }
        runHandler(.unfencePeer, nil)
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
