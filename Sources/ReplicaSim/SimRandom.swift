import ReplicaProto

/// The simulator's only source of chance: SplitMix64. One seed, one run.
///
/// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
package struct SimRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }

    /// 0 ..< bound
    mutating func below(_ bound: Int) -> Int { Int(truncatingIfNeeded: next() >> 1) % bound }
    mutating func between(_ low: Int, _ high: Int) -> Int { low + below(high - low + 1) }
    mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
    mutating func pick<Element>(_ items: [Element]) -> Element { items[below(items.count)] }

    /// Mostly near `low`, now and then near `high`: how long things take.
    mutating func delay(_ low: TimeSpan, _ high: TimeSpan) -> TimeSpan {
        let width = high.nanoseconds - low.nanoseconds
        if width == 0 { return low }
        let part = below(8) == 0 ? width : width / 8
        return TimeSpan(nanoseconds: low.nanoseconds + next() % (part + 1))
    }

    /// Another generator, independent of what this one yields later.
    mutating func fork() -> SimRandom { SimRandom(seed: next()) }
}
