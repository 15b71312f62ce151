import ReplicaProto
import Testing

@testable import ReplicaControl

/// Evidence in, findings out: one row for each situation.
struct DiagnosisTests {
    /// alice and bob, connected and in order; a row changes what it is about.
    static func evidence(_ change: (inout Evidence) -> Void = { _ in }) -> Evidence {
        var evidence = Evidence(resource: "r0", node: "alice")
        evidence.peer = "bob"
        evidence.address = "10.0.0.1:7788"
        evidence.peerAddress = "10.0.0.2:7788"
        var volume = VolumeEvidence(
            number: VolumeNumber(0), minor: 0, device: "/dev/drbd0", disk: "/dev/vg/r0", target: "r0")
        var state = VolumeState()
        (state.connection, state.role, state.peerRole) = (.connected, .primary, .secondary)
        (state.disk, state.peerDisk) = (.upToDate, .upToDate)
        var status = VolumeStatus(volume: VolumeNumber(0), minor: 0, state: state)
        status.identifiers = GenerationIdentifiers(current: 0xABCD_0000_0000_0001, bitmap: 0x1234_0000_0000_0000)
        volume.status = status
        evidence.volumes = [volume]
        change(&evidence)
        return evidence
    }
    static func state(_ change: @escaping (inout VolumeState) -> Void) -> Evidence {
        evidence { evidence in
            var status = evidence.volumes[0].status ?? VolumeStatus(volume: VolumeNumber(0), minor: 0, state: VolumeState())
            change(&status.state)
            evidence.volumes[0].status = status
        }
    }
    /// StandAlone for a reason; nobody is Primary.
    static func alone(_ reason: DisconnectReason?, port: PortAnswer? = .refused, _ connection: ConnectionState = .standAlone)
        -> Evidence
    {
        var found = state {
            ($0.connection, $0.role, $0.peerRole, $0.peerDisk) = (connection, .secondary, .unknown, .unknown)
        }
        found.lastDisconnect = LastDisconnect(reason: reason, seconds: 90)
        found.port = port
        return found
    }
    static func waiting(_ port: PortAnswer?, _ reason: DisconnectReason? = nil) -> Evidence {
        alone(reason, port: port, .wfConnection)
    }
    static func without(
        _ daemon: Evidence.Daemon,
        _ metadata: MetadataEvidence? = .good([.consistent, .wasUpToDate], GenerationIdentifiers(current: 8))
    ) -> Evidence {
        evidence {
            $0.daemon = daemon
            $0.volumes[0].status = nil
            $0.volumes[0].metadata = metadata
        }
    }
    static func disk(_ own: DiskState, _ peer: DiskState, _ change: @escaping (inout VolumeState) -> Void = { _ in })
        -> Evidence
    {
        state {
            ($0.disk, $0.peerDisk, $0.role) = (own, peer, .secondary)
            change(&$0)
        }
    }
    static func syncing(
        _ connection: ConnectionState, moved: UInt64, seconds: UInt64 = 30,
        _ change: @escaping (inout VolumeState) -> Void = { _ in }
    ) -> Evidence {
        var found = state {
            ($0.connection, $0.peerDisk) = (connection, .inconsistent)
            change(&$0)
        }
        found.volumes[0].status?.outOfSyncBits = 25_600
        found.volumes[0].status?.progress = SyncProgress(
            totalBits: 51_200, bitsLeft: 25_600, secondsSinceMark: seconds, bitsSinceMark: moved, secondsSinceStart: 60,
            wantedRate: nil)
        return found
    }
    private static let fresh = GenerationIdentifiers(current: GenerationIdentifiers.justCreated)
    static func freshPair() -> Evidence {
        var found = disk(.inconsistent, .inconsistent)
        found.volumes[0].status?.identifiers = fresh
        return found
    }

    struct Row: CustomTestStringConvertible, Sendable {
        var situation: Situation
        var severity: Severity
        /// In the heading.
        var word: String
        /// The commands of the first choice, as `NODE: WORDS`, without `replctl`.
        var commands: [String]
        var evidence: Evidence
        var testDescription: String { "\(situation.rawValue): \(word)" }

        init(_ situation: Situation, _ severity: Severity, _ word: String, _ commands: [String], _ evidence: Evidence) {
            (self.situation, self.severity, self.word) = (situation, severity, word)
            (self.commands, self.evidence) = (commands, evidence)
        }
    }

    static let rows: [Row] = [
        Row(.inOrder, .ok, "nothing to do", [], evidence()),
        Row(
            .inUse, .notice, "qemu (process 17)", ["alice: secondary r0"],
            evidence { $0.volumes[0].holders = [.process(17, name: "qemu")] }),
        Row(
            .inUse, .notice, "the mount /srv", ["alice: !umount /srv", "alice: secondary r0"],
            evidence { $0.volumes[0].holders = [.mount("/srv")] }),

        // Configuration and daemon
        Row(
            .configurationUnreadable, .warning, "can't be read", ["alice: sh-nop"],
            evidence { $0.presence = .unreadable("x:1: y") }),
        Row(
            .notConfigured, .warning, "no resource r0", ["alice: sh-resources"],
            evidence {
                $0.presence = .unknown
                $0.daemon = .down
            }),
        Row(.notConfigured, .warning, "runs, but", ["alice: adjust r0"], evidence { $0.presence = .unknown }),
        Row(
            .notForThisHost, .warning, "name is alice",
            ["alice: !uname -n", "alice: sh-resources", "alice: adjust r0"],
            evidence { $0.presence = .otherHosts(["carol", "dave"]) }),
        Row(.down, .warning, "is down", ["alice: up r0"], without(.down)),
        Row(.daemonDied, .danger, "has died", ["alice: up r0"], without(.dead(process: 99))),
        Row(.daemonStopped, .danger, "stopped", ["alice: !kill -CONT 99"], without(.silent(process: 99, state: "T"), nil)),
        Row(
            .daemonSilent, .danger, "does not answer", ["alice: !kill -9 99", "alice: up r0"],
            without(.silent(process: 99, state: "D"), nil)),
        Row(.daemonUnreachable, .warning, "Permission denied", [], without(.unreachable("Permission denied"), nil)),
        Row(.noVolumes, .warning, "no device yet", ["alice: adjust r0"], evidence { $0.volumes[0].status = nil }),
        Row(
            .diskInUse, .danger, "/dev/vg/r0", ["alice: !umount /old", "alice: up r0"],
            {
                var found = without(.down)
                found.volumes[0].diskHolders = [.mount("/old")]
                return found
            }()),

        // Metadata
        Row(.metadataMissing, .warning, "is empty", ["alice: create-md r0", "alice: up r0"], without(.down, .blank)),
        Row(.metadataForeign, .warning, "xfs filesystem", ["alice: up r0"], without(.down, .otherData("xfs filesystem"))),
        Row(
            .metadataForeign, .warning, "v09", ["alice: create-md --force r0", "alice: up r0"],
            without(.down, .otherFormat("v09"))),
        Row(
            .metadataMoved, .warning, "has grown", ["alice: check-resize r0", "alice: up r0"],
            without(.down, .moved(fromBytes: 1 << 26, toBytes: 1 << 27))),
        Row(
            .metadataDamaged, .danger, "damaged", ["alice: create-md --force r0", "alice: up r0"],
            without(.down, .damaged("strange al_offset"))),
        Row(.diskTooSmall, .danger, "too small", ["alice: up r0"], without(.down, .tooSmall(bytes: 512))),
        Row(
            .diskUnreadable, .danger, "No such file", ["alice: !ls -l /dev/vg/r0", "alice: up r0"],
            without(.down, .unreadable("No such file"))),
        Row(
            .metadataMissing, .warning, "is empty", ["alice: create-md r0", "alice: attach r0"],
            {
                var found = disk(.diskless, .upToDate)
                found.volumes[0].metadata = .blank
                return found
            }()),

        // StandAlone
        Row(
            .splitBrain, .danger, "split brain: alice and bob",
            ["alice: secondary r0", "alice: disconnect r0", "alice: connect --discard-my-data r0", "bob: connect r0"],
            alone(.splitBrain)),
        Row(
            .splitBrain, .danger, "split brain",
            ["alice: secondary r0", "alice: disconnect r0", "alice: connect --discard-my-data r0"],
            alone(.splitBrain, port: .accepts)),
        Row(
            .unrelatedData, .danger, "unrelated",
            ["alice: down r0", "alice: create-md --force r0", "alice: up r0", "bob: adjust r0"], alone(.unrelatedData)),
        Row(.wrongSecret, .warning, "different secrets", ["alice: adjust r0", "bob: adjust r0"], alone(.authentication)),
        Row(
            .wrongSecret, .warning, "secret", ["alice: adjust r0", "bob: adjust r0"],
            waiting(.accepts, .closedInAuthentication)),
        Row(
            .versionMismatch, .warning, "another version",
            ["alice: --product-version", "alice: connect r0", "bob: adjust r0"],
            alone(.incompatibleVersions)),
        Row(
            .versionMismatch, .warning, "too old", ["alice: connect r0", "bob: adjust r0"],
            alone(.peerTooOld)),
        Row(.settingsDiffer, .warning, "`protocol`", ["alice: adjust r0", "bob: adjust r0"], alone(.differentProtocol)),
        Row(
            .settingsDiffer, .warning, "`allow-two-primaries`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentTwoPrimaries)),
        Row(
            .settingsDiffer, .warning, "`verify-alg`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentVerifyAlgorithm)),
        Row(
            .settingsDiffer, .warning, "`csums-alg`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentChecksumAlgorithm)),
        Row(
            .settingsDiffer, .warning, "`data-integrity-alg`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentIntegrityAlgorithm)),
        Row(
            .settingsDiffer, .warning, "`after-sb-0pri`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentAfterSplitBrain0Primaries)),
        Row(
            .settingsDiffer, .warning, "`after-sb-1pri`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentAfterSplitBrain1Primary)),
        Row(
            .settingsDiffer, .warning, "`after-sb-2pri`", ["alice: adjust r0", "bob: adjust r0"],
            alone(.differentAfterSplitBrain2Primaries)),
        Row(.settingsDiffer, .warning, "digest", ["alice: adjust r0", "bob: adjust r0"], alone(.unknownAlgorithm)),
        Row(.disconnected, .warning, "by a command", ["alice: connect r0"], alone(.requested)),
        Row(.standAlone, .warning, "StandAlone", ["alice: connect r0", "alice: doctor r0"], alone(nil)),
        Row(.standAlone, .warning, "was lost", ["alice: connect r0"], alone(.networkFailure)),
        Row(.standAlone, .warning, "congested", ["alice: connect r0", "bob: adjust r0"], alone(.congestion)),
        Row(.standAlone, .warning, "handler", ["alice: connect r0", "bob: adjust r0"], alone(.handlerRefused)),
        Row(.foreignPeer, .warning, "can't be understood", ["alice: connect r0"], alone(.foreignPeer)),
        Row(
            .ownAddress, .warning, "own address 10.0.0.1:7788",
            ["alice: !ip address", "alice: !ss -tlnp", "alice: adjust r0"],
            alone(.ownAddress)),
        Row(
            .dataRefused, .danger, "which is Primary", ["alice: secondary r0", "alice: connect r0", "bob: adjust r0"],
            alone(.primaryWouldBeOverwritten)),
        Row(.dataRefused, .danger, "have seen", ["alice: attach r0", "alice: connect r0"], alone(.peerLacksDataInUse)),
        Row(
            .dataRefused, .danger, "is Inconsistent", ["alice: invalidate r0", "alice: connect r0", "bob: adjust r0"],
            alone(.inconsistentSource)),
        Row(.dataRefused, .warning, "smaller", ["bob: adjust r0", "alice: connect r0"], alone(.peerTooSmall)),
        Row(
            .dataRefused, .danger, "both Primary", ["bob: secondary r0", "alice: connect r0", "bob: adjust r0"],
            alone(.twoPrimaries)),
        Row(
            .dataRefused, .danger, "told to discard",
            ["alice: secondary r0", "alice: disconnect r0", "alice: connect --discard-my-data r0", "bob: connect r0"],
            alone(.bothDiscardData)),
        Row(.dataRefused, .warning, "do not go together", ["alice: connect r0", "bob: adjust r0"], alone(.statesRefused)),

        // Looking for the peer
        Row(
            .peerNotListening, .warning, "does not listen on 10.0.0.2:7788", ["bob: doctor r0", "bob: adjust r0"],
            waiting(.refused)),
        Row(.peerSilent, .warning, "nothing comes back", ["alice: !ping -c 3 10.0.0.2"], waiting(.silence)),
        Row(
            .peerUnreachable, .warning, "can't be reached",
            ["alice: !ping -c 3 10.0.0.2", "alice: !ip neighbour show 10.0.0.2"], waiting(.hostUnreachable)),
        Row(.peerUnreachable, .warning, "odd", ["alice: !ping -c 3 10.0.0.2"], waiting(.failed("odd"))),
        Row(.noRoute, .warning, "no route", ["alice: !ip address", "alice: !ip route get 10.0.0.2"], waiting(.noRoute)),
        Row(
            .ownAddress, .warning, "own address", ["alice: !ip address", "alice: !ss -tlnp", "alice: adjust r0"],
            waiting(.ownAddressMissing)),
        Row(
            .peerListens, .warning, "listens on 10.0.0.2:7788", ["bob: doctor r0", "alice: dump r0", "bob: dump r0"],
            waiting(.accepts)),
        Row(
            .connecting, .warning, "about to connect", ["alice: wait-connect r0"],
            {
                var found = waiting(.accepts)
                found.lastDisconnect.seconds = 3
                return found
            }()),
        Row(.waitingForPeer, .warning, "waits for bob", ["bob: doctor r0"], waiting(nil)),
        Row(
            .twoPrimaries, .notice, "Primary on alice and on bob", ["alice: secondary r0"], state { $0.peerRole = .primary }),

        // Disks
        Row(.noDisk, .warning, "no disk on alice", ["alice: attach r0"], disk(.diskless, .upToDate)),
        Row(.noDisk, .warning, "no disk on alice", ["alice: attach r0"], disk(.diskless, .upToDate) { $0.role = .primary }),
        Row(
            .diskFailed, .warning, "has failed", ["alice: detach --force r0", "alice: doctor r0"], disk(.failed, .upToDate)),
        Row(
            .diskFailed, .danger, "has failed", ["alice: detach --force r0", "alice: doctor r0"],
            disk(.failed, .diskless) { $0.role = .primary }),
        Row(.attaching, .notice, "being attached", [], disk(.attaching, .upToDate)),
        Row(.attaching, .notice, "being attached", [], disk(.negotiating, .upToDate)),
        Row(.freshPair, .warning, "fresh pair", ["alice: new-current-uuid --clear-bitmap r0/0"], freshPair()),
        Row(.noGoodData, .danger, "both Inconsistent", ["alice: primary --force r0"], disk(.inconsistent, .inconsistent)),
        Row(.noGoodData, .danger, "neither", ["alice: primary --force r0"], disk(.inconsistent, .diskless)),
        Row(.noGoodData, .danger, "nothing better", ["alice: primary --force r0"], disk(.outdated, .outdated)),
        Row(
            .inconsistent, .warning, "incomplete", [],
            disk(.inconsistent, .unknown) { $0.connection = .wfConnection }),
        Row(.outdated, .warning, "bob has newer", [], disk(.outdated, .unknown) { $0.connection = .wfConnection }),
        Row(
            .outdated, .warning, "bob has newer", ["alice: disconnect r0", "alice: connect r0"], disk(.outdated, .upToDate)),
        Row(
            .consistent, .warning, "whole", ["alice: primary r0"],
            disk(.consistent, .unknown) { $0.connection = .wfConnection }),
        Row(.peerDiskGone, .warning, "bob has no disk", ["bob: doctor r0", "bob: attach r0"], disk(.upToDate, .diskless)),
        Row(.peerDiskGone, .warning, "bob has no disk", ["bob: doctor r0", "bob: attach r0"], disk(.upToDate, .failed)),
        Row(
            .peerDiskBehind, .warning, "Inconsistent", ["alice: disconnect r0", "alice: connect r0"],
            disk(.upToDate, .inconsistent)),
        Row(
            .primaryWithoutData, .danger, "without good data",
            ["bob: adjust r0", "alice: wait-connect r0", "alice: attach r0"],
            disk(.diskless, .unknown) { ($0.role, $0.connection) = (.primary, .wfConnection) }),
        Row(
            .primaryWithoutData, .danger, "without good data", ["alice: attach r0"],
            disk(.diskless, .diskless) { $0.role = .primary }),
        Row(
            .primaryWithoutData, .danger, "without good data", ["bob: adjust r0"],
            disk(.inconsistent, .unknown) { ($0.role, $0.connection) = (.primary, .wfConnection) }),

        // Work
        Row(
            .resyncRunning, .notice, "from alice to bob: 51.0 % done, 100 MiB left, about 31 s", ["alice: wait-sync r0"],
            syncing(.syncSource, moved: 25_600)),
        Row(.resyncRunning, .notice, "from bob to alice", ["alice: wait-sync r0"], syncing(.syncTarget, moved: 1)),
        Row(.resyncRunning, .notice, "about to begin", [], state { $0.connection = .wfBitMapS }),
        Row(
            .resyncStalled, .warning, "does not get on", ["bob: doctor r0", "alice: disconnect r0", "alice: connect r0"],
            syncing(.syncSource, moved: 0, seconds: 40)),
        Row(
            .resyncPaused, .warning, "a command on alice", ["alice: resume-sync r0"],
            syncing(.pausedSyncS, moved: 0) { $0.pausedByUser = true }),
        Row(
            .resyncPaused, .warning, "paused by bob", ["bob: resume-sync r0"],
            syncing(.pausedSyncT, moved: 0) { $0.pausedByPeer = true }),
        Row(.resyncPaused, .notice, "`resync-after`", [], syncing(.pausedSyncS, moved: 0) { $0.pausedByDependency = true }),
        Row(.verifyRunning, .notice, "verified", [], state { $0.connection = .verifyS }),
        Row(.behind, .notice, "bob is behind", [], state { $0.connection = .ahead }),
        Row(
            .blocksDiffer, .warning, "28 KiB differ", ["alice: disconnect r0", "alice: connect r0"],
            evidence { $0.volumes[0].status?.outOfSyncBits = 7 }),
        Row(.frozenByUser, .danger, "suspend-io", ["alice: resume-io r0"], state { $0.suspendedByUser = true }),
        Row(.frozenForFencing, .danger, "fenced", ["bob: adjust r0"], state { $0.suspendedFencing = true }),
        Row(
            .frozenWithoutData, .danger, "no good data",
            ["bob: adjust r0", "alice: wait-connect r0", "alice: attach r0"],
            disk(.diskless, .unknown) { ($0.role, $0.connection, $0.suspendedNoData) = (.primary, .wfConnection, true) }),
    ]

    @Test(arguments: rows)
    func aSituationIsRecognised(row: Row) throws {
        let findings = Diagnosis.findings(row.evidence)
        let finding = try #require(
            findings.first { $0.situation == row.situation }, "found \(findings.map(\.situation.rawValue))")
        #expect(finding.severity == row.severity)
        #expect(finding.heading.contains(row.word), "\(finding.heading)")
        let commands = (finding.choices.first?.commands ?? []).map { node, command in
            command.hasPrefix("replctl ") ? "\(node): \(command.dropFirst(8))" : "\(node): !\(command)"
        }
        #expect(commands == row.commands)
    }

    @Test func everySituationHasARow() {
        let known = Set(Self.rows.map(\.situation))
        for situation in Situation.allCases { #expect(known.contains(situation), "\(situation)") }
    }

    @Test("no reason for a disconnect is passed over", arguments: DisconnectReason.allCases)
    func everyReasonIsSomething(reason: DisconnectReason) {
        for port in [PortAnswer.accepts, .refused, .silence, nil] {
            for connection in [ConnectionState.standAlone, .wfConnection] {
                let findings = Diagnosis.findings(Self.alone(reason, port: port, connection))
                #expect((findings.first?.severity ?? .ok) >= .warning, "\(findings)")
                #expect(findings.first?.choices.isEmpty == false)
            }
        }
    }

    /// Words that lose data, or take data for good that may not be, and what has to stand with them.
    @Test func whatLosesDataIsSaid() {
        for row in Self.rows {
            for finding in Diagnosis.findings(row.evidence) {
                for choice in finding.choices {
                    for (_, command) in choice.commands
                    where ["--force", "--discard-my-data", "invalidate", "dd "].contains(where: command.contains) {
                        if command.contains("detach --force") || command.contains("create-md r0") { continue }
                        #expect(choice.title.contains("WARNING"), "\(command): \(choice.title)")
                        #expect(
                            ["lost", "copied over", "overwritten"].contains(where: choice.title.contains),
                            "\(command): \(choice.title)")
                    }
                }
            }
        }
    }

    @Test("commands are those that there are", arguments: rows)
    func commandsExist(row: Row) throws {
        for finding in Diagnosis.findings(row.evidence) {
            for (node, command) in finding.choices.flatMap(\.commands) where command.hasPrefix("replctl ") {
                #expect(node == "alice" || node == "bob")
                let words = command.split(separator: " ").dropFirst().map(String.init)
                if words == ["--product-version"] || words.first == "setup" { continue }
                let invocation = try Invocation(arguments: words, program: "replctl")
                let spec = try #require(invocation.command, "\(command)")
                #expect(spec.scope == .none || !invocation.names.isEmpty || spec.name == "sh-resources", "\(command)")
            }
        }
    }

    @Test func theWorstComesFirst() {
        var evidence = Self.alone(.splitBrain)
        evidence.volumes[0].status?.state.suspendedByUser = true
        let severities = Diagnosis.findings(evidence).map(\.severity)
        #expect(severities == severities.sorted(by: >) && severities.count > 1)
    }

    @Test func aSplitBrainNamesWhoHasWhat() throws {
        var evidence = Self.alone(.splitBrain)
        evidence.volumes[0].status?.outOfSyncBits = 256
        let finding = try #require(Diagnosis.findings(evidence).first)
        let text = finding.explanation.joined(separator: "\n")
        for word in [
            "alice: Secondary, UpToDate", "1024 KiB", "ABCD000000000001", "1234000000000000", "replctl get-gi r0", "To save",
        ] {
            #expect(text.contains(word), "\(word)")
        }
        #expect(finding.choices.count == 2)
        #expect(
            finding.choices[1].commands.map { "\($0.node): \($0.command)" } == [
                "bob: replctl secondary r0", "bob: replctl disconnect r0", "bob: replctl connect --discard-my-data r0",
                "alice: replctl connect r0",
            ])
    }

    @Test func aPrimaryAloneIsTold() {
        var evidence = Self.waiting(.refused)
        evidence.volumes[0].status?.state.role = .primary
        evidence.volumes[0].status?.outOfSyncBits = 100
        let text = Diagnosis.findings(evidence)[0].explanation.joined(separator: "\n")
        #expect(text.contains("on alice alone for 90 s") && text.contains("400 KiB are out of sync"))
    }

    @Test func severalVolumesAreNamed() {
        var evidence = Self.evidence()
        var second = evidence.volumes[0]
        second.target = "r0/1"
        second.status?.state.suspendedByUser = true
        evidence.volumes[0].target = "r0/0"
        evidence.volumes.append(second)
        let findings = Diagnosis.findings(evidence)
        #expect(findings.count == 1 && findings[0].heading.contains("r0/1"))
        #expect(findings[0].choices[0].commands[0].command == "replctl resume-io r0/1")
    }

    // MARK: Report

    @Test func theTextIsReadable() {
        let text = DoctorReport.text("r0", Diagnosis.findings(Self.alone(.splitBrain)))
        #expect(text.hasPrefix("r0: DANGER: split brain: alice and bob"))
        #expect(text.contains("\n        on alice: replctl connect --discard-my-data r0\n"))
        for line in text.split(separator: "\n") where !line.contains(": replctl ") { #expect(line.count <= 130, "\(line)") }
    }
}
