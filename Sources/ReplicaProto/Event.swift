/// What the outside tells the core. Past tense: it has happened.
///
/// Ownership of buffers: a slot inside an event belongs to the core from then on, until the core hands it back with
/// `Effect.releaseBuffer` or passes it on in `Effect.replyToClient`. Large and rare cases are indirect, as there.
package enum Event: Equatable, Sendable {
    /// Time passed. Sent when `Resource.nextDeadline` is reached; early or extra ones are harmless.
    case clockAdvanced

    // MARK: Administration
    indirect case commandReceived(CommandID, ControlCommand)
    /// What the other resources of this node publish, where `Resource.wantsNeighbours`; also before a command that names
    /// one of their minors.
    case neighboursChanged([NeighbourMinor])
    /// Nobody waits for the answer of this `waitConnect` or `waitSync` any more.
    case waitAbandoned(CommandID)
    /// A handler script ended. `status` is its exit code (0...255), or nil if it could not be run or was killed.
    case handlerFinished(HandlerID, status: Int32?)
    /// An answer to `Effect.makeChallenge`: 64 unpredictable bytes.
    case challengeMade([UInt8])
    /// An answer to `Effect.computeHMAC`; nil if the algorithm is not available.
    case hmacComputed(HMACPurpose, [UInt8]?)

    // MARK: Clients of the exported device
    /// A client opened (or closed) the export of a volume.
    case exportOpened(VolumeNumber)
    case exportClosed(VolumeNumber)
    /// At most 1 MiB, inside the volume, aligned to 512 bytes.
    case readRequested(RequestID, VolumeNumber, SectorRange)
    /// At most 1 MiB. The slot holds the payload. `fua`: durable on both nodes (as protocol C goes) before the reply.
    case writeRequested(RequestID, VolumeNumber, SectorRange, BufferSlot, fua: Bool)
    /// At most 128 MiB. Contents become undefined-or-zero (`.trim`) or zero.
    case discardRequested(RequestID, VolumeNumber, SectorRange, DiscardKind)
    case flushRequested(RequestID, VolumeNumber)

    // MARK: Data disk
    /// Ends `Effect.readDisk`; on success the slot holds the bytes.
    case diskReadFinished(DiskTag, BufferSlot?, DiskError?)
    /// Ends `Effect.writeDisk`, `Effect.discardDisk` and `Effect.writePattern`.
    case diskWriteFinished(DiskTag, DiskError?)
    /// Ends `Effect.flushDisk`.
    case diskFlushFinished(VolumeNumber, FlushTag, DiskError?)
    /// Ends `Effect.compareDigest` (the digests are equal) and `Effect.lookForZeroes` (there is nothing else).
    case blockExamined(PeerRequestID, matches: Bool)

    // MARK: Metadata
    /// Ends `Effect.openDisk` well. Nothing has been judged yet.
    indirect case diskOpened(VolumeNumber, DiskImage)
    /// Ends `Effect.openDisk` badly; `code` as in `control.md` 2.11 (104, 105, 107, 108, 112, 114..119).
    case diskOpenFailed(VolumeNumber, code: Int32, detail: String)
    /// Ends `Effect.closeDisk`: no I/O of that volume is in flight any more.
    case diskClosed(VolumeNumber)
    /// An operation of an open disk takes longer than `Resource.diskTimeout` says.
    case diskTimedOut(VolumeNumber)
    /// Ends the one metadata effect of a volume that is outstanding (`Effect.isMetadata`).
    case metadataWritten(VolumeNumber, DiskError?)

    /// Ends `Effect.measureDisk`; nil if the devices do not tell.
    case diskMeasured(VolumeNumber, DiskCapacity?)

    // MARK: Connection
    /// Ends `Effect.connectToPeer`.
    case outgoingConnected(SocketID)
    /// `fatal`: not a failure of the network but of our own address (`wire.md` 1.2).
    case outgoingFailed(fatal: Bool, detail: String)
    /// `Effect.listen` could not be carried out.
    case listenFailed(detail: String)
    /// A stream was accepted from the configured peer's address. Its marker follows.
    case incomingAccepted(SocketID)
    /// The first 8 bytes of an accepted stream: P_INITIAL_DATA, P_INITIAL_META, or nil for anything else.
    case markerReceived(SocketID, StreamKind?)
    /// End of file or an error on a stream, or bytes on it that are not the protocol.
    case socketFailed(SocketID, SocketFailure)
    /// `Effect.send` of a packet with `reportSent` has been handed to the network completely.
    case writeHandedToNetwork(RequestID)
    /// Bytes were waiting to be sent on a stream for one whole `timeout` and none left.
    case sendStalled(StreamKind)
    /// A packet arrived; `payload` holds the bytes behind its fixed part where it has any (data, digest).
    case packetReceived(StreamKind, VolumeNumber, Packet, payload: BufferSlot?)
}

/// Why a stream ended.
package enum SocketFailure: Equatable, Sendable {
    case endOfFile
    /// errno
    case error(Int32)
    /// The bytes are not the protocol: bad magic, unknown command, impossible length.
    case protocolError(PacketError)
}

/// What a disk operation belongs to; echoed in its completion.
package enum DiskTag: Hashable, Sendable {
    case client(RequestID)
    case peer(PeerRequestID)
}

/// Which flush of the data disk finished.
package enum FlushTag: Hashable, Sendable {
    case client(RequestID)
    /// The end of a received epoch.
    case epoch(UInt64)
    /// A step of the metadata queue: resynced data before cleared bits.
    case metadata
}

/// A failed disk operation: errno.
package struct DiskError: Equatable, Sendable {
    package var code: Int32
    package init(_ code: Int32) { self.code = code }
}

package enum DiscardKind: UInt8, Equatable, Sendable {
    /// Deallocate; reads afterwards may return anything that both nodes agree on (we make it zeroes).
    case trim
    /// Zeroes; deallocation allowed.
    case zeroMayUnmap
    /// Zeroes; keep the blocks allocated.
    case zeroNoUnmap
}

package enum HMACPurpose: Equatable, Sendable {
    /// Our answer to the peer's challenge.
    case response
    /// What the peer's answer to our challenge has to be.
    case expectation
}

/// Capacities of a backing disk in sectors; equal for internal metadata.
package struct DiskCapacity: Equatable, Sendable {
    package var dataDeviceSectors: UInt64
    package var metadataDeviceSectors: UInt64

    package init(dataDeviceSectors: UInt64, metadataDeviceSectors: UInt64) {
        self.dataDeviceSectors = dataDeviceSectors
        self.metadataDeviceSectors = metadataDeviceSectors
    }
}

/// What opening a backing disk found.
package struct DiskImage: Equatable, Sendable {
    /// Capacity of the backing (data) device in sectors.
    package var dataDeviceSectors: UInt64
    /// Capacity of the metadata device in sectors (equal to the above for internal metadata).
    package var metadataDeviceSectors: UInt64
    /// The 4096 bytes at the superblock's place.
    package var superblock: [UInt8]
    /// The activity log area as the superblock locates it, in disk order; empty if the superblock is unreadable.
    package var activityLog: [UInt8]
    /// The bitmap area that covers the last agreed size, rounded up to 4096 bytes; empty likewise.
    package var bitmap: [UInt8]
    package var logicalBlockSize: UInt32
    package var physicalBlockSize: UInt32
    package var canDiscard: Bool

    package init(
        dataDeviceSectors: UInt64, metadataDeviceSectors: UInt64, superblock: [UInt8], activityLog: [UInt8],
        bitmap: [UInt8], logicalBlockSize: UInt32 = 512, physicalBlockSize: UInt32 = 4096, canDiscard: Bool = true
    ) {
        self.dataDeviceSectors = dataDeviceSectors
        self.metadataDeviceSectors = metadataDeviceSectors
        self.superblock = superblock
        self.activityLog = activityLog
        self.bitmap = bitmap
        self.logicalBlockSize = logicalBlockSize
        self.physicalBlockSize = physicalBlockSize
        self.canDiscard = canDiscard
    }
}
