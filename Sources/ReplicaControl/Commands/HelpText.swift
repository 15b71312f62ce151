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
    /// Our own commands, and what they work on.
    private static let ownCommands: [(name: String, operand: String)] = [
        ("wait-sync", "{all|RESOURCE...}"), ("events2", "[RESOURCE...]"), ("metrics", "[RESOURCE...]"),
        ("show", "[RESOURCE...]"), ("proc", ""), ("service-status", ""), ("doctor", "[RESOURCE...]"),
        ("trace", "RESOURCE"), ("recording", "{all|RESOURCE...}"), ("decode", "FILE..."),
    ]
    /// What a command works on, where its scope does not say it.
    static func operand(of name: String) -> String? {
        name == "sh-manual" ? "PAGE" : ownCommands.first { $0.name == name }?.operand
    }

    static func usage(command: CommandSpec?, _ environment: ToolEnvironment) -> String {
        let program = environment.programName
        let operand = command.flatMap { HelpText.operand(of: $0.name) } ?? "{all|RESOURCE...}"
        var text = "\nUSAGE: \(program) \(command?.name ?? "COMMAND") [OPTION...] \(operand)\n\n"
        if let command, let sentence = CommandDescriptions.text(of: command.name) {
            text += PlainText.wrapped(sentence) + "\n"
        }
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
