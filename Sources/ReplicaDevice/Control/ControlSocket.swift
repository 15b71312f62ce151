import CUring
import Glibc
import ReplicaProto

/// The connections of `replctl`: one line in, `CODE LENGTH\n` and LENGTH bytes of text out, any number of times.
///
/// | line          | answer                                                         |
/// |---------------|----------------------------------------------------------------|
/// | a command     | `ControlCommand` in its text form; answered when it is over    |
/// | `status-raw`  | `ResourceStatus` in its text form                              |
/// | `proc`        | the text of the status file, for this resource alone           |
/// | `counters`    | work done so far                                               |
/// | `latencies`   | how long requests took: `LatencyText`                          |
/// | `version`     | the version of this daemon                                     |
/// | `settings`    | reads RUN/RES.settings again: handlers, names, paths           |
/// | `recording`   | writes the last events and effects, answers with the file      |
/// | `hand-over-record` | what would be handed over now: the text form of `HandOver` |
/// | `hand-over [--force] PROGRAM` | that program takes over this process; answered only if it does not |
/// | `hand-over-result` | how the last one went: `SECONDS VERSION-BEFORE`, or why it did not |
/// | `watch`       | `status-raw` now and after each change of state, and a line as `events2` has it when a handler begins or ends |
/// | `trace`       | from now on `TraceRecord`s, until the client goes; `trace payload` with payloads |
///
/// A line that cannot be read is answered with code 162 (Invalid configuration request) and what is wrong with it.
struct ControlTable: ~Copyable {
    static let connections = 32
    /// How many of them may wait for something to happen, or watch: whoever is in charge must still get in.
    static let waiting = 24
    static let lineBytes = 65_536
    static let invalidRequest: Int32 = 162

    struct Connection: ~Copyable {
        enum Phase: UInt8 { case free, open, closing }
        var phase = Phase.free
        var descriptor: Int32 = -1
        var generation: UInt32 = 0
        var pending = 0
        let input = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 8)
        var line: [UInt8] = []
        /// The command whose answer is awaited; 0 without.
        var command: UInt64 = 0
        /// It is one that may take for ever.
        var isWaiting = false
        var output = SendQueue(byteCapacity: 4096, segmentCapacity: 64)
        var watch = Watch.off
        /// Sees the packets of the peer connection.
        var trace = Tracing.Mode.off
        var lostPackets: UInt32 = 0
        /// The client has said all it wants to say.
        var hasEnded = false

        deinit { input.deallocate() }
    }

    let list: UnsafeMutablePointer<Connection>
    var listener: Int32 = -1
    private var nextCommand: UInt64 = 1
    /// The `down` that a signal caused.
    var stopCommand: CommandID?
    /// `down` commands whose success ends the process.
    var downCommands: [CommandID] = []
    var watchers = 0
    /// The state has changed in the step that is being carried out.
    var hasNews = false

    init() {
        list = .allocate(capacity: Self.connections)
        for k in 0..<Self.connections { (list + k).initialize(to: Connection()) }
    }

    deinit {
        if listener >= 0 { close(listener) }
        for k in 0..<Self.connections {
            if list[k].descriptor >= 0 { close(list[k].descriptor) }
            (list + k).deinitialize(count: 1)
        }
        list.deallocate()
    }

    mutating func newCommand() -> CommandID {
        defer { nextCommand &+= 1 }
        return CommandID(nextCommand)
    }

    var hasOutput: Bool {
        for k in 0..<Self.connections where list[k].phase == .open && !list[k].output.isEmpty { return true }
        return false
    }
}

extension ResourceLoop {
    mutating func armControlAccept() {
        let token = SubmissionToken(.controlAccept, index: 0)
        let entry = ring.entry(token)
        io_uring_prep_accept(entry, control.listener, nil, nil, Int32(SOCK_CLOEXEC.rawValue))
        entry.pointee.user_data = token.rawValue
    }

    mutating func controlAccepted(_ result: Int32) {
        if result >= 0 {
            if let index = (0..<ControlTable.connections).first(where: { control.list[$0].phase == .free }) {
                let connection = control.list + index
                connection.pointee.phase = .open
                connection.pointee.descriptor = result
                connection.pointee.generation &+= 1
                connection.pointee.line.removeAll()
                connection.pointee.command = 0
                connection.pointee.hasEnded = false
                connection.pointee.watch = .off
                armControlReceive(index)
            } else {
                close(result)
            }
        }
        armControlAccept()
    }

    private func controlToken(_ kind: OperationKind, _ index: Int) -> SubmissionToken {
        SubmissionToken(kind, index: index, generation: control.list[index].generation)
    }

    private mutating func armControlReceive(_ index: Int) {
        let token = controlToken(.controlReceive, index)
        let entry = ring.entry(token)
        io_uring_prep_recv(entry, control.list[index].descriptor, control.list[index].input, 4096, 0)
        entry.pointee.user_data = token.rawValue
        control.list[index].pending += 1
    }

    mutating func controlReceived(_ token: SubmissionToken, _ result: Int32) {
        let index = token.index
        let connection = control.list + index
        guard token.isOf(generation: connection.pointee.generation) else { return }
        connection.pointee.pending -= 1
        if connection.pointee.phase == .open && result > 0 {
            connection.pointee.line.append(
                contentsOf: UnsafeRawBufferPointer(start: connection.pointee.input, count: Int(result)))
            takeLines(index)
            guard connection.pointee.phase == .open else {
                endControlIfDone(index)
                return
            }
            if connection.pointee.line.count > ControlTable.lineBytes {
                closeControl(index)
            } else {
                armControlReceive(index)
            }
        } else {
            connection.pointee.hasEnded = true
            stopWatching(index)
            stopTracing(index)
            if connection.pointee.command != 0, connection.pointee.isWaiting {
                // It might wait for ever for an answer that nobody reads.
                let id = CommandID(connection.pointee.command)
                connection.pointee.command = 0
                deliver(.waitAbandoned(id))
            }
        }
        endControlIfDone(index)
    }

    /// Works off complete lines, one command at a time.
    private mutating func takeLines(_ index: Int) {
        let connection = control.list + index
        while connection.pointee.phase == .open, connection.pointee.command == 0,
            let end = connection.pointee.line.firstIndex(of: 10)
        {
            let line = String(decoding: connection.pointee.line[..<end], as: UTF8.self)
            connection.pointee.line.removeSubrange(...end)
            takeLine(index, line)
        }
    }

    private mutating func takeLine(_ index: Int, _ line: String) {
        switch line {
        case "status-raw":
            answerControl(index, CommandAnswer(code: 0, text: resourceStatus().text))
        case "proc": answerControl(index, CommandAnswer(code: 0, text: ownStatusText()))
        case "counters": answerControl(index, CommandAnswer(code: 0, text: counters.text(enters: ring.enters)))
        case "latencies":
            answerControl(index, CommandAnswer(code: 0, text: LatencyText.text(core.latencies)))
        case "settings": answerControl(index, readSettingsAgain())
        case "watch": startWatching(index)
        case "trace", "trace payload":
            answerControl(index, .success)
            if control.list[index].trace == .off { startTracing(index, line == "trace" ? .heads : .all) }
        case "recording": answerControl(index, writeRecording())
        case "version": answerControl(index, CommandAnswer(code: 0, text: productVersion + "\n"))
        case "hand-over-record":
            answerControl(index, CommandAnswer(code: 0, text: handOverNow().text(resource: settings.resource)))
        case "hand-over-result": answerControl(index, handOver.result)
        case _ where line.hasPrefix("hand-over "): beginHandOver(index, line)
        default:
            do throws(ControlCommandError) {
                let command = try ControlCommand(parsing: line, resource: settings.resource)
                if let problem = algorithmProblem(command) { return answerControl(index, problem) }
                let isWait =
                    switch command {
                    case .waitConnect, .waitSync: true
                    default: false
                    }
                if isWait, let refusal = refusalToWait { return answerControl(index, refusal) }
                control.list[index].isWaiting = isWait
                let id = control.newCommand()
                control.list[index].command = id.value
                submit(id, command)
            } catch {
                answerControl(index, CommandAnswer(code: ControlTable.invalidRequest, text: error.message))
            }
        }
    }

    /// Hands a command in, with everything that goes with it outside the core.
    mutating func submit(_ id: CommandID, _ command: ControlCommand) {
        switch command {
        case .newMinor(let volume, let minor):
            minors.removeAll { $0.volume == volume }
            minors.append((volume, minor))
        case .down: control.downCommands.append(id)
        default: break
        }
        if command.dependsOnMinor { lookAtNeighbours() }
        if holdsForKernelDevices(id, command) { return }
        deliver(.commandReceived(id, command))
    }

    /// Nil while there is room for one more.
    var refusalToWait: CommandAnswer? {
        guard waitingCommands >= ControlTable.waiting else { return nil }
        return CommandAnswer(code: ControlTable.invalidRequest, text: "\(ControlTable.waiting) commands wait already")
    }

    private var waitingCommands: Int {
        control.watchers
            + (0..<ControlTable.connections).count {
                control.list[$0].phase == .open && control.list[$0].command != 0 && control.list[$0].isWaiting
            }
    }

    private func algorithmProblem(_ command: ControlCommand) -> CommandAnswer? {
        switch command {
        case .connect(let configuration): Authentication.problem(configuration.options)
        case .netOptions(let options): Authentication.problem(options)
        default: nil
        }
    }

    /// What the configuration says of handlers and names has changed.
    private mutating func readSettingsAgain() -> CommandAnswer {
        let path = "\(runDirectory)/\(settings.resource).settings"
        guard let text = Daemon.readWhole(path) else {
            return CommandAnswer(code: ControlTable.invalidRequest, text: "\(path): \(SystemError.text(errno))")
        }
        do throws(DaemonSettingsError) {
            var new = try DaemonSettings(parsing: text)
            guard new.resource == settings.resource else {
                return CommandAnswer(
                    code: ControlTable.invalidRequest, text: "\(path) is about resource '\(new.resource)'")
            }
            new.node = settings.node
            settings = new
            return .success
        } catch {
            return CommandAnswer(code: ControlTable.invalidRequest, text: "\(path): \(error.message)")
        }
    }

    // MARK: Answers

    mutating func answerCommand(_ id: CommandID, _ answer: CommandAnswer) {
        // It may have set a `disk-timeout`.
        store.nextTimeoutCheck = min(store.nextTimeoutCheck, now.nanoseconds)
        if kernel.isWanted, holdsAnswer(id, answer) { return }
        if handOverAnswered(id, answer) { return }
        let isDown = control.downCommands.contains(id)
        control.downCommands.removeAll { $0 == id }
        for index in 0..<ControlTable.connections
        where control.list[index].phase == .open && control.list[index].command == id.value {
            control.list[index].command = 0
            answerControl(index, answer)
            // Lines that wait are looked at when the answer has left.
        }
        if id == control.stopCommand {
            if answer.code >= 0 && answer.code < 100 {
                tellWatchersOfEnd()
                endsAt = now.nanoseconds &+ 1_000_000_000
            } else {
                let text = CommandErrorText.text(answer.code) ?? ""
                stopBadly("can not go down (\(answer.code) \(text)\(answer.text.isEmpty ? "" : ": ")\(answer.text))")
            }
        } else if isDown, answer.code >= 0, answer.code < 100 {
            tellWatchersOfEnd()
            endsAt = now.nanoseconds &+ 1_000_000_000
        }
    }

    mutating func answerControl(_ index: Int, _ answer: CommandAnswer) {
        let text = Array(answer.text.utf8)
        let head = Array("\(answer.code) \(text.count)\n".utf8)
        control.list[index].output.append(length: head.count + text.count) { target in
            target.copyBytes(from: head)
            UnsafeMutableRawBufferPointer(rebasing: target[head.count...]).copyBytes(from: text)
        }
    }

    mutating func flushControl() {
        for index in 0..<ControlTable.connections {
            let connection = control.list + index
            guard connection.pointee.phase == .open, !connection.pointee.output.isInFlight,
                !connection.pointee.output.isEmpty
            else { continue }
            _ = connection.pointee.output.prepare(pool)
            connection.pointee.output.isInFlight = true
            let token = controlToken(.controlSend, index)
            let entry = ring.entry(token)
            io_uring_prep_sendmsg(
                entry, connection.pointee.descriptor, connection.pointee.output.message, UInt32(MSG_NOSIGNAL))
            entry.pointee.user_data = token.rawValue
            connection.pointee.pending += 1
        }
    }

    mutating func controlSent(_ token: SubmissionToken, _ result: Int32) {
        let index = token.index
        let connection = control.list + index
        guard token.isOf(generation: connection.pointee.generation) else { return }
        connection.pointee.pending -= 1
        connection.pointee.output.sendEnded()
        if result < 0 && result != -EINTR && result != -EAGAIN {
            closeControl(index)
        } else {
            var rest = Int(max(result, 0))
            while case .piece = connection.pointee.output.advance(&rest).left {}
            tellWhatWasMissed(index)
            takeLines(index)
        }
        endControlIfDone(index)
    }

    // MARK: Ending

    private mutating func closeControl(_ index: Int) {
        guard control.list[index].phase == .open else { return }
        control.list[index].phase = .closing
        stopWatching(index)
        stopTracing(index)
        shutdown(control.list[index].descriptor, Int32(SHUT_RDWR))
    }

    private mutating func endControlIfDone(_ index: Int) {
        let connection = control.list + index
        // A client that has closed its sending side still gets its answers.
        if connection.pointee.phase == .open, connection.pointee.hasEnded, connection.pointee.command == 0,
            connection.pointee.output.isEmpty
        {
            closeControl(index)
        }
        guard connection.pointee.phase == .closing, connection.pointee.pending == 0 else { return }
        while case .piece = connection.pointee.output.discard() {}
        close(connection.pointee.descriptor)
        connection.pointee.descriptor = -1
        connection.pointee.phase = .free
        connection.pointee.generation &+= 1
    }
}
