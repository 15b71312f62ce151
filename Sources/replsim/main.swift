import Foundation
import ReplicaProto
import ReplicaSim

/// `replsim run SEED [--trace] [--mutation NAME]`, `replsim many FROM COUNT [--mutation NAME]`, `replsim replay RECORDING`.
var words = Array(CommandLine.arguments.dropFirst())
let traces = words.contains("--trace")
words.removeAll { $0 == "--trace" }
var mutation: CoreMutation?
if let position = words.firstIndex(of: "--mutation"), position + 1 < words.count {
    mutation = CoreMutation.allCases.first { "\($0)" == words[position + 1] }
    guard mutation != nil else {
        print("unknown mutation \(words[position + 1]); known: \(CoreMutation.allCases.map { "\($0)" }.joined(separator: " "))")
        exit(20)
    }
    words.removeSubrange(position...position + 1)
}

switch (words.first, words.count) {
case ("run", 2):
    guard let seed = UInt64(words[1]) else { break }
    let scenario = Scenario(seed: seed)
    print("seed \(seed): \(scenario.summary)")
    let cluster = Cluster(scenario: scenario, mutation: mutation, traces: traces)
    let violation = cluster.run()
    if traces { print(cluster.trace.joined(separator: "\n")) }
    print(violation.map { "seed \(seed): \($0)" } ?? "seed \(seed): every rule held, \(cluster.stepCount) steps")
    exit(violation == nil ? 0 : 1)
case ("many", 3):
    guard let from = UInt64(words[1]), let count = UInt64(words[2]) else { break }
    let start = Date()
    var failures = 0
    var steps = 0
    var conflicts = 0
    var aheads = 0
    var pieces = 0
    var versions: Set<UInt32> = []
    var compared = 0
    for seed in from..<from + count {
        let cluster = Cluster(scenario: Scenario(seed: seed), mutation: mutation)
        if let violation = cluster.run() {
            failures += 1
            print("seed \(seed): \(violation)")
        }
        steps += cluster.stepCount
        conflicts += cluster.conflicts
        aheads += cluster.aheads
        pieces += cluster.pieces
        versions.formUnion(cluster.olderVersions)
        compared += cluster.verifiedBlocks
    }
    let seconds = Date().timeIntervalSince(start)
    print(
        "\(count) seeds, \(failures) failed, \(steps) steps, \(conflicts) conflicts, \(aheads) times ahead, \(versions.count) older versions, \(pieces) pieces, \(compared) blocks compared, \(Int(Double(count) / seconds)) seeds/s")
    exit(failures == 0 ? 0 : 1)
case ("replay", 2):
    guard let text = try? String(contentsOfFile: words[1], encoding: .utf8) else {
        print("\(words[1]): can not be read")
        exit(20)
    }
    var replay = RecordingReplay()
    do { try replay.run(text) } catch {
        print("\(words[1]):\(error.line): \(error.message)")
        exit(20)
    }
    if let difference = replay.difference {
        print("\(words[1]):\(difference.line): recorded \(difference.recorded)\n    replayed \(difference.replayed)")
        exit(1)
    }
    print("\(replay.events) events led to the same \(replay.effects) effects")
    exit(0)
default:
    break
}
print(
    """
    usage: replsim run SEED [--trace] [--mutation NAME]
           replsim many FROM COUNT [--mutation NAME]
           replsim replay RECORDING
    """)
exit(20)
