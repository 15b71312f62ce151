/// Events as lines of a recording, and back. Whatever the core is told can be told again.
extension Event {
    /// - Parameters:
    ///   - format: of packets at that moment, for `packetReceived`.
    ///   - resource: named by commands.
    ///
    /// A shared secret is replaced: its only use, the HMAC, comes back as an event of its own.
    package func recorded(format: WireFormat, resource: String) -> String {
        var line = RecordWriter()
        write(&line, format, resource)
        return line.line
    }

    private func write(_ line: inout RecordWriter, _ format: WireFormat, _ resource: String) {
        switch self {
        case .clockAdvanced: line.word("clock")
        case .commandReceived(let id, let command):
            line.word("command")
            line.number(id.value)
            line.text(command.withoutSecret.line(resource: resource))
        case .neighboursChanged(let minors):
            line.named("neighbours", minors.count)
            for minor in minors { line.neighbour(minor) }
        case .waitAbandoned(let id): line.named("abandoned", id.value)
        case .handlerFinished(let id, let status):
            line.named("handler", id.value)
            line.optional(status) { $0.number($1) }
        case .challengeMade(let bytes):
            line.word("challenge")
            line.bytes(bytes)
        case .hmacComputed(let purpose, let digest):
            line.word("hmac")
            line.flag(purpose == .response)
            line.optional(digest) { $0.bytes($1) }
        case .exportOpened(let volume): line.named("opened", volume.value)
        case .exportClosed(let volume): line.named("closed", volume.value)
        case .readRequested(let id, let volume, let range): line.request("read", id, volume, range)
        case .writeRequested(let id, let volume, let range, let buffer, let fua):
            line.request("write", id, volume, range)
            line.number(buffer.value)
            line.flag(fua)
        case .discardRequested(let id, let volume, let range, let kind):
            line.request("discard", id, volume, range)
            line.number(kind.rawValue)
        case .flushRequested(let id, let volume):
            line.word("flush")
            line.request(id)
            line.number(volume.value)
        case .diskReadFinished(let tag, let buffer, let error):
            line.word("disk-read")
            line.tag(tag)
            line.optional(buffer) { $0.number($1.value) }
            line.error(error)
        case .diskWriteFinished(let tag, let error):
            line.word("disk-write")
            line.tag(tag)
            line.error(error)
        case .blockExamined(let id, let matches):
            line.named("examined", id.index)
            line.number(id.generation)
            line.flag(matches)
        case .diskFlushFinished(let volume, let tag, let error):
            line.named("disk-flush", volume.value)
            line.tag(tag)
            line.error(error)
        case .diskOpened(let volume, let image):
            line.named("disk-opened", volume.value)
            line.image(image)
        case .diskOpenFailed(let volume, let code, let detail):
            line.named("disk-open-failed", volume.value)
            line.number(code)
            line.text(detail)
        case .diskClosed(let volume): line.named("disk-closed", volume.value)
        case .diskTimedOut(let volume): line.named("disk-timed-out", volume.value)
        case .metadataWritten(let volume, let error):
            line.named("metadata", volume.value)
            line.error(error)
        case .diskMeasured(let volume, let capacity):
            line.named("disk-measured", volume.value)
            line.optional(capacity) {
                $0.number($1.dataDeviceSectors)
                $0.number($1.metadataDeviceSectors)
            }
        case .outgoingConnected(let socket): line.named("connected", socket.value)
        case .outgoingFailed(let fatal, let detail):
            line.word("connect-failed")
            line.flag(fatal)
            line.text(detail)
        case .listenFailed(let detail):
            line.word("listen-failed")
            line.text(detail)
        case .incomingAccepted(let socket): line.named("accepted", socket.value)
        case .markerReceived(let socket, let kind):
            line.named("marker", socket.value)
            line.optional(kind) { $0.number($1.rawValue) }
        case .socketFailed(let socket, let failure):
            line.named("socket-failed", socket.value)
            line.failure(failure)
        case .writeHandedToNetwork(let id):
            line.word("handed")
            line.request(id)
        case .sendStalled(let kind): line.named("stalled", kind.rawValue)
        case .packetReceived(let kind, let volume, let packet, let payload):
            line.named("packet", kind.rawValue)
            line.number(volume.value)
            line.packet(packet, format)
            line.optional(payload) { $0.number($1.value) }
        }
    }

    /// Nil if the line is none of ours.
    package init?(recorded text: Substring, format: WireFormat, resource: String) {
        var line = RecordReader(text)
        guard let event = Self.read(&line, format, resource), line.isAtEnd else { return nil }
        self = event
    }

    private static func read(_ line: inout RecordReader, _ format: WireFormat, _ resource: String) -> Event? {
        switch line.word() {
        case "clock": return .clockAdvanced
        case "command":
            guard let id: UInt64 = line.number(), let text = line.text(),
                let command = try? ControlCommand(parsing: text, resource: resource)
            else { return nil }
            return .commandReceived(CommandID(id), command)
        case "neighbours":
            guard let count: Int = line.number() else { return nil }
            var minors: [NeighbourMinor] = []
            while minors.count < count {
                guard let minor = line.neighbour() else { return nil }
                minors.append(minor)
            }
            return .neighboursChanged(minors)
        case "abandoned": return line.number().map { .waitAbandoned(CommandID($0)) }
        case "handler":
            guard let id: UInt32 = line.number(), let status: Int32? = line.optional({ $0.number() }) else { return nil }
            return .handlerFinished(HandlerID(id), status: status)
        case "challenge": return line.bytes().map { .challengeMade($0) }
        case "hmac":
            guard let isResponse = line.flag(), let digest = line.optional({ $0.bytes() }) else { return nil }
            return .hmacComputed(isResponse ? .response : .expectation, digest)
        case "opened": return line.number().map { .exportOpened(VolumeNumber($0)) }
        case "closed": return line.number().map { .exportClosed(VolumeNumber($0)) }
        case "read":
            guard let (id, volume, range) = line.requested() else { return nil }
            return .readRequested(id, volume, range)
        case "write":
            guard let (id, volume, range) = line.requested(), let buffer: UInt32 = line.number(), let fua = line.flag() else { return nil }
            return .writeRequested(id, volume, range, BufferSlot(buffer), fua: fua)
        case "discard":
            guard let (id, volume, range) = line.requested(), let kind = line.number().flatMap({ DiscardKind(rawValue: $0) })
            else { return nil }
            return .discardRequested(id, volume, range, kind)
        case "flush":
            guard let id = line.request(), let volume = line.volume() else { return nil }
            return .flushRequested(id, volume)
        case "disk-read":
            guard let tag = line.diskTag(), let buffer: UInt32? = line.optional({ $0.number() }), let error = line.diskError()
            else { return nil }
            return .diskReadFinished(tag, buffer.map { BufferSlot($0) }, error)
        case "disk-write":
            guard let tag = line.diskTag(), let error = line.diskError() else { return nil }
            return .diskWriteFinished(tag, error)
        case "examined":
            guard let index: UInt32 = line.number(), let generation: UInt32 = line.number(), let matches = line.flag() else { return nil }
            return .blockExamined(PeerRequestID(index: index, generation: generation), matches: matches)
        case "disk-flush":
            guard let volume = line.volume(), let tag = line.flushTag(), let error = line.diskError() else { return nil }
            return .diskFlushFinished(volume, tag, error)
        case "disk-opened":
            guard let volume = line.volume(), let image = line.image() else { return nil }
            return .diskOpened(volume, image)
        case "disk-open-failed":
            guard let volume = line.volume(), let code: Int32 = line.number(), let detail = line.text() else { return nil }
            return .diskOpenFailed(volume, code: code, detail: detail)
        case "disk-closed": return line.volume().map { .diskClosed($0) }
        case "disk-timed-out": return line.volume().map { .diskTimedOut($0) }
        case "metadata":
            guard let volume = line.volume(), let error = line.diskError() else { return nil }
            return .metadataWritten(volume, error)
        case "disk-measured":
            guard let volume = line.volume(),
                let capacity: DiskCapacity? = line.optional({ line in
                    guard let data: UInt64 = line.number(), let metadata: UInt64 = line.number() else { return nil }
                    return DiskCapacity(dataDeviceSectors: data, metadataDeviceSectors: metadata)
                })
            else { return nil }
            return .diskMeasured(volume, capacity)
        case "connected": return line.number().map { .outgoingConnected(SocketID($0)) }
        case "connect-failed":
            guard let fatal = line.flag(), let detail = line.text() else { return nil }
            return .outgoingFailed(fatal: fatal, detail: detail)
        case "listen-failed": return line.text().map { .listenFailed(detail: $0) }
        case "accepted": return line.number().map { .incomingAccepted(SocketID($0)) }
        case "marker":
            guard let socket: UInt32 = line.number(), let kind = line.optional({ $0.stream() }) else { return nil }
            return .markerReceived(SocketID(socket), kind)
        case "socket-failed":
            guard let socket: UInt32 = line.number(), let failure = line.failure() else { return nil }
            return .socketFailed(SocketID(socket), failure)
        case "handed": return line.request().map { .writeHandedToNetwork($0) }
        case "stalled": return line.stream().map { .sendStalled($0) }
        case "packet":
            guard let kind = line.stream(), let volume = line.volume(), let packet = line.packet(kind, format),
                let payload: UInt32? = line.optional({ $0.number() })
            else { return nil }
            return .packetReceived(kind, volume, packet, payload: payload.map { BufferSlot($0) })
        default: return nil
        }
    }
}

extension ControlCommand {
    fileprivate var withoutSecret: ControlCommand {
        switch self {
        case .connect(let configuration): return .connect(configuration.withoutSecret)
        case .netOptions(var options):
            if !options.sharedSecret.isEmpty { options.sharedSecret = "secret" }
            return .netOptions(options)
        default: return self
        }
    }
}

extension ConnectionConfiguration {
    fileprivate var withoutSecret: ConnectionConfiguration {
        var configuration = self
        if !options.sharedSecret.isEmpty { configuration.options.sharedSecret = "secret" }
        return configuration
    }
}

extension Effect {
    /// For recordings: as Swift describes it, without secrets and keys.
    package var recorded: String {
        switch self {
        case .computeHMAC(let purpose, let algorithm, _, let message):
            "computeHMAC(\(purpose), \(algorithm), \(message.count) bytes)"
        case .listen(let configuration): "\(Effect.listen(configuration.withoutSecret))"
        case .connectToPeer(let configuration): "\(Effect.connectToPeer(configuration.withoutSecret))"
        default: "\(self)"
        }
    }
}
