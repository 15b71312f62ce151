/// Disks that do not answer: `disk-timeout` (`metadata.md` 7.3) and `detach --force`.
///
/// Such a disk is left as a crash would leave it: nothing is flushed or written any more, and the activity log says what to
/// copy when it comes back. Whatever it still does with what it has been given it does before it can be opened again.
extension Resource {
    /// How long an operation of this disk may take before the disk counts as failed; nil: as long as it likes.
    package func diskTimeout(_ number: VolumeNumber) -> TimeSpan? {
        guard let v = index(of: number), volumes[v].diskOptions.diskTimeout > 0 else { return nil }
        return .deciseconds(volumes[v].diskOptions.diskTimeout)
    }

    /// Detaches by force whatever `on-io-error` says: an error that never comes can't be passed on.
    mutating func diskTimedOut(_ number: VolumeNumber) {
        guard let v = index(of: number), volumes[v].diskOptions.diskTimeout > 0 else { return }
        log(.warning, v, "Local backing device failed to meet the disk-timeout")
        abandonDisk(v)
    }

    private mutating func abandonDisk(_ v: Int) {
        let disk = volumes[v].state.disk
        guard disk != .diskless, disk != .unknown, !volumes[v].isAbandoned else { return }
        volumes[v].isAbandoned = true
        volumes[v].metadataBroken = true
        emit(.abandonDisk(volumes[v].number))
        if disk != .attaching, disk != .failed { loseDisk(v) }
        // What was answered to the peer, and is in no acknowledged epoch, may never get there.
        receivedWritesAreInDoubt()
    }

    /// How long a disk that works has to end what it is at.
    private static let forcedDetachGrace = TimeSpan.seconds(2)

    mutating func detachByForce(_ command: CommandID, _ v: Int) {
        volumes[v].detachCommand = command
        volumes[v].isForcedOff = true
        timers.set(.forcedDetach, now + Self.forcedDetachGrace)
        setState(v) { $0.disk = .failed }
    }

    /// It hangs: the administrator, the clients and the peer wait no longer. The disk stays Failed until it has answered.
    mutating func forcedDetachesDue() {
        for v in volumes.indices where volumes[v].isForcedOff && volumes[v].state.disk == .failed {
            abandonDisk(v)
            if let command = volumes[v].detachCommand {
                volumes[v].detachCommand = nil
                answer(command, .success)
            }
        }
    }
}
