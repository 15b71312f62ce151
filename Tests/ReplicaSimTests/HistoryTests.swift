import ReplicaProto
@testable import ReplicaSim
import Testing

/// The judge is judged: what the history lets pass, and what not.
@Suite struct HistoryTests {
    private func moment(_ value: UInt64) -> Instant { Instant(nanoseconds: value) }
    private let block = SectorRange(8, 8)

    private func stamps(_ value: UInt32) -> [UInt32] { Array(repeating: value, count: 8) }

    @Test func anAcknowledgedWriteIsSeen() {
        var history = History(sectors: 64)
        history.begin(write: 1, value: 1, block, at: moment(10))
        #expect(history.check(block, stamps(0), issued: moment(11), at: moment(12)) == nil)
        history.end(write: 1, block, acknowledged: true, at: moment(20), oldestRead: nil)
        #expect(history.check(block, stamps(0), issued: moment(21), at: moment(22)) != nil)
        #expect(history.check(block, stamps(1), issued: moment(21), at: moment(22)) == nil)
    }

    @Test func aReadThatBeganEarlierMaySeeTheOldData() {
        var history = History(sectors: 64)
        history.begin(write: 1, value: 1, block, at: moment(10))
        history.end(write: 1, block, acknowledged: true, at: moment(20), oldestRead: moment(15))
        #expect(history.check(block, stamps(0), issued: moment(15), at: moment(25)) == nil)
    }

    @Test func anUnansweredWriteMayHaveHappenedOrNot() {
        for value in [UInt32(1), 2] {
            var history = History(sectors: 64)
            history.begin(write: 1, value: 1, block, at: moment(10))
            history.end(write: 1, block, acknowledged: true, at: moment(11), oldestRead: nil)
            history.begin(write: 2, value: 2, block, at: moment(20))
            history.end(write: 2, block, acknowledged: false, at: moment(30), oldestRead: nil)
            #expect(history.check(block, stamps(value), issued: moment(40), at: moment(41)) == nil)
            // Once seen, it stays so.
            #expect(history.check(block, stamps(3 - value), issued: moment(50), at: moment(51)) != nil)
            #expect(history.mayHold(8, value) && !history.mayHold(8, 3 - value))
        }
    }

    @Test func concurrentWritesMayEndInEitherOrder() {
        for value in [UInt32(1), 2] {
            var history = History(sectors: 64)
            history.begin(write: 1, value: 1, block, at: moment(10))
            history.begin(write: 2, value: 2, block, at: moment(11))
            history.end(write: 2, block, acknowledged: true, at: moment(12), oldestRead: nil)
            history.end(write: 1, block, acknowledged: true, at: moment(13), oldestRead: nil)
            #expect(history.check(block, stamps(value), issued: moment(20), at: moment(21)) == nil)
            #expect(history.check(block, stamps(0), issued: moment(20), at: moment(21)) != nil)
        }
    }

    @Test func aLostCacheBringsBackWhatWasBefore() {
        var history = History(sectors: 64)
        history.begin(write: 1, value: 1, block, at: moment(10))
        history.end(write: 1, block, acknowledged: true, at: moment(11), oldestRead: nil)
        #expect(!history.mayHold(8, 0))
        history.revive(8, 0, at: moment(20))
        #expect(history.mayHold(8, 0) && history.mayHold(8, 1))
    }

    @Test func unwrittenSectorsAreZero() {
        var history = History(sectors: 64)
        #expect(history.check(block, stamps(0), issued: moment(1), at: moment(2)) == nil)
        #expect(history.check(block, stamps(1), issued: moment(1), at: moment(2)) != nil)
    }
}
