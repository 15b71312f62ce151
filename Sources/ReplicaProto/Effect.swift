/// What the core asks of the outside. Imperative: do it. Carried out in order, before the next event is handed in.
///
/// Ownership of buffers: `writeDisk` and `send` lend a slot; whoever carries them out keeps the bytes alive until the
/// I/O has ended, even if `releaseBuffer` arrives first. After `releaseBuffer` the core never names the slot again.
///
/// Large and rare cases are indirect: every effect is as large as the largest that is not, and is copied several times.
package enum Effect: Equatable, Sendable {
    // MARK: Clients
    /// Ends a request. For a successful read `data` holds the bytes and now belongs to the receiver of the effect.
    case replyToClient(RequestID, ClientError?, data: BufferSlot?)
    /// The export of a volume appears, changes or vanishes.
    case setExport(VolumeNumber, ExportState)
    case releaseBuffer(BufferSlot)

    // MARK: Data disk
    /// Leases a buffer, reads into it: `Event.diskReadFinished`.
    case readDisk(DiskTag, VolumeNumber, SectorRange)
    /// `Event.diskWriteFinished`. `fua`: stable before completion.
    case writeDisk(DiskTag, VolumeNumber, SectorRange, BufferSlot, fua: Bool)
    /// Makes the range read back as zeroes on disk: `Event.diskWriteFinished`.
    case discardDisk(DiskTag, VolumeNumber, SectorRange, DiscardKind)
    /// Writes the first `patternBytes` of the slot over and over: `Event.diskWriteFinished`.
    case writePattern(DiskTag, VolumeNumber, SectorRange, BufferSlot, patternBytes: UInt32)
    /// Makes all completed writes durable: `Event.diskFlushFinished`.
    case flushDisk(VolumeNumber, FlushTag)

    // MARK: Digests of blocks. Both end in `Event.blockExamined`.
    /// Whether the digest of these bytes is the one that lies in the other slot.
    case compareDigest(PeerRequestID, DigestAlgorithm, data: BufferSlot, byteCount: UInt32, digest: BufferSlot)
    /// Whether these bytes are all zero.
    case lookForZeroes(PeerRequestID, BufferSlot, byteCount: UInt32)

    // MARK: Metadata. At most one of these is outstanding per volume; each ends in `Event.metadataWritten`.
    /// With `durable`: pre-flush of the metadata device, then a write with FUA.
    indirect case writeSuperblock(VolumeNumber, Superblock, durable: Bool)
    /// Writes the block that `Resource.activityLogBlock` returns now, at ring position `block` (in disk order).
    /// `flushFirst`: earlier bitmap pages and data must be durable before it. `durable`: FUA.
    case writeActivityLog(VolumeNumber, block: UInt32, flushFirst: Bool, durable: Bool)
    /// Writes bitmap pages; their bytes are what `Resource.bitmapPage` returns now. No flush.
    case writeBitmapPages(VolumeNumber, firstPage: UInt32, count: UInt32)
    /// Fills the activity log with initialised blocks. No flush.
    case initialiseActivityLog(VolumeNumber)
    /// Makes earlier metadata writes durable.
    case flushMetadata(VolumeNumber)

    /// Erases the superblock that metadata which has moved left behind.
    case clearSuperblock(VolumeNumber, at: Sector)

    // MARK: Opening and closing
    /// Asks how large the devices of an attached disk are now: `Event.diskMeasured`.
    case measureDisk(VolumeNumber)
    /// Metadata effects go to these places from now on. None is outstanding.
    indirect case moveMetadata(VolumeNumber, MetadataLayout)
    indirect case openDisk(VolumeNumber, DiskConfiguration)
    /// The disk may never answer: all that is outstanding ends with an error now, and so does everything that is asked of it
    /// before it is closed. What it does with it later is its own affair: it cannot be opened again before it has answered.
    case abandonDisk(VolumeNumber)
    /// Waits for I/O in flight, closes: `Event.diskClosed`.
    case closeDisk(VolumeNumber)

    // MARK: Connection
    indirect case listen(ConnectionConfiguration)
    case stopListening
    /// One attempt, bounded by `connect-int`: `outgoingConnected` or `outgoingFailed`.
    indirect case connectToPeer(ConnectionConfiguration)
    /// Sends the 8-byte marker on a stream that is not in use yet.
    case sendMarker(SocketID, StreamKind)
    case closeSocket(SocketID)
    /// From now on a stream carries packets; starts reading them (also those that already wait).
    case useSocket(SocketID, StreamKind)
    /// Header form and features of everything that follows on both streams.
    case setWireFormat(WireFormat)
    /// Packets on one stream leave in the order of these effects.
    ///
    /// The payload of P_CSUM_RS_REQUEST and P_OV_REPLY is the block itself; what leaves is its digest, by the algorithm of
    /// the wire format. Without a payload (the block could not be read) that is zeroes.
    case send(StreamKind, VolumeNumber, Packet, payload: BufferSlot?)
    /// As `send` on the data stream for a write of a client, then `Event.writeHandedToNetwork`.
    case sendAndReport(RequestID, VolumeNumber, Packet, payload: BufferSlot?)
    /// As `send` on the data stream, with the payload in the buffer from `offset` bytes on; then
    /// `Event.writeHandedToNetwork` if anybody wants to hear that.
    indirect case sendPart(VolumeNumber, Packet, payload: BufferSlot, offset: UInt32, report: RequestID?)

    // MARK: Everything else
    case makeChallenge
    indirect case computeHMAC(HMACPurpose, algorithm: String, key: [UInt8], message: [UInt8])
    case answerCommand(CommandID, CommandAnswer)
    /// Runs a handler (`control.md` section 4): `Event.handlerFinished`.
    case runHandler(HandlerID, HandlerName, VolumeNumber?)
    case log(LogLevel, VolumeNumber?, String)
    /// The status text changed in more than counters: publish it now.
    case publishStatus
}

extension Effect {
    /// Whether this effect is ended by `Event.metadataWritten`.
    package var isMetadata: Bool {
        switch self {
        case .writeSuperblock, .writeActivityLog, .writeBitmapPages, .initialiseActivityLog, .flushMetadata,
            .clearSuperblock:
            true
        default: false
        }
    }
}

/// The effects of one step, in order. Reused from step to step, so that nothing is allocated after warm-up.
package struct EffectQueue: Sendable {
    /// The first `count` are this step's; the others are left from earlier ones, to be overwritten.
    private var storage: [Effect] = []
    package private(set) var count = 0

    package init(reserving capacity: Int = 1024) {
        if capacity > 0 { storage.reserveCapacity(capacity) }
    }

    package subscript(index: Int) -> Effect {
        invariant(index < count, "effect \(index) is one of \(count)")
        return storage[index]
    }
    /// In order. The effects are lent, to be kept in exchange for something else: an accessor that yields them would
    /// allocate for each, across the module border.
    package mutating func forEach(_ body: (inout Effect) -> Void) {
        for index in 0..<count { body(&storage[index]) }
    }
    package mutating func append(_ effect: consuming Effect) {
        invariant(count < Limits.effectsPerStep, "one step emits at most \(Limits.effectsPerStep) effects")
        if count < storage.count { storage[count] = effect } else { storage.append(effect) }
        count += 1
    }
    package mutating func removeAll() { count = 0 }
}

/// What an NBD client is told when its request failed.
package enum ClientError: UInt8, Equatable, Sendable {
    case io
    case notPermitted
    case invalid
    case noSpace
    case shutdown
}

/// Whether and how a volume is offered to clients.
package struct ExportState: Equatable, Sendable {
    /// Size in sectors; 0 while unknown.
    package var sectors: UInt64
    /// Only a primary serves.
    package var isPrimary: Bool
    package var logicalBlockSize: UInt32
    /// Sectors of the largest read or write: less with a peer of an older version.
    package var requestSectors: UInt32

    package init(
        sectors: UInt64, isPrimary: Bool, logicalBlockSize: UInt32, requestSectors: UInt32 = Limits.requestSectors
    ) {
        self.sectors = sectors
        self.isPrimary = isPrimary
        self.logicalBlockSize = logicalBlockSize
        self.requestSectors = requestSectors
    }
}

/// How packets look on the wire once the features are agreed.
package struct WireFormat: Equatable, Sendable {
    /// Agreed protocol version, 86...101.
    package var version: UInt32
    package var features: FeatureFlags
    /// What we put between head and data, nil without data-integrity-alg.
    package var integrity: DigestAlgorithm?
    /// What the peer puts there. The two differ for a moment when the setting changes (`wire.md` 4.4).
    package var peerIntegrity: DigestAlgorithm?
    /// Of the digests in P_OV_REPLY.
    package var verify: DigestAlgorithm?
    /// Of the digests in P_CSUM_RS_REQUEST.
    package var checksum: DigestAlgorithm?

    package init(version: UInt32, features: FeatureFlags, peerIntegrity: DigestAlgorithm? = nil) {
        self.version = version
        self.features = features
        self.peerIntegrity = peerIntegrity
    }
    /// Bytes of digest between head and data of what the peer sends.
    @inlinable package var integrityDigestSize: Int { peerIntegrity?.size ?? 0 }
    /// Before the features are exchanged.
    package static let initial = WireFormat(version: 0, features: [])
}

package enum LogLevel: UInt8, Equatable, Sendable { case debug, info, notice, warning, error }

/// Handler names as in the `handlers { }` section.
package enum HandlerName: String, Sendable, CaseIterable {
    case priOnInconDegr = "pri-on-incon-degr"
    case localIOError = "local-io-error"
    case priLost = "pri-lost"
    case priLostAfterSB = "pri-lost-after-sb"
    case initialSplitBrain = "initial-split-brain"
    case splitBrain = "split-brain"
    case fencePeer = "fence-peer"
    case unfencePeer = "unfence-peer"
    case beforeResyncTarget = "before-resync-target"
    case afterResyncTarget = "after-resync-target"
    case beforeResyncSource = "before-resync-source"
    case outOfSync = "out-of-sync"
}

/// The end of a command. Code 0 is success; 1...9 success with a remark; negative codes are state change results
/// (`control.md` 2.11, left table), 102...170 configuration errors (right table).
package struct CommandAnswer: Equatable, Sendable {
    package var code: Int32
    /// "additional info from kernel", or the text that a query asked for.
    package var text: String

    package init(code: Int32, text: String = "") {
        self.code = code
        self.text = text
    }
    package static let success = CommandAnswer(code: 0)
}
