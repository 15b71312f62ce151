@testable import ReplicaProto

/// What the tests of the NBD side share: a client's bytes, and a reader of what the server says.
enum NBDTest {
    static let export = NBDExport(name: "r0", description: "replicated device", size: 1 << 30)

    static func be<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

    static func option(_ code: UInt32, _ data: [UInt8] = []) -> [UInt8] {
        Array("IHAVEOPT".utf8) + be(code) + be(UInt32(data.count)) + data
    }

    static func exportRequest(_ code: UInt32, _ name: String, info: [UInt16] = []) -> [UInt8] {
        option(code, be(UInt32(name.utf8.count)) + Array(name.utf8) + be(UInt16(info.count)) + info.flatMap { be($0) })
    }

    static func request(
        _ type: UInt16, flags: UInt16 = 0, cookie: UInt64 = 7, offset: UInt64, length: UInt32
    ) -> [UInt8] {
        be(0x2560_9513 as UInt32) + be(flags) + be(type) + be(cookie) + be(offset) + be(length)
    }

    static func decode(_ bytes: [UInt8]) -> NBDRequest? { NBDRequest(decoding: bytes.span.bytes) }

    struct OptionReply: Equatable {
        var option: UInt32
        var type: UInt32
        var data: [UInt8]
        var text: String { String(decoding: data, as: UTF8.self) }
    }

    /// Cuts a server's bytes into option replies; nil for anything else.
    static func optionReplies(_ bytes: [UInt8]) -> [OptionReply]? {
        var replies: [OptionReply] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            guard rest.count >= 20 else { return nil }
            let head = Array(rest.prefix(20))
            guard number(head[0..<8]) == 0x0003_e889_0455_65a9 else { return nil }
            let length = Int(number(head[16..<20]))
            guard rest.count >= 20 + length else { return nil }
            replies.append(
                OptionReply(
                    option: UInt32(number(head[8..<12])), type: UInt32(number(head[12..<16])),
                    data: Array(rest.dropFirst(20).prefix(length))))
            rest = rest.dropFirst(20 + length)
        }
        return replies
    }

    static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 { bytes.reduce(0) { $0 << 8 | UInt64($1) } }
}

/// A server that answers the handshake's questions from a list of exports, and remembers everything.
struct NBDTestServer {
    var handshake: NBDHandshake
    var output: [UInt8] = []
    var steps: [NBDHandshake.Step] = []
    var consumed = 0
    /// Exports that exist and may not be used.
    var refused: [String: (NBDHandshake.Refusal, String)] = ["other": (.policy, "r0 is Secondary")]

    init() {
        var greeting: [UInt8] = []
        handshake = NBDHandshake(greetingInto: &greeting)
        output = greeting
    }

    var isOver: Bool {
        switch steps.last {
        case .ready, .ended: true
        default: false
        }
    }

    mutating func feed(_ bytes: [UInt8]) {
        var rest = bytes
        while !isOver {
            let (used, step) = handshake.receive(rest.span.bytes, into: &output)
            consumed += used
            rest.removeFirst(used)
            var answer = step
            switch step {
            case .needsBytes: return
            case .wantsList:
                steps.append(step)
                answer = handshake.answerList(["r0", "other"], into: &output)
            case .wantsExport(let name, _):
                steps.append(step)
                if name == "r0" || name.isEmpty {
                    answer = handshake.accept(NBDTest.export, into: &output)
                } else if let (refusal, text) = refused[name] {
                    answer = handshake.refuse(refusal, text: text, into: &output)
                } else {
                    answer = handshake.refuse(.unknown, text: "no export \(name)", into: &output)
                }
            case .ready, .ended: break
            }
            if answer != .needsBytes { steps.append(answer) }
        }
    }
}
