/// Writes that the peer has not confirmed epoch by epoch, and the epochs themselves (`wire.md` 7.5).
extension Resource {
    /// Ends the open epoch: a write issued from now on may depend on one that is complete.
    mutating func closeEpoch() {
        guard link.epochWrites > 0 else { return }
        send(.data, nil, .barrier(number: link.epoch))
        link.sentEpochs.append(EpochQueue.Epoch(number: link.epoch, writes: UInt32(link.epochWrites), sentAt: now))
        link.epoch &+= 1
        link.epochWrites = 0
        link.barrierSentAt = now
        armRequestTimer()
    }

    /// P_BARRIER_ACK: all writes of the oldest epoch are where the peer's write ordering puts them.
    mutating func barrierAcknowledged(_ number: UInt32, _ setSize: UInt32) {
        if let proven = link.provenEpoch, Int32(bitPattern: number &- proven) <= 0 { return }
        while let oldest = link.sentEpochs.first, oldest.number != number, oldest.overruled > 0,
            oldestEpochIsAnswered(oldest.number)
        {
            acknowledgeOldestEpoch()
        }
        guard let oldest = link.sentEpochs.first, oldest.number == number,
            setSize == oldest.writes - oldest.overruled || setSize == oldest.writes
        else {
            log(.error, nil, "BAD! BarrierAck #\(number) received, set_size=\(setSize)")
            return connectionFailed(.protocolError)
        }
        acknowledgeOldestEpoch()
        dropEmptyEpochs()
        epochsWereAcknowledged()
    }

    /// All writes of the oldest epoch are done with.
    mutating func acknowledgeOldestEpoch() {
        guard let oldest = link.sentEpochs.first else { return }
        let number = oldest.number
        if oldest.overruled > 0 { link.provenEpoch = number }
        link.sentEpochs.removeFirst()
        while transferLog.head >= 0, requests[transferLog.head].epoch == number {
            let r = transferLog.head
            leaveTransferLog(r)
            if requests[r].stage == .answered {
                retire(r, acknowledged: true)
            } else {
                requests[r].acknowledgedEpoch = true
                // Queued, too: the news that it left may be slower than the answer to it.
                if requests[r].remote == .queued || requests[r].remote == .sent || requests[r].remote == .received {
                    peerPendingEnds(r, answered: true)
                    requests[r].remote = .written
                    completeIfDone(r)
                } else if requests[r].fua {
                    completeIfDone(r)
                }
            }
        }
    }

    /// What waits for the end of an epoch.
    mutating func epochsWereAcknowledged() {
        finishFlushes()
        demotionsMayContinue()
        for v in volumes.indices {
            if volumes[v].waitingCount > 0 || peerRequests.waiting > 0 { retryLater(v) }
            if volumes[v].verify?.wanted != nil { askForDigests(v) }
            mayCatchUp(v)
        }
    }

    mutating func enterTransferLog(_ r: Int32) {
        requests.appendToLog(r, &transferLog)
        volumes[requests[r].volume].inFlightSectors &+= UInt64(requests[r].range.count)
    }

    mutating func leaveTransferLog(_ r: Int32) {
        requests.removeFromLog(r, &transferLog)
        if peerRequests.overruledCount > 0 { finishOverruled(by: r) }
        volumes[requests[r].volume].inFlightSectors &-= UInt64(requests[r].range.count)
    }

    /// P_RECV_ACK, P_WRITE_ACK, P_RS_WRITE_ACK for a write of ours.
    mutating func writeAcknowledged(_ ack: BlockAck, _ progress: RemoteProgress, clearsBits: Bool) {
        guard let r = requests.find(blockID: ack.blockID), isAck(ack, for: r) else {
            log(.error, nil, "unexpected ack for sector \(ack.sector.value)")
            return connectionFailed(.networkFailure)
        }
        if requests[r].range != ack.range {
            // One of many pieces. They are received in order, and written in any.
            if progress == .written, requests[r].piecesLeft > 0 { requests[r].piecesLeft -= 1 }
            let isAll = progress == .written ? requests[r].piecesLeft == 0 : ack.range.end == requests[r].range.end
            guard isAll, requests[r].remote != .refused else { return }
            if requests[r].isWantedAgain { return postpone(r) }
        }
        if requests[r].remote != .received || progress == .written {
            peerPendingEnds(r, answered: true)
            requests[r].remote = progress
        }
        if clearsBits {
            requests[r].peerClearedBits = true
            clearBitsIfBothConfirmed(r)
            takeBackInSync(requests[r].volume, requests[r].range)
        }
        if progress == .written, peerRequests.overruledCount > 0 { finishOverruled(by: r) }
        completeIfDone(r)
    }

    /// Whether it is about this write, or about one of the pieces that it went in.
    func isAck(_ ack: BlockAck, for r: Int32) -> Bool {
        guard requests[r].isWrite, requests[r].inTransferLog else { return false }
        return requests[r].range.start == ack.sector || requests[r].parts > 1 && requests[r].range.contains(ack.range)
    }

    /// P_NEG_ACK for a write of ours: its blocks are out of sync whatever happens to the request.
    mutating func writeRefused(_ v: Int, _ ack: BlockAck) {
        if ack.byteCount > 0, rangeIsInside(v, ack.range) {
            _ = volumes[v].bitmap.setOutOfSync(ack.range, deviceSectors: volumes[v].sectors)
        }
        guard let r = requests.find(blockID: ack.blockID), isAck(ack, for: r) else { return }
        _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
        peerPendingEnds(r, answered: false)
        requests[r].remote = .refused
        if peerRequests.overruledCount > 0 { finishOverruled(by: r) }
        // Also before the news that its disk has failed, which comes on the other stream.
        if requests[r].stage == .answered, !requests[r].hasFailed, volumes[v].hasDisk || volumes[v].state.peerDisk != .upToDate {
            volumes[v].peerIsBehind = true
        }
        completeIfDone(r)
    }

    /// The connection is gone: nothing in the transfer log will be confirmed. Unless I/O is frozen, every write in it
    /// counts as missing on the peer.
    mutating func clearTransferLog() {
        link.sentEpochs.removeAll()
        link.provenEpoch = nil
        link.proofIsFor = nil
        link.epochWrites = 0
        link.epoch &+= 1
        for v in volumes.indices { restartPostponed(v, after: nil) }
        var r = transferLog.head
        while r >= 0 {
            let next = requests[r].logNext
            let v = requests[r].volume
            leaveTransferLog(r)
            if mutation != .skipBitOnPeerLoss {
                _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            }
            peerPendingEnds(r, answered: false)
            if requests[r].stage == .answered {
                if requests[r].remote != .written, !requests[r].hasFailed { volumes[v].peerIsBehind = true }
                retire(r, acknowledged: false)
            } else {
                if requests[r].remote == .queued || requests[r].remote == .sent {
                    requests[r].remote = .absent
                    requests[r].retried = volumes[v].isSuspended
                } else if requests[r].remote == .received {
                    requests[r].remote = .absent
                }
                completeIfDone(r)
            }
            r = next
        }
        finishFlushes()
        demotionsMayContinue()
    }

    /// Unanswered writes that only waited for the lost peer, after what held them back has ended.
    mutating func completeHeldWrites(_ v: Int) {
        var r = volumes[v].active.head
        while r >= 0 {
            let next = requests[r].next
            completeIfDone(r)
            r = next
        }
    }

    func rangeIsInside(_ v: Int, _ range: SectorRange) -> Bool {
        let (end, overflow) = range.start.value.addingReportingOverflow(UInt64(range.count))
        return !overflow && range.count > 0 && end <= volumes[v].sectors
    }

    // MARK: The request timer (`wire.md` 1.5)

    mutating func armRequestTimer() {
        guard !timers.isSet(.request), link.options.koCount > 0, link.options.timeout > 0 else { return }
        timers.set(.request, now + .deciseconds(link.options.timeout))
    }

    mutating func requestTimerDue() {
        guard link.isUsable else { return }
        let limit = TimeSpan.deciseconds(link.options.timeout) * link.options.koCount
        guard limit.nanoseconds > 0 else { return }
        var oldest: Instant?
        var r = transferLog.head
        while r >= 0, oldest == nil {
            if requests[r].remote == .queued || requests[r].remote == .sent { oldest = requests[r].sentAt }
            r = requests[r].logNext
        }
        if oldest == nil, !link.sentEpochs.isEmpty { oldest = link.barrierSentAt }
        for v in volumes.indices {
            var r = volumes[v].active.head
            while r >= 0 {
                let isOwed = requests[r].kind == .read && requests[r].remote == .sent && requests[r].stage == .running
                if isOwed || requests[r].stage == .postponed {
                    if oldest == nil || requests[r].sentAt < oldest! { oldest = requests[r].sentAt }
                    break
                }
                r = requests[r].next
            }
        }
        if let oldest {
            if now.since(oldest) > limit, now.since(link.establishedAt) > limit {
                log(.warning, nil, "Remote failed to finish a request within ko-count * timeout")
                return connectionFailed(.timeout)
            }
            timers.set(.request, now + .deciseconds(link.options.timeout))
        }
    }
}
