import Testing

@testable import ReplicaProto

/// `resync-after` (`control.md` 1.9, 2.11).
@Suite struct ResyncDependencyTests {
    private let volume = VolumeNumber(0)
    private func disk(after minor: Int) -> DiskOptions {
        var options = SameData.quickDisk
        options.resyncAfter = minor
        return options
    }
    private func other(_ minor: UInt32, busy: Bool, disk: Bool = true, after: Int = -1) -> NeighbourMinor {
        NeighbourMinor(minor: minor, isBusy: busy, hasDisk: disk, resyncAfter: after)
    }

    @Test func refusals() {
        let (node, _) = SameData.connected()
        node.feed(.neighboursChanged([other(5, busy: false, after: 6), other(6, busy: false, after: 0), other(7, busy: false)]))
        let table: [(Int, Int32)] = [(-1, 0), (0, 133), (5, 133), (6, 133), (7, 0), (99, 0), (1_048_576, 132)]
        for (minor, code) in table {
            #expect(node.code(.diskOptions(volume, disk(after: minor))) == code, "after \(minor)")
        }
        // Who has no disk is waited for by nobody.
        node.feed(.neighboursChanged([other(5, busy: false, disk: false, after: 0)]))
        #expect(node.code(.diskOptions(volume, disk(after: 5))) == 0)
        let fresh = TestNode.withData(identifiers: SameData.identifiers)
        #expect(fresh.attach(disk(after: 0)) == 133)
        #expect(fresh.state.disk == .diskless)
    }

    @Test("busy itself, or waiting for one that is", arguments: [
        [NeighbourMinor(minor: 5, isBusy: true, hasDisk: true, resyncAfter: -1)],
        [NeighbourMinor(minor: 5, isBusy: false, hasDisk: true, resyncAfter: 6),
         NeighbourMinor(minor: 6, isBusy: true, hasDisk: true, resyncAfter: -1)],
    ])
    func waits(for neighbours: [NeighbourMinor]) {
        let (node, peer) = SameData.connected(disk: disk(after: 5))
        node.feed(.neighboursChanged(neighbours))
        #expect(node.state.pausedByDependency && peer.states.last?.pausedByDependency == true)
        // A resync that begins waits at once.
        peer.identifiers = GenerationIdentifiers(
            current: 0x9922_0000, bitmap: SameData.identifiers.current, history0: 0, history1: 0)
        peer.role = .primary
        peer.drop()
        peer.pass(.seconds(2))
        peer.connect()
        peer.startAsSource(setting: [3, 4])
        #expect(node.state.connection == .pausedSyncT && node.state.pausedByDependency)
        #expect(peer.resyncRequests.isEmpty)
        node.feed(.neighboursChanged([]))
        #expect(node.state.connection == .syncTarget && !node.state.pausedByDependency)
        #expect(peer.states.last?.pausedByDependency == false)
        _ = peer.pass { !peer.resyncRequests.isEmpty }
        #expect(!peer.resyncRequests.isEmpty)
        // And stops again when its turn is over.
        node.feed(.neighboursChanged(neighbours))
        #expect(node.state.connection == .pausedSyncT)
        #expect(node.code(.resumeSync(volume)) == 156)
    }

    @Test func nobodyFollowsACycle() {
        let (node, _) = SameData.connected(disk: disk(after: 5))
        node.feed(.neighboursChanged([other(5, busy: false, after: 6), other(6, busy: false, after: 5)]))
        #expect(!node.state.pausedByDependency)
    }

    @Test("what the neighbours say is part of a recording")
    func recorded() {
        let events: [Event] = [
            .neighboursChanged([]), .neighboursChanged([other(5, busy: true, after: 6), other(1_048_575, busy: false, disk: false)]),
        ]
        for event in events {
            let line = event.recorded(format: .initial, resource: "r0")
            #expect(Event(recorded: line[...], format: .initial, resource: "r0") == event)
            #expect(Event(recorded: line.dropLast(), format: .initial, resource: "r0") != event)
        }
    }
}
