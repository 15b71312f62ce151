import Foundation
import ReplicaProto
import Testing

@testable import ReplicaDevice

@Suite struct FlightRecorderTests {
    private static let seed: (UInt64, UInt64, UInt64, UInt64) = (1, 2, 3, 4)

    /// A core that lives through `count` events, all of them recorded.
    private static func live(_ recorder: FlightRecorder, _ count: Int) {
        var core = Resource(name: "r0", seed: seed)
        var effects = EffectQueue()
        for number in 1...count {
            let event: Event =
                number == 1
                ? .commandReceived(CommandID(1), .newMinor(VolumeNumber(0), minor: 0))
                : .commandReceived(CommandID(UInt64(number)), .primary(VolumeNumber(0), force: false))
            let moment = Instant(nanoseconds: UInt64(number))
            recorder.note(event, at: moment, format: .initial)
            core.handle(event, at: moment, into: &effects)
            effects.forEach { recorder.exchange(&$0) }
            effects.removeAll()
        }
    }

    private static func temporaryPath(_ name: String) -> String { NSTemporaryDirectory() + "recording-\(name)" }

    @Test func aWholeLifeIsReplayed() throws {
        let path = Self.temporaryPath(UUID().uuidString)
        defer { unlink(path) }
        let recorder = FlightRecorder(resource: "r0", seed: Self.seed)
        Self.live(recorder, 100)
        #expect(recorder.write(to: path))
        let text = try String(contentsOfFile: path, encoding: .utf8)
        var replay = RecordingReplay()
        try replay.run(text)
        #expect(replay.difference == nil && replay.events == 100 && replay.effects > 100)
        // Another seed is another life; a changed effect is noticed, with its line.
        var changed = RecordingReplay()
        try changed.run(text.replacing("> answerCommand", with: "> answeredCommand", maxReplacements: 1))
        #expect((changed.difference?.line ?? 0) > 4)
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o600)
    }

    @Test func anOldLifeIsOnlyRead() throws {
        let path = Self.temporaryPath(UUID().uuidString)
        defer { unlink(path) }
        let recorder = FlightRecorder(resource: "r0", seed: Self.seed)
        Self.live(recorder, 10_000)
        #expect(recorder.write(to: path))
        let text = try String(contentsOfFile: path, encoding: .utf8)
        #expect(text.split(separator: "\n").count { $0.hasPrefix("= ") } > 2000)
        var replay = RecordingReplay()
        #expect(throws: RecordingError.self) { try replay.run(text) }
    }

    @Test("a broken invariant leaves a recording, and the process ends")
    func brokenInvariant() async throws {
        let path = Self.temporaryPath("\(getpid())")
        defer { unlink(path) }
        await #expect(processExitsWith: .failure) {
            let path = FlightRecorderTests.temporaryPath("\(getppid())")
            let recorder = FlightRecorder(resource: "r0", seed: FlightRecorderTests.seed)
            FlightRecorderTests.live(recorder, 10)
            invariantWitness = { _ in _ = recorder.write(to: path) }
            invariant(false, "a test breaks one")
        }
        var replay = RecordingReplay()
        try replay.run(try String(contentsOfFile: path, encoding: .utf8))
        #expect(replay.difference == nil && replay.events == 10)
    }

    @Test("damaged recordings are refused with their line", arguments: 0..<100)
    func noise(seed: Int) throws {
        let path = Self.temporaryPath(UUID().uuidString)
        defer { unlink(path) }
        let recorder = FlightRecorder(resource: "r0", seed: Self.seed)
        Self.live(recorder, 5)
        #expect(recorder.write(to: path))
        var bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
        for offset in 1...8 { bytes[(seed * 7919 * offset) % bytes.count] = UInt8(truncatingIfNeeded: seed * 31 + offset) }
        var replay = RecordingReplay()
        do { try replay.run(String(decoding: bytes, as: UTF8.self)) } catch { #expect(error.line > 0) }
    }
}
