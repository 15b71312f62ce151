/// One line cut into words as a shell would: blanks separate, quotes and backslashes keep together.
package enum CommandLineWords {
    package enum WordError: Error, Equatable, Sendable {
        case unterminatedQuote
        case trailingBackslash
    }

    package static func split(_ line: String) throws(WordError) -> [String] {
        var words: [String] = []
        var word: [UInt8] = []
        var isInWord = false
        var quote: UInt8?
        var isEscaped = false
        for byte in line.utf8 {
            if isEscaped {
                word.append(byte == UInt8(ascii: "n") && quote == UInt8(ascii: "\"") ? 10 : byte)
                isEscaped = false
            } else if byte == UInt8(ascii: "\\") && quote != UInt8(ascii: "'") {
                isEscaped = true
                isInWord = true
            } else if let open = quote {
                if byte == open { quote = nil } else { word.append(byte) }
            } else if byte == UInt8(ascii: "'") || byte == UInt8(ascii: "\"") {
                quote = byte
                isInWord = true
            } else if byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") {
                if isInWord { words.append(String(decoding: word, as: UTF8.self)) }
                word.removeAll(keepingCapacity: true)
                isInWord = false
            } else {
                word.append(byte)
                isInWord = true
            }
        }
        if quote != nil { throw .unterminatedQuote }
        if isEscaped { throw .trailingBackslash }
        if isInWord { words.append(String(decoding: word, as: UTF8.self)) }
        return words
    }

    /// `word`, in double quotes where a blank, quote, backslash or line feed (or nothing at all) asks for it.
    package static func quote(_ word: String) -> String {
        let needsQuotes =
            word.isEmpty
            || word.utf8.contains { byte in
                byte <= UInt8(ascii: " ") || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'")
                    || byte == UInt8(ascii: "\\")
            }
        if !needsQuotes { return word }
        var quoted = "\""
        for scalar in word.unicodeScalars {
            switch scalar {
            case "\"", "\\":
                quoted.unicodeScalars.append("\\")
                quoted.unicodeScalars.append(scalar)
            case "\n": quoted += "\\n"
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }

    package static func join(_ words: [String]) -> String { words.map(quote).joined(separator: " ") }
}
