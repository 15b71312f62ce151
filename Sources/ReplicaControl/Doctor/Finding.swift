/// How much a finding matters; ascending.
package enum Severity: Int, Comparable, Sendable, CaseIterable {
    /// As it should be.
    case ok
    /// Worth knowing; nothing has to be done.
    case notice
    /// Something has to be done.
    case warning
    /// Data is at risk, or applications have no service.
    case danger

    package static func < (left: Severity, right: Severity) -> Bool { left.rawValue < right.rawValue }

    package var name: String {
        switch self {
        case .ok: "ok"
        case .notice: "notice"
        case .warning: "warning"
        case .danger: "danger"
        }
    }
}

/// What the doctor knows how to recognise. The word is what `doctor --json` says.
package enum Situation: String, Sendable, CaseIterable {
    case inOrder = "in-order"
    case inUse = "in-use"

    // MARK: Configuration and daemon
    case configurationUnreadable = "configuration-unreadable"
    case notConfigured = "not-configured"
    case notForThisHost = "not-for-this-host"
    case down
    case daemonDied = "daemon-died"
    case daemonStopped = "daemon-stopped"
    case daemonSilent = "daemon-silent"
    case daemonUnreachable = "daemon-unreachable"
    case noVolumes = "no-volumes"

    // MARK: Connection
    case splitBrain = "split-brain"
    case unrelatedData = "unrelated-data"
    case wrongSecret = "wrong-secret"
    case versionMismatch = "version-mismatch"
    case foreignPeer = "foreign-peer"
    case settingsDiffer = "settings-differ"
    case dataRefused = "data-refused"
    case disconnected
    case standAlone = "stand-alone"
    case ownAddress = "own-address"
    case connecting
    case peerNotListening = "peer-not-listening"
    case peerSilent = "peer-silent"
    case peerUnreachable = "peer-unreachable"
    case noRoute = "no-route"
    case peerListens = "peer-listens"
    case waitingForPeer = "waiting-for-peer"
    case twoPrimaries = "two-primaries"

    // MARK: Disks
    case noDisk = "no-disk"
    case diskFailed = "disk-failed"
    case attaching
    case freshPair = "fresh-pair"
    case noGoodData = "no-good-data"
    case inconsistent
    case outdated
    case consistent
    case peerDiskGone = "peer-disk-gone"
    case peerDiskBehind = "peer-disk-behind"
    case primaryWithoutData = "primary-without-data"
    case metadataMissing = "metadata-missing"
    case metadataForeign = "metadata-foreign"
    case metadataMoved = "metadata-moved"
    case metadataDamaged = "metadata-damaged"
    case diskTooSmall = "disk-too-small"
    case diskUnreadable = "disk-unreadable"
    case diskInUse = "disk-in-use"

    // MARK: Work
    case resyncRunning = "resync-running"
    case resyncStalled = "resync-stalled"
    case resyncPaused = "resync-paused"
    case verifyRunning = "verify-running"
    case behind
    case blocksDiffer = "blocks-differ"
    case frozenByUser = "frozen-by-user"
    case frozenForFencing = "frozen-for-fencing"
    case frozenWithoutData = "frozen-without-data"
}

/// One thing to do.
package enum Step: Equatable, Sendable {
    /// A command, exactly as it is to be typed, and where.
    case type(node: String, command: String)
    /// What no command can do.
    case advice(String)
}

/// Steps that belong together, in order. Several choices of one finding exclude each other.
package struct Choice: Equatable, Sendable {
    /// When this is the one to take.
    package var title: String
    package var steps: [Step]

    package init(_ title: String, _ steps: [Step]) {
        self.title = title
        self.steps = steps
    }

    package var commands: [(node: String, command: String)] {
        steps.compactMap { step in
            if case .type(let node, let command) = step { return (node, command) }
            return nil
        }
    }
}

/// One thing that was found: what it is, what is safe and what not, what to type.
package struct Finding: Equatable, Sendable {
    package var situation: Situation
    package var severity: Severity
    /// One line.
    package var heading: String
    /// Sentences; each is a paragraph.
    package var explanation: [String]
    package var choices: [Choice]

    package init(
        _ situation: Situation, _ severity: Severity, _ heading: String, _ explanation: [String] = [],
        _ choices: [Choice] = []
    ) {
        self.situation = situation
        self.severity = severity
        self.heading = heading
        self.explanation = explanation
        self.choices = choices
    }
}
