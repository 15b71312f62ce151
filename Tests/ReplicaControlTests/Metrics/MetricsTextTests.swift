import ReplicaControl
import ReplicaProto
import Testing

/// What node_exporter accepts and what the numbers mean: Tests/Integration/metrics.sh.
@Suite struct MetricsTextTests {
    private func sample() throws -> MetricsSample {
        var sample = MetricsSample(resource: "a\"b\\c")
        var status = ResourceStatus(resource: sample.resource, node: "alice", productVersion: "1.0")
        var volume = VolumeStatus(volume: VolumeNumber(2), minor: 7, state: VolumeState())
        volume.sectors = 8
        volume.progress = SyncProgress(
            totalBits: 10, bitsLeft: 4, secondsSinceMark: 2, bitsSinceMark: 6, secondsSinceStart: 3, wantedRate: nil)
        status.volumes = [volume]
        sample.status = status
        sample.latencies = try #require(
            LatencyText.parse("2 write total 3000000001 1" + String(repeating: " 0", count: 20) + " 2\n"))
        return sample
    }

    @Test func eachFamilyIsInOnePiece() throws {
        var other = try sample()
        other.resource = "r1"
        other.status?.resource = "r1"
        var families: [Substring] = []
        for line in MetricsText.text([try sample(), other]).split(separator: "\n") where line.hasPrefix("# TYPE ") {
            families.append(line.split(separator: " ")[2])
        }
        #expect(families.count == Set(families).count)
        #expect(families.contains("replica_role"))
    }

    @Test func labelsAreQuoted() throws {
        let text = MetricsText.text([try sample()])
        #expect(text.contains(#"replica_up{resource="a\"b\\c"} 1"#))
        #expect(text.contains(#"replica_size_bytes{resource="a\"b\\c",volume="2",minor="7"} 4096"#))
        #expect(text.contains(#"replica_sync_speed_bytes_per_second{resource="a\"b\\c",volume="2",minor="7"} 12288"#))
    }

    @Test func bucketsAddUp() throws {
        let labels = #"resource="a\"b\\c",volume="2",operation="write",stage="total""#
        let name = "replica_request_duration_seconds"
        let lines = MetricsText.text([try sample()]).split(separator: "\n").filter { $0.hasPrefix(name) }
        #expect(lines.first == "\(name)_bucket{\(labels),le=\"0.000016384\"} 1")
        #expect(lines.dropLast(3).last == "\(name)_bucket{\(labels),le=\"17.179869184\"} 1")
        #expect(
            lines.suffix(3) == [
                "\(name)_bucket{\(labels),le=\"+Inf\"} 3", "\(name)_sum{\(labels)} 3.000000001", "\(name)_count{\(labels)} 3",
            ])
    }

    @Test func whoDoesNotAnswerIsDown() {
        let text = MetricsText.text([MetricsSample(resource: "r0")])
        #expect(text == "# HELP replica_up Whether the daemon of a resource answers.\n# TYPE replica_up gauge\nreplica_up{resource=\"r0\"} 0\n")
    }
}
