import Glibc
import ReplicaProto
import Testing

@testable import ReplicaDevice

/// One node without a peer, served to clients of every manner.
@Suite(.serialized) struct NBDServerTests {
    private let node: TestNode
    private let disk: String
    private static let megabyte = 1 << 20

    init() throws {
        let directory = try TestDirectory()
        disk = try directory.disk("disk", bytes: 160 << 20)
        let node = try TestNode("alice", in: directory)
        guard let node else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        self.node = node
        try node.command("new-minor r0 0 0")
        try node.command("attach 0 \(disk) \(disk) internal")
    }

    private func promote() throws { try node.command("primary 0 --force") }

    @Test func onlyAPrimaryServes() throws {
        let socket = try TestSocket(path: "\(node.run)/r0.nbd")
        _ = try socket.receive(18)
        try socket.send([0, 0, 0, 3])
        // NBD_OPT_GO for the default export, no information requests.
        try socket.send(Array("IHAVEOPT".utf8) + TestClient.be32(7) + TestClient.be32(6) + [0, 0, 0, 0, 0, 0])
        let head = try socket.receive(20)
        #expect(head[12..<16].elementsEqual([0x80, 0, 0, 2]), "NBD_REP_ERR_POLICY")
        let text = try socket.receive(Int(head[19]))
        #expect(String(decoding: text, as: UTF8.self) == "r0 is Secondary")
        #expect(node.stop())
    }

    @Test(arguments: [false, true])
    func whatIsWrittenIsRead(structured: Bool) throws {
        try promote()
        let client = try TestClient(node, structured: structured)
        // Odd places, odd lengths, all three buffer classes, split and windowed ones.
        let pieces: [(UInt64, Int)] = [
            (0, 512), (512, 512), (4096, 4096), (1_000_448, 16_384), (1 << 21, 16_896), (3 << 20, 131_072),
            (4 << 20, 131_584), (5 << 20, 1 << 20), ((7 << 20) + 512, (1 << 20) + 512), (10 << 20, 3 << 20),
            (16 << 20, 9 << 20), ((30 << 20) + 1024, (64 << 20) - 512),
        ]
        for (k, piece) in pieces.enumerated() {
            let bytes = pattern(piece.1, seed: UInt64(k))
            #expect(try client.write(bytes, at: piece.0, fua: k % 2 == 0) == 0)
        }
        try client.request(3, offset: 0, length: 0)
        #expect(try client.simpleReply().error == 0)
        for (k, piece) in pieces.enumerated() {
            let bytes = try client.read(piece.0, piece.1)
            #expect(bytes == pattern(piece.1, seed: UInt64(k)), "piece \(k)")
            let stored = try bytesOfFile(disk, at: Int(piece.0), count: piece.1)
            #expect(stored == bytes, "piece \(k) on disk")
        }
        #expect(node.stop())
    }

    /// NBD_CMD_FLAG_DF: one chunk, however large.
    @Test func oneChunkWhereTheClientWantsOne() throws {
        try promote()
        let client = try TestClient(node, structured: true)
        let bytes = pattern(6 << 20, seed: 5)
        #expect(try client.write(bytes, at: 8192) == 0)
        try client.request(0, flags: 4, offset: 8192, length: 6 << 20)
        let head = try client.socket.receive(28)
        #expect(head[4..<8].elementsEqual([0, 1, 0, 1]))
        #expect(try client.socket.receive(6 << 20) == bytes)
        #expect(node.stop())
    }

    @Test func trimmedAndZeroedRangesReadAsZeroes() throws {
        try promote()
        let client = try TestClient(node, structured: true)
        let bytes = pattern(12 << 20, seed: 9)
        for (type, flags) in [(4, 0), (6, 0), (6, 2), (6, 1)] as [(UInt16, UInt16)] {
            #expect(try client.write(bytes, at: 0) == 0)
            try client.request(type, flags: flags, offset: 512, length: 9 << 20)
            #expect(try client.simpleReply().error == 0)
            var expected = bytes
            expected.replaceSubrange(512..<512 + 9 << 20, with: repeatElement(0, count: 9 << 20))
            #expect(try client.read(0, bytes.count) == expected)
        }
        #expect(node.stop())
    }

    @Test func wrongRequestsAreRefusedAndTheConnectionGoesOn() throws {
        try promote()
        let client = try TestClient(node, structured: false)
        try client.request(1, offset: client.size, length: 512, payload: [UInt8](repeating: 1, count: 512))
        #expect(try client.simpleReply().error == 28)
        try client.request(0, offset: client.size, length: 512)
        #expect(try client.simpleReply().error == 22)
        try client.request(0, offset: 100, length: 512)
        #expect(try client.simpleReply().error == 22)
        try client.request(99, offset: 0, length: 512)
        #expect(try client.simpleReply().error == 22)
        #expect(try client.write(pattern(512, seed: 1), at: 0) == 0)
        #expect(node.stop())
    }

    /// Far more than there are buffers and records: everything is answered, nothing is mixed up.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func manyRequestsAtOnce(seed: UInt64) throws {
        try promote()
        var random = SplitMix(state: seed)
        let client = try TestClient(node, structured: seed % 2 == 0)
        var lengths: [Int] = []
        var offset = 0
        var offsets: [Int] = []
        while offset < 120 << 20 {
            let length = Int(random.next() % 8 == 0 ? random.next() % 4096 + 1 : random.next() % 40 + 1) * 512
            lengths.append(length)
            offsets.append(offset)
            offset += length
            if lengths.count == 1500 { break }
        }
        // Written from another thread, so that replies are read while requests are sent.
        let writer = ClientWriter(client, offsets, lengths)
        writer.start()
        for _ in offsets { #expect(try client.simpleReply().error == 0) }
        #expect(wait { writer.isDone })
        for k in offsets.indices {
            #expect(try client.read(UInt64(offsets[k]), lengths[k]) == pattern(lengths[k], seed: UInt64(k)))
        }
        #expect(node.stop())
    }

    @Test func clientsMayVanishAtAnyMoment() throws {
        try promote()
        for k in 0..<40 {
            let client = try TestClient(node, structured: k % 2 == 0)
            // A write cut off in its head, in its payload, or before its answer; a large read that nobody takes.
            switch k % 4 {
            case 0: try client.socket.send([0x25, 0x60])
            case 1: try client.request(1, offset: 0, length: 3 << 20, payload: [UInt8](repeating: 1, count: 1_500_000))
            case 2: try client.request(0, offset: 0, length: 32 << 20)
            default:
                for j in 0..<50 {
                    try client.request(
                        1, offset: UInt64(j) * 4096, length: 4096, payload: [UInt8](repeating: 2, count: 4096))
                }
            }
        }
        let client = try TestClient(node, structured: false)
        let bytes = pattern(4096, seed: 3)
        #expect(try client.write(bytes, at: 1 << 20) == 0)
        #expect(try client.read(1 << 20, 4096) == bytes)
        #expect(node.stop())
        #expect(!node.log.contains("invariant"))
    }

    @Test func garbageEndsOnlyItsOwnConnection() throws {
        try promote()
        let good = try TestClient(node, structured: false)
        for seed in 0..<8 {
            let bad = try TestClient(node, structured: false)
            try bad.socket.send(pattern(4096, seed: UInt64(seed)))
            #expect(bad.socket.isClosed())
        }
        let stranger = try TestSocket(path: "\(node.run)/r0.nbd")
        try stranger.send(pattern(100, seed: 77))
        #expect(stranger.isClosed())
        #expect(try good.write(pattern(512, seed: 1), at: 0) == 0)
        #expect(node.stop())
        #expect(node.log.components(separatedBy: "does not speak the protocol") == 2, "logged once")
    }

    /// A demoted node lets go of its clients; before, an open device holds the role.
    @Test func anOpenDeviceHoldsTheRole() throws {
        try promote()
        let client = try TestClient(node, structured: false)
        #expect(try client.write(pattern(512, seed: 1), at: 0) == 0)
        #expect(try node.ask("secondary 0").code == -12)
        try client.request(2, offset: 0, length: 0)
        #expect(client.socket.isClosed())
        #expect(try wait { try node.ask("secondary 0").code >= 0 })
        #expect(node.stop())
    }

    /// The orderly end does not wait for clients that stay.
    @Test func stoppingLetsGoOfClients() throws {
        try promote()
        let client = try TestClient(node, structured: false)
        #expect(try client.write(pattern(512, seed: 1), at: 0) == 0)
        #expect(node.stop())
        #expect(client.socket.isClosed())
        #expect(access("\(node.run)/r0.ctl", F_OK) != 0)
    }
}

/// Sends writes from a thread of its own.
private final class ClientWriter: @unchecked Sendable {
    private let client: TestClient
    private let offsets: [Int]
    private let lengths: [Int]
    private(set) var isDone = false

    init(_ client: TestClient, _ offsets: [Int], _ lengths: [Int]) {
        self.client = client
        self.offsets = offsets
        self.lengths = lengths
    }

    func start() {
        var thread = pthread_t()
        _ = pthread_create(
            &thread, nil,
            { argument in
                let writer = Unmanaged<ClientWriter>.fromOpaque(argument.unsafelyUnwrapped).takeRetainedValue()
                for k in writer.offsets.indices {
                    let bytes = pattern(writer.lengths[k], seed: UInt64(k))
                    _ = try? writer.client.request(
                        1, offset: UInt64(writer.offsets[k]), length: UInt32(bytes.count), payload: bytes)
                }
                writer.isDone = true
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        pthread_detach(thread)
    }
}

extension String {
    /// How many parts a separator cuts this text into.
    func components(separatedBy separator: String) -> Int {
        var count = 1
        var rest = self[...]
        while let found = rest.firstRange(of: separator) {
            count += 1
            rest = rest[found.upperBound...]
        }
        return count
    }
}
