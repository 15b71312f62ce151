import Glibc

/// Which configuration file a running resource came from: links in the run directory, so that a call with only a minor
/// number, as handlers make them, finds a file that is not the usual one (`control.md` 1.1).
enum RegisteredConfiguration {
    static func register(_ resource: ResolvedResource, file: String, runDirectory: String) {
        if file == "-" || file.isEmpty { return }
        link(file, "\(runDirectory)/drbd-resource-\(resource.name).conf")
        for volume in resource.volumes { link(file, "\(runDirectory)/drbd-minor-\(volume.minor).conf") }
    }

    static func unregister(_ resource: ResolvedResource, runDirectory: String) {
        unlink("\(runDirectory)/drbd-resource-\(resource.name).conf")
        for volume in resource.volumes { unlink("\(runDirectory)/drbd-minor-\(volume.minor).conf") }
    }

    /// The file registered for the first of the names that has one; links to nothing are ignored.
    static func file(for names: [String], runDirectory: String) -> String? {
        for name in names {
            let base = name.split(separator: "/").first.map(String.init) ?? name
            let path =
                name.hasPrefix("minor-")
                ? "\(runDirectory)/drbd-\(name).conf" : "\(runDirectory)/drbd-resource-\(base).conf"
            var buffer = [UInt8](repeating: 0, count: 4096)
            let length = buffer.withUnsafeMutableBytes { readlink(path, $0.baseAddress!, $0.count) }
            guard length > 0 else { continue }
            let target = String(decoding: buffer[0..<length], as: UTF8.self)
            if access(target, R_OK) == 0 { return target }
        }
        return nil
    }

    private static func link(_ file: String, _ path: String) {
        let temporary = path + ".new"
        unlink(temporary)
        if symlink(file, temporary) == 0 { rename(temporary, path) }
    }
}
