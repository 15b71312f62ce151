import Testing

@testable import ReplicaProto

/// Streams that arrive in pieces, with noise, or as nothing but noise.
@Suite struct PacketFeedTests {
    /// A reader of one stream as plain as it can be: what it decodes must not depend on how bytes arrive.
    struct Reader {
        var stream: StreamKind
        var format: WireFormat
        var buffer: [UInt8] = []
        var packets: [Packet] = []
        var error: PacketError?

        mutating func feed(_ bytes: some Sequence<UInt8>) {
            buffer += bytes
            do throws(PacketError) {
                while let (header, packet) = try WireTest.decode(buffer, stream: stream, format: format),
                    buffer.count >= header.packetLength
                {
                    packets.append(packet)
                    buffer.removeFirst(header.packetLength)
                }
            } catch { self.error = error }
        }
    }

    private func wire(_ example: PacketExample) -> [UInt8] {
        WireTest.bytes(example.hex) + [UInt8](repeating: 0x5a, count: example.payloadLength)
    }

    @Test("every example whole, byte by byte, doubled, and cut at every length", arguments: PacketExample.all)
    func pieces(example: PacketExample) {
        let bytes = wire(example)
        let fresh = Reader(stream: example.stream, format: example.format)

        var whole = fresh
        whole.feed(bytes)
        #expect(whole.packets == [example.packet] && whole.buffer.isEmpty)

        var doubled = fresh
        doubled.feed(bytes + bytes)
        #expect(doubled.packets == [example.packet, example.packet])

        let head = bytes.count - example.payloadLength
        var single = fresh
        for byte in bytes[..<head] { single.feed([byte]) }
        single.feed(bytes[head...])
        #expect(single.packets == [example.packet])

        for count in 0..<min(bytes.count, 200) {
            var cut = fresh
            cut.feed(bytes[..<count])
            #expect(cut.packets.isEmpty && cut.error == nil)
            // The fixed part alone must not decode before it is complete.
            let early = try? WireTest.decode(Array(bytes[..<count]), stream: example.stream, format: example.format)
            #expect((early != nil) == (count >= head))
        }
    }

    @Test("a body shorter than its header says is an error, not a trap", arguments: PacketExample.all)
    func shortBody(example: PacketExample) throws {
        let bytes = WireTest.bytes(example.hex)
        let header = try #require(try WireTest.header(bytes, stream: example.stream, format: example.format))
        for count in 0..<header.fixedLength {
            let body = Array(bytes[header.headerSize..<header.headerSize + count])
            #expect(throws: PacketError.badLength(command: header.command.rawValue, length: UInt32(count))) {
                try Packet.decode(header, body: body.span.bytes, format: example.format)
            }
        }
    }

    @Test("examples with flipped bits: an answer or an error, and what decodes encodes", arguments: Seeds.thisRun)
    func flippedBits(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<5_000 {
            let example = PacketExample.all.randomElement(using: &random)!
            var bytes = WireTest.bytes(example.hex)
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] ^= 1 << UInt8.random(in: 0...7, using: &random)
            }
            try check(bytes, example.stream, example.format)
        }
    }

    @Test("random bodies behind good headers, in every agreement", arguments: Seeds.thisRun)
    func randomBodies(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let commands = PacketCommand.allCases
        for _ in 0..<5_000 {
            let command = commands.randomElement(using: &random)!
            let stream: StreamKind = command.shape.streams == .meta ? .meta : .data
            var format = WireFormat(
                version: UInt32.random(in: 86...101, using: &random),
                features: FeatureFlags(rawValue: UInt32.random(in: 0...15, using: &random)),
                peerIntegrity: [nil, .crc32c, .sha1, .sha512].randomElement(using: &random)!)
            if command.shape.sinceVersion == 0 { format = .initial }
            let form: PacketHeaderTests.Form = format.version >= 100 ? .h100 : .h80
            let lengths = [
                0, 4, 5, 8, 16, 24, 25, 28, 32, 44, 48, 56, 72, 88, 132, 148, 536, 540, 556, 600, 604, 1000, 4080,
            ]
            let length = lengths.randomElement(using: &random)!
            let bytes =
                PacketHeaderTests.header(form, command.rawValue, length: UInt32(length))
                + WireTest.randomBytes(length, &random)
            try check(bytes, stream, format)
        }
    }

    @Test("noise", arguments: Seeds.thisRun)
    func noise(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<5_000 {
            let bytes = WireTest.randomBytes(Int.random(in: 0...64, using: &random), &random)
            let version = UInt32.random(in: 86...101, using: &random)
            try check(bytes, Bool.random(using: &random) ? .data : .meta, WireFormat(version: version, features: .all))
        }
    }

    /// Decoding ends in nothing, an error, or a packet that encodes to something that decodes to the same packet.
    private func check(_ bytes: [UInt8], _ stream: StreamKind, _ format: WireFormat) throws {
        guard let (header, packet) = try? WireTest.decode(bytes, stream: stream, format: format) else { return }
        let text = packet.line(volume: header.volume, format: format, payloadLength: header.payloadLength)
        let again = WireTest.encode(
            packet, volume: header.volume.value, payloadLength: header.payloadLength, format: format)
        let second = try #require(try WireTest.decode(again, stream: stream, format: format))
        let third = WireTest.encode(
            second.packet, volume: header.volume.value, payloadLength: header.payloadLength, format: format)
        // Below version 100 not every flag is sent on.
        let isSame = second.packet == packet || 1..<100 ~= format.version
        let isBounded = header.fixedLength <= 4096 && header.length <= 1 << 20 + 24 + 64
        let isPrintable = text.utf8.allSatisfy { 0x20...0x7e ~= $0 }
        guard isSame, isBounded, isPrintable, again.count == packet.encodedSize(in: format), again == third else {
            Issue.record("\(WireTest.hex(bytes)) \(format) \(text)")
            return
        }
    }
}
