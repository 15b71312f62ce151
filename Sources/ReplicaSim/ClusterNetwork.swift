import ReplicaProto

/// What the network does, and when.
extension Cluster {
    private func latency() -> TimeSpan {
        scenario.slowNetwork
            ? random.delay(.milliseconds(2), .milliseconds(80))
            : random.delay(TimeSpan(nanoseconds: 30_000), .milliseconds(3))
    }

    func attemptConnection(_ node: SimNode) {
        let other = peer(of: node)
        if networkIsParted || !other.hasPower {
            return later(
                node, .outgoingFailed(fatal: false, detail: "timed out"), after: .seconds(scenario.net.connectInterval))
        }
        guard other.isRunning, other.isListening else {
            return later(node, .outgoingFailed(fatal: false, detail: "refused"), after: latency())
        }
        let outgoing = SocketID(nextSocket)
        let incoming = SocketID(nextSocket + 1)
        nextSocket += 2
        let stream = streams.count
        streams.append(
            SimStream(
                initiator: SimStream.End(node: node.index, life: node.life, socket: outgoing),
                acceptor: SimStream.End(node: other.index, life: other.life, socket: incoming)))
        node.sockets.append((outgoing, stream, false))
        other.sockets.append((incoming, stream, true))
        trace { "network: stream \(stream) from \(node.name), \(outgoing.value) to \(incoming.value)" }
        let delay = latency()
        later(other, .incomingAccepted(incoming), after: delay)
        streams[stream].toAcceptor.lastArrival = (now + delay).nanoseconds
        streams[stream].toInitiator.lastArrival = (now + delay).nanoseconds
        step(node, .outgoingConnected(outgoing))
    }

    private func socket(_ node: SimNode, _ socket: SocketID) -> (stream: Int, isAcceptor: Bool)? {
        for entry in node.sockets where entry.socket == socket { return (entry.stream, entry.isAcceptor) }
        return nil
    }

    func sendMarker(_ node: SimNode, _ socket: SocketID, _ kind: StreamKind) {
        guard let (stream, isAcceptor) = self.socket(node, socket) else { return }
        enqueue(.marker(kind), stream, toAcceptor: !isAcceptor)
    }

    func useSocket(_ node: SimNode, _ socket: SocketID, _ kind: StreamKind) {
        guard let (stream, isAcceptor) = self.socket(node, socket) else { return }
        if isAcceptor { streams[stream].acceptor.kind = kind } else { streams[stream].initiator.kind = kind }
        if kind == .data { node.dataStream = (stream, isAcceptor) } else { node.metaStream = (stream, isAcceptor) }
        queue.add(.deliver(stream: stream, toAcceptor: isAcceptor), at: now)
    }

    func sendPart(_ node: SimNode, _ volume: VolumeNumber, _ packet: Packet, _ payload: BufferSlot, offset: Int) {
        guard let found = node.stamps(payload), case .data(let head) = packet else {
            return fail("\(node.name) sends buffer \(payload.value), which it does not own")
        }
        guard let (stream, isAcceptor) = node.dataStream else { return }
        let stamps = Array(found[offset..<offset + Int(head.range.count)])
        enqueue(.packet(.data, volume, packet, stamps), stream, toAcceptor: !isAcceptor)
    }

    func send(_ node: SimNode, _ kind: StreamKind, _ volume: VolumeNumber, _ packet: Packet, _ payload: BufferSlot?) {
        var stamps: [UInt32]?
        if let payload {
            guard let found = node.stamps(payload) else {
                return fail("\(node.name) sends buffer \(payload.value), which it does not own")
            }
            stamps = found
            // The first of several pieces.
            if case .data(let head) = packet, Int(head.range.count) < found.count { stamps = Array(found.prefix(Int(head.range.count))) }
        } else if case .data(let head) = packet {
            // Zeroes that no buffer holds.
            stamps = Array(repeating: 0, count: Int(head.range.count))
        } else if case .verifyReply = packet {
            // The digest of what could not be read is that of nothing. Otherwise a block stands for its own digest.
            stamps = []
        }
        guard let (stream, isAcceptor) = kind == .data ? node.dataStream : node.metaStream else { return }
        enqueue(.packet(kind, volume, packet, stamps), stream, toAcceptor: !isAcceptor)
    }

    private func enqueue(_ message: SimMessage, _ stream: Int, toAcceptor: Bool) {
        watch(stream, toAcceptor: toAcceptor)
        guard !streams[stream].isDead else { return }
        let arrival = max(
            streams[stream][toAcceptor: toAcceptor].lastArrival + 1, (now + latency()).nanoseconds,
            streams[stream][toAcceptor: toAcceptor].stalledUntil)
        streams[stream][toAcceptor: toAcceptor].append(message, arrival: arrival)
        if !streams[stream][toAcceptor: toAcceptor].isHeld {
            queue.add(.deliver(stream: stream, toAcceptor: toAcceptor), at: Instant(nanoseconds: arrival))
        }
    }

    /// Nothing that a stream swallows is ever confirmed: the sender's kernel repeats it for a while, and gives up.
    private func watch(_ stream: Int, toAcceptor: Bool) {
        guard streams[stream].isDead || streams[stream][toAcceptor: toAcceptor].isHeld,
            !streams[stream][toAcceptor: toAcceptor].isWatched
        else { return }
        streams[stream][toAcceptor: toAcceptor].isWatched = true
        queue.add(
            .retransmissionFails(stream: stream, toAcceptor: toAcceptor),
            at: now + random.delay(.seconds(20), .seconds(120)))
    }

    /// What is under way when a stream goes silent is not confirmed either.
    private func watchUnderWay(_ stream: Int) {
        for toAcceptor in [true, false] where streams[stream][toAcceptor: toAcceptor].count > 0 {
            watch(stream, toAcceptor: toAcceptor)
        }
    }

    /// The sender's kernel gives up a stream that swallows everything.
    func retransmissionFails(_ stream: Int, toAcceptor: Bool) {
        streams[stream][toAcceptor: toAcceptor].isWatched = false
        guard streams[stream].isDead || streams[stream][toAcceptor: toAcceptor].isHeld else { return }
        let end = streams[stream].end(atAcceptor: !toAcceptor)
        guard end.isOpen, nodes[end.node].life == end.life else { return }
        step(nodes[end.node], .socketFailed(end.socket, .error(110)))
    }

    /// All that has arrived and that somebody reads.
    func deliver(_ stream: Int, toAcceptor: Bool) {
        while violation == nil, !streams[stream].isDead, !streams[stream][toAcceptor: toAcceptor].isHeld,
            let (arrival, message) = streams[stream][toAcceptor: toAcceptor].first, arrival <= now.nanoseconds
        {
            let end = streams[stream].end(atAcceptor: toAcceptor)
            let node = nodes[end.node]
            guard node.life == end.life, end.isOpen else {
                streams[stream][toAcceptor: toAcceptor].removeFirst()
                if !node.hasPower || node.life == end.life { continue }
                // Nobody knows this stream any more: a reset.
                switch message {
                case .end: break
                case .marker, .packet: enqueue(.end(.error(104)), stream, toAcceptor: !toAcceptor)
                }
                continue
            }
            switch message {
            case .marker(let kind):
                streams[stream][toAcceptor: toAcceptor].removeFirst()
                step(node, .markerReceived(end.socket, kind))
            case .end(let failure):
                streams[stream][toAcceptor: toAcceptor].removeFirst()
                step(node, .socketFailed(end.socket, failure))
            case .packet(let kind, let volume, let packet, let stamps):
                guard end.kind == kind else { return }
                streams[stream][toAcceptor: toAcceptor].removeFirst()
                let slot = stamps.map { node.lease($0) }
                step(node, .packetReceived(kind, volume, packet, payload: slot))
            }
        }
    }

    func closeSocket(_ node: SimNode, _ socket: SocketID) {
        guard let position = node.sockets.firstIndex(where: { $0.socket == socket }) else {
            return fail("\(node.name) closes stream \(socket.value), which is not open")
        }
        let (_, stream, isAcceptor) = node.sockets.remove(at: position)
        if node.dataStream?.stream == stream { node.dataStream = nil }
        if node.metaStream?.stream == stream { node.metaStream = nil }
        endGone(stream, isAcceptor: isAcceptor)
    }

    /// One end is closed by its process or by the kernel of a dead one: what it sent may still arrive, or not.
    private func endGone(_ stream: Int, isAcceptor: Bool) {
        if isAcceptor { streams[stream].acceptor.isOpen = false } else { streams[stream].initiator.isOpen = false }
        if random.chance(30) {
            let count = streams[stream][toAcceptor: !isAcceptor].count
            streams[stream][toAcceptor: !isAcceptor].truncate(keeping: count == 0 ? 0 : random.below(count + 1))
            enqueue(.end(.error(104)), stream, toAcceptor: !isAcceptor)
        } else {
            enqueue(.end(.endOfFile), stream, toAcceptor: !isAcceptor)
        }
    }

    /// The process is gone; with the power, nobody is told.
    func dropSockets(_ node: SimNode, silently: Bool) {
        for (_, stream, isAcceptor) in node.sockets {
            if silently {
                let count = streams[stream][toAcceptor: !isAcceptor].count
                streams[stream][toAcceptor: !isAcceptor].truncate(keeping: count == 0 ? 0 : random.below(count + 1))
                if isAcceptor { streams[stream].acceptor.isOpen = false } else { streams[stream].initiator.isOpen = false }
            } else {
                endGone(stream, isAcceptor: isAcceptor)
            }
        }
        node.sockets.removeAll()
    }

    // MARK: Faults

    private var openStreams: [Int] {
        streams.indices.filter { !streams[$0].isDead && (streams[$0].initiator.isOpen || streams[$0].acceptor.isOpen) }
    }

    func breakStream() {
        let open = openStreams
        guard !open.isEmpty else { return }
        let stream = random.pick(open)
        trace { "network: stream \(stream) breaks" }
        let failure: SocketFailure = random.chance(50) ? .endOfFile : .error(104)
        switch random.below(3) {
        case 0:
            // Both notice, each with a part of what was under way.
            for toAcceptor in [true, false] {
                let count = streams[stream][toAcceptor: toAcceptor].count
                streams[stream][toAcceptor: toAcceptor].truncate(keeping: count == 0 ? 0 : random.below(count + 1))
                enqueue(.end(failure), stream, toAcceptor: toAcceptor)
            }
        case 1:
            // Only one notices; the other's packets go nowhere.
            let toAcceptor = random.chance(50)
            enqueue(.end(failure), stream, toAcceptor: toAcceptor)
            streams[stream][toAcceptor: !toAcceptor].isHeld = true
        default:
            streams[stream].isDead = true
        }
        watchUnderWay(stream)
    }

    func stall(_ span: TimeSpan) {
        let open = openStreams
        guard !open.isEmpty else { return }
        let stream = random.pick(open)
        let toAcceptor = random.chance(50)
        trace { "network: stream \(stream) stalls for \(span.nanoseconds / 1_000_000) ms" }
        streams[stream][toAcceptor: toAcceptor].stalledUntil = (now + span).nanoseconds
        let timeout = TimeSpan.deciseconds(scenario.net.timeout)
        let end = streams[stream].end(atAcceptor: !toAcceptor)
        if timeout < span, let kind = end.kind, nodes[end.node].life == end.life {
            later(nodes[end.node], .sendStalled(kind), after: timeout)
        }
    }

    func part() {
        networkIsParted = true
        trace { "network: parted" }
        for stream in openStreams {
            if random.chance(50) {
                streams[stream].isDead = true
            } else {
                streams[stream].toAcceptor.isHeld = true
                streams[stream].toInitiator.isHeld = true
            }
            watchUnderWay(stream)
        }
    }

    func unite() {
        guard networkIsParted else { return }
        networkIsParted = false
        trace { "network: whole" }
        for stream in openStreams {
            for toAcceptor in [true, false] where streams[stream][toAcceptor: toAcceptor].isHeld {
                streams[stream][toAcceptor: toAcceptor].isHeld = false
                let last = streams[stream][toAcceptor: toAcceptor].lastArrival
                queue.add(.deliver(stream: stream, toAcceptor: toAcceptor), at: now)
                queue.add(
                    .deliver(stream: stream, toAcceptor: toAcceptor), at: max(now, Instant(nanoseconds: last)))
            }
        }
    }
}
