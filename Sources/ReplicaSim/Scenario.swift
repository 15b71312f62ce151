import ReplicaProto

/// What one seed is about: sizes, settings, and the faults to come.
package struct Scenario: Sendable {
    package enum Kind: Sendable {
        /// One primary at a time, faults of all sorts.
        case faults
        /// Both become primary while the network is parted: split brain, to be noticed and resolved by hand.
        case splitBrain
        /// Both are primary together and write the same places; now and then one of them dies. The network holds: without
        /// it two primaries are a split brain.
        case twoPrimaries
    }

    enum Step: Equatable, Sendable {
        /// The process of a node is killed; the machine and its caches live on.
        case kill(Int)
        /// The machine loses power.
        case cutPower(Int)
        case cutBoth
        /// One stream breaks.
        case breakStream
        /// No packet gets through for a while.
        case part(TimeSpan)
        /// One direction of a stream stands still for a while.
        case stall(TimeSpan)
        case disconnect(Int)
        case detach(Int, force: Bool)
        case failWrites(Int, count: Int)
        case failReads(Int, count: Int)
        case failMetadata(Int)
        /// A disk does not answer for a while.
        case hang(Int, TimeSpan)
        /// A flush of the data fails, and what the cache held is gone in part, whatever later flushes say.
        case failFlush(Int)
        /// The other node takes over, or the same again if it stopped being primary.
        case switchOver
        case demote
        case promote
        case pauseSync(Int)
        case suspend
        case invalidate(Int)
        /// A disk gets larger; nobody is told.
        case grow(Int)
        case resize(Int, assumeClean: Bool)
        /// A block of one disk changes, and nobody sees it.
        case spoil(Int, extent: Int)
        /// Sectors from where to where; nil: from where the last run was interrupted, to the end.
        case verify(Int, start: UInt64?, stop: UInt64?)
    }

    package let seed: UInt64
    package private(set) var kind: Kind
    var sectors: UInt64
    /// Disks grow in the middle of it.
    let grows: Bool
    /// Blocks are compared by their digests, in resyncs and online.
    let compares: Bool
    /// Sectors that a disk may come to have.
    var largest: UInt64
    var disk = DiskOptions()
    var net = NetOptions()
    /// Data and metadata share one disk cache.
    var sharesCache: Bool
    /// Both nodes start with equal data and identifiers; otherwise fresh metadata and a forced primary.
    var startsInSync: Bool
    var requests: Int
    var queueDepth: Int
    var steps: [Step]
    /// Longest pause between two requests.
    var thinkTime: TimeSpan
    /// Clients begin before the nodes have met.
    var startsAlone: Bool
    var slowDisk: Bool
    var slowNetwork: Bool
    var authenticates: Bool
    /// The highest protocol version that a node announces.
    package private(set) var versions: [UInt32] = [101, 101]

    /// - Parameters:
    ///   - grows: whether disks grow; by default one seed in eight says so.
    ///   - older: whether a node may be of an older version; two seeds in five.
    ///   - compares: whether digests are in use; by default another one in eight.
    ///   - hangs: whether a disk may hang; one seed in eight.
    package init(seed: UInt64, grows: Bool? = nil, compares: Bool? = nil, older: Bool = true, hangs: Bool = true) {
        self.seed = seed
        var random = SimRandom(seed: seed ^ 0x5ce7_a210)
        kind = random.chance(12) ? .splitBrain : .faults
        self.grows = grows ?? (kind == .faults && seed % 8 == 3)
        self.compares = compares ?? (kind == .faults && seed % 8 == 5)
        largest = 0
        let extents = random.chance(5) ? 34 : random.between(2, 6)
        sectors = UInt64(extents) * ActivityLogExtent.sectors - UInt64(random.pick([0, 0, 8, 7 * 8, 3, 4096]))
        sharesCache = random.chance(40)
        startsInSync = random.chance(85)
        requests = random.between(20, 120)
        queueDepth = random.pick([1, 2, 4, 8, 16])
        thinkTime = random.pick([.milliseconds(5), .milliseconds(100), .milliseconds(600), .seconds(2)])
        startsAlone = random.chance(15)
        slowDisk = random.chance(20)
        slowNetwork = random.chance(20)
        authenticates = random.chance(8)

        disk.alExtents = random.pick([3, 4, 4, 6, 8])
        disk.cMaxRate = 4_000_000
        disk.resyncRate = 1_000_000
        disk.cFillTarget = 20_000
        disk.cMinRate = 0
        disk.onIOError = random.chance(70) ? .detach : .passOn
        net.replicationProtocol = random.chance(70) ? .c : random.pick([.a, .b])
        net.maxEpochSize = random.pick([2048, 2048, 4, 20])
        net.maxBuffers = random.pick([2048, 8000])
        net.useRLE = random.chance(60)
        net.connectInterval = random.pick([1, 3, 10])
        net.pingInterval = random.pick([1, 10])
        net.timeout = 60
        if authenticates {
            net.cramHMACAlgorithm = "sha256"
            net.sharedSecret = "simulated"
        }
        steps = []
        if kind == .faults {
            let count = random.between(1, 6)
            for _ in 0..<count { steps.append(Self.step(&random, net.replicationProtocol)) }
        }
        largest = sectors
        var more = SimRandom(seed: seed ^ 0x0d0a_1b0d)
        if kind == .faults, net.replicationProtocol == .a { congest(&more) }
        if kind == .faults, !self.grows, net.replicationProtocol == .c, more.chance(15) { useTwoPrimaries(&more) }
        var age = SimRandom(seed: seed ^ 0x0a9e_d0d5)
        if older, age.chance(40) {
            // Below 100 two primaries have no way to settle writes that overlap in part: one disk keeps more than the other.
            let lowest = kind == .twoPrimaries ? 100 : 86
            versions[age.below(2)] = UInt32(age.between(lowest, 100))
            // Ahead came with 96, and was the reason for it.
            if kind == .faults, net.onCongestion == .pullAhead { versions = versions.map { max($0, 96) } }
        }
        if hangs, kind == .faults { hangDisks(SimRandom(seed: seed ^ 0xd15c_4a60)) }
        if self.compares { addComparisons(SimRandom(seed: seed ^ 0xd16_e575)) }
        guard self.grows, kind == .faults else { return }
        largest += 4 * ActivityLogExtent.sectors
        var growth = SimRandom(seed: seed ^ 0x9e0_3517)
        for _ in 0..<growth.between(1, 3) {
            let first = growth.below(2)
            let steps: [Step] = [
                .grow(first), .grow(1 - first), .resize(growth.below(2), assumeClean: growth.chance(20)),
                .resize(growth.below(2), assumeClean: false),
            ]
            for step in steps { self.steps.insert(step, at: growth.below(self.steps.count + 1)) }
        }
    }

    private mutating func congest(_ random: inout SimRandom) {
        guard random.chance(60) else { return }
        net.onCongestion = .pullAhead
        net.congestionFill = UInt64(random.pick([0, 16, 64, 300]))
        net.congestionExtents = random.pick([1237, 1237, 2, 3])
        if random.chance(50) { thinkTime = .milliseconds(5) }
    }

    private mutating func useTwoPrimaries(_ random: inout SimRandom) {
        kind = .twoPrimaries
        net.allowTwoPrimaries = true
        disk.onIOError = .detach
        startsInSync = true
        startsAlone = false
        requests = random.between(60, 200)
        thinkTime = random.pick([.milliseconds(5), .milliseconds(100)])
        steps = []
        for _ in 0..<random.below(4) {
            switch random.below(6) {
            case 0: steps.append(.kill(random.below(2)))
            case 1: steps.append(.cutPower(random.below(2)))
            case 2: steps.append(.switchOver)
            default: steps.append(.stall(.milliseconds(50)))
            }
        }
    }

    private mutating func hangDisks(_ seed: SimRandom) {
        var random = seed
        guard random.chance(12) else { return }
        disk.diskTimeout = random.pick([0, 10, 30])
        for _ in 0..<random.between(1, 2) {
            let span: TimeSpan = random.pick([.milliseconds(500), .seconds(5), .seconds(30)])
            steps.insert(.hang(random.below(2), span), at: random.below(steps.count + 1))
        }
    }

    private mutating func addComparisons(_ seed: SimRandom) {
        var random = seed
        net.verifyAlgorithm = "sha1"
        if random.chance(60) { net.checksumAlgorithm = "crc32c" }
        net.checksumsAfterCrashOnly = random.chance(20)
        if random.chance(60) { disk.rsDiscardGranularity = random.pick([4096, 65_536, 1 << 20]) }
        // A verify of everything takes its time, and before 97, and at 100, it knows no other end.
        let isSmall = sectors < 10 * ActivityLogExtent.sectors
        guard isSmall || versions.allSatisfy({ $0 >= 97 && $0 != 100 }) else { return }
        for _ in 0..<random.between(1, 4) {
            let extent = random.below(8)
            // Where clients are, and where something was planted; seldom all of it.
            let first = UInt64(extent) % (sectors / ActivityLogExtent.sectors) * ActivityLogExtent.sectors
            let isWhole = isSmall && random.chance(15)
            let start: UInt64? = isWhole ? random.pick([nil, 0]) : first
            let verify = Step.verify(random.below(2), start: start, stop: isWhole ? nil : first + 8 * 510)
            var steps = [verify]
            if random.chance(60) { steps.insert(.spoil(random.below(2), extent: extent), at: 0) }
            let place = random.below(self.steps.count + 1)
            self.steps.insert(contentsOf: steps, at: place)
        }
    }

    private static func step(_ random: inout SimRandom, _ replication: ReplicationProtocol) -> Step {
        let node = random.below(2)
        switch random.below(100) {
        case 0..<14: return .kill(node)
        case 14..<28: return .cutPower(node)
        case 28..<31: return .cutBoth
        case 31..<43: return .breakStream
        case 43..<51: return .part(random.pick([.milliseconds(200), .seconds(3), .seconds(20), .seconds(60)]))
        case 51..<55: return .stall(random.pick([.milliseconds(50), .seconds(2), .seconds(15)]))
        case 55..<60: return .disconnect(node)
        case 60..<65: return .detach(node, force: random.chance(30))
        case 65..<69: return .failWrites(node, count: random.between(1, 3))
        case 69..<72: return .failReads(node, count: random.between(1, 2))
        case 72..<74: return .failMetadata(node)
        case 74..<84: return .switchOver
        case 84..<88: return .demote
        case 88..<93: return .promote
        case 93..<95: return .pauseSync(node)
        case 95..<97: return .suspend
        case 97: return .failFlush(node)
        default: return .invalidate(node)
        }
    }

    /// One line that says what a failing seed was about.
    package var summary: String {
        "\(kind) \(sectors) sectors, versions \(versions), protocol \(net.replicationProtocol), al \(disk.alExtents), depth \(queueDepth), "
            + "\(requests) requests, steps \(steps)"
    }
}
