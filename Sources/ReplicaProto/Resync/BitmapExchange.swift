/// Both nodes' bitmaps become their union (`wire-resync.md` 8.2); then the source starts.
extension Resource {
    /// Largest payload of a bitmap chunk.
    private var chunkBytes: Int { Limits.controlPacketBytes - (link.version >= 100 ? 16 : 8) }

    /// What a change of the connection state means for a resync.
    mutating func followResync(_ v: Int, from old: VolumeState, to new: VolumeState) {
        if old.connection.isVerifying, !new.connection.isVerifying { leaveVerify(v) }
        // Whose disk leaves before the resync of its new area begins is compared when it comes back.
        if !new.peerDisk.isThere || !new.disk.isUsable {
            volumes[v].resyncsGrowth = false
            volumes[v].resyncHandler = nil
        }
        if old.connection != new.connection {
            volumes[v].resyncsGrowth = false
            switch new.connection {
            case .connected, .wfBitMapS, .wfBitMapT, .startingSyncS, .startingSyncT:
                // An attempt that was given up leaves nothing to the next: not the identifier that it was to begin with.
                volumes[v].resyncHandler = nil
                volumes[v].pendingSyncUUID = nil
            default: break
            }
            switch new.connection {
            case .wfBitMapS:
                volumes[v].transferIn = BitmapReceiver()
                volumes[v].sendsBitmap = true
            case .wfBitMapT:
                volumes[v].transferIn = BitmapReceiver()
            case .startingSyncS: setWholeBitmap(v, .startingSource)
            case .startingSyncT: setWholeBitmap(v, .startingTarget)
            case .syncTarget where old.connection == .pausedSyncT: resyncResumed(v)
            case .syncSource where old.connection == .pausedSyncS: resyncResumed(v)
            case .pausedSyncT, .pausedSyncS:
                let moment = now
                volumes[v].resync?.pausedAt = moment
            case .verifyS, .verifyT: beginVerify(v)
            case .connected where volumes[v].resync != nil:
                log(.info, v, "resync aborted")
                endResync(v)
                enqueue(v, .flushData, .changedPages)
            default: break
            }
        }
    }

    /// The end of a step: bitmaps go out after everything else that the step had to say.
    mutating func runTransfers() {
        for v in volumes.indices where volumes[v].sendsBitmap {
            volumes[v].sendsBitmap = false
            if volumes[v].state.connection == .wfBitMapS {
                markUnconfirmed(v)
                sendBitmap(v)
            }
        }
    }

    /// Writes that a peer with a disk was sent, and one without may still refuse: it will not learn of their bits later.
    private mutating func markUnconfirmed(_ v: Int) {
        var r = transferLog.head
        while r >= 0 {
            if requests[r].volume == v, requests[r].remote != .written {
                _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
            }
            r = requests[r].logNext
        }
    }

    private mutating func sendBitmap(_ v: Int) {
        var sender = BitmapSender()
        let useRLE = link.options.useRLE && link.version >= 90
        while true {
            switch sender.nextChunk(of: volumes[v].bitmap, useRLE: useRLE, maximumBytes: chunkBytes) {
            case .plain(let bytes): send(.data, v, .bitmap(bytes))
            case .compressed(let bytes): send(.data, v, .compressedBitmap(bytes))
            case .end: return
            }
        }
    }

    mutating func bitmapReceived(_ v: Int, _ bytes: [UInt8], isCompressed: Bool) {
        guard volumes[v].state.disk.hasMetadata else { return connectionFailed(.protocolError) }
        var receiver = volumes[v].transferIn ?? BitmapReceiver()
        do throws(BitmapTransferError) {
            if isCompressed {
                _ = try receiver.receiveCompressed(bytes, into: &volumes[v].bitmap, maximumBytes: chunkBytes)
            } else {
                _ = try receiver.receivePlain(bytes, into: &volumes[v].bitmap, maximumBytes: chunkBytes)
            }
        } catch {
            log(.error, v, "bitmap transfer failed: \(error)")
            return connectionFailed(.protocolError)
        }
        guard receiver.isDone else {
            volumes[v].transferIn = receiver
            return
        }
        volumes[v].transferIn = nil
        switch volumes[v].state.connection {
        case .wfBitMapT:
            sendBitmap(v)
            setState(v) { $0.connection = .wfSyncUUID }
            usePendingSyncUUID(v)
        case .wfBitMapS:
            startSource(v)
        default:
            log(.info, v, "unexpected bitmap in state \(volumes[v].state.connection.name)")
        }
    }

    // MARK: Whole-bitmap changes (`metadata.md` 3.7)

    /// Every block counts as different. FULL_SYNC is durable before the first bit changes on disk.
    mutating func setWholeBitmap(_ v: Int, _ reason: FullSync) {
        volumes[v].fullSyncsRunning += 1
        volumes[v].bitmap.setAll()
        volumes[v].bitmap.markAllPagesDirty()
        enqueue(v, .superblock, .changedPages, .flushMetadata, .then(.fullSyncWritten(reason)))
    }

    mutating func fullSyncWritten(_ v: Int, _ reason: FullSync) {
        volumes[v].fullSyncsRunning -= 1
        if volumes[v].fullSyncsRunning == 0, !volumes[v].metadataBroken { volumes[v].fullSyncFlag = false }
        enqueue(v, .superblock)
        switch reason {
        case .startingSource:
            if volumes[v].state.connection == .startingSyncS { startSource(v) }
        case .startingTarget:
            if volumes[v].state.connection == .startingSyncT {
                setState(v) { $0.connection = .wfSyncUUID }
                usePendingSyncUUID(v)
            }
        case .alone(let command):
            answer(command, .success)
        case .decidedSource, .decidedTarget, .lostCache:
            break
        }
    }

    // MARK: Bits

    /// Blocks are known to be equal on both nodes.
    mutating func clearBits(_ v: Int, _ range: SectorRange) {
        _ = volumes[v].bitmap.clearInSync(range, deviceSectors: volumes[v].sectors)
        targetMayEnd(v)
        sourceMayEnd(v)
    }

    mutating func countFailed(_ v: Int, _ range: SectorRange) {
        let count = UInt64(volumes[v].bitmap.countSet(in: range))
        volumes[v].resync?.failed += count
        targetMayEnd(v)
    }

    mutating func endResync(_ v: Int) {
        volumes[v].counters.peerPending -= volumes[v].resync?.outstanding.count ?? 0
        link.pingActions.removeAll { $0.volume == v }
        volumes[v].resync = nil
        // A target whose disk has failed owes nothing; one that falls behind does.
        if volumes[v].state.connection != .ahead { volumes[v].resyncRepliesPending = 0 }
        volumes[v].transferIn = nil
        volumes[v].sendsBitmap = false
        if !volumes.contains(where: { $0.resync != nil || $0.verify != nil }) {
            timers.cancel(.resync)
            timers.cancel(.marks)
        }
        retryLater(v)
    }

    mutating func beginResync(_ v: Int) {
        volumes[v].resyncCount += 1
        // Behind, what the run before had asked for may never be answered.
        volumes[v].counters.peerPending -= volumes[v].resync?.outstanding.count ?? 0
        let fresh = Resync(
            serial: volumes[v].resyncCount, total: volumes[v].bitmap.weight, options: volumes[v].diskOptions,
            maxBuffers: link.options.maxBuffers, at: now)
        volumes[v].resync = fresh
        if volumes[v].state.connection == .pausedSyncT || volumes[v].state.connection == .pausedSyncS {
            let moment = now
            volumes[v].resync?.pausedAt = moment
        }
        log(
            .info, v,
            "Began resync as \(volumes[v].state.connection.name) (will sync \(volumes[v].bitmap.weight * 4) KB [\(volumes[v].bitmap.weight) bits set])."
        )
        if !timers.isSet(.marks) { timers.set(.marks, now + .seconds(3)) }
    }

    private mutating func resyncResumed(_ v: Int) {
        if let pausedAt = volumes[v].resync?.pausedAt {
            let before = volumes[v].resync?.pausedFor.nanoseconds ?? 0
            volumes[v].resync?.pausedFor = TimeSpan(nanoseconds: before + now.since(pausedAt).nanoseconds)
            volumes[v].resync?.pausedAt = nil
        }
        if volumes[v].state.connection == .syncTarget {
            timers.set(.resync, now)
            targetMayEnd(v)
        }
    }

    mutating func adoptResyncOptions(_ v: Int) {
        let options = volumes[v].diskOptions
        volumes[v].resync?.controller.adopt(options: options, maxBuffers: link.options.maxBuffers)
    }

    /// Every 3 s: the speed display, and the bitmap's progress becomes durable.
    mutating func takeMarks() {
        var any = false
        for v in volumes.indices where volumes[v].verify != nil {
            any = true
            let moment = now
            volumes[v].verify?.takeMark(at: moment)
        }
        for v in volumes.indices where volumes[v].resync != nil {
            any = true
            let left = volumes[v].bitmap.weight
            if volumes[v].resync?.pausedAt == nil {
                let mark = ((volumes[v].resync?.lastMark ?? 0) + 1) % 8
                let moment = now
                volumes[v].resync?.lastMark = mark
                volumes[v].resync?.marks[mark] = (moment, left)
            }
            if volumes[v].state.connection.isSyncTarget {
                volumes[v].resync?.marksSinceSave += 1
                if volumes[v].resync?.marksSinceSave == Resync.marksPerSave { volumes[v].resync?.wantsSave = true }
                saveProgressIfIdle(v)
            } else if volumes[v].metadata.isIdle, volumes[v].state.connection.isResyncing {
                enqueue(v, .changedPages)
            }
        }
        if any { timers.set(.marks, now + .seconds(3)) }
    }

    /// The target's cleared bits may reach the disk only after the blocks have, so none is cleared from the flush to the
    /// last page: it stops asking for a moment.
    mutating func saveProgressIfIdle(_ v: Int) {
        guard let resync = volumes[v].resync, resync.wantsSave, !resync.isSaving, !resync.isEnding, resync.isIdle,
            volumes[v].state.connection.isSyncTarget
        else { return }
        volumes[v].resync?.isSaving = true
        enqueue(v, .flushData, .changedPages, .then(.progressSaved(resync.serial)))
    }

    mutating func progressSaved(_ v: Int, _ serial: UInt64) {
        guard volumes[v].resync?.serial == serial else { return }
        volumes[v].resync?.isSaving = false
        volumes[v].resync?.wantsSave = false
        volumes[v].resync?.marksSinceSave = 0
        askForBlocks(v)
        targetMayEnd(v)
    }

    // MARK: Source

    /// Both bitmaps are equal: the source asks its handler, then starts.
    mutating func startSource(_ v: Int) {
        volumes[v].resyncHandler = runHandler(.beforeResyncSource, v)
    }

    mutating func sourceHandlerDone(_ v: Int, _ status: Int32?) {
        volumes[v].resyncHandler = nil
        switch volumes[v].state.connection {
        case .wfBitMapS, .startingSyncS, .ahead: break
        case .connected where volumes[v].resyncsGrowth: break
        default: return
        }
        guard status == 0 || status == 3 else {
            log(.error, v, "before-resync-source handler returned \(status.map(String.init) ?? "nothing"), dropping connection.")
            return connectionFailed(.disconnecting, because: .handlerRefused)
        }
        setState(v) {
            $0.connection = .syncSource
            $0.peerDisk = .inconsistent
        }
        guard volumes[v].state.connection.isSyncSource else { return }
        // A resync without a handshake before it: DRBD 8.4 would end it with the identifiers that it knows of us, and after a
        // skipped first resync those of a disk just created.
        if volumes[v].peerHasOldIdentifiers { sendUUIDs(v) }
        let old = volumes[v].identifiers.bitmap
        var identifier = old &+ GenerationIdentifiers.syncOffset
        if old == 0 || old == GenerationIdentifiers.justCreated { identifier = randomIdentifier(v) & ~1 }
        if old != 0 {
            volumes[v].identifiers.history1 = volumes[v].identifiers.history0
            volumes[v].identifiers.history0 = old
        }
        volumes[v].identifiers.bitmap = identifier
        log(.info, v, "updated sync uuid \(volumes[v].identifiers.text)")
        beginResync(v)
        volumes[v].resync?.identifier = identifier
        // What the last Primary sent may be in nothing but our disk's cache, and no log of ours covers it: copied and then
        // lost here, it would be a difference that no bitmap knows.
        enqueue(v, .flushData, .superblock, .then(.syncUUIDReady(identifier)))
    }

    mutating func syncUUIDReady(_ v: Int, _ identifier: UInt64) {
        guard volumes[v].resync?.identifier == identifier, volumes[v].state.connection.isSyncSource else { return }
        send(.data, v, .syncUUID(identifier))
    }

    /// P_RS_WRITE_ACK for a resync block.
    mutating func resyncBlockWritten(_ v: Int, _ ack: BlockAck) {
        guard rangeIsInside(v, ack.range) else { return connectionFailed(.protocolError) }
        resyncReplyAnswered(v)
        takeBackInSync(v, ack.range)
        // The news that a run was aborted comes on the other stream and may be faster: then the block may have been written
        // here alone since. If the next run has begun already, both nodes have its bit, and the target asks for it again.
        guard volumes[v].resync != nil else { return }
        clearBits(v, ack.range)
    }

    private mutating func resyncReplyAnswered(_ v: Int) {
        volumes[v].resyncRepliesPending = max(0, volumes[v].resyncRepliesPending - 1)
    }

    /// P_NEG_ACK for a resync block.
    mutating func resyncBlockFailed(_ v: Int, _ ack: BlockAck) {
        guard rangeIsInside(v, ack.range) else { return connectionFailed(.protocolError) }
        resyncReplyAnswered(v)
        countFailed(v, ack.range)
    }

    /// The end of a resync as the target reports it (`wire.md` 6.3, step 3). True if the packet is dealt with.
    mutating func resyncEndReported(_ v: Int, _ peer: VolumeState, _ peerDisk: inout DiskState) -> Bool {
        let state = volumes[v].state
        guard state.peerDisk == .inconsistent || state.peerDisk == .consistent, peerDisk == .upToDate,
            state.connection > .connected, state.disk == .upToDate
        else { return false }
        if peer.connection >= .startingSyncS, peer.connection <= .wfSyncUUID {
            peerDisk = .inconsistent
            return false
        }
        if state.connection >= .syncSource, peer.connection == .connected {
            volumes[v].resync?.targetReported = true
            // DRBD 8.4 drops the packet here and with it a demotion that came before we had ended (`wire.md` 6.3, step 3):
            // it would keep us from becoming Primary for as long as the connection lasts.
            setState(v) { $0.peerRole = peer.role }
            sourceMayEnd(v)
            if !(volumes[v].resync?.isEnding ?? true), volumes[v].state.connection.isSyncSource {
                afterPing(v, .sourceWaits)
            }
            return true
        }
        return false
    }

    /// The target has reported the end, all its acks are in, and still blocks are marked that it knows nothing of: ours
    /// could not be read or written. DRBD 8.4 stays SyncSource for ever; a new connection compares the bitmaps.
    mutating func sourceWaits(_ v: Int) {
        guard let resync = volumes[v].resync, resync.targetReported, !resync.isEnding,
            volumes[v].state.connection.isSyncSource, volumes[v].bitmap.weight > resync.failed
        else { return }
        log(.warning, v, "\(volumes[v].bitmap.weight) blocks are marked after the end of the resync, connecting again")
        connectionFailed(.networkFailure)
    }

    /// The target's last ping before it ends looks like any other.
    mutating func targetMayEndNow() {
        for v in volumes.indices where volumes[v].state.connection.isSyncSource && volumes[v].bitmap.weight == 0 {
            volumes[v].resync?.targetMayHaveEnded = true
        }
    }

    /// The target is lost as a resync ends: did it get that far? DRBD 8.4 takes it that it did not. Its bitmap identifier
    /// stays, a Primary that goes on alone begins no new generation (`wire.md` 5.2, U6 asks for B = 0), and if the target
    /// did end and is promoted, rule 50 overwrites what was written here without a word. So we take it that it did: if
    /// it did not, the next resync is a full one (rule 80).
    mutating func endUnseenResync(_ v: Int) {
        guard let resync = volumes[v].resync, resync.targetMayHaveEnded,
            volumes[v].identifiers.bitmap == resync.identifier
        else { return }
        volumes[v].identifiers = volumes[v].identifiers.withRetiredBitmap
        superblockChanged(v)
    }

    func targetIsComplete(_ v: Int) -> Bool {
        guard let resync = volumes[v].resync else { return false }
        return resync.targetReported && volumes[v].state.connection.isSyncSource && volumes[v].bitmap.weight == 0
    }

    /// The target has all blocks; ours are all confirmed too.
    private mutating func sourceMayEnd(_ v: Int) {
        // Up to v95 nobody reports the end: both nodes see it when no bit is left (`wire.md` 10). What failed may have failed
        // in an earlier run, so with failures the end is left to the target here, too.
        guard let resync = volumes[v].resync,
            resync.targetReported || link.version <= 95 && volumes[v].bitmap.weight == 0, !resync.isEnding,
            volumes[v].state.connection.isSyncSource, volumes[v].bitmap.weight <= resync.failed
        else { return }
        volumes[v].resync?.isEnding = true
        afterPing(v, .sourceEnds)
    }

    mutating func sourceEnds(_ v: Int) {
        guard let resync = volumes[v].resync, resync.isEnding, volumes[v].state.connection.isSyncSource else { return }
        logResyncEnd(v, resync)
        // What failed may be news of an earlier run, or have succeeded since: the bits tell.
        let succeeded = volumes[v].bitmap.weight == 0
        if succeeded {
            volumes[v].identifiers = volumes[v].identifiers.withRetiredBitmap
            volumes[v].peerIdentifiers = volumes[v].identifiers
        }
        endResync(v)
        setState(v) {
            $0.connection = .connected
            $0.peerDisk = succeeded ? .upToDate : .inconsistent
        }
        enqueue(v, .superblock, .changedPages)
        unfenceIfAllUpToDate(v)
    }

    func averageRate(_ resync: Resync) -> UInt64 {
        let seconds = max(1, (now.since(resync.startedAt).nanoseconds &- resync.pausedFor.nanoseconds) / 1_000_000_000)
        return resync.total * 4 / seconds
    }

    mutating func logResyncEnd(_ v: Int, _ resync: Resync) {
        let total = now.since(resync.startedAt).wholeSeconds
        let paused = resync.pausedFor.wholeSeconds
        log(
            .info, v,
            "Resync done (total \(total) sec; paused \(paused) sec; \(averageRate(resync)) K/sec)"
                + (resync.failed > 0 ? " \(resync.failed) blocks failed" : ""))
        guard resync.usesChecksums, resync.total > 0 else { return }
        let equal = min(resync.equalBlocks, resync.total)
        log(
            .info, v,
            "\(equal * 100 / resync.total) % had equal checksums, eliminated: \(equal * 4)K; transferred \((resync.total - equal) * 4)K total \(resync.total * 4)K"
        )
    }
}
