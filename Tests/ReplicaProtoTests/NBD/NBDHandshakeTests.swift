import Testing

@testable import ReplicaProto

/// The fixed newstyle handshake as `doc/proto.md` of the NBD project describes it, step by step.
@Suite struct NBDHandshakeTests {
    private let fixedFlags = NBDTest.be(3 as UInt32)

    /// What the server said after its greeting.
    private func talk(_ bytes: [UInt8]) -> (server: NBDTestServer, replies: [NBDTest.OptionReply]?) {
        var server = NBDTestServer()
        let greeting = server.output.count
        server.feed(bytes)
        return (server, NBDTest.optionReplies(Array(server.output[greeting...])))
    }

    @Test("greeting: NBDMAGIC, IHAVEOPT, fixed newstyle and no zeroes")
    func greeting() {
        #expect(NBDTestServer().output == Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
    }

    @Test("NBD_OPT_GO: export, block sizes, acknowledgement, then requests")
    func go() throws {
        let (server, replies) = talk(fixedFlags + NBDTest.exportRequest(7, "r0", info: [3]) + [0x25, 0x60])
        #expect(server.steps.first == .wantsExport(name: "r0", purpose: .go))
        var export = NBDTest.export
        export.flags.remove(.dontFragment)
        #expect(server.steps.last == .ready(NBDAgreement(export: export, structuredReplies: false)))
        #expect(server.consumed == 4 + 16 + 4 + 2 + 2 + 2, "the first request is not the handshake's")
        #expect(
            replies == [
                NBDTest.OptionReply(option: 7, type: 3, data: [0, 0] + NBDTest.be(1 << 30 as UInt64) + [0x05, 0x6d]),
                NBDTest.OptionReply(
                    option: 7, type: 3,
                    data: [0, 3] + NBDTest.be(512 as UInt32) + NBDTest.be(4096 as UInt32) + NBDTest.be(33_554_432 as UInt32)),
                NBDTest.OptionReply(option: 7, type: 1, data: []),
            ])
    }

    @Test("NBD_OPT_INFO: the same and no requests; name and description where asked")
    func info() throws {
        let (server, replies) = talk(
            fixedFlags + NBDTest.option(8) + NBDTest.exportRequest(6, "", info: [1, 2, 3, 77])
                + NBDTest.exportRequest(7, "r0"))
        let all = try #require(replies)
        #expect(all.map(\.type) == [1, 3, 3, 3, 3, 1, 3, 3, 1])
        #expect(all[1].data.suffix(2) == [0x05, 0xed], "with structured replies reads need not be in fragments")
        #expect(all[2].data == [0, 1] + Array("r0".utf8))
        #expect(all[3].data == [0, 2] + Array("replicated device".utf8))
        #expect(server.steps.count == 3)
        #expect(server.steps.first == .wantsExport(name: "", purpose: .info))
        #expect(server.steps.last == .ready(NBDAgreement(export: NBDTest.export, structuredReplies: true)))
    }

    @Test("NBD_OPT_GO refused: the reason is told and the client may go on")
    func refused() throws {
        let (server, replies) = talk(
            fixedFlags + NBDTest.exportRequest(7, "other") + NBDTest.exportRequest(6, "nothing") + NBDTest.option(2))
        let all = try #require(replies)
        #expect(all.map(\.type) == [0x8000_0002, 0x8000_0006, 1])
        #expect(all.map(\.option) == [7, 6, 2])
        #expect(all[0].text == "r0 is Secondary" && all[1].text == "no export nothing")
        #expect(server.steps.last == .ended(.aborted))
    }

    @Test("NBD_OPT_EXPORT_NAME: size and flags, with 124 zeroes for clients that want them", arguments: [1, 3] as [UInt32])
    func exportName(flags: UInt32) {
        let (server, _) = talk(NBDTest.be(flags) + NBDTest.option(1, Array("r0".utf8)))
        let zeroes = [UInt8](repeating: 0, count: flags & 2 == 0 ? 124 : 0)
        #expect(Array(server.output[18...]) == NBDTest.be(1 << 30 as UInt64) + [0x05, 0x6d] + zeroes)
        #expect(server.steps.first == .wantsExport(name: "r0", purpose: .exportName))
    }

    @Test("NBD_OPT_EXPORT_NAME refused: there is no way to say so but to close")
    func exportNameRefused() {
        let (server, _) = talk(fixedFlags + NBDTest.option(1, Array("other".utf8)))
        #expect(server.output.count == 18 && server.steps.last == .ended(.refused))
    }

    @Test("a client of the old newstyle may name its export and nothing else")
    func oldNewstyle() {
        let (named, _) = talk(NBDTest.be(0 as UInt32) + NBDTest.option(1))
        #expect(named.output.count == 18 + 10 + 124)
        for code in [2, 3, 6, 7, 8, 99] as [UInt32] {
            let (server, _) = talk(NBDTest.be(0 as UInt32) + NBDTest.option(code))
            #expect(server.output.count == 18 && server.steps.last == .ended(.protocolError))
        }
    }

    @Test("NBD_OPT_LIST: one reply for each export")
    func list() throws {
        let (server, replies) = talk(fixedFlags + NBDTest.option(3) + NBDTest.option(3, [0]))
        let all = try #require(replies)
        #expect(all.map(\.type) == [2, 2, 1, 0x8000_0003])
        #expect(all[0].data == NBDTest.be(2 as UInt32) + Array("r0".utf8))
        #expect(all[1].data == NBDTest.be(5 as UInt32) + Array("other".utf8))
        #expect(server.steps == [.wantsList])
    }

    @Test(
        "options that we don't have are declined, one by one", arguments: [0, 4, 5, 9, 10, 11, 12, 0x8000_0000] as [UInt32])
    func unknown(code: UInt32) throws {
        let (_, replies) = talk(fixedFlags + NBDTest.option(code, [1, 2, 3]) + NBDTest.option(2))
        #expect(replies?.map(\.type) == [0x8000_0001, 1])
        #expect(replies?.first?.option == code)
    }

    @Test("malformed requests for an export are NBD_REP_ERR_INVALID", arguments: [6, 7] as [UInt32])
    func malformed(code: UInt32) throws {
        let bad: [[UInt8]] = [
            [], [0], [0, 0, 0, 0], [0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0],  // the name would overlap the count
            [0, 0, 0, 0, 0, 1],  // one information number missing
            [0, 0, 0, 0, 0, 0, 0],  // a byte too many
            [0xff, 0xff, 0xff, 0xff, 0, 0], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            NBDTest.be(1 as UInt32) + [0x00, 0, 0],  // NUL in the name
            NBDTest.be(2 as UInt32) + [0xc3, 0x28, 0, 0],  // no UTF-8
            NBDTest.be(4097 as UInt32) + [UInt8](repeating: 0x61, count: 4097) + [0, 0],
            NBDTest.be(0 as UInt32) + [0xff, 0xff] + [0, 3],
        ]
        for data in bad {
            let (server, replies) = talk(fixedFlags + NBDTest.option(code, data))
            #expect(replies?.map(\.type) == [0x8000_0003], "\(data.prefix(12))")
            #expect(server.steps.isEmpty)
        }
        let longest = String(repeating: "a", count: 4096)
        let (server, _) = talk(fixedFlags + NBDTest.exportRequest(code, longest))
        #expect(server.steps.first == .wantsExport(name: longest, purpose: code == 7 ? .go : .info))
    }

    @Test("long options are read away with an error, longer ones end the connection, and so do too many")
    func bounds() throws {
        let (_, replies) = talk(
            fixedFlags + NBDTest.option(7, [UInt8](repeating: 0, count: 65_536)) + NBDTest.option(8))
        #expect(replies?.map(\.type) == [0x8000_0009, 1])
        let (huge, _) = talk(fixedFlags + Array("IHAVEOPT".utf8) + NBDTest.be(7 as UInt32) + NBDTest.be(65_537 as UInt32))
        #expect(huge.steps == [.ended(.protocolError)])
        let (largest, _) = talk(fixedFlags + Array("IHAVEOPT".utf8) + NBDTest.be(7 as UInt32) + NBDTest.be(UInt32.max))
        #expect(largest.steps == [.ended(.protocolError)])
        let (named, _) = talk(fixedFlags + Array("IHAVEOPT".utf8) + NBDTest.be(1 as UInt32) + NBDTest.be(9000 as UInt32))
        #expect(named.steps == [.ended(.protocolError)])
        let (many, _) = talk(fixedFlags + (0..<Limits.nbdOptions + 1).flatMap { _ in NBDTest.option(99) })
        #expect(many.steps == [.ended(.protocolError)])
        #expect(many.output.count == 18 + 20 * Limits.nbdOptions)
    }

    @Test("whoever does not speak the protocol is dropped")
    func noProtocol() {
        for bytes in [Array("GET / HTTP/1.0\r\n\r\n".utf8), NBDTest.be(4 as UInt32), NBDTest.be(0x8000_0003 as UInt32)] {
            let (server, _) = talk(bytes)
            #expect(server.steps == [.ended(.protocolError)] && server.output.count == 18)
        }
        var option = NBDTest.option(2)
        option[7] ^= 1
        let (server, _) = talk(fixedFlags + option)
        #expect(server.steps == [.ended(.protocolError)])
    }

    private var conversation: [UInt8] {
        fixedFlags + NBDTest.option(8) + NBDTest.option(10, [1, 2, 3]) + NBDTest.option(3)
            + NBDTest.option(7, [UInt8](repeating: 0, count: 9000)) + NBDTest.exportRequest(6, "other", info: [3, 0])
            + NBDTest.exportRequest(7, "r0", info: [1, 2, 3])
    }

    @Test("a conversation byte by byte and in pieces says the same as whole", arguments: [1, 2, 3, 5, 17, 64, 1000])
    func pieces(piece: Int) {
        let (whole, _) = talk(conversation)
        var server = NBDTestServer()
        var position = 0
        while position < conversation.count {
            let end = min(position + piece, conversation.count)
            server.feed(Array(conversation[position..<end]))
            position = end
        }
        #expect(server.output == whole.output && server.steps == whole.steps && server.consumed == conversation.count)
    }

    @Test("a conversation cut anywhere waits for more")
    func cut() {
        let all = conversation
        for count in stride(from: 0, to: all.count, by: 7) {
            var server = NBDTestServer()
            server.feed(Array(all[..<count]))
            #expect(!server.isOver && server.consumed == count)
            server.feed(Array(all[count...]))
            #expect(server.isOver)
        }
    }

    @Test("random options and flipped bits: bounded, never a trap", arguments: Seeds.thisRun)
    func noise(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<2000 {
            var bytes = conversation
            if Bool.random(using: &random) {
                bytes = fixedFlags
                for _ in 0..<Int.random(in: 1...6, using: &random) {
                    let code = UInt32.random(in: 0...11, using: &random)
                    let data = WireTest.randomBytes(Int.random(in: 0...40, using: &random), &random)
                    bytes += NBDTest.option(code, Bool.random(using: &random) ? data : [0, 0, 0] + data)
                }
            }
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                bytes[Int.random(in: 0..<min(bytes.count, 200), using: &random)] ^=
                    1 << UInt8.random(in: 0...7, using: &random)
            }
            var server = NBDTestServer()
            var position = 0
            while position < bytes.count && !server.isOver {
                let end = min(bytes.count, position + Int.random(in: 1...4000, using: &random))
                server.feed(Array(bytes[position..<end]))
                position = end
            }
            if server.output.count > 18 + 100 * 200 { Issue.record("said too much") }
        }
    }
}
