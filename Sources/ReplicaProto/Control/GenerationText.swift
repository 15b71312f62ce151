/// The texts of `get-gi` and `show-gi` (`control.md` 2.8), for a running volume and for metadata on a disk alike.
package enum GenerationText {
    /// `CURRENT:BITMAP:HISTORY:HISTORY:F:F:F:F:F:F:F`
    package static func line(_ identifiers: GenerationIdentifiers, flags: MetadataFlags) -> String {
        let numbers = [identifiers.current, identifiers.bitmap, identifiers.history0, identifiers.history1]
        let bits: [MetadataFlags] = [
            .consistent, .wasUpToDate, .primaryIndicator, .connectedIndicator, .fullSync, .peerOutdated, .crashedPrimary,
        ]
        let words = numbers.map { hexadecimal($0) } + bits.map { flags.contains($0) ? "1" : "0" }
        return words.joined(separator: ":")
    }

    /// The drawing that explains the line, and the line's flags in words.
    package static func explanation(
        _ identifiers: GenerationIdentifiers, flags: MetadataFlags, sectors: UInt64
    ) -> String {
        var words = [
            (flags.contains(.crashedPrimary) ? "crashed " : "")
                + (flags.contains(.primaryIndicator) ? "Primary" : "Secondary"),
            flags.contains(.connectedIndicator) ? "Connected" : "StandAlone",
            diskWord(flags),
        ]
        if flags.contains(.fullSync) { words.append("need full sync") }
        if flags.contains(.peerOutdated) { words.append("peer Outdated") }
        let isClean = flags.contains(.activityLogClean)
        return above + line(identifiers, flags: flags) + "\n" + below + "\nflags: \(words.joined(separator: ", "))\n"
            + "meta-data: \(isClean ? "clean" : "need apply-al")\n"
            + (sectors == 0 ? "zero size device -- never seen peer yet?\n" : "")
    }

    /// The disk state that the flags stand for.
    package static func diskWord(_ flags: MetadataFlags) -> String {
        if !flags.contains(.consistent) { return "Inconsistent" }
        return flags.contains(.wasUpToDate) ? "UpToDate" : "Outdated"
    }

    private static let above = """

               +--<  Current data generation UUID  >-
               |               +--<  Bitmap's base data generation UUID  >-
               |               |                 +--<  younger history UUID  >-
               |               |                 |         +-<  older history  >-
               V               V                 V         V

        """

    private static let below = """
                                                                            ^ ^ ^ ^ ^ ^ ^
                                              -<  Data consistency flag  >--+ | | | | | |
                                     -<  Data was/is currently up-to-date  >--+ | | | | |
                                          -<  Node was/is currently primary  >--+ | | | |
                                          -<  Node was/is currently connected  >--+ | | |
                 -<  Node was in the progress of setting all bits in the bitmap  >--+ | |
                                -<  The peer's disk was out-dated or inconsistent  >--+ |
              -<  This node was a crashed primary, and has not seen its peer since   >--+

        """
}
