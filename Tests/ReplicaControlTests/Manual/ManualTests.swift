import Foundation
import ReplicaProto
import Testing

@testable import ReplicaControl

/// The manual and the completions say what the tables say, and all of it.
struct ManualTests {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// Where the pages are installed from; `make manual` writes them.
    static let places = [
        "replctl.8": "etc/man/replctl.8", "replicad.8": "etc/man/replicad.8",
        "replica.conf.5": "etc/man/replica.conf.5", "completion": "etc/bash-completion/replctl",
    ]

    @Test("the pages in the repository are those of the tables: make manual", arguments: Manual.pages)
    func pagesAreUpToDate(page: String) throws {
        let place = try #require(Self.places[page])
        let committed = try String(contentsOf: Self.root.appendingPathComponent(place), encoding: .utf8)
        let result = try ToolHarness().run("replctl", ["sh-manual", page])
        #expect(result.code == 0)
        #expect(result.output == committed, "\(place) is out of date")
        // man(7) reads lines; a control line that the generator did not mean would be lost.
        guard page != "completion" else { return }
        let requests = [".\\\"", ".TH ", ".nh", ".ad l", ".SH ", ".SS ", ".PP", ".TP", ".RS", ".RE", ".EX", ".EE"]
        for line in result.lines where line.hasPrefix(".") {
            #expect(requests.contains { line.hasPrefix($0) }, "\(line)")
        }
        #expect(result.lines.allSatisfy { !$0.isEmpty && !$0.contains("`") })
    }

    @Test func unknownPages() throws {
        let harness = try ToolHarness()
        for words in [["sh-manual"], ["sh-manual", "replctl.9"]] {
            let result = harness.run("replctl", words)
            #expect(result.code == 1 && result.output.isEmpty && result.error.contains("replica.conf.5"))
        }
    }

    @Test func everyCommandIsDescribedOnce() {
        #expect(Set(CommandDescriptions.commands.map(\.name)).count == CommandDescriptions.commands.count)
        #expect(Set(CommandDescriptions.commands.map(\.name)) == Set(CommandTable.all.map(\.name)))
        for (name, text) in CommandDescriptions.commands { #expect(isSentence(text), "\(name): \(text)") }
    }

    @Test func everyOptionOfACommandIsDescribed() {
        var used: [String] = []
        for command in CommandTable.all {
            for option in command.options where !Manual.isConfigured(option, command) {
                let text = CommandDescriptions.text(of: option.name, in: command.name)
                #expect(text.map(isSentence) == true, "\(command.name) --\(option.name)")
                used.append(option.name)
            }
        }
        for (command, option, _) in CommandDescriptions.options {
            #expect(used.contains(option), "no command takes --\(option)")
            guard let command else { continue }
            #expect(
                CommandTable.command(named: command)?.options.contains { $0.name == option } == true, "\(command) \(option)")
        }
        #expect(CommandDescriptions.general.map(\.name) == Invocation.general.map(\.name))
    }

    /// The names of a table and of its descriptions, in one order.
    static let sections: [(section: String, names: [String], texts: [OptionDescriptions.Text])] = [
        ("global", OptionTable.global.map(\.name), OptionDescriptions.global),
        ("startup", OptionTable.startup.map(\.name), OptionDescriptions.startup),
        ("disk", OptionTable.disk.map(\.name), OptionDescriptions.disk),
        ("net", OptionTable.net.map(\.name), OptionDescriptions.net),
        ("options", OptionTable.resource.map(\.name), OptionDescriptions.resource),
        ("handlers", OptionTable.handlers, OptionDescriptions.handlers),
    ]

    @Test("every option of a section is described, in the table's order", arguments: 0..<sections.count)
    func everyOptionOfASectionIsDescribed(index: Int) {
        let (section, names, texts) = Self.sections[index]
        #expect(texts.map(\.name) == names, "\(section)")
        for (name, text) in texts { #expect(isSentence(text), "\(name): \(text)") }
    }

    @Test func theConfigurationsPageNamesRangesChoicesAndDefaults() throws {
        let page = try ToolHarness().run("replctl", ["sh-manual", "replica.conf.5"]).output
        #expect(
            page.contains("\\fBping\\-timeout\\fR NUMBER\\fB;\\fR\n")
                && page.contains(" From 1 to 300. By default \\fB5\\fR.\n"))
        #expect(page.contains("{\\fBpass_on\\fR|\\fBcall\\-local\\-io\\-error\\fR|\\fBdetach\\fR}"))
        #expect(page.contains("\\fBcpu\\-mask\\fR TEXT\\fB;\\fR\n") && page.contains(" Accepted, without effect here.\n"))
    }

    @Test func helpSaysWhatACommandDoes() throws {
        let harness = try ToolHarness()
        for command in CommandTable.all {
            let help = harness.admin("help", command.name).output
            let text = try #require(CommandDescriptions.text(of: command.name))
            #expect(help.contains(PlainText.wrapped(text)), "\(command.name)")
        }
    }

    @Test func plainTextIsWrapped() {
        #expect(PlainText.wrapped("`one` two three", width: 7) == "one two\nthree\n")
        #expect(PlainText.wrapped("immeasurable word", width: 5) == "immeasurable\nword\n")
        #expect(PlainText.wrapped("") == "")
    }

    /// What the completion offers, asked of bash.
    @Test(
        "completions",
        arguments: [
            ("replctl inval", "invalidate invalidate-remote"), ("replctl help up", "up upgrade"),
            ("replctl -c FILE adjust-", "adjust-with-progress"), ("replctl role ", "all"),
            ("replctl primary --over", "--overwrite-data-of-peer"), ("replctl attach --on-io-error = d", "detach"),
            ("replctl connect --al", "--allow-two-primaries --always-asbp"), ("replctl sh-n", ""),
            ("replctl setup del", "del-minor del-resource"), ("replctl --prod", "--product-version"),
        ])
    func completions(line: String, expected: String) throws {
        let place = Self.root.appendingPathComponent("etc/bash-completion/replctl").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = [
            "--norc", "-c",
            """
            . "$1"
            replctl() { :; }
            IFS=' ' read -r -a COMP_WORDS <<<"$2"
            [[ $2 != *' ' ]] || COMP_WORDS+=("")
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            _replctl
            echo "${COMPREPLY[*]}"
            """, "bash", place, line,
        ]
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        #expect(text == expected + "\n")
    }

    private func isSentence(_ text: String) -> Bool {
        let plain = PlainText.withoutMarks(text)
        let marks = text.count { $0 == "`" }
        return plain.hasSuffix(".") && plain.first.map { $0.isUppercase || $0.isNumber } == true && marks % 2 == 0
    }
}
