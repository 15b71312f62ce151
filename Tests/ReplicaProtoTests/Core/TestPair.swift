@testable import ReplicaProto

/// Two cores and the streams between them: what one sends the other receives, in order, when `exchange` is called.
final class TestPair {
    let a: TestNode
    let b: TestNode
    /// Whether streams exist.
    var isLinked = false
    private var nextSocket: UInt32 = 1
    /// Packets are encoded and decoded on their way.
    var travelsAsBytes = false
    /// What was wrong with the bytes.
    var problems: [String] = []

    init(seed: UInt64 = 1, sectors: UInt64 = 65_536) {
        a = TestNode("alice", seed: seed, sectors: sectors)
        b = TestNode("bob", seed: seed + 100, sectors: sectors)
    }

    /// `up` on both: attached, connected, first handshake done.
    func up(_ net: NetOptions = NetOptions(), _ disk: DiskOptions = DiskOptions()) {
        _ = a.attach(disk)
        _ = b.attach(disk)
        _ = a.connect(net)
        _ = b.connect(net)
        link()
    }

    /// Gives both nodes their two streams: A initiated data, B initiated meta (so A holds the resolver flag).
    /// With `until`, delivery stops before the first packet that it is true for.
    func link(until stops: ((Packet) -> Bool)? = nil) {
        isLinked = true
        a.sent = []
        b.sent = []
        let first = SocketID(nextSocket)
        let second = SocketID(nextSocket + 1)
        nextSocket += 2
        a.feed(.outgoingConnected(first))
        b.feed(.incomingAccepted(first))
        b.feed(.markerReceived(first, .data))
        b.feed(.outgoingConnected(second))
        a.feed(.incomingAccepted(second))
        a.feed(.markerReceived(second, .meta))
        pass(.milliseconds(600), until: stops)
        exchange(until: stops)
    }

    /// The cable is cut: both see their streams end.
    func cut() {
        isLinked = false
        a.sent = []
        b.sent = []
        let data = SocketID(nextSocket - 2)
        let meta = SocketID(nextSocket - 1)
        a.feed(.socketFailed(data, .endOfFile))
        a.feed(.socketFailed(meta, .endOfFile))
        b.feed(.socketFailed(data, .endOfFile))
        b.feed(.socketFailed(meta, .endOfFile))
        a.sent = []
        b.sent = []
    }

    /// One node vanishes without a word; the other sees its streams end.
    func lose(_ dead: TestNode) {
        isLinked = false
        let survivor = dead === a ? b : a
        a.sent = []
        b.sent = []
        survivor.feed(.socketFailed(SocketID(nextSocket - 2), .endOfFile))
        survivor.feed(.socketFailed(SocketID(nextSocket - 1), .endOfFile))
        survivor.sent = []
    }

    /// Delivers everything that is on its way until nothing moves, or until a packet is next that `stops` is true for:
    /// nothing more arrives anywhere then.
    func exchange(until stops: ((Packet) -> Bool)? = nil) {
        while isLinked, !a.sent.isEmpty || !b.sent.isEmpty {
            let fromA = a.sent
            let fromB = b.sent
            a.sent = []
            b.sent = []
            for message in fromA {
                if stops?(message.packet) ?? false { return isLinked = false }
                carry(message, from: a, to: b)
            }
            for message in fromB {
                if stops?(message.packet) ?? false { return isLinked = false }
                carry(message, from: b, to: a)
            }
        }
    }

    func carry(
        _ message: (stream: StreamKind, volume: VolumeNumber, packet: Packet, payload: [UInt64]?), from: TestNode, to: TestNode
    ) {
        var packet = message.packet
        if travelsAsBytes {
            guard let decoded = recoded(message.stream, packet, payloadSectors: message.payload?.count ?? 0, from.format, to.format)
            else { return }
            packet = decoded
        }
        to.receive(message.stream, message.volume, packet, message.payload)
    }

    /// As the receiver reads what the sender writes, if the agreement allows it.
    private func recoded(
        _ stream: StreamKind, _ packet: Packet, payloadSectors: Int, _ written: WireFormat, _ read: WireFormat
    ) -> Packet? {
        let isFirst = packet.command(in: .initial) == .connectionFeatures
        let (written, read) = isFirst ? (.initial, .initial) : (written, read)
        if !isFirst, written != read { problems.append("\(packet): \(written) is read as \(read)") }
        if !isFirst, !packet.command(in: written).shape.isAvailable(in: written) {
            problems.append("\(packet) is not for version \(written.version)")
        }
        let isBulk = payloadSectors > 0 && !packet.isBitmap
        let most = written.version < 95 ? 64 : written.version < 100 ? 256 : 2048
        if isBulk, payloadSectors > most { problems.append("\(packet) is too large for version \(written.version)") }
        let bytes = WireTest.encode(packet, payloadLength: isBulk ? payloadSectors * 512 : 0, format: written)
        do {
            guard let (header, decoded) = try WireTest.decode(bytes, stream: stream, format: read) else {
                problems.append("\(packet) is cut short")
                return nil
            }
            if header.payloadLength != (isBulk ? payloadSectors * 512 : 0) { problems.append("\(packet): payload \(header.payloadLength)") }
            return decoded
        } catch {
            problems.append("\(packet): \(error)")
            return nil
        }
    }

    /// Delivers one packet, of whichever node has one.
    func deliverOne() {
        if !a.sent.isEmpty {
            let message = a.sent.removeFirst()
            carry(message, from: a, to: b)
        } else if !b.sent.isEmpty {
            let message = b.sent.removeFirst()
            carry(message, from: b, to: a)
        }
    }

    func pass(_ span: TimeSpan, until stops: ((Packet) -> Bool)? = nil) {
        let end = a.now + span
        a.advance(to: end)
        b.advance(to: end)
        exchange(until: stops)
    }

    /// Lets time pass in steps of 100 ms until both disks are up to date.
    func synchronise(limit: Int = 5000) -> Bool {
        for _ in 0..<limit {
            if a.state.connection == .connected, b.state.connection == .connected, a.state.disk == .upToDate,
                b.state.disk == .upToDate, a.state.peerDisk == .upToDate, b.state.peerDisk == .upToDate
            {
                return true
            }
            pass(.milliseconds(100))
        }
        return false
    }
}
