/// A bug put in on purpose, so that the simulator can prove that it would notice (`ReplicaSimTests/MutationTests`).
///
/// Each is one way to break a rule that the design stands on. The core asks for them at single places and never acts on
/// one unless a test has set it.
package enum CoreMutation: UInt8, Equatable, Sendable, CaseIterable {
    /// Protocol C answers once the own disk has written, without the peer's write acknowledgement.
    case acknowledgeBeforePeer
    /// An activity log extent is evicted although its bitmap page is not durable yet.
    case evictWithoutBitmapWrite
    /// An extent is released when the own disk has written, not when the epoch is acknowledged.
    case releaseExtentEarly
    /// Cold extents are treated as hot: data is written without an activity log transaction.
    case skipActivityLog
    /// Losing the peer as Primary creates no new generation.
    case skipUUIDRotation
    /// Losing the peer forgets to mark its unacknowledged writes out of sync.
    case skipBitOnPeerLoss
    /// The receiver acknowledges a barrier before the disk has flushed.
    case ackBarrierBeforeFlush
    /// Resync clears bits on both nodes when a block travels, not when it is on the target's disk.
    case clearBitBeforeAck
    /// A resync target reports the end of the resync although blocks are still being written.
    case finishResyncEarly
    /// The activity log is not applied to the bitmap when a crashed primary attaches.
    case skipActivityLogReplay
    /// Writes go on in blocks that an online verify compares.
    case verifyWithoutLock
    /// The source of a resync takes every digest for its own.
    case trustDigests
}
