import ReplicaProto
import Testing

/// What a daemon leaves to the next program: the commands that bring back what runs, when it must not, and the text.
@Suite struct HandOverTests {
    private static let disk = DiskConfiguration(
        dataPath: "/dev/vg/r0", metadataPath: "/dev/vg/md data", index: .indexed(2), options: DiskOptions())
    private static let connection = ConnectionConfiguration(
        local: SocketAddress(family: "ipv4", host: "10.0.0.1", port: 7788),
        remote: SocketAddress(family: "ipv6", host: "fd00::2", port: 7789), options: NetOptions())

    private static func volume(
        _ number: UInt16 = 0, _ connection: ConnectionState = .connected, _ disk: DiskState = .upToDate,
        _ role: Role = .secondary
    ) -> VolumeStatus {
        var state = VolumeState()
        (state.connection, state.disk, state.role) = (connection, disk, role)
        state.peerRole = .secondary
        var status = VolumeStatus(volume: VolumeNumber(number), minor: UInt32(number) + 7, state: state)
        status.disk = Self.disk
        status.connection = Self.connection
        status.identifiers = GenerationIdentifiers(current: 0xABCD_0001 + UInt64(number) << 8)
        return status
    }

    private static func status(_ volumes: [VolumeStatus]) -> ResourceStatus {
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "0.9")
        status.volumes = volumes
        return status
    }

    // MARK: What runs, as commands

    @Test("after a crash there is none, and nobody may be taken to have been alone by a decision") func nothingWasLeft() {
        #expect(HandOver().peer == .absent)
    }

    @Test func everythingThatRuns() {
        var first = Self.volume(0, .connected, .upToDate, .primary)
        first.state.pausedByUser = true
        first.disk?.options.cMaxRate = 12_345
        first.connection?.options.pingInterval = 7
        var second = Self.volume(3, .connected, .diskless)
        second.connection = first.connection
        var status = Self.status([first, second])
        status.options.onNoDataAccessible = .suspendIO
        let found = HandOver(of: status, discardsData: false)
        var disk = Self.disk
        disk.options.cMaxRate = 12_345
        var connection = Self.connection
        connection.options.pingInterval = 7
        #expect(
            found.commands == [
                .resourceOptions(status.options), .newMinor(VolumeNumber(0), minor: 7),
                .newMinor(VolumeNumber(3), minor: 10),
                .attach(VolumeNumber(0), disk), .pauseSync(VolumeNumber(0)), .connect(connection),
            ])
        #expect(found.primaries == [HandOver.Primary(volume: VolumeNumber(0), generation: 0xABCD_0000)])
        #expect(found.peer == .connected)
        #expect(found.version == "0.9")
    }

    @Test(
        arguments: ConnectionState.allCases)
    func theConnection(state: ConnectionState) {
        let found = HandOver(of: Self.status([Self.volume(0, state)]), discardsData: false)
        let connects = found.commands.contains(.connect(Self.connection))
        #expect(connects == (state != .standAlone), "\(state)")
        #expect(found.peer == (state == .standAlone ? .standAlone : state.isConnected ? .connected : .absent), "\(state)")
    }

    /// `--discard-my-data` was for one meeting: it is said again only if that has not been.
    @Test(arguments: [false, true])
    func whatIsSaidOnce(isPending: Bool) {
        var volume = Self.volume(0, .wfConnection)
        volume.connection?.discardMyData = true
        let found = HandOver(of: Self.status([volume]), discardsData: isPending)
        var connection = Self.connection
        connection.discardMyData = isPending
        #expect(found.commands.last == .connect(connection))
    }

    // MARK: When not

    @Test(arguments: ConnectionState.allCases, DiskState.allCases)
    func obstacles(connection: ConnectionState, disk: DiskState) {
        for role in [Role.primary, .secondary] {
            let found = HandOverObstacle.first(in: [Self.volume(), Self.volume(1, connection, disk, role)])
            let kind: String? =
                switch found {
                case nil: nil
                case .passing: "passing"
                case .standing: "standing"
                case .loses: "loses"
                }
            let expected: String? =
                switch (disk, role, connection) {
                case (.attaching, _, _), (.negotiating, _, _), (.failed, _, _): "passing"
                case (.diskless, .primary, _), (.inconsistent, .primary, _), (.outdated, .primary, _),
                    (.unknown, .primary, _), (.consistent, .primary, _):
                    "standing"
                case (_, _, .verifyS), (_, _, .verifyT): "loses"
                case (_, _, .standAlone), (_, _, .wfConnection), (_, _, .connected), (_, _, .syncSource),
                    (_, _, .syncTarget),
                    (_, _, .pausedSyncS), (_, _, .pausedSyncT):
                    nil
                default: "passing"
                }
            #expect(kind == expected, "\(connection) \(disk) \(role)")
        }
    }

    @Test func frozenAndTwice() {
        for freeze in [\VolumeState.suspendedByUser, \.suspendedNoData, \.suspendedFencing] {
            var volume = Self.volume()
            volume.state[keyPath: freeze] = true
            #expect(HandOverObstacle.first(in: [volume]) == .standing("I/O of volume 0 is frozen"))
        }
        var both = Self.volume(0, .connected, .upToDate, .primary)
        both.state.peerRole = .primary
        guard case .standing = HandOverObstacle.first(in: [both]) else {
            Issue.record("two Primaries are no obstacle")
            return
        }
        both.state.role = .secondary
        #expect(HandOverObstacle.first(in: [both]) == nil)
    }

    // MARK: The text

    @Test func thereAndBack() throws {
        var record = HandOver(
            of: Self.status([Self.volume(0, .connected, .upToDate, .primary), Self.volume(1)]), discardsData: false)
        record.stopped = 123_456_789
        record.descriptors = [("lock", 5), ("control", 6)]
        record.devices = [
            HandOver.Device(volume: VolumeNumber(0), index: 0, descriptor: 8, bytes: 1 << 40, unread: 9),
            HandOver.Device(volume: VolumeNumber(1), index: 12, descriptor: 10, bytes: 512),
        ]
        let text = record.text(resource: "r0")
        #expect(
            text.hasPrefix(
                """
                hand-over 1
                from 0.9
                stopped 123456789
                descriptor lock 5
                descriptor control 6
                device 0 index 0 descriptor 8 bytes 1099511627776 unread 9
                device 1 index 12 descriptor 10 bytes 512
                peer connected
                primary 0 generation 00000000ABCD0000
                command new-minor r0 7 0

                """), "\(text)")
        let again = try HandOver(parsing: text, resource: "r0")
        #expect(again == record)
        #expect(again.commands == record.commands)
        #expect(again.devices == record.devices)
        #expect(again.descriptor("control") == 6)
        #expect(again.descriptor("clients") == nil)
    }

    @Test func whatIsNew() throws {
        let text = "hand-over 1\nfrom 2.0\nmood sunny\npeer absent\nprimary 2 generation FF colour blue\n"
        let found = try HandOver(parsing: text, resource: "r0")
        #expect(found.peer == .absent)
        #expect(found.primaries == [HandOver.Primary(volume: VolumeNumber(2), generation: 0xFE)])
    }

    @Test(arguments: [
        "", "\n", "hand-over", "hand-over 2\nfrom 3\n", "peer absent\nhand-over 1\n",
    ])
    func anotherFormat(text: String) {
        #expect(throws: HandOverError.unknownFormat) { try HandOver(parsing: text, resource: "r0") }
    }

    @Test(arguments: [
        "command", "command fly r0", "command new-minor r1 0 0", "device 0", "device 0 index 0 descriptor -1 bytes 5",
        "device 0 index 0 descriptor 1 bytes x", "device 0 index -1 descriptor 1 bytes 5",
        "device 0 index 0 descriptor 1 bytes 5 unread -3", "primary 0 generation", "primary x generation 5",
        "primary 0 generation Z", "descriptor lock", "descriptor lock -4", "peer gone", "stopped soon", "from \"",
    ])
    func badLines(line: String) {
        #expect(throws: HandOverError.badLine(number: 2, line)) {
            try HandOver(parsing: "hand-over 1\n\(line)\n", resource: "r0")
        }
    }
}
