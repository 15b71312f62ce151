import Testing

@testable import ReplicaProto

/// Recorded connections of two kernels that authenticate, or come to nothing, with one of the kernels replaced by our core.
/// Challenges and answers are the recording's: what an HMAC is worth is tested where it is computed.
@Suite struct RecordedHandshakeTests {
    struct Row: Sendable {
        var session: String
        var node: String
        var algorithm = ""
        /// The peer's answer is the one that our secret asks for.
        var peerKnowsSecret = true
        /// How it ends on this node, by `golden/status`.
        var end: ConnectionState
    }

    static let rows = [
        Row(session: "connect-auth-sha1", node: "alice", algorithm: "sha1", end: .connected),
        Row(session: "connect-auth-sha1", node: "bob", algorithm: "sha1", end: .connected),
        Row(session: "connect-auth-sha256", node: "alice", algorithm: "sha256", end: .connected),
        Row(session: "connect-auth-sha256", node: "bob", algorithm: "sha256", end: .connected),
        Row(session: "connect-auth-wrong", node: "alice", algorithm: "sha256", peerKnowsSecret: false, end: .standAlone),
        Row(session: "connect-auth-wrong", node: "bob", algorithm: "sha256", peerKnowsSecret: false, end: .standAlone),
        Row(session: "connect-auth-onesided", node: "alice", algorithm: "sha1", end: .standAlone),
        Row(session: "connect-auth-onesided", node: "bob", end: .wfConnection),
        Row(session: "connect-protocol-mismatch", node: "alice", end: .standAlone),
        Row(session: "connect-protocol-mismatch", node: "bob", end: .standAlone),
    ]

    @Test("our core in the place of a kernel that authenticates or refuses", arguments: rows.indices)
    func replaces(index: Int) throws {
        let row = Self.rows[index]
        let found = try Self.firstConnection(row.session)
        let connection = try #require(found)
        let node = TestNode(row.node, seed: 5)
        node.disks[0] = TestDisk(usableSectors: 16_304, seed: 1)
        _ = node.attach()
        var options = NetOptions()
        if !row.algorithm.isEmpty {
            options.cramHMACAlgorithm = row.algorithm
            options.sharedSecret = "secret"
        }
        var own: [Packet] = []
        for message in connection.messages where message.sender == row.node {
            let packet = try decoded(message)
            own.append(packet)
            switch packet {
            case .authChallenge(let bytes): node.makesChallenge = { bytes }
            case .protocolParameters(let found):
                options.replicationProtocol = try #require(ReplicationProtocol(rawValue: UInt8(found.replicationProtocol)))
            default: break
            }
        }
        let responses = connection.messages.filter { $0.name == "P_AUTH_RESPONSE" }
        let ours = responses.first { $0.sender == row.node }?.body ?? []
        var theirs = responses.first { $0.sender != row.node }?.body ?? []
        if !row.peerKnowsSecret { theirs[0] ^= 1 }
        node.computesHMAC = { $0 == .response ? ours : theirs }
        _ = node.connect(options)
        let peer = ScriptedPeer(node, nodeIsResolver: connection.metaInitiator != row.node)
        peer.open()
        for message in connection.messages where message.sender != row.node {
            node.receive(message.stream, VolumeNumber(message.volume), try decoded(message), nil)
            peer.pass(.milliseconds(1))
        }
        if row.end == .wfConnection { peer.drop() }
        #expect(peer.pass(until: { node.state.connection == row.end }), "\(node.state.summary)")
        // All that was said is what the kernel said, in its order. A connection that ends may end before its last words.
        let said = node.trace.compactMap { effect -> PacketCommand? in
            guard case .send(.data, _, let packet, _) = effect else { return nil }
            return packet.command(in: WireTest.format101)
        }
        let expected = own.compactMap { $0.command(in: WireTest.format101) }
        #expect(said.count > (row.end == .connected ? expected.count - 1 : 0))
        #expect(said == Array(expected.prefix(said.count)), "\(said) \(expected)")
        if !ours.isEmpty {
            #expect(node.trace.contains { if case .send(_, _, .authResponse(ours), _) = $0 { true } else { false } })
        }
    }

    private func decoded(_ message: RecordedMessage) throws -> Packet {
        try WireTest.decode(message.bytes, stream: message.stream, format: message.format)!.packet
    }

    /// The first connection on which something was said, up to its end by command.
    private static func firstConnection(_ session: String) throws -> SessionReplay.Connection? {
        var found: SessionReplay.Connection?
        var metaInitiator = ""
        for message in try RecordedSession.messages(session) {
            switch message.name {
            case "P_INITIAL_META": metaInitiator = message.sender
            case "P_CONN_ST_CHG_REQ": return found
            case "P_INITIAL_DATA", "P_PING", "P_PING_ACK": continue
            default:
                if found == nil { found = SessionReplay.Connection(metaInitiator: metaInitiator) }
                found?.messages.append(message)
            }
        }
        return found
    }
}
