/// Which 4 KiB blocks may differ from the peer's copy: one bit each, kept in memory, with a mark per 4 KiB page of
/// bits that says whether the page on disk is older.
///
/// Bit n is bit n & 63 of word n >> 6, on disk and on the wire little-endian (`metadata.md` 3.1). Bits past the end
/// are zero at all times. The number of set bits is kept up to date by every change. Setting, clearing and asking
/// allocate nothing.
package struct DirtyBitmap: Equatable, Sendable {
    /// Bytes of a bitmap page, the unit of reading and writing it.
    package static let pageBytes = 4096
    /// Bits of one page: 128 MiB of the device.
    package static let pageBits: UInt64 = 32768
    @usableFromInline static let pageWords = 512

    /// Number of bits: the device's size in blocks of 4 KiB, rounded up.
    package private(set) var bits: UInt64
    /// Number of set bits.
    package private(set) var weight: UInt64 = 0
    private var words: [UInt64]
    /// One bit per page: changed since it was last marked clean.
    private var changedPages: [UInt64]

    /// A bitmap of clear bits and clean pages.
    package init(bits: UInt64) {
        self.bits = bits
        words = [UInt64](repeating: 0, count: Int((bits &+ 63) >> 6))
        changedPages = []
        changedPages = [UInt64](repeating: 0, count: (pageCount &+ 63) >> 6)
    }

    /// A bitmap as stored on disk; all pages are clean. Bits past the end are ignored. Bits that the bytes are too
    /// short for count as set, since nothing is known of them.
    package init(bits: UInt64, loading bytes: RawSpan) {
        self.init(bits: bits)
        let available = min(words.count, bytes.byteCount / 8)
        for index in 0..<available { words[index] = bytes.readLE64(at: index &* 8) }
        for index in available..<words.count {
            words[index] = .max
            markChanged(page: index / Self.pageWords)
        }
        if let last = words.indices.last { words[last] &= lastWordMask }
        weight = words.reduce(0) { $0 &+ UInt64($1.nonzeroBitCount) }
    }

    package init(bits: UInt64, loading bytes: [UInt8]) {
        self.init(bits: bits, loading: unsafe bytes.span.bytes)
    }

    /// Bits of a device of so many sectors.
    @inlinable package static func bits(forDeviceSectors sectors: UInt64) -> UInt64 {
        sectors >> 3 &+ (sectors & 7 == 0 ? 0 : 1)
    }

    // MARK: Sectors

    /// Sets every block that the range touches.
    /// - Returns: how many bits were clear before.
    @discardableResult
    package mutating func setOutOfSync(_ range: SectorRange, deviceSectors: UInt64) -> Int {
        guard let touched = touchedBlocks(range, deviceSectors: deviceSectors) else { return 0 }
        return set(touched.first, through: touched.last)
    }

    /// Clears every block that lies wholly in the range. The device's last block, when shorter than 4 KiB, is covered
    /// by a range that reaches the device's end.
    /// - Returns: how many bits were set before.
    @discardableResult
    package mutating func clearInSync(_ range: SectorRange, deviceSectors: UInt64) -> Int {
        guard let covered = coveredBlocks(range, deviceSectors: deviceSectors) else { return 0 }
        return clear(covered.first, through: covered.last)
    }

    /// Whether any block that the range touches is set.
    package func isAnySet(in range: SectorRange) -> Bool {
        guard let touched = touchedBlocks(range, deviceSectors: .max) else { return false }
        guard let next = nextSet(from: BitmapBlock(touched.first)) else { return false }
        return next.value <= touched.last
    }

    /// Number of set bits among the blocks that the range touches.
    package func countSet(in range: SectorRange) -> Int {
        guard let touched = touchedBlocks(range, deviceSectors: .max) else { return 0 }
        return count(touched.first, through: touched.last)
    }

    /// Number of set bits of one resync extent.
    package func weight(of extent: ResyncExtent) -> Int {
        let first = UInt64(extent.value) << 12
        guard first < bits else { return 0 }
        return count(first, through: min(first | 4095, bits &- 1))
    }

    // MARK: Bits

    package func isSet(_ block: BitmapBlock) -> Bool {
        block.value < bits && words[Int(block.value >> 6)] >> (block.value & 63) & 1 == 1
    }

    /// The first set bit at or after `block`.
    package func nextSet(from block: BitmapBlock) -> BitmapBlock? {
        guard block.value < bits, weight > 0 else { return nil }
        var index = Int(block.value >> 6)
        var word = words[index] & UInt64.max << (block.value & 63)
        while word == 0 {
            index &+= 1
            if index == words.count { return nil }
            word = words[index]
        }
        return BitmapBlock(UInt64(index) << 6 | UInt64(word.trailingZeroBitCount))
    }

    /// The first clear bit at or after `block`.
    package func nextClear(from block: BitmapBlock) -> BitmapBlock? {
        guard block.value < bits else { return nil }
        var index = Int(block.value >> 6)
        var word = ~words[index] & UInt64.max << (block.value & 63)
        while word == 0 {
            index &+= 1
            if index == words.count { return nil }
            word = ~words[index]
        }
        let found = UInt64(index) << 6 | UInt64(word.trailingZeroBitCount)
        return found < bits ? BitmapBlock(found) : nil
    }

    /// Sets `count` bits from `first` on; what lies past the end is ignored.
    /// - Returns: how many were clear before.
    @discardableResult
    package mutating func setRun(from first: BitmapBlock, count: UInt64) -> Int {
        guard count > 0, first.value < bits else { return 0 }
        return set(first.value, through: min(bits &- 1, first.value &+ min(count &- 1, bits)))
    }

    package mutating func setAll() {
        for index in words.indices { words[index] = .max }
        if let last = words.indices.last { words[last] &= lastWordMask }
        weight = bits
        markAllPagesDirty()
    }

    package mutating func clearAll() {
        for index in words.indices { words[index] = 0 }
        weight = 0
        markAllPagesDirty()
    }

    /// Sets the bits that are set in little-endian words, the first of which is word `word` of this bitmap. Bits past
    /// the end, and bytes after the last whole word, are ignored.
    /// - Returns: how many were clear before.
    @discardableResult
    package mutating func merge(_ bytes: RawSpan, atWord word: Int) -> Int {
        guard word >= 0, word < words.count else { return 0 }
        var changed = 0
        for position in 0..<min(bytes.byteCount / 8, words.count &- word) {
            let index = word &+ position
            var added = bytes.readLE64(at: position &* 8) & ~words[index]
            if index == words.count &- 1 { added &= lastWordMask }
            guard added != 0 else { continue }
            words[index] |= added
            changed &+= added.nonzeroBitCount
            markChanged(page: index / Self.pageWords)
        }
        weight &+= UInt64(changed)
        return changed
    }

    /// The bytes of `count` words from `word` on, little-endian. Words past the end are zero.
    package func copyWords(from word: Int, into bytes: inout MutableRawSpan) {
        for position in 0..<bytes.byteCount / 8 {
            let index = word &+ position
            bytes.writeLE(index < words.count ? words[index] : 0, at: position &* 8)
        }
    }

    /// Number of 64-bit words.
    package var wordCount: Int { words.count }

    /// Changes the number of bits. New bits are set or clear as asked; the pages that change, and new ones, are dirty.
    package mutating func resize(to newBits: UInt64, settingNew: Bool) {
        let oldBits = bits
        let oldPages = pageCount
        let oldWeight = weight
        let wordsWanted = Int((newBits &+ 63) >> 6)
        if wordsWanted < words.count {
            for index in wordsWanted..<words.count { weight &-= UInt64(words[index].nonzeroBitCount) }
            words.removeLast(words.count &- wordsWanted)
        } else {
            words.append(contentsOf: repeatElement(0, count: wordsWanted &- words.count))
        }
        bits = newBits
        if newBits < oldBits, let last = words.indices.last {
            weight &-= UInt64((words[last] & ~lastWordMask).nonzeroBitCount)
            words[last] &= lastWordMask
        }
        let pages = pageCount
        let marksWanted = (pages &+ 63) >> 6
        if marksWanted < changedPages.count {
            changedPages.removeLast(changedPages.count &- marksWanted)
        } else {
            changedPages.append(contentsOf: repeatElement(0, count: marksWanted &- changedPages.count))
        }
        if pages < oldPages, pages & 63 != 0 { changedPages[marksWanted &- 1] &= ~(UInt64.max << UInt64(pages & 63)) }
        if weight != oldWeight, pages > 0 { markChanged(page: pages &- 1) }
        if pages > oldPages { for page in oldPages..<pages { markChanged(page: page) } }
        if newBits > oldBits, settingNew { _ = set(oldBits, through: newBits &- 1) }
    }

    package func resized(to newBits: UInt64, settingNew: Bool) -> DirtyBitmap {
        var copy = self
        copy.resize(to: newBits, settingNew: settingNew)
        return copy
    }

    // MARK: Pages

    /// Number of pages on disk.
    package var pageCount: Int { (words.count &+ Self.pageWords &- 1) / Self.pageWords }

    /// The page that holds an activity log extent's bits.
    @inlinable package static func page(of extent: UInt32) -> Int { Int(extent >> 5) }

    package func isPageDirty(_ page: Int) -> Bool {
        page >= 0 && page < pageCount && changedPages[page >> 6] >> UInt64(page & 63) & 1 == 1
    }

    /// The first page at or after `page` that differs from what was last marked clean.
    package func nextDirtyPage(from page: Int) -> Int? {
        guard page >= 0, page < pageCount else { return nil }
        var index = page >> 6
        var word = changedPages[index] & UInt64.max << UInt64(page & 63)
        while word == 0 {
            index &+= 1
            if index == changedPages.count { return nil }
            word = changedPages[index]
        }
        return index << 6 | word.trailingZeroBitCount
    }

    /// Says that the page's present bytes are on their way to disk; a later change marks it again.
    package mutating func markPageClean(_ page: Int) {
        guard page >= 0, page < pageCount else { return }
        changedPages[page >> 6] &= ~(1 << UInt64(page & 63))
    }

    package mutating func markAllPagesDirty() {
        for page in 0..<pageCount { markChanged(page: page) }
    }

    /// Fills 4096 bytes with a page as stored on disk: little-endian, zero past the end.
    package func copyPage(_ page: Int, into bytes: inout MutableRawSpan) {
        invariant(bytes.byteCount == Self.pageBytes, "a bitmap page has 4096 bytes")
        copyWords(from: page &* Self.pageWords, into: &bytes)
    }

    package func copyPage(_ page: Int, into bytes: inout [UInt8]) {
        var span = bytes.mutableSpan
        var raw = unsafe span.mutableBytes
        copyPage(page, into: &raw)
    }

    @unsafe package func copyPage(_ page: Int, into bytes: UnsafeMutableRawBufferPointer) {
        var raw = unsafe bytes.mutableBytes
        copyPage(page, into: &raw)
    }

    // MARK: Helpers

    private var lastWordMask: UInt64 {
        bits & 63 == 0 ? .max : ~(UInt64.max << (bits & 63))
    }

    private mutating func markChanged(page: Int) {
        changedPages[page >> 6] |= 1 << UInt64(page & 63)
    }

    private func touchedBlocks(_ range: SectorRange, deviceSectors: UInt64) -> (first: UInt64, last: UInt64)? {
        guard range.count > 0, range.start.value < deviceSectors else { return nil }
        let lastSector = range.start.value &+ min(UInt64(range.count) &- 1, deviceSectors &- 1 &- range.start.value)
        let first = range.start.value >> 3
        guard first < bits else { return nil }
        return (first, min(lastSector >> 3, bits &- 1))
    }

    private func coveredBlocks(_ range: SectorRange, deviceSectors: UInt64) -> (first: UInt64, last: UInt64)? {
        guard range.count > 0, range.start.value < deviceSectors else { return nil }
        let lastSector = range.start.value &+ min(UInt64(range.count) &- 1, deviceSectors &- 1 &- range.start.value)
        let first = (range.start.value &+ 7) >> 3
        let last: UInt64
        if lastSector == deviceSectors &- 1 {
            last = lastSector >> 3
        } else {
            guard lastSector >= 7 else { return nil }
            last = (lastSector &- 7) >> 3
        }
        guard first <= last, first < bits else { return nil }
        return (first, min(last, bits &- 1))
    }

    private mutating func set(_ first: UInt64, through last: UInt64) -> Int {
        var changed = 0
        var index = Int(first >> 6)
        let lastIndex = Int(last >> 6)
        var mask = UInt64.max << (first & 63)
        while index <= lastIndex {
            if index == lastIndex { mask &= UInt64.max >> (63 &- (last & 63)) }
            let added = mask & ~words[index]
            if added != 0 {
                words[index] |= added
                changed &+= added.nonzeroBitCount
                markChanged(page: index / Self.pageWords)
            }
            mask = .max
            index &+= 1
        }
        weight &+= UInt64(changed)
        return changed
    }

    private mutating func clear(_ first: UInt64, through last: UInt64) -> Int {
        var changed = 0
        var index = Int(first >> 6)
        let lastIndex = Int(last >> 6)
        var mask = UInt64.max << (first & 63)
        while index <= lastIndex {
            if index == lastIndex { mask &= UInt64.max >> (63 &- (last & 63)) }
            let removed = mask & words[index]
            if removed != 0 {
                words[index] &= ~removed
                changed &+= removed.nonzeroBitCount
                markChanged(page: index / Self.pageWords)
            }
            mask = .max
            index &+= 1
        }
        weight &-= UInt64(changed)
        return changed
    }

    private func count(_ first: UInt64, through last: UInt64) -> Int {
        var found = 0
        var index = Int(first >> 6)
        let lastIndex = Int(last >> 6)
        var mask = UInt64.max << (first & 63)
        while index <= lastIndex {
            if index == lastIndex { mask &= UInt64.max >> (63 &- (last & 63)) }
            found &+= (words[index] & mask).nonzeroBitCount
            mask = .max
            index &+= 1
        }
        return found
    }
}
