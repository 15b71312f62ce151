import Testing

@testable import ReplicaControl

/// What loads, what is refused, and where the complaint points (`control.md` section 10, items 1 to 13).
struct ConfigLoadingTests {
    private func error(_ text: String) -> ConfigError? {
        do {
            _ = try ConfigParser.parse(text: text, name: "f")
            return nil
        } catch { return error }
    }

    @Test func item01ReferenceFilesLoad() throws {
        for text in [Reference.classic, Reference.empties, Reference.bare, Reference.twoVolumes] {
            #expect(throws: Never.self) { try ConfigParser.parse(text: text, name: "f") }
        }
        let harness = try ToolHarness()
        for file in Reference.split { try harness.write(file.text, to: file.name) }
        harness.node = "DRBD2"
        #expect(harness.admin("sh-resources").output == "r0\n")
        #expect(
            harness.admin("-d", "up", "r0").lines.last
                == "drbdsetup connect r0 ipv4:192.168.11.202:7777 ipv4:192.168.11.201:7777 --protocol=C "
                + "--cram-hmac-alg=sha1 --shared-secret=***")
    }

    @Test func item01SurplusBraceIsReportedOnItsLine() throws {
        let harness = try ToolHarness(Reference.empties + "}\n")
        harness.node = "web01"
        let result = harness.admin("sh-nop")
        #expect(result.code == 10)
        #expect(
            result.error
                == "\(harness.configurationFile.path):45: Parse error: "
                + "'global | common | resource | skip | include' expected,\n\tbut got '}'\n")
    }

    @Test func item01MistakesAreReportedAtTheNextToken() throws {
        #expect(
            error(Reference.mistaken)?.text == "f:8: Parse error: 'minor | ;' expected,\n\tbut got 'disk'\n")
        let once = Reference.mistaken.replacing("device /dev/drbd\n", with: "device /dev/drbd0;\n")
        #expect(error(once)?.text == "f:10: Parse error: ';' expected,\n\tbut got 'meta-disk'\n")
        let harness = try ToolHarness(once.replacing("10.0.0.100:7788\n", with: "10.0.0.100:7788;\n"))
        harness.node = "hostA"
        #expect(
            harness.admin("-d", "up", "all").output == """
                drbdsetup new-resource r0
                drbdsetup new-minor r0 0 0
                drbdmeta 0 v08 /dev/sdb1 0 apply-al
                drbdsetup attach 0 /dev/sdb2 /dev/sdb1 0 --on-io-error=detach --resync-rate=500M
                drbdsetup connect r0 ipv4:10.0.0.100:7788 ipv4:10.0.0.101:7788 --protocol=C

                """)
    }

    @Test func item04RatesAreCompared() throws {
        for text in ["syncer { rate 10M; }", "disk { resync-rate 10240k; }", "disk { resync-rate 10240; }"] {
            let tree = try ConfigParser.parse(text: Reference.simple(text), name: "f")
            let resource = try #require(tree.resources(on: NodeIdentity(name: "alice")).first)
            #expect(try resource.diskOptions(of: resource.volumes[0], among: []).resyncRate == 10_240)
        }
        let refused = error(Reference.simple("syncer {\n rate 10MB; }"))
        #expect(refused?.text == "f:3: 10MB is not a valid number\n" && refused?.exitCode == 10)
    }

    @Test(arguments: [
        ("net { timeout 6000; }", "timeout 6000 => 6000 out of range [1..600]."),
        ("disk { resync-rate 0; }", "resync-rate 0 => 0k out of range [1..4194304]k."),
        ("disk { c-max-rate 5G; }", "c-max-rate 5G => 5242880k out of range [250..4194304]k."),
        ("net { protocol D; }", "unknown protocol 'D', should be one of A,B,C"),
        ("protocol c;", "unknown protocol 'c', should be one of A,B,C"),
        (
            "disk { on-io-error panic; }",
            "on-io-error: invalid argument 'panic', should be one of pass_on,call-local-io-error,detach"
        ),
        (
            "net { shared-secret \"\(String(repeating: "x", count: 65))\"; }",
            "shared-secret is longer than 64 characters"
        ),
        ("startup { wfc-timeout 300001; }", "wfc-timeout 300001 => 300001 out of range [0..300000]."),
        ("net { ko-count 123456789; }", "123456789 is not a valid number"),
    ])
    func item05OutOfRangeValuesAreRefused(_ section: String, _ message: String) {
        let refused = error(Reference.simple(section))
        #expect(refused?.faults.first?.message == message)
        #expect(refused?.faults.first?.position?.line == 2)
        #expect(refused?.exitCode == 10)
    }

    @Test func item05PortOutOfRange() {
        let refused = error(Reference.simple("", port: 77888))
        #expect(refused?.text == "f:3: port 77888 => 77888 out of range [1..65535].\n")
    }

    @Test func item06Includes() throws {
        let harness = try ToolHarness("include \"drbd.d/*.res\";\n" + Reference.simple())
        #expect(harness.admin("sh-resources").output == "r0\n")
        try harness.write("\n\ninclude drbd.d/missing.conf;\n", to: "drbd.conf")
        let result = harness.admin("sh-nop")
        #expect(result.code == 10)
        #expect(
            result.error
                == "\(harness.configurationFile.path):3: Failed to open include file "
                + "'\(harness.directory.path)/drbd.d/missing.conf'.\n")
        // Sorted, each file once, loops included.
        try harness.write("include \"drbd.d/*.res\"; include \"drbd.d/*.res\";\n", to: "drbd.conf")
        try harness.write("include \"../drbd.conf\"; include \"a.res\";\n" + Reference.simple(), to: "drbd.d/b.res")
        try harness.write(Reference.simple(name: "first", minor: 1, port: 7790), to: "drbd.d/a.res")
        #expect(harness.admin("sh-resources").output == "first r0\n")
    }

    @Test func missingFile() throws {
        let harness = try ToolHarness()
        let result = harness.run("drbdadm", ["-c", "/nonexistent/x.conf", "sh-nop"])
        #expect(result.code == 20)
        #expect(result.error == "Can not open '/nonexistent/x.conf'.\nNo such file or directory\n")
    }

    @Test(arguments: [
        (
            Reference.simple() + Reference.simple(name: "r1", minor: 1),
            "f:8: conflicting use of IP '10.0.0.1:7788' ...\nf:3: IP '10.0.0.1:7788' first used here.\n"
        ),
        (
            Reference.simple() + Reference.simple(name: "r1", port: 7789),
            "f:8: conflicting use of device-minor 'alice:0' ...\nf:3: device-minor 'alice:0' first used here.\n"
        ),
        (
            Reference.simple("net { }\n net { }"),
            "f:3: conflicting use of net section 'r0:net' ...\nf:2: net section 'r0:net' first used here.\n"
        ),
        (
            "global { }\nglobal { }\n" + Reference.simple(),
            "f:2: conflicting use of global section 'global' ...\nf:1: global section 'global' first used here.\n"
        ),
        (
            Reference.simple() + Reference.simple(minor: 1, port: 7789),
            "f:6: conflicting use of resource section 'r0' ...\nf:1: resource section 'r0' first used here.\n"
        ),
    ])
    func item07Conflicts(_ text: String, _ message: String) throws {
        let refused = try #require(error(text))
        #expect(refused.text.contains(message), "\(refused.text)")
        #expect(refused.exitCode == 10)
    }

    @Test func item08ForeignResources() throws {
        let foreign = Reference.simple(name: "far", minor: 5, port: 7799).replacing("alice", with: "carol")
        let harness = try ToolHarness(Reference.simple() + foreign)
        #expect(harness.admin("sh-resources").output == "r0\n")
        #expect(!harness.admin("-d", "up", "all").output.contains("far"))
        let named = harness.admin("up", "far")
        #expect(named.code == 1 && named.error == "'far' not defined in your config (for this host).\n")
        harness.persona = .v838
        #expect(harness.admin("up", "far").error == "'far' not defined in your config.\n")
        harness.persona = .v8411
        harness.node = "dave"
        let none = harness.admin("up", "all")
        #expect(none.code == 1 && none.error.hasPrefix("WARN: no normal resources defined for this host (dave)!?\n"))
        #expect(harness.admin("sh-dev", "all").code == 0)
    }

    @Test func item09Skip() throws {
        let broken = "skip resource r9 \"x\" { net { bogus ; { } \"}\" # }\n } }\n"
        #expect(throws: Never.self) { try ConfigParser.parse(text: broken + Reference.simple(), name: "f") }
        #expect(
            error("\n" + "skip resource x {\n {\n }\n")?.text
                == "f:2: reached eof while parsing this skip block.\n")
    }

    @Test func item10HandlerTextIsKept() throws {
        let command = #"echo '!DRBD! "x" \n' | wall; sleep 60; halt -f"#
        let quoted = command.replacing("\"", with: "\\\"")
        let text = Reference.simple("handlers { pri-on-incon-degr \"\(quoted)\"; outdate-peer /bin/true; }")
        let tree = try ConfigParser.parse(text: text, name: "f")
        let resource = try #require(tree.resources(on: NodeIdentity(name: "alice")).first)
        let settings = resource.daemonSettings(node: "alice", configurationPath: "/f", handlerTimeoutSeconds: 600)
        #expect(settings.handlers.map(\.name) == ["pri-on-incon-degr", "fence-peer"])
        #expect(settings.handlers[0].commandLine == command)
    }

    @Test(arguments: ["yes", "no", "ask"])
    func item11UsageCountIsOnlyAWord(_ value: String) throws {
        let harness = try ToolHarness("global { usage-count \(value); }\n" + Reference.simple())
        let result = harness.admin("-d", "create-md", "r0")
        #expect(result.code == 0 && result.error == "")
        #expect(result.output == "drbdmeta 0 v08 /dev/sdb1 internal create-md\n")
    }

    @Test func item12PromotionOfBothNeedsTwoPrimaries() {
        let refused = error(Reference.simple("startup { become-primary-on both; }"))
        #expect(
            refused?.text
                == "f:2: in resource r0:\nbecome-primary-on is set to both, but allow-two-primaries is not set.\n")
        #expect(error(Reference.simple("startup { become-primary-on both; } net { allow-two-primaries; }")) == nil)
        #expect(error(Reference.simple("startup { become-primary-on alice bob; }")) == nil)
        #expect(
            error(Reference.simple("startup { become-primary-on zed; }"))?.text
                == "f:2: in resource r0:\n\tbecome-primary-on contains 'zed', which is not named with the 'on' "
                + "sections.\n")
    }

    @Test func item13ThreeHostsNeedAPeer() throws {
        let text = Reference.simple(
            "on carol { device minor 0; disk /dev/x; address 10.0.0.3:7788; meta-disk internal; }")
        let harness = try ToolHarness(text)
        let refused = harness.admin("-d", "connect", "r0")
        #expect(refused.code == 1 && refused.error.contains("There are multiple host sections for the peer node."))
        #expect(
            harness.admin("--peer", "carol", "-d", "connect", "r0").output
                == "drbdsetup connect r0 ipv4:10.0.0.1:7788 ipv4:10.0.0.3:7788\n")
        #expect(harness.admin("-Pbob", "-d", "connect", "r0").output.contains("10.0.0.2"))
    }

    @Test(arguments: [
        (
            "resource r0 {\n on alice { device minor 0; disk /dev/a; meta-disk internal; address 1.2.3.4:1; }\n}",
            "f:1: in resource r0:\n\tMissing section 'on <PEER> { ... }'.\n"
        ),
        (
            Reference.simple().replacing("meta-disk internal; }\n}", with: "}\n}"),
            "f:4: in resource r0, on bob { ... }: 'meta-disk' keyword missing.\n"
        ),
        (
            Reference.simple().replacing("address 10.0.0.2:7788;", with: ""),
            "f:4: in resource r0, on bob { ... }: 'address' keyword missing.\n"
        ),
        ("common { on x { } }", "f:1: in the common section, there are no host sections allowed.\n"),
        (
            "resource r0 { net { bogus; } }",
            "f:1: Parse error: 'an option keyword' expected,\n\tbut got 'bogus'\n"
        ),
        (
            "resource r0 { syncer { bogus; } }",
            "f:1: Parse error: 'a syncer option keyword' expected,\n\tbut got 'bogus'\n"
        ),
        (
            "resource r0 { on a { address host.example:1; } }",
            "f:1: Parse error: 'ssocks | sdp | ipv4 | ipv6 | <ipv4 address> ' expected,\n\tbut got 'host.example'\n"
        ),
        (
            "resource r0 { on a { address ssocks 1.2.3.4:1; } }",
            "f:1: transport 'ssocks' is not available in user space.\n"
        ),
        (
            "resource r0 { on a { meta-disk /dev/x 7; } }",
            "f:1: Parse error: '[ | ;' expected,\n\tbut got '7'\n"
        ),
        (
            "resource r0 { on a { device /dev/drbd; } }",
            "f:1: no minor given nor device name contains a minor number\n"
        ),
        (
            "resource r0 { on a {\n",
            "f:2: Parse error: 'disk | device | address | meta-disk | flexible-meta-disk"
                + " | volume | options | proxy' expected,\n\tbut got ''\n"
        ),
        (
            "resource r0 { device \"/dev/drbd0\n\" }",
            "f:1: Unterminated double quoted string; we don't allow embedded newlines\n"
        ),
        (
            "resource \(String(repeating: "x", count: 129)) {",
            "f:1: Token too long >>>xxxxxxxxxxxxxxxxxxxx…<<<\n"
        ),
        (
            Reference.simple("stacked-on-top-of low { device minor 9; address 9.9.9.9:1; }"),
            "f:2: in resource r0, referenced resource 'low' not defined.\n"
        ),
        (
            "resource r0 { verify-everything-and-more-than-that; }",
            "but got 'verify-everything-an...'\n"
        ),
        ("resource r0 { on a { node-id 0; } }", "but got 'node-id'\n"),
    ])
    func faults(_ text: String, _ message: String) throws {
        let refused = try #require(error(text))
        #expect(refused.text.contains(message), "\(refused.text)")
        #expect(refused.exitCode == 10)
    }

    @Test func faultsOfMeaningAreReportedTogether() throws {
        let text = Reference.simple("net { timeout 6000; ping-int 0; } startup { become-primary-on zed; }")
        #expect(error(text)?.faults.count == 3)
    }

    @Test func endOfFileClosesResources() {
        #expect(error(Reference.bare) == nil)
        #expect(error("common { net { protocol A; }") == nil)
        #expect(error("global { usage-count no;")?.faults.first?.message.hasSuffix("but got ''") == true)
    }

    @Test func volumeNumbersMustAgree() {
        let text = """
            resource r0 {
              on alice { volume 0 { device minor 0; disk /a; meta-disk internal; }
                volume 1 { device minor 1; disk /b; meta-disk internal; } address 10.0.0.1:1; }
              on bob { volume 0 { device minor 0; disk /a; meta-disk internal; } address 10.0.0.2:1; }
            }
            """
        #expect(error(text)?.text == "f:3: in resource r0, on alice { ... }: volume 1 not defined on bob\n")
        #expect(
            error(text.replacing("on alice {", with: "on alice { device minor 5;"))?.text
                .contains("you must not mix implicit and explicit volumes") == true)
    }

    @Test func localAddressIsChecked() throws {
        let harness = try ToolHarness(Reference.simple())
        harness.localAddresses = ["10.9.9.9"]
        let refused = harness.admin("connect", "r0")
        #expect(refused.code == 10)
        #expect(
            refused.error
                == "\(harness.configurationFile.path):3: in resource r0, on alice:\n\tIP 10.0.0.1 not found on this "
                + "host.\n")
        #expect(harness.admin("-d", "connect", "r0").code == 0)
        #expect(harness.admin("sh-ip", "r0").output == "10.0.0.1\n")
        try harness.write("global { disable-ip-verification; }\n" + Reference.simple(), to: "drbd.conf")
        #expect(harness.admin("dump", "r0").code == 0)
    }

    @Test func danglingResyncAfterOnlyWarnsAtBoot() throws {
        let harness = try ToolHarness(Reference.simple("disk { resync-after nobody; }"))
        let result = harness.admin("-d", "attach", "r0")
        #expect(result.code == 0)
        #expect(result.error.hasSuffix("resource 'nobody' mentioned in 'resync-after' option is not known.\n"))
    }

    @Test func devices() throws {
        func device(_ text: String) throws -> (String, UInt32) {
            let text = Reference.simple().replacing("device minor 0;", with: "device \(text);")
            let item = try #require(
                try ConfigParser.parse(text: text, name: "f").resources[0].hosts[0].volumes[0].device)
            return (item.path, item.minor)
        }
        #expect(try device("drbd7") == ("/dev/drbd7", 7))
        #expect(try device("/dev/drbd7 minor 7") == ("/dev/drbd7", 7))
        #expect(try device("minor 7") == ("/dev/drbd7", 7))
        #expect(try device("\"/dev/drbd_data\" minor 3") == ("/dev/drbd_data", 3))
        #expect(try device("/dev/nbd4") == ("/dev/nbd4", 4))
        #expect(try device("unix:/run/x.sock minor 2") == ("unix:/run/x.sock", 2))
        #expect(try device("/dev/replica/data minor 1") == ("/dev/replica/data", 1))
        #expect(throws: ConfigError.self) { try device("/dev/drbd0 minor 1") }
        #expect(throws: ConfigError.self) { try device("/dev/sda minor 1") }
        #expect(throws: ConfigError.self) { try device("unix:/x") }
    }

    @Test func addresses() throws {
        func address(_ text: String) throws -> String {
            let text = Reference.simple().replacing("10.0.0.1:7788", with: text)
            return try #require(
                try ConfigParser.parse(text: text, name: "f").resources[0].hosts[0].address
            ).address.description
        }
        #expect(try address("ipv4 10.1.1.1:7777") == "ipv4:10.1.1.1:7777")
        #expect(try address("ipv6 [fd00::1]:7788") == "ipv6:[fd00::1]:7788")
        #expect(try address("ipv6 [fe80::1%eth0]:7788") == "ipv6:[fe80::1%eth0]:7788")
        #expect(throws: ConfigError.self) { try address("ipv6 fd00::1:7788") }
        #expect(throws: ConfigError.self) { try address("ipv6 [hello]:7788") }
        #expect(throws: ConfigError.self) { try address("300.1.1.1:7788") }
        #expect(throws: ConfigError.self) { try address("10.1.1.1:0") }
        #expect(throws: ConfigError.self) { try address("10.1.1.1") }
    }

    @Test func innermostSettingWins() throws {
        let text = """
            common { protocol A; disk { on-io-error pass_on; resync-rate 1M; } net { timeout 50; } }
            resource r0 {
              disk { resync-rate 2M; }
              net { timeout 60; }
              volume 0 { device minor 0; disk /dev/a; meta-disk internal; disk { resync-rate 3M; } }
              volume 1 { device minor 1; disk /dev/b; flexible-meta-disk /dev/m; }
              on alice { address 10.0.0.1:7788; }
              on bob { address 10.0.0.2:7788; volume 1 { disk { resync-rate 4M; } } }
            }
            """
        let tree = try ConfigParser.parse(text: text, name: "f")
        let alice = try #require(tree.resources(on: NodeIdentity(name: "alice")).first)
        let bob = try #require(tree.resources(on: NodeIdentity(name: "bob")).first)
        let rates = try [alice, bob].map { node in
            try node.volumes.map { try node.diskOptions(of: $0, among: []).resyncRate }
        }
        #expect(rates == [[3072, 2048], [3072, 4096]])
        #expect(try alice.diskOptions(of: alice.volumes[0], among: []).onIOError == .passOn)
        #expect(try alice.netOptions().timeout == 60)
        #expect(try alice.netOptions().replicationProtocol == .a)
        #expect(alice.volumes[1].index == .flexible && alice.volumes[1].metaDisk == "/dev/m")
    }

    @Test func namesInOptionsAreResolved() throws {
        let text =
            Reference.simple("net { after-sb-0pri discard-node-bob; } disk { resync-after r1; }")
            + Reference.simple("disk { resync-after r2/0; }", name: "r1", minor: 1, port: 7789)
            + Reference.simple("syncer { after minor-0; }", name: "r2", minor: 2, port: 7790)
        let tree = try ConfigParser.parse(text: text, name: "f")
        let here = tree.resources(on: NodeIdentity(name: "alice"))
        let there = tree.resources(on: NodeIdentity(name: "bob"))
        #expect(try here[0].netOptions().afterSplitBrain0Primaries == .discardRemote)
        #expect(try there[0].netOptions().afterSplitBrain0Primaries == .discardLocal)
        #expect(try here.map { try $0.diskOptions(of: $0.volumes[0], among: here).resyncAfter } == [1, 2, 0])
        #expect(error(Reference.simple("net { after-sb-0pri discard-node-zed; }")) != nil)
    }

    @Test func oldSpellings() throws {
        let tree = try ConfigParser.parse(
            text: Reference.simple(
                """
                disk { no-disk-flushes; no-md-flushes; use-bmbv; } net { no-tcp-cork; allow-two-primaries; }
                syncer { verify-alg sha1; use-rle; cpu-mask 3; on-no-data-accessible suspend-io; hold-off-threshold 1; }
                """), name: "f")
        let resource = try #require(tree.resources(on: NodeIdentity(name: "alice")).first)
        let disk = try resource.diskOptions(of: resource.volumes[0], among: [])
        #expect(!disk.diskFlushes && !disk.mdFlushes)
        let net = try resource.netOptions()
        #expect(!net.tcpCork && net.allowTwoPrimaries && net.verifyAlgorithm == "sha1" && net.useRLE)
        #expect(try resource.resourceOptions().onNoDataAccessible == .suspendIO)
    }

    @Test func laterValueWinsWithAWarning() throws {
        let tree = try ConfigParser.parse(text: Reference.simple("net { timeout 50;\n timeout 55; }"), name: "f")
        #expect(tree.resources[0].sections.net["timeout"]?.value == "55")
        #expect(tree.warnings.map(\.text) == ["f:3: timeout was set before at f:2; the last one counts."])
    }

    @Test func stackedResources() throws {
        let text =
            Reference.simple()
                + """
                resource up {
                  stacked-on-top-of r0 { device /dev/drbd10; address 10.9.9.1:7788; }
                  on third { device /dev/drbd10; disk /dev/z; address 10.9.9.2:7788; meta-disk internal; }
                }
                """
        let harness = try ToolHarness(text)
        #expect(harness.admin("sh-resources").output == "r0\n")
        #expect(harness.admin("-S", "sh-resources").output == "up\n")
        #expect(harness.admin("-S", "sh-lr-of", "up").output == "r0\n")
        #expect(harness.admin("-S", "sh-ll-dev", "up").output == "/dev/drbd0\n")
        #expect(
            harness.admin("role", "up").error
                == "'up' is a stacked resource, and not available in normal mode.\n")
        #expect(harness.admin("sh-lr-of", "r0").error == "sh-lower-resource only available in stacked mode\n")
        harness.node = "third"
        #expect(harness.admin("sh-resources").output == "up\n")
    }

    @Test func floatingHosts() throws {
        let text = """
            resource r0 {
              device minor 0; disk /dev/a; meta-disk internal;
              floating 10.0.0.1:7788;
              floating 10.0.0.2:7788 { disk /dev/b; }
            }
            """
        let harness = try ToolHarness(text)
        #expect(harness.admin("sh-ll-dev", "r0").output == "/dev/a\n")
        harness.localAddresses = ["10.0.0.2"]
        #expect(harness.admin("sh-ll-dev", "r0").output == "/dev/b\n")
    }
}
