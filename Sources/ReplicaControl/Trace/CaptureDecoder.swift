import ReplicaProto

/// The DRBD packets of a capture as lines: TCP streams put together again, headers and features by what their beginning
/// agreed upon.
struct CaptureDecoder {
    /// One direction of one TCP connection.
    private struct Flow {
        var source: String
        var target: String
        /// The sequence number that is due.
        var next: UInt32?
        /// Segments that came too early.
        var early: [UInt32: ArraySlice<UInt8>] = [:]
        var printer: PacketStreamPrinter?
        /// Bytes before the kind of stream is known; then the first of them, for the features.
        var beginning: [UInt8] = []
        var features: ConnectionFeatures?
        var isForeign = false
    }

    private var flows: [Flow] = []
    private var agreements: [(hosts: String, format: WireFormat)] = []
    private(set) var packets = 0
    /// Streams that stopped making sense, or never did.
    private(set) var malformed: [String] = []

    /// What holds where no handshake was captured.
    private static let latest = WireFormat(version: 101, features: .all)
    /// A marker and P_CONNECTION_FEATURES.
    private static let beginningBytes = 8 + 8 + 80

    mutating func take(_ segment: CapturedSegment, print: (String) -> Void) {
        let index = flow(segment)
        if segment.startsStream {
            flows[index] = Flow(source: segment.source, target: segment.target, next: segment.sequence &+ 1)
            return
        }
        var sequence = segment.sequence
        var data = segment.data
        let due = flows[index].next ?? sequence
        let ahead = Int32(bitPattern: sequence &- due)
        if ahead > 0 {
            flows[index].early[sequence] = data
            return
        }
        if ahead < 0 {
            data = data.dropFirst(Int(-Int64(ahead)))
            sequence = due
        }
        while !data.isEmpty {
            feed(index, data, segment.nanoseconds, print)
            sequence &+= UInt32(data.count)
            flows[index].next = sequence
            data = flows[index].early.removeValue(forKey: sequence) ?? []
        }
    }

    private mutating func flow(_ segment: CapturedSegment) -> Int {
        if let index = flows.firstIndex(where: { $0.source == segment.source && $0.target == segment.target }) {
            return index
        }
        flows.append(Flow(source: segment.source, target: segment.target))
        return flows.count - 1
    }

    private mutating func feed(_ index: Int, _ data: ArraySlice<UInt8>, _ time: UInt64, _ print: (String) -> Void) {
        if flows[index].isForeign { return }
        var data = data
        if flows[index].beginning.count < Self.beginningBytes {
            flows[index].beginning += data.prefix(Self.beginningBytes - flows[index].beginning.count)
            noteFeatures(index)
        }
        if flows[index].printer == nil {
            guard flows[index].beginning.count >= PacketHeader.maximumSize || isMarked(index) else { return }
            guard let kind = kind(index) else {
                flows[index].isForeign = true
                return
            }
            flows[index].printer = PacketStreamPrinter(stream: kind, format: format(index))
            if flows[index].beginning.count > data.count { data = flows[index].beginning[...] }
        }
        guard var printer = flows[index].printer, printer.error == nil else { return }
        let integrity = printer.format.peerIntegrity
        printer.format = format(index)
        printer.format.peerIntegrity = integrity
        var lines: [String] = []
        let bytes = Array(data)
        printer.feed(bytes.span.bytes, into: &lines)
        flows[index].printer = printer
        let head = "\(TraceCommand.timeOfDay(time)) \(flows[index].source) > \(flows[index].target) "
        for line in lines { print(head + line) }
        packets += lines.count
        if let error = printer.error {
            packets -= 1
            malformed.append("\(flows[index].source) > \(flows[index].target): \(error) at byte \(printer.offset)")
        }
    }

    // MARK: What kind of stream

    private func isMarked(_ index: Int) -> Bool { marker(index) != nil }

    private func marker(_ index: Int) -> StreamKind? {
        let bytes = flows[index].beginning
        return PacketHeader.marker(bytes.span.bytes)
    }

    private func reverse(_ index: Int) -> Int? {
        flows.firstIndex { $0.source == flows[index].target && $0.target == flows[index].source }
    }

    private func kind(_ index: Int) -> StreamKind? {
        if let kind = marker(index) { return kind }
        if let back = reverse(index), let kind = marker(back) { return kind }
        let bytes = flows[index].beginning
        let magic = bytes.span.bytes.readBE32(at: 0)
        let isOurs = magic == PacketHeader.magic80 || magic == PacketHeader.magic100 || magic >> 16 == UInt32(PacketHeader.magic95)
        guard isOurs else { return nil }
        for kind in [StreamKind.data, .meta] {
            for format in [format(index), .initial] {
                if (try? PacketHeader.decode(bytes.span.bytes, stream: kind, format: format)) != nil { return kind }
            }
        }
        return nil
    }

    // MARK: What was agreed

    private mutating func noteFeatures(_ index: Int) {
        let bytes = flows[index].beginning
        let start = isMarked(index) ? PacketHeader.markerSize : 0
        guard flows[index].features == nil, bytes.count >= start + 16 else { return }
        let rest = Array(bytes[start...])
        guard let header = try? PacketHeader.decode(rest.span.bytes, stream: .data, format: .initial),
            rest.count >= header.headerSize + header.fixedLength,
            case .connectionFeatures(let features)? = try? Packet.decode(
                header, body: rest.span.bytes.extracting(header.headerSize...), format: .initial)
        else { return }
        flows[index].features = features
        guard let back = reverse(index), let other = flows[back].features else { return }
        let version = min(features.maximumVersion, other.maximumVersion)
        let agreement = WireFormat(
            version: version == 0 ? 86 : version, features: features.flags.intersection(other.flags))
        let hosts = hosts(index)
        agreements.removeAll { $0.hosts == hosts }
        agreements.append((hosts, agreement))
    }

    private func format(_ index: Int) -> WireFormat {
        let hosts = hosts(index)
        if let agreed = agreements.first(where: { $0.hosts == hosts })?.format { return agreed }
        let bytes = flows[index].beginning
        guard bytes.count >= 8, !isMarked(index), bytes.span.bytes.readBE32(at: 0) != PacketHeader.magic100 else { return Self.latest }
        // Features alone come in a header80, too.
        return bytes.span.bytes.readBE16(at: 4) == PacketCommand.connectionFeatures.rawValue
            ? Self.latest : WireFormat(version: 99, features: [])
    }

    /// Both hosts without ports, in one order for both directions.
    private func hosts(_ index: Int) -> String {
        func host(_ endpoint: String) -> Substring { endpoint[..<(endpoint.lastIndex(of: ":") ?? endpoint.endIndex)] }
        return [host(flows[index].source), host(flows[index].target)].sorted().joined(separator: " ")
    }
}
