import Testing

@testable import ReplicaProto

@Suite struct ActivityLogTransactionTests {
    /// Every block of a ring that drbdmeta initialised.
    @Test(arguments: ["int-32m", "int-64m-stripes-4x64k", "indexed-1", "flex-ext-1m"])
    func item11InitialisedBlock(name: String) throws {
        let (_, parts) = try MetadataVectors.parts(name)
        let block = ActivityLogTransaction.initialisedBlock()
        #expect(parts.ring == Array(repeatElement(block, count: parts.ring.count / 4096).joined()))
        let decoded = try ActivityLogTransaction(decoding: block.span.bytes)
        #expect(decoded.type == ActivityLogTransaction.typeInitialised)
        #expect(decoded.updates.isEmpty || decoded.updates.allSatisfy { $0.slot == 0 })
    }

    @Test(arguments: [0, 1, 64, 65]) func item12UpdatesRoundTrip(count: Int) throws {
        let updates = (0..<count).map {
            ActivityLogTransaction.Update(slot: UInt16(1236 - $0), extent: UInt32($0 * 77))
        }
        let made = ActivityLogTransaction(
            number: 0xffff_fffe, updates: updates, contextSize: 1237, contextStart: 919, context: Array(0..<300))
        guard count <= 64 else {
            #expect(made == nil)
            return
        }
        let transaction = try #require(made)
        #expect(try ActivityLogTransaction(decoding: transaction.encoded().span.bytes) == transaction)
    }

    @Test func contextHas919Entries() {
        let made = ActivityLogTransaction(
            number: 0, updates: [], contextSize: 0, contextStart: 0, context: Array(repeating: 0, count: 920))
        #expect(made == nil)
    }

    /// The block of `metadata.md` 9.2, as composed for `al-one-update` and accepted by drbdmeta: ours is the same.
    @Test func writesTheWorkedExample() throws {
        let (_, parts) = try MetadataVectors.parts("al-one-update.before")
        var log = ActivityLog(slots: 1237)
        for extent in [0, 3, 7] as [UInt32] { _ = log.acquire(extent...extent) }
        _ = log.beginTransaction()
        var block = [UInt8](repeating: 0xee, count: 4096)
        log.encodeTransaction(into: &block)
        #expect(block == Array(parts.ring[0..<4096]))
    }

    /// Blocks that kernels wrote decode, and encode to the same bytes.
    @Test(arguments: [
        "crash-primary.crashed.alice", "crash-alone.crashed.alice", "md-al-striped.in-use.alice",
        "writes-c.clean-after-writes.alice", "initial-sync.clean-after-initial-sync.bob",
    ]) func kernelBlocksRoundTrip(name: String) throws {
        let area = try MetadataVectors.unzip("metadata-kernel/\(name).bin.gz")
        let superblock = try Superblock(decoding: Array(area[(area.count - 4096)...]))
        let geometry = ActivityLogGeometry(superblock)
        let ringStart = area.count - 4096 - Int(geometry.blocks) * 4096
        var updates = 0
        for index in 0..<Int(geometry.blocks) {
            let bytes = Array(area[ringStart + index * 4096..<ringStart + (index + 1) * 4096])
            let transaction = try ActivityLogTransaction(decoding: bytes.span.bytes)
            #expect(transaction.encoded() == bytes)
            updates += transaction.updates.count
        }
        #expect(updates >= 0)
    }

    @Test func everySingleBitFlipIsNoticed() throws {
        var generator = SeededGenerator(seed: 7)
        let made = ActivityLogTransaction(
            number: 17, updates: [.init(slot: 1, extent: 2)], contextSize: 1237, contextStart: 0, context: [])
        let block = try #require(made).encoded()
        for _ in 0..<300 {
            var broken = block
            broken[Int.random(in: 0..<4096, using: &generator)] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            #expect(throws: ActivityLogBlockError.self) { try ActivityLogTransaction(decoding: broken.span.bytes) }
        }
        for length in [0, 1, 4095] {
            #expect(throws: ActivityLogBlockError.wrongLength(length)) {
                try ActivityLogTransaction(decoding: block.span.bytes.extracting(0..<length))
            }
        }
    }
}
