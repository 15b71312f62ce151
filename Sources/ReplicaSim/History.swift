import ReplicaProto

/// What clients may see: for every sector, the versions that it could hold now.
///
/// A write exists from the moment it is issued. Once it is acknowledged, everything that had ended before it was issued
/// is dead; a write without an acknowledgement (its node died) may have happened or not. A read that returned a version
/// kills what had ended before the read began. Whoever shows a dead version has lost a write or gone back in time.
/// This is linearizability of every sector as a register, with crashes.
package struct History {
    private struct Version {
        var value: UInt32
        var write: UInt32
        var issued: UInt64
        var ended: UInt64
        var died: UInt64
        var next: Int32
    }

    private static let never = UInt64.max
    private var heads: [Int32]
    private var pool: [Version] = []
    private var free: Int32 = -1
    /// Sectors that were ever written.
    private(set) var touched: [Int32] = []

    init(sectors: Int) { heads = Array(repeating: -1, count: sectors) }

    private mutating func prepend(_ sector: Int, _ version: Version) {
        var version = version
        version.next = heads[sector]
        if free >= 0 {
            let index = free
            free = pool[Int(index)].next
            pool[Int(index)] = version
            heads[sector] = index
        } else {
            pool.append(version)
            heads[sector] = Int32(pool.count - 1)
        }
    }

    /// A write (value: its stamp) or discard (value: 0) is on its way.
    mutating func begin(write: UInt32, value: UInt32, _ range: SectorRange, at now: Instant) {
        for sector in Int(range.start.value)..<Int(range.end.value) {
            if heads[sector] < 0 {
                touched.append(Int32(sector))
                prepend(sector, Version(value: 0, write: 0, issued: 0, ended: 0, died: Self.never, next: -1))
            }
            prepend(
                sector,
                Version(
                    value: value, write: write, issued: now.nanoseconds, ended: Self.never, died: Self.never, next: -1))
        }
    }

    /// The end of a write: acknowledged, or never to be (an error, a dead node).
    ///
    /// - Parameter oldestRead: when the oldest read that still runs was issued.
    mutating func end(
        write: UInt32, _ range: SectorRange, acknowledged: Bool, at now: Instant, oldestRead: Instant?
    ) {
        let horizon = oldestRead?.nanoseconds ?? now.nanoseconds
        for sector in Int(range.start.value)..<Int(range.end.value) {
            var issued: UInt64?
            var index = heads[sector]
            while index >= 0 {
                if pool[Int(index)].write == write, pool[Int(index)].ended == Self.never {
                    pool[Int(index)].ended = now.nanoseconds
                    issued = pool[Int(index)].issued
                }
                index = pool[Int(index)].next
            }
            guard acknowledged, let issued else { continue }
            kill(sector, endedBefore: issued, except: { $0.write == write }, at: now)
            bury(sector, before: horizon)
        }
    }

    private mutating func kill(
        _ sector: Int, endedBefore moment: UInt64, except isKept: (Version) -> Bool, at now: Instant
    ) {
        var index = heads[sector]
        while index >= 0 {
            let version = pool[Int(index)]
            if version.died == Self.never, version.ended < moment, !isKept(version) {
                pool[Int(index)].died = now.nanoseconds
            }
            index = version.next
        }
    }

    /// Forgets versions that died before `moment`.
    private mutating func bury(_ sector: Int, before moment: UInt64) {
        var previous: Int32 = -1
        var index = heads[sector]
        while index >= 0 {
            let next = pool[Int(index)].next
            if pool[Int(index)].died < moment {
                if previous < 0 { heads[sector] = next } else { pool[Int(previous)].next = next }
                pool[Int(index)].next = free
                free = index
            } else {
                previous = index
            }
            index = next
        }
    }

    /// Judges what a read returned. nil if that could be.
    mutating func check(_ range: SectorRange, _ stamps: [UInt32], issued: Instant, at now: Instant) -> String? {
        guard stamps.count == Int(range.count) else { return "read of \(range.count) sectors returned \(stamps.count)" }
        for (offset, value) in stamps.enumerated() {
            let sector = Int(range.start.value) + offset
            if heads[sector] < 0 {
                if value != 0 { return "sector \(sector) was never written and holds write \(value)" }
                continue
            }
            var isPossible = false
            var index = heads[sector]
            while index >= 0 {
                let version = pool[Int(index)]
                if version.value == value, version.died >= issued.nanoseconds { isPossible = true }
                index = version.next
            }
            if !isPossible { return "sector \(sector) holds write \(value), possible is \(versions(sector))" }
            kill(sector, endedBefore: issued.nanoseconds, except: { $0.value == value }, at: now)
        }
        return nil
    }

    /// Whether a disk may hold this now; nothing is in flight.
    func mayHold(_ sector: Int, _ value: UInt32) -> Bool {
        var index = heads[sector]
        if index < 0 { return value == 0 }
        while index >= 0 {
            let version = pool[Int(index)]
            if version.value == value, version.died == Self.never { return true }
            index = version.next
        }
        return false
    }

    /// A cache was lost: this older version may be what is left.
    mutating func revive(_ sector: Int, _ value: UInt32, at now: Instant) {
        guard heads[sector] >= 0, !mayHold(sector, value) else { return }
        prepend(
            sector,
            Version(
                value: value, write: .max, issued: 0, ended: now.nanoseconds, died: Self.never, next: -1))
    }

    /// The same where the write that is lost with it was answered from `first` to `last`: what had been answered before
    /// must be there, and so must what was answered later.
    mutating func revive(_ sector: Int, _ value: UInt32, lostFrom first: Instant, to last: Instant, at now: Instant) {
        var isLost = false
        var index = heads[sector]
        while index >= 0 {
            let version = pool[Int(index)]
            if version.died == Self.never, version.ended != Self.never {
                if version.ended < first.nanoseconds { return }
                if version.ended <= last.nanoseconds { isLost = true }
            }
            index = version.next
        }
        if isLost { revive(sector, value, at: now) }
    }

    /// For messages: what a sector may hold.
    func versions(_ sector: Int) -> String {
        var words: [String] = []
        var index = heads[sector]
        while index >= 0 {
            let version = pool[Int(index)]
            let fate = version.died != Self.never ? "dead" : version.ended == Self.never ? "running" : "done"
            words.append("\(version.value) (\(fate))")
            index = version.next
        }
        return words.joined(separator: ", ")
    }
}
