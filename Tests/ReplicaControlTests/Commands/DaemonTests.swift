import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

/// The tools against a control socket: what is asked, how answers are reported.
struct DaemonTests {
    static func status(
        _ connection: ConnectionState = .connected, role: Role = .primary, disk: DiskState = .upToDate
    ) -> ResourceStatus {
        var state = VolumeState()
        (state.connection, state.role, state.peerRole) = (connection, role, .secondary)
        (state.disk, state.peerDisk) = (disk, .upToDate)
        var volume = VolumeStatus(volume: VolumeNumber(0), minor: 0, state: state)
        volume.replicationProtocol = .c
        volume.sectors = 16_304
        volume.metadataFlags = [.consistent, .wasUpToDate, .connectedIndicator]
        volume.identifiers = GenerationIdentifiers(current: 0x1234_5678_90AB_CDEF)
        volume.disk = DiskConfiguration(
            dataPath: "/dev/sdb1", metadataPath: "/dev/sdb1", index: .internal, options: DiskOptions())
        volume.connection = ConnectionConfiguration(
            local: SocketAddress(family: "ipv4", host: "10.0.0.1", port: 7788),
            remote: SocketAddress(family: "ipv4", host: "10.0.0.2", port: 7788), options: NetOptions())
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        status.volumes = [volume]
        return status
    }

    /// A daemon with a fixed status and one answer for everything else.
    private func daemon(
        _ harness: ToolHarness, _ status: ResourceStatus = status(), answer: CommandAnswer
    ) throws -> FakeDaemon {
        let text = status.text
        return try FakeDaemon(socket: harness.runDirectory + "/r0.ctl") { line in
            line == "status-raw" ? CommandAnswer(code: 0, text: text) : answer
        }
    }

    @Test func item26BareStateLines() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        defer { daemon.end() }
        #expect(harness.admin("role", "r0").output == "Primary/Secondary\n")
        #expect(harness.admin("cstate", "r0").output == "Connected\n")
        #expect(harness.admin("dstate", "all").output == "UpToDate/UpToDate\n")
        let state = harness.admin("state", "r0")
        #expect(state.output == "Primary/Secondary\n" && state.error.contains("deprecated"))
        #expect(
            harness.admin("get-gi", "r0").output
                == "1234567890ABCDEF:0000000000000000:0000000000000000:0000000000000000:1:1:0:1:0:0:0\n")
        #expect(
            harness.admin("status").output
                == "r0 role:Primary\n  disk:UpToDate\n  peer role:Secondary\n"
                + "    replication:Established peer-disk:UpToDate\n\n")
    }

    @Test func item26Unconfigured() throws {
        let harness = try ToolHarness(Reference.simple())
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        status.volumes = [VolumeStatus(volume: VolumeNumber(0), minor: 0, state: VolumeState())]
        let daemon = try FakeDaemon(in: harness, status)
        defer { daemon.end() }
        for command in ["role", "cstate", "dstate"] {
            let result = harness.admin(command, "r0")
            #expect(result.output == "Unconfigured\n" && result.code == 0)
        }
    }

    @Test func item27BothOrders() throws {
        let harness = try ToolHarness()
        let daemon = try FakeDaemon(in: harness, DaemonTests.status(.syncTarget))
        defer { daemon.end() }
        let spellings = [
            ["/dev/drbd0", "cstate"], ["cstate", "0"], ["cstate", "minor-0"], ["cstate", "/dev/drbd0"], ["0", "cstate"],
        ]
        for words in spellings {
            #expect(harness.run("drbdsetup", words).output == "SyncTarget\n")
            #expect(harness.run("replctl", ["setup"] + words).output == "SyncTarget\n")
        }
    }

    @Test func withoutDaemon() throws {
        let harness = try ToolHarness(Reference.simple())
        let role = harness.admin("role", "r0")
        #expect(role.code == 10)
        #expect(
            role.error
                == "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\n"
                + "Command 'drbdsetup role 0' terminated with exit code 10\n")
        let status = harness.admin("status", "r0")
        #expect(status.code == 10)
        #expect(
            status.error == "r0: No such resource\nCommand 'drbdsetup status r0' terminated with exit code 10\n")
        let primary = harness.admin("primary", "r0")
        #expect(primary.code == 10 && primary.error.hasPrefix("0: Failure: (127) Device minor not allocated\n"))
        let down = harness.admin("down", "r0")
        #expect(down.code == 0 && down.error == "")
        let up = harness.admin("up", "r0")
        #expect(up.code == 1)
        #expect(up.error.contains("can not run /nonexistent/replicad: No such file or directory"))
        #expect(up.error.contains("drbdadm: connect r0: skipped due to earlier error"))
    }

    @Test(
        arguments: [
            (-2, 17, "State change failed: (-2) Need access to UpToDate data"),
            (-1, 11, "State change failed: (-1) Multiple primaries not allowed by config"),
            (-12, 11, "State change failed: (-12) Device is held open by someone"),
            (-16, 5, "State change failed: (-16) Disk state is lower than outdated"),
            (-4, 16, "State change failed: (-4) Can not resync without local disk"),
            (127, 10, "Failure: (127) Device minor not allocated"),
            (123, 10, "Failure: (123) --discard-my-data not allowed when primary."),
        ] as [(Int32, Int32, String)])
    func refusals(_ number: Int32, _ exitCode: Int32, _ text: String) throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try daemon(harness, answer: CommandAnswer(code: number, text: "some reason"))
        defer { daemon.end() }
        let result = harness.admin("primary", "r0")
        #expect(result.code == exitCode)
        var expected = "0: \(text)\nadditional info from kernel:\nsome reason\n"
        if exitCode >= 10 { expected += "Command 'drbdsetup primary 0' terminated with exit code \(exitCode)\n" }
        #expect(result.error == expected)
        #expect(daemon.requests == ["primary 0"])
    }

    @Test(arguments: [(2, 0), (5, 5), (-9, 0)] as [(Int32, Int32)])
    func remarksAreSilent(_ number: Int32, _ exitCode: Int32) throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try daemon(harness, answer: CommandAnswer(code: number))
        defer { daemon.end() }
        let result = harness.admin("wait-connect", "r0")
        #expect(result.code == exitCode && result.error == "")
    }

    @Test func upAsksInOrder() throws {
        let harness = try ToolHarness(Reference.simple("net { timeout 50; } disk { resync-rate 20M; }"))
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        status.volumes = [VolumeStatus(volume: VolumeNumber(0), minor: 0, state: VolumeState())]
        let daemon = try FakeDaemon(in: harness, status)
        defer { daemon.end() }
        // The disk does not exist: the offline log replay is the daemon's to complain about, or the tool's.
        try harness.write(
            Reference.simple("net { timeout 50; } disk { resync-rate 20M; }").replacing(
                "/dev/sdb1", with: harness.directory.path + "/disk"), to: "drbd.conf")
        try Data(count: 1 << 20).write(to: harness.directory.appendingPathComponent("disk"))
        let disk = harness.directory.path + "/disk"
        let result = harness.admin("up", "r0")
        #expect(result.error == "")
        #expect(result.code == 0)
        #expect(
            daemon.requests == [
                "new-minor r0 0 0", "attach 0 \(disk) \(disk) internal --resync-rate=20480",
                "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --timeout=50",
            ])
    }

    @Test func failedStepSkipsTheRest() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(socket: harness.runDirectory + "/r0.ctl") { line in
            line.hasPrefix("new-minor")
                ? CommandAnswer(code: 161) : CommandAnswer(code: 0, text: "resource r0 node=alice version=1\n")
        }
        defer { daemon.end() }
        let result = harness.admin("up", "r0")
        #expect(result.code == 1)
        #expect(
            result.error == """
                r0: Failure: (161) Minor or volume exists already (delete it first)
                Command 'drbdsetup new-minor r0 0 0' terminated with exit code 10
                drbdadm: attach r0: skipped due to earlier error
                drbdadm: connect r0: skipped due to earlier error

                """)
        #expect(daemon.requests == ["new-minor r0 0 0"])
    }

    @Test func item21AdjustOfAnIdenticalResourceDoesNothing() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        defer { daemon.end() }
        let result = harness.admin("adjust", "r0")
        #expect(result.code == 0 && result.output == "" && result.error == "")
        #expect(daemon.requests.isEmpty)
    }

    /// One difference, the steps that it takes.
    @Test(arguments: [
        ("disk { resync-rate 5M; }", ["disk-options 0 --set-defaults --resync-rate=5M"]),
        (
            "net { max-buffers 4000; }",
            ["net-options ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --set-defaults --max-buffers=4000"]
        ),
        // Equal to the defaults.
        ("net { timeout 60; protocol C; } disk { resync-rate 250k; on-io-error detach; }", []),
        (
            "options { on-no-data-accessible suspend-io; }",
            ["resource-options r0 --set-defaults --on-no-data-accessible=suspend-io"]
        ),
        (
            "net { shared-secret x; }",
            [
                "disconnect ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788",
                "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --shared-secret=***",
            ]
        ),
        ("disk { size 8192; }", ["resize 0 --size=8192"]),
    ])
    func item22Adjust(_ extra: String, _ steps: [String]) throws {
        let harness = try ToolHarness(Reference.simple(extra))
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        defer { daemon.end() }
        #expect(harness.admin("-d", "adjust", "r0").lines == steps.map { "drbdsetup " + $0 })
    }

    @Test func item22AdjustOfPlaces() throws {
        func steps(_ status: ResourceStatus, _ text: String = Reference.simple()) throws -> [String] {
            let harness = try ToolHarness(text)
            let daemon = try FakeDaemon(in: harness, status)
            defer { daemon.end() }
            return harness.admin("-d", "adjust", "r0").lines.map { line in
                line.split(separator: " ").dropFirst().joined(separator: " ")
            }
        }
        let same = DaemonTests.status()
        let connect = "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788"
        let attach = ["0 v08 /dev/sdb1 internal apply-al", "attach 0 /dev/sdb1 /dev/sdb1 internal"]
        var changed = same
        changed.volumes[0].connection?.remote.port = 9999
        #expect(try steps(changed) == ["disconnect ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788", connect])
        changed = same
        changed.volumes[0].disk?.dataPath = "/dev/other"
        #expect(try steps(changed) == ["detach 0"] + attach)
        changed = same
        changed.volumes[0].state.disk = .diskless
        changed.volumes[0].disk = nil
        #expect(try steps(changed) == attach)
        changed = same
        changed.volumes[0].state.connection = .standAlone
        changed.volumes[0].connection = nil
        #expect(try steps(changed) == [connect])
        changed = same
        changed.volumes[0].minor = 5
        #expect(
            try steps(changed) == [
                "disconnect ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788", "detach 5", "del-minor 5", "new-minor r0 0 0",
            ] + attach + [connect])
        // The recorded answer to two changed options, on both options' sections.
        #expect(
            try steps(
                same, Reference.simple("disk { c-plan-ahead 0; resync-rate 5M; } net { verify-alg sha1; }"))
                == [
                    "disk-options 0 --set-defaults --resync-rate=5M --c-plan-ahead=0",
                    "net-options ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --set-defaults --verify-alg=sha1",
                ])
    }

    @Test func downWaitsForTheEnd() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        let result = harness.admin("down", "r0")
        #expect(result.code == 0 && result.error == "")
        #expect(daemon.requests == ["down r0"])
        #expect(harness.admin("down", "r0").code == 0)
    }

    @Test func downOfAHeldDevice() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try daemon(harness, answer: CommandAnswer(code: -12, text: "failed to demote"))
        defer { daemon.end() }
        let result = harness.admin("down", "r0")
        #expect(result.code == 11)
        #expect(
            result.error == """
                r0: State change failed: (-12) Device is held open by someone
                additional info from kernel:
                failed to demote
                Command 'drbdsetup down r0' terminated with exit code 11

                """)
    }

    @Test func item31ShellStatusCanBeEvaluated() throws {
        let harness = try ToolHarness(Reference.simple() + Reference.simple(name: "r1", minor: 1, port: 7789))
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        defer { daemon.end() }
        try harness.write(harness.admin("sh-status").output, to: "status.sh")
        let script = """
            n=0; seen=
            _sh_status_process() { n=$((n+1)); seen="$seen $_conf_res_name:$_minor:$_known:$_cstate:$_role:$_disk"; }
            . "\(harness.directory.path)/status.sh"
            echo "$n$seen"
            """
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", script]
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(output == "2 r0:0:Configured:Connected:Primary:UpToDate r1:1:NA:Unconfigured::\n")
    }

    @Test func brokenDaemons() throws {
        for answer in ["nonsense\n", "0\n", "0 -1\n", "0 99999999999\n", String(repeating: "x", count: 100), ""] {
            let harness = try ToolHarness(Reference.simple())
            let server = try RawServer(socket: harness.runDirectory + "/r0.ctl", answer: answer)
            let result = harness.admin("primary", "r0")
            #expect(result.code == 20, "\(answer)")
            #expect(result.error.hasPrefix("0: "), "\(result.error)")
            withExtendedLifetime(server) {}
        }
    }

    @Test func setupMergesOptions() throws {
        let harness = try ToolHarness()
        var status = DaemonTests.status()
        status.volumes[0].disk?.options.resyncRate = 777
        let daemon = try FakeDaemon(in: harness, status)
        defer { daemon.end() }
        #expect(harness.run("drbdsetup", ["disk-options", "0", "--al-extents=257"]).code == 0)
        #expect(
            harness.run(
                "drbdsetup", ["net-options", "ipv4:10.0.0.1:7788", "ipv4:10.0.0.2:7788", "--set-defaults", "--timeout=50"]
            ).code == 0)
        #expect(harness.run("drbdsetup", ["0", "disk", "/dev/a", "/dev/b", "3", "--on-io-error=pass_on"]).code == 0)
        #expect(harness.run("drbdsetup", ["wait-sync", "0", "-t3"]).code == 0)
        #expect(harness.run("drbdsetup", ["wait-sync", "-t", "4", "0", "--degr-wfc-timeout", "5"]).code == 0)
        #expect(
            daemon.requests == [
                "disk-options 0 --resync-rate=777 --al-extents=257", "net-options r0 --set-defaults --timeout=50",
                "attach 0 /dev/a /dev/b 3 --on-io-error=pass_on", "wait-sync 0 --wfc-timeout=3",
                "wait-sync 0 --wfc-timeout=4 --degr-wfc-timeout=5",
            ])
        for line in daemon.requests {
            #expect(throws: Never.self) { try ControlCommand(parsing: line, resource: "r0") }
        }
    }

    @Test func startingWritesSettings() throws {
        let harness = try ToolHarness(
            Reference.simple("handlers { split-brain \"echo 'a b'\"; }"))
        // A daemon that only keeps its arguments and fails.
        try harness.write("#!/bin/sh\necho \"$@\" > \"\(harness.directory.path)/args\"\nexit 3\n", to: "replicad")
        let program = harness.directory.appendingPathComponent("replicad").path
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: program)
        harness.daemonPath = program
        let result = harness.admin("up", "r0")
        #expect(result.code == 1 && result.error.contains("replicad ended with exit code 3"))
        let settingsFile = harness.runDirectory + "/r0.settings"
        let arguments = try String(contentsOf: harness.directory.appendingPathComponent("args"), encoding: .utf8)
        #expect(arguments == "r0 --settings \(settingsFile)\n")
        let attributes = try FileManager.default.attributesOfItem(atPath: settingsFile)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
        let settings = try DaemonSettings(parsing: String(contentsOfFile: settingsFile, encoding: .utf8))
        #expect(settings.resource == "r0" && settings.node == "alice" && settings.peers == ["bob"])
        #expect(settings.volumes == [.init(volume: VolumeNumber(0), minor: 0, device: "/dev/drbd0", disk: "/dev/sdb1")])
        #expect(settings.handlers == [.init(name: "split-brain", commandLine: "echo 'a b'")])
        #expect(settings.configurationPath == harness.configurationFile.path)
    }
}

/// Answers one connection with given bytes and closes it.
final class RawServer: @unchecked Sendable {
    private let listener: Int32

    init(socket path: String, answer: String) throws {
        listener = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let bound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard bound == 0, listen(listener, 8) == 0 else { throw POSIXError(.EIO) }
        let descriptor = listener
        // The thread that accepts closes the listener, as in `FakeDaemon`.
        Thread {
            defer { close(descriptor) }
            while true {
                let connection = accept(descriptor, nil, nil)
                if connection < 0 { return }
                var byte: UInt8 = 0
                while recv(connection, &byte, 1, 0) == 1 && byte != 10 {}
                let bytes = Array(answer.utf8)
                _ = send(connection, bytes, bytes.count, Int32(MSG_NOSIGNAL))
                close(connection)
            }
        }.start()
    }

    deinit { shutdown(listener, Int32(SHUT_RDWR)) }
}
