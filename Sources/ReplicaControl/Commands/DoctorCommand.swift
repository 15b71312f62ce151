import ReplicaProto

/// `doctor`: what the situation is, what is safe, what to type.
extension AdminTool {
    /// - Returns: 0: nothing to do; 1: something has to be done; 2: data is at risk, or there is no service.
    mutating func doctor(_ command: CommandSpec) -> Int32 {
        var gathering = EvidenceGathering(environment: environment)
        if let file = invocation.configurationFile { gathering.program += " -c " + CommandLineWords.quote(file) }
        var found: [Evidence] = []
        do throws(ConfigError) {
            try load(for: command)
            found = patients(gathering)
        } catch {
            let names = invocation.names.isEmpty ? running.resourceNames() : invocation.names
            let reason = error.faults.map(\.text).joined(separator: "; ")
            found = (names.isEmpty ? ["all"] : names).map { gathering.evidence(of: $0, .unreadable(reason)) }
        }
        let reports = found.map { (name: $0.resource, node: $0.node, findings: Diagnosis.findings($0)) }
        if invocation.has("json") {
            console.writeOutput(DoctorReport.json(reports))
        } else {
            console.writeOutput(reports.map { DoctorReport.text($0.name, $0.findings) }.joined(separator: "\n"))
        }
        switch reports.flatMap(\.findings).map(\.severity).max() ?? .ok {
        case .ok, .notice: return 0
        case .warning: return 1
        case .danger: return 2
        }
    }

    /// Whoever was asked about, or everything that is here in any way.
    private func patients(_ gathering: EvidenceGathering) -> [Evidence] {
        let names = invocation.names.filter { $0 != "all" }
        if names.count != invocation.names.count || names.isEmpty {
            let known = resources.map(\.name)
            let strangers = running.resourceNames().filter { name in
                !known.contains(name) && !tree.resources.contains { $0.name == name && $0.isStacked != invocation.isStacked }
            }
            let others = resources.isEmpty ? tree.resources.map(\.name).filter { !strangers.contains($0) } : []
            return resources.map(gathering.evidence) + (strangers + others).map { stranger($0, gathering) }
        }
        return names.map { name in
            let base = name.split(separator: "/").first.map(String.init) ?? name
            let minor = name.hasPrefix("minor-") ? UInt32(name.dropFirst(6)) : nil
            let resource = resources.first { resource in
                resource.name == base || resource.volumes.contains { $0.minor == minor || $0.device == name }
            }
            return resource.map(gathering.evidence) ?? stranger(base, gathering)
        }
    }

    private func stranger(_ name: String, _ gathering: EvidenceGathering) -> Evidence {
        guard let section = tree.resources.first(where: { $0.name == name }) else {
            return gathering.evidence(of: name, .unknown)
        }
        return gathering.evidence(
            of: name, .otherHosts(section.hosts.flatMap { $0.names.isEmpty ? [$0.title] : $0.names }))
    }
}
