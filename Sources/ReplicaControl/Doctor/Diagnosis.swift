import ReplicaProto

/// From evidence to findings. No I/O: the same evidence gives the same findings.
///
/// What it holds to: a command that loses data stands below a sentence that says so; `primary --force` is named only where no
/// other command helps; every command is one that `replctl` has.
package struct Diagnosis {
    let evidence: Evidence
    private var found: [Finding] = []

    /// The findings, the worst first.
    package static func findings(_ evidence: Evidence) -> [Finding] {
        var diagnosis = Diagnosis(evidence: evidence)
        diagnosis.examine()
        return diagnosis.found.enumerated()
            .sorted { ($1.element.severity, $0.offset) < ($0.element.severity, $1.offset) }.map(\.element)
    }

    private init(evidence: Evidence) { self.evidence = evidence }

    // MARK: What the parts of the diagnosis say

    mutating func say(
        _ situation: Situation, _ severity: Severity, _ heading: String, _ explanation: [String] = [],
        _ choices: [Choice] = []
    ) {
        found.append(Finding(situation, severity, heading, explanation, choices))
    }

    var name: String { evidence.resource }
    var node: String { evidence.node }
    var peer: String { evidence.peer }

    /// A command of `replctl` on this host.
    func here(_ words: String) -> Step { .type(node: node, command: "\(evidence.program) \(words)") }
    /// The same on the peer, whose configuration is where it always is.
    func there(_ words: String) -> Step { .type(node: peer, command: "replctl \(words)") }
    /// Another command on this host.
    func shell(_ command: String) -> Step { .type(node: node, command: command) }

    /// `r0`, or `r0/1` where there are several volumes.
    func title(_ volume: VolumeEvidence) -> String { evidence.volumes.count > 1 ? volume.target : name }

    // MARK: The order of questions

    private mutating func examine() {
        switch evidence.presence {
        case .configured: break
        case .unreadable(let reason):
            return say(
                .configurationUnreadable, .warning, "the configuration can't be read",
                [reason, "What runs goes on as it is. Nothing can be started or adjusted."],
                [Choice("", [.advice("correct the file"), here("sh-nop")])])
        case .unknown: return unknown()
        case .otherHosts(let names): return forOtherHosts(names)
        }
        switch evidence.daemon {
        case .running: examineRunning()
        case .down, .dead, .silent, .unreachable: examineWithoutDaemon()
        }
    }

    private mutating func unknown() {
        if evidence.daemon == .running {
            return say(
                .notConfigured, .warning, "\(name) runs, but is not in the configuration",
                ["It goes on as it is; `adjust`, `up` and whatever starts at boot do not know it."],
                [
                    Choice("If it is to stay", [.advice("put it back into the configuration"), here("adjust \(name)")]),
                    Choice("If it is to go", [here("setup down \(name)")]),
                ])
        }
        say(
            .notConfigured, .warning, "there is no resource \(name) in the configuration",
            ["These are there:"], [Choice("", [here("sh-resources")])])
    }

    private mutating func forOtherHosts(_ names: [String]) {
        say(
            .notForThisHost, .warning, "\(name) has no section for this host, whose name is \(node)",
            [
                "Its sections are for \(names.joined(separator: " and ")). The name behind `on` has to be what `uname -n` prints, "
                    + "in full and letter by letter."
            ],
            [
                Choice(
                    "",
                    [
                        shell("uname -n"), .advice("correct `on` in the configuration, on both nodes"),
                        here("sh-resources"), here("adjust \(name)"),
                    ])
            ])
    }

    // MARK: A running daemon

    private mutating func examineRunning() {
        guard !evidence.volumes.isEmpty, evidence.volumes.contains(where: { $0.status != nil }) else {
            return say(
                .noVolumes, .warning, "the daemon of \(name) runs, and has no device yet",
                ["Somebody is about to start it, or stopped half-way."], [Choice("", [here("adjust \(name)")])])
        }
        examineConnection()
        for volume in evidence.volumes {
            guard let status = volume.status else {
                say(
                    .noVolumes, .warning, "\(volume.target) is in the configuration, and the daemon does not have it",
                    [], [Choice("", [here("adjust \(name)")])])
                continue
            }
            examineFreeze(volume, status)
            examineDisk(volume, status)
            examineWork(volume, status)
        }
        let isInOrder = found.isEmpty
        examineUse()
        if isInOrder {
            let state = evidence.volumes.first?.status?.state ?? VolumeState()
            say(
                .inOrder, .ok, "\(name) is in order; there is nothing to do",
                [
                    "\(state.connection.name), \(state.role.name)/\(state.peerRole.name), \(state.disk.name)/\(state.peerDisk.name)."
                ])
        }
    }

    /// Who keeps a Primary from becoming Secondary.
    private mutating func examineUse() {
        for volume in evidence.volumes where volume.status?.state.role == .primary && !volume.holders.isEmpty {
            let holders = volume.holders.map(\.text).joined(separator: ", ")
            var steps: [Step] = []
            for holder in volume.holders {
                switch holder {
                case .mount(let place): steps.append(shell("umount \(place)"))
                case .process, .device: break
                }
            }
            let others = volume.holders.filter { if case .mount = $0 { false } else { true } }
            if !others.isEmpty {
                steps.append(.advice("end \(others.map(\.text).joined(separator: " and ")) in good order"))
            }
            say(
                .inUse, .notice, "\(title(volume)) is in use by \(holders)",
                ["While that is so, `secondary` and `down` are refused (-12): the data would be taken from under it."],
                [Choice("To be able to leave the role Primary", steps + [here("secondary \(volume.target)")])])
        }
    }

    // MARK: Words

    /// The state of the connection as a whole: that of its first volume while there is none.
    var connection: ConnectionState {
        evidence.volumes.lazy.compactMap(\.status).first?.state.connection ?? .standAlone
    }
    var isPrimary: Bool { evidence.volumes.contains { $0.status?.state.role == .primary } }
    /// KiB that are known to differ from the peer's, or would have to be sent.
    var outOfSyncKiB: UInt64 { evidence.volumes.reduce(0) { $0 &+ ($1.status?.outOfSyncBits ?? 0) &* 4 } }

    static func amount(_ kibibytes: UInt64) -> String {
        switch kibibytes {
        case ..<10_240: "\(kibibytes) KiB"
        case ..<10_485_760: "\(kibibytes >> 10) MiB"
        default: "\(kibibytes >> 20) GiB"
        }
    }

    static func duration(_ seconds: UInt64) -> String {
        switch seconds {
        case ..<120: "\(seconds) s"
        case ..<7200: "\(seconds / 60) min"
        case ..<172_800: "\(seconds / 3600) h \(seconds % 3600 / 60) min"
        default: "\(seconds / 86_400) days"
        }
    }
}
