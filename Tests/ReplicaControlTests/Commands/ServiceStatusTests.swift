import ReplicaProto
import Testing

@testable import ReplicaControl

/// `service-status`: the tables of `control.md` 3.8.
struct ServiceStatusTests {
    private static func volume(
        _ connection: ConnectionState, _ roles: (Role, Role), _ disks: (DiskState, DiskState),
        protocolLetter: ReplicationProtocol? = .c, progress: SyncProgress? = nil
    ) -> VolumeStatus {
        var state = VolumeState()
        (state.connection, state.role, state.peerRole) = (connection, roles.0, roles.1)
        (state.disk, state.peerDisk) = disks
        var volume = VolumeStatus(volume: VolumeNumber(0), minor: 0, state: state)
        volume.replicationProtocol = protocolLetter
        volume.progress = progress
        return volume
    }

    private static let halfway = SyncProgress(
        totalBits: 2_620_416, bitsLeft: 2_370_560, secondsSinceMark: 1, bitsSinceMark: 1, secondsSinceStart: 1,
        wantedRate: nil)

    @Test(
        "each state's table",
        arguments: [
            (
                ServiceStatus.Row(
                    minor: 0, resource: "r0",
                    status: volume(.syncSource, (.primary, .secondary), (.upToDate, .inconsistent), progress: halfway)),
                """
                m:res  cs          ro                 ds                     p  mounted  fstype
                0:r0   SyncSource  Primary/Secondary  UpToDate/Inconsistent  C
                ...    sync'ed:    9.6%               (9260/10236)M

                """
            ),
            (
                ServiceStatus.Row(
                    minor: 0, resource: "disk0", status: volume(.connected, (.primary, .secondary), (.diskless, .upToDate)),
                    mountPoint: "/data", fileSystem: "ext3"),
                """
                m:res    cs         ro                 ds                 p  mounted  fstype
                0:disk0  Connected  Primary/Secondary  Diskless/UpToDate  C  /data    ext3

                """
            ),
            (
                ServiceStatus.Row(
                    minor: 0, resource: "r0",
                    status: volume(.wfConnection, (.secondary, .unknown), (.inconsistent, .unknown))),
                """
                m:res  cs            ro                 ds                     p  mounted  fstype
                0:r0   WFConnection  Secondary/Unknown  Inconsistent/DUnknown  C

                """
            ),
            (
                ServiceStatus.Row(minor: 0, resource: "r0"),
                """
                m:res  cs            ro  ds  p  mounted  fstype
                0:r0   Unconfigured

                """
            ),
            (
                ServiceStatus.Row(
                    minor: 0, resource: "r0",
                    status: volume(.standAlone, (.primary, .unknown), (.upToDate, .unknown), protocolLetter: nil)),
                """
                m:res  cs          ro               ds                 p  mounted  fstype
                0:r0   StandAlone  Primary/Unknown  UpToDate/DUnknown  -

                """
            ),
            (
                ServiceStatus.Row(
                    minor: 10, resource: "a.b", lowerMinor: 1,
                    status: volume(.verifyS, (.secondary, .secondary), (.upToDate, .upToDate), progress: halfway)),
                """
                m:res      cs         ro                   ds                 p  mounted  fstype
                10:a_b^^1  VerifyS    Secondary/Secondary  UpToDate/UpToDate  C
                ...        verified:  9.6%                 (9260/10236)M

                """
            ),
        ])
    func table(row: ServiceStatus.Row, expected: String) {
        #expect(ServiceStatus.table([row]) == expected)
    }

    @Test func devicesAreInOrderAndForeignOnesAreNamed() {
        let table = ServiceStatus.table([
            ServiceStatus.Row(minor: 10, resource: "r10"), ServiceStatus.Row(minor: 2, resource: "r2"),
            ServiceStatus.Row(
                minor: 1, status: Self.volume(.connected, (.secondary, .secondary), (.upToDate, .upToDate))),
        ])
        #expect(
            table.split(separator: "\n").dropFirst().map { $0.split(separator: " ").first ?? "" }
                == ["1:??not-found??", "2:r2", "10:r10"])
    }

    @Test func mountsAreFoundByAnyNameOfTheDevice() {
        let mounts = MountTable("/dev/sda1 / ext4 rw 0 0\n/dev/drbd0 /data xfs rw 0 0\nbroken\n")
        #expect(mounts.mount(of: ["/dev/replica0", "/dev/drbd0"]).map { "\($0.place) \($0.kind)" } == "/data xfs")
        #expect(mounts.mount(of: ["/dev/drbd1"]) == nil)
    }

    @Test func withoutAnythingThatRunsThereIsNoStatus() throws {
        let harness = try ToolHarness(Reference.simple())
        let nothing = harness.run("replctl", ["-c", harness.configurationFile.path, "service-status"])
        #expect(nothing.code == 3 && nothing.error == "drbd not loaded\n" && nothing.output.isEmpty)
        try harness.write("", to: "run/proc/drbd")
        let idle = harness.run("replctl", ["-c", harness.configurationFile.path, "service-status"])
        #expect(idle.code == 0)
        #expect(idle.output.hasPrefix("drbd driver loaded OK; device status:\nversion: 8.4.11 (api:1/proto:86-101)\nGIT-hash: "))
        #expect(idle.output.contains("\nm:res  cs            ro  ds  p  mounted  fstype\n0:r0   Unconfigured\n"))
    }
}
