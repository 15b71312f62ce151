/// P_CONNECTION_FEATURES (0xfffe): protocol_min u32, feature_flags u32, protocol_max u32, pad, 56 reserved bytes.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_connection_features`.
package struct ConnectionFeatures: Equatable, Sendable {
    package var minimumVersion: UInt32
    package var flags: FeatureFlags
    package var maximumVersion: UInt32

    package init(minimumVersion: UInt32, flags: FeatureFlags, maximumVersion: UInt32) {
        self.minimumVersion = minimumVersion
        self.flags = flags
        self.maximumVersion = maximumVersion
    }
}

/// Feature flags (`wire.md` 4.2).
package struct FeatureFlags: OptionSet, Hashable, Sendable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// FF_TRIM
    package static let trim = FeatureFlags(rawValue: 1)
    /// FF_THIN_RESYNC
    package static let thinResync = FeatureFlags(rawValue: 2)
    /// FF_WSAME: P_SIZES carries queue limits, discards up to 128 MiB.
    package static let writeSame = FeatureFlags(rawValue: 4)
    /// FF_WZEROES
    package static let writeZeroes = FeatureFlags(rawValue: 8)
    package static let all: FeatureFlags = [.trim, .thinResync, .writeSame, .writeZeroes]
}

/// P_PROTOCOL (0x0b) and P_PROTOCOL_UPDATE (0x2d): six u32, then (v87+) the integrity algorithm with its NUL.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_protocol`.
package struct ProtocolParameters: Equatable, Sendable {
    /// 1 = A, 2 = B, 3 = C.
    package var replicationProtocol: UInt32
    package var afterSplitBrain0Primaries: UInt32
    package var afterSplitBrain1Primary: UInt32
    package var afterSplitBrain2Primaries: UInt32
    /// 1 = discard my data, 2 = dry run.
    package var connectionFlags: UInt32
    package var twoPrimaries: UInt32
    package var integrityAlgorithm: String

    package init(
        replicationProtocol: UInt32, afterSplitBrain0Primaries: UInt32, afterSplitBrain1Primary: UInt32,
        afterSplitBrain2Primaries: UInt32, connectionFlags: UInt32, twoPrimaries: UInt32, integrityAlgorithm: String
    ) {
        self.replicationProtocol = replicationProtocol
        self.afterSplitBrain0Primaries = afterSplitBrain0Primaries
        self.afterSplitBrain1Primary = afterSplitBrain1Primary
        self.afterSplitBrain2Primaries = afterSplitBrain2Primaries
        self.connectionFlags = connectionFlags
        self.twoPrimaries = twoPrimaries
        self.integrityAlgorithm = integrityAlgorithm
    }
}

/// P_SYNC_PARAM (0x0a) and P_SYNC_PARAM89 (0x23), `wire.md` 3.3 and section 10 for older forms.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_rs_param_95`.
package struct SyncParameters: Equatable, Sendable {
    /// KiB/s
    package var resyncRate: UInt32
    package var verifyAlgorithm: String
    package var checksumAlgorithm: String
    /// 0.1 s
    package var planAhead: UInt32
    /// 0.1 s
    package var delayTarget: UInt32
    /// sectors
    package var fillTarget: UInt32
    /// KiB/s
    package var maximumRate: UInt32

    package init(
        resyncRate: UInt32, verifyAlgorithm: String, checksumAlgorithm: String, planAhead: UInt32, delayTarget: UInt32,
        fillTarget: UInt32, maximumRate: UInt32
    ) {
        self.resyncRate = resyncRate
        self.verifyAlgorithm = verifyAlgorithm
        self.checksumAlgorithm = checksumAlgorithm
        self.planAhead = planAhead
        self.delayTarget = delayTarget
        self.fillTarget = fillTarget
        self.maximumRate = maximumRate
    }
}

/// P_UUIDS (0x0c): six u64, big-endian.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_uuids`.
package struct UUIDsPacket: Equatable, Sendable {
    package var identifiers: GenerationIdentifiers
    /// Number of set bits in the sender's bitmap at that moment.
    package var dirtyBits: UInt64
    package var flags: UUIDFlags

    package init(identifiers: GenerationIdentifiers, dirtyBits: UInt64, flags: UUIDFlags) {
        self.identifiers = identifiers
        self.dirtyBits = dirtyBits
        self.flags = flags
    }
}

/// Flags of P_UUIDS (`wire.md` 4.8).
package struct UUIDFlags: OptionSet, Hashable, Sendable {
    package var rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Sender connects with discard-my-data.
    package static let discardMyData = UUIDFlags(rawValue: 1)
    /// Sender is a crashed Primary.
    package static let crashedPrimary = UUIDFlags(rawValue: 2)
    /// The disk being attached would be Inconsistent.
    package static let inconsistent = UUIDFlags(rawValue: 4)
    /// Skip the initial sync.
    package static let skipInitialSync = UUIDFlags(rawValue: 8)
}

/// P_SIZES (0x0d): 32 bytes, and 24 more of queue limits when FF_WSAME is agreed.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `struct p_sizes` and `struct o_qlim`.
package struct SizesPacket: Equatable, Sendable {
    /// Usable capacity of the backing disk in sectors; 0 if there is none.
    package var diskSize: UInt64
    /// Configured size limit in sectors; 0 if none.
    package var userSize: UInt64
    /// Size of the exported device in sectors; 0 = "tell me yours".
    package var currentSize: UInt64
    /// Bytes.
    package var maximumRequest: UInt32
    package var queueOrderType: UInt16
    /// 1 = resize was forced, 2 = do not resync the grown area.
    package var resizeFlags: UInt16
    /// Only with FF_WSAME.
    package var limits: QueueLimits?

    package init(
        diskSize: UInt64, userSize: UInt64, currentSize: UInt64, maximumRequest: UInt32, queueOrderType: UInt16 = 0,
        resizeFlags: UInt16 = 0, limits: QueueLimits?
    ) {
        self.diskSize = diskSize
        self.userSize = userSize
        self.currentSize = currentSize
        self.maximumRequest = maximumRequest
        self.queueOrderType = queueOrderType
        self.resizeFlags = resizeFlags
        self.limits = limits
    }
}

/// Queue limits of the sender's device, in bytes (the last 24 bytes of P_SIZES).
package struct QueueLimits: Equatable, Sendable {
    package var physicalBlockSize: UInt32
    package var logicalBlockSize: UInt32
    package var alignmentOffset: UInt32
    package var minimumIO: UInt32
    package var optimalIO: UInt32
    package var discardEnabled: Bool
    package var discardZeroesData: Bool
    package var writeSameCapable: Bool

    package init(
        physicalBlockSize: UInt32, logicalBlockSize: UInt32, alignmentOffset: UInt32 = 0, minimumIO: UInt32,
        optimalIO: UInt32 = 0, discardEnabled: Bool, discardZeroesData: Bool = false, writeSameCapable: Bool = false
    ) {
        self.physicalBlockSize = physicalBlockSize
        self.logicalBlockSize = logicalBlockSize
        self.alignmentOffset = alignmentOffset
        self.minimumIO = minimumIO
        self.optimalIO = optimalIO
        self.discardEnabled = discardEnabled
        self.discardZeroesData = discardZeroesData
        self.writeSameCapable = writeSameCapable
    }
}

/// P_STATE_CHG_REQ (0x12) and P_CONN_ST_CHG_REQ (0x2a): mask u32, val u32, both packed like a state word.
package struct StateChangeRequest: Equatable, Sendable {
    package var mask: UInt32
    package var value: UInt32

    package init(mask: UInt32, value: UInt32) {
        self.mask = mask
        self.value = value
    }
}
