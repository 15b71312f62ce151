import ReplicaProto

/// One volume of a resource as this node sees it.
package struct ResolvedVolume: Equatable, Sendable {
    package var number: VolumeNumber
    package var isImplicit: Bool
    package var minor: UInt32
    /// As written, completed: `/dev/drbd0`, `/dev/nbd3`, `unix:/PATH`.
    package var device: String
    package var disk: String
    /// Equal to `disk` for internal metadata.
    package var metaDisk: String
    package var index: MetadataIndex
    /// Inherited ones included, in the order of the generated command line.
    package var diskOptions: [ConfigOption]
}

/// A resource from this node's point of view: which section is ours, which the peer's, everything inherited.
package struct ResolvedResource: Equatable, Sendable {
    package var section: ResourceSection
    package var sections: ConfigSections
    package var local: HostSection
    /// nil if there are several candidates and none was chosen.
    package var peer: HostSection?
    package var hasSeveralPeers: Bool
    package var volumes: [ResolvedVolume]
    /// The lower resource of a stacked one.
    package var lower: String?

    package var name: String { section.name }
    package var hasExplicitVolumes: Bool { volumes.contains { !$0.isImplicit } }
}

/// Who we are: what decides which sections of a configuration are ours.
package struct NodeIdentity: Equatable, Sendable {
    package var name: String
    package var localAddresses: [String]
    /// `--peer`
    package var peer: String?

    package init(name: String, localAddresses: [String] = [], peer: String? = nil) {
        self.name = name
        self.localAddresses = localAddresses
        self.peer = peer
    }
}

extension ConfigTree {
    /// The resources that have a section for this node, in file order; stacked and normal ones alike.
    package func resources(on node: NodeIdentity) -> [ResolvedResource] {
        resources.compactMap { resolve($0, on: node) }
    }

    package func resolve(_ resource: ResourceSection, on node: NodeIdentity) -> ResolvedResource? {
        guard let localIndex = resource.hosts.firstIndex(where: { isLocal($0, on: node) }) else { return nil }
        let local = resource.hosts[localIndex]
        var lower: ResolvedResource?
        if case .stacked(let name) = local.kind {
            guard let section = resources.first(where: { $0.name == name && !$0.isStacked }) else { return nil }
            lower = resolve(section, on: node)
        }
        let others = resource.hosts.indices.filter { $0 != localIndex }.map { resource.hosts[$0] }
        let chosen = node.peer.flatMap { name in others.first { $0.names.contains(name) } }
        let sections = resource.effectiveSections(common: common)
        return ResolvedResource(
            section: resource, sections: sections, local: local,
            peer: chosen ?? (others.count == 1 ? others.first : nil), hasSeveralPeers: others.count > 1,
            volumes: volumes(of: local, inheriting: sections.disk, on: lower), lower: lower?.name)
    }

    private func isLocal(_ host: HostSection, on node: NodeIdentity) -> Bool {
        switch host.kind {
        case .on: host.names.contains(node.name)
        case .floating: host.address.map { node.localAddresses.contains($0.address.host) } ?? false
        case .stacked(let lower):
            resources.contains { resource in
                resource.name == lower && !resource.isStacked && resource.hosts.contains { isLocal($0, on: node) }
            }
        }
    }

    private func volumes(
        of host: HostSection, inheriting disk: OptionSection, on lower: ResolvedResource?
    ) -> [ResolvedVolume] {
        host.volumes.compactMap { volume in
            guard let device = volume.device else { return nil }
            var options = volume.diskOptions
            options.inherit(disk)
            let below = lower?.volumes.first { $0.number.value == volume.number }
            guard let path = below?.device ?? volume.disk?.path else { return nil }
            return ResolvedVolume(
                number: VolumeNumber(volume.number), isImplicit: volume.isImplicit, minor: device.minor,
                device: device.path, disk: path, metaDisk: volume.metaDisk?.path ?? path,
                index: volume.metaDisk?.index ?? .internal, diskOptions: options.options)
        }
    }
}

// MARK: - Settings for the daemon

extension ResolvedResource {
    package func diskConfiguration(
        of volume: ResolvedVolume, extra: [ConfigOption] = [], among resources: [ResolvedResource]
    ) throws(ConfigError) -> DiskConfiguration {
        DiskConfiguration(
            dataPath: volume.disk, metadataPath: volume.metaDisk, index: volume.index,
            options: try diskOptions(of: volume, extra: extra, among: resources))
    }

    package func diskOptions(
        of volume: ResolvedVolume, extra: [ConfigOption] = [], among resources: [ResolvedResource]
    ) throws(ConfigError) -> DiskOptions {
        var options = DiskOptions()
        for option in volume.diskOptions + extra {
            var option = option
            if option.name == "resync-after" {
                option.value = option.value.map { resyncAfterMinor($0, among: resources) }
            }
            try apply(option, to: &options, from: OptionTable.disk)
        }
        return options
    }

    package func netOptions(extra: [ConfigOption] = []) throws(ConfigError) -> NetOptions {
        var options = NetOptions()
        for option in netOptionTexts + extra { try apply(option, to: &options, from: OptionTable.net) }
        return options
    }

    /// Net options as the low level takes them: a node's name in a policy becomes "local" or "remote".
    package var netOptionTexts: [ConfigOption] {
        sections.net.options.map { option in
            let prefix = "discard-node-"
            guard option.name == "after-sb-0pri", let value = option.value, value.hasPrefix(prefix) else { return option }
            var result = option
            let isLocal = local.names.contains(String(value.dropFirst(prefix.count)))
            result.value = isLocal ? "discard-local" : "discard-remote"
            return result
        }
    }

    /// Resource options, those of the host section included.
    package var resourceOptionTexts: [ConfigOption] {
        var section = local.options
        section.inherit(sections.options)
        return section.options
    }

    package func resourceOptions(extra: [ConfigOption] = []) throws(ConfigError) -> ResourceOptions {
        var options = ResourceOptions()
        for option in resourceOptionTexts + extra { try apply(option, to: &options, from: OptionTable.resource) }
        return options
    }

    package func connection(
        extra: [ConfigOption] = [], discardMyData: Bool = false, tentative: Bool = false
    ) throws(ConfigError) -> ConnectionConfiguration {
        guard let peer, let localAddress = local.address, let remoteAddress = peer.address else {
            throw ConfigError(
                section.position,
                "in resource \(name):\n\tThere are multiple host sections for the peer node.\n\t"
                    + "Use the --peer option to select which peer section to use.", exitCode: 1)
        }
        guard localAddress.address.family == remoteAddress.address.family else {
            throw ConfigError(
                localAddress.position,
                "in resource \(name):\n\tthe two hosts have addresses of different families: "
                    + "\(localAddress.address.family) and \(remoteAddress.address.family).")
        }
        return ConnectionConfiguration(
            local: localAddress.address, remote: remoteAddress.address, options: try netOptions(extra: extra),
            discardMyData: discardMyData, tentative: tentative)
    }

    /// The startup option of that name, 0 if it is not set.
    package func startupSeconds(_ name: String) -> Int { sections.startup[name]?.value.flatMap { Int($0) } ?? 0 }

    private func apply<Settings>(
        _ option: ConfigOption, to settings: inout Settings, from table: [OptionField<Settings>]
    ) throws(ConfigError) {
        guard let field = table.field(named: option.name) else {
            throw ConfigError(option.position, "unknown option '\(option.name)'")
        }
        do { try field.apply(option.value, to: &settings) } catch {
            throw ConfigError(option.position, error.message)
        }
    }

    /// `r2`, `r2/0`, `minor-2` or a minor number, as a minor number; "-1" where there is none such here.
    private func resyncAfterMinor(_ text: String, among resources: [ResolvedResource]) -> String {
        if Int(text) != nil { return text }
        if text.hasPrefix("minor-"), let minor = Int(text.dropFirst(6)) { return String(minor) }
        let parts = text.split(separator: "/", maxSplits: 1)
        guard let name = parts.first, let resource = resources.first(where: { $0.name == name }) else { return "-1" }
        let number = parts.count > 1 ? UInt16(parts[1]) : resource.volumes.first?.number.value
        let volume = resource.volumes.first { $0.number.value == number }
        return volume.map { String($0.minor) } ?? "-1"
    }
}

/// What `replicad` is started with.
extension ResolvedResource {
    package func daemonSettings(node: String, configurationPath: String, handlerTimeoutSeconds: Int) -> DaemonSettings {
        var settings = DaemonSettings(resource: name, node: node)
        settings.peers = peer?.names ?? []
        settings.configurationPath = configurationPath
        settings.volumes = volumes.map {
            DaemonSettings.Volume(volume: $0.number, minor: $0.minor, device: $0.device, disk: $0.disk)
        }
        settings.handlers = sections.handlers.options.compactMap { option in
            option.value.map { DaemonSettings.Handler(name: option.name, commandLine: $0) }
        }
        settings.handlerTimeoutSeconds = handlerTimeoutSeconds
        return settings
    }
}
