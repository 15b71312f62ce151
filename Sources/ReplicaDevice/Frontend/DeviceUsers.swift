import CLinux
import Glibc

/// Who has a block device open: mounts and other claims, loop devices, processes. Looks through `/proc`, so it belongs on a
/// `Worker`.
enum DeviceUsers {
    /// A process that has the device open, or a loop device on it.
    static func find(major: UInt32, minor: UInt32) -> String? {
        loopDevice(major, minor) ?? process(major, minor)
    }

    private static func isDevice(_ path: String, _ major: UInt32, _ minor: UInt32) -> Bool {
        var found: (major: UInt32, minor: UInt32) = (0, 0)
        return clinux_block_device_number(path, &found.major, &found.minor) == 0 && found == (major, minor)
    }

    /// A loop device claims what it lies on only for a moment, and no process has it open.
    private static func loopDevice(_ major: UInt32, _ minor: UInt32) -> String? {
        names("/sys/block").first { name in
            guard name.hasPrefix("loop"), let file = NBDSysfs.read("/sys/block/\(name)/loop/backing_file") else {
                return false
            }
            return isDevice(file, major, minor)
        }
    }

    private static func process(_ major: UInt32, _ minor: UInt32) -> String? {
        let own = getpid()
        for name in names("/proc") {
            guard let process = pid_t(name), process != own else { continue }
            for descriptor in names("/proc/\(name)/fd") {
                guard isDevice("/proc/\(name)/fd/\(descriptor)", major, minor) else { continue }
                return "\(NBDSysfs.read("/proc/\(name)/comm") ?? "process")(\(name))"
            }
        }
        return nil
    }

    private static func names(_ path: String) -> [String] {
        guard let listing = opendir(path) else { return [] }
        defer { closedir(listing) }
        var result: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { result.append(name) }
        }
        return result
    }
}
