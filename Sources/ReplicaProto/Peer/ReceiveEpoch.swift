/// One epoch of received writes: those between two P_BARRIERs. Writes of a later epoch must not reach the disk before
/// those of an earlier one are as safe as the write ordering method demands (`wire.md` 7.5).
struct ReceiveEpoch {
    /// Ours; ascending over the life of the resource.
    var id: UInt64
    /// From the P_BARRIER that closed it; opaque.
    var barrier: UInt32 = 0
    /// P_DATA, P_TRIM, P_ZEROES and P_WSAME packets in it.
    var writes: UInt32 = 0
    var unfinished: UInt32 = 0
    var isClosed = false
    /// Flushes of volumes that have not ended yet, while the epoch waits for them.
    var flushesPending = 0
    var isFlushing = false
}

/// How writes of one epoch are kept apart from those of the next.
enum WriteOrdering: UInt8, Comparable {
    case none, drain, flush

    static func < (left: WriteOrdering, right: WriteOrdering) -> Bool { left.rawValue < right.rawValue }
    var letter: Character {
        switch self {
        case .none: "n"
        case .drain: "d"
        case .flush: "f"
        }
    }
}

/// The epochs of one connection that are not acknowledged yet, oldest first; the last one is open.
struct ReceiveEpochs {
    private(set) var epochs: [ReceiveEpoch]
    private var head = 0
    private(set) var count = 0
    private var nextID: UInt64 = 1

    init() {
        epochs = Array(repeating: ReceiveEpoch(id: 0), count: Limits.openEpochs)
        open()
    }

    var oldest: ReceiveEpoch {
        get { epochs[head] }
        _modify { yield &epochs[head] }
    }
    var current: ReceiveEpoch {
        get { epochs[(head + count - 1) % epochs.count] }
        _modify { yield &epochs[(head + count - 1) % epochs.count] }
    }
    var isFull: Bool { count == epochs.count }

    mutating func open() {
        invariant(count < epochs.count, "unacknowledged epochs are bounded")
        epochs[(head + count) % epochs.count] = ReceiveEpoch(id: nextID)
        nextID += 1
        count += 1
    }

    mutating func removeOldest() {
        invariant(count > 1, "the open epoch is never removed")
        head = (head + 1) % epochs.count
        count -= 1
    }

    mutating func finishWrite(of id: UInt64) {
        let offset = Int(id - epochs[head].id)
        invariant(offset < count, "a write belongs to a known epoch")
        let index = (head + offset) % epochs.count
        invariant(epochs[index].unfinished > 0, "an epoch finishes each of its writes once")
        epochs[index].unfinished -= 1
    }

    /// A new connection: nothing is owed to the peer any more.
    mutating func reset() {
        count = 0
        open()
    }
}
