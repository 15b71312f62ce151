import Testing

@testable import ReplicaProto

@Suite struct DigestAlgorithmTests {
    @Test(arguments: DigestAlgorithm.allCases) func namesAreTheirOwn(algorithm: DigestAlgorithm) {
        #expect(DigestAlgorithm(algorithm.name) == algorithm)
        #expect(algorithm.size > 0 && algorithm.size <= Limits.digestBytes)
        #expect(algorithm.name.utf8.count < Limits.algorithmNameBytes)
    }

    @Test(arguments: ["", "SHA1", "rot13", "hmac(sha1)", "crc32"]) func othersAreUnknown(name: String) {
        #expect(DigestAlgorithm(name) == nil)
    }
}
