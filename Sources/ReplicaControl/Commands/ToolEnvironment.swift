import Glibc
import ReplicaProto

/// Which tool's grammar the program speaks, by the name that it was started with.
package enum ToolKind: Equatable, Sendable {
    case replctl, drbdadm, drbdsetup, drbdmeta

    package init(programName: String) {
        switch programName {
        case "drbdadm": self = .drbdadm
        case "drbdsetup", "drbdsetup-84", "drbdsetup-83": self = .drbdsetup
        case "drbdmeta": self = .drbdmeta
        default: self = .replctl
        }
    }
}

/// What surrounds one call of a tool: names, directories, and where its output goes.
package struct ToolEnvironment {
    package var programName: String
    package var runDirectory: String
    package var nodeName: String
    package var persona: Persona
    package var localAddresses: [String]
    /// The daemon's program.
    package var daemonPath: String
    package var console: Console
    package var isInputTerminal: Bool
    package var isOutputTerminal: Bool
    /// Whether the node's name was overridden for a test.
    package var isNodePretended: Bool

    package init(
        programName: String, runDirectory: String, nodeName: String, persona: Persona = .v8411,
        localAddresses: [String] = [], daemonPath: String = "replicad", console: Console = .standard,
        isInputTerminal: Bool = false, isOutputTerminal: Bool = false, isNodePretended: Bool = false
    ) {
        self.programName = programName
        self.runDirectory = runDirectory
        self.nodeName = nodeName
        self.persona = persona
        self.localAddresses = localAddresses
        self.daemonPath = daemonPath
        self.console = console
        self.isInputTerminal = isInputTerminal
        self.isOutputTerminal = isOutputTerminal
        self.isNodePretended = isNodePretended
    }

    /// As the process finds itself.
    package static func current(arguments: [String]) -> ToolEnvironment {
        let name = arguments.first.flatMap { $0.split(separator: "/").last }.map(String.init) ?? "replctl"
        let pretended = variable("REPLICA_NODE") ?? variable("__DRBD_NODE__")
        return ToolEnvironment(
            programName: name, runDirectory: absolute(variable("REPLICA_RUN_DIR") ?? "/run/replica"),
            nodeName: pretended ?? systemNodeName(),
            persona: variable("REPLICA_PERSONA").flatMap { Persona($0) } ?? .v8411,
            localAddresses: interfaceAddresses(), daemonPath: daemonPath(), isInputTerminal: isatty(0) == 1,
            isOutputTerminal: isatty(1) == 1, isNodePretended: variable("__DRBD_NODE__") != nil)
    }

    package var kind: ToolKind { ToolKind(programName: programName) }
    /// How a low-level call is printed: the words in front of the command.
    package var setupWords: [String] { kind == .replctl ? ["replctl", "setup"] : ["drbdsetup"] }
    package var metaWords: [String] { kind == .replctl ? ["replctl", "meta"] : ["drbdmeta"] }

    package func controlSocket(of resource: String) -> String { "\(runDirectory)/\(resource).ctl" }
    package func settingsFile(of resource: String) -> String { "\(runDirectory)/\(resource).settings" }

    private static func variable(_ name: String) -> String? {
        guard let value = getenv(name), value[0] != 0 else { return nil }
        return String(cString: value)
    }

    /// The daemon and handlers have other working directories.
    static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }

    private static func systemNodeName() -> String {
        var names = utsname()
        uname(&names)
        return withUnsafeBytes(of: names.nodename) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// Beside this program, else whatever the search path finds.
    private static func daemonPath() -> String {
        variable("REPLICA_DAEMON") ?? beside(["replicad"]) ?? "replicad"
    }

    /// Has those who read /proc/drbd read our status file, if it is preloaded; for handlers. Nil where it is not installed.
    static func statusFileLibrary() -> String? { beside(["../lib/replica/libreplica-proc.so", "libreplica-proc.so"]) }

    /// The first of these files that there is; their places are relative to this program's.
    private static func beside(_ names: [String]) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!, $0.count) }
        guard length > 0 else { return nil }
        let own = String(decoding: buffer[0..<length], as: UTF8.self)
        guard let slash = own.lastIndex(of: "/") else { return nil }
        return names.map { String(own[...slash]) + $0 }.first { access($0, R_OK) == 0 }
    }

    private static func interfaceAddresses() -> [String] {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return [] }
        defer { freeifaddrs(list) }
        var addresses: [String] = []
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr else { continue }
            let family = Int32(address.pointee.sa_family)
            guard family == AF_INET || family == AF_INET6 else { continue }
            let length = family == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
            var text = [CChar](repeating: 0, count: 128)
            if getnameinfo(address, socklen_t(length), &text, 128, nil, 0, NI_NUMERICHOST) == 0 {
                addresses.append(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
            }
        }
        return addresses
    }

    /// Whether an address of the configuration is this machine's.
    package func isLocal(_ address: SocketAddress) -> Bool {
        if address.host.hasPrefix("127.") || address.host == "::1" { return true }
        return localAddresses.contains { own in
            ToolEnvironment.binaryAddress(own) == ToolEnvironment.binaryAddress(address.host)
        }
    }

    /// Network bytes of a literal address without its scope; the text itself where there are none.
    private static func binaryAddress(_ text: String) -> [UInt8] {
        let literal = String(text.prefix { $0 != "%" })
        var bytes = [UInt8](repeating: 0, count: 16)
        let family = literal.contains(":") ? AF_INET6 : AF_INET
        let parsed = bytes.withUnsafeMutableBytes { inet_pton(family, literal, $0.baseAddress) }
        return parsed == 1 ? bytes : Array(literal.utf8)
    }
}
