/// The 4096 bytes of a v08 superblock.
///
/// | offset | size | field                | offset | size | field             |
/// |-------:|-----:|----------------------|-------:|-----:|-------------------|
/// |   0x00 |    8 | la_size_sect         |   0x40 |    4 | md_size_sect      |
/// |   0x08 |    8 | uuid current         |   0x44 |    4 | al_offset         |
/// |   0x10 |    8 | uuid bitmap          |   0x48 |    4 | al_nr_extents     |
/// |   0x18 |   16 | uuid history 1, 2    |   0x4c |    4 | bm_offset         |
/// |   0x28 |    8 | device_uuid          |   0x50 |    4 | bm_bytes_per_bit  |
/// |   0x30 |    8 | zero                 |   0x54 |    4 | la_peer_max_bio   |
/// |   0x38 |    4 | flags                |   0x58 |    4 | al_stripes        |
/// |   0x3c |    4 | magic                |   0x5c |    4 | al_stripe_size_4k |
///
/// All big-endian; zero from 0x60 on. There is no checksum. Source: DRBD 8.4, `drbd/drbd_main.c`,
/// `struct meta_data_on_disk`.
extension Superblock {
    package static let blockBytes = 4096
    /// DRBD_MD_MAGIC_08
    package static let magicClean: UInt32 = 0x8374_026b
    /// DRBD_MD_MAGIC_84_UNCLEAN
    package static let magicUnclean: UInt32 = 0x8374_026c
    /// DRBD_MD_MAGIC_07, at 0x1c
    package static let magic07: UInt32 = 0x8374_026a
    /// DRBD_MD_MAGIC_09
    package static let magic09: UInt32 = 0x8374_026d

    /// Reads the fields. Only magic and striping are judged; the layout is `validate`'s business.
    package init(decoding bytes: RawSpan) throws(MetadataError) {
        guard bytes.byteCount >= Self.blockBytes else { throw .truncated(bytes.byteCount) }
        let magic = bytes.readBE32(at: 0x3c)
        guard magic == Self.magicClean || magic == Self.magicUnclean else {
            throw Self.format(of: bytes).map { .otherFormat($0) } ?? .noMagic
        }
        var stripes = bytes.readBE32(at: 0x58)
        var stripeBlocks = bytes.readBE32(at: 0x5c)
        if stripes == 0 && stripeBlocks == 0 {
            // Written before 8.4.
            stripes = 1
            stripeBlocks = 8
        }
        let blocks = UInt64(stripes) &* UInt64(stripeBlocks)
        guard blocks >= 8, blocks <= 4_194_304 else { throw .stripes(count: stripes, blocks: stripeBlocks) }
        self.init(
            lastAgreedSectors: bytes.readBE64(at: 0x00),
            identifiers: GenerationIdentifiers(
                current: bytes.readBE64(at: 0x08), bitmap: bytes.readBE64(at: 0x10),
                history0: bytes.readBE64(at: 0x18), history1: bytes.readBE64(at: 0x20)),
            deviceUUID: bytes.readBE64(at: 0x28),
            flags: MetadataFlags(rawValue: bytes.readBE32(at: 0x38)),
            isUnclean: magic == Self.magicUnclean,
            metadataSectors: bytes.readBE32(at: 0x40),
            activityLogOffset: Int32(bitPattern: bytes.readBE32(at: 0x44)),
            activityLogExtents: bytes.readBE32(at: 0x48),
            bitmapOffset: Int32(bitPattern: bytes.readBE32(at: 0x4c)),
            bytesPerBit: bytes.readBE32(at: 0x50),
            peerMaximumRequest: bytes.readBE32(at: 0x54),
            activityLogStripes: stripes,
            activityLogStripeSize: stripeBlocks)
    }

    package init(decoding bytes: [UInt8]) throws(MetadataError) {
        try self.init(decoding: unsafe bytes.span.bytes)
    }

    /// Which format's superblock a block of 4096 bytes is, by magic alone.
    package static func format(of bytes: RawSpan) -> MetadataFormat? {
        guard bytes.byteCount >= blockBytes else { return nil }
        switch bytes.readBE32(at: 0x3c) {
        case magicClean, magicUnclean: return .v08
        case magic09: return .v09
        default: return bytes.readBE32(at: 0x1c) == magic07 ? .v07 : nil
        }
    }

    package static func format(of bytes: [UInt8]) -> MetadataFormat? {
        format(of: unsafe bytes.span.bytes)
    }

    /// Writes the block: 4096 bytes, unused ones zero.
    package func encode(into bytes: inout MutableRawSpan) {
        invariant(bytes.byteCount == Self.blockBytes, "a superblock has 4096 bytes")
        bytes.fill(0, at: 0, count: Self.blockBytes)
        bytes.writeBE(lastAgreedSectors, at: 0x00)
        bytes.writeBE(identifiers.current, at: 0x08)
        bytes.writeBE(identifiers.bitmap, at: 0x10)
        bytes.writeBE(identifiers.history0, at: 0x18)
        bytes.writeBE(identifiers.history1, at: 0x20)
        bytes.writeBE(deviceUUID, at: 0x28)
        bytes.writeBE(flags.rawValue, at: 0x38)
        bytes.writeBE(isUnclean ? Self.magicUnclean : Self.magicClean, at: 0x3c)
        bytes.writeBE(metadataSectors, at: 0x40)
        bytes.writeBE(UInt32(bitPattern: activityLogOffset), at: 0x44)
        bytes.writeBE(activityLogExtents, at: 0x48)
        bytes.writeBE(UInt32(bitPattern: bitmapOffset), at: 0x4c)
        bytes.writeBE(bytesPerBit, at: 0x50)
        bytes.writeBE(peerMaximumRequest, at: 0x54)
        bytes.writeBE(activityLogStripes, at: 0x58)
        bytes.writeBE(activityLogStripeSize, at: 0x5c)
    }

    @unsafe package func encode(into bytes: UnsafeMutableRawBufferPointer) {
        var raw = unsafe bytes.mutableBytes
        encode(into: &raw)
    }

    package func encoded() -> [UInt8] {
        var block = [UInt8](repeating: 0, count: Self.blockBytes)
        var span = block.mutableSpan
        var raw = unsafe span.mutableBytes
        encode(into: &raw)
        return block
    }

    /// The log must be applied before the metadata is used: an attached node wrote it, or AL_CLEAN is not set
    /// (`metadata.md` 2.2).
    package var needsActivityLogApplied: Bool {
        isUnclean || !flags.contains(.activityLogClean)
    }
}
