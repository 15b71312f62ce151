/// Where a dump stops making sense.
package struct MetadataDumpError: Error, Equatable, Sendable {
    package enum Reason: Equatable, Sendable {
        /// The word that had to come here.
        case expected(String)
        case unsupportedVersion(String)
        case number(String)
    }

    /// Counted from 1.
    package var line: Int
    package var reason: Reason

    package var message: String {
        switch reason {
        case .expected(let what): "Parse error: \(what) expected"
        case .unsupportedVersion(let found): "Parse error: version \"\(found)\" is not supported, only \"v08\" is"
        case .number(let found): "Parse error: \(found) is out of range"
        }
    }
}

/// A dump read back (`metadata.md` 8.3): what `restore-md` needs and nothing else.
package struct MetadataDump: Equatable, Sendable {
    /// Equal 64-bit words of bitmap.
    package struct Run: Equatable, Sendable {
        package var count: UInt64
        package var word: UInt64
    }

    package var identifiers = GenerationIdentifiers(current: 0)
    package var flags: MetadataFlags = []
    package var lastAgreedSectors: UInt64 = 0
    package var bytesPerBit: UInt32 = 4096
    package var deviceUUID: UInt64 = 0
    package var peerMaximumRequest: UInt32 = 0
    package var activityLogStripes: UInt32 = 1
    package var activityLogStripeSize: UInt32 = 8
    package var bitmap: [Run] = []

    /// Reads a whole dump: whitespace is free, `#` starts a comment.
    package init(parsing text: [UInt8]) throws(MetadataDumpError) {
        var scanner = Scanner(text: text)
        try scanner.keyword("version")
        let version = try scanner.quoted()
        guard version == "v08" else {
            throw MetadataDumpError(line: scanner.line, reason: .unsupportedVersion(version))
        }
        try scanner.symbol(";")
        try scanner.keyword("uuid")
        try scanner.symbol("{")
        identifiers.current = try scanner.hexadecimal(digits: 16)
        try scanner.symbol(";")
        identifiers.bitmap = try scanner.hexadecimal(digits: 16)
        try scanner.symbol(";")
        identifiers.history0 = try scanner.hexadecimal(digits: 16)
        try scanner.symbol(";")
        identifiers.history1 = try scanner.hexadecimal(digits: 16)
        try scanner.symbol(";")
        try scanner.keyword("flags")
        flags = MetadataFlags(rawValue: UInt32(truncatingIfNeeded: try scanner.hexadecimal(digits: 8)))
        try scanner.symbol(";")
        try scanner.symbol("}")
        lastAgreedSectors = try scanner.assignment("la-size-sect", maximum: Limits.deviceSectors)
        bytesPerBit = UInt32(try scanner.assignment("bm-byte-per-bit", maximum: UInt64(UInt32.max)))
        try scanner.keyword("device-uuid")
        deviceUUID = try scanner.hexadecimal(digits: 16)
        try scanner.symbol(";")
        peerMaximumRequest = UInt32(try scanner.assignment("la-peer-max-bio-size", maximum: UInt64(UInt32.max)))
        activityLogStripes = UInt32(try scanner.assignment("al-stripes", maximum: UInt64(UInt32.max)))
        activityLogStripeSize = UInt32(try scanner.assignment("al-stripe-size-4k", maximum: UInt64(UInt32.max)))
        try scanner.keyword("bm")
        try scanner.symbol("{")
        while !scanner.skips("}") {
            var count: UInt64 = 1
            if !scanner.isHexadecimalNext {
                count = try scanner.decimal()
                try scanner.keyword("times")
            }
            let word = try scanner.hexadecimal(digits: 16)
            try scanner.symbol(";")
            if let last = bitmap.last, last.word == word {
                let (sum, overflow) = last.count.addingReportingOverflow(count)
                guard !overflow else {
                    throw MetadataDumpError(line: scanner.line, reason: .number(String(count)))
                }
                bitmap[bitmap.count - 1].count = sum
            } else {
                bitmap.append(Run(count: count, word: word))
            }
        }
        guard scanner.isAtEnd else {
            throw MetadataDumpError(line: scanner.line, reason: .expected("end of the dump"))
        }
    }

    /// Words of bitmap in all; saturates.
    package var wordCount: UInt64 {
        bitmap.reduce(0) { sum, run in
            let (total, overflow) = sum.addingReportingOverflow(run.count)
            return overflow ? .max : total
        }
    }

    /// The superblock to be written for a layout of its own.
    package func superblock(for layout: MetadataLayout) -> Superblock {
        var superblock = layout.freshSuperblock(deviceUUID: deviceUUID, peerMaximumRequest: peerMaximumRequest)
        superblock.identifiers = identifiers
        superblock.flags = flags
        superblock.lastAgreedSectors = lastAgreedSectors
        superblock.bytesPerBit = bytesPerBit
        return superblock
    }
}

/// Cuts a dump into words.
private struct Scanner {
    let text: [UInt8]
    var position = 0
    var line = 1

    init(text: [UInt8]) { self.text = text }

    var isAtEnd: Bool {
        mutating get {
            skipBlank()
            return position == text.count
        }
    }

    var isHexadecimalNext: Bool {
        mutating get {
            skipBlank()
            return position + 1 < text.count && text[position] == 0x30 && text[position + 1] | 0x20 == 0x78
        }
    }

    mutating func keyword(_ word: String) throws(MetadataDumpError) {
        skipBlank()
        let start = position
        while position < text.count, isWordByte(text[position]) { position += 1 }
        guard text[start..<position].elementsEqual(word.utf8) else { throw failure(word, at: start) }
    }

    mutating func symbol(_ symbol: String) throws(MetadataDumpError) {
        guard skips(symbol) else { throw failure("'\(symbol)'", at: position) }
    }

    mutating func skips(_ symbol: String) -> Bool {
        skipBlank()
        guard position < text.count, text[position] == symbol.utf8.first else { return false }
        position += 1
        return true
    }

    mutating func quoted() throws(MetadataDumpError) -> String {
        try symbol("\"")
        let start = position
        while position < text.count, isWordByte(text[position]) { position += 1 }
        let word = String(decoding: text[start..<position], as: UTF8.self)
        guard position < text.count, text[position] == 0x22 else { throw failure("a quoted word", at: start) }
        position += 1
        return word
    }

    mutating func hexadecimal(digits: Int) throws(MetadataDumpError) -> UInt64 {
        skipBlank()
        let start = position
        while position < text.count, isWordByte(text[position]) { position += 1 }
        let word = String(decoding: text[start..<position], as: UTF8.self)
        guard word.hasPrefix("0x") || word.hasPrefix("0X"), let value = GenerationText.parseHex(word[...], digits: digits)
        else { throw failure("0x and \(digits) hexadecimal digits", at: start) }
        return value
    }

    mutating func decimal() throws(MetadataDumpError) -> UInt64 {
        skipBlank()
        let start = position
        while position < text.count, isWordByte(text[position]) { position += 1 }
        let word = String(decoding: text[start..<position], as: UTF8.self)
        guard word.utf8.count <= 19, word.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 }), let value = UInt64(word) else {
            throw failure("a decimal number", at: start)
        }
        return value
    }

    mutating func assignment(_ word: String, maximum: UInt64) throws(MetadataDumpError) -> UInt64 {
        try keyword(word)
        let value = try decimal()
        guard value <= maximum else { throw MetadataDumpError(line: line, reason: .number(String(value))) }
        try symbol(";")
        return value
    }

    private func failure(_ what: String, at start: Int) -> MetadataDumpError {
        MetadataDumpError(line: line, reason: .expected(what))
    }

    private func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x5f, 0x2e: true
        default: false
        }
    }

    private mutating func skipBlank() {
        while position < text.count {
            switch text[position] {
            case 0x0a:
                line += 1
                position += 1
            case 0x20, 0x09, 0x0d: position += 1
            case 0x23: while position < text.count, text[position] != 0x0a { position += 1 }
            default: return
            }
        }
    }
}
