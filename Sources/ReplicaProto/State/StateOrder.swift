/// DRBD gives its states numbers whose order carries meaning (`wire.md` 6.1). Tests of that order have names here; the
/// comparison operators exist for the tables of the constitution (`State/`), which quote DRBD's own conditions.

extension ConnectionState {
    /// Connected or beyond: the handshake with the peer is over.
    package var isConnected: Bool { rawValue >= ConnectionState.connected.rawValue }
    /// Beyond Connected: a resync, a verify, Ahead or Behind.
    package var isBeyondConnected: Bool { rawValue > ConnectionState.connected.rawValue }
    /// WFReportParams or beyond: packets of the replication protocol may travel.
    package var hasHandshake: Bool { rawValue >= ConnectionState.wfReportParams.rawValue }
    /// Timeout...TearDown: a connection that is going down and comes back by itself.
    package var isFailing: Bool {
        rawValue >= ConnectionState.timeout.rawValue && rawValue <= ConnectionState.tearDown.rawValue
    }
    /// TearDown or below: no connection, or one that is going down.
    package var isDown: Bool { rawValue <= ConnectionState.tearDown.rawValue }
    /// SyncSource...PausedSyncT without verify: blocks travel, or would.
    package var isResyncing: Bool {
        switch self {
        case .syncSource, .syncTarget, .pausedSyncS, .pausedSyncT: true
        default: false
        }
    }
    /// VerifyS or VerifyT.
    package var isVerifying: Bool { self == .verifyS || self == .verifyT }
    /// A resync is being prepared, runs or is paused, and we are the one that is copied from.
    package var isSyncSourceSide: Bool {
        switch self {
        case .startingSyncS, .wfBitMapS, .syncSource, .pausedSyncS: true
        default: false
        }
    }
    /// A resync is being prepared, runs or is paused, and we are the one that is copied to.
    package var isSyncTargetSide: Bool {
        switch self {
        case .startingSyncT, .wfBitMapT, .wfSyncUUID, .syncTarget, .pausedSyncT: true
        default: false
        }
    }

    @inlinable package static func < (left: ConnectionState, right: ConnectionState) -> Bool { left.rawValue < right.rawValue }
    @inlinable package static func <= (left: ConnectionState, right: ConnectionState) -> Bool { left.rawValue <= right.rawValue }
    @inlinable package static func > (left: ConnectionState, right: ConnectionState) -> Bool { left.rawValue > right.rawValue }
    @inlinable package static func >= (left: ConnectionState, right: ConnectionState) -> Bool { left.rawValue >= right.rawValue }
}

extension DiskState {
    @inlinable package static func < (left: DiskState, right: DiskState) -> Bool { left.rawValue < right.rawValue }
    @inlinable package static func <= (left: DiskState, right: DiskState) -> Bool { left.rawValue <= right.rawValue }
    @inlinable package static func > (left: DiskState, right: DiskState) -> Bool { left.rawValue > right.rawValue }
    @inlinable package static func >= (left: DiskState, right: DiskState) -> Bool { left.rawValue >= right.rawValue }
    /// This state brought into `range`.
    func clamped(to range: ClosedRange<UInt8>) -> DiskState {
        if rawValue < range.lowerBound { return DiskState(rawValue: range.lowerBound) ?? self }
        if rawValue > range.upperBound { return DiskState(rawValue: range.upperBound) ?? self }
        return self
    }
}
