import Testing

@testable import ReplicaProto

/// Bytes written down in the protocol's description (`wire.md` 1.1, 4.1, 4.2, annex A; `wire-resync.md` 8.3.4), and
/// layouts that no recording has, built from their tables.
struct PacketExample: CustomTestStringConvertible, Sendable {
    var name: String
    var stream: StreamKind = .data
    var format = WireTest.format101
    var volume: UInt16 = 0
    var hex: String
    var packet: Packet
    var payloadLength = 0
    var testDescription: String { name }

    static let all: [PacketExample] = [
        PacketExample(name: "P_INITIAL_DATA", format: .initial, hex: "83740267fff20000", packet: .initialData),
        PacketExample(
            name: "P_INITIAL_META", stream: .meta, format: .initial, hex: "83740267fff10000", packet: .initialMeta),
        PacketExample(
            name: "P_CONNECTION_FEATURES", format: .initial,
            hex: "83740267 fffe0048 00000056 0000000f 00000065 00000000" + String(repeating: "00", count: 56),
            packet: .connectionFeatures(ConnectionFeatures(minimumVersion: 86, flags: .all, maximumVersion: 101))),
        PacketExample(
            name: "P_PROTOCOL",
            hex: """
                86 20 ec 20 00 00 00 0b 00 00 00 19 00 00 00 00 00 00 00 03 00 00 00 00 00 00 00 00 00 00 00 00
                00 00 00 00 00 00 00 00 00
                """,
            packet: .protocolParameters(parameters())),
        PacketExample(
            name: "P_SIZES",
            hex: """
                86 20 ec 20 00 00 00 0d 00 00 00 38 00 00 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00 00 00 00
                00 00 00 00 00 20 00 00 00 10 00 00 00 00 00 00 00 00 10 00 00 00 02 00 00 00 00 00 00 00 10 00
                00 00 00 00 01 00 00 00
                """,
            packet: .sizes(
                SizesPacket(
                    diskSize: 2_097_152, userSize: 0, currentSize: 2_097_152, maximumRequest: 1 << 20,
                    limits: QueueLimits(
                        physicalBlockSize: 4096, logicalBlockSize: 512, minimumIO: 4096, discardEnabled: true)))),
        PacketExample(
            name: "P_SIZES without limits", format: WireFormat(version: 101, features: [.trim]),
            hex: """
                86 20 ec 20 00 00 00 0d 00 00 00 20 00 00 00 00 00 00 00 00 00 20 00 00 00 00 00 00 00 10 00 00
                00 00 00 00 00 1f 00 00 00 10 00 00 00 00 00 02
                """,
            packet: .sizes(
                SizesPacket(
                    diskSize: 0x20_0000, userSize: 0x10_0000, currentSize: 0x1f_0000, maximumRequest: 1 << 20,
                    resizeFlags: 2,
                    limits: nil))),
        PacketExample(
            name: "P_UUIDS",
            hex: """
                86 20 ec 20 00 00 00 0c 00 00 00 30 00 00 00 00 11 22 33 44 55 66 77 88 00 00 00 00 00 00 00 00
                a1 a2 a3 a4 a5 a6 a7 a8 b1 b2 b3 b4 b5 b6 b7 b8 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
                """,
            packet: .uuids(
                UUIDsPacket(
                    identifiers: GenerationIdentifiers(
                        current: 0x1122_3344_5566_7788, history0: 0xa1a2_a3a4_a5a6_a7a8, history1: 0xb1b2_b3b4_b5b6_b7b8),
                    dirtyBits: 0, flags: []))),
        PacketExample(
            name: "P_STATE", hex: "86 20 ec 20 00 00 00 0e 00 00 00 04 00 00 00 00 00 00 d0 82", packet: .state(0xd082)),
        PacketExample(
            name: "P_DATA",
            hex: """
                86 20 ec 20 00 00 00 00 00 00 10 18 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 01
                00 00 00 01 00 00 01 00
                """,
            packet: .data(
                DataPacket(sector: Sector(2048), blockID: 1, sequence: 1, flags: .sendWriteAck, byteCount: 4096)),
            payloadLength: 4096),
        PacketExample(
            name: "P_WRITE_ACK", stream: .meta,
            hex: """
                86 20 ec 20 00 00 00 16 00 00 00 18 00 00 00 00 00 00 00 00 00 00 08 00 00 00 00 00 00 00 00 01
                00 00 10 00 00 00 00 01
                """,
            packet: .writeAck(BlockAck(sector: Sector(2048), blockID: 1, byteCount: 4096, sequence: 1))),
        PacketExample(
            name: "P_BARRIER", hex: "86 20 ec 20 00 00 00 03 00 00 00 08 00 00 00 00 00 00 00 07 00 00 00 00",
            packet: .barrier(number: 7)),
        PacketExample(
            name: "P_BARRIER_ACK", stream: .meta,
            hex: "86 20 ec 20 00 00 00 1c 00 00 00 08 00 00 00 00 00 00 00 07 00 00 00 01",
            packet: .barrierAck(number: 7, setSize: 1)),
        PacketExample(
            name: "P_PING", stream: .meta, hex: "86 20 ec 20 00 00 00 13 00 00 00 00 00 00 00 00", packet: .ping),
        PacketExample(
            name: "P_COMPRESSED_BITMAP", hex: "86 20 ec 20 00 00 00 24 00 00 00 05 00 00 00 00 32 7f cf de 03",
            packet: .compressedBitmap([0x32, 0x7f, 0xcf, 0xde, 0x03])),

        // Not in any recording: built from the tables of section 3.3.
        PacketExample(
            name: "P_WSAME", volume: 2,
            hex: "8620ec20 0002 0034 0000021c 00000000 0000000000000010 0102030405060708 00000005 00000200 00010000",
            packet: .writeSame(
                DiscardPacket(
                    sector: Sector(16), blockID: 0x0102_0304_0506_0708, sequence: 5, flags: .writeSame, byteCount: 65_536, patternBytes: 512)),
            payloadLength: 512),
        PacketExample(
            name: "P_NEG_RS_DREPLY", stream: .meta, volume: 1,
            hex: "8620ec20 0001 001b 00000018 00000000 0000000000000010 ffffffffffffffff 00001000 00000009",
            packet: .negativeResyncReply(
                BlockAck(sector: Sector(16), blockID: BlockID.syncer, byteCount: 4096, sequence: 9))),
        PacketExample(
            name: "P_RS_CANCEL", stream: .meta, volume: 1,
            hex: "8620ec20 0001 0029 00000018 00000000 0000000000000010 ffffffffffffffff 00001000 0000000a",
            packet: .resyncCancel(BlockAck(sector: Sector(16), blockID: BlockID.syncer, byteCount: 4096, sequence: 10))),
        PacketExample(
            name: "item 9: P_DELAY_PROBE on data", hex: "8620ec20 0000 0027 00000008 00000000 0000000000000000",
            packet: .delayProbe),
        PacketExample(
            name: "item 9: P_DELAY_PROBE on meta", stream: .meta,
            hex: "8620ec20 0000 0027 00000008 00000000 0000000000000000", packet: .delayProbe),

        // Section 10: older agreements.
        PacketExample(
            name: "P_PROTOCOL 86", format: WireFormat(version: 86, features: []),
            hex: "83740267 000b 0018 00000003 00000000 00000000 00000000 00000001 00000001",
            packet: .protocolParameters(parameters(connectionFlags: 1, twoPrimaries: 1))),
        PacketExample(
            name: "P_PROTOCOL 87", format: WireFormat(version: 87, features: []),
            hex: "83740267 000b 001e 00000003 00000000 00000000 00000000 00000000 00000000 637263333200",
            packet: .protocolParameters(parameters(integrity: "crc32"))),
        PacketExample(
            name: "P_SYNC_PARAM 87", format: WireFormat(version: 87, features: []), hex: "83740267 000a 0004 000000fa",
            packet: .syncParameters(sync())),
        PacketExample(
            name: "P_SYNC_PARAM 88", format: WireFormat(version: 88, features: []),
            hex: "83740267 000a 0008 000000fa 6d643500",
            packet: .syncParameters(sync(verify: "md5"))),
        PacketExample(
            name: "P_SYNC_PARAM 88 without name", format: WireFormat(version: 88, features: []),
            hex: "83740267 000a 0005 000000fa 00", packet: .syncParameters(sync())),
        PacketExample(
            name: "P_SYNC_PARAM89 89", format: WireFormat(version: 89, features: []),
            hex: "83740267 0023 0084 000000fa 6d6435" + String(repeating: "00", count: 61) + "73686131"
                + String(repeating: "00", count: 60),
            packet: .syncParameters(sync(verify: "md5", checksum: "sha1"))),
        PacketExample(
            name: "P_SYNC_PARAM89 95", format: WireFormat(version: 95, features: []),
            hex: "83740267 0023 0094 000000fa 6d6435" + String(repeating: "00", count: 61) + "73686131"
                + String(repeating: "00", count: 60) + "00000014 0000000a 00000064 00019000",
            packet: .syncParameters(
                SyncParameters(
                    resyncRate: 250, verifyAlgorithm: "md5", checksumAlgorithm: "sha1", planAhead: 20, delayTarget: 10,
                    fillTarget: 100, maximumRate: 102_400))),
        PacketExample(
            name: "P_DATA_REPLY 95, header80", format: WireFormat(version: 95, features: []),
            hex: "83740267 0001 7c18 0000000000000000 0000000000000001 00000000 00000000",
            packet: .dataReply(DataPacket(sector: Sector(0), blockID: 1, byteCount: 31_744)), payloadLength: 31_744),
        PacketExample(
            name: "P_DATA_REPLY 95, header95", format: WireFormat(version: 95, features: []),
            hex: "835a 0001 00020018 0000000000000000 0000000000000001 00000000 00000000",
            packet: .dataReply(DataPacket(sector: Sector(0), blockID: 1, byteCount: 131_072)), payloadLength: 131_072),
        PacketExample(
            name: "P_RS_DATA_REPLY 94, 32 KiB and head in a header80", format: WireFormat(version: 94, features: []),
            hex: "83740267 0002 8018 0000000000000000 ffffffffffffffff 00000000 00000000",
            packet: .resyncDataReply(DataPacket(sector: Sector(0), blockID: BlockID.syncer, byteCount: 32_768)),
            payloadLength: 32_768),
    ]

    static func parameters(
        connectionFlags: UInt32 = 0, twoPrimaries: UInt32 = 0, integrity: String = ""
    ) -> ProtocolParameters {
        ProtocolParameters(
            replicationProtocol: 3, afterSplitBrain0Primaries: 0, afterSplitBrain1Primary: 0, afterSplitBrain2Primaries: 0,
            connectionFlags: connectionFlags, twoPrimaries: twoPrimaries, integrityAlgorithm: integrity)
    }

    static func sync(verify: String = "", checksum: String = "") -> SyncParameters {
        SyncParameters(
            resyncRate: 250, verifyAlgorithm: verify, checksumAlgorithm: checksum, planAhead: 0, delayTarget: 0,
            fillTarget: 0,
            maximumRate: 0)
    }
}

@Suite struct PacketExampleTests {
    @Test("annex A and section 10: written bytes", arguments: PacketExample.all)
    func bothWays(example: PacketExample) throws {
        let bytes = WireTest.bytes(example.hex)
        let decoded = try #require(
            try WireTest.decode(bytes, stream: example.stream, format: example.format), "complete")
        #expect(decoded.packet == example.packet)
        #expect(decoded.header.volume.value == example.volume)
        #expect(decoded.header.payloadLength == example.payloadLength)
        let again = WireTest.encode(
            example.packet, volume: example.volume, payloadLength: example.payloadLength, format: example.format)
        #expect(WireTest.hex(again) == WireTest.hex(bytes))
        #expect(again.count == example.packet.encodedSize(in: example.format))
    }

    @Test("item 1: a marker tells the stream, anything else is none")
    func markers() {
        #expect(PacketHeader.marker(WireTest.bytes("83740267fff20000").span.bytes) == .data)
        #expect(PacketHeader.marker(WireTest.bytes("83740267fff10000").span.bytes) == .meta)
        for other in [
            "83740267fff2000", "83740267fff20001", "83740267fffe0048", "8374026700000000", "835afff200000000",
            "8620ec200000fff20000000000000000", "474554202f204854", "",
        ] {
            #expect(PacketHeader.marker(WireTest.bytes(other).span.bytes) == nil, "\(other)")
        }
    }

    @Test("section 7.2: flags that an older peer does not know are not sent")
    func flagsByVersion() {
        let all: DataFlags = [.sync, .maySetInSync, .fua, .flush, .sendWriteAck, .sendReceiveAck]
        func sent(_ flags: DataFlags, _ version: UInt32) throws -> DataFlags? {
            let format = WireFormat(version: version, features: [])
            let packet = Packet.data(DataPacket(sector: Sector(0), blockID: 1, sequence: 1, flags: flags, byteCount: 512))
            let bytes = WireTest.encode(packet, payloadLength: 512, format: format)
            guard case .data(let data)? = try WireTest.decode(bytes, stream: .data, format: format)?.packet else {
                return nil
            }
            return data.flags
        }
        #expect(try! sent(all, 101) == all)
        #expect(try! sent(all, 99) == [.sync, .maySetInSync, .fua, .flush])
        #expect(try! sent(all, 94) == [.sync, .maySetInSync])
        #expect(try! sent([.unplug], 94) == [.sync])
        #expect(try! sent([.fua], 94) == [])
    }

    @Test("names longer than their field are cut and stay terminated")
    func longNames() throws {
        let name = String(repeating: "x", count: 100)
        for version in [88, 89, 101] as [UInt32] {
            let format = WireFormat(version: version, features: [])
            let bytes = WireTest.encode(
                .syncParameters(PacketExample.sync(verify: name, checksum: name)), format: format)
            guard case .syncParameters(let got)? = try WireTest.decode(bytes, stream: .data, format: format)?.packet else {
                Issue.record("no packet")
                continue
            }
            #expect(got.verifyAlgorithm == String(name.prefix(63)))
        }
        let bytes = WireTest.encode(
            .protocolParameters(PacketExample.parameters(integrity: name)), format: WireTest.format101)
        #expect(bytes.count == 16 + 24 + 64 && bytes.last == 0)
    }
}
