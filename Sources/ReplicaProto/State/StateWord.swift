/// The packed form of a volume's state: 32 bits, bit 0 least significant, big-endian on the wire.
///
/// |   bits | field                     |    bits | field              |
/// |-------:|---------------------------|--------:|--------------------|
/// |   0..1 | role                      |      18 | pausedByDependency |
/// |   2..3 | peerRole                  |      19 | pausedByPeer       |
/// |   4..8 | connection                |      20 | pausedByUser       |
/// |  9..12 | disk                      |      21 | suspendedNoData    |
/// | 13..16 | peerDisk                  |      22 | suspendedFencing   |
/// |     17 | suspendedByUser           |  23..31 | zero               |
///
/// Source: DRBD 8.4, `linux/drbd.h`, `union drbd_state` (`wire.md` 6.1).
enum StateField {
    static let roleMask: UInt32 = 0x3
    static let peerRoleShift: UInt32 = 2
    static let connectionShift: UInt32 = 4
    static let connectionMask: UInt32 = 0x1f
    static let diskShift: UInt32 = 9
    static let diskMask: UInt32 = 0xf
    static let peerDiskShift: UInt32 = 13
    static let suspendedByUser: UInt32 = 1 << 17
    static let pausedByDependency: UInt32 = 1 << 18
    static let pausedByPeer: UInt32 = 1 << 19
    static let pausedByUser: UInt32 = 1 << 20
    static let suspendedNoData: UInt32 = 1 << 21
    static let suspendedFencing: UInt32 = 1 << 22

    static func connection(_ word: UInt32) -> UInt32 { (word >> connectionShift) & connectionMask }
    static func disk(_ word: UInt32) -> UInt32 { (word >> diskShift) & diskMask }
    static func peerDisk(_ word: UInt32) -> UInt32 { (word >> peerDiskShift) & diskMask }
    static func role(_ word: UInt32) -> UInt32 { word & roleMask }
    static func peerRole(_ word: UInt32) -> UInt32 { (word >> peerRoleShift) & roleMask }
}

extension VolumeState {
    /// This state as a word; never with a bit above 22.
    package var word: UInt32 {
        var word = UInt32(role.rawValue)
        word |= UInt32(peerRole.rawValue) << StateField.peerRoleShift
        word |= UInt32(connection.rawValue) << StateField.connectionShift
        word |= UInt32(disk.rawValue) << StateField.diskShift
        word |= UInt32(peerDisk.rawValue) << StateField.peerDiskShift
        if suspendedByUser { word |= StateField.suspendedByUser }
        if pausedByDependency { word |= StateField.pausedByDependency }
        if pausedByPeer { word |= StateField.pausedByPeer }
        if pausedByUser { word |= StateField.pausedByUser }
        if suspendedNoData { word |= StateField.suspendedNoData }
        if suspendedFencing { word |= StateField.suspendedFencing }
        return word
    }

    /// Reads a word from the wire. Bits above 22 are ignored; nil if a field holds a value that no state has.
    package init?(word: UInt32) {
        guard let role = Role(rawValue: UInt8(StateField.role(word))),
            let peerRole = Role(rawValue: UInt8(StateField.peerRole(word))),
            let connection = ConnectionState(rawValue: UInt8(StateField.connection(word))),
            let disk = DiskState(rawValue: UInt8(StateField.disk(word))),
            let peerDisk = DiskState(rawValue: UInt8(StateField.peerDisk(word)))
        else { return nil }
        self.init()
        self.role = role
        self.peerRole = peerRole
        self.connection = connection
        self.disk = disk
        self.peerDisk = peerDisk
        suspendedByUser = word & StateField.suspendedByUser != 0
        pausedByDependency = word & StateField.pausedByDependency != 0
        pausedByPeer = word & StateField.pausedByPeer != 0
        pausedByUser = word & StateField.pausedByUser != 0
        suspendedNoData = word & StateField.suspendedNoData != 0
        suspendedFencing = word & StateField.suspendedFencing != 0
    }
}

/// A wish for a change: the fields under `mask` take the bits of `value` (P_STATE_CHG_REQ, P_CONN_ST_CHG_REQ).
package struct StateChange: Equatable, Sendable {
    package var mask: UInt32
    package var value: UInt32

    package init(mask: UInt32, value: UInt32) {
        self.mask = mask
        self.value = value
    }
    package init(_ request: StateChangeRequest) { self.init(mask: request.mask, value: request.value) }

    /// What a request looks like from the other node (`wire.md` 6.5, step 2): own and peer fields trade places, and a
    /// connection state becomes the one that belongs on our side.
    ///
    /// Fields that are nobody else's business (frozen I/O, our own reasons to pause) are dropped: no request of a DRBD
    /// node names them, and a peer shall not set them.
    package func mirrored() -> StateChange {
        StateChange(mask: Self.mirror(mask), value: Self.mirror(value))
    }

    /// The state after the change; nil if the word that results names no state.
    package func applied(to state: VolumeState) -> VolumeState? {
        VolumeState(word: (state.word & ~mask) | value)
    }

    private static func mirror(_ word: UInt32) -> UInt32 {
        var seen = StateField.peerRole(word)
        seen |= StateField.role(word) << StateField.peerRoleShift
        seen |= mirrorConnection(StateField.connection(word)) << StateField.connectionShift
        seen |= StateField.peerDisk(word) << StateField.diskShift
        seen |= StateField.disk(word) << StateField.peerDiskShift
        if word & (StateField.pausedByDependency | StateField.pausedByUser) != 0 { seen |= StateField.pausedByPeer }
        return seen
    }

    private static func mirrorConnection(_ raw: UInt32) -> UInt32 {
        if raw == StateField.connectionMask { return raw }
        let seen: ConnectionState =
            switch ConnectionState(rawValue: UInt8(raw)) {
            case .wfReportParams: .wfReportParams
            case .connected: .connected
            case .startingSyncS: .startingSyncT
            case .startingSyncT: .startingSyncS
            case .verifyS: .verifyT
            case .disconnecting: .tearDown
            default: .standAlone
            }
        return UInt32(seen.rawValue)
    }
}
