import Glibc
import ReplicaProto

/// `events2`: what there is, and then what changes, until it is interrupted.
///
/// The daemons are asked over their control sockets. One that ends and comes back within two seconds, as in an upgrade,
/// is the same resource; after that its objects are reported as destroyed.
struct EventsCommand {
    let environment: ToolEnvironment
    /// Nil: all of this node, also those that are yet to come.
    let resources: [String]?
    let statistics: Bool
    let timestamps: Bool
    /// False: ends once all that exists has been told.
    let follows: Bool

    private static let patience: UInt64 = 2_000_000_000

    private struct Source {
        let name: String
        var client: ControlClient?
        /// What has been told of it.
        var status: ResourceStatus?
        /// When its daemon was last seen going.
        var lostAt: UInt64?
        /// Its daemon does not let itself be watched, and was asked for the last time.
        var refuses = false
    }

    /// - Returns: the exit code: 0, or 20 if a daemon can't be asked.
    func run() -> Int32 {
        var code: Int32 = 0
        // Before the first look, so that nothing comes in between unseen.
        let directory = follows ? watchRunDirectory() : -1
        defer { if directory >= 0 { close(directory) } }
        var sources = (resources ?? []).map { Source(name: $0) }
        findDaemons(&sources)
        for k in sources.indices where sources[k].client != nil {
            do throws(ControlClientError) {
                let answer = try sources[k].client!.receiveAnswer(timeoutSeconds: 5)
                sources[k].refuses = answer.code != 0
                sources[k].status = try ControlClientError.status(answer)
                tell(EventLines.existing(sources[k].status!, statistics: statistics))
            } catch {
                if error == .timedOut { environment.console.complain("\(sources[k].name): the daemon does not answer") }
                if case .broken(let reason) = error {
                    environment.console.complain("\(sources[k].name): \(reason)")
                }
                if !follows || error != .timedOut { sources[k].client = nil }
                code = 20
            }
        }
        tell(["exists -"])
        if follows { follow(&sources, directory) }
        return code
    }

    private func follow(_ sources: inout [Source], _ directory: Int32) -> Never {
        // Somebody comes or goes: a look every so often, until this moment.
        var looksUntil: UInt64 = 0
        while true {
            let watched = sources.indices.filter { sources[$0].client != nil }
            var polled = watched.map { pollfd(fd: sources[$0].client!.descriptor, events: Int16(POLLIN), revents: 0) }
            polled.append(pollfd(fd: directory, events: Int16(POLLIN), revents: 0))
            let isAwaited = sources.contains { $0.client == nil && $0.status != nil }
            // A socket is there a moment before anybody listens: soon again, and then less often.
            let isFresh = Self.now &+ Self.patience < looksUntil &+ 200_000_000
            let limit: Int32 = isFresh ? 2 : isAwaited || Self.now < looksUntil ? 50 : directory < 0 ? 1000 : -1
            poll(&polled, nfds_t(polled.count), limit)
            if polled.last!.revents != 0 {
                var events = [UInt8](repeating: 0, count: 16_384)
                _ = read(directory, &events, events.count)
                looksUntil = Self.now &+ Self.patience
            }
            for (k, request) in zip(watched, polled) where request.revents != 0 {
                if !take(&sources[k]) { looksUntil = Self.now &+ Self.patience }
            }
            if Self.now < looksUntil || directory < 0 { findDaemons(&sources) }
            for k in sources.indices where sources[k].client == nil {
                guard let status = sources[k].status, let lostAt = sources[k].lostAt else { continue }
                // One that has let go of everything has gone in good order.
                guard status.volumes.isEmpty || Self.now &- lostAt >= Self.patience else { continue }
                tell(EventLines.changes(from: status, to: nil))
                sources[k].status = nil
            }
            if resources == nil { sources.removeAll { $0.client == nil && $0.status == nil && !$0.refuses } }
        }
    }

    /// Takes what a daemon has said; false if it has gone.
    private func take(_ source: inout Source) -> Bool {
        guard let client = source.client else { return false }
        do throws(ControlClientError) {
            let isThere = try client.takeArrived()
            while client.hasAnswer {
                let answer = try client.receiveAnswer(timeoutSeconds: 5)
                if answer.text.hasPrefix("call ") || answer.text.hasPrefix("response ") {
                    tell([String(answer.text.dropLast())])
                    continue
                }
                source.refuses = answer.code != 0
                let status = try ControlClientError.status(answer)
                tell(EventLines.changes(from: source.status, to: status, statistics: statistics))
                source.status = status
            }
            if isThere { return true }
        } catch {
            if case .broken(let reason) = error, reason != ConfigFiles.errorText(ECONNRESET) {
                environment.console.complain("\(source.name): \(reason)")
            }
        }
        source.client = nil
        source.lostAt = Self.now
        return false
    }

    /// Asks daemons that are new.
    private func findDaemons(_ sources: inout [Source]) {
        if resources == nil {
            for name in RunningState(environment: environment).resourceNames()
            where !sources.contains(where: { $0.name == name }) {
                sources.append(Source(name: name))
            }
        }
        for k in sources.indices where sources[k].client == nil && !sources[k].refuses {
            do throws(ControlClientError) {
                let client = try ControlClient(path: environment.controlSocket(of: sources[k].name))
                try client.begin("watch")
                sources[k].client = client
            } catch {
                // It is not there, or going; who has something to say about it is asked again.
            }
        }
    }

    /// -1 if it can't be watched.
    private func watchRunDirectory() -> Int32 {
        let descriptor = inotify_init1(Int32(IN_CLOEXEC | IN_NONBLOCK))
        guard descriptor >= 0 else { return -1 }
        guard inotify_add_watch(descriptor, environment.runDirectory, UInt32(IN_CREATE | IN_MOVED_TO)) >= 0 else {
            close(descriptor)
            return -1
        }
        return descriptor
    }

    private func tell(_ lines: [String]) {
        guard !lines.isEmpty else { return }
        let prefix = timestamps ? Self.timestamp() + " " : ""
        environment.console.writeOutput(lines.map { "\(prefix)\($0)\n" }.joined())
    }

    private static var now: UInt64 {
        var moment = timespec()
        clock_gettime(CLOCK_MONOTONIC, &moment)
        return UInt64(moment.tv_sec) &* 1_000_000_000 &+ UInt64(moment.tv_nsec)
    }

    /// `2026-11-22T06:33:01.196527+00:00`
    private static func timestamp() -> String {
        var moment = timespec()
        clock_gettime(CLOCK_REALTIME, &moment)
        var fields = tm()
        localtime_r(&moment.tv_sec, &fields)
        var text = [CChar](repeating: 0, count: 64)
        let length = strftime(&text, text.count, "%Y-%m-%dT%H:%M:%S", &fields)
        let seconds = String(decoding: text[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        func padded(_ value: Int, _ digits: Int) -> String {
            let number = String(value)
            return String(repeating: "0", count: max(0, digits - number.count)) + number
        }
        let offset = abs(fields.tm_gmtoff) / 60
        return "\(seconds).\(padded(moment.tv_nsec / 1000, 6))\(fields.tm_gmtoff < 0 ? "-" : "+")"
            + "\(padded(offset / 60, 2)):\(padded(offset % 60, 2))"
    }
}

extension ControlClientError {
    /// What a daemon answers to `watch` and `status-raw`.
    fileprivate static func status(_ answer: CommandAnswer) throws(ControlClientError) -> ResourceStatus {
        guard answer.code == 0 else { throw .broken(answer.text) }
        do throws(StatusLineError) { return try ResourceStatus(parsing: answer.text) } catch {
            throw .broken("unexpected status: \(error.message)")
        }
    }
}
