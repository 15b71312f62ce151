import Glibc
import ReplicaProto

/// The last few thousand events and effects of the core, kept in memory that is allocated once; written as a `Recording`
/// when an invariant breaks or somebody asks.
///
/// It lives outside the loop, so that it can be read while the core is in the middle of a step.
final class FlightRecorder {
    private struct Step {
        var event: Event
        var moment: Instant
        var format: WireFormat
        /// Of its first effect; ascends for ever.
        var firstEffect: UInt64
    }

    /// Environment variable for more of them: what begins with the process can be replayed.
    static let sizeVariable = "REPLICA_RECORDED_EVENTS"

    private let resource: String
    private let seed: (UInt64, UInt64, UInt64, UInt64)
    /// Powers of two: a position is found without a division.
    private let stepCapacity: Int
    private let effectCapacity: Int
    private let steps: UnsafeMutablePointer<Step>
    private let effects: UnsafeMutablePointer<Effect>
    private var stepCount: UInt64 = 0
    private var effectCount: UInt64 = 0

    init(resource: String, seed: (UInt64, UInt64, UInt64, UInt64)) {
        self.resource = resource
        self.seed = seed
        let wanted = getenv(Self.sizeVariable).flatMap { Int(String(cString: $0)) } ?? 4096
        let bounded = min(max(wanted, 64), 1 << 22)
        stepCapacity = 1 << (Int.bitWidth - (bounded - 1).leadingZeroBitCount)
        effectCapacity = stepCapacity * 2
        steps = .allocate(capacity: stepCapacity)
        steps.initialize(
            repeating: Step(event: .clockAdvanced, moment: .zero, format: .initial, firstEffect: 0), count: stepCapacity)
        effects = .allocate(capacity: effectCapacity)
        effects.initialize(repeating: .publishStatus, count: effectCapacity)
    }

    deinit {
        steps.deinitialize(count: stepCapacity)
        steps.deallocate()
        effects.deinitialize(count: effectCapacity)
        effects.deallocate()
    }

    @inline(__always)
    func note(_ event: consuming Event, at moment: Instant, format: WireFormat) {
        let step = steps + Int(stepCount & UInt64(stepCapacity - 1))
        step.pointee.event = event
        step.pointee.moment = moment
        step.pointee.format = format
        step.pointee.firstEffect = effectCount
        stepCount &+= 1
    }

    /// The event noted last.
    @inline(__always)
    var event: Event { _read { yield steps[Int((stepCount &- 1) & UInt64(stepCapacity - 1))].event } }

    /// Takes an effect, and gives one that is forgotten for it: neither is copied.
    @inline(__always)
    func exchange(_ effect: inout Effect) {
        swap(&effect, &effects[Int(effectCount & UInt64(effectCapacity - 1))])
        effectCount &+= 1
    }

    /// The effect taken last.
    @inline(__always)
    var effect: Effect { _read { yield effects[Int((effectCount &- 1) & UInt64(effectCapacity - 1))] } }

    /// Writes what is there to a new file that only its owner can read.
    /// - Returns: false, with `errno`, if that fails.
    func write(to path: String) -> Bool {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        let oldestEffect = effectCount > UInt64(effectCapacity) ? effectCount - UInt64(effectCapacity) : 0
        var position = stepCount > UInt64(stepCapacity) ? stepCount - UInt64(stepCapacity) : 0
        // Steps whose effects are gone in part say nothing useful.
        while position < stepCount, step(position).firstEffect < oldestEffect { position += 1 }
        var text = Recording.Head(resource: resource, seed: seed, isComplete: position == 0).lines
        while position < stepCount {
            let step = step(position)
            position += 1
            let end = position < stepCount ? self.step(position).firstEffect : effectCount
            text += Recording.line(step.event, at: step.moment, format: step.format, resource: resource)
            for effect in step.firstEffect..<end {
                text += Recording.line(effects[Int(effect & UInt64(effectCapacity - 1))])
            }
            if text.utf8.count > 1 << 20 {
                guard Self.writeAll(text, descriptor) else { return false }
                text = ""
            }
        }
        return Self.writeAll(text, descriptor)
    }

    private func step(_ position: UInt64) -> Step { steps[Int(position & UInt64(stepCapacity - 1))] }

    private static func writeAll(_ text: String, _ descriptor: Int32) -> Bool {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 { rest = rest.dropFirst(count) } else if errno != EINTR { return false }
        }
        return true
    }
}
