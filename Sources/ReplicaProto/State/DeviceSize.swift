/// How large a volume is, from what both nodes can and want (`wire.md` 4.6, `metadata.md` 6.3). All in sectors, 0 = not
/// known or not wanted.
package struct DeviceSize: Equatable, Sendable {
    /// What our backing disk offers behind its metadata; 0 without a disk.
    package var own: UInt64
    /// What the peer's backing disk offers; 0 if it has none or was never met.
    package var peer: UInt64
    /// la_size_sect: what both nodes agreed upon the last time.
    package var lastAgreed: UInt64
    /// `size` in the configuration.
    package var configured: UInt64

    package init(own: UInt64, peer: UInt64 = 0, lastAgreed: UInt64 = 0, configured: UInt64 = 0) {
        self.own = own
        self.peer = peer
        self.lastAgreed = lastAgreed
        self.configured = configured
    }

    /// The size that follows. A node on its own never grows beyond what was agreed upon; only an unmet pair takes
    /// everything.
    package var negotiated: UInt64 {
        let offered = available
        return configured != 0 && configured <= offered ? configured : offered
    }

    /// The configured size is more than there is: logged, and not followed.
    package var configuredIsTooBig: Bool { configured > available }

    private var available: UInt64 {
        if own != 0 && peer != 0 { return min(own, peer) }
        if lastAgreed != 0 {
            var size = lastAgreed
            if own != 0 { size = min(size, own) }
            if peer != 0 { size = min(size, peer) }
            return size
        }
        return own != 0 ? own : peer
    }
}

/// What a received P_SIZES does to a volume that has a disk.
package enum PeerSizeVerdict: Equatable, Sendable {
    /// The device gets this size; `configured` is the size limit to remember from now on.
    case resize(to: UInt64, configured: UInt64)
    /// Connecting would cut off usable data: StandAlone.
    case wouldShrink
}

/// What a received P_SIZES does to a volume without a disk of its own.
package enum DisklessSizeVerdict: Equatable, Sendable {
    case keep
    /// The peer is diskless too; it only repeats what we know. Worth a warning.
    case ignorePeerWithoutDisk
    case resize(to: UInt64)
    /// A Primary's device would shrink under its applications: StandAlone.
    case wouldShrinkPrimary
}

extension DeviceSize {
    /// Judges the peer's sizes (`wire.md` 4.6, receiver with a disk, steps 1 to 5).
    ///
    /// - Parameters:
    ///   - packet: what the peer sent.
    ///   - current: size of the device now.
    ///   - state: our state before the packet takes effect.
    package func received(_ packet: SizesPacket, current: UInt64, state: VolumeState) -> PeerSizeVerdict {
        var size = self
        size.peer = min(packet.diskSize, Limits.deviceSectors)
        size.configured = packet.userSize
        if state.connection == .wfReportParams {
            size.configured = Self.smallerKnown(configured, packet.userSize)
        }
        let negotiated = size.negotiated
        let isShaky = state.connection < .connected || state.peerDisk == .diskless
        if negotiated < current && state.disk >= .outdated && isShaky { return .wouldShrink }
        return .resize(to: negotiated, configured: size.configured)
    }

    /// Judges the peer's sizes where we have no disk, or one that is still Negotiating.
    package static func receivedWithoutDisk(
        _ packet: SizesPacket, current: UInt64, role: Role
    ) -> DisklessSizeVerdict {
        let announced =
            packet.currentSize != 0 ? packet.currentSize : packet.userSize != 0 ? packet.userSize : packet.diskSize
        let size = min(announced, Limits.deviceSectors)
        if size == 0 || size == current { return .keep }
        if current != 0 && packet.diskSize == 0 { return .ignorePeerWithoutDisk }
        if size < current && role == .primary { return .wouldShrinkPrimary }
        return .resize(to: size)
    }

    private static func smallerKnown(_ left: UInt64, _ right: UInt64) -> UInt64 {
        left == 0 ? right : right == 0 ? left : min(left, right)
    }
}
