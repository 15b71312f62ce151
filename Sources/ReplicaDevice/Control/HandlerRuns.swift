import CLinux
import CUring
import Glibc
import ReplicaProto

/// Handler scripts in progress (`control.md` section 4).
struct HandlerRuns {
    struct Run {
        var id: HandlerID
        var name: HandlerName
        /// Handler and object, as log analysers know them: `fence-peer r0`, `split-brain minor-0`.
        var call: String
        var volume: VolumeNumber?
        var process: pid_t
        /// Becomes readable when the process ends.
        var descriptor: Int32
        var limitSeconds: Int
        var deadline: UInt64
        var generation: UInt32
    }
    var runs: [Run] = []
    var nextGeneration: UInt32 = 1

    var nextDeadline: UInt64 { runs.reduce(.max) { min($0, $1.deadline) } }
}

extension ResourceLoop {
    /// What drbdadm ends with when a handler could not be run, took too long or was killed: nobody takes that for a success.
    private static var brokenStatus: Int32 { 20 }

    /// Runs a command by `/bin/sh -c` in `/`, with the environment that DRBD's handlers expect; no handler configured
    /// counts as success.
    mutating func runHandler(_ id: HandlerID, _ name: HandlerName, _ volume: VolumeNumber?) {
        guard let handler = settings.handlers.first(where: { $0.name == name.rawValue }) else {
            later(.handlerFinished(id, status: 0))
            return
        }
        let call = "\(name.rawValue) \(volume.map { "minor-\(minor(of: $0))" } ?? settings.resource)"
        logLine(.info, volume, "helper command: \(helper) \(call)")
        publishStatusForHandler()
        tellWatchers(handler: name, volume)
        guard let process = spawnShell(handler.commandLine, environment(volume)) else {
            tellWatchers(handler: name, volume, exitCode: Self.brokenStatus)
            later(.handlerFinished(id, status: Self.brokenStatus))
            return
        }
        let descriptor = clinux_child_descriptor(process)
        let limit = settings.handlerTimeoutSeconds
        let generation = handlers.nextGeneration
        handlers.nextGeneration &+= 1
        handlers.runs.append(
            HandlerRuns.Run(
                id: id, name: name, call: call, volume: volume, process: process, descriptor: descriptor, limitSeconds: limit,
                deadline: limit == 0 ? .max : now.nanoseconds &+ UInt64(limit) &* 1_000_000_000, generation: generation))
        let token = SubmissionToken(.handler, index: 0, generation: generation)
        let entry = ring.entry(token)
        io_uring_prep_poll_add(entry, descriptor, UInt32(POLLIN))
        entry.pointee.user_data = token.rawValue
    }

    /// What a handler reads in the status file must be why it runs. Another daemon that merges just now gets a moment.
    private mutating func publishStatusForHandler() {
        publishStatus()
        for _ in 0..<5 where !status.hasMerged {
            usleep(1000)
            publishStatus()
        }
    }

    mutating func handlerEnded(_ token: SubmissionToken) {
        guard let k = handlers.runs.firstIndex(where: { token.isOf(generation: $0.generation) }) else { return }
        let run = handlers.runs.remove(at: k)
        var status: Int32 = 0
        let reaped = waitpid(run.process, &status, 0)
        close(run.descriptor)
        var code = reaped == run.process ? clinux_exit_code(status) : -1
        if code < 0 { code = Self.brokenStatus }
        logLine(
            code == 0 ? .info : .warning, run.volume,
            "helper command: \(helper) \(run.call) exit code \(code) (0x\(String(code << 8, radix: 16)))")
        tellWatchers(handler: run.name, run.volume, exitCode: code)
        deliver(.handlerFinished(run.id, status: code))
    }

    /// Ends what runs for too long; the end is then reported as any other.
    mutating func checkHandlerDeadlines() {
        for k in handlers.runs.indices where handlers.runs[k].deadline <= now.nanoseconds {
            handlers.runs[k].deadline = .max
            logLine(
                .error, handlers.runs[k].volume,
                "helper command: \(helper) \(handlers.runs[k].call) did not terminate within "
                    + "\(handlers.runs[k].limitSeconds) seconds and is killed")
            kill(-handlers.runs[k].process, SIGKILL)
        }
    }

    private func environment(_ volume: VolumeNumber?) -> [String] {
        let volumes = settings.volumes.filter { volume == nil || $0.volume == volume }
        var result = [
            "HOME=/", "TERM=linux", "PATH=/sbin:/usr/sbin:/bin:/usr/bin",
            "DRBD_RESOURCE=\(settings.resource)", "DRBD_CONF=\(settings.configurationPath)",
            "DRBD_MINOR=\(volumes.map { String($0.minor) }.joined(separator: " "))",
            "DRBD_VOLUME=\(volumes.map { String($0.volume.value) }.joined(separator: " "))",
            "DRBD_LL_DISK=\(volumes.map(\.disk).joined(separator: " "))",
            "DRBD_PEER=\(settings.peers.first ?? "")", "DRBD_PEERS=\(settings.peers.joined(separator: " "))",
            "REPLICA_RUN_DIR=\(runDirectory)", "REPLICA_NODE=\(settings.node)",
        ]
        if let statusFileLibrary { result.append("LD_PRELOAD=\(statusFileLibrary)") }
        if persona != .v8411 { result.append("REPLICA_PERSONA=\(persona.version)") }
        if let remote = core.status(at: now).lazy.compactMap(\.connection).first?.remote {
            result.append("DRBD_PEER_AF=\(remote.family)")
            result.append("DRBD_PEER_ADDRESS=\(remote.host)")
        }
        return result
    }

    /// Nil if no shell can be started.
    private func spawnShell(_ command: String, _ environment: [String]) -> pid_t? {
        let variables = environment.map { strdup($0) } + [nil]
        defer { for text in variables { free(text) } }
        var process: Int32 = 0
        let result = clinux_spawn_shell(command, variables, &process)
        if result != 0 { logLine(.error, nil, "can not run '\(command)': \(SystemError.text(result))") }
        return result == 0 ? process : nil
    }
}
