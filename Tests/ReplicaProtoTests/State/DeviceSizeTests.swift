import ReplicaProto
import Testing

@Suite struct DeviceSizeTests {
    struct Row: Sendable {
        var own: UInt64
        var peer: UInt64
        var agreed: UInt64
        var configured: UInt64
        var size: UInt64
    }

    @Test(arguments: [
        Row(own: 100, peer: 0, agreed: 0, configured: 0, size: 100),
        Row(own: 100, peer: 80, agreed: 0, configured: 0, size: 80),
        Row(own: 80, peer: 100, agreed: 0, configured: 0, size: 80),
        Row(own: 100, peer: 100, agreed: 80, configured: 0, size: 100),
        Row(own: 100, peer: 0, agreed: 80, configured: 0, size: 80),
        Row(own: 60, peer: 0, agreed: 80, configured: 0, size: 60),
        Row(own: 0, peer: 70, agreed: 80, configured: 0, size: 70),
        Row(own: 0, peer: 90, agreed: 80, configured: 0, size: 80),
        Row(own: 0, peer: 90, agreed: 0, configured: 0, size: 90),
        Row(own: 100, peer: 80, agreed: 0, configured: 50, size: 50),
        Row(own: 100, peer: 80, agreed: 0, configured: 81, size: 80),
        Row(own: 0, peer: 0, agreed: 0, configured: 5, size: 0),
    ]) func negotiates(row: Row) {
        let size = DeviceSize(own: row.own, peer: row.peer, lastAgreed: row.agreed, configured: row.configured)
        #expect(size.negotiated == row.size)
        #expect(size.configuredIsTooBig == (row.configured > row.size))
    }

    private func packet(_ disk: UInt64, _ user: UInt64 = 0, _ current: UInt64 = 0) -> SizesPacket {
        SizesPacket(diskSize: disk, userSize: user, currentSize: current, maximumRequest: 1 << 20, limits: nil)
    }

    /// Conformance item 17.
    @Test func usableDataIsNeverCutOffByConnecting() {
        for disk in DiskState.allCases where disk >= .inconsistent && disk != .unknown {
            for (connection, peerDisk) in [
                (ConnectionState.wfReportParams, DiskState.unknown), (.connected, .diskless), (.connected, .upToDate),
            ] {
                var state = VolumeState()
                state.disk = disk
                state.connection = connection
                state.peerDisk = peerDisk
                let verdict = DeviceSize(own: 100, lastAgreed: 100).received(packet(60), current: 100, state: state)
                let refused = disk >= .outdated && (connection == .wfReportParams || peerDisk == .diskless)
                #expect(verdict == (refused ? .wouldShrink : .resize(to: 60, configured: 0)))
            }
        }
    }

    @Test func theSmallerConfiguredSizeWinsInTheHandshake() {
        var state = VolumeState()
        state.connection = .wfReportParams
        state.disk = .inconsistent
        let size = DeviceSize(own: 100, configured: 50)
        #expect(size.received(packet(100), current: 0, state: state) == .resize(to: 50, configured: 50))
        #expect(size.received(packet(100, 40), current: 0, state: state) == .resize(to: 40, configured: 40))
        #expect(size.received(packet(100, 60), current: 0, state: state) == .resize(to: 50, configured: 50))
        state.connection = .connected
        #expect(size.received(packet(100, 60), current: 50, state: state) == .resize(to: 60, configured: 60))
        #expect(size.received(packet(100), current: 50, state: state) == .resize(to: 100, configured: 0))
    }

    @Test func withoutADiskTheFirstKnownSizeCounts() {
        #expect(DeviceSize.receivedWithoutDisk(packet(0), current: 0, role: .secondary) == .keep)
        #expect(DeviceSize.receivedWithoutDisk(packet(70, 60, 50), current: 0, role: .secondary) == .resize(to: 50))
        #expect(DeviceSize.receivedWithoutDisk(packet(70, 60), current: 0, role: .secondary) == .resize(to: 60))
        #expect(DeviceSize.receivedWithoutDisk(packet(70), current: 70, role: .primary) == .keep)
        #expect(DeviceSize.receivedWithoutDisk(packet(0, 0, 70), current: 80, role: .primary) == .ignorePeerWithoutDisk)
        #expect(DeviceSize.receivedWithoutDisk(packet(70), current: 80, role: .primary) == .wouldShrinkPrimary)
        #expect(DeviceSize.receivedWithoutDisk(packet(70), current: 80, role: .secondary) == .resize(to: 70))
        #expect(
            DeviceSize.receivedWithoutDisk(packet(.max), current: 0, role: .secondary)
                == .resize(to: Limits.deviceSectors))
    }
}
