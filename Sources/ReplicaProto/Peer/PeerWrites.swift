/// The guest room: the other node's writes and reads, on our disk.
extension Resource {
    /// P_DATA
    mutating func peerWriteReceived(_ v: Int, _ packet: DataPacket, _ payload: BufferSlot?) {
        guard let payload, rangeIsInside(v, packet.range) || !volumes[v].hasDisk else {
            if let payload { emit(.releaseBuffer(payload)) }
            return connectionFailed(.protocolError)
        }
        volumes[v].counters.networkReceived += UInt64(packet.range.count)
        guard countInEpoch(v) else { return emit(.releaseBuffer(payload)) }
        guard volumes[v].hasDisk else {
            emit(.releaseBuffer(payload))
            if link.isResolver { noteSequence(v, packet.sequence) }
            refuseWrite(v, packet.sector, packet.blockID, packet.byteCount)
            return restartPostponed(v, after: packet.range)
        }
        guard let p = peerRequests.take(.write) else {
            emit(.releaseBuffer(payload))
            return connectionFailed(.protocolError)
        }
        peerRequests[p].buffer = payload
        enterPeerWrite(p, v, packet.range, packet.blockID, packet.flags, packet.sequence)
    }

    /// P_TRIM, P_ZEROES
    mutating func peerDiscardReceived(_ v: Int, _ packet: DiscardPacket, _ kind: DiscardKind) {
        guard rangeIsInside(v, packet.range) || !volumes[v].hasDisk else { return connectionFailed(.protocolError) }
        guard countInEpoch(v) else { return }
        guard volumes[v].hasDisk else {
            if link.isResolver { noteSequence(v, packet.sequence) }
            refuseWrite(v, packet.sector, packet.blockID, 0)
            return restartPostponed(v, after: packet.range)
        }
        guard let p = peerRequests.take(.discard) else { return connectionFailed(.protocolError) }
        peerRequests[p].discardKind = kind
        enterPeerWrite(p, v, packet.range, packet.blockID, packet.flags, packet.sequence)
    }

    /// P_WSAME: one logical block, to be repeated over the area (`wire.md` 7.12). We never say that we want it, but the
    /// feature flag that it comes with is needed for other things.
    mutating func peerWriteSameReceived(_ v: Int, _ packet: DiscardPacket, _ payload: BufferSlot?) {
        let bytes = packet.patternBytes
        guard let payload, rangeIsInside(v, packet.range) || !volumes[v].hasDisk,
            bytes > 0, bytes == volumes[v].logicalBlockSize || !volumes[v].hasDisk, packet.byteCount % bytes == 0
        else {
            if let payload { emit(.releaseBuffer(payload)) }
            return connectionFailed(.protocolError)
        }
        guard countInEpoch(v) else { return emit(.releaseBuffer(payload)) }
        guard volumes[v].hasDisk else {
            emit(.releaseBuffer(payload))
            if link.isResolver { noteSequence(v, packet.sequence) }
            refuseWrite(v, packet.sector, packet.blockID, bytes)
            return restartPostponed(v, after: packet.range)
        }
        guard let p = peerRequests.take(.writeSame) else {
            emit(.releaseBuffer(payload))
            return connectionFailed(.protocolError)
        }
        peerRequests[p].buffer = payload
        enterPeerWrite(p, v, packet.range, packet.blockID, packet.flags, packet.sequence)
    }

    /// False if the write came in a state in which there can't be any.
    private mutating func countInEpoch(_ v: Int) -> Bool {
        guard volumes[v].state.connection.isConnected else {
            connectionFailed(.protocolError)
            return false
        }
        receiveEpochs.current.writes += 1
        return true
    }

    private mutating func enterPeerWrite(
        _ p: Int32, _ v: Int, _ range: SectorRange, _ blockID: UInt64, _ flags: DataFlags, _ sequence: UInt32
    ) {
        peerAcceptedOurData(v, byWriting: true)
        peerRequests[p].volume = v
        peerRequests[p].range = range
        peerRequests[p].blockID = blockID
        peerRequests[p].sequence = sequence
        peerRequests[p].flags = effectiveFlags(flags)
        peerRequests[p].connection = link.instance
        peerRequests[p].epoch = receiveEpochs.current.id
        peerRequests[p].group = receiveEpochs.admit()
        volumes[v].counters.unacknowledged += 1
        if peerRequests[p].flags.contains(.sendReceiveAck) {
            sendBlockAck(v, p) { .receiveAck($0) }
        }
        if peerRequests[p].flags.contains(.sendReceiveAck) || !peerRequests[p].flags.contains(.sendWriteAck) {
            receiveEpochs.answer(epoch: peerRequests[p].epoch, group: peerRequests[p].group)
        }
        if !volumes[v].state.peerDisk.isThere {
            // Our disk is the only one: the block is out of sync as soon as the peer gets a disk back.
            _ = volumes[v].bitmap.setOutOfSync(range, deviceSectors: volumes[v].sectors)
            peerRequests[p].flags.remove(.maySetInSync)
        }
        if mustWaitForSequence(v, sequence) { waitForSequence(p) } else { registerPeerWrite(p) }
        if receiveEpochs.hasWaitingGroup { advanceEpochs() }
    }

    /// Below v100 the ack that is wanted follows from the connection's protocol (`wire.md` 7.2).
    private func effectiveFlags(_ flags: DataFlags) -> DataFlags {
        guard link.version < 100 else { return flags }
        var flags = flags.subtracting([.sendReceiveAck, .sendWriteAck])
        switch link.options.replicationProtocol {
        case .a: break
        case .b: flags.insert(.sendReceiveAck)
        case .c: flags.insert(.sendWriteAck)
        }
        return flags
    }

    /// A write without a disk to put it on: refused, but counted in its epoch.
    private mutating func refuseWrite(_ v: Int, _ sector: Sector, _ blockID: UInt64, _ byteCount: UInt32) {
        let sequence = nextSequence(v)
        send(
            .meta, v,
            .negativeAck(BlockAck(sector: sector, blockID: blockID, byteCount: byteCount, sequence: sequence)))
    }

    private mutating func sendBlockAck(_ v: Int, _ p: Int32, _ make: (BlockAck) -> Packet) {
        guard peerRequests[p].connection == link.instance, volumes[v].state.connection.isConnected else { return }
        let request = peerRequests[p]
        let sequence = nextSequence(v)
        send(
            .meta, v,
            make(
                BlockAck(
                    sector: request.range.start, blockID: request.blockID, byteCount: request.range.byteCount,
                    sequence: sequence)))
    }

    // MARK: What holds work for the peer back

    /// Starts the disk work of one peer request if nothing holds it back.
    func mayStart(_ p: Int32) -> Bool {
        let request = peerRequests[p]
        if isHeldByOrdering(p) { return false }
        // What before-resync-target takes a snapshot of is the data as it was.
        if request.isApplicationWrite, volumes[request.volume].isBeforeResyncTarget { return false }
        var earlier = request.previous
        while earlier >= 0 {
            let other = peerRequests[earlier]
            if other.volume == request.volume, other.isWrite || request.isWrite, other.stage != .overruled,
                other.range.overlaps(request.range)
            {
                return false
            }
            earlier = other.previous
        }
        // The order of a resync reply and of our own writes on the stream has to be the order of their data.
        if request.kind != .read {
            var r = volumes[request.volume].active.head
            while r >= 0 {
                let isOnDisk = requests[r].isRunningWrite || requests[r].stage == .postponed && requests[r].local == .pending
                if isOnDisk, requests[r].range.overlaps(request.range) { return false }
                r = requests[r].next
            }
        }
        // It may be there to learn whether all that was written before it is safe.
        if request.kind == .read, receiveEpochs.owesProof { return false }
        // Both copies are compared: what we have written has to be on both disks.
        return request.kind != .verifyRead || !overlapsUnconfirmedWrite(request.volume, request.range)
    }

    mutating func proceedPeer(_ p: Int32) {
        let v = peerRequests[p].volume
        if peerRequests[p].stage == .waitingTransaction {
            guard volumes[v].activityLog.committedTransaction >= peerRequests[p].transaction || !volumes[v].hasDisk
            else { return }
            peerRequests[p].stage = .waiting
        }
        guard peerRequests[p].stage == .waiting, mayStart(p) else { return }
        guard volumes[v].hasDisk else { return refuse(p) }
        let request = peerRequests[p]
        if request.isApplicationWrite, !request.holdsExtents, !volumes[v].state.peerDisk.isThere {
            // The peer has no disk, so it keeps no activity log: ours does (`metadata.md` 4.1), if the superblock says so.
            guard volumes[v].peerGuard == .durable else {
                if volumes[v].peerGuard == .off {
                    volumes[v].peerGuard = .written
                    enqueue(v, .superblock, .then(.guarding))
                }
                return
            }
            switch volumes[v].activityLog.acquire(extents(of: request.range)) {
            case .full: return
            case .hot: peerRequests[p].holdsExtents = true
            case .pending(let transaction):
                peerRequests[p].holdsExtents = true
                peerRequests[p].transaction = transaction
                peerRequests[p].stage = .waitingTransaction
                advanceMetadata(v)
                return
            }
        }
        peerRequests.start(p)
        volumes[v].localPending += 1
        let tag = DiskTag.peer(peerRequests.id(p))
        let number = volumes[v].number
        switch request.kind {
        case .write, .resyncWrite:
            volumes[v].counters.diskWritten += UInt64(request.range.count)
            emit(.writeDisk(tag, number, request.range, request.buffer!, fua: request.flags.contains(.fua)))
        case .writeSame:
            volumes[v].counters.diskWritten += UInt64(request.range.count)
            emit(.writePattern(tag, number, request.range, request.buffer!, patternBytes: volumes[v].logicalBlockSize))
        case .discard, .resyncDiscard:
            emit(.discardDisk(tag, number, request.range, request.discardKind))
        case .read, .resyncRead, .checksumRead, .thinRead, .checksumRequest, .verifyRead, .verifyCompare:
            volumes[v].counters.diskRead += UInt64(request.range.count)
            emit(.readDisk(tag, number, request.range))
        }
    }

    mutating func guarding(_ v: Int) {
        guard volumes[v].peerGuard == .written else { return }
        // What is durable may be from before another change.
        let isDurable = volumes[v].superblock != nil && currentSuperblock(v) == volumes[v].writtenSuperblock
        volumes[v].peerGuard = isDurable ? .durable : .off
        retryLater(v)
    }

    /// The disk failed or was detached while the request waited: it ends as one that the disk refused.
    private mutating func refuse(_ p: Int32) {
        peerRequests.start(p)
        let v = peerRequests[p].volume
        volumes[v].localPending += 1
        let id = peerRequests.id(p)
        let noDevice = DiskError(19)
        if peerRequests[p].isWrite { peerWriteFinished(id, noDevice) } else { peerReadFinished(id, nil, noDevice) }
    }

    /// Tries all waiting work for the peer on one volume, in order of arrival.
    mutating func retryPeerRequests(_ v: Int) {
        guard peerRequests.waiting > 0 else { return }
        var p = peerRequests.list.head
        while p >= 0 {
            let next = peerRequests[p].next
            if !peerRequests[p].isStarted {
                // Groups ascend along the list: behind the first write that has to wait for its group all have to.
                if peerRequests.waitingOutsideEpochs == 0, isHeldByOrdering(p) { return }
                if peerRequests[p].volume == v { proceedPeer(p) }
            }
            p = next
        }
    }

    private func isHeldByOrdering(_ p: Int32) -> Bool {
        peerRequests[p].isApplicationWrite && writeOrdering != .none && peerRequests[p].connection == link.instance
            && peerRequests[p].group > receiveEpochs.runningGroup
    }

    // MARK: Completion

    mutating func peerWriteFinished(_ id: PeerRequestID, _ error: DiskError?) {
        guard let p = peerRequests.find(id) else { return }
        let v = peerRequests[p].volume
        volumes[v].localPending -= 1
        let request = peerRequests[p]
        if let buffer = request.buffer { emit(.releaseBuffer(buffer)) }
        if let error {
            log(
                .error, v,
                "IO error on behalf of the peer: WRITE sector \(request.range.start.value)+\(request.range.count) errno \(error.code)"
            )
        }
        if request.isResyncWrite {
            resyncWriteFinished(p, error)
        } else {
            if error != nil {
                volumes[v].resync?.noteFailedWrite(request.range)
                _ = volumes[v].bitmap.setOutOfSync(request.range, deviceSectors: volumes[v].sectors)
                sendBlockAck(v, p) { .negativeAck($0) }
            } else if request.flags.contains(.sendWriteAck) {
                if request.flags.contains(.maySetInSync), volumes[v].state.connection.mayClearBits {
                    clearBits(v, request.range)
                    sendBlockAck(v, p) { .resyncWriteAck($0) }
                } else {
                    sendBlockAck(v, p) { .writeAck($0) }
                }
            }
            volumes[v].counters.unacknowledged -= 1
        }
        if request.holdsExtents { volumes[v].activityLog.release(extents(of: request.range)) }
        let isCurrent = request.connection == link.instance
        peerRequests.free(p)
        if request.isApplicationWrite, isCurrent {
            restartPostponed(v, after: request.range)
            receiveEpochs.answer(epoch: request.epoch, group: request.group)
            receiveEpochs.finishWrite(epoch: request.epoch, group: request.group)
            advanceEpochs()
        }
        if error != nil { localIOFailed(v) }
        retryLater(v)
        diskMayBeIdle(v)
    }

    // MARK: Epochs

    /// P_BARRIER
    mutating func barrierReceived(_ number: UInt32) {
        // An empty epoch owes no ack; a correct sender never closes one.
        guard receiveEpochs.current.writes > 0 else { return }
        guard !receiveEpochs.isFull else { return connectionFailed(.protocolError) }
        receiveEpochs.current.barrier = number
        receiveEpochs.current.isClosed = true
        receiveEpochs.open()
        advanceEpochs()
    }

    /// Lets the next group of writes go and acknowledges finished epochs in order, once the running group is as safe as
    /// the write ordering method demands.
    mutating func advanceEpochs() {
        while true {
            // A disk on its way out is flushed before it is closed (`diskMayBeIdle`), and that counts for all epochs.
            if writeOrdering == .flush {
                for v in volumes.indices where volumes[v].state.disk == .failed && volumes[v].superblock != nil { return }
            }
            if receiveEpochs.isFlushing {
                guard receiveEpochs.flushesPending == 0 else { return }
                receiveEpochs.isFlushing = false
            } else {
                let hasEnded = receiveEpochs.runningGroupHasEnded
                let flushes = writeOrdering == .flush && receiveEpochs.unflushed > 0 && mutation != .ackBarrierBeforeFlush
                // A lone write that is answered ends its epoch at the sender: the barrier is on its way, the flush need
                // not wait for it.
                let isLone = flushes && receiveEpochs.unflushed == 1
                guard
                    hasEnded && (receiveEpochs.hasWaitingGroup || isLone)
                        || receiveEpochs.oldestIsComplete && (hasEnded || writeOrdering == .none)
                else { return }
                if flushes {
                    startEpochFlush()
                    continue
                }
            }
            var showedProof = false
            while receiveEpochs.oldestIsComplete {
                let epoch = receiveEpochs.oldest
                receiveEpochs.removeOldest()
                // Its sender has forgotten what was overruled, and an epoch of nothing else with it.
                let count = epoch.writes - epoch.overruled
                if count > 0 { send(.meta, nil, .barrierAck(number: epoch.barrier, setSize: count)) }
                if epoch.overruled > 0 { showedProof = true }
            }
            if showedProof, peerRequests.waiting > 0 { for v in volumes.indices { retryLater(v) } }
            guard receiveEpochs.runningGroupHasEnded else { return }
            receiveEpochs.leaveRunningGroup()
            for v in volumes.indices { retryLater(v) }
        }
    }

    private mutating func startEpochFlush() {
        receiveEpochs.startFlush()
        for v in volumes.indices where volumes[v].hasDisk {
            receiveEpochs.flushesPending += 1
            volumes[v].localPending += 1
            emit(.flushDisk(volumes[v].number, .epoch(receiveEpochs.runningGroup)))
        }
    }

    /// The best method that all volumes with a disk allow.
    mutating func chooseWriteOrdering() {
        var best = WriteOrdering.flush
        for v in volumes.indices where volumes[v].hasDisk || volumes[v].state.disk == .negotiating {
            let options = volumes[v].diskOptions
            if !options.diskFlushes { best = min(best, options.diskDrain ? .drain : .none) }
        }
        writeOrdering = best
    }

    /// The connection is gone: what has not reached the disk is dropped, the rest ends without an answer.
    mutating func dropPeerRequests() {
        var p = peerRequests.list.head
        while p >= 0 {
            let next = peerRequests[p].next
            let request = peerRequests[p]
            if !request.isStarted {
                if let buffer = request.buffer { emit(.releaseBuffer(buffer)) }
                if let digest = request.digest { emit(.releaseBuffer(digest)) }
                if request.holdsExtents { volumes[request.volume].activityLog.release(extents(of: request.range)) }
                volumes[request.volume].counters.unacknowledged -= request.isUnacknowledged ? 1 : 0
                peerRequests.free(p)
            }
            p = next
        }
        for v in volumes.indices { volumes[v].sequenceWaiters = 0 }
        receiveEpochs.reset()
    }
}
