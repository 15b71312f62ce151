import Glibc
import ReplicaProto

/// The administration tool: `drbdadm`'s grammar (`control.md` section 2).
package struct AdminTool {
    let environment: ToolEnvironment
    var invocation = Invocation()
    var tree = ConfigTree(file: "")
    /// For this node, in file order; stacked ones only with `-S`, normal ones only without.
    var resources: [ResolvedResource] = []
    var running: RunningState

    var console: Console { environment.console }

    package init(environment: ToolEnvironment) {
        self.environment = environment
        running = RunningState(environment: environment)
    }

    /// Runs one command line.
    /// - Returns: the exit code.
    package mutating func run(_ arguments: [String]) -> Int32 {
        do {
            invocation = try Invocation(arguments: arguments, program: environment.programName)
            if let code = answerWithoutConfiguration() { return code }
            guard let command = invocation.command else {
                throw UsageError(lines: ["No command specified"], showsUsage: true)
            }
            if command.name == "doctor" { return doctor(command) }
            try load(for: command)
            return try execute(command)
        } catch let error as UsageError {
            if error.showsUsage {
                console.writeOutput(HelpText.usage(command: error.command.flatMap(CommandTable.command), environment))
                console.writeOutput("\n")
            }
            for line in error.lines { console.complain(line) }
            let isOldOptionError = environment.persona != .v8411 && error.lines.contains { $0.contains("option") }
            return isOldOptionError ? 20 : error.exitCode
        } catch let error as ConfigError {
            console.writeError(error.text)
            return error.exitCode
        } catch {
            console.complain("\(error)")
            return 42
        }
    }

    /// `help`, `--version` and lists.
    private func answerWithoutConfiguration() -> Int32? {
        if invocation.isProductVersionWanted {
            console.print(ProductVersion.text)
            return 0
        }
        if invocation.isVersionWanted {
            console.writeOutput(ProductVersion.assignments(environment))
            return 0
        }
        if invocation.commandWord == "help" || invocation.isHelpWanted {
            let name = invocation.commandWord == "help" ? invocation.names.first : invocation.commandWord
            if let name, name != "help", CommandTable.command(named: name) == nil {
                console.complain("\(environment.programName): Unknown command '\(name)'")
                return 1
            }
            console.writeOutput(HelpText.usage(command: name.flatMap(CommandTable.command), environment))
            return 0
        }
        if invocation.command?.name == "decode" {
            guard !invocation.names.isEmpty else {
                console.complain("decode: no file named")
                return 1
            }
            return invocation.names.map { DecodeCommand(console: console, path: $0).run() }.max() ?? 0
        }
        if invocation.command?.name == "sh-manual" {
            guard let text = invocation.names.first.flatMap(Manual.page) else {
                console.complain("sh-manual: which page: \(Manual.pages.joined(separator: ", "))?")
                return 1
            }
            console.writeOutput(text)
            return 0
        }
        if invocation.command?.name == "hidden-commands" {
            console.writeOutput(HelpText.hiddenCommands)
            return 0
        }
        return nil
    }

    // MARK: Configuration

    mutating func load(for command: CommandSpec) throws(ConfigError) {
        if environment.isNodePretended {
            console.complain(
                "\n   found __DRBD_NODE__ in environment\n   PRETENDING that I am >>\(environment.nodeName)<<\n")
        }
        if let file = invocation.configurationToTest {
            guard command.name == "dump" || command.name == "sh-nop" else {
                throw ConfigError(
                    nil, "The -t/--config-to-test option is only allowed with the dump and sh-nop commands",
                    exitCode: 1)
            }
            tree = try ConfigParser.parse(file: file, inAdditionTo: mainFile)
        } else {
            tree = try ConfigParser.parse(file: mainFile)
        }
        if !isPolled(command) { for warning in tree.warnings { console.complain(warning.text) } }
        if !tree.danglingReferences.isEmpty {
            if environment.isOutputTerminal { throw ConfigError(tree.danglingReferences) }
            for fault in tree.danglingReferences { console.complain(fault.text) }
        }
        let node = NodeIdentity(
            name: environment.nodeName, localAddresses: environment.localAddresses, peer: invocation.peer)
        let all = tree.resources(on: node)
        if let peer = invocation.peer, !all.contains(where: { $0.section.hosts.contains { $0.names.contains(peer) } }) {
            throw ConfigError(nil, "There is no host section for the peer '\(peer)'.", exitCode: 1)
        }
        resources = all.filter { ($0.lower != nil) == invocation.isStacked }
    }

    /// Commands that monitors and cluster managers run every few seconds: no place for advice.
    private func isPolled(_ command: CommandSpec) -> Bool {
        switch command.name {
        case "role", "cstate", "dstate", "status", "get-gi", "show-gi", "events2": true
        default: command.group == .handler || (command.group == .script && command.name != "sh-nop")
        }
    }

    /// The configuration file of this call.
    var mainFile: String {
        invocation.configurationFile
            ?? RegisteredConfiguration.file(for: invocation.names, runDirectory: environment.runDirectory)
            ?? ConfigFiles.defaultFile()
    }

    /// For handlers: absolute.
    var absoluteConfigurationPath: String {
        if mainFile.hasPrefix("/") || mainFile == "-" { return mainFile }
        guard let directory = getcwd(nil, 0) else { return mainFile }
        defer { free(directory) }
        return String(cString: directory) + "/" + mainFile
    }

    private var timeouts: CommandTimeouts {
        var timeouts = CommandTimeouts()
        func seconds(_ name: String, _ value: inout Int) {
            if let text = tree.global[name]?.value, let number = Int(text) { value = number }
        }
        seconds("cmd-timeout-short", &timeouts.short)
        seconds("cmd-timeout-medium", &timeouts.medium)
        seconds("cmd-timeout-long", &timeouts.long)
        return timeouts
    }

    // MARK: Selection

    /// What the names on the command line stand for.
    private func targets(for command: CommandSpec) throws(UsageError) -> [PlanTarget] {
        if command.scope == .none { return [] }
        var names = invocation.names
        if names.isEmpty {
            guard command.scope == .optionalResources else {
                throw UsageError(lines: ["No resource names specified"], showsUsage: true, command: command.name)
            }
            names = ["all"]
        }
        var result: [PlanTarget] = []
        for name in names {
            if name == "all" {
                if resources.isEmpty {
                    let isQuiet = command.name.hasPrefix("dump") || command.name.hasPrefix("sh-")
                    if isQuiet { continue }
                    if invocation.isStacked {
                        throw UsageError(lines: [
                            "WARN: nothing stacked for this host (\(environment.nodeName)), nothing to do in stacked mode!"
                        ])
                    }
                    throw UsageError(lines: [
                        "WARN: no normal resources defined for this host (\(environment.nodeName))!?",
                        "Misspelled name of the local machine with the 'on' keyword ?",
                    ])
                }
                result += resources.map { PlanTarget(resource: $0, volumes: $0.volumes) }
            } else {
                result.append(try target(named: name, for: command))
            }
        }
        if command.scope == .oneVolume {
            for target in result where target.volumes.count > 1 {
                let program = environment.programName
                throw UsageError(lines: [
                    "\(command.name) requires a specific volume id, but none is specified.",
                    "Try '\(program) \(command.name) minor-<minor_number>' or "
                        + "'\(program) \(command.name) \(target.resource.name)/<vnr>'",
                ])
            }
        }
        return result
    }

    private func target(named name: String, for command: CommandSpec) throws(UsageError) -> PlanTarget {
        let minorText = name.hasPrefix("minor-") ? name.dropFirst(6) : name.hasPrefix("/dev/drbd") ? name.dropFirst(9) : ""
        if let minor = UInt32(minorText) {
            for resource in resources {
                if let volume = resource.volumes.first(where: { $0.minor == minor }) {
                    return PlanTarget(resource: resource, volumes: [volume])
                }
            }
            throw notDefined(name)
        }
        if let resource = resources.first(where: { $0.name == name }) {
            return PlanTarget(resource: resource, volumes: resource.volumes)
        }
        if let slash = name.lastIndex(of: "/"),
            let resource = resources.first(where: { $0.name == name[..<slash] })
        {
            guard let number = UInt16(name[name.index(after: slash)...]),
                let volume = resource.volumes.first(where: { $0.number.value == number })
            else { throw notDefined(name) }
            if command.scope == .resources || command.scope == .optionalResources {
                throw UsageError(lines: [
                    "\(command.name) operates on whole resources, but you specified a specific volume!"
                ])
            }
            return PlanTarget(resource: resource, volumes: [volume])
        }
        throw notDefined(name)
    }

    private func notDefined(_ name: String) -> UsageError {
        let base = String(name.split(separator: "/").first ?? "")
        if let section = tree.resources.first(where: { $0.name == base }), section.isStacked != invocation.isStacked {
            return UsageError(lines: [
                section.isStacked
                    ? "'\(base)' is a stacked resource, and not available in normal mode."
                    : "'\(base)' is a normal resource, and not available in stacked mode."
            ])
        }
        let suffix = environment.persona == .v8411 ? " (for this host)" : ""
        return UsageError(lines: ["'\(name)' not defined in your config\(suffix)."])
    }

    private func checkAddresses(of targets: [PlanTarget]) throws(ConfigError) {
        if invocation.isDryRun || tree.global["disable-ip-verification"] != nil { return }
        for target in targets {
            guard let item = target.resource.local.address, !environment.isLocal(item.address) else { continue }
            throw ConfigError(
                item.position,
                "in resource \(target.resource.name), \(target.resource.local.title):\n\tIP \(item.address.host) not "
                    + "found on this host.")
        }
    }

    // MARK: Execution

    private mutating func execute(_ command: CommandSpec) throws -> Int32 {
        let targets = try targets(for: command)
        if command.checksAddress || command.name == "dump" || command.name == "dump-xml" {
            try checkAddresses(
                of: command.scope == .none ? resources.map { PlanTarget(resource: $0, volumes: []) } : targets)
        }
        if let code = try answerFromConfiguration(command, targets) { return code }
        if let code = try answerFromState(command, targets) { return code }
        if let code = try runProcedure(command, targets) { return code }
        let steps = try plan(command, targets)
        if let name = invocation.shellVariable, invocation.isDryRun || invocation.isVerbose {
            var code: Int32 = 0
            for target in targets {
                console.print("\(name)=\(target.resource.name)")
                code = max(code, runPlan(steps.filter { $0.resource == target.resource.name }, command))
            }
            return code
        }
        return runPlan(steps, command)
    }

    func runPlan(_ steps: [PlanStep], _ command: CommandSpec) -> Int32 {
        var runner = PlanRunner(environment: environment, invocation: invocation, timeouts: timeouts)
        let code = runner.run(steps)
        if !invocation.isDryRun { register(command, steps, code) }
        switch command.name {
        case "up", "adjust", "adjust-with-progress": return code == 0 ? 0 : 1
        default: return code
        }
    }

    /// Remembers, or forgets, where the configuration of a resource is.
    private func register(_ command: CommandSpec, _ steps: [PlanStep], _ code: Int32) {
        for resource in resources
        where code == 0 && (command.name == "adjust" || steps.contains { $0.resource == resource.name }) {
            switch command.name {
            case "up", "adjust":
                RegisteredConfiguration.register(
                    resource, file: absoluteConfigurationPath, runDirectory: environment.runDirectory)
            case "down": RegisteredConfiguration.unregister(resource, runDirectory: environment.runDirectory)
            default: break
            }
        }
    }

    var builder: PlanBuilder {
        PlanBuilder(
            invocation: invocation, resources: resources, node: environment.nodeName,
            configurationPath: absoluteConfigurationPath, handlerTimeoutSeconds: timeouts.long)
    }

    private mutating func plan(_ command: CommandSpec, _ targets: [PlanTarget]) throws -> [PlanStep] {
        let builder = builder
        let extra = invocation.options
        var steps: [PlanStep] = []
        for target in targets {
            let resource = target.resource
            switch command.name {
            case "up": steps += try builder.up(resource)
            case "down": steps.append(builder.down(resource.name))
            case "adjust", "adjust-with-progress":
                let status = invocation.isDryRun || resource.peer != nil ? running.status(of: resource.name) : nil
                if running.unreachable.contains(resource.name) { throw UsageError(lines: [], exitCode: 20) }
                steps += try AdjustPlan(builder: builder).steps(resource, running: status)
            case "new-resource": steps.append(try builder.newResource(resource, extra: extra))
            case "connect": steps.append(try builder.connect(resource, extra: extra))
            case "disconnect": steps.append(try builder.disconnect(resource, force: invocation.has("force")))
            case "net-options": steps.append(try builder.netOptions(resource, extra: extra))
            case "resource-options": steps.append(try builder.resourceOptions(resource, extra: extra))
            case "syncer":
                for volume in target.volumes { steps.append(try builder.diskOptions(resource, volume)) }
                steps.append(try builder.netOptions(resource))
            default:
                for volume in target.volumes { steps += try plan(command, resource, volume, builder) }
            }
        }
        return steps
    }

    private func plan(
        _ command: CommandSpec, _ resource: ResolvedResource, _ volume: ResolvedVolume, _ builder: PlanBuilder
    ) throws -> [PlanStep] {
        let number = volume.number
        let force = invocation.has("force") || invocation.has("overwrite-data-of-peer")
        switch command.name {
        case "attach": return try builder.attach(resource, volume, extra: invocation.options)
        case "detach": return [builder.detach(resource, number, minor: volume.minor, force: force)]
        case "disk-options": return [try builder.diskOptions(resource, volume, extra: invocation.options)]
        case "new-minor": return [builder.newMinor(resource, volume)]
        case "primary":
            return [
                builder.simple(
                    resource, volume, .primary(number, force: force), flags: force ? ["force"] : [], time: .medium)
            ]
        case "secondary": return [builder.simple(resource, volume, .secondary(number), time: .medium)]
        case "invalidate": return [builder.daemonOrDisk(resource, volume, .invalidate(number))]
        case "invalidate-remote": return [builder.simple(resource, volume, .invalidateRemote(number), time: .medium)]
        case "outdate": return [builder.daemonOrDisk(resource, volume, .outdate(number))]
        case "new-current-uuid":
            let isClear = invocation.has("clear-bitmap")
            return [
                builder.simple(
                    resource, volume, .newCurrentUUID(number, clearBitmap: isClear),
                    flags: isClear ? ["clear-bitmap"] : [])
            ]
        case "pause-sync": return [builder.simple(resource, volume, .pauseSync(number))]
        case "resume-sync": return [builder.simple(resource, volume, .resumeSync(number))]
        case "suspend-io": return [builder.simple(resource, volume, .suspendIO(number))]
        case "resume-io": return [builder.simple(resource, volume, .resumeIO(number))]
        case "verify": return [builder.verbatim(resource, volume, command.name)]
        case "resize":
            return [
                builder.resize(resource, volume), builder.checkResize(resource, volume),
            ]
        case "check-resize": return [builder.checkResize(resource, volume)]
        case "wait-connect": return [builder.wait(resource, volume, isSync: false)]
        case "wait-sync": return [builder.wait(resource, volume, isSync: true)]
        case "create-md", "dump-md", "wipe-md", "apply-al":
            let options = invocation.options.map { $0.value == "yes" ? "--\($0.name)" : "--\($0.name)=\($0.value ?? "")" }
            return [builder.metadata(resource, volume, [command.name] + options)]
        default: return []
        }
    }
}

/// The version of this product and the one that it presents (`control.md` 0.2, 2.9).
package enum ProductVersion {
    package static let text = "replica 0.1.0"

    static func assignments(_ environment: ToolEnvironment) -> String {
        let persona = environment.persona
        return "DRBDADM_BUILDTAG=GIT-hash:\\ \(persona.gitHash)\\ replica\n"
            + "DRBDADM_API_VERSION=\(persona.api)\nDRBD_KERNEL_VERSION_CODE=\(persona.versionCode)\n"
            + "DRBDADM_VERSION_CODE=\(persona.versionCode)\nDRBDADM_VERSION=\(persona.version)\n"
    }
}
