/// One volume: its disk-side state, what it knows of the peer's disk, and what runs on it.
struct Volume {
    let number: VolumeNumber
    var minor: UInt32
    var state = VolumeState()

    // MARK: Disk
    var disk: DiskConfiguration?
    var diskOptions = DiskOptions()
    /// Everything of the superblock that is not derived from the state.
    var superblock: Superblock?
    /// As last written (and, if `md-flushes`, durable).
    var writtenSuperblock: Superblock?
    var identifiers = GenerationIdentifiers(current: 0)
    var bitmap = DirtyBitmap(bits: 0)
    var activityLog = ActivityLog(slots: 1)
    /// Capacity that the metadata leaves for data, in sectors; 0 without disk.
    var usableSectors: UInt64 = 0
    /// The same of a device that has grown, once its metadata have moved.
    var usableAfterMove: UInt64?
    /// Where the metadata lies.
    var layout: MetadataLayout?
    /// The metadata is on its way to another place: FULL_SYNC stands for what is not there yet.
    var metadataIsMoving = false
    /// Where a superblock is left that does not count any more.
    var staleSuperblock: Sector?
    /// Changes of size that have not ended; the first is under way.
    var sizeChanges: [SizeChange] = []
    /// Our device has grown by command, and the peer has not answered yet.
    var resizePending = false
    /// What we have asked the peer for, until it has answered, and our size and role before.
    /// Our role as the peer knows it.
    var toldRole = Role.unknown
    var resizeAsked: (assumesClean: Bool, from: UInt64, role: Role)?
    /// What our disk offers has changed, and the peer does not know yet.
    var ownDiskChanged = false
    /// The resync that begins is that of a grown area: without an exchange of bitmaps.
    var resyncsGrowth = false
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
    /// A write was answered that only the peer's disk has, since our own went away. The peer says so with a new
    /// identifier, but its acknowledgement travels on the other stream and may be faster.
    var ownDiskIsBehind = false
    /// A write was answered (protocols A and B) that the peer refused, or had not confirmed when its connection was lost: without a
    /// disk of our own nobody may go on with the peer's, although its identifier is the one that we know.
    var peerIsBehind = false
    /// The bitmap on disk is not authoritative (FULL_SYNC).
    var fullSyncFlag = false
    /// Whole-bitmap writes that are not durable yet.
    var fullSyncsRunning = 0
    var activityLogDisabled = false
    /// Disk I/O in flight, data only.
    var localPending = 0
    /// No metadata I/O any more: one has failed.
    var metadataBroken = false
    /// The disk is being closed after its I/O has drained.
    var isClosing = false
    /// Closing leaves metadata that any attach accepts.
    var closesCleanly = false
    var detachCommand: CommandID?
    /// It did not answer, and is asked for nothing more: what it holds is what a crash would leave.
    var isAbandoned = false
    /// Leaves by `detach --force`.
    var isForcedOff = false
    /// A detach that waits until the peer has confirmed all writes.
    var detachWaits: CommandID?
    var attachCommand: CommandID?
    /// The metadata is ready, but a handshake runs that told the peer of no disk.
    var attachIsPutOff = false
    var hadReadError = false
    /// CONNECTED_IND as found at attach: wait-connect takes the degraded time if it was not set on a crashed Primary.
    var wasConnectedAtCrash = false

    // MARK: Metadata queue
    var metadata = MetadataQueue()

    // MARK: Clients
    /// Unanswered client requests in order of arrival.
    var active = RequestList()
    /// Of those: held back by something.
    var waitingCount = 0
    /// Unanswered writes and discards.
    var activeWrites = 0
    /// Something that waiting requests wait for has ended in this step.
    var retryWanted = false
    var openCount = 0
    /// The current identifier changes on disk because the peer was lost; no reply that relies on our disk alone
    /// leaves before that is durable.
    var isRotating = false
    /// The peer is told when it is.
    var tellsRotation = false
    /// The same, put off while I/O is frozen.
    var rotationDeferred = false
    /// Our disk becomes Inconsistent on disk because it failed a request that the peer's did not; no reply to such a
    /// request leaves before that is durable: after a crash the disk would pass for good.
    var isDegrading = false
    /// A Primary without a disk has not said yet that it goes on with our data.
    var rotatesOnceAccepted = false
    /// The change under way is one that the peer asked for.
    var obeysPeer = false
    /// A new generation could not be made durable: what only our disk has does not count.
    var rotationFailed = false
    /// What the current identifier was before the last rotation.
    var rotatedFrom: UInt64 = 0
    /// A new identifier that was given up when its write failed, or did not end.
    var doubtfulIdentifier: UInt64 = 0
    /// Clients may be let in: the promotion is durable, and no demotion is under way.
    var mayServe = false
    var lastExport: ExportState?

    /// read-balancing round-robin.
    var readsRemotelyNext = true

    // MARK: Peer
    var peerIdentifiers: GenerationIdentifiers?
    var peerFlags: UUIDFlags = []
    var peerDirtyBits: UInt64 = 0
    /// Our identifiers have changed without a P_UUIDS: a first resync was skipped because the peer said so.
    var peerHasOldIdentifiers = false
    /// As told in our last P_UUIDS.
    var communicatedBits: UInt64 = 0
    var peerDiskSize: UInt64 = 0
    var peerMaximumRequest: UInt32 = 32_768
    var peerLimits: QueueLimits?
    /// Our counter for writes and block acks, used after incrementing.
    var sequence: UInt32 = 0
    /// The peer's highest number seen.
    var peerSequence: UInt32 = 0
    /// Received writes that wait for acknowledgements which the peer gave before them.
    var sequenceWaiters = 0
    /// Writes that met one of the other Primary and were overruled, on either node.
    var conflicts: UInt64 = 0
    var discardMyData = false
    /// A forced promotion of the peer while both disks are Inconsistent.
    var peerForcedPromotion = false
    /// Whether a crash of ours would leave a log that counts for the writes of a diskless Primary.
    var peerGuard = PeerGuard.off
    /// The peer will say once more how it sees itself after the handshake (`wire.md` 6.2); until then what we know of
    /// its disk is from before.
    var owesSecondState = false
    /// No packet of this volume has come since our handshake packets left.
    var heardNothing = false
    /// The peer has no such volume: it ignores what we say of it, and until it creates one we go on alone.
    var isLonely = false
    /// The current identifier when we introduced the volume.
    var toldIdentifier: UInt64 = 0
    /// Our P_STATE of the handshake is out.
    var sentHandshake = false

    /// What the comparison with an attaching peer's identifiers made of ours, until it has been told what they were.
    var identifierCorrection: GenerationIdentifiers?

    // MARK: Resync
    /// Our bitmap goes out at the end of this step.
    var sendsBitmap = false
    var transferIn: BitmapReceiver?
    var resync: Resync?
    /// Runs so far.
    var resyncCount: UInt64 = 0
    /// P_SYNC_UUID that came before we were ready for it.
    var pendingSyncUUID: UInt64?
    /// Resync blocks that we sent and the target has said nothing about yet.
    var resyncRepliesPending = 0
    /// Sectors of writes that were sent, or wait to be, and whose epoch is not acknowledged.
    var inFlightSectors: UInt64 = 0
    /// The end of a resync to our disk is being made durable; the source has not been told.
    var owesResyncEnd = false
    /// While Ahead: when to see whether the peer has caught up.
    var catchUpAt: Instant?
    /// While Ahead: a ping is to tell that the peer has processed our last answers.
    var asksToCatchUp = false
    /// The handler that stands between the bitmap exchange and the resync. One of an earlier attempt has no say.
    var resyncHandler: HandlerID?
    /// local-io-error runs: no new write, and the peer hears of the disk afterwards, since the node may be about to be reset.
    var ioErrorHandler: HandlerID?
    /// It has ended, and the peer is to be told.
    var owesDiskNews = false

    // MARK: Online verify
    var verify: OnlineVerify?
    /// Where the next run begins if nobody says otherwise: where the last one was interrupted.
    var verifyStart: UInt64 = 0
    /// Where the next run ends; `.max` for the end of the device.
    var verifyStop = UInt64.max

    var counters = VolumeCounters()
    var latencies = Latencies()

    init(number: VolumeNumber, minor: UInt32) {
        self.number = number
        self.minor = minor
    }

    @inline(__always) var hasDisk: Bool { state.disk.isUsable }
    /// before-resync-target runs, or waits for its turn.
    @inline(__always) var isBeforeResyncTarget: Bool {
        resyncHandler != nil && (state.connection == .wfSyncUUID || state.connection == .behind)
    }
    /// The peer knows our state and has not told its own.
    @inline(__always) var isInHandshake: Bool { sentHandshake && state.connection == .wfReportParams && !isLonely }
    @inline(__always) var isSuspended: Bool { state.suspendedByUser || state.suspendedNoData || state.suspendedFencing }
}

/// PRIMARY_IND and the generation that a diskless peer's writes belong to, on their way to the superblock.
enum PeerGuard: UInt8 { case off, written, durable }

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
    /// SyncSource ... PausedSyncT: writes may be marked in sync (`wire.md` 7.2).
    var mayClearBits: Bool { isResyncing || isVerifying }
    var isSyncTarget: Bool { self == .syncTarget || self == .pausedSyncT }
    var isSyncSource: Bool { self == .syncSource || self == .pausedSyncS }
    /// Seven of ten: waiting for the peer, or shaking hands with it.
    var wantsPeer: Bool { self != .standAlone && self != .disconnecting }
}
