import Glibc
import ReplicaProto

/// `replctl trace RESOURCE [--pcap FILE] [--count N]`: the packets that pass between a daemon and its peer, as lines or as
/// a capture file, until it is interrupted, the daemon ends or N packets have been seen.
struct TraceCommand {
    let environment: ToolEnvironment
    let resource: String
    /// Where a capture goes instead of lines; `-` is standard output.
    var capturePath: String?
    /// Ends after so many packets; 0 does not.
    var count: UInt64 = 0

    private var console: Console { environment.console }

    /// - Returns: the exit code: 0, or 20 if there is no daemon or the file can't be written.
    func run() -> Int32 {
        do throws(ControlClientError) {
            let client = try ControlClient(path: environment.controlSocket(of: resource))
            let answer = try client.ask(capturePath == nil ? "trace" : "trace payload", timeoutSeconds: 5)
            guard answer.code == 0 else {
                console.complain("\(resource): \(answer.text)")
                return 20
            }
            if let capturePath { return try capture(client, to: capturePath) }
            return try print(client)
        } catch {
            switch error {
            case .notRunning: console.complain("\(resource): no daemon runs")
            case .timedOut: console.complain("\(resource): the daemon does not answer")
            case .broken(let reason): console.complain("\(resource): \(reason)")
            }
            return 20
        }
    }

    private func print(_ client: ControlClient) throws(ControlClientError) -> Int32 {
        var seen: UInt64 = 0
        while let (record, bytes) = try next(client) {
            tellLost(record)
            guard record.kind == .packet else { continue }
            console.print(Self.line(record, bytes))
            seen += 1
            if seen == count { return 0 }
        }
        return 0
    }

    private func capture(_ client: ControlClient, to path: String) throws(ControlClientError) -> Int32 {
        guard var capture = PacketCapture(path: path) else {
            console.complain("\(path): \(ConfigFiles.errorText())")
            return 20
        }
        var seen: UInt64 = 0
        var isWritten = capture.flush()
        while isWritten, let (record, bytes) = try next(client) {
            tellLost(record)
            switch record.kind {
            case .opened: capture.open(record.socket, String(decoding: bytes, as: UTF8.self))
            case .packet:
                capture.append(
                    record.socket, isOutgoing: record.isOutgoing, nanoseconds: record.nanoseconds, bytes[...])
                seen += 1
            }
            let isLast = seen == count && count > 0
            if isLast || !client.hasReceived(TraceRecord.headBytes) { isWritten = capture.flush() }
            if isLast { break }
        }
        if isWritten { return 0 }
        console.complain("\(path): \(ConfigFiles.errorText())")
        return 20
    }

    /// Nil when the daemon has ended.
    private func next(_ client: ControlClient) throws(ControlClientError) -> (TraceRecord, [UInt8])? {
        guard let head = try client.receiveBytes(TraceRecord.headBytes) else { return nil }
        guard let record = TraceRecord(decoding: head.span.bytes), let bytes = try client.receiveBytes(Int(record.length))
        else { throw .broken("unexpected record") }
        return (record, bytes)
    }

    private func tellLost(_ record: TraceRecord) {
        if record.lost > 0 { console.complain("\(record.lost) packets were lost: they came faster than they could be taken") }
    }

    /// `12:00:00.000000 sent data P_DATA vol 0 sector ...`: time of day (UTC), direction, stream, packet.
    static func line(_ record: TraceRecord, _ bytes: [UInt8]) -> String {
        return "\(timeOfDay(record.nanoseconds)) \(record.isOutgoing ? "sent" : "rcvd") \(record.stream == .data ? "data" : "meta") \(text(record, bytes))"
    }

    /// `12:00:00.000000`, UTC.
    static func timeOfDay(_ nanoseconds: UInt64) -> String {
        let microseconds = nanoseconds / 1000 % 1_000_000
        let seconds = nanoseconds / 1_000_000_000 % 86_400
        func padded(_ value: UInt64, _ digits: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, digits - text.count)) + text
        }
        return "\(padded(seconds / 3600, 2)):\(padded(seconds / 60 % 60, 2)):\(padded(seconds % 60, 2)).\(padded(microseconds, 6))"
    }

    private static func text(_ record: TraceRecord, _ bytes: [UInt8]) -> String {
        var lines: [String] = []
        var printer = PacketStreamPrinter(stream: record.stream, format: record.format)
        printer.feed(bytes.span.bytes, into: &lines)
        return lines.first ?? "\(bytes.count) bytes"
    }
}
