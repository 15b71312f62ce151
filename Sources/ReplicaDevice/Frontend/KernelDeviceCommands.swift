import ReplicaProto

/// What commands have to do with kernel devices: those that end the role take the device away first, those that begin it or
/// change its size are answered when the device has followed.
extension ResourceLoop {
    // MARK: Commands

    /// Commands that end the role wait until the device is taken from the kernel; the core refuses them (-12) while it is not.
    /// - Returns: false if the command is to be handed in now.
    mutating func holdsForKernelDevices(_ id: CommandID, _ command: ControlCommand) -> Bool {
        guard kernel.isWanted else { return false }
        switch command {
        case .newMinor(let volume, let minor): addKernelDevice(volume, minor)
        case .primary(let volume, _): kernel.attachingCommands.append((id, volume))
        case .resize(let volume, _): kernel.attachingCommands.append((id, volume))
        case .deleteMinor(let volume): kernel.deletions.append((id, volume))
        default: break
        }
        guard kernel.list.contains(where: { isToBeReleased($0, for: command) }) else { return false }
        kernel.heldCommands.append((id, command))
        releaseKernelDevices(for: command)
        return true
    }

    func isToBeReleased(_ device: KernelDevice, for command: ControlCommand) -> Bool {
        switch command {
        case .secondary(let volume), .deleteMinor(let volume):
            guard volume == device.volume else { return false }
        case .down: break
        default: return false
        }
        guard device.index >= 0 || device.phase == .attaching else { return false }
        // With another client the core says no; the device stays.
        for index in 0..<ClientTable.connections
        where clients.connections[index].volume == device.volume && clients.connections[index].hasOpened {
            return false
        }
        return true
    }

    func isHeld(_ volume: VolumeNumber) -> Bool {
        kernel.heldCommands.contains { concerns($0.command, volume) }
    }

    private mutating func releaseKernelDevices(for command: ControlCommand) {
        for k in kernel.list.indices where isToBeReleased(kernel.list[k], for: command) { releaseKernelDevice(k) }
    }

    mutating func releaseKernelDevice(_ k: Int) {
        switch kernel.list[k].phase {
        case .idle, .attached:
            guard kernel.list[k].index >= 0 else { return }
            kernel.list[k].phase = .releasing
            kernel.list[k].attachesAt = .max
            let job = kernel.list[k].job
            let index = kernel.list[k].index
            startKernelJob(kernel.list[k].volume) { job.release(index) }
        case .looking, .attaching, .resizing, .releasing: break
        }
    }

    /// Hands in what waited, once no job is under way for it.
    mutating func continueHeldCommands() {
        while let position = kernel.heldCommands.firstIndex(where: { held in
            !kernel.list.contains { device in
                switch device.phase {
                case .releasing, .attaching, .resizing, .looking: concerns(held.command, device.volume)
                case .idle, .attached: false
                }
            }
        }) {
            let held = kernel.heldCommands.remove(at: position)
            // Left behind by another daemon, so the core doesn't know of it; nobody else can take it away.
            if held.command == .down, kernel.list.contains(where: { $0.index >= 0 && !$0.isCounted }) {
                answerCommand(held.id, CommandAnswer(code: -12))
            } else {
                kernel.demotions.append(held.id)
                deliver(.commandReceived(held.id, held.command))
            }
            settle()
        }
    }

    private func concerns(_ command: ControlCommand, _ volume: VolumeNumber) -> Bool {
        switch command {
        case .secondary(volume), .deleteMinor(volume), .down: true
        default: false
        }
    }

    /// - Returns: whether the answer is not for the one who asked, or not now.
    mutating func holdsAnswer(_ id: CommandID, _ answer: CommandAnswer) -> Bool {
        if resumptionAnswered(id, answer) { return true }
        if let position = kernel.deletions.firstIndex(where: { $0.id == id }) {
            let volume = kernel.deletions.remove(at: position).volume
            if answer.code >= 0, answer.code < 100 { removeKernelDevice(volume) }
        }
        if let position = kernel.attachingCommands.firstIndex(where: { $0.id == id }) {
            let volume = kernel.attachingCommands.remove(at: position).volume
            if answer.code >= 0, answer.code < 100, let k = kernel.index(of: volume) {
                switch kernel.list[k].phase {
                case .attaching, .resizing, .looking:
                    kernel.heldAnswers.append((id, answer, volume))
                    return true
                case .idle, .attached, .releasing: break
                }
            }
        }
        // A demotion that was refused leaves a Primary whose device has been taken away: it comes back.
        if let position = kernel.demotions.firstIndex(of: id) {
            kernel.demotions.remove(at: position)
            for k in kernel.list.indices where kernel.list[k].attachesAt == .max { kernel.list[k].attachesAt = 0 }
            setKernelDeadline()
        }
        return false
    }

    /// The device is there, or will not be: whoever asked for it hears so.
    mutating func answerHeld(_ volume: VolumeNumber) {
        guard let k = kernel.index(of: volume), kernel.list[k].phase != .attaching, kernel.list[k].phase != .resizing
        else { return }
        let answers = kernel.heldAnswers.filter { $0.volume == volume }
        kernel.heldAnswers.removeAll { $0.volume == volume }
        for held in answers { answerCommand(held.id, held.answer) }
    }

    // MARK: The end by signal

    /// Devices that nobody uses are taken from the kernel; the end goes on when they are gone.
    mutating func releaseKernelDevicesToStop() {
        for k in kernel.list.indices { releaseKernelDevice(k) }
    }

    /// What uses a device waits for the next daemon, as after a crash.
    mutating func stopWithDevicesInUse() {
        stopBadly("the device is in use, and what uses it waits for the next daemon")
    }
}
