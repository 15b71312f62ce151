import Foundation
import Testing

@testable import ReplicaProto

/// Rules about the sources themselves.
@Suite struct TidyTests {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    /// Swift sources below a folder of the core, without their comments.
    static func sources(_ folder: String) throws -> [(name: String, code: String)] {
        let base = root.appendingPathComponent("Sources/ReplicaProto").appendingPathComponent(folder)
        let files = try #require(FileManager.default.enumerator(atPath: base.path))
        var result: [(String, String)] = []
        for case let file as String in files where file.hasSuffix(".swift") {
            let text = try String(contentsOf: base.appendingPathComponent(file), encoding: .utf8)
            let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
                line.range(of: "//").map { String(line[..<$0.lowerBound]) } ?? String(line)
            }
            result.append((folder + "/" + file, lines.joined(separator: "\n")))
        }
        return result
    }

    @Test("the core imports nothing")
    func coreImportsNothing() throws {
        let sources = try Self.sources("")
        #expect(sources.count > 20)
        for (name, code) in sources {
            let imports = code.split(separator: "\n").filter { $0.contains(/^\s*(@\w+\s+)*(\w+\s+)?import\s/) }
            #expect(imports.isEmpty, "\(name): \(imports)")
        }
    }

    @Test("packets, NBD, metadata and units name no state machine", arguments: ["Wire", "NBD", "Metadata", "Units"])
    func languageKnowsNoMachine(folder: String) throws {
        let machines =
            /\b(Resource|Volume|Connection|Admission|TransferLog|ActivityLog|DirtyBitmap|PeerRequest|ReceiveEpoch|StateChange|ResyncPlanner|ResyncController|OnlineVerify|Handshake|Authentication|KeepAlive|EffectQueue|Effect|Event)\b/
        for (name, code) in try Self.sources(folder) {
            for line in code.split(separator: "\n") {
                if let match = line.firstMatch(of: machines) { Issue.record("\(name) names \(match.output.1): \(line)") }
            }
        }
    }

    @Test("unsafe loads and stores are written in one file only")
    func unsafeInOnePlace() throws {
        for (name, code) in try Self.sources("") where name != "/Units/WireBytes.swift" {
            #expect(!code.contains("loadUnaligned") && !code.contains("unsafeLoad"), "\(name)")
        }
    }

    @Test("every command has a recorded vector, or an example and a reason why it has no recording")
    func everyCommandHasAVector() throws {
        let notRecorded: [PacketCommand: String] = [
            .syncParameters: "two current kernels agree on 101, which uses P_SYNC_PARAM89",
            .delayProbe: "no version 8.4 sends it",
            .writeSame: "kernels that can be recorded have no write-same",
            .negativeResyncReply: "a resync read error leaves these kernels facing each other without an answer",
            .resyncCancel: "needs a source that turns Ahead in the middle of a resync",
        ]
        var recorded = Set<UInt16>()
        for session in RecordedSession.names {
            for message in try RecordedSession.messages(session) {
                let code = message.header.count == 8 ? message.header[4..<6] : message.header[6..<8]
                recorded.insert(UInt16(code.first!) << 8 | UInt16(code.last!))
            }
        }
        for command in PacketCommand.allCases {
            let hasExample = PacketExample.all.contains { $0.packet.command(in: $0.format) == command }
            let hasReason = notRecorded[command] != nil && hasExample
            #expect(recorded.contains(command.rawValue) != hasReason, "\(command.name)")
        }
        #expect(recorded.allSatisfy { PacketCommand(rawValue: $0) != nil })
        #expect(Set(PacketCommand.allCases.map(\.name)).count == PacketCommand.allCases.count)
    }

    @Test("the table of interoperation has every kernel scenario in each of its directions, and all of them hold")
    func interoperationIsComplete() throws {
        let table = try String(contentsOf: Self.root.appendingPathComponent("docs/interop.md"), encoding: .utf8)
        var rows = Set<String>()
        for line in table.split(separator: "\n") {
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            if cells.count == 5, cells[4] == "holds" { rows.insert("\(cells[0])/\(cells[2])") }
        }
        let folder = Self.root.appendingPathComponent("Tests/Kernel")
        var expected = Set<String>()
        for file in try FileManager.default.contentsOfDirectory(atPath: folder.path) where file.hasSuffix(".sh") {
            let script = try String(contentsOf: folder.appendingPathComponent(file), encoding: .utf8)
            guard let directions = script.firstMatch(of: /# directions: (.*)/)?.output.1 else { continue }
            for direction in directions.split(separator: " ") { expected.insert("\(file.dropLast(3))/\(direction)") }
        }
        #expect(expected.count > 40)
        #expect(rows == expected)
    }
}
