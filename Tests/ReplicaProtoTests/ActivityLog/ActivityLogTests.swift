import Testing

@testable import ReplicaProto

@Suite struct ActivityLogTests {
    private func log(slots: Int = 1237) -> ActivityLog { ActivityLog(slots: slots) }

    @discardableResult
    private func commit(_ log: inout ActivityLog) -> ActivityLog.Transaction {
        let transaction = log.beginTransaction()
        log.transactionCommitted()
        return transaction
    }

    @Test func item27SixtyFourColdWritesShareATransaction() {
        var log = log()
        for extent in 0..<64 as Range<UInt32> { #expect(log.acquire(extent...extent) == .pending(transaction: 1)) }
        #expect(log.acquire(64...64) == .full)
        #expect(!log.isStarving)
        #expect(log.acquire(3...3) == .pending(transaction: 1))
        let first = log.beginTransaction()
        #expect(first == .init(sequence: 1, number: 0, block: 0, evicts: false))
        #expect(log.acquire(64...64) == .pending(transaction: 2))
        #expect(log.acquire(63...64) == .pending(transaction: 2))
        #expect(log.acquire(62...63) == .pending(transaction: 1))
        log.transactionCommitted()
        #expect(log.committedTransaction == 1)
        #expect(commit(&log).sequence == 2)
        #expect(log.isHot(64))
    }

    @Test func item28HotExtentsCostNothingAndStayHot() {
        var log = log(slots: 67)
        #expect(log.acquire(5...6) == .pending(transaction: 1))
        #expect(!log.isHot(5))
        commit(&log)
        log.release(5...6)
        #expect(log.acquire(5...5) == .hot)
        #expect(log.references(of: 5) == 1)
        log.release(5...5)
        #expect(!log.hasPending)
        // 65 free slots are taken before the least recently released one.
        for extent in 100..<164 as Range<UInt32> {
            #expect(log.acquire(extent...extent) == .pending(transaction: 2))
        }
        commit(&log)
        #expect(log.acquire(164...164) == .pending(transaction: 3))
        #expect(log.isHot(5) && log.isHot(6))
        #expect(log.acquire(165...165) == .pending(transaction: 3))
        #expect(!log.isHot(6))
        #expect(log.isHot(5))
        let transaction = log.beginTransaction()
        #expect(transaction.evicts)
        #expect(log.evictedExtents == [6])
    }

    @Test func requestsNeverStraddleTransactions() {
        var log = log()
        for extent in 0..<50 as Range<UInt32> { _ = log.acquire(extent...extent) }
        #expect(log.acquire(100...131) == .full)
        #expect(log.references(of: 100) == 0)
        #expect(log.acquire(100...113) == .pending(transaction: 1))
        #expect(log.acquire(114...114) == .full)
        #expect(log.pendingCount == 64)
    }

    @Test func starvingHoldsBackHits() {
        var log = log(slots: 4)
        #expect(log.acquire(0...3) == .pending(transaction: 1))
        #expect(log.acquire(0...0) == .pending(transaction: 1))
        commit(&log)
        #expect(log.acquire(9...9) == .full)
        #expect(log.isStarving)
        #expect(log.acquire(1...1) == .full)
        log.release(0...3)
        #expect(!log.isStarving)
        #expect(log.acquire(9...9) == .pending(transaction: 2))
        #expect(log.references(of: 0) == 1)
        #expect(log.isHot(0))
    }

    @Test func hitsOfARequestAreNotEvictedForItsMisses() {
        var log = log(slots: 4)
        #expect(log.acquire(0...3) == .pending(transaction: 1))
        commit(&log)
        log.release(0...3)
        #expect(log.acquire(2...5) == .pending(transaction: 2))
        let transaction = log.beginTransaction()
        #expect(transaction.evicts)
        #expect(log.evictedExtents.sorted() == [0, 1])
        #expect((2...5).allSatisfy { log.references(of: UInt32($0)) == 1 })
    }

    /// Released while its transaction is written: not to be given away before it is on disk.
    @Test func pendingSlotsAreNoCandidates() {
        var log = log(slots: 2)
        #expect(log.acquire(0...1) == .pending(transaction: 1))
        log.release(0...1)
        #expect(log.acquire(2...2) == .full)
        _ = log.beginTransaction()
        #expect(log.acquire(2...2) == .full)
        log.transactionCommitted()
        #expect(log.acquire(2...2) == .pending(transaction: 2))
    }

    @Test func referencesByResyncExtent() {
        var log = log()
        #expect(log.acquire(7...8) == .pending(transaction: 1))
        #expect(!log.isAnyReferenced(in: ResyncExtent(0)))
        #expect(log.isAnyReferenced(in: ResyncExtent(1)))
        #expect(log.isAnyReferenced(in: ResyncExtent(2)))
        #expect(!log.isAnyReferenced(in: ResyncExtent(3)))
        #expect(!log.isAnyReferenced(in: ResyncExtent(.max)))
        #expect(log.totalReferences == 2)
    }

    /// `al-extents` limits, `metadata.md` 4.4.
    @Test func slotsAreClampedToWhatTheRingCarries() {
        let standard = ActivityLogGeometry()
        #expect(standard.slots(configured: 1237) == 1237)
        #expect(standard.slots(configured: 7) == 7)
        #expect(standard.slots(configured: 6433) == 6433)
        #expect(standard.slots(configured: 6434) == 6433)
        #expect(ActivityLogGeometry(stripes: 9, stripeBlocks: 8).slots(configured: 70000) == 65249)
        #expect(ActivityLogGeometry(stripes: 16, stripeBlocks: 8).slots(configured: 70000) == 65534)
    }

    /// Places of consecutive transactions, `metadata.md` 1.7.
    @Test(arguments: [(4, 16), (3, 3), (2, 4), (1, 8)] as [(UInt32, UInt32)])
    func item4StripedPlaces(stripes: UInt32, blocks: UInt32) {
        let geometry = ActivityLogGeometry(stripes: stripes, stripeBlocks: blocks)
        var seen: [UInt32] = []
        for number in 0..<geometry.blocks {
            let block = geometry.block(ofTransaction: number)
            #expect(block == (number % stripes) * blocks + number / stripes)
            #expect(geometry.block(ofTransaction: number + geometry.blocks) == block)
            seen.append(block)
        }
        #expect(seen.sorted() == Array(0..<geometry.blocks))
    }

    /// A random life of the log, and a crash before every block write: replay must name every extent that is hot for
    /// its user, and what it names beyond that was hot in the block before.
    @Test(arguments: Seeds.thisRun) func replayCoversEveryHotExtent(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let geometry = [
            ActivityLogGeometry(), ActivityLogGeometry(stripes: 3, stripeBlocks: 3),
            ActivityLogGeometry(stripes: 2, stripeBlocks: 4),
        ].randomElement(using: &generator)!
        let slots = [67, 1237, 3000].randomElement(using: &generator)!
        var log = ActivityLog(slots: slots)
        // An initialised ring begins at its first place. Across the wrap only where 2^32 is a multiple of the ring:
        // elsewhere places jump there (`metadata.md` 4.9).
        let wraps = geometry.blocks & (geometry.blocks - 1) == 0
        log.setRing(geometry, startingNumber: wraps ? 0 &- geometry.blocks &* 4 : geometry.blocks &* 5)
        var ring = (0..<geometry.blocks).flatMap { _ in ActivityLogTransaction.initialisedBlock() }
        var held: [(ClosedRange<UInt32>, UInt64)] = []
        var committed: UInt64 = 0
        var block = [UInt8](repeating: 0, count: 4096)
        var space: UInt32 = 200
        for _ in 0..<250 {
            if Int.random(in: 0..<50, using: &generator) == 0 { space = UInt32.random(in: 60...9000, using: &generator) }
            let first = UInt32.random(in: 0..<space, using: &generator)
            let range = first...first + UInt32.random(in: 0...(first % 7 == 0 ? 31 : 1), using: &generator)
            switch log.acquire(range) {
            case .hot: held.append((range, committed))
            case .pending(let transaction):
                #expect(transaction > committed)
                held.append((range, transaction))
            case .full:
                if log.isStarving { #expect(held.count > 0 || log.hasPending) }
            }
            while held.count > 60 || (log.isStarving && !held.isEmpty) || Int.random(in: 0..<3, using: &generator) == 0 {
                guard let index = held.indices.randomElement(using: &generator) else { break }
                log.release(held.remove(at: index).0)
            }
            guard log.hasPending, log.isStarving || log.pendingCount > 40 || Bool.random(using: &generator) else { continue }
            let transaction = log.beginTransaction()
            #expect(transaction.sequence == committed + 1)
            log.encodeTransaction(into: &block)
            let torn = Bool.random(using: &generator)
            let start = Int(transaction.block) * 4096
            if torn {
                var half = ring
                half.replaceSubrange(start..<start + 2048, with: block[0..<2048])
                check(half, geometry, held.filter { $0.1 <= committed }.map(\.0))
            }
            ring.replaceSubrange(start..<start + 4096, with: block)
            check(ring, geometry, held.filter { $0.1 <= committed + 1 }.map(\.0))
            log.transactionCommitted()
            committed += 1
            #expect(log.committedTransaction == committed)
        }
        for (range, _) in held { log.release(range) }
        #expect(log.totalReferences == 0)
        #expect(committed > 40)
    }

    private func check(_ ring: [UInt8], _ geometry: ActivityLogGeometry, _ hot: [ClosedRange<UInt32>]) {
        let replay = ActivityLogReplay(ring: ring, geometry: geometry)
        let found: Set<UInt32>
        switch replay.outcome {
        case .updates(let extents): found = Set(extents)
        case .empty: found = []
        case .noUsableLog, .unusable: found = []; Issue.record("\(replay.outcome)")
        }
        for range in hot { for extent in range where !found.contains(extent) { Issue.record("\(extent) is not replayed") } }
    }

    /// The same answers as a plain model: sets, a list in order of release, no links.
    @Test(arguments: Seeds.thisRun) func agreesWithAModel(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let slots = [33, 67, 100].randomElement(using: &generator)!
        var log = ActivityLog(slots: slots)
        var references: [UInt32: Int] = [:]
        var pending: [UInt32: UInt64] = [:]
        var idle: [UInt32] = []  // Cold end first.
        var free = slots
        var committed: UInt64 = 0
        var isWriting = false
        var collected = 0
        var starving = false
        var held: [ClosedRange<UInt32>] = []
        for _ in 0..<2000 {
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<5:
                let first = UInt32.random(in: 0..<150, using: &generator)
                let range = first...first + UInt32.random(in: 0...3, using: &generator)
                let misses = range.filter { references[$0] == nil && pending[$0] == nil && !idle.contains($0) }
                let usable = free + idle.count { !range.contains($0) }
                let collecting = committed + (isWriting ? 2 : 1)
                var expected = ActivityLog.Answer.hot
                if starving {
                    expected = .full
                } else if misses.count > usable {
                    starving = true
                    expected = .full
                } else if misses.count + collected > 64 {
                    expected = .full
                } else {
                    let waits = range.compactMap { pending[$0] }.max() ?? 0
                    if !misses.isEmpty { expected = .pending(transaction: collecting) }
                    else if waits > 0 { expected = .pending(transaction: waits) }
                    idle.removeAll { range.contains($0) }
                    for extent in misses {
                        if free > 0 { free -= 1 } else { idle.removeFirst() }
                        pending[extent] = collecting
                        collected += 1
                    }
                    for extent in range { references[extent, default: 0] += 1 }
                    held.append(range)
                }
                #expect(log.acquire(range) == expected)
            case 5..<8:
                guard let index = held.indices.randomElement(using: &generator) else { continue }
                let range = held.remove(at: index)
                log.release(range)
                for extent in range {
                    references[extent]! -= 1
                    if references[extent] == 0 {
                        references[extent] = nil
                        if pending[extent] == nil {
                            idle.append(extent)
                            starving = false
                        }
                    }
                }
            case 8:
                if isWriting || collected == 0 { continue }
                #expect(log.beginTransaction().sequence == committed + 1)
                isWriting = true
                collected = 0
            default:
                guard isWriting else { continue }
                log.transactionCommitted()
                isWriting = false
                committed += 1
                starving = false
                // In order of their slots' taking; what nobody holds becomes idle in that order.
                let done = Set(pending.filter { $0.value == committed }.keys)
                let order = log.candidateExtents.filter { done.contains($0) }
                for extent in done { pending[extent] = nil }
                idle += order.filter { references[$0] == nil }
                #expect(idle == log.candidateExtents)
            }
            #expect(log.isStarving == starving)
            #expect(log.pendingCount == collected)
            let probe = UInt32.random(in: 0..<150, using: &generator)
            #expect(log.references(of: probe) == references[probe] ?? 0)
            #expect(log.isHot(probe) == ((references[probe] != nil || idle.contains(probe)) && pending[probe] == nil))
        }
        #expect(committed > 50)
    }
}
