/// Loads and stores of multi-byte integers at byte offsets: the only place of the core with unsafe loads.
///
/// Every access is checked against the span's bounds and stops the process when it lies outside, so a decoder of
/// foreign bytes checks `byteCount` first and answers a short input with its own typed error.
extension RawSpan {
    @inlinable package func readU8(at offset: Int) -> UInt8 {
        unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt8.self)
    }
    @inlinable package func readBE16(at offset: Int) -> UInt16 {
        UInt16(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
    @inlinable package func readBE32(at offset: Int) -> UInt32 {
        UInt32(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    @inlinable package func readBE64(at offset: Int) -> UInt64 {
        UInt64(bigEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    @inlinable package func readLE16(at offset: Int) -> UInt16 {
        UInt16(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }
    @inlinable package func readLE32(at offset: Int) -> UInt32 {
        UInt32(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
    @inlinable package func readLE64(at offset: Int) -> UInt64 {
        UInt64(littleEndian: unsafe unsafeLoadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
    /// A copy of `count` bytes from `offset` on.
    package func readBytes(at offset: Int, count: Int) -> [UInt8] {
        unsafe extracting(offset..<offset &+ count).withUnsafeBytes { unsafe [UInt8]($0) }
    }
}

/// Stores at byte offsets, checked like the loads.
extension MutableRawSpan {
    @inlinable package mutating func write(_ value: UInt8, at offset: Int) {
        storeBytes(of: value, toByteOffset: offset, as: UInt8.self)
    }
    @inlinable package mutating func writeBE(_ value: UInt16, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt16.self)
    }
    @inlinable package mutating func writeBE(_ value: UInt32, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt32.self)
    }
    @inlinable package mutating func writeBE(_ value: UInt64, at offset: Int) {
        storeBytes(of: value.bigEndian, toByteOffset: offset, as: UInt64.self)
    }
    @inlinable package mutating func writeLE(_ value: UInt64, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: UInt64.self)
    }
    /// Sets `count` bytes from `offset` on.
    @inlinable package mutating func fill(_ value: UInt8, at offset: Int, count: Int) {
        var position = offset
        let end = offset &+ count
        while position < end {
            storeBytes(of: value, toByteOffset: position, as: UInt8.self)
            position &+= 1
        }
    }
}

/// Appends to output of a fixed capacity; running past it is a mistake of ours and stops the process.
extension OutputRawSpan {
    @inlinable package mutating func appendU8(_ value: UInt8) {
        unsafe append(value, as: UInt8.self)
    }
    @inlinable package mutating func appendBE(_ value: UInt16) {
        unsafe append(value.bigEndian, as: UInt16.self)
    }
    @inlinable package mutating func appendBE(_ value: UInt32) {
        unsafe append(value.bigEndian, as: UInt32.self)
    }
    @inlinable package mutating func appendBE(_ value: UInt64) {
        unsafe append(value.bigEndian, as: UInt64.self)
    }
    @inlinable package mutating func append(_ bytes: RawSpan) {
        var offset = 0
        while offset &+ 8 <= bytes.byteCount {
            unsafe append(bytes.readLE64(at: offset).littleEndian, as: UInt64.self)
            offset &+= 8
        }
        while offset < bytes.byteCount {
            unsafe append(bytes.readU8(at: offset), as: UInt8.self)
            offset &+= 1
        }
    }
}
