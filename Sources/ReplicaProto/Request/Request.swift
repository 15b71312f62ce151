/// One client request (or a piece of one) from its arrival until it is forgotten.
///
/// A write outlives its reply: it stays in the transfer log until the peer has acknowledged its epoch, because only
/// then is it certain that both disks agree.
struct Request {
    enum Kind: UInt8 { case read, write, discard, flush }

    /// Where the request stands on its way to the disks.
    enum Stage: UInt8 {
        case free
        /// I/O is frozen, or a bitmap exchange forbids new I/O.
        case waitingAdmission
        /// The activity log has no room at the moment.
        case waitingLogSpace
        /// Its extents become hot with a transaction that is not durable yet.
        case waitingTransaction
        /// An earlier request or resync I/O overlaps.
        case waitingOverlap
        /// On its way to the disks.
        case running
        /// The peer wants it written again, after a write of its own that is on its way.
        case postponed
        /// The client has its answer; only the transfer log still knows the request.
        case answered
    }

    var stage = Stage.free
    var kind = Kind.read
    var discardKind = DiscardKind.trim
    var id = RequestID(index: 0, generation: 0)
    /// Index into `Resource.volumes`.
    var volume = 0
    var range = SectorRange(0, 0)
    var buffer: BufferSlot?
    var fua = false
    var local = LocalProgress.pending
    var remote = RemoteProgress.absent
    /// A local read failed and the peer is asked instead, or the other way round.
    var retried = false
    /// The write epoch of the connection it was sent in; for a flush, the last epoch that it waits for.
    var epoch: UInt32 = 0
    /// Sequence of the activity log transaction that it waits for.
    var transaction: UInt64 = 0
    var holdsExtents = false
    var inTransferLog = false
    /// The client was told that it failed: nobody counts on it.
    var hasFailed = false
    /// The peer acknowledged its epoch while our own disk still works on it.
    var acknowledgedEpoch = false
    /// Packets that it went in and that the peer has not said to have written.
    var piecesLeft = 1
    /// The peer said that the block is in sync now (P_RS_WRITE_ACK).
    var peerClearedBits = false
    /// Counted in the volume's `peerPending`.
    var isPeerPending = false
    /// The peer wants it again, of which it has not answered all pieces yet.
    var isWantedAgain = false
    /// Postponed, and to be written again as soon as our disk is through with it.
    var restarts = false
    /// Packets that it was sent in: more than one where the agreed version takes less in one.
    var parts: UInt16 = 1
    /// The peer acknowledges this write by itself, not only its epoch.
    var expectsAck = false
    /// Use of this table entry, part of the block_id on the wire: a late ack for an earlier use does not match.
    var generation: UInt32 = 0
    var sentAt = Instant.zero
    var moments = RequestMoments()
    /// Neighbours in the volume's list of unanswered requests, in order of arrival.
    var previous: Int32 = -1
    var next: Int32 = -1
    /// Neighbours in the transfer log, in order of sending.
    var logPrevious: Int32 = -1
    var logNext: Int32 = -1

    var isWrite: Bool { kind == .write || kind == .discard }
    /// Whether it changes data now or may start to at any moment without asking again.
    var isRunningWrite: Bool { isWrite && stage == .running }
}

/// How far the local disk is with a request.
enum LocalProgress: UInt8, CaseIterable {
    case pending, succeeded, failed
    /// There is no local disk to ask.
    case diskless
}

/// How far the peer is with a request.
enum RemoteProgress: UInt8, CaseIterable {
    /// Not asked, or no longer there to answer.
    case absent
    /// In our send queue.
    case queued
    /// Handed to the network.
    case sent
    /// P_RECV_ACK
    case received
    /// P_WRITE_ACK, P_RS_WRITE_ACK, or the data of a read
    case written
    /// P_NEG_ACK, P_NEG_DREPLY
    case refused
}

/// A doubly linked list through a request table; the links live in the table.
struct RequestList {
    var head: Int32 = -1
    var tail: Int32 = -1
    var count = 0
}

/// All client requests of a resource: a table of fixed size, so that a request is an index.
struct RequestTable {
    private(set) var entries: [Request]
    private var freeHead: Int32
    private(set) var freeCount: Int
    /// Entry of the request that uses a client index now, -1 if none.
    private var entryOfClient: [Int32]

    init(capacity: Int = Limits.requestTable, clients: Int = Limits.clientRequests) {
        invariant(clients < capacity, "answered requests have room beside unanswered ones")
        entries = Array(repeating: Request(), count: capacity)
        for index in 0..<capacity {
            entries[index].next = index + 1 < capacity ? Int32(index + 1) : -1
        }
        freeHead = 0
        freeCount = capacity
        entryOfClient = Array(repeating: -1, count: clients)
    }

    /// Unanswered requests that there can be.
    var clients: Int { entryOfClient.count }

    subscript(index: Int32) -> Request {
        @inline(__always) _read { yield entries[Int(index)] }
        @inline(__always) _modify { yield &entries[Int(index)] }
    }

    /// Takes a free entry. Unanswered requests are bounded by `Limits.clientRequests`, answered ones by the epochs that
    /// the transfer log keeps, so the caller checks `freeCount` before it admits anything.
    mutating func take(_ id: RequestID) -> Int32 {
        invariant(freeHead >= 0, "a request table entry is free for every admitted request")
        invariant(Int(id.index) < clients, "client index \(id.index) is below \(clients)")
        invariant(entryOfClient[Int(id.index)] < 0, "client index \(id.index) is used once at a time")
        let index = freeHead
        freeHead = entries[Int(index)].next
        freeCount -= 1
        let generation = entries[Int(index)].generation &+ 1
        entries[Int(index)] = Request()
        entries[Int(index)].generation = generation
        entries[Int(index)].id = id
        entryOfClient[Int(id.index)] = index
        return index
    }

    var isUnused: Bool { freeCount == entries.count }

    /// The client has its answer: its index may be used again.
    mutating func forgetClient(_ index: Int32) {
        let client = Int(entries[Int(index)].id.index)
        invariant(entryOfClient[client] == index, "a request is answered once")
        entryOfClient[client] = -1
    }

    mutating func free(_ index: Int32) {
        invariant(entries[Int(index)].stage != .free, "a request table entry is freed once")
        entries[Int(index)].stage = .free
        entries[Int(index)].next = freeHead
        freeHead = index
        freeCount += 1
    }

    /// The entry of an unanswered client request, or nil for a stale identity.
    func find(_ id: RequestID) -> Int32? {
        guard Int(id.index) < entryOfClient.count else { return nil }
        let index = entryOfClient[Int(id.index)]
        guard index >= 0, entries[Int(index)].id == id else { return nil }
        return index
    }

    /// What the peer is told as block_id: never zero, never all ones, unique among outstanding requests.
    func blockID(_ index: Int32) -> UInt64 {
        UInt64(entries[Int(index)].generation) << 32 | UInt64(UInt32(bitPattern: index) + 1)
    }

    /// The entry that a block_id names, if it was ours and is still outstanding.
    func find(blockID: UInt64) -> Int32? {
        let low = UInt32(truncatingIfNeeded: blockID)
        guard low >= 1, Int(low) <= entries.count else { return nil }
        let index = Int(low) - 1
        guard entries[index].stage != .free, entries[index].generation == UInt32(truncatingIfNeeded: blockID >> 32)
        else { return nil }
        return Int32(index)
    }

    mutating func append(_ index: Int32, to list: inout RequestList) {
        entries[Int(index)].previous = list.tail
        entries[Int(index)].next = -1
        if list.tail >= 0 { entries[Int(list.tail)].next = index } else { list.head = index }
        list.tail = index
        list.count += 1
    }

    mutating func remove(_ index: Int32, from list: inout RequestList) {
        let previous = entries[Int(index)].previous
        let next = entries[Int(index)].next
        if previous >= 0 { entries[Int(previous)].next = next } else { list.head = next }
        if next >= 0 { entries[Int(next)].previous = previous } else { list.tail = previous }
        entries[Int(index)].previous = -1
        entries[Int(index)].next = -1
        list.count -= 1
    }

    mutating func appendToLog(_ index: Int32, _ log: inout RequestList) {
        entries[Int(index)].logPrevious = log.tail
        entries[Int(index)].logNext = -1
        if log.tail >= 0 { entries[Int(log.tail)].logNext = index } else { log.head = index }
        log.tail = index
        log.count += 1
        entries[Int(index)].inTransferLog = true
    }

    mutating func removeFromLog(_ index: Int32, _ log: inout RequestList) {
        invariant(entries[Int(index)].inTransferLog, "only a logged request leaves the transfer log")
        let previous = entries[Int(index)].logPrevious
        let next = entries[Int(index)].logNext
        if previous >= 0 { entries[Int(previous)].logNext = next } else { log.head = next }
        if next >= 0 { entries[Int(next)].logPrevious = previous } else { log.tail = previous }
        entries[Int(index)].logPrevious = -1
        entries[Int(index)].logNext = -1
        entries[Int(index)].inTransferLog = false
        log.count -= 1
    }
}
