/// Everything that waits for a moment. One slot per purpose: setting a timer again moves it.
struct Timers {
    enum Kind: Int, CaseIterable {
        /// Try another outgoing stream.
        case connectRetry
        /// An accepted stream owes its marker.
        case marker
        /// Both streams have to survive this.
        case settle
        /// Features and authentication are bounded.
        case handshake
        /// Pause before reconnecting.
        case reconnect
        /// Nothing came on the meta stream: ping, or give up.
        case ping
        /// The oldest unanswered request.
        case request
        /// Resync requests, every 100 ms.
        case resync
        /// Marks for the speed display, every 3 s.
        case marks
        /// Superblocks that changed and were not written yet.
        case superblock
        /// A received write waits for acknowledgements that were given before it.
        case sequence
        /// Epochs with overruled writes.
        case epochProof
        /// A disk that was forced off should be gone.
        case forcedDetach
        /// A volume that pulled ahead may go back.
        case catchUp
        /// A volume was introduced, and nothing came of it.
        case introductions
        /// wait-connect and wait-sync.
        case waiters
        /// A command waits for a second try.
        case retry
    }

    private var deadlines = [Instant?](repeating: nil, count: Kind.allCases.count)
    private(set) var next: Instant?

    func isSet(_ kind: Kind) -> Bool { deadlines[kind.rawValue] != nil }
    func deadline(_ kind: Kind) -> Instant? { deadlines[kind.rawValue] }

    mutating func set(_ kind: Kind, _ moment: Instant) {
        let old = deadlines[kind.rawValue]
        deadlines[kind.rawValue] = moment
        if let next, moment >= next, old != next { return }
        refresh()
    }

    mutating func cancel(_ kind: Kind) {
        guard deadlines[kind.rawValue] != nil else { return }
        deadlines[kind.rawValue] = nil
        refresh()
    }

    /// Takes one timer that is due, in order of `Kind`.
    mutating func takeDue(at now: Instant) -> Kind? {
        guard let next, next <= now else { return nil }
        for kind in Kind.allCases {
            if let deadline = deadlines[kind.rawValue], deadline <= now {
                cancel(kind)
                return kind
            }
        }
        return nil
    }

    private mutating func refresh() {
        var earliest: Instant?
        for case let deadline? in deadlines where earliest.map({ deadline < $0 }) ?? true { earliest = deadline }
        next = earliest
    }
}

extension Resource {
    mutating func advanceClock() {
        // A timer that is set again while it is handled waits for the next event, so this ends.
        let due = now
        var rounds = 0
        while rounds < Timers.Kind.allCases.count, let kind = timers.takeDue(at: due) {
            rounds += 1
            switch kind {
            case .connectRetry: connectRetryDue()
            case .marker: markerOverdue()
            case .settle: streamsSettled()
            case .handshake: handshakeOverdue()
            case .reconnect: reconnectDue()
            case .ping: pingDue()
            case .request: requestTimerDue()
            case .resync: resyncTick()
            case .marks: takeMarks()
            case .superblock: writeChangedSuperblocks()
            case .sequence: sequenceOverdue()
            case .epochProof: askForEpochProof()
            case .forcedDetach: forcedDetachesDue()
            case .catchUp: catchUpDue()
            case .introductions: introductionsOverdue()
            case .waiters: checkWaiters()
            case .retry: retryCommands()
            }
        }
    }
}
