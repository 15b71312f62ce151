import Foundation

/// Seeds of the property tests: some that are always run, and the one that `REPLICA_SEED` names.
enum Seeds {
    static var thisRun: [UInt64] {
        let fixed: [UInt64] = [1, 2, 3, 42, 0xdead_beef]
        guard let text = ProcessInfo.processInfo.environment["REPLICA_SEED"], let seed = UInt64(text) else {
            return fixed
        }
        return [seed]
    }
}

/// The same numbers for the same seed, on every machine (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
