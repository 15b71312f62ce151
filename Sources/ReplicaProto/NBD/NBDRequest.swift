/// One request of an NBD client, without its payload.
///
/// | offset | size | field  | meaning                                 |
/// |-------:|-----:|--------|-----------------------------------------|
/// |      0 |    4 | magic  | 0x25609513                              |
/// |      4 |    2 | flags  | NBD_CMD_FLAG_*                          |
/// |      6 |    2 | type   | NBD_CMD_*                               |
/// |      8 |    8 | cookie | opaque: echoed in the reply             |
/// |     16 |    8 | offset | bytes                                   |
/// |     24 |    4 | length | bytes; of the payload too, in a write   |
///
/// Source: `doc/proto.md` of the NBD project, "Request message".
package struct NBDRequest: Equatable, Sendable {
    @inlinable package static var wireSize: Int { 28 }
    @inlinable package static var magic: UInt32 { 0x2560_9513 }

    package var flags: NBDCommandFlags
    /// The type field as sent; see `command`.
    package var type: UInt16
    /// Opaque; read big-endian, written back the same way.
    package var cookie: UInt64
    package var offset: UInt64
    package var length: UInt32

    @inlinable package init(flags: NBDCommandFlags, type: UInt16, cookie: UInt64, offset: UInt64, length: UInt32) {
        self.flags = flags
        self.type = type
        self.cookie = cookie
        self.offset = offset
        self.length = length
    }

    /// Reads the 28 bytes at the beginning of `bytes`. Nil for fewer bytes or another magic: with the latter the stream
    /// is lost, there is no way to find the next request.
    @inlinable package init?(decoding bytes: RawSpan) {
        guard bytes.byteCount >= NBDRequest.wireSize, bytes.readBE32(at: 0) == NBDRequest.magic else { return nil }
        self.init(
            flags: NBDCommandFlags(rawValue: bytes.readBE16(at: 4)), type: bytes.readBE16(at: 6),
            cookie: bytes.readBE64(at: 8), offset: bytes.readBE64(at: 16), length: bytes.readBE32(at: 24))
    }

    @inlinable package var command: NBDCommand? { NBDCommand(rawValue: type) }
    /// Bytes that follow the request.
    @inlinable package var payloadLength: Int { type == NBDCommand.write.rawValue ? Int(length) : 0 }
}

/// NBD_CMD_*
package enum NBDCommand: UInt16, Equatable, Sendable, CaseIterable {
    /// NBD_CMD_READ
    case read = 0
    /// NBD_CMD_WRITE
    case write = 1
    /// NBD_CMD_DISC
    case disconnect = 2
    /// NBD_CMD_FLUSH
    case flush = 3
    /// NBD_CMD_TRIM
    case trim = 4
    /// NBD_CMD_CACHE
    case cache = 5
    /// NBD_CMD_WRITE_ZEROES
    case writeZeroes = 6
    /// NBD_CMD_BLOCK_STATUS: needs a metadata context, which we never agree to.
    case blockStatus = 7
}

/// NBD_CMD_FLAG_*
package struct NBDCommandFlags: OptionSet, Hashable, Sendable {
    package var rawValue: UInt16
    @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue }

    /// NBD_CMD_FLAG_FUA
    @inlinable package static var fua: Self { Self(rawValue: 1 << 0) }
    /// NBD_CMD_FLAG_NO_HOLE
    @inlinable package static var noHole: Self { Self(rawValue: 1 << 1) }
    /// NBD_CMD_FLAG_DF
    @inlinable package static var dontFragment: Self { Self(rawValue: 1 << 2) }
    /// NBD_CMD_FLAG_REQ_ONE
    @inlinable package static var requestOne: Self { Self(rawValue: 1 << 3) }
    /// NBD_CMD_FLAG_FAST_ZERO
    @inlinable package static var fastZero: Self { Self(rawValue: 1 << 4) }
}

/// What to do with a request.
package enum NBDVerdict: Equatable, Sendable {
    case read
    case write
    case flush
    case trim
    case writeZeroes
    /// NBD_CMD_CACHE: nothing to do, answer success.
    case cache
    /// NBD_CMD_DISC: answer what is in flight, then close. There is no reply.
    case disconnect
    /// Read `payloadLength` bytes away, answer with the error, go on.
    case refuse(NBDError)
    /// Close: the payload is too large to be read away.
    case hangUp
}

extension NBDRequest {
    /// Judges the request against the export and the agreement of its connection.
    ///
    /// Beyond the end a write or zeroing is ENOSPC, everything else EINVAL, as `doc/proto.md` ("Error values") has it.
    /// Zero lengths, which the protocol leaves open, are EINVAL too, and so is what is not aligned to `minimumBlock`.
    /// FUA is accepted on everything, other flags only where they mean something.
    package func judge(_ export: NBDExport, structuredReplies: Bool) -> NBDVerdict {
        guard payloadLength <= Int(Limits.nbdPayload) else { return .hangUp }
        guard let command else { return .refuse(.invalid) }
        let verdict: NBDVerdict
        var allowed: NBDCommandFlags = .fua
        switch command {
        case .disconnect: return .disconnect
        case .flush:
            return flags.isSubset(of: allowed) && export.flags.contains(.flush) ? .flush : .refuse(.invalid)
        case .read:
            if structuredReplies { allowed.insert(.dontFragment) }
            guard length <= Limits.nbdPayload else { return .refuse(.overflow) }
            verdict = .read
        case .write:
            verdict = .write
        case .trim:
            guard export.flags.contains(.trim) else { return .refuse(.invalid) }
            verdict = .trim
        case .writeZeroes:
            guard export.flags.contains(.writeZeroes) else { return .refuse(.invalid) }
            allowed.insert(.noHole)
            if export.flags.contains(.fastZero) { allowed.insert(.fastZero) }
            verdict = .writeZeroes
        case .cache:
            guard export.flags.contains(.cache) else { return .refuse(.invalid) }
            verdict = .cache
        case .blockStatus: return .refuse(.invalid)
        }
        guard flags.isSubset(of: allowed) else { return .refuse(.invalid) }
        let changes = verdict == .write || verdict == .trim || verdict == .writeZeroes
        if changes && export.flags.contains(.readOnly) { return .refuse(.notPermitted) }
        let (end, overflow) = offset.addingReportingOverflow(UInt64(length))
        if overflow || end > export.size {
            return .refuse(verdict == .write || verdict == .writeZeroes ? .noSpace : .invalid)
        }
        let mask = UInt64(export.minimumBlock) &- 1
        guard length != 0, (offset | UInt64(length)) & mask == 0 else { return .refuse(.invalid) }
        return verdict
    }
}
