/// Changes of a volume's state and what follows from them.
extension Resource {
    func context(_ v: Int) -> StateContext {
        let volume = volumes[v]
        var otherPrimary = false
        for other in volumes.indices where other != v && volumes[other].state.peerRole == .primary { otherPrimary = true }
        return StateContext(
            fencing: volume.state.disk == .diskless ? .dontCare : volume.diskOptions.fencing,
            onNoData: options.onNoDataAccessible, allowTwoPrimaries: link.options.allowTwoPrimaries,
            exportIsOpen: volume.openCount > 0, verifyAlgorithmSet: !link.options.verifyAlgorithm.isEmpty,
            agreedVersion: link.version == 0 ? 101 : link.version, hasNetConfiguration: link.configuration != nil,
            attachDiskState: volume.attachDiskState, attachPeerDisk: volume.attachPeerDisk,
            exposedMatchesCurrent: !volume.ownDiskIsBehind
                && (volume.exposedIdentifier == 0
                    || volume.exposedIdentifier & ~1 == volume.identifiers.current & ~1),
            handshakeRunning: volume.isInHandshake, targetIsComplete: targetIsComplete(v),
            peerPrimaryOnOtherVolume: otherPrimary)
    }

    /// A change that happens whatever anybody thinks of it.
    mutating func setState(_ v: Int, _ modify: (inout VolumeState) -> Void) {
        let old = volumes[v].state
        var wanted = old
        modify(&wanted)
        let new = wanted.sanitized(from: old, context: context(v))
        guard new != old else { return }
        apply(v, old, new)
    }

    /// A change that may be refused. Nothing has changed unless the result is a success.
    mutating func requestState(_ v: Int, _ modify: (inout VolumeState) -> Void) -> StateChangeResult {
        let old = volumes[v].state
        var wanted = old
        modify(&wanted)
        let context = context(v)
        let new = wanted.sanitized(from: old, context: context)
        if let refusal = VolumeState.evaluateSoftChange(from: old, to: new, context: context) { return refusal }
        apply(v, old, new)
        return .success
    }

    /// Whether a change would be granted.
    func judge(_ v: Int, _ modify: (inout VolumeState) -> Void) -> StateChangeResult {
        let old = volumes[v].state
        var wanted = old
        modify(&wanted)
        let context = context(v)
        let new = wanted.sanitized(from: old, context: context)
        return VolumeState.evaluateSoftChange(from: old, to: new, context: context) ?? .success
    }

    private mutating func apply(_ v: Int, _ old: VolumeState, _ new: VolumeState) {
        volumes[v].state = new
        dependenciesMayHaveChanged = true
        let text = new.description(changedFrom: old)
        if !text.isEmpty { log(.info, v, text) }
        emit(.publishStatus)
        follow(v, from: old, to: new)
    }

    private mutating func follow(_ v: Int, from old: VolumeState, to new: VolumeState) {
        if new.disk.isUsable, new.disk >= .consistent {
            volumes[v].exposedIdentifier = volumes[v].identifiers.current
            volumes[v].ownDiskIsBehind = false
        }
        if new.disk == .upToDate, new.peerDisk == .upToDate {
            volumes[v].isCrashedPrimary = false
            volumes[v].peerFlags.remove(.crashedPrimary)
        }
        let peerHadGoodData = old.connection.isConnected && old.peerDisk == .upToDate
        let peerHasGoodData = new.connection.isConnected && new.peerDisk == .upToDate
        if new.role == .secondary || peerHasGoodData && !peerHadGoodData { volumes[v].peerIsBehind = false }
        if old.disk == .upToDate, !new.disk.isUsable, new.role == .primary, !peerHasGoodData,
            volumes[v].identifiers.bitmap != 0 || volumes[v].bitmap.weight > 0
        {
            volumes[v].peerIsBehind = true
        }
        if old.role != new.role {
            exportMayHaveChanged(v)
            // It was asked, and agreed.
            if new.role == .primary { volumes[v].toldRole = .primary }
        }
        // The target of a resync stays Inconsistent for us when it is lost, and may have ended all the same.
        let lostTarget = old.connection.isSyncSource && !new.connection.isConnected
        if peerDataLost(old, new) || lostTarget { peerLost(v, from: old, to: new) }
        if !old.peerDisk.isThere, new.peerDisk.isThere, new.connection.isConnected { volumes[v].rotationDeferred = false }
        if new.peerDisk.isThere || new.peerRole != .primary { volumes[v].peerGuard = .off }
        // Also when it is our disk that comes, to a Primary that has none.
        let cameToPrimary = old.disk == .negotiating && new.connection.isConnected
        if old.peerRole == .secondary || cameToPrimary, new.peerRole == .primary { disklessPeerPromoted(v, new) }
        if new.disk.isUsable {
            // Kept for the time when the disk is not usable any more and its state says nothing.
            let flags = currentFlags(v)
            volumes[v].superblock?.flags = flags
            superblockChanged(v)
        }
        tellPeer(v, from: old, to: new)
        followResync(v, from: old, to: new)
        followCongestion(v, from: old, to: new)
        if new.disk == .failed, old.disk != .failed { diskMayBeIdle(v) }
        dataMayBeBack(v, from: old, to: new)
        if new.isPrimaryWithoutData, !old.isPrimaryWithoutData { runHandler(.priOnInconDegr, v) }
        retryLater(v)
        if !timers.isSet(.retry), !deferred.isEmpty { timers.set(.retry, now) }
        if !waiters.isEmpty { timers.set(.waiters, now) }
    }

    /// I/O that was frozen because no disk had the data goes on when one has. A new connection sends again first
    /// (`resendFrozenWrites`).
    private mutating func dataMayBeBack(_ v: Int, from old: VolumeState, to new: VolumeState) {
        guard new.suspendedNoData, new.disk == .upToDate || new.peerDisk == .upToDate,
            old.connection.isConnected == new.connection.isConnected
        else { return }
        setState(v) { $0.suspendedNoData = false }
        thaw(v)
    }

    // MARK: Losing the peer's data (`wire.md` 5.2, U6 and U7)

    private func peerDataLost(_ old: VolumeState, _ new: VolumeState) -> Bool {
        switch (old.peerDisk, new.peerDisk) {
        case (.inconsistent, .unknown), (.inconsistent, .outdated), (.inconsistent, .diskless),
            (.inconsistent, .attaching), (.inconsistent, .failed), (.inconsistent, .negotiating),
            (.consistent, .unknown), (.consistent, .outdated), (.consistent, .diskless), (.consistent, .attaching),
            (.consistent, .failed), (.consistent, .negotiating),
            (.upToDate, .unknown), (.upToDate, .outdated), (.upToDate, .diskless), (.upToDate, .attaching),
            (.upToDate, .failed), (.upToDate, .negotiating),
            (.unknown, .diskless), (.unknown, .failed), (.unknown, .outdated):
            true
        default: false
        }
    }

    private mutating func peerLost(_ v: Int, from old: VolumeState, to new: VolumeState) {
        if old.connection.isSyncSource { endUnseenResync(v) }
        guard new.role == .primary || new.peerRole == .primary, volumes[v].identifiers.bitmap == 0,
            new.disk == .upToDate
        else { return }
        // Frozen are only our own clients. What was written while Ahead is answered, and will not be sent again.
        if new.isSuspended, new.role == .primary, old.connection != .ahead {
            volumes[v].rotationDeferred = true
            return
        }
        let isNew = old.connection == .wfReportParams && new.role != .primary && new.peerDisk == .diskless
        if isNew || new.role != .primary && (isDetaching(v) || volumes[v].obeysPeer) {
            // It may still turn us down for having other data than it has in use, or never learn that we let it detach,
            // or let us do the same; then nothing must have changed.
            volumes[v].rotatesOnceAccepted = true
            return
        }
        rotateIdentifiers(v, tells: true)
    }

    /// U7: applications will write to our disk alone. The promotion is certain once the peer says that it is Primary, or
    /// writes.
    private mutating func disklessPeerPromoted(_ v: Int, _ new: VolumeState) {
        guard !new.peerDisk.isThere, volumes[v].identifiers.bitmap == 0, new.disk == .upToDate else { return }
        volumes[v].rotatesOnceAccepted = true
    }

    /// A diskless Primary goes on with our data: from now on that is a generation of its own.
    mutating func peerAcceptedOurData(_ v: Int, byWriting: Bool = false) {
        guard volumes[v].rotatesOnceAccepted, byWriting || !isDetaching(v) else { return }
        volumes[v].rotatesOnceAccepted = false
        guard volumes[v].identifiers.bitmap == 0, volumes[v].state.disk == .upToDate else { return }
        rotateIdentifiers(v, tells: true)
    }

    /// new_current (`wire.md` 5.1): the data leaves the generation that the peer has. Until this is durable no reply
    /// leaves that relies on our disk alone.
    /// - Parameter tells: the peer goes on with our disk and hears of the generation, too: once that is durable, or it would
    ///   refuse this disk after a crash. It has written nothing before that (`proceedPeer`).
    mutating func rotateIdentifiers(_ v: Int, tells: Bool = false) {
        if mutation == .skipUUIDRotation { return }
        newCurrentIdentifier(v)
        volumes[v].isRotating = true
        volumes[v].tellsRotation = tells
        volumes[v].peerGuard = .off
        enqueue(v, .superblock, .then(.rotated))
    }

    mutating func newCurrentIdentifier(_ v: Int) {
        volumes[v].rotatedFrom = volumes[v].identifiers.current
        volumes[v].identifiers.bitmap = volumes[v].identifiers.current
        volumes[v].identifiers.current = randomIdentifier(v)
        volumes[v].exposedIdentifier = volumes[v].identifiers.current
        log(.info, v, "new current UUID: \(volumes[v].identifiers.text)")
    }

    /// 64 random bits, bit 0 telling the role; never one of the reserved values.
    mutating func randomIdentifier(_ v: Int) -> UInt64 {
        var value = random.next() & ~1
        while value == 0 || value == GenerationIdentifiers.justCreated { value = random.next() & ~1 }
        return value | (volumes[v].state.role == .primary ? 1 : 0)
    }

    mutating func storeRoleBit(_ v: Int) {
        guard volumes[v].superblock != nil else { return }
        if volumes[v].state.role == .primary {
            volumes[v].identifiers.current |= 1
        } else {
            volumes[v].identifiers.current &= ~1
        }
    }

    mutating func identifierRotated(_ v: Int) {
        // The disk has failed meanwhile, and the peer, whose own is gone, must not wait for a generation that it never heard of.
        if volumes[v].tellsRotation, !volumes[v].state.disk.hasMetadata { forgetRotation(v) }
        volumes[v].isRotating = false
        if volumes[v].tellsRotation, !volumes[v].rotationFailed { sendUUIDs(v) }
        completeHeldWrites(v)
        finishFlushes()
    }

    /// I/O is no longer frozen, or the peer's fate is known: the new generation that was put off begins.
    mutating func rotateIfDeferred(_ v: Int) {
        guard volumes[v].rotationDeferred, !volumes[v].isSuspended else { return }
        volumes[v].rotationDeferred = false
        let state = volumes[v].state
        // Also on a connection to a peer whose disk is gone.
        guard !state.connection.isConnected || !state.peerDisk.isThere, volumes[v].identifiers.bitmap == 0,
            state.disk == .upToDate
        else { return }
        rotateIdentifiers(v, tells: true)
    }

    /// The peer comes back before the new generation that was put off, but not everything can be sent again: writes that
    /// were answered are only in our bitmap, and without a generation of its own nobody would look at that (rule 40).
    mutating func rotateBeforeComparison(_ v: Int) {
        guard volumes[v].rotationDeferred, volumes[v].peerIsBehind, volumes[v].identifiers.bitmap == 0,
            volumes[v].state.disk == .upToDate
        else { return }
        volumes[v].rotationDeferred = false
        rotateIdentifiers(v)
    }

    // MARK: Telling the peer (`wire.md` 6.2)

    private mutating func tellPeer(_ v: Int, from old: VolumeState, to new: VolumeState) {
        guard link.phase == .established else { return }
        // Attaching is no news yet: what the peer needs to know it can use only once it is Negotiating.
        let wasAway = old.peerDisk == .diskless || old.peerDisk == .attaching
        let isAway = new.peerDisk == .diskless || new.peerDisk == .attaching || new.peerDisk == .failed
        let attached = wasAway && !isAway && old.connection.isConnected && new.connection.isConnected
        if attached {
            sendUUIDs(v)
            return sendState(v)
        }
        let leftHandshake = old.connection == .wfReportParams && new.connection.isConnected
        let pauseChanged =
            new.connection.isConnected
            && (old.pausedByDependency != new.pausedByDependency || old.pausedByUser != new.pausedByUser)
        let diskWentBad =
            (new.disk == .failed || new.disk == .diskless) && old.disk != new.disk && old.disk != .attaching
            && new.connection.isConnected
        if diskWentBad, volumes[v].ioErrorHandler != nil { volumes[v].owesDiskNews = true }
        let passedOn =
            (old.disk == .upToDate || old.disk == .outdated) && new.disk == .inconsistent && new.connection == .connected
        // It may have come to a stop sector that the peer knows nothing of.
        let verified = old.connection == .verifyS && new.connection == .connected && canStopVerify
        if verified || leftHandshake || pauseChanged || diskWentBad && !volumes[v].owesDiskNews || passedOn
            || (new.connection == .ahead && old.connection != .ahead)
        {
            sendState(v)
        }
    }

    mutating func sendState(_ v: Int) {
        var told = volumes[v].state
        // A DRBD 8.4 peer that has heard of Attaching does not notice that Negotiating is what it waited for.
        if told.disk == .attaching { told.disk = .diskless }
        volumes[v].toldRole = told.role
        send(.data, v, .state(told.word))
    }

    mutating func sendUUIDs(_ v: Int, extra: UUIDFlags = []) {
        guard volumes[v].state.disk.hasMetadata, link.isUsable, volumes[v].sentHandshake else { return }
        var flags = extra
        if volumes[v].discardMyData { flags.insert(.discardMyData) }
        if volumes[v].isCrashedPrimary { flags.insert(.crashedPrimary) }
        if volumes[v].attachDiskState == .inconsistent, volumes[v].state.disk == .negotiating {
            flags.insert(.inconsistent)
        }
        volumes[v].communicatedBits = volumes[v].bitmap.weight
        volumes[v].peerHasOldIdentifiers = false
        send(
            .data, v,
            .uuids(UUIDsPacket(identifiers: volumes[v].identifiers, dirtyBits: volumes[v].bitmap.weight, flags: flags)))
    }

    // MARK: What clients see

    mutating func exportMayHaveChanged(_ v: Int) {
        let state = ExportState(
            sectors: volumes[v].sectors, isPrimary: volumes[v].state.role == .primary && volumes[v].mayServe,
            logicalBlockSize: volumes[v].logicalBlockSize,
            requestSectors: link.version == 0 ? Limits.requestSectors : maximumRequest(v) / 512)
        guard state != volumes[v].lastExport else { return }
        volumes[v].lastExport = state
        emit(.setExport(volumes[v].number, state))
    }

    // MARK: Consequences of metadata steps

    mutating func follow(_ consequence: Consequence, _ v: Int) {
        switch consequence {
        case .answer(let command): answer(command, .success)
        case .attached: finishAttach(v)
        case .rotated: identifierRotated(v)
        case .degraded: degraded(v)
        case .guarding: guarding(v)
        case .progressSaved(let serial): progressSaved(v, serial)
        case .promoted(let command, let forced): finishPromotion(v, command, forced: forced)
        case .mayDemote(let command): demoteNow(v, command)
        case .demoted(let command): finishDemotion(v, command)
        case .syncUUIDReady(let identifier): syncUUIDReady(v, identifier)
        case .resyncMayBegin: resyncMayBegin(v)
        case .resyncedDataDurable: resyncedDataDurable(v)
        case .resyncEndDurable: resyncEndDurable(v)
        case .fullSyncWritten(let reason): fullSyncWritten(v, reason)
        case .metadataMoved: metadataMoved(v)
        case .resized: moveEnds(v)
        case .cleanedUpAfterLoss: volumeCleanedUp(v)
        case .closeDisk: closeDiskNow(v)
        }
    }
}
