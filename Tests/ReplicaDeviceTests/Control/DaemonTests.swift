import Glibc
import ReplicaProto
import Testing

@testable import ReplicaDevice

/// The control socket, the status file, handlers and claims on disks.
@Suite(.serialized) struct DaemonTests {
    @Test func controlLines() throws {
        let directory = try TestDirectory()
        guard let node = try TestNode("alice", in: directory) else { try Test.cancel("the kernel has no io_uring for us") }
        #expect(try node.ask("version").text == productVersion + "\n")
        #expect(try node.ask("bogus 1 2").code == 162)
        #expect(try node.ask("primary").code == 162)
        #expect(try node.ask("").code == 162)
        #expect(try node.ask("counters").text.contains("turns="))
        let flood = try TestSocket(path: "\(node.run)/r0.ctl")
        _ = try? flood.send([UInt8](repeating: 65, count: 200_000))
        #expect(flood.isClosed())
        // Two lines in one go are answered in turn.
        let client = try TestSocket(path: "\(node.run)/r0.ctl")
        try client.send(Array("version\nbogus\n".utf8))
        let expected = Array("0 \(productVersion.utf8.count + 1)\n\(productVersion)\n162 ".utf8)
        #expect(try client.receive(expected.count) == expected)
        #expect(node.stop())
    }

    @Test func theStatusFileFollows() throws {
        let directory = try TestDirectory()
        let disk = try directory.disk("disk", bytes: 32 << 20)
        guard let node = try TestNode("alice", in: directory) else { try Test.cancel("the kernel has no io_uring for us") }
        let file = "\(node.run)/proc/drbd"
        #expect(wait { access(file, R_OK) == 0 })
        try node.command("new-minor r0 0 0")
        try node.command("attach 0 \(disk) \(disk) internal")
        #expect(try wait { String(decoding: try wholeFile(file), as: UTF8.self).contains("ds:Inconsistent/DUnknown") })
        try node.command("primary 0 --force")
        #expect(try wait { String(decoding: try wholeFile(file), as: UTF8.self).contains("ro:Primary/Unknown") })
        let client = try TestClient(node, structured: false)
        #expect(try client.write(pattern(4096, seed: 1), at: 0) == 0)
        #expect(try wait { String(decoding: try wholeFile(file), as: UTF8.self).contains(" dw:4 ") }, "counters follow")
        #expect(String(decoding: try wholeFile(file), as: UTF8.self) == (try node.ask("proc").text))
        #expect(node.stop())
        #expect(String(decoding: try wholeFile(file), as: UTF8.self).components(separatedBy: "\n") == 3, "two lines stay")
    }

    /// A Primary that loses its data alone calls for help, with the environment that handlers know.
    @Test func handlersRunWithTheirEnvironment() throws {
        let directory = try TestDirectory()
        let disk = try directory.disk("disk", bytes: 32 << 20)
        let note = "\(directory.path)/note"
        let command = "echo \"$DRBD_RESOURCE $DRBD_MINOR $DRBD_VOLUME $PWD $HOME\" > \(note).new && mv \(note).new \(note)"
        let handler = DaemonSettings.Handler(name: HandlerName.priOnInconDegr.rawValue, commandLine: command)
        guard let node = try TestNode("alice", in: directory, handlers: [handler]) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        try node.command("new-minor r0 0 0")
        try node.command("attach 0 \(disk) \(disk) internal")
        try node.command("primary 0 --force")
        _ = try node.ask("detach 0 --force")
        #expect(wait { access(note, R_OK) == 0 })
        #expect(String(decoding: try wholeFile(note), as: UTF8.self) == "r0 0 0 / /\n")
        #expect(node.stop())
    }

    /// A disk that somebody else uses, or that is none, is refused with the number that administrators know.
    @Test func disksInUseAreRefused() throws {
        let directory = try TestDirectory()
        let disk = try directory.disk("disk", bytes: 32 << 20)
        let small = try directory.disk("small", bytes: 2 << 20)
        guard let alice = try TestNode("alice", in: directory), let bob = try TestNode("bob", in: directory) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        try alice.command("new-minor r0 0 0")
        try bob.command("new-minor r0 0 0")
        try alice.command("attach 0 \(disk) \(disk) internal")
        #expect(try bob.ask("attach 0 \(disk) \(disk) internal").code == 114)
        #expect(try bob.ask("attach 0 /nonexistent /nonexistent internal").code == 104)
        #expect(try bob.ask("attach 0 /dev/null /dev/null internal").code == 107)
        #expect(try bob.ask("attach 0 \(small) \(disk) flexible").code == 115)
        #expect(truncate(small, 512 << 10) == 0)
        #expect(try bob.ask("attach 0 \(small) \(small) internal").code == 112)
        #expect(alice.stop())
        try bob.command("attach 0 \(disk) \(disk) internal")
        #expect(bob.stop())
    }
}
