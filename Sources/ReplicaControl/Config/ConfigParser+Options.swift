import ReplicaProto

/// Option sections: `net { }`, `disk { }`, `syncer { }` and their like (`control.md` 1.9).
extension ConfigParser {
    /// Reads one option section if there is one.
    mutating func section(of owner: String, into sections: inout ConfigSections) throws(ConfigError) -> Bool {
        guard case .word(let keyword) = token.kind else { return false }
        switch keyword {
        case "startup", "net", "handlers", "syncer", "proxy", "options", "disk": break
        default: return false
        }
        let start = token.position
        let before = (lexer, token)
        try advance()
        if keyword == "disk" && !token.isSymbol("{") {
            (lexer, token) = before
            return false
        }
        claim("\(keyword) section", "\(owner):\(keyword)", at: start)
        try openBrace()
        while !token.isSymbol("}") {
            switch keyword {
            case "startup": try startupOption(into: &sections.startup)
            case "net": try option(from: OptionTable.net.map(\.shape), into: &sections.net)
            case "disk": try option(from: OptionTable.disk.map(\.shape), into: &sections.disk)
            case "options": try option(from: OptionTable.resource.map(\.shape), into: &sections.options)
            case "syncer": try syncerOption(into: &sections)
            case "proxy": try proxyOption(into: &sections)
            default: try handler(into: &sections.handlers)
            }
        }
        try advance()
        return true
    }

    /// `disk { }` inside a volume.
    mutating func diskSection(of owner: String, into section: inout OptionSection) throws(ConfigError) {
        claim("disk section", "\(owner):disk", at: token.position)
        try openBrace()
        while !token.isSymbol("}") { try option(from: OptionTable.disk.map(\.shape), into: &section) }
        try advance()
    }

    /// `options { }` inside a host.
    mutating func hostOptions(of owner: String, into section: inout OptionSection) throws(ConfigError) {
        try openBrace()
        while !token.isSymbol("}") { try option(from: OptionTable.resource.map(\.shape), into: &section) }
        try advance()
    }

    /// `protocol C;` outside of `net`.
    mutating func protocolItem(into sections: inout ConfigSections) throws(ConfigError) {
        try option(from: OptionTable.net.map(\.shape), into: &sections.net)
    }

    /// `NAME;` or `NAME VALUE;`
    mutating func option(
        from shapes: [OptionShape], into section: inout OptionSection, expected: String = "an option keyword"
    ) throws(ConfigError) {
        guard case .word(let written) = token.kind else { throw .expected(expected, got: token) }
        let position = token.position
        if let negative = OptionTable.negativeFlags.first(where: { $0.old == written }),
            shapes.contains(where: { $0.name == negative.new })
        {
            try advance()
            try semicolon()
            put(ConfigOption(name: negative.new, value: "no", position: position), into: &section)
            return
        }
        if written == "use-bmbv" && shapes.contains(where: { $0.name == "max-bio-bvecs" }) {
            try advance()
            try semicolon()
            return
        }
        guard let shape = shapes.first(where: { $0.name == written }) else { throw .expected(expected, got: token) }
        try advance()
        let value = try optionValue(of: shape, at: position)
        put(ConfigOption(name: shape.name, value: value, position: position), into: &section)
    }

    /// As `option`, for sections whose bare flags stay bare.
    mutating func plainOption(from shapes: [OptionShape], into section: inout OptionSection) throws(ConfigError) {
        guard case .word(let name) = token.kind, let shape = shapes.first(where: { $0.name == name }) else {
            throw .expected("an option keyword", got: token)
        }
        let position = token.position
        try advance()
        let isBare = token.isSymbol(";") && shape.kind == .flag
        let value = try optionValue(of: shape, at: position)
        put(ConfigOption(name: name, value: isBare ? nil : value, position: position), into: &section)
    }

    /// The value and the semicolon behind it, checked. A bare flag is `yes`.
    private mutating func optionValue(
        of shape: OptionShape, at position: SourcePosition
    ) throws(ConfigError) -> String {
        let written: String?
        if token.isSymbol(";") {
            written = nil
        } else if let text = token.value {
            written = text
            try advance()
        } else {
            throw .expected("a value for \(shape.name)", got: token)
        }
        check(shape, written, at: position)
        if token.isSymbol("/"), shape.kind == .reference { throw .expected(";", got: token) }
        try semicolon()
        if shape.name == "shared-secret", ConfigFiles.isWorldReadable(lexer.file) {
            warn(position, "everybody may read the file that holds this shared-secret.")
        }
        if shape.need == .ignored, written != nil {
            warn(position, "\(shape.name) has no effect here and is ignored.")
        }
        return written ?? "yes"
    }

    private mutating func check(_ shape: OptionShape, _ written: String?, at position: SourcePosition) {
        if shape.name == "protocol" {
            if written != "A" && written != "B" && written != "C" {
                faults.append(
                    .init(
                        position: position,
                        message: "unknown protocol '\(written ?? "")', should be one of A,B,C"))
            }
            return
        }
        if shape.name == "after-sb-0pri", let written, written.hasPrefix("discard-node-") { return }
        if case .number = shape.kind, let written, ConfigParser.hasTooManyDigits(written) {
            faults.append(.init(position: position, message: "\(written) is not a valid number"))
            return
        }
        do { _ = try shape.value(parsing: written) } catch {
            faults.append(.init(position: position, message: error.message))
        }
    }

    /// A number has at most 8 digits; more make it a word.
    static func hasTooManyDigits(_ text: String) -> Bool {
        text.utf8.count(where: { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) > 8
    }

    private mutating func startupOption(into section: inout OptionSection) throws(ConfigError) {
        guard token.isWord("become-primary-on") else {
            try plainOption(from: OptionTable.startup, into: &section)
            return
        }
        let position = token.position
        try advance()
        var names: [String] = []
        while let name = token.value {
            names.append(name)
            try advance()
        }
        if names.isEmpty { throw .expected("hostname | both", got: token) }
        try semicolon()
        put(
            ConfigOption(name: "become-primary-on", value: names.joined(separator: " "), position: position),
            into: &section)
    }

    private mutating func syncerOption(into sections: inout ConfigSections) throws(ConfigError) {
        let expected = "a syncer option keyword"
        guard case .word(let old) = token.kind, let alias = OptionTable.syncer.first(where: { $0.old == old }) else {
            throw .expected(expected, got: token)
        }
        let position = token.position
        try advance()
        let shapes: [OptionShape]
        switch alias.target {
        case .disk: shapes = OptionTable.disk.map(\.shape)
        case .net: shapes = OptionTable.net.map(\.shape)
        case .options: shapes = OptionTable.resource.map(\.shape)
        case .dropped:
            if token.value != nil { try advance() }
            try semicolon()
            return
        }
        guard let shape = shapes.first(where: { $0.name == alias.new }) else {
            throw .expected(expected, got: token)
        }
        let value = try optionValue(of: shape, at: position)
        let option = ConfigOption(name: alias.new, value: value, position: position)
        switch alias.target {
        case .disk: put(option, into: &sections.disk)
        case .net: put(option, into: &sections.net)
        case .options: put(option, into: &sections.options)
        case .dropped: break
        }
    }

    private mutating func handler(into section: inout OptionSection) throws(ConfigError) {
        guard case .word(let written) = token.kind else { throw .expected("an option keyword", got: token) }
        let position = token.position
        let name = written == "outdate-peer" ? "fence-peer" : written
        guard OptionTable.handlers.contains(name) else { throw .expected("an option keyword", got: token) }
        try advance()
        guard let commandLine = token.value else { throw .expected("a command line in double quotes", got: token) }
        try advance()
        try semicolon()
        put(ConfigOption(name: name, value: commandLine, position: position), into: &section)
    }

    private mutating func proxyOption(into sections: inout ConfigSections) throws(ConfigError) {
        guard token.isWord("plugin") else {
            try plainOption(from: OptionTable.proxy, into: &sections.proxy)
            return
        }
        try advance()
        try openBrace()
        while !token.isSymbol("}") {
            var words: [String] = []
            while let word = token.value {
                words.append(word)
                try advance()
            }
            if words.isEmpty { throw .expected("a plugin setting", got: token) }
            sections.proxyPlugins.append(words.joined(separator: " "))
            try semicolon()
        }
        try advance()
    }

    /// Adds an option; a later one replaces an earlier one of the same name, with a warning.
    private mutating func put(_ option: ConfigOption, into section: inout OptionSection) {
        if let index = section.options.firstIndex(where: { $0.name == option.name }) {
            let first = section.options[index].position
            warn(option.position, "\(option.name) was set before at \(first); the last one counts.")
            section.options.remove(at: index)
        }
        section.options.append(option)
    }
}
