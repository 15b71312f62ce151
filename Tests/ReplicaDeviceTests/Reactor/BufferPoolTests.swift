import ReplicaProto
import Testing

@testable import ReplicaDevice

/// `#require` and `#expect` cannot look into values that are not copyable; these are handed the result.
func must<T>(_ value: T?, _ location: SourceLocation = #_sourceLocation) throws -> T {
    try #require(value, sourceLocation: location)
}
func expectThat(_ holds: Bool, _ location: SourceLocation = #_sourceLocation) {
    #expect(holds, sourceLocation: location)
}

@Suite struct BufferPoolTests {
    private let tiny = BufferConfiguration(small: 8, medium: 4, large: 4)

    @Test func aBufferReturnsWithItsLastHolder() throws {
        var pool = try BufferPool(tiny)
        let slot = try must(pool.leaseForPeer(bytes: 4096, use: .received))
        pool.lend(slot)
        pool.release(slot)
        expectThat(!(pool.isIdle))
        pool.release(slot)
        expectThat((pool.isIdle))
    }

    @Test func buffersDoNotOverlapAndAreAligned() throws {
        var pool = try BufferPool(tiny)
        var ranges: [Range<Int>] = []
        for bytes in [512, 16_384, 16_385, 131_072, 131_073, 1_048_576] {
            let slot = try must(pool.leaseForPeer(bytes: bytes, use: .received))
            let start = Int(bitPattern: pool.address(of: slot))
            #expect(start % 4096 == 0)
            expectThat((pool.capacity(of: slot) >= bytes))
            ranges.append(start..<start + pool.capacity(of: slot))
        }
        for i in ranges.indices { for j in 0..<i { #expect(!ranges[i].overlaps(ranges[j])) } }
    }

    /// Clients that hold all they may leave the peer enough to write with.
    @Test func clientsNeverStarveThePeer() throws {
        var pool = try BufferPool(tiny)
        var held: [BufferSlot] = []
        while pool.reserve(count: 1, bytes: 4096) { held.append(try must(pool.leaseReserved(bytes: 4096))) }
        #expect(held.count == 4)
        var received = 0
        while pool.leaseForPeer(bytes: 4096, use: .received) != nil { received += 1 }
        #expect(received == 4)
    }

    /// Reads for the peer may wait for its socket, so they leave some room for what it writes.
    @Test func readsForThePeerLeaveRoomForItsWrites() throws {
        var pool = try BufferPool(tiny)
        var reads = 0
        while pool.leaseForPeer(bytes: 1 << 20, use: .read) != nil { reads += 1 }
        #expect(reads == 3)
        expectThat((pool.leaseForPeer(bytes: 1 << 20, use: .received) != nil))
    }

    @Test func whatIsPromisedIsNotGivenToOthers() throws {
        var pool = try BufferPool(tiny)
        expectThat((pool.reserve(count: 2, bytes: 1 << 20)))
        expectThat(!(pool.reserve(count: 1, bytes: 1 << 20)))
        var taken: [BufferSlot] = []
        while let slot = pool.leaseForPeer(bytes: 1 << 20, use: .received) { taken.append(slot) }
        #expect(taken.count == 2)
        let first = try must(pool.leaseReserved(bytes: 1 << 20))
        pool.cancelReservation(bytes: 1 << 20)
        pool.release(first)
        for slot in taken { pool.release(slot) }
        expectThat((pool.isIdle))
        expectThat((pool.reserve(count: 2, bytes: 1 << 20)))
    }

    /// A reply that came from the peer counts as the client's while the client does not take it.
    @Test func adoptedBuffersCountAsTheClients() throws {
        var pool = try BufferPool(tiny)
        let slot = try must(pool.leaseForPeer(bytes: 1 << 20, use: .replyToClient))
        pool.adopt(slot)
        expectThat(!(pool.reserve(count: 2, bytes: 1 << 20)))
        pool.release(slot)
        expectThat((pool.reserve(count: 2, bytes: 1 << 20)))
    }
}

@Suite struct SlabTests {
    @Test func generationsTellUsesApart() throws {
        var slab = Slab<Int>(capacity: 2, empty: 0)
        let first = try must(slab.take(7))
        expectThat(slab[first].pointee == 7)
        let before = slab.generation(first)
        slab.give(first)
        expectThat((slab.generation(first) != before))
        _ = try must(slab.take(1))
        _ = try must(slab.take(2))
        expectThat((slab.take(3) == nil))
    }

    @Test func tokensKeepTheirParts() {
        let token = SubmissionToken(.linkSend, index: 0xfedc_ba98, generation: 0x12_3456_78)
        #expect(token.kind == .linkSend)
        #expect(token.index == 0xfedc_ba98)
        #expect(token.isOf(generation: 0x12_3456_78))
        #expect(!token.isOf(generation: 0x12_3456_79))
    }
}
