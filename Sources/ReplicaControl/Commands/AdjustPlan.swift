import ReplicaProto

/// The steps that make a running resource match its configuration (`control.md` 2.5). Nothing to do: no steps.
struct AdjustPlan {
    let builder: PlanBuilder

    func steps(_ resource: ResolvedResource, running: ResourceStatus?) throws(ConfigError) -> [PlanStep] {
        guard let running else { return try builder.up(resource) }
        var steps = [builder.settings(resource)]
        if running.options != (try resource.resourceOptions()) { steps.append(try builder.resourceOptions(resource)) }
        let removals = removals(resource, running)
        let isConnected = running.volumes.contains { $0.state.connection != .standAlone }
        if !removals.isEmpty, isConnected, resource.peer != nil {
            // A volume leaves while nobody talks about it.
            var step = try builder.disconnect(resource, force: false)
            step.stage = .prerequisites
            steps.append(step)
        }
        steps += removals
        var isNewDevice = false
        for volume in resource.volumes {
            let current = running.volumes.first { $0.volume == volume.number && $0.minor == volume.minor }
            if current == nil {
                isNewDevice = true
                steps.append(builder.newMinor(resource, volume))
            }
            steps += try disk(resource, volume, current)
        }
        if !removals.isEmpty, isConnected { return steps + [try builder.connect(resource, extra: [])] }
        return steps + (try network(resource, running, isNewDevice: isNewDevice))
    }

    /// Volumes that are not configured any more, or under another minor.
    private func removals(_ resource: ResolvedResource, _ running: ResourceStatus) -> [PlanStep] {
        var steps: [PlanStep] = []
        for current in running.volumes {
            if resource.volumes.contains(where: { $0.number == current.volume && $0.minor == current.minor }) { continue }
            if current.disk != nil || current.state.disk != .diskless {
                var step = builder.detach(resource, current.volume, minor: current.minor, force: false)
                step.stage = .prerequisites
                steps.append(step)
            }
            steps.append(builder.deleteMinor(resource, current.volume, minor: current.minor))
        }
        return steps
    }

    private func disk(
        _ resource: ResolvedResource, _ volume: ResolvedVolume, _ current: VolumeStatus?
    ) throws(ConfigError) -> [PlanStep] {
        guard let current, current.state.disk != .diskless, let disk = current.disk else {
            return try builder.attach(resource, volume, extra: [])
        }
        let wanted = try resource.diskConfiguration(of: volume, among: builder.resources)
        let isSameDisk =
            disk.dataPath == wanted.dataPath && disk.metadataPath == wanted.metadataPath && disk.index == wanted.index
        if !isSameDisk {
            return [builder.detach(resource, volume.number, minor: volume.minor, force: false)]
                + (try builder.attach(resource, volume, extra: []))
        }
        if disk.options.size != wanted.options.size { return [builder.resize(resource, volume)] }
        return disk.options == wanted.options ? [] : [try builder.diskOptions(resource, volume)]
    }

    private func network(
        _ resource: ResolvedResource, _ running: ResourceStatus, isNewDevice: Bool
    ) throws(ConfigError) -> [PlanStep] {
        let wanted = try resource.connection()
        guard let current = running.volumes.lazy.compactMap(\.connection).first,
            running.volumes.contains(where: { $0.state.connection != .standAlone })
        else { return [try builder.connect(resource, extra: [])] }
        let isSameAddress = current.local == wanted.local && current.remote == wanted.remote
        let needsReconnect =
            !isSameAddress || current.options.sharedSecret != wanted.options.sharedSecret
            || current.options.cramHMACAlgorithm != wanted.options.cramHMACAlgorithm
        if needsReconnect {
            return [try builder.disconnect(resource, force: false), try builder.connect(resource, extra: [])]
        }
        return current.options == wanted.options ? [] : [try builder.netOptions(resource)]
    }
}
