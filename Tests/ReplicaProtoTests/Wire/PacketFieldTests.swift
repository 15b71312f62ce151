import Testing

@testable import ReplicaProto

/// Values inside packets that no device can mean (`wire.md` 2.3, hazard Z13): refused, never computed with.
@Suite struct PacketFieldTests {
    struct Area: Sendable {
        var sector: UInt64
        var byteCount: UInt32
        /// Largest size of the packet kind in bytes, and whether zero is one.
        func isGood(atMost limit: UInt32, zero: Bool = false) -> Bool {
            (byteCount != 0 || zero) && byteCount % 512 == 0 && byteCount <= limit && sector <= 1 << 41
        }
        static let all: [Area] = {
            let sectors: [UInt64] = [0, 8, 1 << 41, 1 << 41 + 1, 1 << 55, .max / 512, .max - 7, .max]
            let sizes: [UInt32] = [
                0, 1, 511, 512, 513, 4096, 1 << 20, 1 << 20 + 512, 128 << 20, 128 << 20 + 512, 1 << 31, .max - 511, .max,
            ]
            return sectors.flatMap { sector in sizes.map { Area(sector: sector, byteCount: $0) } }
        }()
    }

    private func decodes(_ packet: Packet, payloadLength: Int = 0) -> Bool {
        let stream: StreamKind = packet.command(in: WireTest.format101).shape.streams == .meta ? .meta : .data
        let bytes = WireTest.encode(packet, payloadLength: payloadLength, format: WireTest.format101)
        do throws(PacketError) {
            return try WireTest.decode(bytes, stream: stream, format: WireTest.format101)?.packet == packet
        } catch {
            #expect(error == .badField(command: packet.command(in: WireTest.format101).rawValue))
            return false
        }
    }

    @Test("Z13: sizes and sectors of areas", arguments: Area.all)
    func areas(area: Area) {
        let sector = Sector(area.sector)
        let request = BlockRequest(sector: sector, blockID: 7, byteCount: area.byteCount)
        for packet in [
            Packet.dataRequest(request), .resyncDataRequest(request), .thinResyncRequest(request), .verifyRequest(request),
        ] {
            #expect(decodes(packet) == area.isGood(atMost: 1 << 20))
        }
        for packet in [Packet.verifyReply(request), .checksumResyncRequest(request)] {
            #expect(decodes(packet, payloadLength: 20) == area.isGood(atMost: 1 << 20))
        }
        let discard = DiscardPacket(sector: sector, blockID: 7, sequence: 1, flags: .discard, byteCount: area.byteCount)
        #expect(decodes(.trim(discard)) == area.isGood(atMost: 128 << 20))
        #expect(decodes(.zeroes(discard)) == area.isGood(atMost: 128 << 20))
        var pattern = discard
        pattern.patternBytes = 512
        #expect(decodes(.writeSame(pattern), payloadLength: 512) == area.isGood(atMost: 128 << 20))
        let description = AreaPacket(sector: sector, byteCount: area.byteCount)
        #expect(decodes(.outOfSync(description)) == area.isGood(atMost: 128 << 20))
        #expect(decodes(.resyncDeallocated(description)) == area.isGood(atMost: 128 << 20))
        let ack = BlockAck(sector: sector, blockID: 7, byteCount: area.byteCount, sequence: 1)
        for packet in [Packet.writeAck(ack), .negativeAck(ack), .verifyResult(ack), .resyncCancel(ack)] {
            #expect(decodes(packet) == area.isGood(atMost: 128 << 20, zero: true))
        }
    }

    @Test("item 19: one mebibyte of data, at any sector that exists")
    func largeData() {
        for sector in [0, 1 << 41] as [UInt64] {
            let data = DataPacket(sector: Sector(sector), blockID: 1, byteCount: 1 << 20)
            #expect(decodes(.data(data), payloadLength: 1 << 20))
        }
        let data = DataPacket(sector: Sector(.max), blockID: 1, byteCount: 512)
        #expect(!decodes(.data(data), payloadLength: 512))
    }

    @Test("names end at their NUL, or one byte before the end of their field")
    func names() throws {
        let name = [UInt8](repeating: 0x61, count: 64)
        let bytes = PacketHeaderTests.header(.h100, 0x0b, length: 88) + [UInt8](repeating: 0, count: 24) + name
        guard
            case .protocolParameters(let parameters)? = try WireTest.decode(
                bytes, stream: .data, format: WireTest.format101)?.packet
        else {
            Issue.record("no packet")
            return
        }
        #expect(parameters.integrityAlgorithm == String(repeating: "a", count: 63))
    }
}
