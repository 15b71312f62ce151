/// Taking a disk into use and giving it back (`metadata.md` section 6, `control.md` 2.6).
extension Resource {
    mutating func attach(_ command: CommandID, _ v: Int, _ configuration: DiskConfiguration) {
        guard volumes[v].state.disk == .diskless, !volumes[v].isClosing else {
            return answer(command, CommandAnswer(code: 124))
        }
        if let problem = dependencyProblem(v, after: configuration.options.resyncAfter) {
            return answer(command, CommandAnswer(code: problem))
        }
        volumes[v].disk = configuration
        volumes[v].diskOptions = configuration.options
        volumes[v].attachCommand = command
        volumes[v].metadataBroken = false
        volumes[v].hadReadError = false
        volumes[v].closesCleanly = false
        setState(v) { $0.disk = .attaching }
        emit(.openDisk(volumes[v].number, configuration))
    }

    mutating func answerAttach(_ v: Int, _ result: CommandAnswer) {
        guard let command = volumes[v].attachCommand else { return }
        volumes[v].attachCommand = nil
        answer(command, result)
    }

    mutating func diskOpenFailed(_ number: VolumeNumber, _ code: Int32, _ detail: String) {
        guard let v = index(of: number), volumes[v].state.disk == .attaching else { return }
        log(.error, v, "open failed: \(detail)")
        setState(v) { $0.disk = .diskless }
        volumes[v].disk = nil
        answerAttach(v, CommandAnswer(code: code, text: detail))
        continueDown()
    }

    /// Applications of a Primary have seen data that this disk does not have.
    func isOtherThanInUse(_ v: Int, _ identifiers: GenerationIdentifiers) -> Bool {
        guard volumes[v].state.role == .primary else { return false }
        return volumes[v].ownDiskIsBehind
            || (volumes[v].exposedIdentifier != 0
                && volumes[v].exposedIdentifier & ~1 != identifiers.current & ~1)
    }

    /// The disk is open but not good: it is closed again.
    private mutating func refuseAttach(_ v: Int, _ code: Int32, _ reason: String) {
        log(.error, v, reason)
        answerAttach(v, CommandAnswer(code: code, text: reason))
        volumes[v].superblock = nil
        volumes[v].isClosing = true
        setState(v) { $0.disk = .failed }
        emit(.closeDisk(volumes[v].number))
    }

    mutating func diskOpened(_ number: VolumeNumber, _ image: DiskImage) {
        guard let v = index(of: number), volumes[v].state.disk == .attaching, let configuration = volumes[v].disk
        else { return }
        var superblock: Superblock
        let layout: MetadataLayout
        do throws(MetadataError) {
            superblock = withoutDoubt(v, try Superblock(decoding: image.superblock))
            layout = try MetadataLayout(
                configuration.index, superblock: superblock, deviceSectors: image.metadataDeviceSectors)
        } catch {
            return refuseAttach(v, 119, error.message)
        }
        let usable = min(layout.usableSectors(dataDeviceSectors: image.dataDeviceSectors), Limits.deviceSectors)
        let wanted = configuration.options.size
        if wanted > usable {
            return refuseAttach(v, 111, "disk size \(usable) sectors is smaller than the configured size \(wanted)")
        }
        let size = DeviceSize(
            own: usable, peer: volumes[v].peerDiskSize, lastAgreed: superblock.lastAgreedSectors, configured: wanted
        ).negotiated
        if superblock.flags.contains(.consistent), size < superblock.lastAgreedSectors, size != wanted {
            return refuseAttach(
                v, 170, "the device would shrink from \(superblock.lastAgreedSectors) to \(size) sectors")
        }
        if usable < volumes[v].sectors, volumes[v].state.role == .primary {
            return refuseAttach(v, 111, "disk size \(usable) sectors is smaller than the device in use")
        }
        // While the peer has a disk the generations are compared instead: it has what applications see.
        if !volumes[v].state.connection.isConnected || !volumes[v].state.peerDisk.isThere,
            isOtherThanInUse(v, superblock.identifiers)
        {
            return refuseAttach(v, 150, "this is not the data that was lost last")
        }
        let application: ActivityLogApplication
        do throws(ActivityLogApplicationError) {
            application = try ActivityLogApplication(superblock: superblock, ring: image.activityLog)
        } catch {
            return refuseAttach(v, 165, error.message)
        }
        takeOver(v, superblock, layout, image, application, usable: usable, size: size)
    }

    /// A write that failed may have reached the disk: the generation that it was to begin never did.
    private func withoutDoubt(_ v: Int, _ superblock: Superblock) -> Superblock {
        let doubtful = volumes[v].doubtfulIdentifier
        guard doubtful != 0, superblock.identifiers.current & ~1 == doubtful & ~1 else { return superblock }
        var result = superblock
        result.identifiers.current = volumes[v].rotatedFrom
        result.identifiers.bitmap = 0
        return result
    }

    private mutating func takeOver(
        _ v: Int, _ superblock: Superblock, _ layout: MetadataLayout, _ image: DiskImage,
        _ application: ActivityLogApplication, usable: UInt64, size: UInt64
    ) {
        var superblock = superblock
        layout.describe(in: &superblock)
        let flags = superblock.flags
        let before = superblock.lastAgreedSectors
        volumes[v].superblock = superblock
        volumes[v].writtenSuperblock = nil
        volumes[v].identifiers = superblock.identifiers
        volumes[v].rotationFailed = false
        volumes[v].doubtfulIdentifier = 0
        volumes[v].layout = layout
        volumes[v].metadataIsMoving = false
        volumes[v].metadata.holdsTransactions = false
        volumes[v].staleSuperblock = nil
        volumes[v].ownDiskChanged = false
        volumes[v].usableSectors = usable
        volumes[v].logicalBlockSize = image.logicalBlockSize
        volumes[v].physicalBlockSize = image.physicalBlockSize
        volumes[v].canDiscard = image.canDiscard
        volumes[v].peerMaximumRequest = max(superblock.peerMaximumRequest, 4096)
        // A Primary that lost this disk crashed as far as the disk is concerned, unless nothing was written since
        // (`metadata.md` 5.6).
        let wroteNothing = volumes[v].state.role == .primary && volumes[v].state.suspendedNoData
        let wasPrimary = flags.contains(.primaryIndicator) && !wroteNothing
        volumes[v].isCrashedPrimary = wasPrimary || flags.contains(.crashedPrimary)
        volumes[v].wasConnectedAtCrash = flags.contains(.connectedIndicator)
        let fencing = volumes[v].diskOptions.fencing
        volumes[v].attachDiskState = flags.diskState(fencing: fencing)
        if volumes[v].ownDiskIsBehind, volumes[v].state.role == .secondary, volumes[v].attachDiskState > .inconsistent {
            // The peer may never have heard that ours failed, so the identifiers would not say it. Of a Primary it hears when
            // they meet.
            log(.warning, v, "The peer has answered writes since this disk was lost, considering it Inconsistent")
            volumes[v].attachDiskState = .inconsistent
        }
        volumes[v].attachPeerDisk = flags.rememberedPeerDisk
        volumes[v].sectors = size

        // Bitmap: as on disk, plus the activity log of a crashed Primary, plus everything that is new.
        var bitmap = DirtyBitmap(bits: DirtyBitmap.bits(forDeviceSectors: before), loading: image.bitmap)
        if mutation != .skipActivityLogReplay {
            for extent in application.extents {
                let first = UInt64(extent) << 10
                guard first < bitmap.bits else { break }
                _ = bitmap.setRun(from: BitmapBlock(first), count: min(1024, bitmap.bits - first))
            }
        }
        if !application.extents.isEmpty {
            log(.info, v, "Marked \(application.extents.count) extents as out-of-sync based on AL.")
        }
        bitmap.resize(to: DirtyBitmap.bits(forDeviceSectors: size), settingNew: true)
        let full = flags.contains(.fullSync) || (volumes[v].isCrashedPrimary && flags.contains(.activityLogDisabled))
        if full { bitmap.setAll() }
        if full || before != size { bitmap.markAllPagesDirty() }
        volumes[v].bitmap = bitmap
        volumes[v].activityLogDisabled = !volumes[v].diskOptions.alUpdates
        let slots = layout.geometry.slots(configured: volumes[v].diskOptions.alExtents)
        volumes[v].activityLog = ActivityLog(slots: slots)
        volumes[v].activityLog.setRing(layout.geometry, startingNumber: 0)
        chooseWriteOrdering()
        log(.info, v, "size = \(size / 2) KB (\(size) sectors), \(bitmap.weight) bits set")

        if full || before != size {
            // A crash in here is repaired by a full sync.
            volumes[v].fullSyncFlag = true
            enqueue(v, .superblock)
        }
        // The log is emptied only after its extents are in the bitmap on disk, and what a killed process left in the
        // disk's cache is durable: from then on nothing remembers that it could be missing.
        enqueue(
            v, .flushData, .changedPages, .flushMetadata, .disarmLog, .initialiseLog, .flushMetadata, .then(.attached))
    }

    /// Bitmap and log are as they should be: the disk gets its state.
    mutating func finishAttach(_ v: Int) {
        guard volumes[v].state.disk == .attaching else { return }
        if volumes[v].isInHandshake {
            volumes[v].attachIsPutOff = true
            return
        }
        volumes[v].fullSyncFlag = false
        if volumes[v].metadataBroken {
            return refuseAttach(v, 118, "I/O errors on first access to the metadata")
        }
        if volumes[v].state.connection.isConnected {
            volumes[v].peerIdentifiers = nil
            setState(v) { $0.disk = .negotiating }
            chooseWriteOrdering()
            sendSizes(v, askForReply: false)
            sendUUIDs(v)
            sendState(v)
        } else {
            // The peer, whose generation was to be compared with this one, may be gone meanwhile.
            if isOtherThanInUse(v, volumes[v].identifiers) {
                return refuseAttach(v, 150, "this is not the data that was lost last")
            }
            let disk = volumes[v].attachDiskState
            let peer = volumes[v].attachPeerDisk
            setState(v) {
                $0.disk = disk
                if $0.peerDisk == .unknown { $0.peerDisk = peer }
            }
            chooseWriteOrdering()
            if volumes[v].state.role == .primary, volumes[v].state.disk == .upToDate, volumes[v].identifiers.bitmap == 0 {
                // It goes on alone, like one that loses its peer.
                rotateIdentifiers(v)
            }
        }
        if volumes[v].exposedIdentifier == 0 { volumes[v].exposedIdentifier = volumes[v].identifiers.current }
        storeRoleBit(v)
        exportMayHaveChanged(v)
        if let command = volumes[v].attachCommand {
            volumes[v].attachCommand = nil
            enqueue(v, .superblock, .then(.answer(command)))
        } else {
            enqueue(v, .superblock)
        }
        continueDown()
    }

    /// Attaches that were ready in the middle of a handshake, which must not see the disk appear.
    mutating func finishPutOffAttaches() {
        for v in volumes.indices where volumes[v].attachIsPutOff && !volumes[v].isInHandshake {
            volumes[v].attachIsPutOff = false
            finishAttach(v)
        }
    }

    // MARK: Detach

    mutating func detach(_ command: CommandID, _ v: Int, force: Bool) {
        switch volumes[v].state.disk {
        case .diskless: return answer(command, .success)
        case .attaching, .failed: return answer(command, code(.inTransientState))
        case .negotiating, .inconsistent, .outdated, .unknown, .consistent, .upToDate: break
        }
        if force {
            return detachByForce(command, v)
        }
        let verdict = judge(v) { $0.disk = .failed }
        guard verdict.isSuccess else { return answer(command, code(verdict)) }
        // Protocols A and B have answered writes that the peer's disk may still refuse. Ours goes once that is settled.
        volumes[v].detachWaits = command
        closeEpoch()
        detachesMayContinue()
    }

    /// The peer's disk has all writes that were answered: ours may go.
    mutating func detachesMayContinue() {
        for v in volumes.indices {
            guard let command = volumes[v].detachWaits, !transferLogHolds(v), !isAnyWriteRunning(v) else { continue }
            volumes[v].detachWaits = nil
            switch volumes[v].state.disk {
            case .diskless: return answer(command, .success)
            case .attaching, .failed: return answer(command, code(.inTransientState))
            case .negotiating, .inconsistent, .outdated, .unknown, .consistent, .upToDate: break
            }
            let verdict = judge(v) { $0.disk = .failed }
            if !verdict.isSuccess {
                retryLater(v)
                answer(command, code(verdict))
            } else if volumes[v].state.connection.isConnected {
                askPeer(ClusterChange(.detach, command, v, mask: 0x1e00, value: 0x0400))
            } else {
                performDetach(command, v)
            }
        }
    }

    private func isAnyWriteRunning(_ v: Int) -> Bool {
        var r = volumes[v].active.head
        while r >= 0 {
            if requests[r].isRunningWrite { return true }
            r = requests[r].next
        }
        return false
    }

    /// No write begins between the moment when all are settled and the end of the disk.
    func isDetaching(_ v: Int) -> Bool {
        if volumes[v].detachWaits != nil { return true }
        guard let change = clusterChange, change.volume == v, case .detach = change.purpose else { return false }
        return true
    }

    mutating func performDetach(_ command: CommandID, _ v: Int) {
        retryLater(v)
        // It may have failed while the peer was asked.
        if volumes[v].state.disk == .diskless { return answer(command, .success) }
        let verdict = judge(v) { $0.disk = .failed }
        guard verdict.isSuccess else { return answer(command, code(verdict)) }
        volumes[v].detachCommand = command
        volumes[v].closesCleanly =
            volumes[v].state.role == .secondary && volumes[v].state.peerRole != .primary
            || volumes[v].state.role == .secondary && volumes[v].state.peerDisk.isThere
        setState(v) { $0.disk = .failed }
    }

    /// An I/O error of the data disk, by `on-io-error`.
    ///
    /// With `pass_on` DRBD 8.4 makes the disk Inconsistent at once, whoever else has the data. Then a bad block would be
    /// enough to have everything overwritten by a copy that is older, but whole ("due to disk states", `wire.md` 5.5). So
    /// the only good disk stays UpToDate, and the disk of a Primary until the peer has proved that it is there and has
    /// the block (`peerMadeGood`).
    mutating func localIOFailed(_ v: Int) {
        guard volumes[v].hasDisk else { return }
        switch volumes[v].diskOptions.onIOError {
        case .passOn:
            if volumes[v].state.role == .secondary { passOnError(v) }
        case .callLocalIOError, .detach:
            failDisk(v, isMetadata: false)
        }
    }

    /// A request that our disk failed succeeded on the peer's: from now on that is the better copy.
    mutating func peerMadeGood(_ v: Int) {
        guard volumes[v].hasDisk, volumes[v].diskOptions.onIOError == .passOn else { return }
        passOnError(v)
    }

    private mutating func passOnError(_ v: Int) {
        guard volumes[v].state.disk > .inconsistent, volumes[v].state.peerDisk == .upToDate else { return }
        let wasVerifying = volumes[v].state.connection.isVerifying
        setState(v) { $0.disk = .inconsistent }
        volumes[v].isDegrading = true
        enqueue(v, .superblock, .then(.degraded))
        // DRBD 8.4 does not believe a disk to be Inconsistent while it verifies, but in a handshake it does.
        if wasVerifying, volumes[v].state.role == .secondary { connectionFailed(.networkFailure) }
    }

    mutating func degraded(_ v: Int) {
        volumes[v].isDegrading = false
        completeHeldWrites(v)
        finishFlushes()
    }

    mutating func failDisk(_ v: Int, isMetadata: Bool) {
        if isMetadata { volumes[v].metadataBroken = true }
        switch volumes[v].state.disk {
        case .diskless, .failed, .attaching, .unknown: return
        case .negotiating, .inconsistent, .outdated, .consistent, .upToDate: break
        }
        log(.error, v, "Local IO failed. Detaching...")
        loseDisk(v)
    }

    /// The disk has failed by itself. What the handler finds is a disk that is Failed, and a peer that believes in it: if it resets
    /// the node, that looks like any crash (`control.md` 4.1).
    mutating func loseDisk(_ v: Int) {
        let calls = volumes[v].diskOptions.onIOError == .callLocalIOError && volumes[v].ioErrorHandler == nil
        if calls { volumes[v].ioErrorHandler = announceHandler() }
        setState(v) { $0.disk = .failed }
        if calls { runHandler(.localIOError, v, as: volumes[v].ioErrorHandler) }
    }

    mutating func localIOErrorTold(_ v: Int) {
        volumes[v].ioErrorHandler = nil
        if volumes[v].owesDiskNews, volumes[v].state.connection.isConnected { sendState(v) }
        volumes[v].owesDiskNews = false
        retryLater(v)
    }

    /// Called whenever local I/O ends: a failed disk is closed when the last has.
    mutating func diskMayBeIdle(_ v: Int) {
        finishCleanupIfReady()
        guard volumes[v].state.disk == .failed, volumes[v].localPending == 0, !volumes[v].isClosing else { return }
        volumes[v].isClosing = true
        if volumes[v].hadReadError, !volumes[v].closesCleanly {
            // A read error's block may lie outside the log's extents: if the bitmap can't be written, all is suspect.
            if volumes[v].metadataBroken { volumes[v].fullSyncFlag = true }
        }
        if volumes[v].isAbandoned { return enqueue(v, .then(.closeDisk)) }
        // The peer counts on what was acknowledged, and no epoch will flush this disk any more.
        enqueue(v, .flushData, .changedPages, .superblock)
        if volumes[v].closesCleanly {
            enqueue(v, .flushMetadata, .disarmLog, .initialiseLog, .flushMetadata, .cleanSuperblock)
        }
        enqueue(v, .then(.closeDisk))
    }

    mutating func closeDiskNow(_ v: Int) { emit(.closeDisk(volumes[v].number)) }

    mutating func diskClosed(_ number: VolumeNumber) {
        guard let v = index(of: number) else { return }
        volumes[v].isClosing = false
        volumes[v].isForcedOff = false
        volumes[v].isAbandoned = false
        volumes[v].superblock = nil
        volumes[v].writtenSuperblock = nil
        volumes[v].usableSectors = 0
        volumes[v].disk = nil
        volumes[v].activityLog = ActivityLog(slots: 1)
        forgetExtents(v)
        volumes[v].layout = nil
        volumes[v].metadata.holdsTransactions = false
        if volumes[v].isRotating { identifierRotated(v) }
        setState(v) { $0.disk = .diskless }
        abandonSizeChanges(v)
        if let command = volumes[v].detachCommand {
            volumes[v].detachCommand = nil
            answer(command, .success)
        }
        volumes[v].bitmap = DirtyBitmap(bits: 0)
        advanceEpochs()
        continueDown()
    }

    /// The log is gone with its disk: nobody holds anything of it. Who waits asks the next one, should a disk come back
    /// before it may go on.
    private mutating func forgetExtents(_ v: Int) {
        var r = volumes[v].active.head
        while r >= 0 {
            requests[r].holdsExtents = false
            switch requests[r].stage {
            case .waitingTransaction, .waitingOverlap: requests[r].stage = .waitingLogSpace
            case .free, .waitingAdmission, .waitingLogSpace, .running, .postponed, .answered: break
            }
            r = requests[r].next
        }
        r = transferLog.head
        while r >= 0 {
            if requests[r].volume == v { requests[r].holdsExtents = false }
            r = requests[r].logNext
        }
        var p = peerRequests.list.head
        while p >= 0 {
            if peerRequests[p].volume == v {
                peerRequests[p].holdsExtents = false
                if peerRequests[p].stage == .waitingTransaction { peerRequests[p].stage = .waiting }
            }
            p = peerRequests[p].next
        }
    }
}
