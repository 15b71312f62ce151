import Glibc
import ReplicaProto

/// Commands that are more than a list of low-level calls: waiting, promoting at boot, running handlers.
extension AdminTool {
    /// - Returns: the exit code, or nil if the command is of another kind.
    mutating func runProcedure(_ command: CommandSpec, _ targets: [PlanTarget]) throws -> Int32? {
        switch command.name {
        case "wait-con-int": return waitForAll()
        case "wait-sync" where environment.isOutputTerminal && !invocation.isDryRun:
            for target in targets {
                let display = SyncProgressDisplay(environment: environment)
                for volume in target.volumes { display.follow(target.resource.name, volume.number) }
            }
            return nil
        case "sh-b-pri": return promoteAtBoot(targets)
        case "set-gi": return setGenerations(targets)
        case "upgrade":
            let upgrade = UpgradeProcedure(
                environment: environment, isForced: invocation.has("force"), isDryRun: invocation.isDryRun)
            let isAll = invocation.names.contains("all")
            return targets.map { upgrade.run($0.resource.name, isNamed: !isAll) }.max() ?? 0
        default: break
        }
        guard command.group == .handler else { return nil }
        if invocation.commandWord == "outdate-peer" {
            console.complain("'outdate-peer' is deprecated, use 'fence-peer'")
        }
        var worst: Int32 = 0
        for target in targets {
            let isResource = target.volumes.count == target.resource.volumes.count
            let code = HandlerCall.run(
                command.name, target, isResource: isResource, configurationPath: absoluteConfigurationPath,
                isDryRun: invocation.isDryRun, console: console)
            worst = max(worst, code)
        }
        return worst
    }

    private func waitForAll() -> Int32 {
        if !invocation.names.isEmpty { console.complain("This command will ignore resource names!") }
        var waiters: [WaitDialog.Waiter] = []
        for resource in resources {
            let steps = resource.volumes.map { builder.wait(resource, $0, isSync: false) }
            if invocation.isDryRun {
                let runner = PlanRunner(environment: environment, invocation: invocation)
                for step in steps { console.print(runner.commandLine(step)) }
                continue
            }
            let lines = steps.compactMap { step in
                if case .ask(let line) = step.action { return line }
                return nil
            }
            do {
                let client = try ControlClient(path: environment.controlSocket(of: resource.name))
                for line in lines { try client.begin(line) }
                waiters.append(
                    WaitDialog.Waiter(
                        client: client, pending: lines.count,
                        startup: (
                            resource.name, resource.startupSeconds("wfc-timeout"),
                            resource.startupSeconds("degr-wfc-timeout")
                        )))
            } catch {
                // A resource that does not run is nothing to wait for.
                continue
            }
        }
        var dialog = WaitDialog(console: console, isTerminal: environment.isInputTerminal)
        if let text = tree.global["dialog-refresh"]?.value, let seconds = Int(text) { dialog.refreshSeconds = seconds }
        return dialog.run(waiters)
    }

    /// Up to five tries, a second apart, where `become-primary-on` names this node.
    private func promoteAtBoot(_ targets: [PlanTarget]) -> Int32 {
        var worst: Int32 = 0
        for target in targets {
            let names = target.resource.sections.startup["become-primary-on"]?.value?.split(separator: " ") ?? []
            guard names.contains("both") || names.contains(where: { $0 == environment.nodeName }) else { continue }
            let steps = target.volumes.map { volume in
                builder.simple(target.resource, volume, .primary(volume.number, force: false), time: .medium)
            }
            guard let command = CommandTable.command(named: "primary") else { continue }
            var code = runPlan(steps, command)
            for _ in 1..<5 where code != 0 && !invocation.isDryRun {
                poll(nil, 0, 1000)
                code = runPlan(steps, command)
            }
            worst = max(worst, code)
        }
        return worst
    }

    /// The generations stand among the names: `set-gi VALUE r0`.
    private mutating func setGenerations(_ targets: [PlanTarget]) -> Int32 {
        guard let target = targets.first, let volume = target.volumes.first else { return 1 }
        let force = invocation.has("force") ? ["--force"] : []
        let arguments = ["set-gi"] + invocation.generations + force
        if invocation.isDryRun || invocation.isVerbose {
            let words = environment.metaWords + MetadataArguments.words(volume) + arguments
            console.print(words.joined(separator: " "))
        }
        if invocation.isDryRun { return 0 }
        let status = running.status(of: target.resource.name)?.volumes.first { $0.volume == volume.number }
        return MetadataCall.run(volume, arguments, running: status, environment: environment)
    }
}
