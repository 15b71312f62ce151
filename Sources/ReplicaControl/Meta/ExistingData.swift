/// What the beginning of a device looks like, judged before metadata is put there (`metadata.md` 8.5).
package enum ExistingData: Equatable, Sendable {
    case nothing
    /// A known signature, and the bytes its owner uses as far as the signature tells.
    case recognised(String, usedBytes: UInt64?)
    case logicalVolumeManager
    case something

    /// Bytes looked at: 68 KiB.
    package static let inspectedBytes = 69632

    package init(_ bytes: [UInt8]) {
        func has(_ text: String, at offset: Int) -> Bool {
            offset + text.utf8.count <= bytes.count
                && bytes[offset..<offset + text.utf8.count].elementsEqual(text.utf8)
        }
        func little(_ offset: Int, _ size: Int) -> UInt64 {
            guard offset + size <= bytes.count else { return 0 }
            return bytes[offset..<offset + size].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        func big(_ offset: Int, _ size: Int) -> UInt64 {
            guard offset + size <= bytes.count else { return 0 }
            return bytes[offset..<offset + size].reduce(0) { $0 << 8 | UInt64($1) }
        }
        func product(_ count: UInt64, _ size: UInt64) -> UInt64 {
            let (bytes, overflow) = count.multipliedReportingOverflow(by: size)
            return overflow ? .max : bytes
        }
        if bytes.allSatisfy({ $0 == 0 }) {
            self = .nothing
        } else if [4086, 8182].contains(where: { has("SWAP-SPACE", at: $0) || has("SWAPSPACE2", at: $0) }) {
            self = .recognised("swap space signature", usedBytes: nil)
        } else if has("LVM2", at: 0x218) {
            self = .logicalVolumeManager
        } else if little(0x438, 2) == 0xef53 {
            let shift = little(0x418, 4)
            self = .recognised(
                little(0x45c, 1) & 4 != 0 ? "ext3 filesystem" : "ext2 filesystem",
                usedBytes: product(little(0x404, 4), shift <= 2 ? 1024 << shift : 4096))
        } else if has("XFSB", at: 0) {
            self = .recognised("xfs filesystem", usedBytes: product(big(8, 8), big(4, 4)))
        } else if has("JFS1", at: 0x8000) {
            self = .recognised("JFS filesystem", usedBytes: product(little(0x8008, 8), little(0x8018, 4)))
        } else if has("ReIsErFs", at: 0x10034) || has("ReIsEr2Fs", at: 0x10034) {
            self = .recognised("reiser filesystem", usedBytes: product(little(0x10000, 4), little(0x1002c, 2)))
        } else {
            self = .something
        }
    }

    /// "Found ..."
    package var name: String? {
        switch self {
        case .nothing: nil
        case .recognised(let name, _): name
        case .logicalVolumeManager: "LVM2 physical volume signature"
        case .something: "some data"
        }
    }
}
