/// What a bare number of an option means, and what its suffixes are divided by (`control.md` 1.2).
package enum OptionUnit: UInt64, Equatable, Sendable {
    /// A count, bytes, seconds or tenths of seconds: a suffix only multiplies.
    case one = 1
    case sectors = 512
    case kibibytes = 1024

    /// The letter behind numbers of this unit in messages and in `show`.
    package var letter: String {
        switch self {
        case .one: ""
        case .sectors: "s"
        case .kibibytes: "k"
        }
    }
}

/// How seriously an option is taken: column "Need" of `control.md` 1.9.
package enum OptionNeed: Equatable, Sendable {
    /// Must work.
    case must
    /// Should work.
    case should
    /// Accepted and validated, then ignored with one warning.
    case ignored
    /// Accepted silently and dropped.
    case dropped
    /// Refused with an error.
    case refused
}

/// The kind of an option's value.
package enum OptionKind: Equatable, Sendable {
    case number(ClosedRange<UInt64>, OptionUnit)
    /// A number that is moved into the range instead of being refused (`al-extents`).
    case clampedNumber(ClosedRange<UInt64>, OptionUnit)
    case flag
    case choice([String])
    /// Free text up to a number of bytes.
    case text(maximum: Int)
    /// A resource, a volume of it or a minor: resolved by whoever knows the names.
    case reference
}

/// An option's name, kind and need, without knowledge of where its value is kept.
package struct OptionShape: Equatable, Sendable {
    package var name: String
    package var kind: OptionKind
    package var need: OptionNeed

    package init(_ name: String, _ kind: OptionKind, _ need: OptionNeed) {
        self.name = name
        self.kind = kind
        self.need = need
    }
}

/// The value of an option, in the option's own unit.
package enum OptionValue: Equatable, Sendable {
    case number(UInt64)
    case flag(Bool)
    case text(String)

    /// As the control socket and the low-level command lines spell it.
    package var text: String {
        switch self {
        case .number(let number): String(number)
        case .flag(let flag): flag ? "yes" : "no"
        case .text(let text): text
        }
    }
}

/// Why a value does not fit its option.
package enum OptionError: Error, Equatable, Sendable {
    case unknownOption(String)
    case notANumber(option: String, text: String)
    case outOfRange(option: String, text: String, value: UInt64, ClosedRange<UInt64>, OptionUnit)
    case notABoolean(option: String, text: String)
    case notAChoice(option: String, text: String, choices: [String])
    case tooLong(option: String, maximum: Int)
    case missingValue(option: String)

    /// The wording of `control.md` 1.2 and 1.11, without position.
    package var message: String {
        switch self {
        case .unknownOption(let option): "unknown option '\(option)'"
        case .notANumber(_, let text): "\(text) is not a valid number"
        case .outOfRange(let option, let text, let value, let range, let unit):
            "\(option) \(text) => \(value)\(unit.letter) out of range "
                + "[\(range.lowerBound)..\(range.upperBound)]\(unit.letter)."
        case .notABoolean(let option, let text): "\(option) '\(text)' is neither 'yes' nor 'no'"
        case .notAChoice(let option, let text, let choices):
            "\(option): invalid argument '\(text)', should be one of \(choices.joined(separator: ","))"
        case .tooLong(let option, let maximum): "\(option) is longer than \(maximum) characters"
        case .missingValue(let option): "\(option) needs a value"
        }
    }
}

extension OptionShape {
    /// Reads a value as configuration files and command lines spell it. A nil text is a bare name: yes for a flag.
    package func value(parsing text: String?) throws(OptionError) -> OptionValue {
        guard let text else {
            if kind == .flag { return .flag(true) }
            throw .missingValue(option: name)
        }
        switch kind {
        case .number(let range, let unit):
            let number = try OptionShape.number(text, option: name, unit: unit)
            if !range.contains(number) {
                throw .outOfRange(option: name, text: text, value: number, range, unit)
            }
            return .number(number)
        case .clampedNumber(let range, let unit):
            let number = try OptionShape.number(text, option: name, unit: unit)
            return .number(min(max(number, range.lowerBound), range.upperBound))
        case .flag:
            switch text {
            case "yes", "true": return .flag(true)
            case "no", "false": return .flag(false)
            default: throw .notABoolean(option: name, text: text)
            }
        case .choice(let choices):
            if !choices.contains(text) { throw .notAChoice(option: name, text: text, choices: choices) }
            return .text(text)
        case .text(let maximum):
            if text.utf8.count > maximum { throw .tooLong(option: name, maximum: maximum) }
            return .text(text)
        case .reference:
            return .text(text)
        }
    }

    /// Digits with an optional suffix `K M G` (powers of 1024) or `s` (512), in units of the option, rounded up.
    package static func number(_ text: String, option: String, unit: OptionUnit) throws(OptionError) -> UInt64 {
        var value: UInt64 = 0
        var digits = 0
        var multiplier: UInt64 = 1
        var hasSuffix = false
        for byte in text.utf8 {
            if hasSuffix { throw .notANumber(option: option, text: text) }
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"):
                let (product, overflow) = value.multipliedReportingOverflow(by: 10)
                let (sum, carry) = product.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
                if overflow || carry { throw .notANumber(option: option, text: text) }
                value = sum
                digits += 1
            case UInt8(ascii: "k"), UInt8(ascii: "K"): (multiplier, hasSuffix) = (1 << 10, true)
            case UInt8(ascii: "m"), UInt8(ascii: "M"): (multiplier, hasSuffix) = (1 << 20, true)
            case UInt8(ascii: "g"), UInt8(ascii: "G"): (multiplier, hasSuffix) = (1 << 30, true)
            case UInt8(ascii: "s"): (multiplier, hasSuffix) = (512, true)
            default: throw .notANumber(option: option, text: text)
            }
        }
        if digits == 0 { throw .notANumber(option: option, text: text) }
        if !hasSuffix { return value }
        let (bytes, overflow) = value.multipliedReportingOverflow(by: multiplier)
        if overflow { throw .notANumber(option: option, text: text) }
        return bytes / unit.rawValue + (bytes % unit.rawValue == 0 ? 0 : 1)
    }
}
