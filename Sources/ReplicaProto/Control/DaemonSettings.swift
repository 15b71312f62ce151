/// What `replicad` must know before it can be asked anything: written by `replctl` into `RUN/RES.settings` (0600),
/// read once at start by `replicad [-f] RES --settings FILE`. Everything else arrives as control commands.
///
/// One line per fact, words as on a command line (`CommandLineWords`), in any order; unknown first words are
/// skipped, so that an older daemon reads a newer file:
///
///     resource r0
///     node alice
///     peer bob
///     conf /etc/drbd.conf
///     volume 0 minor 0 device /dev/drbd0
///     handler fence-peer "/usr/lib/drbd/crm-fence-peer.sh --timeout 5"
///
/// `volume` says how the volume is to be offered; `device` may be `/dev/drbdN`, `/dev/nbdN` or `unix:/PATH`. `peer`
/// lists all names of the peer's host section, first the preferred one. `handler` carries the shell command line.
package struct DaemonSettings: Equatable, Sendable {
    package struct Volume: Equatable, Sendable {
        package var volume: VolumeNumber
        package var minor: UInt32
        package var device: String
        /// Backing disk, for the handlers' DRBD_LL_DISK; empty where the configuration names none.
        package var disk: String

        package init(volume: VolumeNumber, minor: UInt32, device: String, disk: String = "") {
            self.volume = volume
            self.minor = minor
            self.device = device
            self.disk = disk
        }
    }
    package struct Handler: Equatable, Sendable {
        package var name: String
        package var commandLine: String

        package init(name: String, commandLine: String) {
            self.name = name
            self.commandLine = commandLine
        }
    }

    package var resource: String
    package var node: String
    package var peers: [String] = []
    /// Absolute path of the configuration file, for the handlers' DRBD_CONF.
    package var configurationPath = ""
    package var volumes: [Volume] = []
    package var handlers: [Handler] = []
    /// Seconds a handler may run (`cmd-timeout-long`); 0 = for ever.
    package var handlerTimeoutSeconds = 600

    package init(resource: String, node: String) {
        self.resource = resource
        self.node = node
    }
}

package enum DaemonSettingsError: Error, Equatable, Sendable {
    case badLine(number: Int, String)
    case missing(String)

    package var message: String {
        switch self {
        case .badLine(let number, let line): "line \(number): can not read '\(line)'"
        case .missing(let word): "no '\(word)' line"
        }
    }
}

extension DaemonSettings {
    package var text: String {
        var lines = [["resource", resource], ["node", node]]
        if !peers.isEmpty { lines.append(["peer"] + peers) }
        if !configurationPath.isEmpty { lines.append(["conf", configurationPath]) }
        for volume in volumes {
            var words = ["volume", volume.volume.text, "minor", String(volume.minor), "device", volume.device]
            if !volume.disk.isEmpty { words += ["disk", volume.disk] }
            lines.append(words)
        }
        for handler in handlers { lines.append(["handler", handler.name, handler.commandLine]) }
        if handlerTimeoutSeconds != 600 { lines.append(["handler-timeout", String(handlerTimeoutSeconds)]) }
        return lines.map { CommandLineWords.join($0) + "\n" }.joined()
    }

    package init(parsing text: String) throws(DaemonSettingsError) {
        var result = DaemonSettings(resource: "", node: "")
        var number = 0
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            number += 1
            let words: [String]
            do { words = try CommandLineWords.split(String(line)) } catch { throw .badLine(number: number, String(line)) }
            if !result.take(words) { throw .badLine(number: number, String(line)) }
        }
        if result.resource.isEmpty { throw .missing("resource") }
        if result.node.isEmpty { throw .missing("node") }
        self = result
    }

    /// Whether the line made sense (or is of a kind that we don't know).
    private mutating func take(_ words: [String]) -> Bool {
        switch words.first {
        case "resource":
            guard words.count == 2 else { return false }
            resource = words[1]
        case "node":
            guard words.count == 2 else { return false }
            node = words[1]
        case "peer": peers += words.dropFirst()
        case "conf":
            guard words.count == 2 else { return false }
            configurationPath = words[1]
        case "volume":
            guard words.count >= 6, words.count % 2 == 0, let number = UInt16(words[1]), words[2] == "minor",
                let minor = UInt32(words[3]), words[4] == "device"
            else { return false }
            let disk = words.count >= 8 && words[6] == "disk" ? words[7] : ""
            volumes.append(Volume(volume: VolumeNumber(number), minor: minor, device: words[5], disk: disk))
        case "handler":
            guard words.count == 3 else { return false }
            handlers.append(Handler(name: words[1], commandLine: words[2]))
        case "handler-timeout":
            guard words.count == 2, let seconds = Int(words[1]), seconds >= 0 else { return false }
            handlerTimeoutSeconds = seconds
        default: break
        }
        return true
    }
}
