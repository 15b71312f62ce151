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

    /// What two kernels asked and answered (recordings connect-auth-sha1 and connect-auth-sha256).
    @Test(arguments: [
        (
            "sha1", "golden-secret-1",
            "3f7d49e3b5be45645ff100f79ebe9b0a13c53d405caaea501e558ae390f90416fb13ac3447c9dff387c943707b8ecfebab5a07b9d5767932f6b844849fe9dc49",
            "16f806129388e427edbad51f74bfc4678e62974f"
        ),
        (
            "sha256", "golden-secret-256",
            "297f1d42a3be7748f9e459e24b24d19f620aabc4a2320fa638c06c846bbdd545508926e521627ae71f8e88e9675c8e1bdb8080294dd52af39e6e9cf8dba56ad1",
            "31a772af93effa7b6d410db771c9f3911b1d55b63f45763bae9bc6580152fbdb"
        ),
    ])
    func recordedResponses(algorithm: String, secret: String, challenge: String, response: String) throws {
        let bytes = stride(from: 0, to: challenge.count, by: 2).map { position in
            let start = challenge.index(challenge.startIndex, offsetBy: position)
            return UInt8(challenge[start..<challenge.index(start, offsetBy: 2)], radix: 16)!
        }
        let digest = try #require(Authentication.hmac(algorithm: algorithm, key: Array(secret.utf8), message: bytes))
        #expect(digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() == response)
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
