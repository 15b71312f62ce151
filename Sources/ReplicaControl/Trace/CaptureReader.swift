import ReplicaProto

/// Why a file is no capture that can be read.
struct CaptureError: Error { var message: String }

/// One TCP segment of a capture, with data.
struct CapturedSegment {
    var nanoseconds: UInt64
    var source: String
    var target: String
    var sequence: UInt32
    var startsStream: Bool
    var data: ArraySlice<UInt8>
}

/// Reads capture files: pcap in both byte orders and resolutions, pcapng; Ethernet, Linux "cooked" and raw IP.
struct CaptureReader {
    private let bytes: [UInt8]
    private var isBigEndian = false

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    static func looksLikeCapture(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= 24 else { return false }
        return [0xa1b2_c3d4, 0xd4c3_b2a1, 0xa1b2_3c4d, 0x4d3c_b2a1, 0x0a0d_0d0a].contains(bytes.span.bytes.readBE32(at: 0))
    }

    /// Hands over every TCP segment with data, or with SYN, in the order of the file.
    mutating func segments(_ take: (CapturedSegment) -> Void) throws(CaptureError) {
        let magic = bytes.span.bytes.readBE32(at: 0)
        if magic == 0x0a0d_0d0a { return try blocks(take) }
        isBigEndian = magic == 0xa1b2_c3d4 || magic == 0xa1b2_3c4d
        let fraction: UInt64 = magic == 0xa1b2_3c4d || magic == 0x4d3c_b2a1 ? 1 : 1000
        let link = word(20) & 0x0fff_ffff
        var position = 24
        while position + 16 <= bytes.count {
            let captured = Int(word(position + 8))
            guard position + 16 + captured <= bytes.count else { break }
            let time = UInt64(word(position)) &* 1_000_000_000 &+ UInt64(word(position + 4)) &* fraction
            try frame(bytes[(position + 16)..<(position + 16 + captured)], link, time, take)
            position += 16 + captured
        }
    }

    private mutating func blocks(_ take: (CapturedSegment) -> Void) throws(CaptureError) {
        var links: [(type: UInt32, unit: UInt64)] = []
        var position = 0
        while position + 12 <= bytes.count {
            if bytes.span.bytes.readBE32(at: position) == 0x0a0d_0d0a {
                isBigEndian = bytes.span.bytes.readBE32(at: position + 8) == 0x1a2b_3c4d
                links = []
            }
            let type = word(position)
            let length = Int(word(position + 4))
            guard length >= 12, position + length <= bytes.count else { break }
            if type == 1, length >= 20 {
                links.append((word(position + 8) & 0xffff, unit(options: position + 16, end: position + length - 4)))
            } else if type == 6, length >= 32 {
                let captured = Int(word(position + 20))
                let interface = Int(word(position + 8))
                if interface < links.count, 28 + captured + 4 <= length {
                    let time = (UInt64(word(position + 12)) << 32 | UInt64(word(position + 16))) &* links[interface].unit
                    try frame(bytes[(position + 28)..<(position + 28 + captured)], links[interface].type, time, take)
                }
            }
            position += length
        }
    }

    /// Nanoseconds of a time stamp's unit: option if_tsresol, microseconds without it.
    private func unit(options start: Int, end: Int) -> UInt64 {
        var position = start
        while position + 4 <= end {
            let head = word(position)
            let (code, length) = isBigEndian ? (head >> 16, Int(head & 0xffff)) : (head & 0xffff, Int(head >> 16))
            if code == 9, length == 1 {
                var unit: UInt64 = 1_000_000_000
                for _ in 0..<min(bytes[position + 4], 9) { unit /= 10 }
                return unit
            }
            position += 4 + (length + 3) / 4 * 4
        }
        return 1000
    }

    private func word(_ position: Int) -> UInt32 {
        let value = bytes.span.bytes.readBE32(at: position)
        return isBigEndian ? value : value.byteSwapped
    }

    // MARK: Frames

    private func frame(
        _ frame: ArraySlice<UInt8>, _ link: UInt32, _ time: UInt64, _ take: (CapturedSegment) -> Void
    ) throws(CaptureError) {
        let skip: Int
        switch link {
        case 0: skip = 4
        case 1:
            var header = 14
            // VLAN tags
            while frame.count > header, frame[frame.startIndex + header - 2] == 0x81, frame[frame.startIndex + header - 1] == 0 {
                header += 4
            }
            skip = header
        case 12, 14, 101: skip = 0
        case 113: skip = 16
        case 276: skip = 20
        default: throw CaptureError(message: "packets of link type \(link) can not be read")
        }
        guard frame.count > skip else { return }
        packet(frame[(frame.startIndex + skip)...], time, take)
    }

    private func packet(_ packet: ArraySlice<UInt8>, _ time: UInt64, _ take: (CapturedSegment) -> Void) {
        let start = packet.startIndex
        var header: Int
        var length: Int
        let addresses: (source: ArraySlice<UInt8>, target: ArraySlice<UInt8>)
        if packet[start] >> 4 == 4, packet.count >= 20, packet[start + 9] == 6 {
            header = Int(packet[start] & 15) * 4
            length = Int(packet[start + 2]) << 8 | Int(packet[start + 3])
            addresses = (packet[(start + 12)..<(start + 16)], packet[(start + 16)..<(start + 20)])
        } else if packet[start] >> 4 == 6, packet.count >= 40, packet[start + 6] == 6 {
            header = 40
            length = 40 + (Int(packet[start + 4]) << 8 | Int(packet[start + 5]))
            addresses = (packet[(start + 8)..<(start + 24)], packet[(start + 24)..<(start + 40)])
        } else {
            return
        }
        // Offloaded segments are longer than their header can say.
        if length <= header { length = packet.count }
        guard packet.count >= header + 20 else { return }
        let tcp = start + header
        let dataStart = tcp + Int(packet[tcp + 12] >> 4) * 4
        let end = min(packet.endIndex, start + length)
        let startsStream = packet[tcp + 13] & 2 != 0
        guard dataStart <= end, dataStart < end || startsStream else { return }
        var sequence: UInt32 = 0
        for index in 4..<8 { sequence = sequence << 8 | UInt32(packet[tcp + index]) }
        take(
            CapturedSegment(
                nanoseconds: time,
                source: Self.endpoint(addresses.source, packet[tcp], packet[tcp + 1]),
                target: Self.endpoint(addresses.target, packet[tcp + 2], packet[tcp + 3]), sequence: sequence,
                startsStream: startsStream, data: packet[dataStart..<end]))
    }

    private static func endpoint(_ address: ArraySlice<UInt8>, _ high: UInt8, _ low: UInt8) -> String {
        let port = Int(high) << 8 | Int(low)
        if address.count == 4 { return address.map { String($0) }.joined(separator: ".") + ":\(port)" }
        var groups: [String] = []
        var index = address.startIndex
        while index < address.endIndex {
            groups.append(String(UInt16(address[index]) << 8 | UInt16(address[index + 1]), radix: 16))
            index += 2
        }
        return "[" + groups.joined(separator: ":") + "]:\(port)"
    }
}
