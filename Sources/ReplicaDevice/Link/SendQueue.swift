import Glibc
import ReplicaProto

/// What waits to leave on one stream, in order: encoded heads in a byte ring, payloads in their buffers. One `sendmsg`
/// takes as much of it as the vector holds.
///
/// Positions in the byte ring count for ever; masked they are addresses. Both rings double when they are full (a
/// large bitmap exchange); memory that a send in flight still reads is retired, and freed when that send has ended.
struct SendQueue: ~Copyable {
    private struct Segment {
        /// Start in the byte ring; not used for payload segments.
        var position: UInt64
        var length: UInt32
        /// Buffer with the payload, `.max` for bytes of the ring, `zeroSlot` for zeroes.
        var slot: UInt32
        /// Bytes of it already gone.
        var sent: UInt32
        /// Reported when the segment has left.
        var report: RequestID
        var isReported: Bool
    }

    static let vectorCount = 1024
    private static let zeroSlot = UInt32.max - 1

    private var bytes: UnsafeMutableRawPointer
    private var byteCapacity: Int
    private var byteHead: UInt64 = 0
    private var byteTail: UInt64 = 0
    private var segments: UnsafeMutablePointer<Segment>
    private var segmentCapacity: Int
    private var segmentHead: UInt64 = 0
    private var segmentTail: UInt64 = 0
    private let vectors: UnsafeMutablePointer<iovec>
    let message: UnsafeMutablePointer<msghdr>
    private var retired: [UnsafeMutableRawPointer] = []
    var isInFlight = false
    /// Segments before this one are named by the message in flight and keep their length.
    private var preparedTail: UInt64 = 0

    init(byteCapacity: Int = 1 << 18, segmentCapacity: Int = 4096) {
        self.byteCapacity = byteCapacity
        self.segmentCapacity = segmentCapacity
        bytes = .allocate(byteCount: byteCapacity, alignment: 64)
        segments = .allocate(capacity: segmentCapacity)
        vectors = .allocate(capacity: Self.vectorCount)
        vectors.initialize(repeating: iovec(), count: Self.vectorCount)
        message = .allocate(capacity: 1)
        message.initialize(to: msghdr())
    }

    deinit {
        bytes.deallocate()
        segments.deallocate()
        vectors.deallocate()
        message.deallocate()
        for memory in retired { memory.deallocate() }
    }

    @inline(__always) var isEmpty: Bool { segmentHead == segmentTail }
    /// Bytes of the ring that have not left.
    var waitingBytes: Int { isEmpty ? 0 : Int(byteTail &- byteHead) }
    /// More answers wait than any load of a peer that reads them can come to: a million and a half.
    var isFlooded: Bool { waitingBytes > 64 << 20 }
    /// Bytes and payloads that have not left, for statistics.
    var segmentCount: Int { Int(segmentTail &- segmentHead) }

    // MARK: Filling

    /// Appends `length` bytes that `fill` writes. They lie in one piece.
    @inline(__always)
    mutating func append(length: Int, fill: (UnsafeMutableRawBufferPointer) -> Void) {
        let position = reserve(length)
        fill(UnsafeMutableRawBufferPointer(start: bytes + Int(position & UInt64(byteCapacity &- 1)), count: length))
        byteTail = position &+ UInt64(length)
        if segmentTail != segmentHead, position & UInt64(byteCapacity &- 1) != 0 {
            // Directly behind the last piece, not around the end of the ring: one segment, one vector.
            let last = segment(segmentTail &- 1)
            if last.pointee.slot == .max, !last.pointee.isReported,
                last.pointee.position &+ UInt64(last.pointee.length) == position,
                segmentTail != preparedTail
            {
                last.pointee.length &+= UInt32(length)
                return
            }
        }
        push(Segment(position: position, length: UInt32(length), slot: .max, sent: 0, report: Self.nobody, isReported: false))
    }

    /// Appends a payload, or `length` bytes of it from byte `offset` on; its loan ends when `advance` names it.
    mutating func append(_ slot: BufferSlot, from offset: Int = 0, length: Int) {
        push(
            Segment(
                position: 0, length: UInt32(offset + length), slot: slot.value, sent: UInt32(offset), report: Self.nobody,
                isReported: false))
    }

    /// Appends zeroes as a payload: at most as many as lie at the address that `prepare` gets.
    mutating func appendZeroes(length: Int) {
        push(
            Segment(
                position: 0, length: UInt32(length), slot: Self.zeroSlot, sent: 0, report: Self.nobody, isReported: false))
    }

    /// Wants to hear when everything appended so far has left.
    mutating func reportLast(_ request: RequestID) {
        invariant(!isEmpty, "a report follows a packet")
        let last = segment(segmentTail &- 1)
        last.pointee.report = request
        last.pointee.isReported = true
    }

    private static let nobody = RequestID(index: 0, generation: 0)

    @inline(__always)
    private func segment(_ position: UInt64) -> UnsafeMutablePointer<Segment> {
        segments + Int(position & UInt64(segmentCapacity &- 1))
    }

    private mutating func push(_ new: Segment) {
        if segmentTail &- segmentHead == UInt64(segmentCapacity) { growSegments() }
        segment(segmentTail).initialize(to: new)
        segmentTail &+= 1
    }

    private mutating func growSegments() {
        let bigger = UnsafeMutablePointer<Segment>.allocate(capacity: segmentCapacity * 2)
        var position = segmentHead
        while position != segmentTail {
            (bigger + Int(position & UInt64(segmentCapacity * 2 - 1))).initialize(to: segment(position).pointee)
            position &+= 1
        }
        segments.deallocate()
        segments = bigger
        segmentCapacity *= 2
    }

    /// A place for `length` bytes in one piece.
    private mutating func reserve(_ length: Int) -> UInt64 {
        if isEmpty && !isInFlight { byteHead = byteTail }
        while true {
            var position = byteTail
            let offset = Int(position & UInt64(byteCapacity &- 1))
            if offset &+ length > byteCapacity { position &+= UInt64(byteCapacity &- offset) }
            if position &+ UInt64(length) &- byteHead <= UInt64(byteCapacity) { return position }
            growBytes()
        }
    }

    private mutating func growBytes() {
        let capacity = byteCapacity * 2
        let bigger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 64)
        // Pack what waits from offset 0 on: positions change, pieces stay whole.
        var cursor = 0
        var position = segmentHead
        while position != segmentTail {
            let piece = segment(position)
            position &+= 1
            guard piece.pointee.slot == .max else { continue }
            (bigger + cursor).copyMemory(
                from: bytes + Int(piece.pointee.position & UInt64(byteCapacity &- 1)), byteCount: Int(piece.pointee.length))
            piece.pointee.position = UInt64(cursor)
            cursor += Int(piece.pointee.length)
        }
        if isInFlight { retired.append(bytes) } else { bytes.deallocate() }
        bytes = bigger
        byteCapacity = capacity
        byteHead = 0
        byteTail = UInt64(cursor)
    }

    // MARK: Emptying

    /// Fills the message with what waits. Returns its bytes.
    mutating func prepare(_ pool: borrowing BufferPool, zeroes: UnsafeMutableRawPointer? = nil) -> Int {
        var count = 0
        var total = 0
        var position = segmentHead
        while position != segmentTail && count < Self.vectorCount {
            let piece = segment(position)
            let start: UnsafeMutableRawPointer?
            if piece.pointee.slot == .max {
                start = bytes + Int(piece.pointee.position & UInt64(byteCapacity &- 1))
            } else if piece.pointee.slot == Self.zeroSlot {
                start = zeroes
            } else {
                start = pool.address(of: BufferSlot(piece.pointee.slot))
            }
            let length = Int(piece.pointee.length &- piece.pointee.sent)
            vectors[count] = iovec(iov_base: start.map { $0 + Int(piece.pointee.sent) }, iov_len: length)
            total &+= length
            count &+= 1
            position &+= 1
        }
        preparedTail = position
        message.pointee.msg_iov = vectors
        message.pointee.msg_iovlen = count
        return total
    }

    enum Left {
        case nothing
        case piece
        case payload(BufferSlot)
    }

    /// Accounts for sent bytes, one finished segment at a time: call until it returns `.nothing`.
    mutating func advance(_ count: inout Int) -> (left: Left, report: RequestID?) {
        guard segmentHead != segmentTail else { return (.nothing, nil) }
        let piece = segment(segmentHead)
        let rest = Int(piece.pointee.length &- piece.pointee.sent)
        guard count >= rest, count > 0 || rest == 0 else {
            piece.pointee.sent &+= UInt32(count)
            count = 0
            return (.nothing, nil)
        }
        count &-= rest
        return finishFirst()
    }

    /// Drops the first segment unsent; for a stream that has ended.
    mutating func discard() -> Left { segmentHead == segmentTail ? .nothing : finishFirst().left }

    private mutating func finishFirst() -> (left: Left, report: RequestID?) {
        let piece = segment(segmentHead).pointee
        segmentHead &+= 1
        if piece.slot == .max { byteHead = piece.position &+ UInt64(piece.length) }
        let isOurs = piece.slot == .max || piece.slot == Self.zeroSlot
        return (isOurs ? .piece : .payload(BufferSlot(piece.slot)), piece.isReported ? piece.report : nil)
    }

    /// A send has ended: what it read may go.
    mutating func sendEnded() {
        isInFlight = false
        if !retired.isEmpty {
            for memory in retired { memory.deallocate() }
            retired.removeAll()
        }
    }
}
