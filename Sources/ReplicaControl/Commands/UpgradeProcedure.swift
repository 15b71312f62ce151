import Glibc
import ReplicaProto

/// `upgrade`: the running daemon of a resource hands over to the program that is installed now.
///
/// What can go wrong is tried before anything stops: the new program runs, reads the settings and understands what it will be
/// left. Then the daemon is asked; it refuses what it can't keep, or becomes the other program, which tells how it went.
struct UpgradeProcedure {
    let environment: ToolEnvironment
    let isForced: Bool
    let isDryRun: Bool

    private var console: Console { environment.console }
    /// For the requests in work, the end, and the new beginning: more than the daemon gives itself.
    private static let timeoutSeconds = 60

    /// - Parameter isNamed: the resource was asked for, and not just everything.
    /// - Returns: the exit code.
    func run(_ resource: String, isNamed: Bool) -> Int32 {
        let program = absoluteDaemonPath
        let settings = environment.settingsFile(of: resource)
        let file = "\(environment.runDirectory)/\(resource).hand-over-check"
        let check = [program, "--check", "--settings", settings, "--take-over", file, resource]
        let question = CommandLineWords.join(["hand-over"] + (isForced ? ["--force"] : []) + [program])
        if isDryRun {
            console.print(CommandLineWords.join(check))
            console.print(question)
            return 0
        }
        let before: CommandAnswer
        do {
            before = try withPatience { () throws(ControlClientError) in
                try client(resource).ask("hand-over-record", timeoutSeconds: 5)
            }
        } catch {
            guard case .notRunning = error else { return complain(resource, ControlClient.text(error)) }
            if !isNamed { return 0 }
            return complain(resource, "it does not run, so there is nothing to hand over")
        }
        guard before.code == 0 else {
            return complain(resource, "its daemon is too old to hand over; take the resource down, and up again")
        }
        defer { unlink(file) }
        if let error = DaemonStarter.write(before.text, to: file) { return complain(resource, "\(file): \(error)") }
        switch DaemonStarter.run(check) {
        case .exited(0): break
        case .exited(let code):
            return complain(resource, "\(program) is not able to take over (exit code \(code)); nothing has changed")
        case .killed(let signal):
            return complain(resource, "\(program) dies of signal \(signal); nothing has changed")
        case .notStarted(let code):
            return complain(resource, "can not run \(program): \(ConfigFiles.errorText(code)); nothing has changed")
        }
        return handOver(resource, question)
    }

    private func handOver(_ resource: String, _ question: String) -> Int32 {
        do {
            let answer = try client(resource).ask(question, timeoutSeconds: Self.timeoutSeconds)
            // Whoever answers has stayed.
            return complain(resource, "not handed over: \(answer.text)")
        } catch {
            // The connection ends with the program.
            guard case .broken = error else { return complain(resource, ControlClient.text(error)) }
        }
        do {
            let result = try withPatience { () throws(ControlClientError) in
                try client(resource).ask("hand-over-result", timeoutSeconds: Self.timeoutSeconds)
            }
            let version = try withPatience { () throws(ControlClientError) in
                try client(resource).ask("version", timeoutSeconds: 5)
            }
            guard result.code == 0 else {
                return complain(resource, "handed over, and not all is as it was: \(result.text)")
            }
            let words = result.text.split(separator: " ")
            let new = version.text.split(separator: "\n").first ?? ""
            let old = words.count > 1 ? words[1] : ""
            console.print(
                "\(resource): handed over in \(words.first ?? "?") s (replicad \(old == new ? "\(new)" : "\(old) to \(new)"))"
            )
            return 0
        } catch {
            return complain(
                resource,
                "the new daemon has ended (\(environment.runDirectory)/\(resource).log says why). What uses its devices waits "
                    + "for ten minutes: '\(environment.programName) up \(resource)'")
        }
    }

    private func client(_ resource: String) throws(ControlClientError) -> ControlClient {
        try ControlClient(path: environment.controlSocket(of: resource))
    }

    private func complain(_ resource: String, _ text: String) -> Int32 {
        console.complain("\(resource): \(text)")
        return 20
    }

    /// The daemon has another working directory, and perhaps another search path.
    private var absoluteDaemonPath: String {
        let path = environment.daemonPath
        if path.contains("/") { return ToolEnvironment.absolute(path) }
        let directories = getenv("PATH").map { String(cString: $0) } ?? "/usr/sbin:/usr/bin:/sbin:/bin"
        for directory in directories.split(separator: ":") where access("\(directory)/\(path)", X_OK) == 0 {
            return "\(directory)/\(path)"
        }
        return path
    }
}

extension ControlClient {
    /// What went wrong with it, for people.
    static func text(_ error: ControlClientError) -> String {
        switch error {
        case .notRunning: "no daemon answers"
        case .timedOut: "the daemon does not answer"
        case .broken(let reason): reason
        }
    }
}
