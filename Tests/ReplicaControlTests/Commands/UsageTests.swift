import Testing

@testable import ReplicaControl

/// Usage errors, help and version (`control.md` 2.1, 2.9, item 37).
struct UsageTests {
    @Test func item37UsageErrors() throws {
        let harness = try ToolHarness(Reference.simple())
        let nothing = harness.admin()
        #expect(nothing.code == 1 && nothing.error == "No command specified\n")
        #expect(nothing.output.hasPrefix("\nUSAGE: drbdadm COMMAND [OPTION...] {all|RESOURCE...}\n"))
        let unknown = harness.admin("frobnicate", "r0")
        #expect(unknown.code == 1 && unknown.error == "drbdadm: Unknown command 'frobnicate'\n")
        let nameless = harness.admin("up")
        #expect(nameless.code == 1 && nameless.error == "No resource names specified\n")
        #expect(nameless.output.hasPrefix("\nUSAGE: drbdadm up [OPTION...] {all|RESOURCE...}\n"))
        let missing = harness.admin("role", "nosuch")
        #expect(missing.code == 1 && missing.error == "'nosuch' not defined in your config (for this host).\n")
        let option = harness.admin("--bogus", "up", "r0")
        #expect(option.code == 1 && option.error == "drbdadm: unrecognized option '--bogus'\ntry 'drbdadm help'\n")
        harness.persona = .v838
        #expect(harness.admin("--bogus", "up", "r0").code == 20)
    }

    @Test func scopes() throws {
        let harness = try ToolHarness(Reference.twoVolumes)
        let whole = harness.admin("up", "r0/0")
        #expect(whole.code == 1)
        #expect(whole.error == "up operates on whole resources, but you specified a specific volume!\n")
        let one = harness.admin("new-current-uuid", "r0")
        #expect(one.code == 1)
        #expect(one.error.hasPrefix("new-current-uuid requires a specific volume id, but none is specified.\nTry '"))
        #expect(harness.admin("-d", "new-current-uuid", "r0/1").output == "drbdsetup new-current-uuid 1\n")
        #expect(harness.admin("role", "r0/7").code == 1)
    }

    @Test func lowLevelOptionErrors() throws {
        let harness = try ToolHarness(Reference.simple())
        let value = harness.admin("connect", "--timeout=9999", "r0")
        #expect(value.code == 20)
        #expect(value.error == "drbdsetup: Option --timeout: timeout 9999 => 9999 out of range [1..600].\n")
        #expect(harness.admin("--", "--bogus", "connect", "r0").code == 20)
        #expect(harness.admin("primary", "--force=maybe", "r0").code == 20)
    }

    /// The recorded list of commands, two in a row.
    @Test func helpListsCommandsAsRecorded() throws {
        let harness = try ToolHarness()
        let help = harness.admin("help")
        #expect(help.code == 0 && help.error == "")
        #expect(
            help.output.hasPrefix(
                """

                USAGE: drbdadm COMMAND [OPTION...] {all|RESOURCE...}

                GENERAL OPTIONS:
                  --stacked, -S
                  --dry-run, -d
                  --verbose, -v
                  --config-file=..., -c ...
                  --config-to-test=..., -t ...
                  --drbdsetup=..., -s ...
                  --drbdmeta=..., -m ...
                  --drbd-proxy-ctl=..., -p ...
                  --sh-varname=..., -n ...
                  --peer=..., -P ...
                  --version, -V
                  --setup-option=..., -W ...
                  --help, -h

                COMMANDS:
                 attach                             status\("                             ")
                 disk-options                       detach\("                             ")
                 connect                            net-options\("                        ")

                """))
        #expect(help.output.contains(" hidden-commands                    \n\nVersion: 8.4.11 (api:1)\n"))
    }

    @Test func everyCommandHasHelp() throws {
        let harness = try ToolHarness()
        for command in CommandTable.all {
            let help = harness.admin("help", command.name)
            #expect(help.code == 0, "\(command.name)")
            #expect(help.output.contains("USAGE: drbdadm \(command.name) "))
            #expect(help.output.contains("\nOPTIONS FOR \(command.name):\n") == !command.options.isEmpty)
        }
        let primary = harness.admin("help", "primary").output
        #expect(primary.contains("\nOPTIONS FOR primary:\n  --force\n  --overwrite-data-of-peer\n\n"))
        #expect(harness.admin("help", "connect").output.contains("\n  --max-buffers=...\n"))
        #expect(harness.admin("help", "bogus").code == 1)
        #expect(harness.admin("--help").code == 0)
    }

    @Test func hiddenCommandsAreAllThere() throws {
        let text = try ToolHarness().admin("hidden-commands").output
        let words = text.split { $0 == " " || $0 == "\n" }
        for command in CommandTable.all {
            switch command.group {
            case .script, .handler, .expert: #expect(words.contains(Substring(command.name)))
            case .usual, .ours: break
            }
        }
    }

    @Test func version() throws {
        let harness = try ToolHarness()
        let result = harness.admin("--version")
        #expect(result.code == 0)
        #expect(result.lines.count == 5)
        #expect(result.lines[0].hasPrefix("DRBDADM_BUILDTAG=GIT-hash:\\ "))
        #expect(
            Array(result.lines[1...]) == [
                "DRBDADM_API_VERSION=1", "DRBD_KERNEL_VERSION_CODE=0x08040b", "DRBDADM_VERSION_CODE=0x08040b",
                "DRBDADM_VERSION=8.4.11",
            ])
        #expect(!harness.admin("--product-version").output.contains("8.4"))
        harness.persona = .v838
        #expect(harness.admin("-V").lines[1] == "DRBDADM_API_VERSION=88")
    }

    @Test func setupUsage() throws {
        let harness = try ToolHarness()
        #expect(harness.run("drbdsetup", []).code == 20)
        #expect(harness.run("drbdsetup", ["bogus"]).code == 20)
        #expect(harness.run("drbdsetup", ["primary"]).code == 20)
        let device = harness.run("drbdsetup", ["primary", "ipv4:10.77.0.11:7788"])
        #expect(device.code == 20)
        #expect(device.error == "Cannot determine minor device number of device 'ipv4:10.77.0.11:7788'\n")
        #expect(harness.run("drbdsetup", ["status"]).code == 0)
        #expect(harness.run("drbdsetup", ["status", "r0"]).error == "r0: No such resource\n")
        #expect(harness.run("drbdsetup", ["events2", "--now"]).output == "exists -\n")
        #expect(harness.run("drbdsetup", ["down", "r0"]).code == 0)
        for words in [["role", "0"], ["/dev/drbd0", "cstate"], ["primary", "0"], ["minor-0", "dstate"]] {
            let result = harness.run("drbdsetup", words)
            #expect(result.code == 10)
            #expect(
                result.error
                    == "0: Failure: (127) Device minor not allocated\nadditional info from kernel:\nunknown minor\n")
        }
    }
}
