/// Words of one line of a recording, written and read in the same order.
///
/// Numbers are decimal, bytes hexadecimal with runs as `00*4096`, text is bytes; what is absent is `-`.
struct RecordWriter {
    private(set) var line = ""

    mutating func word(_ text: String) {
        if !line.isEmpty { line += " " }
        line += text
    }
    mutating func number(_ value: some FixedWidthInteger) { word(String(value)) }
    mutating func flag(_ value: Bool) { word(value ? "1" : "0") }
    mutating func text(_ value: String) { bytes(Array(value.utf8)) }
    mutating func optional<Value>(_ value: Value?, _ write: (inout RecordWriter, Value) -> Void) {
        if let value { write(&self, value) } else { word("-") }
    }

    mutating func bytes(_ bytes: [UInt8]) {
        var text = "x"
        var index = 0
        while index < bytes.count {
            var end = index + 1
            while end < bytes.count, bytes[end] == bytes[index] { end += 1 }
            let digits = String(bytes[index], radix: 16)
            let byte = digits.utf8.count == 1 ? "0" + digits : digits
            if end - index > 4 {
                text += "\(byte)*\(end - index),"
            } else {
                for _ in index..<end { text += byte }
            }
            index = end
        }
        word(text)
    }
}

/// Reads what `RecordWriter` wrote. Whatever does not fit gives nil.
struct RecordReader {
    private var words: ArraySlice<Substring>
    /// Bytes of one field at most: a file may claim anything.
    private static let maximumBytes = 1 << 28

    init(_ line: Substring) { words = line.split(separator: " ")[...] }

    var isAtEnd: Bool { words.isEmpty }
    mutating func word() -> Substring? { words.popFirst() }
    mutating func number<Number: FixedWidthInteger>() -> Number? { word().flatMap { Number($0) } }
    mutating func flag() -> Bool? {
        switch word() {
        case "0": false
        case "1": true
        default: nil
        }
    }
    mutating func text() -> String? { bytes().map { String(decoding: $0, as: UTF8.self) } }
    /// The outer nil: unreadable; the inner: absent.
    mutating func optional<Value>(_ read: (inout RecordReader) -> Value?) -> Value?? {
        if words.first == "-" {
            words.removeFirst()
            return .some(nil)
        }
        guard let value = read(&self) else { return nil }
        return .some(value)
    }

    mutating func bytes() -> [UInt8]? {
        guard let word = word(), word.first == "x" else { return nil }
        let digits = Array(word.utf8.dropFirst())
        var result: [UInt8] = []
        var index = 0
        while index < digits.count {
            guard index + 1 < digits.count, let high = Self.value(digits[index]), let low = Self.value(digits[index + 1]) else {
                return nil
            }
            let byte = high << 4 | low
            index += 2
            guard index < digits.count, digits[index] == UInt8(ascii: "*") else {
                result.append(byte)
                continue
            }
            guard let comma = digits[index...].firstIndex(of: UInt8(ascii: ",")),
                let count = Int(String(decoding: digits[(index + 1)..<comma], as: UTF8.self)), count > 0,
                count <= Self.maximumBytes - result.count
            else { return nil }
            result.append(contentsOf: repeatElement(byte, count: count))
            index = comma + 1
        }
        return result
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
