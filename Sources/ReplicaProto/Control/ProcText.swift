/// The release whose texts are presented (`control.md` 0.2, 3.1): texts differ, behaviour never does.
package enum Persona: Equatable, Sendable {
    case v830, v838, v8411

    package init?(_ name: String) {
        switch name {
        case "8.3.0": self = .v830
        case "8.3.8": self = .v838
        case "8.4.11", "": self = .v8411
        default: return nil
        }
    }

    package var version: String {
        switch self {
        case .v830: "8.3.0"
        case .v838: "8.3.8"
        case .v8411: "8.4.11"
        }
    }
    package var api: String { self == .v8411 ? "1" : "88" }
    package var protocols: String {
        switch self {
        case .v830: "86-89"
        case .v838: "86-94"
        case .v8411: "86-101"
        }
    }
    /// The hash that this release's own tools and modules show.
    package var gitHash: String {
        switch self {
        case .v830: "9ba8b93e24d842f0dd3fb1f9b90e8348ddb95829"
        case .v838: "d78846e52224fd00562f7c225bcc25b2d422321d"
        case .v8411: "66145a308421e9c124ec391a7848ac20203bb03c"
        }
    }
    /// `0x08040b`
    package var versionCode: String {
        switch self {
        case .v830: "0x080300"
        case .v838: "0x080308"
        case .v8411: "0x08040b"
        }
    }
    /// Flag columns of the first line of a minor.
    var flagColumns: Int {
        switch self {
        case .v830: 4
        case .v838: 5
        case .v8411: 6
        }
    }
}

/// The text of `/proc/drbd` (`control.md` 3.1 to 3.6).
package enum ProcText {
    /// The whole file: two header lines, then every minor in order.
    /// - Parameter build: what stands behind `build by`, such as `root@alice, 2018-04-26 12:10:42`.
    package static func file(_ volumes: [VolumeStatus], persona: Persona = .v8411, build: String) -> String {
        header(persona: persona, build: build) + minors(volumes, persona: persona)
    }

    package static func header(persona: Persona = .v8411, build: String) -> String {
        "version: \(persona.version) (api:\(persona.api)/proto:\(persona.protocols))\n"
            + "GIT-hash: \(persona.gitHash) build by \(build)\n"
    }

    /// All minors in order, with an empty line where numbers are missing in between.
    package static func minors(_ volumes: [VolumeStatus], persona: Persona = .v8411) -> String {
        var text = ""
        var previous: Int64 = -1
        for volume in volumes.sorted(by: { $0.minor < $1.minor }) {
            if Int64(volume.minor) != previous + 1 { text += "\n" }
            previous = Int64(volume.minor)
            text += minor(volume, persona: persona)
        }
        return text
    }

    /// The lines of one minor: one, two or four.
    package static func minor(_ volume: VolumeStatus, persona: Persona = .v8411) -> String {
        let state = volume.state
        let number = padded(String(volume.minor), 2)
        if state.isUnconfigured { return "\(number): cs:Unconfigured\n" }
        let letter = volume.replicationProtocol?.spelling ?? " "
        let counters = volume.counters
        var text =
            "\(number): cs:\(state.connection.name) ro:\(state.role.name)/\(state.peerRole.name)"
            + " ds:\(state.disk.name)/\(state.peerDisk.name) \(letter) \(flags(volume, persona: persona))\n"
        text +=
            "    ns:\(kibibytes(counters.networkSent)) nr:\(kibibytes(counters.networkReceived))"
            + " dw:\(kibibytes(counters.diskWritten)) dr:\(kibibytes(counters.diskRead))"
            + " al:\(UInt32(truncatingIfNeeded: counters.activityLogWrites))"
            + " bm:\(UInt32(truncatingIfNeeded: counters.bitmapWrites))"
            + " lo:\(counters.localPending) pe:\(counters.peerPending) ua:\(counters.unacknowledged)"
            + " ap:\(counters.applicationPending) ep:\(counters.epochs) wo:\(volume.writeOrdering)"
            + " oos:\(volume.outOfSyncBits &* 4)\n"
        guard let progress = volume.progress else { return text }
        switch state.connection {
        case .syncSource, .syncTarget, .verifyS, .verifyT:
            text += ProgressText.lines(progress, connection: state.connection, persona: persona)
        default: break
        }
        return text
    }

    /// The flag columns: I/O, three reasons for a paused resync, congestion, activity log.
    static func flags(_ volume: VolumeStatus, persona: Persona) -> String {
        let state = volume.state
        let columns: [Character] = [
            state.isSuspended ? "s" : "r",
            state.pausedByDependency ? "a" : "-",
            state.pausedByPeer ? "p" : "-",
            state.pausedByUser ? "u" : "-",
            volume.congestion,
            volume.activityLogSuspended ? "s" : "-",
        ]
        return String(columns[0..<persona.flagColumns])
    }

    /// Sectors as KiB: a 32-bit counter halved, so it wraps.
    private static func kibibytes(_ sectors: UInt64) -> UInt32 { UInt32(truncatingIfNeeded: sectors / 2) }
}

/// The two lines under a running resync or verify (`control.md` 3.5).
package enum ProgressText {
    package static func lines(_ progress: SyncProgress, connection: ConnectionState, persona: Persona) -> String {
        let isVerify = connection == .verifyS || connection == .verifyT
        let total = progress.totalBits
        let left = min(progress.bitsLeft, total)
        if isVerify && persona == .v830 {
            let percent = Int(perMille(progress) / 10)
            return "\t\(padded(String(percent), 3))%      \(total - left)/\(total)\n"
        }
        let permille = perMille(progress)
        var text = "\t\(bar(permille)) \(isVerify ? "verified:" : "sync'ed:")"
        text += "\(padded(String(permille / 10), 3)).\(permille % 10)% "
        text +=
            total > 4 << 18
            ? "(\((left >> 10) * 4)/\((total >> 10) * 4))M" : "(\(left &* 4)/\(total &* 4))K"
        text += "\n\t"
        return text + finish(progress, left: left, connection: connection, persona: persona)
    }

    /// Progress in thousandths, by DRBD's arithmetic.
    package static func perMille(_ progress: SyncProgress) -> UInt64 {
        let total = progress.totalBits
        if total == 0 { return 1000 }
        if progress.bitsLeft > total { return 0 }
        let shift: UInt64 = total > UInt64(UInt32.max) ? 16 : 10
        let (product, overflow) = (progress.bitsLeft >> shift).multipliedReportingOverflow(by: 1000)
        if overflow { return 0 }
        return 1000 - min(product / (1 + (total >> shift)), 1000)
    }

    private static func bar(_ permille: UInt64) -> String {
        let done = Int(permille / 50)
        return "[" + String(repeating: "=", count: max(done - 1, 0)) + ">" + String(repeating: ".", count: 20 - done) + "]"
    }

    private static func finish(
        _ progress: SyncProgress, left: UInt64, connection: ConnectionState, persona: Persona
    ) -> String {
        let seconds = max(progress.secondsSinceMark, 1)
        let isStalled = seconds > 180
        if persona == .v830 && seconds > 20 && progress.bitsSinceMark == 0 { return "stalled\n" }
        let blocks = progress.bitsSinceMark
        let (product, overflow) = seconds.multipliedReportingOverflow(by: left / (blocks / 100 + 1))
        let remaining = overflow ? UInt64.max / 100 : product / 100
        let minutes = remaining % 3600 / 60
        var text = "finish: \(remaining / 3600):\(twoDigits(minutes)):\(twoDigits(remaining % 60))"
        text += " speed: \(grouped((blocks / seconds) &* 4, persona))"
        let average = (progress.totalBits - left) / max(progress.secondsSinceStart, 1)
        text += " (\(grouped(average &* 4, persona)))"
        if let wanted = progress.wantedRate, persona != .v830, connection == .syncTarget || connection == .verifyS {
            text += " want: \(grouped(wanted, persona))"
        }
        return text + " K/sec\(isStalled && persona == .v8411 ? " (stalled)" : "")\n"
    }

    private static func twoDigits(_ value: UInt64) -> String { value < 10 ? "0\(value)" : String(value) }

    /// One or two commas; early releases knew only one, and none up to 1000.
    private static func grouped(_ value: UInt64, _ persona: Persona) -> String {
        func threeDigits(_ value: UInt64) -> String {
            let digits = String(value)
            return String(repeating: "0", count: 3 - digits.count) + digits
        }
        if persona == .v830 {
            return value > 1000 ? "\(value / 1000),\(threeDigits(value % 1000))" : String(value)
        }
        if value >= 1_000_000 {
            return "\(value / 1_000_000),\(threeDigits(value / 1000 % 1000)),\(threeDigits(value % 1000))"
        }
        return value >= 1000 ? "\(value / 1000),\(threeDigits(value % 1000))" : String(value)
    }
}

extension VolumeState {
    /// What the status texts call "Unconfigured": StandAlone and Diskless and Secondary.
    package var isUnconfigured: Bool { connection == .standAlone && disk == .diskless && role == .secondary }
}

/// Right-aligned in `width` columns.
func padded(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.utf8.count)) + text
}
