/// Which 4 MiB extents may have writes in flight: a cache of slots, each change of which is a transaction on disk
/// before the write that wanted it may go there (`metadata.md` 4.4 to 4.7).
///
/// A request acquires its extents and releases them when it is retired. An extent that nobody holds stays in its slot,
/// hot, until the slot is needed for another (least recently released first). Changes collect until
/// `beginTransaction` freezes them; those asked for while that transaction is being written collect for the next one.
/// All storage is allocated at `init`; nothing else allocates.
package struct ActivityLog: Equatable, Sendable {
    package enum Answer: Equatable, Sendable {
        /// Every extent is hot on disk; references are taken.
        case hot
        /// References are taken; the request waits until `committedTransaction` has reached the number.
        case pending(transaction: UInt64)
        /// Nothing was taken: no slot is free of references, or the transaction being collected has no room for all
        /// of the request's extents. To be tried again after a commit or a release.
        case full
    }

    /// What the writer of a frozen transaction must know.
    package struct Transaction: Equatable, Sendable {
        /// The number by which requests wait for it.
        package var sequence: UInt64
        /// tr_number
        package var number: UInt32
        /// Where it goes: block of the log area, in disk order.
        package var block: UInt32
        /// It drops extents: their bitmap pages, and with external metadata the data, must be durable first.
        package var evicts: Bool
    }

    private enum SlotState: UInt8 {
        case committed, collecting, writing
    }

    private static let none: Int32 = -1
    private static let free = ActivityLogTransaction.freeExtent

    /// Number of slots (`al-extents`).
    package let slots: Int

    // One entry per slot.
    private var extents: [UInt32]
    private var committedExtents: [UInt32]
    private var referenceCounts: [UInt32]
    private var states: [SlotState]
    /// Links of the candidate list: slots that may be given to another extent, the next to be taken first.
    private var older: [Int32]
    private var newer: [Int32]
    private var oldestCandidate: Int32 = none
    private var newestCandidate: Int32 = none
    private var candidates = 0
    /// Links of the slots whose extents fall into one bucket.
    private var nextInBucket: [Int32]
    private var buckets: [Int32]

    // The transaction being collected, and the one being written.
    private var collectedSlots: [UInt16]
    private var collectedCount = 0
    private var collectedEvicted: [UInt32]
    private var collectedEvictedCount = 0
    private var frozenSlots: [UInt16]
    private var frozenCount = 0
    private var frozenEvicted: [UInt32]
    private var frozenEvictedCount = 0
    private var frozen: Transaction?
    private var frozenContextStart = 0

    private var geometry = ActivityLogGeometry()
    private var nextNumber: UInt32 = 0
    private var contextStart = 0

    /// The last transaction that is durable; transactions are numbered from 1.
    package private(set) var committedTransaction: UInt64 = 0
    /// No slot could be found for a request; until one becomes available, every request is answered `.full`, so that
    /// hits do not overtake it for ever.
    package private(set) var isStarving = false
    /// Slots that hold an extent with references.
    package var slotsInUse: Int { slots &- candidates }
    /// References in all, one per extent of each acquired request.
    package private(set) var totalReferences = 0

    package init(slots: Int) {
        invariant(slots > 0 && slots <= Int(ActivityLogTransaction.slotLimit), "1 to 65534 activity log slots")
        self.slots = slots
        extents = Array(repeating: Self.free, count: slots)
        committedExtents = extents
        referenceCounts = Array(repeating: 0, count: slots)
        states = Array(repeating: .committed, count: slots)
        older = Array(repeating: Self.none, count: slots)
        newer = older
        nextInBucket = older
        var bucketCount = 64
        while bucketCount < 2 * slots { bucketCount *= 2 }
        buckets = Array(repeating: Self.none, count: bucketCount)
        collectedSlots = Array(repeating: 0, count: Limits.activityLogUpdates)
        frozenSlots = collectedSlots
        collectedEvicted = Array(repeating: 0, count: Limits.activityLogUpdates)
        frozenEvicted = collectedEvicted
        for slot in stride(from: slots - 1, through: 0, by: -1) { appendCandidate(Int32(slot)) }
    }

    /// Says where the ring is and which number comes next. A ring that still holds updates must be continued with the
    /// newest number plus one (`metadata.md` 5.4). An initialised one starts at its first place, with a multiple of the
    /// ring's blocks: only there is a torn first transaction taken for an empty log (`metadata.md` 4.9).
    package mutating func setRing(_ geometry: ActivityLogGeometry, startingNumber: UInt32) {
        invariant(frozen == nil, "the ring stays while a transaction is written")
        self.geometry = geometry
        nextNumber = startingNumber
    }

    // MARK: Requests

    /// Takes a reference to every extent of a request, all in one transaction if any of them is cold.
    package mutating func acquire(_ range: ClosedRange<UInt32>) -> Answer {
        invariant(range.count <= Limits.activityLogUpdates, "a request fits into one transaction")
        invariant(range.upperBound != Self.free, "0xffffffff is no extent")
        if isStarving { return .full }
        var misses = 0
        var idleHits = 0
        var waitsFor: UInt64 = 0
        for extent in range {
            let slot = slot(of: extent)
            if slot == Self.none {
                misses &+= 1
            } else {
                switch states[Int(slot)] {
                case .committed: if referenceCounts[Int(slot)] == 0 { idleHits &+= 1 }
                case .collecting: waitsFor = max(waitsFor, collectingSequence)
                case .writing: waitsFor = max(waitsFor, committedTransaction &+ 1)
                }
            }
        }
        if misses > 0 {
            if misses > candidates &- idleHits {
                isStarving = true
                return .full
            }
            if misses > Limits.activityLogUpdates &- collectedCount { return .full }
            waitsFor = collectingSequence
        }
        for extent in range {
            let slot = slot(of: extent)
            if slot != Self.none { addReference(Int(slot)) }
        }
        if misses > 0 {
            for extent in range where slot(of: extent) == Self.none { activate(extent) }
        }
        totalReferences &+= range.count
        return waitsFor > committedTransaction ? .pending(transaction: waitsFor) : .hot
    }

    /// Gives back what `acquire` took for the same range.
    package mutating func release(_ range: ClosedRange<UInt32>) {
        for extent in range {
            let slot = slot(of: extent)
            invariant(slot != Self.none && referenceCounts[Int(slot)] > 0, "extent \(extent) is referenced")
            referenceCounts[Int(slot)] &-= 1
            if referenceCounts[Int(slot)] == 0, states[Int(slot)] == .committed {
                appendCandidate(slot)
                isStarving = false
            }
        }
        totalReferences &-= range.count
    }

    package func references(of extent: UInt32) -> Int {
        let slot = slot(of: extent)
        return slot == Self.none ? 0 : Int(referenceCounts[Int(slot)])
    }

    /// Whether a request holds any of the four extents of a resync extent.
    package func isAnyReferenced(in extent: ResyncExtent) -> Bool {
        let first = extent.value &<< 2
        return references(of: first) > 0 || references(of: first | 1) > 0 || references(of: first | 2) > 0
            || references(of: first | 3) > 0
    }

    /// The extent that a slot of the durable log holds.
    package func extent(inSlot slot: Int) -> UInt32? {
        committedExtents[slot] == Self.free ? nil : committedExtents[slot]
    }

    /// Whether the extent is in the durable log.
    package func isHot(_ extent: UInt32) -> Bool {
        let slot = slot(of: extent)
        return slot != Self.none && states[Int(slot)] == .committed
    }

    // MARK: Transactions

    /// Changes wait to be written.
    package var hasPending: Bool { collectedCount > 0 }
    /// A transaction is being written.
    package var isWriting: Bool { frozen != nil }
    /// Changes collected for the next transaction.
    package var pendingCount: Int { collectedCount }

    /// Freezes what was collected (possibly nothing: then the transaction carries only context) as the transaction to
    /// be written now.
    package mutating func beginTransaction() -> Transaction {
        invariant(frozen == nil, "one activity log transaction is written at a time")
        swap(&collectedSlots, &frozenSlots)
        swap(&collectedEvicted, &frozenEvicted)
        frozenCount = collectedCount
        frozenEvictedCount = collectedEvictedCount
        collectedCount = 0
        collectedEvictedCount = 0
        for index in 0..<frozenCount { states[Int(frozenSlots[index])] = .writing }
        let transaction = Transaction(
            sequence: committedTransaction &+ 1, number: nextNumber, block: geometry.block(ofTransaction: nextNumber),
            evicts: frozenEvictedCount > 0)
        frozenContextStart = contextStart
        contextStart &+= Limits.activityLogContext
        if contextStart >= slots { contextStart = 0 }
        nextNumber &+= 1
        frozen = transaction
        return transaction
    }

    /// Transactions that in their context, taken together, tell all slots.
    package var contextTransactions: Int { (slots &+ Limits.activityLogContext &- 1) / Limits.activityLogContext }

    /// The transaction that is being written.
    package var transactionInFlight: Transaction? { frozen }

    /// Extents that the transaction being written drops: the changed bitmap pages that cover them (page = extent >> 5)
    /// must be written first, and durable no later than the transaction.
    package var evictedExtents: ArraySlice<UInt32> { frozenEvicted[0..<frozenEvictedCount] }

    /// Extents that the log is about to forget, by the transaction being written or the next one.
    package var leavingExtents: [UInt32] {
        Array(frozenEvicted[0..<frozenEvictedCount]) + collectedEvicted[0..<collectedEvictedCount]
    }

    /// Writes the frozen transaction's block into 4096 bytes.
    package func encodeTransaction(into bytes: inout MutableRawSpan) {
        guard let transaction = frozen else { invariantBroken("a transaction is being written", #fileID, #line) }
        ActivityLogTransaction.writeHead(
            into: &bytes, number: transaction.number, type: ActivityLogTransaction.typeUpdate, updates: frozenCount,
            contextSize: UInt16(slots), contextStart: UInt16(frozenContextStart))
        for index in 0..<Limits.activityLogUpdates {
            let update: ActivityLogTransaction.Update
            if index < frozenCount {
                let slot = frozenSlots[index]
                update = .init(slot: slot, extent: extents[Int(slot)])
            } else {
                update = .init(slot: ActivityLogTransaction.unusedSlot, extent: Self.free)
            }
            ActivityLogTransaction.writeUpdate(update, at: index, into: &bytes)
        }
        for index in 0..<Limits.activityLogContext {
            let slot = frozenContextStart &+ index
            bytes.writeBE(
                slot < slots ? committedExtents[slot] : Self.free,
                at: ActivityLogTransaction.Offset.context &+ 4 &* index)
        }
        ActivityLogTransaction.seal(&bytes)
    }

    package func encodeTransaction(into bytes: inout [UInt8]) {
        var span = bytes.mutableSpan
        var raw = unsafe span.mutableBytes
        encodeTransaction(into: &raw)
    }

    @unsafe package func encodeTransaction(into bytes: UnsafeMutableRawBufferPointer) {
        var raw = unsafe bytes.mutableBytes
        encodeTransaction(into: &raw)
    }

    /// The frozen transaction is durable: its extents are hot, and `committedTransaction` has its sequence.
    package mutating func transactionCommitted() {
        guard let transaction = frozen else { invariantBroken("a transaction is being written", #fileID, #line) }
        for index in 0..<frozenCount {
            let slot = Int(frozenSlots[index])
            committedExtents[slot] = extents[slot]
            states[slot] = .committed
            if referenceCounts[slot] == 0 { appendCandidate(Int32(slot)) }
        }
        frozenCount = 0
        frozenEvictedCount = 0
        frozen = nil
        committedTransaction = transaction.sequence
        isStarving = false
    }

    // MARK: Slots

    /// Extents whose slots may be given away, the next one first.
    var candidateExtents: [UInt32] {
        var found: [UInt32] = []
        var slot = oldestCandidate
        while slot != Self.none {
            if extents[Int(slot)] != Self.free { found.append(extents[Int(slot)]) }
            slot = newer[Int(slot)]
        }
        return found
    }

    private var collectingSequence: UInt64 { committedTransaction &+ (frozen == nil ? 1 : 2) }

    private mutating func addReference(_ slot: Int) {
        if referenceCounts[slot] == 0, states[slot] == .committed { removeCandidate(Int32(slot)) }
        referenceCounts[slot] &+= 1
    }

    /// Gives the oldest candidate's slot to `extent`.
    private mutating func activate(_ extent: UInt32) {
        let slot = oldestCandidate
        invariant(slot != Self.none, "a candidate was counted")
        removeCandidate(slot)
        let old = extents[Int(slot)]
        if old != Self.free {
            removeFromBucket(slot, of: old)
            collectedEvicted[collectedEvictedCount] = old
            collectedEvictedCount &+= 1
        }
        extents[Int(slot)] = extent
        addToBucket(slot, of: extent)
        referenceCounts[Int(slot)] = 1
        states[Int(slot)] = .collecting
        collectedSlots[collectedCount] = UInt16(slot)
        collectedCount &+= 1
    }

    private mutating func appendCandidate(_ slot: Int32) {
        older[Int(slot)] = newestCandidate
        newer[Int(slot)] = Self.none
        if newestCandidate == Self.none {
            oldestCandidate = slot
        } else {
            newer[Int(newestCandidate)] = slot
        }
        newestCandidate = slot
        candidates &+= 1
    }

    private mutating func removeCandidate(_ slot: Int32) {
        let before = older[Int(slot)]
        let after = newer[Int(slot)]
        if before == Self.none { oldestCandidate = after } else { newer[Int(before)] = after }
        if after == Self.none { newestCandidate = before } else { older[Int(after)] = before }
        candidates &-= 1
    }

    // MARK: Index

    private func bucket(of extent: UInt32) -> Int {
        Int((UInt64(extent) &* 0x9e37_79b9_7f4a_7c15) >> 32) & (buckets.count &- 1)
    }

    private func slot(of extent: UInt32) -> Int32 {
        var slot = buckets[bucket(of: extent)]
        while slot != Self.none, extents[Int(slot)] != extent { slot = nextInBucket[Int(slot)] }
        return slot
    }

    private mutating func addToBucket(_ slot: Int32, of extent: UInt32) {
        let bucket = bucket(of: extent)
        nextInBucket[Int(slot)] = buckets[bucket]
        buckets[bucket] = slot
    }

    private mutating func removeFromBucket(_ slot: Int32, of extent: UInt32) {
        let bucket = bucket(of: extent)
        if buckets[bucket] == slot {
            buckets[bucket] = nextInBucket[Int(slot)]
            return
        }
        var other = buckets[bucket]
        while nextInBucket[Int(other)] != slot { other = nextInBucket[Int(other)] }
        nextInBucket[Int(other)] = nextInBucket[Int(slot)]
    }
}
