/// The sending half of a bitmap exchange (`wire-resync.md` 8.2): which bits went out already.
package struct BitmapSender: Equatable, Sendable {
    package enum Chunk: Equatable, Sendable {
        /// P_BITMAP; without bytes it ends a transfer whose last bits went out plain.
        case plain([UInt8])
        /// P_COMPRESSED_BITMAP: encoding byte and code bytes.
        case compressed([UInt8])
        /// Nothing more is to be sent.
        case end
    }

    /// Bits handed out so far.
    package private(set) var bit: UInt64 = 0
    private var isFinished = false

    package init() {}

    /// The next chunk, at most `maximumBytes` (4096 less the packet header) long.
    ///
    /// A bitmap of a volume stays as it is during its transfer, or bits set behind `bit` are reported otherwise.
    package mutating func nextChunk(of bitmap: DirtyBitmap, useRLE: Bool, maximumBytes: Int) -> Chunk {
        if isFinished { return .end }
        if bit >= bitmap.bits {
            isFinished = true
            return .plain([])
        }
        if useRLE, let chunk = BitmapRunLength.encode(bitmap, from: bit, room: maximumBytes &- 1), chunk.isWorthIt {
            bit = chunk.end
            isFinished = bit == bitmap.bits
            return .compressed(chunk.bytes)
        }
        let word = Int(bit >> 6)
        var bytes = [UInt8](repeating: 0, count: min(maximumBytes & ~7, (bitmap.wordCount &- word) &* 8))
        var span = bytes.mutableSpan
        var raw = unsafe span.mutableBytes
        bitmap.copyWords(from: word, into: &raw)
        bit = min(UInt64(word &+ bytes.count / 8) << 6, bitmap.bits)
        return .plain(bytes)
    }
}

/// The receiving half of a bitmap exchange: ORs the peer's bits into ours, and knows when all have come.
package struct BitmapReceiver: Equatable, Sendable {
    /// Bits received so far.
    package private(set) var bit: UInt64 = 0
    /// The first 64-bit word that a plain chunk would describe.
    private var word = 0
    package private(set) var isDone = false

    package init() {}

    /// Takes a P_BITMAP. - Returns: whether the transfer is complete.
    package mutating func receivePlain(
        _ bytes: RawSpan, into bitmap: inout DirtyBitmap, maximumBytes: Int
    ) throws(BitmapTransferError) -> Bool {
        guard !isDone else { throw .alreadyComplete }
        let expected = min(maximumBytes & ~7, (bitmap.wordCount &- word) &* 8)
        guard bytes.byteCount == expected else {
            throw .plainLength(found: bytes.byteCount, expected: expected)
        }
        if expected == 0 {
            isDone = true
            return true
        }
        bitmap.merge(bytes, atWord: word)
        word &+= expected / 8
        bit = min(UInt64(word) << 6, bitmap.bits)
        return false
    }

    package mutating func receivePlain(
        _ bytes: [UInt8], into bitmap: inout DirtyBitmap, maximumBytes: Int
    ) throws(BitmapTransferError) -> Bool {
        try receivePlain(unsafe bytes.span.bytes, into: &bitmap, maximumBytes: maximumBytes)
    }

    /// Takes a P_COMPRESSED_BITMAP. - Returns: whether the transfer is complete.
    package mutating func receiveCompressed(
        _ bytes: RawSpan, into bitmap: inout DirtyBitmap, maximumBytes: Int
    ) throws(BitmapTransferError) -> Bool {
        guard !isDone else { throw .alreadyComplete }
        guard bytes.byteCount >= 2, bytes.byteCount <= maximumBytes else {
            throw .compressedLength(found: bytes.byteCount, maximum: maximumBytes)
        }
        bit = try BitmapRunLength.decode(bytes, from: bit, into: &bitmap).end
        word = Int(bit >> 6)
        isDone = bit == bitmap.bits
        return isDone
    }

    package mutating func receiveCompressed(
        _ bytes: [UInt8], into bitmap: inout DirtyBitmap, maximumBytes: Int
    ) throws(BitmapTransferError) -> Bool {
        try receiveCompressed(unsafe bytes.span.bytes, into: &bitmap, maximumBytes: maximumBytes)
    }
}
