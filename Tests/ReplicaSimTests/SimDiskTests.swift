import ReplicaProto
@testable import ReplicaSim
import Testing

/// The simulated disk keeps and loses exactly what a real one may.
@Suite struct SimDiskTests {
    private func stamps(_ value: UInt32, _ count: Int = 8) -> [UInt32] { Array(repeating: value, count: count) }

    @Test func unflushedBlocksAreKeptOrLostWhole() {
        var kept = 0
        for seed in UInt64(0)..<200 {
            var random = SimRandom(seed: seed)
            var disk = DataDisk(sectors: 64)
            disk.write(SectorRange(0, 16), stamps(1, 16), durable: false, random: &random)
            disk.cutPower(random: &random)
            for block in 0..<2 {
                let content = Array(disk.current[block * 8..<block * 8 + 8])
                #expect(content == stamps(0) || content == stamps(1))
                if content == stamps(1) { kept += 1 }
            }
            #expect(disk.current == disk.stable)
        }
        #expect(kept > 100 && kept < 300)
    }

    @Test func aFlushKeepsWhatWasCompleteWhenItBegan() {
        for seed in UInt64(0)..<200 {
            var random = SimRandom(seed: seed)
            var disk = DataDisk(sectors: 64)
            disk.write(SectorRange(0, 8), stamps(1), durable: false, random: &random)
            let flush = disk.beginFlush()
            disk.write(SectorRange(8, 8), stamps(2), durable: false, random: &random)
            disk.write(SectorRange(0, 8), stamps(3), durable: false, random: &random)
            disk.endFlush(flush)
            disk.cutPower(random: &random)
            #expect(disk.current[0] == 1 || disk.current[0] == 3)
            #expect(disk.current[8] == 0 || disk.current[8] == 2)
        }
    }

    @Test func aLateFlushBringsNothingOldBack() {
        var random = SimRandom(seed: 1)
        var disk = DataDisk(sectors: 64)
        disk.write(SectorRange(0, 8), stamps(1), durable: false, random: &random)
        let flush = disk.beginFlush()
        disk.write(SectorRange(0, 8), stamps(2), durable: true, random: &random)
        disk.endFlush(flush)
        #expect(disk.stable[0] == 2)
    }

    @Test func durableWritesStay() {
        var random = SimRandom(seed: 1)
        var disk = DataDisk(sectors: 64)
        disk.write(SectorRange(0, 8), stamps(1), durable: true, random: &random)
        disk.cutPower(random: &random)
        #expect(disk.current[0] == 1)
    }

    @Test func theQueueIsOrdered() {
        var random = SimRandom(seed: 3)
        var queue = SimQueue()
        for index in 0..<500 { queue.add(.plan(index), at: Instant(nanoseconds: UInt64(random.below(50)))) }
        var last: (UInt64, Int) = (0, -1)
        while let (time, action) = queue.take() {
            guard case .plan(let index) = action else { continue }
            #expect(time.nanoseconds > last.0 || (time.nanoseconds == last.0 && index > last.1))
            last = (time.nanoseconds, index)
        }
    }
}
