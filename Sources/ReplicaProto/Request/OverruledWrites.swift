/// What becomes of our writes that the holder of the resolver flag overruled (`wire.md` 7.8), and of their epochs.
extension Resource {
    /// P_SUPERSEDED, P_RETRY_WRITE
    mutating func writeOverruled(_ ack: BlockAck, again: Bool) {
        guard let r = requests.find(blockID: ack.blockID), requests[r].isRunningWrite, isAck(ack, for: r),
            requests[r].remote == .sent, !again || link.version >= 100, link.options.allowTwoPrimaries, !link.isResolver,
            !link.sentEpochs.isFull
        else {
            log(.error, nil, "unexpected verdict for sector \(ack.sector.value)")
            return connectionFailed(.networkFailure)
        }
        let v = requests[r].volume
        // DRBD 8.4 never acknowledges an epoch with a write that it overruled: nothing more shall be in it.
        if requests[r].epoch == link.epoch { closeEpoch() }
        link.sentEpochs.overrule(requests[r].epoch)
        volumes[v].conflicts &+= 1
        if again { requests[r].isWantedAgain = true }
        if requests[r].piecesLeft > 0 { requests[r].piecesLeft -= 1 }
        if requests[r].piecesLeft == 0 {
            if requests[r].isWantedAgain {
                postpone(r)
            } else {
                // Written, and overwritten at once by the one that is on its way to us.
                if requests[r].parts == 1 {
                    leaveTransferLog(r)
                    requests[r].acknowledgedEpoch = true
                }
                peerPendingEnds(r, answered: false)
                requests[r].remote = .written
                completeIfDone(r)
            }
            retryLater(v)
        }
        dropEmptyEpochs()
        armRequestTimer()
        armProofTimer()
    }

    /// To be written again, after a write of the peer that is on its way.
    mutating func postpone(_ r: Int32) {
        leaveTransferLog(r)
        peerPendingEnds(r, answered: false)
        requests[r].stage = .postponed
        requests[r].remote = .absent
        requests[r].isWantedAgain = false
        volumes[requests[r].volume].waitingCount += 1
        retryLater(requests[r].volume)
    }

    // MARK: Once more

    /// What the peer's write had to be written after is in place: ours follow as new writes.
    ///
    /// - Parameter range: nil when there is no peer any more that could overwrite them first.
    mutating func restartPostponed(_ v: Int, after range: SectorRange?) {
        guard volumes[v].waitingCount > 0 else { return }
        var r = volumes[v].active.head
        while r >= 0 {
            if requests[r].stage == .postponed, range.map({ $0.overlaps(requests[r].range) }) ?? true {
                if range == nil {
                    // Here, and perhaps nowhere else.
                    _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
                }
                if requests[r].local == .pending { requests[r].restarts = true } else { restart(r) }
            }
            r = requests[r].next
        }
    }

    mutating func restart(_ r: Int32) {
        requests[r].stage = requests[r].holdsExtents ? .waitingOverlap : .waitingLogSpace
        requests[r].local = .pending
        requests[r].remote = .absent
        requests[r].restarts = false
        requests[r].peerClearedBits = false
        retryLater(requests[r].volume)
    }

    // MARK: Epochs that are never acknowledged

    /// How long the peer may take to acknowledge an epoch of which it has answered every write.
    private var proofDelay: TimeSpan { .deciseconds(link.options.pingTimeout) * 4 }

    mutating func armProofTimer() {
        if link.sentEpochs.overruledCount > 0, !timers.isSet(.epochProof) { timers.set(.epochProof, now + proofDelay) }
    }

    /// Epochs of which nothing is left.
    mutating func dropEmptyEpochs() {
        while let oldest = link.sentEpochs.first, oldest.overruled == oldest.writes {
            acknowledgeOldestEpoch()
        }
    }

    /// Whether the peer has answered every write of the oldest epoch.
    func oldestEpochIsAnswered(_ number: UInt32) -> Bool {
        var r = transferLog.head
        while r >= 0, requests[r].epoch == number {
            if requests[r].remote != .written, requests[r].remote != .refused { return false }
            r = requests[r].logNext
        }
        return true
    }

    /// DRBD 8.4 owes the acknowledgement of an epoch for ever in which it overruled a write. A later one says the same,
    /// and if there is none for a while, a read does: its receiver drains and flushes at a P_BARRIER before it looks at the
    /// next packet, so what was read after it was read from a disk that has all of the epoch (`wire.md` 7.5).
    mutating func askForEpochProof() {
        guard link.isUsable, link.proofIsFor == nil, let oldest = link.sentEpochs.first, let last = link.sentEpochs.last
        else { return }
        defer { armProofTimer() }
        let r = transferLog.head
        guard oldest.overruled > 0, now.since(oldest.sentAt) >= proofDelay, r >= 0, oldestEpochIsAnswered(oldest.number)
        else { return }
        link.proofIsFor = last.number
        let request = BlockRequest(
            sector: requests[r].range.start, blockID: Link.proofBlockID, byteCount: min(requests[r].range.byteCount, 4096))
        send(.data, requests[r].volume, .dataRequest(request))
    }

    /// The answer to the read. Refused, it says nothing: the blocks of those epochs count as missing on the peer.
    mutating func epochProofArrived(isGood: Bool) {
        guard let newest = link.proofIsFor else { return }
        link.proofIsFor = nil
        while let oldest = link.sentEpochs.first, oldest.overruled > 0, Int32(bitPattern: oldest.number &- newest) <= 0,
            oldestEpochIsAnswered(oldest.number)
        {
            if !isGood { markEpoch(oldest.number) }
            acknowledgeOldestEpoch()
            dropEmptyEpochs()
        }
        epochsWereAcknowledged()
        armProofTimer()
    }

    private mutating func markEpoch(_ number: UInt32) {
        var r = transferLog.head
        while r >= 0, requests[r].epoch == number {
            let v = requests[r].volume
            _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            r = requests[r].logNext
        }
    }
}
