/// States a fact that holds unless this program is wrong. Always on, also in release builds, and keeps its message.
///
/// Never for foreign input: bytes from a socket, a disk or a file are answered with an error.
@inlinable
package func invariant(
    _ holds: @autoclosure () -> Bool, _ fact: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) {
    if !holds() { invariantBroken(fact(), file, line) }
}

/// Called with the fact before the process ends; set once, at its start. It may look, and must not touch the core.
nonisolated(unsafe) package var invariantWitness: ((String) -> Void)?

@usableFromInline @inline(never)
func invariantBroken(_ fact: String, _ file: StaticString, _ line: UInt) -> Never {
    let witness = unsafe invariantWitness
    // A second one, broken by the witness, only ends the process.
    unsafe invariantWitness = nil
    witness?(fact)
    fatalError("invariant broken: \(fact)", file: file, line: line)
}
