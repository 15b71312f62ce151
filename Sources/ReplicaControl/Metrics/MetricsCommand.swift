import Glibc
import ReplicaProto

/// `metrics [RESOURCE...] [--file PATH]`: prints them, or replaces a file that node_exporter's textfile collector reads.
struct MetricsCommand {
    let environment: ToolEnvironment
    let resources: [String]
    /// Nil: standard output.
    let file: String?

    /// - Returns: the exit code: 0, or 20 if the file can't be written. A daemon that does not answer is a metric.
    func run() -> Int32 {
        let text = MetricsText.text(resources.map(sample))
        guard let file else {
            environment.console.writeOutput(text)
            return 0
        }
        guard let problem = replace(file, text) else { return 0 }
        environment.console.complain("\(file): \(problem)")
        return 20
    }

    private func sample(_ resource: String) -> MetricsSample {
        var sample = MetricsSample(resource: resource)
        do {
            let client = try withPatience { () throws(ControlClientError) in
                let client = try ControlClient(path: environment.controlSocket(of: resource))
                let status = try client.ask("status-raw", timeoutSeconds: 2)
                sample.status = try? ResourceStatus(parsing: status.text)
                return client
            }
            sample.latencies = LatencyText.parse(try client.ask("latencies", timeoutSeconds: 2).text) ?? []
            sample.counters = try client.ask("counters", timeoutSeconds: 2).text.split(separator: "\n").compactMap { line in
                let words = line.split(separator: "=")
                return words.count == 2 ? UInt64(words[1]).map { (String(words[0]), $0) } : nil
            }
        } catch {
            // What has been told before counts.
        }
        return sample
    }

    /// By a rename: whoever reads it finds all of the one text or all of the other.
    private func replace(_ path: String, _ text: String) -> String? {
        let new = "\(path).\(getpid())"
        let descriptor = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { return ConfigFiles.errorText() }
        defer { close(descriptor) }
        var bytes = Array(text.utf8)[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else {
                defer { unlink(new) }
                return ConfigFiles.errorText()
            }
            bytes = bytes.dropFirst(count)
        }
        guard rename(new, path) == 0 else {
            defer { unlink(new) }
            return ConfigFiles.errorText()
        }
        return nil
    }
}
