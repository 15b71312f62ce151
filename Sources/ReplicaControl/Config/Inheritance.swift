/// What a part of the configuration says by way of what surrounds it (`control.md` 1.8): the innermost setting wins.
extension OptionSection {
    /// Takes over the options that are not set here. Each goes in front, as DRBD's own tools order them, so that
    /// generated command lines read the same.
    package mutating func inherit(_ outer: OptionSection) {
        for option in outer.options where self[option.name] == nil { options.insert(option, at: 0) }
    }
}

extension ConfigSections {
    package mutating func inherit(_ outer: ConfigSections) {
        options.inherit(outer.options)
        net.inherit(outer.net)
        disk.inherit(outer.disk)
        startup.inherit(outer.startup)
        proxy.inherit(outer.proxy)
        handlers.inherit(outer.handlers)
        if proxyPlugins.isEmpty { proxyPlugins = outer.proxyPlugins }
    }
}

extension ResourceSection {
    /// The options of this resource together with those of `common`.
    package func effectiveSections(common: ConfigSections?) -> ConfigSections {
        var result = sections
        if let common { result.inherit(common) }
        return result
    }

    /// Copies items and volumes of resource level into each host that lacks them.
    mutating func spreadVolumes() {
        for host in hosts.indices {
            if case .stacked = hosts[host].kind { continue }
            for shared in volumes { hosts[host].take(shared) }
            hosts[host].volumes.sort { $0.number < $1.number }
        }
    }
}

extension HostSection {
    fileprivate mutating func take(_ shared: VolumeSection) {
        guard
            let index = volumes.firstIndex(where: { $0.number == shared.number && $0.isImplicit == shared.isImplicit })
        else {
            volumes.append(shared)
            return
        }
        if volumes[index].device == nil { volumes[index].device = shared.device }
        if volumes[index].disk == nil { volumes[index].disk = shared.disk }
        if volumes[index].metaDisk == nil { volumes[index].metaDisk = shared.metaDisk }
        volumes[index].diskOptions.inherit(shared.diskOptions)
    }
}
