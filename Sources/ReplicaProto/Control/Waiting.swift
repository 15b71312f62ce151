/// wait-connect and wait-sync (`control.md` 5.3).
struct Waiter {
    var command: CommandID
    var volume: Int
    var forSync: Bool
    var afterSplitBrain: Bool
    /// nil: for ever.
    var until: Instant?
}

extension Resource {
    mutating func wait(_ id: CommandID, _ v: Int, _ times: WaitTimes, forSync: Bool) {
        // A crashed Primary that had lost its peer before: nobody knows more than it does.
        var seconds = times.wfc
        if volumes[v].isCrashedPrimary, !volumes[v].wasConnectedAtCrash { seconds = times.degraded }
        if volumes[v].state.peerDisk == .outdated { seconds = times.outdated }
        waiters.append(
            Waiter(
                command: id, volume: v, forSync: forSync, afterSplitBrain: times.afterSplitBrain,
                until: seconds > 0 ? now + .seconds(seconds) : nil))
        checkWaiters()
    }

    /// No resync runs, and none is owed: a copy that is known to be inconsistent beside a good one is about to get it.
    private func isInSync(_ v: Int) -> Bool {
        let state = volumes[v].state
        guard state.connection == .connected else { return false }
        switch (state.disk, state.peerDisk) {
        case (.upToDate, .inconsistent), (.inconsistent, .upToDate): return false
        default: return true
        }
    }

    mutating func checkWaiters() {
        var left: [Waiter] = []
        for waiter in waiters {
            let state = volumes[waiter.volume].state.connection
            let isThere = waiter.forSync ? isInSync(waiter.volume) : state.isConnected
            if isThere || (state == .standAlone && !waiter.afterSplitBrain) {
                answer(waiter.command, .success)
            } else if let until = waiter.until, until <= now {
                answer(waiter.command, CommandAnswer(code: 5))
            } else {
                left.append(waiter)
            }
        }
        waiters = left
        var next: Instant?
        for case let until? in waiters.map(\.until) where next.map({ until < $0 }) ?? true { next = until }
        if let next { timers.set(.waiters, next) } else { timers.cancel(.waiters) }
    }
}
