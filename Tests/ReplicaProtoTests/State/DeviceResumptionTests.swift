import ReplicaProto
import Testing

/// Whether a device goes on after its daemon: every pair of disk and connection state.
@Suite struct DeviceResumptionTests {
    private static func superblock(_ flags: MetadataFlags) throws -> Superblock {
        var superblock = try MetadataLayout(.internal, deviceSectors: 1 << 20).freshSuperblock(deviceUUID: 1)
        superblock.flags = flags
        superblock.identifiers = GenerationIdentifiers(current: 0x1235)
        return superblock
    }

    @Test(
        arguments: [
            ([.primaryIndicator, .consistent, .wasUpToDate], true),
            ([.crashedPrimary, .consistent, .wasUpToDate, .connectedIndicator], true),
            ([.consistent, .wasUpToDate], false),
            ([.primaryIndicator, .consistent], false),
            ([.primaryIndicator, .wasUpToDate], false),
            ([], false),
        ] as [(MetadataFlags, Bool)])
    func whatTheMetadataTell(flags: MetadataFlags, canGoOn: Bool) throws {
        let found = DeviceResumption(try Self.superblock(flags))
        #expect((found != nil) == canGoOn)
        if canGoOn { #expect(found?.generation == 0x1234) }
    }

    /// A daemon that handed over has left metadata of a Secondary, and told which generation its applications saw.
    @Test(
        arguments: [
            ([.consistent, .wasUpToDate], 0x1234, true), ([.consistent, .wasUpToDate], 0x1235, true),
            ([.consistent, .wasUpToDate], 0x1236, false), ([.consistent], 0x1234, false), ([.wasUpToDate], 0x1234, false),
        ] as [(MetadataFlags, UInt64, Bool)])
    func whatWasHandedOver(flags: MetadataFlags, generation: UInt64, canGoOn: Bool) throws {
        let found = DeviceResumption(try Self.superblock(flags), handedOver: generation)
        #expect((found != nil) == canGoOn)
        if canGoOn { #expect(found?.generation == 0x1234) }
    }

    @Test func aloneBefore() throws {
        let rule = try #require(DeviceResumption(try Self.superblock([.consistent, .wasUpToDate]), handedOver: 0x1234))
        var state = VolumeState()
        state.disk = .upToDate
        state.connection = .standAlone
        #expect(rule.verdict(state, current: 0x1234, waitedForPeer: true, wasAlone: true) == .promote)
        #expect(rule.verdict(state, current: 0x1234, waitedForPeer: true, wasAlone: false) == .wait)
        #expect(rule.verdict(state, current: 0x4321, waitedForPeer: true, wasAlone: true) == .superseded)
        state.connection = .disconnecting
        #expect(rule.verdict(state, current: 0x1234, waitedForPeer: true, wasAlone: true) == .wait)
    }

    @Test(arguments: [
        DiskState.diskless, .attaching, .failed, .negotiating, .inconsistent, .outdated, .unknown, .consistent, .upToDate,
    ])
    func everyState(disk: DiskState) throws {
        let rule = try #require(
            DeviceResumption(try Self.superblock([.primaryIndicator, .consistent, .wasUpToDate])))
        let isHere: Bool =
            switch disk {
            case .inconsistent, .outdated, .consistent, .upToDate: true
            case .diskless, .attaching, .failed, .negotiating, .unknown: false
            }
        for number: UInt32 in 0...23 {
            guard let connection = ConnectionState(rawValue: UInt8(number)) else { continue }
            var state = VolumeState()
            state.disk = disk
            state.connection = connection
            let same = rule.verdict(state, current: 0x1235, waitedForPeer: false)
            let late = rule.verdict(state, current: 0x1234, waitedForPeer: true)
            let other = rule.verdict(state, current: 0x9999, waitedForPeer: true)
            switch connection {
            case _ where !isHere:
                #expect(same == .wait && late == .wait && other == .wait, "\(connection)")
            case .startingSyncT, .wfBitMapT, .wfSyncUUID, .syncTarget, .pausedSyncT, .behind:
                #expect(same == .superseded && late == .superseded && other == .superseded, "\(connection)")
            case .standAlone, .disconnecting, .tearDown, .protocolError, .wfReportParams:
                #expect(same == .wait && late == .wait && other == .superseded, "\(connection)")
            case .unconnected, .timeout, .brokenPipe, .networkFailure, .wfConnection:
                #expect(same == .wait && late == .promote && other == .superseded, "\(connection)")
            case .connected, .startingSyncS, .wfBitMapS, .syncSource, .verifyS, .verifyT, .pausedSyncS, .ahead:
                #expect(same == .promote && late == .promote && other == .superseded, "\(connection)")
            }
        }
    }
}
