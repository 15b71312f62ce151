/// Why a block is no superblock of ours, or a layout cannot be.
package enum MetadataError: Error, Equatable, Sendable {
    /// Fewer than 4096 bytes.
    case truncated(Int)
    /// None of the known magic numbers.
    case noMagic
    /// Superblock of DRBD 8.3's `v07` or DRBD 9's `v09` format.
    case otherFormat(MetadataFormat)
    /// One of the two striping fields is zero, or the log has fewer blocks than 8 or more than 4194304.
    case stripes(count: UInt32, blocks: UInt32)
    case activityLogOffset(found: Int32, expected: Int64)
    case bitmapOffset(found: Int32, expected: Int64)
    case metadataSize(found: UInt32, expected: UInt64)
    case bytesPerBit(UInt32)
    /// The bitmap area has room for fewer sectors than the last agreed size.
    case lastAgreedSize(sectors: UInt64, capacity: UInt64)
    /// The device ends before the metadata area does.
    case deviceTooSmall(sectors: UInt64, needed: UInt64)
    /// Beyond 1 PiB.
    case deviceTooLarge(sectors: UInt64)
    /// Indexed metadata has one stripe of 8 blocks.
    case stripedIndexed(stripes: UInt32, blocks: UInt32)
    /// Indexes go from 0 to 255.
    case index(UInt32)

    package var message: String {
        switch self {
        case .truncated(let count): "superblock has \(count) bytes instead of 4096"
        case .noMagic: "no magic number of DRBD metadata"
        case .otherFormat(let format):
            "found \(format.rawValue) metadata, but only v08 is supported: convert it with a drbdmeta that knows both"
        case .stripes(let count, let blocks):
            "impossible activity log striping: \(count) stripes of \(blocks) blocks"
        case .activityLogOffset(let found, let expected): "strange al_offset \(found) (expected: \(expected))"
        case .bitmapOffset(let found, let expected): "strange bm_offset \(found) (expected: \(expected))"
        case .metadataSize(let found, let expected): "strange md_size_sect \(found) (expected: \(expected))"
        case .bytesPerBit(let found): "strange bm_bytes_per_bit \(found) (expected: 4096)"
        case .lastAgreedSize(let sectors, let capacity):
            "bitmap too small: la_size_sect \(sectors), bitmap covers \(capacity) sectors"
        case .deviceTooSmall(let sectors, let needed):
            "device has \(sectors) sectors, the metadata needs \(needed)"
        case .deviceTooLarge(let sectors): "device has \(sectors) sectors, the maximum is \(Limits.deviceSectors) (1 PiB)"
        case .stripedIndexed(let stripes, let blocks):
            "indexed metadata cannot have a striped activity log (\(stripes) stripes of \(blocks) blocks)"
        case .index(let index): "metadata index \(index) is not in 0..255"
        }
    }
}

/// Formats of DRBD metadata that can be told apart by their magic numbers.
package enum MetadataFormat: String, Equatable, Sendable {
    case v07, v08, v09
}
