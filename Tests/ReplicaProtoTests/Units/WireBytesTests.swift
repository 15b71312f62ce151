import Testing

@testable import ReplicaProto

@Suite struct WireBytesTests {
    private let bytes: [UInt8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe]

    @Test func readsInBothOrdersAtAnyOffset() {
        let span = bytes.span.bytes
        #expect(span.readU8(at: 8) == 0xfe)
        #expect(span.readBE16(at: 1) == 0x2345)
        #expect(span.readBE32(at: 1) == 0x2345_6789)
        #expect(span.readBE64(at: 1) == 0x2345_6789_abcd_effe)
        #expect(span.readLE16(at: 1) == 0x4523)
        #expect(span.readLE32(at: 1) == 0x8967_4523)
        #expect(span.readLE64(at: 0) == 0xefcd_ab89_6745_2301)
    }

    @Test func writesWhatItReads() {
        var written = [UInt8](repeating: 0, count: 24)
        var span = written.mutableSpan
        var raw = span.mutableBytes
        raw.write(0x01 as UInt8, at: 0)
        raw.writeBE(0x2345 as UInt16, at: 1)
        raw.writeBE(0x6789_abcd as UInt32, at: 3)
        raw.writeBE(0x0102_0304_0506_0708 as UInt64, at: 7)
        raw.writeLE(0x0102_0304_0506_0708 as UInt64, at: 15)
        raw.fill(0xaa, at: 23, count: 1)
        #expect(
            written == [
                1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1, 0xaa,
            ])
    }

    @Test func appends() {
        let source = bytes
        let written = [UInt8](unsafeUninitializedCapacity: 32) { buffer, count in
            var output = OutputRawSpan(buffer: UnsafeMutableRawBufferPointer(buffer), initializedCount: 0)
            output.appendU8(1)
            output.appendBE(0x0203 as UInt16)
            output.appendBE(0x0405_0607 as UInt32)
            output.appendBE(0x0809_0a0b_0c0d_0e0f as UInt64)
            output.append(source.span.bytes)
            count = output.finalize(for: UnsafeMutableRawBufferPointer(buffer))
        }
        #expect(written == Array(1...15) + bytes)
    }

    @Test func readingPastTheEndStops() async {
        await #expect(processExitsWith: .failure) {
            let short: [UInt8] = [1, 2, 3]
            print(short.span.bytes.readBE32(at: 0))
        }
    }
}
