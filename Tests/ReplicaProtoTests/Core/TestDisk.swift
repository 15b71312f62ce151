@testable import ReplicaProto

/// The backing disk of one volume of a `TestNode`, with internal metadata. The contents of a sector are one number.
struct TestDisk {
    var data: [UInt64]
    var superblock: [UInt8]
    var ring: [UInt8] = []
    var bitmap: [UInt8]
    var layout: MetadataLayout
    var deviceSectors: UInt64

    /// With fresh metadata.
    init(sectors: UInt64, seed: UInt64) {
        deviceSectors = sectors
        layout = try! MetadataLayout(.internal, deviceSectors: sectors)
        data = Array(repeating: 0, count: Int(layout.usableSectors))
        superblock = layout.freshSuperblock(deviceUUID: seed).encoded()
        bitmap = Array(repeating: 0, count: Int(layout.bitmapSectors * 512))
        initialiseRing()
    }

    /// With fresh metadata, and so many sectors for data.
    init(usableSectors: UInt64, seed: UInt64) {
        self.init(sectors: Self.deviceSectors(forUsable: usableSectors, from: 17_000), seed: seed)
    }

    static func deviceSectors(forUsable usable: UInt64, from start: UInt64) -> UInt64 {
        var sectors = start
        while let layout = try? MetadataLayout(.internal, deviceSectors: sectors), layout.usableSectors != usable {
            sectors = UInt64(Int64(sectors) + Int64(usable) - Int64(layout.usableSectors))
        }
        return sectors
    }

    mutating func initialiseRing() {
        ring = []
        for _ in 0..<layout.geometry.blocks { ring += ActivityLogTransaction.initialisedBlock() }
    }

    mutating func changeCapacity(to sectors: UInt64) {
        deviceSectors = sectors
        if UInt64(data.count) < sectors { data += Array(repeating: 0, count: Int(sectors) - data.count) }
    }

    /// From now on metadata is written elsewhere. What lies there already is no metadata.
    mutating func movedMetadata(to new: MetadataLayout) {
        layout = new
        superblock = [UInt8](repeating: 0xee, count: 4096)
        ring = [UInt8](repeating: 0xee, count: Int(new.activityLogSectors * 512))
        bitmap = [UInt8](repeating: 0xee, count: Int(new.bitmapSectors * 512))
    }

    mutating func rewriteSuperblock(_ change: (inout Superblock) -> Void) {
        var block = try! Superblock(decoding: superblock)
        change(&block)
        superblock = block.encoded()
    }

    /// What an attach finds.
    var image: DiskImage {
        let found = try? Superblock(decoding: superblock)
        let bytes = found.map { Int(layout.bitmapBytes(coveringSectors: $0.lastAgreedSectors)) } ?? 0
        return DiskImage(
            dataDeviceSectors: deviceSectors, metadataDeviceSectors: deviceSectors, superblock: superblock, activityLog: ring,
            bitmap: Array(bitmap[0..<bytes]))
    }
}
