import Testing

@testable import ReplicaProto

/// Items 10 to 19: authentication, parameters, sizes.
@Suite struct ConformanceHandshakeTests {
    private static var secret: NetOptions {
        var options = NetOptions()
        options.cramHMACAlgorithm = "sha1"
        options.sharedSecret = "golden-secret-1"
        return options
    }

    private func challenged() throws -> (node: TestNode, peer: ScriptedPeer, challenge: [UInt8]) {
        let (node, peer) = SameData.pair(Self.secret)
        peer.open()
        node.sent = []
        peer.sayFeatures()
        guard case .authChallenge(let bytes) = try #require(node.sent.first).packet else { throw CancellationError() }
        #expect(node.sent.count == 1)
        return (node, peer, bytes)
    }
    /// TestNode's stand-in for an HMAC.
    private func hmac(_ message: [UInt8]) -> [UInt8] {
        var sum: [UInt8] = Array(repeating: 0, count: 20)
        for (index, byte) in (Array("golden-secret-1".utf8) + message).enumerated() {
            sum[index % 20] = sum[index % 20] &* 31 &+ byte
        }
        return sum
    }

    @Test func item10ChallengeIsFreshAndTheResponseCoversTheWholePayload() throws {
        let (node, peer, challenge) = try challenged()
        #expect(challenge.count == 64)
        let theirs = (0..<100).map { UInt8($0) }
        peer.say(.authChallenge(theirs))
        guard case .authResponse(let response) = try #require(node.sent.last).packet else {
            Issue.record("no such packet")
            return
        }
        #expect(response == hmac(theirs))
        #expect(!node.trace.contains { if case .send(_, _, .protocolParameters, _) = $0 { true } else { false } })
        peer.say(.authResponse(hmac(challenge)))
        #expect(peer.commands(.data).contains(.protocolParameters))
        // The next connection gets another one.
        peer.drop()
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.open()
        node.sent = []
        peer.sayFeatures()
        guard case .authChallenge(let second) = try #require(node.sent.first).packet else {
            Issue.record("no such packet")
            return
        }
        #expect(second != challenge)
    }

    @Test("item 11: a reflected, short or long challenge is rejected for good", arguments: 0..<4)
    func item11BadChallengesAreRejected(kind: Int) throws {
        let (node, peer, challenge) = try challenged()
        switch kind {
        case 0: peer.say(.authChallenge(challenge))
        case 1: peer.say(.authChallenge(challenge + [1, 2, 3]))
        case 2: peer.say(.authChallenge([UInt8](repeating: 7, count: 63)))
        default: peer.say(.authChallenge([UInt8](repeating: 7, count: 129)))
        }
        #expect(node.state.connection == .standAlone)
        #expect(!peer.commands(.data).contains(.authResponse))
    }

    @Test func item12AWrongSecretEndsInStandAlone() throws {
        let (node, peer, challenge) = try challenged()
        peer.say(.authChallenge([UInt8](repeating: 9, count: 64)))
        var response = hmac(challenge)
        response[19] ^= 1
        peer.say(.authResponse(response))
        #expect(node.state.connection == .standAlone)
        peer.pass(.seconds(40))
        #expect(node.state.connection == .standAlone)
    }

    @Test func aResponseOfWrongLengthIsTriedAgain() throws {
        let (node, peer, challenge) = try challenged()
        peer.say(.authChallenge([UInt8](repeating: 9, count: 64)))
        peer.say(.authResponse(Array(hmac(challenge).dropLast())))
        #expect(node.state.connection == .wfConnection)
        #expect(peer.pass(until: { node.core.link.isAttempting }))
    }

    @Test func aPeerWithoutSecretIsRejectedAndOneWithAnUnexpectedChallengeTriedAgain() throws {
        let (node, peer, _) = try challenged()
        peer.say(.protocolParameters(peer.protocolParameters()))
        #expect(node.state.connection == .standAlone)
        let (open, other) = SameData.pair()
        other.open()
        other.sayFeatures()
        other.say(.authChallenge([UInt8](repeating: 9, count: 64)))
        #expect(open.state.connection == .unconnected)
    }

    @Test("the phases before the parameters are bounded in time", arguments: [false, true])
    func silenceBeforeTheParametersIsATimeout(authenticating: Bool) throws {
        let (node, peer) = SameData.pair(authenticating ? Self.secret : NetOptions())
        peer.open()
        if authenticating { peer.sayFeatures() }
        peer.pass(.milliseconds(2100))
        #expect(node.core.link.phase == .connecting && node.closed.count == 2)
        #expect(peer.pass(until: { node.core.link.isAttempting }))
    }

    // MARK: P_PROTOCOL

    @Test("item 13: a mismatch of settings ends in StandAlone", arguments: 0..<5)
    func item13MismatchesEndInStandAlone(field: Int) {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        var parameters = peer.protocolParameters()
        switch field {
        case 0: parameters.replicationProtocol = 1
        case 1: parameters.afterSplitBrain0Primaries = 3
        case 2: parameters.afterSplitBrain1Primary = 8
        case 3: parameters.afterSplitBrain2Primaries = 10
        default: parameters.integrityAlgorithm = "crc32c"
        }
        peer.say(.protocolParameters(parameters))
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone, "\(field)")
    }

    @Test func item13TwoPrimariesMustAgree() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        var parameters = peer.protocolParameters()
        parameters.twoPrimaries = 1
        peer.say(.protocolParameters(parameters))
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone)
    }

    @Test("item 13: discard-local matches discard-remote, and only that", arguments: [5, 6] as [UInt32])
    func item13LocalAndRemoteAreSwapped(theirs: UInt32) {
        var options = NetOptions()
        options.afterSplitBrain0Primaries = .discardLocal
        let (node, peer) = SameData.pair(options)
        peer.open()
        peer.sayFeatures()
        var parameters = peer.protocolParameters(options)
        parameters.afterSplitBrain0Primaries = theirs
        peer.say(.protocolParameters(parameters))
        peer.pass(.milliseconds(600))
        #expect((node.state.connection == .standAlone) == (theirs == 5))
    }

    @Test("item 13: verify-alg and csums-alg must agree from the version on that names them", arguments: UInt32(86)...101)
    func item13AlgorithmsMustAgree(version: UInt32) {
        for isVerify in [true, false] {
            var options = NetOptions()
            if isVerify { options.verifyAlgorithm = "sha1" } else { options.checksumAlgorithm = "sha1" }
            let (node, peer) = SameData.pair(options, version: version)
            peer.open()
            peer.sayFeatures()
            peer.say(.protocolParameters(peer.protocolParameters()))
            peer.say(.syncParameters(peer.syncParameters))
            let matters = version >= (isVerify ? 88 : 89)
            peer.pass(.milliseconds(600))
            #expect((node.state.connection == .standAlone) == matters, "\(version) \(isVerify)")
        }
    }

    @Test func item14DiscardMyDataOnBothNodesIsRefused() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach()
        _ = node.connect(discardMyData: true)
        let peer = ScriptedPeer(node)
        peer.open()
        peer.sayFeatures()
        peer.say(.protocolParameters(peer.protocolParameters(flags: 1)))
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone)
    }

    @Test("item 15: order of the handshake per volume; no UUIDs without a disk", arguments: [true, false])
    func item15HandshakeOrder(hasDisk: Bool) {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        if hasDisk { _ = node.attach() }
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.open()
        node.sent = []
        peer.sayFeatures()
        #expect(
            peer.commands(.data)
                == [.protocolParameters, .syncParameters89, .sizes] + (hasDisk ? [.uuids] : []) + [.state])
        #expect(peer.states.first?.connection == .wfConnection)
        #expect(peer.states.first?.peerRole == .unknown)
        #expect(peer.states.first?.word == (hasDisk ? 0x0000_d082 : 0x0000_c082))
    }

    @Test("item 15: the sync parameters have the form of the version", arguments: UInt32(86)...101)
    func item15SyncParametersByVersion(version: UInt32) throws {
        let (node, peer) = SameData.pair(version: version)
        peer.open()
        peer.sayFeatures()
        let packet = try #require(node.sent.first { if case .syncParameters = $0.packet { true } else { false } }).packet
        #expect(packet.command(in: node.format) == (version <= 88 ? .syncParameters : .syncParameters89))
        let length = packet.encodedSize(in: node.format) - (version >= 100 ? 16 : 8)
        let expected = version >= 95 ? 148 : version >= 89 ? 132 : version == 88 ? 5 : 4
        #expect(length == expected)
    }

    @Test("item 16: P_STATE once more after WFReportParams", arguments: [UInt32(86), 95, 96, 101])
    func item16StateAgainAfterTheHandshake(version: UInt32) {
        let (node, peer) = SameData.pair(version: version)
        peer.open()
        peer.sayFeatures()
        peer.say(.protocolParameters(peer.protocolParameters()))
        node.sent = []
        peer.sayVolume()
        #expect(peer.commands(.data) == [.state])
        // As bob in the recorded session: Secondary/Secondary Connected UpToDate/UpToDate.
        #expect(peer.states.first?.word == 0x0001_10aa)
    }

    @Test func aPromotionDuringTheHandshakeWaitsForItsEnd() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        let promotion = node.command(.primary(VolumeNumber(0), force: false))
        #expect(node.answers[promotion] == nil)
        peer.say(.protocolParameters(peer.protocolParameters()))
        peer.sayVolume()
        #expect(peer.pass(until: { peer.commands(.data).contains(.stateChangeRequest) }))
        peer.ack(.stateChangeReply(1))
        #expect(node.answers[promotion]?.code == 0)
    }

    @Test func anAttachThatEndsInTheMiddleOfAHandshakeWaitsForItsEnd() {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.open()
        node.holdsMetadata = true
        peer.sayFeatures()
        _ = node.attach()
        node.releaseHeld()
        #expect(node.state.disk == .attaching && node.state.connection == .wfReportParams)
        peer.say(.protocolParameters(peer.protocolParameters()))
        node.sent = []
        peer.sayVolume()
        // The peer saw a diskless node; now it is told of a disk like by any attach while connected.
        #expect(peer.commands(.data) == [.state, .sizes, .uuids, .state])
        #expect(peer.states.last?.disk == .negotiating)
        peer.say(.uuids(peer.uuids))
        peer.say(.state(peer.state(.connected, peerDisk: .consistent)))
        #expect(node.state.disk == .upToDate, "\(node.logs)")
    }

    // MARK: Sizes

    @Test func item17AUsableDeviceIsNotShrunkByConnecting() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        peer.say(.protocolParameters(peer.protocolParameters()))
        peer.say(.syncParameters(peer.syncParameters))
        peer.say(.sizes(peer.sizes(disk: 4096)))
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone)
        #expect(node.status.sectors == node.layout.usableSectors)
    }

    @Test func item17AnInconsistentDeviceMayShrink() {
        let node = TestNode("alice", seed: 1)
        _ = node.attach()
        _ = node.connect()
        let peer = ScriptedPeer(node)
        peer.open()
        peer.sayFeatures()
        peer.say(.protocolParameters(peer.protocolParameters()))
        peer.say(.syncParameters(peer.syncParameters))
        peer.say(.sizes(peer.sizes(disk: 4096)))
        peer.say(.uuids(peer.uuids))
        peer.say(.state(peer.state()))
        #expect(node.state.connection == .connected)
        #expect(node.status.sectors == 4096)
        #expect(node.status.outOfSyncBits == 512)
    }

    @Test func item18SizesWithoutCurrentSizeAreAnswered() {
        let (node, peer) = SameData.connected()
        peer.say(.sizes(peer.sizes(current: 0)))
        #expect(peer.commands(.data) == [.sizes])
        node.sent = []
        peer.say(.sizes(peer.sizes()))
        #expect(node.sent.isEmpty)
    }

    @Test func item19LargestWritesAreTaken() {
        let (node, peer) = SameData.connected()
        peer.write(0, 4711, count: 2048)
        #expect(node.data[2047] == 4711)
        #expect(peer.commands(.meta) == [.writeAck])
    }

    @Test("item 19: announced size of requests by version", arguments: UInt32(86)...101)
    func item19AnnouncedRequestSize(version: UInt32) {
        let (node, peer) = SameData.pair(version: version)
        peer.open()
        peer.sayFeatures()
        for case .sizes(let sizes) in node.sent.map(\.packet) {
            #expect(sizes.maximumRequest == (version < 95 ? 32_768 : version < 100 ? 131_072 : 1_048_576))
        }
    }

    // MARK: P_PROTOCOL_UPDATE

    @Test func anUpdateToAnIntegrityAlgorithmThatWeLackEndsInStandAlone() {
        let (node, peer) = SameData.connected()
        var parameters = peer.protocolParameters()
        parameters.integrityAlgorithm = "rot13"
        peer.say(.protocolUpdate(parameters))
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone)
    }

    /// From its next packet on the peer's data carries digests; ours does when our own administrator says so.
    @Test func anIntegrityAlgorithmChangesOneDirectionAtATime() {
        let (node, peer) = SameData.connected(primary: true)
        var parameters = peer.protocolParameters()
        parameters.integrityAlgorithm = "crc32c"
        peer.say(.protocolUpdate(parameters))
        #expect(node.format.peerIntegrity == .crc32c && node.format.integrity == nil)
        #expect(node.format.integrityDigestSize == 4)
        var options = node.core.link.options
        #expect(options.dataIntegrityAlgorithm == "crc32c")
        options.dataIntegrityAlgorithm = "sha1"
        node.trace = []
        #expect(node.code(.netOptions(options)) == 0)
        #expect(node.format.peerIntegrity == .crc32c && node.format.integrity == .sha1)
        let told = node.position { if case .send(_, _, .protocolUpdate, _) = $0 { true } else { false } }
        let changed = node.position { if case .setWireFormat = $0 { true } else { false } }
        #expect(told! < changed!)
        // The feature is agreed, but zeroes have no digest on the wire (`wire.md` 7.9).
        node.sent = []
        _ = node.discard(0, count: 8, .zeroNoUnmap)
        #expect(peer.commands(.data) == [.data])
        options.dataIntegrityAlgorithm = "rot13"
        #expect(node.code(.netOptions(options)) == 141)
    }

    @Test("item 42: digests from the parameters on, by the algorithm that both name", arguments: [UInt32(86), 87, 95, 101])
    func integrityIsAgreed(version: UInt32) {
        var options = NetOptions()
        options.dataIntegrityAlgorithm = "sha256"
        let (node, peer) = SameData.pair(options, version: version)
        peer.open()
        peer.sayFeatures()
        #expect(node.format.integrity == nil)
        #expect(!node.core.link.features.contains(.writeZeroes))
        peer.say(.protocolParameters(peer.protocolParameters(options)))
        #expect(node.format.integrity == (version < 87 ? nil : .sha256))
        #expect(node.format.integrityDigestSize == (version < 87 ? 0 : 32))
        peer.sayVolume()
        #expect(node.state.connection == .connected)
        // Another connection begins without.
        peer.drop()
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.open()
        peer.sayFeatures()
        #expect(node.format.integrity == nil && node.format.integrityDigestSize == 0)
        // A mismatch ends it, and it is tried again.
        if version >= 87 {
            peer.say(.protocolParameters(peer.protocolParameters(options)))
            node.feed(.socketFailed(peer.dataSocket, .protocolError(.badDigest(sector: 8, byteCount: 4096))))
            #expect(node.logs.contains("Digest integrity check FAILED: 8s +4096"))
            #expect(peer.pass(until: { node.state.connection == .wfConnection }))
        }
    }

    @Test func anUpdateOfTheProtocolChangesWhatOurWritesAskFor() {
        let (node, peer) = SameData.connected(primary: true)
        var parameters = peer.protocolParameters()
        parameters.replicationProtocol = 1
        peer.say(.protocolUpdate(parameters))
        let id = node.write(0, 1)
        #expect(peer.writes.first?.flags == [] && node.replies[id] != nil)
    }
}
