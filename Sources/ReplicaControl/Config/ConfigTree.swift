import ReplicaProto

/// One option as written: the text is kept for `dump`, its value was checked when it was parsed.
package struct ConfigOption: Equatable, Sendable {
    /// The 8.4 name.
    package var name: String
    /// nil for a bare flag that is no boolean of 8.4 (`disable-ip-verification`).
    package var value: String?
    package var position: SourcePosition
}

/// The content of one option section; several 8.3 sections may end up in one of 8.4.
package struct OptionSection: Equatable, Sendable {
    package var options: [ConfigOption] = []

    package init() {}

    package subscript(name: String) -> ConfigOption? { options.last { $0.name == name } }
}

/// The sections that a resource and `common` share.
package struct ConfigSections: Equatable, Sendable {
    package var options = OptionSection()
    package var net = OptionSection()
    package var disk = OptionSection()
    package var startup = OptionSection()
    package var proxy = OptionSection()
    package var handlers = OptionSection()
    /// `plugin { }` lines of the proxy section.
    package var proxyPlugins: [String] = []
}

/// How a volume is offered: `device PATH minor N`.
package struct DeviceItem: Equatable, Sendable {
    package var path: String
    package var minor: UInt32
    package var position: SourcePosition
}

package struct MetaDiskItem: Equatable, Sendable {
    /// nil for internal.
    package var path: String?
    package var index: MetadataIndex
    package var position: SourcePosition
}

/// `volume N { }`, or the implicit volume 0 made of items that stand in no volume.
package struct VolumeSection: Equatable, Sendable {
    package var number: UInt16
    package var isImplicit: Bool
    package var device: DeviceItem?
    package var disk: (path: String, position: SourcePosition)?
    package var metaDisk: MetaDiskItem?
    package var diskOptions = OptionSection()
    package var position: SourcePosition

    package static func == (left: VolumeSection, right: VolumeSection) -> Bool {
        left.number == right.number && left.isImplicit == right.isImplicit && left.device == right.device
            && left.disk?.path == right.disk?.path && left.metaDisk == right.metaDisk
            && left.diskOptions == right.diskOptions
    }
}

package struct AddressItem: Equatable, Sendable {
    package var address: SocketAddress
    package var position: SourcePosition
}

/// `proxy on NAME { inside ADDRESS; outside ADDRESS; }`: kept for `dump`, never used.
package struct ProxyHost: Equatable, Sendable {
    package var names: [String]
    package var inside: SocketAddress
    package var outside: SocketAddress
    package var position: SourcePosition
}

/// `on`, `floating` or `stacked-on-top-of`.
package struct HostSection: Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        case on
        case floating
        case stacked(lower: String)
    }

    package var kind: Kind
    /// Empty for floating and stacked ones.
    package var names: [String]
    package var volumes: [VolumeSection] = []
    package var address: AddressItem?
    package var proxy: ProxyHost?
    package var options = OptionSection()
    package var position: SourcePosition

    /// How messages name the section.
    package var title: String {
        switch kind {
        case .on: "on \(names.joined(separator: " "))"
        case .floating: "floating \(address.map { "\($0.address)" } ?? "")"
        case .stacked(let lower): "stacked-on-top-of \(lower)"
        }
    }
}

package struct ResourceSection: Equatable, Sendable {
    package var name: String
    /// Where its name stands.
    package var position: SourcePosition
    package var sections = ConfigSections()
    package var hosts: [HostSection] = []
    /// Items and volumes at resource level, shared by the hosts.
    package var volumes: [VolumeSection] = []
    package var isStacked: Bool {
        hosts.contains { host in
            if case .stacked = host.kind { return true }
            return false
        }
    }
}

/// Everything that the configuration files say, before inheritance.
package struct ConfigTree: Equatable, Sendable {
    /// The file that was read first, as found.
    package var file: String
    package var global = OptionSection()
    package var hasGlobal = false
    package var common: ConfigSections?
    package var resources: [ResourceSection] = []
    package var warnings: [ConfigError.Fault] = []
    /// Unknown resources after `resync-after`: a fault for an administrator, a warning at boot.
    package var danglingReferences: [ConfigError.Fault] = []
}
