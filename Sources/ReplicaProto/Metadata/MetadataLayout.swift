/// Where the three parts of a volume's metadata lie on the metadata device, in sectors of 512 bytes
/// (`metadata.md` section 1).
///
/// Internal, from low to high addresses: data, bitmap, activity log, superblock, up to 7 unused sectors. External:
/// superblock, activity log, bitmap.
package struct MetadataLayout: Equatable, Sendable {
    /// Sectors of one slot of an indexed metadata device: 128 MiB.
    package static let indexedSectors: UInt64 = 262_144
    /// The kernel's smallest internal or flexible metadata device: 1 MiB.
    package static let minimumSectors: UInt64 = 2048
    /// Data sectors that one sector of bitmap describes.
    package static let dataSectorsPerBitmapSector: UInt64 = 32768
    /// Data sectors that one page of bitmap describes.
    package static let dataSectorsPerBitmapPage: UInt64 = 262_144
    private static let superblockSectors: UInt64 = 8

    package let index: MetadataIndex
    /// First sector of the superblock.
    package let superblock: UInt64
    /// First sector of the activity log.
    package let activityLog: UInt64
    package let activityLogSectors: UInt64
    /// First sector of the bitmap.
    package let bitmap: UInt64
    package let bitmapSectors: UInt64
    /// md_size_sect
    package let metadataSectors: UInt64
    package let stripes: UInt32
    package let stripeBlocks: UInt32

    /// al_offset
    package var activityLogOffset: Int64 { Int64(activityLog) - Int64(superblock) }
    /// bm_offset
    package var bitmapOffset: Int64 { Int64(bitmap) - Int64(superblock) }
    /// Data sectors that this metadata can serve.
    package var usableSectors: UInt64 {
        switch index {
        case .internal: bitmap
        case .flexible, .indexed: bitmapSectors &* Self.dataSectorsPerBitmapSector
        }
    }
    package var geometry: ActivityLogGeometry {
        ActivityLogGeometry(stripes: stripes, stripeBlocks: stripeBlocks)
    }

    /// The layout of fresh metadata.
    ///
    /// - Parameter deviceSectors: capacity of the metadata device.
    package init(
        _ index: MetadataIndex, deviceSectors: UInt64, stripes: UInt32 = 1, stripeBlocks: UInt32 = 8
    ) throws(MetadataError) {
        guard deviceSectors <= Limits.deviceSectors else { throw .deviceTooLarge(sectors: deviceSectors) }
        let logBlocks = UInt64(stripes) &* UInt64(stripeBlocks)
        guard logBlocks >= 8, logBlocks <= 4_194_304 else { throw .stripes(count: stripes, blocks: stripeBlocks) }
        self.index = index
        self.stripes = stripes
        self.stripeBlocks = stripeBlocks
        activityLogSectors = logBlocks &* 8
        let superblock = Self.superblockSector(index, deviceSectors: deviceSectors)
        switch index {
        case .internal:
            bitmapSectors = Self.bitmapSectors(internalDeviceSectors: deviceSectors)
            metadataSectors = Self.superblockSectors &+ activityLogSectors &+ bitmapSectors
            guard let superblock, superblock &+ Self.superblockSectors > metadataSectors else {
                throw .deviceTooSmall(sectors: deviceSectors, needed: metadataSectors &+ 8)
            }
            self.superblock = superblock
            activityLog = superblock &- activityLogSectors
            bitmap = activityLog &- bitmapSectors
        case .flexible:
            let bitmapStart = Self.superblockSectors &+ activityLogSectors
            guard deviceSectors > bitmapStart else {
                throw .deviceTooSmall(sectors: deviceSectors, needed: bitmapStart &+ 8)
            }
            guard deviceSectors <= UInt64(UInt32.max) else { throw .deviceTooLarge(sectors: deviceSectors) }
            self.superblock = 0
            activityLog = Self.superblockSectors
            bitmap = bitmapStart
            metadataSectors = deviceSectors
            bitmapSectors = deviceSectors &- bitmapStart
        case .indexed(let number):
            guard number <= 255 else { throw .index(number) }
            guard stripes == 1, stripeBlocks == 8 else {
                throw .stripedIndexed(stripes: stripes, blocks: stripeBlocks)
            }
            guard let superblock, deviceSectors >= superblock &+ Self.indexedSectors else {
                throw .deviceTooSmall(sectors: deviceSectors, needed: (UInt64(number) &+ 1) &* Self.indexedSectors)
            }
            self.superblock = superblock
            activityLog = superblock &+ Self.superblockSectors
            bitmap = activityLog &+ activityLogSectors
            metadataSectors = Self.indexedSectors
            bitmapSectors = Self.indexedSectors &- Self.superblockSectors &- activityLogSectors
        }
    }

    /// The layout that a superblock found at its place describes, after checking it against the device as DRBD does
    /// (`metadata.md` 2.3).
    ///
    /// - Parameter deviceSectors: capacity of the metadata device.
    package init(
        _ index: MetadataIndex, superblock found: Superblock, deviceSectors: UInt64
    ) throws(MetadataError) {
        let fresh: MetadataLayout
        switch index {
        case .internal, .indexed:
            fresh = try MetadataLayout(
                index, deviceSectors: deviceSectors, stripes: found.activityLogStripes,
                stripeBlocks: found.activityLogStripeSize)
        case .flexible:
            // The device may have grown since; what the superblock says is what is in use.
            guard UInt64(found.metadataSectors) <= deviceSectors else {
                throw .deviceTooSmall(sectors: deviceSectors, needed: UInt64(found.metadataSectors))
            }
            fresh = try MetadataLayout(
                index, deviceSectors: UInt64(found.metadataSectors), stripes: found.activityLogStripes,
                stripeBlocks: found.activityLogStripeSize)
        }
        guard Int64(found.activityLogOffset) == fresh.activityLogOffset else {
            throw .activityLogOffset(found: found.activityLogOffset, expected: fresh.activityLogOffset)
        }
        guard Int64(found.bitmapOffset) == fresh.bitmapOffset else {
            throw .bitmapOffset(found: found.bitmapOffset, expected: fresh.bitmapOffset)
        }
        guard UInt64(found.metadataSectors) == fresh.metadataSectors else {
            throw .metadataSize(found: found.metadataSectors, expected: fresh.metadataSectors)
        }
        guard found.bytesPerBit == 4096 else { throw .bytesPerBit(found.bytesPerBit) }
        let capacity = fresh.bitmapSectors &* Self.dataSectorsPerBitmapSector
        guard found.lastAgreedSectors <= capacity else {
            throw .lastAgreedSize(sectors: found.lastAgreedSectors, capacity: capacity)
        }
        self = fresh
    }

    /// Where the superblock of a device is looked for; nil if the device cannot hold one.
    package static func superblockSector(_ index: MetadataIndex, deviceSectors: UInt64) -> UInt64? {
        switch index {
        case .internal:
            let aligned = deviceSectors & ~7
            return aligned >= superblockSectors ? aligned &- superblockSectors : nil
        case .flexible:
            return deviceSectors >= superblockSectors ? 0 : nil
        case .indexed(let number):
            let start = UInt64(number) &* indexedSectors
            return deviceSectors >= superblockSectors && start <= deviceSectors &- superblockSectors ? start : nil
        }
    }

    /// Where a v07 superblock of the fixed 128 MiB internal layout would be (`metadata.md` 1.1).
    package static func fixedInternal07Sector(deviceSectors: UInt64) -> UInt64? {
        let aligned = deviceSectors & ~7
        return aligned >= indexedSectors ? aligned &- indexedSectors : nil
    }

    /// Smallest metadata device that the kernel attaches.
    package static func minimumSectors(_ index: MetadataIndex) -> UInt64 {
        switch index {
        case .internal, .flexible: minimumSectors
        case .indexed(let number): (UInt64(number) &+ 1) &* indexedSectors
        }
    }

    /// Sectors of the bitmap of a device with internal metadata: a page per started 128 MiB of the whole device.
    package static func bitmapSectors(internalDeviceSectors sectors: UInt64) -> UInt64 {
        8 &* pages(coveringSectors: sectors)
    }

    /// Bitmap pages of 4096 bytes that describe so many data sectors.
    package static func pages(coveringSectors sectors: UInt64) -> UInt64 {
        sectors / dataSectorsPerBitmapPage &+ (sectors % dataSectorsPerBitmapPage == 0 ? 0 : 1)
    }

    /// Bytes of the bitmap area that hold the bits of so many data sectors, in whole pages except where a flexible
    /// device ends earlier.
    package func bitmapBytes(coveringSectors sectors: UInt64) -> UInt64 {
        min(Self.pages(coveringSectors: min(sectors, Limits.deviceSectors)) &* 4096, bitmapSectors &* 512)
    }

    /// Data sectors that a data device of this capacity offers with this metadata.
    package func usableSectors(dataDeviceSectors: UInt64) -> UInt64 {
        min(usableSectors, dataDeviceSectors, Limits.deviceSectors)
    }

    /// Sectors that a device with internal metadata needs to hold so many data sectors (`metadata.md` 1.2).
    package static func internalDeviceSectors(
        forData sectors: UInt64, stripes: UInt32 = 1, stripeBlocks: UInt32 = 8
    ) -> UInt64 {
        let log = UInt64(stripes) &* UInt64(stripeBlocks) &* 8
        var bitmap = bitmapSectors(internalDeviceSectors: sectors)
        while true {
            let device = (sectors &+ 7) & ~7 &+ superblockSectors &+ log &+ bitmap
            if bitmapSectors(internalDeviceSectors: device) <= bitmap { return device }
            bitmap &+= 8
        }
    }

    /// Sectors that a flexible metadata device needs for so many data sectors.
    package static func flexibleDeviceSectors(forData sectors: UInt64) -> UInt64 {
        let exact = 72 &+ sectors / dataSectorsPerBitmapSector &+ (sectors % dataSectorsPerBitmapSector == 0 ? 0 : 1)
        return max(minimumSectors, (exact &+ 7) & ~7)
    }

    /// Fresh metadata, as `create-md` leaves it (`metadata.md` 2.4).
    package func freshSuperblock(deviceUUID: UInt64 = 0, peerMaximumRequest: UInt32 = 0) -> Superblock {
        Superblock(
            lastAgreedSectors: 0, identifiers: GenerationIdentifiers(current: GenerationIdentifiers.justCreated),
            deviceUUID: deviceUUID, flags: .activityLogClean, isUnclean: false,
            metadataSectors: UInt32(metadataSectors), activityLogOffset: Int32(activityLogOffset),
            activityLogExtents: 257, bitmapOffset: Int32(bitmapOffset), peerMaximumRequest: peerMaximumRequest,
            activityLogStripes: stripes, activityLogStripeSize: stripeBlocks)
    }

    /// Writes this layout into a superblock, leaving all else as it is.
    package func describe(in superblock: inout Superblock) {
        superblock.metadataSectors = UInt32(metadataSectors)
        superblock.activityLogOffset = Int32(activityLogOffset)
        superblock.bitmapOffset = Int32(bitmapOffset)
        superblock.activityLogStripes = stripes
        superblock.activityLogStripeSize = stripeBlocks
        superblock.bytesPerBit = 4096
    }
}
