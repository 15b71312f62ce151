import Testing

@testable import ReplicaProto

@Suite struct MetadataLayoutTests {
    struct Row: Sendable {
        var device: UInt64
        var superblock: UInt64
        var log: UInt64
        var bitmap: UInt64
        var size: UInt64
        var usable: UInt64
    }

    /// The table of `metadata.md` 1.2, every row confirmed by drbdmeta.
    static let rows = [
        Row(device: 1_048_576, superblock: 1_044_480, log: 1_011_712, bitmap: 1_007_616, size: 80, usable: 1968),
        Row(device: 33_554_432, superblock: 33_550_336, log: 33_517_568, bitmap: 33_513_472, size: 80, usable: 65456),
        Row(device: 33_558_016, superblock: 33_550_336, log: 33_517_568, bitmap: 33_513_472, size: 80, usable: 65456),
        Row(device: 33_558_528, superblock: 33_554_432, log: 33_521_664, bitmap: 33_517_568, size: 80, usable: 65464),
        Row(
            device: 134_217_216, superblock: 134_209_536, log: 134_176_768, bitmap: 134_172_672, size: 80,
            usable: 262056),
        Row(
            device: 134_217_728, superblock: 134_213_632, log: 134_180_864, bitmap: 134_176_768, size: 80,
            usable: 262064),
        Row(
            device: 134_218_240, superblock: 134_213_632, log: 134_180_864, bitmap: 134_172_672, size: 88,
            usable: 262056),
        Row(
            device: 1_073_741_824, superblock: 1_073_737_728, log: 1_073_704_960, bitmap: 1_073_672_192, size: 136,
            usable: 2_097_016),
        Row(
            device: 107_374_185_984, superblock: 107_374_178_304, log: 107_374_145_536, bitmap: 107_370_864_640,
            size: 6480, usable: 209_708_720),
        Row(
            device: 1_099_511_627_776, superblock: 1_099_511_623_680, log: 1_099_511_590_912,
            bitmap: 1_099_478_036_480, size: 65608, usable: 2_147_418_040),
    ]

    @Test(arguments: rows) func item1InternalRows(row: Row) throws {
        let layout = try MetadataLayout(.internal, deviceSectors: row.device / 512)
        #expect(layout.superblock * 512 == row.superblock)
        #expect(layout.activityLog * 512 == row.log)
        #expect(layout.bitmap * 512 == row.bitmap)
        #expect(layout.metadataSectors == row.size)
        #expect(layout.usableSectors == row.usable)
        #expect(layout.activityLogOffset == -64)
        #expect(layout.bitmapOffset == -(Int64(row.size) - 8))
    }

    /// The formulas once more, the other way round, and what holds of every layout.
    @Test(arguments: Seeds.thisRun) func item1RandomInternalSizes(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            let sectors = UInt64.random(in: 2048...1 << UInt64.random(in: 12...41, using: &generator), using: &generator)
            let layout = try MetadataLayout(.internal, deviceSectors: sectors)
            #expect(layout.superblock % 8 == 0 && sectors - layout.superblock - 8 < 8)
            #expect(layout.activityLog + 64 == layout.superblock)
            #expect(layout.bitmapSectors % 8 == 0)
            #expect(layout.bitmapSectors * 32768 >= sectors)
            #expect((layout.bitmapSectors - 8) * 32768 < sectors)
            let needed = MetadataLayout.internalDeviceSectors(forData: layout.usableSectors)
            #expect(needed <= sectors)
            #expect(try MetadataLayout(.internal, deviceSectors: needed).usableSectors >= layout.usableSectors)
            var superblock = layout.freshSuperblock()
            superblock.lastAgreedSectors = layout.usableSectors
            #expect(try MetadataLayout(.internal, superblock: superblock, deviceSectors: sectors) == layout)
        }
    }

    @Test(arguments: [
        (1 << 20, 2048, 64_749_568), ((1 << 20) + 2560, 2053, 64_913_408), (4 << 20, 8192, 266_076_160),
        (256 << 20, 524288, 17_177_509_888),
    ] as [(UInt64, UInt64, UInt64)]) func flexibleSizes(bytes: UInt64, size: UInt64, usable: UInt64) throws {
        let layout = try MetadataLayout(.flexible, deviceSectors: bytes / 512)
        #expect(layout.metadataSectors == size)
        #expect(layout.usableSectors == usable)
        #expect(layout.usableSectors(dataDeviceSectors: 1000) == 1000)
        #expect(MetadataLayout.flexibleDeviceSectors(forData: usable) == (size + 7) & ~7)
    }

    @Test func indexedSlots() throws {
        let layout = try MetadataLayout(.indexed(255), deviceSectors: 256 * 262144)
        #expect(layout.superblock == 255 * 262144)
        #expect(layout.usableSectors == 8_587_575_296)
        #expect(throws: MetadataError.index(256)) {
            try MetadataLayout(.indexed(256), deviceSectors: 1 << 30)
        }
        #expect(throws: MetadataError.deviceTooSmall(sectors: 262143, needed: 262144)) {
            try MetadataLayout(.indexed(0), deviceSectors: 262143)
        }
        #expect(throws: MetadataError.stripedIndexed(stripes: 2, blocks: 8)) {
            try MetadataLayout(.indexed(0), deviceSectors: 262144, stripes: 2)
        }
    }

    @Test func limits() throws {
        #expect(throws: MetadataError.deviceTooLarge(sectors: 1 << 41 + 1)) {
            try MetadataLayout(.internal, deviceSectors: 1 << 41 + 1)
        }
        let largest = try MetadataLayout(.internal, deviceSectors: 1 << 41)
        #expect(largest.freshSuperblock().bitmapOffset == -(67_108_864 + 64))
        for sectors in [0, 1, 8, 72, 79] as [UInt64] {
            for index in [MetadataIndex.internal, .flexible, .indexed(0)] {
                if index == .flexible && sectors > 72 { continue }
                #expect(throws: MetadataError.self) { try MetadataLayout(index, deviceSectors: sectors) }
            }
        }
        #expect(throws: MetadataError.stripes(count: 1, blocks: 7)) {
            try MetadataLayout(.internal, deviceSectors: 65536, stripeBlocks: 7)
        }
        #expect(throws: MetadataError.stripes(count: .max, blocks: .max)) {
            try MetadataLayout(.internal, deviceSectors: 65536, stripes: .max, stripeBlocks: .max)
        }
    }

    /// Fresh metadata, byte by byte as `create-md` of drbdmeta writes it.
    @Test(arguments: MetadataVectors.names.filter {
        $0.hasPrefix("int-") || $0.hasPrefix("flex-") || $0.hasPrefix("indexed-")
    }) func item2FreshMetadata(name: String) throws {
        let (entry, parts) = try MetadataVectors.parts(name)
        let isStriped = name.contains("stripes")
        let layout = try MetadataLayout(
            entry.index, deviceSectors: entry.device_size / 512, stripes: isStriped ? 4 : 1,
            stripeBlocks: isStriped ? 16 : 8)
        #expect(layout.superblock * 512 == entry.superblock_at)
        #expect(layout.activityLog * 512 == entry.al_at)
        #expect(layout.bitmap * 512 == entry.bm_at)
        #expect(layout.usableSectors == entry.usable_sectors_by_metadata)
        #expect(parts.superblock == layout.freshSuperblock().encoded())
        #expect(UInt64(parts.ring.count) == layout.activityLogSectors * 512)
        #expect(parts.bitmap.allSatisfy { $0 == 0 })
    }
}
