import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

/// `replctl decode` against captures of the kernel's own sessions, and against noise.
@Suite struct DecodeTests {
    static let names = ["initial-skip", "connect-auth-sha1", "roles", "unrelated"]

    private static func file(_ name: String) -> URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Captures/\(name)")
    }
    private static func bytes(_ name: String) throws -> [UInt8] { [UInt8](try Data(contentsOf: file(name))) }

    private func decode(_ bytes: [UInt8]) throws -> (lines: [String], malformed: [String]) {
        var reader = CaptureReader(bytes)
        var decoder = CaptureDecoder()
        var lines: [String] = []
        try reader.segments { segment in decoder.take(segment) { lines.append($0) } }
        return (lines, decoder.malformed)
    }
    private func commands(_ lines: [String]) -> [String] {
        lines.compactMap { line in line.split(separator: " ").first { $0.hasPrefix("P_") }.map(String.init) }
    }

    @Test("every packet of a recorded session, in order", arguments: names)
    func recordedSession(name: String) throws {
        let expected = commands(try String(contentsOf: Self.file("\(name).txt"), encoding: .utf8).split(separator: "\n").filter { !$0.hasPrefix("#") }.map(String.init))
        let (lines, malformed) = try decode(try Self.bytes("\(name).pcap"))
        #expect(malformed == [])
        #expect(commands(lines) == expected && expected.count > 10)
    }

    @Test func bothFormatsOfCapturesSayTheSame() throws {
        let old = try decode(try Self.bytes("roles.pcap"))
        let new = try decode(try Self.bytes("roles.pcapng"))
        #expect(old.lines == new.lines)
    }

    @Test("segments that come twice, late or overlapping are one stream")
    func reassembly() throws {
        var reader = CaptureReader(try Self.bytes("roles.pcap"))
        var segments: [CapturedSegment] = []
        try reader.segments { segments.append($0) }
        let straight = try decode(try Self.bytes("roles.pcap")).lines
        var decoder = CaptureDecoder()
        var lines: [String] = []
        func take(_ segment: CapturedSegment) { decoder.take(segment) { lines.append($0) } }
        for segment in segments {
            guard segment.data.count > 12, !segment.startsStream else {
                take(segment)
                continue
            }
            // The second half first, then a piece from the beginning that overlaps it, then all of it once more.
            var late = segment
            late.data = segment.data.dropFirst(segment.data.count / 2)
            late.sequence &+= UInt32(segment.data.count / 2)
            var early = segment
            early.data = segment.data.prefix(segment.data.count / 2 + 3)
            if !lines.isEmpty { take(late) }
            take(early)
            take(late)
            take(segment)
        }
        #expect(commands(lines) == commands(straight))
        #expect(decoder.malformed == [])
    }

    @Test("damaged captures are read as far as they make sense", arguments: 0..<200)
    func noise(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var bytes = try Self.bytes(seed % 2 == 0 ? "roles.pcap" : "roles.pcapng")
        for _ in 0..<Int.random(in: 1...30, using: &random) {
            bytes[Int.random(in: 24..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
        }
        if Bool.random(using: &random) { bytes.removeLast(Int.random(in: 0..<bytes.count - 24, using: &random)) }
        _ = try? decode(bytes)
    }

    @Test func whatWeWriteWeRead() throws {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("capture-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        // Longer than one segment can be.
        let head = Packet.data(DataPacket(sector: Sector(8), blockID: 1, sequence: 1, flags: .sendWriteAck, byteCount: 131_072))
        let format = WireFormat(version: 101, features: .all)
        var bytes = [UInt8](repeating: 0, count: head.encodedSize(in: format))
        bytes.withUnsafeMutableBytes { target in
            var output = OutputRawSpan(buffer: target, initializedCount: 0)
            head.encode(volume: VolumeNumber(0), payloadLength: 131_072, format: format, into: &output)
            _ = output.finalize(for: target)
        }
        bytes += [UInt8](repeating: 7, count: 131_072)
        for addresses in ["10.0.0.1:7788 10.0.0.2:5000", "[fd00::1]:7788 [fd00::2]:5000"] {
            guard var capture = PacketCapture(path: path) else {
                Issue.record("no file")
                return
            }
            capture.open(1, addresses)
            capture.append(1, isOutgoing: true, nanoseconds: 1_000_000_000, bytes[...])
            let isWritten = capture.flush()
            #expect(isWritten)
            let (lines, malformed) = try decode([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))))
            #expect(malformed == [] && lines.count == 1)
            #expect(lines.first?.contains("P_DATA vol 0 sector 8 size 131072") == true)
        }
    }

    @Test func recordsAreReadBack() {
        var record = TraceRecord(
            .packet, stream: .meta, socket: 7, format: WireFormat(version: 95, features: [.trim], peerIntegrity: .sha1),
            nanoseconds: 0x0102_0304_0506_0708)
        record.format.integrity = .sha1
        record.isOutgoing = true
        record.lost = 3
        record.fixedBytes = 24
        record.payloadBytes = 4096
        record.length = 4120
        var bytes = [UInt8](repeating: 0, count: TraceRecord.headBytes)
        bytes.withUnsafeMutableBytes { target in
            var output = OutputRawSpan(buffer: target, initializedCount: 0)
            record.encode(into: &output)
            #expect(output.finalize(for: target) == TraceRecord.headBytes)
        }
        #expect(TraceRecord(decoding: bytes.span.bytes) == record)
        bytes[4] = 9
        #expect(TraceRecord(decoding: bytes.span.bytes) == nil)
    }
}

private struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    init(seed: UInt64) { state = seed &* 0x9e37_79b9_7f4a_7c15 | 1 }
    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}
