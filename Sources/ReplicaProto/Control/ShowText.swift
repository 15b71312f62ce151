/// The running configuration in configuration syntax: `drbdsetup show` (`control.md` 2.8).
package enum ShowText {
    package static func text(_ resource: ResourceStatus, showDefaults: Bool = false) -> String {
        var lines = ["resource \(resource.resource) {"]
        section("options", resource.options, ResourceOptions(), OptionTable.resource, 4, showDefaults, into: &lines)
        let connection = resource.volumes.lazy.compactMap(\.connection).first
        if let connection {
            section("net", connection.options, NetOptions(), OptionTable.net, 4, showDefaults, into: &lines)
            lines += ["    _remote_host {", "        address\t\t\t\(address(connection.remote));", "    }"]
        }
        lines.append("    _this_host {")
        if let connection { lines.append("        address\t\t\t\(address(connection.local));") }
        for volume in resource.volumes {
            lines += ["        volume \(volume.volume.value) {", "            device\t\t\tminor \(volume.minor);"]
            if let disk = volume.disk {
                lines.append("            disk\t\t\t\"\(disk.dataPath)\";")
                lines.append("            meta-disk\t\t\t\(metaDisk(disk));")
                section("disk", disk.options, DiskOptions(), OptionTable.disk, 12, showDefaults, into: &lines)
            }
            lines.append("        }")
        }
        lines += ["    }", "}"]
        return lines.map { $0 + "\n" }.joined()
    }

    private static func address(_ address: SocketAddress) -> String {
        let host = address.family == "ipv6" ? "[\(address.host)]" : address.host
        return "\(address.family) \(host):\(address.port)"
    }

    private static func metaDisk(_ disk: DiskConfiguration) -> String {
        switch disk.index {
        case .internal: "internal"
        case .flexible: "\"\(disk.metadataPath)\""
        case .indexed(let index): "\"\(disk.metadataPath)\" [ \(index) ]"
        }
    }

    private static func section<Settings>(
        _ name: String, _ settings: Settings, _ defaults: Settings, _ table: [OptionField<Settings>], _ indent: Int,
        _ showDefaults: Bool, into lines: inout [String]
    ) {
        let margin = String(repeating: " ", count: indent)
        var options: [String] = []
        for field in table {
            let value = field.read(settings)
            let isDefault = value == field.read(defaults)
            if isDefault && !showDefaults { continue }
            var remarks: [String] = []
            if let unit = remark(field.shape) { remarks.append(unit) }
            if isDefault { remarks.append("default") }
            let comment = remarks.isEmpty ? "" : " # \(remarks.joined(separator: ", "))"
            let name = field.name + String(repeating: " ", count: max(0, 16 - field.name.utf8.count))
            options.append("\(margin)    \(name)\t\(text(value, field.shape));\(comment)")
        }
        if options.isEmpty && name == "disk" { return }
        lines.append("\(margin)\(name) {")
        lines += options
        lines.append("\(margin)}")
    }

    private static func text(_ value: OptionValue, _ shape: OptionShape) -> String {
        switch (value, shape.kind) {
        case (.number(let number), .number(_, let unit)): "\(number)\(unit.letter)"
        case (.text(let text), .text): "\"\(text)\""
        default: value.text
        }
    }

    private static func remark(_ shape: OptionShape) -> String? {
        switch shape.name {
        case "timeout", "ping-timeout", "disk-timeout", "c-plan-ahead", "c-delay-target": return "1/10 seconds"
        case "connect-int", "ping-int": return "seconds"
        case "sndbuf-size", "rcvbuf-size": return "bytes"
        default: break
        }
        switch shape.kind {
        case .number(_, .kibibytes): return "bytes/second"
        case .number(_, .sectors): return "bytes"
        default: return nil
        }
    }
}
