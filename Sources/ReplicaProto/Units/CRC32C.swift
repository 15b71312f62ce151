/// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78), eight bytes per step.
///
/// Two conventions are in use: `checksum` is the common one (iSCSI, also what the kernel's `crc32c` digest prints),
/// `raw` starts from a given remainder and inverts nothing, which is how the activity log uses it
/// (`metadata.md` 4.2).
package enum CRC32C {
    /// The usual form: initial value and final xor all ones. `"123456789"` gives 0xe3069283.
    package static func checksum(_ bytes: RawSpan) -> UInt32 {
        ~raw(bytes, continuing: .max)
    }

    /// The bare remainder, continuing from another one. `"123456789"` gives 0x58e3fa20; zeroes give zero.
    package static func raw(_ bytes: RawSpan, continuing remainder: UInt32 = 0) -> UInt32 {
        let table = tables
        var crc = remainder
        var offset = 0
        let count = bytes.byteCount
        while offset &+ 8 <= count {
            let word = bytes.readLE64(at: offset) ^ UInt64(crc)
            crc = table[0x700 &+ Int(word & 0xff)]
            crc ^= table[0x600 &+ Int(word >> 8 & 0xff)]
            crc ^= table[0x500 &+ Int(word >> 16 & 0xff)]
            crc ^= table[0x400 &+ Int(word >> 24 & 0xff)]
            crc ^= table[0x300 &+ Int(word >> 32 & 0xff)]
            crc ^= table[0x200 &+ Int(word >> 40 & 0xff)]
            crc ^= table[0x100 &+ Int(word >> 48 & 0xff)]
            crc ^= table[Int(word >> 56)]
            offset &+= 8
        }
        while offset < count {
            crc = crc >> 8 ^ table[Int((crc ^ UInt32(bytes.readU8(at: offset))) & 0xff)]
            offset &+= 1
        }
        return crc
    }

    /// Eight tables of 256 entries; table k answers for a byte that k more bytes follow.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for index in 0..<256 {
            var value = UInt32(index)
            for _ in 0..<8 { value = value >> 1 ^ (value & 1 == 1 ? 0x82f6_3b78 : 0) }
            tables[index] = value
        }
        for index in 256..<8 * 256 {
            let shorter = tables[index - 256]
            tables[index] = shorter >> 8 ^ tables[Int(shorter & 0xff)]
        }
        return tables
    }()
}
