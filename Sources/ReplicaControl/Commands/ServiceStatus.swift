import Glibc
import ReplicaProto

/// `service-status`: the table that DRBD's init script prints (`control.md` 3.8).
struct ServiceStatus {
    /// One device. `state` is nil for one that is configured and does not run.
    struct Row {
        var minor: UInt32
        /// The name in the configuration, nil if it is not there.
        var resource: String?
        /// The minor that a stacked resource lies on.
        var lowerMinor: UInt32?
        var status: VolumeStatus?
        var mountPoint = ""
        var fileSystem = ""
    }

    static let greeting = "drbd driver loaded OK; device status:\n"
    private static let heading = ["m:res", "cs", "ro", "ds", "p", "mounted", "fstype"]

    /// - Returns: the heading and a line for each device, in the order of the minors, columns aligned.
    static func table(_ rows: [Row]) -> String {
        var cells = [heading]
        for row in rows.sorted(by: { $0.minor < $1.minor }) {
            var name = "\(row.minor):\(row.resource.map(printable) ?? "??not-found??")"
            if let lower = row.lowerMinor { name += "^^\(lower)" }
            guard let status = row.status, !status.state.isUnconfigured else {
                cells.append([name, "Unconfigured"])
                continue
            }
            let state = status.state
            cells.append([
                name, state.connection.name, "\(state.role.name)/\(state.peerRole.name)",
                "\(state.disk.name)/\(state.peerDisk.name)", status.replicationProtocol?.spelling ?? "-", row.mountPoint,
                row.fileSystem,
            ])
            if let progress = status.progress, let line = progressCells(progress, state.connection) { cells.append(line) }
        }
        return aligned(cells)
    }

    /// What would break the table becomes a line.
    private static func printable(_ name: String) -> String {
        String(name.map { $0.isASCII && ($0.isLetter || $0.isNumber || "_ -".contains($0)) ? $0 : "_" })
    }

    private static func progressCells(_ progress: SyncProgress, _ connection: ConnectionState) -> [String]? {
        switch connection {
        case .syncSource, .syncTarget, .verifyS, .verifyT: break
        default: return nil
        }
        let lines = ProgressText.lines(progress, connection: connection, persona: .v8411).split(separator: "\n")
        // The bar, `sync'ed:` or `verified:`, the percentage, the amount.
        let words = lines.first?.drop { $0 != "]" }.dropFirst().split(separator: " ").map(String.init) ?? []
        return words.count == 3 ? ["..."] + words : nil
    }

    /// Two blanks between columns, none at the end of a line.
    private static func aligned(_ rows: [[String]]) -> String {
        var widths = [Int](repeating: 0, count: heading.count)
        for row in rows { for (column, cell) in row.enumerated() { widths[column] = max(widths[column], cell.count) } }
        var text = ""
        for row in rows {
            var line = ""
            for (column, cell) in row.enumerated() {
                line += cell + String(repeating: " ", count: widths[column] - cell.count + 2)
            }
            while line.last == " " { line.removeLast() }
            text += line + "\n"
        }
        return text
    }
}

/// What is mounted: device, place, kind of file system.
struct MountTable {
    private var lines: [[Substring]] = []

    /// - Parameter text: in the form of `/proc/mounts`.
    init(_ text: String) {
        lines = text.split(separator: "\n").map { $0.split(separator: " ") }.filter { $0.count >= 3 }
    }

    init(file: String) {
        self.init(String(decoding: ConfigFiles.read(file) ?? [], as: UTF8.self))
    }

    /// The first place where one of a device's names is mounted.
    func mount(of names: [String]) -> (place: String, kind: String)? {
        guard let line = lines.first(where: { line in names.contains { $0 == line[0] } }) else { return nil }
        return (String(line[1]), String(line[2]))
    }
}

extension AdminTool {
    /// - Returns: 0 where the status file is, whatever it says; 3 without.
    mutating func serviceStatus() -> Int32 {
        let running = running.all()
        guard access("\(environment.runDirectory)/proc/drbd", F_OK) == 0 || !running.isEmpty else {
            console.complain("drbd not loaded")
            return 3
        }
        let mounts = MountTable(file: "/proc/mounts")
        var rows: [ServiceStatus.Row] = []
        for status in running {
            for volume in status.volumes {
                var row = ServiceStatus.Row(minor: volume.minor, status: volume)
                row.resource = configured(minor: volume.minor) == nil ? nil : status.resource
                rows.append(row)
            }
        }
        for resource in everyResource {
            let lower = resource.lower.flatMap { name in everyResource.first { $0.name == name } }
            for volume in resource.volumes {
                let index =
                    rows.firstIndex { $0.minor == volume.minor }
                    ?? {
                        rows.append(ServiceStatus.Row(minor: volume.minor, resource: resource.name))
                        return rows.count - 1
                    }()
                rows[index].lowerMinor = lower?.volumes.first?.minor
                if let mount = mounts.mount(of: [volume.device, "/dev/drbd\(volume.minor)"]) {
                    (rows[index].mountPoint, rows[index].fileSystem) = mount
                }
            }
        }
        let header = ProcText.header(persona: environment.persona, build: environment.build)
        console.writeOutput(ServiceStatus.greeting + header + ServiceStatus.table(rows))
        return 0
    }

    /// For this node, stacked ones, too.
    private var everyResource: [ResolvedResource] { tree.resources(on: NodeIdentity(name: environment.nodeName)) }

    private func configured(minor: UInt32) -> ResolvedVolume? {
        everyResource.lazy.flatMap(\.volumes).first { $0.minor == minor }
    }
}
