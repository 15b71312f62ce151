/// How a state change ended: positive is success. Raw values travel in P_STATE_CHG_REPLY and reach the administrator
/// as state change error numbers (`wire.md` 6.4, `control.md` 2.11).
package enum StateChangeResult: Int32, Equatable, Sendable, CaseIterable, Error {
    /// SS_CW_NO_NEED: no cluster-wide agreement needed; local only.
    case noAgreementNeeded = 4
    /// SS_CW_SUCCESS: granted by the peer; local only.
    case grantedByPeer = 3
    /// SS_NOTHING_TO_DO
    case nothingToDo = 2
    /// SS_SUCCESS
    case success = 1
    /// SS_UNKNOWN_ERROR: keep waiting.
    case unknown = 0
    /// SS_TWO_PRIMARIES
    case twoPrimaries = -1
    /// SS_NO_UP_TO_DATE_DISK
    case noUpToDateDisk = -2
    /// SS_NO_LOCAL_DISK
    case noLocalDisk = -4
    /// SS_NO_REMOTE_DISK
    case noRemoteDisk = -5
    /// SS_CONNECTED_OUTDATES
    case connectedOutdates = -6
    /// SS_PRIMARY_NOP: primary while the peer is not known to be outdated.
    case peerNotOutdated = -7
    /// SS_RESYNC_RUNNING
    case resyncRunning = -8
    /// SS_ALREADY_STANDALONE
    case alreadyStandAlone = -9
    /// SS_CW_FAILED_BY_PEER; local only.
    case refusedByPeer = -10
    /// SS_IS_DISKLESS
    case diskless = -11
    /// SS_DEVICE_IN_USE
    case deviceInUse = -12
    /// SS_NO_NET_CONFIG
    case noNetConfiguration = -13
    /// SS_NO_VERIFY_ALG
    case noVerifyAlgorithm = -14
    /// SS_NEED_CONNECTION
    case needConnection = -15
    /// SS_LOWER_THAN_OUTDATED
    case lowerThanOutdated = -16
    /// SS_NOT_SUPPORTED
    case peerTooOld = -17
    /// SS_IN_TRANSIENT_STATE: retry after the next change.
    case inTransientState = -18
    /// SS_CONCURRENT_ST_CHG
    case concurrentChange = -19
    /// SS_O_VOL_PEER_PRI
    case otherVolumePeerPrimary = -20
    /// SS_OUTDATE_WO_CONN
    case outdateWithoutConnection = -21

    package var isSuccess: Bool { rawValue >= 1 }

    /// The words that administrators and monitors know.
    package var text: String {
        switch self {
        case .noAgreementNeeded: "No need to perform a cluster-wide change"
        case .grantedByPeer: "Success (cluster-wide)"
        case .nothingToDo: "Nothing to do"
        case .success: "Success"
        case .unknown: "Unknown error"
        case .twoPrimaries: "Multiple primaries not allowed by config"
        case .noUpToDateDisk: "Need access to UpToDate data"
        case .noLocalDisk: "Can not resync without local disk"
        case .noRemoteDisk: "Can not resync without remote disk"
        case .connectedOutdates: "Refusing to be Outdated while Connected"
        case .peerNotOutdated: "Refusing to be Primary while peer is not outdated"
        case .resyncRunning: "Can not start OV/resync since it is already active"
        case .alreadyStandAlone: "Can not disconnect a StandAlone device"
        case .refusedByPeer: "State change was refused by peer node"
        case .diskless: "Device is diskless, the requested operation requires a disk"
        case .deviceInUse: "Device is held open by someone"
        case .noNetConfiguration: "Have no net/connection configuration"
        case .noVerifyAlgorithm: "Need a verify algorithm to start online verify"
        case .needConnection: "Need a connection to start verify or resync"
        case .lowerThanOutdated: "Disk state is lower than outdated"
        case .peerTooOld: "Peer does not support protocol"
        case .inTransientState: "In transient state, retry after next state change"
        case .concurrentChange: "Concurrent state changes detected and aborted"
        case .otherVolumePeerPrimary: "Other vol primary on peer not allowed by config"
        case .outdateWithoutConnection: "Need a connection for a graceful disconnect/outdate peer"
        }
    }
}

extension VolumeState {
    /// Judges this (sanitized) state by itself; nil if nothing is wrong with it. First hit wins (`wire.md` 6.7).
    package func check(context: StateContext) -> StateChangeResult? {
        if context.hasNetConfiguration && !context.allowTwoPrimaries && role == .primary {
            if peerRole == .primary { return .twoPrimaries }
            if context.peerPrimaryOnOtherVolume { return .otherVolumePeerPrimary }
        }
        if role == .secondary && context.exportIsOpen { return .deviceInUse }
        if role == .primary {
            if connection < .connected && disk < .upToDate { return .noUpToDateDisk }
            if context.fencing != .dontCare && connection < .connected && peerDisk >= .unknown { return .peerNotOutdated }
            if disk <= .inconsistent && peerDisk <= .inconsistent { return .noUpToDateDisk }
        }
        if connection > .connected {
            if disk < .inconsistent { return .noLocalDisk }
            if peerDisk < .inconsistent { return .noRemoteDisk }
            if disk < .upToDate && peerDisk < .upToDate { return .noUpToDateDisk }
        }
        if disk == .outdated {
            switch connection {
            case .connected, .wfBitMapS, .syncSource, .pausedSyncS: return .connectedOutdates
            default: break
            }
        }
        if connection.isVerifying {
            if context.hasNetConfiguration && !context.verifyAlgorithmSet { return .noVerifyAlgorithm }
            if context.agreedVersion < 88 { return .peerTooOld }
        }
        if isPrimaryWithoutData { return .noUpToDateDisk }
        if peerDisk == .unknown {
            if connection == .startingSyncS || connection == .startingSyncT { return .needConnection }
            if connection >= .connected { return .connectedOutdates }
        }
        return nil
    }

    /// Judges the way from `old` to this (sanitized) state; nil if it is free. The last rule that applies decides
    /// (`wire.md` 6.7).
    package func checkTransition(from old: VolumeState, context: StateContext) -> StateChangeResult? {
        let startsSync = connection == .startingSyncS || connection == .startingSyncT
        var result: StateChangeResult?
        if startsSync && old.connection > .connected { result = .resyncRunning }
        if connection == .disconnecting && old.connection == .standAlone { result = .alreadyStandAlone }
        if disk > .attaching && old.disk == .diskless { result = .diskless }
        if connection == .wfConnection && old.connection < .unconnected { result = .noNetConfiguration }
        if disk == .outdated && old.disk < .outdated && old.disk != .attaching { result = .lowerThanOutdated }
        if connection == .disconnecting && old.connection == .unconnected { result = .inTransientState }
        if context.handshakeRunning {
            let begins = connection == .wfReportParams && old.connection == .wfConnection
            let ends = connection >= .connected && old.connection == .wfReportParams
            if !begins && !ends { result = .inTransientState }
        }
        if old.role != .primary && role == .primary && peerDisk == .upToDate && disk != .upToDate && disk != .diskless
            && (connection <= .wfSyncUUID || connection != old.connection)
        {
            result = .inTransientState
        }
        if connection.isVerifying {
            if old.connection < .connected { result = .needConnection }
            if connection != old.connection && old.connection > .connected { result = .resyncRunning }
        }
        if startsSync && old.connection < .connected { result = .needConnection }
        if (connection == .syncTarget || connection == .syncSource) && old.connection < .wfReportParams {
            result = .needConnection
        }
        if connection == .disconnecting && peerDisk == .outdated && old.connection < .connected
            && old.peerDisk > .outdated
        {
            result = .outdateWithoutConnection
        }
        return result
    }

    /// Ways that not even a forced change may take (`wire.md` 6.7, last paragraph).
    package static func isHardForbidden(from old: VolumeState, to new: VolumeState) -> Bool {
        if new.disk == .failed && old.disk == .diskless { return true }
        if old.connection == new.connection { return false }
        switch old.connection {
        case .standAlone: return new.connection != .unconnected
        case .disconnecting: return new.connection != .standAlone
        case .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown:
            return new.connection != .unconnected && new.connection != .disconnecting
        default: return old.connection < .wfReportParams && new.connection >= .connected
        }
    }

    /// Judges a wanted change as a whole: `new` must be sanitized. nil: go on.
    ///
    /// What was already wrong with the old state in the same way is not held against the new one; the way there still
    /// has to be free.
    package static func evaluateSoftChange(
        from old: VolumeState, to new: VolumeState, context: StateContext
    ) -> StateChangeResult? {
        if new == old { return .nothingToDo }
        if isHardForbidden(from: old, to: new) { return hardRefusal(from: old, to: new) }
        if let wrong = new.check(context: context), old.check(context: context) != wrong { return wrong }
        return new.checkTransition(from: old, context: context)
    }

    /// The code that goes with a hard limit.
    private static func hardRefusal(from old: VolumeState, to new: VolumeState) -> StateChangeResult {
        if new.disk == .failed && old.disk == .diskless { return .diskless }
        switch old.connection {
        case .standAlone: return new.connection == .disconnecting ? .alreadyStandAlone : .needConnection
        case .disconnecting, .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown: return .inTransientState
        default: return .needConnection
        }
    }
}
