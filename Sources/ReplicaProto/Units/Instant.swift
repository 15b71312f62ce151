/// A moment on the monotonic clock of whoever drives the core, in nanoseconds since an origin of its choosing.
package struct Instant: Hashable, Comparable, Sendable {
    package var nanoseconds: UInt64
    @inlinable package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    @inlinable package static func < (left: Instant, right: Instant) -> Bool { left.nanoseconds < right.nanoseconds }
    @inlinable package static func + (left: Instant, right: TimeSpan) -> Instant {
        Instant(nanoseconds: left.nanoseconds &+ right.nanoseconds)
    }
    /// Time from `earlier` to this moment; zero if `earlier` lies in the future.
    @inlinable package func since(_ earlier: Instant) -> TimeSpan {
        TimeSpan(nanoseconds: nanoseconds > earlier.nanoseconds ? nanoseconds &- earlier.nanoseconds : 0)
    }
    package static let zero = Instant(nanoseconds: 0)
}

/// A length of time, never negative.
package struct TimeSpan: Hashable, Comparable, Sendable {
    package var nanoseconds: UInt64
    @inlinable package init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }
    @inlinable package static func seconds(_ count: Int) -> TimeSpan { TimeSpan(nanoseconds: UInt64(count) &* 1_000_000_000) }
    /// Tenths of a second, the unit of most of DRBD's network options.
    @inlinable package static func deciseconds(_ count: Int) -> TimeSpan { TimeSpan(nanoseconds: UInt64(count) &* 100_000_000) }
    @inlinable package static func milliseconds(_ count: Int) -> TimeSpan { TimeSpan(nanoseconds: UInt64(count) &* 1_000_000) }
    @inlinable package static func < (left: TimeSpan, right: TimeSpan) -> Bool { left.nanoseconds < right.nanoseconds }
    @inlinable package static func * (left: TimeSpan, right: Int) -> TimeSpan {
        TimeSpan(nanoseconds: left.nanoseconds &* UInt64(right))
    }
    /// Whole seconds, rounded down.
    package var wholeSeconds: UInt64 { nanoseconds / 1_000_000_000 }
}
