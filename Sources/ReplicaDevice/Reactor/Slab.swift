import ReplicaProto

/// A fixed number of trivial records, allocated once; a handle is an index, and a generation tells two uses apart.
struct Slab<Element>: ~Copyable {
    let capacity: Int
    private let elements: UnsafeMutablePointer<Element>
    private let generations: UnsafeMutablePointer<UInt32>
    private let free: UnsafeMutablePointer<Int32>
    private(set) var freeCount: Int

    init(capacity: Int, empty: Element) {
        self.capacity = capacity
        elements = .allocate(capacity: capacity)
        elements.initialize(repeating: empty, count: capacity)
        generations = .allocate(capacity: capacity)
        generations.initialize(repeating: 0, count: capacity)
        free = .allocate(capacity: capacity)
        for k in 0..<capacity { (free + k).initialize(to: Int32(capacity - 1 - k)) }
        freeCount = capacity
    }

    deinit {
        elements.deallocate()
        generations.deallocate()
        free.deallocate()
    }

    @inline(__always) var usedCount: Int { capacity &- freeCount }

    /// An index that is not in use, or nil.
    @inline(__always)
    mutating func take(_ element: Element) -> Int? {
        guard freeCount > 0 else { return nil }
        freeCount &-= 1
        let index = Int(free[freeCount])
        elements[index] = element
        return index
    }

    @inline(__always)
    mutating func give(_ index: Int) {
        invariant(freeCount < capacity, "a record is given back once")
        generations[index] &+= 1
        free[freeCount] = Int32(truncatingIfNeeded: index)
        freeCount &+= 1
    }

    @inline(__always)
    func generation(_ index: Int) -> UInt32 { generations[index] }

    /// The record in place. Valid as long as the slab.
    @inline(__always)
    subscript(index: Int) -> UnsafeMutablePointer<Element> {
        invariant(index >= 0 && index < capacity, "an index is one of the slab's")
        return elements + index
    }
}
