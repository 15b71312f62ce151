import ReplicaProto

/// Two whole nodes on simulated disks and a simulated network, driven by one seed: first a scenario of requests and
/// faults, then everything is healed and has to become equal and quiet.
package final class Cluster {
    static let volume = VolumeNumber(0)

    let scenario: Scenario
    let mutation: CoreMutation?
    /// Hears every event of both nodes.
    package var observer: ((Event) -> Void)?
    var random: SimRandom
    var now = Instant.zero
    var queue = SimQueue()
    var nodes: [SimNode] = []
    var streams: [SimStream] = []
    var nextSocket: UInt32 = 1
    var networkIsParted = false
    var events: [Event] = []
    var freeEvents: [Int] = []
    package private(set) var stepCount = 0
    /// Writes that met one of the other primary and were overruled.
    package private(set) var conflicts = 0
    /// Times that a primary pulled ahead.
    package private(set) var aheads = 0
    /// Times that a node said that both have to be of a higher version.
    package private(set) var upgrades = 0
    /// Packets after the first of writes that were too large for one.
    package private(set) var pieces = 0
    /// Connections of an older version that got as far as writes.
    package var olderVersions: Set<UInt32> { Set(nodes.flatMap(\.writtenVersions)).subtracting([101]) }
    /// Online verifies that came to their end, blocks that they compared, and those of them that differed.
    package internal(set) var verifyRuns = 0
    package internal(set) var verifiedBlocks = 0
    package internal(set) var foundDifferences = 0
    /// Requests of resyncs that were answered without data: equal by their digest, or all zeroes.
    package private(set) var sparedRequests = 0
    package private(set) var zeroedRequests = 0

    // MARK: What must be true
    /// One history; two while both nodes write on their own.
    var histories: [History]
    var isForked = false
    /// Which node has everything that was ever promised to a client.
    var isCurrent = [true, true] {
        didSet { if oldValue != isCurrent { trace { "current: alice \(isCurrent[0]), bob \(isCurrent[1])" } } }
    }
    var nextWrite: UInt32 = 1
    /// Writes that were answered with success, in order of their answers.
    var acknowledged: [(range: SectorRange, write: UInt32, node: Int)] = []
    /// Blocks that were changed behind the cores' backs; clients never write there.
    var planted: Set<Int> = []
    /// Of these, what both nodes know since an online verify, unless one of them died since.
    var foundBlocks: Set<Int> = []
    var hadReadFault = false
    /// When the last flush that was answered with success was asked for: what was answered before is durable.
    var lastFlush = Instant.zero
    package var violation: String?

    // MARK: The course of events
    var requestsLeft: Int
    var isHealing = false
    /// Growing: when `resize` was asked for after everything was healed.
    var grownAt: Instant?
    var healingSince = Instant.zero
    var isSettled = false
    /// The node that the administrator wants to be primary.
    var wantsPrimary: Int? = 0
    var splitBrainSeen = false
    var splitStage = SplitStage.before
    /// The node whose generation is new and whose data is not: its administrator discards it.
    var unchangedNode: Int?
    var healAt: Instant?
    var uniteAt: Instant?
    /// Both disks have been UpToDate together.
    var hasBeenEqual: Bool
    /// The second disk has got everything, though the first may not know: its source may not have seen the end.
    var hasBeenCopied: Bool
    var promotedByForce = false
    /// The first primary has been chosen.
    var hasStarted = false
    var quietSince: Instant?
    var traceLines: [String]?

    package init(scenario: Scenario, mutation: CoreMutation? = nil, traces: Bool = false) {
        self.scenario = scenario
        self.mutation = mutation
        random = SimRandom(seed: scenario.seed)
        requestsLeft = scenario.requests
        hasBeenEqual = scenario.startsInSync
        hasBeenCopied = scenario.startsInSync
        wantsPrimary = scenario.startsAlone ? 0 : nil
        histories = [History(sectors: Int(scenario.largest))]
        if traces { traceLines = [] }
        let identifier = random.next() & ~1
        for index in 0..<2 {
            let superblock = Self.superblock(scenario, identifier: identifier)
            let metadata = MetadataDisk(
                superblock: superblock, logBlocks: 8,
                bitmapPages: Int(MetadataLayout.pages(coveringSectors: scenario.largest)))
            nodes.append(
                SimNode(
                    index: index, seed: &random, data: DataDisk(sectors: Int(scenario.largest)), metadata: metadata,
                    capacity: scenario.sectors))
        }
    }

    private static func superblock(_ scenario: Scenario, identifier: UInt64) -> [UInt8] {
        guard
            let layout = try? MetadataLayout(
                .flexible, deviceSectors: MetadataLayout.flexibleDeviceSectors(forData: scenario.sectors))
        else { return Array(repeating: 0, count: 4096) }
        var superblock = layout.freshSuperblock()
        if scenario.startsInSync {
            superblock.lastAgreedSectors = scenario.sectors
            superblock.identifiers = GenerationIdentifiers(current: identifier)
            superblock.flags = [.consistent, .wasUpToDate, .activityLogClean]
        }
        return superblock.encoded()
    }

    // MARK: Running

    /// Runs the whole seed. nil if every rule held.
    package func run() -> String? {
        for node in nodes { start(node) }
        queue.add(.administrator, at: now + .milliseconds(50))
        schedulePlan()
        while violation == nil, !isSettled, let (time, action) = queue.take() {
            stepCount += 1
            now = time
            perform(action)
            if stepCount > 600_000 { fail("still not quiet after \(stepCount) steps") }
        }
        return violation
    }

    private func perform(_ action: SimAction) {
        switch action {
        case .clock(let node, let life):
            let node = nodes[node]
            guard node.life == life, node.wokenAt <= now.nanoseconds else { return }
            node.wokenAt = .max
            step(node, .clockAdvanced)
        case .disk(let node, let operation): diskMoves(nodes[node], operation)
        case .deliver(let stream, let toAcceptor): deliver(stream, toAcceptor: toAcceptor)
        case .event(let node, let life, let index):
            let event = events[index]
            freeEvents.append(index)
            if nodes[node].life == life { step(nodes[node], event) }
        case .connectAttempt(let node, let life): if nodes[node].life == life { attemptConnection(nodes[node]) }
        case .retransmissionFails(let stream, let toAcceptor): retransmissionFails(stream, toAcceptor: toAcceptor)
        case .client(let node, let life): if nodes[node].life == life { clientTick(nodes[node]) }
        case .plan(let index): perform(scenario.steps[index])
        case .administrator: administrate()
        case .startProcess(let node): if !nodes[node].isRunning { start(nodes[node]) }
        case .nextCommand(let node, let life): if nodes[node].life == life { sendNextCommand(nodes[node]) }
        }
    }

    /// One event for a core, and all that it asks for.
    func step(_ node: SimNode, _ event: Event) {
        guard violation == nil else { return }
        trace { "\(node.name) <- \(Self.text(event))" }
        observer?(event)
        node.core.handle(event, at: now, into: &node.effects)
        var index = 0
        let life = node.life
        while index < node.effects.count {
            carryOut(node.effects[index], node)
            index += 1
        }
        guard node.life == life else { return }
        node.effects.removeAll()
        if node.running == 0, node.isClosing { closed(node) }
        watch(node)
        wake(node)
    }

    /// An event a little later.
    func later(_ node: SimNode, _ event: Event, after delay: TimeSpan) {
        let index: Int
        if let free = freeEvents.popLast() {
            events[free] = event
            index = free
        } else {
            index = events.count
            events.append(event)
        }
        queue.add(.event(node: node.index, life: node.life, index), at: now + delay)
    }

    private func wake(_ node: SimNode) {
        guard let deadline = node.core.nextDeadline else { return }
        let moment = max(deadline.nanoseconds, now.nanoseconds + 1)
        guard moment < node.wokenAt else { return }
        node.wokenAt = moment
        queue.add(.clock(node: node.index, life: node.life), at: Instant(nanoseconds: moment))
    }

    func fail(_ what: @autoclosure () -> String) {
        guard violation == nil else { return }
        violation = what()
        trace { "VIOLATION \(violation ?? "")" }
    }

    func trace(_ line: () -> String) {
        guard traceLines != nil else { return }
        let micros = now.nanoseconds / 1000
        traceLines?.append("\(micros / 1_000_000).\(String(micros % 1_000_000 + 1_000_000).dropFirst()) \(line())")
    }

    package var trace: [String] { traceLines ?? [] }

    func peer(of node: SimNode) -> SimNode { nodes[1 - node.index] }
    /// Whether the administrator wants this node to be primary.
    func wants(_ node: SimNode) -> Bool { wantsPrimary == node.index || scenario.kind == .twoPrimaries && wantsPrimary != nil }
    func history(_ node: SimNode) -> Int { isForked ? node.index : 0 }
    func state(_ node: SimNode) -> VolumeState? { node.isRunning ? node.core.state(of: Self.volume) : nil }

    // MARK: Effects

    private func carryOut(_ effect: Effect, _ node: SimNode) {
        switch effect {
        case .replyToClient(let id, let error, let data): reply(node, id, error, data)
        case .setExport(_, let export):
            trace { "\(node.name) -> export \(export.sectors) sectors, primary \(export.isPrimary)" }
            exportChanged(node, export)
        case .releaseBuffer(let slot):
            if !node.giveBack(slot) { fail("\(node.name) released buffer \(slot.value) that it does not own") }
        case .readDisk, .writeDisk, .discardDisk, .writePattern, .flushDisk, .writeSuperblock, .writeActivityLog,
            .writeBitmapPages, .initialiseActivityLog, .flushMetadata, .openDisk, .abandonDisk, .closeDisk, .clearSuperblock,
            .measureDisk, .moveMetadata:
            trace { "\(node.name) -> \(Self.text(effect))" }
            startDisk(effect, node)
        case .compareDigest(let id, _, let data, _, let digest):
            guard let left = node.stamps(data), let right = node.stamps(digest) else {
                return fail("\(node.name) compares buffers that it does not own")
            }
            later(node, .blockExamined(id, matches: left == right), after: random.delay(.milliseconds(0), .milliseconds(1)))
        case .lookForZeroes(let id, let data, _):
            guard let stamps = node.stamps(data) else { return fail("\(node.name) looks into a buffer that it does not own") }
            later(
                node, .blockExamined(id, matches: stamps.allSatisfy { $0 == 0 }),
                after: random.delay(.milliseconds(0), .milliseconds(1)))
        case .listen: node.isListening = true
        case .stopListening: node.isListening = false
        case .connectToPeer:
            queue.add(
                .connectAttempt(node: node.index, life: node.life), at: now + random.delay(.milliseconds(0), .milliseconds(2)))
        case .sendMarker(let socket, let kind): sendMarker(node, socket, kind)
        case .closeSocket(let socket): closeSocket(node, socket)
        case .useSocket(let socket, let kind): useSocket(node, socket, kind)
        case .setWireFormat(let format): node.format = format
        case .send(let kind, let volume, let packet, let payload):
            trace { "\(node.name) -> \(kind) \(Self.text(packet))" }
            checkVersion(node, packet)
            count(packet, node)
            send(node, kind, volume, packet, payload)
        case .sendAndReport(let id, let volume, let packet, let payload):
            trace { "\(node.name) -> data \(Self.text(packet))" }
            checkVersion(node, packet)
            send(node, .data, volume, packet, payload)
            if node.dataStream != nil { later(node, .writeHandedToNetwork(id), after: random.delay(.milliseconds(0), .milliseconds(2))) }
        case .sendPart(let volume, let packet, let payload, let offset, let report):
            trace { "\(node.name) -> data \(Self.text(packet)) from \(offset)" }
            checkVersion(node, packet)
            pieces += 1
            sendPart(node, volume, packet, payload, offset: Int(offset / 512))
            if let report, node.dataStream != nil {
                later(node, .writeHandedToNetwork(report), after: random.delay(.milliseconds(0), .milliseconds(2)))
            }
        case .makeChallenge:
            var bytes: [UInt8] = []
            for _ in 0..<64 { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
            later(node, .challengeMade(bytes), after: .milliseconds(0))
        case .computeHMAC(let purpose, _, let key, let message):
            later(node, .hmacComputed(purpose, Self.digest(key, message)), after: .milliseconds(0))
        case .answerCommand(let id, let answer): commandAnswered(node, id, answer)
        case .runHandler(let id, let name, _):
            trace { "\(node.name) -> handler \(name.rawValue)" }
            if name == .splitBrain {
                if scenario.kind != .splitBrain, !isFalseAlarm() {
                    fail("\(node.name) sees a split brain where only one node at a time was primary")
                }
                node.sawSplitBrain = true
                splitBrainSeen = true
            }
            later(node, .handlerFinished(id, status: name == .fencePeer ? 5 : 0), after: random.delay(.milliseconds(1), .milliseconds(300)))
        case .log(let level, _, let text):
            trace { "\(node.name) log \(level) \(text)" }
            if text.hasPrefix("To resolve this both sides have to support") {
                for node in nodes { node.needsUpgrade = true }
                upgrades += 1
            }
        case .publishStatus: break
        }
    }

    private func count(_ packet: Packet, _ node: SimNode) {
        switch packet {
        case .verifyRequest(let request): checkVerifyRequest(node, request)
        case .verifyResult(let ack): checkVerifyResult(node, ack)
        case .resyncIsInSync: sparedRequests += 1
        case .resyncDeallocated: zeroedRequests += 1
        case .superseded, .retryWrite: conflicts += 1
        case .state(let word): if VolumeState(word: word)?.connection == .ahead { aheads += 1 }
        default: break
        }
    }

    /// Stands for HMAC: both sides compute the same from the same.
    private static func digest(_ key: [UInt8], _ message: [UInt8]) -> [UInt8] {
        var state: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in key + message { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
        var random = SimRandom(seed: state)
        return (0..<32).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    // MARK: Text of the trace

    static func text(_ packet: Packet) -> String {
        switch packet {
        case .bitmap(let bytes): "P_BITMAP \(bytes.count) bytes"
        case .compressedBitmap(let bytes): "P_COMPRESSED_BITMAP \(bytes.count) bytes"
        case .state(let word): "P_STATE \(VolumeState(word: word)?.summary ?? "\(word)")"
        case .uuids(let packet): "P_UUIDS \(packet.identifiers.handshakeLine("own", bits: packet.dirtyBits, flags: packet.flags))"
        default: "\(packet)"
        }
    }

    private static func text(_ event: Event) -> String {
        switch event {
        case .packetReceived(let kind, _, let packet, let payload): "\(kind) \(text(packet)) \(payload.map { "buffer \($0.value)" } ?? "")"
        case .diskOpened: "diskOpened"
        case .challengeMade: "challengeMade"
        default: "\(event)"
        }
    }

    private static func text(_ effect: Effect) -> String {
        switch effect {
        case .writeSuperblock(_, let block, let durable):
            "writeSuperblock \(block.identifiers.text) flags 0x\(String(block.flags.rawValue, radix: 16)) unclean \(block.isUnclean) durable \(durable)"
        case .openDisk: "openDisk"
        default: "\(effect)"
        }
    }
}
