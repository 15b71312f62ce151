/// The core's source of chance: xoshiro256**, seeded from outside (the kernel's in the daemon, a test's in a test).
/// Good for identifiers and jitter; never for secrets, those are made outside (`Effect.makeChallenge`).
///
/// Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2018.
package struct RandomGenerator: RandomNumberGenerator, Sendable {
    private var a: UInt64, b: UInt64, c: UInt64, d: UInt64

    package init(seed: (UInt64, UInt64, UInt64, UInt64)) {
        (a, b, c, d) = seed
        if a | b | c | d == 0 { a = 1 }
    }
    package mutating func next() -> UInt64 {
        let scaled = b &* 5
        let result = ((scaled << 7) | (scaled >> 57)) &* 9
        let shifted = b << 17
        c ^= a
        d ^= b
        b ^= c
        a ^= d
        c ^= shifted
        d = (d << 45) | (d >> 19)
        return result
    }
    /// A span between 6/7 and 8/7 of `span`, so that two nodes don't stay in step.
    package mutating func jittered(_ span: TimeSpan) -> TimeSpan {
        let seventh = span.nanoseconds / 7
        return TimeSpan(nanoseconds: next() & 1 == 0 ? span.nanoseconds &- seventh : span.nanoseconds &+ seventh)
    }
    package mutating func coin() -> Bool { next() & 0x100 == 0 }
}
