import Glibc
import ReplicaProto

/// Runs a configured handler by hand, with the environment that the daemon gives it (`control.md` 4.2).
enum HandlerCall {
    /// - Returns: the handler's exit code; 0 where none is configured.
    static func run(
        _ name: String, _ target: PlanTarget, isResource: Bool, configurationPath: String, isDryRun: Bool,
        console: Console
    ) -> Int32 {
        let resource = target.resource
        guard let commandLine = resource.sections.handlers[name]?.value else { return 0 }
        if isDryRun {
            console.print(commandLine)
            return 0
        }
        let volumes = target.volumes
        var environment = [
            "HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin", "DRBD_RESOURCE=\(resource.name)",
            "DRBD_CONF=\(configurationPath)",
            "DRBD_MINOR=" + volumes.map { String($0.minor) }.joined(separator: " "),
            "DRBD_VOLUME=" + volumes.map(\.number.text).joined(separator: " "),
            "DRBD_LL_DISK=" + volumes.map(\.disk).joined(separator: " "),
        ]
        if let peer = resource.peer {
            environment.append("DRBD_PEER=\(peer.names.first ?? "")")
            environment.append("DRBD_PEERS=\(peer.names.joined(separator: " "))")
            if let address = peer.address?.address {
                environment.append("DRBD_PEER_AF=\(address.family)")
                environment.append("DRBD_PEER_ADDRESS=\(address.host)")
            }
        }
        if let library = ToolEnvironment.statusFileLibrary() { environment.append("LD_PRELOAD=\(library)") }
        // Variables of our own that a handler's calls of these tools need.
        for variable in ["REPLICA_NODE", "REPLICA_RUN_DIR", "REPLICA_DAEMON", "REPLICA_PERSONA"] {
            if let value = getenv(variable) { environment.append("\(variable)=\(String(cString: value))") }
        }
        switch DaemonStarter.run(["/bin/sh", "-c", commandLine], environment: environment) {
        case .exited(let code): return code
        case .killed: return 20
        case .notStarted(let code):
            console.complain("can not run /bin/sh: \(ConfigFiles.errorText(code))")
            return 20
        }
    }
}
