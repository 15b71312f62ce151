/// Sizes of a resource's tables. The daemon takes `Limits`; whoever makes thousands of cores takes less.
package struct TableSizes: Sendable {
    /// Indices of unanswered client requests.
    package var clientRequests = Limits.clientRequests
    package var requestTable = Limits.requestTable
    package var peerRequests = Limits.peerRequests
    package var openEpochs = Limits.openEpochs

    package init() {}
}

/// Every bound of the core, beside the bounds it must agree with.
package enum Limits {
    /// Client requests in flight, pieces of split ones counted singly. One slab entry each.
    package static let clientRequests = 1024
    /// Client requests that are unanswered or whose write epoch the peer has not acknowledged yet.
    package static let requestTable = 8192
    /// Writes, reads and resync blocks in flight on behalf of the peer. One slab entry each. A peer's protocol C
    /// writes are bounded by its own max-buffers; past this bound its data stream is not read any further.
    package static let peerRequests = 16_384
    /// Disk operations in flight from which on a disk counts as congested: 7/8 of the usual queue of a Linux block device.
    package static let congestedDiskRequests = 113
    /// Sectors of the largest read, write, or resync request: 1 MiB (DRBD_MAX_BIO_SIZE).
    package static let requestSectors: UInt32 = 2048
    /// Sectors of the largest discard: 128 MiB, 32 activity log extents.
    package static let discardSectors: UInt32 = 262_144
    /// Of a discard for a peer without FF_WSAME: 4 MiB.
    package static let smallDiscardSectors: UInt32 = 8192
    /// Effects of one step: connection loss with all client and peer requests in flight stays below this.
    package static let effectsPerStep = 65_536
    /// Changes in one activity log transaction (AL_UPDATES_PER_TRANSACTION).
    package static let activityLogUpdates = 64
    /// Context entries in one activity log transaction (AL_CONTEXT_PER_TRANSACTION).
    package static let activityLogContext = 919
    /// Resync requests without an answer. Their ranges are the lock against application writes.
    package static let resyncRequests = 512
    /// Sectors asked for in a resync and not answered: 32 MiB.
    package static let resyncWindowSectors: UInt64 = 65_536
    /// Blocks that an online verify asks for at a time, each of them locked against application writes.
    package static let verifyRequests = 1024
    /// Bytes of one control packet including its header (`wire.md` 2.3).
    package static let controlPacketBytes = 4096
    /// Bytes of the longest digest of a block: SHA-512 (`wire.md` 7.9).
    package static let digestBytes = 64
    /// Bytes of the one logical block that P_WSAME carries.
    package static let writeSameBlockBytes = 4096
    /// Bytes of an algorithm name on the wire, its NUL included (SHARED_SECRET_MAX).
    package static let algorithmNameBytes = 64
    /// Largest device: 1 PiB in sectors (`metadata.md` 1.5).
    package static let deviceSectors: UInt64 = 1 << 41
    /// Epochs not yet acknowledged: each holds at least one of the client requests in flight or written.
    package static let openEpochs = 4096
    /// Bytes of the largest payload that NBD clients are told to use...
    package static let nbdAdvertisedPayload: UInt32 = 32 << 20
    /// ... and of the largest that is served all the same.
    package static let nbdPayload: UInt32 = 64 << 20
    /// Options that an NBD client may send before it opens an export.
    package static let nbdOptions = 256
    /// Bytes of one NBD option that are kept: the longest name, and all information numbers.
    package static let nbdOptionBytes: UInt32 = 8192
    /// Bytes of one NBD option that are read away with an error; a client that sends more is disconnected.
    package static let nbdSkippedOptionBytes: UInt32 = 65_536
    /// Bytes of an export's name.
    package static let nbdNameBytes = 4096
}
