import ReplicaProto

/// Why a command line was refused, and what to exit with.
struct UsageError: Error, Equatable, Sendable {
    var lines: [String]
    var exitCode: Int32 = 1
    /// Print the general usage, or that of this command, in front.
    var showsUsage = false
    var command: String?
}

/// One command line of the administration tool, taken apart (`control.md` 2.1): old style
/// `[OPTIONS] [-- SETUP-OPTIONS] COMMAND NAMES`, new style `[OPTIONS] COMMAND [OPTIONS] NAMES`.
struct Invocation: Equatable, Sendable {
    var command: CommandSpec?
    /// As typed: an alias may have its own notice.
    var commandWord: String?
    var names: [String] = []
    /// Options for the low-level command, in order, checked against the command's table.
    var options: [ConfigOption] = []

    var isStacked = false
    var isDryRun = false
    var isVerbose = false
    var isVersionWanted = false
    var isProductVersionWanted = false
    var isHelpWanted = false
    var configurationFile: String?
    var configurationToTest: String?
    var setupProgram: String?
    var metaProgram: String?
    var shellVariable: String?
    var peer: String?

    /// The argument of `set-gi`, which stands among the names.
    var generations: [String] = []

    func has(_ name: String) -> Bool { options.last { $0.name == name }?.value == "yes" }
    func value(_ name: String) -> String? { options.last { $0.name == name }?.value }
}

extension Invocation {
    /// An option that any command takes; without a letter, `\0`.
    struct General {
        var name: String
        var letter: Character
        var takesValue: Bool
    }

    static let general: [General] = [
        General(name: "stacked", letter: "S", takesValue: false),
        General(name: "dry-run", letter: "d", takesValue: false),
        General(name: "verbose", letter: "v", takesValue: false),
        General(name: "config-file", letter: "c", takesValue: true),
        General(name: "config-to-test", letter: "t", takesValue: true),
        General(name: "drbdsetup", letter: "s", takesValue: true),
        General(name: "drbdmeta", letter: "m", takesValue: true),
        General(name: "drbd-proxy-ctl", letter: "p", takesValue: true),
        General(name: "sh-varname", letter: "n", takesValue: true),
        General(name: "peer", letter: "P", takesValue: true),
        General(name: "version", letter: "V", takesValue: false),
        General(name: "product-version", letter: "\0", takesValue: false),
        General(name: "setup-option", letter: "W", takesValue: true),
        General(name: "help", letter: "h", takesValue: false),
        General(name: "force", letter: "f", takesValue: false),
    ]

    init(arguments: [String], program: String) throws(UsageError) {
        var parser = InvocationParser(arguments: arguments, program: program)
        try parser.parse()
        self = parser.result
    }

    private struct InvocationParser {
        var result = Invocation()
        let arguments: [String]
        let program: String
        private var index = 0
        /// Behind the command its own letters come first.
        private var isCommandPassed = false
        /// Low-level options met before the command was known.
        private var pending: [String] = []

        init(arguments: [String], program: String) {
            self.arguments = arguments
            self.program = program
        }

        mutating func parse() throws(UsageError) {
            // The command decides which options there are, wherever they stand.
            if let word = commandWord() {
                result.commandWord = word
                if word != "help" {
                    guard let command = CommandTable.command(named: word) else {
                        throw UsageError(lines: ["\(program): Unknown command '\(word)'"])
                    }
                    result.command = command
                }
            }
            var isBehindDashes = false
            while index < arguments.count {
                let word = arguments[index]
                index += 1
                if word == "--" {
                    isBehindDashes = true
                } else if word == "-" || !word.hasPrefix("-") {
                    if !isCommandPassed && word == result.commandWord {
                        isCommandPassed = true
                    } else if isBehindDashes && !isCommandPassed {
                        // The value of the option before it.
                        if let last = pending.popLast() { pending.append("\(last)=\(word)") }
                    } else {
                        result.names.append(word)
                    }
                } else if isBehindDashes {
                    pending.append(word)
                } else if word.hasPrefix("--") {
                    try longOption(String(word.dropFirst(2)))
                } else {
                    try shortOptions(word.dropFirst())
                }
            }
            for word in pending { try setupOption(word) }
            if result.command?.name == "set-gi" {
                result.generations = result.names.filter { $0.contains(":") }
                result.names.removeAll { $0.contains(":") }
            }
        }

        /// The first word that is neither an option nor an option's value.
        private func commandWord() -> String? {
            var position = 0
            var isBehindDashes = false
            while position < arguments.count {
                let word = arguments[position]
                position += 1
                if word == "--" {
                    isBehindDashes = true
                } else if word.hasPrefix("--") {
                    if isBehindDashes || word.contains("=") { continue }
                    let matches = Invocation.general.filter { $0.name.hasPrefix(word.dropFirst(2)) }
                    if matches.count == 1 && matches[0].takesValue { position += 1 }
                } else if word.hasPrefix("-") && word != "-" {
                    if isBehindDashes { continue }
                    for (offset, letter) in word.dropFirst().enumerated() {
                        guard let option = Invocation.general.first(where: { $0.letter == letter }), option.takesValue
                        else { continue }
                        if offset == word.count - 2 { position += 1 }
                        break
                    }
                } else if isBehindDashes {
                    // Values of low-level options may stand here too.
                    if CommandTable.command(named: word) != nil { return word }
                    if position == arguments.count { return word }
                } else {
                    return word
                }
            }
            return nil
        }

        private mutating func longOption(_ text: String) throws(UsageError) {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = String(parts.first ?? "")
            let value = parts.count > 1 ? String(parts[1]) : nil
            let commandNames = (result.command?.options ?? []).map(\.name)
            let generalNames = Invocation.general.map(\.name)
            // An option of the command wins over a general one: status --verbose, create-md --force.
            let names = commandNames + generalNames.filter { !commandNames.contains($0) }
            var matches = names.filter { $0 == name }
            if matches.isEmpty && !name.isEmpty { matches = names.filter { $0.hasPrefix(name) } }
            guard let match = matches.first else {
                throw UsageError(lines: ["\(program): unrecognized option '--\(name)'", "try '\(program) help'"])
            }
            if matches.count > 1 {
                throw UsageError(
                    lines: [
                        "\(program): option '--\(name)' is ambiguous; possibilities: "
                            + matches.map { "'--\($0)'" }.joined(separator: " "),
                        "try '\(program) help'",
                    ])
            }
            // In front of `--`, --dry-run means "show what would be done" everywhere; behind it, it is connect's own.
            if commandNames.contains(match) && match != "dry-run" {
                guard let shape = result.command?.options.first(where: { $0.name == match }) else { return }
                try commandOption(shape, value, mayTakeNext: true)
                return
            }
            guard let option = Invocation.general.first(where: { $0.name == match }) else { return }
            try generalOption(option, value)
        }

        private mutating func shortOptions(_ letters: Substring) throws(UsageError) {
            var rest = letters
            while let letter = rest.popFirst() {
                if let command = result.command, let own = command.letters.first(where: { $0.letter == letter }),
                    let shape = command.options.first(where: { $0.name == own.option }),
                    isCommandPassed || !Invocation.general.contains(where: { $0.letter == letter })
                {
                    let value = rest.isEmpty || shape.kind == .flag ? nil : String(rest)
                    if shape.kind != .flag { rest = "" }
                    try commandOption(shape, value, mayTakeNext: true)
                    continue
                }
                guard let option = Invocation.general.first(where: { $0.letter == letter }) else {
                    throw UsageError(lines: ["\(program): invalid option -- '\(letter)'", "try '\(program) help'"])
                }
                if option.takesValue {
                    try generalOption(option, rest.isEmpty ? nil : String(rest))
                    return
                }
                try generalOption(option, nil)
            }
        }

        private mutating func generalOption(_ option: General, _ given: String?) throws(UsageError) {
            var value = given
            if option.takesValue && value == nil {
                guard index < arguments.count else {
                    throw UsageError(
                        lines: ["\(program): option '--\(option.name)' requires an argument", "try '\(program) help'"])
                }
                value = arguments[index]
                index += 1
            }
            switch option.name {
            case "stacked": result.isStacked = true
            case "dry-run": result.isDryRun = true
            case "verbose": result.isVerbose = true
            case "config-file": result.configurationFile = value
            case "config-to-test": result.configurationToTest = value
            case "drbdsetup": result.setupProgram = value
            case "drbdmeta": result.metaProgram = value
            case "sh-varname": result.shellVariable = value
            case "peer": result.peer = value
            case "version": result.isVersionWanted = true
            case "product-version": result.isProductVersionWanted = true
            case "setup-option": pending.append(value ?? "")
            case "help": result.isHelpWanted = true
            case "force":
                // Ignored since 8.3, except where the command has such an option.
                if let shape = result.command?.options.first(where: { $0.name == "force" }) {
                    try commandOption(shape, nil, mayTakeNext: false)
                }
            default: break
            }
        }

        private mutating func commandOption(
            _ shape: OptionShape, _ given: String?, mayTakeNext: Bool
        ) throws(UsageError) {
            var value = given
            if value == nil && shape.kind != .flag && mayTakeNext && index < arguments.count {
                value = arguments[index]
                index += 1
            }
            try add(shape, value)
        }

        /// An option behind `--` or `-W`: handed to the low level, whose complaints have exit code 20.
        private mutating func setupOption(_ word: String) throws(UsageError) {
            guard let command = result.command else { return }
            let text = word.hasPrefix("--") ? String(word.dropFirst(2)) : word
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            var name = String(parts.first ?? "")
            if !word.hasPrefix("--"), word.hasPrefix("-"), let letter = word.dropFirst().first,
                let own = command.letters.first(where: { $0.letter == letter })
            {
                name = own.option
            }
            let exact = command.options.first { $0.name == name }
            let candidates = command.options.filter { $0.name.hasPrefix(name) }
            guard let shape = exact ?? (candidates.count == 1 && !name.isEmpty ? candidates[0] : nil) else {
                if name == "force" { return }
                throw UsageError(lines: ["drbdsetup: \(command.name): unrecognized option '\(word)'"], exitCode: 20)
            }
            try add(shape, parts.count > 1 ? String(parts[1]) : nil)
        }

        private mutating func add(_ shape: OptionShape, _ value: String?) throws(UsageError) {
            do { _ = try shape.value(parsing: value) } catch {
                throw UsageError(lines: ["drbdsetup: Option --\(shape.name): \(error.message)"], exitCode: 20)
            }
            let position = SourcePosition(file: "command line", line: 1)
            let name = shape.name == "dry-run" ? "tentative" : shape.name
            result.options.append(ConfigOption(name: name, value: value ?? "yes", position: position))
        }
    }
}
