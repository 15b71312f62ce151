/// One volume: its disk-side state, what it knows of the peer's disk, and what runs on it.
struct Volume {
    let number: VolumeNumber
    var minor: UInt32
    var state = VolumeState()

    // MARK: Disk
    var disk: DiskConfiguration?
    var diskOptions = DiskOptions()
    var layout: MetadataPlacement?
    /// Everything of the superblock that is not derived from the state.
    var superblock: Superblock?
    /// As last written (and, if `md-flushes`, durable).
    var writtenSuperblock: Superblock?
    var identifiers = GenerationIdentifiers(current: 0)
    var bitmap = DirtyBitmap(bits: 0)
    var activityLog = ActivityLog(slots: 0)
    /// Capacity that the metadata leaves for data, in sectors; 0 without disk.
    var usableSectors: UInt64 = 0
    /// Size of the exported device in sectors; 0 while unknown.
    var sectors: UInt64 = 0
    var logicalBlockSize: UInt32 = 512
    var physicalBlockSize: UInt32 = 4096
    var canDiscard = true
    /// Disk state (and the peer's) that the metadata speaks for, decided at attach.
    var attachDiskState = DiskState.inconsistent
    var attachPeerDisk = DiskState.unknown
    /// Was Primary when it went down, not in sync with the peer since.
    var isCrashedPrimary = false
    /// Current identifier of the data that applications see; with a disk it follows the disk's.
    var exposedIdentifier: UInt64 = 0
    /// The bitmap on disk is not authoritative.
    var fullSyncFlag = false
    var activityLogDisabled = false
    /// Disk I/O in flight, data only.
    var localPending = 0
    var isClosing = false
    var hadReadError = false

    // MARK: Metadata queue
    var metadata = MetadataQueue()

    // MARK: Clients
    /// Unanswered client requests in order of arrival.
    var active = RequestList()
    /// Of those: held back by something.
    var waitingCount = 0
    /// Something that waiting requests wait for has ended in this step.
    var retryWanted = false
    var openCount = 0
    /// The current identifier changes on disk because the peer was lost; no reply that relies on our disk alone
    /// leaves before that is durable.
    var isRotating = false
    var lastExport: ExportState?

    // MARK: Peer
    var peerIdentifiers: GenerationIdentifiers?
    var peerFlags: UUIDFlags = []
    var peerDirtyBits: UInt64 = 0
    /// As told in our last P_UUIDS.
    var communicatedBits: UInt64 = 0
    var peerDiskSize: UInt64 = 0
    var peerMaximumRequest: UInt32 = 32_768
    var peerLimits: QueueLimits?
    /// Our counter for writes and block acks, used after incrementing.
    var sequence: UInt32 = 0
    /// The peer's highest number seen.
    var peerSequence: UInt32 = 0
    var discardMyData = false
    /// A forced promotion of the peer while both disks are Inconsistent.
    var peerForcedPromotion = false
    /// Our P_STATE of the handshake is out.
    var sentHandshake = false

    // MARK: Resync
    var transferOut: BitmapSender?
    var transferIn: BitmapReceiver?
    var resync: Resync?
    /// P_SYNC_UUID that came before we were ready for it.
    var pendingSyncUUID: UInt64?
    var bitmapReceivedEarly = false

    var counters = VolumeCounters()

    init(number: VolumeNumber, minor: UInt32) {
        self.number = number
        self.minor = minor
    }

    var hasDisk: Bool { state.disk.isUsable }
    var isSuspended: Bool { state.suspendedByUser || state.suspendedNoData || state.suspendedFencing }
}

extension DiskState {
    /// Inconsistent or better: there is a local disk to read and write.
    var isUsable: Bool {
        switch self {
        case .inconsistent, .outdated, .consistent, .upToDate: true
        case .diskless, .attaching, .failed, .negotiating, .unknown: false
        }
    }
    /// Of our own disk: attached far enough to have metadata (Negotiating or better).
    var hasMetadata: Bool { self == .negotiating || isUsable }
    /// Of a peer: there is a disk that writes can go to.
    var isThere: Bool {
        switch self {
        case .inconsistent, .outdated, .consistent, .upToDate, .unknown: true
        case .diskless, .attaching, .failed, .negotiating: false
        }
    }
}

extension ConnectionState {
    var isConnected: Bool { rawValue >= ConnectionState.connected.rawValue }
    /// SyncSource ... PausedSyncT: writes may be marked in sync (`wire.md` 7.2).
    var mayClearBits: Bool {
        switch self {
        case .syncSource, .syncTarget, .verifyS, .verifyT, .pausedSyncS, .pausedSyncT: true
        default: false
        }
    }
    var isSyncTarget: Bool { self == .syncTarget || self == .pausedSyncT }
    var isSyncSource: Bool { self == .syncSource || self == .pausedSyncS }
    var isSyncing: Bool { isSyncTarget || isSyncSource }
    /// A resync or verify is being prepared or runs.
    var isBusy: Bool { isConnected && self != .connected && self != .ahead && self != .behind }
    /// 0...7: on the way down or not trying.
    var isDown: Bool { rawValue <= ConnectionState.tearDown.rawValue }
    /// 3...7: lost or given up, cleaning up.
    var isFailing: Bool {
        switch self {
        case .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown: true
        default: false
        }
    }
}
