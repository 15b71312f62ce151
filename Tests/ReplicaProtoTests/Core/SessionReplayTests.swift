import Foundation
import Testing

@testable import ReplicaProto

/// Recorded sessions of two kernels with one of the kernels replaced by our core: it is told what the other kernel
/// said, does what its administrator did, and has to say what the replaced kernel said.
@Suite struct SessionReplayTests {
    /// Sessions without features that only the kernel has yet.
    static let sessions = [
        "bitmap-big-plain", "bitmap-big-rle", "both-restart", "congestion", "connect-noauth", "crash-primary", "crash-secondary",
        "csums-crc32c", "csums-sha1", "discard", "diskless", "diskless-client", "fencing", "flush-barrier", "frozen-peer",
        "initial-skip", "initial-sync", "initial-sync-slow", "integrity-crc32c", "integrity-sha1", "invalidate",
        "io-error-detach", "io-error-pass-on", "io-error-primary", "io-error-read", "md-al-striped", "md-flexible",
        "md-indexed", "no-data", "no-flushes", "options-online", "outdate", "partial-resync", "partial-resync-controller",
        "partial-resync-plain", "resize", "roles", "sb-1pri-secondary", "sb-least-changes", "sb-younger", "sb-zero-changes",
        "secondary-restart", "size-mismatch", "split-brain", "split-brain-primaries", "suspend-io", "thin-resync",
        "two-primaries", "two-primaries-overlap", "two-volumes", "unrelated", "verify-crc32c", "verify-sha1", "writes-a", "writes-b",
        "writes-c",
    ]

    /// Where the requests of a resync are cut by a budget: the kernel's last one is a block larger than its budget. Ours are
    /// answered as they come.
    static let budgeted = ["partial-resync-controller as bob", "resize as bob"]
    /// ... and the administrator does something in the middle.
    static let paced = ["initial-sync-slow as bob"]
    /// The same in a session that is about something else: played up to the first of them.
    static let untilRequests = ["congestion as bob"]
    /// A read crosses the news that it cannot be served, in a way that the order of the capture does not show.
    static let crossing = ["io-error-read as alice"]
    /// The only good disk of a diskless Primary stays UpToDate when it passes an error on; the kernel makes it
    /// Inconsistent, and lets the next attach overwrite it with older data (`localIOFailed`).
    static let deviating = ["io-error-read as bob"]

    @Test("our core in the place of a kernel", arguments: sessions, ["alice", "bob"])
    func replaces(session: String, node: String) throws {
        if (Self.paced + Self.crossing + Self.deviating).contains("\(session) as \(node)") { return }
        let connections = try SessionReplay.connections(of: session)
        #expect(!connections.isEmpty)
        for connection in connections {
            var replay = try SessionReplay(session, connection, as: node)
            try replay.run()
        }
    }
}

/// One recorded connection, from its features to its end, played against a core.
struct SessionReplay {
    /// Messages of one connection of a session, both streams, from its features on.
    struct Connection {
        /// Who initiated the meta stream; the other one is the resolver.
        var metaInitiator: String
        var messages: [RecordedMessage] = []
    }

    private let label: String
    private let me: String
    private let messages: [RecordedMessage]
    private let packets: [Packet]
    private let node: TestNode
    private let peer: ScriptedPeer
    /// Values that only one of the two kernels could have made up, and ours in their place.
    private var identifiers: [UInt64: UInt64] = [:]
    private var blockIDs: [UInt64: [UInt64]] = [:]
    private var barriers: [UInt32: UInt32] = [:]
    /// Messages of the other kernel that were played before their place.
    private var heard: Set<Int> = []
    private var options = NetOptions()
    /// Said by the kernel, not yet by us: a new generation that ours begins one message later.
    private var owed: [Int] = []
    private let onIOError: OnIOError
    /// Requests of our resync that are to be answered.
    private var asked: [BlockRequest] = []
    private var isBudgeted: Bool { SessionReplayTests.budgeted.contains(label) }
    /// What our core has said and the recording has not yet.
    private var said: [StreamKind: [(volume: VolumeNumber, packet: Packet)]] = [.data: [], .meta: []]

    static func connections(of session: String) throws -> [Connection] {
        var found: [Connection] = []
        var metaInitiator = ""
        for message in try RecordedSession.messages(session) {
            switch message.name {
            case "P_INITIAL_DATA": continue
            case "P_INITIAL_META":
                metaInitiator = message.sender
                continue
            case "P_CONNECTION_FEATURES":
                // The second of a pair belongs to the connection that the first began.
                if found.last?.messages.contains(where: { $0.name != "P_CONNECTION_FEATURES" }) ?? true {
                    found.append(Connection(metaInitiator: metaInitiator))
                }
            default: break
            }
            if !found.isEmpty { found[found.count - 1].messages.append(message) }
        }
        return found.filter { connection in
            Set(connection.messages.filter { $0.name == "P_STATE" }.map(\.sender)).count == 2
        }
    }

    init(_ session: String, _ connection: Connection, as me: String) throws {
        self.me = me
        messages = connection.messages
        label = "\(session) as \(me)"
        packets = try messages.map { try WireTest.decode($0.bytes, stream: $0.stream, format: $0.format)!.packet }
        onIOError = session == "io-error-pass-on" || session == "io-error-read" ? .passOn : .detach
        var discards = false
        if packets.contains(where: { if case .bitmap(let bytes) = $0 { !bytes.isEmpty } else { false } }) { options.useRLE = false }
        for (message, packet) in zip(messages, packets).reversed() where message.sender == me {
            switch packet {
            case .protocolParameters(let found):
                options.replicationProtocol = ReplicationProtocol(rawValue: UInt8(found.replicationProtocol))!
                options.afterSplitBrain0Primaries = SplitBrainPolicyValue(rawValue: found.afterSplitBrain0Primaries)!
                options.afterSplitBrain1Primary = SplitBrainPolicyValue(rawValue: found.afterSplitBrain1Primary)!
                options.afterSplitBrain2Primaries = SplitBrainPolicyValue(rawValue: found.afterSplitBrain2Primaries)!
                options.allowTwoPrimaries = found.twoPrimaries != 0
                options.dataIntegrityAlgorithm = found.integrityAlgorithm
            case .syncParameters(let found):
                options.verifyAlgorithm = found.verifyAlgorithm
                options.checksumAlgorithm = found.checksumAlgorithm
            default: break
            }
        }
        node = TestNode(me, seed: 5, sectors: 17_000)
        while node.disks.count <= messages.map(\.volume).max()! { node.addVolume(sectors: 17_000, seed: 6) }
        for volume in node.disks.indices {
            let first = FirstWords(zip(messages, packets).lazy.filter { $0.0.volume == volume && $0.0.sender == me }.map(\.1))
            try Self.prepare(node, volume, first, session, connection, packets, onIOError)
            if first.uuids?.flags.contains(.discardMyData) ?? false { discards = true }
        }
        _ = node.connect(options, discardMyData: discards)
        peer = ScriptedPeer(node, nodeIsResolver: connection.metaInitiator != me)
    }

    /// What a kernel said of a volume when the connection began.
    private struct FirstWords {
        var uuids: UUIDsPacket?
        var state: VolumeState?
        var sizes: SizesPacket?
        /// Of the disk; first and largest.
        var firstUsable: UInt64 = 0
        var mostUsable: UInt64 = 0

        init(_ packets: some Sequence<Packet>) {
            for packet in packets {
                switch packet {
                case .sizes(let found):
                    sizes = sizes ?? found
                    if firstUsable == 0 { firstUsable = found.diskSize }
                    mostUsable = max(mostUsable, found.diskSize)
                case .uuids(let found) where state == nil: uuids = uuids ?? found
                case .state(let word): state = state ?? VolumeState(word: word)
                default: break
                }
            }
        }
    }

    /// A disk as the kernel had it: internal metadata, in the state that it reported.
    private static func prepare(
        _ node: TestNode, _ volume: Int, _ first: FirstWords, _ session: String, _ connection: Connection, _ packets: [Packet],
        _ onIOError: OnIOError
    ) throws {
        let own = first.state!
        let usable = session == "resize" ? first.firstUsable : first.mostUsable
        if usable > 0 { node.disks[volume] = TestDisk(usableSectors: usable, seed: 1) }
        if own.disk.hasMetadata, let set = first.uuids {
            var flags: MetadataFlags = []
            if own.disk > .inconsistent { flags.insert(.consistent) }
            if own.disk > .unknown { flags.insert(.wasUpToDate) }
            if own.peerDisk == .inconsistent || own.peerDisk == .outdated { flags.insert(.peerOutdated) }
            if set.flags.contains(.crashedPrimary) { flags.insert(.crashedPrimary) }
            let agreed = first.sizes?.currentSize ?? usable
            node.disks[volume].rewriteSuperblock {
                $0.identifiers = set.identifiers
                $0.flags = flags
                $0.lastAgreedSectors = agreed
            }
            try writeBitmap(to: node, volume, sectors: agreed, weight: set.dirtyBits, connection, packets)
            _ = node.attach(diskOptions(session, onIOError), VolumeNumber(UInt16(volume)))
            #expect(node.state(of: volume).disk == own.disk, "\(session) as \(node.name)")
        }
        // What the kernel remembered of its earlier life.
        if !own.disk.hasMetadata { node.core.volumes[volume].sectors = first.sizes?.currentSize ?? 0 }
        node.core.setState(volume) {
            $0.role = own.role
            $0.peerDisk = own.peerDisk
        }
        if let set = first.uuids {
            node.core.volumes[volume].identifiers = set.identifiers
            node.core.volumes[volume].exposedIdentifier = set.identifiers.current
        }
    }

    private static func diskOptions(_ session: String, _ onIOError: OnIOError) -> DiskOptions {
        var disk = SameData.quickDisk
        disk.resyncRate = 30_720
        disk.onIOError = onIOError
        if session == "fencing" { disk.fencing = .resourceOnly }
        if session == "thin-resync" { disk.rsDiscardGranularity = 65_536 }
        return disk
    }

    /// Puts the bits on disk that a node had: those that it sent later, without what it had from the other one, and
    /// as many as it told.
    private static func writeBitmap(
        to node: TestNode, _ volume: Int, sectors: UInt64, weight: UInt64, _ connection: Connection, _ packets: [Packet]
    ) throws {
        let bits = DirtyBitmap.bits(forDeviceSectors: sectors)
        var own = DirtyBitmap(bits: bits)
        var other = DirtyBitmap(bits: bits)
        if weight == bits { own.setAll() } else { try readBitmap(connection, packets, into: &own) { $0.sender == node.name && $0.volume == volume } }
        if own.weight > weight {
            try readBitmap(connection, packets, into: &other) { $0.sender != node.name && $0.volume == volume }
            for block in 0..<bits where own.weight > weight && other.isSet(BitmapBlock(block)) {
                _ = own.clearInSync(SectorRange(block * 8, 8), deviceSectors: sectors)
            }
        }
        var block = bits
        while own.weight < weight, block > 0 {
            block -= 1
            _ = own.setRun(from: BitmapBlock(block), count: 1)
        }
        for block in 0..<bits where own.isSet(BitmapBlock(block)) {
            node.disks[volume].bitmap[Int(block / 8)] |= 1 << UInt8(block % 8)
        }
    }

    /// The first bitmap in such messages.
    private static func readBitmap(
        _ connection: Connection, _ packets: [Packet], into bitmap: inout DirtyBitmap, where isWanted: (RecordedMessage) -> Bool
    ) throws {
        var receiver = BitmapReceiver()
        for (message, packet) in zip(connection.messages, packets) where isWanted(message) {
            switch packet {
            case .bitmap(let bytes): _ = try receiver.receivePlain(bytes, into: &bitmap, maximumBytes: 4080)
            case .compressedBitmap(let bytes): _ = try receiver.receiveCompressed(bytes, into: &bitmap, maximumBytes: 4080)
            default: continue
            }
            if receiver.isDone { return }
        }
    }

    /// A disk that the kernel had used before the connection began, and attaches in the middle of it.
    private func prepareDisk(_ index: Int) {
        let volume = messages[index].position
        let isFresh = (try! Superblock(decoding: node.disks[volume].superblock)).identifiers.current == GenerationIdentifiers.justCreated
        for later in packets.indices[index...] where messages[later].sender == me && messages[later].position == volume {
            guard case .uuids(let set) = packets[later] else { continue }
            let sectors = node.disks[volume].layout.usableSectors
            if !isFresh {
                // A kernel that detaches leaves its log as it is, and is a crashed Primary when it attaches again.
                guard set.flags.contains(.crashedPrimary) else { return }
                node.disks[volume].rewriteSuperblock { $0.flags.insert(.crashedPrimary) }
                for block in 0..<Int(set.dirtyBits) { node.disks[volume].bitmap[block / 8] |= 1 << UInt8(block % 8) }
                return
            }
            node.disks[volume].rewriteSuperblock {
                $0.identifiers = set.identifiers
                $0.flags = [.consistent, .wasUpToDate]
                if set.flags.contains(.crashedPrimary) { $0.flags.insert(.crashedPrimary) }
                $0.lastAgreedSectors = sectors
            }
            for block in 0..<Int(set.dirtyBits) { node.disks[volume].bitmap[block / 8] |= 1 << UInt8(block % 8) }
            return
        }
    }

    // MARK: Playing

    mutating func run() throws {
        peer.open()
        for (index, message) in messages.enumerated() {
            if case .resyncDataRequest = packets[index], SessionReplayTests.untilRequests.contains(label) { return }
            if isBudgeted {
                switch packets[index] {
                case .resyncDataRequest, .resyncDataReply, .resyncWriteAck:
                    serve()
                    continue
                case .state: serve()
                default: break
                }
            }
            if message.sender == me {
                guard expect(packets[index], message, index) else { return }
            } else {
                if heard.contains(index) { continue }
                hearEarlierAcks(index)
                submitConcurrent(index)
                if case .sizes(let sizes) = packets[index], sizes.currentSize == 0 { growDisk(index) }
                // A disk error that the kernel had with this write is ours, too.
                node.failsWrites = fails(index) ? DiskError(5) : nil
                node.failsReads = node.failsWrites
                judge(index)
                hear(translated(packets[index]), message)
                node.failsWrites = nil
                node.failsReads = nil
            }
            collect()
            var left = owed
            left.removeAll { take(packets[$0], messages[$0]) }
            owed = left
            if !node.core.link.isUsable { break }
        }
        if node.core.link.isUsable {
            #expect(owed.isEmpty, "\(label): \(owed)")
            for (stream, rest) in said {
                // Whether the new identifiers of a Primary whose peer takes its leave still go out is a race.
                let unexpected = rest.filter { _, packet in
                    if case .uuids = packet, node.state.connection == .tearDown { return false }
                    return !packet.mayBeOvertaken
                }
                #expect(unexpected.isEmpty, "\(label): \(stream) \(unexpected)")
            }
        }
    }

    /// The resolver waits for the acknowledgements that its peer gave before a write (`wire.md` 7.3).
    private mutating func hearEarlierAcks(_ index: Int) {
        guard case .data(let head) = packets[index], options.allowTwoPrimaries, node.core.link.isResolver else { return }
        for later in packets.indices[(index + 1)...] where messages[later].sender != me && !heard.contains(later) {
            guard let ack = packets[later].blockAck, Int32(bitPattern: ack.sequence &- head.sequence) < 0 else { continue }
            heard.insert(later)
            hear(translated(packets[later]), messages[later])
        }
    }

    /// A write that one node overruled was on its way on both before either heard of the other's, which the order of the
    /// capture does not show: ours is submitted before theirs is heard.
    private mutating func submitConcurrent(_ index: Int) {
        guard case .data(let theirs) = packets[index],
            let own = packets.indices[(index + 1)...].first(where: {
                if case .data = packets[$0] { messages[$0].sender == me } else { false }
            }), case .data(let ours) = packets[own], ours.range.overlaps(theirs.range)
        else { return }
        // Unless one is already.
        var r = node.core.volumes[0].active.head
        while r >= 0 {
            if node.core.requests[r].isRunningWrite, node.core.requests[r].range.overlaps(theirs.range) { return }
            r = node.core.requests[r].next
        }
        if isOverruled(theirs, after: index, by: me) || isOverruled(ours, after: own, by: nil) { submit(own) }
    }

    /// Whether the next answer to a write is a verdict, given by this node (nil: by the other one).
    private func isOverruled(_ head: DataPacket, after index: Int, by judge: String?) -> Bool {
        for later in packets.indices[(index + 1)...] where (messages[later].sender == me) == (judge != nil) {
            switch packets[later] {
            case .writeAck(let ack) where ack.blockID == head.blockID && ack.sector == head.sector: return false
            case .superseded(let ack) where ack.blockID == head.blockID && ack.sector == head.sector: return true
            case .retryWrite(let ack) where ack.blockID == head.blockID && ack.sector == head.sector: return true
            default: break
            }
        }
        return false
    }

    /// The administrator has changed the disk of the replaced kernel to what it says of it next.
    private func growDisk(_ index: Int) {
        for later in packets.indices[index...] where messages[later].sender == me {
            guard case .sizes(let sizes) = packets[later] else { continue }
            return node.changeCapacity(to: TestDisk.deviceSectors(forUsable: sizes.diskSize, from: node.deviceSectors))
        }
    }

    /// `resize` as the next P_SIZES tells it.
    private func resize(_ index: Int) {
        for later in packets.indices[index...] where messages[later].sender == me {
            guard case .sizes(let sizes) = packets[later] else { continue }
            guard sizes.currentSize == 0 else { return }
            growDisk(index)
            let request = ResizeRequest(sectors: sizes.userSize, assumeClean: sizes.resizeFlags & 2 != 0)
            _ = node.command(.resize(VolumeNumber(0), request))
            return
        }
    }

    private func fails(_ index: Int) -> Bool {
        let written: (UInt64, Sector)
        switch packets[index] {
        case .data(let head): written = (head.blockID, head.sector)
        case .resyncDataReply(let head): written = (head.blockID, head.sector)
        case .dataRequest(let request): written = (request.blockID, request.sector)
        default: return false
        }
        for later in packets.indices where later > index && messages[later].sender == me && messages[later].volume == messages[index].volume {
            switch packets[later] {
            case .negativeAck(let ack) where (ack.blockID, ack.sector) == written: return node.state.disk.isUsable
            case .negativeDataReply(let ack) where (ack.blockID, ack.sector) == written: return node.state.disk == .upToDate
            case .dataReply(let head) where (head.blockID, head.sector) == written: return false
            case .writeAck(let ack) where (ack.blockID, ack.sector) == written: return false
            case .resyncWriteAck(let ack) where (ack.blockID, ack.sector) == written: return false
            default: break
            }
        }
        return false
    }

    /// Lets our resync go on as fast as it asks.
    private mutating func serve() {
        collect()
        for _ in 0..<20 where node.state.connection == .syncTarget {
            let requests = asked
            asked = []
            for request in requests { peer.answer(request, 1) }
            peer.ack(.pingAck)
            peer.pass(.milliseconds(100))
            collect()
        }
    }

    /// What the kernel found when it compared a block with a digest, or looked for zeroes in it, holds for us, too.
    private func judge(_ index: Int) {
        let range: SectorRange
        switch packets[index] {
        case .checksumResyncRequest(let request), .thinResyncRequest(let request), .verifyReply(let request): range = request.range
        default: return
        }
        for later in packets.indices where later > index && messages[later].sender == me {
            switch packets[later] {
            case .resyncIsInSync(let ack) where ack.range == range: node.judgesBlock = { true }
            case .resyncDeallocated(let area) where area.range == range: node.judgesBlock = { true }
            case .resyncDataReply(let head) where head.range == range: node.judgesBlock = { false }
            case .verifyResult(let ack) where ack.range == range: node.judgesBlock = { ack.blockID == BlockID.inSync }
            default: continue
            }
            return
        }
    }

    private mutating func collect() {
        for message in peer.take() {
            switch message.packet {
            // Liveness and hints come when they come.
            case .ping, .pingAck, .unplugRemote: continue
            case .resyncDataRequest(let request) where isBudgeted: asked.append(request)
            case .resyncWriteAck where isBudgeted: continue
            default: said[message.stream]!.append((message.volume, message.packet))
            }
        }
    }

    private func hear(_ packet: Packet, _ message: RecordedMessage) {
        let bulk = packet.isBitmap ? 0 : message.bulkLength
        var payload: [UInt64]? = bulk > 0 ? Array(repeating: 1, count: bulk / 512) : nil
        switch packet {
        case .checksumResyncRequest, .verifyReply: payload = [1]
        default: break
        }
        node.receive(message.stream, VolumeNumber(message.volume), packet, payload)
        peer.pass(.milliseconds(1))
    }

    /// Whether our core has said the same, after it was made to if it is an administrator or a client who decides.
    private mutating func expect(_ packet: Packet, _ message: RecordedMessage, _ index: Int) -> Bool {
        switch packet {
        case .ping, .pingAck, .unplugRemote: return true
        default: break
        }
        collect()
        if take(packet, message) { return true }
        provoke(packet, index)
        for _ in 0..<40 {
            collect()
            if take(packet, message) { return true }
            // A ping of ours may be what the rest waits for; its answer comes later in the recording.
            peer.ack(.pingAck)
            peer.pass(.milliseconds(100))
        }
        if case .uuids = packet, node.state(of: message.position).connection.isConnected {
            owed.append(index)
            return true
        }
        Issue.record(
            """
            \(label): message \(index) \(message.name) \(message.text)
            we said: \(said[message.stream]!.prefix(3).map(\.packet)) in \(node.state(of: message.position).summary)
            \(node.logs.suffix(6).joined(separator: "\n"))
            """)
        return false
    }

    /// Takes the first thing said of a volume on a stream if it is of the same kind and means the same.
    private mutating func take(_ packet: Packet, _ message: RecordedMessage) -> Bool {
        let format = WireTest.format101
        let words = said[message.stream]!
        // Bitmaps are compared by their end; acks and requests of a resync come in any order.
        guard
            let position = words.firstIndex(where: {
                $0.volume.value == message.volume && $0.packet.command(in: format) == packet.command(in: format) && isSame($0.packet, packet)
            })
        else { return false }
        let earlier = words[..<position].filter { $0.volume.value == message.volume }
        if !earlier.isEmpty, !packet.mayBeOvertaken {
            // The kernel sends a barrier when it has something to send behind it; ours goes at once.
            guard case .state = packet, earlier.allSatisfy({ if case .barrier = $0.packet { true } else { false } }) else { return false }
        }
        learn(said[message.stream]!.remove(at: position).packet, packet)
        return true
    }

    /// What we make up ourselves stands for what the kernel made up.
    private mutating func learn(_ ours: Packet, _ theirs: Packet) {
        switch (ours, theirs) {
        case (.uuids(let own), .uuids(let set)):
            note(own.identifiers.current, set.identifiers.current)
            note(own.identifiers.bitmap, set.identifiers.bitmap)
            note(own.identifiers.history0, set.identifiers.history0)
        case (.syncUUID(let own), .syncUUID(let set)): note(own, set)
        case (.data(let own), .data(let head)): blockIDs[head.blockID, default: []].append(own.blockID)
        case (.dataRequest(let own), .dataRequest(let head)): blockIDs[head.blockID, default: []].append(own.blockID)
        case (.trim(let own), .trim(let head)), (.zeroes(let own), .zeroes(let head)):
            blockIDs[head.blockID, default: []].append(own.blockID)
        case (.barrier(let own), .barrier(let number)): barriers[number] = own
        default: break
        }
    }
    private mutating func note(_ ours: UInt64, _ theirs: UInt64) {
        if theirs > 4 { identifiers[theirs & ~1] = ours & ~1 }
    }
    private func ours(_ identifier: UInt64) -> UInt64 {
        guard let known = identifiers[identifier & ~1] else { return identifier }
        return known | identifier & 1
    }

    private mutating func takeBlockID(_ id: UInt64, final: Bool = true) -> UInt64 {
        guard id != BlockID.syncer, let first = blockIDs[id]?.first else { return id }
        if final { blockIDs[id]!.removeFirst() }
        return first
    }

    /// What the other kernel said, in terms of what we said to it.
    private mutating func translated(_ packet: Packet) -> Packet {
        func echo(_ ack: BlockAck, final: Bool = true) -> BlockAck {
            var ack = ack
            ack.blockID = takeBlockID(ack.blockID, final: final)
            return ack
        }
        switch packet {
        case .uuids(var set):
            set.identifiers.current = ours(set.identifiers.current)
            set.identifiers.bitmap = ours(set.identifiers.bitmap)
            set.identifiers.history0 = ours(set.identifiers.history0)
            set.identifiers.history1 = ours(set.identifiers.history1)
            return .uuids(set)
        case .syncUUID(let identifier): return .syncUUID(ours(identifier))
        case .receiveAck(let ack): return .receiveAck(echo(ack))
        case .superseded(let ack): return .superseded(echo(ack))
        case .retryWrite(let ack): return .retryWrite(echo(ack))
        case .writeAck(let ack): return .writeAck(echo(ack))
        case .resyncWriteAck(let ack): return .resyncWriteAck(echo(ack))
        case .negativeAck(let ack): return .negativeAck(echo(ack))
        case .negativeDataReply(let ack): return .negativeDataReply(echo(ack))
        case .dataReply(var head):
            head.blockID = takeBlockID(head.blockID)
            return .dataReply(head)
        case .barrierAck(let number, let count): return .barrierAck(number: barriers[number] ?? number, setSize: count)
        default: return packet
        }
    }

    /// Same kind is given; what must agree beyond that.
    private func isSame(_ ours: Packet, _ theirs: Packet) -> Bool {
        switch (ours, theirs) {
        case (.state(let own), .state(let word)): own & 0x1ffff == word & 0x1ffff
        case (.uuids(let own), .uuids(let set)):
            (own.identifiers.bitmap == 0) == (set.identifiers.bitmap == 0) && own.flags == set.flags
        case (.stateChangeReply(let own), .stateChangeReply(let code)): own == code
        case (.connectionStateChangeReply(let own), .connectionStateChangeReply(let code)): own == code
        case (.stateChangeRequest(let own), .stateChangeRequest(let request)): own == request
        case (.connectionStateChangeRequest(let own), .connectionStateChangeRequest(let request)): own == request
        case (.sizes(let own), .sizes(let sizes)):
            own.diskSize == sizes.diskSize && own.currentSize == sizes.currentSize && own.userSize == sizes.userSize
                && own.resizeFlags == sizes.resizeFlags && own.maximumRequest == sizes.maximumRequest
        case (.data(let own), .data(let head)):
            own.range == head.range && own.flags.subtracting([.sync, .unplug, .fua]) == head.flags.subtracting([.sync, .unplug, .fua, .flush])
        case (.trim(let own), .trim(let head)), (.zeroes(let own), .zeroes(let head)): own.range == head.range
        case (.writeAck(let own), .writeAck(let ack)), (.receiveAck(let own), .receiveAck(let ack)),
            (.negativeAck(let own), .negativeAck(let ack)), (.resyncWriteAck(let own), .resyncWriteAck(let ack)),
            (.negativeDataReply(let own), .negativeDataReply(let ack)), (.superseded(let own), .superseded(let ack)),
            (.retryWrite(let own), .retryWrite(let ack)):
            own.blockID == ack.blockID && own.sector == ack.sector && own.byteCount == ack.byteCount
        case (.barrierAck(let own, let ownSize), .barrierAck(let number, let size)): own == number && ownSize == size
        case (.resyncDataReply(let own), .resyncDataReply(let head)): own.range == head.range
        case (.dataReply(let own), .dataReply(let head)): own.range == head.range && own.blockID == head.blockID
        case (.resyncDataRequest(let own), .resyncDataRequest(let request)),
            (.checksumResyncRequest(let own), .checksumResyncRequest(let request)),
            (.thinResyncRequest(let own), .thinResyncRequest(let request)),
            (.verifyRequest(let own), .verifyRequest(let request)), (.verifyReply(let own), .verifyReply(let request)):
            own.range == request.range
        case (.resyncDeallocated(let own), .resyncDeallocated(let area)): own == area
        case (.resyncIsInSync(let own), .resyncIsInSync(let ack)): own.range == ack.range
        case (.verifyResult(let own), .verifyResult(let ack)): own.range == ack.range && own.blockID == ack.blockID
        default: true
        }
    }

    private func submit(_ index: Int) {
        let volume = VolumeNumber(messages[index].volume)
        switch packets[index] {
        case .data(let head):
            let id = node.write(head.sector.value, 1, count: head.range.count, fua: head.flags.contains(.fua), on: volume)
            if node.replies[id]?.error != nil { Issue.record("\(label): write refused in \(node.state.summary)") }
        case .trim(let head): _ = node.discard(head.sector.value, count: head.range.count, .trim, on: volume)
        case .zeroes(let head):
            let kind: DiscardKind = head.flags.contains(.discard) ? .zeroMayUnmap : .zeroNoUnmap
            _ = node.discard(head.sector.value, count: head.range.count, kind, on: volume)
        default: break
        }
    }

    /// The command that led to the blocks that the kernel went through.
    private func verify(_ index: Int) -> ControlCommand {
        var start: UInt64?
        var end: UInt64 = 0
        for later in packets.indices where later > index && messages[later].sender == me {
            if case .state = packets[later] { break }
            guard case .verifyRequest(let request) = packets[later] else { continue }
            start = start ?? request.sector.value
            end = request.range.end.value
        }
        return .verify(VolumeNumber(0), start: start, stop: end == node.status.sectors ? nil : end)
    }

    /// Does what the administrator or a client of the replaced kernel must have done.
    private mutating func provoke(_ packet: Packet, _ index: Int) {
        let v = messages[index].position
        let volume = VolumeNumber(UInt16(v))
        switch packet {
        case .stateChangeRequest(let request):
            switch (request.mask, request.value) {
            case (0x3, 0x1): _ = node.command(.primary(volume, force: false))
            case (0x1e03, 0x1001): _ = node.command(.primary(volume, force: true))
            case (0x1f0, 0xc0): _ = node.command(.invalidate(volume))
            case (0x1f0, 0xb0): _ = node.command(.invalidateRemote(volume))
            case (0x1f0, 0x120): _ = node.command(verify(index))
            case (0x1e00, 0x400): _ = node.command(.detach(volume, force: false))
            default: break
            }
        case .protocolUpdate(let update):
            var options = node.core.link.options
            options.replicationProtocol = ReplicationProtocol(rawValue: UInt8(update.replicationProtocol)) ?? .c
            options.dataIntegrityAlgorithm = update.integrityAlgorithm
            if case .syncParameters(let parameters)? = packets[index...].first(where: { if case .syncParameters = $0 { true } else { false } }) {
                options.verifyAlgorithm = parameters.verifyAlgorithm
                options.checksumAlgorithm = parameters.checksumAlgorithm
            }
            _ = node.command(.netOptions(options))
        case .connectionStateChangeRequest: _ = node.command(.disconnect(force: false))
        case .data, .trim, .zeroes:
            // All that went into one epoch was on its way before any of it was complete.
            node.holdsDisk = true
            for later in packets.indices[index...] where messages[later].sender == me {
                if case .barrier = packets[later] { break }
                submit(later)
            }
            node.releaseHeld()
        case .outOfSync(let area): _ = node.write(area.sector.value, 1, count: area.range.count, on: volume)
        case .dataRequest(let request): _ = node.read(request.sector.value, count: request.range.count, on: volume)
        case .barrier: _ = node.flush()
        case .uuids(let set) where set.flags.contains(.skipInitialSync):
            _ = node.command(.newCurrentUUID(volume, clearBitmap: true))
        case .uuids:
            if label.hasPrefix("resize") { resize(index) }
        case .state(let word):
            guard let wanted = VolumeState(word: word) else { return }
            if wanted.connection == .ahead {
                // Congested is what the kernel says: its next write finds that out.
                node.core.link.options.onCongestion = .pullAhead
                node.core.link.options.congestionFill = 1
                if let later = packets.indices[index...].first(where: { if case .outOfSync = packets[$0] { true } else { false } }),
                    case .outOfSync(let area) = packets[later]
                {
                    _ = node.write(area.sector.value, 1, count: area.range.count, on: volume)
                }
            }
            if wanted.role == .secondary, node.state(of: v).role == .primary { _ = node.command(.secondary(volume)) }
            if wanted.pausedByUser, !node.state(of: v).pausedByUser { _ = node.command(.pauseSync(volume)) }
            if !wanted.pausedByUser, node.state(of: v).pausedByUser { _ = node.command(.resumeSync(volume)) }
            if wanted.disk == .failed, node.state(of: v).disk.isUsable { _ = node.command(.detach(volume, force: true)) }
        case .sizes:
            guard node.state(of: v).disk == .diskless else { return }
            prepareDisk(index)
            _ = node.attach(Self.diskOptions(label.components(separatedBy: " ")[0], onIOError), volume)
        case .syncParameters: _ = node.command(.diskOptions(volume, node.core.volumes[v].diskOptions))
        default: break
        }
    }
}

extension RecordedMessage {
    /// Of its volume, among those of a session.
    fileprivate var position: Int { Int(volume) }
}

extension Packet {
    /// Completions of a disk, which come in any order, and requests whose pace is local.
    fileprivate var mayBeOvertaken: Bool {
        switch self {
        case .writeAck, .receiveAck, .resyncWriteAck, .negativeAck, .dataReply, .resyncDataReply, .resyncDataRequest,
            .checksumResyncRequest, .resyncIsInSync, .thinResyncRequest, .resyncDeallocated, .verifyRequest, .verifyReply,
            .verifyResult, .barrier, .barrierAck, .syncParameters, .outOfSync:
            true
        default: false
        }
    }
}
