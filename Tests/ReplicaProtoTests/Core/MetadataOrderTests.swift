import Testing

@testable import ReplicaProto

/// Items 25 to 41 and 46 of the metadata specification's checklist, against the order of effects: what is written
/// before what, and what waits until it is durable.
@Suite struct MetadataOrderTests {
    private let volume = VolumeNumber(0)

    private func primary(sectors: UInt64 = 65_536, disk: DiskOptions = SameData.quickDisk) -> TestNode {
        let node = TestNode.withData(sectors: sectors, identifiers: SameData.identifiers)
        _ = node.attach(disk)
        _ = node.command(.primary(VolumeNumber(0), force: false))
        node.trace = []
        return node
    }
    private func isLogWrite(_ effect: Effect) -> Bool { if case .writeActivityLog = effect { true } else { false } }
    private func isDataWrite(_ effect: Effect) -> Bool { if case .writeDisk = effect { true } else { false } }
    private func isSuperblock(_ effect: Effect) -> Bool { if case .writeSuperblock = effect { true } else { false } }
    private func isPages(_ effect: Effect) -> Bool { if case .writeBitmapPages = effect { true } else { false } }

    @Test func item25DataWaitsForItsActivityLogBlock() {
        let node = primary()
        node.holdsMetadata = true
        let id = node.write(0, 1)
        #expect(node.count(where: isLogWrite) == 1 && node.count(where: isDataWrite) == 0)
        guard case .writeActivityLog(_, _, _, let durable)? = node.trace.last(where: isLogWrite) else { return }
        #expect(durable)
        // The same extent, and another one: both wait; the second for the next transaction.
        let same = node.write(16, 2)
        let other = node.write(9000, 3)
        #expect(node.count(where: isLogWrite) == 1 && node.count(where: isDataWrite) == 0)
        let first = node.held
        node.held = []
        for event in first { node.feed(event) }
        #expect(node.replies[id] != nil && node.replies[same] != nil && node.replies[other] == nil)
        #expect(node.count(where: isLogWrite) == 2)
        node.releaseHeld()
        #expect(node.replies[other] != nil)
        let replay = ActivityLogReplay(ring: node.ring, geometry: node.layout.geometry)
        #expect(replay.outcome == .updates([0, 1]))
    }

    @Test func item25TheWritesOfAPeerWithoutDiskNeedTheLogToo() {
        let (node, peer) = SameData.connected()
        peer.disk = .diskless
        peer.role = .primary
        peer.say(.state(peer.state(.connected)))
        node.trace = []
        node.holdsMetadata = true
        peer.write(0, 1)
        #expect(node.count(where: isLogWrite) == 1 && node.count(where: isDataWrite) == 0)
        node.releaseHeld()
        #expect(node.data[0] == 1 && peer.commands(.meta).contains(.writeAck))
        #expect(node.writtenSuperblock.flags.contains(.primaryIndicator))
        #expect(node.status.outOfSyncBits == 1)
        #expect(node.core.openWork() == [])
    }

    @Test func item26EvictionWritesItsBitmapPageFirst() {
        var disk = SameData.quickDisk
        disk.alExtents = 67
        // 100 extents; page 0 covers extents 0 to 31, and so on.
        let node = primary(sectors: 100 * 8192 + 4096, disk: disk)
        // Alone: every write marks its bit, so every page is dirty.
        for extent in 0..<67 { _ = node.write(UInt64(extent) * 8192, 1) }
        node.trace = []
        node.holdsMetadata = true
        _ = node.write(90 * 8192, 2)
        #expect(node.count(where: isPages) == 1 && node.count(where: isLogWrite) == 0)
        let waiting = node.held
        node.held = []
        for event in waiting { node.feed(event) }
        guard case .writeActivityLog(_, _, let flushFirst, let durable)? = node.trace.last(where: isLogWrite) else {
            Issue.record("no transaction")
            return
        }
        #expect(flushFirst && durable)
        #expect(node.count(where: isDataWrite) == 0)
        node.releaseHeld()
        #expect(node.count(where: isDataWrite) == 1)
        // The bit of the evicted extent is on disk.
        #expect(node.bitmap[0] & 1 == 1)
    }

    @Test("item 27: writes that arrive together share transactions of 64 extents", arguments: [1, 2, 63, 64, 65, 128])
    func item27Batching(count: Int) {
        let node = primary(sectors: 140 * 8192)
        // The first one opens a transaction; what comes while that is written shares the next.
        node.holdsMetadata = true
        _ = node.write(135 * 8192, 1)
        node.trace = []
        for extent in 0..<count { _ = node.write(UInt64(extent) * 8192, 1) }
        #expect(node.count(where: isLogWrite) == 0)
        var rounds = 0
        while !node.held.isEmpty {
            rounds += 1
            let waiting = node.held
            node.held = []
            for event in waiting { node.feed(event) }
        }
        #expect(node.count(where: isLogWrite) == (count + 63) / 64)
        #expect(node.replies.count == count + 1)
    }

    @Test func item28AHotExtentIsFreeAndStaysHot() {
        let node = primary()
        _ = node.write(0, 1)
        #expect(node.count(where: isLogWrite) == 1)
        for block in 0..<100 { _ = node.write(UInt64(block) * 8, 2) }
        node.advance(to: node.now + .seconds(60))
        _ = node.write(8184, 3)
        #expect(node.count(where: isLogWrite) == 1)
        // An idle extent is hot but not referenced.
        #expect(node.core.openWork() == [])
        _ = node.write(8184, 4, count: 16)
        #expect(node.count(where: isLogWrite) == 2)
    }

    @Test func item30ThePrimaryIndicatorIsDurableBeforeTheFirstWriteAndGoesLast() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach()
        node.trace = []
        node.holdsMetadata = true
        let promotion = node.command(.primary(volume, force: false))
        #expect(node.answers[promotion] == nil)
        #expect(node.exports[volume]?.isPrimary != true)
        node.releaseHeld()
        #expect(node.answers[promotion]?.code == 0 && node.exports[volume]?.isPrimary == true)
        #expect(node.writtenSuperblock.flags.contains(.primaryIndicator))
        let superblock = node.position(where: isSuperblock)!
        let export = node.position { if case .setExport(_, let state) = $0 { state.isPrimary } else { false } }!
        #expect(superblock < export)

        _ = node.write(0, 1)
        node.trace = []
        node.holdsMetadata = true
        let demotion = node.command(.secondary(volume))
        #expect(node.exports[volume]?.isPrimary == false)
        while !node.held.isEmpty {
            let waiting = node.held
            node.held = []
            // Whenever the indicator is gone on disk, the bitmap is there.
            if !node.writtenSuperblock.flags.contains(.primaryIndicator) { #expect(node.bitmap[0] & 1 == 1) }
            for event in waiting { node.feed(event) }
        }
        node.holdsMetadata = false
        #expect(node.answers[demotion]?.code == 0)
        #expect(!node.writtenSuperblock.flags.contains(.primaryIndicator))
        #expect(node.position(where: isPages)! < node.position(where: isSuperblock)!)
    }

    @Test func item31PromotionAloneBeginsAGeneration() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach()
        _ = node.command(.primary(volume, force: false))
        let written = node.writtenSuperblock.identifiers
        #expect(written.bitmap == SameData.identifiers.current)
        #expect(written.current & ~1 != SameData.identifiers.current && written.current & 1 == 1)
        // Once is enough.
        _ = node.command(.secondary(volume))
        _ = node.command(.primary(volume, force: false))
        #expect(node.writtenSuperblock.identifiers == written)
    }

    @Test func item32LosingThePeerRotatesOnceAndBeforeReplies() {
        let (node, peer) = SameData.connected(primary: true)
        let before = node.status.identifiers
        let id = node.write(0, 1)
        node.holdsMetadata = true
        peer.drop()
        #expect(node.status.identifiers.bitmap == before.current)
        #expect(node.replies[id] == nil)
        let late = node.write(8, 2)
        #expect(node.replies[late] == nil)
        node.releaseHeld()
        #expect(node.replies[id] != nil && node.replies[late] != nil)
        let rotated = node.position {
            if case .writeSuperblock(_, let block, let durable) = $0 {
                durable && block.identifiers.bitmap == before.current
            } else {
                false
            }
        }!
        let replied = node.position { if case .replyToClient(id, _, _) = $0 { true } else { false } }!
        #expect(rotated < replied)
        let once = node.status.identifiers
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connect()
        #expect(node.state.connection == .wfBitMapS)
        peer.drop()
        #expect(node.status.identifiers == once)
    }

    @Test func item33TheTargetIsDurablyInconsistentBeforeTheFirstRequest() {
        let (node, peer) = SameData.pair()
        peer.identifiers = GenerationIdentifiers(current: 0x9990, bitmap: SameData.identifiers.current)
        peer.connect()
        node.holdsMetadata = true
        peer.startAsSource(setting: [0, 1])
        #expect(node.state.connection == .syncTarget)
        peer.pass(.seconds(1))
        #expect(peer.resyncRequests.isEmpty)
        while peer.resyncRequests.isEmpty, !node.held.isEmpty {
            let waiting = node.held
            node.held = []
            for event in waiting { node.feed(event) }
        }
        peer.pass(.milliseconds(100))
        #expect(!peer.resyncRequests.isEmpty)
        let written = node.writtenSuperblock
        #expect(written.identifiers.current == 0x77_0000_0000 && written.identifiers.bitmap == 0)
        #expect(!written.flags.contains(.consistent))
        #expect(node.durableBits == 2)
    }

    @Test(
        "item 34: both ends have the same identifiers, whatever the source's bitmap identifier was",
        arguments: [true, false])
    func item34EndOfAResync(bitmapIdentifier: Bool) {
        let pair = TestPair()
        pair.up(NetOptions(), SameData.quickDisk)
        _ = pair.a.command(.primary(volume, force: true))
        pair.exchange()
        #expect(pair.synchronise())
        if bitmapIdentifier {
            pair.cut()
            _ = pair.a.write(0, 1)
            pair.pass(.seconds(1))
            pair.link()
        } else {
            _ = pair.b.command(.invalidate(volume))
            pair.exchange()
        }
        #expect(pair.synchronise())
        let a = pair.a.writtenSuperblock.identifiers
        let b = pair.b.writtenSuperblock.identifiers
        #expect(a.current & ~1 == b.current & ~1 && a.bitmap == 0 && b.bitmap == 0)
        #expect(a.history0 & ~1 == b.history0 & ~1 && a.history1 & ~1 == b.history1 & ~1)
    }

    @Test func item35FullSyncBracketsAWholeBitmap() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach(SameData.quickDisk)
        node.trace = []
        node.holdsMetadata = true
        let id = node.command(.invalidate(volume))
        var flagSeen: [Bool] = []
        var wasComplete = false
        while !node.held.isEmpty {
            let waiting = node.held
            node.held = []
            let flag = node.writtenSuperblock.flags.contains(.fullSync)
            let bits = node.durableBits
            if bits > 0 && bits < Int(node.core.volumes[0].bitmap.bits) { #expect(flag) }
            if wasComplete == false, !flag, flagSeen.contains(true) {
                #expect(bits == Int(node.core.volumes[0].bitmap.bits))
                wasComplete = true
            }
            flagSeen.append(flag)
            // Killed here, the next attach finds everything out of sync, or nothing has changed yet.
            let copy = TestNode("copy", seed: 9)
            copy.superblock = node.superblock
            copy.bitmap = node.bitmap
            copy.ring = node.ring
            _ = copy.attach(SameData.quickDisk)
            let all = copy.status.outOfSyncBits == node.core.volumes[0].bitmap.bits
            #expect(all || (!flag && bits == 0))
            for event in waiting { node.feed(event) }
        }
        #expect(node.answers[id]?.code == 0)
        #expect(flagSeen.contains(true) && !node.writtenSuperblock.flags.contains(.fullSync))
    }

    static let rows: [(MetadataFlags, FencingPolicy, DiskState, DiskState)] = [
        ([], .dontCare, .inconsistent, .unknown),
        ([.wasUpToDate], .resourceOnly, .inconsistent, .unknown),
        ([.consistent], .dontCare, .outdated, .unknown),
        ([.consistent, .peerOutdated], .dontCare, .outdated, .outdated),
        ([.consistent, .wasUpToDate, .peerOutdated], .resourceOnly, .upToDate, .outdated),
        ([.consistent, .wasUpToDate], .dontCare, .upToDate, .unknown),
        ([.consistent, .wasUpToDate], .resourceOnly, .consistent, .unknown),
        ([.consistent, .wasUpToDate], .resourceAndStonith, .consistent, .unknown),
    ]

    @Test("item 36: disk state from flags", arguments: rows.indices)
    func item36DiskStateFromFlags(index: Int) {
        let (flags, fencing, expected, peer) = Self.rows[index]
        let node = TestNode.withData(identifiers: SameData.identifiers, flags: flags)
        var options = SameData.quickDisk
        options.fencing = fencing
        #expect(node.attach(options) == 0)
        #expect(node.state.disk == expected && node.state.peerDisk == peer)
    }

    @Test("item 37: a crashed Primary that kept no log comes up with everything out of sync", arguments: [true, false])
    func item37WithoutActivityLog(crashed: Bool) {
        var options = SameData.quickDisk
        options.alUpdates = false
        let node = primary(disk: options)
        #expect(node.writtenSuperblock.flags.contains(.activityLogDisabled))
        _ = node.write(0, 1)
        #expect(node.count(where: isLogWrite) == 0)
        if !crashed { _ = node.command(.secondary(volume)) }
        node.restart(seed: 77)
        #expect(node.attach(options) == 0)
        #expect(node.status.outOfSyncBits == (crashed ? node.core.volumes[0].bitmap.bits : 1))
    }

    @Test func theLogOfACrashedPrimaryBecomesBits() {
        let node = primary()
        _ = node.write(0, 1)
        _ = node.write(3 * 8192 + 100, 2)
        node.restart(seed: 77)
        #expect(node.attach() == 0)
        #expect(node.status.outOfSyncBits == 2048)
        #expect(node.durableBits == 2048)
        #expect(node.core.volumes[0].isCrashedPrimary)
        #expect(node.writtenSuperblock.flags.contains(.crashedPrimary))
        #expect(!node.writtenSuperblock.flags.contains(.primaryIndicator))
        // The log is emptied only after its bits are durable.
        let pages = node.trace.lastIndex(where: isPages)!
        let emptied = node.trace.lastIndex { if case .initialiseActivityLog = $0 { true } else { false } }!
        #expect(pages < emptied && node.trace[pages..<emptied].contains(.flushMetadata(volume)))
        // And after nothing depends on how it looks any more: not as a Primary that is still to be replayed.
        let superblock = node.trace[pages..<emptied].lastIndex { if case .writeSuperblock = $0 { true } else { false } }!
        guard case .writeSuperblock(_, let said, let durable) = node.trace[superblock] else { return }
        #expect(durable && said.flags.contains(.crashedPrimary) && !said.flags.contains(.primaryIndicator))
        #expect(node.trace[pages..<superblock].contains(.flushMetadata(volume)))
    }

    @Test("a log with a torn block is refused on a Primary only, so nobody is one while it is initialised")
    func aTornLogIsIgnoredOnceItsBitsAreSafe() throws {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        var superblock = node.layout.freshSuperblock()
        superblock.isUnclean = true
        superblock.flags = [.consistent, .wasUpToDate, .primaryIndicator]
        var ring: [UInt8] = []
        for _ in 0..<8 { ring += ActivityLogTransaction.initialisedBlock() }
        for byte in 4100..<8192 { ring[byte] = 0x11 }
        #expect(throws: ActivityLogApplicationError.unusable) {
            try ActivityLogApplication(superblock: superblock, ring: ring)
        }
        let disarmed = try #require(superblock.withoutLog)
        let application = try ActivityLogApplication(superblock: disarmed, ring: ring)
        #expect(application.ignoredError == .unusable && application.initialisesRing)
        #expect(disarmed.withoutLog == nil)
    }

    @Test("a Primary's first transaction waits until the superblock says that the log counts")
    func theIndicatorComesFirst() throws {
        let pair = TwoPrimariesTests.pair()
        let node = pair.a
        let detached = node.command(.detach(volume, force: false))
        pair.exchange()
        #expect(node.answers[detached]?.code == 0 && node.state.disk == .diskless)
        node.rewriteSuperblock { $0.flags.remove(.primaryIndicator) }
        node.trace = []
        node.holdsMetadata = true
        _ = node.attach()
        while node.state.disk == .attaching { node.releaseOne() }
        // The superblock of the attach is on its way, that of the state that follows waits behind it.
        #expect(node.state.disk == .negotiating && node.held.count == 1)
        pair.exchange()
        #expect(node.state.disk.isUsable, "\(node.state.summary)")
        _ = node.write(0, 1)
        node.releaseHeld()
        pair.exchange()
        let transaction = try #require(node.trace.firstIndex { if case .writeActivityLog = $0 { true } else { false } })
        let indicator = node.trace.firstIndex {
            if case .writeSuperblock(_, let block, _) = $0 { block.flags.contains(.primaryIndicator) } else { false }
        }
        #expect(try #require(indicator) < transaction)
    }

    @Test("item 38: an attach that would shrink consistent data is refused", arguments: [false, true])
    func item38ShrunkenDevice(wanted: Bool) {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        let usable = node.layout.usableSectors
        node.rewriteSuperblock { $0.lastAgreedSectors = usable + 800 }
        var options = SameData.quickDisk
        if wanted { options.size = usable }
        let code = node.attach(options)
        #expect(code == (wanted ? 0 : 170))
        if !wanted { #expect(node.state.disk == .diskless && node.writtenSuperblock.lastAgreedSectors == usable + 800) }
    }

    @Test func item38InconsistentDataMayShrink() {
        let node = TestNode.withData(identifiers: SameData.identifiers, flags: [])
        node.rewriteSuperblock { $0.lastAgreedSectors = node.layout.usableSectors + 800 }
        #expect(node.attach() == 0)
        #expect(node.status.sectors == node.layout.usableSectors)
    }

    @Test func item39AGrownDeviceKeepsItsAgreedSizeAlone() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        node.rewriteSuperblock { $0.lastAgreedSectors = 32_768 }
        #expect(node.attach() == 0)
        #expect(node.status.sectors == 32_768 && node.status.outOfSyncBits == 0)
        #expect(node.writtenSuperblock.lastAgreedSectors == 32_768)
    }

    @Test func item40ACleanStopLeavesCleanMetadata() throws {
        let node = primary()
        _ = node.write(0, 1)
        let id = node.command(.down)
        #expect(node.answers[id]?.code == 0)
        let block = node.writtenSuperblock
        #expect(!block.isUnclean && block.flags.contains([.activityLogClean, .consistent, .wasUpToDate]))
        #expect(!block.flags.contains(.primaryIndicator))
        let apply = try ActivityLogApplication(superblock: block, ring: node.ring)
        #expect(apply.extents.isEmpty && !apply.initialisesRing && apply.superblock == nil)
        #expect(node.durableBits == 1)
        // Order of the last steps: bitmap, empty log, clean superblock.
        let emptied = node.trace.lastIndex { if case .initialiseActivityLog = $0 { true } else { false } }!
        #expect(node.trace.lastIndex(where: isPages)! < emptied)
        #expect(emptied < node.trace.lastIndex(where: isSuperblock)!)
    }

    @Test func item41WhatTheKernelLeavesIsAttached() {
        let node = primary()
        _ = node.write(0, 1)
        _ = node.command(.secondary(volume))
        // The kernel's stop: unclean magic, no AL_CLEAN, a ring with ordinary transactions, no PRIMARY_IND.
        let written = node.writtenSuperblock
        #expect(written.isUnclean && !written.flags.contains(.primaryIndicator))
        node.restart(seed: 5)
        #expect(node.attach() == 0)
        #expect(node.status.outOfSyncBits == 1)
        #expect(!node.core.volumes[0].isCrashedPrimary)
    }

    @Test(
        "item 46: a metadata error detaches under every policy", arguments: [OnIOError.passOn, .callLocalIOError, .detach],
        0..<3)
    func item46MetadataErrors(policy: OnIOError, kind: Int) {
        var disk = SameData.quickDisk
        disk.onIOError = policy
        let (node, peer) = SameData.connected(disk: disk, primary: true)
        node.failsMetadata = DiskError(5)
        switch kind {
        case 0:
            // A transaction of the log.
            let id = node.write(0, 1)
            // It goes on at the peer alone.
            let head = peer.writes.first
            #expect(head != nil && node.count(where: isDataWrite) == 0)
            if let head { peer.acknowledge(head) }
            #expect(node.replies[id] != nil && node.replies[id]?.error == nil)
            peer.ack(.barrierAck(number: peer.barriers.first ?? 0, setSize: 1))
        case 1:
            // A superblock.
            peer.disk = .failed
            peer.say(.state(peer.state(.connected)))
        default:
            _ = node.command(.secondary(volume))
        }
        #expect(node.state.disk == .diskless, "\(policy) \(kind) \(node.logs.suffix(5))")
        #expect(peer.states.map(\.disk).contains(.failed) && peer.states.last?.disk == .diskless)
        #expect(node.handlersRun.contains(.localIOError) == (policy == .callLocalIOError))
        #expect(node.core.openWork() == [])
    }

    @Test("a write that waits for a failed transaction is not submitted locally", arguments: [true, false])
    func waitersOfAFailedTransaction(connected: Bool) {
        let node: TestNode
        if connected { node = SameData.connected(primary: true).node } else { node = primary() }
        node.trace = []
        node.holdsMetadata = true
        let ids = [node.write(0, 1), node.write(9000, 2), node.write(20_000, 2)]
        node.held = [.metadataWritten(volume, DiskError(5))]
        node.releaseHeld()
        #expect(node.count(where: isDataWrite) == 0)
        #expect(node.state.disk == .diskless)
        for id in ids { #expect((node.replies[id]?.error == .io) == !connected) }
    }

    @Test func anAttachWhoseMetadataFailsIsRefused() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        node.failsMetadata = DiskError(5)
        #expect(node.attach() == 118)
        #expect(node.state.disk == .diskless)
        node.failsMetadata = nil
        #expect(node.attach() == 0)
        #expect(node.state.disk == .upToDate)
    }
}
