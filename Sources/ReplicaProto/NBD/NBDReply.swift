/// Heads of replies to NBD clients. Data, where there is any, follows from its own buffer.
///
/// Simple (16 bytes): magic 0x67446698, error u32, cookie u64.
/// Structured chunk (20 bytes and its payload): magic 0x668e33ef, flags u16 (1 = last chunk of the reply), type u16,
/// cookie u64, length u32.
///
/// Where structured replies are agreed, reads must be answered by chunks and everything else may be answered simply.
///
/// Source: `doc/proto.md` of the NBD project, "Simple reply message", "Structured reply chunk message".
package enum NBDReply {
    @inlinable package static var simpleMagic: UInt32 { 0x6744_6698 }
    @inlinable package static var chunkMagic: UInt32 { 0x668e_33ef }
    /// Bytes of a simple reply.
    @inlinable package static var simpleSize: Int { 16 }
    /// Bytes of a chunk's head.
    @inlinable package static var chunkSize: Int { 20 }
    /// Bytes in front of the data of an NBD_REPLY_TYPE_OFFSET_DATA chunk.
    @inlinable package static var dataChunkSize: Int { 28 }
    /// Bytes of an NBD_REPLY_TYPE_OFFSET_HOLE chunk.
    @inlinable package static var holeChunkSize: Int { 32 }
    /// Bytes of an NBD_REPLY_TYPE_ERROR chunk without text.
    @inlinable package static var errorChunkSize: Int { 26 }
    /// Bytes of an NBD_REPLY_TYPE_ERROR_OFFSET chunk without text.
    @inlinable package static var errorOffsetChunkSize: Int { 34 }
    /// The most that any of the encoders writes.
    @inlinable package static var maximumSize: Int { 34 }

    /// A whole reply, or with `error` nil the head of a read's data.
    @inlinable package static func encodeSimple(cookie: UInt64, error: NBDError?, into output: inout OutputRawSpan) {
        output.appendBE(simpleMagic)
        output.appendBE(error?.rawValue ?? 0)
        output.appendBE(cookie)
    }

    /// NBD_REPLY_TYPE_OFFSET_DATA; `length` bytes of data follow.
    @inlinable package static func encodeData(
        cookie: UInt64, offset: UInt64, length: UInt32, isLast: Bool, into output: inout OutputRawSpan
    ) {
        encodeChunk(type: 1, cookie: cookie, length: length &+ 8, isLast: isLast, into: &output)
        output.appendBE(offset)
    }

    /// NBD_REPLY_TYPE_OFFSET_HOLE: `length` bytes that read as zeroes.
    @inlinable package static func encodeHole(
        cookie: UInt64, offset: UInt64, length: UInt32, isLast: Bool, into output: inout OutputRawSpan
    ) {
        encodeChunk(type: 2, cookie: cookie, length: 12, isLast: isLast, into: &output)
        output.appendBE(offset)
        output.appendBE(length)
    }

    /// NBD_REPLY_TYPE_NONE: success without more to say.
    @inlinable package static func encodeNone(cookie: UInt64, into output: inout OutputRawSpan) {
        encodeChunk(type: 0, cookie: cookie, length: 0, isLast: true, into: &output)
    }

    /// NBD_REPLY_TYPE_ERROR, the last chunk of its reply.
    @inlinable package static func encodeError(cookie: UInt64, error: NBDError, into output: inout OutputRawSpan) {
        encodeChunk(type: 1 << 15 | 1, cookie: cookie, length: 6, isLast: true, into: &output)
        output.appendBE(error.rawValue)
        output.appendBE(0 as UInt16)
    }

    /// NBD_REPLY_TYPE_ERROR_OFFSET: what failed, and where.
    @inlinable package static func encodeError(
        cookie: UInt64, error: NBDError, offset: UInt64, isLast: Bool, into output: inout OutputRawSpan
    ) {
        encodeChunk(type: 1 << 15 | 2, cookie: cookie, length: 14, isLast: isLast, into: &output)
        output.appendBE(error.rawValue)
        output.appendBE(0 as UInt16)
        output.appendBE(offset)
    }

    @inlinable static func encodeChunk(
        type: UInt16, cookie: UInt64, length: UInt32, isLast: Bool, into output: inout OutputRawSpan
    ) {
        output.appendBE(chunkMagic)
        output.appendBE((isLast ? 1 : 0) as UInt16)
        output.appendBE(type)
        output.appendBE(cookie)
        output.appendBE(length)
    }
}
