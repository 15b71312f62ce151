/// Two Primaries write the same blocks at once (`wire.md` 7.3, 7.8): the holder of the resolver flag decides, and both
/// disks end with the same.
///
/// A write of the peer that meets one of ours which the peer has not acknowledged is concurrent with it. The holder lets its
/// own stand and drops the peer's: superseded if ours covers it, else to be tried again. The other node lets the peer's
/// wait until its own has its verdict, and writes it then. So that nothing is taken for concurrent that was not, the
/// holder looks at a write only after all acknowledgements that the peer gave before it.
extension Resource {
    // MARK: Sequence numbers

    /// Comparison of numbers that wrap.
    private func isBefore(_ left: UInt32, _ right: UInt32) -> Bool { Int32(bitPattern: left &- right) < 0 }

    /// A number that the peer gave to a block ack. What waited for it goes on.
    mutating func noteSequence(_ v: Int, _ number: UInt32) {
        if isBefore(volumes[v].peerSequence, number) { volumes[v].peerSequence = number }
        if volumes[v].sequenceWaiters > 0 { releaseSequenceWaiters(v) }
    }

    /// Whether a received write has to wait for acknowledgements that are on their way on the other stream.
    func mustWaitForSequence(_ v: Int, _ number: UInt32) -> Bool {
        link.isResolver && link.options.allowTwoPrimaries
            && (volumes[v].sequenceWaiters > 0 || isBefore(volumes[v].peerSequence, number &- 1))
    }

    mutating func waitForSequence(_ p: Int32) {
        peerRequests[p].stage = .waitingSequence
        volumes[peerRequests[p].volume].sequenceWaiters += 1
        if !timers.isSet(.sequence) { timers.set(.sequence, now + .deciseconds(link.options.pingTimeout)) }
    }

    private mutating func releaseSequenceWaiters(_ v: Int) {
        var p = peerRequests.list.head
        while p >= 0, volumes[v].sequenceWaiters > 0 {
            let next = peerRequests[p].next
            if peerRequests[p].stage == .waitingSequence, peerRequests[p].volume == v {
                let number = peerRequests[p].sequence
                if link.options.allowTwoPrimaries, isBefore(volumes[v].peerSequence, number &- 1) { break }
                volumes[v].sequenceWaiters -= 1
                peerRequests[p].stage = .waiting
                // Whoever still waits has its time from now on.
                timers.cancel(.sequence)
                registerPeerWrite(p)
            }
            p = next
        }
        if volumes.contains(where: { $0.sequenceWaiters > 0 }) {
            if !timers.isSet(.sequence) { timers.set(.sequence, now + .deciseconds(link.options.pingTimeout)) }
        } else {
            timers.cancel(.sequence)
        }
    }

    mutating func sequenceOverdue() {
        guard link.isUsable, volumes.contains(where: { $0.sequenceWaiters > 0 }) else { return }
        log(.error, nil, "Timed out waiting for missing ack packets; disconnecting")
        connectionFailed(.protocolError)
    }

    // MARK: The verdict

    /// A write of the peer has its turn: from now on ours that overlap wait for it, unless they were there before.
    mutating func registerPeerWrite(_ p: Int32) {
        let v = peerRequests[p].volume
        let number = peerRequests[p].sequence
        if link.isResolver, isBefore(volumes[v].peerSequence, number) { volumes[v].peerSequence = number }
        if volumes[v].activeWrites > 0, let r = concurrentWrite(v, peerRequests[p].range) {
            noteConcurrentWrites(p, r)
            if link.isResolver { return overrule(p, by: r) }
        }
        proceedPeer(p)
    }

    /// One of our writes that overlaps and that the peer may not have seen yet.
    private func concurrentWrite(_ v: Int, _ range: SectorRange) -> Int32? {
        var r = volumes[v].active.head
        while r >= 0 {
            if requests[r].isRunningWrite, requests[r].range.overlaps(range) {
                switch requests[r].remote {
                case .queued, .sent, .received: return r
                // The peer wrote this one after it had ours, or never gets ours.
                case .written, .refused, .absent: break
                }
            }
            r = requests[r].next
        }
        return nil
    }

    private func covers(_ r: Int32, _ range: SectorRange) -> Bool { requests[r].range.contains(range) }

    private mutating func noteConcurrentWrites(_ p: Int32, _ r: Int32) {
        let (own, theirs) = (requests[r].range, peerRequests[p].range)
        // DRBD 8.4 says nothing of those that are equal.
        guard own != theirs else { return }
        let first = !link.isResolver ? "" : ", assuming \(covers(r, theirs) ? "local" : "remote") came first"
        log(
            .warning, peerRequests[p].volume,
            "Concurrent writes detected: local=\(own.start.value)s +\(own.count * 512), remote=\(theirs.start.value)s +\(theirs.count * 512)\(first)")
    }

    /// The holder's verdict: ours stands. The entry stays until the peer has ours, and with it the epoch that it counts in.
    private mutating func overrule(_ p: Int32, by r: Int32) {
        let request = peerRequests[p]
        let v = request.volume
        if let buffer = request.buffer { emit(.releaseBuffer(buffer)) }
        peerRequests[p].buffer = nil
        peerRequests.overrule(p, by: requests.blockID(r))
        let isCovered = covers(r, request.range)
        let ack = BlockAck(
            sector: request.range.start, blockID: request.blockID, byteCount: request.range.byteCount,
            sequence: nextSequence(v))
        if isCovered || link.version < 100 {
            send(.meta, v, .superseded(ack))
        } else {
            send(.meta, v, .retryWrite(ack))
        }
        if !isCovered, link.version < 100 {
            // It has no word for "again": what ours does not cover stays different.
            _ = volumes[v].bitmap.setOutOfSync(request.range, deviceSectors: volumes[v].sectors)
        }
        volumes[v].counters.unacknowledged -= 1
        volumes[v].conflicts &+= 1
        receiveEpochs.overruleWrite(epoch: request.epoch, group: request.group)
        advanceEpochs()
    }

    /// The peer has one of ours, and so has dealt with what we overruled for it: it takes no acknowledgement of that
    /// epoch before (DRBD 8.4 counts a write of its own until then).
    mutating func finishOverruled(by r: Int32) {
        let blockID = requests.blockID(r)
        var p = peerRequests.list.head
        while p >= 0 {
            let next = peerRequests[p].next
            if peerRequests[p].stage == .overruled, peerRequests[p].overruledBy == blockID {
                let epoch = peerRequests[p].epoch
                peerRequests.free(p)
                receiveEpochs.finishOverruled(epoch: epoch)
                advanceEpochs()
            }
            p = next
        }
    }
}
