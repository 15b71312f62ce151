/// What a client is told about the device it opens.
///
/// Source: `doc/proto.md` of the NBD project, "Transmission flags", "NBD_INFO_EXPORT", "NBD_INFO_BLOCK_SIZE".
package struct NBDExport: Equatable, Sendable {
    /// The name under which it is known; told to clients that ask (NBD_INFO_NAME).
    package var name: String
    /// For humans (NBD_INFO_DESCRIPTION).
    package var description: String
    /// Bytes.
    package var size: UInt64
    package var flags: NBDTransmissionFlags
    /// Bytes; a power of two. Offsets and lengths of requests are multiples of it.
    package var minimumBlock: UInt32
    /// Bytes; a power of two.
    package var preferredBlock: UInt32
    /// Bytes: the largest payload that a client shall send or ask for. We take twice as much.
    package var maximumPayload: UInt32

    package init(
        name: String, description: String = "", size: UInt64, flags: NBDTransmissionFlags = .standard,
        minimumBlock: UInt32 = 512, preferredBlock: UInt32 = 4096, maximumPayload: UInt32 = Limits.nbdAdvertisedPayload
    ) {
        self.name = name
        self.description = description
        self.size = size
        self.flags = flags
        self.minimumBlock = minimumBlock
        self.preferredBlock = preferredBlock
        self.maximumPayload = maximumPayload
    }
}

/// What a server can do with one export (NBD_FLAG_*, 16 bits).
package struct NBDTransmissionFlags: OptionSet, Hashable, Sendable {
    package var rawValue: UInt16
    @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue }

    /// NBD_FLAG_HAS_FLAGS
    @inlinable package static var hasFlags: Self { Self(rawValue: 1 << 0) }
    /// NBD_FLAG_READ_ONLY
    @inlinable package static var readOnly: Self { Self(rawValue: 1 << 1) }
    /// NBD_FLAG_SEND_FLUSH
    @inlinable package static var flush: Self { Self(rawValue: 1 << 2) }
    /// NBD_FLAG_SEND_FUA
    @inlinable package static var fua: Self { Self(rawValue: 1 << 3) }
    /// NBD_FLAG_ROTATIONAL
    @inlinable package static var rotational: Self { Self(rawValue: 1 << 4) }
    /// NBD_FLAG_SEND_TRIM
    @inlinable package static var trim: Self { Self(rawValue: 1 << 5) }
    /// NBD_FLAG_SEND_WRITE_ZEROES
    @inlinable package static var writeZeroes: Self { Self(rawValue: 1 << 6) }
    /// NBD_FLAG_SEND_DF: only true where structured replies are agreed; the handshake removes it otherwise.
    @inlinable package static var dontFragment: Self { Self(rawValue: 1 << 7) }
    /// NBD_FLAG_CAN_MULTI_CONN: a flush on one connection covers writes answered on all.
    @inlinable package static var multiConnection: Self { Self(rawValue: 1 << 8) }
    /// NBD_FLAG_SEND_CACHE
    @inlinable package static var cache: Self { Self(rawValue: 1 << 10) }
    /// NBD_FLAG_SEND_FAST_ZERO
    @inlinable package static var fastZero: Self { Self(rawValue: 1 << 11) }

    /// What a replicated device offers.
    @inlinable package static var standard: Self {
        [.hasFlags, .flush, .fua, .trim, .writeZeroes, .dontFragment, .multiConnection, .cache]
    }
}

/// An error as an NBD client understands it; numbers are fixed by the protocol, whatever errno says here.
package enum NBDError: UInt32, Equatable, Sendable, CaseIterable {
    /// NBD_EPERM
    case notPermitted = 1
    /// NBD_EIO
    case io = 5
    /// NBD_ENOMEM
    case noMemory = 12
    /// NBD_EINVAL
    case invalid = 22
    /// NBD_ENOSPC
    case noSpace = 28
    /// NBD_EOVERFLOW
    case overflow = 75
    /// NBD_ENOTSUP
    case notSupported = 95
    /// NBD_ESHUTDOWN
    case shutdown = 108

    @inlinable package init(_ error: ClientError) {
        switch error {
        case .io: self = .io
        case .notPermitted: self = .notPermitted
        case .invalid: self = .invalid
        case .noSpace: self = .noSpace
        case .shutdown: self = .shutdown
        }
    }
}
