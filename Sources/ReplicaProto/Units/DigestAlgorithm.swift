/// An unkeyed digest of blocks that two nodes can agree on (`verify-alg`, `csums-alg`, `data-integrity-alg`), by the
/// names that the kernel's crypto interface has for them.
///
/// The bytes of a digest are those that the kernel's implementation puts out; for crc32c that is the common CRC-32C, least
/// significant byte first (`wire.md` 7.9).
package enum DigestAlgorithm: UInt8, CaseIterable, Sendable {
    case crc32c
    case md5
    case sha1, sha224, sha256, sha384, sha512
    case sha3of224, sha3of256, sha3of384, sha3of512
    case rmd160
    case sm3

    /// nil for a name that is not known; the empty name, too.
    package init?(_ name: String) {
        guard let found = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }

    package var name: String {
        switch self {
        case .crc32c: "crc32c"
        case .md5: "md5"
        case .sha1: "sha1"
        case .sha224: "sha224"
        case .sha256: "sha256"
        case .sha384: "sha384"
        case .sha512: "sha512"
        case .sha3of224: "sha3-224"
        case .sha3of256: "sha3-256"
        case .sha3of384: "sha3-384"
        case .sha3of512: "sha3-512"
        case .rmd160: "rmd160"
        case .sm3: "sm3"
        }
    }

    /// Bytes of a digest; at most `Limits.digestBytes`.
    package var size: Int {
        switch self {
        case .crc32c: 4
        case .md5: 16
        case .sha1, .rmd160: 20
        case .sha224, .sha3of224: 28
        case .sha256, .sha3of256, .sm3: 32
        case .sha384, .sha3of384: 48
        case .sha512, .sha3of512: 64
        }
    }
}
