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

    /// A handler that does not end is ended, and that is said in the words that log analysers know.
    @Test func handlersHaveALimit() throws {
        let directory = try TestDirectory()
        let disk = try directory.disk("disk", bytes: 32 << 20)
        let handler = DaemonSettings.Handler(name: HandlerName.priOnInconDegr.rawValue, commandLine: "sleep 100 & sleep 100")
        guard let node = try TestNode("alice", in: directory, handlers: [handler], handlerSeconds: 1) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        try node.command("new-minor r0 0 0")
        try node.command("attach 0 \(disk) \(disk) internal")
        try node.command("primary 0 --force")
        _ = try node.ask("detach 0 --force")
        let call = "block drbd0: helper command: replctl pri-on-incon-degr minor-0"
        #expect(wait { node.log.contains("\(call)\n") })
        #expect(wait { node.log.contains("\(call) did not terminate within 1 seconds and is killed\n") })
        #expect(wait { node.log.contains("\(call) exit code 20 (0x1400)\n") })
        #expect(node.stop())
    }

    /// An end by signal does not wait for ever: not for a client that takes no answers, not for frozen I/O.
    @Test(arguments: [false, true]) func stoppingHasALimit(isFrozen: Bool) throws {
        let directory = try TestDirectory()
        let disk = try directory.disk("disk", bytes: 32 << 20)
        var limits = StopLimits()
        limits.clientSeconds = 1
        limits.seconds = isFrozen ? 2 : 60
        guard let node = try TestNode("alice", in: directory, stopping: limits) else {
            try Test.cancel("the kernel has no io_uring for us")
        }
        try node.command("new-minor r0 0 0")
        try node.command("attach 0 \(disk) \(disk) internal")
        try node.command("primary 0 --force")
        let client = try TestClient(node, structured: false)
        if isFrozen {
            try node.command("suspend-io 0")
            try client.request(1, offset: 0, length: 4096, payload: pattern(4096, seed: 1))
        } else {
            for _ in 0..<20 { try client.request(0, offset: 0, length: 1 << 20) }
        }
        // The requests are in before the end begins.
        #expect(try wait { isFrozen ? try node.status().counters.applicationPending == 1 : try node.status().counters.diskRead > 0 })
        let before = monotonicNanoseconds()
        #expect(node.stop())
        let seconds = Double(monotonicNanoseconds() - before) / 1e9
        #expect(seconds >= (isFrozen ? 1.9 : 0.9) && seconds < 10)
        #expect(node.log.contains("1 clients do not take their answers and are cut off"))
        #expect(node.log.contains("not in good order after 2 s: ending as in a crash") == isFrozen)
        #expect(String(decoding: try wholeFile("\(node.run)/proc/drbd"), as: UTF8.self).split(separator: "\n").count == 2)
    }

    /// Whoever waits for ever leaves room for the one who ends it.
    @Test func waitersLeaveRoom() throws {
        let directory = try TestDirectory()
        guard let node = try TestNode("alice", in: directory) else { try Test.cancel("the kernel has no io_uring for us") }
        try node.command("new-minor r0 0 0")
        try node.command("connect r0 ipv4:127.0.0.1:1 ipv4:127.0.0.2:1")
        var waiters: [TestSocket] = []
        for _ in 0..<ControlTable.waiting {
            let waiter = try TestSocket(path: "\(node.run)/r0.ctl")
            try waiter.send(Array("wait-connect 0\n".utf8))
            waiters.append(waiter)
        }
        #expect(try wait { try node.ask("wait-connect 0 --wfc-timeout=1").code == 162 })
        // Who goes away waits no more.
        waiters.removeLast()
        #expect(try wait { try node.ask("wait-connect 0 --wfc-timeout=1").code == 5 })
        try node.command("disconnect r0")
        for waiter in waiters { #expect(try waiter.receive(4) == Array("0 0\n".utf8)) }
        #expect(node.stop())
    }

    /// Handlers are the configuration's, which may change while the daemon runs.
    @Test func settingsAreReadAgain() throws {
        let directory = try TestDirectory()
        guard let node = try TestNode("alice", in: directory) else { try Test.cancel("the kernel has no io_uring for us") }
        #expect(try node.ask("settings").code == 162, "there is no file")
        var settings = DaemonSettings(resource: "r1", node: "x")
        func store() throws {
            let descriptor = open("\(node.run)/r0.settings", O_WRONLY | O_CREAT | O_TRUNC, 0o600)
            try #require(descriptor >= 0)
            let bytes = Array(settings.text.utf8)
            #expect(write(descriptor, bytes, bytes.count) == bytes.count)
            close(descriptor)
        }
        try store()
        #expect(try node.ask("settings").text.contains("is about resource 'r1'"))
        settings.resource = "r0"
        try store()
        #expect(try node.ask("settings").code == 0)
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
