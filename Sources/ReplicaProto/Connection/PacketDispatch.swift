/// Every packet to the part that knows what it means.
extension Resource {
    mutating func packetReceived(_ stream: StreamKind, _ number: VolumeNumber, _ packet: Packet, _ payload: BufferSlot?) {
        guard link.isUsable else {
            if let payload { emit(.releaseBuffer(payload)) }
            return
        }
        switch stream {
        case .data: link.lastDataReceived = now
        case .meta: link.lastMetaReceived = now
        }
        link.stallsLeft = link.options.koCount
        if link.phase == .features {
            guard case .connectionFeatures = packet else {
                if let payload { emit(.releaseBuffer(payload)) }
                log(.error, nil, "expected ConnectionFeatures packet")
                return connectionFailed(.disconnecting, because: .foreignPeer)
            }
        }
        if link.phase == .closing, link.afterCleanup == .standAlone {
            // We have parted, the peer does not know it yet.
            if let payload { emit(.releaseBuffer(payload)) }
            if case .ping = packet { send(.meta, nil, .pingAck) }
            return
        }
        if dispatchConnectionPacket(packet) { return }
        guard let v = index(of: number) else {
            if let payload { emit(.releaseBuffer(payload)) }
            return unknownVolume(number, packet)
        }
        // During a bitmap transfer nothing else may come on this stream (`wire-resync.md` 8.2).
        if stream == .data, let transfer = volumes[v].transferIn, !transfer.isDone, transfer.bit > 0, !packet.isBitmap {
            if let payload { emit(.releaseBuffer(payload)) }
            log(.error, v, "unexpected packet inside a bitmap transfer")
            return connectionFailed(.protocolError)
        }
        dispatchVolumePacket(v, packet, payload)
        if link.isResolver, stream == .meta, let ack = packet.blockAck { noteSequence(v, ack.sequence) }
    }

    /// True if the packet belongs to the connection as a whole.
    private mutating func dispatchConnectionPacket(_ packet: Packet) -> Bool {
        switch packet {
        case .connectionFeatures(let features): featuresReceived(features)
        case .authChallenge(let bytes): challengeReceived(bytes)
        case .authResponse(let bytes): responseReceived(bytes)
        case .protocolParameters(let parameters): protocolReceived(parameters, update: false)
        case .protocolUpdate(let parameters): protocolReceived(parameters, update: true)
        case .connectionStateChangeRequest(let request):
            guard link.phase == .established else { connectionFailed(.protocolError); return true }
            connectionChangeRequested(request)
        case .connectionStateChangeReply(let code): clusterChangeAnswered(code)
        case .barrier(let number): barrierReceived(number)
        case .barrierAck(let number, let setSize): barrierAcknowledged(number, setSize)
        case .ping:
            send(.meta, nil, .pingAck)
            targetMayEndNow()
        case .pingAck: pingAcknowledged()
        case .unplugRemote, .delayProbe: break
        case .initialData, .initialMeta: connectionFailed(.protocolError)
        default: return false
        }
        return true
    }

    private mutating func unknownVolume(_ number: VolumeNumber, _ packet: Packet) {
        switch packet {
        case .syncParameters, .sizes, .uuids, .state:
            log(.warning, nil, "volume \(number.value) is unknown here")
        default:
            log(.error, nil, "packet for unknown volume \(number.value)")
            connectionFailed(.protocolError)
        }
    }

    private mutating func dispatchVolumePacket(_ v: Int, _ packet: Packet, _ payload: BufferSlot?) {
        // Before the handshake is over only its own packets may come.
        if link.phase == .authentication {
            if let payload { emit(.releaseBuffer(payload)) }
            return connectionFailedInAuthentication()
        }
        volumes[v].heardNothing = false
        if volumes[v].isLonely, !meetsLonely(v) {
            if let payload { emit(.releaseBuffer(payload)) }
            return
        }
        switch packet {
        case .data(let head): peerWriteReceived(v, head, payload)
        case .trim(let head):
            peerDiscardReceived(v, head, .zeroMayUnmap)
        case .zeroes(let head):
            peerDiscardReceived(v, head, head.flags.contains(.discard) ? .zeroMayUnmap : .zeroNoUnmap)
        case .dataRequest(let request): peerReadReceived(v, request, .read)
        case .resyncDataRequest(let request): peerReadReceived(v, request, .resyncRead)
        case .thinResyncRequest(let request): peerReadReceived(v, request, .thinRead)
        case .checksumResyncRequest(let request): peerReadReceived(v, request, .checksumRead, digest: payload)
        case .verifyRequest(let request): verifyRequestReceived(v, request)
        case .verifyReply(let request): verifyReplyReceived(v, request, payload)
        case .verifyResult(let ack): verifyResultReceived(v, ack)
        case .writeSame(let head): peerWriteSameReceived(v, head, payload)
        case .dataReply(let head): remoteReadAnswered(v, head, payload)
        case .resyncDataReply(let head): resyncDataReceived(v, head, payload)
        case .resyncDeallocated(let area): resyncDeallocatedReceived(v, area)
        case .bitmap(let bytes): bitmapReceived(v, bytes, isCompressed: false)
        case .compressedBitmap(let bytes): bitmapReceived(v, bytes, isCompressed: true)
        case .syncParameters(let parameters): syncParametersReceived(v, parameters)
        case .sizes(let sizes): sizesReceived(v, sizes)
        case .uuids(let uuids): uuidsReceived(v, uuids)
        case .state(let word): stateReceived(v, word)
        case .syncUUID(let identifier): syncUUIDReceived(v, identifier)
        case .stateChangeRequest(let request): stateChangeRequested(v, request)
        case .stateChangeReply(let code): clusterChangeAnswered(code)
        case .outOfSync(let area): outOfSyncReceived(v, area)
        case .receiveAck(let ack): writeAcknowledged(ack, .received, clearsBits: false)
        case .writeAck(let ack): writeAcknowledged(ack, .written, clearsBits: false)
        case .resyncWriteAck(let ack):
            if ack.blockID == BlockID.syncer {
                resyncBlockWritten(v, ack)
            } else {
                writeAcknowledged(ack, .written, clearsBits: true)
            }
        case .negativeAck(let ack):
            if ack.blockID == BlockID.syncer { resyncBlockFailed(v, ack) } else { writeRefused(v, ack) }
        case .negativeDataReply(let ack): negativeDataReply(ack)
        case .negativeResyncReply(let ack): resyncReadRefused(v, ack, cancelled: false)
        case .resyncCancel(let ack): resyncReadRefused(v, ack, cancelled: true)
        case .resyncIsInSync(let ack): resyncBlockIsInSync(v, ack)
        case .superseded(let ack):
            writeOverruled(ack, again: false)
            // A flush may have waited for nothing but the epoch of this write.
            finishFlushes()
        case .retryWrite(let ack):
            writeOverruled(ack, again: true)
            finishFlushes()
        case .connectionFeatures, .authChallenge, .authResponse, .protocolParameters, .protocolUpdate,
            .connectionStateChangeRequest, .connectionStateChangeReply, .barrier, .barrierAck, .ping, .pingAck,
            .unplugRemote, .delayProbe, .initialData, .initialMeta:
            break
        }
    }

    /// Another packet where a challenge was expected: the peer has no secret configured (`wire.md` 4.3).
    private mutating func connectionFailedInAuthentication() {
        log(.error, nil, "Authentication of peer failed: expected AuthChallenge packet")
        connectionFailed(.disconnecting, because: .authentication)
    }

    /// The peer has this volume, after all: it is new there, and what we said of ours went to deaf ears, or it was only slow.
    /// False if what we said has become wrong meanwhile: should the peer have heard it, both would compare different things.
    private mutating func meetsLonely(_ v: Int) -> Bool {
        guard volumes[v].state.connection == .wfReportParams else {
            volumes[v].isLonely = false
            return true
        }
        if volumes[v].identifiers.current & ~1 != volumes[v].toldIdentifier & ~1 {
            log(.info, v, "the peer has the volume now: connecting again")
            connectionFailed(.networkFailure)
            return false
        }
        volumes[v].isLonely = false
        sendVolumeParameters(v)
        volumes[v].heardNothing = false
        return true
    }

    /// P_OUT_OF_SYNC
    mutating func outOfSyncReceived(_ v: Int, _ area: AreaPacket) {
        guard rangeIsInside(v, area.range), area.byteCount % 512 == 0 else { return connectionFailed(.protocolError) }
        _ = volumes[v].bitmap.setOutOfSync(area.range, deviceSectors: volumes[v].sectors)
    }
}

extension Packet {
    /// What shares the counter of writes (`wire.md` 7.3).
    var blockAck: BlockAck? {
        switch self {
        case .receiveAck(let ack), .writeAck(let ack), .resyncWriteAck(let ack), .superseded(let ack), .retryWrite(let ack),
            .negativeAck(let ack), .negativeDataReply(let ack), .negativeResyncReply(let ack), .resyncCancel(let ack),
            .resyncIsInSync(let ack), .verifyResult(let ack):
            ack
        default: nil
        }
    }
    var isBitmap: Bool {
        switch self {
        case .bitmap, .compressedBitmap: true
        default: false
        }
    }
}
