import CLinux
import Glibc
import ReplicaProto

/// The beginning of a program in a process that another one left to it: what ran is brought back, and nobody is let in before.
extension ResourceLoop {
    /// For all of it. After that clients are let in and told what is missing.
    private static var patienceNanoseconds: UInt64 { 15_000_000_000 }
    private static var lookNanoseconds: UInt64 { 5_000_000 }

    mutating func continueRestoring() {
        if handOver.deadline == .max {
            logLine(.notice, nil, "taking over from replicad \(handOver.record.version)")
            handOver.begun = now.nanoseconds
            handOver.deadline = now.nanoseconds &+ Self.patienceNanoseconds
        }
        handOver.looksAt = now.nanoseconds &+ Self.lookNanoseconds
        while handOver.phase == .restoring, handOver.command == nil {
            guard handOver.nextCommand < handOver.record.commands.count else {
                handOver.phase = .promoting
                break
            }
            let id = control.newCommand()
            handOver.command = id
            submit(id, handOver.record.commands[handOver.nextCommand])
            settle()
        }
        let isLate = now.nanoseconds >= handOver.deadline
        if handOver.phase == .promoting {
            for position in handOver.promotions.indices { promoteAgain(position) }
            if handOver.promotions.allSatisfy(\.isDone), isLate || hasMetPeer { return endTakingOver() }
        }
        if isLate { endTakingOver() }
    }

    private var hasMetPeer: Bool {
        guard handOver.record.peer == .connected else { return true }
        return core.status(at: now).contains { $0.state.connection.isConnected } || hasWaitedForPeer
    }

    private var hasWaitedForPeer: Bool {
        handOver.record.peer != .connected
            || now.nanoseconds &- handOver.begun > core.meetingTime.nanoseconds
    }

    private mutating func promoteAgain(_ position: Int) {
        let promotion = handOver.promotions[position]
        guard !promotion.isDone, promotion.command == nil, promotion.nextTry <= now.nanoseconds,
            let state = core.state(of: promotion.volume),
            let rule = kernel.attachments.first(where: { $0.volume == promotion.volume })?.resumption
        else { return }
        let verdict = rule.verdict(
            state, current: core.identifiers(of: promotion.volume)?.current ?? 0, waitedForPeer: hasWaitedForPeer,
            wasAlone: handOver.record.peer == .standAlone)
        // `superseded` is dealt with at the end, as after a crash.
        guard verdict == .promote else { return }
        let id = control.newCommand()
        handOver.promotions[position].command = id
        submit(id, .primary(promotion.volume, force: false))
        settle()
    }

    /// - Returns: whether the command was one of ours.
    mutating func restoringAnswered(_ id: CommandID, _ answer: CommandAnswer) -> Bool {
        let isGood = answer.code >= 0 && answer.code < 100
        if let position = handOver.promotions.firstIndex(where: { $0.command == id }) {
            handOver.promotions[position].command = nil
            handOver.promotions[position].isDone = isGood
            handOver.promotions[position].nextTry = now.nanoseconds &+ 100_000_000
            return true
        }
        guard handOver.command == id else { return false }
        if !isGood {
            let line = handOver.record.commands[handOver.nextCommand].words(resource: settings.resource)
            let text = CommandErrorText.text(answer.code) ?? answer.text
            handOver.failures.append("\(line.first ?? "") did not work: (\(answer.code)) \(text)")
        }
        handOver.command = nil
        handOver.nextCommand += 1
        handOver.looksAt = 0
        return true
    }

    /// Clients are let in, whether all is as before or not.
    private mutating func endTakingOver() {
        let nanoseconds = now.nanoseconds &- handOver.record.stopped
        for promotion in handOver.promotions where !promotion.isDone {
            handOver.failures.append("volume \(promotion.volume.value) is not Primary again yet")
            // From here on as after a crash.
            if let k = kernel.index(of: promotion.volume), kernel.list[k].index >= 0 {
                kernel.list[k].resumption = KernelDevice.Resumption(nextTry: now.nanoseconds)
            }
        }
        if handOver.record.peer == .connected, !core.status(at: now).contains(where: { $0.state.connection.isConnected }) {
            handOver.failures.append("the peer is not back yet")
        }
        handOver.phase = .none
        handOver.deadline = .max
        setKernelDeadline()
        if handOver.promotions.allSatisfy(\.isDone) { unlink(handOver.file) }
        let milliseconds = (nanoseconds + 500_000) / 1_000_000
        let rest = String(milliseconds % 1000)
        let seconds = "\(milliseconds / 1000).\(String(repeating: "0", count: 3 - rest.utf8.count))\(rest)"
        logLine(
            handOver.failures.isEmpty ? .notice : .warning, nil,
            "taken over from replicad \(handOver.record.version) in \(seconds) s"
                + handOver.failures.map { "; \($0)" }.joined())
        handOver.result = CommandAnswer(
            code: handOver.failures.isEmpty ? 0 : ControlTable.invalidRequest,
            text: handOver.failures.isEmpty
                ? "\(seconds) \(handOver.record.version)" : handOver.failures.joined(separator: "; "))
        status.isWanted = true
        armClientAccept()
        armControlAccept()
    }

    // MARK: The kernel's devices

    /// The volume is Primary, and the kernel still talks to a socket that we have inherited.
    /// - Returns: false if there is none.
    mutating func adoptKernelDevice(_ k: Int, _ export: ExportState) -> Bool {
        let volume = kernel.list[k].volume
        guard let position = handOver.record.devices.firstIndex(where: { $0.volume == volume }) else { return false }
        let device = handOver.record.devices.remove(at: position)
        let unread = device.unread >= 0 ? Self.contents(of: device.unread) : []
        let offer = NBDExport(
            name: "", size: device.bytes, flags: kernelFlags(volume), minimumBlock: export.logicalBlockSize)
        guard device.index == kernel.list[k].index, let unread, unread.count <= ClientConnection.receiveBytes,
            let connection = serveKernel(device.descriptor, volume, offer, unread: unread)
        else {
            // The kernel asks again whoever comes next.
            close(device.descriptor)
            return false
        }
        kernel.list[k].phase = .attached
        kernel.list[k].connection = connection
        kernel.list[k].bytes = device.bytes
        kernel.list[k].attachedAt = now.nanoseconds
        kernel.list[k].attachesAt = .max
        kernel.list[k].resumption = nil
        kernel.list[k].isCounted = true
        later(.exportOpened(volume))
        return true
    }

    /// All of an inherited file, which is closed; nil if it can't be read.
    private static func contents(of descriptor: Int32) -> [UInt8]? {
        defer { close(descriptor) }
        let size = Int(lseek(descriptor, 0, SEEK_END))
        guard size >= 0, size <= 1 << 26 else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        let count = bytes.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, 0) }
        return count == size ? bytes : nil
    }
}
