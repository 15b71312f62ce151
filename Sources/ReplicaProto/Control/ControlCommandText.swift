/// Why a line is not a control command.
package enum ControlCommandError: Error, Equatable, Sendable {
    case empty
    case badQuoting
    case unknownCommand(String)
    /// The command needs another number of arguments.
    case wrongArguments(command: String, expected: String)
    case badNumber(String)
    case badAddress(String)
    case badIndex(String)
    case otherResource(String)
    case badOption(OptionError)

    package var message: String {
        switch self {
        case .empty: "empty command"
        case .badQuoting: "unterminated quote"
        case .unknownCommand(let command): "unknown command '\(command)'"
        case .wrongArguments(let command, let expected): "\(command) takes \(expected)"
        case .badNumber(let text): "'\(text)' is not a valid number"
        case .badAddress(let text): "'\(text)' is not an address"
        case .badIndex(let text): "'\(text)' is not a meta data index"
        case .otherResource(let name): "this is not resource '\(name)'"
        case .badOption(let error): error.message
        }
    }
}

/// The text form of `ControlCommand`: one line in `drbdsetup` grammar (`control.md` 2.12), except that a volume is
/// named by its number within the resource, and the connection by the resource's name. Options equal to their
/// default are left out; those of `disk-options`, `net-options` and `resource-options` are complete in this sense too.
///
///     new-minor r0 MINOR VOLUME        del-minor VOLUME
///     attach VOLUME DATA META INDEX|internal|flexible --OPTION=VALUE...      detach VOLUME [--force]
///     connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --OPTION=VALUE...     disconnect r0 [--force]
///     disk-options VOLUME ...          net-options r0 ...          resource-options r0 ...
///     primary VOLUME [--force]         secondary|invalidate|... VOLUME       down r0
///     verify VOLUME [--start=SECTOR] [--stop=SECTOR]               resize VOLUME [--size=SECTORS] [--assume-peer-has-space]
///         [--assume-clean]
///     wait-connect VOLUME [--wfc-timeout=S] [--degr-wfc-timeout=S] [--outdated-wfc-timeout=S] [--wait-after-sb]
extension ControlCommand {
    /// The line, without line feed.
    package func line(resource: String) -> String { CommandLineWords.join(words(resource: resource)) }

    package func words(resource: String) -> [String] {
        switch self {
        case .newMinor(let volume, let minor): ["new-minor", resource, String(minor), volume.text]
        case .deleteMinor(let volume): ["del-minor", volume.text]
        case .attach(let volume, let disk):
            ["attach", volume.text, disk.dataPath, disk.metadataPath, disk.index.text]
                + options(disk.options, DiskOptions(), OptionTable.disk)
        case .detach(let volume, let force): ["detach", volume.text] + option("force", force)
        case .diskOptions(let volume, let disk):
            ["disk-options", volume.text, "--set-defaults"] + options(disk, DiskOptions(), OptionTable.disk)
        case .connect(let connection):
            ["connect", resource, connection.local.description, connection.remote.description]
                + options(connection.options, NetOptions(), OptionTable.net)
                + option("discard-my-data", connection.discardMyData) + option("tentative", connection.tentative)
        case .disconnect(let force): ["disconnect", resource] + option("force", force)
        case .netOptions(let net):
            ["net-options", resource, "--set-defaults"] + options(net, NetOptions(), OptionTable.net)
        case .resourceOptions(let resourceOptions):
            ["resource-options", resource, "--set-defaults"]
                + options(resourceOptions, ResourceOptions(), OptionTable.resource)
        case .primary(let volume, let force): ["primary", volume.text] + option("force", force)
        case .secondary(let volume): ["secondary", volume.text]
        case .invalidate(let volume): ["invalidate", volume.text]
        case .invalidateRemote(let volume): ["invalidate-remote", volume.text]
        case .outdate(let volume): ["outdate", volume.text]
        case .newCurrentUUID(let volume, let clearBitmap):
            ["new-current-uuid", volume.text] + option("clear-bitmap", clearBitmap)
        case .pauseSync(let volume): ["pause-sync", volume.text]
        case .resumeSync(let volume): ["resume-sync", volume.text]
        case .suspendIO(let volume): ["suspend-io", volume.text]
        case .resumeIO(let volume): ["resume-io", volume.text]
        case .verify(let volume, let start, let stop):
            ["verify", volume.text] + sectors("start", start) + sectors("stop", stop)
        case .resize(let volume, let size):
            ["resize", volume.text] + sectors("size", size.sectors == 0 ? nil : size.sectors)
                + option("assume-peer-has-space", size.assumePeerHasSpace) + option("assume-clean", size.assumeClean)
        case .waitConnect(let volume, let times): ["wait-connect", volume.text] + times.words
        case .waitSync(let volume, let times): ["wait-sync", volume.text] + times.words
        case .down: ["down", resource]
        }
    }

    /// Reads one line. A line that names a resource is refused where it is not `resource`.
    package init(parsing line: String, resource: String) throws(ControlCommandError) {
        let words: [String]
        do { words = try CommandLineWords.split(line) } catch { throw .badQuoting }
        try self.init(words: words, resource: resource)
    }

    package init(words: [String], resource: String) throws(ControlCommandError) {
        guard let command = words.first else { throw .empty }
        var arguments = CommandArguments(command: command, words: words.dropFirst())
        switch command {
        case "new-minor":
            try arguments.expect(3, "RESOURCE MINOR VOLUME")
            try arguments.checkResource(resource)
            let minor = try arguments.minor(1)
            self = .newMinor(try arguments.volume(2), minor: minor)
        case "del-minor":
            try arguments.expect(1, "VOLUME")
            self = .deleteMinor(try arguments.volume(0))
        case "attach":
            try arguments.expect(4, "VOLUME DATA META INDEX")
            let volume = try arguments.volume(0)
            guard let index = MetadataIndex(parsing: arguments.positional[3]) else {
                throw .badIndex(arguments.positional[3])
            }
            var options = DiskOptions()
            try arguments.take(OptionTable.disk, into: &options)
            self = .attach(
                volume,
                DiskConfiguration(
                    dataPath: arguments.positional[1], metadataPath: arguments.positional[2], index: index,
                    options: options))
        case "detach":
            try arguments.expect(1, "VOLUME")
            self = .detach(try arguments.volume(0), force: try arguments.takeFlag("force"))
        case "disk-options":
            try arguments.expect(1, "VOLUME")
            _ = try arguments.takeFlag("set-defaults")
            var options = DiskOptions()
            try arguments.take(OptionTable.disk, into: &options)
            self = .diskOptions(try arguments.volume(0), options)
        case "connect":
            try arguments.expect(3, "RESOURCE LOCAL REMOTE")
            try arguments.checkResource(resource)
            let discard = try arguments.takeFlag("discard-my-data")
            let tentative = try arguments.takeFlag("tentative")
            var options = NetOptions()
            try arguments.take(OptionTable.net, into: &options)
            self = .connect(
                ConnectionConfiguration(
                    local: try arguments.address(1), remote: try arguments.address(2), options: options,
                    discardMyData: discard, tentative: tentative))
        case "disconnect":
            try arguments.expect(1, "RESOURCE")
            try arguments.checkResource(resource)
            self = .disconnect(force: try arguments.takeFlag("force"))
        case "net-options":
            try arguments.expect(1, "RESOURCE")
            try arguments.checkResource(resource)
            _ = try arguments.takeFlag("set-defaults")
            var options = NetOptions()
            try arguments.take(OptionTable.net, into: &options)
            self = .netOptions(options)
        case "resource-options":
            try arguments.expect(1, "RESOURCE")
            try arguments.checkResource(resource)
            _ = try arguments.takeFlag("set-defaults")
            var options = ResourceOptions()
            try arguments.take(OptionTable.resource, into: &options)
            self = .resourceOptions(options)
        case "primary":
            try arguments.expect(1, "VOLUME")
            let overwrite = try arguments.takeFlag("overwrite-data-of-peer")
            let force = try arguments.takeFlag("force")
            self = .primary(try arguments.volume(0), force: force || overwrite)
        case "secondary": self = .secondary(try arguments.onlyVolume())
        case "invalidate": self = .invalidate(try arguments.onlyVolume())
        case "invalidate-remote": self = .invalidateRemote(try arguments.onlyVolume())
        case "outdate": self = .outdate(try arguments.onlyVolume())
        case "new-current-uuid":
            try arguments.expect(1, "VOLUME")
            self = .newCurrentUUID(try arguments.volume(0), clearBitmap: try arguments.takeFlag("clear-bitmap"))
        case "pause-sync": self = .pauseSync(try arguments.onlyVolume())
        case "resume-sync": self = .resumeSync(try arguments.onlyVolume())
        case "suspend-io": self = .suspendIO(try arguments.onlyVolume())
        case "resume-io": self = .resumeIO(try arguments.onlyVolume())
        case "verify":
            try arguments.expect(1, "VOLUME")
            let start = try arguments.takeSectors("start")
            self = .verify(try arguments.volume(0), start: start, stop: try arguments.takeSectors("stop"))
        case "resize":
            try arguments.expect(1, "VOLUME")
            let request = ResizeRequest(
                sectors: try arguments.takeSectors("size") ?? 0,
                assumePeerHasSpace: try arguments.takeFlag("assume-peer-has-space"),
                assumeClean: try arguments.takeFlag("assume-clean"))
            self = .resize(try arguments.volume(0), request)
        case "wait-connect":
            try arguments.expect(1, "VOLUME")
            self = .waitConnect(try arguments.volume(0), try arguments.takeWaitTimes())
        case "wait-sync":
            try arguments.expect(1, "VOLUME")
            self = .waitSync(try arguments.volume(0), try arguments.takeWaitTimes())
        case "down":
            try arguments.expect(1, "RESOURCE")
            try arguments.checkResource(resource)
            self = .down
        default:
            throw .unknownCommand(command)
        }
        try arguments.expectNoMoreOptions()
    }
}

/// The words behind a command, sorted into positional ones and options.
private struct CommandArguments {
    let command: String
    var positional: [String] = []
    var options: [(name: String, value: String?)] = []

    init(command: String, words: ArraySlice<String>) {
        self.command = command
        for word in words {
            guard word.utf8.starts(with: "--".utf8) else {
                positional.append(word)
                continue
            }
            let body = word.utf8.dropFirst(2)
            if let equals = body.firstIndex(of: UInt8(ascii: "=")) {
                options.append(
                    (String(Substring(body[..<equals])), String(Substring(body[body.index(after: equals)...]))))
            } else {
                options.append((String(Substring(body)), nil))
            }
        }
    }

    func expect(_ count: Int, _ expected: String) throws(ControlCommandError) {
        if positional.count != count { throw .wrongArguments(command: command, expected: expected) }
    }

    func checkResource(_ resource: String) throws(ControlCommandError) {
        if positional[0] != resource { throw .otherResource(positional[0]) }
    }

    func volume(_ index: Int) throws(ControlCommandError) -> VolumeNumber {
        guard let number = UInt16(positional[index]) else { throw .badNumber(positional[index]) }
        return VolumeNumber(number)
    }

    func onlyVolume() throws(ControlCommandError) -> VolumeNumber {
        try expect(1, "VOLUME")
        return try volume(0)
    }

    func minor(_ index: Int) throws(ControlCommandError) -> UInt32 {
        guard let number = UInt32(positional[index]) else { throw .badNumber(positional[index]) }
        return number
    }

    func address(_ index: Int) throws(ControlCommandError) -> SocketAddress {
        guard let address = SocketAddress(parsing: positional[index]) else { throw .badAddress(positional[index]) }
        return address
    }

    mutating func takeFlag(_ name: String) throws(ControlCommandError) -> Bool {
        var result = false
        for option in options where option.name == name {
            do {
                if case .flag(let flag) = try OptionShape(name, .flag, .must).value(parsing: option.value) {
                    result = flag
                }
            } catch { throw .badOption(error) }
        }
        options.removeAll { $0.name == name }
        return result
    }

    mutating func takeSeconds(_ name: String) throws(ControlCommandError) -> Int {
        var result = 0
        for option in options where option.name == name {
            do {
                let shape = OptionShape(name, .number(0...300_000, .one), .must)
                if case .number(let number) = try shape.value(parsing: option.value) { result = Int(clamping: number) }
            } catch { throw .badOption(error) }
        }
        options.removeAll { $0.name == name }
        return result
    }

    mutating func takeSectors(_ name: String) throws(ControlCommandError) -> UInt64? {
        var result: UInt64?
        for option in options where option.name == name {
            do {
                let shape = OptionShape(name, .number(0...(1 << 41), .sectors), .must)
                if case .number(let number) = try shape.value(parsing: option.value) { result = UInt64(number) }
            } catch { throw .badOption(error) }
        }
        options.removeAll { $0.name == name }
        return result
    }

    mutating func takeWaitTimes() throws(ControlCommandError) -> WaitTimes {
        WaitTimes(
            wfc: try takeSeconds("wfc-timeout"), degraded: try takeSeconds("degr-wfc-timeout"),
            outdated: try takeSeconds("outdated-wfc-timeout"), afterSplitBrain: try takeFlag("wait-after-sb"))
    }

    mutating func take<Settings>(
        _ table: [OptionField<Settings>], into settings: inout Settings
    ) throws(ControlCommandError) {
        for option in options {
            guard let field = table.field(named: option.name) else { continue }
            do { try field.apply(option.value, to: &settings) } catch { throw .badOption(error) }
        }
        options.removeAll { option in table.contains { $0.name == option.name } }
    }

    func expectNoMoreOptions() throws(ControlCommandError) {
        if let option = options.first { throw .badOption(.unknownOption("--" + option.name)) }
    }
}

private func option(_ name: String, _ isSet: Bool) -> [String] { isSet ? ["--" + name] : [] }

private func sectors(_ name: String, _ value: UInt64?) -> [String] { value.map { ["--\(name)=\($0)"] } ?? [] }

private func options<Settings>(
    _ settings: Settings, _ defaults: Settings, _ table: [OptionField<Settings>]
) -> [String] {
    optionsDiffering(settings, from: defaults, in: table).map { "--\($0.name)=\($0.value.text)" }
}

extension VolumeNumber {
    package var text: String { String(value) }
}

extension WaitTimes {
    fileprivate var words: [String] {
        var words: [String] = []
        if wfc != 0 { words.append("--wfc-timeout=\(wfc)") }
        if degraded != 0 { words.append("--degr-wfc-timeout=\(degraded)") }
        if outdated != 0 { words.append("--outdated-wfc-timeout=\(outdated)") }
        return words + option("wait-after-sb", afterSplitBrain)
    }
}

extension MetadataIndex {
    /// `internal`, `flexible` or the slot number.
    package var text: String {
        switch self {
        case .internal: "internal"
        case .flexible: "flexible"
        case .indexed(let index): String(index)
        }
    }

    package init?(parsing text: String) {
        switch text {
        case "internal", "flex-internal": self = .internal
        case "flexible", "flex-external": self = .flexible
        default:
            guard let index = UInt32(text) else { return nil }
            self = .indexed(index)
        }
    }
}

extension SocketAddress {
    /// Reads the form that `description` writes: `ipv4:10.0.0.1:7788`, `ipv6:[fd00::1]:7788`; the family may be
    /// missing. Host names are refused.
    package init?(parsing text: String) {
        var rest = Substring(text)
        var family = rest.hasPrefix("[") ? "ipv6" : "ipv4"
        for known in ["ipv4", "ipv6"] where rest.hasPrefix(known + ":") {
            family = known
            rest = rest.dropFirst(5)
        }
        guard let colon = rest.lastIndex(of: ":"), let port = UInt16(rest[rest.index(after: colon)...]), port > 0 else {
            return nil
        }
        var host = rest[..<colon]
        if family == "ipv6" {
            guard host.hasPrefix("["), host.hasSuffix("]"), host.utf8.count > 2 else { return nil }
            host = host.dropFirst().dropLast()
            if !SocketAddress.isIPv6Text(String(host)) { return nil }
        } else if !SocketAddress.isIPv4Text(String(host)) {
            return nil
        }
        self.init(family: family, host: String(host), port: port)
    }

    /// Four decimal parts of one to three digits, each below 256.
    package static func isIPv4Text(_ text: String) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { part in
                (1...3).contains(part.utf8.count) && part.utf8.allSatisfy { (48...57).contains($0) }
                    && UInt8(part) != nil
            }
    }

    /// Hexadecimal digits, colons and dots, with at least two colons; an optional `%scope` behind them.
    package static func isIPv6Text(_ text: String) -> Bool {
        let parts = text.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        guard let literal = parts.first, literal.utf8.count(where: { $0 == UInt8(ascii: ":") }) >= 2 else { return false }
        let isHexadecimal = literal.unicodeScalars.allSatisfy { scalar in
            scalar.properties.isASCIIHexDigit || scalar == ":" || scalar == "."
        }
        let hasScope = parts.count < 2 || (!parts[1].isEmpty && parts[1].utf8.allSatisfy { $0 > 32 && $0 < 127 })
        return isHexadecimal && hasScope && literal.utf8.count <= 45
    }
}
