/// A client write from the moment nothing holds it back to its reply.
extension Resource {
    /// What a write means for the peer now (`wire.md` 7.1).
    enum Replication { case replicate, reportOutOfSync, none }

    func replication(_ v: Int) -> Replication {
        let state = volumes[v].state
        switch state.connection {
        case .ahead, .wfBitMapS:
            return link.version >= 96 ? .reportOutOfSync : .none
        default:
            break
        }
        guard state.connection.isConnected, link.isUsable else { return .none }
        if state.peerDisk == .upToDate { return .replicate }
        guard state.peerDisk.isThere, state.peerDisk != .unknown else { return .none }
        switch state.connection {
        case .wfBitMapT, .wfSyncUUID, .syncSource, .syncTarget, .verifyS, .verifyT, .pausedSyncS, .pausedSyncT:
            return .replicate
        default:
            return .none
        }
    }

    mutating func submitWrite(_ r: Int32) {
        let v = requests[r].volume
        let hasDisk = volumes[v].hasDisk
        if link.options.onCongestion != .block { relieveCongestion(v) }
        let replication = replication(v)
        if !hasDisk, replication != .replicate {
            return fail(r)
        }
        if volumes[v].state.isPrimaryWithoutData {
            log(.error, v, "Sorry, I have no access to good data anymore.")
            return fail(r)
        }
        if replication == .replicate, requests[r].kind == .discard, requests[r].discardKind == .trim, !peerTakesDiscard(r) {
            // A trim is a hint that may be ignored, on both disks alike.
            return leaveUndone(r, nil)
        }
        requests[r].moments.submitted = now
        requests[r].stage = .running
        volumes[v].waitingCount -= 1
        requests[r].local = hasDisk ? .pending : .diskless
        switch replication {
        case .replicate:
            sendWrite(r)
        case .reportOutOfSync:
            requests[r].remote = .absent
            let newlySet = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            if volumes[v].state.connection != .ahead || newlySet > 0 {
                send(
                    .data, v,
                    .outOfSync(AreaPacket(sector: requests[r].range.start, byteCount: requests[r].range.byteCount)))
            }
        case .none:
            requests[r].remote = .absent
            if mutation != .skipBitOnPeerLoss {
                _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            }
        }
        guard hasDisk else { return }
        volumes[v].localPending += 1
        let id = requests[r].id
        let range = requests[r].range
        switch requests[r].kind {
        case .write:
            volumes[v].counters.diskWritten += UInt64(range.count)
            emit(
                .writeDisk(.client(id), volumes[v].number, range, requests[r].buffer!, fua: requests[r].fua))
        case .discard:
            emit(.discardDisk(.client(id), volumes[v].number, range, discardKind(requests[r].discardKind)))
        case .read, .flush:
            invariant(false, "only writes are submitted as writes")
        }
    }

    /// Without FF_TRIM nothing but data can be sent, without FF_WSAME no more than 4 MiB (`wire.md` 2.3, 4.2). And a peer
    /// that checks digests looks for one in P_ZEROES (`wire.md` 7.9), which goes on the wire only where FF_WZEROES is agreed.
    private func peerTakesDiscard(_ r: Int32) -> Bool {
        let zeroes = requests[r].discardKind != .trim && link.features.contains(.writeZeroes)
        return link.features.contains(.trim) && !(zeroes && link.integrity != nil)
            && (link.features.contains(.writeSame) || requests[r].range.count <= Limits.smallDiscardSectors)
    }

    /// Answers a request that changed nothing anywhere.
    private mutating func leaveUndone(_ r: Int32, _ error: ClientError?) {
        reply(r, error)
        releaseExtents(r)
        requests.free(r)
        demotionsMayContinue()
    }

    /// Both disks must read the same after a discard, so a trim is carried out as zeroes that may be deallocated.
    private func discardKind(_ kind: DiscardKind) -> DiscardKind { kind == .trim ? .zeroMayUnmap : kind }

    /// Puts a write on the data stream, in the open epoch.
    mutating func sendWrite(_ r: Int32) {
        let v = requests[r].volume
        let range = requests[r].range
        var flags: DataFlags = []
        let mayClear = volumes[v].state.connection.mayClearBits
        if mayClear { flags.insert(.maySetInSync) }
        if requests[r].fua { flags.insert(.fua) }
        let replicationProtocol = link.options.replicationProtocol
        if link.version >= 100 {
            if replicationProtocol == .b { flags.insert(.sendReceiveAck) }
            if replicationProtocol == .c || mayClear || !volumes[v].hasDisk { flags.insert(.sendWriteAck) }
        }
        if link.version < 95 { flags = flags.intersection(.maySetInSync) }
        requests[r].remote = .queued
        requests[r].sentAt = now
        requests[r].epoch = link.epoch
        requests[r].peerClearedBits = false
        requests[r].piecesLeft = 0
        enterTransferLog(r)
        volumes[v].counters.networkSent += UInt64(range.count)
        volumes[v].counters.peerPending += 1
        requests[r].isPeerPending = true
        requests[r].expectsAck = link.version < 100 ? replicationProtocol != .a : !flags.isDisjoint(with: [.sendReceiveAck, .sendWriteAck])
        let isTooLarge = requests[r].kind == .write && range.byteCount > maximumRequest(v)
        if isTooLarge || requests[r].kind == .discard && !peerTakesDiscard(r) {
            sendPieces(r, flags)
        } else {
            sendOnePacket(r, flags)
        }
        if link.epochWrites >= link.options.maxEpochSize { closeEpoch() }
        armRequestTimer()
    }

    /// Zeroes for a peer that takes nothing but data, and data for one that takes less at a time: as many P_DATA as it takes,
    /// with one block_id. Only the last of them is reported when it has left.
    private mutating func sendPieces(_ r: Int32, _ flags: DataFlags) {
        let v = requests[r].volume
        let range = requests[r].range
        let most = UInt64(maximumRequest(v) / 512)
        var sector = range.start.value
        while sector < range.end.value {
            let end = min(range.end.value, sector + most)
            let sequence = nextSequence(v)
            let packet = Packet.data(
                DataPacket(
                    sector: Sector(sector), blockID: requests.blockID(r), sequence: sequence, flags: flags,
                    byteCount: UInt32(end - sector) * 512))
            link.epochWrites += 1
            requests[r].piecesLeft += 1
            let offset = UInt32(sector - range.start.value) * 512
            emitWrite(r, packet, requests[r].buffer, offset: offset, isLast: end == range.end.value)
            sector = end
        }
        requests[r].parts = UInt16(clamping: requests[r].piecesLeft)
    }

    private mutating func emitWrite(
        _ r: Int32, _ packet: Packet, _ payload: BufferSlot?, offset: UInt32 = 0, isLast: Bool
    ) {
        let v = requests[r].volume
        let reports = link.options.replicationProtocol == .a && isLast
        if offset > 0, let payload {
            if isLast, !reports { requests[r].remote = .sent }
            let id = requests[r].id
            emit(.sendPart(volumes[v].number, packet, payload: payload, offset: offset, report: reports ? id : nil))
        } else if link.options.replicationProtocol == .a, isLast {
            emit(.sendAndReport(requests[r].id, volumes[v].number, packet, payload: payload))
        } else {
            if isLast { requests[r].remote = .sent }
            send(.data, v, packet, payload: payload)
        }
    }

    private mutating func sendOnePacket(_ r: Int32, _ flags: DataFlags) {
        let v = requests[r].volume
        let range = requests[r].range
        var flags = flags
        link.epochWrites += 1
        requests[r].piecesLeft = 1
        requests[r].parts = 1
        let sequence = nextSequence(v)
        let blockID = requests.blockID(r)
        let packet: Packet
        var payload: BufferSlot?
        switch (requests[r].kind, requests[r].discardKind) {
        // Who does not know P_ZEROES takes P_TRIM for zeroes (`wire.md` 4.2).
        case (.discard, let kind) where kind == .trim || !link.features.contains(.writeZeroes):
            flags.insert(.discard)
            packet = .trim(
                DiscardPacket(
                    sector: range.start, blockID: blockID, sequence: sequence, flags: flags, byteCount: range.byteCount))
        case (.discard, let kind):
            flags.insert(.zeroes)
            if kind != .zeroNoUnmap { flags.insert(.discard) }
            packet = .zeroes(
                DiscardPacket(
                    sector: range.start, blockID: blockID, sequence: sequence, flags: flags, byteCount: range.byteCount))
        case (_, _):
            payload = requests[r].buffer
            packet = .data(
                DataPacket(
                    sector: range.start, blockID: blockID, sequence: sequence, flags: flags, byteCount: range.byteCount))
        }
        emitWrite(r, packet, payload, isLast: true)
    }

    mutating func writeHandedToNetwork(_ id: RequestID) {
        guard let r = requests.find(id), requests[r].remote == .queued else { return }
        requests[r].remote = .sent
        if !requests[r].expectsAck { peerPendingEnds(r, answered: true) }
        completeIfDone(r)
    }

    /// The peer owes nothing for this write any more but the acknowledgement of its epoch.
    ///
    /// - Parameter answered: It has done what it owed.
    mutating func peerPendingEnds(_ r: Int32, answered: Bool) {
        guard requests[r].isPeerPending else { return }
        requests[r].isPeerPending = false
        if answered { requests[r].moments.peerEnded = now }
        volumes[requests[r].volume].counters.peerPending -= 1
    }

    // MARK: Completion

    /// Local disk work of a client ended.
    mutating func clientWriteFinished(_ id: RequestID, _ error: DiskError?) {
        guard let r = requests.find(id) else { return }
        let v = requests[r].volume
        volumes[v].localPending -= 1
        requests[r].local = error == nil ? .succeeded : .failed
        requests[r].moments.localEnded = now
        if let error {
            log(.error, v, "local WRITE IO error sector \(requests[r].range.start.value)+\(requests[r].range.count) errno \(error.code)")
            _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            localIOFailed(v)
        }
        if mutation == .releaseExtentEarly { releaseExtents(r) }
        clearBitsIfBothConfirmed(r)
        if requests[r].restarts { restart(r) }
        completeIfDone(r)
        retryLater(v)
        diskMayBeIdle(v)
    }

    /// A write during a resync made its blocks equal: both disks have it, and the peer said that it marked them so. If that
    /// resync is over, what it said comes too late: the blocks may have been written here alone since.
    mutating func clearBitsIfBothConfirmed(_ r: Int32) {
        let v = requests[r].volume
        guard requests[r].peerClearedBits, requests[r].local == .succeeded, requests[r].isWrite,
            let startedAt = volumes[v].resync?.startedAt ?? volumes[v].verify?.startedAt, requests[r].sentAt >= startedAt
        else { return }
        clearBits(v, requests[r].range)
    }

    /// What our disk's cache held may be gone: a write that only waits for the peer is answered well if the peer has it.
    mutating func forgetLocalCopies(_ v: Int) {
        // A disk that leaves has the log's extents to be copied again, one that stays counts block by block.
        let progress: LocalProgress = volumes[v].diskOptions.onIOError == .passOn ? .failed : .diskless
        var r = volumes[v].active.head
        while r >= 0 {
            let next = requests[r].next
            if requests[r].isRunningWrite, requests[r].local == .succeeded {
                requests[r].local = progress
                completeIfDone(r)
            }
            r = next
        }
    }

    /// Answers the client when both sides are as far as the protocol asks.
    mutating func completeIfDone(_ r: Int32) {
        guard requests[r].stage == .running, requests[r].isWrite else { return }
        let v = requests[r].volume
        var rule = link.options.replicationProtocol
        if mutation == .acknowledgeBeforePeer { rule = .a }
        var local = requests[r].local
        // Only the peer's copy is good, and the next resync overwrites ours: it doesn't count.
        // Nor does a disk that went away meanwhile: the peer's generation has left it behind.
        if local == .succeeded, volumes[v].state.disk == .inconsistent || !volumes[v].hasDisk || volumes[v].rotationFailed {
            local = .failed
        }
        var remote = requests[r].remote
        // A disk that is about to be overwritten with ours does not count either.
        if remote == .written, local == .failed || local == .diskless, volumes[v].state.peerDisk != .upToDate {
            remote = .refused
        }
        let completion = rule.completion(local: local, peer: remote)
        switch completion {
        case .wait:
            // Only the peer's disk can have it, and nothing but the end of its epoch will say so.
            if local == .failed || local == .diskless, !requests[r].expectsAck || requests[r].remote == .received,
                requests[r].inTransferLog, requests[r].epoch == link.epoch
            {
                closeEpoch()
            }
            return
        case .succeed, .fail:
            // Only our disk has it, and the data generation that says so is not durable yet.
            if volumes[v].isRotating, requests[r].remote != .written, mutation != .skipUUIDRotation { return }
            if completion == .succeed, local == .failed {
                peerMadeGood(v)
                if volumes[v].isDegrading { return }
            }
            // A frozen write whose peer vanished waits for the verdict, and so does one that found no disk at all.
            // Below version 95 the peer was not told that it has to be durable: the end of its epoch says it.
            if completion == .succeed, requests[r].fua, link.version < 95, requests[r].inTransferLog {
                if requests[r].epoch == link.epoch { closeEpoch() }
                return
            }
            if completion == .fail, volumes[v].isSuspended, !requests[r].inTransferLog { requests[r].retried = true }
            if volumes[v].isSuspended, requests[r].retried { return }
        }
        if requests[r].inTransferLog, requests[r].epoch == link.epoch { closeEpoch() }
        if completion == .succeed, !volumes[v].hasDisk, local != .succeeded { volumes[v].ownDiskIsBehind = true }
        if completion == .fail { log(.error, v, "write failed on all disks: sector \(requests[r].range.start.value)") }
        reply(r, completion == .succeed ? nil : .io)
        if !requests[r].inTransferLog { retire(r, acknowledged: requests[r].acknowledgedEpoch) }
        retryLater(v)
    }

    /// Sends the answer; the request leaves the list of unanswered ones.
    mutating func reply(_ r: Int32, _ error: ClientError?, data: BufferSlot? = nil) {
        let v = requests[r].volume
        if requests[r].stage != .running { volumes[v].waitingCount -= 1 }
        if error == nil {
            noteLatencies(r)
        } else {
            volumes[v].latencies.noteError(requests[r].kind.operation)
        }
        emit(.replyToClient(requests[r].id, error, data: data))
        if let buffer = requests[r].buffer {
            emit(.releaseBuffer(buffer))
            requests[r].buffer = nil
        }
        requests.remove(r, from: &volumes[v].active)
        if requests[r].isWrite { volumes[v].activeWrites -= 1 }
        requests.forgetClient(r)
        requests[r].stage = .answered
        requests[r].hasFailed = error != nil
        volumes[v].counters.applicationPending -= 1
    }

    /// No disk can take it.
    mutating func fail(_ r: Int32) {
        reply(r, .io)
        retire(r, acknowledged: false)
    }

    /// Forgets an answered write: its extents cool down; where a copy may be missing, the blocks are marked first.
    ///
    /// - Parameter acknowledged: The peer acknowledged its epoch, so what it said about the write is final.
    mutating func retire(_ r: Int32, acknowledged: Bool) {
        invariant(requests[r].stage == .answered && !requests[r].inTransferLog, "only a finished write is forgotten")
        let v = requests[r].volume
        if requests[r].isWrite {
            let remoteGood = acknowledged && requests[r].remote != .refused && requests[r].remote != .absent
            let bothGood = requests[r].local == .succeeded && remoteGood
            if !bothGood, requests[r].local != .diskless, mutation != .skipBitOnPeerLoss {
                _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            }
        } else {
            retryLater(v)
        }
        releaseExtents(r)
        requests.free(r)
        demotionsMayContinue()
    }

    private mutating func releaseExtents(_ r: Int32) {
        guard requests[r].holdsExtents else { return }
        let v = requests[r].volume
        requests[r].holdsExtents = false
        volumes[v].activityLog.release(extents(of: requests[r].range))
        retryLater(v)
    }
}
