/// What the superblock's flags say of the data (`metadata.md` 6.4).
extension MetadataFlags {
    /// Disk state of an unconnected node that attaches.
    package func diskState(fencing: FencingPolicy) -> DiskState {
        switch (contains(.consistent), contains(.wasUpToDate), contains(.peerOutdated), fencing) {
        case (false, _, _, _): .inconsistent
        case (true, false, _, _): .outdated
        case (true, true, true, _): .upToDate
        case (true, true, false, .dontCare): .upToDate
        case (true, true, false, .resourceOnly), (true, true, false, .resourceAndStonith): .consistent
        }
    }

    /// The peer's disk state that such a node remembers.
    package var rememberedPeerDisk: DiskState {
        contains(.peerOutdated) ? .outdated : .unknown
    }

    /// What `drbdmeta dstate` prints: it knows no fencing policy, so data that a peer may have overtaken is Consistent.
    package var offlineDiskState: DiskState { diskState(fencing: .resourceOnly) }
}
