/// One epoch of received writes: those between two P_BARRIERs (`wire.md` 7.5).
struct ReceiveEpoch {
    /// Ours; ascending over the life of the resource.
    var id: UInt64
    /// From the P_BARRIER that closed it; opaque.
    var barrier: UInt32 = 0
    /// P_DATA, P_TRIM, P_ZEROES and P_WSAME packets in it.
    var writes: UInt32 = 0
    var unfinished: UInt32 = 0
    /// Of its writes: not carried out because one of ours stands (`wire.md` 7.8).
    var overruled: UInt32 = 0
    var isClosed = false
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

/// The epochs of one connection that are not acknowledged yet, oldest first; the last one is open. And the groups in which
/// their writes go to the disk.
///
/// A write may depend on one of an earlier epoch only if the sender could have completed that one before, which takes
/// our answer to it (or, without an answer, its arrival). So epochs that follow each other unanswered go to the disk
/// together, and what write ordering demands (drain, flush) happens once between two groups instead of between any two
/// epochs. Groups, as epochs, ascend in order of arrival; an epoch may begin in one group and end in the next.
struct ReceiveEpochs {
    private(set) var epochs: [ReceiveEpoch]
    private var head = 0
    private(set) var count = 0
    /// Epochs with overruled writes.
    private var overruledEpochs = 0
    private var nextID: UInt64 = 1

    /// The group whose writes may be on the disk.
    private(set) var runningGroup: UInt64 = 1
    /// The group that arriving writes join.
    private var lastGroup: UInt64 = 1
    /// Writes of a group that have not ended, by its number modulo the capacity.
    private var unfinishedOfGroup: [UInt32]
    /// The oldest epoch with a write of the last group that the sender may have completed; 0 where that is as good as any.
    private var earliestAnswered = UInt64.max
    /// Writes of the running group that have ended, and that no flush has covered.
    private(set) var unflushed = 0
    /// Flushes of volumes that have not ended yet, after the running group has.
    var flushesPending = 0
    var isFlushing = false

    init(capacity: Int = Limits.openEpochs) {
        epochs = Array(repeating: ReceiveEpoch(id: 0), count: capacity)
        // Each group but the one behind a flush starts with a later epoch than the group before.
        unfinishedOfGroup = Array(repeating: 0, count: capacity + 2)
        open()
    }

    var oldest: ReceiveEpoch { epochs[head] }
    var current: ReceiveEpoch {
        get { epochs[(head + count - 1) % epochs.count] }
        _modify { yield &epochs[(head + count - 1) % epochs.count] }
    }
    var isFull: Bool { count == epochs.count }
    /// Writes came whose epoch is not acknowledged yet.
    var owesAcknowledgements: Bool { count > 1 || current.writes > 0 }
    /// Closed epochs with overruled writes, which a sender may take for never acknowledged (`askForEpochProof`).
    var owesProof: Bool {
        guard overruledEpochs > 0 else { return false }
        return (0..<count - 1).contains { epochs[(head + $0) % epochs.count].overruled > 0 }
    }
    /// The oldest epoch will get no further write, and all that it has have ended.
    var oldestIsComplete: Bool { oldest.isClosed && oldest.unfinished == 0 }

    mutating func open() {
        invariant(count < epochs.count, "unacknowledged epochs are bounded")
        epochs[(head + count) % epochs.count] = ReceiveEpoch(id: nextID)
        nextID += 1
        count += 1
    }

    mutating func removeOldest() {
        invariant(count > 1, "the open epoch is never removed")
        if oldest.overruled > 0 { overruledEpochs -= 1 }
        head = (head + 1) % epochs.count
        count -= 1
    }

    /// Takes a write into the open epoch. Returns its group.
    mutating func admit() -> UInt64 {
        current.unfinished += 1
        if earliestAnswered < current.id {
            lastGroup += 1
            invariant(lastGroup - runningGroup < UInt64(unfinishedOfGroup.count), "groups are bounded by the open epochs")
            unfinishedOfGroup[place(lastGroup)] = 0
            earliestAnswered = .max
        }
        unfinishedOfGroup[place(lastGroup)] += 1
        return lastGroup
    }

    /// The sender may complete this write from now on.
    mutating func answer(epoch: UInt64, group: UInt64) {
        if group == lastGroup { earliestAnswered = min(earliestAnswered, epoch) }
    }

    mutating func finishWrite(epoch id: UInt64, group: UInt64) {
        let index = index(of: id)
        invariant(epochs[index].unfinished > 0, "an epoch finishes each of its writes once")
        epochs[index].unfinished -= 1
        invariant(unfinishedOfGroup[place(group)] > 0, "a group finishes each of its writes once")
        unfinishedOfGroup[place(group)] -= 1
        unflushed += 1
    }

    /// A write is answered, and will never be on the disk. Its epoch waits for `finishOverruled`.
    mutating func overruleWrite(epoch id: UInt64, group: UInt64) {
        invariant(unfinishedOfGroup[place(group)] > 0, "a group finishes each of its writes once")
        unfinishedOfGroup[place(group)] -= 1
        if epochs[index(of: id)].overruled == 0 { overruledEpochs += 1 }
        epochs[index(of: id)].overruled += 1
        answer(epoch: id, group: group)
    }

    mutating func finishOverruled(epoch id: UInt64) {
        let index = index(of: id)
        invariant(epochs[index].unfinished > 0, "an epoch finishes each of its writes once")
        epochs[index].unfinished -= 1
    }

    private func index(of id: UInt64) -> Int {
        let offset = Int(id - epochs[head].id)
        invariant(offset < count, "a write belongs to a known epoch")
        return (head + offset) % epochs.count
    }

    var runningGroupHasEnded: Bool { unfinishedOfGroup[place(runningGroup)] == 0 }
    var hasWaitingGroup: Bool { lastGroup > runningGroup }

    /// A flush of the running group begins: writes that arrive from now on belong to the next.
    mutating func startFlush() {
        isFlushing = true
        unflushed = 0
        if !hasWaitingGroup { earliestAnswered = 0 }
    }

    /// All of the running group is as safe as write ordering demands.
    mutating func leaveRunningGroup() {
        invariant(runningGroupHasEnded, "a group follows one that has ended")
        if hasWaitingGroup { runningGroup += 1 } else { earliestAnswered = .max }
    }

    private func place(_ group: UInt64) -> Int { Int(group % UInt64(unfinishedOfGroup.count)) }

    /// A new connection: nothing is owed to the peer any more.
    mutating func reset() {
        count = 0
        overruledEpochs = 0
        open()
        runningGroup = lastGroup + 1
        lastGroup = runningGroup
        unfinishedOfGroup[place(runningGroup)] = 0
        earliestAnswered = .max
        unflushed = 0
        isFlushing = false
        flushesPending = 0
    }
}
