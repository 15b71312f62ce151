/// A peer that cannot keep up under protocol A (`wire.md` 7.7, `wire-resync.md` 8.9): the Primary pulls ahead, tells of
/// its writes instead of sending them, and synchronises once the peer has caught up with what it was sent.
extension Resource {
    /// Before each write: whether too much is under way already, and what follows from that.
    ///
    /// Under way is what was given to the send queue and is in no acknowledged epoch. DRBD 8.4 counts from the hand-over
    /// to TCP only, because its sender blocks there; ours does not, and what waits in our queue is just as late.
    mutating func relieveCongestion(_ v: Int) {
        let state = volumes[v].state
        guard link.version >= 96, link.isUsable, state.disk == .upToDate,
            state.connection == .connected || state.connection.isSyncSource, !volumes[v].owesResyncEnd
        else { return }
        let fill = link.options.congestionFill
        let isFull = fill > 0 && volumes[v].inFlightSectors >= fill
        guard isFull || volumes[v].activityLog.slotsInUse >= link.options.congestionExtents else { return }
        log(.info, v, isFull ? "Congestion-fill threshold reached" : "Congestion-extents threshold reached")
        switch link.options.onCongestion {
        case .block: break
        case .pullAhead:
            setState(v) { $0.connection = .ahead }
            // Its acknowledgement tells that the peer knows.
            closeEpoch()
        // Not in the middle of a step: other requests are being looked at.
        case .disconnect: link.isGivenUp = true
        }
    }

    /// The end of a step in which the link was found to be congested, and to be given up for that.
    mutating func giveUpCongestedLink() {
        guard link.isGivenUp else { return }
        link.isGivenUp = false
        connectionFailed(.disconnecting, because: .congestion)
    }

    /// An epoch was acknowledged, or there is none: the way back begins when nothing is under way.
    mutating func mayCatchUp(_ v: Int) {
        guard volumes[v].state.connection == .ahead, volumes[v].inFlightSectors == 0, volumes[v].catchUpAt == nil,
            !volumes[v].asksToCatchUp, volumes[v].resyncHandler == nil
        else { return }
        catchUpLater(v, .seconds(1))
    }

    private mutating func catchUpLater(_ v: Int, _ span: TimeSpan) {
        let moment = now + span
        volumes[v].catchUpAt = moment
        if timers.deadline(.catchUp).map({ moment < $0 }) ?? true { timers.set(.catchUp, moment) }
    }

    mutating func catchUpDue() {
        for v in volumes.indices {
            guard let moment = volumes[v].catchUpAt, moment <= now else { continue }
            volumes[v].catchUpAt = nil
            guard volumes[v].state.connection == .ahead else { continue }
            if owesAnswers(v) {
                catchUpLater(v, .milliseconds(100))
            } else {
                // P_SYNC_UUID travels on the other stream than our last P_RS_CANCEL, and must not overtake it.
                volumes[v].asksToCatchUp = true
                afterPing(v, .catchesUp)
            }
        }
        for v in volumes.indices {
            guard let moment = volumes[v].catchUpAt else { continue }
            if timers.deadline(.catchUp).map({ moment < $0 }) ?? true { timers.set(.catchUp, moment) }
        }
    }

    /// The peer waits for something from us, or we for its word on a resync block.
    private func owesAnswers(_ v: Int) -> Bool {
        volumes[v].counters.unacknowledged > 0 || volumes[v].resyncRepliesPending > 0 || volumes[v].inFlightSectors > 0
    }

    /// The peer has all that we said on the meta stream.
    mutating func catchesUp(_ v: Int) {
        volumes[v].asksToCatchUp = false
        guard volumes[v].state.connection == .ahead else { return }
        if owesAnswers(v) { return catchUpLater(v, .milliseconds(100)) }
        startSource(v)
    }

    /// The peer has marked a block in sync, with what it had got before we pulled ahead. It may have been written again here
    /// since, and nobody was told because the bit was set already: then the peer shall have its bit back.
    mutating func takeBackInSync(_ v: Int, _ range: SectorRange) {
        guard volumes[v].state.connection == .ahead, volumes[v].bitmap.isAnySet(in: range) else { return }
        send(.data, v, .outOfSync(AreaPacket(sector: range.start, byteCount: range.byteCount)))
    }

    /// Our target has pulled ahead as soon as it had everything: our own end must not wait for a ping any longer. False if it
    /// has not said that it has.
    mutating func sourceEndsBeforeFallingBehind(_ v: Int) -> Bool {
        guard volumes[v].state.connection.isSyncSource else { return true }
        guard let resync = volumes[v].resync, resync.targetReported, volumes[v].bitmap.weight <= resync.failed else { return false }
        volumes[v].resync?.isEnding = true
        sourceEnds(v)
        return true
    }

    /// A volume enters or leaves Ahead, or becomes Behind.
    mutating func followCongestion(_ v: Int, from old: VolumeState, to new: VolumeState) {
        if new.connection == .ahead, old.connection != .ahead {
            if volumes[v].resync != nil { endResync(v) }
            volumes[v].catchUpAt = nil
            volumes[v].asksToCatchUp = false
            // If our disk fails now, nobody may go on with the peer's.
            volumes[v].peerIsBehind = true
            mayCatchUp(v)
        }
        if old.connection == .ahead, new.connection != .ahead {
            volumes[v].catchUpAt = nil
            volumes[v].asksToCatchUp = false
            // Nobody stops being Primary while only its bitmap knows what the peer lacks.
            demotionsMayContinue()
        }
        // Whoever asks our disk from now on has to know that it lacks something.
        if new.connection == .behind, old.connection != .behind { enqueue(v, .superblock) }
    }
}
