import Testing

@testable import ReplicaProto

/// Header forms by agreed version (`wire.md` 2.2) and the lengths that each command may have (2.3).
@Suite struct PacketHeaderTests {
    enum Form: String, CaseIterable { case h80, h95, h100 }

    static func header(_ form: Form, _ command: UInt16, length: UInt32, volume: UInt16 = 0, pad: UInt32 = 0) -> [UInt8] {
        func be<T: FixedWidthInteger>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
        switch form {
        case .h80: return be(0x8374_0267 as UInt32) + be(command) + be(UInt16(truncatingIfNeeded: length))
        case .h95: return be(0x835a as UInt16) + be(command) + be(length)
        case .h100: return be(0x8620_ec20 as UInt32) + be(volume) + be(command) + be(length) + be(pad)
        }
    }

    @Test("item 6: which header forms a version accepts", arguments: 86...101 as ClosedRange<UInt32>, Form.allCases)
    func acceptedForms(version: UInt32, form: Form) throws {
        let format = WireFormat(version: version, features: .all)
        var bytes = Self.header(form, 0x0e, length: 4) + [0, 0, 0xd0, 0x82]
        bytes += [UInt8](repeating: 0, count: 16)
        let accepted = (form == .h100) == (version >= 100)
        if accepted {
            let got = try #require(try WireTest.decode(bytes, stream: .data, format: format))
            #expect(got.packet == .state(0xd082))
            #expect(got.header.headerSize == (form == .h100 ? 16 : 8))
        } else {
            #expect(throws: PacketError.self) { try WireTest.decode(bytes, stream: .data, format: format) }
        }
    }

    @Test("item 6: which header form a version sends", arguments: 86...101 as ClosedRange<UInt32>)
    func sentForms(version: UInt32) {
        let format = WireFormat(version: version, features: .all)
        for length in [0, 512, 32_768 - 24, 32_768, 131_072, 1 << 20] where version >= 95 || length <= 32_768 {
            let data = DataPacket(sector: Sector(0), blockID: 1, byteCount: UInt32(length))
            let bytes = WireTest.encode(.dataReply(data), payloadLength: length, format: format)
            let form: Form = version >= 100 ? .h100 : version >= 95 && length + 24 > 32_768 ? .h95 : .h80
            #expect(Array(bytes.prefix(bytes.count - 24)) == Self.header(form, 1, length: UInt32(length) + 24))
        }
    }

    @Test("item 6: the volume stands in the header of per-volume packets and reads as 0 elsewhere")
    func volumes() throws {
        for command in PacketCommand.allCases where command.shape.sinceVersion > 0 {
            let stream: StreamKind = command.shape.streams == .meta ? .meta : .data
            let length = try #require(Self.goodLengths(command, WireTest.format101).first)
            let bytes = Self.header(.h100, command.rawValue, length: UInt32(length), volume: 0x1234)
            let header = try #require(try WireTest.header(bytes, stream: stream, format: WireTest.format101))
            #expect(header.volume.value == (command.shape.volumeUse == .named ? 0x1234 : 0), "\(command.name)")
        }
        let below = try WireTest.header(
            Self.header(.h80, 0x0e, length: 4), stream: .data, format: WireFormat(version: 96, features: []))
        #expect(below?.volume.value == 0)
    }

    @Test("a header that is not complete is nil, a wrong one an error")
    func errors() throws {
        let good = Self.header(.h100, 0x0e, length: 4)
        for count in 0..<16 {
            #expect(try WireTest.header(Array(good[..<count]), stream: .data, format: WireTest.format101) == nil)
        }
        func error(_ bytes: [UInt8], _ stream: StreamKind = .data, _ format: WireFormat = WireTest.format101) -> PacketError?
        {
            do throws(PacketError) {
                _ = try WireTest.header(bytes, stream: stream, format: format)
                return nil
            } catch { return error }
        }
        #expect(error(Self.header(.h100, 0x0e, length: 4, pad: 1)) == .nonZeroPad(1))
        #expect(error(Self.header(.h80, 0x0e, length: 4) + good) == .badMagic(0x8374_0267))
        #expect(error(Self.header(.h100, 0x05, length: 0)) == .unknownCommand(5))
        #expect(error(Self.header(.h100, 0xfff2, length: 0)) == .unknownCommand(0xfff2))
        #expect(error(Self.header(.h100, 0xfffe, length: 72)) == .unknownCommand(0xfffe))
        #expect(error(Self.header(.h80, 0x0e, length: 4), .data, .initial) == .unknownCommand(0x0e))
        #expect(error(Self.header(.h100, 0x13, length: 0)) == .wrongStream(0x13))
        #expect(error(Self.header(.h100, 0x00, length: 536), .meta) == .wrongStream(0))
        #expect(error(Self.header(.h100, 0x0e, length: 5)) == .badLength(command: 0x0e, length: 5))
    }

    @Test("every command number of 16 bits is known exactly if the catalogue has it", arguments: StreamKind.both)
    func allNumbers(stream: StreamKind) {
        var wrong: [UInt16] = []
        for number in 0...0xffff as ClosedRange<UInt16> {
            let command = PacketCommand(rawValue: number)
            for format in [WireFormat.initial, WireTest.format101] {
                let form: Form = format.version == 0 ? .h80 : .h100
                var isKnown = true
                do throws(PacketError) {
                    _ = try WireTest.header(Self.header(form, number, length: 0), stream: stream, format: format)
                } catch {
                    if case .unknownCommand(number) = error { isKnown = false }
                }
                let belongs = command.map { ($0.shape.sinceVersion == 0) == (format.version == 0) } ?? false
                if isKnown != belongs { wrong.append(number) }
            }
        }
        #expect(wrong.isEmpty)
    }

    @Test("section 2.3: exactly the allowed lengths are accepted", arguments: PacketCommand.allCases)
    func lengths(command: PacketCommand) throws {
        let stream: StreamKind = command.shape.streams == .meta ? .meta : .data
        var formats: [WireFormat] = [
            WireFormat(version: 101, features: []), WireTest.format101,
            WireFormat(version: 101, features: .all, peerIntegrity: .sha1),
            WireFormat(version: 100, features: .all, peerIntegrity: .crc32c),
        ]
        formats += [86, 87, 88, 89, 94, 95, 99].map { WireFormat(version: $0, features: []) }
        if command.shape.sinceVersion == 0 { formats = [.initial] }
        // Collected, because an expectation costs more than what it looks at.
        var wrong: [(length: Int, format: WireFormat)] = []
        for format in formats {
            let form: Form = format.version >= 100 ? .h100 : format.version >= 95 ? .h95 : .h80
            var tried = Array(0...640) + Array(4050...4140)
            for base in [1 << 16, 1 << 20] {
                for head in [0, 24, 28, 24 + 4, 28 + 4, 24 + 20, 28 + 20] {
                    tried += [base + head - 512, base + head - 1, base + head, base + head + 1, base + head + 512]
                }
            }
            tried += [Int(UInt32.max), Int(Int32.max), 1 << 24]
            for length in tried where length >= 0 && (form != .h80 || length <= 0xffff) {
                let bytes = Self.header(form, command.rawValue, length: UInt32(length))
                do throws(PacketError) {
                    let header = try WireTest.header(bytes, stream: stream, format: format)!
                    let isConsistent =
                        header.fixedLength <= 4096 && header.digestLength <= header.payloadLength
                        && header.fixedLength + header.payloadLength == length
                    if !isConsistent || !Self.isGood(command, format, length) { wrong.append((length, format)) }
                } catch {
                    let isExpected = error == .badLength(command: command.rawValue, length: UInt32(length))
                    if !isExpected || Self.isGood(command, format, length) { wrong.append((length, format)) }
                }
            }
        }
        #expect(wrong.isEmpty, "\(command.name): \(wrong.prefix(5))")
    }

    /// The rules of `wire.md` 2.3, 3.3 and section 10 as plain as they can be said.
    static func isGood(_ command: PacketCommand, _ format: WireFormat, _ length: Int) -> Bool {
        let digest = format.integrityDigestSize
        let room = 4096 - (format.version >= 100 ? 16 : 8)
        switch command {
        case .data, .dataReply, .resyncDataReply:
            let data = length - 24 - digest
            return data >= 512 && data <= 1 << 20 && data % 512 == 0
        case .writeSame:
            let block = length - 28 - digest
            return block >= 512 && block <= 4096 && block % 512 == 0
        case .verifyReply, .checksumResyncRequest: return (25...88).contains(length)
        case .bitmap: return length <= room && length % 8 == 0
        case .compressedBitmap: return length >= 2 && length <= room
        case .authChallenge, .authResponse: return length <= room
        case .sizes: return length == (format.features.contains(.writeSame) ? 56 : 32)
        case .protocolParameters, .protocolUpdate: return format.version == 86 ? length == 24 : (24...88).contains(length)
        case .syncParameters, .syncParameters89:
            if format.version <= 87 { return length == 4 }
            if format.version == 88 { return (5...68).contains(length) }
            return length == (format.version <= 94 ? 132 : 148)
        default: return length == Int(command.shape.fixedSize)
        }
    }

    static func goodLengths(_ command: PacketCommand, _ format: WireFormat) -> [Int] {
        (0...2048).filter { isGood(command, format, $0) }
    }
}

extension StreamKind {
    static let both: [StreamKind] = [.data, .meta]
}
