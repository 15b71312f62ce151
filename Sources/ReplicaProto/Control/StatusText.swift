/// The texts of `role`, `cstate`, `dstate`, `status`, `sh-status` and `show` (`control.md` 2.8 and 2.9), made from a
/// resource's status; `events2` takes its words from here (`EventLines`).
package enum StatusText {
    package static func role(_ volume: VolumeStatus) -> String {
        let state = volume.state
        return state.isUnconfigured ? "Unconfigured" : "\(state.role.name)/\(state.peerRole.name)"
    }

    package static func connection(_ volume: VolumeStatus) -> String {
        volume.state.isUnconfigured ? "Unconfigured" : volume.state.connection.name
    }

    package static func disk(_ volume: VolumeStatus) -> String {
        let state = volume.state
        return state.isUnconfigured ? "Unconfigured" : "\(state.disk.name)/\(state.peerDisk.name)"
    }

    // MARK: status

    /// One resource in the form of `drbdsetup status`, with the empty line behind it.
    package static func status(_ resource: ResourceStatus, verbose: Bool = false, statistics: Bool = false) -> String {
        var lines = WrappedLines()
        let volumes = resource.volumes
        let isSingle = volumes.count == 1 && volumes[0].volume.value == 0 && !verbose
        lines.start("\(resource.resource) role:\(role(of: volumes).name)", continued: 4)
        let suspended = suspendReasons(volumes)
        if verbose || suspended != "no" { lines.add("suspended:\(suspended)") }
        if statistics {
            lines.lineBreak()
            lines.add("write-ordering:\(writeOrdering(volumes))")
        }
        for volume in volumes {
            lines.start(isSingle ? " " : "  volume:\(volume.volume.value)", continued: 6)
            if verbose { lines.add("minor:\(volume.minor)") }
            lines.add("disk:\(volume.state.disk.name)")
            if statistics {
                lines.lineBreak()
                for word in deviceStatistics(volume) { lines.add(word) }
            }
            let blocked = blocked(volume)
            if verbose || blocked != "no" { lines.add("blocked:\(blocked)") }
        }
        if let connection = connectionState(volumes) {
            lines.start("  peer", continued: 4)
            if verbose || !isConnected(connection) { lines.add("connection:\(connectionName(connection))") }
            if verbose || isConnected(connection) { lines.add("role:\(peerRole(of: volumes).name)") }
            let isCongested = volumes.contains { $0.congestion == "n" || $0.congestion == "a" }
            if verbose || isCongested { lines.add("congested:\(isCongested ? "yes" : "no")") }
            for volume in volumes where verbose || isConnected(connection) {
                peerDevice(volume, isSingle: isSingle, verbose: verbose, statistics: statistics, into: &lines)
            }
        }
        return lines.finish() + "\n"
    }

    private static func peerDevice(
        _ volume: VolumeStatus, isSingle: Bool, verbose: Bool, statistics: Bool, into lines: inout WrappedLines
    ) {
        let state = volume.state
        lines.start(isSingle ? "   " : "    volume:\(volume.volume.value)", continued: 8)
        lines.add("replication:\(replicationName(state.connection))")
        lines.add("peer-disk:\(state.peerDisk.name)")
        if let progress = volume.progress, isSyncing(state.connection) { lines.add("done:\(done(progress))") }
        let paused = pauseReasons(state)
        if verbose || paused != "no" { lines.add("resync-suspended:\(paused)") }
        if statistics {
            lines.lineBreak()
            for word in peerStatistics(volume) { lines.add(word) }
        }
    }

    // MARK: sh-status

    /// The assignments of `drbdsetup sh-status MINOR`, with the call and the two empty lines behind it.
    package static func shellStatus(_ volume: VolumeStatus, resource: String) -> String {
        let state = volume.state
        func flag(_ name: String, _ isSet: Bool) -> String { "\(name)=\(isSet ? "1" : "")\n" }
        let known = state.isUnconfigured ? "Unconfigured" : "Configured"
        var text = "_minor=\(volume.minor)\n_res_name=\(shellQuoted(resource))\n_volume=\(volume.volume.value)\n"
        text += "_known=\(known)\n\n"
        if state.isUnconfigured { return text + emptyShellStatus }
        text += "_cstate=\(state.connection.name)\n_role=\(state.role.name)\n_peer=\(state.peerRole.name)\n"
        text += "_disk=\(state.disk.name)\n_pdsk=\(state.peerDisk.name)\n\n"
        text += flag("_flags_susp", state.suspendedByUser) + flag("_flags_aftr_isp", state.pausedByDependency)
        text += flag("_flags_peer_isp", state.pausedByPeer) + flag("_flags_user_isp", state.pausedByUser)
        var percent = ""
        if let progress = volume.progress, isSyncing(state.connection) {
            let permille = ProgressText.perMille(progress)
            percent = "\(permille / 10).\(permille % 10)"
        }
        return text + "\n_resynced_percent=\(percent)\n\n_sh_status_process\n\n\n"
    }

    /// The same for a minor that does not exist.
    package static func shellStatus(missing minor: UInt32) -> String {
        "_minor=\(minor)\n_res_name=\n_volume=-1\n_known=NA # not available or not yet created\n\n" + emptyShellStatus
    }

    private static let emptyShellStatus =
        "_cstate=Unconfigured\n_role=\n_peer=\n_disk=\n_pdsk=\n_flags_susp=\n_flags_aftr_isp=\n_flags_peer_isp=\n"
        + "_flags_user_isp=\n_resynced_percent=\n\n_sh_status_process\n\n\n"

    /// A word that a shell reads back as `text`.
    package static func shellQuoted(_ text: String) -> String {
        var quoted = ""
        for scalar in text.unicodeScalars {
            let isPlain =
                scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
                || ["/", "_", "-", ".", ":", "+", "@", "%"].contains(scalar)
            if !isPlain { quoted += "\\" }
            quoted.unicodeScalars.append(scalar)
        }
        return quoted
    }

    // MARK: Words

    package static func role(of volumes: [VolumeStatus]) -> Role {
        volumes.contains { $0.state.role == .primary } ? .primary : .secondary
    }

    static func peerRole(of volumes: [VolumeStatus]) -> Role {
        if volumes.contains(where: { $0.state.peerRole == .primary }) { return .primary }
        return volumes.contains { $0.state.peerRole == .secondary } ? .secondary : .unknown
    }

    /// The connection's own state; nil where there is no network configuration.
    static func connectionState(_ volumes: [VolumeStatus]) -> ConnectionState? {
        guard let volume = volumes.first(where: { $0.replicationProtocol != nil || $0.connection != nil }) else {
            return nil
        }
        return volume.state.connection == .standAlone ? nil : volume.state.connection
    }

    /// Whether 8.4.6 and later call it Connected: also before the states have been exchanged.
    private static func isConnected(_ state: ConnectionState) -> Bool {
        switch state {
        case .standAlone, .disconnecting, .unconnected, .timeout, .brokenPipe, .networkFailure, .protocolError,
            .tearDown, .wfConnection:
            false
        case .wfReportParams, .connected, .startingSyncS, .startingSyncT, .wfBitMapS, .wfBitMapT, .wfSyncUUID, .syncSource, .syncTarget,
            .verifyS, .verifyT, .pausedSyncS, .pausedSyncT, .ahead, .behind:
            true
        }
    }

    private static func isSyncing(_ state: ConnectionState) -> Bool {
        switch state {
        case .syncSource, .syncTarget, .verifyS, .verifyT, .pausedSyncS, .pausedSyncT: true
        case .standAlone, .disconnecting, .unconnected, .timeout, .brokenPipe, .networkFailure, .protocolError,
            .tearDown, .wfConnection, .wfReportParams, .connected, .startingSyncS, .startingSyncT, .wfBitMapS,
            .wfBitMapT, .wfSyncUUID, .ahead, .behind:
            false
        }
    }

    static func connectionName(_ state: ConnectionState) -> String {
        if isConnected(state) { return "Connected" }
        return state == .wfConnection ? "Connecting" : state.name
    }

    static func replicationName(_ state: ConnectionState) -> String {
        if !isConnected(state) || state == .wfReportParams { return "Off" }
        return state == .connected ? "Established" : state.name
    }

    static func suspendReasons(_ volumes: [VolumeStatus]) -> String {
        list([
            (volumes.contains { $0.state.suspendedByUser }, "user"),
            (volumes.contains { $0.state.suspendedNoData }, "no-data"),
            (volumes.contains { $0.state.suspendedFencing }, "fencing"),
        ])
    }

    static func pauseReasons(_ state: VolumeState) -> String {
        list([(state.pausedByUser, "user"), (state.pausedByPeer, "peer"), (state.pausedByDependency, "dependency")])
    }

    private static func list(_ reasons: [(Bool, String)]) -> String {
        let names = reasons.filter(\.0).map(\.1)
        return names.isEmpty ? "no" : names.joined(separator: ",")
    }

    static func blocked(_ volume: VolumeStatus) -> String {
        let isLower = volume.congestion == "b" || volume.congestion == "a"
        let isUpper = volume.state.isSuspended || volume.congestion == "d"
        return list([(isUpper, "upper"), (isLower, "lower")])
    }

    static func writeOrdering(_ volumes: [VolumeStatus]) -> String {
        switch volumes.first?.writeOrdering ?? "f" {
        case "b": "barrier"
        case "d": "drain"
        case "n": "none"
        default: "flush"
        }
    }

    /// Percent with two decimals, rounded.
    private static func done(_ progress: SyncProgress) -> String {
        let total = progress.totalBits
        if total == 0 { return "100.00" }
        let finished = total - min(progress.bitsLeft, total)
        let (product, overflow) = finished.multipliedReportingOverflow(by: 10_000)
        let hundredths = overflow ? finished / (total / 10_000) : (product + total / 2) / total
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }

    private static func deviceStatistics(_ volume: VolumeStatus) -> [String] {
        deviceNumbers(volume) + ["al-suspended:\(volume.activityLogSuspended ? "yes" : "no")"]
    }

    static func deviceNumbers(_ volume: VolumeStatus) -> [String] {
        let counters = volume.counters
        return [
            "size:\(volume.sectors / 2)", "read:\(counters.diskRead / 2)", "written:\(counters.diskWritten / 2)",
            "al-writes:\(counters.activityLogWrites)", "bm-writes:\(counters.bitmapWrites)",
            "upper-pending:\(counters.applicationPending)", "lower-pending:\(counters.localPending)",
        ]
    }

    static func peerStatistics(_ volume: VolumeStatus) -> [String] {
        let counters = volume.counters
        return [
            "received:\(counters.networkReceived / 2)", "sent:\(counters.networkSent / 2)",
            "out-of-sync:\(volume.outOfSyncBits &* 4)", "pending:\(counters.peerPending)",
            "unacked:\(counters.unacknowledged)",
        ]
    }
}

/// Lines of words that are broken before they become longer than a terminal is wide.
private struct WrappedLines {
    private static let width = 80
    private var text = ""
    private var line = ""
    private var indentation = 0
    private var isFresh = true

    /// Begins an object's line; what does not fit continues at column `continued`.
    mutating func start(_ head: String, continued: Int) {
        endLine()
        line = head
        indentation = continued
        isFresh = false
    }

    mutating func add(_ word: String) {
        if isFresh {
            line += word
        } else if line.utf8.count + 1 + word.utf8.count > WrappedLines.width {
            lineBreak()
            line += word
        } else {
            line += " " + word
        }
        isFresh = false
    }

    /// Continues the object on a new line.
    mutating func lineBreak() {
        endLine()
        line = String(repeating: " ", count: indentation)
        isFresh = true
    }

    mutating func finish() -> String {
        endLine()
        return text
    }

    private mutating func endLine() {
        if !line.isEmpty { text += line + "\n" }
        line = ""
    }
}
