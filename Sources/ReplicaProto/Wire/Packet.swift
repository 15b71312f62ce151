/// One message between two nodes, without its payload bytes: those travel as a `BufferSlot` beside it.
///
/// Each case names the original command in its comment; numbers and layouts are in `PacketCommand` and the
/// `...Packets.swift` files. The volume number travels beside the packet, too.
package enum Packet: Equatable, Sendable {
    // Data stream.
    /// P_DATA
    case data(DataPacket)
    /// P_DATA_REPLY
    case dataReply(DataPacket)
    /// P_RS_DATA_REPLY
    case resyncDataReply(DataPacket)
    /// P_BARRIER
    case barrier(number: UInt32)
    /// P_BITMAP; bytes are the plain chunk, empty at the end of a transfer.
    case bitmap([UInt8])
    /// P_COMPRESSED_BITMAP; bytes are the encoding byte and the code.
    case compressedBitmap([UInt8])
    /// P_UNPLUG_REMOTE
    case unplugRemote
    /// P_DATA_REQUEST
    case dataRequest(BlockRequest)
    /// P_RS_DATA_REQUEST
    case resyncDataRequest(BlockRequest)
    /// P_SYNC_PARAM (v88 and older) and P_SYNC_PARAM89: the agreed version decides the form.
    case syncParameters(SyncParameters)
    /// P_PROTOCOL
    case protocolParameters(ProtocolParameters)
    /// P_PROTOCOL_UPDATE
    case protocolUpdate(ProtocolParameters)
    /// P_UUIDS
    case uuids(UUIDsPacket)
    /// P_SIZES
    case sizes(SizesPacket)
    /// P_STATE: the packed state word.
    case state(UInt32)
    /// P_SYNC_UUID
    case syncUUID(UInt64)
    /// P_AUTH_CHALLENGE
    case authChallenge([UInt8])
    /// P_AUTH_RESPONSE
    case authResponse([UInt8])
    /// P_STATE_CHG_REQ
    case stateChangeRequest(StateChangeRequest)
    /// P_CONN_ST_CHG_REQ
    case connectionStateChangeRequest(StateChangeRequest)
    /// P_OV_REQUEST
    case verifyRequest(BlockRequest)
    /// P_OV_REPLY; the digest is the payload.
    case verifyReply(BlockRequest)
    /// P_CSUM_RS_REQUEST; the digest is the payload.
    case checksumResyncRequest(BlockRequest)
    /// P_DELAY_PROBE: ignored on either stream, never sent.
    case delayProbe
    /// P_OUT_OF_SYNC
    case outOfSync(AreaPacket)
    /// P_TRIM
    case trim(DiscardPacket)
    /// P_RS_THIN_REQ
    case thinResyncRequest(BlockRequest)
    /// P_RS_DEALLOCATED
    case resyncDeallocated(AreaPacket)
    /// P_WSAME; one logical block is the payload.
    case writeSame(DiscardPacket)
    /// P_ZEROES
    case zeroes(DiscardPacket)
    /// P_CONNECTION_FEATURES
    case connectionFeatures(ConnectionFeatures)
    /// P_INITIAL_DATA: first bytes of a data stream, from its initiator.
    case initialData
    /// P_INITIAL_META: first bytes of a meta stream, from its initiator.
    case initialMeta

    // Meta stream.
    /// P_PING
    case ping
    /// P_PING_ACK
    case pingAck
    /// P_RECV_ACK
    case receiveAck(BlockAck)
    /// P_WRITE_ACK
    case writeAck(BlockAck)
    /// P_RS_WRITE_ACK
    case resyncWriteAck(BlockAck)
    /// P_SUPERSEDED
    case superseded(BlockAck)
    /// P_NEG_ACK
    case negativeAck(BlockAck)
    /// P_NEG_DREPLY
    case negativeDataReply(BlockAck)
    /// P_NEG_RS_DREPLY
    case negativeResyncReply(BlockAck)
    /// P_BARRIER_ACK
    case barrierAck(number: UInt32, setSize: UInt32)
    /// P_STATE_CHG_REPLY
    case stateChangeReply(Int32)
    /// P_CONN_ST_CHG_REPLY
    case connectionStateChangeReply(Int32)
    /// P_OV_RESULT
    case verifyResult(BlockAck)
    /// P_RS_IS_IN_SYNC
    case resyncIsInSync(BlockAck)
    /// P_RS_CANCEL
    case resyncCancel(BlockAck)
    /// P_RETRY_WRITE
    case retryWrite(BlockAck)
}
