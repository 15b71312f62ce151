import Testing

@testable import ReplicaProto

/// CRAM-HMAC between two cores (`wire.md` 4.3): what comes early, what was left over, what must not pass.
@Suite struct AuthenticationTests {
    static func options(_ secret: String) -> NetOptions {
        var options = NetOptions()
        options.cramHMACAlgorithm = "sha1"
        options.sharedSecret = secret
        return options
    }

    @Test func sameSecretConnects() {
        let pair = TestPair()
        pair.up(Self.options("himitu"))
        #expect(pair.a.state.connection == .connected, "\(pair.a.logs)")
        #expect(pair.b.state.connection == .connected, "\(pair.b.logs)")
    }

    /// Features and challenge come in one receive, before our own challenge is made.
    @Test func aChallengeMayComeBeforeOursIsMade() {
        let pair = TestPair()
        pair.a.holdsAuthentication = true
        pair.up(Self.options("himitu"))
        #expect(pair.a.state.connection == .wfConnection, "\(pair.a.logs)")
        pair.a.releaseHeld()
        pair.exchange()
        #expect(pair.a.state.connection == .connected, "\(pair.a.logs)")
        #expect(pair.b.state.connection == .connected, "\(pair.b.logs)")
        #expect(pair.a.logs.filter { $0.hasPrefix("Handshake successful") }.count == 1)
    }

    /// A rejected attempt leaves nothing that could let the next one go on before its response is sent.
    @Test func aSecondAttemptBeginsFromNothing() {
        let pair = TestPair()
        _ = pair.a.attach()
        _ = pair.b.attach()
        _ = pair.a.connect(Self.options("himitu"))
        _ = pair.b.connect(Self.options("himitsu"))
        pair.link()
        #expect(pair.a.state.connection == .standAlone, "\(pair.a.logs)")
        pair.cut()
        pair.pass(.seconds(2))
        _ = pair.b.code(.disconnect(force: false))
        #expect(pair.b.state.connection == .standAlone, "\(pair.b.logs)")
        _ = pair.a.connect(Self.options("himitu"))
        _ = pair.b.connect(Self.options("himitu"))
        // Alice's challenge and her response reach bob together, before he has computed his own response.
        pair.a.holdsAuthentication = true
        pair.link()
        pair.b.holdsAuthentication = true
        pair.a.releaseHeld()
        pair.exchange()
        pair.b.releaseHeld()
        pair.exchange()
        #expect(pair.a.state.connection == .connected, "\(pair.a.logs)")
        #expect(pair.b.state.connection == .connected, "\(pair.b.logs)")
    }

    @Test func aSecondChallengeIsNotAnswered() {
        let pair = TestPair()
        pair.b.holdsAuthentication = true
        pair.up(Self.options("himitu"))
        let challenge = [UInt8](repeating: 1, count: 64)
        pair.b.receive(.data, VolumeNumber(0), .authChallenge(challenge), nil)
        pair.b.receive(.data, VolumeNumber(0), .authChallenge(challenge), nil)
        pair.b.releaseHeld()
        #expect(!pair.b.sent.contains { if case .authResponse = $0.packet { true } else { false } })
        #expect(pair.b.state.connection != .connected)
    }
}
