import ReplicaProto
import Testing

@Suite struct LatenciesTests {
    @Test(arguments: [
        (0, 0), (1, 0), (1 << 14, 0), (1 << 14 + 1, 1), (1 << 15, 1), (1 << 15 + 1, 2), (1 << 34, 20), (1 << 34 + 1, 21),
        (UInt64.max, 21),
    ] as [(UInt64, Int)])
    func aBucketHoldsWhatEndsWithIt(nanoseconds: UInt64, bucket: Int) {
        #expect(Latencies.bucket(TimeSpan(nanoseconds: nanoseconds)) == bucket)
    }

    @Test func textComesBack() throws {
        let row = "3 write peer 1234567 " + (0..<22).map { String($0 * 7) }.joined(separator: " ") + "\n"
        let text = row + "3 write errors 2\n5 flush errors 18446744073709551615\n"
        let volumes = try #require(LatencyText.parse(text))
        #expect(volumes.map(\.0.value) == [3, 5])
        #expect(volumes[0].1.sumNanoseconds(.write, .peer) == 1_234_567)
        #expect(volumes[0].1.counts(.write, .peer).last == 147)
        #expect(volumes[0].1.counts(.write, .total).allSatisfy { $0 == 0 })
        #expect(volumes[1].1.errorCount(.flush) == .max)
        #expect(LatencyText.text(volumes) == text)
        #expect(LatencyText.text([(VolumeNumber(0), Latencies())]) == "")
    }

    @Test(arguments: [
        "0 write total", "0 write total x", "0 write total 1 2 3", "0 wait total 1", "70000 write errors 1", "0 write none 1",
        "0 write errors 1 2", "0 write errors -1",
    ])
    func otherTextsAreNone(text: String) { #expect(LatencyText.parse(text) == nil) }
}
