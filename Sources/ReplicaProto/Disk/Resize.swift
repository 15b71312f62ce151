/// What `resize` asks for (`control.md` 8.2).
package struct ResizeRequest: Equatable, Sendable {
    /// Sectors; 0 = all that both disks have.
    package var sectors: UInt64 = 0
    /// Without a connection: the peer's disk has grown too, or will.
    package var assumePeerHasSpace = false
    /// The new area need not be copied: it is equal on both nodes, or nobody cares.
    package var assumeClean = false

    package init(sectors: UInt64 = 0, assumePeerHasSpace: Bool = false, assumeClean: Bool = false) {
        self.sectors = sectors
        self.assumePeerHasSpace = assumePeerHasSpace
        self.assumeClean = assumeClean
    }
}

/// A change of size that waits for the backing devices to be measured, and for internal metadata to be moved.
enum SizeChange: Equatable {
    case command(CommandID, ResizeRequest)
    /// The peer's administrator has asked for it. `grew`: what the disk had already is in use since it arrived. `role`: the
    /// peer's when it asked.
    case peer(SizesPacket, connection: UInt32, grew: Bool, role: Role)
}

/// The flags of P_SIZES (`wire.md` 3.3).
enum ResizeFlag {
    /// DDSF_FORCED
    static let forced: UInt16 = 1
    /// DDSF_NO_RESYNC
    static let assumeClean: UInt16 = 2
}

/// Online resize: the administrator has changed the backing devices, the metadata follows their end, both nodes agree on
/// a size, and what is new is copied (`wire.md` 4.6, `metadata.md` 6.5).
extension Resource {
    mutating func resize(_ id: CommandID, _ v: Int, _ request: ResizeRequest) {
        if let refusal = resizeRefusal(v, request) { return answer(id, CommandAnswer(code: refusal)) }
        begin(.command(id, request), v)
    }

    private func resizeRefusal(_ v: Int, _ request: ResizeRequest) -> Int32? {
        let state = volumes[v].state
        if state.connection > .connected { return 130 }
        // So does what a resync could not copy: the other node may not have seen its end.
        if state.connection == .connected, state.disk == .inconsistent || state.peerDisk == .inconsistent,
            state.disk == .upToDate || state.peerDisk == .upToDate
        {
            return 130
        }
        if state.role != .primary, state.peerRole != .primary { return 131 }
        if request.assumeClean, state.connection.isConnected, link.version < 93 { return 153 }
        if !state.disk.isUsable { return 138 }
        // In the middle of a handshake the peer has been told a size that must not change.
        if volumes[v].isInHandshake { return StateChangeResult.inTransientState.rawValue }
        return nil
    }

    /// P_SIZES on an established connection that wants to know ours: what the peer's administrator has started. Our disk
    /// may have grown since it was measured.
    mutating func resizeRequested(_ v: Int, _ packet: SizesPacket) {
        var packet = packet
        agreeOnCopying(v, &packet)
        let role = volumes[v].state.peerRole
        // One at a time: what grows by the one before is copied or not as that one said.
        guard volumes[v].sizeChanges.isEmpty else {
            // And no more than one waits: the last says it all.
            if volumes[v].sizeChanges.count > 1, case .peer = volumes[v].sizeChanges.last {
                volumes[v].sizeChanges.removeLast()
            }
            return begin(.peer(packet, connection: link.instance, grew: false, role: role), v)
        }
        let before = volumes[v].sectors
        guard adoptPeerSize(v, packet) else { return }
        begin(.peer(packet, connection: link.instance, grew: volumes[v].sectors > before, role: role), v)
    }

    /// The administrators of both nodes ask at the same moment, one of them for no copy: what is new is copied, and both
    /// nodes have to know. Each has asked before it has heard the other.
    private mutating func agreeOnCopying(_ v: Int, _ packet: inout SizesPacket) {
        guard let asked = volumes[v].resizeAsked else { return }
        let theyAssumeClean = packet.resizeFlags & ResizeFlag.assumeClean != 0
        if theyAssumeClean == asked.assumesClean { return }
        packet.resizeFlags &= ~ResizeFlag.assumeClean
        guard asked.assumesClean else { return }
        volumes[v].resizeAsked?.assumesClean = false
        // Ours has grown without bits.
        guard volumes[v].sectors > asked.from, volumes[v].state.disk.isUsable else { return }
        let first = asked.from >> 3
        _ = volumes[v].bitmap.setRun(
            from: BitmapBlock(first), count: DirtyBitmap.bits(forDeviceSectors: volumes[v].sectors) - first)
        enqueue(v, .changedPages)
    }

    /// The same where the peer's question waits for the end of our own command. True: ours asks for a copy, too.
    private mutating func agreeOnCopying(_ v: Int, assumesClean: Bool) -> Bool {
        for index in volumes[v].sizeChanges.indices {
            guard case .peer(var packet, link.instance, let grew, let role) = volumes[v].sizeChanges[index] else { continue }
            let theyAssumeClean = packet.resizeFlags & ResizeFlag.assumeClean != 0
            if assumesClean, !theyAssumeClean { return true }
            guard !assumesClean, theyAssumeClean else { continue }
            packet.resizeFlags &= ~ResizeFlag.assumeClean
            volumes[v].sizeChanges[index] = .peer(packet, connection: link.instance, grew: grew, role: role)
        }
        return !assumesClean
    }

    private mutating func begin(_ change: SizeChange, _ v: Int) {
        volumes[v].sizeChanges.append(change)
        if volumes[v].sizeChanges.count == 1 { emit(.measureDisk(volumes[v].number)) }
    }

    /// The device's answer to `measureDisk`: capacities in sectors, or nil if they can't be had.
    mutating func diskMeasured(_ number: VolumeNumber, _ found: DiskCapacity?) {
        guard let v = index(of: number), !volumes[v].sizeChanges.isEmpty else { return }
        guard volumes[v].hasDisk, let layout = volumes[v].layout, let disk = volumes[v].disk else {
            return abandonSizeChanges(v)
        }
        guard let found, let new = try? layout.following(found.metadataDeviceSectors) else {
            return finishSizeChange(v, refusal: CommandAnswer(code: 112))
        }
        let usable = min(new.usableSectors(dataDeviceSectors: found.dataDeviceSectors), Limits.deviceSectors)
        guard usable >= volumes[v].sectors else {
            return finishSizeChange(
                v,
                refusal: CommandAnswer(code: 170, text: "the disk has \(usable) sectors, the device \(volumes[v].sectors)"))
        }
        if disk.index != .internal, usable <= volumes[v].usableSectors, found.dataDeviceSectors > usable {
            // More disk than the metadata can speak of.
            return finishSizeChange(v, refusal: CommandAnswer(code: 112))
        }
        if new == layout {
            volumes[v].usableSectors = usable
            volumes[v].ownDiskChanged = false
            finishSizeChange(v)
        } else {
            // Not in use before the metadata that lie there are out of the way.
            volumes[v].usableAfterMove = usable
            moveMetadata(v, from: layout, to: new)
        }
    }

    /// Takes the metadata to another place. A crash leaves either the old superblock, which nothing touches before the new
    /// one is durable, or the new one with FULL_SYNC, until bitmap and log are where it says (`metadata.md` 6.5).
    private mutating func moveMetadata(_ v: Int, from old: MetadataLayout, to new: MetadataLayout) {
        log(.info, v, "Writing the whole bitmap, md moved")
        enqueue(v, .relocate(new))
        // Whoever finds the new superblock should find a log, too, but not at the old one's expense.
        if new.activityLog >= old.end || new.activityLog &+ new.activityLogSectors <= old.start {
            enqueue(v, .initialiseLog, .flushMetadata, .superblock)
        } else {
            enqueue(v, .superblock, .initialiseLog)
        }
        enqueue(
            v, .logContext(volumes[v].activityLog.contextTransactions), .changedPages, .flushMetadata, .then(.metadataMoved))
    }

    /// The step of the metadata queue that begins the move: everything from here on goes to the new place.
    mutating func relocate(_ v: Int, to new: MetadataLayout) {
        if let old = volumes[v].layout, new.index == .internal, old.superblock &+ 8 <= new.bitmap {
            volumes[v].staleSuperblock = Sector(old.superblock)
        }
        volumes[v].layout = new
        if var block = volumes[v].superblock {
            new.describe(in: &block)
            volumes[v].superblock = block
        }
        volumes[v].metadataIsMoving = true
        volumes[v].metadata.holdsTransactions = true
        volumes[v].bitmap.markAllPagesDirty()
        volumes[v].activityLog.setRing(new.geometry, startingNumber: 0)
        volumes[v].writtenSuperblock = nil
        emit(.moveMetadata(volumes[v].number, new))
    }

    /// Everything is at the new place and durable there.
    mutating func metadataMoved(_ v: Int) {
        volumes[v].metadataIsMoving = false
        enqueue(v, .superblock)
        // Should the disk ever be cut back to its old size, nobody shall find what counts no more.
        if let stale = volumes[v].staleSuperblock { enqueue(v, .clearSuperblock(stale)) }
        volumes[v].staleSuperblock = nil
        enqueue(v, .then(.resized))
    }

    /// What was found on the device counts from now on.
    mutating func moveEnds(_ v: Int) {
        if let usable = volumes[v].usableAfterMove {
            volumes[v].usableSectors = usable
            volumes[v].usableAfterMove = nil
            volumes[v].ownDiskChanged = true
        }
        finishSizeChange(v)
    }

    /// The backing device is measured and the metadata where it belongs: the sizes are compared.
    mutating func finishSizeChange(_ v: Int, refusal: CommandAnswer? = nil) {
        guard let change = volumes[v].sizeChanges.first else { return }
        guard volumes[v].hasDisk else { return abandonSizeChanges(v) }
        volumes[v].sizeChanges.removeFirst()
        switch change {
        case .command(let id, let request):
            if let refusal { answer(id, refusal) } else { carryOut(id, v, request) }
        case .peer(let packet, let connection, let grew, let role):
            if connection == link.instance, volumes[v].state.connection.isConnected {
                answerPeer(v, packet, grew: grew, role)
            }
        }
        if !volumes[v].sizeChanges.isEmpty { emit(.measureDisk(volumes[v].number)) }
    }

    /// The disk is gone.
    mutating func abandonSizeChanges(_ v: Int) {
        let changes = volumes[v].sizeChanges
        volumes[v].sizeChanges = []
        volumes[v].usableAfterMove = nil
        volumes[v].resizePending = false
        for case .command(let id, _) in changes { answer(id, CommandAnswer(code: 138)) }
    }

    private mutating func carryOut(_ id: CommandID, _ v: Int, _ request: ResizeRequest) {
        // Much may have happened meanwhile.
        if let refusal = resizeRefusal(v, request) { return answer(id, CommandAnswer(code: refusal)) }
        let connected = volumes[v].state.connection.isConnected
        let own = volumes[v].usableSectors
        let isForced = request.assumePeerHasSpace && !connected
        if isForced { log(.warning, v, "Resize while not connected was forced by the user!") }
        let size = DeviceSize(
            own: own, peer: isForced ? own : volumes[v].peerDiskSize, lastAgreed: volumes[v].sectors,
            configured: request.sectors)
        if size.configuredIsTooBig {
            log(.error, v, "Requested disk size is too big (\(request.sectors / 2) > \(own / 2)) KiB")
        }
        let sectors = size.negotiated
        if sectors < volumes[v].sectors, sectors != request.sectors {
            return answer(id, CommandAnswer(code: 170, text: "use --size=\(sectors)s to shrink to what both disks have"))
        }
        volumes[v].diskOptions.size = request.sectors
        volumes[v].disk?.options.size = request.sectors
        let before = volumes[v].sectors
        let grows = sectors > before
        let copies = agreeOnCopying(v, assumesClean: request.assumeClean)
        setSize(v, sectors, settingNew: copies)
        if connected {
            volumes[v].resizeAsked = (assumesClean: !copies, from: before, role: volumes[v].state.role)
            if grows { volumes[v].resizePending = true }
            sendUUIDs(v)
            let flags = (request.assumePeerHasSpace ? ResizeFlag.forced : 0) | (copies ? 0 : ResizeFlag.assumeClean)
            // A peer without a disk takes what it is told for our size.
            sendSizes(v, askForReply: volumes[v].state.peerDisk.isThere, flags: flags)
            volumes[v].ownDiskChanged = false
        }
        enqueue(v, .superblock, .then(.answer(id)))
    }

    private mutating func answerPeer(_ v: Int, _ packet: SizesPacket, grew: Bool, _ peerRole: Role) {
        // A demotion is told once it is durable; who becomes the source depends on it now.
        if volumes[v].toldRole != volumes[v].state.role { sendState(v) }
        let before = volumes[v].sectors
        guard adoptPeerSize(v, packet) else { return }
        followSizes(
            v, packet, grew: grew || volumes[v].sectors > before, roles: (own: volumes[v].state.role, peer: peerRole))
    }

    /// The peer's size and limit take effect. False: the connection is given up instead.
    mutating func adoptPeerSize(_ v: Int, _ packet: SizesPacket) -> Bool {
        let size = DeviceSize(
            own: volumes[v].usableSectors, lastAgreed: volumes[v].sectors, configured: volumes[v].diskOptions.size)
        switch size.received(packet, current: volumes[v].sectors, state: volumes[v].state) {
        case .wouldShrink:
            log(.error, v, "The peer's disk size is too small!")
            refusePeer(.peerTooSmall)
            return false
        case .resize(let sectors, let configured):
            volumes[v].peerDiskSize = packet.diskSize
            if configured != volumes[v].diskOptions.size {
                log(.info, v, "Peer sets u_size to \(configured) sectors (old: \(volumes[v].diskOptions.size))")
                volumes[v].diskOptions.size = configured
                volumes[v].disk?.options.size = configured
            }
            if sectors != 0 { setSize(v, sectors, settingNew: packet.resizeFlags & ResizeFlag.assumeClean == 0) }
            return true
        }
    }

    /// What the peer has to hear, and whether what is new is to be copied (`wire.md` 4.6, step 6).
    ///
    /// - Parameter roles: as both nodes know them: that of the one that asked, when it asked, and that of the other, when it
    ///   answers.
    mutating func followSizes(_ v: Int, _ packet: SizesPacket, grew: Bool, roles: (own: Role, peer: Role)) {
        guard volumes[v].state.connection.isConnected else { return }
        if packet.currentSize != volumes[v].sectors || volumes[v].ownDiskChanged {
            sendSizes(v, askForReply: false, flags: packet.resizeFlags)
        }
        volumes[v].ownDiskChanged = false
        guard volumes[v].resizePending || grew else { return }
        volumes[v].resizePending = false
        guard volumes[v].state.connection == .connected else {
            // One node is in the middle of a resync that the other has ended: it will wait for ever for this one to begin.
            if packet.resizeFlags & ResizeFlag.assumeClean == 0 { connectionFailed(.networkFailure) }
            return
        }
        guard volumes[v].state.disk.isUsable, volumes[v].state.peerDisk.isThere else { return }
        if packet.resizeFlags & ResizeFlag.assumeClean != 0 {
            log(.info, v, "Resync of new storage suppressed with --assume-clean")
            return
        }
        log(.info, v, "Resync of new storage after online grow")
        let isSource = roles.own != roles.peer ? roles.own == .primary : link.isResolver
        if isSource {
            volumes[v].resyncsGrowth = true
            startSource(v)
        } else {
            setState(v) { $0.connection = .wfSyncUUID }
            usePendingSyncUUID(v)
        }
    }

    /// The device gets another size; everything is durable under the new one.
    ///
    /// What a crash finds is never a size whose bits were not written: growing, the bits go first; shrinking, the size,
    /// since the last page loses the bits of what is cut off.
    mutating func setSize(_ v: Int, _ sectors: UInt64, settingNew: Bool = true) {
        let before = volumes[v].sectors
        guard sectors != before else { return }
        log(.info, v, "size = \(sectors / 2) KB (\(sectors) sectors)")
        volumes[v].sectors = sectors
        // Also of a disk whose attach has not ended.
        if volumes[v].superblock != nil {
            volumes[v].bitmap.resize(to: DirtyBitmap.bits(forDeviceSectors: sectors), settingNew: settingNew)
            // The last block may have been less than a whole one: then part of it is new.
            if sectors > before, before & 7 != 0, settingNew {
                _ = volumes[v].bitmap.setRun(from: BitmapBlock(before >> 3), count: 1)
            }
            switch volumes[v].state.disk {
            case .diskless, .failed, .unknown: break
            case .attaching, .negotiating, .inconsistent, .outdated, .consistent, .upToDate:
                if sectors > before {
                    enqueue(v, .changedPages, .superblock)
                } else {
                    enqueue(v, .superblock, .changedPages)
                }
            }
        }
        exportMayHaveChanged(v)
    }
}

extension MetadataLayout {
    /// First sector of all of it, and the one after the last.
    fileprivate var start: UInt64 { min(superblock, bitmap) }
    fileprivate var end: UInt64 { start &+ metadataSectors }

    /// The same metadata on a device that has another capacity now. A flexible device keeps its places, and what was in
    /// use of it at least.
    func following(_ metadataDeviceSectors: UInt64) throws(MetadataError) -> MetadataLayout {
        switch index {
        case .internal:
            try MetadataLayout(index, deviceSectors: metadataDeviceSectors, stripes: stripes, stripeBlocks: stripeBlocks)
        case .flexible:
            try MetadataLayout(
                index, deviceSectors: max(metadataDeviceSectors, metadataSectors), stripes: stripes,
                stripeBlocks: stripeBlocks)
        case .indexed: self
        }
    }
}
