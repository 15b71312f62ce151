import Glibc
import ReplicaProto

/// What the daemons of this node say about themselves.
struct RunningState {
    let environment: ToolEnvironment
    private var cache: [(name: String, status: ResourceStatus?)] = []
    /// Daemons that are there and could not be asked; the reason has been said.
    private(set) var unreachable: [String] = []

    init(environment: ToolEnvironment) { self.environment = environment }

    /// A resource's status; nil where no daemon answers.
    mutating func status(of resource: String) -> ResourceStatus? {
        if let known = cache.first(where: { $0.name == resource }) { return known.status }
        let status = fetch(resource)
        cache.append((resource, status))
        return status
    }

    /// The resources that have a control socket, sorted by name.
    func resourceNames() -> [String] {
        guard let directory = opendir(environment.runDirectory) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name.hasSuffix(".ctl") { names.append(String(name.dropLast(4))) }
        }
        return names.sorted()
    }

    /// Everything that runs here.
    mutating func all() -> [ResourceStatus] {
        var result: [ResourceStatus] = []
        for name in resourceNames() {
            if let status = status(of: name) { result.append(status) }
        }
        return result
    }

    /// The volume that runs with a minor number.
    mutating func volume(minor: UInt32) -> (resource: ResourceStatus, volume: VolumeStatus)? {
        for resource in all() {
            if let volume = resource.volumes.first(where: { $0.minor == minor }) { return (resource, volume) }
        }
        return nil
    }

    private mutating func fetch(_ resource: String) -> ResourceStatus? {
        do {
            let answer = try withPatience { () throws(ControlClientError) in
                try ControlClient(path: environment.controlSocket(of: resource)).ask("status-raw", timeoutSeconds: 5)
            }
            return try ResourceStatus(parsing: answer.text)
        } catch let error as ControlClientError {
            if case .broken(let reason) = error { environment.console.complain("\(resource): \(reason)") }
            if case .timedOut = error { environment.console.complain("\(resource): the daemon does not answer") }
            if error != .notRunning { unreachable.append(resource) }
            return nil
        } catch let error as StatusLineError {
            unreachable.append(resource)
            environment.console.complain("\(resource): unexpected status: \(error.message)")
            return nil
        } catch { return nil }
    }
}
