/// Administrative commands: each starts a procedure and is answered when that has ended.
extension Resource {
    mutating func commandReceived(_ id: CommandID, _ command: ControlCommand) {
        // Who wants the connection to end need not wait for the handlers either.
        switch command {
        case .disconnect, .down: if link.partsAfterHandlers { partNow() }
        default: break
        }
        if mustWait(command) {
            deferred.append(DeferredCommand(id: id, command: command, until: now + .seconds(20)))
            if !timers.isSet(.retry) { timers.set(.retry, now + .milliseconds(200)) }
            return
        }
        execute(id, command)
    }

    /// One state change at a time; the others wait for their turn.
    private func mustWait(_ command: ControlCommand) -> Bool {
        switch command {
        case .disconnect(force: true):
            // The way out when a peer does not answer.
            false
        case .primary, .secondary, .disconnect, .detach, .invalidate, .invalidateRemote, .down, .outdate, .attach,
            .connect, .newCurrentUUID, .verify:
            clusterChange != nil || !demotions.isEmpty || promotionsRunning > 0 || fencing != nil
                || volumes.contains { $0.detachWaits != nil } || waitsForIOErrorHandler(command)
                || link.phase == .closing || (link.phase == .cleanup && link.afterCleanup == .standAlone)
        case .newMinor, .deleteMinor, .diskOptions, .netOptions, .resourceOptions, .pauseSync, .resumeSync, .suspendIO,
            .resumeIO, .resize, .waitConnect, .waitSync:
            false
        }
    }

    /// The peer has not heard yet that the disk is gone, and could not make sense of one that comes.
    private func waitsForIOErrorHandler(_ command: ControlCommand) -> Bool {
        guard case .attach(let number, _) = command, let v = index(of: number) else { return false }
        return volumes[v].ioErrorHandler != nil
    }

    mutating func retryCommands() {
        let waiting = deferred
        deferred = []
        for entry in waiting {
            if let notBefore = entry.notBefore, now < notBefore {
                deferred.append(entry)
            } else if mustWait(entry.command), now < entry.until {
                deferred.append(entry)
            } else if mustWait(entry.command) {
                answer(entry.id, code(.inTransientState))
            } else if entry.reliesOnPeer, !volumes.contains(where: { $0.state.connection.isConnected }) {
                // See `clusterChangeLost`.
                answer(entry.id, code(.noUpToDateDisk))
            } else {
                execute(entry.id, entry.command, until: entry.until)
            }
        }
        if !deferred.isEmpty { timers.set(.retry, now + .milliseconds(200)) }
    }

    /// A change was refused because the connection is just being set up: another try a little later.
    mutating func tryAgain(_ id: CommandID, _ command: ControlCommand, until: Instant?) -> Bool {
        let limit = until ?? now + .seconds(20)
        guard now < limit else { return false }
        deferred.append(DeferredCommand(id: id, command: command, until: limit))
        if !timers.isSet(.retry) { timers.set(.retry, now + .milliseconds(200)) }
        return true
    }

    /// Another Primary may be one that died a moment ago: it is pinged, and the promotion tried once more when it
    /// has had its time to answer.
    private mutating func waitsForDeadPrimary(_ id: CommandID, _ v: Int, _ command: ControlCommand) -> Bool {
        guard volumes[v].state.connection.isConnected, judge(v, { $0.role = .primary }) == .twoPrimaries
        else { return false }
        sendPing()
        let patience = TimeSpan.deciseconds(link.options.pingTimeout + 1)
        if !link.isPingOverdue {
            link.isPingOverdue = true
            link.pingSentAt = now
            timers.set(.ping, now + .deciseconds(link.options.pingTimeout))
        }
        deferred.append(
            DeferredCommand(
                id: id, command: command, until: now + .seconds(20), notBefore: now + patience,
                reliesOnPeer: volumes[v].state.disk != .upToDate))
        timers.set(.retry, now + patience)
        return true
    }

    mutating func answer(_ id: CommandID, _ result: CommandAnswer) {
        if id == .partOfDown { return partOfDownEnded(result) }
        emit(.answerCommand(id, result))
    }

    func code(_ result: StateChangeResult) -> CommandAnswer {
        CommandAnswer(code: result.isSuccess ? 0 : result.rawValue)
    }

    private mutating func execute(_ id: CommandID, _ command: ControlCommand, until: Instant? = nil) {
        switch command {
        case .newMinor(let number, let minor): newMinor(id, number, minor)
        case .deleteMinor(let number): deleteMinor(id, number)
        case .attach(let number, let configuration):
            withVolume(id, number) { core, v in core.attach(id, v, configuration) }
        case .detach(let number, let force):
            withVolume(id, number) { core, v in core.detach(id, v, force: force) }
        case .diskOptions(let number, let options):
            withVolume(id, number) { core, v in core.changeDiskOptions(id, v, options) }
        case .connect(let configuration): connect(id, configuration)
        case .disconnect(let force): disconnect(id, force: force)
        case .netOptions(let options): changeNetOptions(id, options)
        case .resourceOptions(let options):
            self.options = options
            answer(id, .success)
        case .primary(let number, let force):
            withVolume(id, number) { core, v in
                if core.volumes[v].isInHandshake,
                    core.tryAgain(id, command, until: until)
                {
                    return
                }
                if until == nil, core.waitsForDeadPrimary(id, v, command) { return }
                core.promote(id, v, force: force)
            }
        case .secondary(let number): withVolume(id, number) { core, v in core.demote(id, v) }
        case .invalidate(let number): withVolume(id, number) { core, v in core.invalidate(id, v) }
        case .invalidateRemote(let number): withVolume(id, number) { core, v in core.invalidateRemote(id, v) }
        case .outdate(let number): withVolume(id, number) { core, v in core.outdate(id, v) }
        case .newCurrentUUID(let number, let clear):
            withVolume(id, number) { core, v in
                // No state travels with the skipped sync: a late one from the handshake would undo it.
                if core.volumes[v].owesSecondState, core.volumes[v].state.connection == .connected,
                    core.tryAgain(id, command, until: until)
                {
                    return
                }
                core.newCurrentUUID(id, v, clearBitmap: clear)
            }
        case .pauseSync(let number): withVolume(id, number) { core, v in core.pause(id, v) }
        case .resumeSync(let number): withVolume(id, number) { core, v in core.resume(id, v) }
        case .suspendIO(let number):
            withVolume(id, number) { core, _ in
                // A resource stands still as a whole.
                for v in core.volumes.indices { core.setState(v) { $0.suspendedByUser = true } }
                core.answer(id, .success)
            }
        case .resumeIO(let number): withVolume(id, number) { core, _ in core.resumeIO(id) }
        case .verify(let number, let start, let stop):
            withVolume(id, number) { core, v in core.startVerify(id, v, start: start, stop: stop) }
        case .resize(let number, let request): withVolume(id, number) { core, v in core.resize(id, v, request) }
        case .waitConnect(let number, let times):
            withVolume(id, number) { core, v in core.wait(id, v, times, forSync: false) }
        case .waitSync(let number, let times):
            withVolume(id, number) { core, v in core.wait(id, v, times, forSync: true) }
        case .down:
            guard isGoingDown == nil else { return answer(id, .success) }
            isGoingDown = id
            continueDown()
        }
    }

    private mutating func withVolume(_ id: CommandID, _ number: VolumeNumber, _ body: (inout Resource, Int) -> Void) {
        guard let v = index(of: number) else { return answer(id, CommandAnswer(code: 127, text: "unknown volume \(number.value)")) }
        body(&self, v)
    }

    // MARK: Volumes

    private mutating func newMinor(_ id: CommandID, _ number: VolumeNumber, _ minor: UInt32) {
        if let v = index(of: number) {
            return answer(id, volumes[v].minor == minor ? .success : CommandAnswer(code: 161, text: "volume \(number.value) exists with minor \(volumes[v].minor)"))
        }
        let position = volumes.firstIndex { $0.number > number } ?? volumes.count
        guard position == volumes.count || (link.phase == .standAlone && requests.isUnused) else {
            return answer(id, CommandAnswer(code: 162, text: "volumes are added in ascending order, or while down"))
        }
        renumber(from: position, by: 1)
        volumes.insert(Volume(number: number, minor: minor), at: position)
        if let other = volumes.indices.first(where: { $0 != position }), link.phase != .standAlone {
            let shared = volumes[other].state.connection
            volumes[position].state.connection = shared.isConnected ? .wfReportParams : shared
            if link.phase == .established || link.phase == .parameters {
                sendVolumeParameters(position)
                volumes[position].isLonely = link.phase == .established
            }
        }
        emit(.publishStatus)
        answer(id, .success)
    }

    private mutating func deleteMinor(_ id: CommandID, _ number: VolumeNumber) {
        guard let v = index(of: number) else { return answer(id, CommandAnswer(code: 127)) }
        guard volumes[v].state.disk == .diskless, volumes[v].state.role == .secondary, link.phase == .standAlone,
            volumes[v].openCount == 0, requests.isUnused, fencing == nil
        else { return answer(id, CommandAnswer(code: 160)) }
        for waiter in waiters where waiter.volume == v { answer(waiter.command, CommandAnswer(code: 127)) }
        waiters.removeAll { $0.volume == v }
        handlers.runs.removeAll { $0.volume == v }
        handlers.waiting.removeAll { $0.volume == v }
        volumes.remove(at: v)
        renumber(from: v, by: -1)
        emit(.setExport(number, ExportState(sectors: 0, isPrimary: false, logicalBlockSize: 512)))
        emit(.publishStatus)
        answer(id, .success)
    }

    /// What outlives requests and connections follows the volumes when one comes or goes before them.
    private mutating func renumber(from position: Int, by step: Int) {
        for index in waiters.indices where waiters[index].volume >= position { waiters[index].volume += step }
        for index in handlers.runs.indices {
            if let v = handlers.runs[index].volume, v >= position { handlers.runs[index].volume = v + step }
        }
        for index in handlers.waiting.indices {
            if let v = handlers.waiting[index].volume, v >= position { handlers.waiting[index].volume = v + step }
        }
        if let v = fencing?.promotion?.volume, v >= position { fencing?.promotion?.volume = v + step }
    }

    // MARK: Options

    private mutating func changeDiskOptions(_ id: CommandID, _ v: Int, _ options: DiskOptions) {
        if let problem = dependencyProblem(v, after: options.resyncAfter) { return answer(id, CommandAnswer(code: problem)) }
        var options = options
        // The size and the log's geometry are decided at attach.
        options.size = volumes[v].diskOptions.size
        volumes[v].diskOptions = options
        volumes[v].disk?.options = options
        dependenciesMayHaveChanged = true
        chooseWriteOrdering()
        adoptResyncOptions(v)
        if volumes[v].hasDisk, volumes[v].activityLogDisabled != !options.alUpdates, !options.alUpdates {
            volumes[v].activityLogDisabled = true
            enqueue(v, .superblock)
        }
        if link.phase == .established { sendSyncParameters(v) }
        answer(id, .success)
    }

    private mutating func changeNetOptions(_ id: CommandID, _ options: NetOptions) {
        guard link.configuration != nil else { return answer(id, CommandAnswer(code: 162, text: "no network configuration")) }
        let connected = link.phase == .established
        let old = link.options
        let changesAgreement =
            old.replicationProtocol != options.replicationProtocol || old.allowTwoPrimaries != options.allowTwoPrimaries
            || old.dataIntegrityAlgorithm != options.dataIntegrityAlgorithm
        if connected, changesAgreement, link.version < 100 { return answer(id, CommandAnswer(code: 163)) }
        if old.allowTwoPrimaries, !options.allowTwoPrimaries,
            volumes.contains(where: { $0.state.role == .primary }), volumes.contains(where: { $0.state.peerRole == .primary })
        {
            return answer(id, CommandAnswer(code: 164))
        }
        if let problem = Self.problem(options) { return answer(id, problem) }
        if old.verifyAlgorithm != options.verifyAlgorithm, volumes.contains(where: { $0.verify != nil }) {
            return answer(id, CommandAnswer(code: 149))
        }
        if old.checksumAlgorithm != options.checksumAlgorithm, volumes.contains(where: { $0.resync != nil }) {
            return answer(id, CommandAnswer(code: 148))
        }
        link.options = options
        link.configuration?.options = options
        if connected, link.version >= 100 { sendProtocol(update: true) }
        if connected {
            link.integrity = DigestAlgorithm(options.dataIntegrityAlgorithm)
            tellWireFormat()
        }
        if connected { for v in volumes.indices { sendSyncParameters(v) } }
        for v in volumes.indices { adoptResyncOptions(v) }
        answer(id, .success)
    }

    /// Settings that contradict each other (`control.md` 1.11, "A").
    private static func problem(_ options: NetOptions) -> CommandAnswer? {
        if options.allowTwoPrimaries, options.replicationProtocol != .c { return CommandAnswer(code: 139) }
        if options.onCongestion != .block, options.replicationProtocol != .a { return CommandAnswer(code: 155) }
        let digests: [(Int32, String, String)] = [
            (141, "data-integrity-alg", options.dataIntegrityAlgorithm), (144, "csums-alg", options.checksumAlgorithm),
            (146, "verify-alg", options.verifyAlgorithm),
        ]
        for (code, option, name) in digests where !name.isEmpty && DigestAlgorithm(name) == nil {
            return CommandAnswer(code: code, text: "\(option) '\(name)'")
        }
        return nil
    }

    // MARK: Connect and disconnect

    private mutating func connect(_ id: CommandID, _ configuration: ConnectionConfiguration) {
        guard link.phase == .standAlone else { return answer(id, CommandAnswer(code: 125)) }
        if let problem = Self.problem(configuration.options) { return answer(id, problem) }
        if configuration.discardMyData, volumes.contains(where: { $0.state.role == .primary }) {
            return answer(id, CommandAnswer(code: 123))
        }
        if volumes.contains(where: { $0.diskOptions.fencing == .resourceAndStonith && $0.hasDisk }),
            configuration.options.replicationProtocol == .a
        {
            return answer(id, CommandAnswer(code: 154))
        }
        link.configuration = configuration
        link.options = configuration.options
        link.discardMyData = configuration.discardMyData
        link.afterCleanup = .unconnected
        link.lastDisconnect = nil
        link.lostAt = now
        for v in volumes.indices { setState(v) { $0.connection = .unconnected } }
        for v in volumes.indices { setState(v) { $0.connection = .wfConnection } }
        startConnecting()
        answer(id, .success)
    }

    private mutating func disconnect(_ id: CommandID, force: Bool) {
        guard link.phase != .standAlone else { return answer(id, .success) }
        guard link.phase == .established, !force, volumes.contains(where: { $0.state.connection.isConnected }) else {
            disconnectCommands.append(id)
            return connectionFailed(.disconnecting)
        }
        for v in volumes.indices {
            let verdict = judge(v) { $0.connection = .disconnecting }
            if verdict == .peerNotOutdated {
                return askPeer(
                    ClusterChange(.disconnect(.outdatingPeer), id, nil, mask: 0x1e1f0, value: 0xa010))
            }
            if !verdict.isSuccess { return answer(id, code(verdict)) }
        }
        askPeer(ClusterChange(.disconnect(.plain), id, nil, mask: 0x1f0, value: 0x10))
    }

    /// The connection is StandAlone now.
    mutating func disconnected() {
        let commands = disconnectCommands
        disconnectCommands = []
        for id in commands { answer(id, .success) }
        if !deferred.isEmpty { timers.set(.retry, now) }
        continueDown()
    }

    // MARK: Identifiers

    private mutating func newCurrentUUID(_ id: CommandID, _ v: Int, clearBitmap: Bool) {
        let state = volumes[v].state
        guard state.disk.isUsable else { return answer(id, CommandAnswer(code: 138)) }
        let skips =
            clearBitmap && state.connection == .connected && link.version >= 90
            && volumes[v].identifiers.current == GenerationIdentifiers.justCreated
        guard skips || state.connection == .standAlone else { return answer(id, CommandAnswer(code: 151)) }
        volumes[v].identifiers = volumes[v].identifiers.withRetiredBitmap
        newCurrentIdentifier(v)
        if clearBitmap {
            volumes[v].bitmap.clearAll()
            volumes[v].bitmap.markAllPagesDirty()
        }
        if skips {
            sendUUIDs(v, extra: .skipInitialSync)
            volumes[v].identifiers.bitmap = 0
            volumes[v].peerIdentifiers = volumes[v].identifiers
            setState(v) {
                $0.disk = .upToDate
                $0.peerDisk = .upToDate
            }
        }
        enqueue(v, .changedPages, .superblock, .then(.answer(id)))
    }

    private mutating func outdate(_ id: CommandID, _ v: Int) {
        if volumes[v].state.disk == .outdated { return answer(id, .success) }
        let result = requestState(v) { $0.disk = .outdated }
        guard result.isSuccess else { return answer(id, code(result)) }
        enqueue(v, .superblock, .then(.answer(id)))
    }

    // MARK: Resync on demand

    private mutating func invalidate(_ id: CommandID, _ v: Int) {
        let state = volumes[v].state
        if state.connection.isConnected {
            let verdict = judge(v) { $0.connection = .startingSyncT }
            guard verdict.isSuccess else { return answer(id, code(verdict)) }
            return askPeer(ClusterChange(.invalidate, id, v, mask: 0x1f0, value: 0xc0))
        }
        guard state.connection == .standAlone || state.connection == .wfConnection, state.role == .secondary,
            state.disk.isUsable
        else { return answer(id, code(state.role == .primary ? .noUpToDateDisk : .needConnection)) }
        setState(v) { $0.disk = .inconsistent }
        enqueue(v, .superblock)
        setWholeBitmap(v, .alone(id))
    }

    private mutating func invalidateRemote(_ id: CommandID, _ v: Int) {
        let state = volumes[v].state
        if state.connection.isConnected {
            let verdict = judge(v) { $0.connection = .startingSyncS }
            guard verdict.isSuccess else { return answer(id, code(verdict)) }
            return askPeer(ClusterChange(.invalidateRemote, id, v, mask: 0x1f0, value: 0xb0))
        }
        guard state.connection == .standAlone, state.role == .primary, state.disk.isUsable else {
            return answer(id, code(.needConnection))
        }
        setState(v) { $0.peerDisk = .inconsistent }
        setWholeBitmap(v, .alone(id))
    }

    private mutating func pause(_ id: CommandID, _ v: Int) {
        guard !volumes[v].state.pausedByUser else { return answer(id, CommandAnswer(code: 134)) }
        setState(v) { $0.pausedByUser = true }
        answer(id, .success)
    }

    private mutating func resume(_ id: CommandID, _ v: Int) {
        let state = volumes[v].state
        guard state.pausedByUser else {
            let busy = state.connection == .pausedSyncS || state.connection == .pausedSyncT
            let code: Int32 = busy && state.pausedByDependency ? 156 : busy && state.pausedByPeer ? 157 : 135
            return answer(id, CommandAnswer(code: code))
        }
        setState(v) { $0.pausedByUser = false }
        answer(id, .success)
    }

    private mutating func resumeIO(_ id: CommandID) {
        for v in volumes.indices {
            setState(v) {
                $0.suspendedByUser = false
                $0.suspendedNoData = false
                $0.suspendedFencing = false
            }
        }
        for v in volumes.indices { thaw(v) }
        answer(id, .success)
    }

    /// I/O is no longer frozen. Writes whose peer vanished meanwhile count as missing there.
    mutating func thaw(_ v: Int) {
        guard !volumes[v].isSuspended else { return }
        rotateIfDeferred(v)
        var r = volumes[v].active.head
        while r >= 0 {
            let next = requests[r].next
            if requests[r].retried, requests[r].stage == .running {
                requests[r].retried = false
                beginAgainWithoutCopy(r)
            }
            r = next
        }
        completeHeldWrites(v)
        retryLater(v)
    }

    /// A frozen write that no disk took starts anew: there may be a disk by now, and if not it fails then.
    private mutating func beginAgainWithoutCopy(_ r: Int32) {
        guard requests[r].isWrite, requests[r].local == .failed || requests[r].local == .diskless,
            requests[r].remote == .absent, !requests[r].inTransferLog
        else { return }
        requests[r].stage = requests[r].holdsExtents ? .waitingOverlap : .waitingLogSpace
        requests[r].local = .pending
        let v = requests[r].volume
        volumes[v].waitingCount += 1
        retryLater(v)
    }

    /// The connection came back before the freeze was resolved: what was not acknowledged is sent again
    /// (`wire.md` 7.13).
    mutating func resendFrozenWrites(_ v: Int) {
        let hasData = volumes[v].state.disk == .upToDate || volumes[v].state.peerDisk == .upToDate
        setState(v) {
            $0.suspendedFencing = false
            if hasData { $0.suspendedNoData = false }
        }
        var r = volumes[v].active.head
        while r >= 0 {
            let next = requests[r].next
            if requests[r].isWrite, requests[r].stage == .running, requests[r].remote == .absent, requests[r].retried {
                requests[r].retried = false
                if replication(v) == .replicate { sendWrite(r) } else { beginAgainWithoutCopy(r) }
                completeIfDone(r)
            }
            r = next
        }
        if !volumes[v].isSuspended { retryLater(v) }
    }
}

/// A command that waits for its turn.
struct DeferredCommand {
    var id: CommandID
    var command: ControlCommand
    var until: Instant
    /// Pointless before this moment.
    var notBefore: Instant?
    /// A promotion of a node that had no good disk of its own, but a peer with one.
    var reliesOnPeer = false
}

extension CommandID {
    /// Steps of `down`; never used by the outside.
    static let partOfDown = CommandID(.max)
}
