/// Why 4096 bytes are not a transaction of the activity log.
package enum ActivityLogBlockError: Error, Equatable, Sendable {
    case wrongLength(Int)
    case wrongMagic(UInt32)
    case wrongChecksum(stored: UInt32, computed: UInt32)
}

/// Where the log's blocks lie: a ring of stripes (`metadata.md` 1.7).
package struct ActivityLogGeometry: Equatable, Sendable {
    package let stripes: UInt32
    /// Blocks of 4096 bytes per stripe.
    package let stripeBlocks: UInt32

    package init(stripes: UInt32 = 1, stripeBlocks: UInt32 = 8) {
        invariant(stripes > 0 && stripeBlocks > 0, "an activity log has blocks")
        self.stripes = stripes
        self.stripeBlocks = stripeBlocks
    }

    package init(_ superblock: Superblock) {
        self.init(stripes: superblock.activityLogStripes, stripeBlocks: superblock.activityLogStripeSize)
    }

    /// Blocks in the whole ring.
    package var blocks: UInt32 { stripes &* stripeBlocks }

    /// The block of the area, in disk order, that holds position `position` of the log.
    package func block(ofPosition position: UInt32) -> UInt32 {
        position % stripes &* stripeBlocks &+ position / stripes
    }

    /// The block of the area, in disk order, that transaction `number` is written to.
    package func block(ofTransaction number: UInt32) -> UInt32 {
        block(ofPosition: number % blocks)
    }

    /// `al-extents` as far as this ring can carry it: every slot's context must come round within all blocks but the
    /// one that a crash may tear (`metadata.md` 4.4, 4.6). That users choose at least 67 is the option table's business;
    /// the simulator lives with a handful.
    package func slots(configured: Int) -> Int {
        let carried = UInt64(blocks &- 1) &* UInt64(Limits.activityLogContext)
        return max(1, min(min(configured, 65534), Int(min(carried, 65534))))
    }
}

/// One block of the on-disk activity log: which extents became hot in which slots, and a part of what was hot before.
///
/// | offset | size | field         | meaning                                                         |
/// |-------:|-----:|---------------|-----------------------------------------------------------------|
/// |  0x000 |    4 | magic         | 0x69cb65a2                                                      |
/// |  0x004 |    4 | tr_number     | one more than the block before, wraps                           |
/// |  0x008 |    4 | crc32c        | raw CRC-32C over the block with this field zero                 |
/// |  0x00c |    2 | type          | 0 update, 0xffff initialised                                    |
/// |  0x00e |    2 | n_updates     | 0..64                                                           |
/// |  0x010 |    2 | context_size  | number of slots                                                 |
/// |  0x012 |    2 | context_start | the slot of the first context entry                             |
/// |  0x014 |   16 |               | zero                                                            |
/// |  0x024 |  128 | update_slot   | 64 slots, unused 0xffff                                         |
/// |  0x0a4 |  256 | update_extent | 64 extents, unused 0xffffffff                                   |
/// |  0x1a4 | 3676 | context       | 919 extents, free or unused 0xffffffff                          |
///
/// All big-endian. Source: DRBD 8.4, `drbd/drbd_actlog.c`, `struct al_transaction_on_disk`.
package struct ActivityLogTransaction: Equatable, Sendable {
    package struct Update: Equatable, Sendable {
        package var slot: UInt16
        package var extent: UInt32
        package init(slot: UInt16, extent: UInt32) {
            self.slot = slot
            self.extent = extent
        }
    }

    package static let blockBytes = 4096
    /// DRBD_AL_MAGIC
    package static let magic: UInt32 = 0x69cb_65a2
    /// AL_TR_UPDATE
    package static let typeUpdate: UInt16 = 0
    /// AL_TR_INITIALIZED
    package static let typeInitialised: UInt16 = 0xffff
    /// Says that a slot is free.
    package static let freeExtent: UInt32 = .max
    package static let unusedSlot: UInt16 = .max
    /// Slots are numbered below this.
    package static let slotLimit: UInt32 = 65534

    enum Offset {
        static let number = 0x004
        static let checksum = 0x008
        static let type = 0x00c
        static let updateCount = 0x00e
        static let contextSize = 0x010
        static let contextStart = 0x012
        static let updateSlots = 0x024
        static let updateExtents = 0x0a4
        static let context = 0x1a4
    }

    package var number: UInt32
    /// 0xffff: carries no information. Anything else counts as an update.
    package var type: UInt16
    package private(set) var updates: [Update]
    package var contextSize: UInt16
    package var contextStart: UInt16
    /// 919 extents.
    package private(set) var context: [UInt32]

    /// - Returns: nil for more than 64 updates or 919 context entries; fewer entries are filled up with free ones.
    package init?(
        number: UInt32, updates: [Update], contextSize: UInt16, contextStart: UInt16, context: [UInt32]
    ) {
        guard updates.count <= Limits.activityLogUpdates, context.count <= Limits.activityLogContext else { return nil }
        self.number = number
        type = Self.typeUpdate
        self.updates = updates
        self.contextSize = contextSize
        self.contextStart = contextStart
        self.context = context + Array(repeating: Self.freeExtent, count: Limits.activityLogContext - context.count)
    }

    /// Reads a block. Entries are taken as stored: what they may say is up to the replay.
    package init(decoding bytes: RawSpan) throws(ActivityLogBlockError) {
        guard bytes.byteCount == Self.blockBytes else { throw .wrongLength(bytes.byteCount) }
        guard bytes.readBE32(at: 0) == Self.magic else { throw .wrongMagic(bytes.readBE32(at: 0)) }
        let stored = bytes.readBE32(at: Offset.checksum)
        let computed = Self.checksum(of: bytes)
        guard stored == computed else { throw .wrongChecksum(stored: stored, computed: computed) }
        number = bytes.readBE32(at: Offset.number)
        type = bytes.readBE16(at: Offset.type)
        contextSize = bytes.readBE16(at: Offset.contextSize)
        contextStart = bytes.readBE16(at: Offset.contextStart)
        let counted = Int(bytes.readBE16(at: Offset.updateCount))
        updates = []
        for index in 0..<Limits.activityLogUpdates {
            let slot = bytes.readBE16(at: Offset.updateSlots + 2 * index)
            if index >= counted && slot == Self.unusedSlot { continue }
            updates.append(Update(slot: slot, extent: bytes.readBE32(at: Offset.updateExtents + 4 * index)))
        }
        context = []
        context.reserveCapacity(Limits.activityLogContext)
        for index in 0..<Limits.activityLogContext {
            context.append(bytes.readBE32(at: Offset.context + 4 * index))
        }
    }

    /// Writes the block into 4096 bytes.
    package func encode(into bytes: inout MutableRawSpan) {
        Self.writeHead(
            into: &bytes, number: number, type: type, updates: updates.count, contextSize: contextSize,
            contextStart: contextStart)
        guard type != Self.typeInitialised else { return Self.seal(&bytes) }
        for index in 0..<Limits.activityLogUpdates {
            let update = index < updates.count ? updates[index] : Update(slot: Self.unusedSlot, extent: Self.freeExtent)
            Self.writeUpdate(update, at: index, into: &bytes)
        }
        for index in 0..<Limits.activityLogContext {
            bytes.writeBE(context[index], at: Offset.context &+ 4 &* index)
        }
        Self.seal(&bytes)
    }

    package func encoded() -> [UInt8] {
        var block = [UInt8](repeating: 0, count: Self.blockBytes)
        var span = block.mutableSpan
        var raw = unsafe span.mutableBytes
        encode(into: &raw)
        return block
    }

    /// The block of a ring in which nothing is hot, as `create-md` and `apply-al` write it to every place.
    package static func initialisedBlock() -> [UInt8] {
        var block = [UInt8](repeating: 0, count: blockBytes)
        var span = block.mutableSpan
        var raw = unsafe span.mutableBytes
        writeHead(into: &raw, number: 0, type: typeInitialised, updates: 0, contextSize: 0, contextStart: 0)
        seal(&raw)
        return block
    }

    static func writeHead(
        into bytes: inout MutableRawSpan, number: UInt32, type: UInt16, updates: Int, contextSize: UInt16,
        contextStart: UInt16
    ) {
        invariant(bytes.byteCount == blockBytes, "a transaction has 4096 bytes")
        bytes.fill(0, at: 0, count: blockBytes)
        bytes.writeBE(magic, at: 0)
        bytes.writeBE(number, at: Offset.number)
        bytes.writeBE(type, at: Offset.type)
        bytes.writeBE(UInt16(updates), at: Offset.updateCount)
        bytes.writeBE(contextSize, at: Offset.contextSize)
        bytes.writeBE(contextStart, at: Offset.contextStart)
    }

    static func writeUpdate(_ update: Update, at index: Int, into bytes: inout MutableRawSpan) {
        bytes.writeBE(update.slot, at: Offset.updateSlots &+ 2 &* index)
        bytes.writeBE(update.extent, at: Offset.updateExtents &+ 4 &* index)
    }

    /// Fills in the checksum, the last thing to do.
    static func seal(_ bytes: inout MutableRawSpan) {
        bytes.writeBE(checksum(of: bytes.bytes), at: Offset.checksum)
    }

    private static func checksum(of bytes: RawSpan) -> UInt32 {
        let head = CRC32C.raw(bytes.extracting(0..<Offset.checksum))
        let field: [UInt8] = [0, 0, 0, 0]
        let zeroed = CRC32C.raw(unsafe field.span.bytes, continuing: head)
        return CRC32C.raw(bytes.extracting((Offset.checksum + 4)..<blockBytes), continuing: zeroed)
    }
}
