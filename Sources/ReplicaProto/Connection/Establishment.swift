/// Getting two streams to the peer (`wire.md` 1.2): both nodes listen and both connect; the marker that the initiator
/// of a stream sends says which one it is.
extension Resource {
    /// Starts (again) to look for the peer.
    mutating func startConnecting() {
        guard let configuration = link.configuration else { return }
        link.phase = .connecting
        link.dataSocket = nil
        link.metaSocket = nil
        link.isResolver = false
        link.version = 0
        link.features = []
        for v in volumes.indices { exportMayHaveChanged(v) }
        link.integrity = nil
        link.peerIntegrity = nil
        if !link.isListening {
            link.isListening = true
            emit(.listen(configuration))
        }
        attemptOutgoing()
    }

    private mutating func attemptOutgoing() {
        guard link.phase == .connecting, !link.isAttempting, let configuration = link.configuration,
            link.dataSocket == nil || link.metaSocket == nil
        else { return }
        link.isAttempting = true
        timers.cancel(.connectRetry)
        emit(.connectToPeer(configuration))
    }

    private mutating func retryLaterWithJitter() {
        timers.set(.connectRetry, now + random.jittered(.seconds(link.options.connectInterval)))
    }

    mutating func connectRetryDue() { attemptOutgoing() }

    mutating func outgoingConnected(_ socket: SocketID) {
        link.isAttempting = false
        guard link.phase == .connecting else { return emit(.closeSocket(socket)) }
        if link.dataSocket == nil {
            link.dataSocket = socket
            emit(.sendMarker(socket, .data))
            retryLaterWithJitter()
        } else if link.metaSocket == nil {
            link.metaSocket = socket
            link.isResolver = false
            emit(.sendMarker(socket, .meta))
        } else {
            emit(.closeSocket(socket))
        }
        settleIfComplete()
    }

    mutating func outgoingFailed(_ isFatal: Bool, _ detail: String) {
        link.isAttempting = false
        if isFatal, link.configuration != nil, link.phase != .standAlone {
            log(.error, nil, "connecting failed: \(detail)")
            return connectionFailed(.disconnecting, because: .ownAddress)
        }
        guard link.phase == .connecting else { return }
        retryLaterWithJitter()
    }

    mutating func listenFailed(_ detail: String) {
        link.isListening = false
        guard link.configuration != nil, link.phase != .standAlone else { return }
        log(.error, nil, "listening failed: \(detail)")
        connectionFailed(.disconnecting, because: .ownAddress)
    }

    mutating func incomingAccepted(_ socket: SocketID) {
        guard link.phase == .connecting, link.awaitingMarker.count < 8 else { return emit(.closeSocket(socket)) }
        link.awaitingMarker.append(socket)
        if !timers.isSet(.marker) { timers.set(.marker, now + .deciseconds(link.options.pingTimeout) * 4) }
    }

    mutating func markerOverdue() {
        for socket in link.awaitingMarker { emit(.closeSocket(socket)) }
        link.awaitingMarker.removeAll()
    }

    mutating func markerReceived(_ socket: SocketID, _ kind: StreamKind?) {
        guard let position = link.awaitingMarker.firstIndex(of: socket) else { return }
        link.awaitingMarker.remove(at: position)
        if link.awaitingMarker.isEmpty { timers.cancel(.marker) }
        guard link.phase == .connecting, let kind else {
            emit(.closeSocket(socket))
            return
        }
        var crossed = false
        switch kind {
        case .data:
            if let old = link.dataSocket {
                emit(.closeSocket(old))
                crossed = true
            }
            link.dataSocket = socket
        case .meta:
            link.isResolver = true
            if let old = link.metaSocket {
                emit(.closeSocket(old))
                crossed = true
            }
            link.metaSocket = socket
        }
        if crossed { log(.debug, nil, "initial packets crossed") }
        if link.dataSocket != nil, link.metaSocket != nil { return settleIfComplete() }
        // Crossed streams die on both nodes; a coin keeps them from crossing again for ever.
        if crossed, random.coin() { retryLaterWithJitter() } else { attemptOutgoing() }
    }

    private mutating func settleIfComplete() {
        guard link.phase == .connecting, link.dataSocket != nil, link.metaSocket != nil else { return }
        link.phase = .settling
        timers.cancel(.connectRetry)
        let check = link.options.socketCheckTimeout
        timers.set(.settle, now + .deciseconds(check == 0 ? link.options.pingTimeout : check))
    }

    /// A stream ended before or after it was in use.
    mutating func socketFailed(_ socket: SocketID, _ failure: SocketFailure) {
        if let position = link.awaitingMarker.firstIndex(of: socket) {
            link.awaitingMarker.remove(at: position)
            return emit(.closeSocket(socket))
        }
        guard socket == link.dataSocket || socket == link.metaSocket else { return }
        let isData = socket == link.dataSocket
        switch link.phase {
        case .connecting, .settling:
            emit(.closeSocket(socket))
            if isData { link.dataSocket = nil } else { link.metaSocket = nil }
            link.phase = .connecting
            timers.cancel(.settle)
            timers.set(.connectRetry, now + TimeSpan(nanoseconds: random.next() % 1_000_000_000))
        case .features:
            // Another packet than the features, or one of another size, is a peer that speaks something else
            // (`wire.md` 4.2). What is no packet at all is a stranger's noise, and no reason to give the peer up.
            switch failure {
            case .protocolError(.unknownCommand(let command)), .protocolError(.wrongStream(let command)),
                .protocolError(.badLength(let command, _)), .protocolError(.badField(let command)):
                log(.error, nil, "expected ConnectionFeatures packet, received: 0x\(String(command, radix: 16))")
                connectionFailed(.disconnecting, because: .foreignPeer)
            case .protocolError(.badMagic), .protocolError(.nonZeroPad), .protocolError(.badDigest), .endOfFile, .error:
                noteDisconnect(.networkFailure, .closedInHandshake)
                restartHandshake(afterPause: true)
            }
        case .authentication:
            noteDisconnect(.networkFailure, .closedInAuthentication)
            restartHandshake(afterPause: true)
        case .parameters, .established, .closing:
            streamEnded(isData, failure)
        case .standAlone, .cleanup:
            break
        }
    }

    private mutating func streamEnded(_ isData: Bool, _ failure: SocketFailure) {
        if link.phase == .closing { return connectionFailed(link.afterCleanup == .standAlone ? .disconnecting : .tearDown) }
        switch failure {
        case .endOfFile:
            log(.warning, nil, isData ? "sock was shut down by peer" : "meta connection shut down by peer.")
        case .error(let code):
            log(.warning, nil, "\(isData ? "sock" : "meta") stream failed: errno \(code)")
        case .protocolError(let error):
            if case .badDigest = error {
                log(.error, nil, describe(error))
                return connectionFailed(.protocolError)
            }
            log(.error, nil, "\(isData ? "sock" : "meta") stream: \(describe(error))")
            // An unknown command on the meta stream ends the connection for good (`wire.md` 1.6).
            if case .unknownCommand = error, !isData { return connectionFailed(.disconnecting, because: .protocolError) }
            return connectionFailed(isData ? .protocolError : .networkFailure, because: .protocolError)
        }
        connectionFailed(isData ? .brokenPipe : .networkFailure)
    }

    func describe(_ error: PacketError) -> String {
        switch error {
        case .badMagic(let magic): "bad magic 0x\(String(magic, radix: 16))"
        case .nonZeroPad(let pad): "header padding is not zero: 0x\(String(pad, radix: 16))"
        case .unknownCommand(let command): "unknown command 0x\(String(command, radix: 16))"
        case .wrongStream(let command): "command 0x\(String(command, radix: 16)) does not belong on this stream"
        case .badLength(let command, let length): "command 0x\(String(command, radix: 16)) with wrong length \(length)"
        case .badField(let command): "command 0x\(String(command, radix: 16)) with an impossible field"
        case .badDigest(let sector, let byteCount): "Digest integrity check FAILED: \(sector)s +\(byteCount)"
        }
    }

    /// Both streams survived: the handshake begins.
    mutating func streamsSettled() {
        guard link.phase == .settling, let data = link.dataSocket, let meta = link.metaSocket else { return }
        stopAccepting()
        link.phase = .features
        link.instance &+= 1
        emit(.setWireFormat(.initial))
        emit(.useSocket(data, .data))
        emit(.useSocket(meta, .meta))
        timers.set(.handshake, now + .deciseconds(link.options.pingTimeout) * 4)
        send(
            .data, nil,
            .connectionFeatures(
                ConnectionFeatures(
                    minimumVersion: versions.lowerBound, flags: offeredFeatures, maximumVersion: versions.upperBound)))
    }

    private mutating func stopAccepting() {
        for socket in link.awaitingMarker { emit(.closeSocket(socket)) }
        link.awaitingMarker.removeAll()
        timers.cancel(.marker)
        if link.isListening {
            link.isListening = false
            emit(.stopListening)
        }
    }

    /// A failure that is not final before the parameters are exchanged: another try.
    mutating func restartHandshake(afterPause: Bool) {
        closeStreams()
        link.phase = .connecting
        link.dataSocket = nil
        link.metaSocket = nil
        timers.cancel(.handshake)
        if afterPause { timers.set(.reconnect, now + .seconds(1)) } else { startConnecting() }
    }

    mutating func reconnectDue() {
        guard link.configuration != nil, link.phase == .connecting else { return }
        // What the last connection led to is not over, and the next would only keep the peer's applications waiting for it.
        if isHandlerInLine { return timers.set(.reconnect, now + .seconds(1)) }
        for v in volumes.indices where volumes[v].state.connection == .unconnected {
            setState(v) { $0.connection = .wfConnection }
        }
        startConnecting()
    }

    mutating func handshakeOverdue() {
        switch link.phase {
        case .features, .authentication:
            log(.warning, nil, "handshake timed out")
            noteDisconnect(.timeout, .timeout)
            restartHandshake(afterPause: true)
        case .closing:
            connectionFailed(link.afterCleanup == .standAlone ? .disconnecting : .tearDown)
        case .standAlone, .connecting, .settling, .parameters, .established, .cleanup:
            break
        }
    }

    mutating func closeStreams() {
        link.partsAfterHandlers = false
        if let socket = link.dataSocket { emit(.closeSocket(socket)) }
        if let socket = link.metaSocket { emit(.closeSocket(socket)) }
        link.dataSocket = nil
        link.metaSocket = nil
        for kind in [Timers.Kind.settle, .handshake, .introductions, .ping, .request, .sequence, .epochProof] {
            timers.cancel(kind)
        }
    }

    // MARK: The end of a connection

    /// The connection is over: Timeout, BrokenPipe, NetworkFailure, ProtocolError and TearDown come back by
    /// themselves, Disconnecting ends in StandAlone.
    ///
    /// - Parameter reason: nil where the state says it all; Disconnecting is then what somebody asked for.
    mutating func connectionFailed(_ state: ConnectionState, because reason: DisconnectReason? = nil) {
        noteDisconnect(state, reason)
        switch link.phase {
        case .standAlone:
            return
        case .cleanup:
            if state == .disconnecting {
                link.afterCleanup = .standAlone
                for v in volumes.indices { setState(v) { $0.connection = .disconnecting } }
                // The cleanup may be over already, and only the pause before the next try be left.
                timers.cancel(.reconnect)
                finishCleanupIfReady()
            }
            return
        case .connecting, .settling, .features, .authentication:
            if state != .disconnecting { return restartHandshake(afterPause: true) }
        case .parameters, .established, .closing:
            break
        }
        stopAccepting()
        closeStreams()
        timers.cancel(.connectRetry)
        timers.cancel(.reconnect)
        link.phase = .cleanup
        link.instance &+= 1
        link.pingActions.removeAll()
        if state == .disconnecting || link.afterCleanup == .standAlone {
            link.afterCleanup = .standAlone
        } else {
            link.afterCleanup = .unconnected
        }
        let shown = link.afterCleanup == .standAlone ? ConnectionState.disconnecting : state
        for v in volumes.indices {
            volumes[v].sentHandshake = false
            volumes[v].isLonely = false
            setState(v) { $0.connection = shown }
        }
        dropPeerRequests()
        for v in volumes.indices {
            endResync(v)
            volumes[v].peerIdentifiers = nil
            volumes[v].peerFlags = []
            volumes[v].pendingSyncUUID = nil
            volumes[v].resyncHandler = nil
            volumes[v].peerForcedPromotion = false
            volumes[v].rotatesOnceAccepted = false
            volumes[v].peerDiskSize = 0
            volumes[v].resyncRepliesPending = 0
            volumes[v].resizePending = false
            volumes[v].resizeAsked = nil
            volumes[v].owesResyncEnd = false
        }
        clearTransferLog()
        for v in volumes.indices { redirectRemoteReads(v) }
        clusterChangeLost()
        link.cleanupsPending = volumes.count
        if volumes.isEmpty { return finishCleanup() }
        // Blocks that a resync has just copied are in the disk's cache: their bits go on disk after them.
        for v in volumes.indices { enqueue(v, .flushData, .superblock, .changedPages, .then(.cleanedUpAfterLoss)) }
        startFencing()
    }

    mutating func volumeCleanedUp(_ v: Int) {
        link.cleanupsPending -= 1
        finishCleanupIfReady()
    }

    /// All metadata is written and all work for the peer has left the disks.
    mutating func finishCleanupIfReady() {
        guard link.phase == .cleanup, link.cleanupsPending == 0, peerRequests.list.count == 0 else { return }
        finishCleanup()
    }

    private mutating func finishCleanup() {
        if link.afterCleanup == .standAlone {
            link.phase = .standAlone
            link.afterCleanup = .unconnected
            link.configuration = nil
            link.isAttempting = false
            for v in volumes.indices {
                setState(v) { $0.connection = .standAlone }
                volumes[v].discardMyData = false
            }
            disconnected()
        } else {
            link.phase = .connecting
            for v in volumes.indices { setState(v) { $0.connection = .unconnected } }
            // Without a pause two nodes that disagree would keep each other busy.
            timers.set(.reconnect, now + .milliseconds(100))
        }
    }
}
