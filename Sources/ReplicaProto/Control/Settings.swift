/// Resolved settings of a resource, as the daemon and the core use them. Numbers are in the unit that the comment
/// names; defaults are those of DRBD 8.4.11 (`control.md` 1.9).
package enum ReplicationProtocol: UInt8, Equatable, Sendable, CaseIterable {
    case a = 1
    case b = 2
    case c = 3
}

package enum OnIOError: UInt8, Equatable, Sendable { case passOn, callLocalIOError, detach }
package enum FencingPolicy: UInt8, Equatable, Sendable { case dontCare, resourceOnly, resourceAndStonith }
package enum OnNoData: UInt8, Equatable, Sendable { case ioError, suspendIO }
package enum OnCongestion: UInt8, Equatable, Sendable { case block, pullAhead, disconnect }

/// after-sb-*pri and rr-conflict; raw values as on the wire (`wire.md` 5.6).
package enum SplitBrainPolicyValue: UInt32, Equatable, Sendable, CaseIterable {
    case disconnect = 0
    case discardYoungerPrimary = 1
    case discardOlderPrimary = 2
    case discardZeroChanges = 3
    case discardLeastChanges = 4
    case discardLocal = 5
    case discardRemote = 6
    case consensus = 7
    case discardSecondary = 8
    case callPriLost = 9
    case violently = 10
}

/// read-balancing.
package enum ReadBalancing: Equatable, Sendable {
    case preferLocal, preferRemote, roundRobin, leastPending, whenCongestedRemote
    /// Stripe size as a power of two in bytes (15 = 32K ... 20 = 1M).
    case striping(shift: UInt8)
}

package struct DiskOptions: Equatable, Sendable {
    /// Sectors; 0 = all.
    package var size: UInt64 = 0
    package var onIOError: OnIOError = .detach
    package var fencing: FencingPolicy = .dontCare
    package var diskBarrier = false
    package var diskFlushes = true
    package var diskDrain = true
    package var mdFlushes = true
    /// 0.1 s; 0 = off.
    package var diskTimeout = 0
    package var readBalancing: ReadBalancing = .preferLocal
    /// Bytes.
    package var rsDiscardGranularity = 0
    package var discardZeroesIfAligned = true
    package var disableWriteSame = false
    /// KiB/s
    package var resyncRate = 250
    /// Minor of the volume to wait for, -1 = none.
    package var resyncAfter = -1
    package var alExtents = 1237
    package var alUpdates = true
    /// 0.1 s
    package var cPlanAhead = 20
    /// 0.1 s
    package var cDelayTarget = 10
    /// Sectors
    package var cFillTarget = 100
    /// KiB/s
    package var cMaxRate = 102_400
    /// KiB/s
    package var cMinRate = 250
    package var maxBioBvecs = 0

    package init() {}
}

package struct NetOptions: Equatable, Sendable {
    package var replicationProtocol: ReplicationProtocol = .c
    /// 0.1 s
    package var timeout = 60
    /// s
    package var connectInterval = 10
    /// s
    package var pingInterval = 10
    /// 0.1 s
    package var pingTimeout = 5
    /// Pages
    package var maxBuffers = 2048
    package var maxEpochSize = 2048
    package var unplugWatermark = 128
    /// Bytes; 0 = automatic.
    package var sendBufferSize = 0
    package var receiveBufferSize = 0
    package var koCount = 7
    package var allowTwoPrimaries = false
    package var cramHMACAlgorithm = ""
    package var sharedSecret = ""
    package var dataIntegrityAlgorithm = ""
    package var verifyAlgorithm = ""
    package var checksumAlgorithm = ""
    package var checksumsAfterCrashOnly = false
    package var useRLE = true
    package var afterSplitBrain0Primaries: SplitBrainPolicyValue = .disconnect
    package var afterSplitBrain1Primary: SplitBrainPolicyValue = .disconnect
    package var afterSplitBrain2Primaries: SplitBrainPolicyValue = .disconnect
    package var rrConflict: SplitBrainPolicyValue = .disconnect
    package var alwaysAfterSplitBrainPolicies = false
    package var tcpCork = true
    package var onCongestion: OnCongestion = .block
    /// Sectors
    package var congestionFill: UInt64 = 0
    package var congestionExtents = 1237
    /// 0.1 s; 0 = as ping-timeout.
    package var socketCheckTimeout = 0

    package init() {}
}

package struct ResourceOptions: Equatable, Sendable {
    package var cpuMask = ""
    package var onNoDataAccessible: OnNoData = .ioError

    package init() {}
}

/// Where the metadata of a volume lies (`metadata.md` 1.1).
package enum MetadataIndex: Equatable, Sendable {
    case `internal`
    case flexible
    case indexed(UInt32)
}

/// A backing disk as `attach` names it.
package struct DiskConfiguration: Equatable, Sendable {
    package var dataPath: String
    /// Equal to `dataPath` for internal metadata.
    package var metadataPath: String
    package var index: MetadataIndex
    package var options: DiskOptions

    package init(dataPath: String, metadataPath: String, index: MetadataIndex, options: DiskOptions) {
        self.dataPath = dataPath
        self.metadataPath = metadataPath
        self.index = index
        self.options = options
    }
}

/// One end of a connection.
package struct SocketAddress: Equatable, Sendable, CustomStringConvertible {
    /// "ipv4" or "ipv6".
    package var family: String
    /// Literal address, IPv6 without brackets, optionally with %scope.
    package var host: String
    package var port: UInt16

    package init(family: String, host: String, port: UInt16) {
        self.family = family
        self.host = host
        self.port = port
    }
    /// `ipv4:10.0.0.1:7788`, `ipv6:[fd00::1]:7788`.
    package var description: String {
        family == "ipv6" ? "ipv6:[\(host)]:\(port)" : "\(family):\(host):\(port)"
    }
}

/// A connection as `connect` names it.
package struct ConnectionConfiguration: Equatable, Sendable {
    package var local: SocketAddress
    package var remote: SocketAddress
    package var options: NetOptions
    /// Only for this attempt.
    package var discardMyData: Bool
    /// Dry run: handshake, log the decision, disconnect.
    package var tentative: Bool

    package init(
        local: SocketAddress, remote: SocketAddress, options: NetOptions, discardMyData: Bool = false,
        tentative: Bool = false
    ) {
        self.local = local
        self.remote = remote
        self.options = options
        self.discardMyData = discardMyData
        self.tentative = tentative
    }
}
