import CLinux
import Glibc
import ReplicaProto

/// The end of a program whose process goes on with another one (`exec`): the kernel's devices keep their sockets, requests
/// wait there, and everything else is as after `down`. Before that has begun, it can be given up without anybody noticing.
extension ResourceLoop {
    /// How long what passes by itself may take, and then the requests in work.
    private static var patienceNanoseconds: UInt64 { 10_000_000_000 }
    /// After that the program ends as in a crash, which the other one recovers from.
    private static var downNanoseconds: UInt64 { 20_000_000_000 }
    private static var lookNanoseconds: UInt64 { 5_000_000 }

    /// What would be handed over now.
    func handOverNow() -> HandOver {
        HandOver(of: resourceStatus(), discardsData: core.discardsDataWhenConnected)
    }

    /// `hand-over [--force] PROGRAM`
    mutating func beginHandOver(_ index: Int, _ line: String) {
        func refuse(_ text: String) -> CommandAnswer { CommandAnswer(code: ControlTable.invalidRequest, text: text) }
        guard var words = try? CommandLineWords.split(line).dropFirst() else {
            return answerControl(index, refuse("can not read the command"))
        }
        handOver.isForced = words.first == "--force"
        if handOver.isForced { words.removeFirst() }
        guard words.count == 1, let program = words.first, program.hasPrefix("/") else {
            return answerControl(index, refuse("hand-over needs a program's absolute path"))
        }
        guard access(program, X_OK) == 0 else {
            return answerControl(index, refuse("\(program): \(SystemError.text(errno))"))
        }
        guard handOver.phase == .none, !isStopping else { return answerControl(index, refuse("the daemon is ending")) }
        handOver.program = program
        handOver.asker = (index, control.list[index].generation)
        handOver.phase = .waiting
        handOver.deadline = now.nanoseconds &+ Self.patienceNanoseconds
        handOver.looksAt = 0
    }

    mutating func continueHandOver() {
        switch handOver.phase {
        case .none, .ready: return
        case .restoring, .promoting: return continueRestoring()
        case .waiting, .pausing, .goingDown: break
        }
        let isLate = now.nanoseconds >= handOver.deadline
        handOver.looksAt = now.nanoseconds &+ Self.lookNanoseconds
        if isStopping, handOver.phase != .goingDown { return giveUpHandOver("the daemon is ending") }
        switch handOver.phase {
        case .waiting:
            switch handOverObstacle() {
            case nil: pause()
            case .passing(let reason): if isLate { giveUpHandOver(reason) }
            case .standing(let reason): giveUpHandOver(reason)
            case .loses(let reason): giveUpHandOver("\(reason); --force does it all the same")
            }
        case .pausing:
            if isQuiet {
                leave()
            } else if isLate {
                giveUpHandOver("requests in work do not end")
            }
        case .goingDown:
            if isLate {
                logLine(.error, nil, "the end before the hand-over takes too long: handing over as after a crash")
                handOver.phase = .ready
            }
        case .none, .ready, .restoring, .promoting: break
        }
    }

    private func handOverObstacle() -> HandOverObstacle? {
        if let obstacle = HandOverObstacle.first(in: core.status(at: now)) {
            guard case .loses = obstacle, handOver.isForced else { return obstacle }
        }
        for device in kernel.list {
            switch device.phase {
            case .idle, .attached:
                if device.resumption != nil { return .passing("the device waits for this node to be Primary") }
            case .looking, .attaching, .resizing, .releasing: return .passing("the kernel's device is changing")
            }
        }
        if !handlers.runs.isEmpty { return .passing("a handler is running") }
        for index in 0..<ControlTable.connections
        where control.list[index].phase == .open && control.list[index].command != 0 && !control.list[index].isWaiting {
            return .passing("a command is being carried out")
        }
        let count = socketClients
        if count > 0, !handOver.isForced {
            return .loses("\(count) client\(count == 1 ? "" : "s") of the NBD socket would be cut off")
        }
        return nil
    }

    private var socketClients: Int {
        (0..<ClientTable.connections).count {
            clients.connections[$0].phase != .free && !clients.connections[$0].isKernel
        }
    }

    /// From here on no request is begun.
    private mutating func pause() {
        handOver.phase = .pausing
        handOver.deadline = now.nanoseconds &+ Self.patienceNanoseconds
        handOver.record.stopped = now.nanoseconds
        for index in 0..<ClientTable.connections where clients.connections[index].phase != .free {
            if !clients.connections[index].isKernel {
                drainClient(index)
            } else {
                clients.connections[index].isPaused = true
                stopReceiving(index)
            }
        }
        continueHandOver()
    }

    private mutating func stopReceiving(_ index: Int) {
        guard clients.connections[index].isReceiving, clients.connections[index].isBetweenRequests else { return }
        ring.cancel(clientToken(.clientReceive, index))
    }

    /// All that was asked is answered.
    private var isQuiet: Bool {
        for index in 0..<ClientTable.connections where clients.connections[index].phase != .free {
            guard clients.connections[index].isKernel, clients.connections[index].phase == .serving,
                clients.connections[index].isQuiet
            else { return false }
        }
        return true
    }

    private mutating func giveUpHandOver(_ reason: String) {
        handOver.phase = .none
        handOver.deadline = .max
        for index in 0..<ClientTable.connections where clients.connections[index].isPaused {
            clients.connections[index].isPaused = false
            clients.connections[index].isWaiting = true
            clients.returns &+= 1
        }
        logLine(.notice, nil, "not handed over: \(reason)")
        let (index, generation) = handOver.asker
        if control.list[index].phase == .open, control.list[index].generation == generation {
            answerControl(index, CommandAnswer(code: ControlTable.invalidRequest, text: reason))
        }
    }

    /// The last moment to stay; then everything goes but the devices.
    private mutating func leave() {
        if let obstacle = handOverObstacle() {
            switch obstacle {
            case .passing(let reason), .standing(let reason), .loses(let reason): return giveUpHandOver(reason)
            }
        }
        let stopped = handOver.record.stopped
        handOver.record = handOverNow()
        handOver.record.stopped = stopped
        logLine(.notice, nil, "handing over to \(handOver.program)")
        handOver.phase = .goingDown
        handOver.deadline = now.nanoseconds &+ Self.downNanoseconds
        for k in kernel.list.indices where kernel.list[k].isCounted {
            kernel.list[k].isCounted = false
            deliver(.exportClosed(kernel.list[k].volume))
        }
        let id = control.newCommand()
        handOver.command = id
        deliver(.commandReceived(id, .down))
        settle()
    }

    /// - Returns: whether the command was part of a hand-over.
    mutating func handOverAnswered(_ id: CommandID, _ answer: CommandAnswer) -> Bool {
        switch handOver.phase {
        case .none, .waiting, .pausing, .ready: return false
        case .restoring, .promoting: return restoringAnswered(id, answer)
        case .goingDown: break
        }
        guard handOver.command == id else { return false }
        if answer.code < 0 || answer.code >= 100 {
            logLine(
                .error, nil,
                "the end before the hand-over: \(CommandErrorText.text(answer.code) ?? "") (\(answer.code)); as after a crash"
            )
        }
        handOver.phase = .ready
        return true
    }

    // MARK: After the loop

    /// What the other program takes over, with descriptors that this one gives up; nil if there is no hand-over.
    mutating func takeHandOver() -> HandOver? {
        guard handOver.phase == .ready else { return nil }
        var record = handOver.record
        for device in kernel.list where device.connection >= 0 && device.index >= 0 {
            let connection = clients.connections + device.connection
            // One that is not quiet is cut, as in a crash: the kernel asks again.
            guard connection.pointee.phase == .serving, connection.pointee.isQuiet else { continue }
            let bytes = connection.pointee.inputEnd - connection.pointee.inputStart
            let start = connection.pointee.input + connection.pointee.inputStart
            var unread: Int32 = -1
            if bytes > 0 {
                unread = clinux_memory_file("replica-unread", start, bytes)
                guard unread >= 0 else { continue }
            }
            record.devices.append(
                HandOver.Device(
                    volume: device.volume, index: device.index, descriptor: connection.pointee.descriptor,
                    bytes: device.bytes, unread: unread))
            connection.pointee.descriptor = -1
        }
        record.descriptors = [("control", control.listener), ("clients", clients.listener)]
        control.listener = -1
        clients.listener = -1
        return record
    }
}
