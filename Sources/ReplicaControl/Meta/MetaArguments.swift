import ReplicaProto

/// A command line in drbdmeta's grammar: `[OPTIONS] DEVICE FORMAT MDDEV INDEX COMMAND [ARGS]`, options anywhere.
struct MetaArguments: Equatable {
    enum Command: String, CaseIterable {
        case createMD = "create-md"
        case dumpMD = "dump-md"
        case verifyDump = "verify-dump"
        case restoreMD = "restore-md"
        case applyAL = "apply-al"
        case getGI = "get-gi"
        case showGI = "show-gi"
        case setGI = "set-gi"
        case outdate, invalidate, dstate
        case readDeviceUUID = "read-dev-uuid"
        case writeDeviceUUID = "write-dev-uuid"
        case checkResize = "check-resize"
        case wipeMD = "wipe-md"

        /// Looks and changes nothing.
        var isReadOnly: Bool {
            switch self {
            case .dumpMD, .verifyDump, .getGI, .showGI, .dstate, .readDeviceUUID: true
            case .createMD, .restoreMD, .applyAL, .setGI, .outdate, .invalidate, .writeDeviceUUID, .checkResize,
                .wipeMD:
                false
            }
        }
    }

    /// The DRBD minor that the metadata belongs to; nil for `-`.
    var minor: Int?
    /// As given.
    var deviceWord = ""
    var path = ""
    var index = MetadataIndex.internal
    var indexWord = ""
    var command = Command.dumpMD
    var rest: [String] = []

    var force = false
    var verbosity = 0
    var dryRun = false
    var ignoreSanityChecks = false
    var peerMaximumRequest: UInt32?
    var stripes: UInt32?
    var stripeBlocks: UInt32?
    /// create-md's `--initialize-bitmap skip`.
    var skipsBitmap = false

    static let usage = """
        USAGE: drbdmeta [--force] DEVICE v08 MDDEV internal|flex-external|INDEX COMMAND [ARGS]

        COMMANDS:
          create-md [--peer-max-bio-size N] [--al-stripes N] [--al-stripe-size-kB N] [--ignore-sanity-checks]
          dump-md, verify-dump [FILE], restore-md FILE
          apply-al, check-resize, wipe-md
          get-gi, show-gi, set-gi C:B:H1:H2:FLAGS, outdate, invalidate, dstate
          read-dev-uuid, write-dev-uuid UUID

        """

    init(parsing arguments: [String]) throws(MetaFailure) {
        var positional: [String] = []
        var index = 0
        while index < arguments.count {
            let argument = arguments[index]
            index += 1
            guard argument.hasPrefix("-"), argument != "-" else {
                positional.append(argument)
                continue
            }
            var name = argument
            var value: String?
            if argument.hasPrefix("--"), let equals = argument.firstIndex(of: "=") {
                name = String(argument[..<equals])
                value = String(argument[argument.index(after: equals)...])
            }
            func required() throws(MetaFailure) -> String {
                if let value { return value }
                guard index < arguments.count else { throw MetaFailure(20, "option '\(name)' requires an argument") }
                index += 1
                return arguments[index - 1]
            }
            switch name {
            case "--force", "-f": force = true
            case "--verbose", "-v": verbosity += 1
            case "--dry-run": dryRun = true
            case "--ignore-sanity-checks": ignoreSanityChecks = true
            case "--peer-max-bio-size":
                let word = try required()
                guard let bytes = Self.scaled(word, defaultUnit: 1), bytes <= 1 << 20 else {
                    throw MetaFailure(10, "peer-max-bio-size \(word) is not in 0..1048576")
                }
                peerMaximumRequest = UInt32(bytes)
            case "--al-stripes":
                let word = try required()
                guard let count = Self.scaled(word, defaultUnit: 1), count >= 1, count <= 1024 else {
                    throw MetaFailure(10, "al-stripes \(word) is not in 1..1024")
                }
                stripes = UInt32(count)
            case "--al-stripe-size-kB":
                let word = try required()
                guard let bytes = Self.scaled(word, defaultUnit: 1024), bytes >= 4096, bytes <= 16_777_216 << 10 else {
                    throw MetaFailure(10, "al-stripe-size-kB \(word) is not in 4..16777216")
                }
                stripeBlocks = UInt32(bytes / 4096)
            case "--initialize-bitmap":
                let word = try required()
                guard ["automatic", "zeroout", "pwrite", "skip"].contains(word) else {
                    throw MetaFailure(10, "initialize-bitmap is one of automatic, zeroout, pwrite, skip")
                }
                skipsBitmap = word == "skip"
            case "--node-id": _ = try required()
            default: throw MetaFailure(20, "unknown option '\(argument)'\n\(Self.usage)")
            }
        }
        try parse(positional)
    }

    private mutating func parse(_ words: [String]) throws(MetaFailure) {
        guard words.count >= 5 else { throw MetaFailure(20, Self.usage) }
        deviceWord = words[0]
        if words[0] != "-" {
            let digits = words[0].hasPrefix("/dev/drbd") ? Substring(words[0]).dropFirst(9) : Substring(words[0])
            guard let number = Int(digits), number >= 0, number < 1 << 20 else {
                throw MetaFailure(20, "Cannot determine minor device number of device '\(words[0])'")
            }
            minor = number
        }
        guard words[1] == "v08" else {
            if ["v06", "v07", "v09"].contains(words[1]) {
                throw MetaFailure(20, "format '\(words[1])' is not supported, only v08 is")
            }
            throw MetaFailure(20, "Unknown format '\(words[1])'.")
        }
        path = words[2]
        indexWord = words[3]
        switch words[3] {
        case "internal", "flex-internal": index = .internal
        case "flex-external", "flexible": index = .flexible
        default:
            guard let number = UInt32(words[3]), number <= 255 else {
                throw MetaFailure(20, "invalid index '\(words[3])': internal, flex-external or 0..255")
            }
            index = .indexed(number)
        }
        guard let command = Command(rawValue: words[4]) else { throw MetaFailure(20, "Unknown command '\(words[4])'.") }
        self.command = command
        rest = Array(words.dropFirst(5))
    }

    /// A number with an optional unit s, K, M or G.
    private static func scaled(_ text: String, defaultUnit: UInt64) -> UInt64? {
        var digits = Substring(text)
        var unit = defaultUnit
        switch digits.last {
        case "s", "S": unit = 512
        case "k", "K": unit = 1 << 10
        case "m", "M": unit = 1 << 20
        case "g", "G": unit = 1 << 30
        default: digits.append(" ")
        }
        digits.removeLast()
        guard digits.allSatisfy({ $0.isASCII && $0.isNumber }), let number = UInt64(digits) else { return nil }
        let (value, overflow) = number.multipliedReportingOverflow(by: unit)
        return overflow ? nil : value
    }
}
