import ReplicaProto
import Testing

/// Beyond what the kernel's own events are compared with (Tests/Kernel/events.sh).
@Suite struct EventLinesTests {
    private let connection = "name:r0 peer-node-id:0 conn-name:peer"

    private func status(_ connectionState: ConnectionState?, volumes: [UInt16] = [0]) -> ResourceStatus {
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        status.volumes = volumes.map { number in
            var state = VolumeState()
            state.connection = connectionState ?? .standAlone
            var volume = VolumeStatus(volume: VolumeNumber(number), minor: UInt32(number) + 4, state: state)
            if connectionState != nil { volume.replicationProtocol = .c }
            return volume
        }
        return status
    }

    @Test func nothingDifferentIsNoLine() {
        let now = status(.connected)
        var later = now
        later.volumes[0].counters.diskRead = 8
        #expect(EventLines.changes(from: now, to: now) == [])
        #expect(EventLines.changes(from: now, to: later, statistics: true) == [])
        #expect(EventLines.changes(from: nil, to: nil) == [])
    }

    @Test func aDaemonThatIsGoneTakesAllOfItsObjects() {
        #expect(
            EventLines.changes(from: status(.connected, volumes: [0, 1]), to: nil) == [
                "destroy peer-device \(connection) volume:1", "destroy peer-device \(connection) volume:0",
                "destroy connection \(connection)", "destroy device name:r0 volume:1 minor:5",
                "destroy device name:r0 volume:0 minor:4", "destroy resource name:r0",
            ])
        #expect(
            EventLines.changes(from: status(nil), to: nil) == [
                "destroy device name:r0 volume:0 minor:4", "destroy resource name:r0",
            ])
    }

    @Test func oneThatIsFoundRunningIsCreatedAsItIs() {
        #expect(
            EventLines.changes(from: nil, to: status(.wfConnection)) == [
                "create resource name:r0 role:Secondary suspended:no", "create device name:r0 volume:0 minor:4 disk:Diskless",
                "create connection \(connection) connection:Connecting role:Unknown",
                "create peer-device \(connection) volume:0 replication:Off peer-disk:DUnknown resync-suspended:no",
            ])
    }

    @Test func volumesComeAndGoUnderAConnection() {
        let (one, two) = (status(.wfConnection), status(.wfConnection, volumes: [0, 1]))
        #expect(
            EventLines.changes(from: one, to: two) == [
                "create device name:r0 volume:1 minor:5 disk:Diskless",
                "create peer-device \(connection) volume:1 replication:Off peer-disk:DUnknown resync-suspended:no",
            ])
        #expect(
            EventLines.changes(from: two, to: one) == [
                "destroy peer-device \(connection) volume:1", "destroy device name:r0 volume:1 minor:5",
            ])
    }

    @Test func statisticsGoWithAChange() {
        var suspended = status(.connected)
        suspended.volumes[0].state.suspendedByUser = true
        #expect(
            EventLines.changes(from: status(.connected), to: suspended, statistics: true) == [
                "change resource name:r0 suspended:user",
                "change device name:r0 volume:0 minor:4 size:0 read:0 written:0 al-writes:0 bm-writes:0 upper-pending:0 "
                    + "lower-pending:0 blocked:upper",
            ])
    }

    @Test func handlersSayForWhat() {
        #expect(EventLines.handler("r0", "fence-peer", nil) == "call helper \(connection) helper:fence-peer")
        #expect(
            EventLines.handler("r0", "out-of-sync", (VolumeNumber(1), 5), exitCode: -1)
                == "response helper \(connection) volume:1 minor:5 helper:out-of-sync status:4294967295")
    }
}
