/// A place in a configuration file.
package struct SourcePosition: Equatable, Hashable, Sendable, CustomStringConvertible {
    /// The name as given or found; `STDIN` for standard input.
    package var file: String
    /// From 1.
    package var line: Int
    /// Bytes from the start of the line, from 1.
    package var column: Int

    package init(file: String, line: Int, column: Int = 1) {
        self.file = file
        self.line = line
        self.column = column
    }

    package var description: String { "\(file):\(line)" }
}

/// What is wrong with a configuration: one message per fault, each with the place it is about.
package struct ConfigError: Error, Equatable, Sendable {
    package struct Fault: Equatable, Sendable {
        package var position: SourcePosition?
        package var message: String

        /// `FILE:LINE: MESSAGE`
        package var text: String { position.map { "\($0): \(message)" } ?? message }
    }

    package var faults: [Fault]
    package var exitCode: Int32

    package init(_ position: SourcePosition?, _ message: String, exitCode: Int32 = 10) {
        faults = [Fault(position: position, message: message)]
        self.exitCode = exitCode
    }

    package init(_ faults: [Fault], exitCode: Int32 = 10) {
        self.faults = faults
        self.exitCode = exitCode
    }

    package var text: String { faults.map { $0.text + "\n" }.joined() }

    /// The generic syntax error of `control.md` 1.2.
    static func expected(_ expected: String, got token: Token) -> ConfigError {
        ConfigError(token.position, "Parse error: '\(expected)' expected,\n\tbut got '\(token.excerpt)'")
    }

    /// Two uses of something that must be unique (`control.md` 1.4).
    static func conflict(_ what: String, _ key: String, at position: SourcePosition, first: SourcePosition) -> [Fault] {
        [
            Fault(position: position, message: "conflicting use of \(what) '\(key)' ..."),
            Fault(position: first, message: "\(what) '\(key)' first used here."),
        ]
    }
}
