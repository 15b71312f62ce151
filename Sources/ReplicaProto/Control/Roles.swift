/// Promotion, demotion and the way down (`control.md` 2.5, 2.7).
extension Resource {
    // MARK: Primary

    mutating func promote(_ id: CommandID, _ v: Int, force: Bool) {
        let state = volumes[v].state
        if state.role == .primary, !force || state.disk == .upToDate || !state.disk.isUsable { return answer(id, .success) }
        let declares = force && state.disk >= .inconsistent && state.disk.isUsable && state.disk < .upToDate
        let verdict = judge(v) {
            $0.role = .primary
            if declares { $0.disk = .upToDate }
        }
        if !verdict.isSuccess {
            if verdict == .peerNotOutdated || (verdict == .noUpToDateDisk && state.disk == .consistent) {
                if !force, state.peerDisk == .unknown || state.disk == .consistent, fencing == nil {
                    return fenceForPromotion(id, v, verdict)
                }
                if force {
                    log(.warning, v, "Forced into split brain situation!")
                    return performPromotion(id, v, force: true)
                }
            }
            log(.error, v, "State change failed: \(verdict.text)")
            return answer(id, code(verdict))
        }
        if state.connection.isConnected {
            promotionsRunning += 1
            let (mask, value): (UInt32, UInt32) = declares ? (0x1e03, 0x1001) : (0x3, 0x1)
            return askPeer(ClusterChange(.promote(force: force), id, v, mask: mask, value: value))
        }
        performPromotion(id, v, force: force)
    }

    mutating func performPromotion(_ id: CommandID, _ v: Int, force: Bool) {
        let state = volumes[v].state
        let declares = force && state.disk.isUsable && state.disk < .upToDate
        if declares { log(.warning, v, "Forced to consider local data as UpToDate!") }
        promotionsRunning = max(promotionsRunning, 1)
        setStateQuietly(v) {
            $0.role = .primary
            if declares { $0.disk = .upToDate }
        }
        guard volumes[v].state.role == .primary else {
            promotionsRunning = 0
            return answer(id, code(.inTransientState))
        }
        let new = volumes[v].state
        var isRotated = false
        if new.disk.isUsable {
            let alone = !new.connection.isConnected || new.peerDisk <= .failed
            if declares || (alone && volumes[v].identifiers.bitmap == 0) {
                newCurrentIdentifier(v)
                if !declares { volumes[v].identifiers.bitmap &= ~1 }
                isRotated = true
            }
            storeRoleBit(v)
            volumes[v].exposedIdentifier = volumes[v].identifiers.current
        } else if new.peerDisk == .upToDate, let peer = volumes[v].peerIdentifiers {
            // What applications see from now on is the peer's.
            volumes[v].exposedIdentifier = peer.current
        }
        volumes[v].discardMyData = false
        // The indicator and the generation are durable before the first write can come.
        if isRotated {
            volumes[v].isRotating = true
            enqueue(v, .superblock, .then(.rotated), .then(.promoted(id, forced: declares)))
        } else {
            enqueue(v, .superblock, .then(.promoted(id, forced: declares)))
        }
    }

    mutating func finishPromotion(_ v: Int, _ id: CommandID, forced: Bool) {
        promotionsRunning = 0
        if !deferred.isEmpty { timers.set(.retry, now) }
        if volumes[v].state.connection.isConnected {
            if forced { sendUUIDs(v) }
            sendState(v)
        }
        volumes[v].mayServe = true
        exportMayHaveChanged(v)
        answer(id, .success)
    }

    /// The role changes now; clients are let in when that is durable.
    private mutating func setStateQuietly(_ v: Int, _ modify: (inout VolumeState) -> Void) {
        volumes[v].mayServe = false
        setState(v, modify)
    }

    // MARK: Secondary

    mutating func demote(_ id: CommandID, _ v: Int) {
        guard volumes[v].state.role == .primary else { return answer(id, .success) }
        let verdict = judge(v) { $0.role = .secondary }
        guard verdict.isSuccess else {
            log(.error, v, "State change failed: \(verdict.text)")
            return answer(id, code(verdict))
        }
        // From now on nobody new comes in; what was accepted is finished first.
        volumes[v].mayServe = false
        exportMayHaveChanged(v)
        closeEpoch()
        demotions.append(Demotion(command: id, volume: v))
        demotionsMayContinue()
    }

    /// All accepted writes are complete and confirmed: the role may go.
    mutating func demotionsMayContinue() {
        detachesMayContinue()
        guard !demotions.isEmpty else { return }
        let waiting = demotions
        for demotion in waiting {
            let v = demotion.volume
            guard volumes[v].active.count == 0, !transferLogHolds(v), !demotion.isSaving,
                volumes[v].state.connection != .ahead
            else { continue }
            for index in demotions.indices where demotions[index].volume == v { demotions[index].isSaving = true }
            // While the superblock says Primary, the log covers what is only in the disk's cache. Before that ends, data
            // and bitmap have to be durable (`metadata.md` 5.5).
            enqueue(v, .flushData)
            if volumes[v].state.disk.isUsable, !volumes[v].state.connection.isResyncing { enqueue(v, .changedPages) }
            enqueue(v, .then(.mayDemote(demotion.command)))
        }
    }

    /// Everything that the activity log stood for is durable.
    mutating func demoteNow(_ v: Int, _ id: CommandID) {
        demotions.removeAll { $0.volume == v }
        setState(v) { $0.role = .secondary }
        storeRoleBit(v)
        enqueue(v, .superblock, .then(.demoted(id)))
    }

    func transferLogHolds(_ v: Int) -> Bool {
        var r = transferLog.head
        while r >= 0 {
            if requests[r].volume == v { return true }
            r = requests[r].logNext
        }
        return false
    }

    mutating func finishDemotion(_ v: Int, _ id: CommandID) {
        if volumes[v].state.connection.isConnected { sendState(v) }
        answer(id, .success)
        if !deferred.isEmpty { timers.set(.retry, now) }
    }

    mutating func exportClosed(_ number: VolumeNumber) {
        guard let v = index(of: number) else { return }
        invariant(volumes[v].openCount > 0, "an export is closed as often as it was opened")
        volumes[v].openCount -= 1
    }

    // MARK: Down

    /// Demote, disconnect, detach; one step after the other.
    mutating func continueDown() {
        guard let id = isGoingDown, !downStepRunning else { return }
        for v in volumes.indices where volumes[v].state.role == .primary {
            downStepRunning = true
            return demote(.partOfDown, v)
        }
        if link.phase != .standAlone {
            downStepRunning = true
            return commandReceived(.partOfDown, .disconnect(force: false))
        }
        for v in volumes.indices {
            switch volumes[v].state.disk {
            case .diskless: continue
            case .attaching, .failed: return
            case .negotiating, .inconsistent, .outdated, .unknown, .consistent, .upToDate:
                downStepRunning = true
                return performDetach(.partOfDown, v)
            }
        }
        isGoingDown = nil
        answer(id, .success)
    }

    mutating func partOfDownEnded(_ result: CommandAnswer) {
        downStepRunning = false
        if result.code < 0 || result.code >= 100 {
            if let id = isGoingDown {
                isGoingDown = nil
                answer(id, result)
            }
            return
        }
        continueDown()
    }
}

/// A primary that waits for its accepted writes before it gives up its role.
struct Demotion {
    var command: CommandID
    var volume: Int
    /// All requests are complete; data and bitmap are being made durable.
    var isSaving = false
}
