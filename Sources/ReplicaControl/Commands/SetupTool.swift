import ReplicaProto

/// The low-level tool: `drbdsetup`'s grammar (`control.md` 2.12). It needs no configuration: objects are looked up
/// among the running daemons.
package struct SetupTool {
    let environment: ToolEnvironment
    private var running: RunningState

    package init(environment: ToolEnvironment) {
        self.environment = environment
        running = RunningState(environment: environment)
    }

    private var console: Console { environment.console }
    private var program: String { environment.setupWords.joined(separator: " ") }

    /// Commands whose first argument is a minor.
    private static let minorCommands = [
        "primary", "secondary", "attach", "detach", "disk-options", "invalidate", "invalidate-remote", "pause-sync",
        "resume-sync", "suspend-io", "resume-io", "outdate", "verify", "resize", "new-current-uuid", "wait-connect",
        "wait-sync", "check-resize", "del-minor", "role", "state", "cstate", "dstate", "get-gi", "show-gi", "udev",
    ]
    /// Commands whose first argument, if any, names a resource, a minor or all.
    private static let objectCommands = [
        "sh-status", "show", "status", "events2", "down", "new-resource", "new-minor", "del-resource", "connect",
        "disconnect", "net-options", "resource-options",
    ]

    static var commands: [String] { (minorCommands + objectCommands).sorted() }

    package mutating func run(_ arguments: [String]) -> Int32 {
        do { return try execute(arguments) } catch {
            for line in error.lines { console.complain(line) }
            if error.showsUsage { console.writeOutput(usage(error.command)) }
            return error.exitCode
        }
    }

    private func usage(_ command: String?) -> String {
        if let command { return "\nUSAGE: \(program) \(command) OBJECT [ARGUMENTS] [OPTIONS]\n" }
        let names = SetupTool.commands
        return "\nUSAGE: \(program) COMMAND OBJECT [ARGUMENTS] [OPTIONS]\n\nCOMMANDS:\n"
            + names.map { " \($0)\n" }.joined()
    }

    private static func isCommand(_ word: String) -> Bool {
        minorCommands.contains(word) || objectCommands.contains(word)
    }

    private mutating func execute(_ arguments: [String]) throws(UsageError) -> Int32 {
        guard let first = arguments.first else { throw UsageError(lines: [], exitCode: 20, showsUsage: true) }
        if first == "help" || first == "--help" || first == "-h" {
            console.writeOutput(usage(arguments.dropFirst().first))
            return 0
        }
        if first == "--version" || first == "-V" {
            console.writeOutput(ProductVersion.assignments(environment))
            return 0
        }
        var words = arguments
        // The order of old times: OBJECT COMMAND.
        if !SetupTool.isCommand(first), words.count > 1, SetupTool.isCommand(SetupTool.modern(words[1])) {
            words.swapAt(0, 1)
            words[0] = SetupTool.modern(words[0])
        }
        let command = words.removeFirst()
        guard SetupTool.isCommand(command) else {
            throw UsageError(lines: ["\(program): unknown command '\(command)'"], exitCode: 20, showsUsage: true)
        }
        words = SetupTool.joined(words, CommandTable.command(named: command))
        if let code = try query(command, words) { return code }
        return try request(command, words)
    }

    /// An option's value may be a word of its own: `--wfc-timeout 3`, `-t 3`.
    private static func joined(_ words: [String], _ command: CommandSpec?) -> [String] {
        guard let command else { return words }
        var result: [String] = []
        var rest = words[...]
        while let word = rest.popFirst() {
            var name = word.hasPrefix("--") ? String(word.dropFirst(2)) : ""
            if word.utf8.count == 2, let letter = word.last, let own = command.letters.first(where: { $0.letter == letter }) {
                name = own.option
            }
            let shape = command.options.first { $0.name == name }
            guard let shape, shape.kind != .flag, let value = rest.first else {
                result.append(word)
                continue
            }
            rest.removeFirst()
            result.append("--\(shape.name)=\(value)")
        }
        return result
    }

    private static func modern(_ command: String) -> String {
        switch command {
        case "disk": "attach"
        case "net": "connect"
        case "syncer": "disk-options"
        default: command
        }
    }

    // MARK: Objects

    /// `0`, `minor-0`, `/dev/drbd0`.
    private static func minor(_ text: String) -> UInt32? {
        for prefix in ["minor-", "/dev/drbd", "drbd"] where text.hasPrefix(prefix) {
            return UInt32(text.dropFirst(prefix.count))
        }
        return UInt32(text)
    }

    private func minor(of words: [String], _ command: String) throws(UsageError) -> UInt32 {
        guard let text = words.first(where: { !$0.hasPrefix("-") }) else {
            throw UsageError(lines: [], exitCode: 20, showsUsage: true, command: command)
        }
        guard let minor = SetupTool.minor(text) else {
            throw UsageError(lines: ["Cannot determine minor device number of device '\(text)'"], exitCode: 20)
        }
        return minor
    }

    private func unknownMinor(_ minor: UInt32) -> Int32 {
        let lines = CommandErrorText.lines(
            CommandErrorText.minorNotAllocated, object: String(minor), info: "unknown minor")
        for line in lines { console.complain(line) }
        return 10
    }

    // MARK: Queries

    private mutating func query(_ command: String, _ words: [String]) throws(UsageError) -> Int32? {
        switch command {
        case "role", "state", "cstate", "dstate", "get-gi", "show-gi", "udev":
            let minor = try minor(of: words, command)
            guard let found = running.volume(minor: minor) else { return unknownMinor(minor) }
            switch command {
            case "cstate": console.print(StatusText.connection(found.volume))
            case "dstate": console.print(StatusText.disk(found.volume))
            case "get-gi", "show-gi":
                guard let text = AdminTool.generations(found.volume, command) else {
                    console.complain(found.volume.state.isUnconfigured ? "Device is unconfigured" : "Device has no disk")
                    return 1
                }
                console.print(text)
            case "udev":
                console.print("DEVICE=drbd\(minor)")
                console.print("SYMLINK_BY_RES=drbd/by-res/\(found.resource.resource)/\(found.volume.volume.value)")
                if let path = found.volume.disk?.dataPath, let name = path.split(separator: "/").last {
                    console.print("SYMLINK_BY_DISK=drbd/by-disk/\(name)")
                }
            default: console.print(StatusText.role(found.volume))
            }
            return 0
        case "sh-status": return try shellStatus(words)
        case "show": return try listing(words) { ShowText.text($0, showDefaults: words.contains("--show-defaults")) }
        case "status":
            let flags = try statusFlags(words)
            if flags.json {
                console.writeOutput(StatusJSON.text(try selected(words)))
                return 0
            }
            return try listing(words) {
                StatusText.status($0, verbose: flags.verbose, statistics: flags.statistics)
            }
        case "events2":
            let name = words.first { !$0.hasPrefix("-") } ?? "all"
            if let unknown = words.first(where: {
                $0.hasPrefix("-") && !["--now", "--statistics", "--timestamps"].contains($0)
            }) {
                throw UsageError(
                    lines: ["events2: unrecognized option '\(unknown)'"], exitCode: 20, showsUsage: true,
                    command: "events2")
            }
            return EventsCommand(
                environment: environment, resources: name == "all" ? nil : [try nameOfResource(name)],
                statistics: words.contains("--statistics"), timestamps: words.contains("--timestamps"),
                follows: !words.contains("--now")
            ).run()
        default: return nil
        }
    }

    private func statusFlags(
        _ words: [String]
    ) throws(UsageError) -> (verbose: Bool, statistics: Bool, json: Bool) {
        var result = (verbose: false, statistics: false, json: false)
        for word in words where word.hasPrefix("-") {
            switch word {
            case "--verbose", "-v": result.verbose = true
            case "--statistics", "-s": result.statistics = true
            case "--json": result.json = true
            case _ where word.hasPrefix("--color"): break
            default:
                throw UsageError(
                    lines: ["status: unrecognized option '\(word)'"], exitCode: 20, showsUsage: true, command: "status")
            }
        }
        return result
    }

    private mutating func selected(_ words: [String]) throws(UsageError) -> [ResourceStatus] {
        guard let name = words.first(where: { !$0.hasPrefix("-") }), name != "all" else { return running.all() }
        if let status = running.status(of: name) { return [status] }
        if let minor = SetupTool.minor(name), let found = running.volume(minor: minor) { return [found.resource] }
        throw UsageError(lines: ["\(name): No such resource"], exitCode: 10)
    }

    /// The resource that is named, or that has the minor which is named.
    private mutating func nameOfResource(_ name: String) throws(UsageError) -> String {
        guard let minor = SetupTool.minor(name) else { return name }
        return running.volume(minor: minor)?.resource.resource ?? name
    }

    private mutating func listing(
        _ words: [String], _ text: (ResourceStatus) -> String
    ) throws(UsageError) -> Int32 {
        for resource in try selected(words) { console.writeOutput(text(resource)) }
        return 0
    }

    private mutating func shellStatus(_ words: [String]) throws(UsageError) -> Int32 {
        if let name = words.first(where: { !$0.hasPrefix("-") }), let minor = SetupTool.minor(name) {
            if let found = running.volume(minor: minor) {
                console.writeOutput(StatusText.shellStatus(found.volume, resource: found.resource.resource))
            } else {
                console.writeOutput(StatusText.shellStatus(missing: minor))
            }
            return 0
        }
        for resource in try selected(words) {
            for volume in resource.volumes {
                console.writeOutput(StatusText.shellStatus(volume, resource: resource.resource))
            }
        }
        return 0
    }

    // MARK: Requests

    private mutating func request(_ command: String, _ words: [String]) throws(UsageError) -> Int32 {
        let positional = words.filter { !$0.hasPrefix("-") }
        let options = words.filter { $0.hasPrefix("-") }.map { $0 == "-o" ? "--force" : $0 }
        if SetupTool.minorCommands.contains(command) {
            let minor = try minor(of: words, command)
            guard let found = running.volume(minor: minor) else { return unknownMinor(minor) }
            // Sizes are noted when a disk is attached.
            if command == "check-resize" { return 0 }
            let rest = Array(positional.dropFirst())
            var request = [command, found.volume.volume.text] + rest + waitOptions(command, options)
            if command == "disk-options", !options.contains("--set-defaults"), let disk = found.volume.disk {
                request = merged(
                    disk.options, DiskOptions(), OptionTable.disk, [command, found.volume.volume.text], options)
            }
            return send(request, to: found.resource.resource, object: String(minor))
        }
        switch command {
        case "new-resource":
            guard let name = positional.first else { break }
            return newResource(name, options)
        case "new-minor":
            guard positional.count == 3 else { break }
            return send([command] + positional, to: positional[0], object: positional[0])
        case "down", "del-resource":
            guard let object = positional.first else { break }
            return down(object)
        case "connect":
            guard positional.count >= 3 else { break }
            if let minor = SetupTool.minor(positional[0]), running.status(of: positional[0]) == nil {
                guard let found = running.volume(minor: minor) else { return unknownMinor(minor) }
                return connectInOldOrder(found.resource.resource, positional, options)
            }
            return send([command] + positional + options, to: positional[0], object: positional[0])
        case "disconnect", "net-options", "resource-options":
            guard let object = positional.first, let resource = resourceOf(object, positional) else {
                let lines = CommandErrorText.lines(
                    CommandErrorText.unknownResource, object: positional.first ?? "", info: "unknown connection")
                for line in lines { console.complain(line) }
                return positional.isEmpty ? 20 : command == "disconnect" ? 0 : 10
            }
            var request = [command, resource.resource] + options
            if command == "net-options", !options.contains("--set-defaults"),
                let connection = resource.volumes.lazy.compactMap(\.connection).first
            {
                request = merged(
                    connection.options, NetOptions(), OptionTable.net, [command, resource.resource], options)
            }
            return send(request, to: resource.resource, object: object)
        default: break
        }
        throw UsageError(lines: [], exitCode: 20, showsUsage: true, command: command)
    }

    /// The resource that a name, a minor or a pair of addresses stands for.
    private mutating func resourceOf(_ object: String, _ positional: [String]) -> ResourceStatus? {
        if let status = running.status(of: object) { return status }
        if positional.count >= 2, let local = SocketAddress(parsing: object),
            let remote = SocketAddress(parsing: positional[1])
        {
            return running.all().first { resource in
                resource.volumes.contains { $0.connection?.local == local && $0.connection?.remote == remote }
            }
        }
        return SetupTool.minor(object).flatMap { running.volume(minor: $0)?.resource }
    }

    /// Short spellings of the wait options.
    private func waitOptions(_ command: String, _ options: [String]) -> [String] {
        guard command.hasPrefix("wait-") else { return options }
        return options.map { option in
            switch option.prefix(2) {
            case "-t": "--wfc-timeout=" + option.dropFirst(2)
            case "-d": "--degr-wfc-timeout=" + option.dropFirst(2)
            case "-o": "--outdated-wfc-timeout=" + option.dropFirst(2)
            case "-w": "--wait-after-sb"
            default: option
            }
        }
    }

    /// Without `--set-defaults` only the named options change: the request carries all of them.
    private func merged<Settings>(
        _ current: Settings, _ defaults: Settings, _ table: [OptionField<Settings>], _ head: [String],
        _ options: [String]
    ) -> [String] {
        let kept = optionsDiffering(current, from: defaults, in: table).map { "--\($0.name)=\($0.value.text)" }
        return head + kept + options
    }

    /// `MINOR net LOCAL REMOTE PROTOCOL`
    private mutating func connectInOldOrder(
        _ resource: String, _ positional: [String], _ options: [String]
    ) -> Int32 {
        var request = ["connect", resource, positional[1], positional[2]] + options
        if positional.count > 3 { request.append("--protocol=\(positional[3])") }
        return send(request, to: resource, object: positional[0])
    }

    private mutating func newResource(_ name: String, _ options: [String]) -> Int32 {
        if running.status(of: name) == nil {
            let settings = DaemonSettings(resource: name, node: environment.nodeName)
            if let reason = DaemonStarter.start(settings, in: environment) {
                console.complain("\(name): \(reason)")
                return 20
            }
        }
        return options.isEmpty ? 0 : send(["resource-options", name] + options, to: name, object: name)
    }

    private mutating func down(_ object: String) -> Int32 {
        var name = object
        if running.status(of: object) == nil, let minor = SetupTool.minor(object) {
            guard let found = running.volume(minor: minor) else { return 0 }
            name = found.resource.resource
        }
        var runner = PlanRunner(environment: environment, invocation: Invocation())
        runner.announcesFailures = false
        let step = PlanStep(
            stage: .prerequisites, resource: name, command: "down", object: object, tool: .setup, words: ["down", object],
            action: .down, time: .medium)
        return runner.run([step])
    }

    private func send(_ words: [String], to resource: String, object: String) -> Int32 {
        // What the daemon would not understand is bad usage.
        do { _ = try ControlCommand(words: words, resource: resource) } catch {
            console.complain("\(program): \(words.first ?? ""): \(error.message)")
            return 20
        }
        do {
            let client = try ControlClient(path: environment.controlSocket(of: resource))
            let answer = try client.ask(CommandLineWords.join(words))
            for line in CommandErrorText.lines(answer.code, object: object, info: answer.text) { console.complain(line) }
            return CommandErrorText.exitCode(answer.code)
        } catch {
            switch error {
            case .notRunning:
                let lines = CommandErrorText.lines(
                    CommandErrorText.unknownResource, object: object, info: "unknown resource")
                for line in lines { console.complain(line) }
                return 10
            case .timedOut:
                console.complain("\(object): the daemon does not answer")
                return 20
            case .broken(let reason):
                console.complain("\(object): \(reason)")
                return 20
            }
        }
    }
}
