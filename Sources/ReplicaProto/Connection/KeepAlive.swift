/// Pings on the meta stream (`wire.md` 1.5, 9.3), and sends that make no progress.
extension Resource {
    mutating func sendPing() {
        // Before the features have come the peer does not know what its header would look like.
        guard link.isUsable, link.version != 0 else { return }
        link.pingsSent += 1
        send(.meta, nil, .ping)
    }

    /// Something is to happen once the peer has processed all that is on the meta stream now.
    mutating func afterPing(_ v: Int, _ kind: PingAction.Kind) {
        sendPing()
        // What the peer says again and again waits once.
        link.pingActions.removeAll { $0.volume == v && $0.kind == kind }
        link.pingActions.append(PingAction(ping: link.pingsSent, volume: v, kind: kind))
    }

    mutating func pingAcknowledged() {
        if link.pingsAnswered < link.pingsSent { link.pingsAnswered += 1 }
        while let action = link.pingActions.first, action.ping <= link.pingsAnswered {
            link.pingActions.removeFirst()
            switch action.kind {
            case .targetEnds: targetAcksProcessed(action.volume)
            case .sourceEnds: sourceEnds(action.volume)
            case .sourceWaits: sourceWaits(action.volume)
            case .catchesUp: catchesUp(action.volume)
            case .verifyEnds: verifyAcksProcessed(action.volume)
            case .hasIntroduced: findLonelyVolumes()
            }
        }
    }

    /// The peer has introduced one volume: the others come right behind, or not at all.
    mutating func awaitIntroductions() {
        if volumes.contains(where: { $0.heardNothing }) { timers.set(.introductions, now + .seconds(2)) }
    }

    /// Asks the peer for a sign of life, since a link that stands still is silent about all volumes.
    mutating func introductionsOverdue() {
        guard link.phase == .established, let v = volumes.firstIndex(where: { $0.heardNothing }) else { return }
        afterPing(v, .hasIntroduced)
    }

    /// Volumes of which the peer has said nothing long after it introduced others: it does not have them.
    private mutating func findLonelyVolumes() {
        for v in volumes.indices where volumes[v].isInHandshake && volumes[v].heardNothing {
            log(.warning, v, "the peer has no such volume")
            volumes[v].isLonely = true
            retryLater(v)
        }
    }

    mutating func pingDue() {
        guard link.phase == .parameters || link.phase == .established else { return }
        let idle = TimeSpan.seconds(link.options.pingInterval)
        let patience = TimeSpan.deciseconds(link.options.pingTimeout)
        let lastHeard = max(link.lastMetaReceived, link.lastDataReceived)
        if link.isPingOverdue {
            if lastHeard >= link.pingSentAt || link.pingsAnswered == link.pingsSent {
                link.isPingOverdue = false
            } else {
                log(.error, nil, "PingAck did not arrive in time.")
                return connectionFailed(.networkFailure, because: .timeout)
            }
        }
        let due = lastHeard + idle
        if due > now {
            timers.set(.ping, due)
        } else {
            sendPing()
            link.isPingOverdue = true
            link.pingSentAt = now
            timers.set(.ping, now + patience)
        }
    }

    /// A whole `timeout` without a byte leaving.
    mutating func sendStalled(_ stream: StreamKind) {
        guard link.isUsable else { return }
        if stream == .meta {
            log(.error, nil, "meta stream: send timed out")
            return connectionFailed(.timeout)
        }
        guard link.options.koCount > 0 else { return sendPing() }
        link.stallsLeft -= 1
        log(.warning, nil, "[sender] sock_sendmsg time expired, ko = \(link.stallsLeft)")
        if link.stallsLeft <= 0 { return connectionFailed(.timeout) }
        sendPing()
    }
}
