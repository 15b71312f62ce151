import CLinux
import Glibc
import ReplicaProto

/// Waiting for several resources at once, with a way out for who sits at the console (`control.md` 5.2).
struct WaitDialog {
    let console: Console
    let isTerminal: Bool
    /// Seconds between redraws of the counter; 0 draws once.
    var refreshSeconds = 1
    /// Seconds before a word is said.
    var patienceSeconds = 10

    /// One daemon that has been asked to wait.
    struct Waiter {
        var client: ControlClient
        /// Answers that are still to come.
        var pending: Int
        var startup: (name: String, wfc: Int, degraded: Int)
    }

    /// - Returns: 0 when all are done, somebody typed `yes`, or a service manager wants us to stop (SIGTERM); 5 when a wait ran into its timeout.
    func run(_ waiters: [Waiter]) -> Int32 {
        var waiters = waiters
        var worst: Int32 = 0
        var seconds = 0
        var answer: [UInt8] = []
        let start = WaitDialog.milliseconds()
        func elapsed() -> Int { WaitDialog.milliseconds() - start }
        let first = waiters.first?.startup
        let termination = waiters.isEmpty ? -1 : clinux_termination_descriptor()
        defer { if termination >= 0 { close(termination) } }
        while !waiters.isEmpty {
            var polled = waiters.map { pollfd(fd: $0.client.descriptor, events: Int16(POLLIN), revents: 0) }
            // A negative descriptor is never ready.
            polled.append(pollfd(fd: termination, events: Int16(POLLIN), revents: 0))
            polled.append(pollfd(fd: isTerminal ? 0 : -1, events: Int16(POLLIN), revents: 0))
            let ready = poll(&polled, nfds_t(polled.count), Int32(clamping: max(0, 1000 * (seconds + 1) - elapsed())))
            if ready < 0 && errno != EINTR { return 20 }
            if elapsed() >= 1000 * (seconds + 1) {
                seconds += 1
                if let first { tell(seconds, first) }
            }
            if ready <= 0 { continue }
            for index in waiters.indices.reversed() where polled[index].revents != 0 {
                worst = max(worst, finish(&waiters[index]))
                if waiters[index].pending == 0 { waiters.remove(at: index) }
            }
            if polled[polled.count - 2].revents != 0 { return 0 }
            if polled[polled.count - 1].revents != 0, isAborted(&answer) { return 0 }
        }
        if seconds > 0 { console.writeOutput("\n") }
        return worst
    }

    /// Takes what has been answered: several answers may have come at once.
    private func finish(_ waiter: inout Waiter) -> Int32 {
        var worst: Int32 = 0
        repeat {
            waiter.pending -= 1
            do {
                worst = max(worst, CommandErrorText.exitCode(try waiter.client.receiveAnswer(timeoutSeconds: 5).code))
            } catch {
                waiter.pending = 0
                return 20
            }
        } while waiter.pending > 0 && waiter.client.hasAnswer
        return worst
    }

    private static func milliseconds() -> Int {
        var moment = timespec()
        clock_gettime(CLOCK_MONOTONIC, &moment)
        return moment.tv_sec * 1000 + moment.tv_nsec / 1_000_000
    }

    private func tell(_ seconds: Int, _ startup: (name: String, wfc: Int, degraded: Int)) {
        if seconds < patienceSeconds {
            console.writeOutput(".")
        } else if seconds == patienceSeconds {
            let line = String(repeating: "*", count: 63)
            console.writeOutput(
                """

                \(line)
                 DRBD's startup script waits for the peer node(s) to appear.
                 - If this node was already a degraded cluster before the
                   reboot, the timeout is \(startup.degraded) seconds. [degr-wfc-timeout]
                 - If the peer was available before the reboot, the timeout
                   is \(startup.wfc) seconds. [wfc-timeout]
                   (These values are for resource '\(startup.name)'; 0 sec -> wait forever)
                 To abort waiting enter 'yes' [ -- ]:
                """)
        } else if refreshSeconds > 0, seconds % refreshSeconds == 0 {
            let digits = String(seconds)
            let padded = String(repeating: " ", count: max(0, 4 - digits.utf8.count)) + digits
            console.writeOutput("\u{1B}[s\u{1B}[31G\(padded)\u{1B}[u")
        }
    }

    /// Reads what was typed; a line `yes` or the end of the input ends waiting.
    private func isAborted(_ line: inout [UInt8]) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = bytes.withUnsafeMutableBytes { read(0, $0.baseAddress, $0.count) }
        if count <= 0 { return true }
        for byte in bytes[0..<count] {
            if byte != 10 {
                line.append(byte)
                continue
            }
            if String(decoding: line, as: UTF8.self) == "yes" { return true }
            line.removeAll()
            console.writeOutput(" To abort waiting enter 'yes' [ -- ]:")
        }
        return false
    }
}

/// The bar that a terminal shows while `wait-sync` waits.
struct SyncProgressDisplay {
    let environment: ToolEnvironment

    /// Returns when the volume does not synchronise any more, or its daemon is gone.
    func follow(_ resource: String, _ volume: VolumeNumber) {
        var hasDrawn = false
        while true {
            var state = RunningState(environment: environment)
            guard let status = state.status(of: resource)?.volumes.first(where: { $0.volume == volume }),
                let progress = status.progress
            else { break }
            let permille = ProgressText.perMille(progress)
            let done = Int(permille / 25)
            let bar = String(repeating: "=", count: max(done - 1, 0)) + ">" + String(repeating: ".", count: 40 - done)
            let mebibytes = (progress.bitsLeft / 256, progress.totalBits / 256)
            environment.console.writeOutput(
                "\r\(resource)/\(volume.value) [\(bar)] \(permille / 10).\(permille % 10)% "
                    + "(\(mebibytes.0) of \(mebibytes.1) MiB left)\u{1B}[K")
            hasDrawn = true
            poll(nil, 0, 500)
        }
        if hasDrawn { environment.console.writeOutput("\r\u{1B}[K") }
    }
}
