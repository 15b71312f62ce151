import Testing

@testable import ReplicaProto

/// Items 1 to 9 of the wire specification's checklist: two streams, headers, features.
@Suite struct ConformanceTransportTests {
    private func node(_ options: NetOptions = NetOptions()) -> TestNode {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach()
        _ = node.connect(options)
        return node
    }

    @Test("item 1: streams are assigned by marker only, whoever initiated them", arguments: 0..<4)
    func item1StreamsAreAssignedByMarkerOnly(way: Int) {
        let node = node()
        let first = SocketID(1)
        let second = SocketID(2)
        let firstIsOurs = way & 1 == 0
        let secondIsOurs = way & 2 == 0
        // An outgoing stream takes the first free place, an accepted one the place that its marker names.
        if firstIsOurs { node.feed(.outgoingConnected(first)) }
        if !firstIsOurs {
            node.feed(.incomingAccepted(first))
            node.feed(.markerReceived(first, .data))
        }
        if secondIsOurs { node.feed(.outgoingConnected(second)) }
        if !secondIsOurs {
            node.feed(.incomingAccepted(second))
            node.feed(.markerReceived(second, .meta))
        }
        node.advance(to: node.now + .milliseconds(600))
        #expect(node.trace.contains(.useSocket(first, .data)))
        #expect(node.trace.contains(.useSocket(second, .meta)))
        #expect(node.core.link.isResolver == !secondIsOurs)
        #expect(node.sent.map { $0.packet.command(in: .initial) } == [.connectionFeatures])
    }

    @Test func item1MetaStreamMayComeFirst() {
        let node = node()
        node.feed(.incomingAccepted(SocketID(1)))
        node.feed(.markerReceived(SocketID(1), .meta))
        node.feed(.incomingAccepted(SocketID(2)))
        node.feed(.markerReceived(SocketID(2), .data))
        node.advance(to: node.now + .milliseconds(600))
        #expect(node.trace.contains(.useSocket(SocketID(1), .meta)))
        #expect(node.trace.contains(.useSocket(SocketID(2), .data)))
    }

    @Test func item1StrangersAreClosedAndBounded() {
        let node = node()
        for socket in 1...20 { node.feed(.incomingAccepted(SocketID(UInt32(socket)))) }
        #expect(node.closed.count == 12)
        node.feed(.markerReceived(SocketID(1), nil))
        #expect(node.closed.contains(SocketID(1)))
        // Those that send nothing go after four times the ping timeout.
        node.advance(to: node.now + .milliseconds(2100))
        #expect(node.closed.count == 20)
    }

    @Test("item 2: the acceptor of the meta stream is the resolver and loses ties", arguments: [true, false])
    func item2ResolverFlag(isResolver: Bool) {
        var options = NetOptions()
        options.afterSplitBrain0Primaries = .discardLeastChanges
        let node = TestNode.withData(
            identifiers: GenerationIdentifiers(current: 0x10, bitmap: 0x7000, history0: 0, history1: 0))
        _ = node.attach()
        _ = node.connect(options)
        let peer = ScriptedPeer(node, nodeIsResolver: isResolver)
        peer.identifiers = GenerationIdentifiers(current: 0x20, bitmap: 0x7000)
        peer.disk = .upToDate
        peer.connect(options)
        #expect(node.state.connection == (isResolver ? .wfBitMapT : .wfBitMapS), "\(node.logs)")
    }

    /// Both first outgoing streams cross again and again; only the coin and the jitter end it.
    @Test("item 3: crossing streams end in a connection within a few connect-int", arguments: 1...20)
    func item3CrossingStreamsConverge(seed: Int) {
        let a = TestNode.withData("alice", seed: UInt64(seed), identifiers: SameData.identifiers)
        let b = TestNode.withData("bob", seed: UInt64(seed + 1000), identifiers: SameData.identifiers)
        let nodes = [a, b]
        for node in nodes {
            _ = node.attach()
            _ = node.connect()
        }
        // A cable that takes 1 ms: an attempt becomes a stream at both ends, a marker arrives, a close is seen.
        var nextSocket: UInt32 = 1
        var seen = [0, 0]
        var pending: [(at: Int, deliver: () -> Void)] = []
        var owner: [SocketID: Int] = [:]
        for tick in 0..<60_000 {
            let moment = Instant(nanoseconds: 1_000_000_000 + UInt64(tick) * 1_000_000)
            for (index, node) in nodes.enumerated() {
                node.now = moment
                if let deadline = node.core.nextDeadline, deadline <= moment { node.feed(.clockAdvanced) }
                let other = nodes[1 - index]
                while seen[index] < node.trace.count {
                    let effect = node.trace[seen[index]]
                    seen[index] += 1
                    switch effect {
                    case .connectToPeer:
                        let socket = SocketID(nextSocket)
                        nextSocket += 1
                        owner[socket] = index
                        pending.append((tick + 1, {
                            other.feed(.incomingAccepted(socket))
                            node.feed(.outgoingConnected(socket))
                        }))
                    case .sendMarker(let socket, let kind):
                        pending.append((tick + 1, { other.feed(.markerReceived(socket, kind)) }))
                    case .closeSocket(let socket):
                        pending.append((tick + 1, { other.feed(.socketFailed(socket, .endOfFile)) }))
                    default: break
                    }
                }
            }
            let due = pending.filter { $0.at <= tick }
            pending.removeAll { $0.at <= tick }
            for entry in due { entry.deliver() }
            if nodes.allSatisfy({ $0.core.link.phase == .features }) { return }
        }
        Issue.record("no connection within a minute: \(a.core.link.phase) \(b.core.link.phase)")
    }

    @Test func item4NothingButMarkersBeforeTheSettlingDelay() {
        let node = node()
        node.feed(.outgoingConnected(SocketID(1)))
        node.feed(.incomingAccepted(SocketID(2)))
        node.feed(.markerReceived(SocketID(2), .meta))
        node.advance(to: node.now + .milliseconds(499))
        #expect(node.sent.isEmpty)
        node.advance(to: node.now + .milliseconds(2))
        #expect(node.sent.count == 1)
        #expect(node.markers.map(\.1) == [.data])
    }

    @Test func item4AStreamThatDiesWhileSettlingIsReplaced() {
        let node = node()
        node.feed(.outgoingConnected(SocketID(1)))
        node.feed(.outgoingConnected(SocketID(2)))
        node.feed(.socketFailed(SocketID(1), .endOfFile))
        node.advance(to: node.now + .milliseconds(1100))
        #expect(node.sent.isEmpty)
        node.feed(.outgoingConnected(SocketID(3)))
        node.advance(to: node.now + .milliseconds(600))
        #expect(node.trace.contains(.useSocket(SocketID(3), .data)))
        #expect(node.trace.contains(.useSocket(SocketID(2), .meta)))
    }

    @Test func item5FeaturesComeFirstAndSayWhatWeDo() throws {
        let node = node()
        let peer = ScriptedPeer(node)
        peer.open()
        guard case .connectionFeatures(let features) = try #require(node.sent.first).packet else {
            Issue.record("\(node.sent)")
            return
        }
        #expect(features == ConnectionFeatures(minimumVersion: 86, flags: .all, maximumVersion: 101))
        #expect(node.format == .initial)
    }

    @Test("items 6, 7: the smaller maximum is agreed and sets the header form", arguments: UInt32(86)...105)
    func item7AgreedVersionIsTheSmallerMaximum(version: UInt32) {
        let (node, peer) = SameData.pair(version: version)
        peer.open()
        node.sent = []
        peer.sayFeatures()
        #expect(node.core.link.version == min(101, version))
        #expect(node.format.version == min(101, version))
        // The format is set before the first packet that is to have it.
        let format = node.position { if case .setWireFormat(let format) = $0 { format.version != 0 } else { false } }
        let first = node.position { if case .send(_, _, .protocolParameters, _) = $0 { true } else { false } }
        #expect(format! < first!)
        let bytes = WireTest.encode(node.sent[0].packet, format: node.format)
        let form = version >= 100 ? "8620ec20" : "83740267"
        #expect(WireTest.hex(bytes[0..<4]) == form)
    }

    @Test("item 7: disjoint ranges end in StandAlone", arguments: [(102, 110), (80, 85)])
    func item7DisjointRangesEndInStandAlone(range: (Int, Int)) {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.say(
            .connectionFeatures(
                ConnectionFeatures(minimumVersion: UInt32(range.0), flags: .all, maximumVersion: UInt32(range.1))))
        #expect(node.state.connection == .standAlone)
        peer.pass(.seconds(60))
        #expect(node.state.connection == .standAlone)
    }

    @Test func item7MaximumZeroMeansTheMinimum() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.say(.connectionFeatures(ConnectionFeatures(minimumVersion: 90, flags: [], maximumVersion: 0)))
        #expect(node.core.link.version == 90)
    }

    @Test func item7AnythingButFeaturesEndsInStandAlone() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.say(.protocolParameters(peer.protocolParameters()))
        #expect(node.state.connection == .standAlone)
    }

    @Test("item 8: P_SIZES has queue limits if FF_WSAME is agreed", arguments: [true, false])
    func item8SizesCarryLimitsWithTheFeature(agreed: Bool) throws {
        let (node, peer) = SameData.pair(features: agreed ? .all : [.trim, .thinResync])
        peer.open()
        peer.sayFeatures()
        let sizes = node.sent.compactMap { if case .sizes(let sizes) = $0.packet { sizes } else { nil } }
        #expect(sizes.count == 1 && (sizes[0].limits != nil) == agreed)
        let packet = try #require(node.sent.first { if case .sizes = $0.packet { true } else { false } }).packet
        #expect(WireTest.encode(packet, format: node.format).count == 16 + (agreed ? 56 : 32))
        #expect(sizes[0].limits?.writeSameCapable != true)
    }

    @Test func item9DelayProbesAreIgnoredOnBothStreams() {
        let (node, peer) = SameData.connected()
        peer.say(.delayProbe)
        peer.ack(.delayProbe)
        #expect(node.state.connection == .connected && node.sent.isEmpty)
    }

    // MARK: Ends of connections

    @Test func disconnectDuringThePauseBeforeReconnectingEnds() {
        let (node, peer) = SameData.connected()
        peer.drop()
        #expect(node.state.connection == .unconnected)
        #expect(node.code(.disconnect(force: false)) == 0)
        #expect(node.state.connection == .standAlone)
        peer.pass(.seconds(30))
        #expect(node.state.connection == .standAlone && node.core.nextDeadline == nil)
    }

    @Test func bytesThatAreNotTheProtocolEndDifferentlyByStream() {
        // Data stream: try again. Meta stream with an unknown code: StandAlone (`wire.md` 1.6).
        let (node, peer) = SameData.connected()
        peer.node.feed(.socketFailed(peer.dataSocket, .protocolError(.badMagic(1))))
        #expect(node.state.connection == .unconnected)
        let (other, stranger) = SameData.connected()
        other.feed(.socketFailed(stranger.metaSocket, .protocolError(.unknownCommand(0x7777))))
        #expect(other.state.connection == .standAlone)
    }

    @Test("every phase of a connection survives its loss and comes back", arguments: 0..<5)
    func everyPhaseSurvivesALostConnection(phase: Int) {
        let (node, peer) = SameData.pair()
        peer.open()
        if phase > 0 { peer.sayFeatures() }
        if phase > 1 { peer.say(.protocolParameters(peer.protocolParameters())) }
        if phase > 2 { peer.say(.sizes(peer.sizes())) }
        if phase > 3 { peer.say(.uuids(peer.uuids)) }
        peer.drop()
        #expect(peer.pass(until: { node.core.link.phase == .connecting && node.core.link.isAttempting }))
        peer.connect()
        #expect(node.state.connection == .connected, "\(node.logs)")
        #expect(node.isIdle)
    }

    @Test("connect options for dry run: StandAlone after the decision", arguments: [UInt32(91), 92, 101])
    func tentativeConnectEndsInStandAlone(version: UInt32) {
        let node = TestNode.withData(identifiers: SameData.identifiers)
        _ = node.attach()
        let address = SocketAddress(family: "ipv4", host: "127.0.0.1", port: 7788)
        _ = node.code(
            .connect(ConnectionConfiguration(local: address, remote: address, options: NetOptions(), tentative: true)))
        let peer = ScriptedPeer(node, version: version)
        peer.identifiers = SameData.identifiers
        peer.disk = .upToDate
        peer.connect()
        peer.pass(.milliseconds(600))
        #expect(node.state.connection == .standAlone, "\(node.logs)")
        let said = node.trace.contains { if case .send(_, _, .protocolParameters, _) = $0 { true } else { false } }
        #expect(said == (version >= 92))
        #expect(node.writtenSuperblock.identifiers == SameData.identifiers)
    }

    @Test func aPeersDryRunBringsTheConnectionBack() {
        let (node, peer) = SameData.pair()
        peer.open()
        peer.sayFeatures()
        peer.say(.protocolParameters(peer.protocolParameters(flags: 2)))
        peer.sayVolume()
        #expect(node.state.connection == .unconnected, "\(node.logs)")
        _ = peer.pass(until: { node.core.link.isAttempting })
        peer.connect()
        #expect(node.state.connection == .connected)
    }
}
