/// One run of an online verify on one volume, on either side (`wire-resync.md` 8.11).
///
/// The initiator (VerifyS) asks for the digest of one block after the other; the other node (VerifyT) answers from its
/// disk; the initiator compares and tells. From the request to the result the block is locked on both nodes: a write that
/// one disk has and the other has not yet would pass for a difference.
struct OnlineVerify {
    let isInitiator: Bool
    let startedAt: Instant
    /// Blocks of this run; the other node learns from the first request where it begins.
    private(set) var total: UInt64
    /// Blocks without a result.
    private(set) var left: UInt64
    /// The sector to ask for next.
    private(set) var position: UInt64 = 0
    /// A request has told where the run begins.
    private(set) var isPositionKnown: Bool
    /// Blocks whose result is outstanding.
    private(set) var locked: [SectorRange] = []
    /// Initiator: the next block, which waits for writes that are under way. New ones wait for it.
    var wanted: SectorRange?
    /// Of the locked ones: the peer owes the next packet.
    var awaited = 0
    var isEnding = false
    /// It came to its end, or to the stop sector.
    var isDone = false

    // MARK: Pace
    var controller: ResyncController
    /// Blocks that may still be asked for in this step.
    var budget = 0
    var answeredSectors = 0
    var readSectors: UInt64 = 0
    /// Application sectors seen at the last step, for c-min-rate.
    var activitySeen: UInt64 = 0
    private(set) var marks: [(at: Instant, left: UInt64)]
    private(set) var lastMark = 0

    // MARK: Differences
    /// A run of blocks that differ, not logged yet; empty if none.
    private(set) var outOfSync = SectorRange(0, 0)

    /// - Parameter bits: blocks of the volume.
    init(initiatorFrom sector: UInt64, bits: UInt64, options: DiskOptions, maxBuffers: Int, at now: Instant) {
        // Behind the end there is still the last block.
        let first = min(sector / BitmapBlock.sectors, max(bits, 1) - 1)
        self.init(isInitiator: true, total: bits - min(first, bits), options: options, maxBuffers: maxBuffers, at: now)
        position = first * BitmapBlock.sectors
        isPositionKnown = true
    }

    init(otherWith bits: UInt64, options: DiskOptions, maxBuffers: Int, at now: Instant) {
        self.init(isInitiator: false, total: bits, options: options, maxBuffers: maxBuffers, at: now)
    }

    private init(isInitiator: Bool, total: UInt64, options: DiskOptions, maxBuffers: Int, at now: Instant) {
        self.isInitiator = isInitiator
        self.total = total
        left = total
        startedAt = now
        isPositionKnown = false
        controller = ResyncController(options: options, maxBuffers: maxBuffers)
        marks = Array(repeating: (now, total), count: 8)
        locked.reserveCapacity(Limits.verifyRequests)
    }

    /// The first request of the other node says where the run begins.
    mutating func begin(at sector: UInt64, at now: Instant) {
        isPositionKnown = true
        total -= min(total, sector / BitmapBlock.sectors)
        left = total
        for k in marks.indices { marks[k] = (now, total) }
    }

    func locks(_ range: SectorRange) -> Bool {
        if let wanted, wanted.overlaps(range) { return true }
        if isInitiator, range.start.value >= position { return false }
        for other in locked where other.overlaps(range) { return true }
        return false
    }

    var mayAskMore: Bool { budget > 0 && locked.count < Limits.verifyRequests && !isEnding }

    mutating func lock(_ range: SectorRange) {
        locked.append(range)
        awaited += 1
        if isInitiator {
            position = range.end.value
            controller.note(requestedSectors: Int(range.count))
            budget -= 1
        }
    }
    /// False if the block is not locked.
    func isLocked(_ range: SectorRange) -> Bool { locked.contains(range) }
    mutating func unlock(_ range: SectorRange) -> Bool {
        guard let found = locked.firstIndex(of: range) else { return false }
        locked.swapAt(found, locked.count - 1)
        locked.removeLast()
        return true
    }

    mutating func countDone() { if left > 0 { left -= 1 } }

    /// Where another run may go on: before this sector every block has its result.
    func reached(bits: UInt64) -> UInt64 {
        guard isInitiator else { return (bits - min(left, bits)) * BitmapBlock.sectors }
        var first = wanted?.start.value ?? position
        for range in locked { first = min(first, range.start.value) }
        return first
    }

    /// Extends the run of differing blocks. Returns the one before if this block does not continue it.
    mutating func noteDifference(_ range: SectorRange) -> SectorRange? {
        if outOfSync.count > 0, outOfSync.end == range.start, outOfSync.count <= UInt32.max - range.count {
            outOfSync.count += range.count
            return nil
        }
        let before = takeDifferences()
        outOfSync = range
        return before
    }
    mutating func takeDifferences() -> SectorRange? {
        guard outOfSync.count > 0 else { return nil }
        defer { outOfSync = SectorRange(0, 0) }
        return outOfSync
    }

    mutating func takeMark(at now: Instant) {
        lastMark = (lastMark + 1) % marks.count
        marks[lastMark] = (now, left)
    }
}

extension Resource {
    // MARK: Start and end

    /// `verify`
    mutating func startVerify(_ id: CommandID, _ v: Int, start: UInt64?, stop: UInt64?) {
        if volumes[v].state.connection == .verifyS {
            // The end may be moved while it runs, and not any more when it has been reached.
            if volumes[v].verify?.isEnding ?? false { return answer(id, code(.inTransientState)) }
            volumes[v].verifyStop = stop ?? .max
            answer(id, .success)
            askForDigests(v)
            return verifyMayEnd(v)
        }
        let verdict = judge(v) { $0.connection = .verifyS }
        guard verdict.isSuccess else { return answer(id, code(verdict)) }
        guard !lacksData(v) else { return answer(id, code(.noUpToDateDisk)) }
        if let start { volumes[v].verifyStart = start & ~(BitmapBlock.sectors - 1) }
        volumes[v].verifyStop = stop ?? .max
        askPeer(ClusterChange(.verify, id, v, mask: 0x1f0, value: 0x120))
    }

    /// One of the copies is known not to be good: what differs says nothing.
    func lacksData(_ v: Int) -> Bool {
        volumes[v].state.disk == .inconsistent || volumes[v].state.peerDisk == .inconsistent
    }

    mutating func beginVerify(_ v: Int) {
        let bits = volumes[v].bitmap.bits
        let options = volumes[v].diskOptions
        let maxBuffers = link.options.maxBuffers
        if volumes[v].state.connection == .verifyS {
            // Before v90 nobody can say where it begins.
            let start = link.version < 90 ? 0 : volumes[v].verifyStart
            let fresh = OnlineVerify(initiatorFrom: start, bits: bits, options: options, maxBuffers: maxBuffers, at: now)
            volumes[v].verify = fresh
            log(.info, v, "Starting Online Verify from sector \(fresh.position)")
            timers.set(.resync, now)
        } else {
            volumes[v].verify = OnlineVerify(otherWith: bits, options: options, maxBuffers: maxBuffers, at: now)
        }
        if !timers.isSet(.marks) { timers.set(.marks, now + .seconds(3)) }
    }

    /// The peer ends at its stop sector, too, from these versions on (`wire.md` section 10).
    var canStopVerify: Bool { link.version >= 97 && link.version != 100 }

    private func verifyEnd(_ v: Int) -> UInt64 {
        canStopVerify ? min(volumes[v].verifyStop, volumes[v].sectors) : volumes[v].sectors
    }

    /// All blocks have their result.
    private mutating func verifyMayEnd(_ v: Int) {
        guard let verify = volumes[v].verify, !verify.isEnding, verify.locked.isEmpty, verify.isPositionKnown else { return }
        let isOver = verify.isInitiator ? verify.wanted == nil && verify.position >= verifyEnd(v) : verify.left == 0
        guard isOver else { return }
        volumes[v].verify?.isEnding = true
        afterPing(v, .verifyEnds)
    }

    /// The peer has processed all our results, or all that it was to process before.
    mutating func verifyAcksProcessed(_ v: Int) {
        guard volumes[v].verify?.isEnding ?? false, volumes[v].state.connection.isVerifying else { return }
        finishVerify(v)
    }

    /// P_STATE of an initiator that has come to its stop sector (`wire.md` 6.3, step 4). True if the packet is dealt with.
    mutating func verifyEndReported(_ v: Int, _ peer: VolumeState, _ peerDisk: DiskState) -> Bool {
        let state = volumes[v].state
        guard state.connection == .verifyT, state.disk == .upToDate, peer.connection == .connected, peerDisk == .upToDate
        else { return false }
        setState(v) { $0.peerRole = peer.role }
        finishVerify(v)
        return true
    }

    private mutating func finishVerify(_ v: Int) {
        guard let verify = volumes[v].verify else { return }
        volumes[v].verify?.isDone = true
        logDifferences(v, volumes[v].verify?.takeDifferences())
        let seconds = now.since(verify.startedAt).wholeSeconds
        let rate = (verify.total - min(verify.left, verify.total)) * 4 / max(seconds, 1)
        log(.info, v, "Online verify done (total \(max(seconds, 1)) sec; paused 0 sec; \(rate) K/sec)")
        let found = volumes[v].bitmap.weight
        if found > 0 { log(.error, v, "Online verify found \(found) 4k block out of sync!") }
        setState(v) { $0.connection = .connected }
        if found > 0 { runHandler(.outOfSync, v) }
    }

    /// The connection is no longer in VerifyS or VerifyT: it is over, or something came between.
    mutating func leaveVerify(_ v: Int) {
        guard let verify = volumes[v].verify else { return }
        if !verify.isDone { logDifferences(v, volumes[v].verify?.takeDifferences()) }
        volumes[v].verify = nil
        volumes[v].counters.peerPending -= verify.awaited
        let reached = verify.isPositionKnown ? verify.reached(bits: volumes[v].bitmap.bits) : 0
        if !verify.isPositionKnown || verify.isDone && verify.left == 0 {
            volumes[v].verifyStart = 0
        } else {
            volumes[v].verifyStart = reached
            log(.info, v, "Online Verify reached sector \(reached)")
        }
        link.pingActions.removeAll { $0.volume == v && $0.kind == .verifyEnds }
        if !volumes.contains(where: { $0.resync != nil || $0.verify != nil }) {
            timers.cancel(.resync)
            timers.cancel(.marks)
        }
        if volumes[v].hasDisk { enqueue(v, .changedPages) }
        retryLater(v)
    }

    private mutating func logDifferences(_ v: Int, _ range: SectorRange?) {
        guard let range else { return }
        log(.error, v, "Out of sync: start=\(range.start.value), size=\(range.count) (sectors)")
    }

    // MARK: Initiator

    /// Every 100 ms while anything is VerifyS. True if something is.
    mutating func verifyTick() -> Bool {
        var any = false
        for v in volumes.indices where volumes[v].state.connection == .verifyS && volumes[v].verify != nil {
            any = true
            let answered = volumes[v].verify?.answeredSectors ?? 0
            volumes[v].verify?.answeredSectors = 0
            let blocks = volumes[v].verify?.controller.step(sectorsAnswered: answered) ?? 0
            let budget = verifyMustStepAside(v) ? 0 : blocks
            volumes[v].verify?.budget = budget
            if budget == 0, volumes[v].verify?.wanted != nil {
                // Who steps aside holds nobody up.
                volumes[v].verify?.wanted = nil
                retryLater(v)
            }
            askForDigests(v)
            verifyMayEnd(v)
        }
        return any
    }

    /// c-min-rate, as for a resync (`wire-resync.md` 8.12).
    private mutating func verifyMustStepAside(_ v: Int) -> Bool {
        guard let verify = volumes[v].verify else { return false }
        let counters = volumes[v].counters
        let others = (counters.diskWritten &+ counters.diskRead) &- verify.readSectors
        volumes[v].verify?.activitySeen = others
        let minimum = UInt64(clamping: volumes[v].diskOptions.cMinRate)
        guard minimum > 0, others &- verify.activitySeen > 64 else { return false }
        let mark = verify.marks[(verify.lastMark + 7) % verify.marks.count]
        let milliseconds = max(1, now.since(mark.at).nanoseconds / 1_000_000)
        let done = mark.left > verify.left ? mark.left - verify.left : 0
        return done * 4 * 1000 / milliseconds > minimum
    }

    mutating func askForDigests(_ v: Int) {
        guard volumes[v].state.connection == .verifyS else { return }
        let end = verifyEnd(v)
        if volumes[v].verify?.wanted != nil, volumes[v].verify?.position ?? 0 >= end {
            // The end has moved to before it.
            volumes[v].verify?.wanted = nil
            retryLater(v)
        }
        while let verify = volumes[v].verify, verify.mayAskMore, verify.position < end {
            let range = SectorRange(
                verify.position, UInt32(min(BitmapBlock.sectors, volumes[v].sectors - verify.position)))
            // From here on no new write changes the block; those under way are waited for, here and on the other node.
            if overlapsUnconfirmedWrite(v, range) {
                volumes[v].verify?.wanted = range
                return
            }
            volumes[v].verify?.wanted = nil
            volumes[v].verify?.lock(range)
            volumes[v].counters.peerPending += 1
            send(.data, v, .verifyRequest(BlockRequest(sector: range.start, blockID: BlockID.syncer, byteCount: range.byteCount)))
        }
    }

    /// A write of ours that is not yet on both disks, or on ours without an answer.
    func overlapsUnconfirmedWrite(_ v: Int, _ range: SectorRange) -> Bool {
        if mutation == .verifyWithoutLock { return false }
        var r = volumes[v].activeWrites > 0 ? volumes[v].active.head : -1
        while r >= 0 {
            let isUnderWay = requests[r].isRunningWrite || requests[r].stage == .postponed
            if isUnderWay, requests[r].range.overlaps(range) { return true }
            r = requests[r].next
        }
        r = transferLog.head
        while r >= 0 {
            if requests[r].volume == v, requests[r].range.overlaps(range) { return true }
            r = requests[r].logNext
        }
        return false
    }

    /// P_OV_REPLY
    mutating func verifyReplyReceived(_ v: Int, _ reply: BlockRequest, _ digest: BufferSlot?) {
        guard let digest, rangeIsInside(v, reply.range), DigestAlgorithm(link.options.verifyAlgorithm) != nil else {
            if let digest { emit(.releaseBuffer(digest)) }
            return connectionFailed(.protocolError)
        }
        let isExpected = volumes[v].verify?.isInitiator ?? false ? volumes[v].verify?.isLocked(reply.range) ?? false : false
        guard isExpected, volumes[v].state.disk == .upToDate else {
            // A run that was given up meanwhile: the other node waits for a result all the same.
            emit(.releaseBuffer(digest))
            return sendVerifyResult(v, reply.range, BlockID.inSync)
        }
        guard let p = peerRequests.take(.verifyCompare) else {
            emit(.releaseBuffer(digest))
            return connectionFailed(.protocolError)
        }
        volumes[v].verify?.awaited -= 1
        volumes[v].verify?.answeredSectors += Int(reply.range.count)
        volumes[v].counters.peerPending -= 1
        enterPeerRead(p, v, reply.range, BlockID.syncer, digest)
        volumes[v].verify?.readSectors += UInt64(reply.range.count)
        proceedPeer(p)
    }

    private mutating func sendVerifyResult(_ v: Int, _ range: SectorRange, _ result: UInt64) {
        let sequence = nextSequence(v)
        send(
            .meta, v,
            .verifyResult(BlockAck(sector: range.start, blockID: result, byteCount: range.byteCount, sequence: sequence)))
    }

    /// Both digests of a block are known. What cannot be read counts as different.
    mutating func verifyBlockCompared(_ request: PeerRequest, isEqual: Bool) {
        let v = request.volume
        guard volumes[v].verify?.unlock(request.range) ?? false else {
            return sendVerifyResult(v, request.range, BlockID.inSync)
        }
        noteVerified(v, request.range, isEqual: isEqual)
        sendVerifyResult(v, request.range, isEqual ? BlockID.inSync : BlockID.outOfSync)
        askForDigests(v)
        verifyMayEnd(v)
        retryLater(v)
    }

    private mutating func noteVerified(_ v: Int, _ range: SectorRange, isEqual: Bool) {
        volumes[v].verify?.countDone()
        if isEqual {
            logDifferences(v, volumes[v].verify?.takeDifferences())
        } else {
            logDifferences(v, volumes[v].verify?.noteDifference(range))
            _ = volumes[v].bitmap.setOutOfSync(range, deviceSectors: volumes[v].sectors)
        }
    }

    /// P_NEG_RS_DREPLY: the other node has no disk any more that could be verified; its P_STATE says so, too.
    mutating func verifyRefused(_ v: Int, _ range: SectorRange) {
        guard volumes[v].verify?.unlock(range) ?? false else { return }
        volumes[v].verify?.awaited -= 1
        volumes[v].counters.peerPending -= 1
        retryLater(v)
    }

    // MARK: The other node

    /// P_OV_REQUEST
    mutating func verifyRequestReceived(_ v: Int, _ request: BlockRequest) {
        guard isReadable(v, request), DigestAlgorithm(link.options.verifyAlgorithm) != nil else {
            return connectionFailed(.protocolError)
        }
        guard volumes[v].state.disk == .upToDate else { return refuseRead(v, request, isResync: true) }
        if let verify = volumes[v].verify, !verify.isInitiator, !verify.isPositionKnown {
            let moment = now
            volumes[v].verify?.begin(at: link.version < 90 ? 0 : request.sector.value, at: moment)
            log(.info, v, "Online Verify start sector: \(request.sector.value)")
        }
        guard let p = peerRequests.take(.verifyRead) else { return connectionFailed(.protocolError) }
        enterPeerRead(p, v, request.range, request.blockID, nil)
        proceedPeer(p)
    }

    /// Our copy is there; without one the digest is zeroes, which no block has.
    mutating func verifyBlockRead(_ request: PeerRequest, _ buffer: BufferSlot?) {
        let v = request.volume
        if let verify = volumes[v].verify, !verify.isInitiator {
            // A peer that sends more than it may wait for is not worth a lock.
            if verify.locked.count < Limits.peerRequests {
                volumes[v].verify?.lock(request.range)
                volumes[v].counters.peerPending += 1
            }
        }
        send(
            .data, v,
            .verifyReply(
                BlockRequest(sector: request.range.start, blockID: BlockID.syncer, byteCount: request.range.byteCount)),
            payload: buffer)
    }

    /// P_OV_RESULT
    mutating func verifyResultReceived(_ v: Int, _ ack: BlockAck) {
        guard rangeIsInside(v, ack.range) else { return connectionFailed(.protocolError) }
        if volumes[v].verify?.unlock(ack.range) ?? false {
            volumes[v].verify?.awaited -= 1
            volumes[v].counters.peerPending -= 1
        }
        if volumes[v].verify != nil {
            noteVerified(v, ack.range, isEqual: ack.blockID != BlockID.outOfSync)
            verifyMayEnd(v)
        } else if ack.blockID == BlockID.outOfSync, volumes[v].hasDisk {
            _ = volumes[v].bitmap.setOutOfSync(ack.range, deviceSectors: volumes[v].sectors)
        }
        retryLater(v)
    }
}
