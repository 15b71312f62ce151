import ReplicaProto

/// Host sections, volumes and their items (`control.md` 1.3 to 1.5).
extension ConfigParser {
    /// `on NAME... { }`; also `_this_host` and `_remote_host` of a running configuration.
    mutating func host(of resource: inout ResourceSection) throws(ConfigError) {
        var host = HostSection(kind: .on, names: [], position: token.position)
        let isOn = token.isWord("on")
        if !isOn { host.names = [token.text] }
        try advance()
        while isOn, let name = token.value {
            claim("host section", "\(resource.name): on \(name)", at: token.position)
            host.names.append(name)
            try advance()
        }
        if host.names.isEmpty { throw .expected("hostname", got: token) }
        try hostBody(of: resource.name, into: &host)
        resource.hosts.append(host)
    }

    /// `floating ADDRESS;` or `floating ADDRESS { }`
    mutating func floating(of resource: inout ResourceSection) throws(ConfigError) {
        var host = HostSection(kind: .floating, names: [], position: token.position)
        try advance()
        host.address = try address()
        claim("host section", "\(resource.name): \(host.title)", at: host.position)
        if token.isSymbol(";") {
            try advance()
        } else {
            try hostBody(of: resource.name, into: &host)
        }
        resource.hosts.append(host)
    }

    /// `stacked-on-top-of NAME { }`
    mutating func stacked(of resource: inout ResourceSection) throws(ConfigError) {
        let position = token.position
        try advance()
        guard let lower = token.value else { throw .expected("resource name", got: token) }
        try advance()
        var host = HostSection(kind: .stacked(lower: lower), names: [], position: position)
        claim("host section", "\(resource.name): \(host.title)", at: position)
        try openBrace()
        while !token.isSymbol("}") {
            switch token.kind {
            case .word("device"): try deviceItem(implicitIn: &host.volumes)
            case .word("address"): try addressItem(into: &host)
            case .word("proxy"): try proxyHost(into: &host)
            case .word("volume"): try volume(into: &host.volumes, of: "\(resource.name):\(host.title)")
            default: throw .expected("device | address | proxy | volume", got: token)
            }
        }
        try advance()
        resource.hosts.append(host)
    }

    private mutating func hostBody(of resource: String, into host: inout HostSection) throws(ConfigError) {
        try openBrace()
        while !token.isSymbol("}") {
            switch token.kind {
            case .word("device"), .word("disk"), .word("meta-disk"), .word("flexible-meta-disk"):
                try deviceItem(implicitIn: &host.volumes)
            case .word("address"): try addressItem(into: &host)
            case .word("alternate-link-address"):
                warn(token.position, "alternate-link-address has no effect.")
                try advance()
                _ = try address()
                try semicolon()
            case .word("volume"): try volume(into: &host.volumes, of: "\(resource):\(host.title)")
            case .word("options"):
                try advance()
                try hostOptions(of: "\(resource):\(host.title)", into: &host.options)
            case .word("proxy"): try proxyHost(into: &host)
            default:
                throw .expected(
                    "disk | device | address | meta-disk | flexible-meta-disk | volume | options | proxy", got: token)
            }
        }
        try advance()
    }

    private mutating func addressItem(into host: inout HostSection) throws(ConfigError) {
        let position = token.position
        try advance()
        let item = try address()
        if let first = host.address {
            faults += ConfigError.conflict("address statement", host.title, at: position, first: first.position)
        }
        host.address = item
        try semicolon()
    }

    /// `[FAMILY] IPV4:PORT` or `[FAMILY] [IPV6]:PORT`
    mutating func address() throws(ConfigError) -> AddressItem {
        let position = token.position
        var family: String?
        switch token.kind {
        case .word("ipv4"), .word("ipv6"), .word("ssocks"), .word("sdp"), .word("sci"):
            family = token.text
            try advance()
        default: break
        }
        let host: String
        if token.isSymbol("["), family == nil || family == "ipv6" {
            host = try lexer.bracketed()
            family = "ipv6"
            if !SocketAddress.isIPv6Text(host) {
                throw ConfigError(position, "'\(host)' is not an IPv6 address.")
            }
        } else if case .word(let word) = token.kind, family != "ipv6", SocketAddress.isIPv4Text(word) {
            host = word
        } else {
            throw .expected("ssocks | sdp | ipv4 | ipv6 | <ipv4 address> ", got: token)
        }
        try advance()
        guard token.isSymbol(":") else { throw .expected(":", got: token) }
        try advance()
        guard case .word(let text) = token.kind else { throw .expected("port number", got: token) }
        let shape = OptionShape("port", .number(1...65_535, .one), .must)
        var port: UInt16 = 0
        do {
            if case .number(let number) = try shape.value(parsing: text) { port = UInt16(clamping: number) }
        } catch { throw ConfigError(token.position, error.message) }
        try advance()
        if let family, family != "ipv4", family != "ipv6" {
            throw ConfigError(position, "transport '\(family)' is not available in user space.")
        }
        return AddressItem(
            address: SocketAddress(family: family ?? "ipv4", host: host, port: port), position: position)
    }

    private mutating func proxyHost(into host: inout HostSection) throws(ConfigError) {
        let position = token.position
        try advance()
        guard token.isWord("on") else { throw .expected("on", got: token) }
        try advance()
        var names: [String] = []
        while let name = token.value {
            names.append(name)
            try advance()
        }
        if names.isEmpty { throw .expected("hostname", got: token) }
        var inside: SocketAddress?
        var outside: SocketAddress?
        var ignored = ConfigSections()
        try openBrace()
        while !token.isSymbol("}") {
            switch token.kind {
            case .word("inside"):
                try advance()
                inside = try address().address
                try semicolon()
            case .word("outside"):
                try advance()
                outside = try address().address
                try semicolon()
            case .word("options"):
                try advance()
                try openBrace()
                while !token.isSymbol("}") {
                    try plainOption(from: OptionTable.proxy, into: &ignored.proxy)
                }
                try advance()
            default: throw .expected("inside | outside | options", got: token)
            }
        }
        try advance()
        guard let inside, let outside else {
            throw ConfigError(position, "'inside' and 'outside' addresses are needed for a proxy")
        }
        warn(position, "no proxy is used: the direct address counts.")
        host.proxy = ProxyHost(names: names, inside: inside, outside: outside, position: position)
    }

    // MARK: Volumes

    mutating func volume(into volumes: inout [VolumeSection], of owner: String) throws(ConfigError) {
        let position = token.position
        try advance()
        guard case .word(let text) = token.kind, let number = UInt16(text) else {
            throw .expected("volume number", got: token)
        }
        try advance()
        claim("volume section", "\(owner): volume \(number)", at: position)
        var volume = VolumeSection(number: number, isImplicit: false, position: position)
        try openBrace()
        while !token.isSymbol("}") {
            let before = (lexer, token)
            if token.isWord("disk") {
                try advance()
                if token.isSymbol("{") {
                    try diskSection(of: "\(owner): volume \(number)", into: &volume.diskOptions)
                    continue
                }
                (lexer, token) = before
            }
            try deviceItem(of: &volume)
        }
        try advance()
        volumes.append(volume)
    }

    /// An item that stands in no volume: it belongs to the implicit volume 0.
    mutating func deviceItem(implicitIn volumes: inout [VolumeSection]) throws(ConfigError) {
        let position = token.position
        let index: Int
        if let found = volumes.firstIndex(where: \.isImplicit) {
            index = found
        } else {
            index = volumes.endIndex
            volumes.append(VolumeSection(number: 0, isImplicit: true, position: position))
        }
        try deviceItem(of: &volumes[index])
    }

    private mutating func deviceItem(of volume: inout VolumeSection) throws(ConfigError) {
        let position = token.position
        guard case .word(let keyword) = token.kind else {
            throw .expected("disk | device | meta-disk | flexible-meta-disk", got: token)
        }
        func once(_ first: SourcePosition?, _ faults: inout [ConfigError.Fault]) {
            guard let first else { return }
            faults += ConfigError.conflict("\(keyword) statement", keyword, at: position, first: first)
        }
        switch keyword {
        case "device":
            once(volume.device?.position, &faults)
            volume.device = try device()
        case "disk":
            once(volume.disk?.position, &faults)
            try advance()
            guard let path = token.value else { throw .expected("disk statement", got: token) }
            volume.disk = (path, token.position)
            try advance()
            try semicolon()
        case "meta-disk":
            once(volume.metaDisk?.position, &faults)
            volume.metaDisk = try metaDisk()
        case "flexible-meta-disk":
            once(volume.metaDisk?.position, &faults)
            try advance()
            guard let path = token.value else { throw .expected("internal | a path", got: token) }
            volume.metaDisk =
                path == "internal"
                ? MetaDiskItem(path: nil, index: .internal, position: position)
                : MetaDiskItem(path: path, index: .flexible, position: position)
            try advance()
            try semicolon()
        default: throw .expected("disk | device | meta-disk | flexible-meta-disk", got: token)
        }
    }

    /// `meta-disk internal;`, `meta-disk PATH;` or `meta-disk PATH [N];`
    private mutating func metaDisk() throws(ConfigError) -> MetaDiskItem {
        let position = token.position
        try advance()
        guard let path = token.value else { throw .expected("internal | a path", got: token) }
        let isInternal = token.isWord("internal")
        try advance()
        if isInternal {
            try semicolon()
            return MetaDiskItem(path: nil, index: .internal, position: position)
        }
        if token.isSymbol(";") {
            try advance()
            return MetaDiskItem(path: path, index: .flexible, position: position)
        }
        guard token.isSymbol("[") else { throw .expected("[ | ;", got: token) }
        try advance()
        if token.isWord("flexible") {
            try advance()
            guard token.isSymbol("]") else { throw .expected("]", got: token) }
            try advance()
            try semicolon()
            return MetaDiskItem(path: path, index: .flexible, position: position)
        }
        guard case .word(let text) = token.kind, let index = UInt32(text), index <= 65_535 else {
            throw .expected("a meta-disk index", got: token)
        }
        try advance()
        guard token.isSymbol("]") else { throw .expected("]", got: token) }
        try advance()
        try semicolon()
        return MetaDiskItem(path: path, index: .indexed(index), position: position)
    }

    /// `device PATH;`, `device PATH minor N;`, `device minor N;` and our own `device unix:/PATH minor N;`
    private mutating func device() throws(ConfigError) -> DeviceItem {
        let position = token.position
        try advance()
        var path: String?
        if !token.isWord("minor") {
            guard let written = token.value else { throw .expected("a device path | minor", got: token) }
            let start = token.position
            try advance()
            if written == "unix", token.isSymbol(":") {
                try advance()
                guard let socket = token.value, socket.hasPrefix("/") else {
                    throw .expected("an absolute socket path", got: token)
                }
                path = "unix:" + socket
                try advance()
            } else if written.hasPrefix("unix:/") || written.hasPrefix("/") {
                path = written
            } else {
                path = "/dev/" + written
            }
            if let path, !ConfigParser.isDevicePath(path) {
                throw ConfigError(
                    start,
                    "device name must start with /dev/drbd\n\t(/dev/ is optional, but drbd is required); "
                        + "/dev/nbdN, /dev/replica/NAME and unix:/PATH are known too")
            }
        }
        var explicit: UInt32?
        if token.isWord("minor") {
            try advance()
            guard case .word(let text) = token.kind, let number = UInt32(text), number <= 1_048_575 else {
                throw .expected("a minor number", got: token)
            }
            explicit = number
            try advance()
        } else if !token.isSymbol(";") {
            throw .expected("minor | ;", got: token)
        }
        try semicolon()
        return try DeviceItem(path: path, explicitMinor: explicit, position: position)
    }

    private static func isDevicePath(_ path: String) -> Bool {
        path.hasPrefix("/dev/drbd") || path.hasPrefix("/dev/nbd") || path.hasPrefix("/dev/replica/")
            || path.hasPrefix("unix:/")
    }
}

extension DeviceItem {
    /// Completes what is written by the rules of `control.md` 1.5.
    fileprivate init(path: String?, explicitMinor: UInt32?, position: SourcePosition) throws(ConfigError) {
        guard let path else {
            // The grammar admits an absent path only in front of `minor N`.
            let minor = explicitMinor ?? 0
            self.init(path: "/dev/drbd\(minor)", minor: minor, position: position)
            return
        }
        var implied: UInt32?
        for prefix in ["/dev/drbd", "/dev/nbd"] where path.hasPrefix(prefix) {
            implied = UInt32(path.dropFirst(prefix.count))
        }
        switch (explicitMinor, implied) {
        case (nil, nil):
            throw ConfigError(position, "no minor given nor device name contains a minor number")
        case (let explicit?, let implied?) where explicit != implied && path.hasPrefix("/dev/drbd"):
            throw ConfigError(
                position,
                "explicit minor number must match with device name\n\tTry \"device /dev/drbd\(explicit) minor "
                    + "\(explicit);\",\n\tor leave off either device name or explicit minor.\n\t"
                    + "Arbitrary device names must start with /dev/drbd_\n\tmind the '_'! "
                    + "(/dev/ is optional, but drbd_ is required)")
        case (let explicit?, _): self.init(path: path, minor: explicit, position: position)
        case (nil, let implied?): self.init(path: path, minor: implied, position: position)
        }
    }
}
