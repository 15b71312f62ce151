import CLinux
import CUring
import Glibc
import ReplicaProto

/// Superblock, activity log and bitmap writes: at most one effect per volume at a time, carried out as a sequence of
/// flush and write steps.
///
/// | effect                | flush data device        | flush metadata device | write      |
/// |-----------------------|--------------------------|-----------------------|------------|
/// | superblock, durable   |                          | before                | RWF_DSYNC  |
/// | activity log          | flushFirst, external only| flushFirst            | durable: RWF_DSYNC |
/// | bitmap pages          |                          |                       | plain      |
/// | initialise the log    |                          |                       | plain      |
/// | flush                 |                          | yes                   |            |
extension ResourceLoop {
    // MARK: Effects

    mutating func writeSuperblock(_ volume: VolumeNumber, _ superblock: Superblock, durable: Bool) {
        guard let index = metadataDisk(volume, bytes: 4096) else { return }
        let disk = store.disks[index]
        let target = UnsafeMutableRawBufferPointer(start: disk.pointee.metadata.staging, count: 4096)
        encodeSuperblock(superblock, into: target)
        begin(index, at: disk.pointee.superblockAt, length: 4096, durable: durable, first: durable ? .flushMetadata : .write)
    }

    mutating func writeActivityLog(_ volume: VolumeNumber, block: UInt32, flushFirst: Bool, durable: Bool) {
        guard let index = metadataDisk(volume, bytes: 4096) else { return }
        let disk = store.disks[index]
        invariant(block < disk.pointee.activityLogBlocks, "an activity log block lies inside the log")
        core.activityLogBlock(volume, into: UnsafeMutableRawBufferPointer(start: disk.pointee.metadata.staging, count: 4096))
        let first: MetadataWork.Step = !flushFirst ? .write : disk.pointee.hasOwnMetadataDevice ? .flushData : .flushMetadata
        begin(
            index, at: disk.pointee.activityLogAt &+ UInt64(block) &* 4096, length: 4096, durable: durable, first: first)
    }

    mutating func writeBitmapPages(_ volume: VolumeNumber, firstPage: UInt32, count: UInt32) {
        guard let index = metadataDisk(volume, bytes: Int(count) * 4096) else { return }
        let disk = store.disks[index]
        for page in 0..<Int(count) {
            core.bitmapPage(
                volume, page: firstPage + UInt32(page),
                into: UnsafeMutableRawBufferPointer(
                    start: disk.pointee.metadata.staging.unsafelyUnwrapped + page * 4096, count: 4096))
        }
        let offset = disk.pointee.bitmapAt &+ UInt64(firstPage) &* 4096
        // A flexible metadata device may end inside the last page.
        let room = disk.pointee.metadataBytes > offset ? disk.pointee.metadataBytes - offset : 0
        let length = Int(min(UInt64(count) * 4096, room))
        begin(index, at: offset, length: length, durable: false, first: .write)
    }

    mutating func initialiseActivityLog(_ volume: VolumeNumber) {
        guard let blocks = store.index(of: volume).map({ Int(store.disks[$0].pointee.activityLogBlocks) }),
            let index = metadataDisk(volume, bytes: blocks * 4096)
        else {
            if store.index(of: volume) == nil { later(.metadataWritten(volume, DiskError(ENODEV))) }
            return
        }
        let disk = store.disks[index]
        fillInitialisedActivityLog(
            UnsafeMutableRawBufferPointer(start: disk.pointee.metadata.staging, count: blocks * 4096))
        begin(index, at: disk.pointee.activityLogAt, length: blocks * 4096, durable: false, first: .write)
    }

    mutating func flushMetadata(_ volume: VolumeNumber) {
        guard let index = metadataDisk(volume, bytes: 0) else { return }
        begin(index, at: 0, length: 0, durable: false, first: .flushMetadata)
    }

    mutating func clearSuperblock(_ volume: VolumeNumber, at sector: Sector) {
        guard let index = metadataDisk(volume, bytes: 4096) else { return }
        let disk = store.disks[index]
        disk.pointee.metadata.staging.unsafelyUnwrapped.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
        begin(index, at: sector.value &* Sector.bytes, length: 4096, durable: true, first: .write)
    }

    // MARK: Places

    /// Capacities are asked of the descriptors, which stay open: a block device and a file both know of their growth.
    mutating func measureDisk(_ volume: VolumeNumber) {
        guard let index = store.index(of: volume), store.disks[index].pointee.phase == .open else {
            return later(.diskMeasured(volume, nil))
        }
        let disk = store.disks[index]
        guard let data = capacity(of: disk.pointee.dataDescriptor), let metadata = capacity(of: disk.pointee.metadataDescriptor)
        else { return later(.diskMeasured(volume, nil)) }
        later(.diskMeasured(volume, DiskCapacity(dataDeviceSectors: data, metadataDeviceSectors: metadata)))
    }

    mutating func moveMetadata(_ volume: VolumeNumber, _ layout: MetadataLayout) {
        guard let index = store.index(of: volume) else { return }
        let disk = store.disks[index]
        disk.pointee.locate(layout)
        disk.pointee.metadataBytes = (capacity(of: disk.pointee.metadataDescriptor) ?? 0) &* Sector.bytes
    }

    /// Sectors of an open device or file.
    private func capacity(of descriptor: Int32) -> UInt64? {
        var information = stat()
        guard fstat(descriptor, &information) == 0 else { return nil }
        var bytes = UInt64(information.st_size)
        if information.st_mode & S_IFMT == S_IFBLK, clinux_block_size_bytes(descriptor, &bytes) != 0 { return nil }
        return bytes / Sector.bytes
    }

    // MARK: Steps

    /// The disk of a volume with a staging area of at least `bytes`; answers the core itself where there is none.
    private mutating func metadataDisk(_ volume: VolumeNumber, bytes: Int) -> Int? {
        guard let index = store.index(of: volume), store.disks[index].pointee.phase == .open else {
            later(.metadataWritten(volume, DiskError(ENODEV)))
            return nil
        }
        let disk = store.disks[index]
        invariant(disk.pointee.metadata.step == .idle, "one metadata effect per volume at a time")
        if disk.pointee.metadata.stagingBytes < bytes || disk.pointee.metadata.staging == nil {
            disk.pointee.metadata.staging?.deallocate()
            // Room for a run of bitmap pages from the start, so that the usual effects never allocate.
            let size = max(bytes, 1 << 18)
            disk.pointee.metadata.staging = .allocate(byteCount: size, alignment: 4096)
            disk.pointee.metadata.stagingBytes = size
        }
        return index
    }

    private mutating func begin(_ index: Int, at offset: UInt64, length: Int, durable: Bool, first: MetadataWork.Step) {
        let disk = store.disks[index]
        disk.pointee.metadata.offset = offset
        disk.pointee.metadata.length = length
        disk.pointee.metadata.done = 0
        disk.pointee.metadata.startedAt = now.nanoseconds
        disk.pointee.metadata.isAbandoned = false
        disk.pointee.metadata.durable = durable
        disk.pointee.metadata.step = first
        submitMetadata(index)
    }

    private mutating func submitMetadata(_ index: Int) {
        let disk = store.disks[index]
        let work = disk.pointee.metadata
        let token = SubmissionToken(.metadata, index: index, generation: store.disks.generation(index))
        let entry = ring.entry(token)
        switch work.step {
        case .idle: invariant(false, "metadata work in progress has a step")
        case .flushData: io_uring_prep_fsync(entry, disk.pointee.dataDescriptor, UInt32(IORING_FSYNC_DATASYNC))
        case .flushMetadata:
            io_uring_prep_fsync(entry, disk.pointee.metadataDescriptor, UInt32(IORING_FSYNC_DATASYNC))
        case .write:
            io_uring_prep_write(
                entry, disk.pointee.metadataDescriptor, work.staging.unsafelyUnwrapped + work.done,
                UInt32(work.length - work.done), work.offset &+ UInt64(work.done))
            if work.durable { entry.pointee.rw_flags = numericCast(writeDurably) }
        }
        entry.pointee.user_data = token.rawValue
        counters.metadataOperations &+= 1
    }

    mutating func metadataCompleted(_ token: SubmissionToken, _ result: Int32) {
        let index = token.index
        guard token.isOf(generation: store.disks.generation(index)) else { return }
        let disk = store.disks[index]
        if disk.pointee.metadata.isAbandoned { return finishMetadata(index, DiskError(ETIMEDOUT)) }
        if result == -EINTR || result == -EAGAIN {
            submitMetadata(index)
            return
        }
        if result < 0 {
            finishMetadata(index, DiskError(-result))
            return
        }
        switch disk.pointee.metadata.step {
        case .idle: return
        case .flushData:
            disk.pointee.metadata.step = .flushMetadata
            submitMetadata(index)
        case .flushMetadata:
            guard disk.pointee.metadata.length > 0 else {
                finishMetadata(index, nil)
                return
            }
            disk.pointee.metadata.step = .write
            submitMetadata(index)
        case .write:
            guard result > 0 || disk.pointee.metadata.length == 0 else {
                finishMetadata(index, DiskError(EIO))
                return
            }
            disk.pointee.metadata.done += Int(result)
            if disk.pointee.metadata.done < disk.pointee.metadata.length {
                submitMetadata(index)
            } else {
                finishMetadata(index, nil)
            }
        }
    }

    private mutating func finishMetadata(_ index: Int, _ error: DiskError?) {
        let disk = store.disks[index]
        disk.pointee.metadata.step = .idle
        if !disk.pointee.metadata.isAbandoned { deliver(.metadataWritten(disk.pointee.volume, error)) }
        closeIfIdle(index)
    }
}
