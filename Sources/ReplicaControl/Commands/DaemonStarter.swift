import Glibc
import ReplicaProto

/// Starts `replicad` for a resource.
enum DaemonStarter {
    /// Writes the settings and runs the daemon, which returns when its control socket accepts.
    /// - Returns: nil, or why it did not work.
    static func start(_ settings: DaemonSettings, in environment: ToolEnvironment) -> String? {
        let path = environment.settingsFile(of: settings.resource)
        _ = mkdir(environment.runDirectory, 0o755)
        if let error = write(settings.text, to: path) { return "\(path): \(error)" }
        setenv("REPLICA_RUN_DIR", environment.runDirectory, 1)
        switch run([environment.daemonPath, settings.resource, "--settings", path]) {
        case .exited(0): return nil
        case .exited(let code): return "\(environment.daemonPath) ended with exit code \(code)"
        case .killed(let signal): return "\(environment.daemonPath) was killed by signal \(signal)"
        case .notStarted(let code): return "can not run \(environment.daemonPath): \(ConfigFiles.errorText(code))"
        }
    }

    enum RunResult: Equatable {
        case exited(Int32)
        case killed(Int32)
        case notStarted(Int32)
    }

    /// Runs a program to its end; a name without a slash is searched for.
    /// - Parameter environment: `NAME=VALUE` strings; nil for this process's own.
    static func run(_ words: [String], environment: [String]? = nil) -> RunResult {
        let arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
        let variables: [UnsafeMutablePointer<CChar>?]? = environment.map { $0.map { strdup($0) } + [nil] }
        defer { for string in arguments + (variables ?? []) { free(string) } }
        var child: pid_t = 0
        let result =
            if let variables {
                posix_spawnp(&child, words[0], nil, nil, arguments, variables)
            } else {
                posix_spawnp(&child, words[0], nil, nil, arguments, environ)
            }
        if result != 0 { return .notStarted(result) }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 && errno == EINTR {}
        let signal = status & 0x7F
        return signal == 0 ? .exited(status >> 8 & 0xFF) : .killed(signal)
    }

    /// Replaces a file that only its owner may read.
    static func write(_ text: String, to path: String) -> String? {
        let temporary = path + ".new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return ConfigFiles.errorText() }
        let bytes = Array(text.utf8)
        let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        var error = written < 0 ? errno : written < bytes.count ? ENOSPC : 0
        close(descriptor)
        if error == 0, rename(temporary, path) != 0 { error = errno }
        if error == 0 { return nil }
        unlink(temporary)
        return ConfigFiles.errorText(error)
    }
}
