import ReplicaProto

/// Clients of the exported device: what they ask for, and whether the answers can be true.
extension Cluster {
    func exportChanged(_ node: SimNode, _ export: ExportState) {
        let served = node.export.isPrimary && node.export.sectors > 0
        node.export = export
        let serves = export.isPrimary && export.sectors > 0
        if serves, !served { openExport(node) }
    }

    /// Clients come, or come back: they had left for a demotion that was refused.
    func openExport(_ node: SimNode) {
        node.exportIsOpen = true
        later(node, .exportOpened(Self.volume), after: .milliseconds(0))
        scheduleClient(node)
    }

    func scheduleClient(_ node: SimNode) {
        queue.add(
            .client(node: node.index, life: node.life),
            at: now + random.delay(TimeSpan(nanoseconds: 1000), isHealing ? .milliseconds(20) : scenario.thinkTime))
    }

    func clientTick(_ node: SimNode) {
        guard node.export.isPrimary, node.exportIsOpen, requestsLeft > 0 else { return }
        if wants(node) || isForked, node.outstanding < scenario.queueDepth { issue(node) }
        scheduleClient(node)
    }

    private func issue(_ node: SimNode) {
        guard let index = node.requests.firstIndex(where: { $0 == nil }) else { return }
        requestsLeft -= 1
        node.generations[index] += 1
        let id = RequestID(index: UInt32(index), generation: node.generations[index])
        var request = ClientRequest(
            id: id, kind: .write, range: SectorRange(0, 0), write: 0, issued: now,
            acknowledgedBefore: acknowledged.count)
        let event: Event
        switch random.below(100) {
        case 0..<25:
            request.kind = .read
            request.range = someRange(node, longest: 64)
            event = .readRequested(id, Self.volume, request.range)
        case 25..<30:
            request.kind = .flush
            event = .flushRequested(id, Self.volume)
        case 30..<35:
            request.kind = .discard
            request.range = someRange(node, longest: 256)
            request.write = nextWrite
            nextWrite += 1
            histories[history(node)].begin(write: request.write, value: 0, request.range, at: now)
            let kind = random.pick([DiscardKind.trim, .zeroMayUnmap, .zeroNoUnmap])
            request.isHint = kind == .trim
            event = .discardRequested(id, Self.volume, request.range, kind)
        default:
            request.range = someRange(node, longest: random.chance(10) ? 256 : 16)
            request.write = nextWrite
            request.isDurable = random.chance(10)
            nextWrite += 1
            histories[history(node)].begin(write: request.write, value: request.write, request.range, at: now)
            let slot = node.lease(Array(repeating: request.write, count: Int(request.range.count)))
            event = .writeRequested(id, Self.volume, request.range, slot, fua: request.isDurable)
        }
        node.requests[index] = request
        node.outstanding += 1
        trace { "client of \(node.name): \(request.kind) \(request.range.start.value)+\(request.range.count) write \(request.write)" }
        step(node, event)
    }

    /// A few places per extent, so that requests meet; often whole blocks, sometimes across the border of two extents.
    private func someRange(_ node: SimNode, longest: Int) -> SectorRange {
        let size = scenario.grows ? node.export.sectors : scenario.sectors
        let extents = (size + ActivityLogExtent.sectors - 1) / ActivityLogExtent.sectors
        let isCrowded = scenario.kind == .twoPrimaries
        let extent = UInt64(random.below(isCrowded ? 2 : Int(extents))) * ActivityLogExtent.sectors
        var start = extent + UInt64(random.below(isCrowded ? 5 : 24)) * 8
        if random.chance(5) { start = extent + ActivityLogExtent.sectors - 8 }
        var count = UInt64(random.between(1, max(1, longest / 8))) * 8
        if random.chance(15) {
            start += UInt64(random.below(8))
            count = UInt64(random.between(1, longest))
        }
        start = min(start, size - 1)
        count = min(count, size - start)
        return SectorRange(start, UInt32(count))
    }

    private var oldestRead: Instant? {
        var oldest: Instant?
        for node in nodes {
            for case let request? in node.requests where request.kind == .read {
                if oldest.map({ request.issued < $0 }) ?? true { oldest = request.issued }
            }
        }
        return oldest
    }

    func reply(_ node: SimNode, _ id: RequestID, _ error: ClientError?, _ data: BufferSlot?) {
        let index = Int(id.index)
        guard index < node.requests.count, let request = node.requests[index], request.id == id else {
            return fail("\(node.name) answers request \(id.index)/\(id.generation), which is not open")
        }
        node.requests[index] = nil
        node.outstanding -= 1
        trace { "client of \(node.name): \(request.kind) write \(request.write) answered \(error.map { "\($0)" } ?? "well")" }
        switch request.kind {
        case .read: readAnswered(node, request, error, data)
        case .write, .discard:
            if error == nil { checkWriteAnswer(node, request) }
            histories[history(node)].end(
                write: request.write, request.range, acknowledged: error == nil && !request.isHint, at: now,
                oldestRead: oldestRead)
            let other = peer(of: node)
            if error == nil, !isForked, state(node)?.disk != .upToDate, let lost = other.lostPowerAt, lost >= request.issued {
                // The acknowledgement of a cache that is gone by now, from the only disk that had it.
                for sector in Int(request.range.start.value)..<Int(request.range.end.value) {
                    histories[0].revive(sector, other.data.current[sector], at: now)
                }
            }
            if error == nil, request.kind == .write { acknowledged.append((request.range, request.write, node.index)) }
        case .flush:
            if error == nil {
                checkDurable(node, upTo: request.acknowledgedBefore)
                lastFlush = max(lastFlush, request.issued)
            }
        }
    }

    private func readAnswered(_ node: SimNode, _ request: ClientRequest, _ error: ClientError?, _ data: BufferSlot?) {
        guard error == nil else {
            if data != nil { fail("\(node.name) answers a failed read with data") }
            return
        }
        guard let data, let stamps = node.stamps(data) else {
            return fail("\(node.name) answers a read without data")
        }
        _ = node.giveBack(data)
        if let wrong = histories[history(node)].check(request.range, stamps, issued: request.issued, at: now) {
            fail("read on \(node.name): \(wrong)")
        }
    }

    /// The node is gone, and nobody will answer: each write may have happened or not.
    func abandonRequests(_ node: SimNode) {
        for index in node.requests.indices {
            guard let request = node.requests[index] else { continue }
            node.requests[index] = nil
            // Beside another primary it may still arrive there.
            if scenario.kind != .twoPrimaries, request.kind == .write || request.kind == .discard {
                histories[history(node)].end(
                    write: request.write, request.range, acknowledged: false, at: now, oldestRead: oldestRead)
            }
        }
        node.outstanding = 0
    }
}
