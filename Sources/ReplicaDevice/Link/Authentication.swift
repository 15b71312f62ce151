import COpenSSL
import Glibc

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
