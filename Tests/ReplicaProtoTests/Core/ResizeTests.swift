import Testing

@testable import ReplicaProto

/// Online resize (`control.md` 8.2, `wire.md` 4.6, `metadata.md` 6.5).
@Suite struct ResizeTests {
    private let volume = VolumeNumber(0)
    private func resize(_ request: ResizeRequest = ResizeRequest()) -> ControlCommand { .resize(volume, request) }

    /// Two nodes in sync, alice Primary, some blocks written.
    private func pair(sectors: UInt64 = 65_536, disk: DiskOptions = SameData.quickDisk) -> TestPair {
        let pair = TestPair(sectors: sectors)
        pair.up(NetOptions(), disk)
        _ = pair.a.command(.newCurrentUUID(volume, clearBitmap: true))
        pair.exchange()
        _ = pair.a.command(.primary(volume, force: false))
        pair.exchange()
        for block in 0..<8 as Range<UInt64> { _ = pair.a.write(block * 4096, 100 + block) }
        pair.exchange()
        return pair
    }
    private func settle(_ pair: TestPair) {
        for _ in 0..<100 { pair.pass(.milliseconds(100)) }
    }
    private func isMetadata(_ effect: Effect) -> Bool { effect.isMetadata }

    @Test func item36Refusals() {
        let (alone, _) = SameData.pair()
        #expect(alone.code(resize()) == 131)
        let (secondary, peer) = SameData.connected()
        #expect(secondary.code(resize()) == 131)
        peer.role = .primary
        peer.say(.state(peer.state(.connected)))
        #expect(secondary.code(resize()) == 0)
        let (source, target) = SameData.connected(primary: true)
        target.say(.stateChangeRequest(StateChangeRequest(mask: 0x1f0, value: 0xc0)))
        #expect(source.code(resize()) == 130)
        let (primary, _) = SameData.connected(primary: true)
        #expect(primary.code(resize()) == 0)
        primary.changeCapacity(to: 60_000)
        #expect(primary.code(resize()) == 170)
        #expect(primary.status.sectors == 65_536 - 80)
        let (old, _) = SameData.connected(version: 92, primary: true)
        #expect(old.code(resize(ResizeRequest(assumeClean: true))) == 153)
    }

    @Test func item36OnlyWhatIsNewIsCopied() {
        let pair = pair()
        let before = pair.a.status.sectors
        for node in [pair.a, pair.b] { node.changeCapacity(to: 131_072) }
        for sector in Int(before)..<131_072 { pair.a.data[sector] = UInt64(sector) }
        pair.a.trace = []
        #expect(pair.a.answers[pair.a.command(resize())]?.code == 0)
        pair.exchange()
        settle(pair)
        let after = pair.a.layout.usableSectors
        for node in [pair.a, pair.b] {
            #expect(node.status.sectors == after && node.exports[volume]?.sectors ?? after == after)
            #expect(node.state.connection == .connected && node.state.disk == .upToDate && node.state.peerDisk == .upToDate)
            #expect(node.status.outOfSyncBits == 0 && node.durableBits == 0)
            #expect(node.writtenSuperblock.lastAgreedSectors == after)
            #expect(
                !node.writtenSuperblock.flags.contains(.fullSync)
                    && !node.writtenSuperblock.flags.contains(.activityLogDisabled))
            // The superblock that was left behind.
            #expect(node.clearedSuperblocks == [65_528])
            #expect(node.isIdle)
        }
        #expect(pair.a.data[0..<Int(after)] == pair.b.data[0..<Int(after)])
        let blocks = DirtyBitmap.bits(forDeviceSectors: after) - before / 8
        #expect(pair.a.logs.contains { $0.contains("[\(blocks) bits set]") })
        #expect(pair.a.core.volumes[0].identifiers.bitmap == 0)
        #expect(pair.a.core.volumes[0].identifiers.current & ~1 == pair.b.core.volumes[0].identifiers.current & ~1)
    }

    @Test func item36AssumeCleanCopiesNothing() {
        let pair = pair()
        for node in [pair.a, pair.b] { node.changeCapacity(to: 131_072) }
        _ = pair.a.command(resize(ResizeRequest(assumeClean: true)))
        pair.exchange()
        for node in [pair.a, pair.b] {
            #expect(node.status.sectors == node.layout.usableSectors && node.status.outOfSyncBits == 0)
            #expect(node.core.volumes[0].resyncCount == 0 && node.state.connection == .connected)
        }
    }

    @Test("the handler of a copy ends after the disk has left: nothing begins with the disk that came back")
    func lateHandler() {
        let pair = pair()
        for node in [pair.a, pair.b] { node.changeCapacity(to: 131_072) }
        pair.a.holdsHandlers = true
        _ = pair.b.command(resize())
        let detached = pair.a.command(.detach(volume, force: false))
        pair.exchange()
        #expect(pair.a.heldHandlers.count == 1 && pair.a.state.connection == .connected)
        #expect(pair.a.answers[detached]?.code == 0 && pair.a.state.disk == .diskless)
        _ = pair.a.write(0, 7)
        pair.exchange()
        _ = pair.a.attach(SameData.quickDisk)
        #expect(pair.a.state.disk == .negotiating)
        pair.a.feed(.handlerFinished(pair.a.heldHandlers[0], status: 0))
        #expect(pair.a.state.disk == .negotiating && pair.a.state.connection == .connected)
        pair.a.holdsHandlers = false
        pair.exchange()
        settle(pair)
        #expect(pair.a.state.disk == .upToDate && pair.a.data[0] == 7, "\(pair.a.state.summary)")
    }

    @Test("the smaller disk decides, whoever is asked", arguments: [true, false])
    func item36BothMustGrow(primaryIsAsked: Bool) {
        let pair = pair()
        let before = pair.a.status.sectors
        let asked = primaryIsAsked ? pair.a : pair.b
        let other = primaryIsAsked ? pair.b : pair.a
        asked.changeCapacity(to: 131_072)
        #expect(asked.answers[asked.command(resize())]?.code == 0)
        pair.exchange()
        #expect(asked.status.sectors == before && other.status.sectors == before)
        #expect(asked.layout.usableSectors > before && other.layout.usableSectors == before)
        other.changeCapacity(to: 98_304)
        #expect(other.answers[other.command(resize())]?.code == 0)
        pair.exchange()
        settle(pair)
        for node in [pair.a, pair.b] {
            #expect(node.status.sectors == other.layout.usableSectors && node.status.outOfSyncBits == 0)
            #expect(node.state.connection == .connected && node.state.peerDisk == .upToDate)
        }
        #expect(pair.a.data[0..<Int(before)] == pair.b.data[0..<Int(before)])
    }

    @Test func item36AChosenSizeShrinksAndGrows() {
        let pair = pair()
        let full = pair.a.status.sectors
        #expect(pair.a.answers[pair.a.command(resize(ResizeRequest(sectors: 40_960)))]?.code == 0)
        pair.exchange()
        for node in [pair.a, pair.b] {
            #expect(node.status.sectors == 40_960 && node.writtenSuperblock.lastAgreedSectors == 40_960)
            #expect(node.core.volumes[0].diskOptions.size == 40_960)
        }
        _ = pair.a.command(resize())
        pair.exchange()
        settle(pair)
        for node in [pair.a, pair.b] {
            #expect(node.status.sectors == full && node.status.outOfSyncBits == 0 && node.core.volumes[0].resyncCount == 1)
        }
    }

    @Test func item39AloneOnlyWhoSaysSoGrows() {
        let pair = pair()
        let before = pair.a.status.sectors
        pair.lose(pair.b)
        pair.a.changeCapacity(to: 131_072)
        #expect(pair.a.answers[pair.a.command(resize())]?.code == 0)
        #expect(pair.a.status.sectors == before)
        #expect(pair.a.answers[pair.a.command(resize(ResizeRequest(assumePeerHasSpace: true)))]?.code == 0)
        #expect(pair.a.status.sectors == pair.a.layout.usableSectors)
        #expect(pair.a.status.outOfSyncBits == (pair.a.status.sectors - before) / 8)
    }

    @Test func aWriteOnTheWayIsInTheLogAtItsNewPlace() {
        let pair = pair()
        for node in [pair.a, pair.b] { node.changeCapacity(to: 131_072) }
        pair.a.holdsDisk = true
        let hot = pair.a.write(0, 7)
        pair.a.holdsMetadata = true
        _ = pair.a.command(resize())
        pair.a.releaseOne()
        // Cold: not before the log is where it belongs.
        let cold = pair.a.write(6 * 8192, 8)
        var writes = 0
        while !pair.a.held.isEmpty, writes < 100 {
            pair.a.releaseOne()
            writes += 1
            let block = try? Superblock(decoding: pair.a.superblock)
            guard let block, !block.flags.contains(.fullSync) else { continue }
            guard pair.a.core.volumes[0].metadataIsMoving == false else { continue }
            let replay = ActivityLogReplay(ring: pair.a.ring, geometry: pair.a.layout.geometry)
            guard case .updates(let extents) = replay.outcome else {
                Issue.record("the log at the new place: \(replay.outcome)")
                return
            }
            #expect(extents.contains(0))
        }
        pair.a.releaseHeld()
        pair.exchange()
        #expect(pair.a.replies[hot]?.error == nil && pair.a.replies[cold] != nil)
    }

    /// Every metadata write of the move is the last one once. What is found then is the old metadata, or the new with all
    /// that may differ.
    @Test func aCrashFindsOldOrNewMetadata() {
        for last in 0..<40 {
            let pair = pair()
            pair.cut()
            _ = pair.a.write(4096, 55)
            let marked = pair.a.status.outOfSyncBits
            let old = pair.a.disks[0]
            pair.a.changeCapacity(to: 131_072)
            pair.a.holdsMetadata = true
            _ = pair.a.command(resize(ResizeRequest(assumePeerHasSpace: true)))
            pair.a.releaseOne()
            var done = 0
            while done < last, !pair.a.held.isEmpty {
                pair.a.releaseOne()
                done += 1
            }
            let ended = pair.a.held.isEmpty
            // Between `moveMetadata` and the first write at the new place the old one is all there is.
            if (try? Superblock(decoding: pair.a.superblock)) == nil {
                pair.a.disks[0] = old
            }
            pair.a.holdsMetadata = false
            pair.a.held = []
            pair.a.restart(seed: 9)
            #expect(pair.a.attach(SameData.quickDisk) == 0, "after \(last) writes")
            #expect(pair.a.status.outOfSyncBits >= marked, "after \(last) writes")
            #expect(pair.a.core.volumes[0].bitmap.isSet(BitmapBlock(512)), "after \(last) writes")
            if ended { return }
        }
        Issue.record("the move does not end")
    }

    @Test func aDisklessPrimaryKeepsItsSize() {
        let (node, peer) = SameData.connected(primary: true)
        _ = node.command(.detach(volume, force: true))
        peer.say(.sizes(peer.sizes(disk: 131_072, current: 0)))
        #expect(node.status.sectors == 65_536 - 80)
    }
}
