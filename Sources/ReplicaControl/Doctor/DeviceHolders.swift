import CLinux
import Glibc

/// Who has a block device or file open, from `/proc` and `/sys`, as far as one gets in a second.
struct DeviceHolders {
    /// Everything that the machine has mounted, by device number.
    private let mounts: [(number: String, place: String)]
    private let deadline: Int

    init(seconds: Int = 1) {
        let text = String(decoding: ConfigFiles.read("/proc/self/mountinfo") ?? [], as: UTF8.self)
        mounts = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ", maxSplits: 5)
            return words.count > 4 ? (String(words[2]), String(words[4])) : nil
        }
        deadline = DeviceHolders.now() + seconds * 1000
    }

    private static func now() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }

    /// - Parameter daemon: the process that is allowed to have it.
    func find(_ path: String, except daemon: Int32? = nil) -> [Holder] {
        var found: [Holder] = []
        var number: (major: UInt32, minor: UInt32) = (0, 0)
        let isDevice = clinux_block_device_number(path, &number.major, &number.minor) == 0
        if isDevice {
            let name = "\(number.major):\(number.minor)"
            found += mounts.filter { $0.number == name }.map { .mount($0.place) }
            found += names("/sys/dev/block/\(name)/holders").map { .device("/dev/\($0)") }
        }
        func isIt(_ other: String) -> Bool {
            if other == path { return true }
            guard isDevice, other.hasPrefix("/dev/") else { return false }
            var its: (major: UInt32, minor: UInt32) = (0, 0)
            return clinux_block_device_number(other, &its.major, &its.minor) == 0 && its == number
        }
        for name in names("/sys/block") where name.hasPrefix("loop") {
            let file = String(decoding: ConfigFiles.read("/sys/block/\(name)/loop/backing_file") ?? [], as: UTF8.self)
            if isIt(String(file.prefix { $0 != "\n" })) { found.append(.device("/dev/\(name)")) }
        }
        for entry in names("/proc") {
            if DeviceHolders.now() > deadline { break }
            guard let process = pid_t(entry), process != daemon, process != getpid() else { continue }
            let files = names("/proc/\(entry)/fd")
            guard files.contains(where: { isIt(DeviceHolders.target("/proc/\(entry)/fd/\($0)")) }) else { continue }
            found.append(.process(process, name: DeviceHolders.processName(process)))
        }
        return found
    }

    static func processName(_ process: Int32) -> String {
        let text = String(decoding: ConfigFiles.read("/proc/\(process)/comm") ?? [], as: UTF8.self)
        return text.isEmpty ? "a program" : String(text.prefix { $0 != "\n" })
    }

    /// Where a link points, without going there: what hangs is not touched.
    private static func target(_ link: String) -> String {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = buffer.withUnsafeMutableBytes { readlink(link, $0.baseAddress!, $0.count) }
        return length > 0 ? String(decoding: buffer[0..<length], as: UTF8.self) : ""
    }

    private func names(_ directory: String) -> [String] {
        guard let listing = opendir(directory) else { return [] }
        defer { closedir(listing) }
        var result: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { result.append(name) }
        }
        return result
    }
}
