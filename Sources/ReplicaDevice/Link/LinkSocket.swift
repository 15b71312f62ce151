import CUring
import Glibc
import ReplicaProto

/// One TCP stream to the peer, from `connect` or `accept` to the last completion after its end.
struct LinkSocket {
    enum Phase: UInt8 {
        case free
        /// `connect` is under way.
        case connecting
        /// Accepted; its marker is awaited.
        case readingMarker
        /// Connected, not in use yet; watched for its end.
        case parked
        /// Carries packets.
        case inUse
        /// Shut down; operations in flight are awaited.
        case closing
    }

    var phase = Phase.free
    var id = SocketID(0)
    var descriptor: Int32 = -1
    /// Submissions in flight that name the descriptor.
    var pending = 0
    /// When connecting or reading the marker has taken too long, in nanoseconds; `.max` without.
    var deadline = UInt64.max
    var stream = StreamKind.data
    var address = sockaddr_storage()
    var addressLength: socklen_t = 0
    var marker: UInt64 = 0
}

/// The traffic of one stream in use: what was received and not parsed, what waits to be sent.
struct LinkStream: ~Copyable {
    static let receiveBytes = 262_144

    let input: UnsafeMutableRawPointer
    var inputStart = 0
    var inputEnd = 0
    /// A packet whose payload is not complete yet.
    var packet: Packet?
    var packetVolume = VolumeNumber(0)
    var payload = BufferSlot(0)
    var payloadLength = 0
    var payloadReceived = 0
    /// What the payload's digest has to be, by this algorithm; nil without data-integrity-alg.
    let digest: UnsafeMutableRawPointer
    var digestAlgorithm: DigestAlgorithm?
    let vectors: UnsafeMutablePointer<iovec>
    let message: UnsafeMutablePointer<msghdr>
    var isReceiving = false
    /// Parsing stopped for want of a buffer.
    var isShortOfBuffers = false
    var hasFailed = false
    var output: SendQueue
    /// Since when the send in flight has made no progress.
    var sendStarted: UInt64 = 0
    var isDirty = false

    init() {
        input = .allocate(byteCount: Self.receiveBytes, alignment: 64)
        digest = .allocate(byteCount: Limits.digestBytes, alignment: 8)
        vectors = .allocate(capacity: 2)
        vectors.initialize(repeating: iovec(), count: 2)
        message = .allocate(capacity: 1)
        message.initialize(to: msghdr())
        output = SendQueue()
    }

    deinit {
        input.deallocate()
        digest.deallocate()
        vectors.deallocate()
        message.deallocate()
    }
}

/// Numeric addresses in the kernel's form.
enum NetworkAddress {
    /// Nil if `host` is not a literal address of the family.
    static func parse(_ address: SocketAddress, port: UInt16) -> (sockaddr_storage, socklen_t)? {
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
        hints.ai_family = address.family == "ipv6" ? AF_INET6 : AF_INET
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(address.host, String(port), &hints, &found) == 0, let found else { return nil }
        defer { freeaddrinfo(found) }
        var storage = sockaddr_storage()
        let length = found.pointee.ai_addrlen
        withUnsafeMutableBytes(of: &storage) {
            $0.copyMemory(from: UnsafeRawBufferPointer(start: found.pointee.ai_addr, count: Int(length)))
        }
        return (storage, length)
    }

    /// Whether two addresses name the same host, whatever their ports.
    static func sameHost(_ left: sockaddr_storage, _ right: sockaddr_storage) -> Bool {
        guard left.ss_family == right.ss_family else { return false }
        let range = left.ss_family == sa_family_t(AF_INET6) ? 8..<24 : 4..<8
        return withUnsafeBytes(of: left) { left in
            withUnsafeBytes(of: right) { right in left[range].elementsEqual(right[range]) }
        }
    }

    static func text(_ address: sockaddr_storage, _ length: socklen_t) -> String {
        var host = [CChar](repeating: 0, count: 128)
        let result = withUnsafePointer(to: address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo($0, length, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST)
            }
        }
        guard result == 0 else { return "?" }
        return String(decoding: host.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
