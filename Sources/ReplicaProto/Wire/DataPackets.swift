/// The head of a replicated write, a read reply or a resync reply (P_DATA 0x00, P_DATA_REPLY 0x01,
/// P_RS_DATA_REPLY 0x02), before its payload.
///
/// | offset | size | field    | meaning                                  |
/// |-------:|-----:|----------|------------------------------------------|
/// |      0 |    8 | sector   | 512-byte sectors, big-endian             |
/// |      8 |    8 | block_id | opaque: echoed in the ack, never decoded |
/// |     16 |    4 | seq_num  | big-endian, wraps; 0 in replies          |
/// |     20 |    4 | dp_flags | big-endian bit set; 0 in replies         |
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_data`.
package struct DataPacket: Equatable, Sendable {
    package var sector: Sector
    package var blockID: UInt64
    package var sequence: UInt32
    package var flags: DataFlags
    /// Payload length in bytes without digest; not a field on the wire but derived from the header's length.
    package var byteCount: UInt32

    @inlinable package init(sector: Sector, blockID: UInt64, sequence: UInt32 = 0, flags: DataFlags = [], byteCount: UInt32) {
        self.sector = sector
        self.blockID = blockID
        self.sequence = sequence
        self.flags = flags
        self.byteCount = byteCount
    }
    @inlinable package var range: SectorRange { SectorRange(start: sector, count: byteCount >> 9) }
}

/// P_TRIM, P_ZEROES, P_WSAME: the 24 bytes of `DataPacket`, then `size` (bytes affected, big-endian u32).
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_trim`, `struct p_wsame`.
package struct DiscardPacket: Equatable, Sendable {
    package var sector: Sector
    package var blockID: UInt64
    package var sequence: UInt32
    package var flags: DataFlags
    /// Bytes affected: positive, a multiple of 512, at most 128 MiB.
    package var byteCount: UInt32
    /// P_WSAME: payload length in bytes without digest; derived from the header's length.
    package var patternBytes: UInt32

    @inlinable package init(
        sector: Sector, blockID: UInt64, sequence: UInt32, flags: DataFlags, byteCount: UInt32, patternBytes: UInt32 = 0
    ) {
        self.sector = sector
        self.blockID = blockID
        self.sequence = sequence
        self.flags = flags
        self.byteCount = byteCount
        self.patternBytes = patternBytes
    }
    @inlinable package var range: SectorRange { SectorRange(start: sector, count: byteCount >> 9) }
}

/// dp_flags (`wire.md` 7.2).
package struct DataFlags: OptionSet, Hashable, Sendable {
    package var rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// DP_RW_SYNC
    @inlinable package static var sync: DataFlags { DataFlags(rawValue: 2) }
    /// DP_MAY_SET_IN_SYNC: a resync runs; the block may be marked in sync after the write.
    @inlinable package static var maySetInSync: DataFlags { DataFlags(rawValue: 4) }
    /// DP_UNPLUG
    @inlinable package static var unplug: DataFlags { DataFlags(rawValue: 8) }
    /// DP_FUA: data must be on stable storage before completion.
    @inlinable package static var fua: DataFlags { DataFlags(rawValue: 16) }
    /// DP_FLUSH: flush the disk cache before the write.
    @inlinable package static var flush: DataFlags { DataFlags(rawValue: 32) }
    /// DP_DISCARD: with P_TRIM; with P_ZEROES deallocation is allowed.
    @inlinable package static var discard: DataFlags { DataFlags(rawValue: 64) }
    /// DP_SEND_RECEIVE_ACK: protocol B.
    @inlinable package static var sendReceiveAck: DataFlags { DataFlags(rawValue: 128) }
    /// DP_SEND_WRITE_ACK: protocol C.
    @inlinable package static var sendWriteAck: DataFlags { DataFlags(rawValue: 256) }
    /// DP_WSAME
    @inlinable package static var writeSame: DataFlags { DataFlags(rawValue: 512) }
    /// DP_ZEROES
    @inlinable package static var zeroes: DataFlags { DataFlags(rawValue: 1024) }
}

/// A read wanted from the peer (P_DATA_REQUEST, P_RS_DATA_REQUEST, P_RS_THIN_REQ, P_CSUM_RS_REQUEST, P_OV_REQUEST,
/// P_OV_REPLY): sector u64, block_id u64, blksize u32 in bytes, pad u32.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_block_req`.
package struct BlockRequest: Equatable, Sendable {
    package var sector: Sector
    package var blockID: UInt64
    package var byteCount: UInt32

    @inlinable package init(sector: Sector, blockID: UInt64, byteCount: UInt32) {
        self.sector = sector
        self.blockID = blockID
        self.byteCount = byteCount
    }
    @inlinable package var range: SectorRange { SectorRange(start: sector, count: byteCount >> 9) }
}

/// An area without identity (P_OUT_OF_SYNC, P_RS_DEALLOCATED): sector u64, blksize u32 in bytes, pad u32.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_block_desc`.
package struct AreaPacket: Equatable, Sendable {
    package var sector: Sector
    package var byteCount: UInt32

    @inlinable package init(sector: Sector, byteCount: UInt32) {
        self.sector = sector
        self.byteCount = byteCount
    }
    @inlinable package var range: SectorRange { SectorRange(start: sector, count: byteCount >> 9) }
}

/// Every block acknowledgement of the meta stream: sector u64, block_id u64, blksize u32 in bytes, seq_num u32.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_block_ack`.
package struct BlockAck: Equatable, Sendable {
    package var sector: Sector
    package var blockID: UInt64
    package var byteCount: UInt32
    package var sequence: UInt32

    @inlinable package init(sector: Sector, blockID: UInt64, byteCount: UInt32, sequence: UInt32) {
        self.sector = sector
        self.blockID = blockID
        self.byteCount = byteCount
        self.sequence = sequence
    }
    @inlinable package var range: SectorRange { SectorRange(start: sector, count: byteCount >> 9) }
}

/// block_id constants (`wire.md` 3.4), as read big-endian.
package enum BlockID {
    /// ID_SYNCER: resync requests, replies and their acks.
    @inlinable package static var syncer: UInt64 { .max }
    /// ID_IN_SYNC, in P_OV_RESULT
    @inlinable package static var inSync: UInt64 { 4711 }
    /// ID_OUT_OF_SYNC, in P_OV_RESULT
    @inlinable package static var outOfSync: UInt64 { 4712 }
}
