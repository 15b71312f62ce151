/// A flush that the data disk failed: what its cache held may be gone, and the next flush would say that all is well.
/// Nothing that was written since the last good one counts (`design.md` 5, rule 3).
///
/// DRBD 8.4 goes on with write ordering `drain` and acknowledges the epoch. We do that only where the disk has no flush.
extension Resource {
    /// The end of `Effect.flushDisk` for a group of epochs.
    mutating func epochFlushed(_ v: Int, _ group: UInt64, _ error: DiskError?) {
        volumes[v].localPending -= 1
        if let error {
            log(.error, v, "local disk flush failed with status -\(error.code)")
            guard error.saysUnsupported else {
                peersWritesMayBeLost(v)
                return diskMayBeIdle(v)
            }
            writeOrdering = min(writeOrdering, .drain)
        }
        if receiveEpochs.runningGroup == group, receiveEpochs.isFlushing {
            receiveEpochs.flushesPending -= 1
            advanceEpochs()
        }
        diskMayBeIdle(v)
    }

    /// The peer has answered them already. It takes all whose epoch is not acknowledged for missing here once the connection
    /// is gone, and the next one mends them; without a connection nobody waits for an epoch.
    private mutating func peersWritesMayBeLost(_ v: Int) {
        // What a resync wrote belongs to no epoch, and the source has cleared its bits.
        if volumes[v].resync != nil { setWholeBitmap(v, .lostCache) }
        markLeavingExtents(v)
        localIOFailed(v)
        connectionFailed(.networkFailure)
    }

    /// A flush failed that was not meant for the peer's writes, but would have covered them, and that of their epoch would not
    /// tell any more: none of what the peer has not had acknowledged may ever be.
    mutating func receivedWritesAreInDoubt() {
        if link.isUsable, receiveEpochs.owesAcknowledgements { connectionFailed(.networkFailure) }
    }

    /// A flush of a client failed on our disk. What it was to make durable lies inside the extents of the activity log, which
    /// the next attach finds; a disk that stays in use has to know now.
    mutating func ownWritesMayBeLost(_ v: Int) {
        volumes[v].closesCleanly = false
        markLeavingExtents(v)
        receivedWritesAreInDoubt()
        if volumes[v].diskOptions.onIOError == .passOn, volumes[v].hasDisk {
            if volumes[v].activityLogDisabled {
                setWholeBitmap(v, .lostCache)
            } else {
                markHotExtents(v)
            }
            // Bits that come in the middle of a resync would be none that the other side knows of.
            if volumes[v].resync != nil { connectionFailed(.networkFailure) }
        }
        localIOFailed(v)
    }

    private mutating func markHotExtents(_ v: Int) {
        for slot in 0..<volumes[v].activityLog.slots {
            if let extent = volumes[v].activityLog.extent(inSlot: slot) { markExtent(v, extent) }
        }
    }

    /// The log's transaction flushes the disk before it lets extents go; one that was asked for that while another flush failed
    /// may hear that all is well.
    private mutating func markLeavingExtents(_ v: Int) {
        let leaving = volumes[v].activityLog.leavingExtents
        for extent in leaving { markExtent(v, extent) }
        if !leaving.isEmpty, volumes[v].hasDisk { enqueue(v, .changedPages) }
    }

    private mutating func markExtent(_ v: Int, _ extent: UInt32) {
        let start = UInt64(extent) * ActivityLogExtent.sectors
        guard start < volumes[v].sectors else { return }
        let count = min(ActivityLogExtent.sectors, volumes[v].sectors - start)
        _ = volumes[v].bitmap.setOutOfSync(SectorRange(start, UInt32(count)), deviceSectors: volumes[v].sectors)
    }
}

extension DiskError {
    /// EINVAL, ENOSYS, EOPNOTSUPP, in answer to a flush: there is no cache that could be flushed.
    var saysUnsupported: Bool { code == 22 || code == 38 || code == 95 }
}
