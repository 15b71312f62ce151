import ReplicaProto

/// A resource whose daemon can't be asked: what its processes and its disks say.
extension Diagnosis {
    mutating func examineWithoutDaemon() {
        switch evidence.daemon {
        case .running: break
        case .unreachable(let reason):
            say(
                .daemonUnreachable, .warning, "the daemon of \(name) can't be asked: \(reason)",
                ["It may be well. Its control socket belongs to the user that it runs as: root, as a rule."],
                [Choice("", [.advice("ask again as root")])])
        case .silent(let process, let state): silent(process, state)
        case .dead(let process): died(process)
        case .down: isDown()
        }
    }

    private mutating func silent(_ process: Int32?, _ state: Character?) {
        let who = process.map { "process \($0)" } ?? "a process that is not known"
        if let process, state == "T" || state == "t" {
            return say(
                .daemonStopped, .danger, "the daemon of \(name) (\(who)) has been stopped, by SIGSTOP or a debugger",
                [
                    "Applications on the device wait; \(peer) gives the connection up after a while. No data is lost by going on.",
                    "Not safe: to make \(peer) Primary if this host was, and then to let this daemon go on: both would have changed "
                        + "the data.",
                ], [Choice("", [shell("kill -CONT \(process)")])])
        }
        let reason =
            switch state {
            case "D": " It waits inside of the kernel, which mostly means a disk that does not answer."
            case "R": " It is busy."
            default: ""
            }
        var steps: [Step] = [.advice("look at the disk, and at the kernel's log: dmesg | tail")]
        if let process { steps += [shell("kill -9 \(process)"), here("up \(name)")] }
        say(
            .daemonSilent, .danger, "the daemon of \(name) (\(who)) does not answer",
            [
                "It takes connections, and said nothing for two seconds.\(reason)",
                "What was answered to applications is safe: after a kill the next start applies the activity log. With a kernel "
                    + "device applications wait, and go on when the daemon is back; clients of the NBD socket get an error.",
            ], [Choice("If it does not come back by itself", steps)])
    }

    private mutating func died(_ process: Int32) {
        let users = evidence.volumes.flatMap(\.holders)
        var explanation = [
            "Process \(process) was killed, or broke; the log says what it can. What was answered to applications is safe: the "
                + "next start applies the activity log."
        ]
        if !users.isEmpty {
            explanation.append(
                "The device is still there, and in use by \(users.map(\.text).joined(separator: ", ")): requests wait for the next "
                    + "daemon, for ten minutes, and get errors then.")
        }
        explanation.append(
            "Not safe: to make \(peer) Primary and then start this one as Primary too; `up` alone does not do that.")
        if metadataProblems() { return }
        say(
            .daemonDied, .danger, "the daemon of \(name) has died", explanation, [Choice("", [here("up \(name)")])])
    }

    private mutating func isDown() {
        if metadataProblems() { return }
        var explanation: [String] = []
        for volume in evidence.volumes {
            guard case .good(let flags, _)? = volume.metadata else { continue }
            var text = "The data of \(title(volume)) is \(flags.offlineDiskState.name)"
            if flags.contains(.primaryIndicator) { text += ", and the node was Primary when it went" }
            if flags.contains(.fullSync) { text += "; all of it has to be copied" }
            explanation.append(text + ".")
        }
        explanation.append("Safe: to start it. It comes up Secondary, and synchronises with \(peer) as needed.")
        say(.down, .warning, "\(name) is down on this host", explanation, [Choice("", [here("up \(name)")])])
    }

    /// What keeps a disk from being attached. True if something does.
    private mutating func metadataProblems() -> Bool {
        var isBlocked = false
        for volume in evidence.volumes {
            if let holder = volume.diskHolders.first {
                isBlocked = true
                diskIsInUse(volume, holder)
            } else if examineMetadata(volume, afterwards: "up \(name)") {
                isBlocked = true
            }
        }
        return isBlocked
    }

    private mutating func diskIsInUse(_ volume: VolumeEvidence, _ holder: Holder) {
        var steps: [Step] = []
        if case .mount(let place) = holder {
            steps.append(shell("umount \(place)"))
        } else {
            steps.append(.advice("end \(holder.text)"))
        }
        say(
            .diskInUse, .danger, "\(volume.disk), the disk of \(title(volume)), is in use by \(holder.text)",
            [
                "What is written there passes \(name) by: \(peer) does not get it, and nobody notes that the copies differ. Only "
                    + "\(volume.device) may be used.",
                "If something was written that way, the copies differ silently. After the start, `verify` finds where, or "
                    + "`replctl invalidate-remote \(name)` on the node with the good data copies all of it.",
            ], [Choice("", steps + [here("up \(name)")])])
    }

    /// - Parameter afterwards: what comes when the metadata is there.
    /// - Returns: whether something has to be done about it.
    mutating func examineMetadata(_ volume: VolumeEvidence, afterwards: String) -> Bool {
        guard let metadata = volume.metadata else { return false }
        let place = volume.metaDisk
        let replaced =
            "New metadata knows nothing of the data on the disk: all of it is then copied from \(peer), over what is there."
        switch metadata {
        case .good: return false
        case .blank:
            say(
                .metadataMissing, .warning, "\(place) is empty: \(title(volume)) has no metadata there",
                ["The disk is new, or was replaced. \(replaced)"],
                [Choice("", [here("create-md \(volume.target)"), here(afterwards)])])
        case .otherData(let what):
            let lost = "WARNING: what is on \(volume.disk) now is lost by this"
            var steps: [Step] = []
            if what != "some data" { steps.append(shell("dd if=/dev/zero of=\(volume.disk) bs=1M count=1 conv=notrunc")) }
            say(
                .metadataForeign, .warning, "\(place) holds \(what), and no metadata of \(title(volume))",
                [
                    "It may be the wrong disk: compare the configuration with what is there, before all else.",
                    "If it is data that \(name) is to replicate from now on, room for the metadata has to be made first: shrink what "
                        + "is there, or give `meta-disk` a device of its own.",
                ],
                [
                    Choice("If it is the wrong disk", [.advice("correct `disk` in the configuration"), here(afterwards)]),
                    Choice(lost, steps + [here("create-md --force \(volume.target)"), here(afterwards)]),
                ])
        case .otherFormat(let format):
            say(
                .metadataForeign, .warning, "\(place) has metadata of the format \(format), not v08",
                [
                    format == "v09"
                        ? "A DRBD 9 was here. Its drbdmeta can convert the metadata to v08, if there is one peer only."
                        : "A DRBD older than 8.4 was here. Its drbdmeta, or that of 8.4, can convert the metadata.",
                    "Otherwise: \(replaced)",
                ],
                [
                    Choice(
                        "WARNING: what is on \(volume.disk) now is lost by this: it is copied from \(peer) anew",
                        [here("create-md --force \(volume.target)"), here(afterwards)])
                ])
        case .moved(let before, let after):
            say(
                .metadataMoved, .warning,
                "\(place) has grown from \(Self.amount(before >> 10)) to \(Self.amount(after >> 10)); the metadata is where it ended before",
                ["Nothing is lost. The metadata is moved to the new end."],
                [Choice("", [here("check-resize \(volume.target)"), here(afterwards)])])
        case .damaged(let reason):
            say(
                .metadataDamaged, .danger, "the metadata of \(title(volume)) on \(place) is damaged",
                [
                    reason + ".",
                    "The data may be well. Has the disk shrunk, or is it another one? Then put that right, and nothing is lost. "
                        + "Otherwise: \(replaced)",
                ],
                [
                    Choice(
                        "WARNING: only if \(peer) has good data; what is on \(volume.disk) now is lost by this",
                        [here("create-md --force \(volume.target)"), here(afterwards)])
                ])
        case .tooSmall(let bytes):
            say(
                .diskTooSmall, .danger, "\(place) is too small for metadata: \(bytes) bytes",
                ["It is the wrong device, or one that was never given a size."],
                [Choice("", [.advice("make it larger, or name another one in the configuration"), here(afterwards)])])
        case .unreadable(let reason):
            say(
                .diskUnreadable, .danger, "\(place), the disk of \(title(volume)), can't be read: \(reason)",
                [
                    "A logical volume may not be active, a disk not be there, or broken. Nothing is written as long as that is so; "
                        + "\(peer) can serve the data."
                ],
                [
                    Choice(
                        "", [shell("ls -l \(place)"), .advice("bring the disk back, or name another one"), here(afterwards)])
                ])
        }
        return true
    }
}
