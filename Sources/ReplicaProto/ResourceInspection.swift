/// A look inside for those who check the core from outside: the simulator and the tests. Changes nothing.
extension Resource {
    package func state(of number: VolumeNumber) -> VolumeState? {
        index(of: number).map { volumes[$0].state }
    }

    package func identifiers(of number: VolumeNumber) -> GenerationIdentifiers? {
        index(of: number).map { volumes[$0].identifiers }
    }

    /// A new current identifier whose write has not ended, or has failed: the disk may hold it, but nothing relies on it.
    package func unusedGeneration(of number: VolumeNumber) -> UInt64? {
        guard let v = index(of: number) else { return nil }
        if volumes[v].isRotating { return volumes[v].identifiers.current }
        return volumes[v].doubtfulIdentifier == 0 ? nil : volumes[v].doubtfulIdentifier
    }

    /// Size of the device.
    package func sectors(of number: VolumeNumber) -> UInt64 { index(of: number).map { volumes[$0].sectors } ?? 0 }

    /// Set bits of the bitmap in memory.
    package func outOfSyncBits(of number: VolumeNumber) -> UInt64 {
        index(of: number).map { volumes[$0].bitmap.weight } ?? 0
    }

    /// Whether a block counts as different on the peer.
    package func isOutOfSync(_ block: BitmapBlock, of number: VolumeNumber) -> Bool {
        guard let v = index(of: number), block.value < volumes[v].bitmap.bits else { return false }
        return volumes[v].bitmap.isSet(block)
    }

    /// Writes that were overruled because both nodes wrote the same at once.
    package func conflicts(of number: VolumeNumber) -> UInt64 { index(of: number).map { volumes[$0].conflicts } ?? 0 }

    /// What is not as it has to be when nothing is going on (`design.md` section 5): leases, references, open work.
    package func openWork() -> [String] {
        var found: [String] = []
        if transferLog.count > 0 { found.append("\(transferLog.count) writes in the transfer log") }
        if peerRequests.list.count > 0 { found.append("\(peerRequests.list.count) requests of the peer") }
        if !requests.isUnused { found.append("client requests") }
        for volume in volumes {
            if volume.active.count > 0 { found.append("\(volume.active.count) active requests") }
            if volume.waitingCount != 0 { found.append("\(volume.waitingCount) waiting requests") }
            if volume.localPending != 0 { found.append("\(volume.localPending) disk operations") }
            if volume.activityLog.totalReferences != 0 {
                found.append("\(volume.activityLog.totalReferences) references to activity log extents")
            }
            if !volume.metadata.isIdle { found.append("metadata steps") }
            let counters = volume.counters
            if counters.localPending != 0 || counters.peerPending != 0 || counters.unacknowledged != 0
                || counters.applicationPending != 0
            {
                found.append(
                    "counters lo:\(counters.localPending) pe:\(counters.peerPending) ua:\(counters.unacknowledged) ap:\(counters.applicationPending)")
            }
        }
        return found
    }
}

/// What a daemon that hands over tells of.
extension Resource {
    package var resourceOptions: ResourceOptions { options }

    /// How long a peer that is there and looks for us may take to be met: both ends let their streams settle first.
    package var meetingTime: TimeSpan {
        let check = link.options.socketCheckTimeout
        return .deciseconds(50 + (check == 0 ? link.options.pingTimeout : check))
    }

    /// `connect --discard-my-data` was said, and no peer has been met since.
    package var discardsDataWhenConnected: Bool { link.discardMyData && link.phase != .standAlone }
}
