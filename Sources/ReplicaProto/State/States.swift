/// A node's role. Raw values are those of the packed state word (`wire.md` 6.1).
package enum Role: UInt8, Sendable, CaseIterable {
    case unknown = 0
    case primary = 1
    case secondary = 2

    package var name: String {
        switch self {
        case .unknown: "Unknown"
        case .primary: "Primary"
        case .secondary: "Secondary"
        }
    }
}

/// State of a disk, ours or the peer's. Raw values are those of the packed state word (`wire.md` 6.1).
package enum DiskState: UInt8, Sendable, CaseIterable {
    case diskless = 0
    case attaching = 1
    case failed = 2
    case negotiating = 3
    case inconsistent = 4
    case outdated = 5
    /// Only ever said of a peer.
    case unknown = 6
    case consistent = 7
    case upToDate = 8

    package var name: String {
        switch self {
        case .diskless: "Diskless"
        case .attaching: "Attaching"
        case .failed: "Failed"
        case .negotiating: "Negotiating"
        case .inconsistent: "Inconsistent"
        case .outdated: "Outdated"
        case .unknown: "DUnknown"
        case .consistent: "Consistent"
        case .upToDate: "UpToDate"
        }
    }
}

/// Connection and replication state. Raw values are those of the packed state word (`wire.md` 6.1).
/// The first ten are common to all volumes of a connection, the others belong to one volume.
package enum ConnectionState: UInt8, Sendable, CaseIterable {
    case standAlone = 0
    case disconnecting = 1
    case unconnected = 2
    case timeout = 3
    case brokenPipe = 4
    case networkFailure = 5
    case protocolError = 6
    case tearDown = 7
    case wfConnection = 8
    case wfReportParams = 9
    case connected = 10
    case startingSyncS = 11
    case startingSyncT = 12
    case wfBitMapS = 13
    case wfBitMapT = 14
    case wfSyncUUID = 15
    case syncSource = 16
    case syncTarget = 17
    case verifyS = 18
    case verifyT = 19
    case pausedSyncS = 20
    case pausedSyncT = 21
    case ahead = 22
    case behind = 23

    package var name: String {
        switch self {
        case .standAlone: "StandAlone"
        case .disconnecting: "Disconnecting"
        case .unconnected: "Unconnected"
        case .timeout: "Timeout"
        case .brokenPipe: "BrokenPipe"
        case .networkFailure: "NetworkFailure"
        case .protocolError: "ProtocolError"
        case .tearDown: "TearDown"
        case .wfConnection: "WFConnection"
        case .wfReportParams: "WFReportParams"
        case .connected: "Connected"
        case .startingSyncS: "StartingSyncS"
        case .startingSyncT: "StartingSyncT"
        case .wfBitMapS: "WFBitMapS"
        case .wfBitMapT: "WFBitMapT"
        case .wfSyncUUID: "WFSyncUUID"
        case .syncSource: "SyncSource"
        case .syncTarget: "SyncTarget"
        case .verifyS: "VerifyS"
        case .verifyT: "VerifyT"
        case .pausedSyncS: "PausedSyncS"
        case .pausedSyncT: "PausedSyncT"
        case .ahead: "Ahead"
        case .behind: "Behind"
        }
    }
}

/// Everything that the packed 32-bit state word says about one volume, from one node's point of view.
package struct VolumeState: Equatable, Sendable {
    package var role: Role = .secondary
    package var peerRole: Role = .unknown
    package var connection: ConnectionState = .standAlone
    package var disk: DiskState = .diskless
    package var peerDisk: DiskState = .unknown
    /// I/O frozen by `suspend-io`.
    package var suspendedByUser = false
    /// Resync paused by a `resync-after` dependency of ours.
    package var pausedByDependency = false
    /// Resync paused by the peer (its dependency or its administrator).
    package var pausedByPeer = false
    /// Resync paused by `pause-sync` here.
    package var pausedByUser = false
    /// I/O frozen because no up-to-date data can be reached.
    package var suspendedNoData = false
    /// I/O frozen until the peer is fenced.
    package var suspendedFencing = false

    package init() {}
}

/// The four generation identifiers of one disk (`wire.md` 5.1). Bit 0 of each is not part of the identity.
package struct GenerationIdentifiers: Equatable, Sendable {
    /// "Just created": fresh metadata that never saw data.
    package static let justCreated: UInt64 = 4

    /// UI_CURRENT
    package var current: UInt64
    /// UI_BITMAP
    package var bitmap: UInt64
    /// UI_HISTORY_START
    package var history0: UInt64
    /// UI_HISTORY_END
    package var history1: UInt64

    package init(current: UInt64, bitmap: UInt64 = 0, history0: UInt64 = 0, history1: UInt64 = 0) {
        self.current = current
        self.bitmap = bitmap
        self.history0 = history0
        self.history1 = history1
    }
}
