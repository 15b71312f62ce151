import Foundation

@testable import ReplicaProto

/// One recorded message (`Vectors/wire/README`).
struct RecordedMessage {
    var stream: StreamKind
    var sender: String
    var connection: Int
    var volume: UInt16
    var name: String
    var header: [UInt8]
    /// Without bulk data.
    var body: [UInt8]
    var length: Int
    var bulkLength: Int
    var text: String
    /// What was agreed when the message was sent.
    var format: WireFormat

    /// Header and fixed part as on the wire.
    var bytes: [UInt8] { header + body }
}

/// A recorded session, read once.
enum RecordedSession {
    static let names: [String] = {
        let folder = Bundle.module.resourceURL!.appendingPathComponent("Vectors/wire")
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
        return files.filter { $0.hasSuffix(".jsonl.gz") }.map { String($0.dropLast(".jsonl.gz".count)) }.sorted()
    }()

    static func messages(_ name: String) throws -> [RecordedMessage] {
        let file = Bundle.module.resourceURL!.appendingPathComponent("Vectors/wire/\(name).jsonl.gz")
        let data = try VectorFile.unzip(file)
        var messages: [RecordedMessage] = []
        // The agreement of every connection begins with its markers; versions and features are the same in all sessions.
        var integrity: [String: DigestAlgorithm] = [:]
        for line in data.split(separator: UInt8(ascii: "\n")) {
            guard let object = try JSONSerialization.jsonObject(with: Data(line)) as? [String: Any],
                let name = object["name"] as? String
            else { continue }
            let sender = object["from"] as! String
            let header = WireTest.bytes(object["header"] as! String)
            let isInitial = header.count == 8
            var message = RecordedMessage(
                stream: object["sock"] as! String == "M" ? .meta : .data, sender: sender,
                connection: object["conn"] as! Int, volume: UInt16(truncatingIfNeeded: object["volume"] as! Int), name: name,
                header: header, body: WireTest.bytes(object["body"] as! String), length: object["length"] as! Int,
                bulkLength: object["bulk_length"] as? Int ?? 0, text: object["text"] as! String,
                format: isInitial ? .initial : WireTest.format101)
            if name == "P_PROTOCOL" || name == "P_PROTOCOL_UPDATE" {
                let algorithm = message.text.components(separatedBy: "integrity='").last!.prefix { $0 != "'" }
                integrity[sender] = DigestAlgorithm(String(algorithm))
            }
            if !isInitial { message.format.peerIntegrity = integrity[sender] }
            messages.append(message)
        }
        return messages
    }
}

/// Files of `Vectors`.
enum VectorFile {
    static func unzip(_ file: URL) throws -> Data {
        let process = Process()
        let output = Pipe()
        process.executableURL = URL(fileURLWithPath: "/bin/gzip")
        process.arguments = ["-dc", file.path]
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw CocoaError(.fileReadCorruptFile) }
        return data
    }
}
