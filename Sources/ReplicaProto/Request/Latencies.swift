/// How long clients' requests took, and where: for each kind and stage a histogram whose buckets end at powers of two of
/// nanoseconds. The clock is that of the events, so what happens within one turn of the loop took no time.
///
/// The table is allocated with the volume.
package struct Latencies: Equatable, Sendable {
    package enum Operation: Int, CaseIterable, Sendable { case read, write, discard, flush }

    package enum Stage: Int, CaseIterable, Sendable {
        /// From arrival until nothing forbids I/O: not frozen, no bitmap exchange.
        case admission
        /// Until its extents are hot in the activity log.
        case activityLog
        /// Until no earlier request, resync or verify holds its blocks.
        case conflict
        /// From there on: the local disk.
        case localDisk
        /// From there on: the way to the peer, its disk, and the answer that the protocol asks for.
        case peer
        /// From arrival to the answer.
        case total

        /// As the metrics call it.
        package var name: String {
            switch self {
            case .admission: "admission"
            case .activityLog: "activity-log"
            case .conflict: "conflict"
            case .localDisk: "local-disk"
            case .peer: "peer"
            case .total: "total"
            }
        }
    }

    /// Bucket 0 ends at 2^14 ns (16 us), each at twice the one before, the last but one at 2^34 ns (17 s).
    package static let firstPower = 14
    package static let buckets = 22

    /// The buckets and then the sum in nanoseconds, of each stage of each operation.
    private var numbers = [UInt64](
        repeating: 0, count: Operation.allCases.count * Stage.allCases.count * (Self.buckets + 1))
    /// Requests answered with an error, by operation.
    private var errors = [UInt64](repeating: 0, count: Operation.allCases.count)

    package init() {}

    private static func row(_ operation: Operation, _ stage: Stage) -> Int {
        (operation.rawValue * Stage.allCases.count + stage.rawValue) * (buckets + 1)
    }

    /// A duration of exactly 2^k nanoseconds belongs to the bucket that ends there.
    @inline(__always)
    package static func bucket(_ duration: TimeSpan) -> Int {
        let above = (max(duration.nanoseconds, 1) &- 1) >> UInt64(firstPower)
        return min(UInt64.bitWidth - above.leadingZeroBitCount, buckets - 1)
    }

    /// A request is answered well. In one go, because each access to the table has its price.
    mutating func note(_ operation: Operation, _ moments: RequestMoments, sentAt: Instant, answeredAt: Instant) {
        let row = Self.row(operation, .admission)
        var table = numbers.mutableSpan
        func note(_ stage: Stage, _ duration: TimeSpan, _ table: inout MutableSpan<UInt64>) {
            let row = row &+ stage.rawValue &* (Self.buckets &+ 1)
            table[row &+ Self.bucket(duration)] &+= 1
            table[row &+ Self.buckets] &+= duration.nanoseconds
        }
        note(.admission, moments.admitted.since(moments.arrived), &table)
        if moments.logged > .zero {
            note(.activityLog, moments.logged.since(moments.admitted), &table)
            note(.conflict, moments.submitted.since(moments.logged), &table)
        }
        if moments.localEnded > .zero { note(.localDisk, moments.localEnded.since(moments.submitted), &table) }
        if moments.peerEnded > .zero { note(.peer, moments.peerEnded.since(sentAt), &table) }
        note(.total, answeredAt.since(moments.arrived), &table)
    }

    mutating func noteError(_ operation: Operation) { errors[operation.rawValue] &+= 1 }

    /// How many ended in each bucket; the last one has no end.
    package func counts(_ operation: Operation, _ stage: Stage) -> ArraySlice<UInt64> {
        let row = Self.row(operation, stage)
        return numbers[row..<row + Self.buckets]
    }

    package func sumNanoseconds(_ operation: Operation, _ stage: Stage) -> UInt64 {
        numbers[Self.row(operation, stage) + Self.buckets]
    }

    package func errorCount(_ operation: Operation) -> UInt64 { errors[operation.rawValue] }

    mutating func set(_ operation: Operation, _ stage: Stage, sumNanoseconds: UInt64, _ counts: ArraySlice<UInt64>) {
        let row = Self.row(operation, stage)
        numbers.replaceSubrange(row...row + Self.buckets, with: counts + [sumNanoseconds])
    }

    mutating func setErrors(_ operation: Operation, _ count: UInt64) { errors[operation.rawValue] = count }
}

/// When the stages of a request ended, the last time if it went through one again; zero if it has not.
struct RequestMoments {
    var arrived = Instant.zero
    var admitted = Instant.zero
    var logged = Instant.zero
    var submitted = Instant.zero
    var localEnded = Instant.zero
    var peerEnded = Instant.zero
}

extension Request.Kind {
    var operation: Latencies.Operation {
        switch self {
        case .read: .read
        case .write: .write
        case .discard: .discard
        case .flush: .flush
        }
    }
}

extension Resource {
    mutating func noteLatencies(_ r: Int32) {
        let v = requests[r].volume
        volumes[v].latencies.note(
            requests[r].kind.operation, requests[r].moments, sentAt: requests[r].sentAt, answeredAt: now)
    }
}
