/// One administrative command to a running resource: what `drbdsetup` would ask of the kernel.
/// Its text form (one line) is read and written in `ControlCommandText.swift`.
package enum ControlCommand: Equatable, Sendable {
    case newMinor(VolumeNumber, minor: UInt32)
    case deleteMinor(VolumeNumber)
    case attach(VolumeNumber, DiskConfiguration)
    case detach(VolumeNumber, force: Bool)
    case diskOptions(VolumeNumber, DiskOptions)
    case connect(ConnectionConfiguration)
    case disconnect(force: Bool)
    case netOptions(NetOptions)
    case resourceOptions(ResourceOptions)
    case primary(VolumeNumber, force: Bool)
    case secondary(VolumeNumber)
    case invalidate(VolumeNumber)
    case invalidateRemote(VolumeNumber)
    case outdate(VolumeNumber)
    case newCurrentUUID(VolumeNumber, clearBitmap: Bool)
    case pauseSync(VolumeNumber)
    case resumeSync(VolumeNumber)
    case suspendIO(VolumeNumber)
    case resumeIO(VolumeNumber)
    /// Sectors from where to where: by default from where the last run was interrupted to the end of the device.
    case verify(VolumeNumber, start: UInt64?, stop: UInt64?)
    /// Uses what the disks have gained.
    case resize(VolumeNumber, ResizeRequest)
    /// Ends when the volume is connected (0), or after the chosen time (5). Zero times mean for ever.
    case waitConnect(VolumeNumber, WaitTimes)
    /// Ends when no resync runs on a connected volume, or it is StandAlone (0), or after the chosen time (5).
    case waitSync(VolumeNumber, WaitTimes)
    /// Demotes, disconnects, detaches everything; the process may end after the answer.
    case down
}

/// Seconds to wait; 0 = for ever (`control.md` 5.3).
package struct WaitTimes: Equatable, Sendable {
    package var wfc: Int
    package var degraded: Int
    package var outdated: Int
    /// Keep waiting although the connection ended in StandAlone after a split brain.
    package var afterSplitBrain: Bool

    package init(wfc: Int = 0, degraded: Int = 0, outdated: Int = 0, afterSplitBrain: Bool = false) {
        self.wfc = wfc
        self.degraded = degraded
        self.outdated = outdated
        self.afterSplitBrain = afterSplitBrain
    }
}
