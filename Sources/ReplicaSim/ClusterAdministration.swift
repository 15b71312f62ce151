import ReplicaProto

/// The people and the cluster manager: they start, promote, connect, pull plugs, and in the end put everything right.
extension Cluster {
    // MARK: Processes

    func start(_ node: SimNode) {
        trace { "\(node.name): process starts" }
        node.forgetProcess()
        node.isRunning = true
        node.hasPower = true
        node.core = SimNode.newCore(&random)
        node.core.mutation = mutation
        node.core.versions = 86...(node.needsUpgrade ? 101 : scenario.versions[node.index])
        node.commands = [.newMinor(Self.volume, minor: 0), attachCommand, connectCommand()]
        if !scenario.startsInSync, !hasBeenEqual, !promotedByForce, node.index == 0 {
            promotedByForce = true
            node.commands.append(.primary(Self.volume, force: true))
        }
        queue.add(
            .nextCommand(node: node.index, life: node.life), at: now + random.delay(.milliseconds(0), .milliseconds(20)))
    }

    /// SIGKILL: the kernel closes the sockets, the disk cache lives.
    func kill(_ node: SimNode) {
        guard node.isRunning else { return }
        trace { "\(node.name): killed" }
        foundBlocks.removeAll()
        primaryIsLost(node)
        abandonOperations(node)
        dropSockets(node, silently: false)
        abandonRequests(node)
        node.forgetProcess()
        loadStableLog(node)
        checkCoverage("kill of \(node.name)")
        scheduleRestart(node)
    }

    func cutPower(_ node: SimNode) {
        guard node.hasPower else { return }
        trace { "\(node.name): power cut" }
        foundBlocks.removeAll()
        // Also one that was killed before: whoever attaches its disk takes it for a crashed Primary's.
        let wasPrimary = node.inForce.superblock?.flags.contains(.primaryIndicator) ?? false
        primaryIsLost(node)
        abandonOperations(node)
        dropSockets(node, silently: true)
        abandonRequests(node)
        node.forgetProcess()
        node.hasPower = false
        node.lostPower = true
        node.lostPowerAt = now
        node.data.cutPower(random: &random)
        node.metadata.cutPower(random: &random)
        node.metadataBefore?.cutPower(random: &random)
        unseenResyncEnd()
        let other = peer(of: node)
        if !isForked, isCurrent[other.index], other.isRunning, !(isPromisedLoosely && wasPrimary) {
            isCurrent[node.index] = false
        }
        if wasPrimary || isCurrent[node.index] || isForked { cacheIsLost(node) }
        loadStableLog(node)
        checkCoverage("power cut of \(node.name)")
        scheduleRestart(node)
    }

    /// What was never flushed may be gone from the only copy that counts.
    func cacheIsLost(_ node: SimNode) {
        let which = history(node)
        for sector in histories[which].touched {
            histories[which].revive(Int(sector), node.data.current[Int(sector)], at: now)
        }
    }

    /// Both nodes are down, and the source of a resync has not seen that it was over: rules 34 and 36 of `wire.md` 5.3
    /// make it source again before anybody asks who was Primary since. What clients were promised from the end of the
    /// resync on and no flush made durable is gone if the target was the Primary. While the source lives it does not come
    /// to that (`endUnseenResync`).
    private func unseenResyncEnd() {
        guard !isForked, nodes.allSatisfy({ !$0.isRunning }) else { return }
        guard let left = nodes[0].inForce.superblock?.identifiers, let right = nodes[1].inForce.superblock?.identifiers,
            left.current & ~1 == right.current & ~1, (left.bitmap == 0) != (right.bitmap == 0)
        else { return }
        let source = nodes[left.bitmap != 0 ? 0 : 1]
        guard let end = peer(of: source).resyncEndedAt else { return }
        trace { "\(source.name) has not seen the end of a resync and will be source again" }
        for sector in histories[0].touched {
            histories[0].revive(
                Int(sector), source.data.current[Int(sector)], lostFrom: max(end, lastFlush), to: now, at: now)
        }
    }

    /// Under A and B answers run ahead of the peer: only the primary itself has all that it promised.
    var isPromisedLoosely: Bool { scenario.net.replicationProtocol != .c }

    private func primaryIsLost(_ node: SimNode) {
        guard isPromisedLoosely, !isForked, let state = state(node), state.role == .primary else { return }
        if state.disk == .upToDate {
            isCurrent[1 - node.index] = false
        } else {
            onlyTransitIsLost(node)
        }
    }

    private func scheduleRestart(_ node: SimNode) {
        queue.add(
            .startProcess(node: node.index),
            at: now + random.delay(.milliseconds(100), isHealing ? .seconds(1) : random.pick([.seconds(2), .seconds(30)])))
    }

    // MARK: Commands

    private var attachCommand: ControlCommand {
        .attach(
            Self.volume,
            DiskConfiguration(dataPath: "data", metadataPath: "metadata", index: .flexible, options: scenario.disk))
    }

    private func connectCommand(discardMyData: Bool = false) -> ControlCommand {
        let address = SocketAddress(family: "ipv4", host: "simulated", port: 7788)
        return .connect(
            ConnectionConfiguration(local: address, remote: address, options: scenario.net, discardMyData: discardMyData))
    }

    func command(_ node: SimNode, _ commands: ControlCommand...) {
        guard node.isRunning else { return }
        node.commands += commands
        if node.pendingCommand == nil {
            queue.add(.nextCommand(node: node.index, life: node.life), at: now + .milliseconds(1))
        }
    }

    func sendNextCommand(_ node: SimNode) {
        guard node.pendingCommand == nil, !node.commands.isEmpty else { return }
        let command = node.commands.removeFirst()
        let id = CommandID(node.nextCommand)
        node.nextCommand += 1
        node.pendingCommand = id
        node.openCommand = command
        if case .verify = command { node.verify.getsOtherEnd = state(node)?.connection == .verifyS }
        if case .connect(let configuration) = command { node.discardsData = configuration.discardMyData }
        trace { "\(node.name): command \(Self.name(command))" }
        step(node, .commandReceived(id, command))
    }

    func commandAnswered(_ node: SimNode, _ id: CommandID, _ answer: CommandAnswer) {
        trace { "\(node.name) -> answer \(answer.code) \(answer.text)" }
        guard node.pendingCommand == id else { return fail("\(node.name) answers command \(id.value), which is not open") }
        if case .verify(_, let start, let stop)? = node.openCommand, answer.code == 0 {
            verifyAccepted(node, start: start, stop: stop)
        }
        node.pendingCommand = nil
        node.openCommand = nil
        node.lastAnswer = answer
        if node.commands.isEmpty { node.isSetUp = true }
        queue.add(
            .nextCommand(node: node.index, life: node.life), at: now + random.delay(.milliseconds(0), .milliseconds(10)))
    }

    private static func name(_ command: ControlCommand) -> String {
        switch command {
        case .attach: "attach"
        case .connect(let configuration): configuration.discardMyData ? "connect --discard-my-data" : "connect"
        default: "\(command)"
        }
    }

    /// Where errors are passed on, only one disk has any: two bad copies are nobody's to repair.
    private var badDisk: Int? { scenario.disk.onIOError == .passOn ? Int(scenario.seed % 2) : nil }

    // MARK: The plan

    func schedulePlan() {
        var moment = now + random.delay(.milliseconds(1200), .milliseconds(3000))
        if scenario.kind == .splitBrain { return }
        for index in scenario.steps.indices {
            queue.add(.plan(index), at: moment)
            moment =
                moment + random.pick([.milliseconds(3), .milliseconds(60), .milliseconds(900), .seconds(4), .seconds(15)])
        }
        healAt = moment + random.pick([.milliseconds(1), .seconds(1), .seconds(10)])
    }

    func perform(_ step: Scenario.Step) {
        guard !isHealing else { return }
        trace { "plan: \(step)" }
        switch step {
        // Two primaries that die together leave it to a coin whose data count (`wire.md` 5.3, rule 40).
        case .kill, .cutPower: if scenario.kind == .twoPrimaries, !isQuietAndEqual { return }
        default: break
        }
        switch step {
        case .kill(let node): kill(nodes[node])
        case .cutPower(let node): cutPower(nodes[node])
        case .cutBoth:
            cutPower(nodes[0])
            cutPower(nodes[1])
        case .breakStream: breakStream()
        case .part(let span):
            part()
            uniteAt = now + span
        case .stall(let span): stall(span)
        case .disconnect(let node): command(nodes[node], .disconnect(force: random.chance(20)))
        case .detach(let node, let force): command(nodes[node], .detach(Self.volume, force: force))
        case .failWrites(let node, let count): nodes[badDisk ?? node].failingWrites += count
        case .failReads(let node, let count): nodes[badDisk ?? node].failingReads += count
        case .hang(let node, let span): hang(nodes[node], span)
        case .failMetadata(let node): nodes[node].failingMetadata += 1
        case .failFlush(let node):
            // Who passes errors on keeps the only copy in use, whatever its cache has lost: nothing to be checked.
            if badDisk == nil { nodes[node].failingFlushes += 1 }
        // It comes back by itself.
        case .switchOver where scenario.kind == .twoPrimaries: demote(nodes[random.below(2)])
        case .switchOver: wantsPrimary = 1 - (wantsPrimary ?? random.below(2))
        case .demote: wantsPrimary = nil
        case .promote: wantsPrimary = random.below(2)
        case .pauseSync(let node): command(nodes[node], .pauseSync(Self.volume))
        case .grow(let node):
            // Metadata has to move as well, as internal metadata would.
            nodes[node].capacity = min(nodes[node].capacity + ActivityLogExtent.sectors, scenario.largest)
            nodes[node].metadataCapacity += 8
        case .resize(let node, let assumeClean):
            command(nodes[node], .resize(Self.volume, ResizeRequest(assumeClean: assumeClean)))
        case .spoil(let node, let extent): spoil(nodes[node], extent: extent)
        case .verify(let node, let start, let stop):
            command(nodes[node], .verify(Self.volume, start: start, stop: stop))
        case .suspend: for node in nodes where state(node)?.role == .primary { command(node, .suspendIO(Self.volume)) }
        case .invalidate(let node):
            // Only where the other copy is whole.
            let other = nodes[1 - node]
            if let state = state(other), state.disk == .upToDate, isCurrent[1 - node], let own = self.state(nodes[node]),
                own.role == .secondary, own.connection.isConnected
            {
                command(nodes[node], .invalidate(Self.volume))
            }
        }
    }

    // MARK: Looking after both nodes

    func administrate() {
        queue.add(
            .administrator, at: now + (isHealing ? .milliseconds(200) : random.delay(.milliseconds(100), .milliseconds(700)))
        )
        if networkIsParted, let uniteAt, now >= uniteAt { unite() }
        if !hasStarted, wantsPrimary != nil || isQuietAndEqual || now > Instant.zero + .seconds(20) {
            hasStarted = true
            if wantsPrimary == nil { wantsPrimary = 0 }
        }
        if scenario.kind == .splitBrain { administrateSplitBrain() }
        if !isHealing, let healAt, now >= healAt { heal() }
        chooseReachablePrimary()
        for node in nodes where node.isRunning && node.isSetUp && node.pendingCommand == nil && node.commands.isEmpty {
            lookAfter(node)
        }
        if isHealing { checkSettled() }
    }

    func heal() {
        trace { "administrator: heals everything" }
        isHealing = true
        healingSince = now
        unite()
        for node in nodes {
            node.failingReads = 0
            node.failingWrites = 0
            node.failingMetadata = 0
            node.failingFlushes = 0
            if !node.isRunning { queue.add(.startProcess(node: node.index), at: now + .milliseconds(10)) }
        }
        if wantsPrimary == nil { wantsPrimary = random.below(2) }
    }

    /// Whoever should be primary is down or out of date: the other one, if that is neither.
    private func chooseReachablePrimary() {
        guard !isForked, scenario.kind != .twoPrimaries, let wanted = wantsPrimary else { return }
        let node = nodes[wanted]
        let other = nodes[1 - wanted]
        let isUseless =
            !node.isRunning || (node.isSetUp && !isCurrent[wanted] && (isHealing || state(node)?.role == .secondary))
        let otherIsGood = other.isRunning && other.isSetUp && isCurrent[1 - wanted]
        if isUseless, otherIsGood, isHealing || random.chance(15) { wantsPrimary = 1 - wanted }
    }

    private func lookAfter(_ node: SimNode) {
        guard let state = state(node) else { return }
        let eager = isHealing || random.chance(15)
        if node.needsUpgrade, eager, node.core.versions.upperBound < 101 { return kill(node) }
        // A demotion waits for I/O, so what is frozen thaws first.
        if state.suspendedByUser, eager { return command(node, .resumeIO(Self.volume)) }
        if endFalseAlarm(node, state) { return }
        if !wants(node), !isForked, state.role == .primary { return demote(node) }
        // A primary that lost its disk finds out by its peer what it may attach.
        if state.connection == .standAlone, eager, !node.sawSplitBrain { return command(node, connectCommand()) }
        if state.disk == .diskless, eager, !node.isClosing { return command(node, attachCommand) }
        if isHealing, state.connection == .connected, state.disk == .inconsistent, state.peerDisk == .upToDate {
            // Some blocks could not be read or written. DRBD leaves it at that until the next connection, or, where a
            // Primary needs the one it has, until the next attach (`wire-resync.md` 8.8).
            return command(node, state.role == .primary ? .detach(Self.volume, force: false) : .disconnect(force: false))
        }
        if isHealing, settles(state), repairsDifferences(node, state) { return }
        if state.pausedByUser, eager { return command(node, .resumeSync(Self.volume)) }
        if wants(node) || isForked {
            if state.role == .primary, node.export.isPrimary, !node.exportIsOpen { return openExport(node) }
            let otherIsPrimary = self.state(peer(of: node))?.role == .primary || isBeingPromoted(peer(of: node))
            // Without a good disk of its own it would go on with what the other one has.
            let source = state.disk == .upToDate ? node.index : 1 - node.index
            if scenario.kind == .twoPrimaries {
                if state.role == .secondary, settles(state) { command(node, .primary(Self.volume, force: false)) }
            } else if state.role == .secondary, isForked || (isCurrent[source] && !otherIsPrimary) {
                command(node, .primary(Self.volume, force: false))
            }
        }
    }

    /// Connected, and both disks good.
    func settles(_ state: VolumeState) -> Bool {
        state.connection == .connected && state.disk == .upToDate && state.peerDisk == .upToDate
    }

    /// A promotion without an answer may still happen: it waits for a peer that does not answer, and goes on alone when
    /// the connection is lost (`wire.md` 6.5). Who promotes the other node meanwhile wants a split brain, and that is
    /// what `design.md` 5, rule 5 would give him. Cluster managers wait for the answer, too.
    func isBeingPromoted(_ node: SimNode) -> Bool {
        guard node.isRunning else { return false }
        if let command = node.openCommand, case .primary = command { return true }
        return node.commands.contains { if case .primary = $0 { true } else { false } }
    }

    func demote(_ node: SimNode) {
        guard node.outstanding == 0 else { return }
        if node.exportIsOpen {
            node.exportIsOpen = false
            later(node, .exportClosed(Self.volume), after: .milliseconds(0))
        }
        command(node, .secondary(Self.volume))
    }

    // MARK: Split brain

    /// One at a time was Primary, and yet there are two generations: the peer of a Primary whose disk is gone begins one
    /// by itself (`wire.md` 5.2, U6 and U7), and if it dies before that was heard, the Primary may go on with its own
    /// disk and begin another. It loses nothing: on one side not a block has changed since the generation that both
    /// come from (rule 90), and `design.md` 5, rule 5 asks no more than that nothing is overwritten silently. Or what has
    /// changed there was never answered: the Primary lost that peer before it heard of the new generation, clients got
    /// errors for what was under way, and no block that was answered is missing from the other side. Or a process died
    /// while its disk hung at the write of a new generation: only that process knew that it never began.
    func isFalseAlarm() -> Bool {
        guard !isForked, let left = nodes[0].core.identifiers(of: Self.volume), nodes[0].isRunning, nodes[1].isRunning,
            let right = nodes[1].core.identifiers(of: Self.volume), left.bitmap != 0, left.bitmap & ~1 == right.bitmap & ~1
        else { return false }
        if let node = nodes.first(where: { node in
            node.unusedGeneration.map { $0 & ~1 == node.core.identifiers(of: Self.volume)!.current & ~1 } ?? false
        }) {
            unchangedNode = node.index
            return true
        }
        let unchanged = nodes.filter { node in
            guard let disk = state(node)?.disk, disk > .failed else { return false }
            return node.core.outOfSyncBits(of: Self.volume) == 0
        }
        guard let node = unchanged.first(where: { state($0)?.role == .secondary }) ?? unchanged.first ?? onlyUnanswered()
        else {
            return false
        }
        unchangedNode = node.index
        return true
    }

    /// The node whose peer's disk may hold all that clients were ever told; a Secondary if that is so of both.
    private func onlyUnanswered() -> SimNode? {
        let dispensable = nodes.filter { node in
            guard let other = state(peer(of: node)), other.disk == .upToDate else { return false }
            let data = peer(of: node).data.current
            return histories[0].touched.allSatisfy { histories[0].mayHold(Int($0), data[Int($0)]) }
        }
        return dispensable.first { state($0)?.role == .secondary } ?? dispensable.first
    }

    /// What an administrator does about it. True if there is nothing else to do for this node now.
    private func endFalseAlarm(_ node: SimNode, _ state: VolumeState) -> Bool {
        guard let unchanged = unchangedNode else { return false }
        if isQuietAndEqual {
            unchangedNode = nil
            for node in nodes { node.sawSplitBrain = false }
            return false
        }
        let isAlone = state.connection == .standAlone
        if node.index != unchanged {
            if isAlone { command(node, connectCommand()) }
            return isAlone
        }
        if node.discardsData, !isAlone { return false }
        if state.role == .primary {
            demote(node)
        } else if !isAlone {
            command(node, .disconnect(force: false))
        } else {
            command(node, state.disk == .diskless ? attachCommand : connectCommand(discardMyData: true))
        }
        return true
    }

    /// A quiet moment, a parted network, two primaries that write, and back together.
    private func administrateSplitBrain() {
        switch splitStage {
        case .before:
            guard requestsLeft <= scenario.requests * 2 / 3,
                nodes.allSatisfy({ $0.outstanding == 0 && $0.core.openWork().isEmpty }), isQuietAndEqual
            else { return }
            part()
            uniteAt = nil
            isForked = true
            histories.append(histories[0])
            splitStage = .apart(until: nil)
        case .apart(nil):
            // A Primary that has not missed its peer yet has not begun a generation either: if it dies now, nothing that
            // it answered is lost, and nothing has split.
            guard
                nodes.allSatisfy({
                    guard let state = state($0), state.role == .primary, !state.connection.isConnected else { return false }
                    return ($0.inForce.stableSuperblock?.identifiers.bitmap ?? 0) != 0
                })
            else { return }
            splitStage = .apart(until: now + .seconds(random.between(1, 40)))
        case .apart(let until?):
            if now < until {
                if random.chance(5) { random.chance(50) ? kill(nodes[random.below(2)]) : cutPower(nodes[random.below(2)]) }
                if requestsLeft > 0 { return }
            }
            guard nodes.allSatisfy({ $0.isRunning && state($0)?.role == .primary || $0.outstanding == 0 }) else { return }
            unite()
            splitStage = .together(since: now)
        case .together(let since):
            if !splitBrainSeen {
                if now.since(since) > .seconds(200) { fail("split brain was not noticed: \(describeStates())") }
                return
            }
            guard nodes.allSatisfy({ $0.isRunning && $0.isSetUp && $0.outstanding == 0 }) else { return }
            for node in nodes {
                for sector in histories[node.index].touched
                where !histories[node.index].mayHold(Int(sector), node.data.current[Int(sector)]) {
                    return fail(
                        "data of \(node.name) was overwritten before the split brain was resolved: sector \(sector) holds \(node.data.current[Int(sector)]), possible \(histories[node.index].versions(Int(sector)))"
                    )
                }
            }
            splitStage = .resolving(survivor: random.below(2), step: 0)
        case .resolving(let survivor, let step): resolve(survivor: survivor, step: step)
        case .resolved: break
        }
    }

    private func resolve(survivor: Int, step: Int) {
        let victim = nodes[1 - survivor]
        let keeper = nodes[survivor]
        guard nodes.allSatisfy({ $0.isRunning && $0.isSetUp && $0.pendingCommand == nil && $0.commands.isEmpty }) else {
            return
        }
        switch step {
        case 0:
            wantsPrimary = survivor
            requestsLeft = 0
            if state(victim)?.role == .primary { return demote(victim) }
            guard keeper.outstanding == 0, victim.outstanding == 0 else { return }
            isForked = false
            histories = [histories[survivor]]
            isCurrent = [survivor == 0, survivor == 1]
            command(victim, .disconnect(force: false))
            command(keeper, .disconnect(force: false))
            splitStage = .resolving(survivor: survivor, step: 1)
        case 1:
            command(victim, connectCommand(discardMyData: true))
            splitStage = .resolving(survivor: survivor, step: 2)
        default:
            splitBrainSeen = false
            for node in nodes { node.sawSplitBrain = false }
            splitStage = .resolved
            requestsLeft = 20
            heal()
            for node in nodes where node.export.isPrimary { scheduleClient(node) }
        }
    }

    var isQuietAndEqual: Bool {
        nodes.allSatisfy { node in
            guard let state = state(node) else { return false }
            return state.connection == .connected && state.disk == .upToDate && state.peerDisk == .upToDate
        }
    }

    func describeStates() -> String {
        nodes.map { node in
            "\(node.name) \(state(node).map(\.summary) ?? "down")"
                + (node.pendingCommand == nil ? "" : " (command pending)") + " outstanding \(node.outstanding)"
        }.joined(separator: ", ")
    }
}

/// How far a split brain scenario has come.
enum SplitStage {
    case before
    /// nil: not both are primary yet.
    case apart(until: Instant?)
    case together(since: Instant)
    case resolving(survivor: Int, step: Int)
    case resolved
}
