import ReplicaProto

/// `status --xml`: the form of 8.3, which cluster tools of that time parsed (`control.md` 2.8).
enum StatusXML {
    /// - Parameter rows: resource name, minor and what runs there.
    static func text(_ rows: [(name: String, minor: UInt32, status: VolumeStatus?)], persona: Persona, file: String)
        -> String
    {
        var text = "<drbd-status version=\"\(persona.version)\" api=\"\(persona.api)\">\n"
        text += "<resources config_file=\"\(XML.escaped(file))\">\n"
        for row in rows {
            text += "<resource minor=\"\(row.minor)\" name=\"\(XML.escaped(row.name))\""
            if let status = row.status, !status.state.isUnconfigured {
                let state = status.state
                text += " cs=\"\(state.connection.name)\" ro1=\"\(state.role.name)\" ro2=\"\(state.peerRole.name)\""
                text += " ds1=\"\(state.disk.name)\" ds2=\"\(state.peerDisk.name)\""
                if state.isSuspended { text += " suspended" }
                if state.pausedByDependency { text += " aftr_isp" }
                if state.pausedByPeer { text += " peer_isp" }
                if state.pausedByUser { text += " user_isp" }
                if let progress = status.progress {
                    let permille = ProgressText.perMille(progress)
                    text += " resynced_percent=\"\(permille / 10).\(permille % 10)\""
                }
            } else {
                text += " cs=\"Unconfigured\""
            }
            text += " />\n"
        }
        return text + "</resources>\n</drbd-status>\n"
    }
}

/// `status --json`: one array of resources, with the field names of later releases.
enum StatusJSON {
    static func text(_ resources: [ResourceStatus]) -> String {
        if resources.isEmpty { return "[\n]\n" }
        return "[\n" + resources.map(resource).joined(separator: ",\n") + "\n]\n"
    }

    private static func resource(_ resource: ResourceStatus) -> String {
        let volumes = resource.volumes
        let suspended = volumes.contains { $0.state.isSuspended }
        var text = "{\n  \"name\": \(string(resource.resource)),\n  \"node\": \(string(resource.node)),\n"
        text += "  \"role\": \(string(StatusText.role(of: volumes).name)),\n  \"suspended\": \(suspended),\n"
        text += "  \"version\": \(string(resource.productVersion)),\n"
        if let reason = resource.lastDisconnect.reason {
            text += "  \"last-disconnect-reason\": \(string(reason.name)),\n"
        }
        if let seconds = resource.lastDisconnect.seconds { text += "  \"unconnected-seconds\": \(seconds),\n" }
        text += "  \"devices\": ["
        text += volumes.map { "\n" + device($0) }.joined(separator: ",")
        return text + (volumes.isEmpty ? "]\n}" : "\n  ]\n}")
    }

    private static func device(_ volume: VolumeStatus) -> String {
        let state = volume.state
        let counters = volume.counters
        var fields: [(String, String)] = [
            ("volume", String(volume.volume.value)), ("minor", String(volume.minor)),
            ("connection-state", string(state.connection.name)), ("role", string(state.role.name)),
            ("peer-role", string(state.peerRole.name)), ("disk-state", string(state.disk.name)),
            ("peer-disk-state", string(state.peerDisk.name)), ("size", String(volume.sectors / 2)),
            ("sent", String(counters.networkSent / 2)), ("received", String(counters.networkReceived / 2)),
            ("written", String(counters.diskWritten / 2)), ("read", String(counters.diskRead / 2)),
            ("al-writes", String(counters.activityLogWrites)), ("bm-writes", String(counters.bitmapWrites)),
            ("lower-pending", String(counters.localPending)), ("pending", String(counters.peerPending)),
            ("unacked", String(counters.unacknowledged)), ("upper-pending", String(counters.applicationPending)),
            ("out-of-sync", String(volume.outOfSyncBits &* 4)), ("al-suspended", String(volume.activityLogSuspended)),
            ("suspended-user", String(state.suspendedByUser)), ("suspended-no-data", String(state.suspendedNoData)),
            ("suspended-fencing", String(state.suspendedFencing)),
            ("resync-suspended-user", String(state.pausedByUser)),
            ("resync-suspended-peer", String(state.pausedByPeer)),
            ("resync-suspended-dependency", String(state.pausedByDependency)),
        ]
        if let replicationProtocol = volume.replicationProtocol {
            fields.append(("protocol", string(replicationProtocol.spelling)))
        }
        if let progress = volume.progress {
            let permille = ProgressText.perMille(progress)
            fields.append(("percent-in-sync", "\(permille / 10).\(permille % 10)"))
        }
        return "    {" + fields.map { " \"\($0.0)\": \($0.1)" }.joined(separator: ",") + " }"
    }

    static func string(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"", "\\":
                result += "\\"
                result.unicodeScalars.append(scalar)
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result + "\""
    }
}
