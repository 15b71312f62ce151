import Testing

@testable import ReplicaControl

/// `dump` and `dump-xml` (items 2 and 3), against listings of the original tools.
struct ConfigDumpTests {
    @Test func item02DumpEqualsTheListing() throws {
        let harness = try ToolHarness(Reference.classic)
        harness.node = "server1.localdomain"
        let file = harness.configurationFile.path
        let dump = harness.admin("dump")
        #expect(dump.code == 0)
        #expect(dump.output == Reference.classicDump(file: file) + "\n")
        // Read again it is the same, but for the line numbers.
        try harness.write(dump.output, to: "drbd.conf")
        #expect(
            harness.admin("dump").output == Reference.classicDump(file: file).replacing(":8\n", with: ":17\n") + "\n")
    }

    @Test func item03OldAndNewSpellingGiveTheSamePlan() throws {
        let old = """
            resource r0 {
              protocol B;
              syncer { rate 10M; al-extents 257; verify-alg sha1; use-rle; after "r1"; }
              disk { no-disk-flushes; on-io-error detach; }
              net { cram-hmac-alg sha1; shared-secret "x"; }
              on alice { device /dev/drbd0; disk /dev/sdb1; address 10.0.0.1:7788; flexible-meta-disk /dev/sdc1; }
              on bob { device /dev/drbd0; disk /dev/sdb1; address 10.0.0.2:7788; flexible-meta-disk /dev/sdc1; }
            }
            """
        let new = """
            resource r0 {
              net { protocol B; verify-alg sha1; use-rle yes; cram-hmac-alg sha1; shared-secret x; }
              disk { resync-rate 10M; al-extents 257; resync-after r1; disk-flushes no; on-io-error detach; }
              device minor 0; disk /dev/sdb1; meta-disk /dev/sdc1;
              on alice { address ipv4 10.0.0.1:7788; }
              on bob { address ipv4 10.0.0.2:7788; }
            }
            """
        let other = Reference.simple(name: "r1", minor: 1, port: 7789)
        let plans = try [old, new].map { try ToolHarness($0 + other).admin("-d", "up", "all").output }
        #expect(plans[0] == plans[1])
        #expect(plans[0].contains("--al-extents=257"))
    }

    /// The recorded listing of drbd-utils for two volumes.
    @Test func volumes() throws {
        let harness = try ToolHarness(Reference.twoVolumes)
        let expected = """
            # resource r0 on alice: not ignored, not stacked
            # defined at \(harness.configurationFile.path):2
            resource r0 {
                on alice {
                    volume 0 {
                        device       /dev/drbd0 minor 0;
                        disk         /dev/vda;
                        meta-disk    internal;
                    }
                    volume 1 {
                        device       /dev/drbd1 minor 1;
                        disk         /dev/vdb;
                        meta-disk    internal;
                    }
                    address          ipv4 10.77.0.11:7788;
                }
                on bob {
                    volume 0 {
                        device       /dev/drbd0 minor 0;
                        disk         /dev/vda;
                        meta-disk    internal;
                    }
                    volume 1 {
                        device       /dev/drbd1 minor 1;
                        disk         /dev/vdb;
                        meta-disk    internal;
                    }
                    address          ipv4 10.77.0.12:7788;
                }
                net {
                    protocol           C;
                    ping-int          10;
                    ping-timeout      15;
                    verify-alg       crc32c;
                    after-sb-0pri    discard-zero-changes;
                }
                disk {
                    c-plan-ahead       0;
                    resync-rate      30M;
                }
            }


            """
        #expect(harness.admin("dump", "r0").output == expected)
        #expect(
            harness.admin("dump").output
                == "# \(harness.configurationFile.path)\nglobal {\n    usage-count no;\n    cmd-timeout-medium 600;\n"
                + "    cmd-timeout-long 0;\n}\n\n" + expected)
    }

    @Test func xml() throws {
        let harness = try ToolHarness(Reference.twoVolumes)
        let file = harness.configurationFile.path
        func host(_ name: String, _ address: String) -> String {
            """
                    <host name="\(name)">
                        <volume vnr="0">
                            <device minor="0">/dev/drbd0</device>
                            <disk>/dev/vda</disk>
                            <meta-disk>internal</meta-disk>
                        </volume>
                        <volume vnr="1">
                            <device minor="1">/dev/drbd1</device>
                            <disk>/dev/vdb</disk>
                            <meta-disk>internal</meta-disk>
                        </volume>
                        <address family="ipv4" port="7788">\(address)</address>
                    </host>

            """
        }
        #expect(
            harness.admin("dump-xml").output
                == "<config file=\"\(file)\">\n    <resource name=\"r0\" conf-file-line=\"\(file):2\">\n"
                + host("alice", "10.77.0.11") + host("bob", "10.77.0.12") + """
                            <section name="net">
                                <option name="protocol" value="C"/>
                                <option name="ping-int" value="10"/>
                                <option name="ping-timeout" value="15"/>
                                <option name="verify-alg" value="crc32c"/>
                                <option name="after-sb-0pri" value="discard-zero-changes"/>
                            </section>
                            <section name="disk">
                                <option name="c-plan-ahead" value="0"/>
                                <option name="resync-rate" value="30M"/>
                            </section>
                        </resource>
                    </config>

                    """)
    }

    @Test func xmlEscapes() throws {
        let harness = try ToolHarness(
            Reference.simple("handlers { split-brain \"a <b> & 'c'\"; }").replacing("/dev/sdb1", with: "\"/dev/a&b\"")
                .replacing("meta-disk internal", with: "meta-disk /dev/m[3]"))
        let text = harness.admin("dump-xml").output
        #expect(text.contains("<option name=\"split-brain\" value=\"a &lt;b&gt; &amp; &apos;c&apos;\"/>"))
        #expect(text.contains("<disk>/dev/a&amp;b</disk>"))
        #expect(text.contains("<meta-disk index=\"3\">/dev/m</meta-disk>"))
    }

    /// Everything that can be written, once.
    static let kitchen = """
        global { dialog-refresh 5; minor-count 64; usage-count ask; disable-ip-verification; udev-always-use-vnr; }
        common {
          protocol A;
          startup { wfc-timeout 10; wait-after-sb; }
          handlers { split-brain "echo \\"x\\" \\\\ | mail; true"; }
          options { on-no-data-accessible suspend-io; }
          proxy { memlimit 100M; plugin { zlib level 9; lzma contexts 4; } }
        }
        resource "r0" {
          startup { become-primary-on alice robert; }
          net { sndbuf-size 512k; on-congestion pull-ahead; congestion-fill 1M; }
          options { cpu-mask 3; }
          on alice {
            volume 0 { device /dev/drbd0; disk "/dev/mapper/a b"; meta-disk /dev/m[0]; disk { size 1G; } }
            volume 7 { device /dev/drbd_x minor 7; disk /dev/b; meta-disk /dev/m [1]; }
            address ipv6 [fd00::1]:7788; options { cpu-mask 7; }
            proxy on proxyhost { inside 10.1.1.1:7000; outside 10.1.1.2:7001; }
          }
          on bob robert {
            volume 0 { device unix:/run/vol0 minor 0; disk /dev/a; flexible-meta-disk /dev/m; }
            volume 7 { device /dev/nbd7; disk /dev/b; flexible-meta-disk internal; }
            address [fe80::2%eth0]:7788;
          }
        }
        resource up { net { protocol C; }
          stacked-on-top-of r0 { volume 0 { device /dev/drbd10; } address 10.9.9.1:7788; }
          on third { volume 0 { device /dev/drbd10; disk /dev/z; meta-disk internal; } address 10.9.9.2:7788; }
        }
        resource flo { device minor 20; disk /dev/f; meta-disk internal; floating 10.0.0.1:7800; floating 10.0.0.2:7800; }

        """

    @Test(arguments: [
        kitchen, Reference.classic, Reference.empties, Reference.bare, Reference.twoVolumes, Reference.simple(),
    ])
    func dumpIsAFixedPoint(_ text: String) throws {
        func dump(_ text: String) throws -> String {
            let tree = try ConfigParser.parse(text: text, name: "f")
            return ConfigDump(tree: tree, node: "alice", here: ["r0", "flo"]).text(of: nil)
        }
        func withoutLines(_ text: String) -> [Substring] {
            text.split(separator: "\n").filter { !$0.hasPrefix("# defined at") }
        }
        let once = try dump(text)
        let twice = try dump(once)
        #expect(withoutLines(once) == withoutLines(twice))
        // The same configuration, not only the same text.
        let node = NodeIdentity(name: "alice", localAddresses: ["10.0.0.1"])
        let before = try ConfigParser.parse(text: text, name: "f").resources(on: node)
        let after = try ConfigParser.parse(text: once, name: "f").resources(on: node)
        #expect(before.count == after.count)
        for (old, new) in zip(before, after) {
            #expect(try old.netOptions() == new.netOptions())
            #expect(try old.resourceOptions() == new.resourceOptions())
            for (left, right) in zip(old.volumes, new.volumes) {
                #expect(
                    try old.diskConfiguration(of: left, among: before) == new.diskConfiguration(of: right, among: after))
                #expect(left.device == right.device && left.minor == right.minor)
            }
            #expect(old.sections.handlers.options.map(\.value) == new.sections.handlers.options.map(\.value))
        }
    }

    @Test func effectiveViewShowsInheritedOptions() throws {
        let harness = try ToolHarness(Reference.classic)
        harness.node = "server1.localdomain"
        #expect(!harness.admin("dump", "disk0").output.contains("resync-rate"))
        #expect(harness.admin("-v", "dump", "disk0").output.contains("resync-rate      10M;"))
    }

    @Test func emptyFilePrintsItsHeader() throws {
        let harness = try ToolHarness("# nothing\n")
        let result = harness.admin("dump")
        #expect(result.code == 0 && result.output == "# \(harness.configurationFile.path)\n")
    }

    @Test func configToTest() throws {
        let harness = try ToolHarness(Reference.simple())
        try harness.write(Reference.simple(name: "r1", port: 7799), to: "new.res")
        let file = harness.directory.appendingPathComponent("new.res").path
        let refused = harness.admin("-t", file, "sh-nop")
        #expect(refused.code == 10 && refused.error.contains("conflicting use of device-minor 'alice:0'"))
        #expect(harness.admin("-t", file, "role", "r0").code == 1)
    }
}
