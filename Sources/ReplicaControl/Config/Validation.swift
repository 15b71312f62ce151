import ReplicaProto

/// Checks that need more than one line: completeness, uniqueness, references (`control.md` 1.4, 1.8, 1.11).
extension ConfigParser {
    mutating func checkHosts() {
        for index in tree.resources.indices { tree.resources[index].spreadVolumes() }
        for resource in tree.resources {
            if resource.hosts.contains(where: { $0.names == ["_this_host"] }) { continue }
            checkPeers(of: resource)
            for host in resource.hosts { check(host, of: resource) }
            checkVolumeNumbers(of: resource)
            checkPromotion(of: resource)
            checkSplitBrainPolicies(of: resource)
            checkTimeouts(of: resource)
            checkReferences(of: resource)
        }
    }

    private mutating func fault(_ position: SourcePosition, _ message: String) {
        faults.append(ConfigError.Fault(position: position, message: message))
    }

    private mutating func checkPeers(of resource: ResourceSection) {
        if resource.hosts.count < 2 {
            fault(resource.position, "in resource \(resource.name):\n\tMissing section 'on <PEER> { ... }'.")
        }
    }

    private mutating func check(_ host: HostSection, of resource: ResourceSection) {
        let place = "in resource \(resource.name), \(host.title) { ... }:"
        var isStacked = false
        if case .stacked(let lower) = host.kind {
            isStacked = true
            if !tree.resources.contains(where: { $0.name == lower }) {
                fault(host.position, "in resource \(resource.name), referenced resource '\(lower)' not defined.")
            }
        }
        if host.volumes.contains(where: \.isImplicit), host.volumes.contains(where: { !$0.isImplicit }) {
            fault(host.position, "\(place) you must not mix implicit and explicit volumes")
        }
        if host.volumes.isEmpty {
            fault(host.position, "\(place) 'device' keyword missing.")
        }
        let name = host.names.first ?? host.title
        for volume in host.volumes {
            let where_ = volume.isImplicit ? place : "\(place) volume \(volume.number):"
            if volume.device == nil { fault(host.position, "\(where_) 'device' keyword missing.") }
            if !isStacked && volume.disk == nil { fault(host.position, "\(where_) 'disk' keyword missing.") }
            if !isStacked && volume.metaDisk == nil { fault(host.position, "\(where_) 'meta-disk' keyword missing.") }
            if isStacked { continue }
            if let device = volume.device {
                claim("device-minor", "\(name):\(device.minor)", at: device.position)
                claim("device", "\(name):\(device.path)", at: device.position)
            }
            if let disk = volume.disk { claim("disk", "\(name):\(disk.path)", at: disk.position) }
            if let item = volume.metaDisk, let path = item.path {
                claim("meta-disk", "\(name):\(path)[\(item.index.text)]", at: item.position)
            }
        }
        guard let item = host.address else {
            fault(host.position, "\(place) 'address' keyword missing.")
            return
        }
        let isLoopback = item.address.host.hasPrefix("127.") || item.address.host == "::1"
        let key = "\(item.address.host):\(item.address.port)"
        claim("IP", isLoopback ? "\(name):\(key)" : key, at: item.position)
    }

    private mutating func checkVolumeNumbers(of resource: ResourceSection) {
        for host in resource.hosts {
            for other in resource.hosts where other != host {
                for volume in host.volumes where !other.volumes.contains(where: { $0.number == volume.number }) {
                    let name = other.names.first ?? other.title
                    fault(
                        volume.position,
                        "in resource \(resource.name), \(host.title) { ... }: volume \(volume.number) not defined on "
                            + name)
                }
            }
        }
    }

    private mutating func checkPromotion(of resource: ResourceSection) {
        let sections = resource.effectiveSections(common: tree.common)
        guard let option = sections.startup["become-primary-on"], let value = option.value else { return }
        if value == "both" {
            if sections.net["allow-two-primaries"]?.value != "yes" {
                fault(
                    option.position,
                    "in resource \(resource.name):\nbecome-primary-on is set to both, but allow-two-primaries is not "
                        + "set.")
            }
            return
        }
        for name in value.split(separator: " ") where !resource.hosts.contains(where: { $0.names.contains(String(name)) }) {
            fault(
                option.position,
                "in resource \(resource.name):\n\tbecome-primary-on contains '\(name)', which is not named with the "
                    + "'on' sections.")
        }
    }

    private mutating func checkSplitBrainPolicies(of resource: ResourceSection) {
        let prefix = "discard-node-"
        guard let option = resource.effectiveSections(common: tree.common).net["after-sb-0pri"],
            let value = option.value, value.hasPrefix(prefix)
        else { return }
        let name = String(value.dropFirst(prefix.count))
        if !resource.hosts.contains(where: { $0.names.contains(name) }) {
            fault(
                option.position,
                "in resource \(resource.name):\n\tafter-sb-0pri names '\(name)', which is not named with the 'on' "
                    + "sections.")
        }
    }

    /// DRBD documents these as wrong and accepts them.
    private mutating func checkTimeouts(of resource: ResourceSection) {
        let net = resource.effectiveSections(common: tree.common).net
        guard let option = net["timeout"] else { return }
        var options = NetOptions()
        for name in ["timeout", "connect-int", "ping-int"] {
            guard let field = OptionTable.net.field(named: name), let value = net[name]?.value else { continue }
            // A value that can't be read has been reported where it stands.
            do { try field.apply(value, to: &options) } catch { return }
        }
        if options.timeout >= 10 * min(options.connectInterval, options.pingInterval) {
            warn(option.position, "timeout should be lower than connect-int and ping-int.")
        }
    }

    private mutating func checkReferences(of resource: ResourceSection) {
        var sections = [resource.effectiveSections(common: tree.common).disk]
        for host in resource.hosts { sections += host.volumes.map(\.diskOptions) }
        var seen: [SourcePosition] = []
        for section in sections {
            guard let option = section["resync-after"], let value = option.value, !seen.contains(option.position) else {
                continue
            }
            seen.append(option.position)
            let name = value.split(separator: "/").first.map(String.init) ?? ""
            if Int(value) != nil || name.hasPrefix("minor-") { continue }
            if !tree.resources.contains(where: { $0.name == name }) {
                danglingReferences.append(
                    ConfigError.Fault(
                        position: option.position,
                        message: "resource '\(name)' mentioned in 'resync-after' option is not known."))
            }
        }
    }
}
