/// The lines of `events2` (`control.md` 2.8): what there is, and what becomes different.
///
///     exists resource name:r0 role:Secondary suspended:no
///     change peer-device name:r0 peer-node-id:0 conn-name:peer volume:0 replication:SyncSource peer-disk:Inconsistent
///
/// Order and contents are those of `drbdsetup events2` with the 8.4 kernel (Tests/Kernel/events.sh compares them): a
/// change names what is different and, with statistics, every number of that object. A change in which nothing is
/// different, which the kernel reports when a connection ends, is left out.
package enum EventLines {
    /// Every object of a resource as it is, without the closing `exists -`.
    package static func existing(_ resource: ResourceStatus, statistics: Bool = false) -> [String] {
        let objects = EventObjects(resource)
        return ([objects.resource, objects.connection] + objects.devices + objects.peerDevices).map {
            "exists \($0.whole(statistics))"
        }
    }

    /// What happened between two moments; nil for one at which the resource did not exist.
    package static func changes(
        from old: ResourceStatus?, to new: ResourceStatus?, statistics: Bool = false
    ) -> [String] {
        var lines: [String] = []
        guard let new else {
            guard let old else { return [] }
            let gone = EventObjects(old)
            if gone.hasConnection { lines += destroyed(gone.peerDevices.reversed() + [gone.connection]) }
            return lines + destroyed(gone.devices.reversed() + [gone.resource])
        }
        let now = EventObjects(new)
        guard let old else {
            lines += created([now.resource] + now.devices, statistics)
            return now.hasConnection ? lines + created([now.connection] + now.peerDevices, statistics) : lines
        }
        // A connection that comes begins as it was without one, and one that goes ends so, but they have a name.
        var before = EventObjects(old)
        let ends = before.hasConnection && !now.hasConnection
        let after = ends ? EventObjects(new, isNamed: true) : now
        if now.hasConnection, !before.hasConnection {
            before = EventObjects(old, isNamed: true)
            lines += created([before.connection] + before.peerDevices, statistics)
            // Through which it goes at once.
            before.connection.states[0] = "connection:\(ConnectionState.unconnected.name)"
            lines.append("change \(before.connection.name) \(before.connection.states[0])")
        }
        lines += changed([before.resource], [after.resource], statistics)
        if now.hasConnection || ends { lines += changed([before.connection], [after.connection], statistics) }
        if ends {
            lines += changed(before.peerDevices, after.peerDevices, statistics)
            lines += destroyed(before.peerDevices + [after.connection])
        }
        lines += changed(before.devices, after.devices, statistics)
        if now.hasConnection {
            lines += changed(before.peerDevices, after.peerDevices, statistics)
            lines += destroyed(before.peerDevices.missing(in: after.peerDevices))
        }
        return lines + destroyed(before.devices.missing(in: after.devices))
    }

    /// A handler begins to run, or has ended with an exit code.
    package static func handler(
        _ resource: String, _ name: String, _ volume: (number: VolumeNumber, minor: UInt32)?, exitCode: Int32? = nil
    ) -> String {
        var line = "\(exitCode == nil ? "call" : "response") helper name:\(resource) peer-node-id:0 conn-name:peer"
        if let volume { line += " volume:\(volume.number.value) minor:\(volume.minor)" }
        line += " helper:\(name)"
        if let exitCode { line += " status:\(UInt32(bitPattern: exitCode))" }
        return line
    }

    private static func created(_ objects: [EventObject], _ statistics: Bool) -> [String] {
        objects.map { "create \($0.whole(statistics))" }
    }

    private static func destroyed(_ objects: [EventObject]) -> [String] { objects.map { "destroy \($0.name)" } }

    private static func changed(_ old: [EventObject], _ new: [EventObject], _ statistics: Bool) -> [String] {
        new.compactMap { object in
            guard let before = old.first(where: { $0.name == object.name }) else { return "create \(object.whole(statistics))" }
            return object.difference(from: before, statistics).map { "change \($0)" }
        }
    }
}

/// One resource as `events2` sees it.
private struct EventObjects {
    var resource: EventObject
    var connection: EventObject
    var devices: [EventObject]
    var peerDevices: [EventObject]
    /// There is a network configuration; without one, the snapshot shows a connection that has no name.
    var hasConnection: Bool

    init(_ status: ResourceStatus, isNamed: Bool = false) {
        let volumes = status.volumes
        let name = "name:\(status.resource)"
        let state = StatusText.connectionState(volumes)
        hasConnection = state != nil
        let peer = hasConnection || isNamed ? "\(name) peer-node-id:0 conn-name:peer" : "\(name) peer-node-id:0"
        resource = EventObject(
            "resource \(name)",
            states: [
                "role:\(StatusText.role(of: volumes).name)", "suspended:\(StatusText.suspendReasons(volumes))",
            ], flags: ["write-ordering:\(StatusText.writeOrdering(volumes))"])
        let isCongested = volumes.contains { $0.congestion == "n" || $0.congestion == "a" }
        connection = EventObject(
            "connection \(peer)",
            states: [
                "connection:\(StatusText.connectionName(state ?? .standAlone))",
                "role:\(StatusText.peerRole(of: volumes).name)",
            ], flags: ["congested:\(isCongested ? "yes" : "no")"])
        devices = volumes.map { volume in
            EventObject(
                "device \(name) volume:\(volume.volume.value) minor:\(volume.minor)",
                states: ["disk:\(volume.state.disk.name)"], numbers: StatusText.deviceNumbers(volume),
                flags: [
                    "al-suspended:\(volume.activityLogSuspended ? "yes" : "no")", "blocked:\(StatusText.blocked(volume))",
                ])
        }
        peerDevices = volumes.map { volume in
            EventObject(
                "peer-device \(peer) volume:\(volume.volume.value)",
                states: [
                    "replication:\(StatusText.replicationName(volume.state.connection))",
                    "peer-disk:\(volume.state.peerDisk.name)",
                    "resync-suspended:\(StatusText.pauseReasons(volume.state))",
                ], numbers: StatusText.peerStatistics(volume))
        }
    }
}

/// `KIND KEYS` and the `name:value` words behind it.
private struct EventObject {
    /// Kind and what tells it from others of its kind.
    var name: String
    /// Shown where they differ.
    var states: [String]
    /// Shown with statistics, always.
    var numbers: [String] = []
    /// Shown with statistics, where they differ.
    var flags: [String] = []

    init(_ name: String, states: [String], numbers: [String] = [], flags: [String] = []) {
        self.name = name
        self.states = states
        self.numbers = numbers
        self.flags = flags
    }


    func whole(_ statistics: Bool) -> String {
        (([name] + states) + (statistics ? numbers + flags : [])).joined(separator: " ")
    }

    /// Nil if nothing differs that is no number.
    func difference(from old: EventObject, _ statistics: Bool) -> String? {
        let newStates = states.filter { !old.states.contains($0) }
        let newFlags = statistics ? flags.filter { !old.flags.contains($0) } : []
        guard !newStates.isEmpty || !newFlags.isEmpty else { return nil }
        return ([name] + newStates + (statistics ? numbers : []) + newFlags).joined(separator: " ")
    }
}

extension [EventObject] {
    fileprivate func missing(in others: [EventObject]) -> [EventObject] {
        filter { object in !others.contains { $0.name == object.name } }
    }
}
