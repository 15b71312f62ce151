import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

/// Commands that are more than a list of requests: handlers, waiting, promotion at boot, offline fallbacks.
struct ProcedureTests {
    @Test func handlersRunWithTheirEnvironment() throws {
        let harness = try ToolHarness()
        let file = harness.directory.appendingPathComponent("said").path
        try harness.write(
            Reference.simple(
                "handlers { split-brain \"env | sort > \(file); exit 6\"; fence-peer \"exit 4\"; }"), to: "drbd.conf")
        #expect(harness.admin("split-brain", "minor-0").code == 6)
        let said = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map(String.init)
        for line in [
            "DRBD_RESOURCE=r0", "DRBD_MINOR=0", "DRBD_VOLUME=0", "DRBD_LL_DISK=/dev/sdb1", "DRBD_PEER=bob",
            "DRBD_PEERS=bob", "DRBD_PEER_AF=ipv4", "DRBD_PEER_ADDRESS=10.0.0.2", "HOME=/", "TERM=linux",
            "PATH=/sbin:/usr/sbin:/bin:/usr/bin", "DRBD_CONF=\(harness.configurationFile.path)",
        ] { #expect(said.contains(line), "\(line)") }
        #expect(harness.admin("fence-peer", "r0").code == 4)
        let old = harness.admin("outdate-peer", "r0")
        #expect(old.code == 4 && old.error.contains("deprecated"))
        // No handler configured.
        #expect(harness.admin("unfence-peer", "r0").code == 0)
    }

    @Test func promotionAtBoot() throws {
        for (names, isPromoted) in [("alice", true), ("both", true), ("bob", false)] {
            let harness = try ToolHarness(
                Reference.simple("startup { become-primary-on \(names); } net { allow-two-primaries; }"))
            let daemon = try FakeDaemon(in: harness, DaemonTests.status())
            defer { daemon.end() }
            #expect(harness.admin("sh-b-pri", "all").code == 0)
            #expect(daemon.requests == (isPromoted ? ["primary 0"] : []))
        }
        #expect(try ToolHarness(Reference.simple()).admin("sh-b-pri", "all").code == 0)
    }

    @Test func waitingForAll() throws {
        let harness = try ToolHarness(
            Reference.simple("startup { wfc-timeout 60; degr-wfc-timeout 120; }")
                + Reference.simple(name: "r1", minor: 1, port: 7789))
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        defer { daemon.end() }
        let result = harness.admin("wait-con-int")
        #expect(result.code == 0 && result.output == "" && result.error == "")
        // A longer time for a degraded cluster is cut.
        #expect(daemon.requests == ["wait-connect 0 --wfc-timeout=60 --degr-wfc-timeout=60"])
    }

    @Test func waitingThatTimesOut() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(socket: harness.runDirectory + "/r0.ctl") { _ in CommandAnswer(code: 5) }
        defer { daemon.end() }
        #expect(harness.admin("wait-con-int").code == 5)
        #expect(harness.admin("wait-connect", "-t", "3", "r0").code == 5)
        #expect(harness.admin("wait-sync", "r0").code == 5)
        #expect(daemon.requests == ["wait-connect 0", "wait-connect 0 --wfc-timeout=3", "wait-sync 0"])
    }

    @Test func usualFileIsFoundAgain() throws {
        let harness = try ToolHarness(Reference.simple())
        let daemon = try FakeDaemon(in: harness, DaemonTests.status())
        defer { daemon.end() }
        #expect(harness.admin("adjust", "r0").code == 0)
        // Without -c, as a handler calls.
        #expect(harness.run("drbdadm", ["sh-resource", "minor-0"]).output == "r0\n")
        #expect(harness.run("drbdadm", ["sh-dev", "r0"]).output == "/dev/drbd0\n")
        #expect(harness.admin("down", "r0").code == 0)
        #expect(
            RegisteredConfiguration.file(for: ["minor-0"], runDirectory: harness.runDirectory) == nil)
    }

    /// Metadata commands on a file, and the fallbacks of commands that find no daemon.
    @Test func withoutDaemonTheDiskIsChanged() throws {
        let harness = try ToolHarness()
        let disk = harness.directory.appendingPathComponent("disk")
        try Data(count: 4 << 20).write(to: disk)
        try harness.write(
            Reference.simple(minor: 700).replacing("/dev/sdb701", with: disk.path), to: "drbd.conf")
        #expect(harness.admin("dstate", "r0").code == 1)
        let created = harness.admin("create-md", "r0")
        #expect(created.code == 0)
        #expect(created.output.contains("New drbd meta data block successfully created.\n"))
        #expect(harness.admin("dstate", "r0").output == "Inconsistent\n")
        let fresh = "0000000000000004:0000000000000000:0000000000000000:0000000000000000:0:0:0:0:0:0:0\n"
        #expect(harness.admin("get-gi", "r0").output == fresh)
        #expect(harness.admin("outdate", "r0").code == 5)
        let good = "1234567890ABCDE0:0000000000000000:0000000000000000:0000000000000000:1:1:0:0:0:0:0"
        #expect(harness.admin("set-gi", "--force", good, "r0").code == 0)
        #expect(harness.admin("get-gi", "r0").output == good + "\n")
        #expect(harness.admin("outdate", "r0").code == 0)
        #expect(harness.admin("dstate", "r0").output == "Outdated\n")
        #expect(harness.admin("invalidate", "r0").code == 0)
        #expect(harness.admin("dstate", "r0").output == "Inconsistent\n")
        // Metadata in use is left alone.
        var status = DaemonTests.status()
        status.volumes[0].minor = 700
        let daemon = try FakeDaemon(in: harness, status)
        defer { daemon.end() }
        for command in ["create-md", "wipe-md", "dump-md", "apply-al"] {
            let refused = harness.admin(command, "r0")
            #expect(refused.code == 20)
            #expect(refused.error.hasPrefix("Device '700' is configured!\n"))
        }
        #expect(harness.admin("outdate", "r0").code == 0)
        #expect(daemon.requests == ["outdate 0"])
    }

    /// The form of 8.3 and the form of today's monitors.
    @Test func statusFormats() throws {
        let harness = try ToolHarness(Reference.simple() + Reference.simple(name: "r1", minor: 1, port: 7789))
        var status = DaemonTests.status(.syncSource)
        status.volumes[0].state.pausedByPeer = true
        status.volumes[0].progress = SyncProgress(
            totalBits: 194_789, bitsLeft: 174_829, secondsSinceMark: 1, bitsSinceMark: 1, secondsSinceStart: 1,
            wantedRate: nil)
        let daemon = try FakeDaemon(in: harness, status)
        defer { daemon.end() }
        #expect(
            harness.admin("status", "--xml").output == """
                <drbd-status version="8.4.11" api="1">
                <resources config_file="\(harness.configurationFile.path)">
                <resource minor="0" name="r0" cs="SyncSource" ro1="Primary" ro2="Secondary" ds1="UpToDate" ds2="UpToDate" peer_isp resynced_percent="11.0" />
                <resource minor="1" name="r1" cs="Unconfigured" />
                </resources>
                </drbd-status>

                """)
        let json = try JSONSerialization.jsonObject(with: Data(harness.admin("status", "--json").output.utf8))
        let resources = try #require(json as? [[String: Any]])
        #expect(resources.count == 1 && resources[0]["name"] as? String == "r0")
        let devices = try #require(resources[0]["devices"] as? [[String: Any]])
        #expect(devices[0]["connection-state"] as? String == "SyncSource")
        #expect(devices[0]["percent-in-sync"] as? Double == 11.0)
        harness.persona = .v830
        #expect(harness.admin("status").output.hasPrefix("<drbd-status version=\"8.3.0\" api=\"88\">\n"))
        #expect(harness.admin("proc").output.hasPrefix("version: 8.3.0 (api:88/proto:86-89)\n"))
    }

    /// The recorded `show` of two volumes.
    @Test func showEqualsTheRecording() throws {
        let harness = try ToolHarness()
        var status = ResourceStatus(resource: "r0", node: "alice", productVersion: "1")
        for (number, path) in [(UInt16(0), "/dev/vda"), (1, "/dev/vdb")] {
            var volume = VolumeStatus(volume: VolumeNumber(number), minor: UInt32(number), state: VolumeState())
            volume.state.connection = .connected
            var options = DiskOptions()
            options.resyncRate = 30_720
            options.cPlanAhead = 0
            volume.disk = DiskConfiguration(dataPath: path, metadataPath: path, index: .internal, options: options)
            var net = NetOptions()
            net.afterSplitBrain0Primaries = .discardZeroChanges
            net.pingTimeout = 15
            net.verifyAlgorithm = "crc32c"
            volume.connection = ConnectionConfiguration(
                local: SocketAddress(family: "ipv4", host: "10.77.0.11", port: 7788),
                remote: SocketAddress(family: "ipv4", host: "10.77.0.12", port: 7788), options: net)
            status.volumes.append(volume)
        }
        let daemon = try FakeDaemon(in: harness, status)
        defer { daemon.end() }
        func volume(_ number: Int, _ path: String) -> String {
            """
                    volume \(number) {
                        device\t\t\tminor \(number);
                        disk\t\t\t"\(path)";
                        meta-disk\t\t\tinternal;
                        disk {
                            resync-rate     \t30720k; # bytes/second
                            c-plan-ahead    \t0; # 1/10 seconds
                        }
                    }

            """
        }
        #expect(
            harness.run("drbdsetup", ["show", "r0"]).output == """
                resource r0 {
                    options {
                    }
                    net {
                        after-sb-0pri   \tdiscard-zero-changes;
                        ping-timeout    \t15; # 1/10 seconds
                        verify-alg      \t"crc32c";
                    }
                    _remote_host {
                        address\t\t\tipv4 10.77.0.12:7788;
                    }
                    _this_host {
                        address\t\t\tipv4 10.77.0.11:7788;

                """ + volume(0, "/dev/vda") + volume(1, "/dev/vdb") + "    }\n}\n")
        #expect(harness.run("drbdsetup", ["show", "--show-defaults", "r0"]).output == ProcedureTests.recordedDefaults)
        // A configuration reader can read it.
        #expect(throws: Never.self) {
            try ConfigParser.parse(text: harness.run("drbdsetup", ["show", "r0"]).output, name: "show")
        }
    }

    /// drbd-utils 9.22 on a kernel DRBD 8.4.11.
    private static let recordedDefaults = """
        resource r0 {
            options {
                cpu-mask        \t""; # default
                on-no-data-accessible\tio-error; # default
            }
            net {
                protocol        \tC; # default
                timeout         \t60; # 1/10 seconds, default
                max-epoch-size  \t2048; # default
                max-buffers     \t2048; # default
                unplug-watermark\t128; # default
                connect-int     \t10; # seconds, default
                ping-int        \t10; # seconds, default
                sndbuf-size     \t0; # bytes, default
                rcvbuf-size     \t0; # bytes, default
                ko-count        \t7; # default
                allow-two-primaries\tno; # default
                cram-hmac-alg   \t""; # default
                shared-secret   \t""; # default
                after-sb-0pri   \tdiscard-zero-changes;
                after-sb-1pri   \tdisconnect; # default
                after-sb-2pri   \tdisconnect; # default
                always-asbp     \tno; # default
                rr-conflict     \tdisconnect; # default
                ping-timeout    \t15; # 1/10 seconds
                data-integrity-alg\t""; # default
                tcp-cork        \tyes; # default
                on-congestion   \tblock; # default
                congestion-fill \t0s; # bytes, default
                congestion-extents\t1237; # default
                csums-alg       \t""; # default
                csums-after-crash-only\tno; # default
                verify-alg      \t"crc32c";
                use-rle         \tyes; # default
                socket-check-timeout\t0; # default
            }
            _remote_host {
                address\t\t\tipv4 10.77.0.12:7788;
            }
            _this_host {
                address\t\t\tipv4 10.77.0.11:7788;
                volume 0 {
                    device\t\t\tminor 0;
                    disk\t\t\t"/dev/vda";
                    meta-disk\t\t\tinternal;
                    disk {
                        size            \t0s; # bytes, default
                        max-bio-bvecs   \t0; # default
                        on-io-error     \tdetach; # default
                        fencing         \tdont-care; # default
                        disk-barrier    \tno; # default
                        disk-flushes    \tyes; # default
                        disk-drain      \tyes; # default
                        md-flushes      \tyes; # default
                        resync-rate     \t30720k; # bytes/second
                        resync-after    \t-1; # default
                        al-extents      \t1237; # default
                        al-updates      \tyes; # default
                        discard-zeroes-if-aligned\tyes; # default
                        disable-write-same\tno; # default
                        c-plan-ahead    \t0; # 1/10 seconds
                        c-delay-target  \t10; # 1/10 seconds, default
                        c-fill-target   \t100s; # bytes, default
                        c-max-rate      \t102400k; # bytes/second, default
                        c-min-rate      \t250k; # bytes/second, default
                        disk-timeout    \t0; # 1/10 seconds, default
                        read-balancing  \tprefer-local; # default
                        rs-discard-granularity\t0; # default
                    }
                }
                volume 1 {
                    device\t\t\tminor 1;
                    disk\t\t\t"/dev/vdb";
                    meta-disk\t\t\tinternal;
                    disk {
                        size            \t0s; # bytes, default
                        max-bio-bvecs   \t0; # default
                        on-io-error     \tdetach; # default
                        fencing         \tdont-care; # default
                        disk-barrier    \tno; # default
                        disk-flushes    \tyes; # default
                        disk-drain      \tyes; # default
                        md-flushes      \tyes; # default
                        resync-rate     \t30720k; # bytes/second
                        resync-after    \t-1; # default
                        al-extents      \t1237; # default
                        al-updates      \tyes; # default
                        discard-zeroes-if-aligned\tyes; # default
                        disable-write-same\tno; # default
                        c-plan-ahead    \t0; # 1/10 seconds
                        c-delay-target  \t10; # 1/10 seconds, default
                        c-fill-target   \t100s; # bytes, default
                        c-max-rate      \t102400k; # bytes/second, default
                        c-min-rate      \t250k; # bytes/second, default
                        disk-timeout    \t0; # 1/10 seconds, default
                        read-balancing  \tprefer-local; # default
                        rs-discard-granularity\t0; # default
                    }
                }
            }
        }

        """
}
