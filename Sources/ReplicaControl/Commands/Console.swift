import Glibc

/// Where the tools' output goes: a terminal, or a test.
package struct Console: Sendable {
    package var writeOutput: @Sendable (String) -> Void
    package var writeError: @Sendable (String) -> Void

    package init(
        writeOutput: @escaping @Sendable (String) -> Void, writeError: @escaping @Sendable (String) -> Void
    ) {
        self.writeOutput = writeOutput
        self.writeError = writeError
    }

    /// Standard output and standard error, unbuffered.
    package static let standard = Console(
        writeOutput: { writeAll(1, $0) }, writeError: { writeAll(2, $0) })

    /// One line of a result.
    func print(_ line: String) { writeOutput(line + "\n") }
    /// One line of a complaint.
    func complain(_ line: String) { writeError(line + "\n") }

    private static func writeAll(_ descriptor: Int32, _ text: String) {
        let bytes = Array(text.utf8)
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { buffer in
                write(descriptor, buffer.baseAddress?.advanced(by: written), bytes.count - written)
            }
            if count > 0 { written += count } else if errno != EINTR { return }
        }
    }
}
