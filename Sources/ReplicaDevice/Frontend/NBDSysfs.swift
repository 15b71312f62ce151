import CLinux
import Glibc

/// What the kernel shows of its nbd devices in `/sys`.
enum NBDSysfs {
    /// How long a request waits before the kernel looks whether the server that it was sent to is still the same, and sends it
    /// again if not; the kernel adds up to a second of its own, each time. That is most of the pause when a daemon is killed: the
    /// first look after there is a new one. What takes longer than this is worth a line in the kernel's log each time, so it is
    /// not shorter.
    static let requestLookMilliseconds = 1000

    static func isConnected(_ index: Int) -> Bool { access("/sys/block/nbd\(index)/pid", F_OK) == 0 }

    /// Whose device it is, as told by NBD_ATTR_BACKEND_IDENTIFIER; nil if it has no server, or one that did not say.
    static func identifier(_ index: Int) -> String? { read("/sys/block/nbd\(index)/backend") }

    static func exists(_ index: Int) -> Bool { access("/sys/block/nbd\(index)", F_OK) == 0 }

    /// Device numbers. A device that does not exist yet has those that it will get.
    static func number(_ index: Int) -> (major: UInt32, minor: UInt32)? {
        if let parts = read("/sys/block/nbd\(index)/dev")?.split(separator: ":"), parts.count == 2,
            let major = UInt32(parts[0]), let minor = UInt32(parts[1])
        {
            return (major, minor)
        }
        guard let text = read("/sys/module/nbd/parameters/max_part"), let partitions = UInt32(text) else { return nil }
        // NBD_MAJOR; each device is followed by a power of two of numbers for its partitions.
        return (43, UInt32(index) << UInt32(32 - partitions.leadingZeroBitCount))
    }

    /// The device that was connected with this identifier and has not been disconnected since.
    static func index(of identifier: String) -> Int? {
        guard let listing = opendir("/sys/block") else { return nil }
        defer { closedir(listing) }
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard name.hasPrefix("nbd"), let index = Int(name.dropFirst(3)) else { continue }
            if isConnected(index), self.identifier(index) == identifier { return index }
        }
        return nil
    }

    static func setRequestLook(_ index: Int) {
        write("/sys/block/nbd\(index)/queue/io_timeout", "\(requestLookMilliseconds)")
    }

    /// Lets udev look again: the identifier is there only after the event that a connection causes.
    static func announce(_ index: Int) { write("/sys/block/nbd\(index)/uevent", "change") }

    private static func write(_ path: String, _ text: String) {
        let descriptor = open(path, O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        var text = text
        text.withUTF8 { _ = Glibc.write(descriptor, $0.baseAddress, $0.count) }
        close(descriptor)
    }

    /// The first line of a small file.
    static func read(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(descriptor, &bytes, bytes.count)
        guard count >= 0 else { return nil }
        return String(decoding: bytes[..<count].prefix { $0 != 10 }, as: UTF8.self)
    }
}
