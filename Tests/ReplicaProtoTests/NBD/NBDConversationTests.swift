import Foundation
import Testing

@testable import ReplicaProto

/// Conversations of real clients with another server (`Vectors/nbd/README`), had again with ours.
@Suite struct NBDConversationTests {
    struct Conversation: Sendable, CustomTestStringConvertible {
        var name: String
        var client: [UInt8]
        var server: [UInt8]
        var testDescription: String { name }
    }

    static let all: [Conversation] = {
        let file = Bundle.module.resourceURL!.appendingPathComponent("Vectors/nbd/conversations.jsonl.gz")
        guard let data = try? VectorFile.unzip(file) else { return [] }
        return data.split(separator: UInt8(ascii: "\n")).compactMap { line in
            guard let object = try? JSONSerialization.jsonObject(with: Data(line)) as? [String: String] else { return nil }
            return Conversation(
                name: object["name"]!, client: WireTest.bytes(object["client"]!), server: WireTest.bytes(object["server"]!))
        }
    }()

    /// Option replies in front of `bytes`, up to whatever is none.
    private func replies(_ bytes: [UInt8]) -> [NBDTest.OptionReply] {
        var count = 0
        while count + 20 <= bytes.count, NBDTest.number(bytes[count..<count + 8]) == 0x0003_e889_0455_65a9 {
            let length = Int(NBDTest.number(bytes[count + 16..<count + 20]))
            guard count + 20 + length <= bytes.count else { break }
            count += 20 + length
        }
        return NBDTest.optionReplies(Array(bytes[..<count])) ?? []
    }

    @Test("all nine were found")
    func present() { #expect(Self.all.count == 9) }

    @Test("the handshake ends as it ended there, and what follows are good requests", arguments: all, [1, 13, 100_000])
    func replay(conversation: Conversation, piece: Int) throws {
        var server = NBDTestServer()
        var position = 0
        while position < conversation.client.count && !server.isOver {
            let end = min(position + piece, conversation.client.count)
            server.feed(Array(conversation.client[position..<end]))
            position = end
        }
        #expect(server.output.prefix(18).elementsEqual(conversation.server.prefix(18)))

        // Each option comes to the same end, but for metadata contexts, which we don't have.
        let ours = replies(Array(server.output[18...])).filter { $0.type != 3 && $0.type != 2 }
        let theirs = replies(Array(conversation.server[18...])).filter { $0.type != 3 && $0.type != 2 && $0.type != 4 }
        #expect(ours.map(\.option) == theirs.map(\.option) && !ours.isEmpty)
        for (our, their) in zip(ours, theirs) {
            let isContext = our.option == 9 || our.option == 10
            #expect(our.type == (isContext ? 0x8000_0001 : their.type), "option \(our.option)")
        }

        guard case .ready(let agreement) = server.steps.last else {
            #expect(server.consumed == conversation.client.count, "nothing but options")
            return
        }
        #expect(agreement.export.name == "r0")
        var rest = conversation.client[server.consumed...]
        while let request = NBDTest.decode(Array(rest.prefix(28))) {
            let verdict = request.judge(
                NBDExport(name: "r0", size: 1 << 20), structuredReplies: agreement.structuredReplies)
            if request.command == .blockStatus {
                #expect(verdict == .refuse(.invalid))
            } else if case .refuse = verdict {
                Issue.record("\(request) was refused")
            }
            rest = rest.dropFirst(28 + request.payloadLength)
            if verdict == .disconnect { break }
        }
        #expect(rest.isEmpty, "the stream ends with a request")
    }
}
