import ReplicaProto

/// What the disks do, and when.
extension Cluster {
    func startDisk(_ effect: Effect, _ node: SimNode) {
        switch effect {
        case .openDisk(_, let configuration): begin(.open(configuration), node)
        case .closeDisk: node.isClosing = true
        case .abandonDisk: abandonDisk(node)
        case .clearSuperblock:
            // There is nothing where data will be: metadata has a device of its own.
            later(node, .metadataWritten(Self.volume, nil), after: .milliseconds(1))
        case .measureDisk:
            let capacity = DiskCapacity(dataDeviceSectors: node.capacity, metadataDeviceSectors: node.metadataCapacity)
            later(node, .diskMeasured(Self.volume, capacity), after: .milliseconds(1))
        case .moveMetadata:
            node.metadataBefore = node.metadata
            node.metadata = node.metadata.elsewhere()
        case .readDisk(let tag, _, let range):
            let fails = takeFault(&node.failingReads)
            if fails { hadReadFault = true }
            begin(.read(tag, range), node, fails: fails)
        case .writeDisk(let tag, _, let range, let slot, let fua):
            guard let stamps = node.stamps(slot), stamps.count == Int(range.count) else {
                return fail("\(node.name) writes \(range) from buffer \(slot.value), which it does not own")
            }
            checkWrite(node, tag, range)
            begin(.write(tag, range, stamps, durable: fua), node, fails: takeFault(&node.failingWrites))
        case .discardDisk(let tag, _, let range, _):
            checkWrite(node, tag, range)
            begin(.write(tag, range, nil, durable: false), node, fails: takeFault(&node.failingWrites))
        case .writePattern(let tag, _, let range, let slot, let bytes):
            guard let block = node.stamps(slot) else { return fail("\(node.name) repeats a buffer that it does not own") }
            checkWrite(node, tag, range)
            let stamps = (0..<Int(range.count)).map { block[$0 % Int(bytes / 512)] }
            begin(.write(tag, range, stamps, durable: false), node, fails: takeFault(&node.failingWrites))
        case .flushDisk(_, let tag):
            begin(
                .flush(tag), node, fails: takeFault(&node.failingFlushes), dataFlush: node.data.beginFlush(),
                metadataFlush: scenario.sharesCache ? node.metadata.beginFlush() : nil)
        case .writeSuperblock(_, let block, let durable):
            begin(
                .metadata([(0, block.encoded())], durable: durable), node, fails: takeFault(&node.failingMetadata),
                dataFlush: durable && scenario.sharesCache ? node.data.beginFlush() : nil,
                metadataFlush: durable ? node.metadata.beginFlush() : nil)
        case .writeActivityLog(let volume, let block, let flushFirst, let durable):
            var bytes = [UInt8](repeating: 0, count: 4096)
            bytes.withUnsafeMutableBytes { node.core.activityLogBlock(volume, into: $0) }
            begin(
                .metadata([(node.metadata.logBlock(Int(block)), bytes)], durable: durable), node,
                fails: takeFault(&node.failingMetadata), dataFlush: flushFirst ? node.data.beginFlush() : nil,
                metadataFlush: flushFirst ? node.metadata.beginFlush() : nil)
        case .writeBitmapPages(let volume, let first, let count):
            var blocks: [(block: Int, bytes: [UInt8])] = []
            for page in Int(first)..<Int(first + count) {
                guard page < node.metadata.bitmapPages else {
                    return fail("\(node.name) writes bitmap page \(page) of \(node.metadata.bitmapPages)")
                }
                var bytes = [UInt8](repeating: 0, count: 4096)
                bytes.withUnsafeMutableBytes { node.core.bitmapPage(volume, page: UInt32(page), into: $0) }
                blocks.append((node.metadata.bitmapPage(page), bytes))
            }
            begin(.metadata(blocks, durable: false), node, fails: takeFault(&node.failingMetadata))
        case .initialiseActivityLog:
            let bytes = ActivityLogTransaction.initialisedBlock()
            let blocks = (0..<node.metadata.logBlocks).map { (block: node.metadata.logBlock($0), bytes: bytes) }
            begin(.metadata(blocks, durable: false), node, fails: takeFault(&node.failingMetadata))
        case .flushMetadata:
            begin(
                .flushMetadata, node, dataFlush: scenario.sharesCache ? node.data.beginFlush() : nil,
                metadataFlush: node.metadata.beginFlush())
        default: break
        }
    }

    private func takeFault(_ count: inout Int) -> Bool {
        guard count > 0, !isHealing else { return false }
        count -= 1
        return true
    }

    private func begin(
        _ kind: DiskOperation.Kind, _ node: SimNode, fails: Bool = false, dataFlush: DataDisk.Capture? = nil,
        metadataFlush: [(Int, [UInt8])]? = nil
    ) {
        var operation = DiskOperation(kind: kind, life: node.life)
        operation.dataFlush = dataFlush
        operation.metadataFlush = metadataFlush
        operation.isFlushed = dataFlush == nil && metadataFlush == nil
        operation.fails = fails || node.isAbandoned
        let index = node.add(operation)
        queue.add(.disk(node: node.index, operation: index), at: now + diskDelay())
    }

    private func diskDelay() -> TimeSpan {
        scenario.slowDisk
            ? random.delay(.milliseconds(1), .milliseconds(60))
            : random.delay(TimeSpan(nanoseconds: 20_000), .milliseconds(4))
    }

    func diskMoves(_ node: SimNode, _ index: Int) {
        guard index < node.operations.count, var operation = node.operations[index], operation.life == node.life else { return }
        if let until = node.hangsUntil, now < until, !isHealing, !node.isAbandoned {
            return queue.add(.disk(node: node.index, operation: index), at: until + diskDelay())
        }
        if !operation.isFlushed {
            // A disk that has been given up has its cache all the same.
            let loses = if case .flush = operation.kind { operation.fails && !node.isAbandoned } else { false }
            if let capture = operation.dataFlush {
                if loses { node.data.failFlush(capture, random: &random) } else { node.data.endFlush(capture) }
            }
            if let capture = operation.metadataFlush, !loses {
                node.metadata.endFlush(capture)
                if !capture.isEmpty { metadataBecameStable(node, capture.map(\.0)) }
            }
            operation.isFlushed = true
            node.operations[index] = operation
            switch operation.kind {
            case .flush, .flushMetadata: break
            default: return queue.add(.disk(node: node.index, operation: index), at: now + diskDelay())
            }
        }
        node.remove(index)
        finish(operation, node)
        if node.running == 0, node.isClosing { closed(node) }
    }

    private func finish(_ operation: DiskOperation, _ node: SimNode) {
        let error = operation.fails ? DiskError(5) : nil
        switch operation.kind {
        case .open: open(node)
        case .read(let tag, let range):
            if operation.fails {
                step(node, .diskReadFinished(tag, nil, error))
            } else {
                step(node, .diskReadFinished(tag, node.lease(node.data.read(range)), nil))
            }
        case .write(let tag, let range, let stamps, let durable):
            if operation.fails {
                node.data.tear(range, stamps, random: &random)
            } else {
                node.data.write(range, stamps, durable: durable, random: &random)
                if let stamps { node.noteWritten(stamps) }
            }
            step(node, .diskWriteFinished(tag, error))
        case .flush(let tag): step(node, .diskFlushFinished(Self.volume, tag, error))
        case .metadata(let blocks, let durable):
            if !operation.fails {
                for (block, bytes) in blocks { node.metadata.write(block, bytes, durable: durable) }
                if durable { metadataBecameStable(node, blocks.map(\.block)) }
            }
            step(node, .metadataWritten(Self.volume, error))
        case .flushMetadata: step(node, .metadataWritten(Self.volume, error))
        }
    }

    private func open(_ node: SimNode) {
        if node.data.loseWhatFailed() { cacheIsLost(node) }
        // `check-resize`: metadata that is not where it should be may be where it was.
        node.metadata = node.inForce
        node.metadataBefore = nil
        loadStableLog(node)
        step(
            node,
            .diskOpened(
                Self.volume,
                DiskImage(
                    dataDeviceSectors: node.capacity, metadataDeviceSectors: node.metadataCapacity,
                    superblock: node.metadata.current[0], activityLog: node.metadata.ring,
                    bitmap: node.metadata.bitmap)))
    }

    /// A disk that does not answer for a while; the node notices if it looks for that.
    func hang(_ node: SimNode, _ span: TimeSpan) {
        node.hangsUntil = now + span
        let timeout = TimeSpan.deciseconds(scenario.disk.diskTimeout)
        if scenario.disk.diskTimeout > 0, timeout < span, node.isRunning { later(node, .diskTimedOut(Self.volume), after: timeout) }
    }

    /// Whatever of it reached the disk, all that is under way has failed. The real ones would come back before the disk can
    /// be opened again.
    private func abandonDisk(_ node: SimNode) {
        abandonOperations(node)
        node.isAbandoned = true
        let error = DiskError(110)
        for index in node.operations.indices {
            guard let operation = node.operations[index], operation.life == node.life else { continue }
            let event: Event
            switch operation.kind {
            case .open: continue
            case .read(let tag, _): event = .diskReadFinished(tag, nil, error)
            case .write(let tag, _, _, _): event = .diskWriteFinished(tag, error)
            case .flush(let tag): event = .diskFlushFinished(Self.volume, tag, error)
            case .metadata, .flushMetadata: event = .metadataWritten(Self.volume, error)
            }
            node.remove(index)
            later(node, event, after: .milliseconds(0))
        }
    }

    func closed(_ node: SimNode) {
        node.isClosing = false
        node.isAbandoned = false
        later(node, .diskClosed(Self.volume), after: .milliseconds(0))
    }

    /// What of the unfinished operations reached the disks when nobody waits for them any more.
    func abandonOperations(_ node: SimNode) {
        for index in node.operations.indices {
            guard let operation = node.operations[index], operation.life == node.life else { continue }
            if !operation.isFlushed {
                guard random.chance(50) else { continue }
                if let capture = operation.dataFlush { node.data.endFlush(capture) }
                if let capture = operation.metadataFlush { node.metadata.endFlush(capture) }
            }
            switch operation.kind {
            case .write(_, let range, let stamps, _): node.data.tear(range, stamps, random: &random)
            case .metadata(let blocks, _):
                for (block, bytes) in blocks { node.metadata.tear(block, bytes, random: &random) }
            case .open, .read, .flush, .flushMetadata: break
            }
        }
    }
}
