import ReplicaProto

/// What the states of the two disks mean.
extension Diagnosis {
    mutating func examineDisk(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        let what = title(volume)
        switch state.disk {
        case .upToDate: examinePeerDisk(volume, state)
        case .diskless, .unknown: withoutDisk(volume, state)
        case .failed:
            say(
                .diskFailed, severityWithoutOwnData(state), "the disk of \(what), \(volume.disk), has failed",
                ["It is being let go of; the kernel's log says what was wrong."] + servedByPeer(state),
                [Choice("If it does not come to an end", [here("detach --force \(volume.target)"), here("doctor \(name)")])])
        case .attaching, .negotiating:
            say(
                .attaching, .notice, "the disk of \(what) is being attached",
                [
                    state.disk == .negotiating
                        ? "What it is worth is decided with \(peer)." : "Its activity log and bitmap are being read."
                ])
        case .inconsistent: inconsistent(volume, status)
        case .outdated: outdated(volume, state)
        case .consistent:
            say(
                .consistent, .warning, "the data of \(what) is whole, but \(node) does not know whether \(peer) has newer",
                [
                    "With a fencing policy that has to be asked first: by a connection, or by the fence-peer handler when this node is "
                        + "made Primary. Not safe: `primary --force`, if \(peer) may have been Primary since."
                ], [Choice("If \(peer) is switched off, and is to stay so", [here("primary \(volume.target)")])])
        }
    }

    // MARK: Primary without good data

    private func hasGoodPeer(_ state: VolumeState) -> Bool { state.connection.isConnected && state.peerDisk == .upToDate }

    private func severityWithoutOwnData(_ state: VolumeState) -> Severity {
        state.role == .primary && !hasGoodPeer(state) ? .danger : .warning
    }

    private func servedByPeer(_ state: VolumeState) -> [String] {
        if hasGoodPeer(state) {
            return [
                state.role == .primary
                    ? "Applications go on: they read and write \(peer)'s disk. There is one copy of the data, and it is there."
                    : "\(peer) has good data. There is one copy, and it is there."
            ]
        }
        return state.role == .primary
            ? ["\(node) is Primary, and no good data can be reached: I/O fails, or waits."]
            : ["No good data can be reached from here."]
    }

    private mutating func withoutDisk(_ volume: VolumeEvidence, _ state: VolumeState) {
        let what = title(volume)
        // What lies there says what has to come first.
        if volume.diskHolders.isEmpty, examineMetadata(volume, afterwards: "attach \(volume.target)") {
            if state.role == .primary, !hasGoodPeer(state) { primaryWithoutData(volume, state) }
            return
        }
        if state.role == .primary, !hasGoodPeer(state) { return primaryWithoutData(volume, state) }
        say(
            .noDisk, .warning, "\(what) has no disk on \(node): it failed, or was detached",
            servedByPeer(state) + [
                "If \(volume.disk) is broken (see the kernel's log), put another one there first; then metadata for it: "
                    + "`replctl create-md \(volume.target)`."
            ], [Choice("When the disk is well", [here("attach \(volume.target)")])])
    }

    private mutating func primaryWithoutData(_ volume: VolumeEvidence, _ state: VolumeState) {
        say(
            .primaryWithoutData, .danger, "\(title(volume)) is Primary on \(node) without good data in reach",
            [
                state.suspendedNoData
                    ? "Applications wait, and lose nothing as long as they do. They go on when the disk or \(peer) is back."
                    : "Applications get I/O errors. Nothing that was answered is lost, if the disk or \(peer) comes back with its data."
            ],
            waysToData(volume, state))
    }

    /// Whichever of the two disks was lost last has the data that applications saw last, and only that one is accepted.
    func waysToData(_ volume: VolumeEvidence, _ state: VolumeState) -> [Choice] {
        let attach = here("attach \(volume.target)")
        switch (state.disk == .diskless, state.connection.isConnected) {
        case (true, true): return [Choice("", [attach])]
        case (false, false): return [Choice("", [there("adjust \(name)")])]
        case (false, true): return [Choice("", [there("doctor \(name)"), there("attach \(volume.target)")])]
        case (true, false):
            return [
                Choice(
                    "If \(peer) was lost last: it has what applications saw last, and has to be there first",
                    [there("adjust \(name)"), here("wait-connect \(name)"), attach]),
                Choice("If the disk of \(node) was lost last (otherwise this is refused, and does no harm)", [attach]),
            ]
        }
    }

    // MARK: Inconsistent and Outdated

    private mutating func inconsistent(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let state = status.state
        // A resync is mending it, and has its own word.
        if state.connection.isConnected, state.connection != .connected, state.peerDisk == .upToDate { return }
        if state.connection == .connected, state.peerDisk == .inconsistent { return bothInconsistent(volume, status) }
        if state.role == .primary, !hasGoodPeer(state) { return primaryWithoutData(volume, state) }
        let what = title(volume)
        let isFresh = status.identifiers.current & ~1 == GenerationIdentifiers.justCreated
        if !state.connection.isConnected {
            return say(
                .inconsistent, .warning,
                isFresh
                    ? "\(what) on \(node) has fresh metadata, and never saw \(peer)"
                    : "the data of \(what) on \(node) is incomplete: a copy from \(peer) was not finished",
                [
                    "It can't be used. When \(peer) is there, it is completed\(isFresh ? ", or both begin together" : "").",
                    "Not safe: `primary --force`. It declares this copy good as it is; parts of it are old or were never written.",
                ])
        }
        say(
            .noGoodData, .danger, "\(what): neither \(node) nor \(peer) has good data",
            ["\(node) is Inconsistent, \(peer) is \(state.peerDisk.name)."] + lastResort(volume).explanation,
            lastResort(volume).choices)
    }

    private mutating func bothInconsistent(_ volume: VolumeEvidence, _ status: VolumeStatus) {
        let what = title(volume)
        guard status.identifiers.current & ~1 == GenerationIdentifiers.justCreated else {
            let rest = lastResort(volume)
            return say(
                .noGoodData, .danger, "\(what): \(node) and \(peer) are both Inconsistent, and no good copy is left",
                rest.explanation, rest.choices)
        }
        let number = "\(name)/\(volume.number.value)"
        say(
            .freshPair, .warning, "\(what) is a fresh pair: neither \(node) nor \(peer) has data yet",
            ["Somebody has to say what the first data is. Until then neither can be made Primary."],
            [
                Choice(
                    "If both disks are new or hold the same: no copy is made. WARNING: whatever differs between them stays so",
                    [here("new-current-uuid --clear-bitmap \(number)")]),
                Choice(
                    "If \(node)'s disk has data to keep: `--force` declares it good. WARNING: what is on \(peer)'s disk is lost, all of "
                        + "\(node)'s is copied over it",
                    [here("primary --force \(volume.target)")]),
            ])
    }

    /// No copy is good: a backup, or the better one of two bad ones.
    private func lastResort(_ volume: VolumeEvidence) -> (explanation: [String], choices: [Choice]) {
        (
            [
                "Best: bring back a node or disk that has good data, or a backup.",
                "What `--force` means: the incomplete copy is declared good as it is. It has old and new blocks side by side; file "
                    + "systems and databases on it have to be checked, and may be broken beyond repair. The other copy is overwritten.",
            ],
            [
                Choice(
                    "WARNING: only if there is no good copy anywhere; data is lost by this. \(node)'s copy is taken as it is, \(peer)'s is "
                        + "overwritten", [here("primary --force \(volume.target)")])
            ]
        )
    }

    private mutating func outdated(_ volume: VolumeEvidence, _ state: VolumeState) {
        let what = title(volume)
        if state.connection.isConnected {
            if state.peerDisk == .upToDate || state.connection != .connected {
                if state.connection == .connected {
                    say(
                        .outdated, .warning, "the data of \(what) on \(node) is outdated, and \(peer) has newer",
                        ["Nothing is being copied. A new connection compares both, and copies what is missing."],
                        [Choice("", [here("disconnect \(name)"), here("connect \(name)")])])
                }
                return
            }
            let rest = lastResort(volume)
            return say(
                .noGoodData, .danger,
                "\(what): \(node) is Outdated, and \(peer) (\(state.peerDisk.name)) has nothing better",
                [
                    "Outdated data is whole, but \(peer) had newer once. If both are Outdated, no disk has what was written last."
                ] + rest.explanation.prefix(1),
                [
                    Choice(
                        "WARNING: what was written after \(node) was outdated is lost by this: `--force` declares the older data good",
                        [here("primary --force \(volume.target)")])
                ])
        }
        if state.role == .primary { return primaryWithoutData(volume, state) }
        say(
            .outdated, .warning, "the data of \(what) on \(node) is outdated: \(peer) has newer",
            [
                "It was marked so because \(peer) went on alone. Safe: to wait for the connection, which brings what is missing.",
                "Not safe: `primary --force` on \(node): what \(peer) has written since would be given up.",
            ])
    }

    // MARK: The peer's disk

    private mutating func examinePeerDisk(_ volume: VolumeEvidence, _ state: VolumeState) {
        guard state.connection.isConnected else { return }
        let what = title(volume)
        switch state.peerDisk {
        case .diskless, .failed:
            say(
                .peerDiskGone, .warning, "\(peer) has no disk for \(what): it failed, or was detached",
                [
                    "The only copy is on \(node). Safe: to go on here"
                        + (state.peerRole == .primary ? "; applications on \(peer) work through the network." : ".")
                ], [Choice("", [there("doctor \(name)"), there("attach \(volume.target)")])])
        case .inconsistent, .outdated, .consistent, .unknown:
            guard state.connection == .connected else { return }
            say(
                .peerDiskBehind, .warning,
                "\(peer)'s copy of \(what) is \(state.peerDisk.name), and nothing is being copied",
                ["The good copy is on \(node). A new connection compares both, and copies what is missing."],
                [Choice("", [here("disconnect \(name)"), here("connect \(name)")])])
        case .attaching, .negotiating, .upToDate: break
        }
    }
}
