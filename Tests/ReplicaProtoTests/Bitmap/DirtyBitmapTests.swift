import Testing

@testable import ReplicaProto

@Suite struct DirtyBitmapTests {
    /// Bit order on disk: `Vectors/metadata/st-restored-bitmap`, written by drbdmeta.
    @Test func item22BitOrderOfRestoredBitmap() throws {
        let (entry, parts) = try MetadataVectors.parts("st-restored-bitmap")
        let superblock = try Superblock(decoding: parts.superblock)
        let bits = DirtyBitmap.bits(forDeviceSectors: superblock.lastAgreedSectors)
        let bitmap = DirtyBitmap(bits: bits, loading: parts.bitmap)
        var model = Set<UInt64>()
        for range in try #require(entry.bitmap_bit_ranges) { model.formUnion(range[0]...range[1]) }
        #expect((0..<bits).allSatisfy { bitmap.isSet(BitmapBlock($0)) == model.contains($0) })
        #expect(bitmap.weight == UInt64(model.count))
        var page = [UInt8](repeating: 0xee, count: 4096)
        bitmap.copyPage(0, into: &page)
        #expect(page == parts.bitmap)
    }

    /// Sectors to bits, `metadata.md` 3.3, on a device of 8 * 10 + 3 sectors.
    static let mappings: [(UInt64, UInt32, ClosedRange<UInt64>, ClosedRange<UInt64>?)] = [
        (0, 1, 0...0, nil),
        (0, 8, 0...0, 0...0),
        (1, 7, 0...0, nil),
        (1, 8, 0...1, nil),
        (1, 15, 0...1, 1...1),
        (7, 2, 0...1, nil),
        (0, 7, 0...0, nil),
        (8, 16, 1...2, 1...2),
        (12, 24, 1...4, 2...3),
        (72, 11, 9...10, 9...10),
        (80, 3, 10...10, 10...10),
        (80, 2, 10...10, nil),
        (81, 2, 10...10, nil),
        (79, 4, 9...10, 10...10),
        (64, 1000, 8...10, 8...10),
        (82, .max, 10...10, nil),
    ]

    @Test(arguments: mappings) func item23SectorsToBits(
        start: UInt64, count: UInt32, touched: ClosedRange<UInt64>, covered: ClosedRange<UInt64>?
    ) {
        var bitmap = DirtyBitmap(bits: 11)
        let range = SectorRange(start, count)
        #expect(bitmap.setOutOfSync(range, deviceSectors: 83) == touched.count)
        for bit in 0..<11 as Range<UInt64> { #expect(bitmap.isSet(BitmapBlock(bit)) == touched.contains(bit)) }
        bitmap.setAll()
        #expect(bitmap.clearInSync(range, deviceSectors: 83) == covered?.count ?? 0)
        for bit in 0..<11 as Range<UInt64> {
            #expect(bitmap.isSet(BitmapBlock(bit)) != (covered?.contains(bit) ?? false))
        }
    }

    @Test func rangesOutsideTheDeviceChangeNothing() {
        var bitmap = DirtyBitmap(bits: 11)
        for range in [SectorRange(83, 8), SectorRange(1 << 40, 1), SectorRange(.max, .max), SectorRange(8, 0)] {
            #expect(bitmap.setOutOfSync(range, deviceSectors: 83) == 0)
            #expect(bitmap.clearInSync(range, deviceSectors: 83) == 0)
            #expect(!bitmap.isAnySet(in: range))
            #expect(bitmap.countSet(in: range) == 0)
        }
        #expect(bitmap.nextDirtyPage(from: 0) == nil)
    }

    @Test(arguments: [0, 1, 63, 64, 65, 100, 32767, 32768, 32769] as [UInt64])
    func item24BitsPastTheEndStayZero(bits: UInt64) {
        let all = [UInt8](repeating: 0xff, count: 8192)
        var bitmap = DirtyBitmap(bits: bits, loading: all)
        #expect(bitmap.weight == bits)
        bitmap.merge(all.span.bytes, atWord: 0)
        bitmap.setAll()
        bitmap.setRun(from: BitmapBlock(0), count: .max)
        #expect(bitmap.weight == bits)
        #expect(bitmap.nextSet(from: BitmapBlock(bits)) == nil)
        #expect(bitmap.nextClear(from: BitmapBlock(0)) == nil)
        var page = [UInt8](repeating: 0xee, count: 4096)
        var set = 0
        for number in 0..<bitmap.pageCount {
            bitmap.copyPage(number, into: &page)
            set += page.reduce(0) { $0 + $1.nonzeroBitCount }
        }
        #expect(set == Int(bits))
    }

    @Test func missingBytesCountAsSet() {
        let bitmap = DirtyBitmap(bits: 200, loading: [UInt8](repeating: 0, count: 17))
        #expect(bitmap.weight == 72)
        #expect(bitmap.nextSet(from: BitmapBlock(0)) == BitmapBlock(128))
        #expect(bitmap.isPageDirty(0))
    }

    /// Every operation against a set of numbers; pages against what a copy of them said before.
    @Test(arguments: Seeds.thisRun) func agreesWithASet(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var sectors = UInt64.random(in: 1...400_000, using: &generator)
        var bits = DirtyBitmap.bits(forDeviceSectors: sectors)
        var bitmap = DirtyBitmap(bits: bits)
        var model = [Bool](repeating: false, count: Int(bits))
        var written = pages(of: bitmap)
        for step in 0..<60 {
            let start = UInt64.random(in: 0..<sectors + 20, using: &generator)
            let count = UInt32.random(in: 0...(step % 3 == 0 ? 300_000 : 60), using: &generator)
            let range = SectorRange(start, count)
            var end: UInt64 { min(start + UInt64(count), sectors) }
            func touches(_ bit: Int) -> Bool { UInt64(bit) * 8 < end && UInt64(bit) * 8 + 8 > start && start < end }
            func covers(_ bit: Int) -> Bool {
                UInt64(bit) * 8 >= start && min(UInt64(bit) * 8 + 8, sectors) <= end && start < end
            }
            var changed = 0
            switch Int.random(in: 0..<10, using: &generator) {
            case 0...3:
                for bit in model.indices where touches(bit) && !model[bit] {
                    model[bit] = true
                    changed += 1
                }
                #expect(bitmap.setOutOfSync(range, deviceSectors: sectors) == changed)
            case 4...7:
                for bit in model.indices where covers(bit) && model[bit] {
                    model[bit] = false
                    changed += 1
                }
                #expect(bitmap.clearInSync(range, deviceSectors: sectors) == changed)
            case 8:
                let other = (0..<64).map { _ in UInt8.random(in: 0...255, using: &generator) }
                let word = Int.random(in: 0..<bitmap.wordCount, using: &generator)
                for (position, byte) in other.enumerated() {
                    for shift in 0..<8 where byte >> shift & 1 == 1 {
                        let bit = word * 64 + position * 8 + shift
                        if bit < model.count && !model[bit] {
                            model[bit] = true
                            changed += 1
                        }
                    }
                }
                #expect(bitmap.merge(other.span.bytes, atWord: word) == changed)
            default:
                sectors = UInt64.random(in: 1...400_000, using: &generator)
                let settingNew = Bool.random(using: &generator)
                let newBits = DirtyBitmap.bits(forDeviceSectors: sectors)
                model = Array(model.prefix(Int(newBits)))
                model += Array(repeating: settingNew, count: Int(newBits) - model.count)
                bitmap = bitmap.resized(to: newBits, settingNew: settingNew)
                bits = newBits
                written = Array(written.prefix(bitmap.pageCount))
                written += Array(repeating: [], count: bitmap.pageCount - written.count)
            }
            #expect(bitmap.weight == UInt64(model.count { $0 }))
            let asked = model.indices.count {
                model[$0] && UInt64($0) * 8 < start + UInt64(count) && UInt64($0) * 8 + 8 > start
            }
            #expect(bitmap.countSet(in: range) == (count == 0 ? 0 : asked))
            #expect(bitmap.isAnySet(in: range) == (count != 0 && asked > 0))
            let from = UInt64.random(in: 0...bits, using: &generator)
            let rest = model[Int(from)...]
            #expect(bitmap.nextSet(from: BitmapBlock(from))?.value == rest.firstIndex(of: true).map(UInt64.init))
            #expect(bitmap.nextClear(from: BitmapBlock(from))?.value == rest.firstIndex(of: false).map(UInt64.init))
            let extent = Int.random(in: 0...Int(bits) / 4096, using: &generator)
            #expect(
                bitmap.weight(of: ResyncExtent(UInt32(extent)))
                    == model.indices.count { $0 / 4096 == extent && model[$0] })
            // A page that is not marked equals what was written.
            let now = pages(of: bitmap)
            for page in now.indices where !bitmap.isPageDirty(page) { #expect(now[page] == written[page]) }
            if Bool.random(using: &generator), let page = bitmap.nextDirtyPage(from: 0) {
                written[page] = now[page]
                bitmap.markPageClean(page)
                #expect(!bitmap.isPageDirty(page))
            }
        }
        bitmap.clearAll()
        #expect(bitmap.weight == 0)
        #expect(bitmap == {
            var fresh = DirtyBitmap(bits: bits)
            fresh.markAllPagesDirty()
            return fresh
        }())
    }

    private func pages(of bitmap: DirtyBitmap) -> [[UInt8]] {
        (0..<bitmap.pageCount).map { page in
            var bytes = [UInt8](repeating: 0, count: 4096)
            bitmap.copyPage(page, into: &bytes)
            return bytes
        }
    }
}
