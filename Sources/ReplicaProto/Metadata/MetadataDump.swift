/// The text of `dump-md` (`metadata.md` 8.3), written piece by piece so that a large bitmap need not be in memory.
///
/// `head`, then `appendBitmap` for the bitmap's bytes in order, then `end`.
package struct MetadataDumpWriter: Sendable {
    private static let windowWords: UInt64 = 8 << 20

    package let superblock: Superblock
    package let layout: MetadataLayout
    /// Words of 32 bits written or held back so far.
    private var word: UInt64 = 0
    private var setBits: UInt64 = 0
    /// Groups of eight equal words, not written yet.
    private var run: (value: UInt32, groups: UInt64)?

    package init(superblock: Superblock, layout: MetadataLayout) {
        self.superblock = superblock
        self.layout = layout
    }

    /// Bytes of bitmap that the dump holds.
    package var bitmapBytes: UInt64 { layout.bitmapBytes(coveringSectors: superblock.lastAgreedSectors) }

    /// Everything up to and with the opening of the bitmap.
    ///
    /// - Parameters:
    ///   - date: text of the second line.
    ///   - command: what was run where, text of the third line.
    ///   - isUnclean: puts in a line that no reader of dumps accepts.
    package func head(date: String, command: String, isUnclean: Bool) -> String {
        let identifiers = superblock.identifiers
        let words = [identifiers.current, identifiers.bitmap, identifiers.history0, identifiers.history1].map {
            "0x" + GenerationText.hex($0, digits: 16) + ";"
        }
        var text = "# DRBD meta data dump\n# \(date)\n# \(command)\n#\n\nversion \"v08\";\n\n"
        if isUnclean {
            text += "This_dump_is_of_unclean_meta_data._Its_bitmap_lacks_what_the_activity_log_says.\n"
            text += "# Apply the activity log (\"apply-al\") first, if this is meant to be restored.\n\n"
        }
        text += "# md_size_sect \(layout.metadataSectors)\n"
        text += "# md_offset \(layout.superblock &* 512)\n"
        text += "# al_offset \(layout.activityLog &* 512)\n"
        text += "# bm_offset \(layout.bitmap &* 512)\n\n"
        text += "uuid {\n    \(words.joined(separator: " "))\n"
        text += "    flags 0x\(GenerationText.hex(UInt64(superblock.flags.rawValue), digits: 8));\n}\n"
        text += "# al-extents \(superblock.activityLogExtents);\n"
        text += "la-size-sect \(superblock.lastAgreedSectors);\n"
        text += "bm-byte-per-bit \(superblock.bytesPerBit);\n"
        text += "device-uuid 0x\(GenerationText.hex(superblock.deviceUUID, digits: 16));\n"
        text += "la-peer-max-bio-size \(superblock.peerMaximumRequest);\n"
        text += "al-stripes \(superblock.activityLogStripes);\n"
        text += "al-stripe-size-4k \(superblock.activityLogStripeSize);\n"
        text += "# bm-bytes \(bitmapBytes);\nbm {"
        return text
    }

    /// Appends a piece of the bitmap. Its length is a multiple of 32 bytes; of the last piece, what is missing to that
    /// is taken as zero.
    package mutating func appendBitmap(_ bytes: RawSpan, to text: inout String) {
        var offset = 0
        while offset < bytes.byteCount {
            var group = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
            group.0 = Self.word(bytes, offset)
            group.1 = Self.word(bytes, offset &+ 8)
            group.2 = Self.word(bytes, offset &+ 16)
            group.3 = Self.word(bytes, offset &+ 24)
            append(group, to: &text)
            offset &+= 32
        }
    }

    package mutating func appendBitmap(_ bytes: [UInt8], to text: inout String) {
        appendBitmap(unsafe bytes.span.bytes, to: &text)
    }

    package mutating func end(_ text: inout String) {
        flushRun(&text)
        text += "\n}\n# bits-set \(setBits);\n"
    }

    private static func word(_ bytes: RawSpan, _ offset: Int) -> UInt64 {
        if offset &+ 8 <= bytes.byteCount { return bytes.readLE64(at: offset) }
        var value: UInt64 = 0
        var position = offset
        while position < bytes.byteCount {
            value |= UInt64(bytes.readU8(at: position)) << UInt64(8 &* (position &- offset))
            position &+= 1
        }
        return value
    }

    private mutating func append(_ group: (UInt64, UInt64, UInt64, UInt64), to text: inout String) {
        setBits &+= UInt64(group.0.nonzeroBitCount &+ group.1.nonzeroBitCount)
        setBits &+= UInt64(group.2.nonzeroBitCount &+ group.3.nonzeroBitCount)
        // drbdmeta works in windows of 32 MiB and carries a run over the border only once it is one of several lines.
        if let run, run.groups == 1, (word &+ 8) % Self.windowWords == 0 { flushRun(&text) }
        let first = UInt32(truncatingIfNeeded: group.0)
        let doubled = UInt64(first) << 32 | UInt64(first)
        if group.0 == doubled && group.1 == doubled && group.2 == doubled && group.3 == doubled {
            if run?.value == first {
                run?.groups &+= 1
            } else {
                flushRun(&text)
                run = (first, 1)
            }
        } else {
            flushRun(&text)
            line([group.0, group.1, group.2, group.3], to: &text)
        }
    }

    private mutating func flushRun(_ text: inout String) {
        guard let run else { return }
        self.run = nil
        let doubled = UInt64(run.value) << 32 | UInt64(run.value)
        if run.groups == 1 { return line([doubled, doubled, doubled, doubled], to: &text) }
        beginLine(&text)
        text += " \(run.groups &* 4) times 0x\(GenerationText.hex(doubled, digits: 16));"
        word &+= run.groups &* 8
    }

    private mutating func line(_ words: [UInt64], to text: inout String) {
        beginLine(&text)
        for word in words { text += " 0x\(GenerationText.hex(word, digits: 16));" }
        word &+= 8
    }

    private func beginLine(_ text: inout String) {
        text += "\n"
        if word % 64 == 0 { text += "   # at \(word &* 128)kB\n" }
        text += "   "
    }
}
