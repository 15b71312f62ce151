/// The hall: may a client request proceed, must it wait (and for what), or is it refused.
extension Resource {
    mutating func admitWrite(
        _ id: RequestID, _ number: VolumeNumber, _ range: SectorRange, _ buffer: BufferSlot, _ fua: Bool
    ) {
        guard let v = index(of: number), let refusal = refusal(v, range) else {
            guard let v = index(of: number) else {
                emit(.releaseBuffer(buffer))
                emit(.replyToClient(id, .invalid, data: nil))
                return
            }
            let r = enter(id, v, .write, range)
            requests[r].buffer = buffer
            requests[r].fua = fua
            proceed(r)
            return
        }
        emit(.releaseBuffer(buffer))
        emit(.replyToClient(id, refusal, data: nil))
    }

    mutating func admitDiscard(_ id: RequestID, _ number: VolumeNumber, _ range: SectorRange, _ kind: DiscardKind) {
        guard let v = index(of: number) else { return emit(.replyToClient(id, .invalid, data: nil)) }
        if let refusal = refusal(v, range) { return emit(.replyToClient(id, refusal, data: nil)) }
        let r = enter(id, v, .discard, range)
        requests[r].discardKind = kind
        proceed(r)
    }

    mutating func admitRead(_ id: RequestID, _ number: VolumeNumber, _ range: SectorRange) {
        guard let v = index(of: number) else { return emit(.replyToClient(id, .invalid, data: nil)) }
        if let refusal = refusal(v, range) { return emit(.replyToClient(id, refusal, data: nil)) }
        proceed(enter(id, v, .read, range))
    }

    mutating func admitFlush(_ id: RequestID, _ number: VolumeNumber) {
        guard let v = index(of: number) else { return emit(.replyToClient(id, .invalid, data: nil)) }
        if let refusal = refusal(v, nil) { return emit(.replyToClient(id, refusal, data: nil)) }
        proceed(enter(id, v, .flush, SectorRange(0, 0)))
    }

    private func refusal(_ v: Int, _ range: SectorRange?) -> ClientError? {
        guard volumes[v].state.role == .primary else { return .notPermitted }
        guard let range else { return nil }
        let (end, overflow) = range.start.value.addingReportingOverflow(UInt64(range.count))
        return range.count == 0 || overflow || end > volumes[v].sectors ? .invalid : nil
    }

    private mutating func enter(_ id: RequestID, _ v: Int, _ kind: Request.Kind, _ range: SectorRange) -> Int32 {
        let r = requests.take(id)
        requests[r].kind = kind
        requests[r].volume = v
        requests[r].range = range
        requests[r].stage = .waitingAdmission
        requests[r].moments.arrived = now
        requests.append(r, to: &volumes[v].active)
        volumes[v].waitingCount += 1
        if requests[r].isWrite { volumes[v].activeWrites += 1 }
        volumes[v].counters.applicationPending += 1
        return r
    }

    /// Moves a waiting request as far as it can go. Called on arrival and whenever what it waits for may have ended.
    mutating func proceed(_ r: Int32) {
        let v = requests[r].volume
        if requests[r].stage == .waitingAdmission {
            guard mayStartIO(v, requests[r].kind), requests.freeCount > requests.clients,
                link.sentEpochs.count < link.sentEpochs.capacity - requests.clients
            else { return }
            if requests[r].kind == .read {
                if volumes[v].activeWrites > 0, overlapsActive(r, reads: false) { return }
                requests[r].moments.admitted = now
                return startRead(r)
            }
            requests[r].moments.admitted = now
            if requests[r].kind == .flush { return startFlush(r) }
            requests[r].stage = .waitingLogSpace
        }
        // A disk that was attached while the request waited has a log of its own.
        if requests[r].stage == .waitingOverlap, volumes[v].hasDisk, !requests[r].holdsExtents {
            requests[r].stage = .waitingLogSpace
        }
        if requests[r].stage == .waitingLogSpace, !acquireExtents(r) { return }
        if requests[r].stage == .waitingTransaction {
            guard volumes[v].activityLog.committedTransaction >= requests[r].transaction || !volumes[v].hasDisk
            else { return }
            requests[r].moments.logged = now
            requests[r].stage = .waitingOverlap
        }
        if requests[r].stage == .waitingOverlap {
            // State may have changed while it waited for the log.
            guard mayStartIO(v, requests[r].kind), !overlapsEarlier(r) else { return }
            submitWrite(r)
        }
    }

    /// Application I/O is held while frozen, and while a bitmap is on its way to us (`wire.md` 7.1).
    func mayStartIO(_ v: Int, _ kind: Request.Kind) -> Bool {
        if volumes[v].isSuspended { return false }
        if kind == .read || kind == .flush { return true }
        if isDetaching(v) || volumes[v].ioErrorHandler != nil { return false }
        // Our disk is on its way in: a write that only the peer gets now would be in nobody's bitmap, because the peer
        // believes that a disk is here already.
        if volumes[v].state.disk == .negotiating { return false }
        switch volumes[v].state.connection {
        case .wfBitMapT, .wfSyncUUID, .startingSyncT, .startingSyncS: return false
        case .wfBitMapS: return link.version >= 96
        // A handshake that has failed leads to no resync.
        case .wfReportParams: return volumes[v].isLonely || link.partsAfterHandlers
        default: return true
        }
    }

    /// False if the request has to wait for room in the activity log.
    private mutating func acquireExtents(_ r: Int32) -> Bool {
        let v = requests[r].volume
        guard volumes[v].hasDisk, mutation != .skipActivityLog else {
            requests[r].stage = .waitingOverlap
            return true
        }
        if anyEarlierWaitsForLogSpace(r) { return false }
        switch volumes[v].activityLog.acquire(extents(of: requests[r].range)) {
        case .full:
            return false
        case .hot:
            requests[r].holdsExtents = true
            requests[r].moments.logged = now
            requests[r].stage = .waitingOverlap
        case .pending(let transaction):
            requests[r].holdsExtents = true
            requests[r].transaction = transaction
            requests[r].stage = .waitingTransaction
            advanceMetadata(v)
        }
        return true
    }

    /// A request that needs many extents must not starve behind those that need few.
    private func anyEarlierWaitsForLogSpace(_ r: Int32) -> Bool {
        guard volumes[requests[r].volume].waitingCount > 1 else { return false }
        var earlier = requests[r].previous
        while earlier >= 0 {
            if requests[earlier].stage == .waitingLogSpace { return true }
            earlier = requests[earlier].previous
        }
        return false
    }

    func extents(of range: SectorRange) -> ClosedRange<UInt32> {
        ActivityLogExtent(containing: range.start).value...ActivityLogExtent(
            containing: Sector(range.end.value - 1)
        ).value
    }

    /// Whether an unanswered earlier request of a client overlaps.
    ///
    /// A read never sees a write that is not answered: its answer could be the only trace of data that a crash leaves on
    /// neither node that counts, and the next reader would go back in time (`design.md` 5, rule 4).
    private func overlapsActive(_ r: Int32, reads: Bool) -> Bool {
        let range = requests[r].range
        var earlier = requests[r].previous
        while earlier >= 0 {
            if requests[earlier].isWrite || reads && requests[earlier].kind == .read, requests[earlier].range.overlaps(range) {
                return true
            }
            earlier = requests[earlier].previous
        }
        return false
    }

    /// Whether an unanswered earlier request, resync I/O, or a write of the peer overlaps: two copies of one block must
    /// see their writes in the same order, and neither disk promises any.
    private func overlapsEarlier(_ r: Int32) -> Bool {
        let v = requests[r].volume
        let range = requests[r].range
        if overlapsActive(r, reads: true) { return true }
        if peerRequests.list.count > 0 {
            var p = peerRequests.list.head
            while p >= 0 {
                let other = peerRequests[p]
                if other.volume == v, other.kind != .read, holdsBackOurs(other), other.range.overlaps(range) {
                    return true
                }
                p = other.next
            }
        }
        if mutation != .verifyWithoutLock, volumes[v].verify?.locks(range) ?? false { return true }
        return volumes[v].resync?.overlapsOutstanding(range) ?? false
    }

    /// Whether work for the peer that has not ended keeps overlapping writes of ours back.
    private func holdsBackOurs(_ other: PeerRequest) -> Bool {
        switch other.stage {
        case .running, .examined: true
        case .free, .waitingSequence, .overruled: false
        // A write that has had its turn goes first. One for a diskless peer may still have to wait for room in the log,
        // which those that it keeps back could hold.
        case .waiting, .waitingTransaction:
            // Whoever compares both copies would wait for ever where one write follows the other.
            other.isResyncWrite || other.kind == .verifyRead
                || other.isApplicationWrite && (other.holdsExtents || volumes[other.volume].state.peerDisk.isThere)
        }
    }

    /// Something that requests wait for has ended: tried again before this step ends, never in the middle of it.
    mutating func retryLater(_ v: Int) { volumes[v].retryWanted = true }

    /// The end of every step: tries what waits, in order of arrival, until nothing moves any more.
    mutating func runRetries() {
        var again = true
        while again {
            again = false
            for v in volumes.indices where volumes[v].retryWanted {
                volumes[v].retryWanted = false
                again = true
                retryWaiting(v)
                retryPeerRequests(v)
            }
        }
    }

    private mutating func retryWaiting(_ v: Int) {
        guard volumes[v].waitingCount > 0 else { return }
        var r = volumes[v].active.head
        while r >= 0 {
            let next = requests[r].next
            switch requests[r].stage {
            case .waitingAdmission, .waitingLogSpace, .waitingTransaction, .waitingOverlap: proceed(r)
            case .free, .running, .postponed, .answered: break
            }
            r = next
        }
    }
}
