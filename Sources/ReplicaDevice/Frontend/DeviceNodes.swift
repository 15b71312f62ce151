import CLinux
import Glibc

/// The names under which a volume's block device is found (`control.md` 1.6): `/dev/drbdN` is a node of its own with the
/// device numbers of the nbd device, because scripts and monitors compare the name that was mounted; the rest are links.
struct DeviceNodes: Sendable {
    let resource: String
    let volume: UInt16
    let minor: UInt32
    /// As configured: `/dev/drbd0`, `/dev/drbd_mail`, `/dev/replica/mail`, `/dev/nbd3`.
    let device: String
    /// The backing disk as configured, for `by-disk`; empty without.
    let disk: String
    /// Where the device nodes are.
    var root = "/dev"

    /// `/dev/nbdN` where that was asked for, else `/dev/drbdN`.
    var node: String { namedIndex != nil ? "\(root)/nbd\(namedIndex ?? 0)" : "\(root)/drbd\(minor)" }

    /// `device /dev/nbd3`: this one and no other.
    var namedIndex: Int? { device.hasPrefix("/dev/nbd") ? Int(device.dropFirst(8)) : nil }

    private var links: [String] {
        var result = ["\(root)/drbd/by-res/\(resource)/\(volume)", "\(root)/replica/by-res/\(resource)/\(volume)"]
        if disk.hasPrefix("/dev/") { result.append("\(root)/drbd/by-disk/\(disk.dropFirst(5))") }
        if namedIndex == nil, device.hasPrefix("/dev/"), device != "/dev/drbd\(minor)" {
            result.append("\(root)/\(device.dropFirst(5))")
        }
        return result
    }

    /// Makes them, or makes them right.
    /// - Returns: what could not be done.
    func make(major: UInt32, minor number: UInt32) -> [String] {
        var problems: [String] = []
        if namedIndex == nil, let problem = makeNode(major, number) { problems.append(problem) }
        for link in links {
            if let problem = makeLink(link) { problems.append(problem) }
        }
        return problems
    }

    func remove() {
        for link in links where isLink(link) {
            unlink(link)
            // Directories go with their last link.
            var directory = parent(link)
            while directory != root, rmdir(directory) == 0 { directory = parent(directory) }
        }
        guard namedIndex == nil, !isForeign else { return }
        var found: (major: UInt32, minor: UInt32) = (0, 0)
        if clinux_block_device_number(node, &found.major, &found.minor) == 0 { unlink(node) }
    }

    /// The kernel's own DRBD has a device of this number.
    private var isForeign: Bool { access("/sys/block/drbd\(minor)", F_OK) == 0 }

    private func makeNode(_ major: UInt32, _ number: UInt32) -> String? {
        var found: (major: UInt32, minor: UInt32) = (0, 0)
        if clinux_block_device_number(node, &found.major, &found.minor) == 0 {
            if found == (major, number) { return nil }
            if isForeign { return "\(node) belongs to the kernel's DRBD" }
        } else if errno != ENOENT {
            return "\(node) is in the way"
        }
        // As the kernel's own node, if there is one.
        var like = stat()
        let hasExample = stat("\(root)/nbd0", &like) == 0
        let temporary = "\(node).\(getpid())"
        unlink(temporary)
        guard clinux_make_block_node(temporary, 0o600, major, number) == 0 else {
            return "\(node): \(SystemError.text(errno))"
        }
        if hasExample {
            _ = chown(temporary, like.st_uid, like.st_gid)
            _ = chmod(temporary, like.st_mode & 0o777)
        }
        guard rename(temporary, node) == 0 else {
            let error = errno
            unlink(temporary)
            return "\(node): \(SystemError.text(error))"
        }
        return nil
    }

    private func makeLink(_ path: String) -> String? {
        if target(path) == node { return nil }
        let directories = path.dropFirst(root.count + 1).split(separator: "/").dropLast()
        var directory = root
        for part in directories {
            directory += "/\(part)"
            mkdir(directory, 0o755)
        }
        if isLink(path) { unlink(path) }
        return symlink(node, path) == 0 ? nil : "\(path): \(SystemError.text(errno))"
    }

    private func parent(_ path: String) -> String { String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)]) }
    private func isLink(_ path: String) -> Bool { target(path) != nil }
    private func target(_ path: String) -> String? {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let length = readlink(path, &buffer, buffer.count)
        return length < 0 ? nil : String(decoding: buffer[..<length], as: UTF8.self)
    }
}
