/// The answer to the query `latencies`: what is not zero, a line for each row.
///
///     0 write total 18230011 0 12 904 77 0 ...
///     0 write errors 2
///
/// Volume, operation, stage; sum in nanoseconds; the buckets in ascending order.
package enum LatencyText {
    package static func text(_ volumes: [(VolumeNumber, Latencies)]) -> String {
        var text = ""
        for (volume, latencies) in volumes {
            for operation in Latencies.Operation.allCases {
                let head = "\(volume.value) \(operation)"
                for stage in Latencies.Stage.allCases {
                    let counts = latencies.counts(operation, stage)
                    guard counts.contains(where: { $0 > 0 }) else { continue }
                    let words = counts.map { String($0) }.joined(separator: " ")
                    text += "\(head) \(stage.name) \(latencies.sumNanoseconds(operation, stage)) \(words)\n"
                }
                let errors = latencies.errorCount(operation)
                if errors > 0 { text += "\(head) errors \(errors)\n" }
            }
        }
        return text
    }

    /// - Returns: nil if it is not such a text.
    package static func parse(_ text: String) -> [(VolumeNumber, Latencies)]? {
        var volumes: [(VolumeNumber, Latencies)] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count >= 4, let number = UInt16(words[0]),
                let operation = Latencies.Operation.allCases.first(where: { "\($0)" == words[1] })
            else { return nil }
            let volume = VolumeNumber(number)
            if volumes.last?.0 != volume { volumes.append((volume, Latencies())) }
            let last = volumes.count - 1
            let numbers = words[3...].compactMap { UInt64($0) }
            guard numbers.count == words.count - 3 else { return nil }
            if words[2] == "errors" {
                guard numbers.count == 1 else { return nil }
                volumes[last].1.setErrors(operation, numbers[0])
            } else {
                guard let stage = Latencies.Stage.allCases.first(where: { $0.name == words[2] }),
                    numbers.count == 1 + Latencies.buckets
                else { return nil }
                volumes[last].1.set(operation, stage, sumNanoseconds: numbers[0], numbers[1...])
            }
        }
        return volumes
    }
}
