import CLinux
import CUring
import Glibc
import ReplicaProto

/// All clients of a resource, and the socket they come in by.
struct ClientTable: ~Copyable {
    static let connections = 48
    /// The rest is for the kernel's devices.
    static let socketConnections = 32

    let connections: UnsafeMutablePointer<ClientConnection>
    var requests = Slab<ClientRequest>(capacity: Limits.clientRequests, empty: ClientRequest())
    /// Index = `RequestID.index`.
    var pieces = Slab<ClientPiece>(capacity: Limits.clientRequests, empty: ClientPiece())
    var exports: [(volume: VolumeNumber, state: ExportState)] = []
    var listener: Int32 = -1
    var isAccepting = false
    var anyDirty = false
    /// Connections that may be done once the current step has ended.
    var anyEnding = false
    /// Increases with every record that comes back.
    var returns: UInt64 = 0
    /// `returns` of this table and the pool when waiting connections were last looked at.
    var seenReturns: (UInt64, UInt64) = (0, 0)
    var garbageLogged = false

    init() {
        connections = .allocate(capacity: Self.connections)
        for k in 0..<Self.connections { (connections + k).initialize(to: ClientConnection()) }
    }

    deinit {
        if listener >= 0 { close(listener) }
        for k in 0..<Self.connections {
            if connections[k].descriptor >= 0 { close(connections[k].descriptor) }
            (connections + k).deinitialize(count: 1)
        }
        connections.deallocate()
    }
}

/// Binds and listens on a Unix socket that only its owner may use; a stale file of that name is replaced.
func listenOnUnixSocket(_ path: String) throws(SystemError) -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { throw SystemError(path, ENAMETOOLONG) }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw SystemError.last("socket") }
    unlink(path)
    let mask = umask(0o177)
    let bound = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
    let bindError = errno
    umask(mask)
    guard bound == 0 else {
        close(descriptor)
        throw SystemError("bind \(path)", bindError)
    }
    // Whoever finds the queue of a Unix socket full is not kept waiting but refused.
    guard listen(descriptor, SOMAXCONN) == 0 else {
        let error = SystemError.last("listen \(path)")
        close(descriptor)
        throw error
    }
    return descriptor
}

extension ResourceLoop {
    // MARK: Exports

    mutating func setExport(_ volume: VolumeNumber, _ state: ExportState) {
        clients.exports.removeAll { $0.volume == volume }
        if state.sectors > 0 || state.isPrimary {
            clients.exports.append((volume, state))
            clients.exports.sort { $0.volume < $1.volume }
        }
        for index in 0..<ClientTable.connections where clients.connections[index].volume == volume {
            guard clients.connections[index].phase == .serving else { continue }
            if state.isPrimary {
                clients.connections[index].export.size = state.sectors * Sector.bytes
            } else if !clients.connections[index].isKernel {
                drainClient(index)
            }
        }
        if kernel.isWanted { kernelExportChanged(volume) }
    }

    /// `r0` and the default export are volume 0, `r0/N` is volume N.
    private func volume(named name: String) -> VolumeNumber? {
        if name.isEmpty || name == settings.resource { return VolumeNumber(0) }
        guard name.hasPrefix(settings.resource + "/") else { return nil }
        return UInt16(name.dropFirst(settings.resource.utf8.count + 1)).map { VolumeNumber($0) }
    }

    private func exportName(_ volume: VolumeNumber) -> String {
        volume.value == 0 ? settings.resource : "\(settings.resource)/\(volume.value)"
    }

    // MARK: Accepting

    mutating func armClientAccept() {
        guard clients.listener >= 0, !clients.isAccepting else { return }
        let token = SubmissionToken(.clientAccept, index: 0)
        let entry = ring.entry(token)
        io_uring_prep_accept(entry, clients.listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
        entry.pointee.user_data = token.rawValue
        clients.isAccepting = true
    }

    mutating func clientAccepted(_ result: Int32) {
        clients.isAccepting = false
        if result >= 0 {
            if !isStopping,
                let index = (0..<ClientTable.socketConnections).first(where: { clients.connections[$0].phase == .free })
            {
                let connection = clients.connections + index
                connection.pointee.begin(.handshake, result)
                var greeting: [UInt8] = []
                connection.pointee.handshake = NBDHandshake(greetingInto: &greeting)
                say(index, greeting)
                armClientReceive(index)
            } else {
                close(result)
            }
        }
        armClientAccept()
    }

    /// The kernel is a client that knows what it wants: no handshake, and nobody who has the device open because of that.
    /// - Parameter unread: what a program before us has received of requests and not looked at.
    /// - Returns: the connection, or nil if there are too many.
    mutating func serveKernel(
        _ descriptor: Int32, _ volume: VolumeNumber, _ export: NBDExport, unread: [UInt8] = []
    ) -> Int? {
        guard
            let index = (0..<ClientTable.connections).reversed().first(where: {
                clients.connections[$0].phase == .free
            })
        else { return nil }
        let connection = clients.connections + index
        connection.pointee.begin(.serving, descriptor)
        connection.pointee.isKernel = true
        connection.pointee.volume = volume
        connection.pointee.export = export
        connection.pointee.structuredReplies = false
        if unread.isEmpty {
            armClientReceive(index)
        } else {
            unread.withUnsafeBytes { bytes in
                guard let address = bytes.baseAddress else { return }
                connection.pointee.input.copyMemory(from: address, byteCount: bytes.count)
            }
            connection.pointee.inputEnd = unread.count
            // Looked at when the current step is over.
            connection.pointee.isWaiting = true
            clients.returns &+= 1
        }
        return index
    }

    /// Who has a volume open through the socket; the kernel's devices are not among them.
    var openClients: [DeviceClient] {
        var found: [DeviceClient] = []
        for index in 0..<ClientTable.connections {
            let connection = clients.connections + index
            guard connection.pointee.hasOpened, !connection.pointee.isKernel, connection.pointee.phase != .free else {
                continue
            }
            found.append(
                DeviceClient(
                    volume: connection.pointee.volume, process: clinux_peer_process(connection.pointee.descriptor)))
        }
        return found
    }

    private mutating func say(_ index: Int, _ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        clients.connections[index].output.append(length: bytes.count) { $0.copyBytes(from: bytes) }
        markDirty(index)
    }

    /// Feeds the handshake. False: more bytes are needed, or it is over.
    mutating func shakeHands(_ index: Int) -> Bool {
        let connection = clients.connections + index
        guard var handshake = connection.pointee.handshake.take() else { return false }
        let available = connection.pointee.inputEnd - connection.pointee.inputStart
        guard available > 0 else {
            connection.pointee.handshake = handshake
            return false
        }
        var output: [UInt8] = []
        let bytes = UnsafeRawBufferPointer(start: connection.pointee.input + connection.pointee.inputStart, count: available)
        var (consumed, step) = handshake.receive(bytes.bytes, into: &output)
        connection.pointee.inputStart += consumed
        var wanted = VolumeNumber(0)
        switch step {
        case .wantsList:
            step = handshake.answerList(
                clients.exports.filter { $0.state.isPrimary }.map { exportName($0.volume) }, into: &output)
        case .wantsExport(let name, _):
            let found = volume(named: name)
            if let found, let export = clients.exports.first(where: { $0.volume == found })?.state, export.isPrimary {
                wanted = found
                step = handshake.accept(
                    NBDExport(
                        name: exportName(found), description: "replicated device", size: export.sectors * Sector.bytes,
                        minimumBlock: export.logicalBlockSize, preferredBlock: max(4096, export.logicalBlockSize)),
                    into: &output)
            } else if found != nil {
                step = handshake.refuse(.policy, text: "\(settings.resource) is Secondary", into: &output)
            } else {
                step = handshake.refuse(.unknown, text: "no export '\(name)'", into: &output)
            }
        default: break
        }
        connection.pointee.handshake = handshake
        say(index, output)
        switch step {
        case .needsBytes: return connection.pointee.inputStart < connection.pointee.inputEnd
        case .wantsExport, .wantsList: return true
        case .ready(let agreement):
            connection.pointee.phase = .serving
            connection.pointee.handshake = nil
            connection.pointee.volume = wanted
            connection.pointee.export = agreement.export
            connection.pointee.structuredReplies = agreement.structuredReplies
            connection.pointee.hasOpened = true
            deliver(.exportOpened(wanted))
            return true
        case .ended(let ending):
            if ending == .protocolError { reportGarbage() }
            drainClient(index)
            return false
        }
    }

    // MARK: Ending

    mutating func reportGarbage() {
        guard !clients.garbageLogged else { return }
        clients.garbageLogged = true
        log.warning("an NBD client does not speak the protocol; its connection is closed (further ones are not logged)")
    }

    /// Takes no further requests; ends once everything is answered.
    mutating func drainClient(_ index: Int) {
        let connection = clients.connections + index
        guard connection.pointee.phase == .serving || connection.pointee.phase == .handshake else { return }
        connection.pointee.phase = .draining
        // Ends a receive in flight.
        shutdown(connection.pointee.descriptor, Int32(SHUT_RD))
        dropUnfinishedInput(index)
        clients.anyEnding = true
    }

    /// Ends now; answers are thrown away when they come.
    mutating func closeClient(_ index: Int) {
        let connection = clients.connections + index
        guard connection.pointee.phase != .closing, connection.pointee.phase != .free else { return }
        connection.pointee.phase = .closing
        dropUnfinishedInput(index)
        shutdown(connection.pointee.descriptor, Int32(SHUT_RDWR))
        clients.anyEnding = true
    }

    /// A request that the client has not sent completely is forgotten, unless parts of it are in work.
    mutating func dropUnfinishedInput(_ index: Int) {
        let connection = clients.connections + index
        // The buffer under a receive in flight stays until that has ended.
        guard !connection.pointee.isReceiving else { return }
        if connection.pointee.piece >= 0 {
            let id = Int(connection.pointee.piece)
            connection.pointee.piece = -1
            pool.release(clients.pieces[id].pointee.slot)
            clients.requests[Int(clients.pieces[id].pointee.parent)].pointee.outstanding -= 1
            clients.pieces.give(id)
            connection.pointee.inFlight -= 1
            clients.returns &+= 1
        }
        if connection.pointee.current >= 0 {
            let current = Int(connection.pointee.current)
            connection.pointee.current = -1
            // What is left of it will never come; what was issued is answered with an error.
            clients.requests[current].pointee.error = .shutdown
            clients.requests[current].pointee.length = clients.requests[current].pointee.issued
            if clients.requests[current].pointee.outstanding == 0 { clients.requests.give(current) }
        }
    }

    mutating func endClientLater(_ index: Int) {
        switch clients.connections[index].phase {
        case .draining, .closing: clients.anyEnding = true
        default: break
        }
    }

    /// Gives a connection back when nothing in flight names it any more.
    mutating func endClientIfDone(_ index: Int) {
        let connection = clients.connections + index
        switch connection.pointee.phase {
        case .free, .handshake, .serving: return
        case .draining:
            dropUnfinishedInput(index)
            guard connection.pointee.inFlight == 0, connection.pointee.output.isEmpty || connection.pointee.output.isInFlight
            else { return }
            guard !connection.pointee.output.isInFlight else { return }
            connection.pointee.phase = .closing
            shutdown(connection.pointee.descriptor, Int32(SHUT_RDWR))
        case .closing: dropUnfinishedInput(index)
        }
        guard connection.pointee.inFlight == 0, connection.pointee.pending == 0 else { return }
        loop: while true {
            switch connection.pointee.output.discard() {
            case .nothing: break loop
            case .piece: break
            case .payload(let slot): pool.release(slot)
            }
        }
        close(connection.pointee.descriptor)
        connection.pointee.descriptor = -1
        connection.pointee.phase = .free
        connection.pointee.generation &+= 1
        connection.pointee.handshake = nil
        connection.pointee.isDirty = false
        if connection.pointee.isKernel {
            connection.pointee.isKernel = false
            kernelConnectionEnded(connection.pointee.volume)
        }
        if connection.pointee.hasOpened {
            connection.pointee.hasOpened = false
            later(.exportClosed(connection.pointee.volume))
        }
    }

    mutating func endClients() {
        guard clients.anyEnding else { return }
        clients.anyEnding = false
        for index in 0..<ClientTable.connections { endClientIfDone(index) }
    }

    /// Goes on with connections that waited for buffers or records, once some came back.
    mutating func resumeClients() {
        guard clients.seenReturns != (clients.returns, pool.returns) else { return }
        clients.seenReturns = (clients.returns, pool.returns)
        for index in 0..<ClientTable.connections where clients.connections[index].isWaiting { serve(index) }
    }

    func clientToken(_ kind: OperationKind, _ index: Int) -> SubmissionToken {
        SubmissionToken(kind, index: index, generation: clients.connections[index].generation)
    }
}
