import ReplicaProto

/// Data blocks of one simulated disk behind a volatile cache. Contents are stamps, one per sector: the number of the
/// write that put it there, 0 for zeroes.
///
/// What `current` shows is what a read sees; what `stable` shows is what a power cut leaves. Between the two a block
/// of 4 KiB may be destaged at any moment. A flush makes stable what was complete when it was asked for.
struct DataDisk {
    static let blockSectors = 8

    private(set) var current: [UInt32]
    private(set) var stable: [UInt32]
    private var isDirty: [Bool]
    private var dirtyBlocks: [Int32] = []
    /// Ascending number of the last change of a block, in the cache and on the platter.
    private var currentVersion: [UInt32]
    private var stableVersion: [UInt32]
    private var version: UInt32 = 0
    /// Believed to be stable since a flush failed. They read well until the disk is taken into use anew.
    private var lostBlocks: [Int32] = []

    init(sectors: Int) {
        let blocks = (sectors + Self.blockSectors - 1) / Self.blockSectors
        current = Array(repeating: 0, count: sectors)
        stable = current
        isDirty = Array(repeating: false, count: blocks)
        currentVersion = Array(repeating: 0, count: blocks)
        stableVersion = currentVersion
    }

    /// What a flush has to make stable.
    struct Capture {
        var blocks: [Int32] = []
        var versions: [UInt32] = []
        var stamps: [UInt32] = []
    }

    func read(_ range: SectorRange) -> [UInt32] {
        Array(current[Int(range.start.value)..<Int(range.end.value)])
    }

    /// Puts stamps into the cache; nil stands for zeroes.
    mutating func write(_ range: SectorRange, _ stamps: [UInt32]?, durable: Bool, random: inout SimRandom) {
        version += 1
        let first = Int(range.start.value)
        let count = Int(range.count)
        for block in (first / Self.blockSectors)...((first + count - 1) / Self.blockSectors) {
            // The cache may have written back the older content already.
            if isDirty[block], random.chance(30) { destage(block) }
        }
        if let stamps {
            for index in 0..<count { current[first + index] = stamps[index] }
        } else {
            for index in 0..<count { current[first + index] = 0 }
        }
        for block in (first / Self.blockSectors)...((first + count - 1) / Self.blockSectors) {
            currentVersion[block] = version
            if !isDirty[block] {
                isDirty[block] = true
                dirtyBlocks.append(Int32(block))
            }
            if durable { destage(block) }
        }
    }

    private func sectors(of block: Int) -> Range<Int> {
        block * Self.blockSectors..<min((block + 1) * Self.blockSectors, current.count)
    }

    private mutating func destage(_ block: Int) {
        for sector in sectors(of: block) { stable[sector] = current[sector] }
        stableVersion[block] = currentVersion[block]
    }

    func beginFlush() -> Capture {
        var capture = Capture()
        for block in dirtyBlocks where stableVersion[Int(block)] != currentVersion[Int(block)] {
            capture.blocks.append(block)
            capture.versions.append(currentVersion[Int(block)])
            capture.stamps.append(contentsOf: current[sectors(of: Int(block))])
        }
        return capture
    }

    mutating func endFlush(_ capture: Capture) {
        var position = 0
        for (index, block) in capture.blocks.enumerated() {
            let range = sectors(of: Int(block))
            if stableVersion[Int(block)] < capture.versions[index] {
                for sector in range { stable[sector] = capture.stamps[position + sector - range.lowerBound] }
                stableVersion[Int(block)] = capture.versions[index]
            }
            position += range.count
        }
        settle()
    }

    /// A flush fails: each block that it was to make stable is stable, or believed to be.
    mutating func failFlush(_ capture: Capture, random: inout SimRandom) {
        for (index, block) in capture.blocks.enumerated() where stableVersion[Int(block)] < capture.versions[index] {
            if random.chance(50) {
                destage(Int(block))
            } else {
                stableVersion[Int(block)] = capture.versions[index]
                lostBlocks.append(block)
            }
        }
        settle()
    }

    /// The disk is taken into use anew: what failed flushes lost shows. False if that was nothing.
    mutating func loseWhatFailed() -> Bool {
        let hasLost = !lostBlocks.isEmpty
        for block in lostBlocks where !isDirty[Int(block)] {
            for sector in sectors(of: Int(block)) { current[sector] = stable[sector] }
        }
        lostBlocks.removeAll()
        return hasLost
    }

    /// Forgets blocks that are stable.
    private mutating func settle() {
        var kept = 0
        for block in dirtyBlocks {
            if stableVersion[Int(block)] == currentVersion[Int(block)] {
                isDirty[Int(block)] = false
            } else {
                dirtyBlocks[kept] = block
                kept += 1
            }
        }
        dirtyBlocks.removeLast(dirtyBlocks.count - kept)
    }

    /// The power goes: every block that is only in the cache is kept or lost.
    mutating func cutPower(random: inout SimRandom) {
        for block in dirtyBlocks {
            if random.chance(50) { destage(Int(block)) }
            for sector in sectors(of: Int(block)) { current[sector] = stable[sector] }
            currentVersion[Int(block)] = stableVersion[Int(block)]
        }
        settle()
        _ = loseWhatFailed()
    }

    /// The part of an unfinished write that reached the cache when its process died or the power went.
    mutating func tear(_ range: SectorRange, _ stamps: [UInt32]?, random: inout SimRandom) {
        var sector = range.start.value
        while sector < range.end.value {
            let end = min((sector / UInt64(Self.blockSectors) + 1) * UInt64(Self.blockSectors), range.end.value)
            if random.chance(50) {
                let offset = Int(sector - range.start.value)
                let piece = SectorRange(sector, UInt32(end - sector))
                write(
                    piece, stamps.map { Array($0[offset..<offset + Int(end - sector)]) }, durable: false, random: &random)
            }
            sector = end
        }
    }
}

/// The metadata area: a superblock, the ring of the activity log, bitmap pages; each a block of 4096 bytes behind a
/// volatile cache of its own, or that of the data disk if the metadata is internal.
struct MetadataDisk {
    private(set) var current: [[UInt8]]
    private(set) var stable: [[UInt8]]
    let logBlocks: Int

    init(superblock: [UInt8], logBlocks: Int, bitmapPages: Int) {
        self.logBlocks = logBlocks
        current = [superblock]
        current += Array(repeating: ActivityLogTransaction.initialisedBlock(), count: logBlocks)
        current += Array(repeating: Array(repeating: 0, count: 4096), count: bitmapPages)
        stable = current
        isDirty = Array(repeating: false, count: current.count)
    }

    private var isDirty: [Bool]

    /// As large, and full of what is no metadata.
    func elsewhere() -> MetadataDisk {
        var other = self
        other.current = Array(repeating: Array(repeating: 0xee, count: 4096), count: current.count)
        other.stable = other.current
        other.isDirty = Array(repeating: false, count: current.count)
        return other
    }

    func logBlock(_ index: Int) -> Int { 1 + index }
    func bitmapPage(_ index: Int) -> Int { 1 + logBlocks + index }
    var bitmapPages: Int { current.count - 1 - logBlocks }

    mutating func write(_ block: Int, _ bytes: [UInt8], durable: Bool) {
        current[block] = bytes
        isDirty[block] = true
        if durable { destage(block) }
    }

    private mutating func destage(_ block: Int) {
        stable[block] = current[block]
        isDirty[block] = false
    }

    func beginFlush() -> [(Int, [UInt8])] {
        var captured: [(Int, [UInt8])] = []
        for block in current.indices where isDirty[block] { captured.append((block, current[block])) }
        return captured
    }

    mutating func endFlush(_ captured: [(Int, [UInt8])]) {
        for (block, bytes) in captured where isDirty[block] {
            stable[block] = bytes
            if current[block] == bytes { isDirty[block] = false }
        }
    }

    mutating func cutPower(random: inout SimRandom) {
        for block in current.indices where isDirty[block] {
            if random.chance(50) { stable[block] = Self.torn(old: stable[block], new: current[block], random: &random) }
            current[block] = stable[block]
            isDirty[block] = false
        }
    }

    /// The sectors of an unfinished write that reached the cache.
    mutating func tear(_ block: Int, _ bytes: [UInt8], random: inout SimRandom) {
        write(block, Self.torn(old: current[block], new: bytes, random: &random), durable: false)
    }

    private static func torn(old: [UInt8], new: [UInt8], random: inout SimRandom) -> [UInt8] {
        switch random.below(4) {
        case 0: return old
        case 1, 2: return new
        default:
            var mixed = old
            for sector in 0..<8 where random.chance(50) {
                mixed.replaceSubrange(sector * 512..<(sector + 1) * 512, with: new[sector * 512..<(sector + 1) * 512])
            }
            return mixed
        }
    }

    // MARK: What an attach would find

    var superblock: Superblock? { try? Superblock(decoding: current[0]) }
    var stableSuperblock: Superblock? { try? Superblock(decoding: stable[0]) }
    var ring: [UInt8] { Self.joined(current[1..<1 + logBlocks]) }
    func stableBlock(_ block: Int) -> [UInt8] { stable[block] }
    var bitmap: [UInt8] { Self.joined(current[(1 + logBlocks)...]) }

    private static func joined(_ blocks: ArraySlice<[UInt8]>) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(blocks.count * 4096)
        for block in blocks { bytes += block }
        return bytes
    }

    /// Whether a bit of the bitmap is set on the platter.
    func isStablyOutOfSync(_ block: Int) -> Bool {
        let page = bitmapPage(block >> 15)
        return page < stable.count && stable[page][(block & 0x7fff) >> 3] & (1 << UInt8(block & 7)) != 0
    }
}
