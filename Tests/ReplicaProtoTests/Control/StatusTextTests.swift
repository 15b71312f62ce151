import ReplicaProto
import Testing

/// The texts made from a status equal what the kernel's tools printed at the same moment.
struct StatusTextTests {
    /// The status behind a moment: `/proc/drbd`, and from the verbose status what that file does not say.
    private func status(_ moment: StatusMoment) throws -> ResourceStatus {
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        status.volumes = ProcReader.volumes(try #require(moment.output("cat /proc/drbd")))
        let verbose = try #require(moment.output("drbdsetup status r0 --verbose --statistics"))
        let sizes = verbose.split(separator: "\n").compactMap { line in
            line.split(separator: " ").first { $0.hasPrefix("size:") }.flatMap { UInt64($0.dropFirst(5)) }
        }
        for index in status.volumes.indices {
            var volume = status.volumes[index]
            volume.sectors = sizes[index] * 2
            if verbose.contains("suspended:no-data") {
                volume.state.suspendedNoData = volume.state.suspendedByUser
                volume.state.suspendedByUser = false
            }
            switch volume.state.connection {
            case .pausedSyncS, .pausedSyncT:
                volume.progress = SyncProgress(
                    totalBits: sizes[index] / 4, bitsLeft: volume.outOfSyncBits, secondsSinceMark: 1, bitsSinceMark: 0,
                    secondsSinceStart: 1, wantedRate: nil)
            default: break
            }
            status.volumes[index] = volume
        }
        return status
    }

    @Test func thereAreMoments() { #expect(StatusMoment.all.count > 50) }

    @Test(arguments: StatusMoment.all)
    func procDrbd(_ moment: StatusMoment) throws {
        let text = try #require(moment.output("cat /proc/drbd"))
        #expect(ProcText.minors(ProcReader.volumes(text)) == text)
    }

    @Test(arguments: StatusMoment.all)
    func roleAndStates(_ moment: StatusMoment) throws {
        let volumes = try status(moment).volumes
        #expect(volumes.map { StatusText.role($0) + "\n" }.joined() == moment.output("drbdadm role r0"))
        #expect(volumes.map { StatusText.connection($0) + "\n" }.joined() == moment.output("drbdadm cstate r0"))
        #expect(volumes.map { StatusText.disk($0) + "\n" }.joined() == moment.output("drbdadm dstate r0"))
    }

    @Test(arguments: StatusMoment.all)
    func briefStatus(_ moment: StatusMoment) throws {
        #expect(StatusText.status(try status(moment)) == moment.output("drbdadm status r0"))
    }

    @Test(arguments: StatusMoment.all)
    func verboseStatus(_ moment: StatusMoment) throws {
        let text = StatusText.status(try status(moment), verbose: true, statistics: true)
        #expect(text == moment.output("drbdsetup status r0 --verbose --statistics"))
    }

    @Test(arguments: StatusMoment.all)
    func events(_ moment: StatusMoment) throws {
        #expect(EventLines.existing(try status(moment)).map { $0 + "\n" }.joined() + "exists -\n" == moment.output("drbdsetup events2 --now r0"))
    }

    @Test(arguments: StatusMoment.all)
    func shellStatus(_ moment: StatusMoment) throws {
        guard let expected = moment.output("drbdsetup sh-status 0") else { return }
        var volume = try #require(try status(moment).volumes.first)
        // This tool knows no percentage of a paused resync.
        if expected.contains("_resynced_percent=\n") { volume.progress = nil }
        #expect(StatusText.shellStatus(volume, resource: "r0") == expected)
    }

    @Test func statusSurvivesItsLines() throws {
        for moment in StatusMoment.all {
            let status = try status(moment)
            #expect(try ResourceStatus(parsing: status.text) == status)
        }
    }
}
