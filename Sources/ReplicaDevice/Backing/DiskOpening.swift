import CLinux
import Glibc
import ReplicaProto

/// Opening a backing disk: claim, measure, and read what the core has to judge. Blocks; runs on a `Worker`.
///
/// Block devices are claimed with O_EXCL, which makes mounts and other claims fail; files, and slots of an indexed
/// metadata device (which O_EXCL cannot share between processes), with open-file-description locks.
struct DiskOpening: Sendable {
    enum Outcome: Sendable {
        case opened(BackingDisk, DiskImage, warnings: [String])
        /// `code` as in `control.md` 2.11.
        case failed(code: Int32, detail: String)
    }

    private struct Failure: Error {
        var code: Int32
        var detail: String
    }

    /// Numbers of the control interface.
    private enum Code {
        static let openData: Int32 = 104
        static let openMetadata: Int32 = 105
        static let dataKind: Int32 = 107
        static let metadataKind: Int32 = 108
        static let metadataTooSmall: Int32 = 112
        static let dataClaimed: Int32 = 114
        static let metadataClaimed: Int32 = 115
        static let metadataRead: Int32 = 118
    }

    private struct Device {
        var descriptor: Int32
        var isBlock: Bool
        var bytes: UInt64
        /// 1 without direct I/O.
        var directAlignment: Int
    }

    let volume: VolumeNumber
    let configuration: DiskConfiguration

    func run() -> Outcome {
        var disk = BackingDisk()
        disk.volume = volume
        var warnings: [String] = []
        do throws(Failure) {
            let image = try open(&disk, &warnings)
            return .opened(disk, image, warnings: warnings)
        } catch {
            closeDescriptors(of: disk)
            return .failed(code: error.code, detail: error.detail)
        }
    }

    private func open(_ disk: inout BackingDisk, _ warnings: inout [String]) throws(Failure) -> DiskImage {
        let isInternal = configuration.index == .internal
        let data = try openDevice(
            configuration.dataPath, open: Code.openData, kind: Code.dataKind, claimed: Code.dataClaimed, slot: nil,
            &warnings)
        disk.dataDescriptor = data.descriptor
        disk.metadataDescriptor = data.descriptor
        disk.directAlignment = data.directAlignment
        if data.directAlignment > 1 {
            disk.bufferedDescriptor = Glibc.open(configuration.dataPath, O_RDWR | O_CLOEXEC)
            if disk.bufferedDescriptor < 0 {
                throw Failure(code: Code.openData, detail: Self.reason(configuration.dataPath))
            }
        } else {
            disk.bufferedDescriptor = -1
        }
        var metadata = data
        if !isInternal {
            var slot: UInt32?
            if case .indexed(let index) = configuration.index { slot = index }
            metadata = try openDevice(
                configuration.metadataPath, open: Code.openMetadata, kind: Code.metadataKind,
                claimed: Code.metadataClaimed, slot: slot, &warnings)
            disk.metadataDescriptor = metadata.descriptor
        }
        disk.metadataBytes = metadata.bytes / 512 * 512

        let sectors = metadata.bytes / 512
        guard sectors >= MetadataLayout.minimumSectors(configuration.index),
            let superblockSector = MetadataLayout.superblockSector(configuration.index, deviceSectors: sectors)
        else { throw Failure(code: Code.metadataTooSmall, detail: "\(configuration.metadataPath) has \(sectors) sectors") }
        disk.superblockAt = superblockSector * 512
        let block = try read(metadata.descriptor, at: disk.superblockAt, count: 4096)
        var image = DiskImage(
            dataDeviceSectors: data.bytes / 512, metadataDeviceSectors: sectors, superblock: block, activityLog: [],
            bitmap: [])
        describeBlocks(data, &image)
        describeQueue(data, &disk)
        image.canDiscard = disk.canDiscard
        // What is wrong with an unreadable superblock is for the core to say.
        guard let superblock = try? Superblock(decoding: block),
            let layout = try? MetadataLayout(configuration.index, superblock: superblock, deviceSectors: sectors)
        else { return image }
        disk.locate(layout)
        image.activityLog = try read(
            metadata.descriptor, at: disk.activityLogAt, count: Int(layout.activityLogSectors) * 512)
        let bitmapBytes = Int(layout.bitmapBytes(coveringSectors: superblock.lastAgreedSectors))
        image.bitmap = try read(metadata.descriptor, at: disk.bitmapAt, count: bitmapBytes)
        // A flexible device may end inside the last page.
        let partial = image.bitmap.count % 4096
        if partial != 0 { image.bitmap.append(contentsOf: repeatElement(0, count: 4096 - partial)) }
        return image
    }

    private func openDevice(
        _ path: String, open openCode: Int32, kind kindCode: Int32, claimed claimedCode: Int32, slot: UInt32?,
        _ warnings: inout [String]
    ) throws(Failure) -> Device {
        var information = stat()
        guard stat(path, &information) == 0 else { throw Failure(code: openCode, detail: Self.reason(path)) }
        let isBlock = information.st_mode & S_IFMT == S_IFBLK
        guard isBlock || information.st_mode & S_IFMT == S_IFREG else {
            throw Failure(code: kindCode, detail: "\(path) is neither a block device nor a file")
        }
        let flags = O_RDWR | O_CLOEXEC | (isBlock && slot == nil ? O_EXCL : 0)
        var isDirect = true
        var descriptor = Self.patiently { Glibc.open(path, flags | clinux_o_direct()) }
        if descriptor < 0 && errno == EINVAL {
            isDirect = false
            descriptor = Glibc.open(path, flags)
        }
        guard descriptor >= 0 else {
            throw Failure(code: errno == EBUSY ? claimedCode : openCode, detail: Self.reason(path))
        }
        var keeps = false
        defer { if !keeps { close(descriptor) } }
        if !isBlock || slot != nil {
            let bytes = Int64(MetadataLayout.indexedSectors) * 512
            let locked = Self.patiently {
                slot.map { clinux_lock_range(descriptor, Int64($0) * bytes, bytes) } ?? clinux_lock_range(descriptor, 0, 0)
            }
            guard locked == 0 else { throw Failure(code: claimedCode, detail: Self.reason(path)) }
        }
        var bytes = UInt64(information.st_size)
        if isBlock, clinux_block_size_bytes(descriptor, &bytes) != 0 {
            throw Failure(code: openCode, detail: Self.reason(path))
        }
        var alignment = isDirect ? directAlignment(descriptor, isBlock: isBlock) : 1
        if isDirect && alignment == 0 {
            // The file system took the flag and does not support it: without it, then.
            let plain = fcntl(descriptor, F_GETFL)
            _ = fcntl(descriptor, F_SETFL, plain & ~clinux_o_direct())
            alignment = 1
        }
        if alignment == 1 {
            warnings.append("\(path): no direct I/O here, going through the page cache")
        }
        keeps = true
        return Device(descriptor: descriptor, isBlock: isBlock, bytes: bytes, directAlignment: alignment)
    }

    /// Claims again for a second: a daemon that was killed holds its disk until the last of its I/O has ended, which is also
    /// why nothing of it comes after what the next one writes.
    private static func patiently(_ claim: () -> Int32) -> Int32 {
        var result = claim()
        for _ in 0..<20 {
            guard result < 0, errno == EBUSY || errno == EAGAIN else { break }
            usleep(50_000)
            result = claim()
        }
        return result
    }

    /// What direct I/O on this descriptor wants of offsets and lengths; 0 if it is refused.
    private func directAlignment(_ descriptor: Int32, isBlock: Bool) -> Int {
        var memory: UInt32 = 0
        var offset: UInt32 = 0
        if clinux_direct_alignment(descriptor, &memory, &offset) == 0 {
            return memory <= 4096 && offset.nonzeroBitCount <= 1 ? Int(offset) : 0
        }
        if isBlock {
            var size: Int32 = 512
            return clinux_logical_block_size(descriptor, &size) == 0 ? Int(size) : 512
        }
        let probe = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 4096)
        defer { probe.deallocate() }
        if pread(descriptor, probe, 512, 0) >= 0 { return 512 }
        return pread(descriptor, probe, 4096, 0) >= 0 ? 4096 : 0
    }

    private func describeBlocks(_ data: Device, _ image: inout DiskImage) {
        guard data.isBlock else { return }
        var logical: Int32 = 512
        if clinux_logical_block_size(data.descriptor, &logical) == 0 { image.logicalBlockSize = UInt32(logical) }
        var physical: UInt32 = 0
        if clinux_physical_block_size(data.descriptor, &physical) == 0 {
            image.physicalBlockSize = max(physical, image.logicalBlockSize)
        }
    }

    /// What the kernel's queue of a block device says; a partition has its disk's.
    private func describeQueue(_ data: Device, _ disk: inout BackingDisk) {
        var major: UInt32 = 0
        var minor: UInt32 = 0
        guard data.isBlock, clinux_block_device_number(configuration.dataPath, &major, &minor) == 0 else { return }
        let device = "/sys/dev/block/\(major):\(minor)"
        let queue = access("\(device)/queue", F_OK) == 0 ? "\(device)/queue" : "\(device)/../queue"
        if let most = NBDSysfs.read("\(queue)/discard_max_bytes") { disk.canDiscard = most != "0" }
        disk.isRotational = NBDSysfs.read("\(queue)/rotational") == "1"
    }

    private func read(_ descriptor: Int32, at offset: UInt64, count: Int) throws(Failure) -> [UInt8] {
        guard count > 0 else { return [] }
        // Direct I/O wants aligned memory; pieces keep the extra copy small.
        let pieceBytes = min(count, 4 << 20)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: pieceBytes, alignment: 4096)
        defer { memory.deallocate() }
        var result: [UInt8] = []
        result.reserveCapacity(count)
        while result.count < count {
            let wanted = min(pieceBytes, count - result.count)
            let got = pread(descriptor, memory, wanted, off_t(offset) + off_t(result.count))
            if got < 0 && errno == EINTR { continue }
            guard got > 0 else {
                throw Failure(code: Code.metadataRead, detail: SystemError.text(got == 0 ? EIO : errno))
            }
            result.append(contentsOf: UnsafeRawBufferPointer(start: memory, count: got))
        }
        return result
    }

    private static func reason(_ path: String) -> String { "\(path): \(SystemError.text(errno))" }
}

extension ResourceLoop {
    mutating func openDisk(_ volume: VolumeNumber, _ configuration: DiskConfiguration) {
        guard let index = store.add(volume) else {
            later(.diskOpenFailed(volume, code: 124, detail: "already open"))
            return
        }
        let generation = store.disks.generation(index)
        let opening = DiskOpening(volume: volume, configuration: configuration)
        worker.start { .diskOpened(index: index, generation: generation, volume: volume, opening.run()) }
    }

    mutating func diskOpened(_ index: Int, _ generation: UInt32, _ volume: VolumeNumber, _ outcome: DiskOpening.Outcome) {
        invariant(store.disks.generation(index) == generation, "a disk that is being opened is not given away")
        let wasClosed = store.disks[index].pointee.phase == .closing
        switch outcome {
        case .opened(var disk, let image, let warnings):
            disk.phase = wasClosed ? .closing : .open
            store.disks[index].pointee = disk
            for warning in warnings { logLine(.warning, volume, warning) }
            noteAttachment(volume, image)
            deliver(.diskOpened(volume, image))
            closeIfIdle(index)
        case .failed(let code, let detail):
            store.remove(index)
            deliver(.diskOpenFailed(volume, code: code, detail: detail))
            if wasClosed { later(.diskClosed(volume)) }
        }
    }

    func encodeSuperblock(_ superblock: Superblock, into target: UnsafeMutableRawBufferPointer) {
        superblock.encode(into: target)
    }

    func fillInitialisedActivityLog(_ target: UnsafeMutableRawBufferPointer) {
        let block = ActivityLogTransaction.initialisedBlock()
        for offset in stride(from: 0, to: target.count, by: block.count) {
            UnsafeMutableRawBufferPointer(rebasing: target[offset..<offset + block.count]).copyBytes(from: block)
        }
    }
}
