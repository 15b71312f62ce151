/// Metadata writes of one volume, strictly one after the other, and what follows when a step is durable.
///
/// Every ordered procedure of `metadata.md` 5.5 is a sequence of steps here; nothing in it waits for anything but
/// metadata I/O, so the queue always moves on.
struct MetadataQueue {
    enum Step: Equatable {
        /// If it differs from what was written last. With `md-flushes`: pre-flush and FUA.
        case superblock
        /// All pages that changed.
        case changedPages
        /// Makes completed data writes durable.
        case flushData
        case flushMetadata
        /// Says that nothing depends on the log (`Superblock.withoutLog`); comes before the log is emptied.
        case disarmLog
        case initialiseLog
        /// From here on metadata goes to another place.
        case relocate(MetadataLayout)
        /// So many transactions that say again what is hot, in a log that knows nothing.
        case logContext(Int)
        /// Erases a superblock that is not in use any more.
        case clearSuperblock(Sector)
        /// Says that the log holds nothing and the bitmap is complete: any attach accepts it.
        case cleanSuperblock
        /// Runs when all steps before it are done.
        case then(Consequence)
    }

    private var steps: [Step] = []
    private var head = 0
    /// The step whose I/O is outstanding.
    var running: Step?
    /// The activity log transaction in flight, and whether its bitmap pages are still on their way.
    var transactionRunning = false
    var transactionPagesDone = false
    /// The log is not where transactions can go to.
    var holdsTransactions = false
    var transaction: ActivityLog.Transaction?
    /// The block of the transaction in flight.
    var transactionBlock = [UInt8](repeating: 0, count: 4096)
    /// Evicted extents of the transaction in flight whose pages are still to be checked.
    var evictedCursor = 0

    var isIdle: Bool { running == nil && !transactionRunning && head == steps.count }
    var hasSteps: Bool { head < steps.count }

    mutating func append(_ step: Step) { steps.append(step) }
    /// Another step comes first.
    mutating func putBack(_ step: Step) {
        if head > 0 {
            head -= 1
            steps[head] = step
        } else {
            steps.insert(step, at: 0)
        }
    }
    mutating func takeNext() -> Step? {
        guard head < steps.count else { return nil }
        let step = steps[head]
        head += 1
        if head == steps.count {
            steps.removeAll(keepingCapacity: true)
            head = 0
        }
        return step
    }
}

/// What happens once metadata steps are done.
enum Consequence: Equatable {
    case answer(CommandID)
    case attached
    /// The new current identifier is durable: held replies may leave.
    case rotated
    /// It is durable that our disk is not good any more: replies that rely on the peer's may leave.
    case degraded
    case promoted(CommandID, forced: Bool)
    case mayDemote(CommandID)
    case demoted(CommandID)
    /// Source: its new bitmap identifier is durable.
    case syncUUIDReady(UInt64)
    /// Target: it is durably Inconsistent under the new identifier.
    case resyncMayBegin
    /// Target: blocks and bits of the run so far are durable.
    case progressSaved(UInt64)
    /// The log of this node counts for what a diskless Primary writes here.
    case guarding
    /// Target: every resynced block is durable.
    case resyncedDataDurable
    /// Target: the identifiers of the end are durable.
    case resyncEndDurable
    /// The whole bitmap is set on disk.
    case fullSyncWritten(FullSync)
    /// Superblock, log and bitmap are at their new place.
    case metadataMoved
    /// ... and nothing of the old one counts.
    case resized
    case cleanedUpAfterLoss
    case closeDisk
}

/// Why the whole bitmap was set.
enum FullSync: Equatable {
    case startingSource
    case startingTarget
    case decidedSource
    case decidedTarget
    case alone(CommandID)
    case lostCache
}

extension Resource {
    /// Appends steps and starts the first if nothing runs.
    mutating func enqueue(_ v: Int, _ steps: MetadataQueue.Step...) {
        for step in steps { volumes[v].metadata.append(step) }
        advanceMetadata(v)
    }

    /// Starts the next metadata I/O of a volume if none is outstanding. The activity log goes first: writes wait for it.
    mutating func advanceMetadata(_ v: Int) {
        while volumes[v].metadata.running == nil, !volumes[v].metadata.transactionRunning {
            if volumes[v].hasDisk || volumes[v].state.disk == .negotiating, volumes[v].activityLog.hasPending,
                !volumes[v].metadata.holdsTransactions
            {
                // What is in the log counts only on a node that was Primary (`metadata.md` 4.10).
                let needsIndicator =
                    volumes[v].superblock != nil && !volumes[v].metadataBroken
                    && !(volumes[v].writtenSuperblock?.flags.contains(.primaryIndicator) ?? false)
                    && currentFlags(v).contains(.primaryIndicator)
                if needsIndicator { start(.superblock, v) } else { startTransaction(v) }
                continue
            }
            guard let step = volumes[v].metadata.takeNext() else { return }
            start(step, v)
        }
    }

    private mutating func start(_ step: MetadataQueue.Step, _ v: Int) {
        let number = volumes[v].number
        if case .then(let consequence) = step {
            follow(consequence, v)
            return
        }
        guard volumes[v].superblock != nil, !volumes[v].isAbandoned, !volumes[v].metadataBroken || step == .flushData
        else { return }
        switch step {
        case .superblock:
            let block = currentSuperblock(v)
            if block == volumes[v].writtenSuperblock { return }
            if !block.flags.contains(.primaryIndicator), let written = volumes[v].writtenSuperblock,
                written.flags.contains(.primaryIndicator), writeNextPages(v)
            {
                // From then on the log is not replayed: what it covered has to be in the bitmap on disk first.
                volumes[v].metadata.putBack(step)
                volumes[v].metadata.running = .changedPages
                return
            }
            volumes[v].superblock = block
            volumes[v].writtenSuperblock = block
            volumes[v].metadata.running = step
            emit(.writeSuperblock(number, block, durable: volumes[v].diskOptions.mdFlushes || volumes[v].metadataIsMoving))
        case .changedPages:
            guard writeNextPages(v) else { return }
            volumes[v].metadata.running = step
        case .flushData:
            volumes[v].metadata.running = step
            emit(.flushDisk(number, .metadata))
        case .flushMetadata:
            volumes[v].metadata.running = step
            emit(.flushMetadata(number))
        case .disarmLog:
            let block = currentSuperblock(v)
            guard let disarmed = block.withoutLog else { return }
            volumes[v].writtenSuperblock = disarmed
            volumes[v].metadata.running = step
            emit(.writeSuperblock(number, disarmed, durable: volumes[v].diskOptions.mdFlushes))
        case .initialiseLog:
            volumes[v].metadata.running = step
            emit(.initialiseActivityLog(number))
        case .relocate(let layout):
            relocate(v, to: layout)
        case .logContext(let count):
            volumes[v].metadata.holdsTransactions = false
            guard count > 0 else { return }
            volumes[v].metadata.putBack(.logContext(count - 1))
            startTransaction(v)
        case .clearSuperblock(let sector):
            volumes[v].metadata.running = step
            emit(.clearSuperblock(number, at: sector))
        case .cleanSuperblock:
            var block = currentSuperblock(v)
            block.isUnclean = false
            block.flags.insert(.activityLogClean)
            volumes[v].writtenSuperblock = block
            volumes[v].metadata.running = step
            emit(.writeSuperblock(number, block, durable: volumes[v].diskOptions.mdFlushes))
        case .then:
            return
        }
    }

    /// Emits a write of the next run of changed pages. False if none is left.
    private mutating func writeNextPages(_ v: Int) -> Bool {
        guard let first = volumes[v].bitmap.nextDirtyPage(from: 0) else { return false }
        var end = first
        while end < volumes[v].bitmap.pageCount, end - first < 256, volumes[v].bitmap.isPageDirty(end) {
            volumes[v].bitmap.markPageClean(end)
            end += 1
        }
        volumes[v].counters.bitmapWrites += UInt64(end - first)
        emit(.writeBitmapPages(volumes[v].number, firstPage: UInt32(first), count: UInt32(end - first)))
        return true
    }

    // MARK: Activity log transactions

    private mutating func startTransaction(_ v: Int) {
        volumes[v].metadata.transaction = volumes[v].activityLog.beginTransaction()
        volumes[v].metadata.transactionRunning = true
        volumes[v].metadata.transactionPagesDone = false
        volumes[v].metadata.evictedCursor = 0
        continueTransaction(v)
    }

    /// Bitmap pages of evicted extents first, then the block (`metadata.md` 4.6).
    private mutating func continueTransaction(_ v: Int) {
        let number = volumes[v].number
        if !volumes[v].diskOptions.alUpdates {
            finishTransaction(v)
            return
        }
        if mutation != .evictWithoutBitmapWrite {
            while volumes[v].metadata.evictedCursor < volumes[v].activityLog.evictedExtents.count {
                let extent = volumes[v].activityLog.evictedExtents[volumes[v].metadata.evictedCursor]
                volumes[v].metadata.evictedCursor += 1
                let page = Int(extent >> 5)
                if page < volumes[v].bitmap.pageCount, volumes[v].bitmap.isPageDirty(page) {
                    volumes[v].bitmap.markPageClean(page)
                    volumes[v].counters.bitmapWrites += 1
                    emit(.writeBitmapPages(number, firstPage: UInt32(page), count: 1))
                    return
                }
            }
        }
        let evicts = volumes[v].metadata.transaction?.evicts ?? false
        let block = volumes[v].metadata.transaction?.block ?? 0
        volumes[v].activityLog.encodeTransaction(into: &volumes[v].metadata.transactionBlock)
        volumes[v].metadata.transactionPagesDone = true
        volumes[v].counters.activityLogWrites += 1
        let durable = volumes[v].diskOptions.mdFlushes
        emit(.writeActivityLog(number, block: block, flushFirst: evicts && durable, durable: durable))
    }

    private mutating func finishTransaction(_ v: Int) {
        volumes[v].activityLog.transactionCommitted()
        volumes[v].metadata.transactionRunning = false
        retryLater(v)
    }

    // MARK: Completion

    mutating func metadataWritten(_ number: VolumeNumber, _ error: DiskError?) {
        guard let v = index(of: number) else { return }
        if let error {
            log(.error, v, "meta data IO failed: errno \(error.code)")
            volumes[v].metadata.running = nil
            if volumes[v].metadata.transactionRunning {
                volumes[v].metadata.transactionRunning = false
                volumes[v].activityLog.transactionCommitted()
                // It may have been the flush before it.
                receivedWritesAreInDoubt()
            }
            metadataFailed(v)
            advanceMetadata(v)
            return
        }
        if volumes[v].metadata.transactionRunning {
            if volumes[v].metadata.transactionPagesDone { finishTransaction(v) } else { continueTransaction(v) }
        } else if let running = volumes[v].metadata.running {
            if running == .changedPages, writeNextPages(v) { return }
            volumes[v].metadata.running = nil
        }
        advanceMetadata(v)
    }

    mutating func metadataDataFlushed(_ v: Int, _ error: DiskError?) {
        guard volumes[v].metadata.running == .flushData else { return }
        volumes[v].metadata.running = nil
        if let error {
            log(.error, v, "flushing the data device failed: errno \(error.code)")
            // Nobody knows what was lost with it. The metadata can still say so.
            if !volumes[v].isAbandoned { volumes[v].fullSyncFlag = true }
            receivedWritesAreInDoubt()
            forgetRotation(v)
            // An attach that it happens to is refused as for broken metadata.
            failDisk(v, isMetadata: volumes[v].state.disk == .attaching)
            retryLater(v)
        }
        advanceMetadata(v)
    }

    /// A metadata error always detaches, whatever on-io-error says (`metadata.md` 7.3).
    private mutating func metadataFailed(_ v: Int) {
        forgetRotation(v)
        failDisk(v, isMetadata: true)
        retryLater(v)
    }

    /// Nobody will ever use the new identifier. Our disk may have it all the same (`withoutDoubt`).
    mutating func forgetRotation(_ v: Int) {
        guard volumes[v].isRotating else { return }
        volumes[v].rotationFailed = true
        volumes[v].exposedIdentifier = volumes[v].rotatedFrom
        volumes[v].doubtfulIdentifier = volumes[v].identifiers.current
    }

    // MARK: The superblock

    /// Flags that the state speaks for (`metadata.md` 5.3). While the disk is not usable they keep their last value.
    func currentFlags(_ v: Int) -> MetadataFlags {
        let volume = volumes[v]
        let state = volume.state
        var flags = volume.superblock?.flags ?? []
        let isFullSync = volume.fullSyncFlag || volume.fullSyncsRunning > 0 || volume.metadataIsMoving
        if isFullSync { flags.insert(.fullSync) } else { flags.remove(.fullSync) }
        if volume.activityLogDisabled || volume.metadataIsMoving {
            flags.insert(.activityLogDisabled)
        } else {
            flags.remove(.activityLogDisabled)
        }
        guard state.disk.isUsable else { return flags }
        let known: MetadataFlags = [
            .primaryIndicator, .connectedIndicator, .consistent, .wasUpToDate, .peerOutdated, .crashedPrimary,
            .activityLogClean,
        ]
        flags.subtract(known)
        if state.role == .primary || (!state.peerDisk.isThere && state.peerRole == .primary) {
            flags.insert(.primaryIndicator)
        }
        if state.connection.isConnected { flags.insert(.connectedIndicator) }
        if state.disk != .inconsistent { flags.insert(.consistent) }
        if state.disk == .consistent || state.disk == .upToDate { flags.insert(.wasUpToDate) }
        if state.peerDisk == .inconsistent || state.peerDisk == .outdated { flags.insert(.peerOutdated) }
        if volume.isCrashedPrimary { flags.insert(.crashedPrimary) }
        return flags
    }

    func currentSuperblock(_ v: Int) -> Superblock {
        var block = volumes[v].superblock!
        block.flags = currentFlags(v)
        block.identifiers = volumes[v].identifiers
        block.lastAgreedSectors = volumes[v].sectors
        block.isUnclean = true
        block.activityLogExtents = UInt32(volumes[v].diskOptions.alExtents)
        block.peerMaximumRequest = max(volumes[v].peerMaximumRequest, 4096)
        return block
    }

    /// Something that the superblock says changed: written at the next ordered step, at the latest in 5 s.
    mutating func superblockChanged(_ v: Int) {
        if !timers.isSet(.superblock) { timers.set(.superblock, now + .seconds(5)) }
    }

    mutating func writeChangedSuperblocks() {
        for v in volumes.indices where volumes[v].hasDisk { enqueue(v, .superblock) }
    }
}
