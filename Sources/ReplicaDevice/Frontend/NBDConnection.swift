import CUring
import Glibc
import ReplicaProto

/// One client of the exported device.
struct ClientConnection: ~Copyable {
    enum Phase: UInt8 {
        case free
        case handshake
        /// Requests are parsed and answered.
        case serving
        /// No further requests are taken; ends when everything is answered.
        case draining
        /// Shut down; what is in flight is awaited.
        case closing
    }
    static let receiveBytes = 262_144

    var phase = Phase.free
    var descriptor: Int32 = -1
    var generation: UInt32 = 0
    /// Submissions in flight that name the descriptor.
    var pending = 0
    /// Pieces that the core has not answered yet.
    var inFlight = 0
    var handshake: NBDHandshake?
    var volume = VolumeNumber(0)
    var export = NBDExport(name: "", size: 0)
    var structuredReplies = false
    var hasOpened = false
    /// The other end is the kernel's nbd driver, whose opens and closes we don't see.
    var isKernel = false

    let input: UnsafeMutableRawPointer
    var inputStart = 0
    var inputEnd = 0
    /// Payload bytes of a refused write that are still to be read away.
    var skip = 0
    /// The request that is being cut into pieces, -1 without.
    var current: Int32 = -1
    /// The piece whose payload is being received, -1 without.
    var piece: Int32 = -1
    var pieceReceived = 0
    let vectors: UnsafeMutablePointer<iovec>
    let message: UnsafeMutablePointer<msghdr>
    var isReceiving = false
    /// Stopped for want of buffers or records; looked at again when some come back.
    var isWaiting = false
    /// No further request is begun; what comes in is left as it is (`HandingOver.swift`).
    var isPaused = false
    var output: SendQueue
    var isDirty = false

    init() {
        input = .allocate(byteCount: Self.receiveBytes, alignment: 64)
        vectors = .allocate(capacity: 2)
        vectors.initialize(repeating: iovec(), count: 2)
        message = .allocate(capacity: 1)
        message.initialize(to: msghdr())
        output = SendQueue(byteCapacity: 1 << 16, segmentCapacity: 2048)
    }

    /// A new client is at the other end.
    mutating func begin(_ phase: Phase, _ descriptor: Int32) {
        self.phase = phase
        self.descriptor = descriptor
        generation &+= 1
        inputStart = 0
        inputEnd = 0
        skip = 0
        current = -1
        piece = -1
        isWaiting = false
        isPaused = false
        hasOpened = false
        isKernel = false
    }

    /// Nothing of the next request has been looked at.
    var isBetweenRequests: Bool { current < 0 && piece < 0 && skip == 0 }
    /// Everything that was asked is answered, and nothing in flight names this connection.
    var isQuiet: Bool { isBetweenRequests && inFlight == 0 && pending == 0 && output.isEmpty && !output.isInFlight }

    deinit {
        input.deallocate()
        vectors.deallocate()
        message.deallocate()
    }
}

/// A request as the client sees it, until its reply is queued.
struct ClientRequest {
    enum Kind: UInt8 {
        case write, flush, trim, zeroMayUnmap, zeroNoUnmap
        /// Answered chunk by chunk, in any order.
        case chunkedRead
        /// Answered in one run of bytes: simple reply, or one chunk where the client forbids more.
        case wholeRead
    }

    /// Pieces of a whole read in work at a time; all of them are reserved together.
    static let window = 4

    var kind = Kind.write
    var connection: Int32 = 0
    var cookie: UInt64 = 0
    var offset: UInt64 = 0
    var length: UInt32 = 0
    /// Bytes of the largest piece, as the export had it when the request came.
    var pieceBytes: UInt32 = Limits.requestSectors * 512
    /// Bytes that were cut into pieces so far.
    var issued: UInt32 = 0
    /// Pieces not answered yet.
    var outstanding: Int32 = 0
    var error: ClientError?
    var fua = false
    /// The data of a large whole read has begun; from now on an error ends the connection.
    var hasBegun = false
    /// Pieces of the window of a whole read, in order.
    var pieces: (Int32, Int32, Int32, Int32) = (-1, -1, -1, -1)
    var pieceCount = 0
}

/// What the core knows as one request: a read or write of at most 1 MiB, a discard of at most 128 MiB, or a flush.
struct ClientPiece {
    var parent: Int32 = -1
    var connection: Int32 = 0
    var offset: UInt64 = 0
    var length: UInt32 = 0
    /// A buffer is promised and not leased.
    var isReserved = false
    var hasSlot = false
    var slot = BufferSlot(0)
}

/// Serving: requests are cut into pieces, replies are sent once a turn. A connection that finds no buffers or records
/// stops parsing and is not read; it never holds what another one waits for, so that some request always progresses.
extension ResourceLoop {
    // MARK: Receiving

    mutating func armClientReceive(_ index: Int) {
        let connection = clients.connections + index
        switch connection.pointee.phase {
        case .handshake, .serving: break
        case .free, .draining, .closing: return
        }
        guard !connection.pointee.isReceiving, !connection.pointee.isWaiting else { return }
        if connection.pointee.isPaused, connection.pointee.isBetweenRequests { return }
        if connection.pointee.inputStart == connection.pointee.inputEnd {
            connection.pointee.inputStart = 0
            connection.pointee.inputEnd = 0
        } else if connection.pointee.inputStart > ClientConnection.receiveBytes / 2 {
            connection.pointee.input.copyMemory(
                from: connection.pointee.input + connection.pointee.inputStart,
                byteCount: connection.pointee.inputEnd - connection.pointee.inputStart)
            connection.pointee.inputEnd -= connection.pointee.inputStart
            connection.pointee.inputStart = 0
        }
        var count = 0
        if connection.pointee.piece >= 0 {
            let piece = clients.pieces[Int(connection.pointee.piece)]
            connection.pointee.vectors[0] = iovec(
                iov_base: pool.address(of: piece.pointee.slot) + connection.pointee.pieceReceived,
                iov_len: Int(piece.pointee.length) - connection.pointee.pieceReceived)
            count = 1
        }
        let room = ClientConnection.receiveBytes - connection.pointee.inputEnd
        if room > 0 {
            connection.pointee.vectors[count] = iovec(
                iov_base: connection.pointee.input + connection.pointee.inputEnd, iov_len: room)
            count += 1
        }
        // Full of requests that wait for their turn.
        guard count > 0 else { return }
        connection.pointee.message.pointee.msg_iov = connection.pointee.vectors
        connection.pointee.message.pointee.msg_iovlen = count
        let token = clientToken(.clientReceive, index)
        let entry = ring.entry(token)
        io_uring_prep_recvmsg(entry, connection.pointee.descriptor, connection.pointee.message, 0)
        entry.pointee.user_data = token.rawValue
        connection.pointee.isReceiving = true
        connection.pointee.pending += 1
        counters.receives &+= 1
    }

    mutating func clientReceived(_ token: SubmissionToken, _ result: Int32) {
        let index = token.index
        let connection = clients.connections + index
        guard token.isOf(generation: connection.pointee.generation) else { return }
        connection.pointee.pending -= 1
        connection.pointee.isReceiving = false
        switch connection.pointee.phase {
        case .free: return
        case .closing, .draining:
            endClientIfDone(index)
            return
        case .handshake, .serving: break
        }
        guard result > 0 else {
            if result == -EINTR || result == -EAGAIN || result == -ECANCELED {
                armClientReceive(index)
            } else {
                // The end of what the client says; what it asked before is still answered if it listens.
                dropUnfinishedInput(index)
                drainClient(index)
            }
            return
        }
        var bytes = Int(result)
        if connection.pointee.piece >= 0 {
            let length = Int(clients.pieces[Int(connection.pointee.piece)].pointee.length)
            let direct = min(bytes, length - connection.pointee.pieceReceived)
            connection.pointee.pieceReceived += direct
            bytes -= direct
        }
        connection.pointee.inputEnd += bytes
        serve(index)
    }

    /// Works through everything that has been received, then receives more.
    mutating func serve(_ index: Int) {
        let connection = clients.connections + index
        let generation = connection.pointee.generation
        connection.pointee.isWaiting = false
        var progresses = true
        while progresses, connection.pointee.generation == generation {
            switch connection.pointee.phase {
            case .handshake: progresses = shakeHands(index)
            case .serving:
                if connection.pointee.skip > 0 {
                    let count = min(connection.pointee.skip, connection.pointee.inputEnd - connection.pointee.inputStart)
                    connection.pointee.inputStart += count
                    connection.pointee.skip -= count
                    progresses = connection.pointee.skip == 0
                } else if connection.pointee.current >= 0 {
                    progresses = cutNextPiece(index)
                } else {
                    progresses = !connection.pointee.isPaused && takeRequest(index)
                }
            case .draining, .closing, .free: progresses = false
            }
        }
        guard connection.pointee.generation == generation else { return }
        armClientReceive(index)
        endClientIfDone(index)
    }

    // MARK: Requests

    /// Reads one request head. False: nothing more to do now.
    private mutating func takeRequest(_ index: Int) -> Bool {
        let connection = clients.connections + index
        let available = connection.pointee.inputEnd - connection.pointee.inputStart
        guard available >= NBDRequest.wireSize else { return false }
        guard clients.requests.freeCount > 0 else { return waitForRoom(index) }
        let bytes = UnsafeRawBufferPointer(
            start: connection.pointee.input + connection.pointee.inputStart, count: available)
        guard let request = NBDRequest(decoding: bytes.bytes) else {
            reportGarbage()
            closeClient(index)
            return false
        }
        connection.pointee.inputStart += NBDRequest.wireSize
        counters.clientRequests &+= 1
        var record = ClientRequest()
        record.connection = Int32(index)
        record.cookie = request.cookie
        record.offset = request.offset
        record.length = request.length
        record.pieceBytes = pieceBytes(connection.pointee.volume)
        record.fua = request.flags.contains(.fua)
        switch request.judge(connection.pointee.export, structuredReplies: connection.pointee.structuredReplies) {
        case .read:
            let isWhole = !connection.pointee.structuredReplies || request.flags.contains(.dontFragment)
            record.kind = isWhole ? .wholeRead : .chunkedRead
        case .write: record.kind = .write
        case .flush:
            record.kind = .flush
            record.length = 0
        case .trim: record.kind = .trim
        case .writeZeroes: record.kind = request.flags.contains(.noHole) ? .zeroNoUnmap : .zeroMayUnmap
        case .cache:
            answer(index, request.cookie, nil)
            return true
        case .disconnect:
            drainClient(index)
            return false
        case .refuse(let error):
            let isRead = request.command == .read && connection.pointee.structuredReplies
            if isRead { answerReadError(index, request.cookie, error) } else { answer(index, request.cookie, error) }
            connection.pointee.skip = request.payloadLength
            return true
        case .hangUp:
            reportGarbage()
            closeClient(index)
            return false
        }
        guard let slot = clients.requests.take(record) else { return waitForRoom(index) }
        connection.pointee.current = Int32(slot)
        return true
    }

    private func pieceBytes(_ volume: VolumeNumber) -> UInt32 {
        for export in clients.exports where export.volume == volume { return export.state.requestSectors * 512 }
        return Limits.requestSectors * 512
    }

    private mutating func waitForRoom(_ index: Int) -> Bool {
        clients.connections[index].isWaiting = true
        return false
    }

    /// Cuts the next piece off the current request and hands it to the core. False: bytes, buffers or records lack.
    private mutating func cutNextPiece(_ index: Int) -> Bool {
        let connection = clients.connections + index
        let current = Int(connection.pointee.current)
        let request = clients.requests[current]
        switch request.pointee.kind {
        case .write: return cutWrite(index, current)
        case .wholeRead: return cutWholeRead(index, current)
        case .chunkedRead:
            let rest = request.pointee.length - request.pointee.issued
            let length = min(rest, request.pointee.pieceBytes)
            guard clients.pieces.freeCount > 0, pool.reserve(count: 1, bytes: Int(length)) else { return waitForRoom(index) }
            let id = newPiece(current, length: length, isReserved: true)
            let isLast = request.pointee.issued == request.pointee.length
            if isLast { connection.pointee.current = -1 }
            issueRead(id)
            return true
        case .trim, .zeroMayUnmap, .zeroNoUnmap:
            guard clients.pieces.freeCount > 0 else { return waitForRoom(index) }
            // Ends of pieces fall on activity log extents.
            let position = request.pointee.offset + UInt64(request.pointee.issued)
            let extent = ActivityLogExtent.sectors * Sector.bytes
            let most = UInt64(Limits.discardSectors) * Sector.bytes - position % extent
            let length = UInt32(min(UInt64(request.pointee.length - request.pointee.issued), most))
            let kind: DiscardKind =
                switch request.pointee.kind {
                case .zeroMayUnmap: .zeroMayUnmap
                case .zeroNoUnmap: .zeroNoUnmap
                default: .trim
                }
            let id = newPiece(current, length: length, isReserved: false)
            if request.pointee.issued == request.pointee.length { connection.pointee.current = -1 }
            deliver(.discardRequested(requestID(id), connection.pointee.volume, range(id), kind))
            return true
        case .flush:
            guard clients.pieces.freeCount > 0 else { return waitForRoom(index) }
            let id = newPiece(current, length: 0, isReserved: false)
            connection.pointee.current = -1
            deliver(.flushRequested(requestID(id), connection.pointee.volume))
            return true
        }
    }

    private mutating func cutWrite(_ index: Int, _ current: Int) -> Bool {
        let connection = clients.connections + index
        let request = clients.requests[current]
        if connection.pointee.piece < 0 {
            let length = min(request.pointee.length - request.pointee.issued, request.pointee.pieceBytes)
            guard clients.pieces.freeCount > 0, pool.reserve(count: 1, bytes: Int(length)),
                let slot = pool.leaseReserved(bytes: Int(length))
            else { return waitForRoom(index) }
            let id = newPiece(current, length: length, isReserved: false)
            clients.pieces[id].pointee.slot = slot
            clients.pieces[id].pointee.hasSlot = true
            connection.pointee.piece = Int32(id)
            connection.pointee.pieceReceived = 0
        }
        let id = Int(connection.pointee.piece)
        let piece = clients.pieces[id]
        let missing = Int(piece.pointee.length) - connection.pointee.pieceReceived
        let copied = min(missing, connection.pointee.inputEnd - connection.pointee.inputStart)
        if copied > 0 {
            (pool.address(of: piece.pointee.slot) + connection.pointee.pieceReceived).copyMemory(
                from: connection.pointee.input + connection.pointee.inputStart, byteCount: copied)
            connection.pointee.inputStart += copied
            connection.pointee.pieceReceived += copied
        }
        guard copied == missing else { return false }
        connection.pointee.piece = -1
        piece.pointee.hasSlot = false
        if request.pointee.issued == request.pointee.length { connection.pointee.current = -1 }
        deliver(
            .writeRequested(
                requestID(id), connection.pointee.volume, range(id), piece.pointee.slot, fua: request.pointee.fua))
        return true
    }

    /// A read whose reply is one run of bytes. Up to four pieces are gathered among other requests; more only while
    /// nothing else is in flight on the connection, window by window, since nothing may come in between.
    private mutating func cutWholeRead(_ index: Int, _ current: Int) -> Bool {
        let connection = clients.connections + index
        let request = clients.requests[current]
        let isLarge = request.pointee.length > UInt32(ClientRequest.window) * request.pointee.pieceBytes
        // The window in work is answered first; `replyToClient` comes back here.
        if isLarge && (request.pointee.outstanding > 0 || connection.pointee.inFlight > 0) { return false }
        let rest = request.pointee.length - request.pointee.issued
        guard rest > 0 else { return false }
        let count = min(ClientRequest.window, Int((rest - 1) / request.pointee.pieceBytes) + 1)
        let bytes = count == 1 ? Int(rest) : Int(request.pointee.pieceBytes)
        guard clients.pieces.freeCount >= count, pool.reserve(count: count, bytes: bytes) else { return waitForRoom(index) }
        request.pointee.pieceCount = count
        var ids: (Int32, Int32, Int32, Int32) = (-1, -1, -1, -1)
        for k in 0..<count {
            let length = min(request.pointee.length - request.pointee.issued, request.pointee.pieceBytes)
            let id = newPiece(current, length: length, isReserved: true)
            // The last piece may fit a smaller buffer than was reserved; it keeps the promise of the larger class.
            if count > 1 && BufferPool.sizeClass(bytes: Int(length)) != BufferPool.sizeClass(bytes: bytes) {
                pool.cancelReservation(bytes: bytes)
                clients.pieces[id].pointee.isReserved = pool.reserve(count: 1, bytes: Int(length))
            }
            switch k {
            case 0: ids.0 = Int32(id)
            case 1: ids.1 = Int32(id)
            case 2: ids.2 = Int32(id)
            default: ids.3 = Int32(id)
            }
        }
        request.pointee.pieces = ids
        if !isLarge { connection.pointee.current = -1 }
        for id in [ids.0, ids.1, ids.2, ids.3].prefix(count) { issueRead(Int(id)) }
        return !isLarge
    }

    private mutating func newPiece(_ parent: Int, length: UInt32, isReserved: Bool) -> Int {
        let request = clients.requests[parent]
        var piece = ClientPiece()
        piece.parent = Int32(parent)
        piece.connection = request.pointee.connection
        piece.offset = request.pointee.offset + UInt64(request.pointee.issued)
        piece.length = length
        piece.isReserved = isReserved
        guard let index = clients.pieces.take(piece) else {
            invariant(false, "a piece is cut only while there is a record for it")
            return 0
        }
        request.pointee.issued += length
        request.pointee.outstanding += 1
        clients.connections[Int(request.pointee.connection)].inFlight += 1
        return index
    }

    private mutating func issueRead(_ id: Int) {
        let connection = Int(clients.pieces[id].pointee.connection)
        deliver(.readRequested(requestID(id), clients.connections[connection].volume, range(id)))
    }

    private func requestID(_ piece: Int) -> RequestID {
        RequestID(index: UInt32(piece), generation: clients.pieces.generation(piece))
    }

    private func range(_ piece: Int) -> SectorRange {
        SectorRange(clients.pieces[piece].pointee.offset >> 9, clients.pieces[piece].pointee.length >> 9)
    }

    /// The buffer for a local read on behalf of a client.
    mutating func leaseForClientRead(_ request: RequestID, bytes: Int) -> BufferSlot? {
        let piece = clients.pieces[Int(request.index)]
        guard piece.pointee.isReserved,
            BufferPool.sizeClass(bytes: bytes) == BufferPool.sizeClass(bytes: Int(piece.pointee.length))
        else { return pool.leaseForPeer(bytes: bytes, use: .replyToClient) }
        guard let slot = pool.leaseReserved(bytes: bytes) else { return nil }
        piece.pointee.isReserved = false
        return slot
    }

    // MARK: Replies

    mutating func replyToClient(_ id: RequestID, _ error: ClientError?, _ data: BufferSlot?) {
        let pieceIndex = Int(id.index)
        invariant(
            pieceIndex < clients.pieces.capacity && clients.pieces.generation(pieceIndex) == id.generation,
            "a request is answered once")
        let piece = clients.pieces[pieceIndex].pointee
        if piece.isReserved { pool.cancelReservation(bytes: Int(piece.length)) }
        if let data { pool.adopt(data) }
        let parent = Int(piece.parent)
        let request = clients.requests[parent]
        let index = Int(piece.connection)
        let connection = clients.connections + index
        connection.pointee.inFlight -= 1
        request.pointee.outstanding -= 1
        if let error, request.pointee.error == nil { request.pointee.error = error }
        let isAudible = connection.pointee.phase == .serving || connection.pointee.phase == .draining
        let isComplete = request.pointee.outstanding == 0 && request.pointee.issued == request.pointee.length

        switch request.pointee.kind {
        case .chunkedRead:
            clients.pieces.give(pieceIndex)
            if !isAudible {
                if let data { pool.release(data) }
            } else if let data, error == nil {
                connection.pointee.output.append(length: NBDReply.dataChunkSize) { target in
                    var output = OutputRawSpan(buffer: target, initializedCount: 0)
                    NBDReply.encodeData(
                        cookie: request.pointee.cookie, offset: piece.offset, length: piece.length, isLast: isComplete,
                        into: &output)
                    _ = output.finalize(for: target)
                }
                connection.pointee.output.append(data, length: Int(piece.length))
                markDirty(index)
            } else {
                if let data { pool.release(data) }
                connection.pointee.output.append(length: NBDReply.errorOffsetChunkSize) { target in
                    var output = OutputRawSpan(buffer: target, initializedCount: 0)
                    NBDReply.encodeError(
                        cookie: request.pointee.cookie, error: NBDError(error ?? .io), offset: piece.offset,
                        isLast: isComplete, into: &output)
                    _ = output.finalize(for: target)
                }
                markDirty(index)
            }
            if isComplete { clients.requests.give(parent) }
        case .wholeRead:
            clients.pieces[pieceIndex].pointee.isReserved = false
            if let data {
                clients.pieces[pieceIndex].pointee.slot = data
                clients.pieces[pieceIndex].pointee.hasSlot = true
            }
            if request.pointee.outstanding == 0 { finishWindow(index, parent, isAudible: isAudible) }
        case .write, .flush, .trim, .zeroMayUnmap, .zeroNoUnmap:
            invariant(data == nil, "only reads are answered with data")
            clients.pieces.give(pieceIndex)
            if isComplete { finishWrite(index, parent, isAudible: isAudible) }
        }
        clients.returns &+= 1
        if connection.pointee.current >= 0 { connection.pointee.isWaiting = true }
        endClientLater(index)
    }

    private mutating func finishWrite(_ index: Int, _ parent: Int, isAudible: Bool) {
        let request = clients.requests[parent]
        switch request.pointee.kind {
        case .trim, .zeroMayUnmap, .zeroNoUnmap:
            if request.pointee.fua && request.pointee.error == nil && clients.pieces.freeCount > 0 {
                // Durable before the reply: a flush stands in for the missing FUA of discards.
                request.pointee.kind = .flush
                request.pointee.offset = 0
                request.pointee.issued = 0
                request.pointee.length = 0
                let id = newPiece(parent, length: 0, isReserved: false)
                later(.flushRequested(requestID(id), clients.connections[index].volume))
                return
            }
        default: break
        }
        if isAudible { answer(index, request.pointee.cookie, request.pointee.error.map { NBDError($0) }) }
        clients.requests.give(parent)
    }

    /// All pieces of the window have been answered: their data leaves in order.
    private mutating func finishWindow(_ index: Int, _ parent: Int, isAudible: Bool) {
        let request = clients.requests[parent]
        let connection = clients.connections + index
        let failed = request.pointee.error != nil
        let isComplete = request.pointee.issued == request.pointee.length
        if isAudible {
            if failed {
                let error = NBDError(request.pointee.error ?? .io)
                if request.pointee.hasBegun {
                    closeClient(index)
                } else if connection.pointee.structuredReplies {
                    answerReadError(index, request.pointee.cookie, error)
                } else {
                    answer(index, request.pointee.cookie, error)
                }
            } else if !request.pointee.hasBegun {
                request.pointee.hasBegun = true
                if connection.pointee.structuredReplies {
                    connection.pointee.output.append(length: NBDReply.dataChunkSize) { target in
                        var output = OutputRawSpan(buffer: target, initializedCount: 0)
                        NBDReply.encodeData(
                            cookie: request.pointee.cookie, offset: request.pointee.offset,
                            length: request.pointee.length, isLast: true, into: &output)
                        _ = output.finalize(for: target)
                    }
                } else {
                    answer(index, request.pointee.cookie, nil)
                }
            }
        }
        let ids = request.pointee.pieces
        for id in [ids.0, ids.1, ids.2, ids.3].prefix(request.pointee.pieceCount) {
            let piece = clients.pieces[Int(id)].pointee
            clients.pieces.give(Int(id))
            guard piece.hasSlot else { continue }
            if isAudible && !failed {
                connection.pointee.output.append(piece.slot, length: Int(piece.length))
            } else {
                pool.release(piece.slot)
            }
        }
        markDirty(index)
        if isComplete || failed || !isAudible {
            if connection.pointee.current == Int32(parent) { connection.pointee.current = -1 }
            clients.requests.give(parent)
        }
        // A large read goes on with its next window, or the connection with its next request.
        connection.pointee.isWaiting = true
    }

    private mutating func answer(_ index: Int, _ cookie: UInt64, _ error: NBDError?) {
        clients.connections[index].output.append(length: NBDReply.simpleSize) { target in
            var output = OutputRawSpan(buffer: target, initializedCount: 0)
            NBDReply.encodeSimple(cookie: cookie, error: error, into: &output)
            _ = output.finalize(for: target)
        }
        markDirty(index)
    }

    private mutating func answerReadError(_ index: Int, _ cookie: UInt64, _ error: NBDError) {
        clients.connections[index].output.append(length: NBDReply.errorChunkSize) { target in
            var output = OutputRawSpan(buffer: target, initializedCount: 0)
            NBDReply.encodeError(cookie: cookie, error: error, into: &output)
            _ = output.finalize(for: target)
        }
        markDirty(index)
    }

    // MARK: Sending

    @inline(__always)
    mutating func markDirty(_ index: Int) {
        clients.connections[index].isDirty = true
        clients.anyDirty = true
    }

    /// One send per connection and turn.
    mutating func flushClients() {
        guard clients.anyDirty else { return }
        clients.anyDirty = false
        for index in 0..<ClientTable.connections where clients.connections[index].isDirty {
            armClientSend(index)
        }
    }

    private mutating func armClientSend(_ index: Int) {
        let connection = clients.connections + index
        guard connection.pointee.phase != .free, connection.pointee.phase != .closing else {
            connection.pointee.isDirty = false
            return
        }
        // A completion of the send in flight marks the connection dirty again.
        connection.pointee.isDirty = false
        guard !connection.pointee.output.isInFlight, !connection.pointee.output.isEmpty else { return }
        _ = connection.pointee.output.prepare(pool)
        connection.pointee.output.isInFlight = true
        let token = clientToken(.clientSend, index)
        let entry = ring.entry(token)
        io_uring_prep_sendmsg(
            entry, connection.pointee.descriptor, connection.pointee.output.message, UInt32(MSG_NOSIGNAL))
        entry.pointee.user_data = token.rawValue
        connection.pointee.pending += 1
        counters.sends &+= 1
    }

    mutating func clientSent(_ token: SubmissionToken, _ result: Int32) {
        let index = token.index
        let connection = clients.connections + index
        guard token.isOf(generation: connection.pointee.generation) else { return }
        connection.pointee.pending -= 1
        connection.pointee.output.sendEnded()
        if connection.pointee.phase == .closing {
            endClientIfDone(index)
            return
        }
        if result < 0 && result != -EINTR && result != -EAGAIN {
            closeClient(index)
            return
        }
        var rest = Int(max(result, 0))
        loop: while true {
            switch connection.pointee.output.advance(&rest).left {
            case .nothing: break loop
            case .piece: break
            case .payload(let slot): pool.release(slot)
            }
        }
        if !connection.pointee.output.isEmpty { markDirty(index) }
        endClientIfDone(index)
    }
}
