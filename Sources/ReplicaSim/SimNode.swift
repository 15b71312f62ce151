import ReplicaProto

/// One machine: the core, its disks, the buffers it works with, and what is under way on its behalf.
final class SimNode {
    let index: Int
    var name: String { index == 0 ? "alice" : "bob" }
    var core: Resource
    /// Counts starts and ends of the process: whatever belongs to another life is void.
    var life = 0
    var isRunning = false
    /// Without power nobody answers, not even with a reset.
    var hasPower = true
    /// Since both disks were equal.
    var lostPower = false
    var lostPowerAt: Instant?
    /// A Primary went on with the peer's disk alone.
    var lostDiskAt: Instant?
    /// Its disk failed while the other's cache was lost, and it has not noticed yet that the other is gone.
    var mayLackAnswered = false
    /// A generation that its disk may hold though its process died before the write ended: nothing was ever answered in it.
    var unusedGeneration: UInt64?
    var wasTarget = false
    /// The end of the last resync to its disk.
    var resyncEndedAt: Instant?
    /// A Primary without a disk lost its peer, since both disks were equal.
    var lostTransit = false
    var effects = EffectQueue(reserving: 1024)

    // MARK: Disks
    var data: DataDisk
    var metadata: MetadataDisk
    /// Where the metadata was before it moved; counts until a superblock is at the new place.
    var metadataBefore: MetadataDisk?
    /// Sectors of the data device and of the metadata device.
    var capacity: UInt64
    var metadataCapacity: UInt64
    /// What an attach would use.
    var inForce: MetadataDisk {
        if let metadataBefore, metadata.stableSuperblock == nil { return metadataBefore }
        return metadata
    }
    var operations: [DiskOperation?] = []
    var freeOperations: [Int] = []
    var running = 0
    var isClosing = false
    /// The core has given it up: everything fails until it is closed.
    var isAbandoned = false
    /// Nothing is answered before.
    var hangsUntil: Instant?
    var failingWrites = 0
    var failingReads = 0
    var failingMetadata = 0
    var failingFlushes = 0
    /// The log on the platter, block by block; nil for what is no transaction.
    var stableLog: [ActivityLogTransaction?]
    /// Extents that the activity log on the platter holds, slot by slot.
    var stableHot: [UInt32] = []
    /// Writes that this data disk has completed, by stamp.
    private var written: [Bool] = []

    // MARK: Buffers
    var buffers: [[UInt32]] = []
    var bufferIsOut: [Bool] = []
    var freeBuffers: [Int] = []

    // MARK: Sockets
    var isListening = false
    var connectsAgain = false
    var sockets: [(socket: SocketID, stream: Int, isAcceptor: Bool)] = []
    var dataStream: (stream: Int, isAcceptor: Bool)?
    var metaStream: (stream: Int, isAcceptor: Bool)?

    // MARK: Clock
    var wokenAt: UInt64 = .max

    // MARK: Clients
    var export = ExportState(sectors: 0, isPrimary: false, logicalBlockSize: 512)
    var exportIsOpen = false
    var requests: [ClientRequest?] = Array(repeating: nil, count: 64)
    var generations: [UInt32] = Array(repeating: 0, count: 64)
    var outstanding = 0

    // MARK: Administration
    var commands: [ControlCommand] = []
    var pendingCommand: CommandID?
    var openCommand: ControlCommand?
    var nextCommand: UInt64 = 1
    var isSetUp = false
    /// Handlers that the core has started in this life.
    var sawSplitBrain = false
    /// A log line said that both sides have to be of a higher version, or have a feature.
    var needsUpgrade = false
    /// The last `connect` came with --discard-my-data.
    var discardsData = false
    var lastAnswer: CommandAnswer?
    /// What packets look like on the present connection.
    var format = WireFormat.initial
    /// Agreed versions that it has sent writes with.
    var writtenVersions: Set<UInt32> = []
    var verify = VerifyWatch()

    init(index: Int, seed: inout SimRandom, data: DataDisk, metadata: MetadataDisk, capacity: UInt64) {
        self.index = index
        self.data = data
        self.metadata = metadata
        self.capacity = capacity
        metadataCapacity = MetadataLayout.flexibleDeviceSectors(forData: capacity)
        stableLog = Array(repeating: nil, count: metadata.logBlocks)
        core = Self.newCore(&seed)
    }

    /// With tables that are large enough for the longest queue of a scenario: zeroing large ones took most of a run.
    static func newCore(_ seed: inout SimRandom) -> Resource {
        var sizes = TableSizes()
        sizes.clientRequests = 64
        sizes.requestTable = 1024
        sizes.peerRequests = 2048
        sizes.openEpochs = 1024
        return Resource(name: "r0", seed: (seed.next(), seed.next(), seed.next(), seed.next()), sizes: sizes)
    }

    func noteWritten(_ stamps: [UInt32]) {
        for stamp in stamps {
            while written.count <= Int(stamp) { written.append(false) }
            written[Int(stamp)] = true
        }
    }
    func hasWritten(_ stamp: UInt32) -> Bool { Int(stamp) < written.count && written[Int(stamp)] }

    /// Everything that dies with the process.
    func forgetProcess() {
        if let generation = core.unusedGeneration(of: Cluster.volume) { unusedGeneration = generation }
        mayLackAnswered = false
        life += 1
        isRunning = false
        buffers.removeAll()
        bufferIsOut.removeAll()
        freeBuffers.removeAll()
        for index in operations.indices { operations[index] = nil }
        operations.removeAll()
        freeOperations.removeAll()
        running = 0
        isClosing = false
        isAbandoned = false
        isListening = false
        sockets.removeAll()
        dataStream = nil
        metaStream = nil
        wokenAt = .max
        export = ExportState(sectors: 0, isPrimary: false, logicalBlockSize: 512)
        exportIsOpen = false
        commands.removeAll()
        pendingCommand = nil
        openCommand = nil
        discardsData = false
        isSetUp = false
        verify = VerifyWatch()
        effects.removeAll()
    }

    // MARK: Buffers

    func lease(_ stamps: [UInt32]) -> BufferSlot {
        let index: Int
        if let free = freeBuffers.popLast() {
            index = free
            buffers[index] = stamps
        } else {
            index = buffers.count
            buffers.append(stamps)
            bufferIsOut.append(false)
        }
        bufferIsOut[index] = true
        return BufferSlot(UInt32(index))
    }

    /// False if it was not out.
    func giveBack(_ slot: BufferSlot) -> Bool {
        let index = Int(slot.value)
        guard index < buffers.count, bufferIsOut[index] else { return false }
        bufferIsOut[index] = false
        buffers[index] = []
        freeBuffers.append(index)
        return true
    }

    func stamps(_ slot: BufferSlot) -> [UInt32]? {
        let index = Int(slot.value)
        return index < buffers.count && bufferIsOut[index] ? buffers[index] : nil
    }

    var buffersOut: Int { buffers.count - freeBuffers.count }

    // MARK: Operations

    func add(_ operation: DiskOperation) -> Int {
        running += 1
        if let free = freeOperations.popLast() {
            operations[free] = operation
            return free
        }
        operations.append(operation)
        return operations.count - 1
    }

    func remove(_ index: Int) {
        operations[index] = nil
        freeOperations.append(index)
        running -= 1
    }
}

/// What a disk is doing.
struct DiskOperation {
    enum Kind {
        case open(DiskConfiguration)
        case read(DiskTag, SectorRange)
        /// nil: zeroes.
        case write(DiskTag, SectorRange, [UInt32]?, durable: Bool)
        case flush(FlushTag)
        /// Blocks of the metadata area with their bytes.
        case metadata([(block: Int, bytes: [UInt8])], durable: Bool)
        case flushMetadata
    }

    var kind: Kind
    let life: Int
    /// A flush that comes first, with what it has to make stable.
    var dataFlush: DataDisk.Capture?
    var metadataFlush: [(Int, [UInt8])]?
    /// The flush is through.
    var isFlushed = false
    var fails = false
}

/// One request of a client.
struct ClientRequest {
    enum Kind { case read, write, discard, flush }

    var id: RequestID
    var kind: Kind
    var range: SectorRange
    /// Names the write; its stamp, unless it is a discard.
    var write: UInt32
    var isDurable = false
    /// A trim: it may be ignored, so the old data is as good as zeroes.
    var isHint = false
    var issued: Instant
    /// Flush and FUA: the writes answered when it was issued, up to here in `Cluster.acknowledged`.
    var acknowledgedBefore = 0
}
