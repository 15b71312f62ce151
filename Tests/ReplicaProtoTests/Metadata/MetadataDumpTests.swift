import Testing

@testable import ReplicaProto

@Suite struct MetadataDumpTests {
    static let clean = MetadataVectors.names.filter { MetadataVectors.expected[$0]?.dump_exit == 0 }

    private func dump(_ name: String, piece: Int) throws -> String {
        let (entry, parts) = try MetadataVectors.parts(name)
        let superblock = try Superblock(decoding: parts.superblock)
        let layout = try MetadataLayout(entry.index, superblock: superblock, deviceSectors: entry.device_size / 512)
        return text(superblock, layout, parts.bitmap, piece: piece)
    }

    private func text(_ superblock: Superblock, _ layout: MetadataLayout, _ bitmap: [UInt8], piece: Int) -> String {
        var writer = MetadataDumpWriter(superblock: superblock, layout: layout)
        var text = writer.head(date: "DATE", command: "COMMAND", isUnclean: false)
        let bytes = Array(bitmap.prefix(Int(writer.bitmapBytes)))
        var start = 0
        while start < bytes.count {
            writer.appendBitmap(Array(bytes[start..<min(start + piece, bytes.count)]), to: &text)
            start += piece
        }
        writer.end(&text)
        return text
    }

    /// Lines but the date, the command, and the flags, which drbdmeta 9.22 always prints as zero.
    private func comparable(_ text: String) -> [Substring] {
        text.split(separator: "\n", omittingEmptySubsequences: false).enumerated().filter {
            $0.offset != 1 && $0.offset != 2 && !$0.element.hasPrefix("    flags ")
        }.map(\.element)
    }

    @Test(arguments: clean) func item43DumpsOfGoldenImages(name: String) throws {
        let golden = try MetadataVectors.text("metadata/\(name).dump.txt")
        for piece in [4096, 32] { #expect(comparable(try dump(name, piece: piece)) == comparable(golden)) }
        let flags = try #require(MetadataVectors.expected[name]?.superblock?.flags).dropFirst(2).uppercased()
        #expect(try dump(name, piece: 4096).contains("\n    flags 0x\(flags);\n"))
    }

    /// drbdmeta's dumps of what kernels left, internal metadata.
    @Test(arguments: KernelPairs.all.filter { !$0.before.hasPrefix("md-flex") && !$0.before.hasPrefix("md-index") })
    func dumpsOfKernelAreas(pair: KernelPairs) throws {
        let area = try MetadataVectors.unzip("metadata-kernel/\(pair.after).bin.gz")
        let golden = try MetadataVectors.text("metadata-kernel/\(pair.after).dump-md.txt")
        let superblock = try Superblock(decoding: Array(area[(area.count - 4096)...]))
        let md = try #require(golden.split(separator: "\n").first { $0.hasPrefix("# md_offset ") })
        let offset = try #require(UInt64(md.dropFirst(12)))
        let layout = try MetadataLayout(.internal, superblock: superblock, deviceSectors: (offset + 4096) / 512)
        let ours = comparable(text(superblock, layout, area, piece: 4096))
        let start = try #require(golden.range(of: "# DRBD meta data dump"))
        var theirs = comparable(String(golden[start.lowerBound...]))
        theirs.removeAll { $0.hasPrefix("exit: ") }
        #expect(ours == theirs)
    }

    /// Written and read back: same fields, same bits.
    @Test(arguments: clean) func dumpsAreReadBack(name: String) throws {
        let (entry, parts) = try MetadataVectors.parts(name)
        let superblock = try Superblock(decoding: parts.superblock)
        let layout = try MetadataLayout(entry.index, superblock: superblock, deviceSectors: entry.device_size / 512)
        let parsed = try MetadataDump(parsing: Array(dump(name, piece: 4096).utf8))
        var restored = parsed.superblock(for: layout)
        restored.activityLogExtents = superblock.activityLogExtents
        #expect(restored == superblock)
        let bitmap = Array(parts.bitmap.prefix(Int(parsed.wordCount) * 8))
        #expect(bytes(parsed) == bitmap)
        _ = try MetadataDump(parsing: Array(MetadataVectors.text("metadata/\(name).dump.txt").utf8))
    }

    private func bytes(_ dump: MetadataDump) -> [UInt8] {
        dump.bitmap.flatMap { run in
            (0..<run.count).flatMap { _ in (0..<8).map { UInt8(truncatingIfNeeded: run.word >> (8 * UInt64($0))) } }
        }
    }

    @Test(arguments: Seeds.thisRun) func randomBitmapsRoundTrip(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<10 {
            let layout = try MetadataLayout(.internal, deviceSectors: UInt64.random(in: 2048...900_000, using: &generator))
            var superblock = layout.freshSuperblock()
            superblock.lastAgreedSectors = layout.usableSectors
            var bitmap: [UInt8] = []
            while bitmap.count < Int(layout.bitmapSectors) * 512 {
                let byte = [0, 0xff, 0x55, UInt8.random(in: 0...255, using: &generator)].randomElement(using: &generator)!
                bitmap += Array(repeating: byte, count: Int.random(in: 1...20, using: &generator) * 8)
            }
            bitmap.removeLast(bitmap.count - Int(layout.bitmapSectors) * 512)
            let covered = Int(layout.bitmapBytes(coveringSectors: superblock.lastAgreedSectors))
            let whole = text(superblock, layout, bitmap, piece: 1 << 20)
            #expect(whole == text(superblock, layout, bitmap, piece: 64))
            #expect(bytes(try MetadataDump(parsing: Array(whole.utf8))) == Array(bitmap.prefix(covered)))
        }
    }

    /// Runs of ones around the border of the first 32 MiB of bitmap, as drbdmeta 9.22.0 printed them for a loop device
    /// of 2.5 TiB: a run is carried over the border if it has two lines' worth before it.
    @Test(arguments: [(8, 8, "16"), (5, 20, "1 + 20")])
    func runsAcrossTheWindowBorder(before: Int, after: Int, expected: String) throws {
        let layout = try MetadataLayout(.internal, deviceSectors: 5 << 30)
        var superblock = layout.freshSuperblock()
        superblock.lastAgreedSectors = 5_000_000_000
        var writer = MetadataDumpWriter(superblock: superblock, layout: layout)
        var text = ""
        let zeroes = [UInt8](repeating: 0, count: 1 << 20)
        for _ in 0..<31 { writer.appendBitmap(zeroes, to: &text) }
        let piece = zeroes.dropLast(before * 8) + [UInt8](repeating: 0xff, count: (before + after) * 8) + zeroes
        writer.appendBitmap(Array(piece.prefix(piece.count / 32 * 32)), to: &text)
        writer.end(&text)
        let parts = text.split(separator: "\n").filter { $0.contains("0xFFFFFFFFFFFFFFFF;") }.map { line in
            line.contains("times") ? String(line.split(separator: " ")[0]) : line.contains("0x00") ? "-" : "1"
        }
        #expect(parts.filter { $0 != "-" }.joined(separator: " + ") == expected)
    }

    @Test func errorsNameTheLine() throws {
        let golden = try MetadataVectors.text("metadata/st-restored-bitmap.input.txt")
        let good = try MetadataDump(parsing: Array(golden.utf8))
        #expect(good.lastAgreedSectors == 65456 && good.flags.rawValue == 0x91 && good.wordCount == 128)
        func failure(_ text: String) -> MetadataDumpError? {
            do {
                _ = try MetadataDump(parsing: Array(text.utf8))
                return nil
            } catch { return error }
        }
        #expect(failure(golden.replacing("v08", with: "v07"))?.reason == .unsupportedVersion("v07"))
        #expect(failure(golden.replacing("la-size-sect", with: "la-size"))?.reason == .expected("la-size-sect"))
        let short = golden.replacing("0x0F1E2D3C4B5A6978", with: "0x0F1E2D3C4B5A697")
        #expect(failure(short)?.reason == .expected("0x and 16 hexadecimal digits"))
        #expect(failure(golden.replacing("65456", with: "99999999999999999999"))?.reason == .expected("a decimal number"))
        #expect(failure(golden + "x")?.reason == .expected("end of the dump"))
        #expect(failure(golden.replacing("flags", with: "# flags"))?.line == 5)
        for length in 0..<golden.utf8.count - 2 {
            #expect(throws: MetadataDumpError.self) { try MetadataDump(parsing: Array(golden.utf8.prefix(length))) }
        }
    }

    @Test(arguments: Seeds.thisRun) func anyTextIsAnswered(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let golden = Array(try MetadataVectors.text("metadata/st-restored-bitmap.input.txt").utf8)
        for _ in 0..<300 {
            var text = golden
            for _ in 0..<Int.random(in: 1...5, using: &generator) {
                text[Int.random(in: 0..<text.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            _ = try? MetadataDump(parsing: text)
        }
    }
}
