/// The target of a resync: it asks for blocks, writes them, and says when it has all (`wire-resync.md` 8.4 to 8.8).
extension Resource {
    /// P_SYNC_UUID
    mutating func syncUUIDReceived(_ v: Int, _ identifier: UInt64) {
        guard volumes[v].state.disk.hasMetadata else { return }
        switch volumes[v].state.connection {
        case .wfSyncUUID, .behind: startTarget(v, identifier)
        case .startingSyncT, .wfBitMapT: volumes[v].pendingSyncUUID = identifier
        default:
            log(.error, v, "unexpected SyncUUID in state \(volumes[v].state.connection.name)")
            connectionFailed(.protocolError)
        }
    }

    mutating func usePendingSyncUUID(_ v: Int) {
        guard let identifier = volumes[v].pendingSyncUUID else { return }
        volumes[v].pendingSyncUUID = nil
        startTarget(v, identifier)
    }

    private mutating func startTarget(_ v: Int, _ identifier: UInt64) {
        volumes[v].pendingSyncUUID = identifier
        volumes[v].resyncHandler = runHandler(.beforeResyncTarget, v)
    }

    mutating func targetHandlerDone(_ v: Int, _ status: Int32?) {
        volumes[v].resyncHandler = nil
        guard let identifier = volumes[v].pendingSyncUUID else { return }
        volumes[v].pendingSyncUUID = nil
        guard volumes[v].state.connection == .wfSyncUUID || volumes[v].state.connection == .behind else { return }
        guard status == 0 else {
            log(.error, v, "before-resync-target handler returned \(status.map(String.init) ?? "nothing"), dropping connection.")
            return connectionFailed(.disconnecting, because: .handlerRefused)
        }
        volumes[v].identifiers.current = identifier
        storeRoleBit(v)
        volumes[v].identifiers.bitmap = 0
        // Applications of a Primary see the source's data from now on.
        if volumes[v].state.role == .primary, let peer = volumes[v].peerIdentifiers {
            volumes[v].exposedIdentifier = peer.current
        }
        retryLater(v)
        setState(v) {
            $0.connection = .syncTarget
            $0.disk = .inconsistent
        }
        guard volumes[v].state.connection.isSyncTarget else { return }
        log(.info, v, "updated sync UUID \(volumes[v].identifiers.text)")
        beginResync(v)
        let (checksums, thin) = (wantsChecksums(v), thinSectors(v))
        volumes[v].resync?.usesChecksums = checksums
        volumes[v].resync?.thinSectors = thin
        enqueue(v, .changedPages, .superblock, .then(.resyncMayBegin))
    }

    /// Whether digests go out instead of plain requests (`wire-resync.md` 8.4).
    private func wantsChecksums(_ v: Int) -> Bool {
        guard link.version >= 89, DigestAlgorithm(link.options.checksumAlgorithm) != nil else { return false }
        return !link.options.checksumsAfterCrashOnly || volumes[v].isCrashedPrimary
    }

    private func thinSectors(_ v: Int) -> UInt32 {
        guard link.features.contains(.thinResync), volumes[v].canDiscard else { return 0 }
        let bytes = volumes[v].diskOptions.rsDiscardGranularity
        return bytes > 0 && bytes % 4096 == 0 ? UInt32(clamping: bytes / 512) : 0
    }

    mutating func resyncMayBegin(_ v: Int) {
        guard volumes[v].state.connection.isSyncTarget, volumes[v].resync != nil else { return }
        volumes[v].resync?.mayRequest = true
        timers.set(.resync, now)
        targetMayEnd(v)
        retryLater(v)
    }

    // MARK: Asking

    /// Every 100 ms while anything is SyncTarget or VerifyS.
    mutating func resyncTick() {
        var any = false
        for v in volumes.indices where volumes[v].state.connection == .syncTarget && (volumes[v].resync?.mayRequest ?? false) {
            any = true
            let answered = volumes[v].resync?.answeredSectors ?? 0
            volumes[v].resync?.answeredSectors = 0
            let blocks = volumes[v].resync?.controller.step(sectorsAnswered: answered) ?? 0
            let budget = mustStepAside(v) ? 0 : blocks
            volumes[v].resync?.budget = budget
            askForBlocks(v)
            targetMayEnd(v)
        }
        if verifyTick() { any = true }
        if any { timers.set(.resync, now + ResyncController.step) }
    }

    /// c-min-rate: while applications use the disk, a resync that is faster than this waits (`wire-resync.md` 8.12).
    private mutating func mustStepAside(_ v: Int) -> Bool {
        let minimum = volumes[v].diskOptions.cMinRate
        let counters = volumes[v].counters
        let activity = counters.diskWritten &+ counters.diskRead
        let resyncSectors = (volumes[v].resync?.writtenSectors ?? 0) &+ (volumes[v].resync?.readSectors ?? 0)
        let others = activity &- resyncSectors
        let seen = volumes[v].resync?.activitySeen ?? 0
        volumes[v].resync?.activitySeen = others
        guard minimum > 0, others &- seen > 64, let resync = volumes[v].resync else { return false }
        let mark = resync.marks[(resync.lastMark + 7) % 8]
        let milliseconds = max(1, now.since(mark.at).nanoseconds / 1_000_000)
        let left = volumes[v].bitmap.weight
        let done = mark.left > left ? mark.left - left : 0
        return done * 4 * 1000 / milliseconds > UInt64(minimum)
    }

    mutating func askForBlocks(_ v: Int) {
        while let resync = volumes[v].resync, resync.mayRequest, resync.mayAskMore, !resync.isEnding,
            volumes[v].state.connection == .syncTarget
        {
            guard let range = nextResyncRange(v, from: resync.cursor, blocks: resync.budget) else {
                // Blocks that were set again behind the cursor have another turn once all answers are in.
                if resync.isIdle, volumes[v].bitmap.weight > resync.failed, resync.cursor.value > 0 {
                    volumes[v].resync?.cursor = BitmapBlock(0)
                    volumes[v].resync?.budget -= 1
                    continue
                }
                return
            }
            // Own writes that are on their way to the disk go first (`wire-resync.md` 8.7, G3).
            if overlapsRunningWrite(v, range) { return }
            volumes[v].resync?.cursor = BitmapBlock((range.end.value + 7) >> 3)
            volumes[v].resync?.noteRequest(range)
            volumes[v].counters.peerPending += 1
            if resync.usesChecksums, readForChecksum(v, range) { continue }
            let request = BlockRequest(sector: range.start, blockID: BlockID.syncer, byteCount: range.byteCount)
            send(.data, v, range.count == resync.thinSectors ? .thinResyncRequest(request) : .resyncDataRequest(request))
        }
    }

    /// Reads our copy of a block that is asked for, for its digest. False if it has to be asked for without.
    private mutating func readForChecksum(_ v: Int, _ range: SectorRange) -> Bool {
        guard let p = peerRequests.take(.checksumRequest) else { return false }
        enterPeerRead(p, v, range, BlockID.syncer, nil)
        peerRequests[p].epoch = volumes[v].resyncCount
        proceedPeer(p)
        return true
    }

    /// Our copy is there, or cannot be read: then the block is just asked for.
    mutating func checksumRequestRead(_ request: PeerRequest, _ buffer: BufferSlot?) {
        let v = request.volume
        guard let resync = volumes[v].resync, resync.serial == request.epoch, volumes[v].state.connection.isSyncTarget
        else { return }
        volumes[v].resync?.readSectors += UInt64(request.range.count)
        let packet = BlockRequest(sector: request.range.start, blockID: BlockID.syncer, byteCount: request.range.byteCount)
        if let buffer {
            send(.data, v, .checksumResyncRequest(packet), payload: buffer)
        } else {
            send(.data, v, .resyncDataRequest(packet))
        }
    }

    /// The next run of set bits, grown as DRBD grows it: inside one resync extent, starting at a multiple of its size.
    private func nextResyncRange(_ v: Int, from cursor: BitmapBlock, blocks: Int) -> SectorRange? {
        guard let first = volumes[v].bitmap.nextSet(from: cursor) else { return nil }
        let bitmap = volumes[v].bitmap
        let extentEnd = ((first.value >> 12) + 1) << 12
        let most = UInt64(min(blocks, Int(maximumRequest(v) / 4096)))
        var count: UInt64 = 1
        var alignment: UInt64 = 1
        while count < most {
            let next = first.value + count
            guard next < extentEnd, next < bitmap.bits, bitmap.isSet(BitmapBlock(next)) else { break }
            if (first.value << 3) & ((8 << alignment) - 1) != 0 { break }
            // Exactly what may be answered with "all zeroes".
            if count * 8 == UInt64(volumes[v].resync?.thinSectors ?? 0) { break }
            count += 1
            if count == 1 << alignment { alignment += 1 }
        }
        let start = first.firstSector.value
        let end = min(start + count * 8, volumes[v].sectors)
        return SectorRange(start, UInt32(end - start))
    }

    private func overlapsRunningWrite(_ v: Int, _ range: SectorRange) -> Bool {
        var r = volumes[v].active.head
        while r >= 0 {
            if requests[r].isRunningWrite, requests[r].range.overlaps(range) { return true }
            r = requests[r].next
        }
        return false
    }

    // MARK: Answers

    /// P_RS_DATA_REPLY
    mutating func resyncDataReceived(_ v: Int, _ head: DataPacket, _ payload: BufferSlot?) {
        guard let payload else { return connectionFailed(.protocolError) }
        volumes[v].counters.networkReceived += UInt64(head.range.count)
        resyncBlockArrived(v, head.range, payload)
    }

    /// A block of the source is here; without a payload it is zeroes.
    private mutating func resyncBlockArrived(_ v: Int, _ range: SectorRange, _ payload: BufferSlot?) {
        guard volumes[v].resync?.takeRequest(range) ?? false else {
            if let payload { emit(.releaseBuffer(payload)) }
            // A request of a resync that was aborted meanwhile is answered all the same.
            guard volumes[v].state.connection.isConnected, rangeIsInside(v, range) else {
                return connectionFailed(.protocolError)
            }
            return ackResync(v, range, success: false)
        }
        volumes[v].counters.peerPending -= 1
        volumes[v].resync?.answeredSectors += Int(range.count)
        guard volumes[v].hasDisk, let p = peerRequests.take(payload == nil ? .resyncDiscard : .resyncWrite) else {
            if let payload { emit(.releaseBuffer(payload)) }
            countFailed(v, range)
            return ackResync(v, range, success: false)
        }
        peerRequests[p].volume = v
        peerRequests[p].range = range
        peerRequests[p].buffer = payload
        peerRequests[p].discardKind = .zeroMayUnmap
        peerRequests[p].blockID = BlockID.syncer
        peerRequests[p].epoch = volumes[v].resyncCount
        peerRequests[p].connection = link.instance
        if mutation == .clearBitBeforeAck { clearBits(v, range) }
        volumes[v].resync?.writing += 1
        if payload != nil { volumes[v].resync?.writtenSectors += UInt64(range.count) }
        proceedPeer(p)
        askForBlocks(v)
    }

    /// P_RS_DEALLOCATED: the area is zero. Only an answer to P_RS_THIN_REQ.
    mutating func resyncDeallocatedReceived(_ v: Int, _ area: AreaPacket) {
        guard link.features.contains(.thinResync) else { return connectionFailed(.protocolError) }
        resyncBlockArrived(v, area.range, nil)
    }

    private mutating func ackResync(_ v: Int, _ range: SectorRange, success: Bool) {
        let sequence = nextSequence(v)
        let ack = BlockAck(sector: range.start, blockID: BlockID.syncer, byteCount: range.byteCount, sequence: sequence)
        send(.meta, v, success ? .resyncWriteAck(ack) : .negativeAck(ack))
    }

    /// A resync block is on our disk, or not.
    mutating func resyncWriteFinished(_ p: Int32, _ error: DiskError?) {
        let request = peerRequests[p]
        let v = request.volume
        guard request.connection == link.instance else { return }
        // What an aborted resync was still writing says nothing about the bits of the next one.
        guard volumes[v].resync?.serial == request.epoch else { return }
        volumes[v].resync?.writing -= 1
        guard volumes[v].state.connection.isConnected else { return }
        if error == nil {
            ackResync(v, request.range, success: true)
            // Behind, the block may have been reported out of sync again since it was sent.
            if volumes[v].state.connection != .behind { clearBits(v, request.range) }
        } else {
            countFailed(v, request.range)
            ackResync(v, request.range, success: false)
        }
        saveProgressIfIdle(v)
        askForBlocks(v)
    }

    /// P_NEG_RS_DREPLY, P_RS_CANCEL
    mutating func resyncReadRefused(_ v: Int, _ ack: BlockAck, cancelled: Bool) {
        guard rangeIsInside(v, ack.range) else { return connectionFailed(.protocolError) }
        if volumes[v].verify != nil { return verifyRefused(v, ack.range) }
        guard volumes[v].resync?.takeRequest(ack.range) ?? false else { return }
        volumes[v].counters.peerPending -= 1
        // In flight no more: the controller would make less and less room for others.
        volumes[v].resync?.controller.note(requestedSectors: -Int(ack.range.count))
        if !cancelled { countFailed(v, ack.range) }
        targetMayEnd(v)
        retryLater(v)
    }

    /// P_RS_IS_IN_SYNC
    mutating func resyncBlockIsInSync(_ v: Int, _ ack: BlockAck) {
        guard rangeIsInside(v, ack.range) else { return connectionFailed(.protocolError) }
        guard volumes[v].resync?.takeRequest(ack.range) ?? false else { return }
        volumes[v].counters.peerPending -= 1
        volumes[v].resync?.answeredSectors += Int(ack.range.count)
        volumes[v].resync?.equalBlocks += UInt64(ack.range.count + 7) / 8
        // Our disk has failed a write there since: the source compared with what was here before.
        // Behind, the block may have been reported out of sync again.
        if volumes[v].resync?.mayBeEqual(ack.range) ?? false, volumes[v].state.connection != .behind { clearBits(v, ack.range) }
        saveProgressIfIdle(v)
        askForBlocks(v)
        retryLater(v)
    }

    // MARK: The end (`wire-resync.md` 8.8)

    mutating func targetMayEnd(_ v: Int) {
        guard let resync = volumes[v].resync, resync.mayRequest, !resync.isEnding,
            volumes[v].state.connection == .syncTarget
        else { return }
        let isWritten = volumes[v].bitmap.weight <= resync.failed && resync.isIdle
        let seemsWritten = mutation == .finishResyncEarly && resync.outstanding.isEmpty && resync.writing > 0
        guard isWritten || seemsWritten else { return }
        volumes[v].resync?.isEnding = true
        enqueue(v, .flushData, .then(.resyncedDataDurable))
    }

    /// All blocks are durable: the source shall have processed our acks before we say so.
    mutating func resyncedDataDurable(_ v: Int) {
        guard volumes[v].resync?.isEnding ?? false, volumes[v].state.connection.isSyncTarget else { return }
        afterPing(v, .targetEnds)
    }

    mutating func targetAcksProcessed(_ v: Int) {
        guard let resync = volumes[v].resync, resync.isEnding, volumes[v].state.connection.isSyncTarget else { return }
        logResyncEnd(v, resync)
        let succeeded = resync.failed == 0
        if succeeded, let peer = volumes[v].peerIdentifiers {
            // U10: history as the source will have it when it has ended, too.
            var own = volumes[v].identifiers
            own.history1 = peer.bitmap != 0 ? peer.bitmap : peer.history0
            own.history0 = own.current
            own.bitmap = 0
            own.current = peer.current
            volumes[v].identifiers = own
            storeRoleBit(v)
            volumes[v].peerIdentifiers = volumes[v].identifiers
        }
        endResync(v)
        setState(v) {
            $0.connection = .connected
            $0.disk = succeeded ? .upToDate : .inconsistent
            $0.peerDisk = .upToDate
        }
        volumes[v].owesResyncEnd = true
        enqueue(v, .superblock, .then(.resyncEndDurable), .changedPages)
    }

    mutating func resyncEndDurable(_ v: Int) {
        volumes[v].owesResyncEnd = false
        guard volumes[v].state.connection == .connected else { return }
        sendState(v)
        runHandler(.afterResyncTarget, v)
    }
}
