/// One token of a configuration file with its place.
struct Token: Equatable, Sendable {
    enum Kind: Equatable, Sendable {
        /// Letters, digits and `. / _ -`.
        case word(String)
        /// The content of a double-quoted string.
        case string(String)
        /// `{ } ; [ ] :`
        case symbol(Character)
        /// A character that starts no token.
        case junk(String)
        case end
    }

    var kind: Kind
    var position: SourcePosition

    /// The token's text; empty at the end of the file.
    var text: String {
        switch kind {
        case .word(let text), .string(let text), .junk(let text): text
        case .symbol(let symbol): String(symbol)
        case .end: ""
        }
    }

    /// At most 20 characters for messages.
    var excerpt: String { text.utf8.count > 20 ? text.prefix(20) + "..." : text }

    /// A word or quoted string: something that may be a value or name.
    var value: String? {
        switch kind {
        case .word(let text), .string(let text): text
        case .symbol, .junk, .end: nil
        }
    }

    func isWord(_ word: String) -> Bool { kind == .word(word) }
    func isSymbol(_ symbol: Character) -> Bool { kind == .symbol(symbol) }
}

/// Cuts a configuration file into tokens (`control.md` 1.2).
struct Lexer {
    static let wordBytes = 128
    static let stringBytes = 255

    let file: String
    private let bytes: [UInt8]
    private var offset = 0
    private var line = 1
    private var lineStart = 0

    init(file: String, bytes: [UInt8]) {
        self.file = file
        self.bytes = bytes
    }

    private var position: SourcePosition { SourcePosition(file: file, line: line, column: offset - lineStart + 1) }

    mutating func next() throws(ConfigError) -> Token {
        skipBlanks()
        let start = position
        guard offset < bytes.count else { return Token(kind: .end, position: start) }
        let byte = bytes[offset]
        switch byte {
        case UInt8(ascii: "{"), UInt8(ascii: "}"), UInt8(ascii: ";"), UInt8(ascii: "["), UInt8(ascii: "]"),
            UInt8(ascii: ":"):
            offset += 1
            return Token(kind: .symbol(Character(Unicode.Scalar(byte))), position: start)
        case UInt8(ascii: "\""):
            return Token(kind: .string(try string(from: start)), position: start)
        case _ where Lexer.isWordByte(byte):
            let first = offset
            while offset < bytes.count, Lexer.isWordByte(bytes[offset]) { offset += 1 }
            let word = String(decoding: bytes[first..<offset], as: UTF8.self)
            if offset - first > Lexer.wordBytes {
                throw ConfigError(start, "Token too long >>>\(word.prefix(20))…<<<")
            }
            return Token(kind: .word(word), position: start)
        default:
            let first = offset
            offset += 1
            while offset < bytes.count, bytes[offset] & 0xC0 == 0x80 { offset += 1 }
            return Token(kind: .junk(String(decoding: bytes[first..<offset], as: UTF8.self)), position: start)
        }
    }

    /// The bytes up to `]`, which is consumed: an IPv6 literal, whose alphabet is none of the tokens'.
    mutating func bracketed() throws(ConfigError) -> String {
        let start = position
        let first = offset
        while offset < bytes.count, bytes[offset] != UInt8(ascii: "]") {
            if bytes[offset] == UInt8(ascii: "\n") || offset - first > 64 { break }
            offset += 1
        }
        guard offset < bytes.count, bytes[offset] == UInt8(ascii: "]") else {
            throw ConfigError(start, "Parse error: 'an IPv6 address and a closing bracket' expected")
        }
        offset += 1
        return String(decoding: bytes[first..<(offset - 1)], as: UTF8.self)
    }

    /// Skips to behind the brace that closes the one just read, whatever stands between.
    /// - Returns: whether there was one.
    mutating func skipBalanced() -> Bool {
        var depth = 1
        while offset < bytes.count {
            switch bytes[offset] {
            case UInt8(ascii: "{"): depth += 1
            case UInt8(ascii: "}"): depth -= 1
            case UInt8(ascii: "#"):
                skipComment()
                continue
            case UInt8(ascii: "\""):
                skipQuoted()
                continue
            case UInt8(ascii: "\n"):
                newLine()
                continue
            default: break
            }
            offset += 1
            if depth == 0 { return true }
        }
        return false
    }

    private mutating func skipBlanks() {
        while offset < bytes.count {
            switch bytes[offset] {
            case UInt8(ascii: " "), UInt8(ascii: "\t"), UInt8(ascii: "\r"): offset += 1
            case UInt8(ascii: "\n"): newLine()
            case UInt8(ascii: "#"): skipComment()
            default: return
            }
        }
    }

    private mutating func newLine() {
        offset += 1
        line += 1
        lineStart = offset
    }

    private mutating func skipComment() {
        while offset < bytes.count, bytes[offset] != UInt8(ascii: "\n") { offset += 1 }
    }

    /// A quoted string inside skipped text; one that is not closed on its line is just a quote.
    private mutating func skipQuoted() {
        var end = offset + 1
        while end < bytes.count, bytes[end] != UInt8(ascii: "\n") {
            if bytes[end] == UInt8(ascii: "\\") { end += 1 }
            if end < bytes.count, bytes[end] == UInt8(ascii: "\"") {
                offset = end + 1
                return
            }
            if end < bytes.count, bytes[end] == UInt8(ascii: "\n") { break }
            end += 1
        }
        offset += 1
    }

    private mutating func string(from start: SourcePosition) throws(ConfigError) -> String {
        offset += 1
        var content: [UInt8] = []
        while offset < bytes.count, bytes[offset] != UInt8(ascii: "\n") {
            let byte = bytes[offset]
            if byte == UInt8(ascii: "\"") {
                offset += 1
                if content.count > Lexer.stringBytes {
                    let head = String(decoding: content.prefix(20), as: UTF8.self)
                    throw ConfigError(start, "Token too long >>>\(head)…<<<")
                }
                return String(decoding: content, as: UTF8.self)
            }
            let following = offset + 1 < bytes.count ? bytes[offset + 1] : 0
            if byte == UInt8(ascii: "\\"), following == UInt8(ascii: "\"") || following == UInt8(ascii: "\\") {
                content.append(following)
                offset += 2
            } else {
                content.append(byte)
                offset += 1
            }
        }
        throw ConfigError(
            start, "Unterminated double quoted string; we don't allow embedded newlines")
    }

    static func isWordByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "_"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }
}
