import Foundation
import ReplicaProto

@testable import ReplicaControl

/// What one run of a tool printed, and its exit code.
struct ToolResult {
    var output: String
    var error: String
    var code: Int32
    var lines: [String] { output.split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init) }
}

/// Runs the tools in this process, with a configuration of its own and nothing of this machine.
final class ToolHarness {
    let directory: URL
    var node = "alice"
    var persona = Persona.v8411
    var localAddresses = ["10.0.0.1", "10.77.0.11", "192.168.78.129"]
    var daemonPath = "/nonexistent/replicad"
    var configurationFile: URL { directory.appendingPathComponent("drbd.conf") }
    var runDirectory: String { directory.appendingPathComponent("run").path }

    /// - Parameter configuration: the text of the configuration file.
    init(_ configuration: String = "") throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("replica-" + UUID().uuidString.prefix(8))
        try FileManager.default.createDirectory(
            at: directory.appendingPathComponent("run"), withIntermediateDirectories: true)
        try write(configuration, to: "drbd.conf")
    }

    deinit { try? FileManager.default.removeItem(at: directory) }

    func write(_ text: String, to name: String) throws {
        let file = directory.appendingPathComponent(name)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(text.utf8).write(to: file)
    }

    /// Runs `drbdadm -c FILE WORDS`.
    func admin(_ words: String...) -> ToolResult { run("drbdadm", ["-c", configurationFile.path] + words) }

    /// Runs the tool under any name.
    func run(_ program: String, _ words: [String]) -> ToolResult {
        let captured = CapturedOutput()
        let environment = ToolEnvironment(
            programName: program, runDirectory: runDirectory, nodeName: node, persona: persona,
            localAddresses: localAddresses, daemonPath: daemonPath, console: captured.console)
        let code = Replctl.run([program] + words, in: environment)
        return ToolResult(output: captured.output, error: captured.error, code: code)
    }
}

/// Collects what a tool writes.
final class CapturedOutput: @unchecked Sendable {
    private let lock = NSLock()
    private var texts = ["", ""]

    var output: String { lock.withLock { texts[0] } }
    var error: String { lock.withLock { texts[1] } }
    var console: Console {
        Console(
            writeOutput: { text in self.lock.withLock { self.texts[0] += text } },
            writeError: { text in self.lock.withLock { self.texts[1] += text } })
    }
}
