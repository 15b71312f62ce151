import CUring
import Glibc
import ReplicaProto

/// Packets on the two streams. One receive brings many packets, one send takes many; payloads lie in pool buffers and
/// are copied at most once.
extension ResourceLoop {
    // MARK: Use

    mutating func useSocket(_ id: SocketID, _ kind: StreamKind) {
        guard let index = link.index(of: id), link.sockets[index].phase == .parked else {
            later(.socketFailed(id, .endOfFile))
            return
        }
        ring.cancel(linkToken(.linkWatch, index))
        link.sockets[index].phase = .inUse
        link.sockets[index].stream = kind
        if kind == .data { link.dataSocket = index } else { link.metaSocket = index }
        if isTraced { traceUse(index) }
        emptyStream(index)
        armLinkReceive(index)
    }

    /// Drops everything that a stream holds.
    mutating func emptyStream(_ index: Int) {
        while true {
            switch link.streams[index].output.discard() {
            case .nothing:
                link.streams[index].output.sendEnded()
                link.streams[index].inputStart = 0
                link.streams[index].inputEnd = 0
                link.streams[index].isShortOfBuffers = false
                link.streams[index].hasFailed = false
                link.streams[index].isReceiving = false
                link.streams[index].isDirty = false
                if link.streams[index].packet != nil {
                    link.streams[index].packet = nil
                    pool.release(link.streams[index].payload)
                }
                return
            case .piece: break
            case .payload(let slot): pool.release(slot)
            }
        }
    }

    // MARK: Receiving

    /// Receives the rest of an incomplete payload straight into its buffer, and whatever follows into the stream buffer.
    private mutating func armLinkReceive(_ index: Int) {
        let stream = link.streams + index
        guard !stream.pointee.isReceiving, !stream.pointee.hasFailed, !stream.pointee.isShortOfBuffers,
            link.sockets[index].phase == .inUse
        else { return }
        if stream.pointee.inputStart == stream.pointee.inputEnd {
            stream.pointee.inputStart = 0
            stream.pointee.inputEnd = 0
        } else if stream.pointee.inputStart > LinkStream.receiveBytes / 2 {
            stream.pointee.input.copyMemory(
                from: stream.pointee.input + stream.pointee.inputStart,
                byteCount: stream.pointee.inputEnd - stream.pointee.inputStart)
            stream.pointee.inputEnd -= stream.pointee.inputStart
            stream.pointee.inputStart = 0
        }
        var count = 0
        if stream.pointee.packet != nil {
            stream.pointee.vectors[0] = iovec(
                iov_base: pool.address(of: stream.pointee.payload) + stream.pointee.payloadReceived,
                iov_len: stream.pointee.payloadLength - stream.pointee.payloadReceived)
            count = 1
        }
        stream.pointee.vectors[count] = iovec(
            iov_base: stream.pointee.input + stream.pointee.inputEnd,
            iov_len: LinkStream.receiveBytes - stream.pointee.inputEnd)
        stream.pointee.message.pointee.msg_iov = stream.pointee.vectors
        stream.pointee.message.pointee.msg_iovlen = count + 1
        let token = linkToken(.linkReceive, index)
        let entry = ring.entry(token)
        io_uring_prep_recvmsg(entry, link.sockets[index].descriptor, stream.pointee.message, 0)
        entry.pointee.user_data = token.rawValue
        stream.pointee.isReceiving = true
        link.sockets[index].pending += 1
        counters.receives &+= 1
    }

    mutating func linkReceived(_ token: SubmissionToken, _ result: Int32) {
        guard let index = linkSocket(token) else { return }
        let stream = link.streams + index
        link.sockets[index].pending -= 1
        stream.pointee.isReceiving = false
        guard link.sockets[index].phase == .inUse else {
            closeLinkIfIdle(index)
            return
        }
        guard result > 0 else {
            if result == -EINTR || result == -EAGAIN {
                armLinkReceive(index)
            } else {
                failStream(index, result == 0 ? .endOfFile : .error(-result))
            }
            return
        }
        var bytes = Int(result)
        if stream.pointee.packet != nil {
            let direct = min(bytes, stream.pointee.payloadLength - stream.pointee.payloadReceived)
            stream.pointee.payloadReceived += direct
            bytes -= direct
        }
        stream.pointee.inputEnd += bytes
        parse(index)
    }

    private mutating func failStream(_ index: Int, _ failure: SocketFailure) {
        link.streams[index].hasFailed = true
        deliver(.socketFailed(link.sockets[index].id, failure))
    }

    /// Goes on with a stream that had no buffer, once buffers came back.
    mutating func resumeShortStreams() {
        for kind in [StreamKind.data, .meta] {
            guard let index = link.index(of: kind), link.streams[index].isShortOfBuffers else { continue }
            link.streams[index].isShortOfBuffers = false
            parse(index)
        }
    }

    /// Hands over every complete packet, then receives more.
    private mutating func parse(_ index: Int) {
        let id = link.sockets[index].id
        let stream = link.streams + index
        // The core may close or replace the stream while it handles a packet.
        while link.sockets[index].id == id, link.sockets[index].phase == .inUse, !stream.pointee.hasFailed {
            if let packet = stream.pointee.packet {
                guard stream.pointee.payloadReceived == stream.pointee.payloadLength else { break }
                guard digestIsGood(index) else {
                    failDigest(index, packet)
                    return
                }
                stream.pointee.packet = nil
                if isTraced { traceReceivedPayload(index) }
                deliver(
                    .packetReceived(
                        link.sockets[index].stream, stream.pointee.packetVolume, packet, payload: stream.pointee.payload))
                continue
            }
            let available = stream.pointee.inputEnd - stream.pointee.inputStart
            guard available > 0 else { break }
            let start = stream.pointee.input + stream.pointee.inputStart
            do throws(PacketError) {
                let bytes = UnsafeRawBufferPointer(start: start, count: available)
                let kind = link.sockets[index].stream
                guard let header = try PacketHeader.decode(bytes.bytes, stream: kind, format: link.format) else { break }
                // The digest stays outside the buffer, so that the data begins where a disk wants it.
                let integrity = header.digestLength < header.payloadLength ? header.digestLength : 0
                let head = header.headerSize + header.fixedLength + integrity
                guard available >= head else { break }
                let body = UnsafeRawBufferPointer(start: start + header.headerSize, count: header.fixedLength)
                let packet = try Packet.decode(header, body: body.bytes, format: link.format)
                counters.packetsReceived &+= 1
                guard header.payloadLength > 0 else {
                    stream.pointee.inputStart += head
                    if isTraced {
                        traceReceivedHead(index, UnsafeRawBufferPointer(start: start, count: head), hasPayload: false)
                    }
                    deliver(.packetReceived(kind, header.volume, packet, payload: nil))
                    continue
                }
                var use = BufferPool.PeerUse.received
                if case .dataReply = packet { use = .replyToClient }
                let length = header.payloadLength - integrity
                guard let slot = pool.leaseForPeer(bytes: length, use: use) else {
                    stream.pointee.isShortOfBuffers = true
                    return
                }
                if isTraced {
                    traceReceivedHead(index, UnsafeRawBufferPointer(start: start, count: head), hasPayload: true)
                }
                stream.pointee.digest.copyMemory(from: start + (head - integrity), byteCount: integrity)
                stream.pointee.digestAlgorithm = integrity > 0 ? link.format.peerIntegrity : nil
                stream.pointee.inputStart += head
                let copied = min(length, available - head)
                pool.address(of: slot).copyMemory(from: start + head, byteCount: copied)
                stream.pointee.inputStart += copied
                stream.pointee.packet = packet
                stream.pointee.packetVolume = header.volume
                stream.pointee.payload = slot
                stream.pointee.payloadLength = length
                stream.pointee.payloadReceived = copied
            } catch {
                failStream(index, .protocolError(error))
                return
            }
        }
        if link.sockets[index].id == id { armLinkReceive(index) }
    }

    /// Whether the data that is complete now is what its sender had (`wire.md` 7.9).
    private mutating func digestIsGood(_ index: Int) -> Bool {
        let stream = link.streams + index
        guard let algorithm = stream.pointee.digestAlgorithm else { return true }
        let bytes = UnsafeRawBufferPointer(start: pool.address(of: stream.pointee.payload), count: stream.pointee.payloadLength)
        return digests.matches(algorithm, bytes, stream.pointee.digest)
    }

    private mutating func failDigest(_ index: Int, _ packet: Packet) {
        let stream = link.streams + index
        let byteCount = UInt32(stream.pointee.payloadLength)
        var sector = Sector(0)
        switch packet {
        case .data(let head), .dataReply(let head), .resyncDataReply(let head): sector = head.sector
        case .writeSame(let head): sector = head.sector
        default: break
        }
        stream.pointee.packet = nil
        pool.release(stream.pointee.payload)
        failStream(index, .protocolError(.badDigest(sector: sector.value, byteCount: byteCount)))
    }

    // MARK: Sending

    mutating func sendPacket(
        _ kind: StreamKind, _ volume: VolumeNumber, _ packet: Packet, _ payload: BufferSlot?, offset: Int = 0,
        report: RequestID? = nil
    ) {
        // Without a stream the core hears of its end with one of the next events, and asks for no report any more.
        guard let index = link.index(of: kind) else { return }
        let stream = link.streams + index
        let format = link.format
        let parts = payloadParts(packet, format)
        let digestSize = parts.digest?.size ?? 0
        let size = packet.encodedSize(in: format)
        // Head and digest lie in one piece.
        var piece = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        stream.pointee.output.append(length: size + digestSize) { target in
            let head = UnsafeMutableRawBufferPointer(rebasing: target[..<size])
            var output = OutputRawSpan(buffer: head, initializedCount: 0)
            packet.encode(volume: volume, payloadLength: digestSize + parts.dataSent, format: format, into: &output)
            invariant(output.byteCount == size, "a packet has the size that it announces")
            _ = output.finalize(for: head)
            piece = target
        }
        if let algorithm = parts.digest, let start = piece.baseAddress {
            let target = start + size
            // What cannot be read has no digest.
            target.initializeMemory(as: UInt8.self, repeating: 0, count: digestSize)
            if payload != nil || parts.dataSent > 0 {
                let start = payload.map { pool.address(of: $0) + offset } ?? store.zeroes
                _ = digests.compute(algorithm, UnsafeRawBufferPointer(start: start, count: parts.covered), into: target)
            }
        }
        if isTraced {
            let data = payload.map { pool.address(of: $0) + offset } ?? store.zeroes
            traceSent(index, UnsafeRawBufferPointer(piece), UnsafeRawBufferPointer(start: data, count: parts.dataSent))
        }
        if parts.dataSent > 0 {
            if let payload {
                pool.lend(payload)
                stream.pointee.output.append(payload, from: offset, length: parts.dataSent)
            } else {
                stream.pointee.output.appendZeroes(length: parts.dataSent)
            }
        }
        if let report { stream.pointee.output.reportLast(report) }
        if kind == .meta, stream.pointee.output.isFlooded, !stream.pointee.hasFailed {
            stream.pointee.hasFailed = true
            later(.socketFailed(link.sockets[index].id, .error(ENOBUFS)))
        }
        stream.pointee.isDirty = true
        counters.packetsSent &+= 1
    }

    /// What follows the head: a digest of so many bytes, and so many of the bytes themselves.
    private func payloadParts(_ packet: Packet, _ format: WireFormat) -> (digest: DigestAlgorithm?, covered: Int, dataSent: Int) {
        switch packet {
        case .data(let data), .dataReply(let data), .resyncDataReply(let data):
            (format.integrity, Int(data.byteCount), Int(data.byteCount))
        case .verifyReply(let request): (format.verify, Int(request.byteCount), 0)
        case .checksumResyncRequest(let request): (format.checksum, Int(request.byteCount), 0)
        default: (nil, 0, 0)
        }
    }

    /// One send per stream and turn.
    mutating func flushLinks() {
        for kind in [StreamKind.data, .meta] {
            guard let index = link.index(of: kind), link.streams[index].isDirty else { continue }
            armLinkSend(index)
        }
    }

    private mutating func armLinkSend(_ index: Int) {
        let stream = link.streams + index
        guard !stream.pointee.output.isInFlight, link.sockets[index].phase == .inUse else { return }
        stream.pointee.isDirty = false
        guard !stream.pointee.output.isEmpty else { return }
        _ = stream.pointee.output.prepare(pool, zeroes: store.zeroes)
        stream.pointee.output.isInFlight = true
        stream.pointee.sendStarted = now.nanoseconds
        let token = linkToken(.linkSend, index)
        let entry = ring.entry(token)
        io_uring_prep_sendmsg(
            entry, link.sockets[index].descriptor, stream.pointee.output.message, UInt32(MSG_NOSIGNAL))
        entry.pointee.user_data = token.rawValue
        link.sockets[index].pending += 1
        counters.sends &+= 1
    }

    mutating func linkSent(_ token: SubmissionToken, _ result: Int32) {
        guard let index = linkSocket(token) else { return }
        let stream = link.streams + index
        link.sockets[index].pending -= 1
        stream.pointee.output.sendEnded()
        guard link.sockets[index].phase == .inUse else {
            closeLinkIfIdle(index)
            return
        }
        if result < 0 && result != -EINTR && result != -EAGAIN {
            if !stream.pointee.hasFailed { failStream(index, .error(-result)) }
            return
        }
        let id = link.sockets[index].id
        var rest = Int(max(result, 0))
        loop: while link.sockets[index].id == id, link.sockets[index].phase == .inUse {
            let (left, report) = stream.pointee.output.advance(&rest)
            switch left {
            case .nothing: break loop
            case .piece: break
            case .payload(let slot): pool.release(slot)
            }
            if let report { deliver(.writeHandedToNetwork(report)) }
        }
        guard link.sockets[index].id == id else { return }
        if !stream.pointee.output.isEmpty { stream.pointee.isDirty = true }
    }

    /// A stream is closed by us: what waits is handed to the kernel as far as it takes it at once.
    mutating func sendLastBytes(_ index: Int) {
        let stream = link.streams + index
        guard !stream.pointee.output.isInFlight, !stream.pointee.output.isEmpty, !stream.pointee.hasFailed else { return }
        _ = stream.pointee.output.prepare(pool, zeroes: store.zeroes)
        _ = sendmsg(
            link.sockets[index].descriptor, stream.pointee.output.message,
            Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    }
}
