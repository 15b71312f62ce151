import ReplicaProto
import Testing

/// The examples of `control.md` 3.6, made from counters bit for bit (items 38, 41 and 42).
struct ProcTextTests {
    private func volume(
        _ minor: UInt32 = 0, _ connection: ConnectionState, _ role: Role, _ peerRole: Role, _ disk: DiskState,
        _ peerDisk: DiskState, _ replicationProtocol: ReplicationProtocol? = .c
    ) -> VolumeStatus {
        var state = VolumeState()
        (state.connection, state.role, state.peerRole) = (connection, role, peerRole)
        (state.disk, state.peerDisk) = (disk, peerDisk)
        var volume = VolumeStatus(volume: VolumeNumber(0), minor: minor, state: state)
        volume.replicationProtocol = replicationProtocol
        return volume
    }

    private func progress(
        _ total: UInt64, left: UInt64, marked: (seconds: UInt64, bits: UInt64), started: UInt64, want: UInt64? = nil
    ) -> SyncProgress {
        SyncProgress(
            totalBits: total, bitsLeft: left, secondsSinceMark: marked.seconds, bitsSinceMark: marked.bits,
            secondsSinceStart: started, wantedRate: want)
    }

    @Test func header() {
        #expect(
            ProcText.header(build: "root@alice, 2018-04-26 12:10:42")
                == "version: 8.4.11 (api:1/proto:86-101)\nGIT-hash: 66145a308421e9c124ec391a7848ac20203bb03c build by "
                + "root@alice, 2018-04-26 12:10:42\n")
    }

    @Test func unconfigured() {
        let volume = volume(0, .standAlone, .secondary, .unknown, .diskless, .unknown, nil)
        #expect(ProcText.minor(volume) == " 0: cs:Unconfigured\n")
    }

    @Test func firstStart() {
        var volume = volume(0, .wfConnection, .secondary, .unknown, .inconsistent, .unknown)
        volume.activityLogSuspended = true
        volume.outOfSyncBits = 10_485_404 / 4
        #expect(
            ProcText.minor(volume) == """
                 0: cs:WFConnection ro:Secondary/Unknown ds:Inconsistent/DUnknown C r----s
                    ns:0 nr:0 dw:0 dr:0 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:10485404

                """)
    }

    @Test func item38InitialSync() {
        var source = volume(0, .syncSource, .primary, .secondary, .upToDate, .inconsistent)
        source.counters.networkSent = 2_000_000
        source.counters.diskRead = 2 * 1_000_912
        source.counters.activityLogWrites = 8
        source.counters.peerPending = 2
        source.counters.unacknowledged = 2
        source.outOfSyncBits = 9_485_404 / 4
        source.progress = progress(2_621_351, left: 2_371_351, marked: (9, 252_000), started: 9)
        let total: UInt64 = 2_621_351
        #expect(total * 4 == 10_485_404)
        #expect(
            ProcText.minor(source) == """
                 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r-----
                    ns:1000000 nr:0 dw:0 dr:1000912 al:8 bm:0 lo:0 pe:2 ua:2 ap:0 ep:1 wo:f oos:9485404
                \t[>...................] sync'ed:  9.6% (9260/10236)M
                \tfinish: 0:01:24 speed: 112,000 (111,108) K/sec

                """)
        var target = volume(0, .syncTarget, .secondary, .primary, .inconsistent, .upToDate)
        target.counters.networkReceived = 2 * 999_936
        target.counters.diskWritten = 2 * 999_424
        target.counters.localPending = 2
        target.counters.peerPending = 4
        target.counters.unacknowledged = 2
        target.outOfSyncBits = 9_485_404 / 4
        target.progress = progress(2_621_351, left: 2_371_351, marked: (9, 252_000), started: 9, want: 102_400)
        #expect(
            ProcText.minor(target) == """
                 0: cs:SyncTarget ro:Secondary/Primary ds:Inconsistent/UpToDate C r-----
                    ns:0 nr:999936 dw:999424 dr:0 al:0 bm:0 lo:2 pe:4 ua:2 ap:0 ep:1 wo:f oos:9485404
                \t[>...................] sync'ed:  9.6% (9260/10236)M
                \tfinish: 0:01:24 speed: 112,000 (111,108) want: 102,400 K/sec

                """)
    }

    @Test func item38PercentageOfTheCheckValues() {
        var volume = volume(0, .syncSource, .primary, .secondary, .upToDate, .inconsistent)
        volume.progress = progress(194_789, left: 174_829, marked: (1, 1), started: 1)
        #expect(ProcText.minor(volume).contains("sync'ed: 11.0% (699316/779156)K\n"))
    }

    @Test func smallResync() {
        var volume = volume(0, .syncTarget, .secondary, .primary, .inconsistent, .upToDate)
        volume.progress = progress(25_600, left: 7_680, marked: (7, 17_920), started: 7, want: 10_240)
        let text = ProcText.minor(volume)
        #expect(
            text.hasSuffix(
                "\t[=============>......] sync'ed: 73.1% (30720/102400)K\n"
                    + "\tfinish: 0:00:02 speed: 10,240 (10,240) want: 10,240 K/sec\n"))
    }

    @Test func stalled() {
        var volume = volume(0, .syncSource, .primary, .secondary, .upToDate, .inconsistent)
        volume.progress = progress(194_789, left: 194_789, marked: (181, 0), started: 1)
        #expect(ProcText.minor(volume).hasSuffix("speed: 0 (0) K/sec (stalled)\n"))
        volume.progress = progress(194_789, left: 194_789, marked: (180, 0), started: 1)
        #expect(ProcText.minor(volume).hasSuffix("speed: 0 (0) K/sec\n"))
    }

    @Test func verify() {
        var volume = volume(0, .verifyS, .primary, .secondary, .upToDate, .upToDate)
        volume.counters.diskRead = 2 * 2_097_152
        volume.progress = progress(2_621_351, left: 2_097_063, marked: (10, 153_600), started: 34, want: 61_440)
        #expect(
            ProcText.minor(volume) == """
                 0: cs:VerifyS ro:Primary/Secondary ds:UpToDate/UpToDate C r-----
                    ns:0 nr:0 dw:0 dr:2097152 al:0 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:0
                \t[===>................] verified: 20.1% (8188/10236)M
                \tfinish: 0:02:16 speed: 61,440 (61,680) want: 61,440 K/sec

                """)
    }

    @Test func item41ThreeBlanksWithoutProtocol() {
        var volume = volume(0, .standAlone, .primary, .unknown, .upToDate, .unknown, nil)
        volume.counters.networkSent = 2 * 10_485_404
        volume.counters.diskWritten = 4096
        volume.counters.diskRead = 2 * 10_486_068
        volume.counters.activityLogWrites = 9
        volume.outOfSyncBits = 256
        #expect(
            ProcText.minor(volume) == """
                 0: cs:StandAlone ro:Primary/Unknown ds:UpToDate/DUnknown   r-----
                    ns:10485404 nr:0 dw:2048 dr:10486068 al:9 bm:0 lo:0 pe:0 ua:0 ap:0 ep:1 wo:f oos:1024

                """)
    }

    @Test func item42EmptyLinesWhereMinorsAreMissing() {
        func text(_ minors: [UInt32]) -> [Substring] {
            let volumes = minors.map { volume($0, .connected, .secondary, .secondary, .upToDate, .upToDate) }
            return ProcText.file(volumes, build: "x").split(separator: "\n", omittingEmptySubsequences: false)
        }
        let one = text([1])
        #expect(one[2] == "" && one[3].hasPrefix(" 1: cs:Connected"))
        // Order of the arguments does not count.
        let three = text([10, 0, 1])
        #expect(three[2].hasPrefix(" 0: ") && three[4].hasPrefix(" 1: "))
        #expect(three[6] == "" && three[7].hasPrefix("10: ") && three.filter(\.isEmpty).count == 2)
    }

    @Test func flags() {
        var volume = volume(0, .pausedSyncT, .secondary, .primary, .inconsistent, .upToDate)
        volume.state.pausedByUser = true
        #expect(ProcText.minor(volume).contains("ds:Inconsistent/UpToDate C r--u--\n"))
        volume.state.pausedByUser = false
        volume.state.suspendedFencing = true
        volume.congestion = "d"
        #expect(ProcText.minor(volume).contains(" C s---d-\n"))
        volume.state.pausedByPeer = true
        volume.state.pausedByDependency = true
        #expect(ProcText.minor(volume).contains(" C sap-d-\n"))
    }

    @Test func countersWrapAt32Bits() {
        var volume = volume(0, .connected, .primary, .secondary, .upToDate, .upToDate)
        volume.counters.networkSent = 1 << 33
        volume.counters.diskRead = (1 << 33) + 7
        #expect(ProcText.minor(volume).contains("ns:0 nr:0 dw:0 dr:3 "))
    }

    @Test func personas() {
        var volume = volume(0, .syncSource, .primary, .secondary, .upToDate, .inconsistent)
        volume.counters.networkSent = 2 * 79_840
        volume.counters.diskRead = 2 * 79_840
        volume.counters.bitmapWrites = 4
        volume.writeOrdering = "b"
        volume.outOfSyncBits = 174_829
        volume.progress = progress(194_789, left: 174_829, marked: (5, 13_000), started: 8)
        #expect(
            ProcText.file([volume], persona: .v830, build: "admin@web01, 2009-03-01 15:10:34") == """
                version: 8.3.0 (api:88/proto:86-89)
                GIT-hash: 9ba8b93e24d842f0dd3fb1f9b90e8348ddb95829 build by admin@web01, 2009-03-01 15:10:34
                 0: cs:SyncSource ro:Primary/Secondary ds:UpToDate/Inconsistent C r---
                    ns:79840 nr:0 dw:0 dr:79840 al:0 bm:4 lo:0 pe:0 ua:0 ap:0 ep:1 wo:b oos:699316
                \t[=>..................] sync'ed: 11.0% (699316/779156)K
                \tfinish: 0:01:06 speed: 10,400 (9,980) K/sec

                """)
        #expect(ProcText.minor(volume, persona: .v838).contains(" C r----\n"))
    }
}
