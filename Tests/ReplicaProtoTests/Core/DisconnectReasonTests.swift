import Testing

@testable import ReplicaProto

/// What the node remembers of the end of its last connection, or of the last try to get one.
struct DisconnectReasonTests {
    private func last(_ node: TestNode) -> LastDisconnect { node.core.lastDisconnect(at: node.now) }

    @Test func aFreshConnectHasNone() {
        let (node, peer) = SameData.pair()
        #expect(last(node).reason == nil)
        peer.pass(.seconds(7))
        #expect(last(node).seconds == 7)
        peer.connect()
        #expect(node.state.connection == .connected)
        #expect(last(node) == LastDisconnect())
    }

    @Test func whatIsAskedForHereAndThere() {
        let (node, peer) = SameData.pair()
        peer.connect()
        _ = node.command(.disconnect(force: true))
        #expect(last(node).reason == .requested)
        let (other, its) = SameData.pair()
        its.connect()
        its.ack(.connectionStateChangeRequest(StateChangeRequest(mask: 0x1f0, value: 0x10)))
        its.drop()
        #expect(last(other).reason == .peerLeft)
    }

    @Test func aBrokenStreamAndSilence() {
        let (node, peer) = SameData.pair()
        peer.connect()
        peer.drop(.error(104))
        #expect(last(node).reason == .networkFailure)
        let (quiet, its) = SameData.pair()
        its.connect()
        #expect(its.pass(until: { quiet.state.connection != .connected }))
        #expect(last(quiet).reason == .timeout)
    }

    @Test func versionsThatDoNotMeet() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.say(.connectionFeatures(ConnectionFeatures(minimumVersion: 110, flags: .all, maximumVersion: 120)))
        #expect(node.state.connection == .standAlone)
        #expect(last(node).reason == .incompatibleVersions)
    }

    @Test func aPeerThatClosesBeforeItSaysAnything() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.drop()
        #expect(last(node).reason == .closedInHandshake)
    }

    @Test func secrets() {
        var options = NetOptions()
        options.cramHMACAlgorithm = "sha1"
        options.sharedSecret = "one"
        let (node, peer) = SameData.pair(options)
        peer.open()
        peer.sayFeatures()
        peer.say(.authChallenge([UInt8](repeating: 9, count: 64)))
        peer.say(.authResponse([UInt8](repeating: 1, count: 20)))
        #expect(node.state.connection == .standAlone)
        #expect(last(node).reason == .authentication)
        let (other, its) = SameData.pair(options)
        its.open()
        its.sayFeatures()
        its.drop()
        #expect(last(other).reason == .closedInAuthentication)
    }

    @Test("settings that differ", arguments: 0..<7)
    func settings(field: Int) {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        var parameters = peer.protocolParameters()
        let expected: DisconnectReason
        switch field {
        case 0: (parameters.replicationProtocol, expected) = (1, .differentProtocol)
        case 1: (parameters.afterSplitBrain0Primaries, expected) = (3, .differentAfterSplitBrain0Primaries)
        case 2: (parameters.afterSplitBrain1Primary, expected) = (8, .differentAfterSplitBrain1Primary)
        case 3: (parameters.afterSplitBrain2Primaries, expected) = (10, .differentAfterSplitBrain2Primaries)
        case 4: (parameters.twoPrimaries, expected) = (1, .differentTwoPrimaries)
        case 5: (parameters.integrityAlgorithm, expected) = ("crc32c", .differentIntegrityAlgorithm)
        default:
            peer.say(.protocolParameters(parameters))
            peer.verifyAlgorithm = "md5"
            peer.sayVolume()
            peer.pass(.milliseconds(600))
            #expect(last(node).reason == .differentVerifyAlgorithm)
            return
        }
        peer.say(.protocolParameters(parameters))
        // Known before the connection has ended, and not forgotten by its end.
        #expect(last(node).reason == expected)
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone)
        #expect(last(node).reason == expected)
        _ = node.connect()
        #expect(last(node).reason == nil)
    }

    @Test func dataThatIsNotTheSame() {
        for (own, identifiers, reason) in [
            (
                GenerationIdentifiers(current: 0x7000, bitmap: 0, history0: 0x10, history1: 0x20),
                GenerationIdentifiers(current: 0x9000, bitmap: 0, history0: 0x30, history1: 0x40),
                DisconnectReason.unrelatedData
            ),
            (
                GenerationIdentifiers(current: 0x7000, bitmap: 0x2000),
                GenerationIdentifiers(current: 0x9000, bitmap: 0x2000),
                .splitBrain
            ),
        ] {
            let node = TestNode.withData(identifiers: own)
            _ = node.attach()
            _ = node.connect()
            let peer = ScriptedPeer(node)
            peer.identifiers = identifiers
            peer.disk = .upToDate
            peer.connect()
            peer.pass(.milliseconds(600))
            #expect(node.state.connection == .standAlone)
            #expect(last(node).reason == reason)
        }
    }

    @Test func itTravelsInTheStatusLine() throws {
        for reason in DisconnectReason.allCases {
            var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
            status.lastDisconnect = LastDisconnect(reason: reason, seconds: 17)
            status.clients = [DeviceClient(volume: VolumeNumber(3), process: 4711)]
            #expect(try ResourceStatus(parsing: status.text) == status)
        }
    }
}
