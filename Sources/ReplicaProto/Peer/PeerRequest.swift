/// One piece of disk work for the peer: its writes, its reads, resync reads as source, resync writes as target.
struct PeerRequest {
    enum Kind: UInt8 {
        /// P_DATA
        case write
        /// P_TRIM, P_ZEROES
        case discard
        /// P_WSAME
        case writeSame
        /// P_DATA_REQUEST
        case read
        /// P_RS_DATA_REQUEST, served as source
        case resyncRead
        /// P_CSUM_RS_REQUEST: a resync read that sends nothing if the target has the same.
        case checksumRead
        /// P_RS_THIN_REQ: a resync read that sends no zeroes.
        case thinRead
        /// P_RS_DATA_REPLY, written as target
        case resyncWrite
        /// P_RS_DEALLOCATED, carried out as target
        case resyncDiscard
        /// Our own copy, whose digest goes into a P_CSUM_RS_REQUEST
        case checksumRequest
        /// P_OV_REQUEST: our copy, whose digest goes into a P_OV_REPLY
        case verifyRead
        /// P_OV_REPLY: our copy, to be compared with the peer's digest
        case verifyCompare
    }
    enum Stage: UInt8 {
        case free
        /// For an earlier epoch, an overlap, or the activity log.
        case waiting
        /// For the activity log transaction that makes its extents hot.
        case waitingTransaction
        /// On the disk.
        case running
        /// For acknowledgements that the peer gave before it.
        case waitingSequence
        /// Answered without being written: a write of ours stands, and the peer does not have that yet.
        case overruled
        /// Read, and being compared.
        case examined
    }

    var stage = Stage.free
    var kind = Kind.read
    var discardKind = DiscardKind.trim
    /// Index into `Resource.volumes`.
    var volume = 0
    var range = SectorRange(0, 0)
    var buffer: BufferSlot?
    /// The peer's digest of the block.
    var digest: BufferSlot?
    var blockID: UInt64 = 0
    var flags: DataFlags = []
    /// Receive epoch that it counts in; for a read or write of a resync, its run.
    var epoch: UInt64 = 0
    /// Of an application write: what it goes to the disk with (`ReceiveEpochs`).
    var group: UInt64 = 0
    /// Which connection it came through; the answer is dropped if that one is gone.
    var connection: UInt32 = 0
    var transaction: UInt64 = 0
    /// The peer's number of this write (`wire.md` 7.3).
    var sequence: UInt32 = 0
    /// block_id of the write of ours that stands.
    var overruledBy: UInt64 = 0
    var holdsExtents = false
    var generation: UInt32 = 0
    var previous: Int32 = -1
    var next: Int32 = -1

    var isWrite: Bool {
        switch kind {
        case .write, .discard, .writeSame, .resyncWrite, .resyncDiscard: true
        case .read, .resyncRead, .checksumRead, .thinRead, .checksumRequest, .verifyRead, .verifyCompare: false
        }
    }
    var isApplicationWrite: Bool { kind == .write || kind == .discard || kind == .writeSame }
    var isResyncWrite: Bool { kind == .resyncWrite || kind == .resyncDiscard }
    /// Served as the source of a resync.
    var isResyncRead: Bool { kind == .resyncRead || kind == .checksumRead || kind == .thinRead }
    var isStarted: Bool { stage == .running || stage == .examined }
    /// Counted in the volume's `unacknowledged`.
    var isUnacknowledged: Bool { !isResyncWrite && kind != .checksumRequest && stage != .overruled }
}

/// All work for the peer: a table of fixed size, and the list of what is unfinished in order of arrival.
struct PeerRequestTable {
    private(set) var entries: [PeerRequest]
    private var freeHead: Int32 = 0
    private(set) var list = RequestList()
    /// Entries that are not on the disk yet.
    private(set) var waiting = 0
    /// Of those: reads and resync blocks, which no epoch holds back.
    private(set) var waitingOutsideEpochs = 0
    private(set) var overruledCount = 0

    init(capacity: Int = Limits.peerRequests) {
        entries = Array(repeating: PeerRequest(), count: capacity)
        for index in 0..<capacity {
            entries[index].next = index + 1 < capacity ? Int32(index + 1) : -1
        }
    }

    subscript(index: Int32) -> PeerRequest {
        @inline(__always) _read { yield entries[Int(index)] }
        @inline(__always) _modify { yield &entries[Int(index)] }
    }

    var isFull: Bool { freeHead < 0 }

    mutating func take(_ kind: PeerRequest.Kind) -> Int32? {
        guard freeHead >= 0 else { return nil }
        let index = freeHead
        freeHead = entries[Int(index)].next
        let generation = entries[Int(index)].generation &+ 1
        entries[Int(index)] = PeerRequest()
        entries[Int(index)].generation = generation
        entries[Int(index)].stage = .waiting
        entries[Int(index)].kind = kind
        waiting += 1
        if !entries[Int(index)].isApplicationWrite { waitingOutsideEpochs += 1 }
        entries[Int(index)].previous = list.tail
        entries[Int(index)].next = -1
        if list.tail >= 0 { entries[Int(list.tail)].next = index } else { list.head = index }
        list.tail = index
        list.count += 1
        return index
    }

    /// The disk has it now.
    mutating func start(_ index: Int32) {
        invariant(!entries[Int(index)].isStarted, "a peer request starts once")
        stopWaiting(index)
        entries[Int(index)].stage = .running
    }

    /// Never gets there.
    mutating func overrule(_ index: Int32, by blockID: UInt64) {
        invariant(entries[Int(index)].stage == .waiting, "a peer's write is overruled when it has its turn")
        stopWaiting(index)
        overruledCount += 1
        entries[Int(index)].stage = .overruled
        entries[Int(index)].overruledBy = blockID
    }

    private mutating func stopWaiting(_ index: Int32) {
        waiting -= 1
        if !entries[Int(index)].isApplicationWrite { waitingOutsideEpochs -= 1 }
    }

    mutating func free(_ index: Int32) {
        invariant(entries[Int(index)].stage != .free, "a peer request is freed once")
        switch entries[Int(index)].stage {
        case .overruled: overruledCount -= 1
        case .waiting, .waitingTransaction, .waitingSequence: stopWaiting(index)
        case .running, .examined, .free: break
        }
        let previous = entries[Int(index)].previous
        let next = entries[Int(index)].next
        if previous >= 0 { entries[Int(previous)].next = next } else { list.head = next }
        if next >= 0 { entries[Int(next)].previous = previous } else { list.tail = previous }
        list.count -= 1
        entries[Int(index)].stage = .free
        entries[Int(index)].previous = -1
        entries[Int(index)].next = freeHead
        freeHead = index
    }

    func id(_ index: Int32) -> PeerRequestID {
        PeerRequestID(index: UInt32(bitPattern: index), generation: entries[Int(index)].generation)
    }

    func find(_ id: PeerRequestID) -> Int32? {
        guard Int(id.index) < entries.count, entries[Int(id.index)].generation == id.generation,
            entries[Int(id.index)].stage != .free
        else { return nil }
        return Int32(id.index)
    }
}
