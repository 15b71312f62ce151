/// The connection to the one peer: streams, agreed parameters, epochs, pings.
struct Link {
    enum Phase: UInt8 {
        case standAlone
        /// Collecting two streams.
        case connecting
        /// Both streams exist and have to survive a moment.
        case settling
        case features
        case authentication
        /// Protocol, sizes, identifiers and states are on their way.
        case parameters
        case established
        /// The peer takes its leave, or we do: waiting for the streams to end.
        case closing
        /// Streams are gone; volumes clean up.
        case cleanup
    }

    var phase = Phase.standAlone
    var configuration: ConnectionConfiguration?
    /// The configuration's, with what the peer changed while connected.
    var options = NetOptions()
    /// Ascending: which connection this is. Answers to an older one are dropped.
    var instance: UInt32 = 0
    /// What cleanup leads to.
    var afterCleanup = ConnectionState.unconnected
    /// Closing, but not before the handlers of the handshake have ended.
    var partsAfterHandlers = false
    var cleanupsPending = 0
    /// Why the last connection or try ended, since the last `connect`.
    var lastDisconnect: DisconnectReason?
    /// Since when a connection is missing; nil while there is one, and before the first `connect`.
    var lostAt: Instant?

    // MARK: Streams
    var dataSocket: SocketID?
    var metaSocket: SocketID?
    /// Accepted streams that owe their marker, and when they have to have sent it.
    var awaitingMarker: [SocketID] = []
    var isAttempting = false
    var isListening = false
    /// We accepted the meta stream (`wire.md` 1.3).
    var isResolver = false

    // MARK: Agreement
    var version: UInt32 = 0
    var features: FeatureFlags = []
    /// data-integrity-alg of what we send, and of what the peer sends.
    var integrity: DigestAlgorithm?
    var peerIntegrity: DigestAlgorithm?
    var ownChallenge: [UInt8] = []
    var peerChallenge: [UInt8]?
    var sentResponse = false
    var expectedResponse: [UInt8]?
    var peerResponse: [UInt8]?
    var receivedProtocol = false
    var discardMyData = false
    var peerWantsDryRun = false
    var peerStateSeen = false
    var establishedAt = Instant.zero

    // MARK: Epochs of our writes
    var epoch: UInt32 = 0
    /// Writes sent in the open epoch.
    var epochWrites = 0
    /// Closed and not acknowledged, oldest first.
    var sentEpochs: EpochQueue
    var barrierSentAt = Instant.zero
    /// No acknowledgement is expected of this epoch and those before it: it had overruled writes, and is safe at the peer.
    var provenEpoch: UInt32?
    /// A read is under way to the peer whose answer stands for the acknowledgements of the epochs up to this one.
    var proofIsFor: UInt32?
    /// The block_id of that read; no request has it (`RequestTable.blockID`).
    static let proofBlockID = UInt64(UInt32.max)
    /// Congested, and `on-congestion disconnect`.
    var isGivenUp = false

    // MARK: Liveness
    var lastMetaReceived = Instant.zero
    var lastDataReceived = Instant.zero
    var pingsSent: UInt64 = 0
    var pingsAnswered: UInt64 = 0
    var isPingOverdue = false
    var pingSentAt = Instant.zero
    /// Send timeouts in a row that the data stream may still have.
    var stallsLeft = 0
    var pingActions: [PingAction] = []

    init(openEpochs: Int = Limits.openEpochs) { sentEpochs = EpochQueue(capacity: openEpochs) }

    /// Packets can be sent.
    var isUsable: Bool {
        switch phase {
        case .features, .authentication, .parameters, .established, .closing: true
        case .standAlone, .connecting, .settling, .cleanup: false
        }
    }
}

/// Something that waits until the peer has processed all that we sent on the meta stream so far.
struct PingAction {
    enum Kind { case targetEnds, sourceEnds, sourceWaits, catchesUp, verifyEnds, hasIntroduced }

    /// Acks to wait for.
    var ping: UInt64
    var volume: Int
    var kind: Kind
}

/// Closed epochs that the peer has not acknowledged: a ring that never allocates after `init`.
struct EpochQueue {
    struct Epoch {
        var number: UInt32
        /// Writes sent in it.
        var writes: UInt32
        /// Of those: overruled by the peer (`wire.md` 7.8).
        var overruled: UInt32 = 0
        var sentAt: Instant
    }

    private var entries: [Epoch]
    private var head = 0
    private(set) var count = 0

    /// Epochs with overruled writes.
    private(set) var overruledCount = 0

    init(capacity: Int = Limits.openEpochs) {
        entries = Array(repeating: Epoch(number: 0, writes: 0, sentAt: .zero), count: capacity)
    }

    var isEmpty: Bool { count == 0 }
    var isFull: Bool { count == entries.count }
    var capacity: Int { entries.count }
    var first: Epoch? { count > 0 ? entries[head] : nil }
    var last: Epoch? { count > 0 ? entries[(head + count - 1) % entries.count] : nil }

    mutating func append(_ entry: Epoch) {
        invariant(count < entries.count, "unacknowledged epochs are bounded")
        entries[(head + count) % entries.count] = entry
        count += 1
    }
    /// The peer overruled a write of this epoch.
    mutating func overrule(_ number: UInt32) {
        let offset = count > 0 ? Int(number &- entries[head].number) : 0
        invariant(offset < count, "a write in the transfer log belongs to an unacknowledged epoch")
        let index = (head + offset) % entries.count
        if entries[index].overruled == 0 { overruledCount += 1 }
        entries[index].overruled += 1
    }
    mutating func removeFirst() {
        if entries[head].overruled > 0 { overruledCount -= 1 }
        head = (head + 1) % entries.count
        count -= 1
    }
    mutating func removeAll() {
        head = 0
        count = 0
        overruledCount = 0
    }
}
