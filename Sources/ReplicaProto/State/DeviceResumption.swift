/// A device that applications had open when the daemon of its Primary died: whether the next daemon may go on with it.
///
/// The applications saw the data of one generation. They may see it again if it is still the same and whole; once the peer
/// has given us its own, what they hold in their caches belongs to something else.
package struct DeviceResumption: Equatable, Sendable {
    /// The generation at the end of the daemon before us, without the bit that tells the role.
    package let generation: UInt64

    package enum Verdict: Equatable, Sendable {
        /// Not yet, or not without being told.
        case wait
        case promote
        /// Never: the data is another's.
        case superseded
    }

    /// From the metadata as the attach found them; nil if they don't tell what the applications saw: this node was not
    /// Primary, or its reads came from the peer.
    package init?(_ superblock: Superblock) {
        guard superblock.flags.contains(.primaryIndicator) || superblock.flags.contains(.crashedPrimary),
            superblock.flags.contains(.consistent), superblock.flags.contains(.wasUpToDate)
        else { return nil }
        generation = superblock.identifiers.current & ~1
    }

    /// As a daemon that has handed over, or was about to, told of what its applications saw. It was not Primary in the end, so
    /// the metadata do not tell.
    package init?(_ superblock: Superblock, handedOver generation: UInt64) {
        guard superblock.flags.contains(.consistent), superblock.flags.contains(.wasUpToDate),
            superblock.identifiers.current & ~1 == generation & ~1
        else { return nil }
        self.generation = generation & ~1
    }

    /// - Parameters:
    ///   - waitedForPeer: the time for a meeting is over.
    ///   - wasAlone: the daemon before us was StandAlone, and its applications worked.
    package func verdict(_ state: VolumeState, current: UInt64, waitedForPeer: Bool, wasAlone: Bool = false) -> Verdict {
        switch (state.disk, state.connection) {
        case (.diskless, _), (.attaching, _), (.failed, _), (.negotiating, _), (.unknown, _): .wait
        case (_, .startingSyncT), (_, .wfBitMapT), (_, .wfSyncUUID), (_, .syncTarget), (_, .pausedSyncT), (_, .behind):
            .superseded
        case (.consistent, _), (.upToDate, _), (.outdated, _), (.inconsistent, _):
            if current & ~1 != generation {
                .superseded
            } else {
                switch state.connection {
                // Alone by a decision, ours or of split-brain policies; or about to be.
                case .standAlone: wasAlone ? .promote : .wait
                case .disconnecting, .tearDown, .protocolError: .wait
                case .wfReportParams: .wait
                case .unconnected, .timeout, .brokenPipe, .networkFailure, .wfConnection: waitedForPeer ? .promote : .wait
                case .connected, .startingSyncS, .wfBitMapS, .syncSource, .verifyS, .verifyT, .pausedSyncS, .ahead: .promote
                case .startingSyncT, .wfBitMapT, .wfSyncUUID, .syncTarget, .pausedSyncT, .behind: .superseded
                }
            }
        }
    }
}
