/// The one-line form of generation identifiers and flags that `get-gi` prints and `set-gi` reads
/// (`metadata.md` 8.2).
package enum GenerationText {
    /// The flags of the line, in order. AL_CLEAN and AL_DISABLED are not among them.
    package static let flags: [MetadataFlags] = [
        .consistent, .wasUpToDate, .primaryIndicator, .connectedIndicator, .fullSync, .peerOutdated, .crashedPrimary,
    ]

    /// `C:B:H1:H2:f:f:f:f:f:f:f`
    package static func line(_ superblock: Superblock) -> String {
        let identifiers = superblock.identifiers
        let words = [identifiers.current, identifiers.bitmap, identifiers.history0, identifiers.history1].map {
            hex($0, digits: 16)
        }
        return (words + flags.map { superblock.flags.contains($0) ? "1" : "0" }).joined(separator: ":")
    }

    /// Changes what the line names; empty and missing fields stay.
    /// - Returns: nil if the line is no such line.
    package static func apply(_ line: String, to superblock: Superblock) -> Superblock? {
        let fields = line.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count <= 4 + flags.count else { return nil }
        var changed = superblock
        for (position, field) in fields.enumerated() where !field.isEmpty {
            if position < 4 {
                guard let value = parseHex(field, digits: nil) else { return nil }
                switch position {
                case 0: changed.identifiers.current = value
                case 1: changed.identifiers.bitmap = value
                case 2: changed.identifiers.history0 = value
                default: changed.identifiers.history1 = value
                }
            } else {
                switch field {
                case "0": changed.flags.remove(flags[position - 4])
                case "1": changed.flags.insert(flags[position - 4])
                default: return nil
                }
            }
        }
        return changed
    }

    /// The line with its fields explained.
    package static func explained(_ superblock: Superblock) -> String {
        let captions = ["current generation", "generation the bitmap counts from", "younger history", "older history"]
        let flagCaptions = [
            "data are consistent", "data were up to date", "node was Primary", "node was connected",
            "all bits were about to be set", "peer's data were outdated or inconsistent",
            "node crashed as Primary and has not met its peer since",
        ]
        var text = "\n"
        for (position, caption) in captions.enumerated() {
            text += String(repeating: "|                ", count: position) + "+-- \(caption)\n"
        }
        text += "V                V                V                V\n" + line(superblock) + "\n"
        text += String(repeating: " ", count: 68) + flags.map { _ in "^" }.joined(separator: " ") + "\n"
        for (position, caption) in flagCaptions.enumerated() {
            let lead = caption + " --"
            text += String(repeating: " ", count: max(0, 68 + 2 * position - lead.utf8.count)) + lead + "+"
            text += String(repeating: " |", count: flags.count - 1 - position) + "\n"
        }
        text += "\nflags:" + flagWords(superblock.flags) + "\n"
        text += "meta-data: \(superblock.needsActivityLogApplied ? "need apply-al" : "clean")\n"
        if superblock.lastAgreedSectors == 0 {
            text += "zero size device -- never seen peer yet?\n"
        } else {
            text += "last agreed size: \(size(kilobytes: superblock.lastAgreedSectors / 2)) "
            text += "(\(superblock.lastAgreedSectors) sectors)\n"
            text += "last agreed max bio size: \(superblock.peerMaximumRequest) Byte\n"
        }
        return text
    }

    private static func flagWords(_ flags: MetadataFlags) -> String {
        var words = flags.contains(.crashedPrimary) ? " crashed" : ""
        words += flags.contains(.primaryIndicator) ? " Primary" : " Secondary"
        words += flags.contains(.connectedIndicator) ? ", Connected" : ", StandAlone"
        if flags.contains(.consistent) {
            words += flags.contains(.wasUpToDate) ? ", UpToDate" : ", Outdated"
        } else {
            words += ", Inconsistent"
        }
        if flags.contains(.fullSync) { words += ", need full sync" }
        if flags.contains(.peerOutdated) { words += ", peer Outdated" }
        return words
    }

    /// A size as the DRBD tools print it: the next unit once there are five digits, rounded.
    package static func size(kilobytes: UInt64) -> String {
        var value = kilobytes
        var unit = 0
        let units = ["KB", "MB", "GB", "TB", "PB", "EB"]
        while value >= 10000 && unit < units.count - 1 {
            value = value >> 10 &+ (value >> 9 & 1)
            unit += 1
        }
        return "\(value) \(units[unit])"
    }

    /// Upper-case hexadecimal with leading zeroes.
    package static func hex(_ value: UInt64, digits: Int) -> String {
        let text = String(value, radix: 16, uppercase: true)
        return String(repeating: "0", count: max(0, digits - text.count)) + text
    }

    /// Reads 1 to 16 hexadecimal digits, or exactly `digits`, without sign; `0x` in front is allowed.
    package static func parseHex(_ text: Substring, digits: Int?) -> UInt64? {
        var rest = text.utf8[...]
        if rest.starts(with: "0x".utf8) || rest.starts(with: "0X".utf8) { rest = rest.dropFirst(2) }
        guard digits.map({ rest.count == $0 }) ?? (rest.count >= 1 && rest.count <= 16) else { return nil }
        var value: UInt64 = 0
        for byte in rest {
            switch byte {
            case 0x30...0x39: value = value << 4 | UInt64(byte &- 0x30)
            case 0x41...0x46: value = value << 4 | UInt64(byte &- 0x37)
            case 0x61...0x66: value = value << 4 | UInt64(byte &- 0x57)
            default: return nil
            }
        }
        return value
    }
}
