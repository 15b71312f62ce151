/// The used fields of the v08 superblock (`metadata.md` section 2). Byte layout: `init(decoding:)`, `encode(into:)`.
package struct Superblock: Equatable, Sendable {
    /// la_size_sect: last agreed size in sectors; 0 = never attached.
    package var lastAgreedSectors: UInt64
    package var identifiers: GenerationIdentifiers
    package var deviceUUID: UInt64
    package var flags: MetadataFlags
    /// Magic 0x8374026c: written by an attached node. Otherwise 0x8374026b.
    package var isUnclean: Bool
    package var metadataSectors: UInt32
    /// Sectors relative to the superblock.
    package var activityLogOffset: Int32
    package var activityLogExtents: UInt32
    /// Sectors relative to the superblock.
    package var bitmapOffset: Int32
    package var bytesPerBit: UInt32
    package var peerMaximumRequest: UInt32
    package var activityLogStripes: UInt32
    /// Blocks of 4096 bytes.
    package var activityLogStripeSize: UInt32

    package init(
        lastAgreedSectors: UInt64, identifiers: GenerationIdentifiers, deviceUUID: UInt64, flags: MetadataFlags,
        isUnclean: Bool, metadataSectors: UInt32, activityLogOffset: Int32, activityLogExtents: UInt32,
        bitmapOffset: Int32, bytesPerBit: UInt32 = 4096, peerMaximumRequest: UInt32, activityLogStripes: UInt32 = 1,
        activityLogStripeSize: UInt32 = 8
    ) {
        self.lastAgreedSectors = lastAgreedSectors
        self.identifiers = identifiers
        self.deviceUUID = deviceUUID
        self.flags = flags
        self.isUnclean = isUnclean
        self.metadataSectors = metadataSectors
        self.activityLogOffset = activityLogOffset
        self.activityLogExtents = activityLogExtents
        self.bitmapOffset = bitmapOffset
        self.bytesPerBit = bytesPerBit
        self.peerMaximumRequest = peerMaximumRequest
        self.activityLogStripes = activityLogStripes
        self.activityLogStripeSize = activityLogStripeSize
    }
}

/// Superblock flags (`metadata.md` 2.1). Unknown bits survive.
package struct MetadataFlags: OptionSet, Hashable, Sendable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// MDF_CONSISTENT
    package static let consistent = MetadataFlags(rawValue: 0x001)
    /// MDF_PRIMARY_IND
    package static let primaryIndicator = MetadataFlags(rawValue: 0x002)
    /// MDF_CONNECTED_IND
    package static let connectedIndicator = MetadataFlags(rawValue: 0x004)
    /// MDF_FULL_SYNC
    package static let fullSync = MetadataFlags(rawValue: 0x008)
    /// MDF_WAS_UP_TO_DATE
    package static let wasUpToDate = MetadataFlags(rawValue: 0x010)
    /// MDF_PEER_OUT_DATED
    package static let peerOutdated = MetadataFlags(rawValue: 0x020)
    /// MDF_CRASHED_PRIM
    package static let crashedPrimary = MetadataFlags(rawValue: 0x040)
    /// MDF_AL_CLEAN
    package static let activityLogClean = MetadataFlags(rawValue: 0x080)
    /// MDF_AL_DISABLED
    package static let activityLogDisabled = MetadataFlags(rawValue: 0x100)
}

extension Superblock {
    /// How it reads while the log is being initialised, all that it said being in the bitmap: as on a former Primary that has
    /// not met its peer again. A ring in which a power cut left a torn block is ignored then; with PRIMARY_IND, ours and
    /// DRBD's tools would refuse it for ever (`metadata.md` 4.10). nil: nothing depends on the log as it is.
    package var withoutLog: Superblock? {
        guard flags.contains(.primaryIndicator) else { return nil }
        var result = self
        result.flags.remove(.primaryIndicator)
        result.flags.insert(.crashedPrimary)
        return result
    }
}
