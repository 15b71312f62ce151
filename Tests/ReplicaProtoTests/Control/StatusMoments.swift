import Foundation
import ReplicaProto

/// What the kernel's tools printed at one moment of a recorded scenario (`Vectors/status/moments.txt`).
struct StatusMoment: CustomStringConvertible, Sendable {
    var title: String
    /// Output by command line.
    var outputs: [(command: String, text: String)] = []

    var description: String { title }

    func output(_ command: String) -> String? { outputs.first { $0.command == command }?.text }

    static let all: [StatusMoment] = read()

    private static func read() -> [StatusMoment] {
        let url = Bundle.module.resourceURL!.appendingPathComponent("Vectors/status/moments.txt")
        let text = String(decoding: try! Data(contentsOf: url), as: UTF8.self)
        var moments: [StatusMoment] = []
        for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("# ") {
                continue
            } else if line.hasPrefix("=== ") {
                moments.append(StatusMoment(title: String(line.dropFirst(4))))
            } else if line.hasPrefix("$ ") {
                moments[moments.count - 1].outputs.append((String(line.dropFirst(2)), ""))
            } else if let last = moments.indices.last, let output = moments[last].outputs.indices.last {
                moments[last].outputs[output].text += line + "\n"
            }
        }
        return moments
    }
}

/// Reads `/proc/drbd` back: the tests' own reader, so that the writer under test proves nothing by itself.
enum ProcReader {
    static func volumes(_ text: String) -> [VolumeStatus] {
        var result: [VolumeStatus] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let words = line.split(separator: " ")
            if let first = words.first, first.hasSuffix(":"), let minor = UInt32(first.dropLast()) {
                result.append(head(line, minor: minor))
            } else if line.hasPrefix("    ns:"), let last = result.indices.last {
                counters(words, into: &result[last])
            }
        }
        return result
    }

    private static func value(_ words: [Substring], _ key: String) -> Substring? {
        words.first { $0.hasPrefix(key + ":") }.map { $0.dropFirst(key.count + 1) }
    }

    private static func head(_ line: Substring, minor: UInt32) -> VolumeStatus {
        let words = line.split(separator: " ")
        var state = VolumeState()
        if let name = value(words, "cs") {
            state.connection = ConnectionState.allCases.first { $0.name == name } ?? .standAlone
        }
        if let roles = value(words, "ro")?.split(separator: "/") {
            state.role = Role.allCases.first { $0.name == roles[0] }!
            state.peerRole = Role.allCases.first { $0.name == roles[1] }!
        }
        if let disks = value(words, "ds")?.split(separator: "/") {
            state.disk = DiskState.allCases.first { $0.name == disks[0] }!
            state.peerDisk = DiskState.allCases.first { $0.name == disks[1] }!
        }
        var volume = VolumeStatus(volume: VolumeNumber(UInt16(minor)), minor: minor, state: state)
        guard let flags = words.last, flags.count == 6, words.count > 3 else { return volume }
        let columns = Array(flags)
        // The recorded suspensions are told apart by the caller, from the status output.
        volume.state.suspendedByUser = columns[0] == "s"
        volume.state.pausedByDependency = columns[1] == "a"
        volume.state.pausedByPeer = columns[2] == "p"
        volume.state.pausedByUser = columns[3] == "u"
        volume.congestion = columns[4]
        volume.activityLogSuspended = columns[5] == "s"
        volume.replicationProtocol = ReplicationProtocol.spellings.first { $0.name == words[words.count - 2] }?.value
        return volume
    }

    private static func counters(_ words: [Substring], into volume: inout VolumeStatus) {
        func number(_ key: String) -> UInt64 { value(words, key).flatMap { UInt64($0) } ?? 0 }
        volume.counters.networkSent = number("ns") * 2
        volume.counters.networkReceived = number("nr") * 2
        volume.counters.diskWritten = number("dw") * 2
        volume.counters.diskRead = number("dr") * 2
        volume.counters.activityLogWrites = number("al")
        volume.counters.bitmapWrites = number("bm")
        volume.counters.localPending = Int(number("lo"))
        volume.counters.peerPending = Int(number("pe"))
        volume.counters.unacknowledged = Int(number("ua"))
        volume.counters.applicationPending = Int(number("ap"))
        volume.counters.epochs = Int(number("ep"))
        volume.writeOrdering = value(words, "wo")?.first ?? "f"
        volume.outOfSyncBits = number("oos") / 4
    }
}
