/// One run of a resync on one volume, on either side.
struct Resync {
    /// Tells the runs of a volume apart: a block that was being written when its run was aborted is none of the next.
    let serial: UInt64
    /// Bits at the start.
    var total: UInt64
    /// Blocks that could not be copied.
    var failed: UInt64 = 0
    /// Source: the identifier that was announced with P_SYNC_UUID.
    var identifier: UInt64 = 0
    let startedAt: Instant
    var pausedFor = TimeSpan(nanoseconds: 0)
    var pausedAt: Instant?
    /// Bits left at eight moments 3 s apart, for the speed shown.
    var marks: [(at: Instant, left: UInt64)]
    var lastMark = 0

    // MARK: Target
    var controller: ResyncController
    /// It is durable that our data is Inconsistent: requests may leave.
    var mayRequest = false
    var cursor = BitmapBlock(0)
    /// Blocks that may still be asked for in this step.
    var budget = 0
    /// Requested, not answered.
    private(set) var outstanding: [SectorRange] = []
    private(set) var outstandingSectors: UInt64 = 0
    /// Answered, being written.
    var writing = 0
    var answeredSectors = 0
    /// Written by this resync, to tell it from what applications write.
    var writtenSectors: UInt64 = 0
    /// Read by this resync for digests.
    var readSectors: UInt64 = 0
    var isEnding = false
    /// Blocks travel only where their digests differ: decided by the target at the start, noticed by the source.
    var usesChecksums = false
    /// Blocks that were equal on both nodes, in a run with checksums.
    var equalBlocks: UInt64 = 0
    /// Writes of applications failed here while requests that overlap them were outstanding: from where to where.
    private var failedWrites: (from: UInt64, to: UInt64)?
    /// Requests of this many sectors may be answered with "all zeroes"; 0 without thin resync.
    var thinSectors: UInt32 = 0
    /// The bitmap on disk follows every so many marks: half a minute is what a crash costs.
    static let marksPerSave = 10
    var marksSinceSave = 0
    /// Nothing is asked for until the progress is on disk.
    var wantsSave = false
    var isSaving = false
    /// Application sectors seen at the last step, for c-min-rate.
    var activitySeen: UInt64 = 0

    // MARK: Source
    /// The target says that it is done, but blocks are still marked here.
    var targetReported = false
    /// The target pinged when nothing was marked any more, as it does before it ends (`wire-resync.md` 8.8): it may have
    /// ended without our knowing.
    var targetMayHaveEnded = false

    init(serial: UInt64, total: UInt64, options: DiskOptions, maxBuffers: Int, at now: Instant) {
        self.serial = serial
        self.total = total
        startedAt = now
        marks = Array(repeating: (now, total), count: 8)
        controller = ResyncController(options: options, maxBuffers: maxBuffers)
        outstanding.reserveCapacity(Limits.resyncRequests)
    }

    func overlapsOutstanding(_ range: SectorRange) -> Bool {
        for other in outstanding where other.overlaps(range) { return true }
        return false
    }
    var isIdle: Bool { outstanding.isEmpty && writing == 0 }
    var mayAskMore: Bool {
        budget > 0 && !wantsSave && outstanding.count < Limits.resyncRequests && outstandingSectors < Limits.resyncWindowSectors
    }

    mutating func noteRequest(_ range: SectorRange) {
        outstanding.append(range)
        outstandingSectors += UInt64(range.count)
        controller.note(requestedSectors: Int(range.count))
        budget -= (Int(range.count) + 7) / 8
    }
    /// Takes back a request that was answered. False if it was never made.
    mutating func takeRequest(_ range: SectorRange) -> Bool {
        guard let position = outstanding.firstIndex(of: range) else { return false }
        outstanding.swapAt(position, outstanding.count - 1)
        outstanding.removeLast()
        outstandingSectors -= UInt64(range.count)
        return true
    }

    mutating func noteFailedWrite(_ range: SectorRange) {
        guard usesChecksums, overlapsOutstanding(range) else { return }
        let old = failedWrites ?? (range.start.value, range.end.value)
        failedWrites = (min(old.from, range.start.value), max(old.to, range.end.value))
    }
    /// Whether the source's word that a block is equal still holds.
    mutating func mayBeEqual(_ range: SectorRange) -> Bool {
        guard let failed = failedWrites else { return true }
        if outstanding.isEmpty { failedWrites = nil }
        return range.end.value <= failed.from || range.start.value >= failed.to
    }
}
