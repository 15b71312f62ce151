import ReplicaProto

/// The normalised configuration as `dump` prints it (`control.md` 1.12): read again, it means the same.
struct ConfigDump {
    var tree: ConfigTree
    var node: String
    /// Shows inherited options where they take effect.
    var isEffective = false
    /// Names of the resources that are selected here.
    var here: [String]

    /// - Parameter names: only these resources, without the sections above them; nil for everything.
    func text(of names: [String]?) -> String {
        var out = Output()
        if let names {
            for resource in tree.resources where names.contains(resource.name) { dump(resource, into: &out) }
            return out.text
        }
        out.line(0, "# \(tree.file)")
        dumpGlobal(into: &out)
        if let common = tree.common {
            out.line(0, "common {")
            dump(common, into: &out)
            out.line(0, "}")
            out.line(0, "")
        }
        for resource in tree.resources { dump(resource, into: &out) }
        return out.text
    }

    private struct Output {
        var text = ""
        mutating func line(_ indent: Int, _ content: String) {
            text += String(repeating: " ", count: content.isEmpty ? 0 : indent) + content + "\n"
        }
        /// A name and its value, which begins in column 25 where it can.
        mutating func item(_ indent: Int, _ name: String, _ value: String) {
            line(indent, ConfigDump.padded(name, 24 - indent) + " " + value + ";")
        }
        /// As `item`, short values right-aligned.
        mutating func option(_ indent: Int, _ option: ConfigOption) {
            guard let value = option.value else {
                line(indent, option.name + ";")
                return
            }
            let text = ConfigDump.quoted(value)
            item(indent, option.name, String(repeating: " ", count: max(0, 3 - text.utf8.count)) + text)
        }
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.utf8.count))
    }

    /// In double quotes if it is no word.
    static func quoted(_ text: String) -> String {
        if !text.isEmpty, text.utf8.count <= Lexer.wordBytes, text.utf8.allSatisfy(Lexer.isWordByte) { return text }
        var result = "\""
        for character in text.unicodeScalars {
            if character == "\"" || character == "\\" { result += "\\" }
            result.unicodeScalars.append(character)
        }
        return result + "\""
    }

    private func dumpGlobal(into out: inout Output) {
        guard tree.hasGlobal else { return }
        let defaults = [
            ("dialog-refresh", "1"), ("cmd-timeout-short", "5"), ("cmd-timeout-medium", "121"),
            ("cmd-timeout-long", "600"), ("usage-count", "ask"),
        ]
        out.line(0, "global {")
        for option in tree.global.options {
            if let value = option.value {
                if defaults.contains(where: { $0.0 == option.name && $0.1 == value }) { continue }
                out.line(4, "\(option.name) \(ConfigDump.quoted(value));")
            } else {
                out.line(4, "\(option.name);")
            }
        }
        out.line(0, "}")
        out.line(0, "")
    }

    private func dump(_ sections: ConfigSections, into out: inout Output) {
        section("options", sections.options, 4, into: &out)
        section("net", sections.net, 4, into: &out)
        section("disk", sections.disk, 4, into: &out)
        startup(sections.startup, into: &out)
        proxy(sections, into: &out)
        section("handlers", sections.handlers, 4, into: &out)
    }

    private func section(_ name: String, _ section: OptionSection, _ indent: Int, into out: inout Output) {
        if section.options.isEmpty { return }
        out.line(indent, name + " {")
        for option in section.options { out.option(indent + 4, option) }
        out.line(indent, "}")
    }

    /// `become-primary-on` takes several words, which are not one string.
    private func startup(_ section: OptionSection, into out: inout Output) {
        if section.options.isEmpty { return }
        out.line(4, "startup {")
        for option in section.options {
            if option.name == "become-primary-on", let value = option.value {
                let names = value.split(separator: " ").map { ConfigDump.quoted(String($0)) }
                out.item(8, option.name, names.joined(separator: " "))
            } else {
                out.option(8, option)
            }
        }
        out.line(4, "}")
    }

    private func proxy(_ sections: ConfigSections, into out: inout Output) {
        if sections.proxy.options.isEmpty && sections.proxyPlugins.isEmpty { return }
        out.line(4, "proxy {")
        for option in sections.proxy.options { out.option(8, option) }
        if !sections.proxyPlugins.isEmpty {
            out.line(8, "plugin {")
            for plugin in sections.proxyPlugins {
                let words = plugin.split(separator: " ").map { ConfigDump.quoted(String($0)) }
                out.line(12, words.joined(separator: " ") + ";")
            }
            out.line(8, "}")
        }
        out.line(4, "}")
    }

    private func dump(_ resource: ResourceSection, into out: inout Output) {
        let ignored = here.contains(resource.name) ? "not ignored" : "ignored"
        let stacked = resource.isStacked ? "stacked" : "not stacked"
        out.line(0, "# resource \(resource.name) on \(node): \(ignored), \(stacked)")
        out.line(0, "# defined at \(resource.position)")
        out.line(0, "resource \(ConfigDump.quoted(resource.name)) {")
        for host in resource.hosts { dump(host, into: &out) }
        dump(isEffective ? resource.effectiveSections(common: tree.common) : resource.sections, into: &out)
        out.line(0, "}")
        out.line(0, "")
    }

    private func dump(_ host: HostSection, into out: inout Output) {
        switch host.kind {
        case .on: out.line(4, "on \(host.names.map(ConfigDump.quoted).joined(separator: " ")) {")
        case .floating: out.line(4, "floating \(host.address.map { ConfigDump.address($0.address) } ?? "") {")
        case .stacked(let lower): out.line(4, "stacked-on-top-of \(ConfigDump.quoted(lower)) {")
        }
        section("options", host.options, 8, into: &out)
        for volume in host.volumes { dump(volume, isStacked: host.kind.isStacked, into: &out) }
        if host.kind != .floating, let item = host.address {
            out.item(8, "address", ConfigDump.address(item.address))
        }
        if let proxy = host.proxy {
            out.line(8, "proxy on \(proxy.names.map(ConfigDump.quoted).joined(separator: " ")) {")
            out.item(12, "inside", ConfigDump.address(proxy.inside))
            out.item(12, "outside", ConfigDump.address(proxy.outside))
            out.line(8, "}")
        }
        out.line(4, "}")
    }

    private func dump(_ volume: VolumeSection, isStacked: Bool, into out: inout Output) {
        let indent = volume.isImplicit ? 8 : 12
        if !volume.isImplicit { out.line(8, "volume \(volume.number) {") }
        if let device = volume.device {
            out.item(indent, "device", "\(ConfigDump.quoted(device.path)) minor \(device.minor)")
        }
        if !isStacked {
            if let disk = volume.disk { out.item(indent, "disk", ConfigDump.quoted(disk.path)) }
            if let item = volume.metaDisk { out.item(indent, "meta-disk", ConfigDump.metaDisk(item)) }
        }
        if !volume.isImplicit { section("disk", volume.diskOptions, indent, into: &out) }
        if !volume.isImplicit { out.line(8, "}") }
    }

    private static func metaDisk(_ item: MetaDiskItem) -> String {
        guard let path = item.path else { return "internal" }
        // A path that is called "internal" needs its quotes.
        let text = path == "internal" ? "\"internal\"" : quoted(path)
        if case .indexed(let index) = item.index { return "\(text) [\(index)]" }
        return text
    }

    static func address(_ address: SocketAddress) -> String {
        let host = address.family == "ipv6" ? "[\(address.host)]" : address.host
        return "\(address.family) \(host):\(address.port)"
    }
}

extension HostSection.Kind {
    var isStacked: Bool {
        if case .stacked = self { return true }
        return false
    }
}
