import Foundation
import Testing

@testable import ReplicaProto

/// Every message of every recorded session of two kernels: decoded, compared with the reading of a separate decoder,
/// encoded again to the same bytes.
@Suite struct RecordedPacketTests {
    @Test(
        "items 5, 6, 8, 42, 43: recorded messages decode to the recorded fields and encode to the recorded bytes",
        arguments: RecordedSession.names)
    func agreesWithRecording(session: String) throws {
        let messages = try RecordedSession.messages(session)
        #expect(messages.count > 5)
        for message in messages {
            let decoded = try WireTest.decode(message.bytes, stream: message.stream, format: message.format)
            let (header, packet) = try #require(decoded, "\(message.name)")
            #expect(header.command.name == message.name)
            #expect(header.volume.value == (header.command.shape.volumeUse == .named ? message.volume : 0))
            #expect(Int(header.length) == message.length)
            #expect(header.headerSize == message.header.count)
            #expect(header.payloadLength == message.length - header.fixedLength)
            #expect(header.payloadLength - header.digestLength == message.bulkLength)
            #expect(packet.command(in: message.format) == header.command)
            expectFields(packet, of: message)

            let again = WireTest.encode(
                packet, volume: message.volume, payloadLength: header.payloadLength, format: message.format)
            #expect(again.count == packet.encodedSize(in: message.format))
            let expected = clearedPad(message.header + message.body.prefix(header.fixedLength), header)
            #expect(again == expected, "\(message.name) \(WireTest.hex(again)) \(WireTest.hex(expected))")
        }
    }

    /// The kernel leaves old memory in the pad of requests and areas; we send zeroes.
    private func clearedPad(_ bytes: [UInt8], _ header: PacketHeader) -> [UInt8] {
        let pad: Int
        switch header.command {
        case .dataRequest, .resyncDataRequest, .thinResyncRequest, .verifyRequest, .verifyReply, .checksumResyncRequest:
            pad = 20
        case .outOfSync, .resyncDeallocated: pad = 12
        default: return bytes
        }
        var bytes = bytes
        for index in header.headerSize + pad..<header.headerSize + pad + 4 { bytes[index] = 0 }
        return bytes
    }

    private func expectFields(_ packet: Packet, of message: RecordedMessage) {
        let text = message.text
        func expect(_ words: String, _ location: SourceLocation = #_sourceLocation) {
            let isEqual = text == words || text.hasPrefix(words + " ")
            #expect(isEqual, "\(message.name): \(words) / \(text)", sourceLocation: location)
        }
        switch packet {
        case .data(let data):
            expect(
                "sector=\(data.sector.value) block_id=\(hex(data.blockID)) seq=\(data.sequence) flags=\(flags(data.flags))")
            #expect(Int(data.byteCount) == message.bulkLength)
        case .dataReply(let data), .resyncDataReply(let data):
            expect(
                "sector=\(data.sector.value) block_id=\(id(data.blockID)) seq=\(data.sequence) flags=\(flags(data.flags))")
            #expect(Int(data.byteCount) == message.bulkLength)
        case .trim(let area), .zeroes(let area), .writeSame(let area):
            expect(
                "sector=\(area.sector.value) block_id=\(id(area.blockID)) seq=\(area.sequence) flags=\(flags(area.flags))"
                    + " size=\(area.byteCount)")
        case .dataRequest(let request), .resyncDataRequest(let request), .thinResyncRequest(let request),
            .verifyRequest(let request), .verifyReply(let request), .checksumResyncRequest(let request):
            expect("sector=\(request.sector.value) size=\(request.byteCount) block_id=\(id(request.blockID))")
        case .receiveAck(let ack), .writeAck(let ack), .resyncWriteAck(let ack), .superseded(let ack), .negativeAck(let ack),
            .negativeDataReply(let ack), .negativeResyncReply(let ack), .verifyResult(let ack), .resyncIsInSync(let ack),
            .resyncCancel(let ack), .retryWrite(let ack):
            expect("sector=\(ack.sector.value) size=\(ack.byteCount) block_id=\(id(ack.blockID)) seq=\(ack.sequence)")
        case .outOfSync(let area), .resyncDeallocated(let area):
            expect("sector=\(area.sector.value) size=\(area.byteCount)")
        case .barrier(let number):
            expect("barrier=\(number.byteSwapped)")
        case .barrierAck(let number, let setSize):
            expect("barrier=\(number.byteSwapped) set_size=\(setSize)")
        case .bitmap(let bytes):
            expect("words=\(bytes.count / 8) set=\(bytes.reduce(0) { $0 + $1.nonzeroBitCount })")
            #expect(bytes == message.body)
        case .compressedBitmap(let bytes):
            expect("encoding=\(WireTest.hex(bytes.prefix(1)))")
            #expect(bytes == message.body)
        case .unplugRemote, .ping, .pingAck, .initialData, .initialMeta: #expect(text.isEmpty)
        case .delayProbe: Issue.record("never recorded")
        case .syncParameters(let p):
            expect(
                "resync_rate=\(p.resyncRate) verify_alg='\(p.verifyAlgorithm)' csums_alg='\(p.checksumAlgorithm)'"
                    + " c_plan_ahead=\(p.planAhead) c_delay_target=\(p.delayTarget) c_fill_target=\(p.fillTarget)"
                    + " c_max_rate=\(p.maximumRate)")
        case .protocolParameters(let p), .protocolUpdate(let p):
            let letter = ["?", "A", "B", "C"][Int(p.replicationProtocol)]
            expect(
                "protocol=\(letter) after-sb-0pri=\(policies[Int(p.afterSplitBrain0Primaries)])"
                    + " after-sb-1pri=\(policies[Int(p.afterSplitBrain1Primary)])"
                    + " after-sb-2pri=\(policies[Int(p.afterSplitBrain2Primaries)])"
                    + " conn_flags=\(names(UInt64(p.connectionFlags), ["DISCARD_MY_DATA", "DRY_RUN"]))"
                    + " two_primaries=\(p.twoPrimaries) integrity='\(p.integrityAlgorithm)'")
        case .uuids(let p):
            let i = p.identifiers
            expect(
                "current=\(hex(i.current).uppercased()) bitmap=\(hex(i.bitmap).uppercased())"
                    + " history=\(hex(i.history0).uppercased()),\(hex(i.history1).uppercased()) bits_set=\(p.dirtyBits) flags="
                    + names(p.flags.rawValue, ["DISCARD_MY_DATA", "CRASHED_PRIMARY", "INCONSISTENT", "SKIP_INITIAL_SYNC"]))
        case .sizes(let p):
            var words = "d_size=\(p.diskSize) u_size=\(p.userSize) c_size=\(p.currentSize) max_bio_size=\(p.maximumRequest)"
            words +=
                " queue_order_type=\(p.queueOrderType) dds_flags=\(names(UInt64(p.resizeFlags), ["FORCED", "NO_RESYNC"]))"
            if let q = p.limits {
                words += " qlim: physical=\(q.physicalBlockSize) logical=\(q.logicalBlockSize) align=\(q.alignmentOffset)"
                words += " io_min=\(q.minimumIO) io_opt=\(q.optimalIO) discard=\(q.discardEnabled ? 1 : 0)"
                words += " discard_zeroes=\(q.discardZeroesData ? 1 : 0) write_same=\(q.writeSameCapable ? 1 : 0)"
            }
            expect(words)
        case .state(let word):
            #expect(text.hasSuffix("raw=" + hex32(word)))
        case .syncUUID(let identifier): expect("uuid=\(hex(identifier).uppercased())")
        case .authChallenge(let bytes): expect("challenge=\(WireTest.hex(bytes))")
        case .authResponse(let bytes): expect("response=\(WireTest.hex(bytes))")
        case .stateChangeRequest(let request), .connectionStateChangeRequest(let request):
            expect("mask=\(hex32(request.mask)) val=\(hex32(request.value)):")
        case .stateChangeReply(let code), .connectionStateChangeReply(let code): expect("retcode=\(code)")
        case .connectionFeatures(let p):
            expect(
                "protocol \(p.minimumVersion)..\(p.maximumVersion) features="
                    + names(UInt64(p.flags.rawValue), ["TRIM", "THIN_RESYNC", "WRITE_SAME", "WRITE_ZEROES"]))
        }
    }

    private let policies = [
        "disconnect", "discard-younger-primary", "discard-older-primary", "discard-zero-changes", "discard-least-changes",
        "discard-local", "discard-remote", "consensus", "discard-secondary", "call-pri-lost-after-sb", "violently-as0p",
    ]

    private func flags(_ flags: DataFlags) -> String {
        names(
            UInt64(flags.rawValue),
            [
                "", "RW_SYNC", "MAY_SET_IN_SYNC", "UNPLUG", "FUA", "FLUSH", "DISCARD", "SEND_RECEIVE_ACK", "SEND_WRITE_ACK",
                "WSAME", "ZEROES",
            ])
    }

    private func names(_ value: UInt64, _ table: [String]) -> String {
        let words = table.enumerated().filter { value >> UInt64($0.offset) & 1 == 1 }.map(\.element)
        return words.isEmpty ? "0" : words.joined(separator: "|")
    }

    private func hex(_ value: UInt64) -> String { String(format: "%016lx", value) }
    private func hex32(_ value: UInt32) -> String { String(format: "%08x", value) }

    private func id(_ value: UInt64) -> String {
        switch value {
        case .max: "SYNCER"
        case 4711: "IN_SYNC"
        case 4712: "OUT_OF_SYNC"
        default: hex(value)
        }
    }
}
