/// What the status texts say about one volume (`control.md` section 3 and 2.8): a snapshot of the core.
package struct VolumeStatus: Equatable, Sendable {
    package var volume: VolumeNumber
    package var minor: UInt32
    package var state: VolumeState
    /// nil without network configuration.
    package var replicationProtocol: ReplicationProtocol?
    /// Device size in sectors.
    package var sectors: UInt64 = 0
    package var counters = VolumeCounters()
    /// wo: `f`, `d`, `n` (or `b`).
    package var writeOrdering: Character = "f"
    /// Set bits of the bitmap.
    package var outOfSyncBits: UInt64 = 0
    /// Flag column 5: `-`, `d`, `c`, `b`, `n`, `a`.
    package var congestion: Character = "-"
    /// Flag column 6: activity log updates suspended.
    package var activityLogSuspended = false
    package var progress: SyncProgress?
    package var identifiers = GenerationIdentifiers(current: 0)
    /// Metadata flags as they would be written now (for get-gi); nil while diskless.
    package var metadataFlags: MetadataFlags?
    package var disk: DiskConfiguration?
    package var connection: ConnectionConfiguration?

    package init(volume: VolumeNumber, minor: UInt32, state: VolumeState) {
        self.volume = volume
        self.minor = minor
        self.state = state
    }
}

/// Counters of the second status line. The first four count sectors, printed as KiB by halving.
package struct VolumeCounters: Equatable, Sendable {
    package var networkSent: UInt64 = 0
    package var networkReceived: UInt64 = 0
    package var diskWritten: UInt64 = 0
    package var diskRead: UInt64 = 0
    package var activityLogWrites: UInt64 = 0
    package var bitmapWrites: UInt64 = 0
    package var localPending = 0
    package var peerPending = 0
    package var unacknowledged = 0
    package var applicationPending = 0
    package var epochs = 1

    package init() {}
}

/// A running resync or verify (`control.md` 3.5).
package struct SyncProgress: Equatable, Sendable {
    /// Bits at the start.
    package var totalBits: UInt64
    /// Bits left now (verify: not yet checked; resync: weight minus failed).
    package var bitsLeft: UInt64
    /// Whole seconds since the mark that the speed is averaged over, at least 1.
    package var secondsSinceMark: UInt64
    /// Bits left at that mark minus bits left now.
    package var bitsSinceMark: UInt64
    /// Whole seconds since the start without paused time, at least 1.
    package var secondsSinceStart: UInt64
    /// KiB/s; only on SyncTarget and VerifyS.
    package var wantedRate: UInt64?

    package init(
        totalBits: UInt64, bitsLeft: UInt64, secondsSinceMark: UInt64, bitsSinceMark: UInt64, secondsSinceStart: UInt64,
        wantedRate: UInt64?
    ) {
        self.totalBits = totalBits
        self.bitsLeft = bitsLeft
        self.secondsSinceMark = secondsSinceMark
        self.bitsSinceMark = bitsSinceMark
        self.secondsSinceStart = secondsSinceStart
        self.wantedRate = wantedRate
    }
}
