import Glibc
import ReplicaProto
import Testing

@testable import ReplicaDevice

/// Two whole nodes in one process, over loopback.
@Suite(.serialized) struct TwoNodesTests {
    private let alice: TestNode
    private let bob: TestNode
    private let disks: [String]
    private let ports: (Int, Int)
    private static let bytes: UInt64 = 96 << 20

    init() throws {
        let directory = try TestDirectory()
        disks = [try directory.disk("a", bytes: Self.bytes), try directory.disk("b", bytes: Self.bytes)]
        guard let alice = try TestNode("alice", in: directory), let bob = try TestNode("bob", in: directory) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        self.alice = alice
        self.bob = bob
        ports = (try freePort(), try freePort())
        for (node, disk) in zip([alice, bob], disks) {
            try node.command("new-minor r0 0 0")
            try node.command("attach 0 \(disk) \(disk) internal --resync-rate=1048576 --c-plan-ahead=0")
        }
    }

    private func connect(_ options: String = "") throws {
        let a = "ipv4:127.0.0.1:\(ports.0)"
        let b = "ipv4:127.0.0.2:\(ports.1)"
        let common = "--ping-timeout=10 --connect-int=1 \(options)"
        try alice.command("connect r0 \(a) \(b) \(common)")
        try bob.command("connect r0 \(b) \(a) \(common)")
    }

    private func waitForState(_ state: ConnectionState, _ disk: DiskState) throws -> Bool {
        try wait {
            let (left, right) = (try alice.status().state, try bob.status().state)
            return left.connection == state && right.connection == state && left.disk == disk && right.disk == disk
        }
    }

    private func disksAreEqual() throws -> Bool {
        let usable = Int(try MetadataLayout(.internal, deviceSectors: Self.bytes / 512).usableSectors) * 512
        return try bytesOfFile(disks[0], at: 0, count: usable) == bytesOfFile(disks[1], at: 0, count: usable)
    }

    private func stop() {
        #expect(alice.stop())
        #expect(bob.stop())
    }

    @Test(arguments: [
        "--protocol=A", "--protocol=B", "--protocol=C --cram-hmac-alg=sha256 --shared-secret=sesame",
        "--data-integrity-alg=crc32c --csums-alg=md5", "--data-integrity-alg=sha512 --csums-alg=crc32c",
    ])
    func writesReachBothDisks(options: String) throws {
        let early = pattern(20 << 20, seed: 1)
        try alice.command("primary 0 --force")
        do {
            let client = try TestClient(alice, structured: true)
            #expect(try client.write(early, at: 1 << 20) == 0)
        }
        try connect(options)
        // Writes while the resync runs, on top of what it copies.
        let client = try TestClient(alice, structured: true)
        for k in 0..<64 {
            let bytes = pattern(4096 * (k % 5 + 1), seed: UInt64(100 + k))
            #expect(try client.write(bytes, at: UInt64(k) * 1_048_576 + UInt64(k) * 512) == 0)
        }
        #expect(try client.write(pattern(12 << 20, seed: 3), at: 40 << 20) == 0)
        try client.request(4, offset: 60 << 20, length: 3 << 20)
        #expect(try client.simpleReply().error == 0)
        #expect(try waitForState(.connected, .upToDate))
        try client.request(3, offset: 0, length: 0)
        #expect(try client.simpleReply().error == 0)
        #expect(try wait { try disksAreEqual() })
        stop()
        #expect(try disksAreEqual())
    }

    /// A block that differs is found with any algorithm, and nothing else.
    @Test(arguments: ["crc32c", "sha1"])
    func verifyFindsWhatDiffers(algorithm: String) throws {
        try connect("--verify-alg=\(algorithm)")
        try alice.command("primary 0 --force")
        #expect(try waitForState(.connected, .upToDate))
        let client = try TestClient(alice, structured: true)
        #expect(try client.write(pattern(8 << 20, seed: 2), at: 1 << 20) == 0)
        try client.request(3, offset: 0, length: 0)
        #expect(try client.simpleReply().error == 0)
        let descriptor = open(disks[1], O_WRONLY)
        #expect(pwrite(descriptor, [1, 2, 3], 3, 3 << 20) == 3)
        #expect(pwrite(descriptor, [1, 2, 3], 3, 70 << 20) == 3)
        fsync(descriptor)
        close(descriptor)
        try bob.command("verify 0")
        #expect(try wait { try bob.status().state.connection == .connected && alice.status().state.connection == .connected })
        #expect(try alice.status().outOfSyncBits == 2)
        #expect(try bob.status().outOfSyncBits == 2)
        #expect(bob.log.contains("Out of sync: start=6144, size=8 (sectors)"))
        #expect(alice.log.contains("Out of sync: start=143360, size=8 (sectors)"))
        stop()
    }

    @Test func theOtherNodeTakesOver() throws {
        try connect()
        #expect(try wait { try alice.status().state.connection == .connected })
        try alice.command("primary 0 --force")
        #expect(try waitForState(.connected, .upToDate))
        let bytes = pattern(5 << 20, seed: 8)
        do {
            let client = try TestClient(alice, structured: true)
            #expect(try client.write(bytes, at: 3 << 20) == 0)
            try client.request(2, offset: 0, length: 0)
            #expect(client.socket.isClosed())
        }
        #expect(try wait { try alice.ask("secondary 0").code >= 0 })
        try bob.command("primary 0")
        let client = try TestClient(bob, structured: false)
        #expect(try client.read(3 << 20, bytes.count) == bytes)
        stop()
    }

    /// A node without a disk serves from its peer.
    @Test func readsGoToThePeerWithoutADisk() throws {
        try connect()
        try alice.command("primary 0 --force")
        #expect(try waitForState(.connected, .upToDate))
        let client = try TestClient(alice, structured: true)
        let bytes = pattern(7 << 20, seed: 4)
        #expect(try client.write(bytes, at: 2 << 20) == 0)
        try alice.command("detach 0")
        #expect(try wait { try alice.status().state.disk == .diskless })
        #expect(try client.read(2 << 20, bytes.count) == bytes)
        let more = pattern(1 << 20, seed: 6)
        #expect(try client.write(more, at: 2 << 20) == 0)
        #expect(try client.read(2 << 20, more.count) == more)
        stop()
        #expect(try bytesOfFile(disks[1], at: 2 << 20, count: more.count) == more)
    }

    /// Only the configured peer may talk; a stray connection is closed and changes nothing.
    @Test func strangersAreTurnedAway() throws {
        try connect("--timeout=20")
        #expect(try wait { try alice.status().state.connection == .connected })
        try bob.command("disconnect r0")
        #expect(try wait { try alice.status().state.connection == .wfConnection })
        for _ in 0..<3 {
            #expect(wait { strangerIsClosed(from: "127.0.0.3", port: ports.0) })
        }
        try bob.command("connect r0 ipv4:127.0.0.2:\(ports.1) ipv4:127.0.0.1:\(ports.0) --ping-timeout=10 --connect-int=1")
        #expect(try wait { try alice.status().state.connection == .connected })
        #expect(alice.log.components(separatedBy: "not the configured peer") == 2, "logged once")
        stop()
    }

    /// Noise from the peer's own address costs a connection attempt, no more.
    @Test func noiseFromThePeersAddressIsSurvived() throws {
        try alice.command(
            "connect r0 ipv4:127.0.0.1:\(ports.0) ipv4:127.0.0.2:\(ports.1) --ping-timeout=10 --connect-int=1")
        for seed in 0..<3 {
            let noise = seed % 2 == 0 ? pattern(100, seed: UInt64(seed)) : [0x83, 0x74]
            #expect(wait { strangerIsClosed(from: "127.0.0.2", port: ports.0, saying: noise) })
        }
        // A marker as it should be, and then none of the protocol.
        let marker: [UInt8] = [0x83, 0x74, 0x02, 0x67, 0xff, 0xf2, 0, 0]
        _ = strangerIsClosed(from: "127.0.0.2", port: ports.0, saying: marker + pattern(5000, seed: 9))
        try bob.command("connect r0 ipv4:127.0.0.2:\(ports.1) ipv4:127.0.0.1:\(ports.0) --ping-timeout=10 --connect-int=1")
        #expect(try wait { try alice.status().state.connection == .connected })
        stop()
    }

    /// Connects from `host`, says something, and sees whether the other side closes. False if nobody listens now.
    private func strangerIsClosed(from host: String, port: Int, saying bytes: [UInt8] = []) -> Bool {
        guard let (own, ownLength) = NetworkAddress.parse(SocketAddress(family: "ipv4", host: host, port: 0), port: 0),
            let (other, otherLength) = NetworkAddress.parse(
                SocketAddress(family: "ipv4", host: "127.0.0.1", port: 0), port: UInt16(port))
        else { return false }
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        func call(_ address: sockaddr_storage, _ body: (UnsafePointer<sockaddr>) -> Int32) -> Int32 {
            withUnsafePointer(to: address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1, body) }
        }
        guard call(own, { bind(descriptor, $0, ownLength) }) == 0,
            call(other, { Glibc.connect(descriptor, $0, otherLength) }) == 0
        else { return false }
        _ = bytes.withUnsafeBytes { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        // A marker that stays incomplete is given up after four times the ping timeout.
        var limit = timeval(tv_sec: 6, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        while true {
            var byte: UInt8 = 0
            let count = recv(descriptor, &byte, 1, 0)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 { return count == 0 || errno == ECONNRESET }
        }
    }
}

/// A port of 127.0.0.1 that nobody uses at this moment.
private func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
        }
    }
    try #require(result == 0)
    return Int(UInt16(bigEndian: address.sin_port))
}
