import Glibc
import ReplicaProto

/// Carries out low-level calls stage by stage, or prints them (`control.md` 2.2).
struct PlanRunner {
    let environment: ToolEnvironment
    let invocation: Invocation
    var timeouts = CommandTimeouts()
    /// Whether a failed call is named with its exit code, as the administration tool does.
    var announcesFailures = true
    private var clients: [String: ControlClient] = [:]
    private var failed: [String] = []

    init(environment: ToolEnvironment, invocation: Invocation, timeouts: CommandTimeouts = CommandTimeouts()) {
        self.environment = environment
        self.invocation = invocation
        self.timeouts = timeouts
    }

    private var console: Console { environment.console }

    /// Runs all steps. A failed one makes later ones of its resource be skipped.
    /// - Returns: the worst result of the low-level calls.
    mutating func run(_ steps: [PlanStep]) -> Int32 {
        var worst: Int32 = 0
        for stage in PlanStage.allCases {
            for step in steps where step.stage == stage {
                if failed.contains(step.resource) {
                    if step.command != "apply-al" && isDeferred {
                        console.complain(
                            "\(environment.programName): \(step.command) \(step.resource): skipped due to earlier error")
                    }
                    continue
                }
                let code = run(step)
                worst = max(worst, code)
                if code != 0 { failed.append(step.resource) }
            }
        }
        return worst
    }

    /// Whether the plan has several stages, so that a skipped one is worth a word.
    private var isDeferred: Bool {
        switch invocation.command?.name {
        case "up", "adjust", "adjust-with-progress": true
        default: false
        }
    }

    func commandLine(_ step: PlanStep) -> String {
        let program: [String] =
            switch step.tool {
            case .setup: invocation.setupProgram.map { [$0] } ?? environment.setupWords
            case .meta: invocation.metaProgram.map { [$0] } ?? environment.metaWords
            }
        return (program + step.words.map(PlanRunner.shellWord)).joined(separator: " ")
    }

    /// The shared secret never leaves the configuration.
    private static func shellWord(_ word: String) -> String {
        if word.hasPrefix("--shared-secret=") { return "--shared-secret=***" }
        return CommandLineWords.quote(word)
    }

    private mutating func run(_ step: PlanStep) -> Int32 {
        let isSilent = step.words.isEmpty
        if invocation.isDryRun || invocation.isVerbose, !isSilent { console.print(commandLine(step)) }
        if invocation.isDryRun { return 0 }
        let code: Int32
        switch step.action {
        case .newResource(let settings, let options): code = newResource(step, settings, options)
        case .settings(let settings): code = renew(settings, step)
        case .ask(let line): code = ask(step, line)
        case .askOrMetadata(let line, let volume, let command):
            code = isAttached(volume, of: step) ? ask(step, line) : metadata(volume, command, of: step)
        case .down: code = down(step)
        case .metadataUnlessAttached(let volume, let command):
            if isAttached(volume, of: step) {
                MetadataCall.noteSize(of: volume, environment: environment)
                code = 0
            } else {
                code = metadata(volume, command, of: step)
            }
        case .metadata(let volume, let command): code = metadata(volume, command, of: step)
        }
        if code >= 10 && announcesFailures && !isSilent {
            console.complain("Command '\(commandLine(step))' terminated with exit code \(code)")
        }
        return code
    }

    // MARK: Actions

    private mutating func newResource(
        _ step: PlanStep, _ settings: DaemonSettings, _ options: ResourceOptions
    ) -> Int32 {
        do {
            try awaitAnswer(of: step.resource)
            let code = renew(settings, step)
            if code != 0 { return code }
        } catch {
            switch error {
            case .notRunning: break
            case .timedOut:
                console.complain("\(step.object): the daemon does not answer")
                return 20
            case .broken(let reason):
                console.complain("\(step.object): \(reason)")
                return 20
            }
            if let reason = DaemonStarter.start(settings, in: environment) {
                console.complain("\(step.object): \(reason)")
                return 20
            }
        }
        if options == ResourceOptions() { return 0 }
        return ask(step, ControlCommand.resourceOptions(options).line(resource: step.resource))
    }

    /// A daemon that was killed a moment ago still takes connections, until the kernel is done with it.
    private mutating func awaitAnswer(of resource: String) throws(ControlClientError) {
        try withPatience { () throws(ControlClientError) in
            _ = try ControlClient(path: environment.controlSocket(of: resource)).ask("status-raw", timeoutSeconds: 5)
        }
    }

    /// Writes the settings of a running daemon again if they have changed, and tells it.
    private mutating func renew(_ settings: DaemonSettings, _ step: PlanStep) -> Int32 {
        let path = environment.settingsFile(of: settings.resource)
        guard let old = ConfigFiles.read(path), old != Array(settings.text.utf8) else { return 0 }
        if let error = DaemonStarter.write(settings.text, to: path) {
            console.complain("\(step.object): \(path): \(error)")
            return 20
        }
        return ask(step, "settings")
    }

    private mutating func ask(_ step: PlanStep, _ line: String) -> Int32 {
        let seconds = timeouts.seconds(step.time)
        do {
            let answer = try client(of: step.resource).ask(line, timeoutSeconds: seconds)
            return report(answer, of: step)
        } catch {
            clients[step.resource] = nil
            switch error {
            case .notRunning: return report(notRunning(step), of: step)
            case .timedOut:
                console.complain("Command '\(commandLine(step))' did not terminate within \(seconds) seconds")
                return 20
            case .broken(let reason):
                console.complain("\(step.object): \(reason)")
                return 20
            }
        }
    }

    /// What the low level says of something that no daemon serves.
    private func notRunning(_ step: PlanStep) -> CommandAnswer {
        step.object == step.resource
            ? CommandAnswer(code: CommandErrorText.unknownResource, text: "unknown resource")
            : CommandAnswer(code: CommandErrorText.minorNotAllocated, text: "unknown minor")
    }

    private func report(_ answer: CommandAnswer, of step: PlanStep) -> Int32 {
        for line in CommandErrorText.lines(answer.code, object: step.object, info: answer.text) {
            console.complain(line)
        }
        return CommandErrorText.exitCode(answer.code)
    }

    private func isAttached(_ volume: ResolvedVolume, of step: PlanStep) -> Bool {
        var state = RunningState(environment: environment)
        let status = state.status(of: step.resource)?.volumes.first { $0.volume == volume.number }
        return status.map { $0.state.disk != .diskless } ?? false
    }

    private func metadata(_ volume: ResolvedVolume, _ command: [String], of step: PlanStep) -> Int32 {
        var state = RunningState(environment: environment)
        let status = state.status(of: step.resource)?.volumes.first { $0.volume == volume.number }
        if command != ["apply-al"] || invocation.command?.name == "apply-al" {
            return MetadataCall.run(volume, command, running: status, environment: environment)
        }
        // Without metadata the attach that follows has the better words, with the number that scripts know.
        let said = Collected()
        var quiet = environment
        quiet.console = Console(writeOutput: { said.text += $0 }, writeError: { said.text += $0 })
        let code = MetadataCall.run(volume, command, running: status, environment: quiet)
        if code == 1 { return 0 }
        console.writeError(said.text)
        return code
    }

    /// What a silent step said; used within one call.
    private final class Collected: @unchecked Sendable { var text = "" }

    private mutating func down(_ step: PlanStep) -> Int32 {
        do {
            let client = try client(of: step.resource)
            let answer = try client.ask(
                ControlCommand.down.line(resource: step.resource), timeoutSeconds: timeouts.seconds(step.time))
            let code = report(answer, of: step)
            clients[step.resource] = nil
            if code == 0 {
                try client.waitForEnd(timeoutSeconds: timeouts.seconds(.medium))
                try waitForRefusal(of: step.resource)
            }
            return code
        } catch {
            clients[step.resource] = nil
            switch error {
            case .notRunning:
                if invocation.isVerbose { console.complain("\(step.resource): Failure: (158) Unknown resource") }
                return 0
            case .timedOut:
                console.complain(
                    "Command '\(commandLine(step))' did not terminate within \(timeouts.seconds(step.time)) seconds")
                return 20
            case .broken(let reason):
                console.complain("\(step.object): \(reason)")
                return 20
            }
        }
    }

    /// Waits until the control socket takes no more connections.
    private func waitForRefusal(of resource: String) throws(ControlClientError) {
        for _ in 0..<500 {
            do { _ = try ControlClient(path: environment.controlSocket(of: resource)) } catch {
                if error == .notRunning { return }
                throw error
            }
            poll(nil, 0, 10)
        }
        throw .timedOut
    }

    /// A connection to the resource's daemon, kept for further steps.
    private mutating func client(of resource: String) throws(ControlClientError) -> ControlClient {
        if let client = clients[resource] { return client }
        let client = try ControlClient(path: environment.controlSocket(of: resource))
        clients[resource] = client
        return client
    }
}

/// `cmd-timeout-*` of the global section, in seconds; 0 = none.
struct CommandTimeouts: Equatable, Sendable {
    var short = 5
    var medium = 121
    var long = 600

    func seconds(_ time: TimeClass) -> Int {
        switch time {
        case .short: short
        case .medium: medium
        case .long: long
        case .endless: 0
        }
    }
}
