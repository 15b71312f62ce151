import Glibc

/// Finding and reading configuration files (`control.md` 1.1).
package enum ConfigFiles {
    /// Tried in this order without `-c`.
    package static let searchOrder = [
        "/etc/replica.conf", "/etc/drbd-84.conf", "/etc/drbd-83.conf", "/etc/drbd-82.conf", "/etc/drbd-08.conf",
        "/etc/drbd.conf",
    ]
    /// Bytes that a configuration file may have.
    static let maximumBytes = 16 << 20

    package static func defaultFile() -> String {
        searchOrder.first { access($0, F_OK) == 0 } ?? "/etc/drbd.conf"
    }

    /// The content of a file, `-` for standard input; nil with `errno` set if it can not be read.
    static func read(_ path: String) -> [UInt8]? {
        let descriptor = path == "-" ? 0 : open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 { return nil }
        defer { if descriptor != 0 { close(descriptor) } }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65_536)
        while content.count < maximumBytes {
            let count = chunk.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            if count < 0 { return nil }
            if count == 0 { return content }
            content += chunk[0..<count]
        }
        errno = EFBIG
        return nil
    }

    /// The files that match a pattern, sorted; relative ones are relative to the including file's directory.
    static func expand(_ pattern: String, includedFrom file: String) -> [String] {
        let path = resolve(pattern, includedFrom: file)
        var matches = glob_t()
        defer { globfree(&matches) }
        guard glob(path, 0, nil, &matches) == 0, let paths = matches.gl_pathv else { return [] }
        return (0..<Int(matches.gl_pathc)).compactMap { index in paths[index].map { String(cString: $0) } }
    }

    /// Whether everybody may read the file.
    static func isWorldReadable(_ path: String) -> Bool {
        var status = stat()
        return path != "-" && stat(path, &status) == 0 && status.st_mode & 0o004 != 0
    }

    static func resolve(_ path: String, includedFrom file: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let slash = file.lastIndex(of: "/") else { return path }
        return file[...slash] + path
    }

    /// One spelling for each file, so that including it twice is noticed; the path itself if there is no such file.
    static func canonical(_ path: String) -> String {
        guard let resolved = realpath(path, nil) else { return path }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    static func isPattern(_ text: String) -> Bool { text.contains { "*?[".contains($0) } }

    static func errorText(_ code: Int32 = errno) -> String { String(cString: strerror(code)) }
}
