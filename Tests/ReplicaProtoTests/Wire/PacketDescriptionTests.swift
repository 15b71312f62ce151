import Testing

@testable import ReplicaProto

@Suite struct PacketDescriptionTests {
    @Test(
        "one line each",
        arguments: [
            ("P_DATA", "P_DATA vol 0 sector 2048 size 4096 id 0x0000000000000001 seq 1 flags SEND_WRITE_ACK"),
            ("P_WRITE_ACK", "P_WRITE_ACK vol 0 sector 2048 size 4096 id 0x0000000000000001 seq 1"),
            ("P_BARRIER", "P_BARRIER barrier 0x00000007"),
            ("P_BARRIER_ACK", "P_BARRIER_ACK barrier 0x00000007 set_size 1"),
            ("P_PING", "P_PING"),
            (
                "P_STATE",
                "P_STATE vol 0 conn WFConnection role Secondary peer Unknown disk UpToDate pdsk DUnknown raw 0x0000d082"
            ),
            ("P_CONNECTION_FEATURES", "P_CONNECTION_FEATURES protocol 86..101 features TRIM|THIN_RESYNC|WSAME|WZEROES"),
            (
                "P_PROTOCOL",
                "P_PROTOCOL protocol C after-sb-0pri disconnect after-sb-1pri disconnect after-sb-2pri disconnect"
                    + " conn_flags - two_primaries 0 integrity \"\""
            ),
            (
                "P_UUIDS",
                "P_UUIDS vol 0 current 1122334455667788 bitmap 0000000000000000 history a1a2a3a4a5a6a7a8,b1b2b3b4b5b6b7b8"
                    + " bits 0 flags -"
            ),
            ("P_COMPRESSED_BITMAP", "P_COMPRESSED_BITMAP vol 0 5 bytes code 2 pad 3 bits first_run clear"),
            ("P_RS_CANCEL", "P_RS_CANCEL vol 1 sector 16 size 4096 id SYNCER seq 10"),
            (
                "P_WSAME",
                "P_WSAME vol 2 sector 16 size 65536 id 0x0102030405060708 seq 5 flags WSAME payload 512"
            ),
            (
                "P_SYNC_PARAM 88",
                "P_SYNC_PARAM vol 0 resync_rate 250 KiB/s verify_alg \"md5\" csums_alg \"\" c_plan_ahead 0/10 s"
                    + " c_delay_target 0/10 s c_fill_target 0 sectors c_max_rate 0 KiB/s"
            ),
        ])
    func lines(name: String, line: String) throws {
        let example = try #require(PacketExample.all.first { $0.name == name })
        #expect(
            example.packet.line(
                volume: VolumeNumber(example.volume), format: example.format, payloadLength: example.payloadLength) == line)
    }

    @Test("requests name only the fields that they change")
    func requests() {
        func line(_ mask: UInt32, _ value: UInt32) -> String {
            Packet.stateChangeRequest(StateChangeRequest(mask: mask, value: value))
                .line(volume: VolumeNumber(3), format: WireTest.format101)
        }
        #expect(line(0x3, 0x1) == "P_STATE_CHG_REQ vol 3 mask 0x00000003 val 0x00000001: role Primary")
        #expect(
            line(0x1e1f0, 0xa010) == "P_STATE_CHG_REQ vol 3 mask 0x0001e1f0 val 0x0000a010: conn Disconnecting pdsk Outdated"
        )
    }

    @Test("a stream prints the same lines however its bytes arrive", arguments: [1, 3, 16, 4096])
    func printer(piece: Int) throws {
        let messages = try RecordedSession.messages("diskless").filter { $0.stream == .data && $0.sender == "alice" }
        var expected: [String] = []
        var bytes: [UInt8] = []
        for message in messages {
            let (header, packet) = try #require(
                try WireTest.decode(message.bytes, stream: .data, format: message.format))
            expected.append(packet.line(volume: header.volume, format: message.format, payloadLength: header.payloadLength))
            bytes += message.bytes + [UInt8](repeating: 0, count: message.bulkLength)
        }
        var printer = PacketStreamPrinter(stream: .data, format: WireTest.format101)
        var lines: [String] = []
        var position = 0
        while position < bytes.count {
            let end = min(position + piece, bytes.count)
            let slice = Array(bytes[position..<end])
            printer.feed(slice.span.bytes, into: &lines)
            position = end
        }
        #expect(lines == expected && lines.count > 50)
        #expect(printer.offset == UInt64(bytes.count) && printer.error == nil)

        let noise = [UInt8](repeating: 0xee, count: 40)
        printer.feed(noise.span.bytes, into: &lines)
        printer.feed(noise.span.bytes, into: &lines)
        #expect(printer.error == .badMagic(0xeeee_eeee))
        #expect(lines.count == expected.count + 1)
    }
}
