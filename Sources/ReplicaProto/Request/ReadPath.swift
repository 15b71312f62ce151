/// Client reads and flushes.
extension Resource {
    mutating func startRead(_ r: Int32) {
        let v = requests[r].volume
        requests[r].stage = .running
        volumes[v].waitingCount -= 1
        let isLocal = canReadLocally(v, requests[r].range)
        if isLocal, !(canReadRemotely(v) && isPeersTurn(v, requests[r].range)) {
            readLocally(r)
        } else if canReadRemotely(v) {
            readRemotely(r)
        } else {
            fail(r)
        }
    }

    /// Our disk holds what applications have seen: it is up to date, or only other blocks are out of sync.
    private func canReadLocally(_ v: Int, _ range: SectorRange) -> Bool {
        switch volumes[v].state.disk {
        case .upToDate: true
        case .inconsistent: !volumes[v].bitmap.isAnySet(in: range) && volumes[v].state.connection.isSyncTarget
        case .consistent, .outdated: !canReadRemotely(v)
        case .diskless, .attaching, .failed, .negotiating, .unknown: false
        }
    }

    private func canReadRemotely(_ v: Int) -> Bool {
        volumes[v].state.connection.isConnected && volumes[v].state.peerDisk == .upToDate && link.isUsable
    }

    private mutating func readLocally(_ r: Int32) {
        let v = requests[r].volume
        requests[r].local = .pending
        requests[r].remote = .absent
        requests[r].moments.submitted = now
        volumes[v].localPending += 1
        volumes[v].counters.diskRead += UInt64(requests[r].range.count)
        emit(.readDisk(.client(requests[r].id), volumes[v].number, requests[r].range))
    }

    private mutating func readRemotely(_ r: Int32) {
        let v = requests[r].volume
        if requests[r].local == .pending { requests[r].local = .diskless }
        guard requests[r].range.byteCount <= maximumRequest(v) else {
            // It was made before the peer came back with an older version; clients' requests are cut smaller from then on.
            log(.error, v, "read of \(requests[r].range.byteCount) bytes is more than the peer takes in one request")
            return fail(r)
        }
        requests[r].remote = .sent
        requests[r].sentAt = now
        volumes[v].counters.peerPending += 1
        send(
            .data, v,
            .dataRequest(
                BlockRequest(
                    sector: requests[r].range.start, blockID: requests.blockID(r), byteCount: requests[r].range.byteCount
                )))
        armRequestTimer()
    }

    mutating func clientReadFinished(_ id: RequestID, _ buffer: BufferSlot?, _ error: DiskError?) {
        guard let r = requests.find(id) else {
            if let buffer { emit(.releaseBuffer(buffer)) }
            return
        }
        let v = requests[r].volume
        volumes[v].localPending -= 1
        guard let error else {
            requests[r].moments.localEnded = now
            reply(r, nil, data: buffer)
            retire(r, acknowledged: false)
            return diskMayBeIdle(v)
        }
        if let buffer { emit(.releaseBuffer(buffer)) }
        requests[r].local = .failed
        log(
            .error, v,
            "local READ IO error sector \(requests[r].range.start.value)+\(requests[r].range.count) errno \(error.code)")
        volumes[v].hadReadError = true
        _ = volumes[v].bitmap.setOutOfSync(requests[r].range, deviceSectors: volumes[v].sectors)
        localIOFailed(v)
        if canReadRemotely(v) {
            readRemotely(r)
        } else if volumes[v].isSuspended {
            requests[r].stage = .waitingAdmission
            volumes[v].waitingCount += 1
        } else {
            fail(r)
        }
        diskMayBeIdle(v)
    }

    /// P_DATA_REPLY
    mutating func remoteReadAnswered(_ v: Int, _ packet: DataPacket, _ payload: BufferSlot?) {
        if packet.blockID == Link.proofBlockID, link.proofIsFor != nil {
            if let payload { emit(.releaseBuffer(payload)) }
            return epochProofArrived(isGood: true)
        }
        guard let r = requests.find(blockID: packet.blockID), requests[r].kind == .read, requests[r].remote == .sent,
            requests[r].volume == v, requests[r].range == packet.range, let payload
        else {
            if let payload { emit(.releaseBuffer(payload)) }
            log(.error, v, "unexpected DataReply for sector \(packet.sector.value)")
            return connectionFailed(.protocolError)
        }
        volumes[v].counters.peerPending -= 1
        volumes[v].counters.networkReceived += UInt64(packet.range.count)
        requests[r].remote = .written
        requests[r].moments.peerEnded = now
        if requests[r].local == .failed { peerMadeGood(v) }
        reply(r, nil, data: payload)
        retire(r, acknowledged: false)
    }

    /// P_NEG_DREPLY, or the peer vanished before it answered: our own disk is asked if it may have the data.
    mutating func remoteReadRefused(_ r: Int32) {
        let v = requests[r].volume
        volumes[v].counters.peerPending -= 1
        requests[r].remote = .refused
        if volumes[v].isSuspended {
            requests[r].stage = .waitingAdmission
            volumes[v].waitingCount += 1
        } else if requests[r].local != .failed, canReadLocally(v, requests[r].range) {
            readLocally(r)
        } else {
            fail(r)
        }
    }

    mutating func negativeDataReply(_ ack: BlockAck) {
        if ack.blockID == Link.proofBlockID, link.proofIsFor != nil { return epochProofArrived(isGood: false) }
        guard let r = requests.find(blockID: ack.blockID), requests[r].kind == .read, requests[r].remote == .sent,
            requests[r].range.start == ack.sector
        else { return connectionFailed(.networkFailure) }
        log(.error, requests[r].volume, "Got NegDReply; sector \(ack.sector.value)s, len \(ack.byteCount)")
        remoteReadRefused(r)
    }

    /// The connection is gone: reads that the peer owed us go elsewhere or fail.
    mutating func redirectRemoteReads(_ v: Int) {
        var r = volumes[v].active.head
        while r >= 0 {
            let next = requests[r].next
            if requests[r].kind == .read, requests[r].stage == .running, requests[r].remote == .sent {
                remoteReadRefused(r)
            }
            r = next
        }
    }

    // MARK: Flush

    /// All completed writes become durable here, and, as far as the peer's write ordering goes, there: the open epoch
    /// is closed, and the reply waits until the peer has acknowledged everything up to it.
    mutating func startFlush(_ r: Int32) {
        let v = requests[r].volume
        requests[r].stage = .running
        volumes[v].waitingCount -= 1
        closeEpoch()
        requests[r].epoch = link.epoch
        if transferLog.count > 0 { requests[r].remote = .sent }
        requests[r].moments.submitted = now
        if volumes[v].hasDisk {
            volumes[v].localPending += 1
            emit(.flushDisk(volumes[v].number, .client(requests[r].id)))
        } else {
            requests[r].local = .diskless
            finishFlush(r)
        }
    }

    mutating func clientFlushFinished(_ id: RequestID, _ error: DiskError?) {
        guard let r = requests.find(id) else { return }
        let v = requests[r].volume
        volumes[v].localPending -= 1
        requests[r].local = error == nil ? .succeeded : .failed
        requests[r].moments.localEnded = now
        if let error {
            log(.error, v, "local flush failed: errno \(error.code)")
            forgetLocalCopies(v)
            ownWritesMayBeLost(v)
        }
        finishFlush(r)
        diskMayBeIdle(v)
    }

    /// Answers flushes whose epochs the peer has acknowledged, or lost.
    mutating func finishFlushes() {
        for v in volumes.indices {
            var r = volumes[v].active.head
            while r >= 0 {
                let next = requests[r].next
                if requests[r].kind == .flush, requests[r].stage == .running { finishFlush(r) }
                r = next
            }
        }
    }

    private mutating func finishFlush(_ r: Int32) {
        guard requests[r].local != .pending else { return }
        if requests[r].remote == .sent {
            if transferLog.head >= 0 {
                let distance = Int32(bitPattern: requests[r].epoch &- requests[transferLog.head].epoch)
                if distance > 0 { return }
            }
            requests[r].remote = .written
        }
        let v = requests[r].volume
        if volumes[v].isRotating { return }
        let isGoodThere = volumes[v].state.connection.isConnected && volumes[v].state.peerDisk == .upToDate
        let good = requests[r].local == .succeeded || isGoodThere
        if good, requests[r].local == .failed {
            peerMadeGood(v)
            if volumes[v].isDegrading { return }
        }
        reply(r, good ? nil : .io)
        retire(r, acknowledged: false)
    }

    // MARK: Completions of the data disk

    mutating func diskWriteFinished(_ tag: DiskTag, _ error: DiskError?) {
        switch tag {
        case .client(let id): clientWriteFinished(id, error)
        case .peer(let id): peerWriteFinished(id, error)
        }
    }

    mutating func diskReadFinished(_ tag: DiskTag, _ buffer: BufferSlot?, _ error: DiskError?) {
        switch tag {
        case .client(let id): clientReadFinished(id, buffer, error)
        case .peer(let id): peerReadFinished(id, buffer, error)
        }
    }

    mutating func diskFlushFinished(_ number: VolumeNumber, _ tag: FlushTag, _ error: DiskError?) {
        guard let v = index(of: number) else { return }
        switch tag {
        case .client(let id): clientFlushFinished(id, error)
        case .epoch(let epoch): epochFlushed(v, epoch, error)
        case .metadata: metadataDataFlushed(v, error)
        }
    }
}
