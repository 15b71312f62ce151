/// A stretch of a resource's life: what its core was told, when, and what it asked for. A text of lines:
///
///     replica recording 1
///     resource NAME
///     seed A B C D
///     complete 1                                  from the first event on, so that it can be replayed
///     = NANOSECONDS VERSION FEATURES DIGEST EVENT  DIGEST as of the peer, `-` without; then, for each effect of the step,
///     > EFFECT
package enum Recording {
    package static let firstLine = "replica recording 1"

    package struct Head: Equatable, Sendable {
        package var resource: String
        package var seed: (UInt64, UInt64, UInt64, UInt64)
        /// It begins with the first event of the process.
        package var isComplete: Bool

        package init(resource: String, seed: (UInt64, UInt64, UInt64, UInt64), isComplete: Bool) {
            self.resource = resource
            self.seed = seed
            self.isComplete = isComplete
        }

        package static func == (left: Head, right: Head) -> Bool {
            left.resource == right.resource && left.seed == right.seed && left.isComplete == right.isComplete
        }

        package var lines: String {
            "\(firstLine)\nresource \(resource)\nseed \(seed.0) \(seed.1) \(seed.2) \(seed.3)\ncomplete \(isComplete ? 1 : 0)\n"
        }
    }

    package static func line(_ event: Event, at moment: Instant, format: WireFormat, resource: String) -> String {
        "= \(moment.nanoseconds) \(format.version) \(format.features.rawValue) \(format.peerIntegrity?.name ?? "-") "
            + event.recorded(format: format, resource: resource) + "\n"
    }

    package static func line(_ effect: Effect) -> String { "> \(effect.recorded)\n" }
}

/// Why a recording can't be read, with the line.
package struct RecordingError: Error, Equatable, Sendable {
    package var line: Int
    package var message: String
}

/// Tells a recording to a new core and compares what that asks for.
package struct RecordingReplay {
    package private(set) var head = Recording.Head(resource: "", seed: (0, 0, 0, 0), isComplete: false)
    package private(set) var events = 0
    package private(set) var effects = 0
    /// The first effect that is not as recorded: its line, what is recorded and what came instead.
    package private(set) var difference: (line: Int, recorded: String, replayed: String)?

    package init() {}

    /// - Throws: also where it makes sense as a recording, but does not begin at the beginning.
    package mutating func run(_ text: String) throws(RecordingError) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        try readHead(lines)
        guard head.isComplete else {
            throw RecordingError(line: 4, message: "the beginning of the process is not in it: it can be read, not replayed")
        }
        var core = Resource(name: head.resource, seed: head.seed)
        var queue = EffectQueue()
        var next = 0
        for (index, line) in lines.enumerated().dropFirst(4) where !line.isEmpty {
            if line.hasPrefix("= ") {
                if next < queue.count { return differs(index, "another event", queue[next].recorded) }
                let (event, moment) = try readEvent(line.dropFirst(2), index)
                queue.removeAll()
                next = 0
                core.handle(event, at: moment, into: &queue)
                events += 1
            } else if line.hasPrefix("> ") {
                guard next < queue.count else { return differs(index, String(line.dropFirst(2)), "nothing") }
                let replayed = queue[next].recorded
                next += 1
                effects += 1
                if replayed != line.dropFirst(2) { return differs(index, String(line.dropFirst(2)), replayed) }
            } else {
                throw RecordingError(line: index + 1, message: "neither event nor effect")
            }
        }
        // The last step may have ended in the middle: that is what a recording is good for.
    }

    private mutating func differs(_ index: Int, _ recorded: String, _ replayed: String) {
        difference = (index + 1, recorded, replayed)
    }

    private mutating func readHead(_ lines: [Substring]) throws(RecordingError) {
        guard lines.count >= 4, lines[0] == Recording.firstLine else { throw RecordingError(line: 1, message: "no recording") }
        let words = lines[1...3].map { $0.split(separator: " ") }
        let seed = words[1].dropFirst().compactMap { UInt64($0) }
        guard words[0].count == 2, words[0][0] == "resource", words[1].first == "seed", seed.count == 4, words[2].count == 2,
            words[2][0] == "complete"
        else { throw RecordingError(line: 2, message: "a damaged head") }
        head = Recording.Head(
            resource: String(words[0][1]), seed: (seed[0], seed[1], seed[2], seed[3]), isComplete: words[2][1] == "1")
    }

    private func readEvent(_ line: Substring, _ index: Int) throws(RecordingError) -> (Event, Instant) {
        let parts = line.split(separator: " ", maxSplits: 4)
        guard parts.count == 5, let nanoseconds = UInt64(parts[0]), let version = UInt32(parts[1]), let features = UInt32(parts[2]),
            let event = Event(
                recorded: parts[4],
                format: WireFormat(version: version, features: FeatureFlags(rawValue: features), peerIntegrity: DigestAlgorithm(String(parts[3]))),
                resource: head.resource)
        else { throw RecordingError(line: index + 1, message: "an event that can not be read") }
        return (event, Instant(nanoseconds: nanoseconds))
    }
}
