import ReplicaProto

/// Going on with a device that the kernel has kept for whoever comes after a daemon that died.
extension ResourceLoop {
    /// A daemon that died as Primary left requests waiting: its successor is Primary as soon as it has a disk and has met the
    /// peer, or after a while without (`DeviceResumption`, `Resource.meetingTime`).
    mutating func resumeIfReady(_ volume: VolumeNumber) {
        guard let k = kernel.index(of: volume), kernel.list[k].phase == .idle,
            var resumption = kernel.list[k].resumption, !resumption.isAsking, resumption.nextTry <= now.nanoseconds
        else { return }
        guard !isStopping, let state = core.state(of: volume), state.role == .secondary else {
            kernel.list[k].resumption = nil
            return
        }
        resumption.nextTry = now.nanoseconds &+ 20_000_000
        defer {
            if let k = kernel.index(of: volume), kernel.list[k].resumption != nil { kernel.list[k].resumption = resumption }
        }
        guard let attachment = kernel.attachments.first(where: { $0.volume == volume }) else { return }
        guard let rule = attachment.resumption else {
            kernel.list[k].resumption = nil
            let name = kernel.list[k].job.nodes.node
            return logLine(
                .error, volume,
                "\(name) is in use, but the disk does not tell by which data: not Primary again without being told")
        }
        let ready = resumption.ready ?? now.nanoseconds
        resumption.ready = ready
        let current = core.identifiers(of: volume)?.current ?? 0
        let isLate = now.nanoseconds - ready > core.meetingTime.nanoseconds
        switch rule.verdict(state, current: current, waitedForPeer: isLate, wasAlone: handOver.record.peer == .standAlone) {
        case .wait: break
        case .promote:
            resumption.isAsking = true
            let id = control.newCommand()
            kernel.resumptions.append((id, volume))
            later(.commandReceived(id, .primary(volume, force: false)))
        case .superseded:
            kernel.list[k].resumption = nil
            logLine(
                .error, volume,
                "\(kernel.list[k].job.nodes.node) ends: its data is not what this node holds now, the peer has been Primary")
            kernel.list[k].phase = .releasing
            let job = kernel.list[k].job
            let index = kernel.list[k].index
            startKernelJob(volume) { job.abandon(index) }
        }
    }

    /// Before anything else happens to a disk that has just been attached: what its metadata tell of the daemon before us.
    mutating func noteAttachment(_ volume: VolumeNumber, _ image: DiskImage) {
        let told = handOver.record.primaries.first { $0.volume == volume }
        guard kernel.isWanted || told != nil else { return }
        kernel.attachments.removeAll { $0.volume == volume }
        let superblock = try? Superblock(decoding: image.superblock)
        let rule = superblock.flatMap { superblock in
            DeviceResumption(superblock) ?? told.flatMap { DeviceResumption(superblock, handedOver: $0.generation) }
        }
        kernel.attachments.append((volume, rule))
    }

    /// - Returns: whether the command was one of ours.
    mutating func resumptionAnswered(_ id: CommandID, _ answer: CommandAnswer) -> Bool {
        guard let position = kernel.resumptions.firstIndex(where: { $0.id == id }) else { return false }
        let volume = kernel.resumptions.remove(at: position).volume
        guard let k = kernel.index(of: volume), var resumption = kernel.list[k].resumption else { return true }
        let isPrimary = answer.code >= 0 && answer.code < 100
        logLine(
            isPrimary ? .notice : .warning, volume,
            isPrimary
                ? "Primary again, for the device that is in use"
                : "not Primary again yet (\(answer.code)); the device's requests wait, 600 s at most")
        resumption.isAsking = false
        resumption.delay = min(resumption.delay * 2, 30_000_000_000)
        resumption.nextTry = now.nanoseconds &+ resumption.delay
        kernel.list[k].resumption = isPrimary ? nil : resumption
        setKernelDeadline()
        return true
    }
}
