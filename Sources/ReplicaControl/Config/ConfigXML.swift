import ReplicaProto

/// The configuration as `dump-xml` prints it (`control.md` 1.12).
struct ConfigXML {
    var tree: ConfigTree
    var here: [String]
    var isEffective = false

    /// - Parameter names: only these resources; nil for everything.
    func text(of names: [String]?) -> String {
        var lines = ["<config file=\"\(XML.escaped(tree.file))\">"]
        if names == nil {
            lines += global
            if let common = tree.common {
                lines += ["    <common>"] + sections(common) + ["    </common>"]
            }
        }
        for resource in tree.resources where names?.contains(resource.name) ?? true { lines += self.resource(resource) }
        return (lines + ["</config>"]).map { $0 + "\n" }.joined()
    }

    private var global: [String] {
        var lines: [String] = []
        if tree.global["disable-ip-verification"] != nil { lines.append("        <disable-ip-verification/>") }
        if let count = tree.global["minor-count"]?.value { lines.append("        <minor-count count=\"\(count)\"/>") }
        if let seconds = tree.global["dialog-refresh"]?.value, seconds != "1" {
            lines.append("        <dialog-refresh refresh=\"\(seconds)\"/>")
        }
        return lines.isEmpty ? [] : ["    <global>"] + lines + ["    </global>"]
    }

    private func sections(_ sections: ConfigSections) -> [String] {
        let named: [(String, OptionSection)] = [
            ("options", sections.options), ("net", sections.net), ("disk", sections.disk),
            ("startup", sections.startup), ("proxy", sections.proxy), ("handlers", sections.handlers),
        ]
        return named.flatMap { name, section in self.section(name, section, 8) }
    }

    private func section(_ name: String, _ section: OptionSection, _ indent: Int) -> [String] {
        if section.options.isEmpty { return [] }
        let margin = String(repeating: " ", count: indent)
        let options = section.options.map { option in
            let value = option.value.map { " value=\"\(XML.escaped($0))\"" } ?? ""
            return "\(margin)    <option name=\"\(option.name)\"\(value)/>"
        }
        return ["\(margin)<section name=\"\(name)\">"] + options + ["\(margin)</section>"]
    }

    private func resource(_ resource: ResourceSection) -> [String] {
        let name = XML.escaped(resource.name)
        let place = XML.escaped(resource.position.description)
        var lines = ["    <resource name=\"\(name)\" conf-file-line=\"\(place)\">"]
        for host in resource.hosts {
            switch host.kind {
            case .on: lines.append("        <host name=\"\(XML.escaped(host.names.joined(separator: " ")))\">")
            case .floating: lines.append("        <host floating=\"1\">")
            case .stacked(let lower): lines.append("        <host stacked-on-top-of=\"\(XML.escaped(lower))\">")
            }
            for volume in host.volumes { lines += self.volume(volume, isStacked: host.kind.isStacked) }
            if let address = host.address?.address {
                lines.append(
                    "            <address family=\"\(address.family)\" port=\"\(address.port)\">\(address.host)</address>")
            }
            lines.append("        </host>")
        }
        lines += sections(isEffective ? resource.effectiveSections(common: tree.common) : resource.sections)
        return lines + ["    </resource>"]
    }

    private func volume(_ volume: VolumeSection, isStacked: Bool) -> [String] {
        var lines = ["            <volume vnr=\"\(volume.number)\">"]
        if !volume.isImplicit { lines += section("disk", volume.diskOptions, 16) }
        if let device = volume.device {
            lines.append("                <device minor=\"\(device.minor)\">\(XML.escaped(device.path))</device>")
        }
        if !isStacked {
            if let disk = volume.disk { lines.append("                <disk>\(XML.escaped(disk.path))</disk>") }
            if let item = volume.metaDisk {
                var index = ""
                if case .indexed(let number) = item.index { index = " index=\"\(number)\"" }
                lines.append("                <meta-disk\(index)>\(XML.escaped(item.path ?? "internal"))</meta-disk>")
            }
        }
        return lines + ["            </volume>"]
    }
}

enum XML {
    static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&apos;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
