import Testing

@testable import ReplicaProto

@Suite struct CRC32CTests {
    /// The three vectors of `metadata.md` 4.2, confirmed by drbdmeta, and the usual convention's check value.
    @Test func item10RawVectors() {
        #expect(CRC32C.raw(Array("123456789".utf8).span.bytes) == 0x58e3_fa20)
        #expect(CRC32C.checksum(Array("123456789".utf8).span.bytes) == 0xe306_9283)
        #expect(CRC32C.raw([UInt8](repeating: 0, count: 4096).span.bytes) == 0)
        var block = ActivityLogTransaction.initialisedBlock()
        #expect(block.span.bytes.readBE32(at: 8) == 0x709c_c651)
        for index in 8..<12 { block[index] = 0 }
        #expect(CRC32C.raw(block.span.bytes) == 0x709c_c651)
    }

    /// RFC 3720 B.4.
    static let iscsi: [([UInt8], UInt32)] = [
        ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
        ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
        (Array(0...31), 0x46dd_794e),
        (Array((0...31).reversed()), 0x113f_db5c),
    ]

    @Test(arguments: iscsi) func iscsiVectors(bytes: [UInt8], expected: UInt32) {
        #expect(CRC32C.checksum(bytes.span.bytes) == expected)
    }

    @Test(arguments: Seeds.thisRun) func agreesWithBitwiseDivision(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<50 {
            let bytes = (0..<Int.random(in: 0...70, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            var slow = UInt32.random(in: 0 ... .max, using: &generator)
            let start = slow
            for byte in bytes {
                slow ^= UInt32(byte)
                for _ in 0..<8 { slow = slow >> 1 ^ (slow & 1 == 1 ? 0x82f6_3b78 : 0) }
            }
            #expect(CRC32C.raw(bytes.span.bytes, continuing: start) == slow)
            let cut = Int.random(in: 0...bytes.count, using: &generator)
            let head = CRC32C.raw(bytes.span.bytes.extracting(0..<cut), continuing: start)
            #expect(CRC32C.raw(bytes.span.bytes.extracting(cut..<bytes.count), continuing: head) == slow)
        }
    }
}
