import Testing

@testable import ReplicaProto

@Suite struct NBDRequestTests {
    static let size: UInt64 = 1 << 20
    static let export = NBDExport(name: "r0", size: size)

    struct Row: Sendable, CustomTestStringConvertible {
        var type: UInt16
        var flags: UInt16 = 0
        var offset: UInt64 = 4096
        var length: UInt32 = 4096
        var structured = true
        var verdict: NBDVerdict
        var why: String
        var testDescription: String { "type \(type): \(why)" }
    }

    static let rows: [Row] = [
        Row(type: 0, verdict: .read, why: "read"),
        Row(type: 0, offset: 0, length: 1 << 20, verdict: .read, why: "all"),
        Row(type: 0, offset: (1 << 20) - 512, length: 512, verdict: .read, why: "last sector"),
        Row(type: 0, offset: (1 << 20) - 512, length: 1024, verdict: .refuse(.invalid), why: "read beyond the end"),
        Row(type: 0, offset: 1 << 20, length: 512, verdict: .refuse(.invalid), why: "behind the end"),
        Row(type: 0, offset: .max - 511, length: 512, verdict: .refuse(.invalid), why: "end overflows"),
        Row(type: 0, offset: .max, length: .max, verdict: .refuse(.overflow), why: "longer than any reply"),
        Row(type: 0, offset: 1, verdict: .refuse(.invalid), why: "offset not aligned"),
        Row(type: 0, length: 513, verdict: .refuse(.invalid), why: "length not aligned"),
        Row(type: 0, length: 0, verdict: .refuse(.invalid), why: "nothing to read"),
        Row(type: 0, flags: 1, verdict: .read, why: "FUA is meaningless and harmless"),
        Row(type: 0, flags: 4, verdict: .read, why: "DF with structured replies"),
        Row(type: 0, flags: 4, structured: false, verdict: .refuse(.invalid), why: "DF without them"),
        Row(type: 0, flags: 2, verdict: .refuse(.invalid), why: "NO_HOLE"),
        Row(type: 0, flags: 0x8000, verdict: .refuse(.invalid), why: "unknown flag"),
        Row(type: 1, verdict: .write, why: "write"),
        Row(type: 1, flags: 1, verdict: .write, why: "with FUA"),
        Row(type: 1, flags: 4, verdict: .refuse(.invalid), why: "DF"),
        Row(type: 1, offset: (1 << 20) - 512, length: 1024, verdict: .refuse(.noSpace), why: "write beyond the end"),
        Row(type: 1, offset: .max, length: 512, verdict: .refuse(.noSpace), why: "end overflows"),
        Row(type: 1, offset: 1, verdict: .refuse(.invalid), why: "offset not aligned"),
        Row(type: 1, length: 0, verdict: .refuse(.invalid), why: "nothing to write"),
        Row(type: 1, length: 64 << 20, verdict: .refuse(.noSpace), why: "largest payload that is read away"),
        Row(type: 1, length: (64 << 20) + 1, verdict: .hangUp, why: "payload too large to be read away"),
        Row(type: 1, flags: 0x8000, length: .max, verdict: .hangUp, why: "however wrong it is"),
        Row(type: 2, offset: 0, length: 0, verdict: .disconnect, why: "disconnect"),
        Row(type: 2, flags: 0xffff, offset: .max, length: .max, verdict: .disconnect, why: "in any form"),
        Row(type: 3, offset: 0, length: 0, verdict: .flush, why: "flush"),
        Row(type: 3, offset: .max, length: 7, verdict: .flush, why: "reserved fields don't matter"),
        Row(type: 3, flags: 1, offset: 0, length: 0, verdict: .flush, why: "with FUA"),
        Row(type: 3, flags: 2, offset: 0, length: 0, verdict: .refuse(.invalid), why: "with NO_HOLE"),
        Row(type: 4, verdict: .trim, why: "trim"),
        Row(type: 4, flags: 1, verdict: .trim, why: "with FUA"),
        Row(type: 4, flags: 2, verdict: .refuse(.invalid), why: "NO_HOLE"),
        Row(type: 4, offset: (1 << 20) - 512, length: 1024, verdict: .refuse(.invalid), why: "trim beyond the end"),
        Row(type: 4, offset: 0, length: 1 << 20, verdict: .trim, why: "all"),
        Row(type: 5, verdict: .cache, why: "cache"),
        Row(type: 5, offset: 1 << 20, verdict: .refuse(.invalid), why: "cache beyond the end"),
        Row(type: 6, flags: 3, verdict: .writeZeroes, why: "FUA, NO_HOLE"),
        Row(type: 6, flags: 16, verdict: .refuse(.invalid), why: "FAST_ZERO was not offered"),
        Row(type: 6, offset: (1 << 20) - 512, length: 1024, verdict: .refuse(.noSpace), why: "zeroes beyond the end"),
        Row(type: 7, verdict: .refuse(.invalid), why: "no metadata context was agreed"),
        Row(type: 8, verdict: .refuse(.invalid), why: "resize"),
        Row(type: 0xffff, length: .max, verdict: .refuse(.invalid), why: "unknown, without payload"),
    ]

    @Test("verdicts", arguments: rows)
    func verdicts(row: Row) throws {
        let bytes = NBDTest.request(row.type, flags: row.flags, cookie: 0xfeed, offset: row.offset, length: row.length)
        let request = try #require(NBDTest.decode(bytes))
        #expect(request.cookie == 0xfeed && request.offset == row.offset && request.length == row.length)
        #expect(request.payloadLength == (row.type == 1 ? Int(row.length) : 0))
        #expect(request.judge(Self.export, structuredReplies: row.structured) == row.verdict)
    }

    @Test("a read-only export refuses what changes it; what was not offered is invalid")
    func restricted() {
        func verdict(_ type: UInt16, _ flags: NBDTransmissionFlags) -> NBDVerdict? {
            NBDTest.decode(NBDTest.request(type, flags: 0, offset: 0, length: 512))?
                .judge(NBDExport(name: "", size: Self.size, flags: flags), structuredReplies: false)
        }
        let readOnly = NBDTransmissionFlags.standard.union(.readOnly)
        #expect(verdict(0, readOnly) == .read && verdict(3, readOnly) == .flush)
        for type in [1, 4, 6] as [UInt16] { #expect(verdict(type, readOnly) == .refuse(.notPermitted)) }
        for type in [3, 4, 5, 6] as [UInt16] { #expect(verdict(type, [.hasFlags]) == .refuse(.invalid)) }
        let fast = NBDRequest(flags: [.fastZero, .noHole, .fua], type: 6, cookie: 0, offset: 0, length: 512)
        let export = NBDExport(name: "", size: Self.size, flags: NBDTransmissionFlags.standard.union(.fastZero))
        #expect(fast.judge(export, structuredReplies: false) == .writeZeroes)
    }

    @Test("alignment follows the export's block size")
    func alignment() {
        let export = NBDExport(name: "", size: Self.size, minimumBlock: 4096)
        for (offset, length, good) in [(4096, 4096, true), (512, 4096, false), (0, 512, false), (8192, 12_288, true)] {
            let request = NBDRequest(flags: [], type: 0, cookie: 0, offset: UInt64(offset), length: UInt32(length))
            #expect(request.judge(export, structuredReplies: false) == (good ? .read : .refuse(.invalid)))
        }
    }

    @Test("fewer than 28 bytes or another magic are no request")
    func noRequest() {
        let bytes = NBDTest.request(0, offset: 0, length: 512)
        for count in 0..<28 { #expect(NBDTest.decode(Array(bytes[..<count])) == nil) }
        for bit in 0..<32 {
            var wrong = bytes
            wrong[bit / 8] ^= 1 << (bit % 8)
            #expect(NBDTest.decode(wrong) == nil)
        }
        let second = bytes + NBDTest.request(1, offset: 0, length: 1024)
        #expect(NBDTest.decode(second)?.length == 512, "more requests may follow")
    }

    @Test("random requests: every accepted one lies inside the export", arguments: Seeds.thisRun)
    func random(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<20_000 {
            let offset =
                Bool.random(using: &random) ? random.next() : UInt64.random(in: 0...Self.size, using: &random) & ~511
            let length =
                Bool.random(using: &random)
                ? UInt32(truncatingIfNeeded: random.next()) : 512 << UInt32.random(in: 0...12, using: &random)
            let bytes = NBDTest.request(
                UInt16.random(in: 0...9, using: &random), flags: UInt16.random(in: 0...31, using: &random), offset: offset,
                length: length)
            guard let request = NBDTest.decode(bytes) else {
                Issue.record("no request")
                return
            }
            switch request.judge(Self.export, structuredReplies: true) {
            case .read, .write, .trim, .writeZeroes, .cache:
                let (end, overflow) = offset.addingReportingOverflow(UInt64(length))
                if overflow || end > Self.size || length == 0 || length % 512 != 0 || offset % 512 != 0 {
                    Issue.record("\(request) was accepted")
                }
            case .flush, .disconnect, .refuse, .hangUp: break
            }
        }
    }
}

@Suite struct NBDReplyTests {
    private func bytes(_ encode: (inout OutputRawSpan) -> Void) -> [UInt8] {
        var memory = [UInt8](repeating: 0xa5, count: NBDReply.maximumSize)
        let count = memory.withUnsafeMutableBytes { buffer in
            var output = OutputRawSpan(buffer: buffer, initializedCount: 0)
            encode(&output)
            return output.finalize(for: buffer)
        }
        return Array(memory[..<count])
    }

    @Test("written bytes")
    func written() {
        let cookie: UInt64 = 0x0102_0304_0506_0708
        let cases: [(String, Int, [UInt8])] = [
            (
                "67446698 00000000 0102030405060708", NBDReply.simpleSize,
                bytes { NBDReply.encodeSimple(cookie: cookie, error: nil, into: &$0) }
            ),
            (
                "67446698 00000005 0102030405060708", NBDReply.simpleSize,
                bytes { NBDReply.encodeSimple(cookie: cookie, error: .io, into: &$0) }
            ),
            (
                "668e33ef 0001 0000 0102030405060708 00000000", NBDReply.chunkSize,
                bytes { NBDReply.encodeNone(cookie: cookie, into: &$0) }
            ),
            (
                "668e33ef 0001 0001 0102030405060708 00001008 0000000000002000", NBDReply.dataChunkSize,
                bytes { NBDReply.encodeData(cookie: cookie, offset: 8192, length: 4096, isLast: true, into: &$0) }
            ),
            (
                "668e33ef 0000 0002 0102030405060708 0000000c 0000000000002000 00001000", NBDReply.holeChunkSize,
                bytes { NBDReply.encodeHole(cookie: cookie, offset: 8192, length: 4096, isLast: false, into: &$0) }
            ),
            (
                "668e33ef 0001 8001 0102030405060708 00000006 0000001c 0000", NBDReply.errorChunkSize,
                bytes { NBDReply.encodeError(cookie: cookie, error: .noSpace, into: &$0) }
            ),
            (
                "668e33ef 0000 8002 0102030405060708 0000000e 00000005 0000 0000000000002000", NBDReply.errorOffsetChunkSize,
                bytes { NBDReply.encodeError(cookie: cookie, error: .io, offset: 8192, isLast: false, into: &$0) }
            ),
        ]
        for (hex, size, got) in cases {
            #expect(WireTest.hex(got) == WireTest.hex(WireTest.bytes(hex)))
            #expect(got.count == size && size <= NBDReply.maximumSize)
        }
    }

    @Test("error numbers are the protocol's")
    func errors() {
        let numbers: [(ClientError, UInt32)] = [
            (.notPermitted, 1), (.io, 5), (.invalid, 22), (.noSpace, 28), (.shutdown, 108),
        ]
        for (error, number) in numbers { #expect(NBDError(error).rawValue == number) }
        #expect(NBDError.allCases.map(\.rawValue) == [1, 5, 12, 22, 28, 75, 95, 108])
    }
}
