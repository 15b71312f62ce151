/// The command field of a packet header: every P_ number of DRBD 8.4 that two nodes exchange.
///
/// 0x05 and 0x06 (P_BECOME_SYNC_TARGET, P_BECOME_SYNC_SOURCE) are obsolete and have no handler; 0x25, 0x26,
/// 0x2e...0x30, 0x35 and 0x40...0x48 are reserved for other protocols. All of them are unknown here.
///
/// Source: DRBD 8.4, `drbd/drbd_protocol.h`, `enum drbd_packet`.
package enum PacketCommand: UInt16, CaseIterable, Sendable {
    // Data stream.
    /// P_DATA
    case data = 0x00
    /// P_DATA_REPLY
    case dataReply = 0x01
    /// P_RS_DATA_REPLY
    case resyncDataReply = 0x02
    /// P_BARRIER
    case barrier = 0x03
    /// P_BITMAP
    case bitmap = 0x04
    /// P_UNPLUG_REMOTE
    case unplugRemote = 0x07
    /// P_DATA_REQUEST
    case dataRequest = 0x08
    /// P_RS_DATA_REQUEST
    case resyncDataRequest = 0x09
    /// P_SYNC_PARAM
    case syncParameters = 0x0a
    /// P_PROTOCOL
    case protocolParameters = 0x0b
    /// P_UUIDS
    case uuids = 0x0c
    /// P_SIZES
    case sizes = 0x0d
    /// P_STATE
    case state = 0x0e
    /// P_SYNC_UUID
    case syncUUID = 0x0f
    /// P_AUTH_CHALLENGE
    case authChallenge = 0x10
    /// P_AUTH_RESPONSE
    case authResponse = 0x11
    /// P_STATE_CHG_REQ
    case stateChangeRequest = 0x12
    /// P_OV_REQUEST
    case verifyRequest = 0x1e
    /// P_OV_REPLY
    case verifyReply = 0x1f
    /// P_CSUM_RS_REQUEST
    case checksumResyncRequest = 0x21
    /// P_SYNC_PARAM89
    case syncParameters89 = 0x23
    /// P_COMPRESSED_BITMAP
    case compressedBitmap = 0x24
    /// P_DELAY_PROBE, on either stream
    case delayProbe = 0x27
    /// P_OUT_OF_SYNC
    case outOfSync = 0x28
    /// P_CONN_ST_CHG_REQ
    case connectionStateChangeRequest = 0x2a
    /// P_PROTOCOL_UPDATE
    case protocolUpdate = 0x2d
    /// P_TRIM
    case trim = 0x31
    /// P_RS_THIN_REQ
    case thinResyncRequest = 0x32
    /// P_RS_DEALLOCATED
    case resyncDeallocated = 0x33
    /// P_WSAME
    case writeSame = 0x34
    /// P_ZEROES
    case zeroes = 0x36
    /// P_INITIAL_DATA
    case initialData = 0xfff2
    /// P_CONNECTION_FEATURES
    case connectionFeatures = 0xfffe

    // Meta stream.
    /// P_PING
    case ping = 0x13
    /// P_PING_ACK
    case pingAck = 0x14
    /// P_RECV_ACK
    case receiveAck = 0x15
    /// P_WRITE_ACK
    case writeAck = 0x16
    /// P_RS_WRITE_ACK
    case resyncWriteAck = 0x17
    /// P_SUPERSEDED
    case superseded = 0x18
    /// P_NEG_ACK
    case negativeAck = 0x19
    /// P_NEG_DREPLY
    case negativeDataReply = 0x1a
    /// P_NEG_RS_DREPLY
    case negativeResyncReply = 0x1b
    /// P_BARRIER_ACK
    case barrierAck = 0x1c
    /// P_STATE_CHG_REPLY
    case stateChangeReply = 0x1d
    /// P_OV_RESULT
    case verifyResult = 0x20
    /// P_RS_IS_IN_SYNC
    case resyncIsInSync = 0x22
    /// P_RS_CANCEL
    case resyncCancel = 0x29
    /// P_CONN_ST_CHG_REPLY
    case connectionStateChangeReply = 0x2b
    /// P_RETRY_WRITE
    case retryWrite = 0x2c
    /// P_INITIAL_META
    case initialMeta = 0xfff1
}

/// What the catalogue says about one command (`wire.md` 3.1, 3.2).
package struct PacketShape: Equatable, Sendable {
    /// On which stream it travels.
    package enum Streams: UInt8, Equatable, Sendable { case data, meta, both }
    /// What the volume field of its header means.
    package enum VolumeUse: UInt8, Equatable, Sendable {
        /// Names the volume that the packet is about.
        case named
        /// Names a volume that the receiver does not look at (P_UNPLUG_REMOTE).
        case ignored
        /// Zero: the packet concerns the connection.
        case connection
    }

    package var streams: Streams
    /// Bytes of the fixed part; for P_SIZES without the queue limits, which come and go with FF_WSAME.
    package var fixedSize: UInt16
    /// Whether more bytes may follow the fixed part.
    package var isVariable: Bool
    /// The agreed version from which on it may be sent; 0 for what precedes the agreement.
    package var sinceVersion: UInt8
    /// The feature flag without which it may not be sent.
    package var feature: FeatureFlags
    package var volumeUse: VolumeUse

    @inlinable init(
        _ streams: Streams, _ fixedSize: UInt16, isVariable: Bool = false, since sinceVersion: UInt8 = 86,
        feature: FeatureFlags = [], volume volumeUse: VolumeUse = .named
    ) {
        self.streams = streams
        self.fixedSize = fixedSize
        self.isVariable = isVariable
        self.sinceVersion = sinceVersion
        self.feature = feature
        self.volumeUse = volumeUse
    }

    /// Whether a packet of this shape may be sent on a connection with this agreement.
    package func isAvailable(in format: WireFormat) -> Bool {
        if sinceVersion == 0 { return format.version == 0 }
        return format.version >= UInt32(sinceVersion) && format.features.isSuperset(of: feature)
    }
}

extension PacketCommand {
    /// The row of the catalogue.
    package var shape: PacketShape {
        switch self {
        case .data, .dataReply, .resyncDataReply: PacketShape(.data, 24, isVariable: true)
        case .barrier: PacketShape(.data, 8, volume: .connection)
        case .bitmap: PacketShape(.data, 0, isVariable: true)
        case .unplugRemote: PacketShape(.data, 0, volume: .ignored)
        case .dataRequest, .resyncDataRequest: PacketShape(.data, 24)
        case .syncParameters: PacketShape(.data, 0, isVariable: true)
        case .protocolParameters: PacketShape(.data, 24, isVariable: true, volume: .connection)
        case .uuids: PacketShape(.data, 48)
        case .sizes: PacketShape(.data, 32)
        case .state: PacketShape(.data, 4)
        case .syncUUID: PacketShape(.data, 8)
        case .authChallenge, .authResponse: PacketShape(.data, 0, isVariable: true, volume: .connection)
        case .stateChangeRequest: PacketShape(.data, 8)
        case .verifyRequest: PacketShape(.data, 24, since: 88)
        case .verifyReply: PacketShape(.data, 24, isVariable: true, since: 88)
        case .checksumResyncRequest: PacketShape(.data, 24, isVariable: true, since: 89)
        case .syncParameters89: PacketShape(.data, 0, isVariable: true, since: 89)
        case .compressedBitmap: PacketShape(.data, 0, isVariable: true, since: 90)
        case .delayProbe: PacketShape(.both, 8, since: 93, volume: .ignored)
        case .outOfSync: PacketShape(.data, 16, since: 96)
        case .connectionStateChangeRequest: PacketShape(.data, 8, since: 100, volume: .connection)
        case .protocolUpdate: PacketShape(.data, 24, isVariable: true, since: 100, volume: .connection)
        case .trim: PacketShape(.data, 28, since: 95, feature: .trim)
        case .thinResyncRequest: PacketShape(.data, 24, since: 95, feature: .thinResync)
        case .resyncDeallocated: PacketShape(.data, 16, since: 95, feature: .thinResync)
        case .writeSame: PacketShape(.data, 28, isVariable: true, since: 95, feature: .writeSame)
        case .zeroes: PacketShape(.data, 28, since: 95, feature: .writeZeroes)
        case .initialData: PacketShape(.data, 0, since: 0, volume: .connection)
        case .connectionFeatures: PacketShape(.data, 72, since: 0, volume: .connection)

        case .ping, .pingAck: PacketShape(.meta, 0, volume: .connection)
        case .receiveAck, .writeAck, .resyncWriteAck, .superseded, .negativeAck, .negativeDataReply,
            .negativeResyncReply:
            PacketShape(.meta, 24)
        case .barrierAck: PacketShape(.meta, 8, volume: .connection)
        case .stateChangeReply: PacketShape(.meta, 4)
        case .verifyResult: PacketShape(.meta, 24, since: 88)
        case .resyncIsInSync: PacketShape(.meta, 24, since: 89)
        case .resyncCancel: PacketShape(.meta, 24, since: 96)
        case .connectionStateChangeReply: PacketShape(.meta, 4, since: 100, volume: .connection)
        case .retryWrite: PacketShape(.meta, 24, since: 100)
        case .initialMeta: PacketShape(.meta, 0, since: 0, volume: .connection)
        }
    }

    /// The original name.
    package var name: String {
        switch self {
        case .data: "P_DATA"
        case .dataReply: "P_DATA_REPLY"
        case .resyncDataReply: "P_RS_DATA_REPLY"
        case .barrier: "P_BARRIER"
        case .bitmap: "P_BITMAP"
        case .unplugRemote: "P_UNPLUG_REMOTE"
        case .dataRequest: "P_DATA_REQUEST"
        case .resyncDataRequest: "P_RS_DATA_REQUEST"
        case .syncParameters: "P_SYNC_PARAM"
        case .protocolParameters: "P_PROTOCOL"
        case .uuids: "P_UUIDS"
        case .sizes: "P_SIZES"
        case .state: "P_STATE"
        case .syncUUID: "P_SYNC_UUID"
        case .authChallenge: "P_AUTH_CHALLENGE"
        case .authResponse: "P_AUTH_RESPONSE"
        case .stateChangeRequest: "P_STATE_CHG_REQ"
        case .verifyRequest: "P_OV_REQUEST"
        case .verifyReply: "P_OV_REPLY"
        case .checksumResyncRequest: "P_CSUM_RS_REQUEST"
        case .syncParameters89: "P_SYNC_PARAM89"
        case .compressedBitmap: "P_COMPRESSED_BITMAP"
        case .delayProbe: "P_DELAY_PROBE"
        case .outOfSync: "P_OUT_OF_SYNC"
        case .connectionStateChangeRequest: "P_CONN_ST_CHG_REQ"
        case .protocolUpdate: "P_PROTOCOL_UPDATE"
        case .trim: "P_TRIM"
        case .thinResyncRequest: "P_RS_THIN_REQ"
        case .resyncDeallocated: "P_RS_DEALLOCATED"
        case .writeSame: "P_WSAME"
        case .zeroes: "P_ZEROES"
        case .initialData: "P_INITIAL_DATA"
        case .connectionFeatures: "P_CONNECTION_FEATURES"
        case .ping: "P_PING"
        case .pingAck: "P_PING_ACK"
        case .receiveAck: "P_RECV_ACK"
        case .writeAck: "P_WRITE_ACK"
        case .resyncWriteAck: "P_RS_WRITE_ACK"
        case .superseded: "P_SUPERSEDED"
        case .negativeAck: "P_NEG_ACK"
        case .negativeDataReply: "P_NEG_DREPLY"
        case .negativeResyncReply: "P_NEG_RS_DREPLY"
        case .barrierAck: "P_BARRIER_ACK"
        case .stateChangeReply: "P_STATE_CHG_REPLY"
        case .verifyResult: "P_OV_RESULT"
        case .resyncIsInSync: "P_RS_IS_IN_SYNC"
        case .resyncCancel: "P_RS_CANCEL"
        case .connectionStateChangeReply: "P_CONN_ST_CHG_REPLY"
        case .retryWrite: "P_RETRY_WRITE"
        case .initialMeta: "P_INITIAL_META"
        }
    }
}
