import ReplicaProto

/// What is going on: resync, verify, frozen I/O.
extension Diagnosis {
    mutating func examineWork(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        let what = title(volume)
        switch state.connection {
        case .syncSource, .syncTarget: resync(volume, status)
        case .pausedSyncS, .pausedSyncT: paused(volume, status)
        case .startingSyncS, .startingSyncT, .wfBitMapS, .wfBitMapT, .wfSyncUUID:
            say(
                .resyncRunning, .notice, "a resync of \(what) is about to begin",
                ["The two nodes compare what has to be copied."])
        case .verifyS, .verifyT:
            let done = status.progress.map { " " + Self.percent($0) + " done" } ?? ""
            say(
                .verifyRunning, .notice, "\(what) is being verified:\(done)",
                ["Both copies are read and compared; it can be used as ever."])
        case .ahead, .behind:
            let slow = state.connection == .ahead ? peer : node
            say(
                .behind, .notice, "\(what): \(slow) is behind, as `on-congestion pull-ahead` allows",
                [
                    "\(Self.amount(status.outOfSyncBits &* 4)) are not copied yet; a resync follows when the network has room. Until then "
                        + "\(slow) must not be made Primary."
                ])
        case .connected:
            guard status.outOfSyncBits > 0, state.disk == .upToDate, state.peerDisk == .upToDate else { return }
            differing(volume, status)
        case .standAlone, .disconnecting, .unconnected, .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown,
            .wfConnection, .wfReportParams:
            break
        }
    }

    private mutating func differing(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        let source = state.role == .primary ? node : state.peerRole == .primary ? peer : node
        let other = source == node ? peer : node
        let command = source == node ? here("invalidate-remote \(volume.target)") : here("invalidate \(volume.target)")
        let reconnect: [Choice] =
            state.role == .primary
            ? [
                Choice(
                    "WARNING: \(source)'s blocks replace \(other)'s where they differ",
                    [here("disconnect \(name)"), here("connect \(name)")])
            ] : []
        say(
            .blocksDiffer, .warning,
            "\(title(volume)): \(Self.amount(status.outOfSyncBits &* 4)) differ between \(node) and \(peer), and both count as good",
            [
                "A verify found that, as a rule. Something changed a disk behind the back of \(name), or a disk or a network card "
                    + "lies. Which side is right is not known: look with the application, if it matters."
            ],
            reconnect + [
                Choice("WARNING: all of \(source)'s data is copied over \(other)'s", [command])
            ])
    }

    // MARK: Resync

    private mutating func resync(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        let (source, target) = state.connection == .syncSource ? (node, peer) : (peer, node)
        let what = title(volume)
        let consequences =
            "It can be used as ever. Not safe until the end: to lose \(source); the copy on \(target) is incomplete."
        guard let progress = status.progress else {
            return say(.resyncRunning, .notice, "\(what) is being copied from \(source) to \(target)", [consequences])
        }
        let left = Self.amount(progress.bitsLeft &* 4)
        if progress.bitsSinceMark == 0, progress.secondsSinceMark > 20 {
            return say(
                .resyncStalled, .warning, "the resync of \(what) from \(source) to \(target) does not get on: \(left) left",
                [
                    "Nothing was copied for \(Self.duration(progress.secondsSinceMark)). A disk or the network is slow, applications take "
                        + "all there is (`c-min-rate`, `resync-rate`), or a process is stopped on \(peer).",
                    consequences,
                ], [Choice("", [there("doctor \(name)"), here("disconnect \(name)"), here("connect \(name)")])])
        }
        var heading = "\(what) is being copied from \(source) to \(target): \(Self.percent(progress)) done, \(left) left"
        if progress.bitsSinceMark > 0 {
            let rate = Double(progress.bitsSinceMark) / Double(max(progress.secondsSinceMark, 1))
            heading += ", about \(Self.duration(UInt64(Double(progress.bitsLeft) / rate) + 1)) to go"
        }
        say(
            .resyncRunning, .notice, heading, [consequences],
            [Choice("To wait for its end", [here("wait-sync \(volume.target)")])])
    }

    private mutating func paused(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        let what = title(volume)
        var who: [String] = []
        var steps: [Step] = []
        if state.pausedByUser {
            who.append("a command on \(node)")
            steps.append(here("resume-sync \(volume.target)"))
        }
        if state.pausedByPeer {
            who.append("\(peer): by a command there, or because it waits for another resource (`resync-after`)")
            steps.append(there("resume-sync \(volume.target)"))
        }
        if state.pausedByDependency {
            who.append("`resync-after`: another resource on \(node) comes first, and this one follows by itself")
        }
        let isOnlyInTurn = state.pausedByDependency && steps.isEmpty
        let target = state.connection == .pausedSyncS ? peer : node
        say(
            .resyncPaused, isOnlyInTurn ? .notice : .warning,
            "the resync of \(what) is paused by \(who.isEmpty ? "somebody" : who.joined(separator: ", and by "))",
            [
                "\(Self.amount(status.outOfSyncBits &* 4)) are left. Until they are copied, the copy on \(target) is incomplete."
            ],
            steps.isEmpty ? [] : [Choice("", steps)])
    }

    private static func percent(_ progress: SyncProgress) -> String {
        let permille = ProgressText.perMille(progress)
        return "\(permille / 10).\(permille % 10) %"
    }

    // MARK: Frozen I/O

    mutating func examineFreeze(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        let what = title(volume)
        if state.suspendedByUser {
            say(
                .frozenByUser, .danger, "I/O on \(what) is frozen, by `suspend-io`",
                ["Applications wait, and lose nothing. Whoever froze it may be taking a snapshot."],
                [Choice("", [here("resume-io \(volume.target)")])])
        }
        if state.suspendedFencing {
            say(
                .frozenForFencing, .danger, "I/O on \(what) is frozen until \(peer) is fenced",
                [
                    "The connection broke, and `fencing resource-and-stonith` wants the fence-peer handler to say that \(peer) can do no "
                        + "harm. It still runs, or it failed (the log: `fence-peer helper`). Applications wait, and lose nothing.",
                    "It thaws by itself when \(peer) is connected again.",
                ],
                [
                    Choice("If \(peer) can come back", [there("adjust \(name)")]),
                    Choice(
                        "If \(peer) is switched off, or is surely not Primary. WARNING: if it is Primary after all, both write, and one "
                            + "side's changes are lost in the end", [here("resume-io \(volume.target)")]),
                ])
        }
        if state.suspendedNoData {
            say(
                .frozenWithoutData, .danger, "I/O on \(what) is frozen: no good data can be reached",
                ["`on-no-data-accessible suspend-io` says so. It thaws by itself when the disk or \(peer) is back."],
                waysToData(volume, state) + [
                    Choice(
                        "To let applications have I/O errors instead. WARNING: what they have not got onto a disk yet is lost",
                        [here("resume-io \(volume.target)")])
                ])
        }
    }
}
