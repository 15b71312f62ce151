import Testing

@testable import ReplicaControl

/// No command line can crash a tool: random words from the vocabulary, bent and mixed.
struct ArgumentNoiseTests {
    private static let words =
        CommandTable.all.map(\.name)
        + [
            "--", "-", "", "--=", "-W", "-W--force", "-d", "-S", "-v", "-n", "-P", "--peer=bob", "--force", "-o", "-t",
            "all", "r0",
            "r0/0", "r0/", "/", "r0/99999", "minor-", "minor-0", "minor--1", "/dev/drbd", "/dev/drbd0", "--timeout=",
            "--timeout=9",
            "--size", "10G", "--res", "--discard-my-data", "=", "help", "\u{0}", "ä", "-ä",
            "--al-extents=99999999999999999999",
            "ipv4:1.2.3.4:5", "[::1]:7", "internal", "0", "4294967296", "1:2:3:4",
        ]

    @Test(arguments: [1, 2, 3, 42, 0xdead_beef] as [UInt64])
    func randomWords(seed: UInt64) throws {
        var generator = NoiseGenerator(seed: seed)
        // Disks that exist on no machine, whatever a command might do to them.
        let harness = try ToolHarness(Reference.twoVolumes.replacing("/dev/vd", with: "/nonexistent/vd"))
        harness.localAddresses = ["10.77.0.11"]
        for _ in 0..<400 {
            var words: [String] = []
            for _ in 0..<Int.random(in: 0...6, using: &generator) {
                words.append(ArgumentNoiseTests.words.randomElement(using: &generator)!)
            }
            // Shown, not done.
            let shown = harness.run("drbdadm", ["-c", harness.configurationFile.path, "-d"] + words)
            #expect((0...42).contains(shown.code), "\(words)")
            #expect(shown.code == 0 || !shown.error.isEmpty || !shown.output.isEmpty, "\(words) fails without a word")
            // Nothing is running that the low level could ask.
            if words.contains("new-resource") { continue }
            // Follows for ever.
            if words.contains("events2"), !words.contains("--now") { continue }
            let low = harness.run("drbdsetup", words)
            #expect((0...42).contains(low.code), "\(words)")
        }
    }
}
