/// What is wrong with bytes that claim to be a packet.
package enum PacketError: Error, Equatable, Sendable {
    case badMagic(UInt32)
    case nonZeroPad(UInt32)
    case unknownCommand(UInt16)
    /// A known command on the wrong stream.
    case wrongStream(UInt16)
    case badLength(command: UInt16, length: UInt32)
    /// A field has a value that it can't have.
    case badField(command: UInt16)
    /// The digest that came with a block is another than that of the block (`wire.md` 7.9).
    case badDigest(sector: UInt64, byteCount: UInt32)
}
