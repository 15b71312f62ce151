/// Everything that the status texts say about one running resource: the answer to the query `status-raw`.
package struct ResourceStatus: Equatable, Sendable {
    package var resource: String
    /// The node's own name.
    package var node: String
    /// The version of the running daemon, not the one that it presents.
    package var productVersion: String
    package var options = ResourceOptions()
    package var volumes: [VolumeStatus] = []
    package var lastDisconnect = LastDisconnect()
    /// Who has a volume open by way of the NBD socket.
    package var clients: [DeviceClient] = []

    package init(resource: String, node: String, productVersion: String) {
        self.resource = resource
        self.node = node
        self.productVersion = productVersion
    }
}

/// A process that is connected to the NBD socket.
package struct DeviceClient: Equatable, Sendable {
    package var volume: VolumeNumber
    package var process: Int32

    package init(volume: VolumeNumber, process: Int32) {
        self.volume = volume
        self.process = process
    }
}

/// Why a text is not a status.
package enum StatusLineError: Error, Equatable, Sendable {
    case badLine(number: Int, String)
    case missingResource

    package var message: String {
        switch self {
        case .badLine(let number, let line): "line \(number): can not read '\(line)'"
        case .missingResource: "no 'resource' line"
        }
    }
}

/// The lossless text form of `ResourceStatus`: one line per object, `key=value` words. A `disk` or `connection` line
/// belongs to the `volume` line before it and continues as `attach` and `connect` do. Unknown keys are skipped.
/// A `client` line names the volume and the process.
///
///     resource r0 node=alice version=1.0 --on-no-data-accessible=suspend-io
///     volume 0 minor=0 cs=Connected role=Primary peer-role=Secondary ds=UpToDate peer-ds=UpToDate ...
///     disk 0 /dev/sdb1 /dev/sdb1 internal --resync-rate=10240
///     connection r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --timeout=90
///     client 0 4711
extension ResourceStatus {
    package var text: String {
        var head = ["resource", resource, "node=\(node)", "version=\(productVersion)"]
        for option in optionsDiffering(options, from: ResourceOptions(), in: OptionTable.resource) {
            head.append("--\(option.name)=\(option.value.text)")
        }
        if let reason = lastDisconnect.reason { head.append("last-disconnect=\(reason.name)") }
        if let seconds = lastDisconnect.seconds { head.append("unconnected-seconds=\(seconds)") }
        var lines = [head]
        for volume in volumes {
            lines.append(volume.words)
            if let disk = volume.disk {
                lines.append(["disk"] + ControlCommand.attach(volume.volume, disk).words(resource: resource).dropFirst())
            }
            if let connection = volume.connection {
                lines.append(["connection"] + ControlCommand.connect(connection).words(resource: resource).dropFirst())
            }
        }
        for client in clients { lines.append(["client", client.volume.text, String(client.process)]) }
        return lines.map { CommandLineWords.join($0) + "\n" }.joined()
    }

    package init(parsing text: String) throws(StatusLineError) {
        var status: ResourceStatus?
        var number = 0
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            let bad = StatusLineError.badLine(number: number, String(line))
            let words: [String]
            do { words = try CommandLineWords.split(String(line)) } catch { throw bad }
            guard let kind = words.first else { continue }
            if kind == "resource" {
                guard status == nil, let head = ResourceStatus(headWords: words) else { throw bad }
                status = head
                continue
            }
            guard let resource = status?.resource else { throw bad }
            if kind == "volume" {
                guard let volume = VolumeStatus(words: words) else { throw bad }
                status?.volumes.append(volume)
                continue
            }
            if kind == "client" {
                guard words.count >= 3, let number = UInt16(words[1]), let process = Int32(words[2]) else { throw bad }
                status?.clients.append(DeviceClient(volume: VolumeNumber(number), process: process))
                continue
            }
            guard let last = status?.volumes.indices.last else { throw bad }
            do {
                switch kind {
                case "disk":
                    if case .attach(_, let disk) = try ControlCommand(
                        words: ["attach"] + words.dropFirst(), resource: resource)
                    {
                        status?.volumes[last].disk = disk
                    }
                case "connection":
                    if case .connect(let connection) = try ControlCommand(
                        words: ["connect"] + words.dropFirst(), resource: resource)
                    {
                        status?.volumes[last].connection = connection
                    }
                default: break
                }
            } catch { throw bad }
        }
        guard let status else { throw .missingResource }
        self = status
    }

    private init?(headWords words: [String]) {
        guard words.count >= 2 else { return nil }
        var keys = KeyValueWords(words.dropFirst(2))
        self.init(resource: words[1], node: keys.take("node") ?? "", productVersion: keys.take("version") ?? "")
        lastDisconnect.reason = keys.take("last-disconnect").flatMap { DisconnectReason(rawValue: $0) }
        lastDisconnect.seconds = keys.take("unconnected-seconds").flatMap { UInt64($0) }
        for field in OptionTable.resource {
            guard let text = keys.take("--" + field.name) else { continue }
            do { try field.apply(text, to: &options) } catch { return nil }
        }
    }
}

extension VolumeStatus {
    /// The words of the `volume` line; numbers that are zero and flags that are off are left out.
    fileprivate var words: [String] {
        var words = [
            "volume", volume.text, "minor=\(minor)", "cs=\(state.connection.name)", "role=\(state.role.name)",
            "peer-role=\(state.peerRole.name)", "ds=\(state.disk.name)", "peer-ds=\(state.peerDisk.name)",
        ]
        func flag(_ name: String, _ isSet: Bool) { if isSet { words.append("\(name)=1") } }
        func number(_ name: String, _ value: UInt64) { if value != 0 { words.append("\(name)=\(value)") } }
        func count(_ name: String, _ value: Int, idle: Int = 0) { if value != idle { words.append("\(name)=\(value)") } }

        flag("suspended-user", state.suspendedByUser)
        flag("suspended-no-data", state.suspendedNoData)
        flag("suspended-fencing", state.suspendedFencing)
        flag("paused-dependency", state.pausedByDependency)
        flag("paused-peer", state.pausedByPeer)
        flag("paused-user", state.pausedByUser)
        if let replicationProtocol { words.append("protocol=\(replicationProtocol.spelling)") }
        number("sectors", sectors)
        number("ns", counters.networkSent)
        number("nr", counters.networkReceived)
        number("dw", counters.diskWritten)
        number("dr", counters.diskRead)
        number("al", counters.activityLogWrites)
        number("bm", counters.bitmapWrites)
        count("lo", counters.localPending)
        count("pe", counters.peerPending)
        count("ua", counters.unacknowledged)
        count("ap", counters.applicationPending)
        count("ep", counters.epochs, idle: 1)
        words.append("wo=\(writeOrdering)")
        number("oos-bits", outOfSyncBits)
        words.append("congestion=\(congestion)")
        flag("al-suspended", activityLogSuspended)
        if let progress {
            number("total-bits", progress.totalBits)
            number("left-bits", progress.bitsLeft)
            number("mark-seconds", progress.secondsSinceMark)
            number("mark-bits", progress.bitsSinceMark)
            words.append("progress-seconds=\(progress.secondsSinceStart)")
            if let wanted = progress.wantedRate { words.append("wanted-rate=\(wanted)") }
        }
        words.append("current=\(hexadecimal(identifiers.current))")
        words.append("bitmap=\(hexadecimal(identifiers.bitmap))")
        words.append("history0=\(hexadecimal(identifiers.history0))")
        words.append("history1=\(hexadecimal(identifiers.history1))")
        if let metadataFlags { words.append("flags=\(hexadecimal(UInt64(metadataFlags.rawValue), width: 8))") }
        return words
    }

    fileprivate init?(words: [String]) {
        guard words.count >= 2, let number = UInt16(words[1]) else { return nil }
        var keys = KeyValueWords(words.dropFirst(2))
        guard let minor = UInt32(keys.take("minor") ?? "") else { return nil }
        var state = VolumeState()
        guard let connection = keys.take("cs").flatMap({ name in ConnectionState.allCases.first { $0.name == name } }),
            let role = keys.take("role").flatMap({ name in Role.allCases.first { $0.name == name } }),
            let peerRole = keys.take("peer-role").flatMap({ name in Role.allCases.first { $0.name == name } }),
            let disk = keys.take("ds").flatMap({ name in DiskState.allCases.first { $0.name == name } }),
            let peerDisk = keys.take("peer-ds").flatMap({ name in DiskState.allCases.first { $0.name == name } })
        else { return nil }
        (state.connection, state.role, state.peerRole) = (connection, role, peerRole)
        (state.disk, state.peerDisk) = (disk, peerDisk)
        state.suspendedByUser = keys.takeFlag("suspended-user")
        state.suspendedNoData = keys.takeFlag("suspended-no-data")
        state.suspendedFencing = keys.takeFlag("suspended-fencing")
        state.pausedByDependency = keys.takeFlag("paused-dependency")
        state.pausedByPeer = keys.takeFlag("paused-peer")
        state.pausedByUser = keys.takeFlag("paused-user")
        self.init(volume: VolumeNumber(number), minor: minor, state: state)

        replicationProtocol = keys.take("protocol").flatMap { name in
            ReplicationProtocol.spellings.first { $0.name == name }?.value
        }
        sectors = keys.takeNumber("sectors")
        counters.networkSent = keys.takeNumber("ns")
        counters.networkReceived = keys.takeNumber("nr")
        counters.diskWritten = keys.takeNumber("dw")
        counters.diskRead = keys.takeNumber("dr")
        counters.activityLogWrites = keys.takeNumber("al")
        counters.bitmapWrites = keys.takeNumber("bm")
        counters.localPending = keys.takeCount("lo", idle: 0)
        counters.peerPending = keys.takeCount("pe", idle: 0)
        counters.unacknowledged = keys.takeCount("ua", idle: 0)
        counters.applicationPending = keys.takeCount("ap", idle: 0)
        counters.epochs = keys.takeCount("ep", idle: 1)
        writeOrdering = keys.take("wo")?.first ?? "f"
        outOfSyncBits = keys.takeNumber("oos-bits")
        congestion = keys.take("congestion")?.first ?? "-"
        activityLogSuspended = keys.takeFlag("al-suspended")
        if let seconds = keys.take("progress-seconds").flatMap({ UInt64($0) }) {
            progress = SyncProgress(
                totalBits: keys.takeNumber("total-bits"), bitsLeft: keys.takeNumber("left-bits"),
                secondsSinceMark: keys.takeNumber("mark-seconds"), bitsSinceMark: keys.takeNumber("mark-bits"),
                secondsSinceStart: seconds, wantedRate: keys.take("wanted-rate").flatMap { UInt64($0) })
        }
        identifiers = GenerationIdentifiers(
            current: keys.takeHexadecimal("current") ?? 0, bitmap: keys.takeHexadecimal("bitmap") ?? 0,
            history0: keys.takeHexadecimal("history0") ?? 0, history1: keys.takeHexadecimal("history1") ?? 0)
        metadataFlags = keys.takeHexadecimal("flags").map { MetadataFlags(rawValue: UInt32(truncatingIfNeeded: $0)) }
    }
}

/// `key=value` words, each taken once.
private struct KeyValueWords {
    private var pairs: [(key: Substring, value: Substring)] = []

    init(_ words: ArraySlice<String>) {
        for word in words {
            guard let equals = word.utf8.firstIndex(of: UInt8(ascii: "=")) else { continue }
            pairs.append((word[..<equals], word[word.utf8.index(after: equals)...]))
        }
    }

    mutating func take(_ key: String) -> String? {
        guard let index = pairs.firstIndex(where: { $0.key == key }) else { return nil }
        return String(pairs.remove(at: index).value)
    }

    mutating func takeFlag(_ key: String) -> Bool { take(key) == "1" }
    mutating func takeNumber(_ key: String) -> UInt64 { take(key).flatMap { UInt64($0) } ?? 0 }
    mutating func takeCount(_ key: String, idle: Int) -> Int { take(key).flatMap { Int($0) } ?? idle }
    mutating func takeHexadecimal(_ key: String) -> UInt64? { take(key).flatMap { UInt64($0, radix: 16) } }
}

/// Upper-case hexadecimal digits with leading zeros.
package func hexadecimal(_ value: UInt64, width: Int = 16) -> String {
    let digits = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
}
