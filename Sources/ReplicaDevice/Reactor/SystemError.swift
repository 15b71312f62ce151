import Glibc

/// A system call that failed: which one, and its errno.
package struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    package var call: String
    package var code: Int32

    package init(_ call: String, _ code: Int32) {
        self.call = call
        self.code = code
    }
    /// Takes the errno of a call that has just failed.
    package static func last(_ call: String) -> SystemError { SystemError(call, errno) }
    package var description: String { "\(call): \(Self.text(code))" }
    package static func text(_ code: Int32) -> String { String(cString: strerror(code)) }
}

/// The monotonic clock in nanoseconds.
@inline(__always)
func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
