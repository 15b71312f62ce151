/// What a daemon leaves to the program that takes its place: everything that runs, as the commands that bring it back, and
/// what was promised to applications.
///
/// Text, one fact per line, words as on a command line. A reader skips lines that it does not know; what it must not skip
/// changes the number in the first line.
///
///     hand-over 1
///     from 0.1.0
///     stopped 81723645123
///     descriptor control 6
///     device 0 index 0 descriptor 8 bytes 368050176 unread 9
///     peer connected
///     primary 0 generation 5A3F00112233445A
///     command new-minor r0 0 0
package struct HandOver: Equatable, Sendable {
    package static let format = 1

    /// A device that the kernel keeps while its server changes.
    package struct Device: Equatable, Sendable {
        package var volume: VolumeNumber
        /// N of nbdN.
        package var index: Int
        /// Of our end of the socket pair; it means something to a process that has inherited it only.
        package var descriptor: Int32
        /// Size of the device as the kernel knows it.
        package var bytes: UInt64
        /// Of a file with what was received of requests and not looked at; -1 without.
        package var unread: Int32

        package init(volume: VolumeNumber, index: Int, descriptor: Int32, bytes: UInt64, unread: Int32 = -1) {
            self.volume = volume
            self.index = index
            self.descriptor = descriptor
            self.bytes = bytes
            self.unread = unread
        }
    }

    /// How it was with the peer.
    package enum Peer: String, Equatable, Sendable {
        /// It is met again before applications go on, if it comes soon.
        case connected
        case absent
        /// Nobody was looked for.
        case standAlone = "stand-alone"
    }

    /// A volume that applications may use.
    package struct Primary: Equatable, Sendable {
        package var volume: VolumeNumber
        /// The data generation, without the bit that tells the role.
        package var generation: UInt64

        package init(volume: VolumeNumber, generation: UInt64) {
            self.volume = volume
            self.generation = generation
        }
    }

    /// Version of the daemon that ends.
    package var version = ""
    /// When requests were last taken from a device, in nanoseconds of the monotonic clock.
    package var stopped: UInt64 = 0
    /// Other descriptors, by what they are: `lock`, `control`, `clients`.
    package var descriptors: [(name: String, descriptor: Int32)] = []
    package var devices: [Device] = []
    /// Without a hand-over nobody has decided to be alone (`DeviceResumption.verdict`).
    package var peer = Peer.absent
    package var primaries: [Primary] = []
    /// In the order in which they are to be carried out; roles are not among them.
    package var commands: [ControlCommand] = []

    package init() {}

    package static func == (left: HandOver, right: HandOver) -> Bool {
        left.text(resource: "") == right.text(resource: "")
    }

    package func descriptor(_ name: String) -> Int32? { descriptors.first { $0.name == name }?.descriptor }
}

/// What runs, as commands.
extension HandOver {
    /// - Parameter discardsData: `connect --discard-my-data` was said and no peer has been met since.
    package init(of status: ResourceStatus, discardsData: Bool) {
        version = status.productVersion
        if status.options != ResourceOptions() { commands.append(.resourceOptions(status.options)) }
        for volume in status.volumes { commands.append(.newMinor(volume.volume, minor: volume.minor)) }
        for volume in status.volumes {
            if let disk = volume.disk, volume.state.disk != .diskless { commands.append(.attach(volume.volume, disk)) }
            if volume.state.pausedByUser { commands.append(.pauseSync(volume.volume)) }
        }
        if let volume = status.volumes.first(where: { $0.connection != nil && $0.state.connection != .standAlone }),
            var connection = volume.connection
        {
            // Said once, it was for one meeting.
            connection.discardMyData = discardsData
            commands.append(.connect(connection))
        }
        if status.volumes.contains(where: { $0.state.connection.isConnected }) {
            peer = .connected
        } else if status.volumes.allSatisfy({ $0.state.connection == .standAlone }) {
            peer = .standAlone
        }
        for volume in status.volumes where volume.state.role == .primary {
            primaries.append(Primary(volume: volume.volume, generation: volume.identifiers.current & ~1))
        }
    }
}

/// Why a daemon does not hand over now.
package enum HandOverObstacle: Equatable, Sendable {
    /// It will pass by itself.
    case passing(String)
    /// Somebody has to do something first.
    case standing(String)
    /// It would be lost, and the administrator may say that it does not matter.
    case loses(String)

    /// The first that there is; nil if nothing is in the way.
    package static func first(in volumes: [VolumeStatus]) -> HandOverObstacle? {
        volumes.lazy.compactMap { obstacle(in: $0) }.first
    }

    private static func obstacle(in volume: VolumeStatus) -> HandOverObstacle? {
        let state = volume.state
        let number = volume.volume.value
        if state.suspendedByUser || state.suspendedNoData || state.suspendedFencing {
            return .standing("I/O of volume \(number) is frozen")
        }
        switch state.disk {
        case .attaching, .negotiating, .failed: return .passing("the disk of volume \(number) is \(state.disk.name)")
        case .diskless, .inconsistent, .outdated, .unknown, .consistent:
            // What its applications see is the peer's, and with the daemon goes what is known about that.
            if state.role == .primary {
                return .standing(
                    "volume \(number) is Primary and its disk \(state.disk.name): its applications rely on the peer's")
            }
        case .upToDate: break
        }
        if state.role == .primary, state.peerRole == .primary {
            return .standing(
                "volume \(number) is Primary on both nodes: it would come back with the peer's writes below its applications"
            )
        }
        switch state.connection {
        case .disconnecting, .unconnected, .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown,
            .wfReportParams, .startingSyncS, .startingSyncT, .wfBitMapS, .wfBitMapT, .wfSyncUUID:
            return .passing("the connection of volume \(number) is \(state.connection.name)")
        case .ahead, .behind: return .passing("the connection of volume \(number) is \(state.connection.name)")
        case .verifyS, .verifyT: return .loses("a verify of volume \(number) is running, and would end")
        case .standAlone, .wfConnection, .connected, .syncSource, .syncTarget, .pausedSyncS, .pausedSyncT: return nil
        }
    }
}

package enum HandOverError: Error, Equatable, Sendable {
    case badLine(number: Int, String)
    /// Another program's idea of a hand-over.
    case unknownFormat

    package var message: String {
        switch self {
        case .badLine(let number, let line): "line \(number): can not read '\(line)'"
        case .unknownFormat: "not a hand-over of a format that this program knows (\(HandOver.format))"
        }
    }
}

/// The text form.
extension HandOver {
    package func text(resource: String) -> String {
        var lines = [["hand-over", String(HandOver.format)], ["from", version], ["stopped", String(stopped)]]
        for entry in descriptors { lines.append(["descriptor", entry.name, String(entry.descriptor)]) }
        for device in devices {
            var words = [
                "device", device.volume.text, "index", String(device.index), "descriptor", String(device.descriptor),
                "bytes", String(device.bytes),
            ]
            if device.unread >= 0 { words += ["unread", String(device.unread)] }
            lines.append(words)
        }
        lines.append(["peer", peer.rawValue])
        for primary in primaries {
            lines.append(["primary", primary.volume.text, "generation", hexadecimal(primary.generation)])
        }
        return lines.map { CommandLineWords.join($0) + "\n" }.joined()
            + commands.map { "command \($0.line(resource: resource))\n" }.joined()
    }

    package init(parsing text: String, resource: String) throws(HandOverError) {
        self.init()
        var number = 0
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            let words: [String]
            do { words = try CommandLineWords.split(String(line)) } catch { throw .badLine(number: number, String(line)) }
            if number == 1 {
                guard words == ["hand-over", String(HandOver.format)] else { throw .unknownFormat }
                continue
            }
            guard take(words, resource: resource) else { throw .badLine(number: number, String(line)) }
        }
        guard number > 1 else { throw .unknownFormat }
    }

    /// Whether the line made sense, or is of a kind that we don't know.
    private mutating func take(_ words: [String], resource: String) -> Bool {
        func value(_ name: String) -> String? {
            words.firstIndex(of: name).flatMap { $0 + 1 < words.count ? words[$0 + 1] : nil }
        }
        switch words.first {
        case "from":
            guard words.count == 2 else { return false }
            version = words[1]
        case "stopped":
            guard words.count == 2, let moment = UInt64(words[1]) else { return false }
            stopped = moment
        case "descriptor":
            guard words.count == 3, let descriptor = Int32(words[2]), descriptor >= 0 else { return false }
            descriptors.append((words[1], descriptor))
        case "device":
            guard words.count >= 8, let number = UInt16(words[1]), let index = value("index").flatMap({ Int($0) }),
                let descriptor = value("descriptor").flatMap({ Int32($0) }), index >= 0, descriptor >= 0,
                let bytes = value("bytes").flatMap({ UInt64($0) })
            else { return false }
            var device = Device(volume: VolumeNumber(number), index: index, descriptor: descriptor, bytes: bytes)
            if let text = value("unread") {
                guard let unread = Int32(text), unread >= 0 else { return false }
                device.unread = unread
            }
            devices.append(device)
        case "peer":
            guard words.count == 2, let peer = Peer(rawValue: words[1]) else { return false }
            self.peer = peer
        case "primary":
            guard words.count >= 4, let number = UInt16(words[1]),
                let generation = value("generation").flatMap({ UInt64($0, radix: 16) })
            else { return false }
            primaries.append(Primary(volume: VolumeNumber(number), generation: generation & ~1))
        case "command":
            do { commands.append(try ControlCommand(words: Array(words.dropFirst()), resource: resource)) } catch {
                return false
            }
        default: break
        }
        return true
    }
}
