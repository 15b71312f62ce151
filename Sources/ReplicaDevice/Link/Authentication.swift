import COpenSSL
import Glibc
import ReplicaProto

/// The cryptography of the handshake (CRAM-HMAC, `wire.md` 4.3). Comparing is the core's affair.
enum Authentication {
    /// 64 unpredictable bytes.
    static func challenge() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 64)
        // A generator that fails must not lead to a guessable challenge.
        if RAND_bytes(&bytes, Int32(bytes.count)) != 1 {
            var generator = SystemRandomNumberGenerator()
            for k in bytes.indices { bytes[k] = UInt8.random(in: .min ... .max, using: &generator) }
        }
        return bytes
    }

    /// Names that the kernel knows for checksums of blocks and OpenSSL does not.
    private static let checksums = ["crc32", "crc32c", "crct10dif", "xxhash64"]

    /// What is wrong with the algorithm that options name (`control.md` 2.11, 120 and 121): an administrator wants to hear
    /// of it now, not when the peer comes. Nil if it is known. Digests of blocks are the core's affair.
    static func problem(_ options: NetOptions) -> CommandAnswer? {
        let name = options.cramHMACAlgorithm
        if !name.isEmpty, hmac(algorithm: name, key: [0], message: [0]) == nil {
            return CommandAnswer(code: checksums.contains(name) ? 121 : 120, text: "cram-hmac-alg '\(name)'")
        }
        return nil
    }

    /// HMAC with the digest that the kernel calls `algorithm`; nil if there is none of that name.
    static func hmac(algorithm: String, key: [UInt8], message: [UInt8]) -> [UInt8]? {
        guard let digest = EVP_get_digestbyname(algorithm) else { return nil }
        var result = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        // A zero-length key still needs an address.
        let padded = key.isEmpty ? [0] : key
        guard HMAC(digest, padded, Int32(key.count), message, message.count, &result, &length) != nil else { return nil }
        return Array(result.prefix(Int(length)))
    }
}
