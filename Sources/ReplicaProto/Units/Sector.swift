/// A position on a volume, counted in sectors of 512 bytes whatever the device's own block size is.
package struct Sector: Hashable, Comparable, Sendable {
    package static let bytes: UInt64 = 512

    package var value: UInt64
    @inlinable package init(_ value: UInt64) { self.value = value }
    @inlinable package static func < (left: Sector, right: Sector) -> Bool { left.value < right.value }
}

/// A run of sectors: where it starts and how many. Never empty on the data path, never longer than 128 MiB.
package struct SectorRange: Hashable, Sendable {
    package var start: Sector
    /// Length in sectors of 512 bytes.
    package var count: UInt32

    @inlinable package init(start: Sector, count: UInt32) {
        self.start = start
        self.count = count
    }
    @inlinable package init(_ start: UInt64, _ count: UInt32) {
        self.init(start: Sector(start), count: count)
    }
    /// The first sector behind the range.
    @inlinable package var end: Sector { Sector(start.value &+ UInt64(count)) }
    @inlinable package var byteCount: UInt32 { count &* 512 }
    @inlinable package func overlaps(_ other: SectorRange) -> Bool {
        start.value < other.end.value && other.start.value < end.value
    }
    @inlinable package func contains(_ other: SectorRange) -> Bool {
        start.value <= other.start.value && other.end.value <= end.value
    }
}

/// One bit of the dirty bitmap: a block of 4096 bytes (8 sectors).
package struct BitmapBlock: Hashable, Comparable, Sendable {
    package static let sectors: UInt64 = 8

    package var value: UInt64
    @inlinable package init(_ value: UInt64) { self.value = value }
    @inlinable package init(containing sector: Sector) { value = sector.value >> 3 }
    @inlinable package var firstSector: Sector { Sector(value << 3) }
    @inlinable package static func < (left: BitmapBlock, right: BitmapBlock) -> Bool { left.value < right.value }
}

/// The unit of the activity log: 4 MiB (8192 sectors, 1024 bitmap blocks).
package struct ActivityLogExtent: Hashable, Comparable, Sendable {
    package static let sectors: UInt64 = 8192

    package var value: UInt32
    @inlinable package init(_ value: UInt32) { self.value = value }
    @inlinable package init(containing sector: Sector) { value = UInt32(truncatingIfNeeded: sector.value >> 13) }
    @inlinable package static func < (left: ActivityLogExtent, right: ActivityLogExtent) -> Bool {
        left.value < right.value
    }
}

/// The unit of resync locking: 16 MiB (32768 sectors, four activity log extents).
package struct ResyncExtent: Hashable, Comparable, Sendable {
    package static let sectors: UInt64 = 32768

    package var value: UInt32
    @inlinable package init(_ value: UInt32) { self.value = value }
    @inlinable package init(containing sector: Sector) { value = UInt32(truncatingIfNeeded: sector.value >> 15) }
    @inlinable package init(containing extent: ActivityLogExtent) { value = extent.value >> 2 }
    @inlinable package static func < (left: ResyncExtent, right: ResyncExtent) -> Bool { left.value < right.value }
}
