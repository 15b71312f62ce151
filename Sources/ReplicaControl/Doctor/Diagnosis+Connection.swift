import ReplicaProto

/// No connection: since when, why, and what the peer's port says.
extension Diagnosis {
    mutating func examineConnection() {
        switch connection {
        case .standAlone, .disconnecting: standAlone()
        case .unconnected, .timeout, .brokenPipe, .networkFailure, .protocolError, .tearDown, .wfConnection,
            .wfReportParams:
            searching()
        case .connected, .startingSyncS, .startingSyncT, .wfBitMapS, .wfBitMapT, .wfSyncUUID, .syncSource, .syncTarget,
            .verifyS, .verifyT, .pausedSyncS, .pausedSyncT, .ahead, .behind:
            connected()
        }
    }

    private mutating func connected() {
        for volume in evidence.volumes {
            guard let state = volume.status?.state, state.role == .primary, state.peerRole == .primary else { continue }
            say(
                .twoPrimaries, .notice, "\(title(volume)) is Primary on \(node) and on \(peer)",
                [
                    "That is allowed here. Safe with a cluster file system (GFS2, OCFS2) or while a virtual machine moves; any other "
                        + "file system mounted on both is destroyed by it."
                ], [Choice("If it is not meant to be", [here("secondary \(volume.target)")])])
        }
    }

    // MARK: What it means to be alone

    /// How long there has been no connection, as the end of a heading.
    private var since: String {
        guard let seconds = evidence.lastDisconnect.seconds else { return "" }
        return " for \(Self.duration(seconds))"
    }

    /// What is safe while there is no connection, and what is not.
    var alone: [String] {
        var text: [String] = []
        let outOfSync = outOfSyncKiB
        if isPrimary {
            text.append(
                "\(name) runs on \(node) alone\(since): what is written is not copied, and lost with this host. "
                    + "\(Self.amount(outOfSync)) are out of sync so far, and are copied when \(peer) is back.")
            text.append(
                "Safe: to go on. Not safe: to make \(peer) Primary; it lacks those changes, and both would go their own ways."
            )
        } else {
            if outOfSync > 0 { text.append("\(Self.amount(outOfSync)) are known to be out of sync.") }
            text.append(
                "Not safe: to make \(node) Primary while \(peer) may be Primary or have newer data; that ends in split brain."
            )
        }
        return text
    }

    /// Being alone is worse without good data of one's own.
    private var severityOfBeingAlone: Severity {
        let isWithoutData = evidence.volumes.contains { volume in
            guard let state = volume.status?.state else { return false }
            return state.role == .primary && state.disk != .upToDate
        }
        return isWithoutData ? .danger : .warning
    }

    // MARK: Looking for the peer

    private mutating func searching() {
        let severity = severityOfBeingAlone
        let where_ = evidence.peerAddress
        switch evidence.lastDisconnect.reason {
        case .closedInAuthentication?:
            return differing(
                .wrongSecret, "\(peer) ends the connection while both prove that they know the secret", secretAdvice)
        case .foreignPeer?, .protocolError?:
            say(
                .foreignPeer, severity, "what \(peer) says on \(where_) can't be understood",
                ["The port may belong to another program, or the network damages what it carries."] + alone,
                [Choice("", [.advice("see what listens on \(where_)"), there("doctor \(name)")])])
            return
        default: break
        }
        switch evidence.port {
        case .refused?:
            let left =
                evidence.lastDisconnect.reason == .peerLeft
                ? "\(peer) took its leave: somebody said `disconnect` or `down` there."
                : "Its host answers, but no \(name) waits there: it is down, StandAlone, or waits on another address."
            say(
                .peerNotListening, severity, "\(peer) does not listen on \(where_)", [left] + alone,
                [Choice("", [there("doctor \(name)"), there("adjust \(name)")])])
        case .silence?:
            say(
                .peerSilent, severity, "nothing comes back from \(peer) at \(where_)",
                ["Its host is down, or a firewall drops what is sent to that port."] + alone,
                [
                    Choice(
                        "",
                        [
                            shell("ping -c 3 \(host(where_))"),
                            .advice(
                                "see whether the host runs, and whether a firewall lets TCP port \(port(where_)) through"),
                        ])
                ])
        case .hostUnreachable?:
            say(
                .peerUnreachable, severity, "the host of \(peer) can't be reached: \(where_)",
                ["It is off, or the cable or a switch between the two is."] + alone,
                [Choice("", [shell("ping -c 3 \(host(where_))"), shell("ip neighbour show \(host(where_))")])])
        case .noRoute?:
            say(
                .noRoute, severity, "there is no route to \(peer) at \(where_)",
                ["The network card of this host is down, or has lost its address."] + alone,
                [Choice("", [shell("ip address"), shell("ip route get \(host(where_))")])])
        case .ownAddressMissing?: ownAddress()
        case .accepts?: listens()
        case .failed(let reason)?:
            say(
                .peerUnreachable, severity, "\(peer) can't be reached at \(where_): \(reason)", alone,
                [Choice("", [shell("ping -c 3 \(host(where_))")])])
        case nil:
            say(.waitingForPeer, severity, "\(name) waits for \(peer)", alone, [Choice("", [there("doctor \(name)")])])
        }
    }

    /// The port is open, and still there is no connection.
    private mutating func listens() {
        if (evidence.lastDisconnect.seconds ?? 0) < 30 {
            return say(
                .connecting, .warning, "\(name) is about to connect to \(peer)", ["It has looked for it\(since)."] + alone,
                [Choice("", [here("wait-connect \(name)")])])
        }
        say(
            .peerListens, severityOfBeingAlone,
            "\(peer) listens on \(evidence.peerAddress), and still there is no connection\(since)",
            [
                "Two streams are needed, and either node may begin one: a firewall here may keep \(peer) from reaching "
                    + "\(evidence.address), or \(peer) is configured with another address of this host."
            ] + alone,
            [
                Choice(
                    "",
                    [
                        there("doctor \(name)"), here("dump \(name)"), there("dump \(name)"),
                        .advice("compare the addresses; see whether a firewall lets TCP port \(port(evidence.address)) in"),
                    ])
            ])
    }

    mutating func ownAddress() {
        say(
            .ownAddress, severityOfBeingAlone, "this host can't use its own address \(evidence.address)",
            ["It does not have that address now, or another program has the port."] + alone,
            [
                Choice(
                    "",
                    [
                        shell("ip address"), shell("ss -tlnp"),
                        .advice("give the host its address, or correct the configuration"), here("adjust \(name)"),
                    ])
            ])
    }

    // MARK: StandAlone

    private mutating func standAlone() {
        guard let reason = evidence.lastDisconnect.reason else {
            return say(
                .standAlone, severityOfBeingAlone, "\(name) is StandAlone: it does not look for \(peer)",
                ["It was started that way, or the reason was forgotten with the daemon that knew it; the log may have it."]
                    + alone,
                [Choice("", [here("connect \(name)"), here("doctor \(name)")])])
        }
        switch reason {
        case .requested, .dryRun:
            say(
                .disconnected, severityOfBeingAlone, "\(name) was disconnected on this host, by a command",
                ["It does not look for \(peer) until it is told to\(since.isEmpty ? "" : "; that is so\(since)")."] + alone,
                [Choice("", [here("connect \(name)")])])
        case .authentication, .closedInAuthentication:
            differing(.wrongSecret, "\(peer) and \(node) have different secrets", secretAdvice)
        case .incompatibleVersions: versions()
        case .differentProtocol: settings("protocol")
        case .differentAfterSplitBrain0Primaries: settings("after-sb-0pri")
        case .differentAfterSplitBrain1Primary: settings("after-sb-1pri")
        case .differentAfterSplitBrain2Primaries: settings("after-sb-2pri")
        case .differentTwoPrimaries: settings("allow-two-primaries")
        case .differentIntegrityAlgorithm: settings("data-integrity-alg")
        case .differentVerifyAlgorithm: settings("verify-alg")
        case .differentChecksumAlgorithm: settings("csums-alg")
        case .unknownAlgorithm:
            differing(
                .settingsDiffer, "\(peer) wants a digest that is not available here",
                "name another algorithm in `data-integrity-alg`, `verify-alg` or `csums-alg`, on both nodes")
        case .ownAddress: ownAddress()
        case .splitBrain: splitBrain()
        case .unrelatedData: unrelatedData()
        case .bothDiscardData:
            say(
                .dataRefused, .danger, "both nodes were told to discard their data",
                ["Nothing was discarded. One of them has to keep its data."] + alone, survivorChoices())
        case .foreignPeer, .protocolError, .closedInHandshake:
            say(
                .foreignPeer, severityOfBeingAlone, "what \(peer) said on \(evidence.peerAddress) can't be understood",
                ["The port may belong to another program, or the network damages what it carries."] + alone,
                [Choice("", [.advice("see what listens on \(evidence.peerAddress)"), here("connect \(name)")])])
        case .peerTooOld, .inconsistentSource, .primaryWouldBeOverwritten, .peerLacksDataInUse, .peerTooSmall, .twoPrimaries,
            .statesRefused, .congestion, .handlerRefused:
            refusedData(reason)
        case .networkFailure, .timeout, .peerLeft:
            say(
                .standAlone, severityOfBeingAlone, "\(name) is StandAlone since its connection was lost",
                ["It does not look for \(peer) any more."] + alone, [Choice("", [here("connect \(name)")])])
        }
    }

    private mutating func refusedData(_ reason: DisconnectReason) {
        let again = Choice("", [here("connect \(name)"), there("adjust \(name)")])
        let severity = severityOfBeingAlone
        switch reason {
        case .primaryWouldBeOverwritten:
            say(
                .dataRefused, .danger, "\(peer) has newer data than \(node), which is Primary",
                [
                    "\(node) would have to be overwritten under its applications; that was refused. What they wrote since the two "
                        + "parted is on \(node) only, what was written on \(peer) is there only.",
                    "Save what is needed from \(node) first.",
                ] + alone,
                [
                    Choice(
                        "WARNING: what \(node) has written since the two parted is lost by this",
                        [
                            .advice("stop what uses \(devices) on \(node)"), here("secondary \(name)"),
                            here("connect \(name)"), there("adjust \(name)"),
                        ])
                ])
        case .peerLacksDataInUse:
            say(
                .dataRefused, .danger, "\(peer) does not have the data that applications on \(node) have seen",
                [
                    "It is an older or another copy. Only the disk with that data will do: the one that \(peer) had, or \(node)'s own."
                ]
                    + alone,
                [
                    Choice(
                        "When \(peer) has the right disk, or \(node) has its own again",
                        [here("attach \(name)"), here("connect \(name)")])
                ])
        case .inconsistentSource:
            say(
                .dataRefused, .danger, "\(node) would have to be copied from, but its data is Inconsistent",
                ["The good data is elsewhere: on \(peer), or in a backup."] + alone,
                [
                    Choice(
                        "WARNING: if \(peer)'s data is the one to keep: all of it is copied over what \(node) has",
                        [here("invalidate \(name)"), here("connect \(name)"), there("adjust \(name)")])
                ])
        case .peerTooSmall:
            say(
                .dataRefused, severity, "the disk of \(peer) is smaller than what both had agreed on",
                ["Nothing is cut off: the connection was refused."] + alone,
                [
                    Choice(
                        "",
                        [
                            .advice("give \(peer) a disk that is as large as before"), there("adjust \(name)"),
                            here("connect \(name)"),
                        ])
                ])
        case .twoPrimaries:
            say(
                .dataRefused, .danger, "\(node) and \(peer) are both Primary, which is not allowed here",
                [
                    "They refused to connect. If both have written, it is a split brain: see with `replctl role \(name)` on both."
                ]
                    + alone,
                [
                    Choice(
                        "",
                        [
                            .advice("stop what uses \(devices) on one of them"), there("secondary \(name)"),
                            here("connect \(name)"), there("adjust \(name)"),
                        ])
                ])
        case .congestion:
            say(
                .standAlone, severity, "the connection was given up because it was congested",
                ["`on-congestion disconnect` says so. The network is slower than what is written."] + alone, [again])
        case .handlerRefused:
            say(
                .standAlone, severity, "a handler forbade the resync, and the connection was given up",
                ["`before-resync-source` or `before-resync-target` ended with a failure; it has a reason to."] + alone,
                [Choice("When the handler's reason is gone", again.steps)])
        case .peerTooOld:
            say(
                .versionMismatch, severity, "\(peer) is too old to decide whose data is newer",
                ["Its version lacks a part of the protocol that this case needs."] + alone,
                [Choice("", [.advice("bring \(peer) to a newer version")] + again.steps)])
        default:
            say(
                .dataRefused, severity, "the states of \(node) and \(peer) do not go together",
                ["The log of both has the line `connection refused`."] + alone, [again])
        }
    }

    // MARK: Settings

    private var secretAdvice: String { "make `cram-hmac-alg` and `shared-secret` the same on both nodes" }

    private mutating func settings(_ option: String) {
        differing(
            .settingsDiffer, "\(peer) and \(node) have different settings of `\(option)`",
            "compare `replctl dump \(name)` of both nodes, and make `\(option)` the same")
    }

    private mutating func differing(_ situation: Situation, _ heading: String, _ advice: String) {
        say(
            situation, severityOfBeingAlone, heading,
            ["No data is at risk by that; they do not talk until it is put right."] + alone,
            [Choice("", [.advice(advice), here("adjust \(name)"), there("adjust \(name)")])])
    }

    private mutating func versions() {
        say(
            .versionMismatch, severityOfBeingAlone, "\(peer) speaks another version of the protocol",
            [
                "This node speaks 86 to 101, which is DRBD 8.3 and 8.4. A DRBD 9 speaks those only up to 9.1, and with one peer."
            ] + alone,
            [
                Choice(
                    "",
                    [
                        here("--product-version"), .advice("bring \(peer) to a version that fits"), here("connect \(name)"),
                        there("adjust \(name)"),
                    ])
            ])
    }

    // MARK: Addresses

    private func host(_ address: String) -> String {
        guard let colon = address.lastIndex(of: ":") else { return address }
        return String(address[..<colon].filter { $0 != "[" && $0 != "]" })
    }
    private func port(_ address: String) -> String {
        address.lastIndex(of: ":").map { String(address[address.index(after: $0)...]) } ?? address
    }
    var devices: String { evidence.volumes.map(\.device).joined(separator: ", ") }
}
