import Glibc
import ReplicaProto

/// Whether anybody listens on a port: a connection that says nothing and ends at once.
///
/// A `replicad` that waits for its peer holds such a stream for its marker and forgets it at its end; DRBD 8.4 in the kernel
/// (`conn_connect`, `receive_first_packet`) notes "Error receiving initial packet" and goes on. Nobody listens while connected,
/// so the probe is not for then.
enum PortProbe {
    static func ask(_ remote: SocketAddress, from local: SocketAddress?, milliseconds: Int32 = 1500) -> PortAnswer {
        guard let target = Address(remote.host, port: remote.port) else { return .failed("no such address") }
        let descriptor = socket(
            target.family, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return .failed(ConfigFiles.errorText()) }
        defer { close(descriptor) }
        // A peer talks to nobody but its peer.
        if let local, let own = Address(local.host, port: 0), own.with({ bind(descriptor, $0, $1) }) != 0 {
            return errno == EADDRNOTAVAIL ? .ownAddressMissing : .failed(ConfigFiles.errorText())
        }
        if target.with({ connect(descriptor, $0, $1) }) == 0 { return .accepts }
        guard errno == EINPROGRESS else { return answer(errno) }
        var request = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        guard poll(&request, 1, milliseconds) > 0 else { return .silence }
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) == 0 else { return answer(errno) }
        return answer(error)
    }

    private static func answer(_ error: Int32) -> PortAnswer {
        switch error {
        case 0: .accepts
        case ECONNREFUSED: .refused
        case ETIMEDOUT: .silence
        case EHOSTUNREACH, EHOSTDOWN: .hostUnreachable
        case ENETUNREACH, ENETDOWN: .noRoute
        case EADDRNOTAVAIL: .ownAddressMissing
        default: .failed(ConfigFiles.errorText(error))
        }
    }

    /// A literal address with its port, as the kernel takes it.
    private struct Address {
        private var storage = sockaddr_storage()
        private var length: socklen_t = 0
        var family: Int32 { Int32(storage.ss_family) }

        init?(_ host: String, port: UInt16) {
            var hints = addrinfo()
            hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV
            hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
            var found: UnsafeMutablePointer<addrinfo>?
            guard getaddrinfo(host, String(port), &hints, &found) == 0, let found else { return nil }
            defer { freeaddrinfo(found) }
            guard let address = found.pointee.ai_addr, found.pointee.ai_addrlen <= MemoryLayout<sockaddr_storage>.size else {
                return nil
            }
            length = found.pointee.ai_addrlen
            let count = Int(length)
            withUnsafeMutableBytes(of: &storage) {
                $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: count))
            }
        }

        func with(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
            withUnsafePointer(to: storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
            }
        }
    }
}
