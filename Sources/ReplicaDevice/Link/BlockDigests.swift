import COpenSSL
import Glibc
import ReplicaProto

/// Digests of blocks, computed where the blocks lie: crc32c by the core's tables, the others by OpenSSL with one context
/// that is used again and again.
struct BlockDigests: ~Copyable {
    private let context: OpaquePointer
    /// By raw value of the algorithm; nil until it is used, or where OpenSSL has none of that name.
    private var known: [OpaquePointer?]
    /// The digest that is compared.
    private let scratch: UnsafeMutableRawPointer

    init() {
        guard let context = EVP_MD_CTX_new() else { fatalError("no memory for a digest context") }
        self.context = context
        known = Array(repeating: nil, count: DigestAlgorithm.allCases.count)
        scratch = .allocate(byteCount: Int(EVP_MAX_MD_SIZE), alignment: 8)
    }

    deinit {
        EVP_MD_CTX_free(context)
        for case let digest? in known { EVP_MD_free(digest) }
        scratch.deallocate()
    }

    /// Puts the digest (`algorithm.size` bytes) into `target`. False if the algorithm is not available here.
    mutating func compute(_ algorithm: DigestAlgorithm, _ bytes: UnsafeRawBufferPointer, into target: UnsafeMutableRawPointer) -> Bool {
        if algorithm == .crc32c {
            target.storeBytes(of: CRC32C.checksum(bytes.bytes).littleEndian, as: UInt32.self)
            return true
        }
        guard let digest = digest(algorithm) else { return false }
        var length: UInt32 = 0
        let isDone =
            EVP_DigestInit_ex(context, digest, nil) == 1 && EVP_DigestUpdate(context, bytes.baseAddress, bytes.count) == 1
            && EVP_DigestFinal_ex(context, target.assumingMemoryBound(to: UInt8.self), &length) == 1
        return isDone && Int(length) == algorithm.size
    }

    /// Whether the digest of the bytes is this one.
    mutating func matches(_ algorithm: DigestAlgorithm, _ bytes: UnsafeRawBufferPointer, _ digest: UnsafeRawPointer) -> Bool {
        compute(algorithm, bytes, into: scratch) && memcmp(scratch, digest, algorithm.size) == 0
    }

    func isAvailable(_ algorithm: DigestAlgorithm) -> Bool {
        if algorithm == .crc32c { return true }
        guard let found = EVP_MD_fetch(nil, Self.name(algorithm), nil) else { return false }
        EVP_MD_free(found)
        return true
    }

    private mutating func digest(_ algorithm: DigestAlgorithm) -> OpaquePointer? {
        let index = Int(algorithm.rawValue)
        if known[index] == nil { known[index] = EVP_MD_fetch(nil, Self.name(algorithm), nil) }
        return known[index]
    }

    /// OpenSSL's name where it differs from the kernel's.
    private static func name(_ algorithm: DigestAlgorithm) -> String {
        algorithm == .rmd160 ? "RIPEMD-160" : algorithm.name
    }

    /// Whether there is nothing but zeroes.
    static func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let start = bytes.baseAddress, bytes.count > 0 else { return true }
        // The first byte is zero, and every other one equals the one before.
        return bytes[0] == 0 && memcmp(start, start + 1, bytes.count - 1) == 0
    }
}

extension ResourceLoop {
    mutating func compareDigest(
        _ id: PeerRequestID, _ algorithm: DigestAlgorithm, _ data: BufferSlot, _ byteCount: UInt32, _ digest: BufferSlot
    ) {
        let bytes = UnsafeRawBufferPointer(start: pool.address(of: data), count: Int(byteCount))
        later(.blockExamined(id, matches: digests.matches(algorithm, bytes, pool.address(of: digest))))
    }

    mutating func lookForZeroes(_ id: PeerRequestID, _ data: BufferSlot, _ byteCount: UInt32) {
        let bytes = UnsafeRawBufferPointer(start: pool.address(of: data), count: Int(byteCount))
        later(.blockExamined(id, matches: BlockDigests.isZero(bytes)))
    }
}
