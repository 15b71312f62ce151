/// One replicated resource on one node: the composed state machine of its volumes and its connection.
///
/// The core decides; it never waits, looks at a clock or touches a payload byte. It is told what happened
/// (`handle`) and says what to do (`EffectQueue`). Same events, same effects, on every machine, on every run.
package struct Resource: ~Copyable {
    package let name: String
    /// A deliberately broken rule, for the proof that the simulator notices. Never set by the daemon.
    package var mutation: CoreMutation?
    /// Protocol versions that we announce. Less only in tests of what older peers lead to.
    package var versions: ClosedRange<UInt32> = 86...101

    var now = Instant.zero
    var effects = EffectQueue(reserving: 0)
    var random: RandomGenerator
    /// In ascending order of number.
    var volumes: [Volume] = []
    var options = ResourceOptions()
    var link: Link
    var requests: RequestTable
    /// Writes sent to the peer whose epoch is not acknowledged, in order of sending, over all volumes.
    var transferLog = RequestList()
    var peerRequests: PeerRequestTable
    var receiveEpochs: ReceiveEpochs
    var writeOrdering = WriteOrdering.flush
    var clusterChange: ClusterChange?
    var waiters: [Waiter] = []
    var handlers = HandlerTable()
    var demotions: [Demotion] = []
    var timers = Timers()
    var isGoingDown: CommandID?
    /// A step of `down` has not ended yet.
    var downStepRunning = false
    var deferred: [DeferredCommand] = []
    var disconnectCommands: [CommandID] = []
    var promotionsRunning = 0
    var fencing: Fencing?
    /// Minors of other resources, as far as somebody is to be synchronised after one.
    var neighbours: [NeighbourMinor] = []
    var dependenciesMayHaveChanged = false
    private let inPlace = InPlace()

    package init(name: String, seed: (UInt64, UInt64, UInt64, UInt64), sizes: TableSizes = TableSizes()) {
        self.name = name
        link = Link(openEpochs: sizes.openEpochs)
        requests = RequestTable(capacity: sizes.requestTable, clients: sizes.clientRequests)
        peerRequests = PeerRequestTable(capacity: sizes.peerRequests)
        receiveEpochs = ReceiveEpochs(capacity: sizes.openEpochs)
        random = RandomGenerator(seed: seed)
    }

    /// Advances by one event.
    ///
    /// - Parameters:
    ///   - now: Not before the moment of the previous call.
    ///   - effects: What to do is appended, in order; it has to be carried out before the next event.
    package mutating func handle(_ event: Event, at now: Instant, into effects: inout EffectQueue) {
        self.now = now
        swap(&self.effects, &effects)
        step(event)
        finishPutOffAttaches()
        if dependenciesMayHaveChanged { followDependencies() }
        runRetries()
        if link.isGivenUp {
            giveUpCongestedLink()
            runRetries()
        }
        runTransfers()
        swap(&self.effects, &effects)
    }

    /// When to send `clockAdvanced` next; nil if nothing waits for time to pass.
    package var nextDeadline: Instant? { timers.next }

    private mutating func step(_ event: Event) {
        switch event {
        case .clockAdvanced:
            advanceClock()
        case .writeRequested(let id, let volume, let range, let buffer, let fua):
            admitWrite(id, volume, range, buffer, fua)
        case .readRequested(let id, let volume, let range):
            admitRead(id, volume, range)
        case .discardRequested(let id, let volume, let range, let kind):
            admitDiscard(id, volume, range, kind)
        case .flushRequested(let id, let volume):
            admitFlush(id, volume)
        case .diskWriteFinished(let tag, let error):
            diskWriteFinished(tag, error)
        case .diskReadFinished(let tag, let buffer, let error):
            diskReadFinished(tag, buffer, error)
        case .diskFlushFinished(let volume, let tag, let error):
            diskFlushFinished(volume, tag, error)
        case .blockExamined(let id, let matches):
            blockExamined(id, matches: matches)
        case .packetReceived(let stream, let volume, let packet, let payload):
            packetReceived(stream, volume, packet, payload)
        case .writeHandedToNetwork(let id):
            writeHandedToNetwork(id)
        case .metadataWritten(let volume, let error):
            metadataWritten(volume, error)
        case .commandReceived(let id, let command):
            commandReceived(id, command)
        case .neighboursChanged(let found): neighboursChanged(found)
        case .waitAbandoned(let id): waiters.removeAll { $0.command == id }
        case .handlerFinished(let id, let status):
            handlerFinished(id, status)
        case .challengeMade(let bytes):
            challengeMade(bytes)
        case .hmacComputed(let purpose, let digest):
            hmacComputed(purpose, digest)
        case .exportOpened(let volume):
            if let v = index(of: volume) { volumes[v].openCount += 1 }
        case .exportClosed(let volume):
            exportClosed(volume)
        case .diskOpened(let volume, let image):
            diskOpened(volume, image)
        case .diskOpenFailed(let volume, let code, let detail):
            diskOpenFailed(volume, code, detail)
        case .diskClosed(let volume):
            diskClosed(volume)
        case .diskTimedOut(let volume):
            diskTimedOut(volume)
        case .diskMeasured(let volume, let capacity):
            diskMeasured(volume, capacity)
        case .outgoingConnected(let socket):
            outgoingConnected(socket)
        case .outgoingFailed(let fatal, let detail):
            outgoingFailed(fatal, detail)
        case .listenFailed(let detail):
            listenFailed(detail)
        case .incomingAccepted(let socket):
            incomingAccepted(socket)
        case .markerReceived(let socket, let kind):
            markerReceived(socket, kind)
        case .socketFailed(let socket, let failure):
            socketFailed(socket, failure)
        case .sendStalled(let stream):
            sendStalled(stream)
        }
    }

    // MARK: Helpers of every part

    func index(of number: VolumeNumber) -> Int? {
        for v in volumes.indices where volumes[v].number == number { return v }
        return nil
    }
    @inline(__always)
    mutating func emit(_ effect: consuming Effect) { effects.append(effect) }
    mutating func log(_ level: LogLevel, _ v: Int?, _ text: String) {
        effects.append(.log(level, v.map { volumes[$0].number }, text))
    }
    mutating func send(_ stream: StreamKind, _ v: Int?, _ packet: Packet, payload: BufferSlot? = nil) {
        guard link.isUsable else { return }
        let volume = v.map { volumes[$0].number } ?? VolumeNumber(0)
        effects.append(.send(stream, volume, packet, payload: payload))
    }
    /// Next number of the counter that writes and block acks of a volume share (`wire.md` 7.3).
    mutating func nextSequence(_ v: Int) -> UInt32 {
        volumes[v].sequence &+= 1
        return volumes[v].sequence
    }

    // MARK: What the device asks for while it carries out effects

    /// The 4096 bytes of the activity log transaction that is in flight.
    package func activityLogBlock(_ volume: VolumeNumber, into bytes: UnsafeMutableRawBufferPointer) {
        guard let v = index(of: volume) else { return }
        unsafe volumes[v].metadata.transactionBlock.withUnsafeBytes { source in
            unsafe bytes.copyMemory(from: source)
        }
    }

    /// The 4096 bytes of one bitmap page, as they are now.
    package func bitmapPage(_ volume: VolumeNumber, page: UInt32, into bytes: UnsafeMutableRawBufferPointer) {
        guard let v = index(of: volume) else { return }
        unsafe volumes[v].bitmap.copyPage(Int(page), into: bytes)
    }
}

extension Resource {
    /// Nothing is in flight or waiting: no request, no transfer log, no extent in use, no metadata step.
    package var isIdle: Bool {
        guard transferLog.count == 0, peerRequests.list.count == 0, requests.isUnused else { return false }
        for v in volumes.indices {
            if volumes[v].active.count > 0 || !volumes[v].metadata.isIdle || volumes[v].localPending > 0 { return false }
            if volumes[v].activityLog.totalReferences > 0 { return false }
        }
        return true
    }
}
