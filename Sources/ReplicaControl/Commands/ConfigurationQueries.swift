import ReplicaProto

/// Commands that are answered by the configuration alone: `dump`, `sh-*` (`control.md` 1.12, 2.9).
extension AdminTool {
    /// - Returns: the exit code, or nil if the command is of another kind.
    mutating func answerFromConfiguration(_ command: CommandSpec, _ targets: [PlanTarget]) throws -> Int32? {
        switch command.name {
        case "sh-nop": return 0
        case "dump":
            let isEffective = invocation.isVerbose || invocation.isDryRun
            let named = invocation.names.isEmpty || invocation.names == ["all"] ? nil : targets.map(\.resource.name)
            console.writeOutput(
                ConfigDump(tree: tree, node: environment.nodeName, isEffective: isEffective, here: resources.map(\.name))
                    .text(of: named))
            return 0
        case "dump-xml":
            let named = invocation.names.isEmpty || invocation.names == ["all"] ? nil : targets.map(\.resource.name)
            console.writeOutput(
                ConfigXML(
                    tree: tree, here: resources.map(\.name),
                    isEffective: invocation.isVerbose || invocation.isDryRun
                ).text(of: named))
            return 0
        case "sh-resources":
            if !resources.isEmpty { console.print(resources.map(\.name).joined(separator: " ")) }
            return 0
        case "sh-mod-parms":
            let count = tree.global["minor-count"]?.value ?? "32"
            console.print("minor_count=\(count)")
            return 0
        case "sh-resource":
            var last = ""
            for target in targets where target.resource.name != last {
                last = target.resource.name
                console.print(last)
            }
            return 0
        case "sh-dev": return printVolumes(targets) { _, volume in volume.device }
        case "sh-minor": return printVolumes(targets) { _, volume in String(volume.minor) }
        case "sh-ll-dev": return printVolumes(targets) { _, volume in volume.disk }
        case "sh-md-dev": return printVolumes(targets) { _, volume in volume.metaDisk }
        case "sh-md-idx": return printVolumes(targets) { _, volume in volume.index.text }
        case "sh-ip": return printVolumes(targets) { resource, _ in resource.local.address?.address.host ?? "" }
        case "sh-udev":
            let isNumbered = tree.global["udev-always-use-vnr"] != nil
            for target in targets {
                for volume in target.volumes {
                    let name = target.resource.name
                    let isPlain = volume.isImplicit && !isNumbered
                    console.print("RESOURCE=\(isPlain ? name : "\(name)/\(volume.number.value)")")
                    console.print("DEVICE=\(AdminTool.withoutDev(volume.device))")
                    console.print("DISK=\(AdminTool.withoutDev(volume.disk))")
                }
            }
            return 0
        case "sh-lr-of":
            for target in targets {
                guard let lower = target.resource.lower else {
                    console.complain("sh-lower-resource only available in stacked mode")
                    return 1
                }
                console.print(lower)
            }
            return 0
        case "proxy-up", "proxy-down": return 0
        default: return nil
        }
    }

    private func printVolumes(
        _ targets: [PlanTarget], _ value: (ResolvedResource, ResolvedVolume) -> String
    ) -> Int32 {
        for target in targets {
            for volume in target.volumes { console.print(value(target.resource, volume)) }
        }
        return 0
    }

    private static func withoutDev(_ path: String) -> String {
        path.hasPrefix("/dev/") ? String(path.dropFirst(5)) : path
    }
}
