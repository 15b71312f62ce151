import ReplicaProto

/// The rules of `design.md` section 5, checked while it happens and when everything is quiet.
extension Cluster {
    // MARK: After every step

    /// Keeps track of who has everything that clients were promised.
    func watch(_ node: SimNode) {
        guard let own = state(node) else { return }
        watchVerify(node, own)
        let other = peer(of: node)
        let isTarget = own.connection == .syncTarget || own.connection == .pausedSyncT
        if isTarget { node.resyncEndedAt = nil }
        if node.wasTarget, !isTarget, own.disk == .upToDate {
            node.resyncEndedAt = now
            hasBeenCopied = true
        }
        node.wasTarget = isTarget
        if !isForked, own.role == .primary, hasBeenCopied {
            let isReplicated = own.connection.isConnected && own.peerDisk == .upToDate
            // Whoever can answer a write without the other leaves the other behind.
            switch (own.disk == .upToDate, isReplicated) {
            case (true, false): isCurrent[other.index] = false
            case (false, true):
                if isCurrent == [node.index == 0, node.index == 1], other.lostPower {
                    node.mayLackAnswered = true
                    onlyCacheIsLost(other)
                }
                if isCurrent[node.index] { node.lostDiskAt = now }
                isCurrent[node.index] = false
            case (false, false):
                // What the other had confirmed before it lost its power is answered until that is noticed.
                if node.mayLackAnswered { onlyCacheIsLost(other) }
                node.mayLackAnswered = false
                if isPromisedLoosely { onlyTransitIsLost(node) }
            case (true, true): node.mayLackAnswered = false
            }
        }
        guard own.disk == .upToDate, own.peerDisk == .upToDate, own.connection == .connected, let theirs = state(other),
            theirs.disk == .upToDate, theirs.peerDisk == .upToDate, theirs.connection == .connected
        else { return }
        hasBeenEqual = true
        hasBeenCopied = true
        for node in nodes {
            node.lostPower = false
            node.lostTransit = false
        }
        if isForked || isCurrent == [true, true] { return }
        if isCurrent == [false, false] {
            // What both lacked must have come together again.
            for sector in histories[0].touched
            where !histories[0].mayHold(Int(sector), nodes[0].data.current[Int(sector)]) && !isBusy(Int(sector)) {
                return fail(
                    "both are UpToDate, but sector \(sector) holds \(nodes[0].data.current[Int(sector)]), possible \(histories[0].versions(Int(sector)))"
                )
            }
        }
        isCurrent = [true, true]
    }

    /// Under A and B a Primary whose disk has failed loses its peer, or dies: that disk was the only one with what was still
    /// under way. Without a good disk the core answers only what the peer has confirmed, under A and B too
    /// (`ReplicationProtocol.completion`), so what was answered after the disk had failed still counts.
    func onlyTransitIsLost(_ node: SimNode) {
        let other = peer(of: node)
        guard isCurrent == [node.index == 1, node.index == 0], !node.lostTransit, let failed = node.lostDiskAt else {
            return
        }
        node.lostTransit = true
        trace { "what only the failed disk had is lost with \(node.name): \(other.name)'s is the last one" }
        for sector in histories[0].touched {
            histories[0].revive(Int(sector), other.data.current[Int(sector)], lostFrom: .zero, to: failed, at: now)
        }
    }

    /// The other node has lost its power, and before that is noticed the disk of this one fails: `design.md` 5, rule 4
    /// speaks of the surviving disk, and what was in no other place than the lost cache and the failed disk has none.
    /// What was flushed was checked when the flush was answered (rule 3).
    private func onlyCacheIsLost(_ other: SimNode) {
        trace { "what only the failed disk had is lost: \(other.name)'s is the last one" }
        for sector in histories[0].touched {
            histories[0].revive(Int(sector), other.data.current[Int(sector)], lostFrom: lastFlush, to: now, at: now)
        }
    }

    private func isBusy(_ sector: Int) -> Bool {
        nodes.contains { node in
            node.requests.contains { $0.map { $0.range.overlaps(SectorRange(UInt64(sector), 1)) } ?? false }
        }
    }

    // MARK: The activity log

    /// What the platter's ring says is hot.
    func loadStableLog(_ node: SimNode) { loadStableLog(node, Array(1...node.metadata.logBlocks)) }

    private func loadStableLog(_ node: SimNode, _ changed: [Int]) {
        for block in changed {
            node.stableLog[block - 1] = try? ActivityLogTransaction(decoding: node.inForce.stableBlock(block).span.bytes)
        }
        let replay = ActivityLogReplay(
            blocks: node.stableLog, geometry: ActivityLogGeometry(stripes: 1, stripeBlocks: UInt32(node.metadata.logBlocks)))
        node.stableHot = []
        if case .updates(let hot) = replay.outcome { node.stableHot = hot }
    }

    func metadataBecameStable(_ node: SimNode, _ blocks: [Int]) {
        let logBlocks = blocks.filter { $0 >= 1 && $0 <= node.metadata.logBlocks }
        guard !logBlocks.isEmpty else { return }
        let before = node.stableHot
        loadStableLog(node, logBlocks)
        // Who leaves the log must not differ, or be in a bitmap.
        for extent in before where !node.stableHot.contains(extent) {
            let first = Int(extent) * 1024
            checkCoverage("eviction of extent \(extent) on \(node.name)", blocks: first..<first + 1024)
        }
    }

    /// Rule 1: data is written only where the log on the platter is hot.
    func checkWrite(_ node: SimNode, _ tag: DiskTag, _ range: SectorRange) {
        guard range.end.value <= node.capacity, range.count > 0 else {
            return fail("\(node.name) writes beyond the end: \(range)")
        }
        guard case .client = tag else { return }
        // Metadata on the move: everything counts as different.
        if node.inForce.stableSuperblock?.flags.contains(.fullSync) ?? false { return }
        let first = ActivityLogExtent(containing: range.start).value
        let last = ActivityLogExtent(containing: Sector(range.end.value - 1)).value
        for extent in first...last where !node.stableHot.contains(extent) {
            fail(
                "\(node.name) writes \(range.start.value)+\(range.count) while extent \(extent) is not hot on disk: \(node.stableHot)"
            )
        }
    }

    /// What the agreed version does not know is not sent, and no more at once than it takes (`wire.md` 2.3, 10).
    func checkVersion(_ node: SimNode, _ packet: Packet) {
        if case .connectionFeatures = packet { return }
        let format = node.format
        guard packet.command(in: format).shape.isAvailable(in: format) else {
            return fail("\(node.name) sends \(packet.command(in: format)) at version \(format.version), \(format.features)")
        }
        var bytes: UInt32 = 0
        switch packet {
        case .data(let head):
            bytes = head.byteCount
            node.writtenVersions.insert(format.version)
        case .dataReply(let head), .resyncDataReply(let head): bytes = head.byteCount
        case .dataRequest(let request), .resyncDataRequest(let request): bytes = request.byteCount
        default: return
        }
        let most: UInt32 = format.version < 95 ? 32_768 : format.version < 100 ? 131_072 : 1_048_576
        if bytes > most { fail("\(node.name) sends \(bytes) bytes at once at version \(format.version)") }
    }

    // MARK: Crash safety

    /// Rule 4: blocks that differ are inside a bitmap or hot, so that the next resync finds them.
    func checkCoverage(_ moment: String, blocks: Range<Int>? = nil) {
        guard hasBeenEqual, violation == nil else { return }
        for node in nodes {
            guard let superblock = node.inForce.stableSuperblock else { continue }
            if superblock.flags.contains(.fullSync)
                || !superblock.flags.contains(.consistent)
                    && superblock.identifiers.current == GenerationIdentifiers.justCreated
            {
                return
            }
        }
        let a = nodes[0].data
        let b = nodes[1].data
        let total = (Int(scenario.largest) + 7) / 8
        let range = (blocks ?? 0..<total).clamped(to: 0..<total)
        let hot = nodes.map { $0.inForce.stableSuperblock?.flags.contains(.primaryIndicator) == true ? $0.stableHot : [] }
        a.current.withUnsafeBufferPointer { left in
            b.current.withUnsafeBufferPointer { right in
                for block in range {
                    var differs = false
                    for sector in block * 8..<min(block * 8 + 8, left.count) where left[sector] != right[sector] {
                        differs = true
                    }
                    guard differs, !planted.contains(block), !isCovered(block, hot) else { continue }
                    return fail(
                        "after \(moment) block \(block) (extent \(block / 1024)) differs and nobody knows: \(left[block * 8]) and \(right[block * 8])"
                    )
                }
            }
        }
    }

    private func isCovered(_ block: Int, _ hot: [[UInt32]]) -> Bool {
        for node in nodes {
            if node.inForce.isStablyOutOfSync(block) || hot[node.index].contains(UInt32(block / 1024)) { return true }
            if node.isRunning, node.core.isOutOfSync(BitmapBlock(UInt64(block)), of: Self.volume) { return true }
        }
        return false
    }

    // MARK: Answers

    private func isMarked(_ node: SimNode, _ range: SectorRange) -> Bool {
        var block = range.start.value / 8
        while block * 8 < range.end.value {
            if !node.core.isOutOfSync(BitmapBlock(block), of: Self.volume) { return false }
            block += 1
        }
        return true
    }

    /// A disk that is no longer attached remembers by its log: whoever attaches it next replays that.
    private func isHotOnDisk(_ node: SimNode, _ range: SectorRange) -> Bool {
        guard node.inForce.stableSuperblock?.flags.contains(.primaryIndicator) == true else { return false }
        return node.stableHot.contains(ActivityLogExtent(containing: range.start).value)
            && node.stableHot.contains(ActivityLogExtent(containing: Sector(range.end.value - 1)).value)
    }

    /// Rule 2: no answer before the protocol allows it.
    func checkWriteAnswer(_ node: SimNode, _ request: ClientRequest) {
        guard request.kind == .write, let own = state(node) else { return }
        let other = peer(of: node)
        let here = node.hasWritten(request.write)
        let there = other.hasWritten(request.write)
        if !here && !there { return fail("write \(request.write) is answered and on no disk") }
        // A connection that takes its leave still has its transfer log (`wire.md` 6.5).
        let isConnected = own.connection.isConnected || own.connection == .tearDown
        if !there, !isMarked(node, request.range), own.disk == .upToDate || !isHotOnDisk(node, request.range) {
            let mayBeUnderWay = isConnected && scenario.net.replicationProtocol != .c
            // Overruled by one that covers it and is on its way here, or was when its node died: that counts as written
            // before it.
            let isOverruled =
                isHotOnDisk(other, request.range)
                || other.requests.contains {
                    if let other = $0 { other.kind != .read && other.range.overlaps(request.range) } else { false }
                }
            if !mayBeUnderWay, !(scenario.kind == .twoPrimaries && isOverruled) {
                return fail(
                    "write \(request.write) is answered by \(node.name), but it is neither on \(other.name)'s disk nor marked out of sync"
                )
            }
        }
        if request.isDurable { checkStable(node, [(request.range, request.write, node.index)][...], "FUA") }
    }

    /// Rule 3: what was answered before a flush was asked for survives the loss of both caches.
    func checkDurable(_ node: SimNode, upTo count: Int) {
        checkStable(node, acknowledged.prefix(count), "flush")
    }

    private func checkStable(
        _ node: SimNode, _ writes: ArraySlice<(range: SectorRange, write: UInt32, node: Int)>, _ what: String
    ) {
        guard let own = state(node) else { return }
        let other = peer(of: node)
        let countsThere =
            own.connection == .connected && own.peerDisk == .upToDate && scenario.net.replicationProtocol == .c
            && other.isRunning && !isForked
            // Up to version 95 the source believes in the end of a resync before the target's caches are flushed.
            && (node.format.version > 95 || state(other)?.disk == .upToDate)
        for (range, write, writer) in writes {
            // What the other primary has in its own cache is its own clients' business.
            let countsThere = countsThere && (scenario.kind != .twoPrimaries || writer == node.index)
            for sector in Int(range.start.value)..<Int(range.end.value) {
                if own.disk == .upToDate, node.data.current[sector] == write, node.data.stable[sector] != write {
                    return fail("\(what) is answered while write \(write) at \(sector) is only in \(node.name)'s cache")
                }
                if countsThere, other.data.current[sector] == write, other.data.stable[sector] != write,
                    !isMarked(node, SectorRange(UInt64(sector), 1))
                {
                    return fail("\(what) is answered while write \(write) at \(sector) is only in \(other.name)'s cache")
                }
            }
        }
    }

    // MARK: The end

    func checkSettled() {
        let limit = TimeSpan.seconds(900)
        guard now.since(healingSince) < limit else {
            return fail(
                "not settled \(limit.wholeSeconds) s after everything was healed: \(describeStates()), \(requestsLeft) requests left, current \(isCurrent), wanted \(wantsPrimary ?? -1), operations \(nodes.map(\.running))"
            )
        }
        guard isQuietAndEqual, requestsLeft == 0,
            nodes.allSatisfy({ $0.outstanding == 0 && $0.pendingCommand == nil && $0.commands.isEmpty && $0.running == 0 })
        else {
            quietSince = nil
            return
        }
        // A stream that leads nowhere may have swallowed the last try.
        if scenario.grows, grownAt.map({ !isGrownUp && now.since($0) > .seconds(60) }) ?? true,
            let primary = nodes.first(where: { state($0)?.role == .primary })
        {
            grownAt = now
            command(primary, .resize(Self.volume, ResizeRequest()))
            quietSince = nil
            return
        }
        // Barriers, acknowledgements and superblocks get a moment to end by themselves.
        guard let since = quietSince else {
            quietSince = now
            return
        }
        if now.since(since) < .seconds(5) { return }
        // A stream that nobody reads is noticed by time alone: ko-count times timeout.
        if now.since(since) < .seconds(120), nodes.contains(where: { !$0.core.openWork().isEmpty }) { return }
        if scenario.grows, !isGrownUp { return }
        checkEqual()
        isSettled = true
    }

    /// Both devices have all that both disks have.
    private var isGrownUp: Bool {
        let possible = min(nodes[0].capacity, nodes[1].capacity)
        return nodes.allSatisfy { $0.core.sectors(of: Self.volume) == possible }
    }

    private func checkEqual() {
        for node in nodes {
            let open = node.core.openWork()
            if !open.isEmpty { return fail("\(node.name) is idle with \(open.joined(separator: ", "))") }
            if node.buffersOut != 0 { return fail("\(node.name) is idle with \(node.buffersOut) buffers leased") }
        }
        let left = nodes[0].data.current
        let right = nodes[1].data.current
        // What was planted and never found is still there.
        if let block = foundBlocks.first(where: plantedBlockDiffers) {
            return fail("block \(block) was found to differ, and no resync has repaired it")
        }
        if left != right, let sector = left.indices.first(where: { left[$0] != right[$0] && !planted.contains($0 / 8) }) {
            return fail(
                "sector \(sector) differs: \(left[sector]) and \(right[sector]), possible \(histories[0].versions(sector))")
        }
        for sector in histories[0].touched where !histories[0].mayHold(Int(sector), nodes[0].data.current[Int(sector)]) {
            return fail(
                "sector \(sector) holds \(nodes[0].data.current[Int(sector)]), possible \(histories[0].versions(Int(sector)))"
            )
        }
        guard let left = nodes[0].core.identifiers(of: Self.volume), let right = nodes[1].core.identifiers(of: Self.volume),
            left.current & ~1 == right.current & ~1, left.bitmap == 0, right.bitmap == 0
        else {
            return fail(
                "identifiers differ: \(nodes[0].core.identifiers(of: Self.volume)?.text ?? "") and \(nodes[1].core.identifiers(of: Self.volume)?.text ?? "")"
            )
        }
    }
}
