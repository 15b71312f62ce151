import Testing

@testable import ReplicaControl

/// Plans as `-d` prints them, against the recorded session of drbd-utils with two volumes (`drbdsetup-84` is the name
/// that its dispatcher uses for `drbdsetup`).
struct DryRunTests {
    private static let up = """
        drbdsetup new-resource r0
        drbdsetup new-minor r0 0 0
        drbdsetup new-minor r0 1 1
        drbdmeta 0 v08 /dev/vda internal apply-al
        drbdsetup attach 0 /dev/vda /dev/vda internal --resync-rate=30M --c-plan-ahead=0
        drbdmeta 1 v08 /dev/vdb internal apply-al
        drbdsetup attach 1 /dev/vdb /dev/vdb internal --resync-rate=30M --c-plan-ahead=0
        drbdsetup connect r0 ipv4:10.77.0.11:7788 ipv4:10.77.0.12:7788 --protocol=C --ping-int=10 --ping-timeout=15 \
        --verify-alg=crc32c --after-sb-0pri=discard-zero-changes

        """

    @Test(arguments: [
        (["up", "r0"], up),
        (["adjust", "r0"], up),
        (["down", "r0"], "drbdsetup down r0\n"),
        (
            ["resize", "r0"],
            "drbdsetup resize 0\ndrbdsetup check-resize 0\ndrbdsetup resize 1\ndrbdsetup check-resize 1\n"
        ),
        (["verify", "r0"], "drbdsetup verify 0\ndrbdsetup verify 1\n"),
        (["primary", "--force", "r0"], "drbdsetup primary 0 --force\ndrbdsetup primary 1 --force\n"),
        (
            ["create-md", "r0"],
            "drbdmeta 0 v08 /dev/vda internal create-md\ndrbdmeta 1 v08 /dev/vdb internal create-md\n"
        ),
    ])
    func recorded(_ words: [String], _ plan: String) throws {
        let harness = try ToolHarness(Reference.twoVolumes)
        let result = harness.run("drbdadm", ["-c", harness.configurationFile.path, "-d"] + words)
        #expect(result.output == plan)
        #expect(result.error == "" && result.code == 0)
    }

    /// Old and new spellings of one wish (`control.md` 2.1).
    @Test(arguments: [
        (["--", "--overwrite-data-of-peer", "primary", "r0"], "primary 0 --force"),
        (["primary", "--force", "r0"], "primary 0 --force"),
        (["primary", "--overwrite-data-of-peer", "r0"], "primary 0 --force"),
        (["--", "-o", "primary", "all"], "primary 0 --force"),
        (["--", "--overwrite-data-of-peer", "primary", "all"], "primary 0 --force"),
        (["primary", "r0", "--force"], "primary 0 --force"),
        (["--", "secondary", "r0"], "secondary 0"),
        (["secondary", "minor-0"], "secondary 0"),
        (["secondary", "/dev/drbd0"], "secondary 0"),
        (["secondary", "r0/0"], "secondary 0"),
        (
            ["--", "--discard-my-data", "connect", "r0"],
            "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --discard-my-data"
        ),
        (
            ["connect", "--discard", "r0"],
            "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --discard-my-data"
        ),
        (
            ["--", "--dry-run", "connect", "r0"],
            "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --tentative"
        ),
        (
            ["connect", "--tentative", "r0"],
            "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --tentative"
        ),
        (
            ["connect", "--max-buffers=4096", "r0"],
            "connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --max-buffers=4096"
        ),
        (["--", "--force", "create-md", "r0"], "drbdmeta 0 v08 /dev/sdb1 internal create-md --force"),
        (["create-md", "--force", "r0"], "drbdmeta 0 v08 /dev/sdb1 internal create-md --force"),
        (["-W--force", "wipe-md", "r0"], "drbdmeta 0 v08 /dev/sdb1 internal wipe-md --force"),
        (["wipe-md", "--force", "r0"], "drbdmeta 0 v08 /dev/sdb1 internal wipe-md --force"),
        (["--", "--clear-bitmap", "new-current-uuid", "r0"], "new-current-uuid 0 --clear-bitmap"),
        (["new-current-uuid", "--clear-bitmap", "r0/0"], "new-current-uuid 0 --clear-bitmap"),
        (["--", "--start=0", "verify", "r0"], "verify 0 --start=0"),
        (["verify", "--start=4M", "--stop=6M", "r0"], "verify 0 --start=4M --stop=6M"),
        (["detach", "--force", "r0"], "detach 0 --force"),
        (["disk-options", "--resync-rate=20M", "r0"], "disk-options 0 --set-defaults --resync-rate=20M"),
        (
            ["net-options", "--protocol=A", "r0"],
            "net-options ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788 --set-defaults --protocol=A"
        ),
        (["disconnect", "r0"], "disconnect ipv4:10.0.0.1:7788 ipv4:10.0.0.2:7788"),
        (["sh-new-minor", "r0"], "new-minor r0 0 0"),
        (["wait-connect", "-t", "3", "r0"], "wait-connect 0 --wfc-timeout=3"),
        (["wait-connect", "--wfc-timeout=3", "r0"], "wait-connect 0 --wfc-timeout=3"),
        (["attach", "r0", "--on-io-error=detach"], "attach 0 /dev/sdb1 /dev/sdb1 internal --on-io-error=detach"),
    ])
    func spellings(_ words: [String], _ line: String) throws {
        let harness = try ToolHarness(Reference.simple())
        // -d in front would be -t's letter for some commands: the long form is never ambiguous.
        let result = harness.run("drbdadm", ["-d", "-c", harness.configurationFile.path] + words)
        let tool = line.hasPrefix("drbdmeta") ? "" : "drbdsetup "
        #expect(result.lines.last == tool + line)
        #expect(result.error == "" && result.code == 0)
    }

    @Test func item14TwoSpellingsOnePlan() throws {
        let harness = try ToolHarness(Reference.simple() + Reference.simple(name: "r1", minor: 1, port: 7789))
        let old = harness.admin("-d", "--", "--overwrite-data-of-peer", "primary", "all")
        let new = harness.admin("-d", "primary", "--force", "all")
        #expect(old.output == new.output && old.lines.count == 2)
    }

    @Test func stagesRunOverAllResources() throws {
        let harness = try ToolHarness(Reference.simple() + Reference.simple(name: "r1", minor: 1, port: 7789))
        let commands = harness.admin("-d", "up", "all").lines.map { line in
            line.split(separator: " ").dropFirst().prefix(2).joined(separator: " ")
        }
        #expect(
            commands == [
                "new-resource r0", "new-minor r0", "new-resource r1", "new-minor r1", "0 v08", "attach 0", "1 v08",
                "attach 1", "connect r0", "connect r1",
            ])
    }

    @Test func shellVariable() throws {
        let harness = try ToolHarness(Reference.simple() + Reference.simple(name: "r1", minor: 1, port: 7789))
        #expect(
            harness.admin("-d", "-n", "res", "secondary", "all").output
                == "res=r0\ndrbdsetup secondary 0\nres=r1\ndrbdsetup secondary 1\n")
    }

    @Test func ownNameInFrontOfPlans() throws {
        let harness = try ToolHarness(Reference.simple())
        let result = harness.run("replctl", ["-c", harness.configurationFile.path, "-d", "attach", "r0"])
        #expect(
            result.output
                == "replctl meta 0 v08 /dev/sdb1 internal apply-al\nreplctl setup attach 0 /dev/sdb1 /dev/sdb1 internal\n")
    }
}
