import Glibc
import Logging
import ReplicaProto

/// One line per message on a descriptor: `2026-01-31T12:00:00Z warning drbd r0: text`.
struct LineLogHandler: LogHandler {
    let descriptor: Int32
    var logLevel = Logger.Level.info
    var metadata = Logger.Metadata()
    /// What stands before each message.
    let label: String

    init(label: String, descriptor: Int32) {
        self.label = label
        self.descriptor = descriptor
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var moment = time(nil)
        var parts = tm()
        gmtime_r(&moment, &parts)
        var stamp = [CChar](repeating: 0, count: 32)
        let length = strftime(&stamp, stamp.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        let text = String(decoding: stamp[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // Nobody's bytes may fake a line of ours.
        let message = String(
            event.message.description.unicodeScalars.map { $0.value < 32 || $0.value == 127 ? " " : Character($0) })
        var line = "\(text) \(event.level) \(label)\(message)\n"
        line.withUTF8 { bytes in
            // A log that cannot be written must not stop replication.
            _ = write(descriptor, bytes.baseAddress, bytes.count)
        }
    }
}

extension ResourceLoop {
    /// A message in the words of the kernel's log: `block drbd0:` for a volume, `drbd r0:` for the connection.
    func logLine(_ level: LogLevel, _ volume: VolumeNumber?, _ text: String) {
        let prefix = volume.map { "block drbd\(minor(of: $0)): " } ?? "drbd \(settings.resource): "
        let level: Logger.Level =
            switch level {
            case .debug: .debug
            case .info: .info
            case .notice: .notice
            case .warning: .warning
            case .error: .error
            }
        log.log(level: level, "\(prefix)\(text)")
    }

    func minor(of volume: VolumeNumber) -> UInt32 {
        minors.first { $0.volume == volume }?.minor ?? UInt32(volume.value)
    }
}
