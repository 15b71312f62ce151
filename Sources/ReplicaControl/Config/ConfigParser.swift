import ReplicaProto

/// Reads configuration files into a `ConfigTree`: the union of the 8.3 and 8.4 grammars (`control.md` 1.3).
///
/// The first syntax error ends parsing; faults of meaning are collected and reported together.
package struct ConfigParser {
    var tree: ConfigTree
    var lexer: Lexer
    var token: Token
    var faults: [ConfigError.Fault] = []
    /// Unknown resources after `resync-after`: a fault for an administrator, a warning at boot.
    var danglingReferences: [ConfigError.Fault] = []
    /// First uses of what must be unique, by kind and key.
    private var firstUses: [String: SourcePosition] = [:]
    private var includedFiles: [String] = []
    /// Nested includes; files include each other only so deep.
    private var depth = 0

    /// Reads a file and everything that it includes; `-` is standard input.
    package static func parse(file: String) throws(ConfigError) -> ConfigTree {
        try parse(bytes: try read(file), name: displayName(file))
    }

    /// Reads a second file on top of an installed one: `--config-to-test`.
    package static func parse(file: String, inAdditionTo installed: String) throws(ConfigError) -> ConfigTree {
        var parser = ConfigParser(bytes: try read(installed), name: displayName(installed))
        parser.includedFiles = [ConfigFiles.canonical(installed)]
        try parser.advance()
        try parser.file()
        if !parser.includedFiles.contains(ConfigFiles.canonical(file)) {
            parser.lexer = Lexer(file: displayName(file), bytes: try read(file))
            try parser.advance()
            try parser.file()
        }
        return try parser.finish()
    }

    private static func displayName(_ file: String) -> String { file == "-" ? "STDIN" : file }

    private static func read(_ file: String) throws(ConfigError) -> [UInt8] {
        guard let bytes = ConfigFiles.read(file) else {
            throw ConfigError(nil, "Can not open '\(file)'.\n\(ConfigFiles.errorText())", exitCode: 20)
        }
        return bytes
    }

    package static func parse(text: String, name: String) throws(ConfigError) -> ConfigTree {
        try parse(bytes: Array(text.utf8), name: name)
    }

    package static func parse(bytes: [UInt8], name: String) throws(ConfigError) -> ConfigTree {
        var parser = ConfigParser(bytes: bytes, name: name)
        parser.includedFiles = [ConfigFiles.canonical(name)]
        try parser.advance()
        try parser.file()
        return try parser.finish()
    }

    /// The checks that need everything.
    private mutating func finish() throws(ConfigError) -> ConfigTree {
        checkHosts()
        tree.danglingReferences = danglingReferences
        if !faults.isEmpty { throw ConfigError(faults) }
        return tree
    }

    private init(bytes: [UInt8], name: String) {
        tree = ConfigTree(file: name)
        lexer = Lexer(file: name, bytes: bytes)
        token = Token(kind: .end, position: SourcePosition(file: name, line: 1))
    }

    // MARK: Top level

    private mutating func file() throws(ConfigError) {
        while token.kind != .end {
            switch token.kind {
            case .word("global"): try global()
            case .word("common"): try common()
            case .word("resource"): try resource()
            case .word("skip"): try skip()
            case .word("include"): try include()
            default: throw .expected("global | common | resource | skip | include", got: token)
            }
        }
    }

    private mutating func global() throws(ConfigError) {
        let position = token.position
        try advance()
        claim("global section", "global", at: position)
        if !tree.resources.isEmpty {
            warn(position, "You should put the global {} section\n\tin front of any resource {} section")
        }
        tree.hasGlobal = true
        var section = tree.global
        try openBrace()
        while !token.isSymbol("}") {
            try plainOption(from: OptionTable.global, into: &section)
        }
        try advance()
        tree.global = section
    }

    private mutating func common() throws(ConfigError) {
        let position = token.position
        try advance()
        claim("common section", "common", at: position)
        var sections = tree.common ?? ConfigSections()
        try openBrace()
        while !token.isSymbol("}"), token.kind != .end {
            if try section(of: "common", into: &sections) { continue }
            switch token.kind {
            case .word("protocol"): try protocolItem(into: &sections)
            case .word("on"), .word("floating"), .word("stacked-on-top-of"), .word("device"), .word("meta-disk"),
                .word("flexible-meta-disk"), .word("address"), .word("volume"):
                throw ConfigError(token.position, "in the common section, there are no host sections allowed.")
            default:
                throw .expected("protocol | disk | net | syncer | startup | handlers | proxy | options", got: token)
            }
        }
        if token.isSymbol("}") { try advance() }
        tree.common = sections
    }

    private mutating func skip() throws(ConfigError) {
        let position = token.position
        try advance()
        while token.value != nil { try advance() }
        guard token.isSymbol("{") else { throw .expected("an option keyword | {", got: token) }
        if !lexer.skipBalanced() {
            throw ConfigError(position, "reached eof while parsing this skip block.")
        }
        try advance()
    }

    private mutating func include() throws(ConfigError) {
        let position = token.position
        try advance()
        guard let pattern = token.value else { throw .expected("include file", got: token) }
        try advance()
        guard token.isSymbol(";") else { throw .expected(";", got: token) }
        let isPattern = ConfigFiles.isPattern(pattern)
        let including = lexer.file
        let paths =
            isPattern
            ? ConfigFiles.expand(pattern, includedFrom: including)
            : [ConfigFiles.resolve(pattern, includedFrom: including)]
        for path in paths {
            let canonical = ConfigFiles.canonical(path)
            if includedFiles.contains(canonical) { continue }
            includedFiles.append(canonical)
            guard depth < 32, let bytes = ConfigFiles.read(path) else {
                throw ConfigError(position, "Failed to open include file '\(path)'.")
            }
            let outer = lexer
            lexer = Lexer(file: path, bytes: bytes)
            depth += 1
            try advance()
            try file()
            depth -= 1
            lexer = outer
        }
        try advance()
    }

    private mutating func resource() throws(ConfigError) {
        try advance()
        guard let name = token.value, !name.isEmpty else { throw .expected("resource name", got: token) }
        var resource = ResourceSection(name: name, position: token.position)
        claim("resource section", name, at: token.position)
        if !ConfigParser.isPlainName(name) {
            warn(token.position, "resource name '\(name)' is used in file names; use letters, digits, '.', '_', '-'")
        }
        if name == "all" || name.contains("/") || name.hasPrefix("-") || name.hasPrefix(".") {
            throw ConfigError(token.position, "resource name '\(name)' is not allowed")
        }
        try advance()
        try openBrace()
        while !token.isSymbol("}"), token.kind != .end {
            try resourceItem(of: &resource)
        }
        if token.isSymbol("}") { try advance() }
        tree.resources.append(resource)
    }

    private mutating func resourceItem(of resource: inout ResourceSection) throws(ConfigError) {
        if try section(of: resource.name, into: &resource.sections) { return }
        switch token.kind {
        case .word("protocol"):
            claim("protocol statement", "\(resource.name): protocol", at: token.position)
            try protocolItem(into: &resource.sections)
        case .word("on"): try host(of: &resource)
        case .word("_this_host"), .word("_remote_host"): try host(of: &resource)
        case .word("_is_standalone"):
            try advance()
            try semicolon()
        case .word("floating"): try floating(of: &resource)
        case .word("stacked-on-top-of"): try stacked(of: &resource)
        case .word("volume"): try volume(into: &resource.volumes, of: resource.name)
        case .word("device"), .word("disk"), .word("meta-disk"), .word("flexible-meta-disk"):
            try deviceItem(implicitIn: &resource.volumes)
        case .word("ignore-on"):
            warn(token.position, "in resource \(resource.name), WARN: The 'ignore-on' keyword is deprecated.")
            try advance()
            guard token.value != nil else { throw .expected("hostname", got: token) }
            try advance()
            try semicolon()
        default:
            throw .expected(
                "protocol | on | disk | net | syncer | startup | handlers | ignore-on | stacked-on-top-of | floating"
                    + " | volume | device | meta-disk | options | proxy", got: token)
        }
    }

    // MARK: Shared by the other parts of the parser

    mutating func advance() throws(ConfigError) { token = try lexer.next() }

    mutating func openBrace() throws(ConfigError) {
        guard token.isSymbol("{") else { throw .expected("{", got: token) }
        try advance()
    }

    mutating func semicolon() throws(ConfigError) {
        guard token.isSymbol(";") else { throw .expected(";", got: token) }
        try advance()
    }

    mutating func warn(_ position: SourcePosition, _ message: String) {
        tree.warnings.append(ConfigError.Fault(position: position, message: message))
    }

    /// Notes the use of something unique; a second use is a fault that names both places.
    mutating func claim(_ what: String, _ key: String, at position: SourcePosition) {
        let slot = "\(what) \(key)"
        if let first = firstUses[slot] {
            faults += ConfigError.conflict(what, key, at: position, first: first)
        } else {
            firstUses[slot] = position
        }
    }

    static func isPlainName(_ name: String) -> Bool {
        (1...63).contains(name.utf8.count) && name.utf8.allSatisfy { Lexer.isWordByte($0) && $0 != UInt8(ascii: "/") }
            && name != "." && name != ".."
    }
}
