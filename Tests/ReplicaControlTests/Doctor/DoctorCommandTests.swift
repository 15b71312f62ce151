import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

/// `replctl doctor` as it is called, with daemons that a test plays.
struct DoctorCommandTests {
    private func doctor(_ harness: ToolHarness, _ words: String...) -> ToolResult {
        harness.run("replctl", ["-c", harness.configurationFile.path, "doctor"] + words)
    }
    private func status(_ change: (inout VolumeState) -> Void = { _ in }) -> ResourceStatus {
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        var state = VolumeState()
        (state.connection, state.peerRole, state.disk, state.peerDisk) = (.connected, .secondary, .upToDate, .upToDate)
        change(&state)
        status.volumes = [VolumeStatus(volume: VolumeNumber(0), minor: 0, state: state)]
        return status
    }

    @Test func inOrder() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(in: harness, status())
        let result = doctor(harness)
        #expect(result.code == 0 && result.error == "", "\(result)")
        #expect(result.lines.first == "r0: ok: r0 is in order; there is nothing to do")
        #expect(daemon.requests.isEmpty, "it asked for more than the status")
    }

    @Test func severityIsTheExitCode() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(in: harness, status { ($0.role, $0.suspendedByUser) = (.primary, true) })
        let result = doctor(harness, "r0")
        #expect(result.code == 2)
        #expect(result.output.contains("    on alice: replctl -c \(harness.configurationFile.path) resume-io r0\n"))
        daemon.end()
    }

    @Test func json() throws {
        let harness = try ToolHarness(Reference.simple())
        var broken = status { ($0.connection, $0.peerDisk) = (.standAlone, .unknown) }
        broken.lastDisconnect = LastDisconnect(reason: .splitBrain, seconds: 5)
        let daemon = try FakeDaemon(in: harness, broken)
        let result = doctor(harness, "--json")
        let parsed = try #require(
            try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [[String: Any]])
        #expect(parsed.count == 1 && parsed[0]["severity"] as? String == "danger")
        let findings = try #require(parsed[0]["findings"] as? [[String: Any]])
        #expect(findings.first?["situation"] as? String == "split-brain")
        let choices = try #require(findings.first?["choices"] as? [[String: Any]])
        let steps = try #require(choices.last?["steps"] as? [[String: String]])
        #expect(steps.contains(["node": "bob", "command": "replctl connect --discard-my-data r0"]))
        daemon.end()
    }

    @Test func aDaemonThatSaysNothingHoldsUpNobody() throws {
        let harness = try ToolHarness(Reference.simple())
        let gate = DispatchSemaphore(value: 0)
        let daemon = try FakeDaemon(socket: harness.runDirectory + "/r0.ctl") { _ in
            gate.wait()
            return .success
        }
        let began = Date()
        let result = doctor(harness, "r0")
        #expect(Date().timeIntervalSince(began) < 4)
        #expect(result.code == 2 && result.output.contains("does not answer"), "\(result)")
        gate.signal()
        daemon.end()
    }

    @Test func names() throws {
        let harness = try ToolHarness(Reference.simple())
        harness.node = "carol"
        var result = doctor(harness)
        #expect(result.code == 1 && result.output.contains("no section for this host, whose name is carol"))
        #expect(result.output.contains("alice and bob"))
        harness.node = "alice"
        result = doctor(harness, "r1")
        #expect(result.code == 1 && result.output.contains("no resource r1"))
        try harness.write("resource r0 {", to: "drbd.conf")
        result = doctor(harness, "r0")
        #expect(result.code == 1 && result.output.contains("can't be read") && result.output.contains("drbd.conf:1"))
    }

    @Test func disksAreLookedAt() throws {
        let harness = try ToolHarness()
        let disk = harness.directory.appendingPathComponent("disk.img")
        let configuration = Reference.simple().replacingOccurrences(of: "/dev/sdb1", with: disk.path)
        try harness.write(configuration, to: "drbd.conf")
        func look(_ words: String, _ code: Int32 = 1) {
            let result = doctor(harness, "r0")
            #expect(result.code == code && result.output.contains(words), "\(words): \(result)")
        }
        look("No such file", 2)
        try Data(count: 1000).write(to: disk)
        look("too small", 2)
        try Data(count: 1 << 22).write(to: disk)
        look("is empty")
        #expect(harness.run("drbdmeta", ["--force", "0", "v08", disk.path, "internal", "create-md"]).code == 0)
        look("is down")
        var bytes = [UInt8](repeating: 0, count: 1 << 22)
        bytes.replaceSubrange(0..<4, with: Array("XFSB".utf8))
        try Data(bytes).write(to: disk)
        look("xfs filesystem")
        // DRBD 9's magic number, where a superblock would be.
        bytes.replaceSubrange((1 << 22) - 4096 + 0x3c..<(1 << 22) - 4096 + 0x40, with: [0x83, 0x74, 0x02, 0x6d])
        try Data(bytes).write(to: disk)
        look("v09")
    }
}
