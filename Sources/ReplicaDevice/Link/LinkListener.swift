import CLinux
import CUring
import Glibc
import ReplicaProto

/// Both streams to the peer, and the sockets that may become them.
struct PeerConnection: ~Copyable {
    /// Streams that are connecting, parked, in use or closing at one time.
    static let sockets = 16

    var sockets: UnsafeMutablePointer<LinkSocket>
    /// One per socket; its buffers live as long as the process.
    var streams: UnsafeMutablePointer<LinkStream>
    var nextSocket: UInt32 = 1
    var format = WireFormat.initial
    /// Index of the socket that is the data and the meta stream, -1 without.
    var dataSocket = -1
    var metaSocket = -1
    var options = NetOptions()

    var listener: Int32 = -1
    var listenerGeneration: UInt32 = 0
    var peerAddress = sockaddr_storage()
    var acceptedAddress: UnsafeMutablePointer<sockaddr_storage>
    var acceptedLength: UnsafeMutablePointer<socklen_t>
    var strangerLogged = false

    init() {
        sockets = .allocate(capacity: Self.sockets)
        sockets.initialize(repeating: LinkSocket(), count: Self.sockets)
        streams = .allocate(capacity: Self.sockets)
        for k in 0..<Self.sockets { (streams + k).initialize(to: LinkStream()) }
        acceptedAddress = .allocate(capacity: 1)
        acceptedAddress.initialize(to: sockaddr_storage())
        acceptedLength = .allocate(capacity: 1)
        acceptedLength.initialize(to: 0)
    }

    deinit {
        if listener >= 0 { close(listener) }
        for k in 0..<Self.sockets {
            if sockets[k].descriptor >= 0 { close(sockets[k].descriptor) }
            (streams + k).deinitialize(count: 1)
        }
        sockets.deallocate()
        streams.deallocate()
        acceptedAddress.deallocate()
        acceptedLength.deallocate()
    }

    func index(of id: SocketID) -> Int? {
        for k in 0..<Self.sockets where sockets[k].phase != .free && sockets[k].id == id { return k }
        return nil
    }

    func index(of stream: StreamKind) -> Int? {
        let index = stream == .data ? dataSocket : metaSocket
        return index < 0 ? nil : index
    }

    mutating func newSocket(_ descriptor: Int32, _ phase: LinkSocket.Phase) -> Int? {
        for k in 0..<Self.sockets where sockets[k].phase == .free {
            sockets[k] = LinkSocket()
            sockets[k].phase = phase
            sockets[k].descriptor = descriptor
            sockets[k].id = SocketID(nextSocket)
            nextSocket &+= 1
            if nextSocket == 0 { nextSocket = 1 }
            return k
        }
        return nil
    }

    /// The earliest moment at which a socket has to be given up.
    var nextDeadline: UInt64 {
        var earliest = UInt64.max
        for k in 0..<Self.sockets where sockets[k].phase != .free { earliest = min(earliest, sockets[k].deadline) }
        let patience = UInt64(options.timeout) &* 100_000_000
        earliest = min(earliest, sendDeadline(dataSocket, patience))
        return min(earliest, sendDeadline(metaSocket, patience))
    }

    /// When a stream's unfinished send has taken too long.
    private func sendDeadline(_ index: Int, _ patience: UInt64) -> UInt64 {
        index >= 0 && streams[index].output.isInFlight ? streams[index].sendStarted &+ patience : .max
    }
}

extension ResourceLoop {
    // MARK: Listening

    mutating func listen(_ configuration: ConnectionConfiguration) {
        stopListening()
        link.options = configuration.options
        do throws(SystemError) {
            guard let (local, length) = NetworkAddress.parse(configuration.local, port: configuration.local.port) else {
                throw SystemError("\(configuration.local)", EINVAL)
            }
            guard let (peer, _) = NetworkAddress.parse(configuration.remote, port: configuration.remote.port) else {
                throw SystemError("\(configuration.remote)", EINVAL)
            }
            let descriptor = try newDescriptor(local.ss_family)
            var address = local
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
            }
            guard bound == 0, Glibc.listen(descriptor, 5) == 0 else {
                let error = SystemError.last(bound == 0 ? "listen" : "bind")
                close(descriptor)
                throw error
            }
            link.listener = descriptor
            link.listenerGeneration &+= 1
            link.peerAddress = peer
            link.strangerLogged = false
            armLinkAccept()
        } catch {
            later(.listenFailed(detail: error.description))
        }
    }

    mutating func stopListening() {
        guard link.listener >= 0 else { return }
        ring.cancel(SubmissionToken(.linkAccept, index: 0, generation: link.listenerGeneration))
        // The accept in flight holds the file until it is cancelled; the port is free from shutdown on.
        shutdown(link.listener, Int32(SHUT_RDWR))
        close(link.listener)
        link.listener = -1
        link.listenerGeneration &+= 1
    }

    private func newDescriptor(_ family: sa_family_t) throws(SystemError) -> Int32 {
        let descriptor = socket(Int32(family), Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SystemError.last("socket") }
        setOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        if link.options.sendBufferSize > 0 { setOption(descriptor, SOL_SOCKET, SO_SNDBUF, Int32(clamping: link.options.sendBufferSize)) }
        if link.options.receiveBufferSize > 0 {
            setOption(descriptor, SOL_SOCKET, SO_RCVBUF, Int32(clamping: link.options.receiveBufferSize))
        }
        return descriptor
    }

    private func setOption(_ descriptor: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    private mutating func armLinkAccept() {
        let token = SubmissionToken(.linkAccept, index: 0, generation: link.listenerGeneration)
        let entry = ring.entry(token)
        link.acceptedLength.pointee = socklen_t(MemoryLayout<sockaddr_storage>.size)
        link.acceptedAddress.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            io_uring_prep_accept(entry, link.listener, $0, link.acceptedLength, Int32(SOCK_CLOEXEC.rawValue))
        }
        entry.pointee.user_data = token.rawValue
    }

    mutating func linkAccepted(_ token: SubmissionToken, _ result: Int32) {
        guard token.isOf(generation: link.listenerGeneration), link.listener >= 0 else {
            if result >= 0 { close(result) }
            return
        }
        if result >= 0 {
            let address = link.acceptedAddress.pointee
            if !NetworkAddress.sameHost(address, link.peerAddress) {
                if !link.strangerLogged {
                    link.strangerLogged = true
                    let name = NetworkAddress.text(address, link.acceptedLength.pointee)
                    log.warning("connection from \(name) closed: not the configured peer (further ones are not logged)")
                }
                close(result)
            } else if let index = link.newSocket(result, .readingMarker) {
                setOption(result, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
                link.sockets[index].deadline = now.nanoseconds &+ UInt64(link.options.pingTimeout) &* 400_000_000
                readMarker(index)
                deliver(.incomingAccepted(link.sockets[index].id))
            } else {
                close(result)
            }
        }
        if token.isOf(generation: link.listenerGeneration), link.listener >= 0 { armLinkAccept() }
    }

    private mutating func readMarker(_ index: Int) {
        let token = linkToken(.linkMarker, index)
        let entry = ring.entry(token)
        withUnsafeMutablePointer(to: &link.sockets[index].marker) {
            io_uring_prep_recv(entry, link.sockets[index].descriptor, $0, 8, Int32(MSG_WAITALL))
        }
        entry.pointee.user_data = token.rawValue
        link.sockets[index].pending += 1
    }

    mutating func linkMarkerRead(_ token: SubmissionToken, _ result: Int32) {
        guard let index = linkSocket(token) else { return }
        link.sockets[index].pending -= 1
        guard link.sockets[index].phase == .readingMarker else {
            closeLinkIfIdle(index)
            return
        }
        link.sockets[index].deadline = .max
        guard result == 8 else {
            link.sockets[index].phase = .parked
            deliver(.socketFailed(link.sockets[index].id, result < 0 ? .error(-result) : .endOfFile))
            return
        }
        let bytes = link.sockets[index].marker
        let kind = withUnsafeBytes(of: bytes) { PacketHeader.marker($0.bytes) }
        park(index)
        deliver(.markerReceived(link.sockets[index].id, kind))
    }

    // MARK: Connecting

    mutating func connectToPeer(_ configuration: ConnectionConfiguration) {
        link.options = configuration.options
        guard let (local, localLength) = NetworkAddress.parse(configuration.local, port: 0),
            let (remote, remoteLength) = NetworkAddress.parse(configuration.remote, port: configuration.remote.port)
        else {
            later(.outgoingFailed(fatal: true, detail: "bad address"))
            return
        }
        let descriptor: Int32
        do throws(SystemError) { descriptor = try newDescriptor(local.ss_family) } catch {
            later(.outgoingFailed(fatal: true, detail: error.description))
            return
        }
        var address = local
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, localLength) }
        }
        guard bound == 0, let index = link.newSocket(descriptor, .connecting) else {
            later(.outgoingFailed(fatal: bound != 0, detail: SystemError.last("bind").description))
            close(descriptor)
            return
        }
        setOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        link.sockets[index].address = remote
        link.sockets[index].addressLength = remoteLength
        link.sockets[index].deadline = now.nanoseconds &+ UInt64(configuration.options.connectInterval) &* 1_000_000_000
        let token = linkToken(.linkConnect, index)
        let entry = ring.entry(token)
        withUnsafeMutablePointer(to: &link.sockets[index].address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                io_uring_prep_connect(entry, descriptor, $0, remoteLength)
            }
        }
        entry.pointee.user_data = token.rawValue
        link.sockets[index].pending += 1
    }

    /// Failures of the network, as opposed to those of our own address (`wire.md` 1.2).
    private static let networkErrors: [Int32] = [
        ETIMEDOUT, EAGAIN, EINPROGRESS, EINTR, ECONNREFUSED, ENETUNREACH, EHOSTUNREACH, EHOSTDOWN, ECONNRESET,
        ECANCELED, ECONNABORTED, ENETDOWN,
    ]

    mutating func linkConnected(_ token: SubmissionToken, _ result: Int32) {
        guard let index = linkSocket(token) else { return }
        link.sockets[index].pending -= 1
        guard link.sockets[index].phase == .connecting else {
            closeLinkIfIdle(index)
            return
        }
        link.sockets[index].deadline = .max
        let id = link.sockets[index].id
        if result == 0 {
            park(index)
            deliver(.outgoingConnected(id))
        } else {
            closeLink(index)
            deliver(
                .outgoingFailed(
                    fatal: !Self.networkErrors.contains(-result), detail: SystemError("connect", -result).description))
        }
    }

    // MARK: Before use

    /// Watches a connected stream for its end until it is used.
    private mutating func park(_ index: Int) {
        link.sockets[index].phase = .parked
        let token = linkToken(.linkWatch, index)
        let entry = ring.entry(token)
        io_uring_prep_poll_add(entry, link.sockets[index].descriptor, clinux_poll_peer_closed())
        entry.pointee.user_data = token.rawValue
        link.sockets[index].pending += 1
    }

    mutating func linkWatchEnded(_ token: SubmissionToken, _ result: Int32) {
        guard let index = linkSocket(token) else { return }
        link.sockets[index].pending -= 1
        switch link.sockets[index].phase {
        case .parked:
            if result > 0 { deliver(.socketFailed(link.sockets[index].id, .endOfFile)) }
        case .closing: closeLinkIfIdle(index)
        default: break
        }
    }

    mutating func sendMarker(_ id: SocketID, _ kind: StreamKind) {
        guard let index = link.index(of: id) else { return }
        var marker: [UInt8] = [0x83, 0x74, 0x02, 0x67, 0xff, kind == .data ? 0xf2 : 0xf1, 0, 0]
        // Eight bytes always fit into the empty buffer of a fresh stream; a dead one is found by the watch.
        _ = send(link.sockets[index].descriptor, &marker, 8, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    }

    // MARK: Ending

    mutating func closeSocket(_ id: SocketID) {
        guard let index = link.index(of: id) else { return }
        closeLink(index)
    }

    mutating func closeLink(_ index: Int) {
        guard link.sockets[index].phase != .closing else { return }
        let wasInUse = link.sockets[index].phase == .inUse
        if wasInUse { sendLastBytes(index) }
        if link.sockets[index].phase == .connecting { ring.cancel(linkToken(.linkConnect, index)) }
        if link.dataSocket == index { link.dataSocket = -1 }
        if link.metaSocket == index { link.metaSocket = -1 }
        link.sockets[index].phase = .closing
        link.sockets[index].deadline = .max
        shutdown(link.sockets[index].descriptor, Int32(SHUT_RDWR))
        closeLinkIfIdle(index)
    }

    /// Gives a socket back when nothing in flight names it any more.
    mutating func closeLinkIfIdle(_ index: Int) {
        guard link.sockets[index].phase == .closing, link.sockets[index].pending == 0 else { return }
        emptyStream(index)
        close(link.sockets[index].descriptor)
        link.sockets[index].descriptor = -1
        link.sockets[index].phase = .free
    }

    func linkToken(_ kind: OperationKind, _ index: Int) -> SubmissionToken {
        SubmissionToken(kind, index: index, generation: link.sockets[index].id.value)
    }

    /// The socket of a completion, unless it has been given to someone else since.
    func linkSocket(_ token: SubmissionToken) -> Int? {
        let index = token.index
        guard index < PeerConnection.sockets, link.sockets[index].phase != .free,
            token.isOf(generation: link.sockets[index].id.value)
        else { return nil }
        return index
    }

    /// Gives up what has taken too long, and tells of sends without progress.
    mutating func checkLinkDeadlines() {
        let moment = now.nanoseconds
        for index in 0..<PeerConnection.sockets where link.sockets[index].deadline <= moment {
            switch link.sockets[index].phase {
            case .connecting:
                closeLink(index)
                deliver(.outgoingFailed(fatal: false, detail: SystemError("connect", ETIMEDOUT).description))
            case .readingMarker:
                link.sockets[index].deadline = .max
                deliver(.socketFailed(link.sockets[index].id, .error(ETIMEDOUT)))
            default: link.sockets[index].deadline = .max
            }
        }
        let patience = UInt64(link.options.timeout) &* 100_000_000
        checkSend(.data, patience, moment)
        checkSend(.meta, patience, moment)
    }

    private mutating func checkSend(_ kind: StreamKind, _ patience: UInt64, _ moment: UInt64) {
        guard let index = link.index(of: kind), link.streams[index].output.isInFlight,
            link.streams[index].sendStarted &+ patience <= moment
        else { return }
        link.streams[index].sendStarted = moment
        deliver(.sendStalled(kind))
    }
}
