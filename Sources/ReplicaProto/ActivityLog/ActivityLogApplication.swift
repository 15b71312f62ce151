/// Why a log cannot be applied; nothing may be written then.
package enum ActivityLogApplicationError: Error, Equatable, Sendable {
    /// No block carries a transaction, on a node that stopped as Primary.
    case noUsableLog
    /// Blocks are damaged such that what was hot cannot be told, on a node that stopped as Primary.
    case unusable
    /// The log was written by DRBD 8.3 or older.
    case pre84Log

    package var message: String {
        switch self {
        case .noUsableLog: "No usable activity log found. Do you need to create-md?"
        case .unusable: "Activity log is damaged: what may differ from the peer cannot be told."
        case .pre84Log: "Activity log was written by DRBD 8.3 or older: apply it with the tools of that release."
        }
    }
}

/// How to make metadata clean: which bits the log of a crashed Primary adds, and what else is to be written
/// (`metadata.md` 4.10). Order of writing: bitmap, flush, ring, flush, superblock.
package struct ActivityLogApplication: Equatable, Sendable {
    /// Extents all of whose bits are to be set; ascending, inside the bitmap.
    package var extents: [UInt32] = []
    /// Extents the bitmap is too small for.
    package var extentsBeyond: [UInt32] = []
    /// Every block of the ring is to be written anew with `ActivityLogTransaction.initialisedBlock()`.
    package var initialisesRing = false
    /// To be written last, if any.
    package var superblock: Superblock?
    package var corruptBlocks = 0
    /// The log could not be read, but nothing depends on it: the node was no Primary, or all of the bitmap is to be set
    /// anyway, as when metadata was being moved.
    package var ignoredError: ActivityLogApplicationError?

    /// Bytes of bitmap per extent.
    package static let bytesPerExtent = 128

    package init(
        superblock: Superblock, ring: RawSpan
    ) throws(ActivityLogApplicationError) {
        let geometry = ActivityLogGeometry(superblock)
        let replay = ActivityLogReplay(ring: ring, geometry: geometry)
        let wasPrimary = superblock.flags.contains(.primaryIndicator)
        corruptBlocks = replay.corruptBlocks
        var isUnreadable: ActivityLogApplicationError?
        switch replay.outcome {
        case .updates(let hot):
            initialisesRing = true
            if wasPrimary {
                // The bitmap of the last agreed size, in whole pages of 32 extents.
                let pages = superblock.lastAgreedSectors / 262_144 + (superblock.lastAgreedSectors % 262_144 == 0 ? 0 : 1)
                extents = hot.filter { UInt64($0) < pages &* 32 }
                extentsBeyond = hot.filter { UInt64($0) >= pages &* 32 }
            }
        case .empty: break
        case .noUsableLog: isUnreadable = .noUsableLog
        case .unusable: isUnreadable = .unusable
        }
        if let isUnreadable {
            if !superblock.isUnclean && geometry.stripes == 1 && !Self.hasTransactionMagic(ring) {
                // What 8.3 and older left, or nothing at all.
                if Self.hasPre84Magic(ring) { throw .pre84Log }
            } else if wasPrimary, !superblock.flags.contains(.fullSync) {
                throw isUnreadable
            } else {
                ignoredError = isUnreadable
            }
            initialisesRing = true
        }
        if superblock.needsActivityLogApplied || initialisesRing {
            var clean = superblock
            clean.flags.insert(.activityLogClean)
            clean.isUnclean = false
            if clean != superblock || initialisesRing { self.superblock = clean }
        }
    }

    package init(superblock: Superblock, ring: [UInt8]) throws(ActivityLogApplicationError) {
        try self.init(superblock: superblock, ring: unsafe ring.span.bytes)
    }

    /// Sets the extents' bits in the bytes of a bitmap area.
    /// - Returns: how many were clear before. Extents that the bytes are too short for are left out.
    package func mark(_ bitmap: inout [UInt8]) -> UInt64 {
        var added: UInt64 = 0
        for extent in extents {
            let start = Int(extent) * Self.bytesPerExtent
            guard start < bitmap.count else { break }
            for index in start..<min(start + Self.bytesPerExtent, bitmap.count) {
                added += UInt64((~bitmap[index]).nonzeroBitCount)
                bitmap[index] = 0xff
            }
        }
        return added
    }

    /// Whether one of the first two blocks is at least meant to be a transaction of 8.4.
    private static func hasTransactionMagic(_ ring: RawSpan) -> Bool {
        for block in 0..<2 {
            let start = block * ActivityLogTransaction.blockBytes
            if start + 4 <= ring.byteCount, ring.readBE32(at: start) == ActivityLogTransaction.magic { return true }
        }
        return false
    }

    /// Whether any of the 512-byte transactions of 8.3 and older is there.
    private static func hasPre84Magic(_ ring: RawSpan) -> Bool {
        var start = 0
        while start + 4 <= ring.byteCount, start < 64 * 512 {
            if ring.readBE32(at: start) == 0x8374_0267 { return true }
            start += 512
        }
        return false
    }
}
