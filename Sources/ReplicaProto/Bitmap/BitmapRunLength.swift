/// Why a chunk of a compressed bitmap cannot be what a DRBD node sends.
package enum BitmapTransferError: Error, Equatable, Sendable {
    /// The volume's bitmap was already complete.
    case alreadyComplete
    /// A plain chunk must have exactly `expected` bytes.
    case plainLength(found: Int, expected: Int)
    /// A compressed chunk has an encoding byte and at least one code byte.
    case compressedLength(found: Int, maximum: Int)
    case unknownEncoding(UInt8)
    /// The last code word is cut off.
    case truncatedCode(validBits: Int, wordBits: Int)
    /// A run starts at `position` and goes past the last bit.
    case runPastEnd(position: UInt64, length: UInt64, bits: UInt64)
}

/// The run-length code of P_COMPRESSED_BITMAP (`wire-resync.md` 8.3).
///
/// One encoding byte (code type 2 in bits 0..3, unused high bits of the last code byte in bits 4..6, value of the
/// first run in bit 7), then a stream of variable-length integers, least significant bit first: lengths of runs whose
/// values alternate.
///
/// Source: DRBD 8.4, `drbd/drbd_vli.h`, `drbd/drbd_main.c` `fill_bitmap_rle_bits`.
package enum BitmapRunLength {
    /// The only code type in use (RLE_VLI_Bits).
    package static let codeType: UInt8 = 2

    /// One row of the integer code: how a length of at least `base` is written.
    package struct Level: Sendable {
        /// Bits in all, prefix included.
        package let totalBits: UInt64
        package let prefixBits: UInt64
        package let prefix: UInt64
        package let base: UInt64
    }

    /// The ten levels, shortest first.
    package static let levels: [Level] = [
        Level(totalBits: 2, prefixBits: 1, prefix: 0x00, base: 1),
        Level(totalBits: 3, prefixBits: 2, prefix: 0x01, base: 3),
        Level(totalBits: 5, prefixBits: 3, prefix: 0x03, base: 5),
        Level(totalBits: 7, prefixBits: 4, prefix: 0x07, base: 9),
        Level(totalBits: 10, prefixBits: 5, prefix: 0x0f, base: 17),
        Level(totalBits: 14, prefixBits: 6, prefix: 0x1f, base: 49),
        Level(totalBits: 21, prefixBits: 8, prefix: 0x3f, base: 305),
        Level(totalBits: 29, prefixBits: 8, prefix: 0x7f, base: 8497),
        Level(totalBits: 42, prefixBits: 8, prefix: 0xbf, base: 2_105_649),
        Level(totalBits: 64, prefixBits: 8, prefix: 0xff, base: 17_181_974_833),
    ]
    /// The longest run that can be written.
    package static let longestRun: UInt64 = 72_057_611_219_902_768

    /// The code word of a length from 1 to `longestRun`: an integer whose bit 0 enters the stream first, and its bits.
    package static func codeWord(for length: UInt64) -> (word: UInt64, bits: UInt64) {
        invariant(length >= 1 && length <= longestRun, "run length \(length) has a code word")
        var chosen = levels[0]
        for level in levels where level.base <= length { chosen = level }
        return ((length &- chosen.base) << chosen.prefixBits | chosen.prefix, chosen.totalBits)
    }

    /// The length at the low end of a stream, and the bits it takes. Bits past the stream's end are given as zero.
    package static func length(atLowBitsOf stream: UInt64) -> (length: UInt64, bits: UInt64) {
        var found = levels[9]
        for level in levels where stream & ~(UInt64.max << level.prefixBits) == level.prefix {
            found = level
            break
        }
        let word = found.totalBits == 64 ? stream : stream & ~(UInt64.max << found.totalBits)
        return ((word >> found.prefixBits) &+ found.base, found.totalBits)
    }

    /// What one compressed chunk says, and where the next one starts.
    package struct Chunk: Equatable, Sendable {
        /// The encoding byte and the code bytes.
        package var bytes: [UInt8]
        package var end: UInt64
        package var isWorthIt: Bool
    }

    /// Encodes as many whole runs from bit `position` on as fit into `room` code bytes.
    ///
    /// - Returns: the chunk, `isWorthIt` if it covers at least as many bits as its code bytes have (else a plain chunk
    ///   is shorter); nil if not even one run fits.
    package static func encode(_ bitmap: DirtyBitmap, from position: UInt64, room: Int) -> Chunk? {
        invariant(position < bitmap.bits, "there are bits left to encode")
        let startsSet = bitmap.isSet(BitmapBlock(position))
        var value = startsSet
        var bit = position
        var streamBits: UInt64 = 0
        let roomBits = UInt64(room) &* 8
        var bytes: [UInt8] = [0]
        var pending: UInt64 = 0  // Bits not yet a whole byte; fewer than 8.
        while bit < bitmap.bits {
            let next = value ? bitmap.nextClear(from: BitmapBlock(bit)) : bitmap.nextSet(from: BitmapBlock(bit))
            let run = (next?.value ?? bitmap.bits) &- bit
            var (word, count) = codeWord(for: run)
            if streamBits &+ count > roomBits { break }
            var pendingCount = streamBits & 7
            streamBits &+= count
            while count > 0 {
                let taken = min(8 &- pendingCount, count)
                pending |= (word & ~(UInt64.max << taken)) << pendingCount
                word >>= taken
                count &-= taken
                pendingCount &+= taken
                if pendingCount == 8 {
                    bytes.append(UInt8(truncatingIfNeeded: pending))
                    pending = 0
                    pendingCount = 0
                }
            }
            bit &+= run
            value.toggle()
        }
        guard streamBits > 0 else { return nil }
        if streamBits & 7 != 0 { bytes.append(UInt8(truncatingIfNeeded: pending)) }
        let pad = UInt8((8 &- streamBits & 7) & 7)
        bytes[0] = codeType | pad << 4 | (startsSet ? 0x80 : 0)
        return Chunk(bytes: bytes, end: bit, isWorthIt: bit &- position >= UInt64(bytes.count &- 1) &* 8)
    }

    /// Sets the bits that a chunk starting at bit `position` sets.
    ///
    /// What was decoded before an error stays set: a bit too many costs a resynced block, and the connection is lost.
    /// - Returns: the first bit behind the chunk, and how many bits were clear before.
    package static func decode(
        _ bytes: RawSpan, from position: UInt64, into bitmap: inout DirtyBitmap
    ) throws(BitmapTransferError) -> (end: UInt64, changed: Int) {
        guard bytes.byteCount >= 2 else {
            throw .compressedLength(found: bytes.byteCount, maximum: .max)
        }
        let encoding = bytes.readU8(at: 0)
        guard encoding & 0x0f == codeType else { throw .unknownEncoding(encoding) }
        let valid = UInt64(bytes.byteCount &- 1) &* 8 &- UInt64(encoding >> 4 & 7)
        var value = encoding & 0x80 != 0
        var used: UInt64 = 0
        var bit = position
        var changed = 0
        while used < valid {
            let (length, count) = length(atLowBitsOf: stream(bytes, at: used))
            guard count <= valid &- used else {
                throw .truncatedCode(validBits: Int(valid &- used), wordBits: Int(count))
            }
            guard bit <= bitmap.bits, length <= bitmap.bits &- bit else {
                throw .runPastEnd(position: bit, length: length, bits: bitmap.bits)
            }
            if value { changed &+= bitmap.setRun(from: BitmapBlock(bit), count: length) }
            bit &+= length
            value.toggle()
            used &+= count
        }
        return (bit, changed)
    }

    /// The 64 stream bits from bit `offset` of the code bytes on; zero past their end.
    private static func stream(_ bytes: RawSpan, at offset: UInt64) -> UInt64 {
        let first = 1 &+ Int(offset >> 3)
        let shift = offset & 7
        if first &+ 9 <= bytes.byteCount {
            let low = bytes.readLE64(at: first) >> shift
            return shift == 0 ? low : low | UInt64(bytes.readU8(at: first &+ 8)) << (64 &- shift)
        }
        var result: UInt64 = 0
        for index in 0..<9 where first &+ index < bytes.byteCount {
            let byte = UInt64(bytes.readU8(at: first &+ index))
            if index == 0 {
                result |= byte >> shift
            } else {
                let up = UInt64(index) &* 8 &- shift
                if up < 64 { result |= byte << up }
            }
        }
        return result
    }
}
