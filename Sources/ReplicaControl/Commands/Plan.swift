import ReplicaProto

/// When a low-level call is made: every stage runs over all resources before the next one begins
/// (`control.md` 2.2).
enum PlanStage: Int, Equatable, Sendable, CaseIterable {
    case prerequisites, disk, networkPrerequisites, network
}

/// One low-level call: what `-d` prints, and what is done.
struct PlanStep: Equatable, Sendable {
    enum Action: Equatable, Sendable {
        /// Starts the daemon if none answers, then hands it the resource's options.
        case newResource(DaemonSettings, ResourceOptions)
        /// Tells a running daemon of changed handlers and names: no call of the low-level tool, nothing printed.
        case settings(DaemonSettings)
        /// A line for the daemon's control socket.
        case ask(String)
        /// As `ask`; where no disk is attached, the metadata tool does it.
        case askOrMetadata(String, ResolvedVolume, [String])
        /// Asks for the end of the daemon and waits for it.
        case down
        /// A command of the metadata tool; nothing where the disk is attached.
        case metadataUnlessAttached(ResolvedVolume, [String])
        /// A command of the metadata tool.
        case metadata(ResolvedVolume, [String])
    }

    var stage: PlanStage
    var resource: String
    /// The command's name for "skipped" messages.
    var command: String
    /// What error messages of the low level begin with.
    var object: String
    var tool: Tool
    /// The words behind the tool's name.
    var words: [String]
    var action: Action
    var time: TimeClass

    enum Tool: Equatable, Sendable { case setup, meta }
}

/// A resource or some of its volumes, as named on the command line.
struct PlanTarget: Equatable, Sendable {
    var resource: ResolvedResource
    var volumes: [ResolvedVolume]
}

/// Turns commands into low-level calls. Knows the configuration, not the running state (but see `AdjustPlan`).
struct PlanBuilder {
    var invocation: Invocation
    var resources: [ResolvedResource]
    var node: String
    var configurationPath: String
    var handlerTimeoutSeconds: Int

    private var extra: [ConfigOption] { invocation.options }

    // MARK: Whole resources

    func up(_ resource: ResolvedResource) throws(ConfigError) -> [PlanStep] {
        var steps = [try newResource(resource)]
        for volume in resource.volumes { steps.append(newMinor(resource, volume)) }
        for volume in resource.volumes { steps += try attach(resource, volume, extra: []) }
        steps.append(try connect(resource, extra: []))
        return steps
    }

    func down(_ resource: String) -> PlanStep {
        PlanStep(
            stage: .prerequisites, resource: resource, command: "down", object: resource, tool: .setup,
            words: ["down", resource], action: .down, time: .medium)
    }

    func newResource(_ resource: ResolvedResource, extra: [ConfigOption] = []) throws(ConfigError) -> PlanStep {
        let options = try resource.resourceOptions(extra: extra)
        let settings = resource.daemonSettings(
            node: node, configurationPath: configurationPath, handlerTimeoutSeconds: handlerTimeoutSeconds)
        return PlanStep(
            stage: .prerequisites, resource: resource.name, command: "new-resource", object: resource.name,
            tool: .setup, words: ["new-resource", resource.name] + words(resource.resourceOptionTexts + extra),
            action: .newResource(settings, options), time: .short)
    }

    /// DRBD's tools look handlers up when they run; our daemon has to be told when they have changed.
    func settings(_ resource: ResolvedResource) -> PlanStep {
        let settings = resource.daemonSettings(
            node: node, configurationPath: configurationPath, handlerTimeoutSeconds: handlerTimeoutSeconds)
        return PlanStep(
            stage: .prerequisites, resource: resource.name, command: "settings", object: resource.name, tool: .setup,
            words: [], action: .settings(settings), time: .short)
    }

    func newMinor(_ resource: ResolvedResource, _ volume: ResolvedVolume) -> PlanStep {
        let command = ControlCommand.newMinor(volume.number, minor: volume.minor)
        return step(
            .prerequisites, resource, command, object: resource.name,
            words: ["new-minor", resource.name, String(volume.minor), volume.number.text])
    }

    func deleteMinor(_ resource: ResolvedResource, _ volume: VolumeNumber, minor: UInt32) -> PlanStep {
        step(
            .prerequisites, resource, .deleteMinor(volume), object: String(minor), words: ["del-minor", String(minor)])
    }

    func connect(_ resource: ResolvedResource, extra: [ConfigOption]) throws(ConfigError) -> PlanStep {
        let once = ["discard-my-data", "tentative"]
        let net = extra.filter { !once.contains($0.name) }
        let connection = try resource.connection(
            extra: net, discardMyData: extra.contains { $0.name == once[0] && $0.value == "yes" },
            tentative: extra.contains { $0.name == once[1] && $0.value == "yes" })
        var words = [
            "connect", resource.name, connection.local.description, connection.remote.description,
        ]
        words += self.words(resource.netOptionTexts + net)
        words += once.filter { name in extra.contains { $0.name == name && $0.value == "yes" } }.map { "--" + $0 }
        return step(.network, resource, .connect(connection), object: resource.name, words: words)
    }

    func disconnect(_ resource: ResolvedResource, force: Bool) throws(ConfigError) -> PlanStep {
        let connection = try resource.connection()
        return step(
            .networkPrerequisites, resource, .disconnect(force: force), object: resource.name,
            words: ["disconnect", connection.local.description, connection.remote.description]
                + (force ? ["--force"] : []))
    }

    func netOptions(
        _ resource: ResolvedResource, extra: [ConfigOption] = []
    ) throws(ConfigError) -> PlanStep {
        let extra = extra.filter { $0.name != "set-defaults" }
        let connection = try resource.connection(extra: extra)
        return step(
            .network, resource, .netOptions(connection.options), object: resource.name,
            words: ["net-options", connection.local.description, connection.remote.description, "--set-defaults"]
                + words(resource.netOptionTexts + extra))
    }

    func resourceOptions(_ resource: ResolvedResource, extra: [ConfigOption] = []) throws(ConfigError) -> PlanStep {
        let extra = extra.filter { $0.name != "set-defaults" }
        return step(
            .prerequisites, resource, .resourceOptions(try resource.resourceOptions(extra: extra)),
            object: resource.name,
            words: ["resource-options", resource.name, "--set-defaults"] + words(resource.resourceOptionTexts + extra))
    }

    // MARK: Volumes

    func attach(
        _ resource: ResolvedResource, _ volume: ResolvedVolume, extra: [ConfigOption]
    ) throws(ConfigError) -> [PlanStep] {
        let disk = try resource.diskConfiguration(of: volume, extra: extra, among: resources)
        let words =
            ["attach", String(volume.minor), volume.disk, volume.metaDisk, volume.index.text]
            + words(volume.diskOptions + extra)
        return [
            metadata(resource, volume, ["apply-al"]),
            step(.disk, resource, .attach(volume.number, disk), object: String(volume.minor), words: words, time: .medium),
        ]
    }

    func detach(_ resource: ResolvedResource, _ volume: VolumeNumber, minor: UInt32, force: Bool) -> PlanStep {
        step(
            .disk, resource, .detach(volume, force: force), object: String(minor),
            words: ["detach", String(minor)] + (force ? ["--force"] : []), time: .medium)
    }

    func diskOptions(
        _ resource: ResolvedResource, _ volume: ResolvedVolume, extra: [ConfigOption] = []
    ) throws(ConfigError) -> PlanStep {
        let extra = extra.filter { $0.name != "set-defaults" }
        let options = try resource.diskOptions(of: volume, extra: extra, among: resources)
        return step(
            .disk, resource, .diskOptions(volume.number, options), object: String(volume.minor),
            words: ["disk-options", String(volume.minor), "--set-defaults"] + words(volume.diskOptions + extra))
    }

    /// A command that takes a minor and flags only.
    func simple(
        _ resource: ResolvedResource, _ volume: ResolvedVolume, _ command: ControlCommand, flags: [String] = [],
        time: TimeClass = .short
    ) -> PlanStep {
        let name = command.words(resource: resource.name)[0]
        return step(
            .disk, resource, command, object: String(volume.minor),
            words: [name, String(volume.minor)] + flags.map { "--" + $0 }, time: time)
    }

    /// A command that changes what the metadata says, by the daemon or, where it has no disk, without it.
    func daemonOrDisk(_ resource: ResolvedResource, _ volume: ResolvedVolume, _ command: ControlCommand) -> PlanStep {
        var step = simple(resource, volume, command)
        step.action = .askOrMetadata(command.line(resource: resource.name), volume, [step.command])
        return step
    }

    /// A request that has no place among the control commands: handed on as typed.
    func verbatim(
        _ resource: ResolvedResource, _ volume: ResolvedVolume, _ command: String, time: TimeClass = .short
    ) -> PlanStep {
        let options = extra.map { $0.value == "yes" ? "--\($0.name)" : "--\($0.name)=\($0.value ?? "")" }
        return PlanStep(
            stage: .disk, resource: resource.name, command: command, object: String(volume.minor), tool: .setup,
            words: [command, String(volume.minor)] + options,
            action: .ask(CommandLineWords.join([command, volume.number.text] + options)), time: time)
    }

    /// The configured size counts where the command names none.
    func resize(_ resource: ResolvedResource, _ volume: ResolvedVolume) -> PlanStep {
        let size = extra.contains { $0.name == "size" } ? [] : volume.diskOptions.filter { $0.name == "size" }
        let options = (size + extra).map { $0.value == "yes" ? "--\($0.name)" : "--\($0.name)=\($0.value ?? "")" }
        return PlanStep(
            stage: .disk, resource: resource.name, command: "resize", object: String(volume.minor), tool: .setup,
            words: ["resize", String(volume.minor)] + options,
            action: .ask(CommandLineWords.join(["resize", volume.number.text] + options)), time: .short)
    }

    /// Where the metadata of a disk in use lies is only noted.
    func checkResize(_ resource: ResolvedResource, _ volume: ResolvedVolume) -> PlanStep {
        PlanStep(
            stage: .disk, resource: resource.name, command: "check-resize", object: String(volume.minor), tool: .setup,
            words: ["check-resize", String(volume.minor)], action: .metadataUnlessAttached(volume, ["check-resize"]),
            time: .long)
    }

    func metadata(_ resource: ResolvedResource, _ volume: ResolvedVolume, _ command: [String]) -> PlanStep {
        PlanStep(
            stage: .disk, resource: resource.name, command: command.first ?? "", object: String(volume.minor),
            tool: .meta, words: MetadataArguments.words(volume) + command, action: .metadata(volume, command),
            time: .long)
    }

    func wait(
        _ resource: ResolvedResource, _ volume: ResolvedVolume, isSync: Bool
    ) -> PlanStep {
        var times = WaitTimes(
            wfc: seconds(resource, "wfc-timeout"), degraded: seconds(resource, "degr-wfc-timeout"),
            outdated: seconds(resource, "outdated-wfc-timeout"),
            afterSplitBrain: invocation.has("wait-after-sb") || resource.sections.startup["wait-after-sb"] != nil)
        if times.wfc > 0 {
            times.degraded = min(times.degraded, times.wfc)
            times.outdated = min(times.outdated, times.wfc)
        }
        let name = isSync ? "wait-sync" : "wait-connect"
        let command = isSync ? ControlCommand.waitSync(volume.number, times) : .waitConnect(volume.number, times)
        let flags = command.words(resource: resource.name).dropFirst(2)
        return step(
            .network, resource, command, object: String(volume.minor), words: [name, String(volume.minor)] + flags,
            time: .endless)
    }

    private func seconds(_ resource: ResolvedResource, _ name: String) -> Int {
        invocation.value(name).flatMap { Int($0) } ?? resource.startupSeconds(name)
    }

    // MARK: Helpers

    private func step(
        _ stage: PlanStage, _ resource: ResolvedResource, _ command: ControlCommand, object: String, words: [String],
        time: TimeClass = .short
    ) -> PlanStep {
        PlanStep(
            stage: stage, resource: resource.name, command: words[0], object: object, tool: .setup, words: words,
            action: .ask(command.line(resource: resource.name)), time: time)
    }

    /// Options as the command line shows them: as written, whatever their unit.
    func words(_ options: [ConfigOption]) -> [String] {
        options.map { option in
            guard let value = option.value else { return "--\(option.name)" }
            return "--\(option.name)=\(value)"
        }
    }
}

/// How `drbdmeta` is told of a volume (`control.md` 2.13).
enum MetadataArguments {
    static func words(_ volume: ResolvedVolume) -> [String] {
        let index =
            switch volume.index {
            case .internal: "internal"
            case .flexible: "flex-external"
            case .indexed(let index): String(index)
            }
        return [String(volume.minor), "v08", volume.metaDisk, index]
    }
}
