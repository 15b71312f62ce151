/// Reads on behalf of the peer, and of resync and verify: from the request to its one answer (`wire-resync.md` 8.6, 8.11).
extension Resource {
    /// P_DATA_REQUEST, P_RS_DATA_REQUEST, P_RS_THIN_REQ, P_CSUM_RS_REQUEST (with its digest)
    mutating func peerReadReceived(
        _ v: Int, _ request: BlockRequest, _ kind: PeerRequest.Kind, digest: BufferSlot? = nil
    ) {
        guard isReadable(v, request), kind != .checksumRead || digest != nil && DigestAlgorithm(link.options.checksumAlgorithm) != nil,
            kind != .thinRead || link.features.contains(.thinResync)
        else {
            if let digest { emit(.releaseBuffer(digest)) }
            return connectionFailed(.protocolError)
        }
        guard volumes[v].state.disk == .upToDate else {
            if let digest { emit(.releaseBuffer(digest)) }
            return refuseRead(v, request, isResync: kind != .read)
        }
        guard let p = peerRequests.take(kind) else {
            if let digest { emit(.releaseBuffer(digest)) }
            return connectionFailed(.protocolError)
        }
        enterPeerRead(p, v, request.range, request.blockID, digest)
        if peerRequests[p].isResyncRead { peerRequests[p].epoch = volumes[v].resyncCount }
        if kind == .checksumRead { volumes[v].resync?.usesChecksums = true }
        proceedPeer(p)
    }

    func isReadable(_ v: Int, _ request: BlockRequest) -> Bool {
        rangeIsInside(v, request.range) && request.byteCount % 512 == 0 && request.range.count <= Limits.requestSectors
            // The length in a header of those days has 16 bits.
            && (link.version >= 95 || request.byteCount <= maximumRequest)
    }

    /// Our disk is not good enough for what the peer asks.
    mutating func refuseRead(_ v: Int, _ request: BlockRequest, isResync: Bool) {
        let sequence = nextSequence(v)
        let ack = BlockAck(
            sector: request.sector, blockID: request.blockID, byteCount: request.byteCount, sequence: sequence)
        send(.meta, v, isResync ? .negativeResyncReply(ack) : .negativeDataReply(ack))
    }

    mutating func enterPeerRead(_ p: Int32, _ v: Int, _ range: SectorRange, _ blockID: UInt64, _ digest: BufferSlot?) {
        peerRequests[p].volume = v
        peerRequests[p].range = range
        peerRequests[p].blockID = blockID
        peerRequests[p].digest = digest
        peerRequests[p].connection = link.instance
        if peerRequests[p].isUnacknowledged { volumes[v].counters.unacknowledged += 1 }
    }

    // MARK: Read

    mutating func peerReadFinished(_ id: PeerRequestID, _ buffer: BufferSlot?, _ error: DiskError?) {
        guard let p = peerRequests.find(id) else {
            if let buffer { emit(.releaseBuffer(buffer)) }
            return
        }
        let v = peerRequests[p].volume
        volumes[v].localPending -= 1
        let range = peerRequests[p].range
        let isComparison = peerRequests[p].kind == .verifyRead || peerRequests[p].kind == .verifyCompare
        if let buffer, error == nil, examine(p, buffer) { return diskMayBeIdle(v) }
        peerReadEnds(p, error == nil ? buffer : nil, matches: false)
        if let error {
            if let buffer { emit(.releaseBuffer(buffer)) }
            log(.error, v, "IO error on behalf of the peer: READ sector \(range.start.value)+\(range.count) errno \(error.code)")
            volumes[v].hadReadError = true
            _ = volumes[v].bitmap.setOutOfSync(range, deviceSectors: volumes[v].sectors)
            // A verify has told the peer, too, that the block is not good here.
            let isKnown = isComparison && volumes[v].diskOptions.onIOError == .passOn
            if !isKnown { localIOFailed(v) }
        }
        retryLater(v)
        diskMayBeIdle(v)
    }

    /// Has a block compared that is not simply sent. False if there is nothing to compare.
    private mutating func examine(_ p: Int32, _ buffer: BufferSlot) -> Bool {
        let request = peerRequests[p]
        let id = peerRequests.id(p)
        switch request.kind {
        case .thinRead:
            emit(.lookForZeroes(id, buffer, byteCount: request.range.byteCount))
        case .checksumRead, .verifyCompare:
            let name = request.kind == .checksumRead ? link.options.checksumAlgorithm : link.options.verifyAlgorithm
            guard let digest = request.digest, let algorithm = DigestAlgorithm(name) else { return false }
            emit(.compareDigest(id, algorithm, data: buffer, byteCount: request.range.byteCount, digest: digest))
        case .read, .resyncRead, .checksumRequest, .verifyRead, .write, .discard, .writeSame, .resyncWrite, .resyncDiscard:
            return false
        }
        peerRequests[p].stage = .examined
        peerRequests[p].buffer = buffer
        return true
    }

    mutating func blockExamined(_ id: PeerRequestID, matches: Bool) {
        guard let p = peerRequests.find(id), peerRequests[p].stage == .examined else { return }
        let v = peerRequests[p].volume
        peerReadEnds(p, peerRequests[p].buffer, matches: matches)
        retryLater(v)
        diskMayBeIdle(v)
    }

    /// The one answer. `buffer` is nil if the block could not be read.
    private mutating func peerReadEnds(_ p: Int32, _ buffer: BufferSlot?, matches: Bool) {
        let request = peerRequests[p]
        let v = request.volume
        if request.isUnacknowledged { volumes[v].counters.unacknowledged -= 1 }
        peerRequests.free(p)
        if request.connection == link.instance, link.isUsable {
            switch request.kind {
            case .read: answerRead(request, buffer)
            case .resyncRead, .checksumRead, .thinRead: answerResyncRead(request, buffer, matches: matches)
            case .checksumRequest: checksumRequestRead(request, buffer)
            case .verifyRead: verifyBlockRead(request, buffer)
            case .verifyCompare: verifyBlockCompared(request, isEqual: buffer != nil && matches)
            case .write, .discard, .writeSame, .resyncWrite, .resyncDiscard: invariant(false, "a write ends as a write")
            }
        }
        if let buffer { emit(.releaseBuffer(buffer)) }
        if let digest = request.digest { emit(.releaseBuffer(digest)) }
    }

    private func head(_ request: PeerRequest) -> DataPacket {
        DataPacket(sector: request.range.start, blockID: request.blockID, byteCount: request.range.byteCount)
    }
    private mutating func ack(_ request: PeerRequest) -> BlockAck {
        let sequence = nextSequence(request.volume)
        return BlockAck(
            sector: request.range.start, blockID: request.blockID, byteCount: request.range.byteCount, sequence: sequence)
    }

    private mutating func answerRead(_ request: PeerRequest, _ buffer: BufferSlot?) {
        let v = request.volume
        guard let buffer else { return send(.meta, v, .negativeDataReply(ack(request))) }
        volumes[v].counters.networkSent += UInt64(request.range.count)
        send(.data, v, .dataReply(head(request)), payload: buffer)
    }

    private mutating func answerResyncRead(_ request: PeerRequest, _ buffer: BufferSlot?, matches: Bool) {
        let v = request.volume
        guard let buffer else {
            send(.meta, v, .negativeResyncReply(ack(request)))
            return countFailed(v, request.range)
        }
        // A block that was asked for in a run that was aborted may have been written here since it was read; the target
        // would take it for the answer to what it asks for in this run.
        if volumes[v].resync != nil, request.epoch != volumes[v].resyncCount { return }
        if volumes[v].state.connection == .ahead { return send(.meta, v, .resyncCancel(ack(request))) }
        if matches || mutation == .trustDigests, request.kind == .checksumRead {
            let blocks = UInt64(request.range.count + 7) / 8
            volumes[v].resync?.equalBlocks += blocks
            send(.meta, v, .resyncIsInSync(ack(request)))
            // Without a run of ours the target's may have ended, and what it knows of the block is not what we know.
            if volumes[v].resync != nil { clearBits(v, request.range) }
        } else if matches, request.kind == .thinRead {
            volumes[v].resyncRepliesPending += 1
            send(.data, v, .resyncDeallocated(AreaPacket(sector: request.range.start, byteCount: request.range.byteCount)))
        } else {
            volumes[v].counters.networkSent += UInt64(request.range.count)
            volumes[v].resyncRepliesPending += 1
            send(.data, v, .resyncDataReply(head(request)), payload: buffer)
            if mutation == .clearBitBeforeAck { clearBits(v, request.range) }
        }
    }
}
