/// Packets as text for logs and tools: one line each, with DRBD's own names, numbers with their units.
///
///     P_DATA vol 0 sector 2048 size 4096 id 0x00000000deadbeef seq 1 flags SEND_WRITE_ACK
///
/// Sectors count 512 bytes, sizes are bytes. Nothing here is on the data path.
extension Packet {
    /// The line for a packet of `volume`.
    ///
    /// - Parameter payloadLength: bytes behind the fixed part, named where the fixed part doesn't tell them.
    package func line(volume: VolumeNumber, format: WireFormat, payloadLength: Int = 0) -> String {
        let command = command(in: format)
        var words = command.name
        if command.shape.volumeUse == .named { words += " vol \(volume.value)" }
        let fields = self.fields(payloadLength: payloadLength)
        return fields.isEmpty ? words : words + " " + fields
    }

    private func fields(payloadLength: Int) -> String {
        switch self {
        case .data(let packet): packet.fields
        case .dataReply(let packet), .resyncDataReply(let packet):
            "sector \(packet.sector.value) size \(packet.byteCount) id \(named(packet.blockID))"
        case .trim(let packet), .zeroes(let packet): packet.fields
        case .writeSame(let packet): packet.fields + " payload \(payloadLength)"
        case .dataRequest(let request), .resyncDataRequest(let request), .thinResyncRequest(let request),
            .verifyRequest(let request):
            request.fields
        case .checksumResyncRequest(let request), .verifyReply(let request):
            request.fields + " digest \(payloadLength) bytes"
        case .receiveAck(let ack), .writeAck(let ack), .resyncWriteAck(let ack), .superseded(let ack), .negativeAck(let ack),
            .negativeDataReply(let ack), .negativeResyncReply(let ack), .resyncIsInSync(let ack), .resyncCancel(let ack),
            .retryWrite(let ack):
            "sector \(ack.sector.value) size \(ack.byteCount) id \(named(ack.blockID)) seq \(ack.sequence)"
        case .verifyResult(let ack):
            "sector \(ack.sector.value) size \(ack.byteCount) id \(verifyID(ack.blockID)) seq \(ack.sequence)"
        case .outOfSync(let area), .resyncDeallocated(let area): "sector \(area.sector.value) size \(area.byteCount)"
        case .barrier(let number): "barrier 0x\(hex(number))"
        case .barrierAck(let number, let setSize): "barrier 0x\(hex(number)) set_size \(setSize)"
        case .bitmap(let bytes): bytes.isEmpty ? "end" : "\(bytes.count) bytes"
        case .compressedBitmap(let bytes): "\(bytes.count) bytes" + encodingFields(bytes)
        case .unplugRemote, .ping, .pingAck, .initialData, .initialMeta, .delayProbe: ""
        case .syncParameters(let parameters): parameters.fields
        case .protocolParameters(let parameters), .protocolUpdate(let parameters): parameters.fields
        case .uuids(let packet): packet.fields
        case .sizes(let packet): packet.fields
        case .state(let word): "\(stateWords(word)) raw 0x\(hex(word))"
        case .syncUUID(let identifier): "uuid \(hex(identifier))"
        case .authChallenge(let bytes), .authResponse(let bytes): "\(bytes.count) bytes"
        case .stateChangeRequest(let request), .connectionStateChangeRequest(let request):
            "mask 0x\(hex(request.mask)) val 0x\(hex(request.value)): \(stateWords(request.value, mask: request.mask))"
        case .stateChangeReply(let code), .connectionStateChangeReply(let code): "retcode \(code)"
        case .connectionFeatures(let features): features.fields
        }
    }
}

extension DataPacket {
    fileprivate var fields: String {
        "sector \(sector.value) size \(byteCount) id \(named(blockID)) seq \(sequence) flags \(flags.names)"
    }
}

extension DiscardPacket {
    fileprivate var fields: String {
        "sector \(sector.value) size \(byteCount) id 0x\(hex(blockID)) seq \(sequence) flags \(flags.names)"
    }
}

extension BlockRequest {
    fileprivate var fields: String { "sector \(sector.value) size \(byteCount) id \(named(blockID))" }
}

extension DataFlags {
    /// Names joined by "|", "-" if there are none.
    package var names: String {
        bitNames(
            rawValue,
            [
                (1, "HARDBARRIER"), (2, "RW_SYNC"), (4, "MAY_SET_IN_SYNC"), (8, "UNPLUG"), (16, "FUA"), (32, "FLUSH"),
                (64, "DISCARD"), (128, "SEND_RECEIVE_ACK"), (256, "SEND_WRITE_ACK"), (512, "WSAME"), (1024, "ZEROES"),
            ])
    }
}

extension ConnectionFeatures {
    fileprivate var fields: String {
        let names = bitNames(flags.rawValue, [(1, "TRIM"), (2, "THIN_RESYNC"), (4, "WSAME"), (8, "WZEROES")])
        return "protocol \(minimumVersion)..\(maximumVersion) features \(names)"
    }
}

extension ProtocolParameters {
    fileprivate var fields: String {
        let letter = ["?", "A", "B", "C"][replicationProtocol <= 3 ? Int(replicationProtocol) : 0]
        let flags = bitNames(connectionFlags, [(1, "DISCARD_MY_DATA"), (2, "DRY_RUN")])
        return "protocol \(letter) after-sb-0pri \(policy(afterSplitBrain0Primaries))"
            + " after-sb-1pri \(policy(afterSplitBrain1Primary)) after-sb-2pri \(policy(afterSplitBrain2Primaries))"
            + " conn_flags \(flags) two_primaries \(twoPrimaries) integrity \"\(integrityAlgorithm)\""
    }
}

extension SyncParameters {
    fileprivate var fields: String {
        "resync_rate \(resyncRate) KiB/s verify_alg \"\(verifyAlgorithm)\" csums_alg \"\(checksumAlgorithm)\""
            + " c_plan_ahead \(planAhead)/10 s c_delay_target \(delayTarget)/10 s c_fill_target \(fillTarget) sectors"
            + " c_max_rate \(maximumRate) KiB/s"
    }
}

extension UUIDsPacket {
    fileprivate var fields: String {
        let flags = bitNames(
            UInt32(truncatingIfNeeded: flags.rawValue),
            [(1, "DISCARD_MY_DATA"), (2, "CRASHED_PRIMARY"), (4, "INCONSISTENT"), (8, "SKIP_INITIAL_SYNC")])
        return "current \(hex(identifiers.current)) bitmap \(hex(identifiers.bitmap)) history \(hex(identifiers.history0))"
            + ",\(hex(identifiers.history1)) bits \(dirtyBits) flags \(flags)"
    }
}

extension SizesPacket {
    fileprivate var fields: String {
        var text = "d_size \(diskSize) u_size \(userSize) c_size \(currentSize) sectors max_bio_size \(maximumRequest)"
        text += " queue_order_type \(queueOrderType)"
        text += " dds_flags \(bitNames(UInt32(resizeFlags), [(1, "FORCED"), (2, "NO_RESYNC")]))"
        if let limits {
            text += " physical \(limits.physicalBlockSize) logical \(limits.logicalBlockSize)"
            text += " align \(limits.alignmentOffset) io_min \(limits.minimumIO) io_opt \(limits.optimalIO)"
            text += " discard \(limits.discardEnabled ? 1 : 0) discard_zeroes \(limits.discardZeroesData ? 1 : 0)"
            text += " write_same \(limits.writeSameCapable ? 1 : 0)"
        }
        return text
    }
}

// MARK: Words

private func named(_ value: UInt64) -> String {
    value == BlockID.syncer ? "SYNCER" : "0x" + hex(value)
}

private func verifyID(_ value: UInt64) -> String {
    switch value {
    case BlockID.inSync: "IN_SYNC"
    case BlockID.outOfSync: "OUT_OF_SYNC"
    default: named(value)
    }
}

/// The encoding byte of a compressed bitmap (`wire-resync.md` 8.3.1).
private func encodingFields(_ bytes: [UInt8]) -> String {
    guard let encoding = bytes.first else { return "" }
    return " code \(encoding & 15) pad \(encoding >> 4 & 7) bits first_run \(encoding >> 7 == 1 ? "set" : "clear")"
}

private func policy(_ value: UInt32) -> String {
    switch SplitBrainPolicyValue(rawValue: value) {
    case .disconnect: "disconnect"
    case .discardYoungerPrimary: "discard-younger-primary"
    case .discardOlderPrimary: "discard-older-primary"
    case .discardZeroChanges: "discard-zero-changes"
    case .discardLeastChanges: "discard-least-changes"
    case .discardLocal: "discard-local"
    case .discardRemote: "discard-remote"
    case .consensus: "consensus"
    case .discardSecondary: "discard-secondary"
    case .callPriLost: "call-pri-lost-after-sb"
    case .violently: "violently-as0p"
    case nil: "\(value)"
    }
}

/// The fields of a packed state word that `mask` covers (`wire.md` 6.1): `conn Connected role Primary ...`.
private func stateWords(_ word: UInt32, mask: UInt32 = .max) -> String {
    var words: [String] = []
    func field(_ shift: UInt32, _ width: UInt32, _ label: String, _ name: (UInt8) -> String?) {
        let ones = (1 as UInt32) << width &- 1
        guard mask >> shift & ones != 0 else { return }
        let value = UInt8(truncatingIfNeeded: word >> shift & ones)
        words.append("\(label) \(name(value) ?? "\(value)")")
    }
    field(4, 5, "conn") { ConnectionState(rawValue: $0)?.name }
    field(0, 2, "role") { Role(rawValue: $0)?.name }
    field(2, 2, "peer") { Role(rawValue: $0)?.name }
    field(9, 4, "disk") { DiskState(rawValue: $0)?.name }
    field(13, 4, "pdsk") { DiskState(rawValue: $0)?.name }
    let flags = word & mask
    if flags >> 17 != 0 {
        let text = bitNames(
            flags & ~0x1ffff,
            [
                (1 << 17, "susp"), (1 << 18, "aftr_isp"), (1 << 19, "peer_isp"), (1 << 20, "user_isp"),
                (1 << 21, "susp_nod"),
                (1 << 22, "susp_fen"),
            ])
        words.append("flags \(text)")
    }
    return words.joined(separator: " ")
}

/// Names of set bits joined by "|"; bits without a name as one hexadecimal number; "-" for none.
private func bitNames(_ value: UInt32, _ table: [(bit: UInt32, name: String)]) -> String {
    var words: [String] = []
    var rest = value
    for (bit, name) in table where value & bit != 0 {
        words.append(name)
        rest &= ~bit
    }
    if rest != 0 { words.append("0x" + String(rest, radix: 16)) }
    return words.isEmpty ? "-" : words.joined(separator: "|")
}

private func hex<T: FixedWidthInteger & UnsignedInteger>(_ value: T) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: T.bitWidth / 4 &- digits.count) + digits
}
