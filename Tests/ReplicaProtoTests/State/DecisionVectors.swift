import Foundation
import ReplicaProto
import Testing

/// One handshake of a recorded DRBD kernel (`Vectors/decisions/handshakes.tsv`).
struct RecordedHandshake: CustomTestStringConvertible, Sendable {
    var name: String
    var ownRole: Role
    var peerRole: Role
    var ownDisk: DiskState
    var ownCurrentDisk: DiskState
    var peerDisk: DiskState
    var own: GenerationIdentifiers
    var ownBits: UInt64
    var ownFlags: UUIDFlags
    var peer: GenerationIdentifiers
    var peerBits: UInt64
    var peerFlags: UUIDFlags
    var verdict: Int
    var rule: Int
    var options: NetOptions
    var handlers: [String]
    var log: [String]
    var outcome: String
    var change: String

    var testDescription: String { name }

    static let all: [RecordedHandshake] = DecisionVectors.rows("handshakes").map(RecordedHandshake.init)

    private init(_ row: [String: String]) {
        func text(_ key: String) -> String { row[key] ?? "" }
        func number(_ key: String) -> UInt64 { UInt64(text(key)) ?? 0 }
        name = "\(text("scenario")) on \(text("machine"))"
        ownRole = DecisionVectors.role(text("ownRole"))
        peerRole = DecisionVectors.role(text("peerRole"))
        ownDisk = DecisionVectors.disk(text("ownDisk"))
        ownCurrentDisk = DecisionVectors.disk(text("ownCurrentDisk"))
        peerDisk = DecisionVectors.disk(text("peerDisk"))
        own = DecisionVectors.identifiers(text("own"))
        peer = DecisionVectors.identifiers(text("peer"))
        ownBits = number("ownBits")
        peerBits = number("peerBits")
        ownFlags = UUIDFlags(rawValue: UInt64(text("ownFlags"), radix: 16) ?? 0)
        peerFlags = UUIDFlags(rawValue: UInt64(text("peerFlags"), radix: 16) ?? 0)
        verdict = Int(text("result")) ?? .min
        rule = Int(text("rule")) ?? .min
        handlers = text("handlers") == "-" ? [] : text("handlers").split(separator: "|").map(String.init)
        log = text("log") == "-" ? [] : text("log").split(separator: "|").map(String.init)
        outcome = text("outcome")
        change = text("change")
        options = NetOptions()
        switch text("policy") {
        case "after-sb-0pri=discard-zero-changes": options.afterSplitBrain0Primaries = .discardZeroChanges
        case "after-sb-0pri=discard-least-changes": options.afterSplitBrain0Primaries = .discardLeastChanges
        case "after-sb-0pri=discard-younger-primary": options.afterSplitBrain0Primaries = .discardYoungerPrimary
        case "after-sb-1pri=discard-secondary": options.afterSplitBrain1Primary = .discardSecondary
        default: break
        }
    }

    var comparison: ComparisonInput {
        ComparisonInput(
            own: own, peer: peer, ownCrashedPrimary: ownFlags.contains(.crashedPrimary),
            peerCrashedPrimary: peerFlags.contains(.crashedPrimary), ownRole: ownRole, peerRole: peerRole)
    }

    func decisionInput() -> SyncDecisionInput {
        SyncDecisionInput(
            comparison: compareGenerations(comparison), ownDisk: ownDisk, ownCurrentDisk: ownCurrentDisk,
            peerDisk: peerDisk, ownRole: ownRole, peerRole: peerRole, policies: SplitBrainPolicies(options), own: own,
            peer: peer, ownBits: ownBits, peerBits: peerBits, ownDiscardsData: ownFlags.contains(.discardMyData),
            peerDiscardsData: peerFlags.contains(.discardMyData))
    }
}

/// One state change of a recorded DRBD kernel (`Vectors/decisions/changes.tsv`).
struct RecordedChange: CustomTestStringConvertible, Sendable {
    var before: VolumeState
    var newConnection: ConnectionState
    var line: String

    var testDescription: String { line }

    static let all: [RecordedChange] = DecisionVectors.rows("changes").map { row in
        var before = VolumeState()
        before.role = DecisionVectors.role(row["role"] ?? "")
        before.peerRole = DecisionVectors.role(row["peer"] ?? "")
        before.connection = DecisionVectors.connection(row["conn"] ?? "")
        before.disk = DecisionVectors.disk(row["disk"] ?? "")
        before.peerDisk = DecisionVectors.disk(row["pdsk"] ?? "")
        return RecordedChange(
            before: before, newConnection: DecisionVectors.connection(row["newConn"] ?? ""), line: row["change"] ?? "")
    }
}

enum DecisionVectors {
    static func rows(_ name: String) -> [[String: String]] {
        guard let url = Bundle.module.url(forResource: name, withExtension: "tsv", subdirectory: "Vectors/decisions"),
            let text = try? String(contentsOf: url, encoding: .utf8)
        else { return [] }
        let lines = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        guard let head = lines.first else { return [] }
        let keys = head.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
        return lines.dropFirst().map { line in
            let values = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
            return Dictionary(uniqueKeysWithValues: zip(keys, values))
        }
    }

    static func role(_ name: String) -> Role { Role.allCases.first { $0.name == name } ?? .unknown }
    static func disk(_ name: String) -> DiskState { DiskState.allCases.first { $0.name == name } ?? .failed }
    static func connection(_ name: String) -> ConnectionState {
        ConnectionState.allCases.first { $0.name == name } ?? .standAlone
    }
    static func identifiers(_ text: String) -> GenerationIdentifiers {
        let values = text.split(separator: ":").map { UInt64($0, radix: 16) ?? 0 }
        return GenerationIdentifiers(current: values[0], bitmap: values[1], history0: values[2], history1: values[3])
    }
}
