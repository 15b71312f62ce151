import Testing

@testable import ReplicaDevice

@Suite struct AuthenticationTests {
    /// RFC 2202, test case 2 for HMAC-MD5 and HMAC-SHA-1, and RFC 4231, test case 2 for HMAC-SHA-256.
    @Test(arguments: [
        ("md5", "750c783e6ab0b503eaa86e310a5db738"),
        ("sha1", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        ("sha256", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ])
    func hmacVectors(algorithm: String, expected: String) throws {
        let digest = try #require(
            Authentication.hmac(
                algorithm: algorithm, key: Array("Jefe".utf8), message: Array("what do ya want for nothing?".utf8)))
        #expect(digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() == expected)
    }

    @Test func unknownAlgorithmsAreNotAvailable() {
        #expect(Authentication.hmac(algorithm: "rot13", key: [1], message: [2]) == nil)
    }

    @Test func challengesAreFresh() {
        let first = Authentication.challenge()
        #expect(first.count == 64)
        #expect(first != Authentication.challenge())
    }
}
