/// Which of two good disks a read goes to (`read-balancing`).
///
/// Only where both would give the same answer: both disks UpToDate, the block not marked, and no write to it that the peer
/// has not confirmed. A reply from there may otherwise be older than an answer that a client has had.
extension Resource {
    /// Whether a read that our disk could serve is the peer's. Remembers its turn.
    mutating func isPeersTurn(_ v: Int, _ range: SectorRange) -> Bool {
        // Another Primary's disk may show a write that nobody has been answered, and that dies with it.
        guard volumes[v].state.disk == .upToDate, volumes[v].state.peerRole != .primary, range.byteCount <= maximumRequest,
            prefersPeer(v, range)
        else { return false }
        return isEqualOnPeer(v, range)
    }

    private mutating func prefersPeer(_ v: Int, _ range: SectorRange) -> Bool {
        switch volumes[v].diskOptions.readBalancing {
        case .preferLocal: return false
        case .preferRemote: return true
        case .roundRobin:
            volumes[v].readsRemotelyNext.toggle()
            return !volumes[v].readsRemotelyNext
        case .leastPending: return volumes[v].localPending > volumes[v].counters.peerPending
        case .whenCongestedRemote: return volumes[v].localPending >= Limits.congestedDiskRequests
        case .striping(let shift): return (range.start.value &* Sector.bytes) >> UInt64(shift) & 1 == 1
        }
    }

    private func isEqualOnPeer(_ v: Int, _ range: SectorRange) -> Bool {
        if volumes[v].bitmap.isAnySet(in: range) { return false }
        var r = transferLog.head
        while r >= 0 {
            if requests[r].volume == v, requests[r].remote != .written, requests[r].range.overlaps(range) { return false }
            r = requests[r].logNext
        }
        return true
    }
}
