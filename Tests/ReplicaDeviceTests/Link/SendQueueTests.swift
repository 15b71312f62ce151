import Glibc
import ReplicaProto
import Testing

@testable import ReplicaDevice

@Suite struct SendQueueTests {
    @Test func answersThatNobodyReadsAreBounded() {
        var queue = SendQueue()
        var count = 0
        while !queue.isFlooded, count < 10_000_000 {
            queue.append(length: 16) { $0.initializeMemory(as: UInt8.self, repeating: 0) }
            count += 1
        }
        #expect(count == 4_194_305 && queue.waitingBytes <= 64 << 20 + 16)
    }

    /// Whatever is appended leaves in order, whole, exactly once: heads and payloads of all sizes, sends cut anywhere,
    /// appends while a send is in flight, rings that wrap and grow.
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64])
    func bytesLeaveInOrder(seed: UInt64) throws {
        var random = SplitMix(state: seed)
        var pool = try BufferPool(BufferConfiguration(small: 64, medium: 4, large: 4))
        var queue = SendQueue(byteCapacity: 256, segmentCapacity: 4)
        var expected: [UInt8] = []
        var sent: [UInt8] = []
        var reports: [(UInt32, Int)] = []
        var reported: [UInt32] = []
        var next: UInt8 = 0
        for round in 0..<4000 {
            switch random.next() % 4 {
            case 0, 1:
                let length = Int(random.next() % (round % 500 == 0 ? 700 : 60)) + 1
                queue.append(length: length) { target in
                    for k in 0..<length { target[k] = next &+ UInt8(truncatingIfNeeded: k) }
                }
                for k in 0..<length { expected.append(next &+ UInt8(truncatingIfNeeded: k)) }
                next = next &+ UInt8(truncatingIfNeeded: length)
            case 2:
                if let slot = pool.leaseForPeer(bytes: 512, use: .received) {
                    // Some are pieces of what a buffer holds.
                    let offset = random.next() % 2 == 0 ? 0 : Int(random.next() % 512)
                    let length = Int(random.next() % UInt64(512 - offset)) + 1
                    for k in 0..<offset + length {
                        pool.address(of: slot).storeBytes(
                            of: UInt8(truncatingIfNeeded: k &* 7), toByteOffset: k, as: UInt8.self)
                        if k >= offset { expected.append(UInt8(truncatingIfNeeded: k &* 7)) }
                    }
                    queue.append(slot, from: offset, length: length)
                    queue.reportLast(RequestID(index: UInt32(round), generation: 0))
                    reports.append((UInt32(round), expected.count))
                }
            default:
                if !queue.isInFlight, !queue.isEmpty {
                    let total = queue.prepare(pool)
                    queue.isInFlight = true
                    var count = Int(random.next() % UInt64(total)) + 1
                    if random.next() % 2 == 0 { count = total }
                    // What the kernel would take, now or after more has been appended.
                    let late = random.next() % 2 == 0
                    if late { queue.append(length: 3) { $0.copyBytes(from: [1, 2, 3]) } }
                    if late { expected += [1, 2, 3] }
                    var rest = count
                    for k in 0..<Int(queue.message.pointee.msg_iovlen) where rest > 0 {
                        let vector = queue.message.pointee.msg_iov[k]
                        let piece = min(rest, vector.iov_len)
                        sent += UnsafeRawBufferPointer(start: vector.iov_base, count: piece)
                        rest -= piece
                    }
                    queue.sendEnded()
                    loop: while true {
                        let (left, report) = queue.advance(&count)
                        if let report { reported.append(report.index) }
                        switch left {
                        case .nothing: break loop
                        case .piece: break
                        case .payload(let slot): pool.release(slot)
                        }
                    }
                }
            }
        }
        while !queue.isEmpty {
            var count = queue.prepare(pool)
            for k in 0..<Int(queue.message.pointee.msg_iovlen) {
                let vector = queue.message.pointee.msg_iov[k]
                sent += UnsafeRawBufferPointer(start: vector.iov_base, count: vector.iov_len)
            }
            loop: while true {
                let (left, report) = queue.advance(&count)
                if let report { reported.append(report.index) }
                switch left {
                case .nothing: break loop
                case .piece: break
                case .payload(let slot): pool.release(slot)
                }
            }
        }
        expectThat(sent == expected)
        #expect(reported == reports.map(\.0))
        expectThat(pool.isIdle)
    }
}

/// A small repeatable generator for tests.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}
