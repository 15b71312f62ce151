import Foundation
import Testing

@testable import ReplicaControl

/// No file can crash the parser: mutations of valid files are configurations or errors.
struct ConfigNoiseTests {
    private static let originals = [
        ConfigDumpTests.kitchen, Reference.classic, Reference.empties, Reference.mistaken, Reference.twoVolumes,
    ]

    @Test(arguments: [1, 2, 3, 42, 0xdead_beef] as [UInt64])
    func mutations(seed: UInt64) {
        var generator = NoiseGenerator(seed: seed)
        for _ in 0..<400 {
            var bytes = Array(ConfigNoiseTests.originals.randomElement(using: &generator)!.utf8)
            for _ in 0..<Int.random(in: 1...6, using: &generator) where !bytes.isEmpty {
                let index = bytes.indices.randomElement(using: &generator)!
                switch Int.random(in: 0..<5, using: &generator) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: index)
                case 2:
                    bytes.insert(
                        contentsOf: [0x7B, 0x7D, 0x3B, 0x22].randomElement(using: &generator).map { [$0] } ?? [], at: index)
                case 3: bytes.removeSubrange(index..<min(index + 40, bytes.count))
                default: bytes.insert(contentsOf: bytes[index..<min(index + 60, bytes.count)], at: index)
                }
            }
            check(bytes)
        }
    }

    @Test func everyPrefix() {
        let bytes = Array(ConfigDumpTests.kitchen.utf8)
        for count in bytes.indices { check(Array(bytes[0..<count])) }
    }

    @Test(arguments: ["", "{", "}", "\"", "\\", "resource", "skip {", "include", "resource r { on", "\u{FF}", "#"])
    func scraps(_ text: String) { check(Array(text.utf8)) }

    /// What loads also resolves and dumps.
    private func check(_ bytes: [UInt8]) {
        do {
            let tree = try ConfigParser.parse(bytes: bytes, name: "/nonexistent/f")
            let resources = tree.resources(on: NodeIdentity(name: "alice", localAddresses: ["10.0.0.1"]))
            for resource in resources {
                _ = try? resource.connection()
                for volume in resource.volumes { _ = try? resource.diskConfiguration(of: volume, among: resources) }
            }
            let dump = ConfigDump(tree: tree, node: "alice", here: []).text(of: nil)
            #expect(throws: Never.self, "\(dump)") { try ConfigParser.parse(text: dump, name: "/nonexistent/f") }
            _ = ConfigXML(tree: tree, here: []).text(of: nil)
        } catch {
            #expect(!error.faults.isEmpty)
        }
    }
}

/// The same numbers for the same seed (SplitMix64).
struct NoiseGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = ProcessInfo.processInfo.environment["REPLICA_SEED"].flatMap { UInt64($0) } ?? seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
