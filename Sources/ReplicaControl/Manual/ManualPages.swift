import ReplicaProto

/// What `sh-manual` prints: the manual's pages and the completions for bash, all from the tables that the tools work by.
enum Manual {
    static let pages = ["replctl.8", "replicad.8", "replica.conf.5", "completion"]

    static func page(_ name: String) -> String? {
        switch name {
        case "replctl.8": replctl
        case "replicad.8": replicad
        case "replica.conf.5": configuration
        case "completion": BashCompletion.text
        default: nil
        }
    }

    // MARK: replctl(8)

    private static var replctl: String {
        var page = Roff(title: "replctl", section: 8, summary: "administer replicated block devices")
        page.section("SYNOPSIS")
        page.paragraph("`replctl` [OPTION...] COMMAND [OPTION...] {`all`|RESOURCE[/VOLUME]...}")
        page.paragraph("`replctl` [OPTION...] `--` LOW-LEVEL-OPTION... COMMAND {`all`|RESOURCE[/VOLUME]...}")
        page.paragraph("`replctl setup` COMMAND ...")
        page.paragraph("`replctl meta` ...")
        page.section("DESCRIPTION")
        page.paragraph(
            "`replctl` reads the configuration, `replica.conf`(5), and has the resources' daemons, `replicad`(8), do what it says. "
                + "It speaks the language of `drbdadm`, in the forms of DRBD 8.3 and 8.4; started through a link of the name "
                + "`drbdadm`, `drbdsetup` or `drbdmeta` it is that tool. `replctl setup` and `replctl meta` are the last two "
                + "without a link.")
        page.paragraph(
            "A resource is named as in the configuration. A volume of it is RESOURCE/NUMBER or `minor-`NUMBER. "
                + "`all` is every resource that has a section for this host.")
        page.section("OPTIONS")
        for option in Invocation.general {
            let letter = option.letter == "\0" ? "" : "`-\(option.letter)`\(option.takesValue ? " VALUE" : ""), "
            let text = CommandDescriptions.general.first { $0.name == option.name }?.text ?? ""
            page.item("\(letter)`--\(option.name)`\(option.takesValue ? "=VALUE" : "")", text)
        }
        page.section("COMMANDS")
        commands(of: .usual, in: &page)
        page.section("COMMANDS OF REPLICA'S OWN")
        commands(of: .ours, in: &page)
        page.section("COMMANDS FOR SCRIPTS")
        commands(of: .script, in: &page)
        page.section("HANDLERS")
        page.paragraph(
            "The name of a handler runs what the configuration says of it, as the daemon would: "
                + CommandTable.all.filter { $0.group == .handler }.map { "`\($0.name)`" }.joined(separator: ", ") + ".")
        page.section("COMMANDS FOR EXPERTS")
        commands(of: .expert, in: &page)
        page.section("EXIT STATUS")
        for (code, text) in [
            ("0", "Done, or there was nothing to do."),
            ("1", "The command line is wrong, a resource is unknown, or a part of several steps failed."),
            ("3, 4, 6, 7", "What a handler said."),
            ("5", "A wait ran into its timeout."),
            ("10", "The configuration is wrong, or the daemon refused a setting."),
            ("11", "A change of state was refused, for example because a client has the device open."),
            ("16", "There is no local disk."),
            ("17", "There is no good data, or the peer is Primary."),
            ("20", "The daemon can't be started or reached, or did not answer in time."),
            ("doctor", "0: nothing to do; 1: something has to be done; 2: data is at risk, or there is no service."),
        ] { page.item(code, text) }
        page.section("ENVIRONMENT")
        for (name, text) in environment { page.item("`\(name)`", text) }
        page.section("FILES")
        for (index, path) in ConfigFiles.searchOrder.enumerated() {
            page.item("`\(path)`", index == 0 ? "The configuration; the first one that is there counts." : "The same.")
        }
        page.item(
            "`/run/replica/proc/drbd`", "The status text of all resources, in the form of `/proc/drbd`; also `replctl proc`."
        )
        page.item("`/run/replica/`RESOURCE`.log`", "What the daemon has to say.")
        page.item("`/var/lib/replica`", "The last known sizes of disks, for `check-resize`.")
        page.section("SEE ALSO")
        page.paragraph("`replica.conf`(5), `replicad`(8)")
        return page.text
    }

    private static func operand(of command: CommandSpec) -> String {
        if let own = HelpText.operand(of: command.name) { return own }
        return switch command.scope {
        case .none: ""
        case .optionalResources: "[{`all`|RESOURCE...}]"
        case .resources: "{`all`|RESOURCE...}"
        case .volumes: "{`all`|RESOURCE[/VOLUME]...}"
        case .oneVolume: "RESOURCE[/VOLUME]"
        }
    }

    private static func commands(of group: CommandGroup, in page: inout Roff) {
        for command in CommandTable.all.filter({ $0.group == group }).sorted(by: { $0.name < $1.name }) {
            let others = CommandTable.aliases.filter { $0.name == command.name }.map { ", `\($0.alias)`" }.joined()
            var text = CommandDescriptions.text(of: command.name) ?? ""
            for (section, names) in [
                ("disk", OptionTable.disk.map(\.name)), ("net", OptionTable.net.map(\.name)),
                ("options", OptionTable.resource.map(\.name)),
            ] where names.allSatisfy({ name in command.options.contains { $0.name == name } }) {
                text += " Takes the options of section `\(section)`, each as `--`NAME`=`VALUE, for this time."
            }
            page.item("`\(command.name)`\(others) \(operand(of: command))", text)
            page.items(
                command.options.filter { !isConfigured($0, command) }.map { option in
                    let letter = command.letters.first { $0.option == option.name }.map { "`-\($0.letter)`, " } ?? ""
                    let value = option.kind == .flag ? "" : "=VALUE"
                    let text = CommandDescriptions.text(of: option.name, in: command.name) ?? ""
                    return ("\(letter)`--\(option.name)`\(value)", text)
                })
        }
    }

    /// Whether an option is a section's, and is explained there.
    static func isConfigured(_ option: OptionShape, _ command: CommandSpec) -> Bool {
        switch command.name {
        case "attach", "disk-options": OptionTable.disk.contains { $0.shape == option }
        case "connect", "net-options": OptionTable.net.contains { $0.shape == option }
        case "new-resource", "resource-options": OptionTable.resource.contains { $0.shape == option }
        default: false
        }
    }

    private static let environment: [(name: String, text: String)] = [
        ("REPLICA_NODE", "The name of this host, instead of that of `uname -n`; also `__DRBD_NODE__`."),
        ("REPLICA_RUN_DIR", "The directory of sockets, logs and status, instead of `/run/replica`."),
        ("REPLICA_LIB_DIR", "The directory of last known sizes, instead of `/var/lib/replica`."),
        ("REPLICA_DAEMON", "The daemon's program, instead of the `replicad` beside this program."),
        (
            "REPLICA_PERSONA",
            "The version of DRBD whose texts are printed: `\(Persona.v8411.version)`, which is the default, or an older one. "
                + "Behaviour does not change."
        ),
    ]

    // MARK: replicad(8)

    private static var replicad: String {
        var page = Roff(title: "replicad", section: 8, summary: "serve a replicated block device")
        page.section("SYNOPSIS")
        page.paragraph("`replicad` [`-f`] [`--settings` FILE] [`--log` FILE] RESOURCE")
        page.paragraph("`replicad` `--check` [`--settings` FILE] [`--take-over` FILE] RESOURCE")
        page.section("DESCRIPTION")
        page.paragraph(
            "One `replicad` serves one resource: its clients, its disks, its peer. `replctl`(8) starts it, tells it what the "
                + "configuration says, and ends it; there is hardly a reason to start one by hand. Without `-f` it leaves the "
                + "terminal when it accepts commands. A second process, which does nothing but wait, notices when the daemon dies "
                + "without a word, says so in the log, and takes its lines out of the status text.")
        page.paragraph(
            "The daemon locks its memory (`LimitMEMLOCK=`, `ulimit -l`), asks the kernel not to wait for it when memory is short, and "
                + "keeps out of the way of the kernel's out-of-memory killer. What it may not do, it does without, with one warning."
        )
        page.section("OPTIONS")
        page.item("`-f`, `--foreground`", "Stays in the foreground, and logs to standard error.")
        page.item("`--settings` FILE", "Reads what `replctl` left there; otherwise `/run/replica/`RESOURCE`.settings`.")
        page.item("`--log` FILE", "Appends to this file; otherwise to `/run/replica/`RESOURCE`.log`.")
        page.item("`--check`", "Reads the files that it is given, says what is wrong with them, and does nothing else.")
        page.item(
            "`--take-over` FILE",
            "How a daemon starts the program that takes its place in the process, at `replctl upgrade`: FILE says what runs, and "
                + "which descriptors are inherited.")
        page.item("`--version`", "Prints the version.")
        page.item("`-h`, `--help`", "Prints a line of help.")
        page.section("SIGNALS")
        page.item(
            "`SIGTERM`, `SIGINT`",
            "Takes no new clients; those there get the answers to what they have asked, for 10 seconds at most. Then ends as after "
                + "`replctl down`. After 60 seconds (I/O that is held, a disk that hangs) it ends as in a crash.")
        page.item("the same again", "Cuts clients off at once.")
        page.item(
            "`SIGKILL`",
            "Costs nothing that was acknowledged: the next start applies the activity log, and the peer sends what may differ."
        )
        page.section("EXIT STATUS")
        page.item("0", "It ended in good order; without `-f`: the daemon accepts commands.")
        page.item("1", "It could not start, or did not end in good order.")
        page.section("ENVIRONMENT")
        for (name, text) in environment where ["REPLICA_NODE", "REPLICA_RUN_DIR", "REPLICA_PERSONA"].contains(name) {
            page.item("`\(name)`", text)
        }
        page.item("`REPLICA_RECORDED_EVENTS`", "How many events are remembered for `replctl recording`.")
        page.section("FILES")
        page.item("`/run/replica/`RESOURCE`.ctl`", "The socket that `replctl` talks to.")
        page.item("`/run/replica/`RESOURCE`.nbd`", "The socket that NBD clients connect to.")
        page.item("`/run/replica/`RESOURCE`.pid`", "The daemon's process number, locked while it lives.")
        page.item("`/run/replica/`RESOURCE`.hand-over`", "What one program leaves to the next, while that is under way.")
        page.item("`/run/replica/`RESOURCE`.recording.crash`", "What led to a broken invariant, for `replsim replay`.")
        page.section("UNITS")
        page.paragraph(
            "`systemctl enable --now replica@`RESOURCE starts a resource now and at each boot, and starts its daemon again if it "
                + "dies. `replica.target` stands for all that are enabled. `replica-wait.service`, if enabled, waits at boot for "
                + "the peers, as the section `startup` says, and then follows `become-primary-on`; leave it off where a cluster "
                + "manager decides. `systemctl stop` stops, also under a mounted file system; ask `replctl down` first, which "
                + "refuses then. A mount that names its resource is stopped in time:")
        page.example("/dev/drbd0  /srv  ext4  noauto,x-systemd.requires=replica@r0.service  0  0")
        page.section("SEE ALSO")
        page.paragraph("`replica.conf`(5), `replctl`(8), `systemd.unit`(5)")
        return page.text
    }

    // MARK: replica.conf(5)

    private static var configuration: String {
        var page = Roff(title: "replica.conf", section: 5, summary: "configuration of replicated block devices")
        page.section("SYNOPSIS")
        page.paragraph(ConfigFiles.searchOrder.map { "`\($0)`" }.joined(separator: ", "))
        page.section("DESCRIPTION")
        page.paragraph(
            "The first of these files that is there is the configuration. Its language is that of DRBD's `drbd.conf`, in the forms of "
                + "8.3 and 8.4, so a node that has such a file needs no other. Both nodes of a resource have the same text; what "
                + "differs between them stands in sections for each host.")
        page.example(exampleConfiguration)
        page.paragraph(
            "A `#` begins a comment, to the end of the line. Each statement ends with a semicolon. Values with blanks or special "
                + "characters stand in double quotes. A number may have one of the suffixes `K`, `M`, `G` (powers of 1024) and `s` "
                + "(512 bytes). A name alone means yes. `replctl dump` prints a configuration as it was understood, `replctl sh-nop` "
                + "only complains.")
        page.section("SECTIONS")
        for (name, text) in sections { page.item(name, text) }
        page.section("STATEMENTS OF A HOST OR VOLUME")
        for (name, text) in statements { page.item(name, text) }
        page.section("OPTIONS OF GLOBAL")
        options(OptionTable.global, OptionDescriptions.global, in: &page)
        page.section("OPTIONS OF STARTUP")
        page.paragraph(
            "For `wait-connect`, `wait-con-int` and `sh-b-pri`; `replica-wait.service` runs the last two at boot.")
        options(OptionTable.startup, OptionDescriptions.startup, in: &page)
        page.section("OPTIONS OF DISK")
        options(OptionTable.disk, DiskOptions(), OptionDescriptions.disk, in: &page)
        page.section("OPTIONS OF NET")
        options(OptionTable.net, NetOptions(), OptionDescriptions.net, in: &page)
        page.section("OPTIONS OF OPTIONS")
        options(OptionTable.resource, ResourceOptions(), OptionDescriptions.resource, in: &page)
        page.section("HANDLERS")
        page.paragraph(
            "Command lines for `/bin/sh -c`. They find `DRBD_RESOURCE`, `DRBD_VOLUME`, `DRBD_MINOR`, `DRBD_LL_DISK`, `DRBD_PEER`, "
                + "`DRBD_PEERS`, `DRBD_PEER_AF`, `DRBD_PEER_ADDRESS` and `DRBD_CONF` in their environment, and may use `replctl`."
        )
        for name in OptionTable.handlers {
            page.item("`\(name)`", OptionDescriptions.handlers.first { $0.name == name }?.text ?? "")
        }
        page.section("WORDS OF 8.3")
        page.paragraph(
            "`protocol` may stand outside of `net`. Bare "
                + OptionTable.negativeFlags.map { "`\($0.old)`" }.joined(separator: ", ")
                + " turn those options off. The options of a section `syncer` belong to other sections now:")
        for alias in OptionTable.syncer {
            let section =
                switch alias.target {
                case .disk: "disk"
                case .net: "net"
                case .options: "options"
                case .dropped: ""
                }
            page.item(
                "`\(alias.old)`", section.isEmpty ? "Accepted, without effect." : "`\(alias.new)` of section `\(section)`.")
        }
        page.paragraph(
            "A section `proxy` (" + OptionTable.proxy.map { "`\($0.name)`" }.joined(separator: ", ")
                + ", `plugin`) is read and printed; there is no proxy.")
        page.section("SEE ALSO")
        page.paragraph("`replctl`(8), `replicad`(8)")
        return page.text
    }

    private static let exampleConfiguration = """
        resource r0 {
            net  { protocol C; cram-hmac-alg sha256; shared-secret "..."; }
            device    /dev/drbd0;
            disk      /dev/vg/r0;
            meta-disk internal;
            on alice { address 10.0.0.1:7788; }
            on bob   { address 10.0.0.2:7788; }
        }
        """

    private static let sections: [(name: String, text: String)] = [
        ("`global {` ... `}`", "What is true for all resources. Once, in front."),
        ("`common {` ... `}`", "Sections that each resource inherits, option by option, unless it has its own."),
        ("`resource` NAME `{` ... `}`", "One resource."),
        ("`include` \"PATTERN\"`;`", "The files that match, in order; relative to this file's directory."),
        ("`skip` ... `{` ... `}`", "Is left out."),
        ("`on` HOST... `{` ... `}`", "In a resource: what holds for the host whose `uname -n` is one of these names."),
        ("`floating` ADDRESS`:`PORT `{` ... `}`", "In a resource: the same for the host that has this address."),
        (
            "`stacked-on-top-of` NAME `{` ... `}`",
            "In a resource: the host is whichever node has that other resource in use, and its device is the disk."
        ),
        ("`volume` NUMBER `{` ... `}`", "In a resource or host: one of several devices."),
        (
            "`startup {` ... `}`, `disk {` ... `}`, `net {` ... `}`, `options {` ... `}`, `handlers {` ... `}`",
            "In a resource or in `common`: options, see below. `disk` also in a volume."
        ),
    ]

    private static let statements: [(name: String, text: String)] = [
        (
            "`device` {PATH [`minor` NUMBER]|`minor` NUMBER}`;`",
            "The device: `/dev/drbd`NUMBER, `/dev/nbd`NUMBER, any path below `/dev/replica` together with a minor number, or "
                + "`unix:`PATH for an NBD socket only."
        ),
        ("`disk` PATH`;`", "The disk below it: a block device, or a file."),
        (
            "`meta-disk` {`internal`|PATH|PATH`[`NUMBER`]`}`;`",
            "Where the metadata lies: at the disk's end, on a device of its own, or in one of its places of 128 MiB. Also "
                + "`flexible-meta-disk`."
        ),
        (
            "`address` [`ipv4`|`ipv6`] ADDRESS`:`PORT`;`",
            "Where this host listens and its peer connects to. An IPv6 address stands in brackets. One port for each resource."
        ),
    ]

    private static func options<Settings>(
        _ table: [OptionField<Settings>], _ defaults: Settings, _ texts: [OptionDescriptions.Text], in page: inout Roff
    ) {
        for field in table { option(field.shape, field.read(defaults), texts, in: &page) }
    }

    private static func options(_ table: [OptionShape], _ texts: [OptionDescriptions.Text], in page: inout Roff) {
        for shape in table { option(shape, nil, texts, in: &page) }
    }

    private static func option(
        _ shape: OptionShape, _ byDefault: OptionValue?, _ texts: [OptionDescriptions.Text], in page: inout Roff
    ) {
        var text = texts.first { $0.name == shape.name }?.text ?? ""
        let value: String
        var hasDefault = true
        switch shape.kind {
        case .number(let range, let unit), .clampedNumber(let range, let unit):
            value = " NUMBER"
            text += " From \(range.lowerBound) to \(range.upperBound)\(unit.name)."
        case .flag: value = " {`yes`|`no`}"
        case .choice(let choices): value = " {" + choices.map { "`\($0)`" }.joined(separator: "|") + "}"
        case .text:
            value = shape.name == "become-primary-on" ? " HOST..." : " TEXT"
            hasDefault = false
        case .reference:
            value = " RESOURCE[/VOLUME]"
            hasDefault = false
        }
        if hasDefault, let byDefault { text += " By default `\(byDefault.text)`." }
        switch shape.need {
        case .ignored, .dropped: text += " Accepted, without effect here."
        case .refused: text += " Refused."
        case .must, .should: break
        }
        page.item("`\(shape.name)`\(value)`;`", text)
    }
}

extension OptionUnit {
    /// Behind a number in the manual.
    fileprivate var name: String {
        switch self {
        case .one: ""
        case .sectors: " sectors of 512 bytes, which is what a bare number counts"
        case .kibibytes: " KiB, which is what a bare number counts"
        }
    }
}
