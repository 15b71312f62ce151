import ReplicaProto
import Testing

/// The text form of commands: what is printed is read back, and nonsense is refused with the right error.
struct ControlCommandTextTests {
    private static let disk: DiskOptions = {
        var options = DiskOptions()
        options.size = 12_345
        options.onIOError = .passOn
        options.fencing = .resourceAndStonith
        options.diskFlushes = false
        options.readBalancing = .striping(shift: 17)
        options.resyncRate = 30_720
        options.resyncAfter = 3
        options.alExtents = 257
        options.cPlanAhead = 0
        return options
    }()
    private static let net: NetOptions = {
        var options = NetOptions()
        options.replicationProtocol = .a
        options.sharedSecret = "a \"secret\" with \\ and 'quotes'"
        options.cramHMACAlgorithm = "sha256"
        options.afterSplitBrain0Primaries = .discardLocal
        options.afterSplitBrain1Primary = .callPriLost
        options.afterSplitBrain2Primaries = .violently
        options.rrConflict = .violently
        options.onCongestion = .pullAhead
        options.congestionFill = 2048
        options.useRLE = false
        return options
    }()
    private static let connection = ConnectionConfiguration(
        local: SocketAddress(family: "ipv4", host: "10.0.0.1", port: 7788),
        remote: SocketAddress(family: "ipv6", host: "fe80::1%eth0", port: 7789), options: net, discardMyData: true,
        tentative: true)

    static let commands: [ControlCommand] = [
        .newMinor(VolumeNumber(1), minor: 7), .deleteMinor(VolumeNumber(1)),
        .attach(
            VolumeNumber(0),
            DiskConfiguration(dataPath: "/dev/a b", metadataPath: "/dev/m", index: .indexed(3), options: disk)),
        .attach(
            VolumeNumber(65_535),
            DiskConfiguration(dataPath: "/dev/a", metadataPath: "/dev/a", index: .internal, options: DiskOptions())),
        .attach(
            VolumeNumber(0),
            DiskConfiguration(dataPath: "/dev/a", metadataPath: "/dev/b", index: .flexible, options: DiskOptions())),
        .detach(VolumeNumber(0), force: true), .detach(VolumeNumber(0), force: false),
        .diskOptions(VolumeNumber(0), disk), .connect(connection), .disconnect(force: false), .disconnect(force: true),
        .netOptions(net), .netOptions(NetOptions()), .resourceOptions(ResourceOptions()),
        .primary(VolumeNumber(0), force: true), .primary(VolumeNumber(0), force: false), .secondary(VolumeNumber(0)),
        .invalidate(VolumeNumber(0)), .invalidateRemote(VolumeNumber(0)), .outdate(VolumeNumber(0)),
        .newCurrentUUID(VolumeNumber(0), clearBitmap: true), .newCurrentUUID(VolumeNumber(0), clearBitmap: false),
        .pauseSync(VolumeNumber(0)), .resumeSync(VolumeNumber(0)), .suspendIO(VolumeNumber(0)),
        .resumeIO(VolumeNumber(0)), .verify(VolumeNumber(0), start: 0, stop: nil),
        .verify(VolumeNumber(1), start: 8192, stop: 16_384), .resize(VolumeNumber(0), ResizeRequest()),
        .resize(VolumeNumber(0), ResizeRequest(sectors: 1 << 40, assumePeerHasSpace: true)),
        .resize(VolumeNumber(0), ResizeRequest(assumeClean: true)),
        .waitConnect(VolumeNumber(0), WaitTimes(wfc: 3, degraded: 2, outdated: 1, afterSplitBrain: true)),
        .waitSync(VolumeNumber(2), WaitTimes()), .down,
    ]

    @Test(arguments: commands)
    func roundTrip(_ command: ControlCommand) throws {
        for resource in ["r0", "a name", "x\"y"] {
            let line = command.line(resource: resource)
            #expect(!line.contains("\n"))
            #expect(try ControlCommand(parsing: line, resource: resource) == command)
        }
    }

    @Test func everyOptionTravels() throws {
        // Each option alone, with a value that is not its default.
        for field in OptionTable.disk {
            var options = DiskOptions()
            try change(field, &options)
            let command = ControlCommand.diskOptions(VolumeNumber(0), options)
            #expect(try ControlCommand(parsing: command.line(resource: "r"), resource: "r") == command, "\(field.name)")
            #expect(options != DiskOptions(), "\(field.name)")
        }
        for field in OptionTable.net {
            var options = NetOptions()
            try change(field, &options)
            let command = ControlCommand.netOptions(options)
            #expect(try ControlCommand(parsing: command.line(resource: "r"), resource: "r") == command, "\(field.name)")
            #expect(options != NetOptions(), "\(field.name)")
        }
    }

    private func change<Settings>(_ field: OptionField<Settings>, _ settings: inout Settings) throws {
        let before = field.read(settings)
        switch (field.shape.kind, before) {
        case (.flag, .flag(let flag)): try field.apply(flag ? "no" : "yes", to: &settings)
        case (.choice(let choices), .text(let text)):
            try field.apply(choices.first { $0 != text }, to: &settings)
        case (.number(let range, _), .number(let number)), (.clampedNumber(let range, _), .number(let number)):
            let value = number == range.upperBound ? range.lowerBound : range.upperBound
            try field.apply(String(value), to: &settings)
        case (.text, _): try field.apply("some text", to: &settings)
        default: try field.apply("17", to: &settings)
        }
    }

    @Test func linesReadAsSpecified() throws {
        #expect(
            ControlCommandTextTests.commands[3].line(resource: "r0") == "attach 65535 /dev/a /dev/a internal")
        #expect(
            try ControlCommand(parsing: "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --protocol=C", resource: "r0")
                == .connect(
                    ConnectionConfiguration(
                        local: SocketAddress(family: "ipv4", host: "10.0.0.1", port: 7788),
                        remote: SocketAddress(family: "ipv4", host: "10.0.0.2", port: 7788), options: NetOptions())))
        #expect(
            try ControlCommand(parsing: "primary 0 --overwrite-data-of-peer", resource: "r0")
                == .primary(VolumeNumber(0), force: true))
        // Units.
        guard
            case .diskOptions(_, let options) = try ControlCommand(
                parsing: "disk-options 0 --resync-rate=30M --c-fill-target=1M --size=1k", resource: "r0")
        else { return }
        #expect(options.resyncRate == 30_720 && options.cFillTarget == 2048 && options.size == 2)
    }

    @Test(arguments: [
        ("", ControlCommandError.empty),
        ("bogus 0", .unknownCommand("bogus")),
        ("primary", .wrongArguments(command: "primary", expected: "VOLUME")),
        ("primary x", .badNumber("x")),
        ("primary 65536", .badNumber("65536")),
        ("primary 0 --bogus", .badOption(.unknownOption("--bogus"))),
        ("down r1", .otherResource("r1")),
        ("attach 0 a b c", .badIndex("c")),
        ("connect r0 host:1 ipv4:1.2.3.4:5", .badAddress("host:1")),
        ("connect r0 ipv4:1.2.3.4:0 ipv4:1.2.3.4:5", .badAddress("ipv4:1.2.3.4:0")),
        ("connect r0 ipv4:1.2.3.256:1 ipv4:1.2.3.4:5", .badAddress("ipv4:1.2.3.256:1")),
        ("primary \"0", .badQuoting),
        ("primary 0 \\", .badQuoting),
        (
            "net-options r0 --timeout=6000",
            .badOption(.outOfRange(option: "timeout", text: "6000", value: 6000, 1...600, .one))
        ),
        ("net-options r0 --timeout=10MB", .badOption(.notANumber(option: "timeout", text: "10MB"))),
        (
            "disk-options 0 --size=99999999999999999999999",
            .badOption(.notANumber(option: "size", text: "99999999999999999999999"))
        ),
    ])
    func refused(_ line: String, _ error: ControlCommandError) {
        #expect(throws: error) { try ControlCommand(parsing: line, resource: "r0") }
    }

    /// Mutated lines are commands or errors, never a trap.
    @Test(arguments: Seeds.thisRun)
    func noiseNeverTraps(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let lines = ControlCommandTextTests.commands.map { $0.line(resource: "r0") }
        for _ in 0..<2000 {
            var bytes = Array(lines.randomElement(using: &generator)!.utf8)
            for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
                let index = bytes.indices.randomElement(using: &generator)!
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: index)
                default: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: index)
                }
            }
            let line = String(decoding: bytes, as: UTF8.self)
            if let command = try? ControlCommand(parsing: line, resource: "r0") {
                #expect(throws: Never.self) { try ControlCommand(parsing: command.line(resource: "r0"), resource: "r0") }
            }
            _ = try? ResourceStatus(parsing: "resource r0\n" + line)
            _ = try? DaemonSettings(parsing: line)
        }
    }

    @Test func daemonSettings() throws {
        var settings = DaemonSettings(resource: "r0", node: "alice")
        settings.peers = ["bob", "robert"]
        settings.configurationPath = "/etc/a directory/drbd.conf"
        settings.volumes = [.init(volume: VolumeNumber(1), minor: 3, device: "/dev/drbd3", disk: "/dev/sdb1")]
        settings.handlers = [.init(name: "fence-peer", commandLine: "echo 'a; b' | \"wall\"\nnext")]
        settings.handlerTimeoutSeconds = 0
        #expect(try DaemonSettings(parsing: settings.text) == settings)
        #expect(throws: DaemonSettingsError.missing("resource")) { try DaemonSettings(parsing: "node x\n") }
        #expect(throws: DaemonSettingsError.badLine(number: 2, "volume x")) {
            try DaemonSettings(parsing: "resource r0\nvolume x\n")
        }
        #expect(throws: Never.self) { try DaemonSettings(parsing: "resource r0\nnode a\nfuture thing 1\n") }
    }
}
