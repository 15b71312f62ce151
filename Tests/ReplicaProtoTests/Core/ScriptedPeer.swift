import Testing

@testable import ReplicaProto

/// The other end of one core's connection, played by the test: it says what it is told to and remembers nothing else.
///
/// Packets are those that recorded sessions of two kernels show (`Vectors/wire`); where a test wants another version,
/// section 10 of the wire specification says how they differ.
final class ScriptedPeer {
    let node: TestNode
    var version: UInt32
    var features: FeatureFlags
    /// Whether the node shall hold the resolver flag: then we initiate the meta stream.
    var nodeIsResolver: Bool
    private(set) var dataSocket = SocketID(0)
    private(set) var metaSocket = SocketID(0)
    private var nextSocket: UInt32 = 9001
    /// Our counter of writes and block acks.
    var sequence: UInt32 = 0

    // MARK: What we say of ourselves
    var identifiers = GenerationIdentifiers(current: GenerationIdentifiers.justCreated)
    var dirtyBits: UInt64 = 0
    var flags: UUIDFlags = []
    var role = Role.secondary
    var disk = DiskState.inconsistent
    var verifyAlgorithm = ""
    var checksumAlgorithm = ""
    var connection = ConnectionState.wfConnection

    init(_ node: TestNode, version: UInt32 = 101, features: FeatureFlags = .all, nodeIsResolver: Bool = true) {
        self.node = node
        self.version = version
        self.features = features
        self.nodeIsResolver = nodeIsResolver
    }

    // MARK: Streams

    func open() {
        dataSocket = SocketID(nextSocket)
        metaSocket = SocketID(nextSocket + 1)
        nextSocket += 2
        node.feed(.outgoingConnected(dataSocket))
        if nodeIsResolver {
            node.feed(.incomingAccepted(metaSocket))
            node.feed(.markerReceived(metaSocket, .meta))
        } else {
            node.feed(.outgoingConnected(metaSocket))
        }
        pass(.milliseconds(600))
    }
    func drop(_ failure: SocketFailure = .endOfFile) {
        node.feed(.socketFailed(dataSocket, failure))
        node.feed(.socketFailed(metaSocket, failure))
        node.sent = []
    }
    func pass(_ span: TimeSpan) { node.advance(to: node.now + span) }
    /// Lets time pass in small steps, as long as something is not so yet.
    func pass(until isDone: () -> Bool, limit: Int = 2000) -> Bool {
        for _ in 0..<limit {
            if isDone() { return true }
            pass(.milliseconds(50))
        }
        return isDone()
    }

    // MARK: Talking

    func say(_ packet: Packet, _ payload: [UInt64]? = nil) { node.receive(.data, VolumeNumber(0), packet, payload) }
    func ack(_ packet: Packet) { node.receive(.meta, VolumeNumber(0), packet, nil) }
    func nextSequence() -> UInt32 {
        sequence += 1
        return sequence
    }
    /// A write of ours, 4 KiB unless said otherwise.
    func write(
        _ sector: UInt64, _ value: UInt64, id: UInt64 = 0xffff_8881_0000_0008, flags: DataFlags = .sendWriteAck,
        count: UInt32 = 8
    ) {
        say(
            .data(
                DataPacket(
                    sector: Sector(sector), blockID: id, sequence: nextSequence(), flags: flags, byteCount: count * 512)),
            Array(repeating: value, count: Int(count)))
    }
    func acknowledge(_ head: DataPacket, clearing: Bool = false) {
        let block = BlockAck(
            sector: head.sector, blockID: head.blockID, byteCount: head.byteCount, sequence: nextSequence())
        ack(clearing ? .resyncWriteAck(block) : .writeAck(block))
    }

    // MARK: Handshake

    func sayFeatures() {
        say(.connectionFeatures(ConnectionFeatures(minimumVersion: 86, flags: features, maximumVersion: version)))
    }
    func protocolParameters(_ options: NetOptions = NetOptions(), flags: UInt32 = 0) -> ProtocolParameters {
        ProtocolParameters(
            replicationProtocol: UInt32(options.replicationProtocol.rawValue),
            afterSplitBrain0Primaries: options.afterSplitBrain0Primaries.rawValue,
            afterSplitBrain1Primary: options.afterSplitBrain1Primary.rawValue,
            afterSplitBrain2Primaries: options.afterSplitBrain2Primaries.rawValue, connectionFlags: flags,
            twoPrimaries: options.allowTwoPrimaries ? 1 : 0, integrityAlgorithm: options.dataIntegrityAlgorithm)
    }
    var syncParameters: SyncParameters {
        SyncParameters(
            resyncRate: 4_000_000, verifyAlgorithm: verifyAlgorithm, checksumAlgorithm: checksumAlgorithm, planAhead: 0,
            delayTarget: 10, fillTarget: 100,
            maximumRate: 102_400)
    }
    func sizes(disk: UInt64? = nil, current: UInt64? = nil, user: UInt64 = 0, flags: UInt16 = 0) -> SizesPacket {
        let size = disk ?? (self.disk.hasMetadata ? node.layout.usableSectors : 0)
        return SizesPacket(
            diskSize: size, userSize: user, currentSize: current ?? size, maximumRequest: 1_048_576, resizeFlags: flags,
            limits: features.contains(.writeSame)
                ? QueueLimits(physicalBlockSize: 512, logicalBlockSize: 512, minimumIO: 512, discardEnabled: true) : nil)
    }
    var uuids: UUIDsPacket { UUIDsPacket(identifiers: identifiers, dirtyBits: dirtyBits, flags: flags) }
    func state(_ connection: ConnectionState? = nil, peerDisk: DiskState = .unknown) -> UInt32 {
        var state = VolumeState()
        state.role = role
        state.disk = disk
        state.connection = connection ?? self.connection
        state.peerDisk = peerDisk
        return state.word
    }
    func sayVolume() {
        sequence = 0
        say(.syncParameters(syncParameters))
        say(.sizes(sizes()))
        if disk.hasMetadata { say(.uuids(uuids)) }
        say(.state(state()))
    }
    /// Streams, features, parameters and states; then the node is past WFReportParams unless the states forbid it.
    func connect(_ options: NetOptions = NetOptions()) {
        verifyAlgorithm = options.verifyAlgorithm
        checksumAlgorithm = options.checksumAlgorithm
        open()
        sayFeatures()
        say(.protocolParameters(protocolParameters(options)))
        sayVolume()
    }

    // MARK: Listening

    /// Takes what the node has sent since the last call.
    func take() -> [(stream: StreamKind, volume: VolumeNumber, packet: Packet, payload: [UInt64]?)] {
        let sent = node.sent
        node.sent = []
        return sent
    }
    /// Commands sent on one stream since the last `take`, without taking them.
    func commands(_ stream: StreamKind) -> [PacketCommand] {
        node.sent.filter { $0.stream == stream }.map { $0.packet.command(in: node.format) }
    }
    var writes: [DataPacket] {
        node.sent.compactMap { if case .data(let head) = $0.packet { head } else { nil } }
    }
    var resyncRequests: [BlockRequest] {
        node.sent.compactMap { if case .resyncDataRequest(let request) = $0.packet { request } else { nil } }
    }
    /// The first of them.
    var firstRequest: BlockRequest {
        if let first = resyncRequests.first { return first }
        Issue.record("no resync request")
        return BlockRequest(sector: Sector(0), blockID: 0, byteCount: 512)
    }
    /// State words sent, in order.
    var states: [VolumeState] {
        node.sent.compactMap { if case .state(let word) = $0.packet { VolumeState(word: word) } else { nil } }
    }
    var barriers: [UInt32] {
        node.sent.compactMap { if case .barrier(let number) = $0.packet { number } else { nil } }
    }
    var readRequests: [BlockRequest] {
        node.sent.compactMap { if case .dataRequest(let request) = $0.packet { request } else { nil } }
    }
    func replies() -> [Int32] {
        node.sent.compactMap {
            switch $0.packet {
            case .stateChangeReply(let code), .connectionStateChangeReply(let code): code
            default: nil
            }
        }
    }
}

extension TestNode {
    /// A node whose disk is UpToDate without a resync having run: metadata as an earlier life left it.
    static func withData(
        _ name: String = "alice", seed: UInt64 = 1, sectors: UInt64 = 65_536, identifiers: GenerationIdentifiers,
        flags: MetadataFlags = [.consistent, .wasUpToDate]
    ) -> TestNode {
        let node = TestNode(name, seed: seed, sectors: sectors)
        node.rewriteSuperblock {
            $0.identifiers = identifiers
            $0.flags = flags
            $0.lastAgreedSectors = node.layout.usableSectors
        }
        return node
    }
    func rewriteSuperblock(_ change: (inout Superblock) -> Void) {
        // The change may look at the disk.
        var disk = disks[0]
        disk.rewriteSuperblock(change)
        disks[0].superblock = disk.superblock
    }
    var writtenSuperblock: Superblock { try! Superblock(decoding: superblock) }
    /// Set bits of the bitmap on disk.
    var durableBits: Int { bitmap.reduce(0) { $0 + $1.nonzeroBitCount } }
    /// Positions of effects in the order of their execution.
    func position(after start: Int = 0, where matches: (Effect) -> Bool) -> Int? {
        trace[start...].firstIndex(where: matches)
    }
    func count(where matches: (Effect) -> Bool) -> Int { trace.reduce(0) { $0 + (matches($1) ? 1 : 0) } }
}

/// Identifiers of a pair that is in sync.
enum SameData {
    static let identifiers = GenerationIdentifiers(
        current: 0x1122_3344_5566_7788, bitmap: 0, history0: 0xa1a2_a3a4_a5a6_a7a8, history1: 0xb1b2_b3b4_b5b6_b7b8)
    /// A node with that data, attached and waiting for its peer, and the peer.
    static func pair(
        _ options: NetOptions = NetOptions(), disk: DiskOptions = quickDisk, version: UInt32 = 101,
        features: FeatureFlags = .all, nodeIsResolver: Bool = true, sectors: UInt64 = 65_536
    ) -> (node: TestNode, peer: ScriptedPeer) {
        let node = TestNode.withData(sectors: sectors, identifiers: identifiers)
        _ = node.attach(disk)
        _ = node.connect(options)
        let peer = ScriptedPeer(node, version: version, features: features, nodeIsResolver: nodeIsResolver)
        peer.identifiers = identifiers
        peer.disk = .upToDate
        return (node, peer)
    }
    /// The same, connected; the node is Primary if wanted.
    static func connected(
        _ options: NetOptions = NetOptions(), disk: DiskOptions = quickDisk, version: UInt32 = 101,
        features: FeatureFlags = .all, nodeIsResolver: Bool = true, primary: Bool = false, sectors: UInt64 = 65_536
    ) -> (node: TestNode, peer: ScriptedPeer) {
        let (node, peer) = pair(
            options, disk: disk, version: version, features: features, nodeIsResolver: nodeIsResolver, sectors: sectors)
        peer.connect(options)
        if primary {
            _ = node.command(.primary(VolumeNumber(0), force: false))
            peer.ack(.stateChangeReply(1))
        }
        node.sent = []
        return (node, peer)
    }
    /// A fixed resync rate that asks for everything at once.
    static let quickDisk: DiskOptions = {
        var options = DiskOptions()
        options.cPlanAhead = 0
        options.resyncRate = 4_000_000
        options.cMinRate = 0
        return options
    }()
}

extension ScriptedPeer {
    /// Sends our bitmap with these blocks set as one plain transfer.
    func sayBitmap(setting blocks: [UInt64]) {
        let bits = DirtyBitmap.bits(forDeviceSectors: node.status.sectors)
        var words = [UInt8](repeating: 0, count: Int((bits + 63) / 64 * 8))
        for block in blocks { words[Int(block / 8)] |= 1 << UInt8(block % 8) }
        let most = version >= 100 ? 4080 : 4088
        var start = 0
        while start < words.count {
            let end = min(start + most, words.count)
            say(.bitmap(Array(words[start..<end])))
            start = end
        }
        say(.bitmap([]))
    }
    /// The source's way from WFBitMapS to SyncSource, for a node that is WFBitMapT.
    func startAsSource(setting blocks: [UInt64], identifier: UInt64 = 0x77_0000_0000) {
        connection = .wfBitMapS
        sayBitmap(setting: blocks)
        connection = .syncSource
        say(.syncUUID(identifier))
        pass(.milliseconds(1))
    }
    /// Answers a resync request with blocks full of one value.
    func answer(_ request: BlockRequest, _ value: UInt64) {
        say(
            .resyncDataReply(DataPacket(sector: request.sector, blockID: request.blockID, byteCount: request.byteCount)),
            Array(repeating: value, count: Int(request.range.count)))
    }
}
