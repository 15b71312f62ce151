import CLinux
import ReplicaProto

/// Commands that ask the running daemons (`control.md` 2.8, 2.9).
extension AdminTool {
    /// - Returns: the exit code, or nil if the command is of another kind.
    mutating func answerFromState(_ command: CommandSpec, _ targets: [PlanTarget]) throws -> Int32? {
        switch command.name {
        case "role":
            if invocation.commandWord == "state" {
                console.complain("'\(environment.programName) state' is deprecated, use '\(environment.programName) role'")
            }
            return eachVolume(command, targets) { StatusText.role($0) }
        case "cstate": return eachVolume(command, targets) { StatusText.connection($0) }
        case "dstate": return eachVolume(command, targets) { StatusText.disk($0) }
        case "get-gi", "show-gi": return eachVolume(command, targets) { Self.generations($0, command.name) }
        case "status": return status(targets)
        case "sh-status": return shellStatus(targets)
        case "events2":
            if invocation.isDryRun {
                let names = invocation.names.isEmpty ? ["all"] : targets.map(\.resource.name)
                for name in names { console.print((environment.setupWords + ["events2", name]).joined(separator: " ")) }
                return 0
            }
            return EventsCommand(
                environment: environment, resources: invocation.names.isEmpty ? nil : targets.map(\.resource.name),
                statistics: invocation.has("statistics"), timestamps: invocation.has("timestamps"),
                follows: !invocation.has("now")
            ).run()
        case "metrics":
            var names = targets.map(\.resource.name)
            if invocation.names.isEmpty {
                for name in running.resourceNames() where !names.contains(name) { names.append(name) }
            }
            return MetricsCommand(environment: environment, resources: names, file: invocation.isDryRun ? nil : invocation.value("file")).run()
        case "show":
            for target in targets {
                if let status = running.status(of: target.resource.name) {
                    console.writeOutput(ShowText.text(status, showDefaults: invocation.has("show-defaults")))
                }
            }
            return 0
        case "recording": return recordings(targets)
        case "trace":
            guard targets.count == 1, let target = targets.first else {
                throw UsageError(lines: ["trace: one resource at a time"])
            }
            return TraceCommand(
                environment: environment, resource: target.resource.name, capturePath: invocation.value("pcap"),
                count: invocation.value("count").flatMap { UInt64($0) } ?? 0
            ).run()
        case "service-status": return serviceStatus()
        case "proc":
            let volumes = running.all().flatMap(\.volumes)
            console.writeOutput(ProcText.file(volumes, persona: environment.persona, build: environment.build))
            return running.unreachable.isEmpty ? 0 : 20
        default: return nil
        }
    }

    /// Has each daemon write its last events and effects; prints the files.
    private func recordings(_ targets: [PlanTarget]) -> Int32 {
        var worst: Int32 = 0
        for target in targets {
            let name = target.resource.name
            do throws(ControlClientError) {
                let client = try ControlClient(path: environment.controlSocket(of: name))
                let answer = try client.ask("recording", timeoutSeconds: 60)
                if answer.code == 0 { console.writeOutput(answer.text) } else { console.complain("\(name): \(answer.text)") }
                worst = max(worst, answer.code == 0 ? 0 : 20)
            } catch {
                console.complain("\(name): \(error == .notRunning ? "no daemon runs" : "the daemon does not answer")")
                worst = 20
            }
        }
        return worst
    }

    static func generations(_ volume: VolumeStatus, _ command: String) -> String? {
        guard let flags = volume.metadataFlags else { return nil }
        let superblock = Superblock(
            lastAgreedSectors: volume.sectors, identifiers: volume.identifiers, deviceUUID: 0, flags: flags,
            isUnclean: true, metadataSectors: 0, activityLogOffset: 0, activityLogExtents: 0, bitmapOffset: 0,
            peerMaximumRequest: 1 << 20)
        return command == "get-gi"
            ? GenerationText.line(superblock) : String(GenerationText.explained(superblock).dropLast())
    }

    private mutating func eachVolume(
        _ command: CommandSpec, _ targets: [PlanTarget], _ text: (VolumeStatus) -> String?
    ) -> Int32 {
        var worst: Int32 = 0
        for target in targets {
            for volume in target.volumes {
                let call = (environment.setupWords + [command.name, String(volume.minor)]).joined(separator: " ")
                if invocation.isDryRun || invocation.isVerbose { console.print(call) }
                if invocation.isDryRun { continue }
                let status = running.status(of: target.resource.name)
                if running.unreachable.contains(target.resource.name) {
                    worst = max(worst, 20)
                    break
                }
                let running = status?.volumes.first { $0.volume == volume.number }
                if let running, let text = text(running) {
                    console.print(text)
                    continue
                }
                let code = withoutRunningDevice(command, volume, running)
                worst = max(worst, code)
                if code >= 10 {
                    console.complain("Command '\(call)' terminated with exit code \(code)")
                    break
                }
            }
        }
        return worst
    }

    /// What is said of a volume that does not run, or runs without a disk.
    private func withoutRunningDevice(
        _ command: CommandSpec, _ volume: ResolvedVolume, _ running: VolumeStatus?
    ) -> Int32 {
        switch command.name {
        case "dstate", "get-gi", "show-gi":
            return MetadataCall.run(volume, [command.name], running: running, environment: environment)
        default:
            let lines = CommandErrorText.lines(
                CommandErrorText.minorNotAllocated, object: String(volume.minor), info: "unknown minor")
            for line in lines { console.complain(line) }
            return 10
        }
    }

    private mutating func status(_ targets: [PlanTarget]) -> Int32 {
        var found: [ResourceStatus] = []
        var worst: Int32 = 0
        for target in targets {
            let name = target.resource.name
            if invocation.isDryRun {
                console.print((environment.setupWords + ["status", name]).joined(separator: " "))
                continue
            }
            if let status = running.status(of: name) {
                found.append(status)
                continue
            }
            if running.unreachable.contains(name) {
                worst = max(worst, 20)
                continue
            }
            if invocation.has("json") || invocation.has("xml") || environment.persona != .v8411 { continue }
            let call = (environment.setupWords + ["status", name]).joined(separator: " ")
            console.complain("\(name): No such resource")
            console.complain("Command '\(call)' terminated with exit code 10")
            worst = max(worst, 10)
        }
        if invocation.isDryRun { return 0 }
        if invocation.has("json") {
            console.writeOutput(StatusJSON.text(found))
        } else if invocation.has("xml") || environment.persona != .v8411 {
            console.writeOutput(
                StatusXML.text(
                    targets.flatMap { target in
                        target.volumes.map { volume in
                            let status = found.first { $0.resource == target.resource.name }
                            return (
                                target.resource.name, volume.minor,
                                status?.volumes.first { $0.volume == volume.number }
                            )
                        }
                    }, persona: environment.persona, file: tree.file))
        } else {
            for status in found {
                console.writeOutput(
                    StatusText.status(
                        status, verbose: invocation.has("verbose"), statistics: invocation.has("statistics")))
            }
        }
        return worst
    }

    private mutating func shellStatus(_ targets: [PlanTarget]) -> Int32 {
        let persona = environment.persona
        console.writeOutput(
            "_drbd_version=\(persona.version)\n_drbd_api=\(persona.api)\n"
                + "_config_file=\(StatusText.shellQuoted(tree.file))\n\n\n")
        for target in targets {
            let resource = target.resource
            console.writeOutput(
                "_conf_res_name=\(StatusText.shellQuoted(resource.name))\n_conf_file_line=\(resource.section.position)\n\n")
            let lower = resource.lower.flatMap { name in
                tree.resources(on: NodeIdentity(name: environment.nodeName)).first { $0.name == name }
            }
            console.writeOutput(
                "_stacked_on=\(lower?.name ?? "")\n_stacked_on_device=\(lower?.volumes.first?.device ?? "")\n"
                    + "_stacked_on_minor=\(lower?.volumes.first.map { String($0.minor) } ?? "")\n")
            for volume in target.volumes {
                console.writeOutput("_conf_volume=\(volume.number.value)\n")
                let status = running.status(of: resource.name)
                if let running = status?.volumes.first(where: { $0.volume == volume.number }) {
                    console.writeOutput(StatusText.shellStatus(running, resource: resource.name))
                } else {
                    console.writeOutput(StatusText.shellStatus(missing: volume.minor))
                }
            }
        }
        return running.unreachable.isEmpty ? 0 : 20
    }
}

extension ToolEnvironment {
    /// Who built it, as the second line of the status file says.
    var build: String {
        var text = [CChar](repeating: 0, count: 32)
        clinux_build_date(&text)
        return "root@\(nodeName), "
            + String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
