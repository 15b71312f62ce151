import Glibc
import ReplicaProto
import Testing

@testable import ReplicaDevice

@Suite struct BlockDigestsTests {
    /// "abc": RFC 1321, FIPS 180-4 and 202, the RIPEMD-160 page, GM/T 0004; crc32c of "123456789" is RFC 3720's.
    static let vectors: [(DigestAlgorithm, String, String)] = [
        (.crc32c, "123456789", "839206e3"),
        (.md5, "abc", "900150983cd24fb0d6963f7d28e17f72"),
        (.sha1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (.sha224, "abc", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
        (.sha256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            .sha384, "abc",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        ),
        (
            .sha512, "abc",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
        ),
        (.sha3of224, "abc", "e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf"),
        (.sha3of256, "abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        (
            .sha3of384, "abc",
            "ec01498288516fc926459f58e2c6ad8df9b473cb0fc08c2596da7cf0e49be4b298d88cea927ac7f539f1edf228376d25"
        ),
        (
            .sha3of512, "abc",
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0"
        ),
        (.rmd160, "abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
        (.sm3, "abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
    ]

    @Test func knownDigests() {
        var digests = BlockDigests()
        var seen: Set<DigestAlgorithm> = []
        // Twice: the context is used again.
        for (algorithm, text, expected) in Self.vectors + Self.vectors {
            seen.insert(algorithm)
            var result = [UInt8](repeating: 0, count: algorithm.size)
            let isDone = Array(text.utf8).withUnsafeBytes { bytes in
                result.withUnsafeMutableBytes { digests.compute(algorithm, bytes, into: $0.baseAddress!) }
            }
            #expect(isDone, "\(algorithm)")
            #expect(hex(result) == expected, "\(algorithm)")
            let matches = Array(text.utf8).withUnsafeBytes { bytes in
                result.withUnsafeBytes { digests.matches(algorithm, bytes, $0.baseAddress!) }
            }
            #expect(matches)
            let others = Array((text + "x").utf8).withUnsafeBytes { bytes in
                result.withUnsafeBytes { digests.matches(algorithm, bytes, $0.baseAddress!) }
            }
            #expect(!others)
        }
        #expect(seen.count == DigestAlgorithm.allCases.count)
    }

    /// A kernel's digest of 1 MiB of zeroes, from the recorded session `integrity-crc32c`.
    @Test func aKernelsDigestOfZeroes() {
        var digests = BlockDigests()
        let zeroes = [UInt8](repeating: 0, count: 1 << 20)
        let recorded: [UInt8] = [0x12, 0x8c, 0x29, 0x14]
        let matches = zeroes.withUnsafeBytes { bytes in
            recorded.withUnsafeBytes { digests.matches(.crc32c, bytes, $0.baseAddress!) }
        }
        #expect(matches)
    }

    @Test func zeroesAreSeen() {
        var bytes = [UInt8](repeating: 0, count: 4096)
        #expect(bytes.withUnsafeBytes { BlockDigests.isZero($0) })
        for position in [0, 1, 2047, 4095] {
            bytes[position] = 1
            #expect(!bytes.withUnsafeBytes { BlockDigests.isZero($0) })
            bytes[position] = 0
        }
        #expect([UInt8]().withUnsafeBytes { BlockDigests.isZero($0) })
        #expect([UInt8(0)].withUnsafeBytes { BlockDigests.isZero($0) })
        #expect(![UInt8(9)].withUnsafeBytes { BlockDigests.isZero($0) })
        #expect(!Array(repeating: UInt8(7), count: 4096).withUnsafeBytes { BlockDigests.isZero($0) })
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
