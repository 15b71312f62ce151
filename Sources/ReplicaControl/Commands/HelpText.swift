import ReplicaProto

/// The texts of `help`, `help COMMAND` and `hidden-commands`; bash completion parses their layout (`control.md` 2.1).
enum HelpText {
    private static let generalOptions = """
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

        """

    /// The order in which the usual commands are listed, two in a row.
    private static let usual = [
        "attach", "status", "disk-options", "detach", "connect", "net-options", "disconnect", "up", "resource-options",
        "down", "primary", "secondary", "invalidate", "invalidate-remote", "outdate", "resize", "verify", "pause-sync",
        "resume-sync", "adjust", "adjust-with-progress", "wait-connect", "wait-con-int", "role", "cstate", "dstate",
        "dump", "dump-xml", "create-md", "show-gi", "get-gi", "dump-md", "wipe-md", "apply-al", "hidden-commands",
    ]
    /// What our own commands do, and on what.
    private static let ownCommands: [(name: String, operand: String, summary: String)] = [
        ("wait-sync", "{all|RESOURCE...}", "waits until nothing is being synchronised, with a bar on a terminal"),
        ("events2", "[RESOURCE...]", "prints what changes, as drbdsetup does"),
        ("show", "[RESOURCE...]", "prints the options that are in force"),
        ("proc", "", "prints the status text"),
        ("trace", "RESOURCE", "prints each packet that passes, or writes a capture (--pcap=FILE); --count=N ends it"),
        ("recording", "{all|RESOURCE...}", "has the daemon write its last events and decisions, for replsim replay"),
        ("decode", "FILE...", "explains captures, superblocks and activity logs"),
    ]

    static func usage(command: CommandSpec?, _ environment: ToolEnvironment) -> String {
        let program = environment.programName
        let own = command.flatMap { command in ownCommands.first { $0.name == command.name } }
        let operand = own?.operand ?? "{all|RESOURCE...}"
        var text = "\nUSAGE: \(program) \(command?.name ?? "COMMAND") [OPTION...] \(operand)\n\n"
        if let own { text += "\(own.name) \(own.summary).\n\n" }
        if environment.kind == .replctl && command == nil {
            text += "       \(program) setup COMMAND ...\n       \(program) meta ...\n\n"
        }
        text += generalOptions
        if let command {
            if !command.options.isEmpty {
                text += "\nOPTIONS FOR \(command.name):\n"
                for option in command.options {
                    text += "  --\(option.name)\(option.kind == .flag ? "" : "=...")\n"
                }
            }
        } else {
            text += "\nCOMMANDS:\n" + table(environment.kind == .replctl ? usual + ownCommands.map(\.name) : usual)
        }
        let persona = environment.persona
        return text + "\nVersion: \(persona.version) (api:\(persona.api))\nGIT-hash: \(persona.gitHash)\n"
    }

    static var hiddenCommands: String {
        func names(_ group: CommandGroup) -> [String] { CommandTable.all.filter { $0.group == group }.map(\.name) }
        return "\nCommands for scripts:\n\n" + table(names(.script))
            + "\nHandlers, run by the daemon and by hand for a test:\n\n" + table(names(.handler))
            + "\nCommands for experts:\n\n" + table(["sh-new-minor"] + names(.expert))
    }

    private static func table(_ names: [String]) -> String {
        var text = ""
        for index in stride(from: 0, to: names.count, by: 2) {
            text += " " + padded(names[index])
            text += index + 1 < names.count ? padded(names[index + 1]) + "\n" : "\n"
        }
        return text
    }

    private static func padded(_ text: String) -> String {
        text + String(repeating: " ", count: max(0, 35 - text.utf8.count))
    }
}
