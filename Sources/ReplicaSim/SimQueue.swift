import ReplicaProto

/// What is going to happen, in order of time; ties in order of arrival.
struct SimQueue {
    struct Entry {
        var time: UInt64
        var order: UInt64
        var what: SimAction
    }

    private var heap: [Entry] = []
    private var arrivals: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    var nextTime: UInt64? { heap.first?.time }

    mutating func add(_ what: SimAction, at time: Instant) {
        arrivals += 1
        heap.append(Entry(time: time.nanoseconds, order: arrivals, what: what))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if !Self.isEarlier(heap[child], heap[parent]) { break }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    mutating func take() -> (Instant, SimAction)? {
        guard let first = heap.first else { return nil }
        let last = heap.removeLast()
        if !heap.isEmpty {
            heap[0] = last
            var parent = 0
            while true {
                var least = parent
                let left = 2 * parent + 1
                if left < heap.count, Self.isEarlier(heap[left], heap[least]) { least = left }
                if left + 1 < heap.count, Self.isEarlier(heap[left + 1], heap[least]) { least = left + 1 }
                if least == parent { break }
                heap.swapAt(parent, least)
                parent = least
            }
        }
        return (Instant(nanoseconds: first.time), first.what)
    }

    private static func isEarlier(_ left: Entry, _ right: Entry) -> Bool {
        left.time < right.time || (left.time == right.time && left.order < right.order)
    }
}

/// One thing that happens at a moment. Numbers name nodes, operations, streams; a `life` that is over makes it void.
enum SimAction {
    /// The core asked to be woken.
    case clock(node: Int, life: Int)
    /// A disk operation moves on: its flush is through, or it ends.
    case disk(node: Int, operation: Int)
    /// The next message of one direction of a stream arrives.
    case deliver(stream: Int, toAcceptor: Bool)
    /// An event for a core that was decided earlier.
    case event(node: Int, life: Int, Int)
    case connectAttempt(node: Int, life: Int)
    /// Nobody has confirmed what was sent long ago.
    case retransmissionFails(stream: Int, toAcceptor: Bool)
    /// The clients of a node do something.
    case client(node: Int, life: Int)
    /// The next step of the scenario.
    case plan(Int)
    /// The administrator of both nodes looks after them.
    case administrator
    case startProcess(node: Int)
    case nextCommand(node: Int, life: Int)
}
