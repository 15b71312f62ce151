/// What another resource of this node says of one of its minors, for those that are to be synchronised after it.
package struct NeighbourMinor: Equatable, Sendable {
    package var minor: UInt32
    /// A resync or verify runs there or is paused, or would be.
    package var isBusy: Bool
    package var hasDisk: Bool
    /// The minor that it waits for itself, -1 = none.
    package var resyncAfter: Int

    package init(minor: UInt32, isBusy: Bool, hasDisk: Bool, resyncAfter: Int) {
        self.minor = minor
        self.isBusy = isBusy
        self.hasDisk = hasDisk
        self.resyncAfter = resyncAfter
    }
}

/// `resync-after`: a volume whose predecessor, or the predecessor of that one, is being synchronised waits in PausedSync
/// (`control.md` 1.9). Minors of other resources are known by what their processes publish; who is dead blocks nobody.
extension Resource {
    /// Somebody wants to hear of the minors of other resources.
    package var wantsNeighbours: Bool {
        for v in volumes.indices where volumes[v].diskOptions.resyncAfter >= 0 && volumes[v].state.disk != .diskless {
            return true
        }
        return false
    }

    /// Own minors as other resources should see them.
    package func neighbour(_ number: VolumeNumber) -> NeighbourMinor? { index(of: number).map { asNeighbour($0) } }

    mutating func neighboursChanged(_ found: [NeighbourMinor]) {
        neighbours = found
        followDependencies()
    }

    /// Pauses what has to wait and lets go on what need not any longer. Called at the end of a step in which a state has
    /// changed.
    mutating func followDependencies() {
        for v in volumes.indices {
            let state = volumes[v].state
            guard state.pausedByDependency || volumes[v].diskOptions.resyncAfter >= 0 else { continue }
            if state.connection == .standAlone, state.disk == .diskless { continue }
            let waits = mustWaitForOthers(v)
            if waits != state.pausedByDependency { setState(v) { $0.pausedByDependency = waits } }
        }
        // What this itself has changed is no reason to look again: whoever is paused is as busy as before.
        dependenciesMayHaveChanged = false
    }

    private func mustWaitForOthers(_ v: Int) -> Bool {
        var current = asNeighbour(v)
        // A chain is as long as there are minors; a cycle that two daemons built at once is not followed for ever.
        for _ in 0...(volumes.count + neighbours.count) {
            guard current.hasDisk, current.resyncAfter >= 0, let next = minor(current.resyncAfter) else { return false }
            if next.isBusy { return true }
            current = next
        }
        return false
    }

    /// 132 or 133, or nil if a volume may depend on that minor.
    func dependencyProblem(_ v: Int, after wanted: Int) -> Int32? {
        if wanted < 0 { return nil }
        if wanted > 1_048_575 { return 132 }
        var next = wanted
        for _ in 0...(volumes.count + neighbours.count) {
            if next == Int(volumes[v].minor) { return 133 }
            guard let found = minor(next), found.hasDisk, found.resyncAfter >= 0 else { return nil }
            next = found.resyncAfter
        }
        return nil
    }

    private func minor(_ number: Int) -> NeighbourMinor? {
        for v in volumes.indices where Int(volumes[v].minor) == number { return asNeighbour(v) }
        for other in neighbours where Int(other.minor) == number { return other }
        return nil
    }

    private func asNeighbour(_ v: Int) -> NeighbourMinor {
        let state = volumes[v].state
        return NeighbourMinor(
            minor: volumes[v].minor,
            isBusy: state.connection.isResyncing || state.connection.isVerifying || state.pausedByDependency
                || state.pausedByPeer || state.pausedByUser,
            hasDisk: state.disk != .diskless, resyncAfter: volumes[v].diskOptions.resyncAfter)
    }
}

extension ControlCommand {
    /// Names a minor that may be another resource's.
    package var dependsOnMinor: Bool {
        switch self {
        case .attach(_, let disk): disk.options.resyncAfter >= 0
        case .diskOptions(_, let options): options.resyncAfter >= 0
        default: false
        }
    }
}
