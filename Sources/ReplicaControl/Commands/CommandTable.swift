import ReplicaProto

/// What a command of `drbdadm`'s grammar works on (`control.md` 2.3).
enum CommandScope: Equatable, Sendable {
    /// Needs no names and ignores them.
    case none
    /// Whole resources; no names mean all.
    case optionalResources
    case resources
    /// Each volume of what is named.
    case volumes
    /// One volume; its number may be left out where the resource has only one.
    case oneVolume
}

/// How long one low-level call of a command may take (`cmd-timeout-short` and its like).
enum TimeClass: Equatable, Sendable { case short, medium, long, endless }

/// Where a command stands in the list that `help` prints.
enum CommandGroup: Equatable, Sendable { case usual, script, handler, expert, ours }

/// One command of the administration tool.
struct CommandSpec: Equatable, Sendable {
    var name: String
    var scope: CommandScope
    var checksAddress = false
    var time: TimeClass = .short
    var group: CommandGroup = .usual
    var options: [OptionShape] = []
    /// Single letters for some of the options.
    var letters: [(letter: Character, option: String)] = []

    static func == (left: CommandSpec, right: CommandSpec) -> Bool { left.name == right.name }
}

enum CommandTable {
    static func command(named name: String) -> CommandSpec? {
        let canonical = aliases.first { $0.alias == name }?.name ?? name
        return all.first { $0.name == canonical }
    }

    static let aliases: [(alias: String, name: String)] = [
        ("state", "role"), ("sh-new-minor", "new-minor"), ("outdate-peer", "fence-peer"),
    ]

    static let force = OptionShape("force", .flag, .must)
    private static let overwrite = OptionShape("overwrite-data-of-peer", .flag, .must)
    private static let disk = OptionTable.disk.map(\.shape)
    private static let net = OptionTable.net.map(\.shape)
    private static let resource = OptionTable.resource.map(\.shape)
    private static let setDefaults = OptionShape("set-defaults", .flag, .must)
    private static let connectOnce = [
        OptionShape("discard-my-data", .flag, .must), OptionShape("tentative", .flag, .must),
        // The name of 8.3.
        OptionShape("dry-run", .flag, .must),
    ]
    private static let statusOptions = [
        OptionShape("verbose", .flag, .must), OptionShape("statistics", .flag, .must),
        OptionShape("json", .flag, .must), OptionShape("xml", .flag, .must),
    ]
    static let metadataOptions = [
        OptionShape("force", .flag, .must), OptionShape("peer-max-bio-size", .number(0...(1 << 20), .one), .must),
        OptionShape("al-stripes", .number(1...1024, .one), .must),
        OptionShape("al-stripe-size-kB", .number(4...1_048_576, .one), .must),
        OptionShape("ignore-sanity-checks", .flag, .must),
    ]
    private static let sectors = OptionUnit.sectors
    private static let anySectors: OptionKind = .number(0...(1 << 41), .sectors)
    static let waitOptions = [
        OptionShape("wfc-timeout", .number(0...300_000, .one), .must),
        OptionShape("degr-wfc-timeout", .number(0...300_000, .one), .must),
        OptionShape("outdated-wfc-timeout", .number(0...300_000, .one), .must),
        OptionShape("wait-after-sb", .flag, .must),
    ]
    private static let waitLetters: [(letter: Character, option: String)] = [
        ("t", "wfc-timeout"), ("d", "degr-wfc-timeout"), ("o", "outdated-wfc-timeout"), ("w", "wait-after-sb"),
    ]

    static let all: [CommandSpec] = [
        CommandSpec(name: "attach", scope: .volumes, time: .medium, options: disk),
        CommandSpec(name: "disk-options", scope: .volumes, options: [setDefaults] + disk),
        CommandSpec(name: "connect", scope: .resources, checksAddress: true, options: connectOnce + net),
        CommandSpec(name: "disconnect", scope: .resources, options: [force]),
        CommandSpec(name: "resource-options", scope: .resources, options: [setDefaults] + resource),
        CommandSpec(
            name: "primary", scope: .volumes, time: .medium, options: [force, overwrite],
            letters: [("o", "overwrite-data-of-peer")]),
        CommandSpec(name: "invalidate", scope: .volumes),
        CommandSpec(name: "outdate", scope: .volumes),
        CommandSpec(
            name: "verify", scope: .volumes, checksAddress: true,
            options: [OptionShape("start", anySectors, .must), OptionShape("stop", anySectors, .must)]),
        CommandSpec(name: "resume-sync", scope: .volumes, checksAddress: true),
        CommandSpec(name: "adjust-with-progress", scope: .resources, checksAddress: true, time: .medium),
        CommandSpec(
            name: "wait-con-int", scope: .none, checksAddress: true, time: .endless, options: waitOptions,
            letters: waitLetters),
        CommandSpec(name: "cstate", scope: .volumes),
        CommandSpec(name: "dump", scope: .optionalResources),
        CommandSpec(name: "create-md", scope: .volumes, time: .long, options: metadataOptions),
        CommandSpec(name: "get-gi", scope: .volumes),
        CommandSpec(name: "wipe-md", scope: .volumes, time: .long, options: [force]),
        CommandSpec(name: "status", scope: .optionalResources, options: statusOptions),
        CommandSpec(name: "detach", scope: .volumes, time: .medium, options: [force]),
        CommandSpec(name: "net-options", scope: .resources, checksAddress: true, options: [setDefaults] + net),
        CommandSpec(name: "up", scope: .resources, checksAddress: true, time: .medium),
        CommandSpec(name: "down", scope: .resources, time: .medium),
        CommandSpec(name: "secondary", scope: .volumes, time: .medium),
        CommandSpec(name: "invalidate-remote", scope: .volumes, checksAddress: true, time: .medium),
        CommandSpec(
            name: "resize", scope: .volumes, checksAddress: true,
            options: [
                OptionShape("size", anySectors, .must), OptionShape("assume-peer-has-space", .flag, .must),
                OptionShape("assume-clean", .flag, .must),
                OptionShape("al-stripes", .number(1...1024, .one), .must),
                OptionShape("al-stripe-size", .number(4096...(1 << 30), .one), .must),
            ]),
        CommandSpec(name: "pause-sync", scope: .volumes, checksAddress: true),
        CommandSpec(name: "adjust", scope: .resources, checksAddress: true, time: .medium),
        CommandSpec(
            name: "wait-connect", scope: .volumes, checksAddress: true, time: .endless, options: waitOptions,
            letters: waitLetters),
        CommandSpec(
            name: "wait-sync", scope: .volumes, time: .endless, group: .ours, options: waitOptions,
            letters: waitLetters),
        CommandSpec(name: "role", scope: .volumes),
        CommandSpec(name: "dstate", scope: .volumes),
        CommandSpec(name: "dump-xml", scope: .optionalResources),
        CommandSpec(name: "show-gi", scope: .volumes),
        CommandSpec(name: "dump-md", scope: .volumes, options: [force]),
        CommandSpec(name: "apply-al", scope: .volumes, time: .long),
        CommandSpec(name: "hidden-commands", scope: .none),

        CommandSpec(name: "sh-nop", scope: .none, group: .script),
        CommandSpec(name: "sh-resources", scope: .none, group: .script),
        CommandSpec(name: "sh-resource", scope: .volumes, group: .script),
        CommandSpec(name: "sh-mod-parms", scope: .none, group: .script),
        CommandSpec(name: "sh-dev", scope: .volumes, group: .script),
        CommandSpec(name: "sh-udev", scope: .volumes, group: .script),
        CommandSpec(name: "sh-minor", scope: .volumes, group: .script),
        CommandSpec(name: "sh-ll-dev", scope: .volumes, group: .script),
        CommandSpec(name: "sh-md-dev", scope: .volumes, group: .script),
        CommandSpec(name: "sh-md-idx", scope: .volumes, group: .script),
        CommandSpec(name: "sh-ip", scope: .volumes, group: .script),
        CommandSpec(name: "sh-lr-of", scope: .resources, group: .script),
        CommandSpec(name: "sh-b-pri", scope: .resources, time: .medium, group: .script),
        CommandSpec(name: "sh-status", scope: .optionalResources, group: .script),
        CommandSpec(name: "sh-manual", scope: .none, group: .script),
        CommandSpec(name: "proxy-up", scope: .resources, group: .script),
        CommandSpec(name: "proxy-down", scope: .resources, group: .script),
        CommandSpec(name: "new-resource", scope: .resources, group: .script, options: resource),

        handler("before-resync-target"), handler("after-resync-target"), handler("before-resync-source"),
        handler("pri-on-incon-degr"), handler("pri-lost-after-sb"), handler("fence-peer"), handler("unfence-peer"),
        handler("local-io-error"), handler("pri-lost"), handler("initial-split-brain"), handler("split-brain"),
        handler("out-of-sync"),

        CommandSpec(name: "new-minor", scope: .volumes, group: .expert),
        CommandSpec(name: "suspend-io", scope: .volumes, group: .expert),
        CommandSpec(name: "resume-io", scope: .volumes, group: .expert),
        CommandSpec(name: "set-gi", scope: .oneVolume, group: .expert, options: [force]),
        CommandSpec(
            name: "new-current-uuid", scope: .oneVolume, group: .expert,
            options: [OptionShape("clear-bitmap", .flag, .must)], letters: [("c", "clear-bitmap")]),
        CommandSpec(name: "check-resize", scope: .volumes, group: .expert),

        CommandSpec(name: "syncer", scope: .volumes, checksAddress: true, group: .ours),
        CommandSpec(
            name: "events2", scope: .optionalResources, time: .endless, group: .ours,
            options: ["now", "statistics", "timestamps"].map { OptionShape($0, .flag, .must) }),
        CommandSpec(
            name: "show", scope: .optionalResources, group: .ours,
            options: [OptionShape("show-defaults", .flag, .must)]),
        CommandSpec(name: "proc", scope: .none, group: .ours),
        CommandSpec(
            name: "metrics", scope: .optionalResources, group: .ours,
            options: [OptionShape("file", .text(maximum: 4096), .must)]),
        CommandSpec(name: "service-status", scope: .none, group: .ours),
        CommandSpec(
            name: "trace", scope: .resources, time: .endless, group: .ours,
            options: [
                OptionShape("pcap", .text(maximum: 4096), .must),
                OptionShape("count", .number(1...UInt64(Int64.max), .one), .must),
            ]),
        CommandSpec(
            name: "doctor", scope: .optionalResources, group: .ours, options: [OptionShape("json", .flag, .must)]),
        CommandSpec(name: "recording", scope: .resources, group: .ours),
        CommandSpec(name: "upgrade", scope: .resources, time: .medium, group: .ours, options: [force]),
        CommandSpec(name: "decode", scope: .none, group: .ours),
    ]

    private static func handler(_ name: String) -> CommandSpec {
        CommandSpec(name: name, scope: .volumes, time: .long, group: .handler)
    }
}
