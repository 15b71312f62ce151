import CLinux
import Glibc
import ReplicaProto

/// An attached backing disk as the loop uses it: descriptors, sizes and where the metadata areas lie. Trivial, so that
/// it can live in a slab. Made on a `Worker`, whole, before it has a staging area; from then on the loop's alone.
struct BackingDisk: @unchecked Sendable {
    enum Phase: UInt8 {
        case free, opening, open
        /// It did not answer, and is asked no more.
        case abandoned
        case closing
    }

    var volume = VolumeNumber(0)
    var phase = Phase.free
    var dataDescriptor: Int32 = -1
    /// The same device through the page cache, for requests that direct I/O refuses; -1 if never needed.
    var bufferedDescriptor: Int32 = -1
    /// Equal to `dataDescriptor` for internal metadata.
    var metadataDescriptor: Int32 = -1
    /// What direct I/O wants of offsets and lengths, and of memory; 1 without direct I/O.
    var directAlignment = 1
    /// As the data device's driver says; files can make holes.
    var canDiscard = true
    var isRotational = false
    var metadataBytes: UInt64 = 0
    /// Byte positions on the metadata device.
    var superblockAt: UInt64 = 0
    var activityLogAt: UInt64 = 0
    var activityLogBlocks: UInt32 = 0
    var bitmapAt: UInt64 = 0
    /// Data operations in flight or waiting for a buffer.
    var inFlight = 0
    var metadata = MetadataWork()

    var hasOwnMetadataDevice: Bool { metadataDescriptor != dataDescriptor }

    mutating func locate(_ layout: MetadataLayout) {
        superblockAt = layout.superblock &* Sector.bytes
        activityLogAt = layout.activityLog &* Sector.bytes
        activityLogBlocks = UInt32(layout.activityLogSectors / 8)
        bitmapAt = layout.bitmap &* Sector.bytes
    }
}

/// Closes what an attached disk holds open; locks go with the descriptors.
func closeDescriptors(of disk: BackingDisk) {
    if disk.hasOwnMetadataDevice, disk.metadataDescriptor >= 0 { close(disk.metadataDescriptor) }
    if disk.bufferedDescriptor >= 0 { close(disk.bufferedDescriptor) }
    if disk.dataDescriptor >= 0 { close(disk.dataDescriptor) }
}

/// The step that the one outstanding metadata effect of a volume is in.
struct MetadataWork {
    enum Step: UInt8 { case idle, flushData, flushMetadata, write }

    var step = Step.idle
    /// The bytes to write, aligned; owned by the volume, grown on demand.
    var staging: UnsafeMutableRawPointer?
    var stagingBytes = 0
    var offset: UInt64 = 0
    var length = 0
    var done = 0
    var durable = false
    var startedAt: UInt64 = 0
    /// The core has been told that it failed.
    var isAbandoned = false
}

/// One operation on a data disk from effect to completion.
struct DiskOperation: @unchecked Sendable {
    enum Kind: UInt8 { case read, write, flush, punchHole, zeroRange, writeZeroes, writePattern }

    var kind = Kind.read
    var disk: Int32 = 0
    var tag = DiskTag.client(RequestID(index: 0, generation: 0))
    var flush = FlushTag.metadata
    /// Holds a loan (write) or a lease (read).
    var slot = BufferSlot(0)
    var offset: UInt64 = 0
    var length: UInt32 = 0
    var done: UInt32 = 0
    var fua = false
    /// `writePattern`: the block repeated over as much as goes down at once; owned by the operation.
    var pattern: UnsafeMutableRawPointer?
    /// From effect to completion.
    var isRunning = false
    /// Nanoseconds.
    var startedAt: UInt64 = 0
    /// The core has been told that it failed; its buffer stays lent until the disk has answered.
    var isAbandoned = false
    /// Next in the queue of reads that wait for a buffer, -1 at its end.
    var next: Int32 = -1
}
