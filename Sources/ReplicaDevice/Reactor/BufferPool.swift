import Glibc
import ReplicaProto

/// How many payload buffers of which size a resource owns.
package struct BufferConfiguration: Sendable {
    /// 16 KiB: any small write. Twice `Limits.clientRequests`, so that clients can never starve the peer of them.
    package var small = 2048
    /// 128 KiB.
    package var medium = 256
    /// 1 MiB, the largest request.
    package var large = 48

    package init() {}
    package init(small: Int, medium: Int, large: Int) {
        self.small = small
        self.medium = medium
        self.large = large
    }
}

/// The payload buffers of a resource: one region, cut into three size classes at start; nothing is allocated later.
///
/// A slot has an owner (the core, a connection) and any number of loans (I/O in flight); it returns to the free list
/// when the last of them is gone. Two nodes that flood each other must not starve each other, so half of each class
/// is kept from clients:
/// - a client request *reserves* its buffers when it is admitted and waits, unparsed, until it can (`reserve`);
/// - work for the peer takes what is neither leased nor reserved (`leaseForPeer`), and reads for the peer leave
///   `receiveFloor` buffers to what the peer writes, since only received writes are sure to be finished by the disk alone.
struct BufferPool: ~Copyable {
    struct SizeClass {
        var bytes: Int
        var first: Int
        var count: Int
        var freeCount: Int
        /// Promised to admitted client requests, but not leased yet.
        var promised: Int
        /// Promised to clients, or leased for them and not returned yet.
        var clientHeld: Int
        var clientLimit: Int
        /// Top of the free stack within `freeSlots[first ..< first + count]`.
        var receiveFloor: Int { min(4, count / 4) }
    }

    static let classCount = 3
    let region: UnsafeMutableRawBufferPointer
    private let classes: UnsafeMutablePointer<SizeClass>
    private let freeSlots: UnsafeMutablePointer<UInt32>
    private let references: UnsafeMutablePointer<UInt16>
    private let isClients: UnsafeMutablePointer<Bool>
    private let total: Int
    /// Set while the region is known to the ring as buffer 0.
    var isRegistered = false
    /// Increases with every buffer that returns; whoever waits for buffers looks at it once a turn.
    private(set) var returns: UInt64 = 0

    init(_ configuration: BufferConfiguration) throws(SystemError) {
        let sizes = [16_384, 131_072, 1_048_576]
        let counts = [configuration.small, configuration.medium, configuration.large]
        let bytes = zip(sizes, counts).reduce(0) { $0 + $1.0 * $1.1 }
        guard let memory = mmap(nil, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            memory != MAP_FAILED
        else { throw SystemError.last("mmap") }
        region = UnsafeMutableRawBufferPointer(start: memory, count: bytes)
        total = counts.reduce(0, +)
        classes = .allocate(capacity: Self.classCount)
        freeSlots = .allocate(capacity: total)
        references = .allocate(capacity: total)
        references.initialize(repeating: 0, count: total)
        isClients = .allocate(capacity: total)
        isClients.initialize(repeating: false, count: total)
        var first = 0
        for k in 0..<Self.classCount {
            for j in 0..<counts[k] { (freeSlots + first + j).initialize(to: UInt32(first + j)) }
            (classes + k).initialize(
                to: SizeClass(
                    bytes: sizes[k], first: first, count: counts[k], freeCount: counts[k], promised: 0, clientHeld: 0,
                    clientLimit: counts[k] / 2))
            first += counts[k]
        }
    }

    deinit {
        munmap(region.baseAddress, region.count)
        classes.deallocate()
        freeSlots.deallocate()
        references.deallocate()
        isClients.deallocate()
    }

    // MARK: Sizes

    @inline(__always)
    static func sizeClass(bytes: Int) -> Int { bytes <= 16_384 ? 0 : bytes <= 131_072 ? 1 : 2 }

    @inline(__always)
    private func sizeClass(of slot: BufferSlot) -> Int {
        let index = Int(slot.value)
        invariant(index < total, "a buffer slot is one of the pool's")
        return index < classes[1].first ? 0 : index < classes[2].first ? 1 : 2
    }

    @inline(__always)
    func address(of slot: BufferSlot) -> UnsafeMutableRawPointer {
        let k = sizeClass(of: slot)
        var offset = 0
        if k > 0 { offset += classes[0].bytes &* classes[0].count }
        if k > 1 { offset += classes[1].bytes &* classes[1].count }
        offset += (Int(slot.value) &- classes[k].first) &* classes[k].bytes
        return region.baseAddress.unsafelyUnwrapped + offset
    }

    func capacity(of slot: BufferSlot) -> Int { classes[sizeClass(of: slot)].bytes }

    /// Whether nothing is leased or promised.
    var isIdle: Bool {
        for k in 0..<Self.classCount where classes[k].freeCount != classes[k].count || classes[k].promised != 0 {
            return false
        }
        return true
    }

    // MARK: Clients

    /// Promises `count` buffers for `bytes` each to one client request. False: not now.
    mutating func reserve(count: Int, bytes: Int) -> Bool {
        let k = Self.sizeClass(bytes: bytes)
        guard classes[k].clientHeld + count <= classes[k].clientLimit,
            classes[k].freeCount - classes[k].promised >= count
        else { return false }
        classes[k].clientHeld &+= count
        classes[k].promised &+= count
        return true
    }

    /// Ends a promise whose buffer was never leased.
    mutating func cancelReservation(bytes: Int) {
        let k = Self.sizeClass(bytes: bytes)
        classes[k].clientHeld &-= 1
        classes[k].promised &-= 1
        invariant(classes[k].clientHeld >= 0 && classes[k].promised >= 0, "a reservation ends once")
        returns &+= 1
    }

    /// Leases a buffer that was promised. Nil only if replies of the peer to clients hold it for a moment; never
    /// right after `reserve`.
    mutating func leaseReserved(bytes: Int) -> BufferSlot? {
        let k = Self.sizeClass(bytes: bytes)
        invariant(classes[k].promised > 0, "a buffer was promised")
        guard classes[k].freeCount > 0 else { return nil }
        classes[k].promised &-= 1
        let slot = take(k)
        isClients[Int(slot.value)] = true
        return slot
    }

    /// A buffer that came from the peer now waits for a client: it counts as the clients'.
    mutating func adopt(_ slot: BufferSlot) {
        guard !isClients[Int(slot.value)] else { return }
        isClients[Int(slot.value)] = true
        classes[sizeClass(of: slot)].clientHeld &+= 1
    }

    // MARK: The peer

    enum PeerUse { case received, read, replyToClient }

    /// Leases a buffer for work on behalf of the peer; nil: not now.
    mutating func leaseForPeer(bytes: Int, use: PeerUse) -> BufferSlot? {
        let k = Self.sizeClass(bytes: bytes)
        let available: Int
        switch use {
        case .received: available = classes[k].freeCount - classes[k].promised
        case .read: available = classes[k].freeCount - classes[k].promised - classes[k].receiveFloor
        case .replyToClient: available = classes[k].freeCount
        }
        guard available > 0 else { return nil }
        return take(k)
    }

    // MARK: Ownership

    @inline(__always)
    private mutating func take(_ k: Int) -> BufferSlot {
        classes[k].freeCount &-= 1
        let slot = freeSlots[classes[k].first &+ classes[k].freeCount]
        invariant(references[Int(slot)] == 0, "a free buffer has no owner")
        references[Int(slot)] = 1
        return BufferSlot(slot)
    }

    /// A loan: I/O that needs the bytes has been started.
    @inline(__always)
    mutating func lend(_ slot: BufferSlot) {
        invariant(Int(slot.value) < total && references[Int(slot.value)] > 0, "only a leased buffer is lent")
        references[Int(slot.value)] &+= 1
    }

    /// The owner or a borrower is done.
    @inline(__always)
    mutating func release(_ slot: BufferSlot) {
        let k = sizeClass(of: slot)
        invariant(references[Int(slot.value)] > 0, "a buffer is released once per holder")
        references[Int(slot.value)] &-= 1
        guard references[Int(slot.value)] == 0 else { return }
        if isClients[Int(slot.value)] {
            isClients[Int(slot.value)] = false
            classes[k].clientHeld &-= 1
        }
        freeSlots[classes[k].first &+ classes[k].freeCount] = slot.value
        classes[k].freeCount &+= 1
        returns &+= 1
    }
}
