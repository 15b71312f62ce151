/// What a volume's state alone does not say, but its legal states depend on.
package struct StateContext: Equatable, Sendable {
    /// `.dontCare` without a disk.
    package var fencing: FencingPolicy
    package var onNoData: OnNoData
    package var allowTwoPrimaries: Bool
    /// A client holds the export open.
    package var exportIsOpen: Bool
    package var verifyAlgorithmSet: Bool
    package var agreedVersion: UInt32
    package var hasNetConfiguration: Bool
    /// What the metadata said about our disk when it was attached; counts while the disk is Negotiating.
    package var attachDiskState: DiskState
    /// What the metadata said about the peer's disk.
    package var attachPeerDisk: DiskState
    /// The data shown to clients (exposed-data UUID) is that of our disk.
    package var exposedMatchesCurrent: Bool
    /// Our P_STATE of the handshake is out, the peer's answer is not in: only the connection state may change.
    package var handshakeRunning: Bool
    /// The resync from our disk has copied everything, and its target has said that it is UpToDate.
    package var targetIsComplete: Bool
    package var peerPrimaryOnOtherVolume: Bool

    package init(
        fencing: FencingPolicy = .dontCare, onNoData: OnNoData = .ioError, allowTwoPrimaries: Bool = false,
        exportIsOpen: Bool = false, verifyAlgorithmSet: Bool = false, agreedVersion: UInt32 = 101,
        hasNetConfiguration: Bool = true, attachDiskState: DiskState = .diskless, attachPeerDisk: DiskState = .unknown,
        exposedMatchesCurrent: Bool = true, handshakeRunning: Bool = false, targetIsComplete: Bool = false,
        peerPrimaryOnOtherVolume: Bool = false
    ) {
        self.fencing = fencing
        self.onNoData = onNoData
        self.allowTwoPrimaries = allowTwoPrimaries
        self.exportIsOpen = exportIsOpen
        self.verifyAlgorithmSet = verifyAlgorithmSet
        self.agreedVersion = agreedVersion
        self.hasNetConfiguration = hasNetConfiguration
        self.attachDiskState = attachDiskState
        self.attachPeerDisk = attachPeerDisk
        self.exposedMatchesCurrent = exposedMatchesCurrent
        self.handshakeRunning = handshakeRunning
        self.targetIsComplete = targetIsComplete
        self.peerPrimaryOnOtherVolume = peerPrimaryOnOtherVolume
    }
}

extension VolumeState {
    /// This wanted state with everything that it implies, in the order of `wire.md` 6.6.
    ///
    /// Every new state passes through here, whoever wants it: what an administrator, a peer or a failure did not say
    /// (a lost peer's role, the disk state that goes with a connection state) is filled in.
    package func sanitized(from old: VolumeState, context: StateContext) -> VolumeState {
        var state = self
        state.forgetPeerWhenDisconnected()
        if state.connection == .standAlone && state.disk == .diskless && state.role == .secondary {
            state.pausedByDependency = false
        }
        if state.connection > .connected && (state.disk <= .failed || state.peerDisk <= .failed) {
            state.connection = .connected
            // Whoever was to be overwritten is still as old as before. DRBD 8.4 lets the next step call that UpToDate.
            state.disk = Self.unfinished(state.disk)
            state.peerDisk = context.targetIsComplete && state.disk <= .failed ? .upToDate : Self.unfinished(state.peerDisk)
        }
        let lacksData = state.disk == .inconsistent || state.peerDisk == .inconsistent
        if state.connection.isVerifying && old.connection.isVerifying && lacksData {
            // There is nothing left to compare with. DRBD 8.4 calls that disk UpToDate, whatever it lacks.
            state.connection = .connected
        }
        if state.connection < .connected && state.disk == .negotiating {
            state.disk = context.exposedMatchesCurrent ? context.attachDiskState : .diskless
            state.peerDisk = context.exposedMatchesCurrent ? context.attachPeerDisk : .unknown
        }
        if state.connection >= .connected && state.connection < .ahead {
            state.disk = Self.settled(state.disk)
            state.peerDisk = Self.settled(state.peerDisk)
        }
        let bounds = DiskBounds(for: state.connection)
        state.disk = state.disk.clamped(to: bounds.disk)
        state.peerDisk = state.peerDisk.clamped(to: bounds.peerDisk)
        state.freezeIfNeeded(from: old, context: context)
        state.followPauses()
        return state
    }

    private mutating func forgetPeerWhenDisconnected() {
        guard connection < .connected else { return }
        pausedByPeer = false
        peerRole = .unknown
        if peerDisk > .unknown || peerDisk < .inconsistent { peerDisk = .unknown }
    }

    /// Consistent and Outdated are doubts about a disk that a connection answers.
    private static func settled(_ disk: DiskState) -> DiskState {
        disk == .consistent || disk == .outdated ? .upToDate : disk
    }

    /// What remains of a resync's target when the source's disk fails before the first block was copied.
    private static func unfinished(_ disk: DiskState) -> DiskState {
        disk == .consistent || disk == .outdated ? .inconsistent : disk
    }

    private mutating func freezeIfNeeded(from old: VolumeState, context: StateContext) {
        if context.fencing == .resourceAndStonith && lostUnfencedPeer && !old.lostUnfencedPeer {
            suspendedFencing = true
        }
        if context.onNoData == .suspendIO && isPrimaryWithoutData && !old.isPrimaryWithoutData {
            suspendedNoData = true
        }
    }

    private mutating func followPauses() {
        let paused = pausedByDependency || pausedByPeer || pausedByUser
        switch (connection, paused) {
        case (.syncSource, true): connection = .pausedSyncS
        case (.syncTarget, true): connection = .pausedSyncT
        case (.pausedSyncS, false): connection = .syncSource
        case (.pausedSyncT, false): connection = .syncTarget
        default: break
        }
    }

    private var lostUnfencedPeer: Bool { role == .primary && connection < .connected && peerDisk > .outdated }

    /// Primary while neither disk is UpToDate.
    package var isPrimaryWithoutData: Bool { role == .primary && disk < .upToDate && peerDisk < .upToDate }

    /// I/O of clients is frozen, for whatever reason.
    package var isSuspended: Bool { suspendedByUser || suspendedNoData || suspendedFencing }
}

/// The disk states that go with a connection state (`wire.md` 6.6, step 6), as raw values.
private struct DiskBounds {
    var disk: ClosedRange<UInt8>
    var peerDisk: ClosedRange<UInt8>

    init(for connection: ConnectionState) {
        switch connection {
        case .wfBitMapT, .pausedSyncT, .startingSyncT, .wfSyncUUID, .behind:
            self.init(.inconsistent, .outdated, .upToDate, .upToDate)
        case .syncTarget:
            self.init(.inconsistent, .inconsistent, .upToDate, .upToDate)
        case .verifyS, .verifyT:
            self.init(.upToDate, .upToDate, .upToDate, .upToDate)
        case .connected:
            self.init(.diskless, .upToDate, .diskless, .upToDate)
        case .wfBitMapS, .pausedSyncS, .startingSyncS, .ahead:
            self.init(.upToDate, .upToDate, .inconsistent, .consistent)
        case .syncSource:
            self.init(.upToDate, .upToDate, .inconsistent, .inconsistent)
        case .standAlone, .disconnecting, .unconnected, .timeout, .brokenPipe, .networkFailure, .protocolError,
            .tearDown, .wfConnection, .wfReportParams:
            self.init(.diskless, .upToDate, .inconsistent, .unknown)
        }
    }

    private init(_ diskLow: DiskState, _ diskHigh: DiskState, _ peerLow: DiskState, _ peerHigh: DiskState) {
        disk = diskLow.rawValue...diskHigh.rawValue
        peerDisk = peerLow.rawValue...peerHigh.rawValue
    }
}
