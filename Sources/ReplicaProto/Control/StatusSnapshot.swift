/// What monitors see.
extension Resource {
    /// A snapshot of all volumes, in ascending order of number.
    package func status(at now: Instant) -> [VolumeStatus] {
        volumes.indices.map { status(of: $0, at: now) }
    }

    /// How long requests took, for all volumes, in the same order.
    package var latencies: [(VolumeNumber, Latencies)] { volumes.map { ($0.number, $0.latencies) } }

    private func status(of v: Int, at now: Instant) -> VolumeStatus {
        let volume = volumes[v]
        var status = VolumeStatus(volume: volume.number, minor: volume.minor, state: volume.state)
        status.replicationProtocol = link.configuration == nil ? nil : link.options.replicationProtocol
        status.sectors = volume.sectors
        status.counters = volume.counters
        status.counters.localPending = volume.localPending
        status.counters.epochs = receiveEpochs.count
        status.writeOrdering = writeOrdering.letter
        status.outOfSyncBits = volume.bitmap.weight
        status.congestion = volume.isSuspended ? "d" : "-"
        status.identifiers = volume.identifiers
        status.metadataFlags = volume.superblock == nil ? nil : currentFlags(v)
        status.disk = volume.disk
        status.connection = link.configuration
        if let resync = volume.resync, volume.state.connection == .syncSource || volume.state.connection == .syncTarget {
            status.progress = progress(v, resync, at: now)
        }
        if let verify = volume.verify { status.progress = progress(verify, at: now) }
        return status
    }

    private func progress(_ verify: OnlineVerify, at now: Instant) -> SyncProgress {
        let mark = verify.marks[(verify.lastMark + 2) % verify.marks.count]
        return SyncProgress(
            totalBits: verify.total, bitsLeft: verify.left, secondsSinceMark: max(1, now.since(mark.at).wholeSeconds),
            bitsSinceMark: mark.left > verify.left ? mark.left - verify.left : 0,
            secondsSinceStart: max(1, now.since(verify.startedAt).wholeSeconds),
            wantedRate: verify.isInitiator ? UInt64(clamping: verify.controller.wantedRate) : nil)
    }

    private func progress(_ v: Int, _ resync: Resync, at now: Instant) -> SyncProgress {
        let weight = volumes[v].bitmap.weight
        let left = weight > resync.failed ? weight - resync.failed : 0
        let mark = resync.marks[(resync.lastMark + 2) % 8]
        let elapsed = now.since(resync.startedAt).nanoseconds
        let active = elapsed > resync.pausedFor.nanoseconds ? elapsed - resync.pausedFor.nanoseconds : 0
        return SyncProgress(
            totalBits: resync.total, bitsLeft: left, secondsSinceMark: max(1, now.since(mark.at).wholeSeconds),
            bitsSinceMark: mark.left > left ? mark.left - left : 0,
            secondsSinceStart: max(1, active / 1_000_000_000),
            wantedRate: volumes[v].state.connection == .syncTarget ? UInt64(clamping: resync.controller.wantedRate) : nil)
    }
}
