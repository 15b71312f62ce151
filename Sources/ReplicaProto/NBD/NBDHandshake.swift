/// The server's side of the fixed newstyle handshake: options are haggled until the client opens an export.
///
/// The machine holds no socket. Feed it what arrives; it appends what is to be sent and says what comes next:
///
///     var handshake = NBDHandshake(greetingInto: &output)
///     let (consumed, step) = handshake.receive(bytes, into: &output)
///
/// `.wantsExport` and `.wantsList` are questions: answer them (`accept`, `refuse`, `answerList`) before feeding on.
/// After `.ready` the bytes behind `consumed` are requests.
///
/// Everything that a client can make it keep is bounded: one option of `Limits.nbdOptionBytes`, and
/// `Limits.nbdOptions` options.
///
/// Source: `doc/proto.md` of the NBD project, "Fixed newstyle negotiation".
package struct NBDHandshake: Sendable {
    /// What the client waits for.
    package enum Step: Equatable, Sendable {
        /// More bytes.
        case needsBytes
        /// `accept` or `refuse`: does the export exist, may it be used?
        case wantsExport(name: String, purpose: Purpose)
        /// `answerList`: the names of all exports.
        case wantsList
        /// The handshake is over, requests follow.
        case ready(NBDAgreement)
        /// Send the output, then close.
        case ended(Ending)
    }

    /// Why the client names an export.
    package enum Purpose: Equatable, Sendable {
        /// NBD_OPT_EXPORT_NAME: to use it; a refusal can only be said by closing.
        case exportName
        /// NBD_OPT_INFO: to hear about it.
        case info
        /// NBD_OPT_GO: to use it.
        case go
    }

    package enum Ending: Equatable, Sendable {
        /// NBD_OPT_ABORT
        case aborted
        /// NBD_OPT_EXPORT_NAME of an export that was refused.
        case refused
        /// The client does not speak the protocol, or says too much.
        case protocolError
    }

    /// Why an export can't be had.
    package enum Refusal: Equatable, Sendable {
        /// NBD_REP_ERR_UNKNOWN
        case unknown
        /// NBD_REP_ERR_POLICY
        case policy
        /// NBD_REP_ERR_SHUTDOWN
        case shutdown
    }

    private enum State: Sendable {
        case clientFlags
        case option
        case skipping(option: UInt32, left: UInt32)
        case asked(Question)
        case over(Step)
    }
    private enum Question: Sendable {
        case export(Purpose, wanted: WantedInfo)
        case list
    }
    private struct WantedInfo: Sendable {
        var name = false
        var description = false
    }

    private var state: State = .clientFlags
    /// What has arrived of the client flags or of one option.
    private var pending: [UInt8] = []
    private var options = 0
    /// Whether the client understands replies to options (NBD_FLAG_C_FIXED_NEWSTYLE).
    private var isFixed = false
    /// NBD_FLAG_C_NO_ZEROES
    private var omitsZeroes = false
    private var structuredReplies = false

    /// Begins with the server's greeting.
    package init(greetingInto output: inout [UInt8]) {
        output.appendBE(NBDHandshake.magic)
        output.appendBE(NBDHandshake.optionMagic)
        output.appendBE(3 as UInt16)  // NBD_FLAG_FIXED_NEWSTYLE, NBD_FLAG_NO_ZEROES
    }

    /// Takes bytes from the client up to the next thing that needs an answer.
    ///
    /// - Returns: how many of `bytes` were used, and what comes next. Whatever was not used is to be given again.
    package mutating func receive(_ bytes: RawSpan, into output: inout [UInt8]) -> (consumed: Int, step: Step) {
        var consumed = 0
        while true {
            switch state {
            case .over(let step): return (consumed, step)
            case .asked: invariant(false, "a question of the handshake is answered before more bytes are given")
            case .skipping(let option, let left):
                let count = min(Int(left), bytes.byteCount &- consumed)
                consumed &+= count
                let rest = left &- UInt32(truncatingIfNeeded: count)
                if rest != 0 {
                    state = .skipping(option: option, left: rest)
                    return (consumed, .needsBytes)
                }
                state = .option
                reply(to: option, .tooBig, text: "option is too long", into: &output)
            case .clientFlags:
                guard gather(4, from: bytes, at: &consumed) else { return (consumed, .needsBytes) }
                let flags = pendingBE32(at: 0)
                pending.removeAll(keepingCapacity: true)
                guard flags & ~3 == 0 else { return (consumed, end(.protocolError)) }
                isFixed = flags & 1 != 0
                omitsZeroes = flags & 2 != 0
                state = .option
            case .option:
                guard gather(NBDHandshake.optionHeaderSize, from: bytes, at: &consumed) else {
                    return (consumed, .needsBytes)
                }
                guard pendingBE32(at: 0) == UInt32(truncatingIfNeeded: NBDHandshake.optionMagic >> 32),
                    pendingBE32(at: 4) == UInt32(truncatingIfNeeded: NBDHandshake.optionMagic)
                else { return (consumed, end(.protocolError)) }
                let code = pendingBE32(at: 8)
                let length = pendingBE32(at: 12)
                if length > Limits.nbdOptionBytes {
                    pending.removeAll(keepingCapacity: true)
                    options &+= 1
                    guard length <= Limits.nbdSkippedOptionBytes, options <= Limits.nbdOptions, isFixed,
                        code != NBDOption.exportName.rawValue
                    else { return (consumed, end(.protocolError)) }
                    state = .skipping(option: code, left: length)
                    continue
                }
                guard gather(NBDHandshake.optionHeaderSize &+ Int(length), from: bytes, at: &consumed) else {
                    return (consumed, .needsBytes)
                }
                let data = Array(pending[NBDHandshake.optionHeaderSize...])
                pending.removeAll(keepingCapacity: true)
                options &+= 1
                guard options <= Limits.nbdOptions else { return (consumed, end(.protocolError)) }
                if let step = take(code, data, into: &output) { return (consumed, step) }
            }
        }
    }

    /// The export that was asked for exists and may be used.
    package mutating func accept(_ export: NBDExport, into output: inout [UInt8]) -> Step {
        guard case .asked(.export(let purpose, let wanted)) = state else {
            invariant(false, "an export is accepted only after it was asked for")
            return end(.protocolError)
        }
        var export = export
        if !structuredReplies { export.flags.remove(.dontFragment) }
        let agreement = NBDAgreement(export: export, structuredReplies: structuredReplies)
        if purpose == .exportName {
            output.appendBE(export.size)
            output.appendBE(export.flags.rawValue)
            if !omitsZeroes { output.append(contentsOf: repeatElement(0, count: 124)) }
            state = .over(.ready(agreement))
            return .ready(agreement)
        }
        let option: NBDOption = purpose == .go ? .go : .info
        var info: [UInt8] = []
        info.appendBE(0 as UInt16)  // NBD_INFO_EXPORT
        info.appendBE(export.size)
        info.appendBE(export.flags.rawValue)
        reply(to: option.rawValue, .info, info, into: &output)
        if wanted.name { replyText(1, export.name, to: option, into: &output) }
        if wanted.description && !export.description.isEmpty { replyText(2, export.description, to: option, into: &output) }
        info.removeAll(keepingCapacity: true)
        info.appendBE(3 as UInt16)  // NBD_INFO_BLOCK_SIZE
        info.appendBE(export.minimumBlock)
        info.appendBE(export.preferredBlock)
        info.appendBE(export.maximumPayload)
        reply(to: option.rawValue, .info, info, into: &output)
        reply(to: option.rawValue, .ack, [], into: &output)
        guard purpose == .go else {
            state = .option
            return .needsBytes
        }
        state = .over(.ready(agreement))
        return .ready(agreement)
    }

    /// The export that was asked for can't be had; `text` says why to whoever reads the client's messages.
    package mutating func refuse(_ refusal: Refusal, text: String, into output: inout [UInt8]) -> Step {
        guard case .asked(.export(let purpose, _)) = state else {
            invariant(false, "an export is refused only after it was asked for")
            return end(.protocolError)
        }
        if purpose == .exportName { return end(.refused) }
        let type: ReplyType
        switch refusal {
        case .unknown: type = .unknown
        case .policy: type = .policy
        case .shutdown: type = .shutdown
        }
        reply(to: (purpose == .go ? NBDOption.go : .info).rawValue, type, text: text, into: &output)
        state = .option
        return .needsBytes
    }

    /// The names of all exports.
    package mutating func answerList(_ names: [String], into output: inout [UInt8]) -> Step {
        guard case .asked(.list) = state else {
            invariant(false, "exports are listed only when asked for")
            return end(.protocolError)
        }
        for name in names {
            var server: [UInt8] = []
            server.appendBE(UInt32(truncatingIfNeeded: name.utf8.count))
            server.append(contentsOf: name.utf8)
            reply(to: NBDOption.list.rawValue, .server, server, into: &output)
        }
        reply(to: NBDOption.list.rawValue, .ack, [], into: &output)
        state = .option
        return .needsBytes
    }

    // MARK: Options

    /// Answers one option. Nil: go on with the next.
    private mutating func take(_ code: UInt32, _ data: [UInt8], into output: inout [UInt8]) -> Step? {
        let option = NBDOption(rawValue: code)
        // A client that doesn't know replies to options may only name its export.
        guard isFixed || option == .exportName else { return end(.protocolError) }
        switch option {
        case .exportName:
            guard let name = exportName(data[...]) else { return end(.refused) }
            state = .asked(.export(.exportName, wanted: WantedInfo()))
            return .wantsExport(name: name, purpose: .exportName)
        case .abort:
            reply(to: code, .ack, [], into: &output)
            return end(.aborted)
        case .list:
            guard data.isEmpty else {
                reply(to: code, .invalid, text: "NBD_OPT_LIST has no data", into: &output)
                return nil
            }
            state = .asked(.list)
            return .wantsList
        case .info, .go:
            guard let (name, wanted) = infoRequest(data) else {
                reply(to: code, .invalid, text: "malformed request for an export", into: &output)
                return nil
            }
            let purpose: Purpose = option == .go ? .go : .info
            state = .asked(.export(purpose, wanted: wanted))
            return .wantsExport(name: name, purpose: purpose)
        case .structuredReply:
            guard data.isEmpty else {
                reply(to: code, .invalid, text: "NBD_OPT_STRUCTURED_REPLY has no data", into: &output)
                return nil
            }
            structuredReplies = true
            reply(to: code, .ack, [], into: &output)
            return nil
        case .startTLS, .listMetaContext, .setMetaContext, nil:
            reply(to: code, .unsupported, [], into: &output)
            return nil
        }
    }

    /// Name length u32, name, count u16, that many information numbers u16.
    private func infoRequest(_ data: [UInt8]) -> (String, WantedInfo)? {
        guard data.count >= 6 else { return nil }
        let nameLength = Int(data.readBE(at: 0, bytes: 4))
        guard nameLength <= data.count &- 6 else { return nil }
        let count = Int(data.readBE(at: 4 &+ nameLength, bytes: 2))
        guard data.count == 6 &+ nameLength &+ 2 &* count, let name = exportName(data[4..<4 &+ nameLength]) else {
            return nil
        }
        var wanted = WantedInfo()
        for index in 0..<count {
            switch data.readBE(at: 6 &+ nameLength &+ 2 &* index, bytes: 2) {
            case 1: wanted.name = true
            case 2: wanted.description = true
            default: break  // NBD_INFO_EXPORT and NBD_INFO_BLOCK_SIZE are always told, others unknown
            }
        }
        return (name, wanted)
    }

    /// At most 4096 bytes of UTF-8 without NUL; empty means the default export.
    private func exportName(_ bytes: ArraySlice<UInt8>) -> String? {
        guard bytes.count <= Limits.nbdNameBytes, !bytes.contains(0) else { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    // MARK: Replies

    private enum ReplyType: UInt32 {
        /// NBD_REP_ACK
        case ack = 1
        /// NBD_REP_SERVER
        case server = 2
        /// NBD_REP_INFO
        case info = 3
        /// NBD_REP_ERR_UNSUP
        case unsupported = 0x8000_0001
        /// NBD_REP_ERR_POLICY
        case policy = 0x8000_0002
        /// NBD_REP_ERR_INVALID
        case invalid = 0x8000_0003
        /// NBD_REP_ERR_UNKNOWN
        case unknown = 0x8000_0006
        /// NBD_REP_ERR_SHUTDOWN
        case shutdown = 0x8000_0007
        /// NBD_REP_ERR_TOO_BIG
        case tooBig = 0x8000_0009
    }

    private func reply(to option: UInt32, _ type: ReplyType, _ data: [UInt8], into output: inout [UInt8]) {
        output.appendBE(NBDHandshake.replyMagic)
        output.appendBE(option)
        output.appendBE(type.rawValue)
        output.appendBE(UInt32(truncatingIfNeeded: data.count))
        output.append(contentsOf: data)
    }

    private func reply(to option: UInt32, _ type: ReplyType, text: String, into output: inout [UInt8]) {
        reply(to: option, type, Array(text.utf8.prefix(Limits.nbdNameBytes)), into: &output)
    }

    private func replyText(_ kind: UInt16, _ text: String, to option: NBDOption, into output: inout [UInt8]) {
        var info: [UInt8] = []
        info.appendBE(kind)
        info.append(contentsOf: text.utf8.prefix(Limits.nbdNameBytes))
        reply(to: option.rawValue, .info, info, into: &output)
    }

    private mutating func end(_ ending: Ending) -> Step {
        state = .over(.ended(ending))
        return .ended(ending)
    }

    // MARK: Input

    /// Fills `pending` up to `count` bytes. False: there aren't that many yet.
    private mutating func gather(_ count: Int, from bytes: RawSpan, at consumed: inout Int) -> Bool {
        let wanted = min(count &- pending.count, bytes.byteCount &- consumed)
        if wanted > 0 {
            pending.append(contentsOf: bytes.readBytes(at: consumed, count: wanted))
            consumed &+= wanted
        }
        return pending.count >= count
    }

    private func pendingBE32(at offset: Int) -> UInt32 {
        UInt32(truncatingIfNeeded: pending.readBE(at: offset, bytes: 4))
    }

    /// "NBDMAGIC"
    private static let magic: UInt64 = 0x4e42_444d_4147_4943
    /// "IHAVEOPT"
    private static let optionMagic: UInt64 = 0x4948_4156_454f_5054
    private static let replyMagic: UInt64 = 0x0003_e889_0455_65a9
    private static let optionHeaderSize = 16
}

/// What client and server agreed on for the requests that follow.
package struct NBDAgreement: Equatable, Sendable {
    /// The export with the flags that were announced.
    package var export: NBDExport
    /// Reads are answered by structured chunks.
    package var structuredReplies: Bool

    package init(export: NBDExport, structuredReplies: Bool) {
        self.export = export
        self.structuredReplies = structuredReplies
    }
}

/// NBD_OPT_*
package enum NBDOption: UInt32, Equatable, Sendable, CaseIterable {
    /// NBD_OPT_EXPORT_NAME
    case exportName = 1
    /// NBD_OPT_ABORT
    case abort = 2
    /// NBD_OPT_LIST
    case list = 3
    /// NBD_OPT_STARTTLS
    case startTLS = 5
    /// NBD_OPT_INFO
    case info = 6
    /// NBD_OPT_GO
    case go = 7
    /// NBD_OPT_STRUCTURED_REPLY
    case structuredReply = 8
    /// NBD_OPT_LIST_META_CONTEXT
    case listMetaContext = 9
    /// NBD_OPT_SET_META_CONTEXT
    case setMetaContext = 10
}

extension [UInt8] {
    fileprivate mutating func appendBE<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
        var shift = T.bitWidth
        while shift > 0 {
            shift &-= 8
            append(UInt8(truncatingIfNeeded: value >> T(shift)))
        }
    }

    fileprivate func readBE(at offset: Int, bytes: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in offset..<offset &+ bytes { value = value << 8 | UInt64(self[index]) }
        return value
    }
}
