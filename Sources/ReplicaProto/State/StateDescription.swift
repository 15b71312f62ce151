extension VolumeState {
    /// What changed since `old`, in DRBD's words, the way its log has it:
    /// `peer( Unknown -> Secondary ) conn( WFReportParams -> Connected ) pdsk( DUnknown -> UpToDate )`. Empty if nothing
    /// that the log shows has changed.
    package func description(changedFrom old: VolumeState) -> String {
        var text = ""
        func add(_ name: String, _ before: String, _ after: String) {
            if before == after { return }
            if !text.isEmpty { text += " " }
            text += "\(name)( \(before) -> \(after) )"
        }
        func flag(_ isSet: Bool) -> String { isSet ? "1" : "0" }
        add("role", old.role.name, role.name)
        add("peer", old.peerRole.name, peerRole.name)
        add("conn", old.connection.name, connection.name)
        add("disk", old.disk.name, disk.name)
        add("pdsk", old.peerDisk.name, peerDisk.name)
        add("susp", flag(old.isSuspended), flag(isSuspended))
        add("aftr_isp", flag(old.pausedByDependency), flag(pausedByDependency))
        add("peer_isp", flag(old.pausedByPeer), flag(pausedByPeer))
        add("user_isp", flag(old.pausedByUser), flag(pausedByUser))
        return text
    }

    /// The whole state on one line, as DRBD logs it beside a refused change:
    /// `{ cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate r----- }`.
    package var summary: String {
        let flags =
            (isSuspended ? "s" : "r") + (pausedByDependency ? "a" : "-") + (pausedByPeer ? "p" : "-")
            + (pausedByUser ? "u" : "-") + (suspendedFencing ? "F" : "-") + (suspendedNoData ? "N" : "-")
        return "{ cs:\(connection.name) ro:\(role.name)/\(peerRole.name) ds:\(disk.name)/\(peerDisk.name) \(flags) }"
    }

    /// The lines that DRBD logs when it refuses to go to `wanted`.
    package func refusalLines(wanted: VolumeState, result: StateChangeResult) -> [String] {
        ["State change failed: \(result.text)", "  state = \(summary)", " wanted = \(wanted.summary)"]
    }
}

extension GenerationIdentifiers {
    /// Four times 16 hexadecimal digits: `6F76C0A65320DA24:E4C7DE6F837D44DB:0000000000000000:0000000000000000`.
    package var text: String {
        "\(Self.hex(current)):\(Self.hex(bitmap)):\(Self.hex(history0)):\(Self.hex(history1))"
    }

    /// 16 upper-case hexadecimal digits.
    package static func hex(_ value: UInt64) -> String {
        let digits = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// One side of a handshake as DRBD logs it, `self` or `peer`: `self ... bits:16 flags:0`.
    package func handshakeLine(_ side: String, bits: UInt64, flags: UUIDFlags) -> String {
        "\(side) \(text) bits:\(bits) flags:\(String(flags.rawValue, radix: 16, uppercase: true))"
    }
}
