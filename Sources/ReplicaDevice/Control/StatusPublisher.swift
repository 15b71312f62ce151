import CLinux
import Glibc
import ReplicaProto

/// The version of this program, not the one that its texts present.
package let productVersion = "0.1.0"

/// What this daemon has published of its minors, and when it does so next.
struct StatusPublisher {
    /// The core said that more than counters changed.
    var isWanted = false
    var hasMerged = false
    /// By minor.
    var published: [Published] = []
    /// Other resources' minors, as the core knows them, and when to look again.
    var neighbours: [NeighbourMinor] = []
    var looksAt = UInt64.max
    var lastCheck: UInt64 = 0
    /// Events handled when the counters were last looked at.
    var lastEvents: UInt64 = 0
    var nextDeadline = UInt64.max
    /// Writing failed, and the log says so.
    var hasFailed = false
}

/// A minor as the status directory shows it.
struct Published: Equatable {
    var note: NeighbourMinor
    var text: String
    var minor: UInt32 { note.minor }
}

extension ResourceLoop {
    // MARK: Minors of other resources

    /// While somebody is to be synchronised after one of them: every half second.
    mutating func lookAtNeighboursIfDue() {
        guard core.wantsNeighbours else {
            status.looksAt = .max
            return
        }
        guard status.looksAt == .max || now.nanoseconds >= status.looksAt else { return }
        lookAtNeighbours()
        status.looksAt = now.nanoseconds &+ 500_000_000
    }

    mutating func lookAtNeighbours() {
        let found = statusDirectory.neighbours()
        guard found != status.neighbours else { return }
        status.neighbours = found
        deliver(.neighboursChanged(found))
    }

    // MARK: The status file

    func resourceStatus() -> ResourceStatus {
        var status = ResourceStatus(
            resource: settings.resource, node: settings.node, productVersion: productVersion)
        status.options = core.resourceOptions
        status.volumes = core.status(at: now)
        status.lastDisconnect = core.lastDisconnect(at: now)
        status.clients = openClients
        return status
    }

    /// The status file as it would be if this resource were the only one.
    func ownStatusText() -> String {
        ProcText.file(core.status(at: now), persona: persona, build: Daemon.build(settings.node))
    }

    var statusDirectory: StatusDirectory {
        StatusDirectory(run: runDirectory, persona: persona, build: Daemon.build(settings.node))
    }

    /// At once on a change of state, once a second while counters move.
    mutating func publishStatusIfDue() {
        if status.isWanted || now.nanoseconds >= status.nextDeadline {
            publishStatus()
        } else if status.nextDeadline == .max && counters.events != status.lastEvents {
            status.nextDeadline = status.lastCheck &+ 1_000_000_000
        }
    }

    mutating func publishStatus() {
        // Monitors see what was before, until what comes after is the same or has failed to be.
        guard !handOver.isUnderWay else { return }
        status.isWanted = false
        status.lastCheck = now.nanoseconds
        status.lastEvents = counters.events
        status.nextDeadline = .max
        var fragments = core.status(at: now).compactMap { volume in
            core.neighbour(volume.volume).map { Published(note: $0, text: ProcText.minor(volume, persona: persona)) }
        }
        fragments.sort { $0.minor < $1.minor }
        guard fragments != status.published || !status.hasMerged else { return }
        let directory = statusDirectory
        directory.prepare()
        var problem: String?
        var published: [Published] = []
        for old in status.published where !fragments.contains(where: { $0.minor == old.minor }) {
            directory.withdraw(old.minor)
        }
        for new in fragments {
            let old = status.published.first { $0.minor == new.minor }
            if old != new, let error = directory.publish(new.note, new.text) {
                problem = error
                if let old { published.append(old) }
            } else {
                published.append(new)
            }
        }
        status.published = published
        var outcome = directory.merge()
        if let problem { outcome = .failed(problem) }
        status.hasMerged = outcome == .done
        switch outcome {
        case .done:
            if status.hasFailed { logLine(.notice, nil, "the status file is written again") }
            status.hasFailed = false
        case .busy: status.nextDeadline = now.nanoseconds &+ 50_000_000
        case .failed(let reason):
            if !status.hasFailed { logLine(.error, nil, "can not write the status file, which shows an old state: \(reason)") }
            status.hasFailed = true
            status.nextDeadline = now.nanoseconds &+ 1_000_000_000
        }
    }

    mutating func removePublishedStatus() {
        let directory = statusDirectory
        for old in status.published { directory.withdraw(old.minor) }
        status.published = []
        // At the end there is no later: a few tries, then the next daemon that merges does it.
        for _ in 0..<20 {
            if directory.merge() != .busy { break }
            usleep(10_000)
        }
    }
}

extension Daemon {
    /// What the status file says behind `build by`.
    static func build(_ node: String) -> String {
        var text = [CChar](repeating: 0, count: 32)
        clinux_build_date(&text)
        return "root@\(node), " + String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
