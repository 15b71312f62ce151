import Testing

@testable import ReplicaProto

@Suite struct BitmapTransferTests {
    /// The worked examples of `wire-resync.md` 8.3.4: lengths of runs, value of the first, payload.
    static let examples: [([UInt64], Bool, [UInt8])] = [
        ([262144], false, [0x32, 0x7f, 0xcf, 0xde, 0x03]),
        ([262144], true, [0xb2, 0x7f, 0xcf, 0xde, 0x03]),
        ([10, 3, 51], false, [0x02, 0x97, 0x7c, 0x02]),
        ([8, 248], true, [0xd2, 0xfb, 0x3b, 0x06]),
        ([1000, 256, 31512], false, [0x02, 0x3f, 0xb7, 0xe2, 0x7b, 0xfe, 0x3b, 0xcf, 0x02]),
    ]

    static func bitmap(_ runs: [UInt64], startsSet: Bool) -> DirtyBitmap {
        var bitmap = DirtyBitmap(bits: runs.reduce(0, +))
        var position: UInt64 = 0
        var value = startsSet
        for run in runs {
            if value { bitmap.setRun(from: BitmapBlock(position), count: run) }
            position += run
            value.toggle()
        }
        return bitmap
    }

    private func bytes(of bitmap: DirtyBitmap) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: bitmap.wordCount * 8)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        bitmap.copyWords(from: 0, into: &raw)
        return bytes
    }

    @Test(arguments: examples) func workedExamples(runs: [UInt64], startsSet: Bool, payload: [UInt8]) throws {
        let bitmap = Self.bitmap(runs, startsSet: startsSet)
        let chunk = try #require(BitmapRunLength.encode(bitmap, from: 0, room: 4079))
        #expect(chunk == .init(bytes: payload, end: bitmap.bits, isWorthIt: true))
        var decoded = DirtyBitmap(bits: bitmap.bits)
        let result = try BitmapRunLength.decode(payload.span.bytes, from: 0, into: &decoded)
        #expect(result.end == bitmap.bits)
        #expect(result.changed == Int(bitmap.weight))
        #expect(decoded.weight == bitmap.weight)
        #expect(bytes(of: decoded) == bytes(of: bitmap))
    }

    static let words: [(UInt64, UInt64, UInt64)] = [
        (1, 0x0, 2), (2, 0x2, 2), (3, 0x1, 3), (4, 0x5, 3), (5, 0x3, 5), (16, 0x77, 7), (17, 0xf, 10), (48, 0x3ef, 10),
        (49, 0x1f, 14), (100, 0xcdf, 14), (304, 0x3fdf, 14), (305, 0x3f, 21), (8496, 0x1f_ff3f, 21),
        (8497, 0x7f, 29), (32768, 0x5e_cf7f, 29), (2_105_648, 0x1fff_ff7f, 29), (2_105_649, 0xbf, 42),
        (17_181_974_833, 0xff, 64), (72_057_611_219_902_768, .max, 64),
    ]

    @Test(arguments: words) func codeWords(length: UInt64, word: UInt64, bits: UInt64) {
        #expect(BitmapRunLength.codeWord(for: length) == (word, bits))
        #expect(BitmapRunLength.length(atLowBitsOf: word) == (length, bits))
    }

    /// Rows of the table of `wire-resync.md` 8.3.2 meet without gap.
    @Test func everyLevelEndsWhereTheNextBegins() {
        for (level, next) in zip(BitmapRunLength.levels, BitmapRunLength.levels.dropFirst()) {
            #expect(level.base + 1 << (level.totalBits - level.prefixBits) == next.base)
            #expect(BitmapRunLength.codeWord(for: next.base - 1).bits == level.totalBits)
            #expect(BitmapRunLength.codeWord(for: next.base).bits == next.totalBits)
        }
    }

    /// A plain transfer of 1 GiB at v100: eight chunks of 4080 bytes, one of 128, one empty.
    @Test func plainChunksOfOneGibibyte() throws {
        var sender = BitmapSender()
        let bitmap = DirtyBitmap(bits: 262144)
        var lengths: [Int] = []
        var receiver = BitmapReceiver()
        var received = bitmap
        while case .plain(let bytes) = sender.nextChunk(of: bitmap, useRLE: false, maximumBytes: 4080) {
            lengths.append(bytes.count)
            let isDone = try receiver.receivePlain(bytes, into: &received, maximumBytes: 4080)
            #expect(isDone == bytes.isEmpty)
        }
        #expect(lengths == Array(repeating: 4080, count: 8) + [128, 0])
    }

    @Test func emptyBitmapIsOneEmptyChunk() throws {
        for useRLE in [true, false] {
            var sender = BitmapSender()
            let bitmap = DirtyBitmap(bits: 0)
            #expect(sender.nextChunk(of: bitmap, useRLE: useRLE, maximumBytes: 4080) == .plain([]))
            #expect(sender.nextChunk(of: bitmap, useRLE: useRLE, maximumBytes: 4080) == .end)
            var receiver = BitmapReceiver()
            var received = bitmap
            #expect(try receiver.receivePlain([], into: &received, maximumBytes: 4080))
        }
    }

    /// Alternating bits are not worth the code: 16 bits of code would describe 8.
    @Test func uncompressibleBitsGoPlain() {
        var bitmap = DirtyBitmap(bits: 100_000)
        for bit in stride(from: 0, to: 40_000, by: 2) { bitmap.setRun(from: BitmapBlock(UInt64(bit)), count: 1) }
        var sender = BitmapSender()
        guard case .plain(let first) = sender.nextChunk(of: bitmap, useRLE: true, maximumBytes: 4080) else {
            Issue.record("compressed")
            return
        }
        #expect(first.count == 4080)
        #expect(sender.bit == 32640)
    }

    /// Whatever the mixture, the receiver ends with the union; both ends know when it is over.
    @Test(arguments: Seeds.thisRun) func unionArrives(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<12 {
            let bits = UInt64.random(in: 1...200_000, using: &generator)
            func random() -> DirtyBitmap {
                var bitmap = DirtyBitmap(bits: bits)
                var position: UInt64 = 0
                while position < bits {
                    let isDense = Bool.random(using: &generator)
                    for _ in 0..<(isDense ? 3000 : 3) {
                        let run = UInt64.random(in: 1...(isDense ? 3 : 50_000), using: &generator)
                        if Bool.random(using: &generator) { bitmap.setRun(from: BitmapBlock(position), count: run) }
                        position += run
                    }
                }
                return bitmap
            }
            let ours = random()
            var theirs = random()
            var expected = theirs
            expected.merge(bytes(of: ours).span.bytes, atWord: 0)
            let maximum = [4088, 4080, 64, 9].randomElement(using: &generator)!
            var sender = BitmapSender()
            var receiver = BitmapReceiver()
            var isDone = false
            while true {
                let chunk = sender.nextChunk(of: ours, useRLE: Bool.random(using: &generator), maximumBytes: maximum)
                if chunk == .end { break }
                #expect(!isDone)
                switch chunk {
                case .plain(let bytes):
                    isDone = try receiver.receivePlain(bytes, into: &theirs, maximumBytes: maximum)
                case .compressed(let bytes):
                    #expect(bytes.count <= maximum)
                    isDone = try receiver.receiveCompressed(bytes, into: &theirs, maximumBytes: maximum)
                case .end: break
                }
                #expect(receiver.bit == sender.bit)
            }
            #expect(isDone && receiver.isDone)
            #expect(theirs.weight == expected.weight)
            #expect(bytes(of: theirs) == bytes(of: expected))
        }
    }

    @Test func wrongChunksAreNamed() throws {
        var bitmap = DirtyBitmap(bits: 64)
        var receiver = BitmapReceiver()
        #expect(throws: BitmapTransferError.plainLength(found: 16, expected: 8)) {
            try receiver.receivePlain([UInt8](repeating: 0, count: 16), into: &bitmap, maximumBytes: 4080)
        }
        #expect(throws: BitmapTransferError.plainLength(found: 0, expected: 8)) {
            try receiver.receivePlain([], into: &bitmap, maximumBytes: 4080)
        }
        #expect(throws: BitmapTransferError.compressedLength(found: 1, maximum: 4080)) {
            try receiver.receiveCompressed([0x32], into: &bitmap, maximumBytes: 4080)
        }
        #expect(throws: BitmapTransferError.compressedLength(found: 5, maximum: 4)) {
            try receiver.receiveCompressed([0x32, 0, 0, 0, 0], into: &bitmap, maximumBytes: 4)
        }
        #expect(throws: BitmapTransferError.unknownEncoding(0x33)) {
            try receiver.receiveCompressed([0x33, 0], into: &bitmap, maximumBytes: 4080)
        }
        #expect(throws: BitmapTransferError.runPastEnd(position: 0, length: 262144, bits: 64)) {
            try receiver.receiveCompressed([0x32, 0x7f, 0xcf, 0xde, 0x03], into: &bitmap, maximumBytes: 4080)
        }
        #expect(throws: BitmapTransferError.runPastEnd(position: 0, length: 262144, bits: 64)) {
            try receiver.receiveCompressed([0xb2, 0x7f, 0xcf, 0xde, 0x03], into: &bitmap, maximumBytes: 4080)
        }
        #expect(throws: BitmapTransferError.truncatedCode(validBits: 8, wordBits: 29)) {
            try receiver.receiveCompressed([0x02, 0x7f], into: &bitmap, maximumBytes: 4080)
        }
        let isDone = try receiver.receiveCompressed([0x02, 0x97, 0x7c, 0x02], into: &bitmap, maximumBytes: 4080)
        #expect(isDone)
        #expect(throws: BitmapTransferError.alreadyComplete) {
            try receiver.receivePlain([], into: &bitmap, maximumBytes: 4080)
        }
    }

    /// No bytes trap the decoder, and none set a bit past the end.
    @Test(arguments: Seeds.thisRun) func anyBytesAreAnswered(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<1000 {
            let bits = UInt64.random(in: 0...3000, using: &generator)
            var bitmap = DirtyBitmap(bits: bits)
            var bytes = (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            if !bytes.isEmpty && Bool.random(using: &generator) { bytes[0] = bytes[0] & 0xf0 | 2 }
            do throws(BitmapTransferError) {
                let start = UInt64.random(in: 0...bits, using: &generator)
                let end = try BitmapRunLength.decode(bytes.span.bytes, from: start, into: &bitmap).end
                #expect(end <= bits)
            } catch {
                #expect(bitmap.weight <= bits)
            }
        }
    }

    /// Every cut of a valid chunk is an error or a shorter run of whole code words.
    @Test(arguments: examples) func everyCut(runs: [UInt64], startsSet: Bool, payload: [UInt8]) {
        for length in 0..<payload.count {
            var bitmap = DirtyBitmap(bits: runs.reduce(0, +))
            do throws(BitmapTransferError) {
                let end = try BitmapRunLength.decode(
                    payload.span.bytes.extracting(0..<length), from: 0, into: &bitmap
                ).end
                #expect(end < bitmap.bits)
            } catch {
                #expect(bitmap.weight < bitmap.bits || length == 0)
            }
        }
    }
}
