import ReplicaProto

/// What travels on a simulated stream.
enum SimMessage {
    case marker(StreamKind)
    case packet(StreamKind, VolumeNumber, Packet, [UInt32]?)
    case end(SocketFailure)
}

/// One TCP stream between the two nodes: order is kept in each direction, everything else is chance.
struct SimStream {
    /// One of the two ends.
    struct End {
        var node: Int
        var life: Int
        var socket: SocketID
        var isOpen = true
        /// Carries packets from now on.
        var kind: StreamKind?
    }

    /// What is on its way to one end.
    struct Direction {
        private var messages: [(arrival: UInt64, message: SimMessage)] = []
        private var head = 0
        var lastArrival: UInt64 = 0
        /// Nothing moves before this.
        var stalledUntil: UInt64 = 0
        /// Nothing moves while the network is parted.
        var isHeld = false
        /// The sender's kernel counts the time that nothing was confirmed.
        var isWatched = false

        var first: (arrival: UInt64, message: SimMessage)? { head < messages.count ? messages[head] : nil }
        var count: Int { messages.count - head }

        mutating func append(_ message: SimMessage, arrival: UInt64) {
            messages.append((arrival, message))
            lastArrival = arrival
        }
        mutating func removeFirst() {
            head += 1
            if head == messages.count {
                messages.removeAll(keepingCapacity: true)
                head = 0
            }
        }
        /// Loses the last messages, keeping the first `kept`.
        mutating func truncate(keeping kept: Int) {
            if kept < count { messages.removeLast(count - kept) }
        }
    }

    var initiator: End
    var acceptor: End
    var toAcceptor = Direction()
    var toInitiator = Direction()
    /// Lost without anybody being told.
    var isDead = false

    subscript(toAcceptor isToAcceptor: Bool) -> Direction {
        get { isToAcceptor ? toAcceptor : toInitiator }
        _modify {
            if isToAcceptor { yield &toAcceptor } else { yield &toInitiator }
        }
    }

    func end(atAcceptor: Bool) -> End { atAcceptor ? acceptor : initiator }
}
