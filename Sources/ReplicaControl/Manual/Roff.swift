/// A manual page in the macros of man(7).
///
/// Texts are plain, with one mark: what stands between backquotes is typed as it is, and printed bold.
struct Roff {
    private(set) var text: String

    init(title: String, section: Int, summary: String) {
        text =
            ".\\\" Generated from the tables of replctl by make manual: change it there.\n"
            + ".TH \(title.uppercased().replacing("-", with: "\\-")) \(section) \"\" \"\(ProductVersion.text)\" Replica\n"
            // Ragged lines, and no word broken: a manual is searched for words.
            + ".nh\n.ad l\n"
        self.section("NAME")
        text += "\(title) \\- \(Roff.escaped(summary))\n"
    }

    mutating func section(_ name: String) { text += ".SH \(Roff.quoted(name))\n" }
    mutating func subsection(_ name: String) { text += ".SS \(Roff.quoted(name))\n" }

    mutating func paragraph(_ body: String) { text += ".PP\n" + Roff.line(body) }

    /// A word that is explained.
    mutating func item(_ tag: String, _ body: String) { text += ".TP\n" + Roff.line(tag) + Roff.line(body) }

    /// Words that belong to the item before.
    mutating func items(_ items: [(tag: String, body: String)]) {
        guard !items.isEmpty else { return }
        text += ".RS\n"
        for item in items { self.item(item.tag, item.body) }
        text += ".RE\n"
    }

    /// Lines that stay as they are.
    mutating func example(_ body: String) {
        text += ".PP\n.RS 4\n.EX\n"
        for line in body.split(separator: "\n", omittingEmptySubsequences: false) {
            text += Roff.guarded(Roff.code(line)) + "\n"
        }
        text += ".EE\n.RE\n"
    }

    private static func line(_ body: String) -> String { guarded(escaped(body)) + "\n" }

    private static func quoted(_ name: String) -> String { name.contains(" ") ? "\"\(escaped(name))\"" : escaped(name) }

    /// A line that begins with a dot or an apostrophe would be a request.
    private static func guarded(_ line: String) -> String {
        line.hasPrefix(".") || line.hasPrefix("'") ? "\\&" + line : line
    }

    private static func escaped(_ body: String) -> String {
        var result = ""
        for (index, part) in body.split(separator: "`", omittingEmptySubsequences: false).enumerated() {
            result += index % 2 == 0 ? part.replacing("\\", with: "\\e") : "\\fB\(code(part))\\fR"
        }
        return result
    }

    /// Typed text: a hyphen is a minus, and quotes stay straight.
    private static func code(_ text: Substring) -> String {
        String(text).replacing("\\", with: "\\e").replacing("-", with: "\\-").replacing("'", with: "\\(aq")
    }
}

/// The same texts on a terminal.
enum PlainText {
    static func withoutMarks(_ text: String) -> String { text.replacing("`", with: "") }

    /// Lines of at most `width` columns.
    static func wrapped(_ text: String, width: Int = 78) -> String {
        var lines: [String] = []
        var line = ""
        for word in withoutMarks(text).split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = ""
            }
            line += line.isEmpty ? String(word) : " " + word
        }
        if !line.isEmpty { lines.append(line) }
        return lines.map { $0 + "\n" }.joined()
    }
}
